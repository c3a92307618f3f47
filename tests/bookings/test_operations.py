"""Quotes and bookings: what is promised, for how long, to whom, and what is refused before money is near."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.db import IntegrityError, transaction

from backoffice.audit.models import AuditEntry
from backoffice.bookings import operations as bookings
from backoffice.bookings.models import Booking, Quote
from backoffice.core.actor import system
from backoffice.core.errors import (
    Conflict,
    IllegalTransition,
    Invalid,
    NightsTaken,
    NotAllowed,
    NotFound,
    QuoteExpired,
    Refused,
)
from backoffice.listings import operations as listings
from backoffice.listings.models import CalendarHold, Listing
from backoffice.notifications.models import OutboxMessage
from backoffice.payments import operations as payments
from backoffice.people.models import User
from backoffice.people.states import ROLES
from tests import factories
from tests.factories import NOW

pytestmark = pytest.mark.django_db
MARCH = date(2027, 3, 1)


@pytest.fixture
def home() -> Listing:
    return factories.listing()


@pytest.fixture
def alice() -> User:
    return factories.person("Alice")


def book(quote: Quote, *, now: datetime = NOW, by: User | None = None) -> Booking:
    return bookings.create(quote_code=quote.code, actor=factories.acting(by or quote.guest), now=now)


# Quotes --------------------------------------------------------------------------------------------------------------


def test_a_quote_adds_up_and_freezes_rate_and_policies(home: Listing, alice: User) -> None:
    quote = factories.quote(home, alice, currency="USD")
    assert quote.total == quote.host_price + quote.guest_fee + quote.vat + quote.occupancy_tax
    assert (quote.currency, quote.charge_currency, quote.host_price) == ("EUR", "USD", 3 * 10_000 + 2_000)
    assert quote.rate["on"] <= NOW.date().isoformat() and (quote.rate["base"], quote.rate["quote"]) == ("EUR", "USD")
    assert quote.cancellation_tier == "moderate" and quote.cancellation_version >= 1
    assert quote.expires_at == NOW + timedelta(minutes=30)
    assert not CalendarHold.objects.exists()


def test_a_booking_keeps_what_was_quoted_whatever_the_host_changes_meanwhile(home: Listing, alice: User) -> None:
    quote = factories.quote(home, alice)
    listings.edit(
        code=home.code,
        fields={"nightly_price": 20_000, "cancellation_tier": "strict", "check_in_time": "20:00"},
        actor=factories.acting(home.host),
        now=NOW,
    )
    booking = book(quote)
    for name in "total host_price host_fee charge_total cancellation_tier cancellation_version price rate".split():
        assert getattr(booking, name) == getattr(quote, name), name


def test_the_zone_and_times_of_a_booking_are_those_promised(alice: User) -> None:
    home = factories.listing(time_zone="America/New_York")
    booking = book(factories.quote(home, alice, check_in=date(2027, 3, 13), nights=2))
    assert booking.check_in_at == datetime(2027, 3, 13, 20, 0, tzinfo=UTC)
    assert booking.check_out_at == datetime(2027, 3, 15, 15, 0, tzinfo=UTC)  # the clocks went forward in between
    listings.edit(code=home.code, fields={"time_zone": "Asia/Tokyo"}, actor=factories.acting(home.host), now=NOW)
    booking.refresh_from_db()
    assert booking.time_zone == "America/New_York" and booking.check_in_time.hour == 15


@pytest.mark.parametrize(
    ("listed", "charged", "price"),
    [("JPY", None, 12_000), ("KWD", None, 45_500), ("EUR", "JPY", 10_000), ("JPY", "EUR", 12_000), ("KWD", "KWD", 10)],
)
def test_currencies_without_and_with_three_decimals(alice: User, listed: str, charged: str | None, price: int) -> None:
    home = factories.listing(currency=listed, nightly_price=price, cleaning_fee=0, city="Nowhere", country="JP")
    if listed == "KWD":
        with pytest.raises(Invalid, match="currency"):
            factories.quote(home, alice, currency="EUR")
    quote = factories.quote(home, alice, currency=charged)
    assert quote.host_price == 3 * price
    assert (quote.charge_currency, quote.charge_total > 0) == (charged or listed, True)
    if quote.charge_currency == quote.currency:
        assert quote.charge_total == quote.total


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"check_out": MARCH}, "check_out"),
        ({"check_out": MARCH - timedelta(days=4)}, "check_out"),
        ({"check_in": date(2026, 11, 1), "check_out": date(2026, 11, 25)}, "check_in"),
        ({"check_in": NOW.date() + timedelta(days=729), "check_out": NOW.date() + timedelta(days=731)}, "check_out"),
        ({"guests": 0}, "guests"),
        ({"guests": -1}, "guests"),
        ({"guests": 5}, "guests"),
        ({"guests": 999}, "guests"),
        ({"currency": "euro"}, "currency"),
        ({"currency": "XXX"}, "currency"),
    ],
    ids=str,
)
def test_so_what_the_client_sends_is_checked_and_named(
    home: Listing, alice: User, changes: dict[str, Any], field: str
) -> None:
    """SteinOveHelset/djangobnb_backend stores nights=-4, total=0.01 and guests=999 as the client sent them."""
    facts: dict[str, Any] = {
        "listing_code": home.code,
        "check_in": MARCH,
        "check_out": MARCH + timedelta(days=3),
        "guests": 2,
        "currency": None,
        **changes,
    }
    with pytest.raises(Invalid) as refused:
        bookings.make_quote(**facts, actor=factories.acting(alice), now=NOW)
    assert refused.value.facts["field"] == field and not Quote.objects.exists()


@pytest.mark.parametrize(
    ("zone", "at", "nights_from_today", "sold"),
    [
        ("Pacific/Auckland", datetime(2026, 11, 20, 12, tzinfo=UTC), 0, False),  # it is the 21st there
        ("Pacific/Auckland", datetime(2026, 11, 20, 12, tzinfo=UTC), 1, True),
        ("Pacific/Honolulu", datetime(2026, 11, 20, 5, tzinfo=UTC), -1, True),  # it is the 19th there
        ("Pacific/Honolulu", datetime(2026, 11, 20, 12, tzinfo=UTC), -1, False),
        ("Europe/Brussels", datetime(2026, 11, 20, 12, tzinfo=UTC), -1, False),
        ("Europe/Brussels", datetime(2026, 11, 20, 12, tzinfo=UTC), 0, True),
    ],
)
def test_a_night_that_is_over_at_the_home_is_not_sold(
    alice: User, zone: str, at: datetime, nights_from_today: int, sold: bool
) -> None:
    home = factories.listing(time_zone=zone)
    offer = partial(factories.quote, home, alice, check_in=at.date() + timedelta(days=nights_from_today), now=at)
    if sold:
        assert offer().check_in >= at.astimezone(ZoneInfo(zone)).date()
    else:
        with pytest.raises(Invalid, match="past"):
            offer()


def test_the_last_day_that_is_sold(home: Listing, alice: User) -> None:
    last = NOW.date() + timedelta(days=730)
    assert factories.quote(home, alice, check_in=last - timedelta(days=2), nights=2).check_out == last


@pytest.mark.parametrize(("nights", "fits"), [(1, False), (2, True), (5, True), (6, False)])
def test_the_bounds_of_a_stay(alice: User, nights: int, fits: bool) -> None:
    home = factories.listing(minimum_nights=2, maximum_nights=5)
    offer = partial(factories.quote, home, alice, check_in=MARCH, nights=nights)
    if fits:
        assert offer().nights == nights
    else:
        with pytest.raises(Invalid, match="2 to 5 nights"):
            offer()


def test_the_night_of_check_in_says_how_short_a_stay_may_be(home: Listing, alice: User) -> None:
    listings.set_night_prices(
        code=home.code,
        first=MARCH,
        end=MARCH + timedelta(days=2),
        price=None,
        minimum_nights=4,
        actor=factories.acting(home.host),
        now=NOW,
    )
    with pytest.raises(Invalid, match="4 to"):
        factories.quote(home, alice, check_in=MARCH, nights=3)
    factories.quote(home, alice, check_in=MARCH, nights=4)
    factories.quote(home, alice, check_in=MARCH - timedelta(days=1), nights=2)


def test_nights_with_their_own_price_are_charged_at_it(home: Listing, alice: User) -> None:
    listings.set_night_prices(
        code=home.code,
        first=MARCH + timedelta(days=1),
        end=MARCH + timedelta(days=2),
        price=25_000,
        actor=factories.acting(home.host),
        now=NOW,
    )
    assert factories.quote(home, alice, check_in=MARCH).host_price == 10_000 + 25_000 + 10_000 + 2_000


def test_a_stay_that_costs_nothing_is_not_offered_since_it_cannot_be_paid(alice: User) -> None:
    home = factories.listing(cleaning_fee=0, country="US", city="Nowhere")
    listings.set_night_prices(
        code=home.code,
        first=MARCH,
        end=MARCH + timedelta(days=3),
        price=0,
        actor=factories.acting(home.host),
        now=NOW,
    )
    with pytest.raises(Conflict, match="price"):
        factories.quote(home, alice, check_in=MARCH)


@pytest.mark.parametrize("status", ["draft", "in_review", "paused", "removed"])
def test_only_what_is_published_is_quoted_or_booked(home: Listing, alice: User, status: str) -> None:
    quote = factories.quote(home, alice)
    Listing.objects.filter(id=home.id).update(status=status)
    with pytest.raises(NotFound):
        factories.quote(home, alice)
    with pytest.raises(Conflict, match="not offered"):
        book(quote)
    assert not CalendarHold.objects.exists()


def test_ones_own_home_is_not_booked(home: Listing) -> None:
    with pytest.raises(Conflict, match="own home"):
        factories.quote(home, home.host)


@pytest.mark.parametrize("role", ROLES)
def test_staff_do_not_book(home: Listing, role: str) -> None:
    with pytest.raises(NotAllowed):
        factories.quote(home, factories.staff(role))


def test_a_process_is_no_guest(home: Listing) -> None:
    with pytest.raises(Refused):
        bookings.make_quote(
            listing_code=home.code,
            check_in=MARCH,
            check_out=MARCH + timedelta(days=1),
            guests=1,
            currency=None,
            actor=system("beat"),
            now=NOW,
        )


# Bookings ------------------------------------------------------------------------------------------------------------


def test_a_booking_holds_its_nights_for_a_quarter_of_an_hour(home: Listing, alice: User) -> None:
    booking = book(factories.quote(home, alice))
    assert booking.status == "awaiting_payment" and booking.hold.expires_at == NOW + timedelta(minutes=15)
    assert booking.host_id == home.host_id and booking.guest_id == alice.id
    assert OutboxMessage.objects.filter(topic="booking_created", recipient_id=alice.id).exists()
    assert AuditEntry.objects.get(verb="bookings.create").object_id == booking.code


@pytest.mark.parametrize(("seconds", "good"), [(30 * 60 - 1, True), (30 * 60, False), (86_400, False)])
def test_a_quote_is_good_until_its_instant(home: Listing, alice: User, seconds: int, good: bool) -> None:
    quote = factories.quote(home, alice)
    at = NOW + timedelta(seconds=seconds)
    if good:
        assert book(quote, now=at).code
    else:
        with pytest.raises(QuoteExpired):
            book(quote, now=at)


def test_anothers_quote_does_not_exist(home: Listing, alice: User) -> None:
    quote = factories.quote(home, alice)
    with pytest.raises(NotFound):
        book(quote, by=factories.person("Charlie"))
    with pytest.raises(NotFound):
        bookings.create(quote_code="QT-NONE", actor=factories.acting(alice), now=NOW)


def test_a_quote_is_booked_once_also_after_its_booking_ended(home: Listing, alice: User) -> None:
    quote = factories.quote(home, alice)
    booking = book(quote)
    with transaction.atomic():
        bookings.expire(booking=bookings.lock(code=booking.code), actor=system("time"), now=NOW)
    with pytest.raises(Conflict, match=booking.code):
        book(quote)


def test_of_two_quotes_for_the_same_nights_the_first_booked_gets_them(home: Listing, alice: User) -> None:
    first, second = factories.quote(home, alice), factories.quote(home, factories.person("Charlie"))
    book(second)
    with pytest.raises(NightsTaken):
        book(first)
    assert Booking.objects.count() == 1 == CalendarHold.objects.count()


def test_guests_may_follow_each_other_on_the_same_day(home: Listing, alice: User) -> None:
    book(factories.quote(home, alice, check_in=MARCH, nights=3))
    book(factories.quote(home, alice, check_in=MARCH + timedelta(days=3), nights=1))
    book(factories.quote(home, alice, check_in=MARCH - timedelta(days=1), nights=1))


@pytest.mark.parametrize(
    "damage",
    [
        "total = total + 1",
        "host_price = -1, total = -1 + guest_fee + vat + occupancy_tax",
        "check_out = check_in",
        "check_out = check_in - 4",
        "guests = 0",
        "status = 'paid'",
        "cancelled_by = 'nobody'",
        "cancelled_by = 'guest'",
    ],
)
def test_so_the_database_refuses_a_booking_that_cannot_be(home: Listing, alice: User, damage: str) -> None:
    book(factories.quote(home, alice))
    from django.db import connection

    with pytest.raises(IntegrityError), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(f"UPDATE bookings_booking SET {damage}")


def test_late_money_takes_the_nights_again_only_while_they_are_free_and_to_come(home: Listing, alice: User) -> None:
    def expired(nights: int = 3, check_in: date = MARCH) -> Booking:
        booking = book(factories.quote(home, alice, check_in=check_in, nights=nights))
        bookings.expire(booking=bookings.lock(code=booking.code), actor=system("time"), now=NOW)
        return bookings.lock(code=booking.code)

    with transaction.atomic():
        first = expired()
        assert bookings.confirm_late(booking=first, actor=system("time"), now=NOW)
        assert first.status == "confirmed" and first.hold.active and first.hold.expires_at is None
        second = expired(check_in=MARCH + timedelta(days=3))
        book(factories.quote(home, factories.person(), check_in=MARCH + timedelta(days=4)))
        assert not bookings.confirm_late(booking=second, actor=system("time"), now=NOW)
        third = expired(check_in=MARCH + timedelta(days=30))
        assert not bookings.confirm_late(booking=third, actor=system("time"), now=third.check_in_at)
        with pytest.raises(IllegalTransition):
            bookings.confirm_late(booking=first, actor=system("time"), now=NOW)


# No-show -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("at", "status", "marked"),
    [
        (datetime(2027, 3, 1, 22, 59, tzinfo=UTC), "confirmed", False),
        (datetime(2027, 3, 1, 23, 0, tzinfo=UTC), "confirmed", True),  # the midnight that ends the day, in Brussels
        (datetime(2027, 3, 2, 12, 0, tzinfo=UTC), "checked_in", True),
        (datetime(2027, 3, 4, 10, 0, tzinfo=UTC), "completed", True),
        (datetime(2027, 3, 6, 10, 0, tzinfo=UTC), "completed", True),  # 48 hours after check-out at 11:00
        (datetime(2027, 3, 6, 10, 1, tzinfo=UTC), "completed", False),
        (datetime(2027, 3, 2, 12, 0, tzinfo=UTC), "cancelled", False),
        (datetime(2027, 3, 2, 12, 0, tzinfo=UTC), "awaiting_payment", False),
    ],
)
def test_when_a_no_show_can_be_marked(home: Listing, alice: User, at: datetime, status: str, marked: bool) -> None:
    booking = book(factories.quote(home, alice, check_in=MARCH))
    Booking.objects.filter(id=booking.id).update(status=status)
    mark = partial(bookings.mark_no_show, booking_code=booking.code, now=at)
    junior = factories.acting(factories.staff("support_l1"))
    with pytest.raises(Refused):
        mark(reason="", actor=junior)
    with pytest.raises(NotAllowed):
        mark(reason="x", actor=factories.acting(home.host))
    if marked:
        assert mark(reason="Host waited until 23:00", actor=junior).status == "no_show"
        assert AuditEntry.objects.get(verb="bookings.mark_no_show").reason == "Host waited until 23:00"
    else:
        with pytest.raises(Conflict):
            mark(reason="x", actor=junior)


@pytest.mark.parametrize(
    ("instant_book", "at", "offered"),
    [
        (False, datetime(2027, 3, 1, 13, 59, tzinfo=UTC), True),
        (False, datetime(2027, 3, 1, 14, 0, tzinfo=UTC), False),  # check-in is at 15:00 in Brussels
        (True, datetime(2027, 3, 1, 20, 0, tzinfo=UTC), True),
    ],
)
def test_a_stay_that_its_host_can_no_longer_answer_for_is_not_offered(
    instant_book: bool, at: datetime, offered: bool, alice: User
) -> None:
    home = factories.listing(instant_book=instant_book)
    if not offered:
        with pytest.raises(Conflict, match="no longer answer before check-in"):
            factories.quote(home, alice, check_in=MARCH, now=at)
        return
    booking = book(factories.quote(home, alice, check_in=MARCH, now=at), now=at)
    ask = partial(payments.begin_attempt, booking=booking, payment_method="pm_card_visa", actor=factories.acting(alice))
    if not instant_book:
        with pytest.raises(Conflict, match="no longer answer before check-in"):
            ask(now=at + timedelta(minutes=2))
    assert ask(now=at).payment.capture_method == ("automatic" if instant_book else "manual")
