"""Prices: the worked example of the ledger, fees, taxes by jurisdiction, discounts, conversion at a frozen rate."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backoffice.bookings.policies import PriceBreakdown, PricingFacts, gross_up, percent_of, price_stay
from backoffice.core.errors import Invalid
from backoffice.core.money import Money
from backoffice.core.stays import Stay
from backoffice.rulebook.policies import (
    ExchangeRate,
    FeePlan,
    FeeRules,
    Jurisdiction,
    Policy,
    TaxRule,
    TaxRules,
    parse_policy,
)

FIXTURES = Path(__file__).parents[2] / "fixtures" / "policies"
FEES: Policy[FeeRules] = parse_policy(json.loads((FIXTURES / "fees.json").read_text()))
TAXES: Policy[TaxRules] = parse_policy(json.loads((FIXTURES / "taxes.json").read_text()))
DAY = date(2026, 10, 30)


def facts(nightly: list[int], *, currency: str = "EUR", **more: Any) -> PricingFacts:
    start = date(2026, 7, 10)
    return PricingFacts(
        **{
            "stay": Stay(start, start + timedelta(days=len(nightly))),
            "nightly": tuple(Money(price, currency) for price in nightly),
            "guests": 1,
            "plan": FEES.rules.plan("split"),
            "rate": ExchangeRate.same(currency=currency, on=DAY),
            "cleaning": Money(0, currency),
            "extra_guest": Money(0, currency),
            **more,
        }
    )


def summary(price: PriceBreakdown) -> dict[str, int]:
    names = ("host_price", "occupancy_tax", "guest_fee", "vat", "total", "host_fee", "host_net")
    return {name: getattr(price, name).amount for name in names}


def test_the_worked_example_of_the_ledger() -> None:
    """Booking A: three nights at 120.00 and 60.00 cleaning for two, in the demo town, guest fee capped at 50.00."""
    example = facts(
        [12_000] * 3,
        guests=2,
        included_guests=2,
        cleaning=Money(6_000, "EUR"),
        plan=FEES.rules.plan("split-capped"),
        jurisdictions=(TAXES.rules.jurisdiction("BE-DEMO"),),
        vat=TAXES.rules.vat_in("BE"),
        policies=(FEES.label, TAXES.label),
    )
    price = price_stay(facts=example)
    assert summary(price) == {
        "host_price": 42_000,
        "occupancy_tax": 1_950,
        "guest_fee": 5_000,
        "vat": 1_050,
        "total": 50_000,
        "host_fee": 1_260,
        "host_net": 40_740,
    }
    assert [(line.kind, line.quantity, line.unit.amount, line.amount.amount, line.taxable) for line in price.lines] == [
        ("nights", 3, 12_000, 36_000, True),
        ("cleaning", 1, 6_000, 6_000, False),
        ("guest_fee", 1, 5_000, 5_000, True),
        ("occupancy_tax", 1, 1_950, 1_950, False),
        ("vat", 1, 1_050, 1_050, False),
    ]
    assert price.policies == ("fees@1", "taxes@1")


def test_fee_plans() -> None:
    split = price_stay(facts=facts([10_000]))
    assert (split.host_fee.amount, split.guest_fee.amount, split.total.amount) == (300, 1_400, 11_400)
    host_only = price_stay(facts=facts([10_000], plan=FEES.rules.plan("host-only")))
    assert (host_only.host_fee.amount, host_only.guest_fee.amount, host_only.host_net.amount) == (1_550, 0, 8_450)
    assert [line.kind for line in host_only.lines] == ["nights"]


@pytest.mark.parametrize(
    ("net", "percent", "gross"), [(9_700, "15.5", 11_479), (9_700, "3", 10_000), (0, "15.5", 0), (1, "50", 2)]
)
def test_gross_up(net: int, percent: str, gross: int) -> None:
    assert gross_up(net=Money(net, "EUR"), host_percent=Decimal(percent)) == Money(gross, "EUR")


def test_the_published_example_rounds_and_falls_short() -> None:
    assert Money(11_400, "EUR") - percent_of(Money(11_400, "EUR"), Decimal("15.5")) == Money(9_633, "EUR")


def test_a_fee_of_everything_cannot_be_grossed_up() -> None:
    with pytest.raises(Invalid, match="below 100"):
        gross_up(net=Money(1, "EUR"), host_percent=Decimal(100))


@given(st.integers(0, 10**9), st.decimals(0, 99, places=2))
def test_gross_up_is_the_lowest_price_that_leaves_the_net(net: int, percent: Decimal) -> None:
    target = Money(net, "EUR")
    price = gross_up(net=target, host_percent=percent)
    assert price - percent_of(price, percent) >= target
    if price.amount:
        less = price - Money(1, "EUR")
        assert less - percent_of(less, percent) < target


# Nights


def test_nights_of_one_price_are_one_line_and_overrides_another() -> None:
    price = price_stay(facts=facts([10_000, 10_000, 18_000, 18_000, 10_000]))
    assert [(line.label, line.quantity, line.unit.amount) for line in price.lines if line.kind == "nights"] == [
        ("3 nights", 3, 10_000),
        ("2 nights", 2, 18_000),
    ]
    assert [night.net.amount for night in price.nights] == [10_000, 10_000, 18_000, 18_000, 10_000]


@pytest.mark.parametrize(
    ("nights", "week", "month", "percent"),
    [(6, 10, 20, 0), (7, 10, 20, 10), (27, 10, 20, 10), (28, 10, 20, 20), (28, 10, 0, 10), (28, 0, 20, 20)],
)
def test_the_discount_of_the_length_reached(nights: int, week: int, month: int, percent: int) -> None:
    price = price_stay(facts=facts([10_000] * nights, week_discount=week, month_discount=month))
    assert price.host_price.amount == nights * 100 * (100 - percent)
    assert [line.amount.amount for line in price.lines if line.kind == "discount"] == (
        [-nights * 100 * percent] if percent else []
    )


@pytest.mark.parametrize("nights", [7, 28])
def test_a_home_without_discounts_gives_none(nights: int) -> None:
    assert price_stay(facts=facts([10_000] * nights)).host_price.amount == nights * 10_000


def test_the_discount_is_not_taken_from_cleaning_or_extra_guests() -> None:
    week = facts(
        [10_000] * 7,
        week_discount=10,
        guests=4,
        included_guests=2,
        extra_guest=Money(1_500, "EUR"),
        cleaning=Money(6_000, "EUR"),
    )
    price = price_stay(facts=week)
    assert price.host_price.amount == 63_000 + 2 * 7 * 1_500 + 6_000
    extra = next(line for line in price.lines if line.kind == "extra_guests")
    assert (extra.label, extra.quantity, extra.unit.amount) == ("2 extra guests", 14, 1_500)
    assert {night.net.amount for night in price.nights} == {9_000 + 3_000}


def test_a_free_night_is_still_a_line() -> None:
    price = price_stay(facts=facts([0, 5_000]))
    assert [(line.label, line.amount.amount) for line in price.lines if line.kind == "nights"] == [
        ("1 night", 0),
        ("1 night", 5_000),
    ]


# Taxes


def tax_of(place: str, **more: Any) -> dict[str, int]:
    jurisdiction = TAXES.rules.jurisdiction(place)
    price = price_stay(facts=facts(**{"currency": jurisdiction.currency, "jurisdictions": (jurisdiction,), **more}))
    return {tax.code: tax.amount.amount for tax in price.taxes}


def test_taxes_of_each_jurisdiction() -> None:
    usd = Money(5_000, "USD")
    assert tax_of("SG", nightly=[20_000] * 2) == {}
    assert tax_of("BE-ANTWERP", nightly=[10_000] * 3, guests=2) == {"city-tax": 1_680}
    assert tax_of("US-NY-ALBANY", nightly=[10_000] * 2, cleaning=usd) == {
        "sales-tax": 2_000,
        "county-occupancy": 1_300,
    }
    assert tax_of("US-NY-NYC", nightly=[20_000] * 2, cleaning=usd) == {
        "sales-tax": 3_994,  # 8.875 % of 450.00 is 39.9375
        "city-occupancy": 2_350,
        "city-room-night": 400,
        "unit-fee": 300,
    }


def test_caps_and_exemptions() -> None:
    assert tax_of("FR-PARIS", nightly=[8_000] * 2, guests=2) == {"taxe-de-sejour": 2_600}
    assert tax_of("FR-PARIS", nightly=[80_000] * 2, guests=2) == {"taxe-de-sejour": 4 * 1_560}
    assert set(tax_of("US-NY-ALBANY", nightly=[10_000] * 29)) == {"sales-tax", "county-occupancy"}
    assert set(tax_of("US-NY-ALBANY", nightly=[10_000] * 30)) == {"sales-tax"}
    assert tax_of("US-NY-ALBANY", nightly=[10_000] * 90) == {}


def test_a_tax_may_stop_counting_nights_or_at_an_amount() -> None:
    rule = TaxRule(
        code="t",
        label="T",
        method="per_person_night",
        base=("nights",),
        amount=Money(100, "EUR"),
        max_nights=5,
        cap_per_stay=Money(900, "EUR"),
    )
    place = Jurisdiction(code="X1", label="X", country="BE", currency="EUR", cities=(), taxes=(rule,))
    for nights, guests, due in [(3, 1, 300), (9, 1, 500), (9, 2, 900)]:
        price = price_stay(facts=facts([10_000] * nights, guests=guests, jurisdictions=(place,)))
        assert price.occupancy_tax.amount == due


def test_flat_taxes_need_the_jurisdictions_currency_and_shares_do_not() -> None:
    antwerp, albany = TAXES.rules.jurisdiction("BE-ANTWERP"), TAXES.rules.jurisdiction("US-NY-ALBANY")
    with pytest.raises(Invalid, match="Antwerp taxes in EUR; price the listing in EUR"):
        price_stay(facts=facts([10_000], currency="USD", jurisdictions=(antwerp,)))
    assert price_stay(facts=facts([10_000], jurisdictions=(albany,))).occupancy_tax == Money(1_450, "EUR")


def test_a_discount_lowers_a_tax_by_percent() -> None:
    albany = TAXES.rules.jurisdiction("US-NY-ALBANY")
    week = facts([10_000] * 7, currency="USD", week_discount=10, jurisdictions=(albany,))
    assert price_stay(facts=week).occupancy_tax == Money(5_040 + 4_095, "USD")


# Currency


def test_the_charge_is_converted_line_by_line_at_the_frozen_rate() -> None:
    rate = ExchangeRate(base="EUR", quote="USD", value=Fraction("1.08"), on=DAY, source="ECB")
    example = facts([12_333] * 3, cleaning=Money(6_001, "EUR"), rate=rate, vat=TAXES.rules.vat_in("BE"))
    price = price_stay(facts=example)
    assert price.charge_total == rate.convert(price.total)
    assert Money.sum((line.charged for line in price.lines), "USD") == price.charge_total
    assert price.rate == rate


def test_without_conversion_the_charge_is_the_price() -> None:
    price = price_stay(facts=facts([12_333] * 3, cleaning=Money(77, "EUR")))
    assert price.charge_total == price.total
    assert [line.charged for line in price.lines] == [line.amount for line in price.lines]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"guests": 0}, Invalid, "guests: at least one"),
        ({"cleaning": Money(-1, "EUR")}, Invalid, "below zero"),
        ({"week_discount": 101}, Invalid, "from 0 to 100"),
        ({"nightly": (Money(1, "EUR"),)}, ValueError, "1 prices for 2 nights"),
        ({"rate": ExchangeRate.same(currency="USD", on=DAY)}, ValueError, "converts USD"),
    ],
)
def test_impossible_facts_are_refused(change: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        replace(facts([10_000, 10_000]), **change)


# What must hold for every price


@st.composite
def stays(draw: st.DrawFn) -> PricingFacts:
    currency = draw(st.sampled_from(["EUR", "USD", "JPY"]))
    amount = st.integers(0, 300_000).map(lambda value: Money(value, currency))
    nightly = draw(st.lists(amount, min_size=1, max_size=40))
    quote = draw(st.sampled_from(["EUR", "USD", "JPY", "KWD"]))
    value = draw(st.fractions(Fraction(1, 200), 200))
    places = [place for place in TAXES.rules.jurisdictions if place.currency == currency]
    return PricingFacts(
        stay=Stay(date(2026, 7, 10), date(2026, 7, 10) + timedelta(days=len(nightly))),
        nightly=tuple(nightly),
        guests=draw(st.integers(1, 8)),
        plan=FeePlan(
            code="p",
            label="P",
            host_percent=draw(st.decimals(0, 50, places=2)),
            guest_percent=draw(st.decimals(0, 50, places=2)),
            guest_fee_cap=draw(st.sampled_from([(), (Money(5_000, "EUR"),)])),
        ),
        rate=ExchangeRate(base=currency, quote=quote, value=value, on=DAY, source="test"),
        cleaning=draw(amount),
        extra_guest=draw(amount),
        included_guests=draw(st.integers(1, 4)),
        week_discount=draw(st.integers(0, 90)),
        month_discount=draw(st.integers(0, 90)),
        jurisdictions=tuple(draw(st.lists(st.sampled_from(places), max_size=2, unique=True))) if places else (),
        vat=draw(st.sampled_from([None, TAXES.rules.vat_in("BE")])),
    )


@settings(max_examples=200)
@given(stays())
def test_a_price_adds_up_in_both_currencies(asked: PricingFacts) -> None:
    price = price_stay(facts=asked)
    assert price.total == price.host_price + price.guest_fee + price.vat + price.occupancy_tax
    assert Money.sum((line.amount for line in price.lines), asked.currency) == price.total
    assert all(line.amount == line.unit * line.quantity for line in price.lines)
    assert Money.sum((line.charged for line in price.lines), asked.rate.quote) == price.charge_total
    assert Money.sum((night.net for night in price.nights), asked.currency) + price.cleaning == price.host_price
    assert all(night.net.amount >= 0 for night in price.nights)
    assert min(price.host_fee.amount, price.guest_fee.amount, price.host_net.amount) >= 0
    assert all(tax.amount.amount > 0 for tax in price.taxes)


@settings(max_examples=100)
@given(stays())
def test_a_price_survives_storage(asked: PricingFacts) -> None:
    price = price_stay(facts=asked)
    assert PriceBreakdown.from_dict(json.loads(json.dumps(price.as_dict()))) == price
