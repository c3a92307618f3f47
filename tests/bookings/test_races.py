"""Of the peers run, two sold the same nights 17 to 1,260 times in this race, and the one that did not refused up to 88 % of
the guests whose nights were free."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import date, timedelta
from functools import partial

import pytest

from backoffice.bookings import operations as bookings
from backoffice.bookings.models import Booking, Quote, new_quote_code
from backoffice.core.errors import Conflict, NightsTaken
from backoffice.listings.models import CalendarHold, Listing
from backoffice.people.models import User
from tests import factories
from tests.racing import race

pytestmark = pytest.mark.django_db(transaction=True)

CLIENTS = 64
FIRST = date(2027, 3, 1)


def offers(home: Listing, guests: list[User], nights_of: Callable[[int], tuple[date, int]]) -> list[Quote]:
    """One quote for each of the guests who will race for the home; those of one stay are priced once and copied."""
    priced: dict[tuple[date, int], Quote] = {}
    quotes = []
    for number, guest in enumerate(guests):
        wanted = nights_of(number)
        if wanted not in priced:
            priced[wanted] = factories.quote(home, guest, check_in=wanted[0], nights=wanted[1])
        facts = {field.attname: getattr(priced[wanted], field.attname) for field in Quote._meta.fields}
        quotes.append(Quote(**{**facts, "id": None, "guest_id": guest.id, "code": new_quote_code()}))
    return Quote.objects.bulk_create(quotes)


def book(quotes: list[Quote]) -> list[Booking | Exception]:
    return race(
        [
            partial(bookings.create, quote_code=quote.code, actor=factories.acting(quote.guest), now=factories.NOW)
            for quote in quotes
        ]
    )


def test_one_of_64_gets_the_nights_and_63_are_told_so_in_20_rounds() -> None:
    guests = [factories.person(f"Guest{number}") for number in range(CLIENTS)]
    for round_ in range(20):
        # Even rounds want the same nights, odd ones overlap in every way: all of them share the night of FIRST + 4.
        quotes = offers(
            factories.listing(),
            guests,
            lambda number, spread=round_ % 2: (FIRST + timedelta(days=spread * (number % 5)), 5),
        )
        outcomes = book(quotes)
        assert Counter(type(outcome) for outcome in outcomes) == {Booking: 1, NightsTaken: CLIENTS - 1}, round_
    assert CalendarHold.objects.filter(active=True).count() == 20


def test_64_guests_after_different_nights_of_one_home_all_get_them() -> None:
    guests = [factories.person(f"Guest{number}") for number in range(CLIENTS)]
    quotes = offers(factories.listing(), guests, lambda number: (FIRST + timedelta(days=3 * number), 3))
    assert Counter(type(outcome) for outcome in book(quotes)) == {Booking: CLIENTS}


def test_one_guest_clicking_eight_times_books_once() -> None:
    quote = factories.quote(factories.listing(), factories.person("Alice"), check_in=FIRST)
    assert Counter(type(outcome) for outcome in book([quote] * 8)) == {Booking: 1, Conflict: 7}
    assert Booking.objects.count() == 1
