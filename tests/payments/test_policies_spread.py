"""A refund over several charges: nothing is lost on the way, and no charge gives more than it has."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backoffice.core.errors import RefundTooLarge
from backoffice.core.money import Money
from backoffice.payments import policies
from backoffice.payments.policies import PART_NAMES, Parts, RefundLimits

AMOUNTS = st.lists(st.integers(0, 90_000), min_size=5, max_size=5)


def eur(amount: int) -> Money:
    return Money(amount, "EUR")


def parts(amounts: list[int]) -> Parts:
    return Parts.of(currency="EUR", amounts=dict(zip(PART_NAMES, amounts, strict=True)))


def limit(amounts: list[int], goodwill: int = 0) -> RefundLimits:
    """What is left of a charge of which `goodwill` went back at our cost."""
    of = parts(amounts)
    return RefundLimits(parts=of, charged=eur(max(of.total.amount - goodwill, 0)), of_parts=of.total)


@given(st.lists(AMOUNTS, min_size=1, max_size=4), st.integers(0, 500_000), st.integers(0, 900), st.booleans())
def test_an_amount_is_taken_from_each_charge_in_turn(
    charges: list[list[int]], wanted: int, goodwill: int, ours: bool
) -> None:
    limits = [limit(one, goodwill) for one in charges]
    most = policies.most_of(limits)
    if wanted > most.charged.amount:
        with pytest.raises(RefundTooLarge):
            policies.spread_amount(limits=limits, amount=eur(wanted), borne_by_us=ours)
        return
    found = policies.spread_amount(limits=limits, amount=eur(wanted), borne_by_us=ours)
    assert sum(one.amount.amount for one in found) == wanted
    for one, of in zip(found, limits, strict=True):
        assert one.amount <= of.charged and one.parts.within(of.parts) == one.parts
        assert one.parts.total == (eur(0) if ours else one.amount)
    later = [index for index, one in enumerate(found) if one.amount]
    assert all(found[index].amount == limits[index].charged for index in later[:-1]), "one is emptied before the next"


@given(st.lists(st.tuples(AMOUNTS, AMOUNTS), min_size=1, max_size=4), st.data())
def test_parts_and_their_lines_add_up_over_the_charges(
    charges: list[tuple[list[int], list[int]]], data: st.DataObject
) -> None:
    limits = [limit([a + b for a, b in zip(one, more, strict=True)]) for one, more in charges]
    wanted = parts([sum(one[index] for one, _ in charges) for index in range(5)])
    found = policies.spread_parts(limits=limits, parts=wanted)
    assert sum((one.parts for one in found), Parts.none("EUR")) == wanted
    assert all(one.amount == one.parts.total for one in found)
    host = wanted.held + wanted.host_fee
    nights = data.draw(st.integers(0, host.amount))
    lines = {"cleaning": host - eur(nights), "nights": eur(nights), "guest_fee": wanted.guest_fee, "vat": wanted.vat}
    named = policies.spread_lines(lines=lines, portions=found)
    for name, amount in lines.items():
        assert Money.sum((of.get(name, eur(0)) for of in named), "EUR") == amount
