"""Where a refund is taken from once the host was paid: the worked postings B and C, both in one, and where a release had to
convert."""

from __future__ import annotations

from datetime import date
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backoffice.core.money import Money
from backoffice.payments.policies import (
    PART_NAMES,
    Parts,
    PostingKeys,
    refund_origin,
    refunded,
)
from backoffice.rulebook.policies import ExchangeRate

KEYS = PostingKeys(booking="BK-1", host="PN-1", vat="BE:2026-07", occupancy_tax="BE-ANTWERP:2026-07")
# The refund of 100.00 of the 500.00 of the worked postings: held 81.48, host fee 2.52, guest fee 10.00, VAT 2.10, tax 3.90.
PARTS = (8_148, 252, 1_000, 210, 390)


def eur(amount: int) -> Money:
    return Money(amount, "EUR")


def parts(*amounts: int, currency: str = "EUR") -> Parts:
    return Parts.of(currency=currency, amounts=dict(zip(PART_NAMES, amounts, strict=True)))


def posted(
    *,
    amount: Money,
    asked: Parts,
    held: Parts,
    settled: str,
    share: Money | None = None,
    rate: ExchangeRate | None = None,
) -> dict[tuple[str, str, str], int]:
    ours = share or Money.zero(asked.currency)
    origin = refund_origin(amount=amount, parts=asked, held=held, share=ours, settled=settled, rate=rate)
    lines = refunded(
        refund="RF-1",
        amount=amount,
        held=origin.held,
        released=origin.released,
        of_released=origin.of_released,
        keys=KEYS,
        charge="ch_1",
        platform_share=origin.share,
    )
    for currency in {line.currency for line in lines}:
        assert sum(line.amount for line in lines if line.currency == currency) == 0
    return {(line.account, line.key, line.currency): line.amount for line in lines}


def test_before_the_release_all_of_it_is_still_held() -> None:
    """Worked posting B."""
    assert posted(
        amount=eur(10_000), asked=parts(*PARTS), held=parts(40_740, 1_260, 5_000, 1_050, 1_950), settled="EUR"
    ) == {
        ("2100", "BK-1", "EUR"): 8_148,
        ("2111", "BK-1", "EUR"): 252,
        ("2110", "BK-1", "EUR"): 1_000,
        ("2310", "BE:2026-07", "EUR"): 210,
        ("2300", "BE-ANTWERP:2026-07", "EUR"): 390,
        ("2400", "RF-1", "EUR"): -10_000,
    }


def test_after_the_release_the_host_owes_it_and_our_revenue_shrinks() -> None:
    """Worked posting C."""
    assert posted(amount=eur(10_000), asked=parts(*PARTS), held=parts(0, 0, 0, 1_050, 1_950), settled="EUR") == {
        ("1310", "PN-1", "EUR"): 8_148,
        ("4110", "", "EUR"): 252,
        ("4100", "", "EUR"): 1_000,
        ("2310", "BE:2026-07", "EUR"): 210,
        ("2300", "BE-ANTWERP:2026-07", "EUR"): 390,
        ("2400", "RF-1", "EUR"): -10_000,
    }


def test_after_part_was_released_it_takes_first_what_is_still_held() -> None:
    assert posted(
        amount=eur(10_000), asked=parts(*PARTS), held=parts(5_000, 100, 1_000, 1_050, 1_950), settled="EUR"
    ) == {
        ("2100", "BK-1", "EUR"): 5_000,
        ("1310", "PN-1", "EUR"): 3_148,
        ("2111", "BK-1", "EUR"): 100,
        ("4110", "", "EUR"): 152,
        ("2110", "BK-1", "EUR"): 1_000,
        ("2310", "BE:2026-07", "EUR"): 210,
        ("2300", "BE-ANTWERP:2026-07", "EUR"): 390,
        ("2400", "RF-1", "EUR"): -10_000,
    }


YEN = ExchangeRate(base="JPY", quote="EUR", value=Fraction(6, 1000), on=date(2026, 7, 11), source="its releases")


def test_after_a_release_that_converted_the_host_gives_back_what_they_got_for_it() -> None:
    """A home in yen, paid in yen, settled in euro at 0.006: 1,000 yen of the share were 6.00 EUR to the host."""
    assert posted(
        amount=Money(1_200, "JPY"),
        asked=parts(1_000, 50, 150, 0, 0, currency="JPY"),
        held=Parts.none("JPY"),
        settled="EUR",
        rate=YEN,
    ) == {
        ("1310", "PN-1", "EUR"): 600,
        ("4110", "", "EUR"): 30,
        ("4100", "", "EUR"): 90,
        ("3900", "ch_1", "JPY"): 1_200,
        ("3900", "ch_1", "EUR"): -720,
        ("2400", "RF-1", "JPY"): -1_200,
    }


def test_a_charge_in_the_settlement_currency_gives_the_very_amount() -> None:
    """A home in yen, paid and settled in dollars: 9.00 USD go back, and 9.00 USD are taken."""
    found = posted(
        amount=Money(900, "USD"),
        asked=parts(1_000, 50, 150, 0, 0, currency="JPY"),
        held=Parts.none("JPY"),
        settled="USD",
        rate=ExchangeRate(base="JPY", quote="USD", value=Fraction(7, 1000), on=date(2026, 7, 11), source="x"),
    )
    assert found == {
        ("1310", "PN-1", "USD"): 750,
        ("4110", "", "USD"): 38,
        ("4100", "", "USD"): 112,
        ("2400", "RF-1", "USD"): -900,
    }


def test_what_we_bear_ourselves_leaves_no_position_in_the_listings_currency() -> None:
    """Before any release, too: a position that nothing will ever close."""
    found = posted(
        amount=Money(1_000, "JPY"),
        asked=Parts.none("JPY"),
        held=parts(40_000, 0, 0, 0, 0, currency="JPY"),
        settled="EUR",
        share=Money(1_000, "JPY"),
        rate=YEN,
    )
    assert found == {
        ("5210", "RF-1", "EUR"): 600,
        ("3900", "ch_1", "JPY"): 1_000,
        ("3900", "ch_1", "EUR"): -600,
        ("2400", "RF-1", "JPY"): -1_000,
    }


AMOUNTS = st.tuples(*[st.integers(0, 10**6)] * 5)


@given(AMOUNTS, AMOUNTS, st.integers(0, 10**5), st.sampled_from(["EUR", "USD"]), st.integers(1, 10**7))
def test_every_part_is_taken_once_and_the_journal_balances(
    asked: tuple[int, ...], held: tuple[int, ...], share: int, settled: str, charged: int
) -> None:
    wanted, there, ours = parts(*asked), parts(*held), eur(share)
    same = settled == "EUR"
    amount = wanted.total + ours if same else Money(charged, "JPY")
    rate = (
        None if same else ExchangeRate(base="EUR", quote="USD", value=Fraction(11, 10), on=date(2026, 7, 1), source="x")
    )
    origin = refund_origin(amount=amount, parts=wanted, held=there, share=ours, settled=settled, rate=rate)
    for want, have, took in zip(wanted.amounts, there.amounts, origin.held.amounts, strict=True):
        assert took == min(want, have)
    rest = wanted.total - origin.held.total + ours
    if same:
        assert origin.released.total + origin.share == rest
    else:
        assert rate is not None
        assert origin.released.total + origin.share == (
            rate.convert(rest) if rest else Money.zero(origin.share.currency)
        )
    if wanted.total or ours:
        posted(amount=amount, asked=wanted, held=there, settled=settled, share=ours, rate=rate)


@pytest.mark.parametrize("settled", ["EUR", "USD"])
def test_nothing_asked_is_nothing_taken(settled: str) -> None:
    origin = refund_origin(
        amount=eur(0), parts=Parts.none("EUR"), held=parts(*PARTS), share=eur(0), settled=settled, rate=None
    )
    assert not origin.held.total and not origin.released.total and not origin.share
