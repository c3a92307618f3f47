"""Search: the right homes, each once, in order, at the price they will be quoted; for a fixed number of statements."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from urllib.parse import quote as escape

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backoffice.bookings.queries.search import Criteria, search
from backoffice.core import clock
from backoffice.core.stays import Stay
from backoffice.listings import operations as listings
from backoffice.rulebook import queries as rulebook
from tests.api.conftest import Caller, Person, actor_of, book, day, in_days, make_home, stay

pytestmark = pytest.mark.django_db


def codes(caller: Caller, query: str = "") -> list[str]:
    page = caller.get(f"listings?{query}")
    assert page.status == 200, page.body
    return [home["code"] for home in page.body["results"]]


def walk(caller: Caller, query: str, limit: int = 2) -> Iterator[str]:
    path: str | None = f"listings?{query}&limit={limit}"
    while path:
        page = caller.get(path)
        assert page.status == 200, page.body
        assert 0 < len(page.body["results"]) <= limit
        yield from (home["code"] for home in page.body["results"])
        path = page.body["next"]


def test_only_published_homes_with_a_price_are_found(anyone: Caller, bob: Person) -> None:
    shown, paused, removed, free = (make_home(bob) for _ in range(4))
    listings.pause(code=paused, actor=actor_of(bob), now=clock.now())
    listings.remove(code=removed, actor=actor_of(bob), now=clock.now())
    listings.edit(code=free, fields={"nightly_price": None}, actor=actor_of(bob), now=clock.now())
    bob.post("listings", {"title": "Draft"})
    assert codes(anyone) == [shown]


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("zurich", True),
        ("ZÜRICH", True),
        ("chalet zurich", True),
        ("chalet 7", True),
        ("Seefeld", True),
        ("l'étoile", True),
        ("etoile", True),
        ("zuri", False),
        ("chalet geneva", False),
        ("***", False),
        ("' OR 1=1 --", False),
        ("a & b | !c:*", False),
        ("\\", False),
        ("x" * 200, False),
    ],
)
def test_words_of_place_and_title_without_accents(anyone: Caller, bob: Person, words: str, found: bool) -> None:
    home = make_home(bob, title="Chalet 7 de l'Étoile 🏔", city="Zürich", neighbourhood="Seefeld", country="CH")
    make_home(bob)
    assert codes(anyone, f"q={escape(words)}") == ([home] if found else [])


@pytest.mark.parametrize(
    ("box", "found"),
    [
        ("4,51,5,52", "antwerp"),
        ("4.4,51.2,4.4,51.2", "antwerp"),
        ("4.5,51,5,52", ""),
        ("179,-18,-179,-16", "fiji"),  # across the antimeridian
        ("-180,-90,180,90", "antwerp fiji"),
    ],
)
def test_a_box(anyone: Caller, bob: Person, box: str, found: str) -> None:
    homes = {
        make_home(bob): "antwerp",
        make_home(bob, latitude=-17.0, longitude=179.5, city="Taveuni", country="FJ"): "fiji",
    }
    assert sorted(homes[code] for code in codes(anyone, f"bbox={box}")) == found.split()


@pytest.mark.parametrize(
    "query",
    [
        "bbox=1,2,3",
        "bbox=a,b,c,d",
        "bbox=nan,0,1,1",
        "bbox=0,10,1,5",
        "bbox=-181,0,1,1",
        "bbox=0,-91,1,1",
        "bbox=1e999,0,1,1",
        "check_in=2027-01-01",
        "check_out=2027-01-01",
        "check_in=2027-01-05&check_out=2027-01-05",
        "check_in=2027-01-05&check_out=2027-01-01",
        "check_in=2027-01-05&check_out=2099-01-01",
        "check_in=x&check_out=y",
        "guests=0",
        "guests=1e3",
        "guests=99999999999999999999",
        "min_price=100",
        "min_price=-1&currency=EUR",
        "min_price=1.5&currency=EUR",
        "min_price=99999999999999999999&currency=EUR",
        "min_price=200&max_price=100&currency=EUR",
        "max_price=1&currency=ABC",
        "max_price=1&currency=eur",
        "room_type=castle",
        "ordering=random",
        "ordering=nightly_price",
        "cursor=x",
        "cursor=WyJuZXdlc3QiXQ",
        "q=%00",
    ],
)
def test_a_query_that_cannot_be_meant_names_its_parameter(anyone: Caller, home: str, query: str) -> None:
    refused = anyone.get(f"listings?{query}")
    assert (refused.status, refused.code) == (422, "invalid"), refused.body
    assert refused.body["field"] in query.replace("=", "&").split("&") or refused.body["field"] in {
        "check_in",
        "check_out",
        "currency",
    }


def test_a_cursor_belongs_to_its_order(anyone: Caller, bob: Person) -> None:
    for _ in range(3):
        make_home(bob)
    following = anyone.get("listings?limit=1&ordering=price").body["next"]
    assert anyone.get(following).status == 200
    assert anyone.get(following.replace("ordering=price", "ordering=rating")).body["field"] == "cursor"


def test_guests_amenities_and_room_types(anyone: Caller, bob: Person) -> None:
    big = make_home(bob, capacity=8, amenities=["Wifi", "Kitchen", "Pool, heated"], room_type="entire_home")
    small = make_home(bob, capacity=2, amenities=["Wifi"], room_type="private_room")
    assert codes(anyone, "guests=3") == [big]
    assert codes(anyone, "amenities=Wifi") == [small, big]
    assert codes(anyone, "amenities=Wifi,Kitchen") == [big]
    assert codes(anyone, "amenities=Wifi,Sauna") == []
    assert codes(anyone, "room_type=private_room") == [small]
    assert codes(anyone, "room_type=private_room,entire_home") == [small, big]


def test_a_home_that_is_taken_or_that_does_not_take_so_short_a_stay_is_not_found(
    anyone: Caller, alice: Person, bob: Person
) -> None:
    free, taken, long_only = make_home(bob), make_home(bob), make_home(bob, minimum_nights=7)
    relaxed = make_home(bob, minimum_nights=7)
    listings.set_night_prices(
        code=relaxed,
        first=day(in_days(60)),
        end=day(in_days(61)),
        price=None,
        minimum_nights=2,
        actor=actor_of(bob),
        now=clock.now(),
    )
    book(alice, taken, first=62, nights=1)
    query = "check_in={check_in}&check_out={check_out}".format(**stay(60, 5))
    assert codes(anyone, query) == [relaxed, free]
    after = "check_in={check_in}&check_out={check_out}".format(**stay(63, 2))
    assert codes(anyone, after) == [taken, free]  # half-open: the night of check-out is free
    for code in (relaxed, free):
        assert alice.post("quotes", {"listing": code, "guests": 2, **stay(60, 5)}).status == 201
    for code in (taken, long_only):
        assert alice.post("quotes", {"listing": code, "guests": 2, **stay(60, 5)}).status in {409, 422}


def test_the_total_shown_is_the_total_quoted(anyone: Caller, alice: Person, bob: Person) -> None:
    plain = make_home(bob)
    discounted = make_home(bob, week_discount=10, extra_guest_fee=1500, city="Paris", country="FR", amenities=[])
    dollars = make_home(bob, city="Brooklyn", country="US", currency="USD", cleaning_fee=0, nightly_price=9999)
    listings.set_night_prices(
        code=plain, first=day(in_days(61)), end=day(in_days(63)), price=20000, actor=actor_of(bob), now=clock.now()
    )
    dates = stay(60, 8)
    query = f"check_in={dates['check_in']}&check_out={dates['check_out']}&guests=3&currency=GBP"
    page = anyone.get(f"listings?{query}").body["results"]
    assert [home["code"] for home in page] == [dollars, discounted, plain]
    for home in page:
        quoted = alice.post("quotes", {"listing": home["code"], "guests": 3, "currency": "GBP", **dates}).body
        assert (home["total"], home["charged"]) == (quoted["total"], quoted["charge_total"])
    assert page[0]["nightly_price"]["currency"] == "USD" and page[0]["nightly_price_shown"]["currency"] == "GBP"
    without = anyone.get("listings").body["results"]
    assert {home["total"] for home in without} == {None}


def test_prices_in_many_currencies_are_compared_by_what_they_are_worth(anyone: Caller, bob: Person) -> None:
    on = clock.now().date()
    euro = make_home(bob, nightly_price=10000)
    yen = make_home(bob, nightly_price=20000, currency="JPY", city="Kyoto", country="JP")
    dollar = make_home(bob, nightly_price=10000, currency="USD", city="Austin", country="US")
    dinar = make_home(bob, nightly_price=100000, currency="EUR", city="Kuwait", country="KW")
    worth = {
        euro: rulebook.rate(base="EUR", quote="USD", on=on).value * 100,
        yen: rulebook.rate(base="JPY", quote="USD", on=on).value * 20000,
        dollar: 100,
        dinar: rulebook.rate(base="EUR", quote="USD", on=on).value * 1000,
    }
    cheapest_first = sorted(worth, key=lambda code: worth[code])
    assert codes(anyone, "ordering=price") == cheapest_first
    assert codes(anyone, "ordering=-price&currency=USD") == cheapest_first[::-1]
    for limit in (1, 2, 3):
        assert list(walk(anyone, "ordering=price&currency=SGD", limit)) == cheapest_first
        assert list(walk(anyone, "ordering=-price", limit)) == cheapest_first[::-1]
    at_most = round(worth[dollar] * 100)
    assert set(codes(anyone, f"max_price={at_most}&currency=USD")) == {c for c in worth if worth[c] <= worth[dollar]}
    assert set(codes(anyone, f"min_price={at_most}&currency=USD")) == {c for c in worth if worth[c] >= worth[dollar]}
    assert set(codes(anyone, f"min_price={at_most + 1}&currency=USD&ordering=price")) == {
        c for c in worth if worth[c] > worth[dollar]
    }


def test_ratings_first_and_the_unrated_last(anyone: Caller, bob: Person) -> None:
    from backoffice.listings.models import Listing

    homes = [make_home(bob) for _ in range(4)]
    for code, count, total in zip(homes, (0, 10, 3, 10), (0, 45, 15, 45), strict=True):
        Listing.objects.filter(code=code).update(rating_count=count, rating_sum=total)
    expected = [homes[2], homes[3], homes[1], homes[0]]
    assert codes(anyone, "ordering=rating") == expected
    assert list(walk(anyone, "ordering=rating", 1)) == expected


def test_pages_never_skip_or_repeat_while_homes_come_and_go(anyone: Caller, bob: Person) -> None:
    homes = [make_home(bob, nightly_price=10000 + 100 * (number % 3)) for number in range(9)]
    pages = walk(anyone, "ordering=price&currency=EUR", 2)
    seen = [next(pages), next(pages)]
    make_home(bob, nightly_price=1)  # comes before what was read
    listings.pause(code=seen[0], actor=actor_of(bob), now=clock.now())  # what was read goes
    seen += list(pages)
    assert sorted(seen) == sorted(homes) and len(set(seen)) == len(seen)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    prices=st.lists(st.tuples(st.integers(1, 5), st.sampled_from(["EUR", "USD", "JPY"])), min_size=1, max_size=12),
    limit=st.integers(1, 5),
    ordering=st.sampled_from(["newest", "price", "-price", "rating"]),
)
def test_any_market_is_walked_once(bob: Person, prices: list[tuple[int, str]], limit: int, ordering: str) -> None:
    from backoffice.listings.models import Listing

    Listing.objects.update(status="paused")
    ours = {make_home(bob, nightly_price=price, currency=currency) for price, currency in prices}
    now = clock.now()
    seen: list[str] = []
    after = None
    while True:
        page = search(criteria=Criteria(ordering=ordering), limit=limit, now=now, after=after)  # type: ignore[arg-type]
        seen += [home.code for home in page.homes]
        after = page.position
        if after is None:
            break
    assert len(seen) == len(ours) and set(seen) == ours


def test_when_the_nearest_homes_are_all_taken_the_others_are_still_found(
    anyone: Caller, bob: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = clock.now()
    cheap = [make_home(bob, nightly_price=100 + number) for number in range(10)]
    for code in cheap:
        listings.block(code=code, stay=Stay(day(in_days(60)), day(in_days(70))), cause="", actor=actor_of(bob), now=now)
    dear = make_home(bob, nightly_price=90000)
    query = "limit=1&ordering=price&check_in={check_in}&check_out={check_out}".format(**stay(60, 3))
    assert codes(anyone, query) == [dear]


def test_four_statements_whatever_the_rows(anyone: Caller, bob: Person, django_assert_max_num_queries: Any) -> None:
    dates = "check_in={check_in}&check_out={check_out}".format(**stay(60, 3))
    full = f"q=zurenborg&bbox=4,51,5,52&guests=2&min_price=1&max_price=99999&currency=EUR&amenities=Wifi&{dates}"
    for homes in (1, 12):
        while len(codes(anyone, "limit=100")) < homes:
            make_home(bob)
        for query in (full, full + "&ordering=price", full + "&ordering=rating", dates, ""):
            with django_assert_max_num_queries(4):
                assert len(codes(anyone, query)) == homes


def test_a_home_booked_a_moment_ago_is_gone_at_once(anyone: Caller, alice: Person, home: str) -> None:
    query = "check_in={check_in}&check_out={check_out}".format(**stay())
    assert codes(anyone, query) == [home]
    book(alice, home)
    assert codes(anyone, query) == []


def test_rates_of_the_first_page_hold_for_the_next(anyone: Caller, bob: Person) -> None:
    homes = [make_home(bob, nightly_price=10000 + number) for number in range(3)]
    now = clock.now()
    first = search(criteria=Criteria(ordering="price", currency="USD"), limit=2, now=now)
    second = search(
        criteria=Criteria(ordering="price", currency="USD"), limit=2, now=now + timedelta(days=9), after=first.position
    )
    assert [home.code for page in (first, second) for home in page.homes] == homes
