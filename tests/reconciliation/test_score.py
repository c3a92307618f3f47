"""The four questions of data quality, each spoiled alone."""

from __future__ import annotations

from datetime import timedelta

import pytest

from backoffice.core.money import Money
from backoffice.reconciliation import queries
from backoffice.reconciliation.queries import WHOLE, percent
from tests.factories import NOW
from tests.reconciliation.steps import DAY, balance_of, compared, imported, moved, post

pytestmark = pytest.mark.django_db(transaction=True)


def charges(count: int = 10):
    """Charges of 10.00 EUR of yesterday, cleared and imported in time."""
    at = NOW - DAY
    rows = [moved(f"txn_{n}", created=at) for n in range(count)]
    for row in rows:
        post(f"capture:{row.id}", "capture", [("1150", row.source_id, 1_000), ("2100", "BK-X", -1_000)], at=at)
    return imported(*rows, at=at)


def test_an_empty_desk_is_whole() -> None:
    empty = queries.score(now=NOW)
    assert empty.lowest == WHOLE and empty.below_goal == () and empty.last_run_at is None
    assert empty.breaks_per_ten_thousand == 0


def test_books_that_match_are_whole_in_all_four() -> None:
    compared("stripe", rows=charges())
    whole = queries.score(now=NOW)
    assert (whole.clearing, whole.timeliness, whole.completeness, whole.explainability) == (WHOLE,) * 4
    assert (whole.movements, whole.matched, whole.findings, whole.at_risk_eur) == (10, 10, 0, 0)
    assert whole.last_run_at == NOW


def test_money_that_is_overdue_spoils_clearing_alone() -> None:
    rows = charges()
    post("capture:lost", "capture", [("1150", "ch_lost", 10_000), ("2100", "BK-X", -10_000)], at=NOW - DAY)
    compared("stripe", rows=rows)
    spoiled = queries.score(now=NOW)
    assert spoiled.clearing == 500_000 and spoiled.below_goal == ("clearing",)
    assert (spoiled.at_risk_eur, spoiled.findings, spoiled.median_age) == (10_000, 1, DAY)
    assert spoiled.lowest == 500_000 and spoiled.breaks_per_ten_thousand == 1_000


def test_a_movement_that_came_late_spoils_timeliness_alone() -> None:
    rows = charges(9)
    at = NOW - DAY
    post("capture:late", "capture", [("1150", "ch_late", 1_000), ("2100", "BK-X", -1_000)], at=at)
    rows += imported(moved("txn_late", source="ch_late", created=at), at=at + timedelta(minutes=16))
    compared("stripe", rows=rows)
    assert queries.score(now=NOW).timeliness == 900_000
    assert queries.score(now=NOW).below_goal == ("timeliness",)


def test_a_movement_that_one_side_lacks_spoils_completeness() -> None:
    rows = charges()
    compared("stripe", rows=[*rows[1:], moved("txn_new", source="ch_new", created=NOW - DAY)])
    assert queries.score(now=NOW).completeness == 9 * WHOLE // 11


def test_what_nobody_can_explain_spoils_explainability() -> None:
    rows = charges()
    balances = {currency: money + Money(100, currency) for currency, money in balance_of(rows).items()}
    compared("stripe", rows=rows, balances=balances)
    assert queries.score(now=NOW).explainability == 990_000
    assert queries.score(now=NOW).below_goal == ("explainability",)


@pytest.mark.parametrize(
    ("parts", "shown"),
    [(WHOLE, "100 %"), (999_999, "99.99 %"), (990_000, "99.00 %"), (12_345, "1.23 %"), (0, "0.00 %")],
)
def test_a_share_is_shown_as_whole_only_when_it_is(parts: int, shown: str) -> None:
    assert percent(parts) == shown
