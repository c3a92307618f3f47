"""What the rules say about taking money back: how old a debt is, when netting had its chance, which transfers come first."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backoffice.core.errors import Conflict, Invalid
from backoffice.core.money import Money
from backoffice.payouts.policies.clawbacks import (
    AGES,
    OpenDebt,
    Reversible,
    age_of,
    by_age,
    check_clawback,
    overdue,
    propose,
)
from backoffice.rulebook.policies import RecoveryRules
from tests.factories import NOW

RULES = RecoveryRules(
    bank_cool_down_hours=72, netting_days=14, retry_days=7, reverse_automatically=True, sweep_minimums=()
)
DAY = timedelta(days=1)


def eur(amount: int) -> Money:
    return Money(amount, "EUR")


@pytest.mark.parametrize(
    ("days", "age"),
    [
        (0, "0-1"),
        (1, "0-1"),
        (2, "2-3"),
        (3, "2-3"),
        (4, "4-7"),
        (7, "4-7"),
        (8, "8-30"),
        (30, "8-30"),
        (31, "over 30"),
    ],
)
def test_whole_days_decide_the_age(days: int, age: str) -> None:
    assert age_of(since=NOW - days * DAY, now=NOW) == age
    assert age_of(since=NOW - days * DAY - timedelta(hours=23, minutes=59), now=NOW) == age


@given(st.lists(st.tuples(st.integers(1, 10**6), st.integers(0, 100))))
def test_ages_sum_to_what_is_owed_and_what_is_late_is_part_of_it(rows: list[tuple[int, int]]) -> None:
    debts = [OpenDebt(amount=eur(amount), since=NOW - days * DAY, journal_id=1) for amount, days in rows]
    ages = by_age(debts=debts, currency="EUR", now=NOW)
    assert list(ages) == list(AGES) and Money.sum(ages.values(), "EUR").amount == sum(amount for amount, _ in rows)
    late = overdue(debts=debts, currency="EUR", rules=RULES, now=NOW)
    assert late.amount == sum(amount for amount, days in rows if days >= 14)


def transfer(
    code: str, days: int, left: int, *, currency: str = "EUR", busy: bool = False, refused: int | None = None
) -> Reversible:
    return Reversible(
        payout=code,
        sent_at=NOW - days * DAY,
        left=Money(left, currency),
        under_way=busy,
        refused_at=NOW - refused * DAY if refused is not None else None,
    )


@pytest.mark.parametrize(
    ("owed", "transfers", "wanted"),
    [
        (500, [transfer("PO-A", 5, 300), transfer("PO-B", 1, 400)], [("PO-B", 400), ("PO-A", 100)]),
        (500, [transfer("PO-A", 5, 900)], [("PO-A", 500)]),
        (500, [transfer("PO-A", 5, 900, busy=True), transfer("PO-B", 9, 100)], [("PO-B", 100)]),
        (500, [transfer("PO-A", 5, 900, refused=6), transfer("PO-B", 9, 100)], [("PO-B", 100)]),
        (500, [transfer("PO-A", 5, 900, refused=7)], [("PO-A", 500)]),
        (500, [transfer("PO-A", 5, 900, currency="USD")], []),
        (0, [transfer("PO-A", 5, 900)], []),
        (500, [], []),
    ],
)
def test_the_newest_come_first_and_who_is_asked_already_rests(
    owed: int, transfers: list[Reversible], wanted: list[tuple[str, int]]
) -> None:
    proposals = propose(owed=eur(owed), transfers=transfers, rules=RULES, now=NOW)
    assert [(one.payout, one.amount.amount) for one in proposals] == wanted


@given(
    st.integers(0, 10**6),
    st.lists(st.tuples(st.integers(0, 60), st.integers(0, 10**6), st.booleans()), max_size=20),
)
def test_never_more_than_is_owed_nor_than_is_left_of_each(owed: int, rows: list[tuple[int, int, bool]]) -> None:
    transfers = [transfer(f"PO-{n}", days, left, busy=busy) for n, (days, left, busy) in enumerate(rows)]
    proposals = propose(owed=eur(owed), transfers=transfers, rules=RULES, now=NOW)
    left = {one.payout: one.left.amount for one in transfers if not one.under_way}
    assert all(0 < one.amount.amount <= left[one.payout] for one in proposals)
    assert len({one.payout for one in proposals}) == len(proposals)
    assert sum(one.amount.amount for one in proposals) == min(owed, sum(left.values()))


@pytest.mark.parametrize(
    ("amount", "owed", "left", "error"),
    [
        (eur(100), eur(100), eur(100), None),
        (eur(101), eur(200), eur(100), Conflict),
        (eur(101), eur(100), eur(200), Conflict),
        (eur(0), eur(100), eur(100), Invalid),
        (Money(100, "USD"), eur(100), eur(100), Invalid),
    ],
)
def test_what_may_be_taken_back(amount: Money, owed: Money, left: Money, error: type[Exception] | None) -> None:
    if error is None:
        check_clawback(amount=amount, owed=owed, left=left)
    else:
        with pytest.raises(error):
            check_clawback(amount=amount, owed=owed, left=left)
