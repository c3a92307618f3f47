"""Cancellation: every golden vector of the house, the instants that divide, and what must hold for every booking."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from fractions import Fraction
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backoffice.bookings.policies import (
    CancellationFacts,
    Override,
    TaxLine,
    cancellation_deadlines,
    decide_cancellation,
    no_show_window,
)
from backoffice.core.errors import Invalid
from backoffice.core.money import Money
from backoffice.core.stays import Stay, instant
from backoffice.rulebook.policies import CancellationRules, Policy, parse_policy

FIXTURE = Path(__file__).parents[2] / "fixtures" / "policies" / "cancellation.json"
POLICY: Policy[CancellationRules] = parse_policy(json.loads(FIXTURE.read_text()))
TIERS = [tier.code for tier in POLICY.rules.tiers]
PARIS = "Europe/Paris"
EVEN = (13_600,) * 5


def eur(amount: int) -> Money:
    return Money(amount, "EUR")


def local(text: str, zone: str = PARIS) -> datetime:
    """A wall-clock time at the home, as the instant it is."""
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)


def facts(
    tier: str,
    *,
    nights: tuple[int, ...] = EVEN,
    check_in: str = "2026-07-10",
    zone: str = PARIS,
    booked: str = "2026-05-01T12:00",
    **more: Any,
) -> CancellationFacts:
    start = date.fromisoformat(check_in)
    return CancellationFacts(
        **{
            "policy": POLICY,
            "tier": tier,
            "stay": Stay(start, start + timedelta(days=len(nights))),
            "check_in_time": time(15),
            "time_zone": zone,
            "nights": tuple(eur(night) for night in nights),
            "cleaning": eur(0),
            "guest_fee": eur(0),
            "taxes": (),
            "confirmed_at": local(booked, zone),
            **more,
        }
    )


GOLDEN = [
    # tier, booked, cancelled (wall clock at the home), refund, host keeps, the rule that decided
    ("flexible", "2026-05-01T12:00", "2026-07-09T14:59", 68_000, 0, "tier:flexible"),
    ("flexible", "2026-05-01T12:00", "2026-07-09T15:01", 54_400, 13_600, "tier:flexible"),
    ("flexible", "2026-05-01T12:00", "2026-07-12T11:00", 27_200, 40_800, "tier:flexible"),
    ("moderate", "2026-05-01T12:00", "2026-07-06T15:00", 27_200, 40_800, "tier:moderate"),
    ("moderate", "2026-05-01T12:00", "2026-07-12T11:00", 13_600, 54_400, "tier:moderate"),
    ("limited", "2026-05-01T12:00", "2026-06-30T15:00", 34_000, 34_000, "tier:limited"),
    ("firm", "2026-05-01T12:00", "2026-07-03T16:00", 0, 68_000, "tier:firm"),
    *[
        (tier, "2026-07-01T10:00", "2026-07-02T09:59", 68_000, 0, "grace")
        for tier in ("flexible", "moderate", "limited", "firm", "strict", "non-refundable")
    ],
    # Booked six days out: no grace, the tier rules.
    ("flexible", "2026-07-04T12:00", "2026-07-04T13:00", 68_000, 0, "tier:flexible"),
    ("moderate", "2026-07-04T12:00", "2026-07-04T13:00", 68_000, 0, "tier:moderate"),
    ("limited", "2026-07-04T12:00", "2026-07-04T13:00", 0, 68_000, "tier:limited"),
    ("firm", "2026-07-04T12:00", "2026-07-04T13:00", 0, 68_000, "tier:firm"),
    ("strict", "2026-07-04T12:00", "2026-07-04T13:00", 0, 68_000, "tier:strict"),
    ("non-refundable", "2026-07-04T12:00", "2026-07-04T13:00", 0, 68_000, "tier:non-refundable"),
    # The rest of the table.
    ("firm", "2026-05-01T12:00", "2026-06-10T15:00", 68_000, 0, "tier:firm"),
    ("firm", "2026-05-01T12:00", "2026-06-20T15:00", 34_000, 34_000, "tier:firm"),
    ("limited", "2026-05-01T12:00", "2026-06-26T15:00", 68_000, 0, "tier:limited"),
    ("limited", "2026-05-01T12:00", "2026-07-04T15:00", 0, 68_000, "tier:limited"),
    ("limited", "2026-05-01T12:00", "2026-07-11T15:00", 0, 68_000, "tier:limited"),
    ("strict", "2026-05-01T12:00", "2026-05-20T15:00", 34_000, 34_000, "tier:strict"),
    ("strict", "2026-05-01T12:00", "2026-07-04T15:00", 0, 68_000, "tier:strict"),
    ("non-refundable", "2026-05-01T12:00", "2026-05-20T15:00", 0, 68_000, "tier:non-refundable"),
]


@pytest.mark.parametrize(("tier", "booked", "cancelled", "refund", "keeps", "rule"), GOLDEN)
def test_golden_vectors(tier: str, booked: str, cancelled: str, refund: int, keeps: int, rule: str) -> None:
    decision = decide_cancellation(facts=facts(tier, booked=booked), now=local(cancelled))
    assert (decision.refund, decision.host_keeps, decision.rule) == (eur(refund), eur(keeps), rule)


def test_the_uneven_vector_takes_nights_in_calendar_order() -> None:
    uneven = facts("moderate", nights=(10_000, 10_000, 18_000, 18_000, 10_000))
    decision = decide_cancellation(facts=uneven, now=local("2026-07-06T15:00"))
    assert (decision.host_keeps, decision.refund) == (eur(38_000), eur(28_000))


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("cancelled", ["2026-05-01T13:00", "2026-07-09T23:00", "2026-07-12T11:00"])
def test_when_the_host_cancels_everything_comes_back(tier: str, cancelled: str) -> None:
    full = with_fees(facts(tier), override=Override(kind="host_cancel", basis="the host cancelled"))
    decision = decide_cancellation(facts=full, now=local(cancelled))
    assert decision.refund == decision.paid == eur(68_000 + 6_000 + 10_360 + 2_176 + 6_660)
    assert decision.host_keeps == eur(0)
    assert decision.rule == "override:host_cancel"


# The instants that divide: each belongs to the guest's side.

SECOND = timedelta(seconds=1)
DIVIDES = [
    # tier, instant (wall clock), refund at it, refund a second later
    ("flexible", "2026-07-09T15:00", 68_000, 54_400),
    ("flexible", "2026-07-10T15:00", 54_400, 40_800),
    ("flexible", "2026-07-11T15:00", 40_800, 27_200),
    ("flexible", "2026-07-13T15:00", 13_600, 0),
    ("flexible", "2026-07-14T15:00", 0, 0),
    ("moderate", "2026-07-05T15:00", 68_000, 27_200),
    ("moderate", "2026-07-10T15:00", 27_200, 20_400),
    ("limited", "2026-06-26T15:00", 68_000, 34_000),
    ("limited", "2026-07-03T15:00", 34_000, 0),
    ("firm", "2026-06-10T15:00", 68_000, 34_000),
    ("firm", "2026-07-03T15:00", 34_000, 0),
    ("strict", "2026-07-03T15:00", 34_000, 0),
]


@pytest.mark.parametrize(("tier", "moment", "at", "after"), DIVIDES)
def test_the_dividing_instant_is_still_the_guests(tier: str, moment: str, at: int, after: int) -> None:
    at_moment = local(moment)
    assert decide_cancellation(facts=facts(tier), now=at_moment).refund == eur(at)
    assert decide_cancellation(facts=facts(tier), now=at_moment + SECOND).refund == eur(after)


GRACE = [
    # booked, cancelled, is it grace
    ("2026-07-03T15:00", "2026-07-04T15:00", True),  # exactly 7 days before check-in, exactly 24 h later
    ("2026-07-03T15:00", "2026-07-04T15:00:01", False),
    ("2026-07-03T15:00:01", "2026-07-03T16:00", False),
    ("2026-07-02T10:00", "2026-07-02T10:00", True),
]


@pytest.mark.parametrize(("booked", "cancelled", "grace"), GRACE)
def test_grace_ends_on_the_second(booked: str, cancelled: str, grace: bool) -> None:
    decision = decide_cancellation(facts=facts("non-refundable", booked=booked), now=local(cancelled))
    assert decision.rule == ("grace" if grace else "tier:non-refundable")
    assert decision.refund == (eur(68_000) if grace else eur(0))


def test_hours_are_elapsed_and_days_are_wall_clock_when_the_clocks_change() -> None:
    """In Paris the night of 2026-03-29 has 23 hours: 24 h before check-in is 14:00 the day before, local time, but
    5 days before is 15:00."""
    spring = {"check_in": "2026-03-29", "booked": "2026-01-05T12:00"}
    flexible, moderate = facts("flexible", **spring), facts("moderate", **spring)
    edge = local("2026-03-28T14:00")
    assert cancellation_deadlines(facts=flexible)[0].until == edge
    assert decide_cancellation(facts=flexible, now=edge).host_keeps == eur(0)
    assert decide_cancellation(facts=flexible, now=edge + SECOND).host_keeps == eur(13_600)
    assert cancellation_deadlines(facts=moderate)[0].until == local("2026-03-24T15:00")
    assert local("2026-03-29T15:00") - local("2026-03-24T15:00") == timedelta(days=5, hours=-1)


def test_in_autumn_the_day_has_twenty_five_hours() -> None:
    autumn = {"check_in": "2026-10-25", "booked": "2026-08-01T12:00"}
    assert cancellation_deadlines(facts=facts("flexible", **autumn))[0].until == local("2026-10-24T16:00")
    assert cancellation_deadlines(facts=facts("moderate", **autumn))[0].until == local("2026-10-20T15:00")


def test_the_homes_clock_counts_not_ours() -> None:
    """The same instant is in time in Singapore and late in New York, for the same dates."""
    moment = datetime(2026, 7, 9, 15, 0, tzinfo=UTC)
    in_new_york = facts("flexible", zone="America/New_York")
    in_singapore = facts("flexible", zone="Asia/Singapore")
    assert decide_cancellation(facts=in_new_york, now=moment).host_keeps == eur(0)
    assert decide_cancellation(facts=in_singapore, now=moment).host_keeps == eur(13_600)
    shifted = moment.astimezone(ZoneInfo("Asia/Tokyo"))
    assert decide_cancellation(facts=in_new_york, now=shifted) == decide_cancellation(facts=in_new_york, now=moment)


def test_five_days_after_check_in_is_not_five_days_before() -> None:
    """A known fault elsewhere: the absolute difference of days."""
    long = facts("moderate", nights=(10_000,) * 10)
    before = decide_cancellation(facts=long, now=local("2026-07-05T15:00"))
    after = decide_cancellation(facts=long, now=local("2026-07-15T15:01"))
    assert before.refund == eur(100_000)
    assert after.nights_stayed == 6
    assert after.refund == eur(15_000)


def test_leaving_at_noon_does_not_give_that_night_back() -> None:
    assert decide_cancellation(facts=facts("flexible"), now=local("2026-07-11T15:00")).nights_stayed == 1
    assert decide_cancellation(facts=facts("flexible"), now=local("2026-07-11T23:00")).nights_stayed == 2
    assert decide_cancellation(facts=facts("flexible"), now=local("2026-08-30T12:00")).nights_stayed == 5


def test_half_a_cent_goes_to_the_guest() -> None:
    odd = facts("limited", nights=(10_001,))
    decision = decide_cancellation(facts=odd, now=local("2026-06-30T15:00"))
    assert (decision.refund, decision.host_keeps) == (eur(5_001), eur(5_000))


# Long stays


MONTH = (10_000,) * 60


@pytest.mark.parametrize("tier", TIERS)
def test_a_long_stay_follows_firm_and_has_no_grace(tier: str) -> None:
    long = facts(tier, nights=MONTH, booked="2026-06-20T12:00")
    decision = decide_cancellation(facts=long, now=local("2026-06-20T13:00"))
    assert (decision.rule, decision.refund) == ("long_stay", eur(300_000))
    early = facts(tier, nights=MONTH)
    assert decide_cancellation(facts=early, now=local("2026-06-10T15:00")).refund == eur(600_000)
    assert decide_cancellation(facts=early, now=local("2026-07-03T15:01")).refund == eur(0)


def test_a_long_stay_left_keeps_the_next_thirty_nights() -> None:
    long = facts("flexible", nights=MONTH)
    decision = decide_cancellation(facts=long, now=local("2026-07-20T11:00"))
    assert (decision.nights_stayed, decision.host_keeps) == (10, eur(400_000))
    assert decide_cancellation(facts=long, now=local("2026-08-20T11:00")).refund == eur(0)


def test_twenty_seven_nights_are_short_and_twenty_eight_are_long() -> None:
    for nights, rule in ((27, "grace"), (28, "long_stay")):
        stay = facts("firm", nights=(1_000,) * nights, booked="2026-06-01T12:00")
        assert decide_cancellation(facts=stay, now=local("2026-06-01T13:00")).rule == rule


# The other lines


def with_fees(base: CancellationFacts, **more: Any) -> CancellationFacts:
    """680.00 of nights, 60.00 cleaning, 103.60 guest fee, 21.76 VAT on it, 9 % occupancy tax on nights and cleaning."""
    taxes = (
        TaxLine(
            kind="occupancy_tax",
            code="city",
            label="City tax",
            place="DEMO",
            base=("nights", "discount", "cleaning", "extra_guests"),
            amount=eur(6_660),
        ),
        TaxLine(kind="vat", code="vat", label="VAT", place="BE", base=("guest_fee",), amount=eur(2_176)),
    )
    return replace(base, cleaning=eur(6_000), guest_fee=eur(10_360), taxes=taxes, **more)


def refunds(decision: Any) -> dict[str, int]:
    return {line.kind: line.refund.amount for line in decision.lines}


def test_grace_gives_back_the_guest_fee_too_whatever_the_count() -> None:
    graceful = with_fees(facts("firm", booked="2026-07-01T10:00"), prior_fee_refunds=9, overlapping=True)
    decision = decide_cancellation(facts=graceful, now=local("2026-07-02T09:00"))
    assert decision.refund == decision.paid
    assert not decision.guest_fee_refunded


def test_cleaning_comes_back_before_check_in_and_taxes_with_what_they_taxed() -> None:
    decision = decide_cancellation(facts=with_fees(facts("limited")), now=local("2026-06-30T15:00"))
    assert refunds(decision) == {
        "nights": 34_000,
        "cleaning": 6_000,
        "guest_fee": 0,
        "occupancy_tax": 3_600,  # 66.60 × 400.00 / 740.00
        "vat": 0,
    }
    assert decision.host_price_refund == eur(40_000)
    assert decision.host_keeps == eur(34_000)


def test_after_check_in_cleaning_is_kept() -> None:
    decision = decide_cancellation(facts=with_fees(facts("flexible")), now=local("2026-07-12T11:00"))
    assert refunds(decision)["cleaning"] == 0
    assert refunds(decision)["occupancy_tax"] == 2_448  # 66.60 × 272.00 / 740.00


FEE = [
    # hours after booking, prior refunds, overlapping, comes back
    (48, 0, False, True),
    (48, 2, False, True),
    (48, 3, False, False),
    (1, 0, True, False),
]


@pytest.mark.parametrize(("hours", "prior", "overlapping", "back"), FEE)
def test_the_guest_fee_rule(hours: int, prior: int, overlapping: bool, back: bool) -> None:
    asked = with_fees(facts("flexible", booked="2026-07-04T12:00"), prior_fee_refunds=prior, overlapping=overlapping)
    decision = decide_cancellation(facts=asked, now=asked.confirmed_at + timedelta(hours=hours))
    assert refunds(decision)["guest_fee"] == (10_360 if back else 0)
    assert refunds(decision)["vat"] == (2_176 if back else 0)
    assert decision.guest_fee_refunded is back


def test_the_guest_fee_stays_a_second_after_48_hours_and_after_check_in() -> None:
    asked = with_fees(facts("flexible", booked="2026-07-04T12:00"))
    late = decide_cancellation(facts=asked, now=asked.confirmed_at + timedelta(hours=48, seconds=1))
    assert refunds(late)["guest_fee"] == 0
    last_minute = with_fees(facts("flexible", booked="2026-07-10T12:00"))
    inside = decide_cancellation(facts=last_minute, now=local("2026-07-10T15:01"))
    assert refunds(inside)["guest_fee"] == 0


def test_a_tax_on_free_nights_comes_back_until_check_in() -> None:
    tax = TaxLine(kind="occupancy_tax", code="c", label="City", place="X", base=("nights",), amount=eur(500))
    free = facts("flexible", nights=(0, 0), taxes=(tax,))
    assert decide_cancellation(facts=free, now=local("2026-07-09T16:00")).refund == eur(500)
    assert decide_cancellation(facts=free, now=local("2026-07-10T16:00")).refund == eur(0)


# Overrides


def test_an_override_goes_before_grace_and_tier_and_names_its_ground() -> None:
    ground = "no heating for two of five nights"
    part = Override(kind="reservation_issue", basis=ground, share=Fraction(2, 5))
    decision = decide_cancellation(
        facts=with_fees(facts("non-refundable"), override=part), now=local("2026-07-12T11:00")
    )
    assert decision.rule == "override:reservation_issue"
    assert decision.basis == ground
    assert refunds(decision) == {
        "nights": 27_200,
        "cleaning": 2_400,
        "guest_fee": 4_144,
        "occupancy_tax": 2_664,
        "vat": 870,
    }


@pytest.mark.parametrize(
    ("kind", "basis", "share", "message"),
    [
        ("kindness", "x", Fraction(1), "use one of host_cancel"),
        ("major_event", " ", Fraction(1), "names its ground"),
        ("host_cancel", "x", Fraction(1, 2), "gives back everything"),
        ("staff_decision", "x", Fraction(3, 2), "a share from 0 to 1"),
    ],
)
def test_an_override_is_complete_or_refused(kind: str, basis: str, share: Fraction, message: str) -> None:
    with pytest.raises(Invalid, match=message):
        Override(kind=kind, basis=basis, share=share)


# What is handed back


def test_the_trace_is_json_and_says_which_rules_were_asked_in_order() -> None:
    decision = decide_cancellation(facts=with_fees(facts("limited")), now=local("2026-06-30T15:00"))
    stored = json.loads(json.dumps(decision.as_dict()))
    assert [entry["rule"] for entry in stored["trace"]] == [
        "facts",
        "override",
        "grace",
        "tier:limited",
        "cleaning",
        "guest_fee",
        "occupancy_tax",
        "vat",
        "total",
    ]
    assert stored["policy"] == "cancellation@1"
    assert stored["refund"] == {"amount": 43_600, "currency": "EUR"}
    assert stored["trace"][3]["inputs"]["window"] == "until 2026-07-03T13:00:00+00:00"
    assert stored["lines"][3]["place"] == "DEMO"


def test_the_deadlines_shown_are_the_ones_applied() -> None:
    limited = facts("limited")
    deadlines = cancellation_deadlines(facts=limited)
    assert [(deadline.until, deadline.keep.rest_percent) for deadline in deadlines] == [
        (local("2026-06-26T15:00"), 0),
        (local("2026-07-03T15:00"), 50),
        (local("2026-07-10T15:00"), 100),
        (None, 100),
    ]


def test_an_unknown_tier_or_a_moment_before_the_booking_is_refused() -> None:
    with pytest.raises(Invalid, match="'generous' is not known"):
        decide_cancellation(facts=facts("generous"), now=local("2026-07-01T12:00"))
    with pytest.raises(Invalid, match="not confirmed yet"):
        decide_cancellation(facts=facts("firm"), now=local("2026-04-01T12:00"))
    with pytest.raises(ValueError, match="4 prices for 5 nights"):
        replace(facts("firm"), nights=(eur(1),) * 4)


def test_a_no_show_may_be_marked_from_midnight_to_48_hours_after_check_out() -> None:
    opens, closes = no_show_window(
        stay=Stay(date(2026, 7, 10), date(2026, 7, 15)), time_zone=PARIS, check_out_time=time(11), hours_after=48
    )
    assert (opens, closes) == (local("2026-07-11T00:00"), local("2026-07-17T11:00"))


# What must hold for every booking and every moment

ZONES = [PARIS, "America/New_York", "Asia/Singapore", "Australia/Lord_Howe", "UTC"]
CENTS = st.integers(0, 500_000)


@st.composite
def bookings(draw: st.DrawFn) -> CancellationFacts:
    nights = draw(st.lists(CENTS, min_size=1, max_size=40))
    check_in = draw(st.dates(date(2026, 1, 1), date(2027, 12, 31)))
    zone = draw(st.sampled_from(ZONES))
    at = draw(st.times(time(0), time(23, 59)).map(lambda value: value.replace(second=0, microsecond=0)))
    stay = Stay(check_in, check_in + timedelta(days=len(nights)))
    bases = [("nights",), ("nights", "cleaning"), ("guest_fee",), ("nights", "discount", "cleaning", "guest_fee")]
    taxes = draw(st.lists(st.tuples(st.sampled_from(bases), CENTS), max_size=3))
    return CancellationFacts(
        policy=POLICY,
        tier=draw(st.sampled_from(TIERS)),
        stay=stay,
        check_in_time=at,
        time_zone=zone,
        nights=tuple(eur(night) for night in nights),
        cleaning=eur(draw(CENTS)),
        guest_fee=eur(draw(CENTS)),
        taxes=tuple(
            TaxLine(kind="occupancy_tax", code=f"t{index}", label="t", place="X", base=base, amount=eur(amount))
            for index, (base, amount) in enumerate(taxes)
        ),
        confirmed_at=instant(check_in, at, zone) - timedelta(minutes=draw(st.integers(0, 200 * 24 * 60))),
        prior_fee_refunds=draw(st.integers(0, 4)),
        overlapping=draw(st.booleans()),
    )


def moments(booking: CancellationFacts) -> st.SearchStrategy[datetime]:
    """Any moment, and often one beside a moment that divides."""
    start, end = booking.confirmed_at, booking.check_in_at + timedelta(days=booking.stay.nights + 3)
    edges = [deadline.until for deadline in cancellation_deadlines(facts=booking) if deadline.until]
    edges += [start + timedelta(hours=24), start + timedelta(hours=48)]
    near = st.builds(
        lambda edge, seconds: max(start, edge + timedelta(seconds=seconds)), st.sampled_from(edges), st.integers(-1, 1)
    )
    return near | st.integers(0, int((end - start).total_seconds())).map(lambda past: start + timedelta(seconds=past))


@settings(max_examples=300)
@given(st.data())
def test_every_line_adds_up_and_nothing_is_below_zero(data: st.DataObject) -> None:
    booking = data.draw(bookings())
    decision = decide_cancellation(facts=booking, now=data.draw(moments(booking)))
    for line in decision.lines:
        assert line.refund + line.kept == line.paid
        assert 0 <= line.refund.amount <= line.paid.amount
    paid = sum(amount.amount for amount in (*booking.nights, booking.cleaning, booking.guest_fee))
    assert decision.paid == eur(paid + sum(tax.amount.amount for tax in booking.taxes))
    assert decision.host_keeps + decision.host_price_refund == Money.sum(booking.nights, "EUR") + booking.cleaning
    json.dumps(decision.as_dict())


@settings(max_examples=300)
@given(st.data())
def test_waiting_never_pays_before_check_in(data: st.DataObject) -> None:
    booking = data.draw(bookings())
    moment = moments(booking).filter(lambda when: when <= booking.check_in_at)
    earlier, later = sorted([data.draw(moment), data.draw(moment)])
    first = decide_cancellation(facts=booking, now=earlier)
    second = decide_cancellation(facts=booking, now=later)
    assert first.refund >= second.refund
    for before, after in zip(first.lines, second.lines, strict=True):
        assert before.refund >= after.refund


@settings(max_examples=150)
@given(st.data())
def test_each_night_stayed_costs_no_less(data: st.DataObject) -> None:
    booking = data.draw(bookings())
    after = st.integers(1, 60 * 24 * 60).map(lambda minutes: booking.check_in_at + timedelta(minutes=minutes))
    earlier, later = sorted([data.draw(after), data.draw(after)])
    assert (
        decide_cancellation(facts=booking, now=earlier).refund >= decide_cancellation(facts=booking, now=later).refund
    )


@settings(max_examples=100)
@given(st.data())
def test_a_whole_override_returns_everything(data: st.DataObject) -> None:
    booking = replace(data.draw(bookings()), override=Override(kind="major_event", basis="a flood"))
    decision = decide_cancellation(facts=booking, now=data.draw(moments(booking)))
    assert decision.refund == decision.paid
