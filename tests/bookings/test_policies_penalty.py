"""What a host who cancels owes: the vectors of the house, the instants that divide, floor and cap at a day's rate."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backoffice.bookings.policies import HostPenaltyFacts, decide_host_penalty
from backoffice.core.money import Money
from backoffice.core.stays import Stay
from backoffice.rulebook.policies import ExchangeRate, HostPenaltyRules, Policy, parse_policy

FIXTURE = Path(__file__).parents[2] / "fixtures" / "policies" / "host-penalty.json"
POLICY: Policy[HostPenaltyRules] = parse_policy(json.loads(FIXTURE.read_text()))
PARIS = ZoneInfo("Europe/Paris")
CHECK_IN = datetime(2026, 12, 10, 15, tzinfo=PARIS).astimezone(UTC)
# ECB, 2026-10-30: one euro buys 1.1172 US dollars.
RATE = ExchangeRate.from_reference(base="USD", quote="EUR", per_euro={"USD": Decimal("1.1172")}, on=date(2026, 10, 30))


def facts(host_price: int, **more: Any) -> HostPenaltyFacts:
    return HostPenaltyFacts(
        **{
            "policy": POLICY,
            "host_price": Money(host_price, "EUR"),
            "stay": Stay(date(2026, 12, 10), date(2026, 12, 15)),
            "check_in_time": time(15),
            "time_zone": "Europe/Paris",
            "rate": RATE,
            **more,
        }
    )


@pytest.mark.parametrize(
    ("host_price", "before", "percent", "amount"),
    [
        (68_000, timedelta(days=41), 10, 6_800),
        (68_000, timedelta(days=10), 25, 17_000),
        (68_000, timedelta(hours=24), 50, 34_000),
        (42_000, timedelta(days=41), 10, 4_475),  # 42.00, lifted to 50 USD
        (2_000_000, timedelta(days=41), 10, 89_509),  # 2,000.00, held at 1,000 USD
        # The dividing instant belongs to the milder band.
        (68_000, timedelta(days=30), 10, 6_800),
        (68_000, timedelta(days=30) - timedelta(seconds=1), 25, 17_000),
        (68_000, timedelta(hours=48), 25, 17_000),
        (68_000, timedelta(hours=48) - timedelta(seconds=1), 50, 34_000),
        (68_000, timedelta(hours=-30), 50, 34_000),
    ],
)
def test_vectors(host_price: int, before: timedelta, percent: int, amount: int) -> None:
    penalty = decide_host_penalty(facts=facts(host_price), now=CHECK_IN - before)
    assert (penalty.percent, penalty.amount) == (percent, Money(amount, "EUR"))


def test_not_as_promised_is_half_whenever_it_is_found() -> None:
    penalty = decide_host_penalty(facts=facts(68_000, not_as_promised=True), now=CHECK_IN - timedelta(days=60))
    assert penalty.amount == Money(34_000, "EUR")


def test_proof_waives_it_and_the_trace_says_so() -> None:
    penalty = decide_host_penalty(facts=facts(68_000, waived_because="burst pipe"), now=CHECK_IN - timedelta(hours=3))
    assert penalty.amount == Money(0, "EUR")
    stored = json.loads(json.dumps(penalty.trace))
    assert stored["inputs"]["waived_because"] == "burst pipe"
    assert stored["inputs"]["rate"]["on"] == "2026-10-30"
    assert stored["outputs"] == {"percent": 50, "share": 34_000, "floor": 4_475, "cap": 89_509, "penalty": 0}


def test_thirty_days_are_wall_clock_days_when_the_clocks_change() -> None:
    spring = facts(68_000, stay=Stay(date(2026, 4, 10), date(2026, 4, 12)))
    edge = datetime(2026, 3, 11, 15, tzinfo=PARIS).astimezone(UTC)
    assert decide_host_penalty(facts=spring, now=edge).percent == 10
    assert decide_host_penalty(facts=spring, now=edge + timedelta(seconds=1)).percent == 25


def test_a_rate_of_other_currencies_is_refused() -> None:
    with pytest.raises(ValueError, match="must convert USD to EUR, not EUR to EUR"):
        facts(1, rate=ExchangeRate.same(currency="EUR", on=date(2026, 10, 30)))


@given(st.integers(0, 10**9), st.integers(-(10**6), 10**7), st.booleans())
def test_a_penalty_lies_between_floor_and_cap(host_price: int, seconds: int, not_as_promised: bool) -> None:
    penalty = decide_host_penalty(
        facts=facts(host_price, not_as_promised=not_as_promised), now=CHECK_IN - timedelta(seconds=seconds)
    )
    assert Money(4_475, "EUR") <= penalty.amount <= Money(89_509, "EUR")
