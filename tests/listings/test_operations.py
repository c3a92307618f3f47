"""What happens to homes and their nights."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backoffice.audit.models import AuditEntry
from backoffice.core.errors import (
    Conflict,
    IllegalTransition,
    Invalid,
    NightsTaken,
    NotAllowed,
    NotFound,
    Refused,
    StaleVersion,
)
from backoffice.core.stays import Stay
from backoffice.listings import operations as listings
from backoffice.listings import queries
from backoffice.listings.models import CalendarHold, Listing, ListingPhoto, NightOverride
from backoffice.people.models import User
from backoffice.people.states import ROLES
from tests import factories
from tests.factories import NOW, SYSTEM

pytestmark = pytest.mark.django_db
MARCH = date(2027, 3, 1)


@pytest.fixture
def bob() -> User:
    return factories.person("Bob", is_host=True)


@pytest.fixture
def home(bob: User) -> Listing:
    return factories.listing(bob)


def edit(home: Listing, by: User | None = None, **fields: Any) -> Listing:
    return listings.edit(code=home.code, fields=fields, actor=factories.acting(by or home.host), now=NOW)


def nights(first: int, end: int) -> Stay:
    return Stay(MARCH + timedelta(days=first), MARCH + timedelta(days=end))


# Fields --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"title": ""}, "title"),
        ({"title": "x" * 301}, "title"),
        ({"capacity": 0}, "capacity"),
        ({"capacity": -1}, "capacity"),
        ({"capacity": 40_000}, "capacity"),
        ({"capacity": "many"}, "capacity"),
        ({"nightly_price": -1}, "nightly_price"),
        ({"nightly_price": "-1"}, "nightly_price"),
        ({"nightly_price": 2**63}, "nightly_price"),
        ({"cleaning_fee": -1}, "cleaning_fee"),
        ({"extra_guest_fee": -1}, "extra_guest_fee"),
        ({"latitude": 90.1}, "latitude"),
        ({"latitude": "95.5"}, "latitude"),
        ({"latitude": float("nan")}, "latitude"),
        ({"longitude": -180.1}, "longitude"),
        ({"longitude": float("inf")}, "longitude"),
        ({"minimum_nights": 0}, "minimum_nights"),
        ({"minimum_nights": 5, "maximum_nights": 4}, "maximum_nights"),
        ({"minimum_nights": "5", "maximum_nights": "4"}, "maximum_nights"),
        ({"week_discount": 91}, "week_discount"),
        ({"month_discount": 100}, "month_discount"),
        ({"included_guests": -1}, "included_guests"),
        ({"time_zone": "Mars/Olympus"}, "time_zone"),
        ({"time_zone": ""}, "time_zone"),
        ({"room_type": "castle"}, "room_type"),
        ({"cancellation_tier": "none"}, "cancellation_tier"),
        ({"currency": "EURO"}, "currency"),
        ({"currency": "eu"}, "currency"),
        ({"country": "BEL"}, "country"),
        ({"country": "b"}, "country"),
        ({"check_in_time": "25:00"}, "check_in_time"),
        ({"status": "published"}, "status"),
        ({"host_id": 1}, "host_id"),
        ({"rating_sum": 5}, "rating_sum"),
        ({"version": 9}, "version"),
        ({"source": "x"}, "source"),
        ({"code": "LS-MINE"}, "code"),
    ],
    ids=lambda value: str(value)[:40],
)
@pytest.mark.parametrize("how", ["create", "edit"])
def test_a_field_that_cannot_be_accepted_is_named(bob: User, how: str, fields: dict[str, Any], field: str) -> None:
    act = (
        partial(factories.listing, bob, publish=False)
        if how == "create"
        else partial(edit, factories.listing(bob, publish=False))
    )
    with pytest.raises(Invalid) as refused:
        act(**fields)
    assert refused.value.facts["field"] == field
    assert str(refused.value).startswith(f"{field}:") and "constraint" not in str(refused.value).lower()


def test_a_draft_becomes_a_home_that_guests_see_step_by_step(bob: User) -> None:
    draft = factories.listing(bob, publish=False)
    with pytest.raises(NotFound):
        queries.published_listing(code=draft.code)
    listings.submit(code=draft.code, actor=factories.acting(bob), now=NOW)
    listings.publish(code=draft.code, actor=factories.acting(factories.staff("support_l2")), now=NOW)
    assert queries.published_listing(code=draft.code).status == "published"
    verbs = AuditEntry.objects.filter(object_id=draft.code).order_by("seq").values_list("verb", flat=True)
    assert list(verbs) == ["listings.create", "listings.submit", "listings.publish"]


def test_a_draft_without_a_price_is_not_submitted(bob: User) -> None:
    draft = factories.listing(bob, publish=False, nightly_price=None)
    with pytest.raises(Conflict, match="nightly_price"):
        listings.submit(code=draft.code, actor=factories.acting(bob), now=NOW)


@pytest.mark.parametrize("role", ROLES)
def test_who_moderates(role: str, bob: User) -> None:
    draft = factories.listing(bob, publish=False)
    listings.submit(code=draft.code, actor=factories.acting(bob), now=NOW)
    publish = partial(listings.publish, code=draft.code, actor=factories.acting(factories.staff(role)), now=NOW)
    if role in {"support_l2", "team_lead", "trust_safety"}:
        assert publish().status == "published"
    else:
        with pytest.raises(NotAllowed):
            publish()


def test_a_home_sent_back_tells_why(bob: User) -> None:
    draft = factories.listing(bob, publish=False)
    listings.submit(code=draft.code, actor=factories.acting(bob), now=NOW)
    lead = factories.acting(factories.staff("team_lead"))
    with pytest.raises(Refused):
        listings.send_back(code=draft.code, reason=" ", actor=lead, now=NOW)
    assert listings.send_back(code=draft.code, reason="No photos", actor=lead, now=NOW).status == "draft"
    assert AuditEntry.objects.get(verb="listings.send_back").reason == "No photos"


def test_a_host_does_not_publish_their_own_home(home: Listing) -> None:
    with pytest.raises(NotAllowed):
        listings.publish(code=home.code, actor=factories.acting(home.host), now=NOW)


def test_the_log_knows_that_the_address_changed_and_not_to_what(home: Listing) -> None:
    edit(home, address="Secret street 9")
    entry = AuditEntry.objects.get(verb="listings.edit")
    assert "Secret" not in str(vars(entry)) and "address" in entry.after


# Review --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"address": "Quay 2"}, "in_review"),
        ({"city": "Ghent"}, "in_review"),
        ({"country": "NL"}, "in_review"),
        ({"latitude": 51.0}, "in_review"),
        ({"longitude": 4.0}, "in_review"),
        ({"capacity": 5}, "in_review"),
        ({"nightly_price": 50_001}, "in_review"),
        ({"nightly_price": 1_999}, "in_review"),
        ({"currency": "JPY"}, "in_review"),
        ({"nightly_price": 50_000}, "published"),
        ({"nightly_price": 2_000}, "published"),
        ({"title": "Loft"}, "published"),
        ({"address": "Quay 1"}, "published"),
        ({"capacity": "4"}, "published"),
        ({"nightly_price": "10000"}, "published"),
        ({}, "published"),
    ],
    ids=str,
)
@pytest.mark.parametrize("paused", [False, True])
def test_which_changes_are_looked_at_again(home: Listing, paused: bool, fields: dict[str, Any], status: str) -> None:
    if paused:
        listings.pause(code=home.code, actor=factories.acting(home.host), now=NOW)
    assert edit(home, **fields).status == ("paused" if paused and status == "published" else status)


def test_photos_are_looked_at_again_also_on_a_paused_home(home: Listing) -> None:
    bob = factories.acting(home.host)
    listings.pause(code=home.code, actor=bob, now=NOW)
    listings.set_photos(code=home.code, photos=[{"url": "https://img.example/1.jpg"}], actor=bob, now=NOW)
    with pytest.raises(IllegalTransition):
        listings.resume(code=home.code, actor=bob, now=NOW)


def test_nothing_changed_is_nothing_recorded(home: Listing) -> None:
    version = home.version
    assert edit(home, title=home.title, capacity="4").version == version
    assert not AuditEntry.objects.filter(verb="listings.edit").exists()


def test_a_page_shown_before_another_edit_is_stale(home: Listing) -> None:
    edit(home, title="One")
    with pytest.raises(StaleVersion):
        listings.edit(
            code=home.code, fields={"title": "Two"}, actor=factories.acting(home.host), now=NOW, version=home.version
        )


def test_prices_of_single_nights_do_not_silently_change_their_currency(home: Listing) -> None:
    """12,000 is 120.00 EUR and 12,000 JPY: a number without its currency is another price."""
    _price(home, 0, 3, 12_000)
    with pytest.raises(Invalid) as refused:
        edit(home, currency="JPY", nightly_price=15_000)
    assert refused.value.facts["field"] == "currency"
    _price(home, 0, 3, None)
    assert edit(home, currency="JPY", nightly_price=15_000).currency == "JPY"


@pytest.mark.parametrize("act", ["edit", "submit", "pause", "resume", "remove", "block", "price", "photos"])
def test_another_hosts_home_does_not_exist(home: Listing, act: str) -> None:
    charlie = factories.acting(factories.person("Charlie", is_host=True))
    acts: dict[str, Any] = {
        "edit": partial(listings.edit, fields={"title": "Mine"}),
        "submit": listings.submit,
        "pause": listings.pause,
        "resume": listings.resume,
        "remove": listings.remove,
        "block": partial(listings.block, stay=nights(0, 1), cause=""),
        "price": partial(listings.set_night_prices, first=MARCH, end=MARCH + timedelta(days=1), price=1),
        "photos": partial(listings.set_photos, photos=[]),
    }
    with pytest.raises(NotFound):
        acts[act](code=home.code, actor=charlie, now=NOW)
    with pytest.raises(NotAllowed):
        acts[act](code=home.code, actor=factories.acting(factories.person("Alice")), now=NOW)


# Off the market ------------------------------------------------------------------------------------------------------


def test_a_paused_home_keeps_its_bookings_and_takes_no_new_ones(home: Listing) -> None:
    booking = factories.booking(home)
    bob = factories.acting(home.host)
    assert listings.pause(code=home.code, actor=bob, now=NOW).status == "paused"
    assert CalendarHold.objects.get(id=booking.hold_id).active
    with pytest.raises(NotFound):
        factories.quote(home, factories.person(), check_in=MARCH)
    assert listings.resume(code=home.code, actor=bob, now=NOW).status == "published"
    factories.quote(home, factories.person(), check_in=MARCH)


def test_a_home_with_a_booking_to_come_is_not_removed_and_one_with_past_ones_is(home: Listing) -> None:
    booking = factories.booking(home)
    bob = factories.acting(home.host)
    with pytest.raises(Conflict, match="1 booking"):
        listings.remove(code=home.code, actor=bob, now=NOW)
    after = datetime.combine(booking.check_out, NOW.timetz())
    assert listings.remove(code=home.code, actor=bob, now=after).status == "removed"
    assert CalendarHold.objects.filter(id=booking.hold_id).exists()
    with pytest.raises(Conflict):
        edit(home, title="Back")


def test_a_blocked_home_may_be_removed(home: Listing) -> None:
    bob = factories.acting(home.host)
    listings.block(code=home.code, stay=nights(0, 5), cause="", actor=bob, now=NOW)
    assert listings.remove(code=home.code, actor=bob, now=NOW).status == "removed"


# Photos --------------------------------------------------------------------------------------------------------------


def test_photos_are_kept_in_order_and_replaced(home: Listing) -> None:
    bob = factories.acting(home.host)
    for urls in (["https://img.example/1", "https://img.example/2"], ["https://img.example/3"]):
        listings.set_photos(code=home.code, photos=[{"url": url} for url in urls], actor=bob, now=NOW)
        kept = ListingPhoto.objects.filter(listing=home).order_by("position")
        assert list(kept.values_list("position", "url")) == list(enumerate(urls, start=1))


@pytest.mark.parametrize(
    "photo",
    [
        {},
        {"url": ""},
        {"url": "javascript:alert(1)"},
        {"url": "https://img.example/" + "x" * 500},
        {"url": "https://img.example/1", "caption": "x" * 201},
        {"url": "https://img.example/1", "width": -1},
        {"url": "https://img.example/1", "id": 1},
        {"url": "https://img.example/1", "position": 7},
        {"url": "https://img.example/1", "listing_id": 1},
    ],
    ids=lambda photo: str(photo)[:60],
)
def test_a_photo_that_cannot_be_accepted_is_refused_and_the_old_ones_stay(home: Listing, photo: dict[str, Any]) -> None:
    bob = factories.acting(home.host)
    listings.set_photos(code=home.code, photos=[{"url": "https://img.example/1"}], actor=bob, now=NOW)
    with pytest.raises(Invalid) as refused:
        listings.set_photos(code=home.code, photos=[photo], actor=bob, now=NOW)
    assert refused.value.facts["field"] == "photos"
    assert ListingPhoto.objects.get().url == "https://img.example/1"


# Prices of single nights ---------------------------------------------------------------------------------------------


def _price(home: Listing, first: int, end: int, price: int | None, minimum: int | None = None) -> None:
    stay = nights(first, end)
    listings.set_night_prices(
        code=home.code,
        first=stay.check_in,
        end=stay.check_out,
        price=price,
        minimum_nights=minimum,
        actor=factories.acting(home.host),
        now=NOW,
    )


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(
            st.integers(0, 20),
            st.integers(1, 12),
            st.one_of(st.none(), st.integers(0, 99_999)),
            st.one_of(st.none(), st.integers(1, 9)),
        ),
        max_size=8,
    )
)
def test_runs_are_cut_as_if_every_night_had_its_own_row(
    home: Listing, writes: list[tuple[int, int, int | None, int | None]]
) -> None:
    """However runs overlap, contain or touch: each night has what was written last, and no two rows share a night."""
    NightOverride.objects.all().delete()
    naive: dict[date, tuple[int | None, int | None]] = {}
    for first, length, price, minimum in writes:
        _price(home, first, first + length, price, minimum)
        for night in nights(first, first + length).dates():
            naive[night] = (price, minimum)
    kept: dict[date, tuple[int | None, int | None]] = {}
    for row in NightOverride.objects.all():
        for night in Stay(row.nights.lower, row.nights.upper).dates():
            assert night not in kept
            kept[night] = (row.price, row.minimum_nights)
    assert kept == {night: terms for night, terms in naive.items() if terms != (None, None)}
    home.refresh_from_db()
    stay = nights(0, 33)
    terms = queries.terms(listing=home, stay=stay)
    own = [naive.get(night, (None, None))[0] for night in stay.dates()]
    assert terms.prices == tuple(home.nightly_price if price is None else price for price in own)
    assert terms.minimum_nights == (naive.get(MARCH, (None, None))[1] or home.minimum_nights)


@pytest.mark.parametrize(
    ("first", "end", "price", "minimum", "field"),
    [
        (1, 1, 100, None, "end"),
        (2, 1, 100, None, "end"),
        (0, 1, -1, None, "price"),
        (0, 1, 2**63, None, "price"),
        (0, 1, None, 0, "minimum_nights"),
        (0, 1, None, -1, "minimum_nights"),
        (0, 1, None, 2**31, "minimum_nights"),
    ],
)
def test_a_price_of_nights_that_cannot_be_is_named(
    home: Listing, first: int, end: int, price: int | None, minimum: int | None, field: str
) -> None:
    with pytest.raises(Invalid) as refused:
        listings.set_night_prices(
            code=home.code,
            first=MARCH + timedelta(days=first),
            end=MARCH + timedelta(days=end),
            price=price,
            minimum_nights=minimum,
            actor=factories.acting(home.host),
            now=NOW,
        )
    assert refused.value.facts["field"] == field and not NightOverride.objects.exists()


def test_two_runs_of_one_home_cannot_share_a_night_in_the_database(home: Listing) -> None:
    _price(home, 0, 5, 100)
    with pytest.raises(IntegrityError, match="override_nights_once"), transaction.atomic():
        _sql(
            "INSERT INTO listings_nightoverride (listing_id, nights, price) VALUES (%s, daterange(%s, %s), 1)",
            home.id,
            MARCH + timedelta(days=4),
            MARCH + timedelta(days=6),
        )


# Nights --------------------------------------------------------------------------------------------------------------


def _sql(statement: str, *values: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement, values)


def raw_hold(home: Listing, first: int, end: int, *, active: bool = True) -> None:
    """A hold written past every line of our code."""
    stay = (MARCH + timedelta(days=first), MARCH + timedelta(days=end))
    _sql(
        "INSERT INTO listings_calendarhold (listing_id, stay, kind, active, extended, cause, source, created_at, "
        "released_at) VALUES (%s, daterange(%s, %s), 'booking', %s, false, '', '', %s, %s)",
        home.id,
        *stay,
        active,
        NOW,
        None if active else NOW,
    )


@pytest.mark.parametrize(
    ("first", "end"),
    [(10, 15), (10, 11), (14, 15), (9, 11), (14, 16), (5, 20), (12, 13)],
)
def test_af_so_the_database_itself_refuses_a_night_twice(home: Listing, first: int, end: int) -> None:
    """alexfurtado22/djangobnb sold the same nights 86 times in 20 rounds, SteinOveHelset/djangobnb_backend 1,260 times."""
    raw_hold(home, 10, 15)
    with pytest.raises(IntegrityError, match="nights_held_once"), transaction.atomic():
        raw_hold(home, first, end)


@pytest.mark.parametrize(("first", "end"), [(5, 10), (15, 20)])
def test_the_night_of_check_out_is_free(home: Listing, first: int, end: int) -> None:
    raw_hold(home, 10, 15)
    raw_hold(home, first, end)
    assert CalendarHold.objects.count() == 2


def test_released_nights_are_free_again_and_again(home: Listing) -> None:
    for _ in range(3):
        raw_hold(home, 10, 15, active=False)
    raw_hold(home, 10, 15)
    raw_hold(factories.listing(), 10, 15)


def test_so_no_stay_of_minus_four_nights_in_any_table(home: Listing) -> None:
    """SteinOveHelset/djangobnb_backend stores number_of_nights=-4 from the client."""
    with pytest.raises(ValueError, match="check_out must be after"):
        nights(5, 1)
    for first, end in ((5, 5), (5, 1)):
        with pytest.raises(Exception, match=r"hold_of_at_least_a_night|lower bound"), transaction.atomic():
            raw_hold(home, first, end)


def test_an_active_hold_cannot_be_released_halfway(home: Listing) -> None:
    raw_hold(home, 10, 15)
    with pytest.raises(IntegrityError, match="hold_released_when_inactive"), transaction.atomic():
        _sql("UPDATE listings_calendarhold SET active = false")


def test_reactivating_a_released_hold_over_taken_nights_is_refused(home: Listing) -> None:
    raw_hold(home, 10, 15, active=False)
    raw_hold(home, 12, 13)
    with pytest.raises(IntegrityError, match="nights_held_once"), transaction.atomic():
        _sql("UPDATE listings_calendarhold SET active = true, released_at = NULL")


def test_a_host_blocks_and_frees_nights(home: Listing) -> None:
    bob = factories.acting(home.host)
    hold = listings.block(code=home.code, stay=nights(0, 5), cause="painters", actor=bob, now=NOW)
    assert not queries.is_free(listing_id=home.id, stay=nights(4, 6))
    assert queries.is_free(listing_id=home.id, stay=nights(5, 6))
    with pytest.raises(NightsTaken):
        listings.block(code=home.code, stay=nights(4, 6), cause="", actor=bob, now=NOW)
    with pytest.raises(NightsTaken):
        factories.quote(home, factories.person(), check_in=MARCH)
    listings.unblock(code=home.code, hold_id=hold.id, actor=bob, now=NOW)
    assert queries.is_free(listing_id=home.id, stay=nights(0, 5))
    with pytest.raises(NotFound):
        listings.unblock(code=home.code, hold_id=hold.id, actor=bob, now=NOW)


def test_a_host_does_not_free_the_nights_of_a_booking_nor_of_another_home(home: Listing) -> None:
    booking = factories.booking(home)
    bob = factories.acting(home.host)
    with pytest.raises(NotFound):
        listings.unblock(code=home.code, hold_id=booking.hold_id, actor=bob, now=NOW)
    other = factories.listing(home.host)
    theirs = listings.block(code=other.code, stay=nights(0, 5), cause="", actor=bob, now=NOW)
    with pytest.raises(NotFound):
        listings.unblock(code=home.code, hold_id=theirs.id, actor=bob, now=NOW)


def test_a_refused_hold_leaves_the_transaction_usable(home: Listing) -> None:
    bob = factories.acting(home.host)
    with transaction.atomic():
        locked = listings.lock_listing(listing_id=home.id)
        listings.occupy(listing=locked, stay=nights(0, 5), expires_at=None, now=NOW)
        with pytest.raises(NightsTaken):
            listings.occupy(listing=locked, stay=nights(4, 6), expires_at=None, now=NOW)
        listings.occupy(listing=locked, stay=nights(5, 6), expires_at=None, now=NOW)
    assert CalendarHold.objects.count() == 2
    listings.pause(code=home.code, actor=bob, now=NOW)


def test_a_hold_is_extended_once_and_released_once(home: Listing) -> None:
    hold = listings.occupy(listing=home, stay=nights(0, 5), expires_at=NOW, now=NOW)
    later = NOW + timedelta(minutes=15)
    assert listings.extend(hold_id=hold.id, expires_at=later) and not listings.extend(hold_id=hold.id, expires_at=later)
    assert listings.release(hold_id=hold.id, now=NOW) and not listings.release(hold_id=hold.id, now=NOW)
    assert not listings.extend(hold_id=hold.id, expires_at=later)


def test_the_system_publishes_what_was_submitted_only(bob: User) -> None:
    with pytest.raises(IllegalTransition):
        listings.publish(code=factories.listing(bob, publish=False).code, actor=SYSTEM, now=NOW)
