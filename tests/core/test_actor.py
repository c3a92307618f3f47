from __future__ import annotations

from dataclasses import FrozenInstanceError
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backoffice.core.actor import Actor, Grant, system
from backoffice.core.errors import NotAllowed, OverLimit
from backoffice.core.money import Money

EUR_100 = {"EUR": 10_000, "JPY": 16_000}
MARA = Actor(
    kind="staff", id=7, name="Mara", grants={"pay": Grant(limit=EUR_100, daily={"EUR": 50_000}), "read": Grant()}
)


@pytest.mark.parametrize(
    ("amount", "used", "may"),
    [
        (Money(10_000, "EUR"), 0, True),
        (Money(10_001, "EUR"), 0, False),
        (Money(10_000, "EUR"), 40_000, True),
        (Money(10_000, "EUR"), 40_001, False),
        (Money(1, "EUR"), 50_000, False),
        (Money(0, "EUR"), 50_000, True),
        (Money(1, "KWD"), 0, False),  # no limit is known for it: nothing may be spent
        (Money(16_000, "JPY"), 0, False),  # within the limit per act, and none per day
    ],
)
def test_limits_are_per_act_and_per_day_and_per_currency(amount: Money, used: int, may: bool) -> None:
    assert MARA.within("pay", amount=amount, used_today=used) is may


def test_what_is_over_a_limit_says_which() -> None:
    with pytest.raises(OverLimit, match=r"100\.01 EUR is over your limit of 100\.00 EUR per act to pay"):
        MARA.must("pay", amount=Money(10_001, "EUR"))
    with pytest.raises(OverLimit, match=r"500\.00 EUR per day"):
        MARA.must("pay", amount=Money(10_000, "EUR"), used_today=45_000)


def test_without_the_verb_nothing_helps() -> None:
    assert not MARA.may("delete") and not MARA.within("delete", amount=Money(0, "EUR"))
    with pytest.raises(NotAllowed, match="You may not delete"):
        MARA.must("delete")


def test_a_verb_without_a_limit_has_none() -> None:
    assert MARA.within("read", amount=Money(10**15, "XAF"))


def test_our_own_processes_act_by_rule() -> None:
    beat = system("beat")
    assert beat.may("anything") and beat.within("anything", amount=Money(10**15, "EUR")) and beat.id is None


def test_an_actor_is_a_fact() -> None:
    with pytest.raises(FrozenInstanceError):
        MARA.name = "Eve"  # type: ignore[misc]
    told = MARA.because("No hot water")
    assert told.reason == "No hot water" and MARA.reason == "" and told.grants is MARA.grants


@given(st.integers(0, 10**9), st.integers(0, 10**9), st.integers(0, 10**9), st.integers(0, 10**9))
def test_within_is_exactly_both_limits(limit: int, daily: int, used: int, amount: int) -> None:
    actor = Actor(kind="staff", id=1, name="x", grants={"pay": Grant(limit={"EUR": limit}, daily={"EUR": daily})})
    may = actor.within("pay", amount=Money(amount, "EUR"), used_today=used)
    assert may is (amount <= limit and used + amount <= daily)


@pytest.mark.parametrize("kind", ["guest", "host", "staff", "cli"])
def test_only_the_system_needs_no_grants(kind: Any) -> None:
    assert not Actor(kind=kind, id=1, name="x").may("pay")
