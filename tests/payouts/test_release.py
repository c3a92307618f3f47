"""How much is released, what a hold keeps, why a payout waits: by table, and for any amounts."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backoffice.core.money import Money
from backoffice.payments.policies import PART_NAMES, Parts
from backoffice.payouts.policies.accounts import Waiting
from backoffice.payouts.policies.release import (
    LONGEST_WORDS,
    Hold,
    WaitFacts,
    hold_hours,
    kept_back,
    nettable,
    refused,
    share,
    source_of,
    split_weight,
    too_little,
    why_waits,
)
from backoffice.rulebook import queries as rulebook
from tests.factories import NOW

RULES = rulebook.payouts(on=NOW.date()).rules
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def eur(amount: int) -> Money:
    return Money(amount, "EUR")


def parts(held: int, host_fee: int = 0, guest_fee: int = 0, vat: int = 0, tax: int = 0) -> Parts:
    amounts = dict(zip(PART_NAMES, (held, host_fee, guest_fee, vat, tax), strict=True))
    return Parts.of(currency="EUR", amounts=amounts)


NONE = parts(0)


def hold(amount: int | None, *, hours: int = 72) -> Hold:
    return Hold(code="HD-1", amount=None if amount is None else eur(amount), until=NOW + hours * HOUR)


@pytest.mark.parametrize(
    ("held", "to_come", "weights", "position", "holds", "released", "kept"),
    [
        (40_740, 0, [5], 0, [], 40_740, 0),
        (40_740, 0, [5], 0, [10_000], 30_740, 10_000),
        (40_740, 0, [5], 0, [10_000, 20_000], 10_740, 30_000),
        (40_740, 0, [5], 0, [50_000], 0, 40_740),
        (40_740, 0, [5], 0, [None], 0, 40_740),
        (60_000, 0, [30, 30], 0, [], 30_000, 0),
        (60_000, 0, [30, 30], 0, [20_000], 30_000, 0),  # the other step still covers the hold
        (60_000, 0, [30, 30], 0, [40_000], 20_000, 10_000),
        (30_000, 0, [30], 0, [40_000], 0, 30_000),
        (30_000, 30_000, [30, 30], 0, [], 30_000, 0),  # the second instalment is yet to be paid
        (25_000, 30_000, [30, 30], 0, [], 25_000, 0),  # part of the first one was refunded
        (0, 0, [1], 0, [], 0, 0),
    ],
)
def test_a_step_takes_its_share_less_what_holds_keep(
    held: int,
    to_come: int,
    weights: list[int],
    position: int,
    holds: list[int | None],
    released: int,
    kept: int,
) -> None:
    found = share(
        held=parts(held),
        to_come=parts(to_come),
        weights=weights,
        position=position,
        holds=[hold(amount) for amount in holds],
    )
    assert (found.released.held.amount, found.kept.held.amount) == (released, kept)
    assert (found.waits is not None) == bool(kept)
    assert found.held_back == bool(kept)


@pytest.mark.parametrize(("held", "overdue", "waits"), [(0, True, True), (900, True, True), (30_000, True, False)])
def test_nights_that_should_have_been_paid_for_wait_for_their_whole_share(
    held: int, overdue: bool, waits: bool
) -> None:
    found = share(held=parts(held), to_come=parts(30_000 - held), weights=[30], position=0, holds=[], overdue=overdue)
    assert (found.waits is not None) == waits and found.released.held.amount == (0 if waits else held)


def test_the_fees_of_a_partly_held_payout_are_recognised_in_proportion() -> None:
    found = share(held=parts(40_740, 1_260, 5_000), to_come=NONE, weights=[1], position=0, holds=[hold(10_185)])
    assert found.released == parts(30_555, 945, 3_750)
    assert found.kept == parts(10_185, 315, 1_250)


def test_fees_without_a_share_of_the_host_are_released_unless_all_is_held() -> None:
    """The stay was cancelled, the host keeps nothing, we keep our fee."""
    facts: dict[str, Any] = {"held": parts(0, 0, 5_000), "to_come": NONE, "weights": [1], "position": 0}
    assert share(**facts, holds=[]).released == parts(0, 0, 5_000)
    assert share(**facts, holds=[hold(100)]).released == parts(0, 0, 5_000)
    assert share(**facts, holds=[hold(None)]).released == NONE


AMOUNTS = st.integers(0, 10**7)


@given(
    st.tuples(AMOUNTS, AMOUNTS, AMOUNTS, AMOUNTS, AMOUNTS),
    st.lists(st.integers(1, 10**6), min_size=1, max_size=6),
    st.lists(st.integers(1, 10**7), max_size=3),
)
def test_releasing_every_step_in_turn_moves_everything_but_what_holds_keep(
    amounts: tuple[int, int, int, int, int], weights: list[int], kept: list[int]
) -> None:
    left = whole = Parts.from_amounts([eur(amount) for amount in amounts])
    holds = [hold(amount) for amount in kept]
    moved = NONE
    rest = list(weights)
    while rest:
        found = share(held=left, to_come=NONE, weights=rest, position=0, holds=holds)
        assert all(0 <= got.amount <= had.amount for got, had in zip(found.released.amounts, left.amounts, strict=True))
        moved, left = moved + found.released, left.minus(found.released)
        rest = rest[1:]
    assert moved + left == whole
    assert left.held == kept_back(held=whole.held, holds=holds)
    if not kept:
        assert left == NONE


@given(st.integers(1, 10**6), st.integers(2, 10**7), st.data())
def test_a_split_weight_is_never_nothing(weight: int, amount: int, data: st.DataObject) -> None:
    kept = data.draw(st.integers(1, amount - 1))
    now, stays = split_weight(weight=weight, share=eur(amount), kept=eur(kept))
    assert now >= 1 and stays >= 1 and now + stays <= weight + 1
    assert abs(stays * amount - weight * kept) <= max(amount, weight * kept // stays + amount)


WAITING = Waiting(sentence="Payouts are not set up yet.")
HELD = Waiting(sentence="It is held back.", until=NOW + HOUR)
DISPUTED = Waiting(sentence="The guest's bank is questioning it.", until=NOW + DAY)


@pytest.mark.parametrize(
    ("facts", "words", "until"),
    [
        ({}, None, None),
        ({"due_at": NOW + HOUR}, "not due yet", NOW + HOUR),
        ({"account": WAITING, "stopped": "x"}, "not set up", None),
        ({"stopped": "the provider's balance is off"}, "balance is off", None),
        ({"stopped": "x", "held": HELD}, "All payouts are stopped", None),
        ({"held": HELD, "disputed": DISPUTED}, "held back", NOW + HOUR),
        ({"held": HELD, "failed_at": NOW - DAY, "failure": "x"}, "held back", NOW + HOUR),
        ({"disputed": DISPUTED}, "questioning", NOW + DAY),
        ({"settled": False}, "has not settled", None),
        ({"failed_at": NOW - HOUR, "failure": "no such account"}, "no such account", NOW + 23 * HOUR),
        ({"failed_at": NOW - DAY, "failure": "no such account"}, None, None),
        ({"failed_at": NOW - DAY, "failure": "no such account", "short": True}, "waits for funds", None),
    ],
)
def test_the_first_reason_that_holds_is_said(facts: dict[str, Any], words: str | None, until: Any) -> None:
    found = why_waits(facts=WaitFacts(**{"due_at": NOW, **facts}), rules=RULES, now=NOW)
    assert (found is None) == (words is None)
    if found is not None and words is not None:
        assert words in found.sentence and found.until == until


@pytest.mark.parametrize(
    ("amount", "late", "waits"), [(99, 0, True), (100, 0, False), (99, 29, True), (99, 30, False), (1, 31, False)]
)
def test_too_little_waits_but_not_for_ever(amount: int, late: int, waits: bool) -> None:
    found = too_little(amount=eur(amount), due_at=NOW - late * DAY, rules=RULES, now=NOW)
    assert (found is not None) == waits


@given(st.integers(0, 10**7), st.integers(-(10**7), 10**7))
def test_no_more_is_kept_than_is_owed_or_payable(payable: int, owed: int) -> None:
    taken = nettable(payable=eur(payable), owed=eur(owed)).amount
    assert taken == max(0, min(payable, owed))


@pytest.mark.parametrize(
    ("amount", "left", "source"),
    [
        (100, [("ch_1", eur(100))], "ch_1"),
        (100, [("ch_1", eur(99)), ("ch_2", eur(100))], "ch_2"),
        (100, [("ch_1", Money(500, "USD")), ("ch_2", eur(100))], "ch_2"),
        (100, [("ch_1", eur(99))], ""),
        (100, [], ""),
    ],
)
def test_a_transfer_draws_on_the_first_charge_that_has_enough(
    amount: int, left: list[tuple[str, Money]], source: str
) -> None:
    assert source_of(amount=eur(amount), left=left) == source


@pytest.mark.parametrize(("limits", "hours"), [([], 0), ([72], 72), ([72, 336], 336), ([72, None], None), ([0], 0)])
def test_who_has_several_roles_holds_by_the_widest(limits: list[int | None], hours: int | None) -> None:
    assert hold_hours(limits=limits) == hours


def test_a_long_refusal_is_cut_and_what_happens_next_is_said() -> None:
    said = refused(failure="Your destination account " + "needs a capability " * 20, at=NOW, rules=RULES).sentence
    assert said.endswith("… We try again.") and "needs a capability" in said
    assert LONGEST_WORDS < len(said) <= 200, "no more than is kept of it"
