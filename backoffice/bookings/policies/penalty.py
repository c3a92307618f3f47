"""What a host who cancels owes (the house's "Host cancels"): a share of the host price, between a floor and a cap."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, time
from typing import Any

from backoffice.bookings.policies.pricing import percent_of
from backoffice.core.errors import Invalid
from backoffice.core.money import Money
from backoffice.core.stays import Stay
from backoffice.rulebook.policies import ExchangeRate, HostPenaltyRules, PenaltyBand, Policy


@dataclass(frozen=True, slots=True, kw_only=True)
class HostPenaltyFacts:
    """What the penalty depends on. `rate` converts the currency of floor and cap to the listing's, as of the day of the
    cancellation. `waived_because` names the proof that excuses the host; empty when there is none."""

    policy: Policy[HostPenaltyRules]
    host_price: Money
    stay: Stay
    check_in_time: time
    time_zone: str
    rate: ExchangeRate
    not_as_promised: bool = False
    waived_because: str = ""

    def __post_init__(self) -> None:
        if (self.rate.base, self.rate.quote) != (self.policy.rules.floor.currency, self.host_price.currency):
            raise ValueError(
                f"the rate must convert {self.policy.rules.floor.currency} to {self.host_price.currency}, "
                f"not {self.rate.base} to {self.rate.quote}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class HostPenalty:
    """The penalty in the listing's currency, zero when waived; `trace` is JSON-able and names every number used."""

    amount: Money
    percent: int
    policy: str
    trace: dict[str, Any]


def decide_host_penalty(*, facts: HostPenaltyFacts, now: datetime) -> HostPenalty:
    """Decide what the host owes for cancelling `now`. The instant that divides two bands belongs to the milder one.

    The amount is taken from future payouts; the nights stay blocked. Both are the caller's to do."""
    rules = facts.policy.rules
    percent = rules.not_as_promised_percent if facts.not_as_promised else _band(facts, now).percent
    share = percent_of(facts.host_price, percent)
    floor, cap = facts.rate.convert(rules.floor), facts.rate.convert(rules.cap)
    amount = Money.zero(share.currency) if facts.waived_because else min(max(share, floor), cap)
    return HostPenalty(
        amount=amount,
        percent=percent,
        policy=facts.policy.label,
        trace={
            "rule": "host_penalty",
            "inputs": {
                "now": now.astimezone(UTC).isoformat(),
                "host_price": facts.host_price.amount,
                "currency": facts.host_price.currency,
                "not_as_promised": facts.not_as_promised,
                "waived_because": facts.waived_because,
                "rate": facts.rate.as_dict(),
            },
            "outputs": {
                "percent": percent,
                "share": share.amount,
                "floor": floor.amount,
                "cap": cap.amount,
                "penalty": amount.amount,
            },
        },
    )


def _band(facts: HostPenaltyFacts, now: datetime) -> PenaltyBand:
    for band in facts.policy.rules.bands:
        if band.notice is None or now <= band.notice.before(
            day=facts.stay.check_in, at=facts.check_in_time, zone=facts.time_zone
        ):
            return band
    raise Invalid("host-penalty: the last band must cover every moment; remove its notice", field="bands")
