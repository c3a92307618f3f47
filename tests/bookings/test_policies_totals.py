"""Totals of many homes are those of `price_stay`, to the minor unit, whatever the rulebook says."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backoffice.bookings.policies import PricingFacts, price_stay
from backoffice.bookings.policies.totals import HomeTerms, StayTotals
from backoffice.core.errors import Invalid
from backoffice.core.money import Money
from backoffice.core.stays import Stay
from backoffice.rulebook import queries as rulebook
from backoffice.rulebook.policies import CommissionVat, ExchangeRate, FeePlan, Jurisdiction, TaxRule

FIRST = date(2027, 1, 15)
LINES = ("nights", "discount", "extra_guests", "cleaning", "guest_fee")
percents = st.integers(0, 4000).map(lambda hundredths: Decimal(hundredths) / 100)
maybe_money = st.none() | st.integers(0, 20_000).map(lambda amount: Money(amount, "EUR"))


@st.composite
def tax_rules(draw: st.DrawFn) -> TaxRule:
    method = draw(st.sampled_from(["percent", "per_night", "per_person_night"]))
    return TaxRule(
        code="tax",
        label="Tax",
        method=method,
        base=tuple(draw(st.lists(st.sampled_from(LINES), min_size=1, unique=True))),
        percent=draw(percents) if method == "percent" else Decimal(0),
        amount=None if method == "percent" else Money(draw(st.integers(0, 1000)), "EUR"),
        max_nights=draw(st.none() | st.integers(1, 10)),
        exempt_from_nights=draw(st.none() | st.integers(1, 40)),
        cap_per_person_night=draw(maybe_money),
        cap_per_stay=draw(maybe_money),
    )


@st.composite
def stays(draw: st.DrawFn) -> PricingFacts:
    stay = Stay(FIRST, FIRST + timedelta(days=draw(st.integers(1, 35))))
    rules = tuple(draw(st.lists(tax_rules(), max_size=4)))
    place = Jurisdiction(code="P", label="Place", country="BE", currency="EUR", cities=("Place",), taxes=rules)
    prices = draw(st.lists(st.integers(0, 500_00), min_size=stay.nights, max_size=stay.nights))
    plan = FeePlan(
        code="plan",
        label="Plan",
        host_percent=Decimal(3),
        guest_percent=draw(percents),
        guest_fee_cap=draw(st.sampled_from([(), (Money(5000, "EUR"),), (Money(50, "USD"),)])),
    )
    return PricingFacts(
        stay=stay,
        nightly=tuple(Money(price, "EUR") for price in prices),
        guests=draw(st.integers(1, 9)),
        plan=plan,
        rate=ExchangeRate.same(currency="EUR", on=FIRST),
        cleaning=Money(draw(st.integers(0, 90_00)), "EUR"),
        extra_guest=Money(draw(st.integers(0, 30_00)), "EUR"),
        included_guests=draw(st.integers(1, 5)),
        week_discount=draw(st.integers(0, 90)),
        month_discount=draw(st.integers(0, 90)),
        jurisdictions=(place,),
        vat=draw(st.none() | percents.map(lambda percent: CommissionVat(country="BE", label="VAT", percent=percent))),
    )


def totals_of(facts: PricingFacts) -> StayTotals:
    return StayTotals(
        nights=facts.stay.nights,
        guests=facts.guests,
        currency=facts.currency,
        plan=facts.plan,
        jurisdictions=facts.jurisdictions,
        vat=facts.vat,
    )


def terms_of(facts: PricingFacts) -> HomeTerms:
    return HomeTerms(
        nights=sum(price.amount for price in facts.nightly),
        cleaning=facts.cleaning.amount,
        extra_guest=facts.extra_guest.amount,
        included_guests=facts.included_guests,
        week_discount=facts.week_discount,
        month_discount=facts.month_discount,
    )


@settings(max_examples=400, deadline=None)
@given(facts=stays())
def test_the_total_is_that_of_the_whole_breakdown(facts: PricingFacts) -> None:
    assert totals_of(facts).total(terms_of(facts)) == price_stay(facts=facts).total.amount


@pytest.mark.parametrize(
    ("city", "country", "currency"),
    [
        ("Antwerp", "BE", "EUR"),
        ("Paris", "FR", "EUR"),
        ("Brooklyn", "US", "USD"),
        ("Singapore", "SG", "SGD"),
        ("Nowhere", "DE", "EUR"),
    ],
)
@pytest.mark.parametrize("nights", [1, 6, 7, 27, 28, 30, 90])
def test_it_holds_for_the_rulebook_in_force(city: str, country: str, currency: str, nights: int) -> None:
    fees, taxes = rulebook.fees(on=FIRST).rules, rulebook.taxes(on=FIRST).rules
    for plan in fees.plans:
        facts = PricingFacts(
            stay=Stay(FIRST, FIRST + timedelta(days=nights)),
            nightly=(Money(13_333, currency),) * nights,
            guests=3,
            plan=plan,
            rate=ExchangeRate.same(currency=currency, on=FIRST),
            cleaning=Money(2_501, currency),
            extra_guest=Money(777, currency),
            week_discount=7,
            month_discount=13,
            jurisdictions=taxes.of_place(city=city, country=country),
            vat=taxes.vat_in(country),
        )
        assert totals_of(facts).total(terms_of(facts)) == price_stay(facts=facts).total.amount


def test_a_place_that_taxes_in_another_currency_is_refused() -> None:
    taxes = rulebook.taxes(on=FIRST).rules
    with pytest.raises(Invalid, match="taxes in EUR"):
        StayTotals(
            nights=3,
            guests=2,
            currency="USD",
            plan=rulebook.fees(on=FIRST).rules.plan("split"),
            jurisdictions=taxes.of_place(city="Antwerp", country="BE"),
            vat=None,
        )
