from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from backoffice.core.errors import Invalid
from backoffice.core.money import Money
from backoffice.ledger import queries
from backoffice.ledger.policies import Line, parse_chart

BANK = {"code": "1010", "name": "Bank", "kind": "asset"}


def test_a_line_is_money_on_an_account() -> None:
    line = Line.of("2100", "BK-1", -Money(40740, "EUR"))
    assert line == Line("2100", "BK-1", -40740, "EUR")
    assert line.money == Money(-40740, "EUR")
    assert -line == Line("2100", "BK-1", 40740, "EUR")


def test_a_chart_is_read_in_its_order() -> None:
    held = {"code": "2100", "name": "Held", "kind": "liability", "key": "booking", "bounded": True, "note": "n"}
    clearing = {"code": "1150", "name": "Clearing", "kind": "asset", "clears_within_hours": 1, "slots": 4}
    chart = parse_chart({"accounts": [held, clearing]})
    assert list(chart) == ["2100", "1150"]
    assert (chart["2100"].bounded, chart["2100"].dimension, chart["2100"].clears_within) == (True, "booking", None)
    assert (chart["2100"].normal_sign, chart["2100"].slots, chart["2100"].note) == (-1, 1, "n")
    assert (chart["1150"].bounded, chart["1150"].clears_within) == (False, timedelta(hours=1))
    assert (chart["1150"].normal_sign, chart["1150"].slots) == (1, 4)


@pytest.mark.parametrize(
    ("rows", "field"),
    [
        ([BANK, BANK], "accounts[1].code"),
        ([BANK | {"code": "10"}], "accounts[0].code"),
        ([BANK | {"code": 1010}], "accounts[0].code"),
        ([BANK | {"name": ""}], "accounts[0].name"),
        ([BANK | {"kind": "assets"}], "accounts[0].kind"),
        ([BANK | {"clears_within_hours": 1.5}], "accounts[0].clears_within_hours"),
        ([BANK | {"clears_within_hours": 0}], "accounts[0].clears_within_hours"),
        ([BANK | {"slots": 0}], "accounts[0].slots"),
        ([BANK | {"slots": 16, "bounded": True}], "accounts[0].slots"),
    ],
)
def test_a_chart_that_cannot_be_used_names_the_field(rows: list[dict[str, Any]], field: str) -> None:
    with pytest.raises(Invalid) as refusal:
        parse_chart({"accounts": rows})
    assert refusal.value.facts["field"] == field
    assert str(refusal.value).startswith(field)


def test_the_house_chart() -> None:
    """What the rest of the house relies on: the clearing accounts, the bounded ones, and one digit per kind."""
    chart = queries.chart()
    assert {code for code, account in chart.items() if account.bounded} == {"2100", "2200"}
    clearing = {code for code, account in chart.items() if account.clears_within}
    assert clearing == {"1150", "1160", "1170", "1320", "2210", "2400", "3900", "9900"}
    assert chart["1150"].clears_within == chart["2210"].clears_within == timedelta(hours=1)
    assert chart["2400"].clears_within == timedelta(hours=24)
    kinds = {"1": "asset", "2": "liability", "3": "equity", "4": "income", "5": "expense", "9": "liability"}
    assert {account.code: account.kind for account in chart.values() if account.kind != "memo"} == {
        code: kinds[code[0]] for code in chart if code not in ("1800", "2800")
    }
