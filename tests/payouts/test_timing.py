"""When a stay's money is due: the day after check-in, by the month for long stays, after a month for new hosts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backoffice.core.money import Money
from backoffice.payouts.policies.timing import StayFacts, due_at, plan
from backoffice.rulebook import queries as rulebook
from tests.factories import NOW

RULES = rulebook.payouts(on=NOW.date()).rules
TIMINGS = rulebook.timings(on=NOW.date()).rules
CHECK_IN = datetime(2026, 7, 10, 13, 0, tzinfo=UTC)
LONG_AGO = CHECK_IN - timedelta(days=400)
DAY = timedelta(days=1)


def stay(nights: int, *, price: int = 13_600, host_since: datetime = LONG_AGO) -> StayFacts:
    return StayFacts(check_in_at=CHECK_IN, nights=(Money(price, "EUR"),) * nights, host_since=host_since)


@pytest.mark.parametrize(
    ("nights", "after", "weights"),
    [
        (1, [1], [1]),
        (5, [1], [5]),
        (27, [1], [27]),
        (28, [1], [28]),
        (30, [1], [30]),
        (31, [1, 31], [30, 1]),
        (60, [1, 31], [30, 30]),
        (90, [1, 31, 61], [30, 30, 30]),
        (95, [1, 31, 61, 91], [30, 30, 30, 5]),
    ],
)
def test_long_stays_are_released_by_the_month_each_by_the_price_of_its_nights(
    nights: int, after: list[int], weights: list[int]
) -> None:
    steps = plan(facts=stay(nights), timings=TIMINGS, rules=RULES)
    assert [step.due_at - CHECK_IN for step in steps] == [days * DAY for days in after]
    assert [step.weight for step in steps] == [count * 13_600 for count in weights]


@pytest.mark.parametrize(
    ("host_for", "after"),
    [
        (timedelta(days=400), timedelta(days=1)),
        (timedelta(days=29), timedelta(days=1)),
        (timedelta(days=28), timedelta(days=2)),
        (timedelta(days=0), timedelta(days=30)),
        (timedelta(days=-3), timedelta(days=33)),
    ],
)
def test_a_new_host_waits_until_thirty_days_after_their_first_confirmed_booking(
    host_for: timedelta, after: timedelta
) -> None:
    facts = stay(3, host_since=CHECK_IN - host_for)
    assert due_at(facts=facts, timings=TIMINGS, rules=RULES) == CHECK_IN + after


def test_nights_that_cost_nothing_still_weigh_something() -> None:
    assert [step.weight for step in plan(facts=stay(60, price=0), timings=TIMINGS, rules=RULES)] == [1, 1]


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=200), st.integers(-400, 60))
def test_every_night_is_in_one_step_and_steps_follow_each_other(prices: list[int], since: int) -> None:
    facts = StayFacts(
        check_in_at=CHECK_IN,
        nights=tuple(Money(price, "EUR") for price in prices),
        host_since=CHECK_IN + timedelta(days=since),
    )
    steps = plan(facts=facts, timings=TIMINGS, rules=RULES)
    assert sum(step.weight for step in steps) - sum(prices) == sum(
        1 for first in range(0, len(prices), 30 if len(prices) >= 28 else len(prices))
        if sum(prices[first : first + (30 if len(prices) >= 28 else len(prices))]) == 0
    )  # fmt: skip
    assert [step.due_at for step in steps] == sorted(step.due_at for step in steps)
    assert all(step.due_at >= CHECK_IN + DAY for step in steps)
    assert all(step.due_at >= facts.host_since + 30 * DAY for step in steps)
