"""When a stay's money is due to its host, and in how many steps."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from backoffice.core.money import Money
from backoffice.payments.policies import release_due_at
from backoffice.rulebook.policies import PayoutRules, TimingRules


@dataclass(frozen=True, slots=True, kw_only=True)
class StayFacts:
    """What the dates depend on: the check-in instant, the price of each night in the stay's order (listing's currency), and
    when the host's first booking was confirmed."""

    check_in_at: datetime
    nights: tuple[Money, ...]
    host_since: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One release: its date, and its weight (the price of its nights, minor units, at least 1)."""

    due_at: datetime
    weight: int


def plan(*, facts: StayFacts, timings: TimingRules, rules: PayoutRules) -> tuple[Step, ...]:
    """The releases of a stay, first to last (DOMAIN.md, "Payouts"): a day after check-in; a long stay is released by the
    month, each step a day after its nights begin. Nothing before the host's first month has passed."""
    length = len(facts.nights) if len(facts.nights) < rules.instalments_from else rules.instalment_nights
    return tuple(
        Step(
            due_at=due_at(facts=facts, after=timedelta(days=first), timings=timings, rules=rules),
            weight=max(sum(price.amount for price in facts.nights[first : first + length]), 1),
        )
        for first in range(0, len(facts.nights), length)
    )


def due_at(*, facts: StayFacts, timings: TimingRules, rules: PayoutRules, after: timedelta = timedelta(0)) -> datetime:
    """The release date of nights that begin `after` check-in. What a cancelled stay leaves to its host is due as its first
    night would have been."""
    ripe = release_due_at(check_in_at=facts.check_in_at + after, timings=timings)
    return max(ripe, facts.host_since + timedelta(days=rules.new_host_days))
