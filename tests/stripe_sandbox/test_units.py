"""The parts that are plain functions: form names, money, settlement days, signatures of time."""

from __future__ import annotations

from datetime import UTC, datetime
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ops_cli.stripe_sandbox import forms, money
from ops_cli.stripe_sandbox.clock import settlement_day
from ops_cli.stripe_sandbox.errors import ApiError
from ops_cli.stripe_sandbox.params import Integer, ListOf, Metadata, Text, merged, read
from ops_cli.stripe_sandbox.store import token


@pytest.mark.parametrize(
    ("pairs", "nested"),
    [
        ([("a", "1")], {"a": "1"}),
        ([("a", "1"), ("a", "2")], {"a": "2"}),
        ([("a[b]", "1"), ("a[c][d]", "2")], {"a": {"b": "1", "c": {"d": "2"}}}),
        ([("a[]", "1"), ("a[]", "2")], {"a": {"0": "1", "1": "2"}}),
        ([("a[0][b]", "1"), ("a[1][b]", "2")], {"a": {"0": {"b": "1"}, "1": {"b": "2"}}}),
        ([("a", "")], {"a": ""}),
    ],
)
def test_forms(pairs: list[tuple[str, str]], nested: Any) -> None:
    assert forms.decode(pairs) == nested


@pytest.mark.parametrize("names", [["a[b"], ["a]b"], ["[a]"], [""], ["a", "a[b]"], ["a[b]", "a"], ["a" + "[b]" * 10]])
def test_malformed_forms(names: list[str]) -> None:
    with pytest.raises(ApiError):
        forms.decode([(name, "1") for name in names])


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # how long it takes is the machine's affair
@given(
    st.recursive(
        st.text(min_size=1, max_size=20),
        lambda inner: st.dictionaries(st.text("abz", min_size=1, max_size=4), inner, min_size=1, max_size=3),
        max_leaves=8,
    )
)
def test_forms_give_back_what_was_nested(value: Any) -> None:
    def flat(node: Any, name: str) -> list[tuple[str, str]]:
        if isinstance(node, str):
            return [(name, node)]
        return [pair for key, item in node.items() for pair in flat(item, f"{name}[{key}]")]

    depth = str(value).count("{")
    if depth < 9:
        assert forms.decode(flat(value, "root")) == {"root": value}


@pytest.mark.parametrize("text", ["1.5", "1e3", "٣", "²", "--1", "", " 1", "9" * 19])
def test_integers_are_digits(text: str) -> None:
    with pytest.raises(ApiError):
        Integer().read(text, "amount")


def test_lists_and_metadata() -> None:
    names = ListOf(item=Text())
    assert names.read({"1": "b", "0": "a", "10": "c"}, "x") == ["a", "b", "c"]
    for bad in ("a", {"a": "b"}):
        with pytest.raises(ApiError):
            names.read(bad, "x")
    assert merged({"a": "1", "b": "2"}, {"a": "", "c": "3"}) == {"b": "2", "c": "3"}
    with pytest.raises(ApiError, match="50 metadata keys"):
        Metadata().read({str(n): "x" for n in range(51)}, "metadata")
    with pytest.raises(ApiError, match="unknown parameters: b, c"):
        read({"a": Text()}, {"b": "1", "c": "2"})


@pytest.mark.parametrize(
    ("value", "rounded"),
    [("1/2", 1), ("-1/2", -1), ("3/2", 2), ("149/100", 1), ("-149/100", -1), ("5/2", 3), ("0", 0)],
)
def test_halves_go_away_from_zero(value: str, rounded: int) -> None:
    assert money.half_up(Fraction(value)) == rounded


@pytest.mark.parametrize(
    ("amount", "source", "target", "rate", "converted"),
    [
        (1_000, "usd", "eur", "0.9", 900),
        (1_000, "jpy", "eur", "0.00625", 625),
        (1_000, "eur", "jpy", "160", 1_600),
        (1_000, "kwd", "eur", "3", 300),
        (1, "eur", "kwd", "0.3", 3),
        (-1_001, "usd", "eur", "0.5", -501),
    ],
)
def test_conversion_minds_the_decimals(amount: int, source: str, target: str, rate: str, converted: int) -> None:
    assert money.convert(amount, source, target, Fraction(rate)) == converted


@pytest.mark.parametrize(
    ("amount", "currency", "text"),
    [
        (5, "eur", "€0.05"),
        (-1_234_567, "usd", "-$12,345.67"),
        (1_234, "jpy", "¥1,234"),
        (1_005, "kwd", "1.005 KWD"),
    ],
)
def test_amounts_as_people_read_them(amount: int, currency: str, text: str) -> None:
    assert money.shown(amount, currency) == text


def test_fee_of_the_ledgers_worked_example() -> None:
    """500.00 EUR at 1.5 % + 0.25 is 7.75; 150.00 is 2.50."""
    assert money.Tariff().fee(50_000, "eur") == 775
    assert money.Tariff().fee(15_000, "eur") == 250


def test_a_rate_holds_until_the_next_date() -> None:
    rates = money.Rates()
    rates.add("usd", "2026-10-01", "1.25")
    day = datetime(2026, 9, 30, 23, 59, 59, tzinfo=UTC).timestamp()
    assert rates.between("eur", "usd", day) == Fraction("1.1420")
    assert rates.between("eur", "usd", day + 1) == Fraction("1.25")
    assert rates.between("usd", "eur", day + 1) == Fraction("0.8")
    with pytest.raises(ApiError, match="no exchange rate"):
        rates.between("zmw", "eur", day)


@pytest.mark.parametrize(
    ("created", "days", "business", "available"),
    [
        ("2026-11-20T23:59:59", 2, True, "2026-11-24"),  # a Friday
        ("2026-11-21T10:00:00", 2, True, "2026-11-24"),  # a Saturday
        ("2026-11-23T00:00:00", 3, True, "2026-11-26"),
        ("2026-11-20T12:00:00", 7, False, "2026-11-27"),
    ],
)
def test_settlement_days(created: str, days: int, business: bool, available: str) -> None:
    at = datetime.fromisoformat(created).replace(tzinfo=UTC).timestamp()
    expected = datetime.fromisoformat(available).replace(tzinfo=UTC).timestamp()
    assert settlement_day(at, days=days, business_days=business) == expected


@given(st.text(), st.integers())
def test_tokens_are_base_62_and_repeatable(text: str, number: int) -> None:
    assert token(text, number) == token(text, number)
    assert len(token(text, number)) == 24 and token(text, number).isalnum() and token(text, number).isascii()
