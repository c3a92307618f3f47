"""Policy documents: the ones we ship parse, and a broken one names its field and what to write instead."""

from __future__ import annotations

import copy
import json
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backoffice.core.errors import Invalid
from backoffice.core.money import Money
from backoffice.rulebook.policies import (
    POLICY_KINDS,
    CancellationRules,
    ChargebackRules,
    CollectionRules,
    ExchangeRate,
    FeeRules,
    GuestFeeRule,
    HostPenaltyRules,
    Notice,
    PayoutRules,
    Policy,
    ReconciliationRules,
    RecoveryRules,
    RoleLimitRules,
    SettlementRules,
    TaxRules,
    TimingRules,
    in_force,
    parse_policy,
)

FIXTURES = Path(__file__).parents[2] / "fixtures" / "policies"


def document(kind: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((FIXTURES / f"{kind}.json").read_text())
    return loaded


def test_every_kind_has_a_document_and_every_document_a_kind() -> None:
    assert {path.stem for path in FIXTURES.glob("*.json")} == set(POLICY_KINDS)


@pytest.mark.parametrize("kind", POLICY_KINDS)
def test_a_shipped_document_says_what_it_is_and_where_it_comes_from(kind: str) -> None:
    policy = parse_policy(document(kind))
    assert (policy.kind, policy.version, policy.label) == (kind, 1, f"{kind}@1")
    assert policy.source
    assert policy.effective_from <= date(2026, 1, 1)


def test_the_tiers_are_those_of_the_house() -> None:
    rules: CancellationRules = parse_policy(document("cancellation")).rules
    assert [tier.code for tier in rules.tiers] == [
        "flexible",
        "moderate",
        "limited",
        "firm",
        "strict",
        "non-refundable",
    ]
    assert [tier.code for tier in rules.tiers if not tier.new_listings] == ["strict"]
    assert rules.grace.min_notice == Notice(days=7)
    assert (rules.guest_fee.hours, rules.guest_fee.max_refunds, rules.guest_fee.months) == (48, 3, 12)
    assert rules.long_stay.before_tier == "firm"
    with pytest.raises(Invalid, match="use one of flexible, moderate"):
        rules.tier("generous")


@pytest.mark.parametrize(
    ("now", "since"),
    [("2026-07-10", "2025-07-10"), ("2028-02-29", "2027-02-28"), ("2026-01-31", "2025-01-31")],
)
def test_the_fee_rule_looks_back_calendar_months(now: str, since: str) -> None:
    rule = parse_policy(document("cancellation")).rules.guest_fee
    assert rule.looks_back_to(now=datetime.fromisoformat(now)) == datetime.fromisoformat(since)
    half_year = GuestFeeRule(hours=48, max_refunds=3, months=6)
    assert half_year.looks_back_to(now=datetime(2026, 3, 31, 8)) == datetime(2025, 9, 30, 8)


def test_the_other_documents_carry_the_numbers_of_the_house() -> None:
    penalty: HostPenaltyRules = parse_policy(document("host-penalty")).rules
    assert (penalty.floor, penalty.cap) == (Money(5000, "USD"), Money(100_000, "USD"))
    assert [band.percent for band in penalty.bands] == [10, 25, 50]

    fees: FeeRules = parse_policy(document("fees")).rules
    assert (fees.plan("split").host_percent, fees.plan("split").guest_percent) == (Decimal(3), Decimal(14))
    assert fees.plan("host-only").host_percent == Decimal("15.5")
    assert fees.plan("split-capped").cap_in("EUR") == Money(5000, "EUR")
    assert fees.plan("split-capped").cap_in("SGD") is None

    timings: TimingRules = parse_policy(document("timings")).rules
    assert (timings.hold_minutes, timings.check_in_time) == (15, time(15))

    chargebacks: ChargebackRules = parse_policy(document("chargebacks")).rules
    assert (chargebacks.internal_deadline_percent, chargebacks.ratio_threshold_percent) == (
        Decimal(60),
        Decimal("1.50"),
    )
    assert chargebacks.ratio_warning_percent == 50
    recovery: RecoveryRules = parse_policy(document("recovery")).rules
    assert (recovery.bank_cool_down_hours, recovery.netting_days) == (72, 14)
    assert recovery.sweep_minimum("EUR") == Money(10_000, "EUR") and recovery.sweep_minimum("JPY") == Money(1, "JPY")

    payouts: PayoutRules = parse_policy(document("payouts")).rules
    assert (payouts.instalments_from, payouts.instalment_nights, payouts.new_host_days) == (28, 30, 30)
    assert payouts.minimum("EUR") == Money(100, "EUR") and payouts.minimum("JPY") == Money(1, "JPY")

    collection: CollectionRules = parse_policy(document("collection")).rules
    assert (collection.host_answer_hours, collection.hold_days, collection.retry_days) == (24, 90, (1, 3, 5))
    assert (collection.instalments_from, collection.instalment_nights) == (28, 30)
    assert collection.cover_limit("EUR") == Money(300_000, "EUR") and not collection.cover_limit("JPY")
    assert collection.least_charge("GBP") == Money(30, "GBP")
    in_one = copy.deepcopy(document("collection"))
    del in_one["rules"]["instalments"]
    assert parse_policy(in_one).rules.instalments_from is None

    books: ReconciliationRules = parse_policy(document("reconciliation")).rules
    assert (books.import_grace, books.status_grace) == (timedelta(minutes=15), timedelta(minutes=15))
    assert (books.fx_band_basis_points, books.bank_early_days, books.bank_business_days) == (500, 1, 3)
    assert (books.rounding_per_item, books.rounding_per_run) == (Money(100, "EUR"), Money(1_000, "EUR"))
    stingy = copy.deepcopy(document("reconciliation"))
    stingy["rules"]["rounding"]["per_run"] = 99
    with pytest.raises(Invalid, match=r"rules\.rounding\.per_run: is below the cap of one item"):
        parse_policy(stingy)

    settlement: SettlementRules = parse_policy(document("settlement")).rules
    assert [settlement.currency_for(code) for code in ("SGD", "CHF", "THB", "JPY")] == ["SGD", "CHF", "EUR", "EUR"]

    limits: RoleLimitRules = parse_policy(document("role-limits")).rules
    assert limits.of("support_l1").refund_per_action == Money(10_000, "EUR")
    assert limits.of("support_l2").goodwill == Money(5_000, "EUR")
    assert limits.of("finance").refund_per_action is None
    assert limits.of("finance").four_eyes_above == Money(200_000, "EUR")
    assert limits.of("auditor").refund_per_action == Money(0, "EUR")
    assert limits.of("auditor").payout_hold_hours == 0


def test_a_home_finds_its_jurisdiction_by_city_and_country() -> None:
    taxes: TaxRules = parse_policy(document("taxes")).rules
    assert [place.code for place in taxes.of_place(city=" antwerpen ", country="BE")] == ["BE-ANTWERP"]
    assert taxes.of_place(city="Albany", country="AU") == ()
    assert taxes.jurisdiction("SG").taxes == ()
    assert taxes.vat_in("BE") is not None
    assert taxes.vat_in("US") is None


def _set(path: str, value: Any) -> Any:
    def change(body: dict[str, Any]) -> None:
        *steps, last = [int(step) if step.isdigit() else step for step in path.split("/")]
        target: Any = body
        for step in steps:
            target = target[step]
        target[last] = value

    return change


def _drop(path: str) -> Any:
    def change(body: dict[str, Any]) -> None:
        *steps, last = [int(step) if step.isdigit() else step for step in path.split("/")]
        target: Any = body
        for step in steps:
            target = target[step]
        del target[last]

    return change


BROKEN = [
    ("cancellation", _set("policy", "kindness"), "policy", "use one of cancellation"),
    ("cancellation", _set("version", 0), "version", "whole number from 1"),
    ("cancellation", _set("version", True), "version", "whole number"),
    ("cancellation", _set("effective_from", "soon"), "effective_from", "a date such as"),
    ("cancellation", _set("source", " "), "source", "not empty"),
    ("cancellation", _set("note", "x"), "note", "unknown field; remove it"),
    ("cancellation", _drop("rules"), "rules", "is missing; add it"),
    ("cancellation", _set("rules", []), "rules", "write an object"),
    ("cancellation", _set("rules/tiers", []), "rules.tiers", "a list of at least 1"),
    ("cancellation", _set("rules/tiers/1/code", "flexible"), "rules.tiers[1].code", "there twice"),
    ("cancellation", _set("rules/tiers/0/code", "Flexible!"), "rules.tiers[0].code", "not of the form"),
    ("cancellation", _set("rules/tiers/0/new_listings", "yes"), "rules.tiers[0].new_listings", "true or false"),
    (
        "cancellation",
        _set("rules/tiers/0/before_check_in/0/notice", {"hours": 24, "days": 1}),
        "rules.tiers[0].before_check_in[0].notice",
        "write either",
    ),
    (
        "cancellation",
        _set("rules/tiers/2/before_check_in/1/notice", {"days": 14}),
        "rules.tiers[2].before_check_in[1].notice",
        "must be shorter than 14 days",
    ),
    (
        "cancellation",
        _drop("rules/tiers/2/before_check_in/1/notice"),
        "rules.tiers[2].before_check_in[1].notice",
        "only the last entry",
    ),
    (
        "cancellation",
        _set("rules/tiers/0/before_check_in/1/notice", {"hours": 2}),
        "rules.tiers[0].before_check_in[1].notice",
        "covers the rest",
    ),
    (
        "cancellation",
        _set("rules/tiers/2/before_check_in/2/keep/rest_percent", 40),
        "rules.tiers[2].before_check_in[2].keep",
        "waiting must never pay",
    ),
    (
        "cancellation",
        _set("rules/tiers/0/after_check_in/rest_percent", 101),
        "rules.tiers[0].after_check_in.rest_percent",
        "from 0 to 100",
    ),
    ("cancellation", _set("rules/long_stay/before_tier", "soft"), "rules.long_stay.before_tier", "use one of flexible"),
    ("host-penalty", _set("rules/cap", 100), "rules.cap", "below the floor"),
    ("host-penalty", _set("rules/currency", "usd"), "rules.currency", "three-letter"),
    ("fees", _set("rules/plans/0/guest_percent", 14), "rules.plans[0].guest_percent", "as text"),
    ("fees", _set("rules/plans/0/guest_percent", "100"), "rules.plans[0].guest_percent", 'below "100"'),
    ("fees", _set("rules/plans/0/guest_percent", "NaN"), "rules.plans[0].guest_percent", "a percentage"),
    ("fees", _set("rules/plans/2/guest_fee_cap", {"euro": 1}), "rules.plans[2].guest_fee_cap.euro", "three-letter"),
    ("fees", _set("rules/default", "none"), "rules.default", "use one of split"),
    ("taxes", _set("rules/jurisdictions/3/code", "antwerp"), "rules.jurisdictions[3].code", "BE-ANTWERP"),
    ("taxes", _set("rules/jurisdictions/3/country", "Belgium"), "rules.jurisdictions[3].country", "ISO 3166"),
    (
        "taxes",
        _drop("rules/jurisdictions/3/taxes/0/amount"),
        "rules.jurisdictions[3].taxes[0].amount",
        "per_person_night needs it",
    ),
    (
        "taxes",
        _set("rules/jurisdictions/3/taxes/0/percent", "5"),
        "rules.jurisdictions[3].taxes[0].percent",
        "has none; remove it",
    ),
    (
        "taxes",
        _set("rules/jurisdictions/3/taxes/0/base", ["minibar"]),
        "rules.jurisdictions[3].taxes[0].base[0]",
        "use one of nights",
    ),
    ("collection", _set("rules/retry_days", [3, 1]), "rules.retry_days", "rising days"),
    ("collection", _set("rules/pay_by_days", 5), "rules.pay_by_days", "after the last"),
    ("timings", _set("rules/check_in_time", "3 pm"), "rules.check_in_time", "such as 15:00"),
    ("settlement", _set("rules/fallback", "JPY"), "rules.fallback", "use one of EUR"),
    ("role-limits", _set("rules/roles/0/refund/per_day", 1), "rules.roles[0].refund.per_day", "below the limit"),
    ("role-limits", _set("rules/roles/0/role", "team_lead"), "rules.roles[2].role", "there twice"),
]


@pytest.mark.parametrize(("kind", "change", "field", "remedy"), BROKEN, ids=[f"{row[0]}:{row[2]}" for row in BROKEN])
def test_a_broken_document_names_the_field_and_the_remedy(kind: str, change: Any, field: str, remedy: str) -> None:
    body = copy.deepcopy(document(kind))
    change(body)
    with pytest.raises(Invalid) as caught:
        parse_policy(body)
    assert caught.value.facts["field"] == field
    assert str(caught.value).startswith(f"{field}: ")
    assert remedy in str(caught.value)


@pytest.mark.parametrize("body", [None, [], "cancellation", 7])
def test_what_is_no_object_is_refused(body: object) -> None:
    with pytest.raises(Invalid, match="document: write an object"):
        parse_policy(body)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_no_value_in_place_of_the_rules_ends_in_anything_but_invalid(junk: Any) -> None:
    for kind in POLICY_KINDS:
        with pytest.raises(Invalid):
            parse_policy({**document(kind), "rules": junk})


def _version(number: int, day: str) -> Policy[None]:
    return Policy(kind="fees", version=number, effective_from=date.fromisoformat(day), source="test", rules=None)


def test_the_version_in_force_is_the_latest_that_took_effect() -> None:
    versions = [
        _version(1, "2026-01-01"),
        _version(3, "2026-06-01"),
        _version(2, "2026-06-01"),
        _version(4, "2027-01-01"),
    ]
    assert in_force(policies=versions, on=date(2026, 5, 31)).version == 1
    assert in_force(policies=versions, on=date(2026, 6, 1)).version == 3
    assert in_force(policies=versions, on=date(2027, 1, 1)).version == 4
    with pytest.raises(Invalid, match="no version is in force on 2025-12-31"):
        in_force(policies=versions, on=date(2025, 12, 31))


# Exchange rates


PER_EURO = {"USD": Decimal("1.1172"), "JPY": Decimal("175.68"), "SGD": Decimal("1.4428"), "GBP": Decimal("0.8338")}
DAY = date(2026, 10, 30)


def rate(base: str, quote: str) -> ExchangeRate:
    return ExchangeRate.from_reference(base=base, quote=quote, per_euro=PER_EURO, on=DAY)


def test_a_cross_rate_goes_through_the_euro_and_stays_exact() -> None:
    assert rate("USD", "GBP").value == Fraction(8338, 11172)
    assert rate("USD", "EUR").convert(Money(5000, "USD")) == Money(4475, "EUR")
    assert rate("EUR", "JPY").convert(Money(100, "EUR")) == Money(176, "JPY")
    assert ExchangeRate.same(currency="EUR", on=DAY).convert(Money(7, "EUR")) == Money(7, "EUR")


def test_a_frozen_rate_survives_storage() -> None:
    frozen = rate("USD", "GBP")
    assert ExchangeRate.from_dict(json.loads(json.dumps(frozen.as_dict()))) == frozen


@pytest.mark.parametrize("value", [Fraction(0), Fraction(-1, 7)])
def test_a_rate_is_above_zero(value: Fraction) -> None:
    with pytest.raises(ValueError, match="above zero"):
        ExchangeRate(base="EUR", quote="USD", value=value, on=DAY, source="test")


def test_a_rate_refuses_a_currency_it_does_not_know() -> None:
    with pytest.raises(Invalid, match="THB has no reference rate on 2026-10-30"):
        rate("EUR", "THB")
    with pytest.raises(ValueError, match="cannot convert EUR"):
        rate("USD", "EUR").convert(Money(1, "EUR"))


@given(
    st.lists(st.integers(-(10**9), 10**9), min_size=1, max_size=12),
    st.sampled_from(["USD", "EUR", "JPY", "SGD"]),
    st.sampled_from(["USD", "EUR", "JPY", "GBP"]),
)
def test_converted_lines_add_up_and_none_is_off_by_a_unit(amounts: list[int], base: str, quote: str) -> None:
    lines = [Money(amount, base) for amount in amounts]
    exchange = rate(base, quote)
    converted = exchange.convert_lines(lines)
    assert Money.sum(converted, quote) == exchange.convert(Money.sum(lines, base))
    shift = Fraction(1, 100) if quote == "JPY" and base != "JPY" else Fraction(100) if base == "JPY" != quote else 1
    for line, part in zip(lines, converted, strict=True):
        assert abs(line.amount * exchange.value * shift - part.amount) <= 1
