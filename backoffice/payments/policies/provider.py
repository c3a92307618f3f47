"""Posting rules for the provider's balance transactions: one rule per reporting category, the rest to suspense.

The provider's mirror (1100) moves by exactly `net`, the fee by exactly `fee` (from the provider, never computed), and
the clearing account under the object's key by exactly `amount`. Nothing is corrected to fit: a difference to what we
expected stays on the clearing account under that key. The rule asks for the category, not the type, except where one
category covers two facts (a transfer that was reversed by us, one that failed).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from backoffice.core.money import Money
from backoffice.ledger.policies import Line
from backoffice.payments.policies.postings import (
    BANK_PAYOUT,
    CHARGE,
    CONNECTED_BALANCE,
    CONNECTED_CONTRA,
    DISPUTE,
    FX_GAIN,
    FX_LOSS,
    FX_POSITION,
    HOST_PAYABLE,
    REFUND,
    REVERSAL,
    SUSPENSE,
    TRANSFER,
    UNCLAIMED,
    Lines,
    credit,
    debit,
    journal,
)

MIRROR: Final = "1100"
PROVIDER_FEE: Final = "5100"
DISPUTE_FEE: Final = "5110"
PROVIDER: Final = "stripe"
_FAILED_TRANSFERS: Final = frozenset({"transfer_failure", "transfer_cancel"})


@dataclass(frozen=True, slots=True, kw_only=True)
class BalanceTransactionFacts:
    """One movement of our balance at the provider, and where our own event stands.

    `amount`, `fee` and `net` are in the settlement currency, signed as the provider signs them. `source` is the object
    it came from (`ch_`, `re_`, `tr_`, `po_`, `dp_` …); `key` is what our event was posted under, when that differs (our
    refund code). `presented` is the object's own amount in its own currency when the provider converted it; then
    `charge` names the charge whose position it moves. `booking`, `host` and `account` (connected) are needed by the
    categories that return money to them. `of_dispute` says that the source is a dispute."""

    id: str
    type: str
    reporting_category: str
    source: str
    amount: Money
    fee: Money
    net: Money
    key: str = ""
    presented: Money | None = None
    charge: str = ""
    booking: str = ""
    host: str = ""
    account: str = ""
    of_dispute: bool = False

    def __post_init__(self) -> None:
        if self.amount - self.fee != self.net:
            raise ValueError(f"{self.id}: {self.amount} less {self.fee} is not {self.net}")

    @property
    def own_key(self) -> str:
        """The key of the clearing account: ours, else the provider's object, else the movement itself."""
        return self.key or self.source or self.id


@dataclass(frozen=True, slots=True)
class _Rule:
    """Which account a category releases, where its fee goes, and whether a host's provider balance moves with it."""

    account: str
    fee_account: str = PROVIDER_FEE
    memo: bool = False


_RULES: Final[Mapping[str, _Rule]] = {
    "charge": _Rule(CHARGE),
    "charge_failure": _Rule(CHARGE),
    "partial_capture_reversal": _Rule(CHARGE),
    "refund": _Rule(REFUND),
    "refund_failure": _Rule(UNCLAIMED),
    "transfer": _Rule(TRANSFER, memo=True),
    "transfer_reversal": _Rule(REVERSAL, memo=True),
    "payout": _Rule(BANK_PAYOUT),
    "payout_reversal": _Rule(BANK_PAYOUT),
    "topup": _Rule(BANK_PAYOUT),
    "topup_reversal": _Rule(BANK_PAYOUT),
    "dispute": _Rule(DISPUTE, fee_account=DISPUTE_FEE),
    "dispute_reversal": _Rule(DISPUTE, fee_account=DISPUTE_FEE),
    "fee": _Rule(PROVIDER_FEE),
    "tax": _Rule(PROVIDER_FEE),
}
KNOWN_CATEGORIES: Final = frozenset(_RULES)


def balance_transaction(*, facts: BalanceTransactionFacts) -> Lines:
    """The lines of a balance transaction. A category without a rule goes to suspense (9900) under the movement's id,
    for a person to identify; KNOWN_CATEGORIES are those that have one."""
    rule = _RULES.get(facts.reporting_category, _Rule(SUSPENSE))
    account, key = _cleared(facts, rule)
    return journal(
        debit(MIRROR, PROVIDER, facts.net),
        debit(rule.fee_account, _fee_key(facts, rule), facts.fee),
        *_release(facts, account, key),
        *(_memo(facts) if rule.memo else ()),
    )


def fx_realised(*, charge: str, positions: Iterable[Money]) -> Lines:
    """What is left of a charge's position is gain or loss once a single currency is left in it.

    `positions` are the balances of 3900 under the charge, debit positive, one per currency, after the journal that was
    just posted. Two currencies left: the conversion is still under way, and there are no lines."""
    left = [position for position in positions if position]
    if len(left) != 1:
        return ()
    account = FX_LOSS if left[0].amount > 0 else FX_GAIN
    return journal(debit(account, "", left[0]), credit(FX_POSITION, charge, left[0]))


def _cleared(facts: BalanceTransactionFacts, rule: _Rule) -> tuple[str, str]:
    """The account and key that this movement releases."""
    if rule.account == SUSPENSE:
        return SUSPENSE, facts.id
    if rule.account == REVERSAL and facts.type in _FAILED_TRANSFERS:
        return (HOST_PAYABLE, facts.host) if facts.host else (SUSPENSE, facts.id)
    if rule.account == PROVIDER_FEE:
        # The countered fee of a chargeback is an expense of that chargeback.
        return (DISPUTE_FEE, facts.source) if facts.of_dispute else (PROVIDER_FEE, "")
    return rule.account, facts.own_key


def _fee_key(facts: BalanceTransactionFacts, rule: _Rule) -> str:
    return facts.own_key if rule.fee_account == DISPUTE_FEE else ""


def _release(facts: BalanceTransactionFacts, account: str, key: str) -> Lines:
    """Against the clearing account, in the currency our own event posted there; the charge's position stands between
    that and the settlement. Only charges and refunds are posted by us before the provider settles them."""
    presented = facts.presented if account in (CHARGE, REFUND) else None
    if presented is None or presented.currency == facts.amount.currency:
        return (credit(account, key, facts.amount),)
    signed = abs(presented) if facts.amount.amount >= 0 else -abs(presented)
    return (
        credit(account, key, signed),
        debit(FX_POSITION, facts.charge or key, signed),
        credit(FX_POSITION, facts.charge or key, facts.amount),
    )


def _memo(facts: BalanceTransactionFacts) -> tuple[Line, Line]:
    """What leaves our balance for a host arrives on theirs, and the other way round: not ours, but ours to cover."""
    return (
        credit(CONNECTED_BALANCE, facts.account, facts.amount),
        debit(CONNECTED_CONTRA, facts.account, facts.amount),
    )
