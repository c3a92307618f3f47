"""The cast and the things they own, made through the operations themselves.

Alice is a guest, Bob a host, Charlie an outsider (guest and host of other things); staff are named by role."""

from __future__ import annotations

import itertools
from datetime import UTC, date, datetime, timedelta
from typing import Any

from django.contrib.auth.hashers import make_password

from backoffice.bookings import operations as bookings
from backoffice.bookings.models import Booking, Quote
from backoffice.core.actor import Actor, system
from backoffice.listings import operations as listings
from backoffice.listings.models import Listing
from backoffice.people import queries as people
from backoffice.people.models import StaffRole, User

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
PASSWORD = "correct horse battery"
SYSTEM = system("tests")
_HASH = make_password(PASSWORD)  # once: Argon2 for every person would be the suite's cost
_number = itertools.count(1)


def person(name: str = "Alice", *, is_host: bool = False, now: datetime = NOW, **fields: Any) -> User:
    """A guest or host with a login."""
    email = fields.pop("email", f"{name.lower()}-{next(_number)}@example.org")
    return User.objects.create(name=name, email=email, is_host=is_host, password=_HASH, created_at=now, **fields)


def staff(role: str, *, name: str = "", now: datetime = NOW) -> User:
    """A member of staff with one role."""
    user = person(name or role.replace("_", " ").title(), is_staff=True, now=now)
    StaffRole.objects.create(user=user, role=role, granted_at=now)
    return user


def acting(user: User, *, now: datetime = NOW) -> Actor:
    """The actor of a person, as a door would make it."""
    return people.actor_for(user=user, now=now)


def listing(host: User | None = None, *, now: datetime = NOW, publish: bool = True, **fields: Any) -> Listing:
    """A home of Bob's: 100.00 EUR a night in Antwerp unless said, published unless said."""
    host = host or person("Bob", is_host=True, now=now)
    facts: dict[str, Any] = {
        "title": "Harbour loft",
        "description": "Two rooms above the old dock.",
        "room_type": "entire_home",
        "address": "Quay 1",
        "city": "Antwerp",
        "country": "BE",
        "latitude": 51.22,
        "longitude": 4.40,
        "time_zone": "Europe/Brussels",
        "capacity": 4,
        "beds": 2,
        "amenities": ["Wifi", "Kitchen"],
        "currency": "EUR",
        "nightly_price": 10_000,
        "cleaning_fee": 2_000,
        "cancellation_tier": "moderate",
        **fields,
    }
    made = listings.create(fields=facts, actor=acting(host, now=now), now=now)
    if publish:
        listings.submit(code=made.code, actor=acting(host, now=now), now=now)
        made = listings.publish(code=made.code, actor=SYSTEM, now=now)
    return made


def quote(
    home: Listing,
    guest: User,
    *,
    check_in: date | None = None,
    nights: int = 3,
    guests: int = 2,
    currency: str | None = None,
    now: datetime = NOW,
) -> Quote:
    """A quote for a stay in a month unless said."""
    check_in = check_in or (now + timedelta(days=30)).date()
    return bookings.make_quote(
        listing_code=home.code,
        check_in=check_in,
        check_out=check_in + timedelta(days=nights),
        guests=guests,
        currency=currency,
        actor=acting(guest, now=now),
        now=now,
    )


def booking(home: Listing | None = None, guest: User | None = None, *, now: datetime = NOW, **options: Any) -> Booking:
    """A booking that waits for its payment."""
    guest = guest or person("Alice", now=now)
    offer = quote(home or listing(now=now), guest, now=now, **options)
    return bookings.create(quote_code=offer.code, actor=acting(guest, now=now), now=now)
