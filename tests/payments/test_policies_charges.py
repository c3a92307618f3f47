"""When and how a stay is paid, what becomes of a failed charge, what can be charged at all."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backoffice.bookings.policies import PriceBreakdown, PricingFacts, price_stay
from backoffice.core.errors import Conflict, Invalid
from backoffice.core.money import Money
from backoffice.core.stays import Stay
from backoffice.payments.policies import captured_parts, charges
from backoffice.rulebook import queries as rulebook
from backoffice.rulebook.policies import CollectionRules, ExchangeRate, FeePlan, TimingRules, parse_policy
from backoffice.rulebook.queries import DOCUMENTS

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)


def rules(**changed: Any) -> CollectionRules:
    document = json.loads((DOCUMENTS / "collection.json").read_text(encoding="utf-8"))
    document["rules"] = {name: value for name, value in {**document["rules"], **changed}.items() if value is not None}
    parsed: CollectionRules = parse_policy(document).rules
    return parsed


def timings() -> TimingRules:
    parsed: TimingRules = parse_policy(json.loads((DOCUMENTS / "timings.json").read_text(encoding="utf-8"))).rules
    return parsed


def price(
    nights: int, *, nightly: int = 10_000, currency: str = "EUR", rate: ExchangeRate | None = None
) -> PriceBreakdown:
    check_in = date(2026, 7, 10)
    return price_stay(
        facts=PricingFacts(
            stay=Stay(check_in, check_in + timedelta(days=nights)),
            nightly=tuple(Money(nightly + night % 3 * 100, currency) for night in range(nights)),
            guests=2,
            plan=FeePlan(
                code="split", label="split", host_percent=Decimal(3), guest_percent=Decimal(14), guest_fee_cap=()
            ),
            rate=rate or ExchangeRate.same(currency=currency, on=NOW.date()),
            cleaning=Money(5_000, currency),
            extra_guest=Money.zero(currency),
            included_guests=2,
            week_discount=0,
            month_discount=20,
            jurisdictions=(),
            vat=None,
            policies=(),
        )
    )


def plan(
    nights: int = 3, *, ahead: timedelta = timedelta(days=10), instant: bool = True, **options: Any
) -> charges.CollectionPlan:
    return charges.collection_plan(
        price=options.pop("price", None) or price(nights),
        check_in_at=NOW + ahead,
        instant_book=instant,
        rules=options.pop("rules", None) or rules(),
        timings=timings(),
        now=NOW,
    )


@pytest.mark.parametrize(
    ("ahead", "later"),
    [
        (timedelta(days=10), False),
        (timedelta(days=89), False),  # released a day after check-in: 90 days
        (timedelta(days=89, seconds=1), True),
        (timedelta(days=400), True),
    ],
)
def test_what_could_not_be_held_until_its_release_is_charged_later(ahead: timedelta, later: bool) -> None:
    found = plan(ahead=ahead)
    assert (found.charge_at is not None) is later
    if found.charge_at is not None:
        assert NOW + ahead + timedelta(hours=24) - found.charge_at == timedelta(days=90)


def test_only_a_home_that_is_not_booked_at_once_asks_its_host() -> None:
    assert [plan(instant=instant).ask_host for instant in (True, False)] == [False, True]


@given(nights=st.integers(1, 120), nightly=st.integers(1_000, 90_000), currency=st.sampled_from(["EUR", "JPY", "KWD"]))
def test_instalments_add_up_to_the_promise_part_by_part(nights: int, nightly: int, currency: str) -> None:
    promised = price(nights, nightly=nightly // 10 * 10, currency=currency)
    found = plan(price=promised)
    due = [found.first, *found.later]
    assert sum((one.parts for one in due[1:]), due[0].parts) == captured_parts(price=promised)
    assert Money.sum((one.amount for one in due), currency) == promised.charge_total
    assert len(due) == (1 if nights < 28 else -(-nights // 30))
    for one in due:
        assert one.amount == one.parts.total and one.amount.amount > 0
        assert one.amount.amount % one.amount.step == promised.charge_total.amount % one.amount.step == 0


@given(nights=st.integers(28, 120), value=st.fractions("1/300", 300))
def test_instalments_in_another_currency_add_up_to_what_is_charged(nights: int, value: Any) -> None:
    rate = ExchangeRate(base="EUR", quote="ISK", value=value, on=NOW.date(), source="ECB")
    promised = price(nights, rate=rate)
    due = [found := plan(price=promised), *found.later][1:]
    amounts = [found.first.amount, *(one.amount for one in due)]
    assert Money.sum(amounts, "ISK") == promised.charge_total
    assert all(amount.amount % 100 == 0 for amount in amounts)


def test_instalments_can_be_left_out_of_the_rules() -> None:
    assert plan(90, rules=rules(instalments=None)).later == ()


def test_a_failed_charge_is_tried_by_the_plan_of_its_first_failure() -> None:
    at, pay_by, tried = NOW, None, []
    while True:
        follows = charges.after_failure(pay_by=pay_by, must_act=False, rules=rules(), now=at)
        pay_by = follows.pay_by
        if follows.next_try_at is None:
            break
        tried.append((follows.next_try_at - NOW).days)
        at = follows.next_try_at + timedelta(minutes=7)  # a job is never on the second
    assert tried == [1, 3, 5] and pay_by == NOW + timedelta(days=7)
    asked = charges.after_failure(pay_by=None, must_act=True, rules=rules(), now=NOW)
    assert asked.next_try_at is None and asked.pay_by == pay_by


@pytest.mark.parametrize(
    ("check_in", "capture_before", "hours"),
    [(timedelta(days=30), None, 24), (timedelta(hours=5), None, 5), (timedelta(days=30), timedelta(hours=20), 8)],
)
def test_a_host_answers_before_check_in_and_while_the_money_is_there(
    check_in: timedelta, capture_before: timedelta | None, hours: int
) -> None:
    found = charges.answer_by(
        check_in_at=NOW + check_in,
        capture_before=NOW + capture_before if capture_before else None,
        rules=rules(),
        now=NOW,
    )
    assert found == NOW + timedelta(hours=hours)


@pytest.mark.parametrize(
    ("amount", "word"),
    [
        (Money(50, "EUR"), ""),
        (Money(49, "EUR"), "at least 0.50 EUR"),
        (Money(0, "EUR"), "above zero"),
        (Money(30, "GBP"), ""),
        (Money(29, "GBP"), "at least 0.30 GBP"),
        (Money(100, "JPY"), ""),
        (Money(50, "JPY"), "at least 0.50 EUR"),  # it is settled in euros, and is worth less
        (Money(99_999_999, "EUR"), ""),
        (Money(100_000_000, "EUR"), "more than one card payment"),
        (Money(100_000_000_000, "IDR"), ""),
        (Money(12_340, "KWD"), ""),
        (Money(12_345, "KWD"), "steps of 0.010 KWD"),
        (Money(12_345, "BHD"), "steps of 0.010 BHD"),
        (Money(150_000, "ISK"), ""),
        (Money(150_050, "ISK"), "steps of 1.00 ISK"),
        (Money(1_500_000, "UGX"), ""),
        (Money(1_500_010, "UGX"), "steps of 1.00 UGX"),
        (Money(20_001, "HUF"), ""),
    ],
    ids=str,
)
def test_what_the_provider_would_refuse_is_refused_before_it_is_asked(amount: Money, word: str) -> None:
    if not word:
        rulebook.check_chargeable(amount=amount, on=date(2026, 3, 2), field="amount")
        return
    with pytest.raises(Invalid) as caught:
        rulebook.check_chargeable(amount=amount, on=date(2026, 3, 2), field="amount")
    assert word in str(caught.value) and caught.value.facts["field"] == "amount"


DAY, PAGE = timedelta(days=1), charges.PAGE_STAYS_OPEN


@pytest.mark.parametrize(
    ("planned", "due_at", "pay_by", "next_try", "last"),
    [
        (NOW + DAY, NOW + DAY, None, NOW + DAY, None),  # before its day
        (NOW + PAGE / 2, NOW + PAGE / 2, None, NOW + PAGE, None),
        (NOW - PAGE, NOW - PAGE, None, NOW + PAGE, NOW + 7 * DAY),  # on its day
        (NOW + DAY, NOW - DAY, NOW + 6 * DAY, NOW + DAY, NOW + 6 * DAY),  # between two tries
        (None, NOW - DAY, NOW + 6 * DAY, None, NOW + 6 * DAY),  # the guest must act
        (NOW - DAY, NOW - 8 * DAY, NOW + PAGE / 2, NOW + PAGE / 2, NOW + PAGE / 2),  # never past the last date
        (NOW - DAY, NOW - 9 * DAY, NOW - DAY, NOW - DAY, NOW - DAY),
    ],
)
def test_a_page_of_the_bank_puts_off_the_next_try_and_not_the_last_date(
    planned: datetime | None,
    due_at: datetime,
    pay_by: datetime | None,
    next_try: datetime | None,
    last: datetime | None,
) -> None:
    follows = charges.after_asking(planned=planned, due_at=due_at, pay_by=pay_by, rules=rules(), now=NOW)
    assert (follows.next_try_at, follows.pay_by) == (next_try, last)


def test_damage_has_its_time_and_its_limit() -> None:
    asked = {"check_in_at": NOW, "check_out_at": NOW + timedelta(days=3), "rules": rules()}
    charges.check_damage_window(now=NOW + timedelta(days=17), **asked)
    for at in (NOW - timedelta(seconds=1), NOW + timedelta(days=17, seconds=1)):
        with pytest.raises(Conflict, match="14 days after check-out"):
            charges.check_damage_window(now=at, **asked)
    charges.check_cover(amount=Money(300_000, "EUR"), rules=rules())
    for amount in (Money(300_001, "EUR"), Money(1, "JPY")):
        with pytest.raises(Conflict, match="covered"):
            charges.check_cover(amount=amount, rules=rules())
