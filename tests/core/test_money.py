from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backoffice.core.money import CurrencyMismatch, Money, minor_digits

amounts = st.integers(-(10**12), 10**12)
currencies = st.sampled_from(["EUR", "USD", "JPY", "KWD", "SGD"])
money = st.builds(Money, amounts, currencies)


def _grain(whole: Money) -> int:
    """What an amount is shared in: the step of its currency where it is a multiple of it."""
    return whole.step if whole.amount % whole.step == 0 else 1


@given(money, st.lists(st.integers(0, 10**6), min_size=1, max_size=12).filter(any))
def test_parts_add_up_to_the_whole_and_each_is_within_one_unit_of_its_share(whole: Money, weights: list[int]) -> None:
    parts = whole.allocate(weights)
    assert Money.sum(parts, whole.currency) == whole
    for part, weight in zip(parts, weights, strict=True):
        assert abs(part.amount - Fraction(whole.amount * weight, sum(weights))) < _grain(whole)


@given(money, st.fractions(0, 2))
def test_a_share_is_rounded_once_half_away_from_zero(whole: Money, rate: Fraction) -> None:
    exact = Fraction(whole.amount, _grain(whole)) * rate
    share, rest = divmod(whole.share(rate).amount, _grain(whole))
    assert rest == 0
    assert abs(share - exact) <= Fraction(1, 2)
    if abs(exact - int(exact)) == Fraction(1, 2):
        assert abs(share) == abs(int(exact)) + 1
    assert (-whole).share(rate) == -whole.share(rate)


@given(money)
def test_printing_and_reading_give_the_same_amount(whole: Money) -> None:
    assert Money.parse(str(whole.decimal()), whole.currency) == whole


@given(amounts, amounts, currencies)
def test_adding_is_that_of_whole_numbers(left: int, right: int, currency: str) -> None:
    assert Money(left, currency) + Money(right, currency) == Money(left + right, currency)
    assert Money(left, currency) - Money(right, currency) == Money(left - right, currency)


@pytest.mark.parametrize(("currency", "digits"), [("EUR", 2), ("JPY", 0), ("KWD", 3), ("ISK", 2)])
def test_decimals_are_those_of_the_currency(currency: str, digits: int) -> None:
    assert minor_digits(currency) == digits


@pytest.mark.parametrize(
    ("amount", "currency", "locale", "written"),
    [(125_000, "EUR", "en", "€1,250.00"), (125_000, "EUR", "de", "1.250,00\xa0€"), (1250, "JPY", "en", "¥1,250")],
)
def test_a_person_reads_it_as_they_write_it(amount: int, currency: str, locale: str, written: str) -> None:
    assert Money(amount, currency).format(locale) == written


def test_conversion_minds_the_decimals_of_both_currencies() -> None:
    assert Money(10_000, "EUR").convert(Decimal("175.68"), "JPY") == Money(17_568, "JPY")
    assert Money(1_000, "JPY").convert(Decimal("0.0057"), "EUR") == Money(570, "EUR")


def test_what_is_converted_and_shared_can_be_charged() -> None:
    """Whole krónur, and no thousandths of a dinar (the provider's rules for ISK, UGX and three decimals)."""
    assert Money(12_345, "EUR").convert(Decimal("143.60"), "ISK") == Money(1_772_700, "ISK")
    assert Money(12_345, "EUR").convert(Decimal("0.3498"), "KWD") == Money(43_180, "KWD")
    assert Money(33_350, "KWD").share(Decimal("0.14")) == Money(4_670, "KWD")
    assert Money(100_000, "KWD").allocate([1, 1, 1]) == [Money(part, "KWD") for part in (33_340, 33_330, 33_330)]
    assert Money(33_355, "KWD").share(Decimal("0.5")) == Money(
        16_678, "KWD"
    )  # what cannot be charged is shared exactly


def test_currencies_never_mix_and_floats_never_enter() -> None:
    with pytest.raises(CurrencyMismatch):
        Money(1, "EUR") + Money(1, "USD")
    with pytest.raises(CurrencyMismatch):
        assert Money(1, "EUR") < Money(1, "USD")
    with pytest.raises(TypeError):
        Money(1.0, "EUR")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        Money(1, "EUR") * 0.5  # type: ignore[operator]
    with pytest.raises(ValueError, match="decimals"):
        Money.parse("1.005", "EUR")
    with pytest.raises(ValueError, match="currency"):
        Money(1, "eur")
