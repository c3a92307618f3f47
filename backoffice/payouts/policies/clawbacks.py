"""How what a host owes comes back: netting first, then the reversal of earlier transfers, newest first; and how old a
debt is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from backoffice.core.errors import Conflict, Invalid
from backoffice.core.money import Money
from backoffice.rulebook.policies import RecoveryRules

# Whole days since the debt arose, up to and including the number; the last has no end.
AGES: Final[Mapping[str, int | None]] = {"0-1": 1, "2-3": 3, "4-7": 7, "8-30": 30, "over 30": None}


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenDebt:
    """A part of what a host owes that nothing has been set against yet, and when it arose."""

    amount: Money
    since: datetime
    journal_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Reversible:
    """A payout whose transfer can still be reversed by `left`; `refused_at` is when the provider last said no."""

    payout: str
    sent_at: datetime
    left: Money
    under_way: bool = False
    refused_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """A transfer that should be reversed by this much."""

    payout: str
    amount: Money


def age_of(*, since: datetime, now: datetime) -> str:
    """Which of AGES a debt falls into."""
    days = (now - since).days
    return next(label for label, last in AGES.items() if last is None or days <= last)


def by_age(*, debts: Iterable[OpenDebt], currency: str, now: datetime) -> dict[str, Money]:
    """What is owed by age; the ages sum to what is owed."""
    ages = {label: Money.zero(currency) for label in AGES}
    for debt in debts:
        label = age_of(since=debt.since, now=now)
        ages[label] = ages[label] + debt.amount
    return ages


def overdue(*, debts: Iterable[OpenDebt], currency: str, rules: RecoveryRules, now: datetime) -> Money:
    """What netting has had its chance at and did not bring back."""
    latest = now - timedelta(days=rules.netting_days)
    return Money.sum((debt.amount for debt in debts if debt.since <= latest), currency)


def propose(
    *, owed: Money, transfers: Sequence[Reversible], rules: RecoveryRules, now: datetime
) -> tuple[Proposal, ...]:
    """Which transfers to reverse for what is owed: the newest first, since its money is the likeliest to be there still.

    Never more than is left of a transfer; none that is being reversed, or was refused less than `retry_days` ago."""
    proposals: list[Proposal] = []
    tried_before = now - timedelta(days=rules.retry_days)
    for transfer in sorted(transfers, key=lambda one: (one.sent_at, one.payout), reverse=True):
        resting = transfer.refused_at is not None and transfer.refused_at > tried_before
        if transfer.under_way or resting or transfer.left.currency != owed.currency:
            continue
        part = min(owed, transfer.left)
        if part.amount > 0:
            proposals.append(Proposal(payout=transfer.payout, amount=part))
            owed = owed - part
    return tuple(proposals)


def check_clawback(*, amount: Money, owed: Money, left: Money) -> None:
    """Raise unless this much may be taken back: not more than is left of the transfer, nor than the host owes.

    Raises Invalid for an amount that is none, Conflict for one that is too much."""
    if amount.currency != left.currency:
        raise Invalid(f"amount: this payout was sent in {left.currency}.", field="amount")
    if amount.amount <= 0:
        raise Invalid("amount: must be above zero.", field="amount")
    if amount > left:
        raise Conflict(f"At most {left} of this payout can be taken back; {amount} was asked for.", maximum=str(left))
    if amount > owed:
        raise Conflict(f"The host owes {owed}; {amount} cannot be taken back for that.", maximum=str(owed))
