"""What leaves for a bank: what of our balance is earned, and what the provider's words for its payouts mean to us."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from backoffice.core.money import Money
from backoffice.payments.policies.seen_accounts import BankPayoutStatus
from backoffice.payouts.policies.accounts import Waiting

# Status of the provider -> action of the state table.
ACTIONS: Final[Mapping[BankPayoutStatus, str]] = {
    "pending": "wait",
    "in_transit": "travel",
    "paid": "pay",
    "failed": "fail",
    "canceled": "cancel",
}
# Currencies whose payouts the provider takes in whole hundreds of the minor unit only (its documentation, currencies).
WHOLE_HUNDREDS: Final = frozenset({"HUF", "TWD", "UGX", "ISK"})
# Names of the lines of a sweep that are no movement of the provider's: what the last sweep had left, and what this leaves.
LEFT: Final = "left"
KEPT: Final = "kept"


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepFacts:
    """Our balance at the provider in one currency, as we know it.

    `left` is what the last sweep left there, `moved` what has moved since, over `movements` movements. `kept` says by
    ledger account what of it is not ours (see `queries.kept`); `available` is what the provider would let go."""

    left: Money
    moved: Money
    movements: int
    kept: Mapping[str, Money]
    available: Money

    @property
    def balance(self) -> Money:
        return self.left + self.moved

    @property
    def owed(self) -> Money:
        return Money.sum(self.kept.values(), self.left.currency)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """What may leave, and what stays for whom: amount + stays = the balance."""

    amount: Money
    stays: Mapping[str, Money]


def sent_back(*, failure: str) -> Waiting:
    """Why what was sent to a host is not theirs yet though the provider has it: their bank did not keep it. What the host can
    do comes first; `failure` is what the bank said, in the provider's words."""
    said = f" The bank said: {failure}" if failure else ""
    return Waiting(
        sentence=f"The bank sent it back. Give the payment provider another bank account, and it is paid out again.{said}"
    )


def earned(*, facts: SweepFacts) -> Money:
    """What of our balance is ours: the balance less everything that is owed to somebody, or not explained yet. Negative
    where we have given out more than came in."""
    return facts.balance - facts.owed


def sweep(*, facts: SweepFacts) -> Sweep:
    """Send what is earned, never more than is available, in the steps that the currency allows.

    What stays is listed by ledger account; "earned" stands for what is ours and has to wait."""
    currency = facts.left.currency
    amount = max(Money.zero(currency), min(earned(facts=facts), facts.available))
    if currency in WHOLE_HUNDREDS:
        amount = Money(amount.amount - amount.amount % 100, currency)
    rest = facts.balance - amount - facts.owed
    stays = {code: kept for code, kept in facts.kept.items() if kept}
    return Sweep(amount=amount, stays={**stays, "earned": rest} if rest else stays)
