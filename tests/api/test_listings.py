"""Homes: what hosts write, what guests read, and what neither can."""

from __future__ import annotations

from typing import Any

import pytest

from backoffice.core import clock
from backoffice.listings import operations as listings
from tests.api.conftest import HOME, ROBOT, Caller, Person, book, in_days, make_home, stay

pytestmark = pytest.mark.django_db


def test_a_home_from_draft_to_market_and_back(bob: Person, anyone: Caller) -> None:
    draft = bob.post("listings", HOME)
    assert draft.status == 201 and draft.body["status"] == "draft" and draft.headers["ETag"] == '"1"'
    assert draft.body["nightly_price"] == {"amount": 13600, "currency": "EUR", "formatted": "€136.00"}
    code = draft.body["code"]
    assert anyone.get(f"listings/{code}").status == 404
    assert draft.body["available_actions"] == ["submit", "remove"]
    assert bob.post(f"listings/{code}/submit").body["status"] == "in_review"
    assert anyone.get(f"listings/{code}").status == 404
    listings.publish(code=code, actor=ROBOT, now=clock.now())
    seen = anyone.get(f"listings/{code}")
    assert seen.status == 200 and seen.body["host"]["name"] == "Bob"
    assert not {"address", "status", "version"} & set(seen.body)
    assert bob.post(f"listings/{code}/pause").body["status"] == "paused"
    assert anyone.get(f"listings/{code}").status == 404
    assert bob.post(f"listings/{code}/resume").body["status"] == "published"
    assert bob.post(f"listings/{code}/submit").code == "illegal_transition"
    assert bob.delete(f"listings/{code}").status == 204
    assert bob.get(f"listings/{code}").body["status"] == "removed"
    assert [home["code"] for home in bob.get("me/listings").body["results"]] == [code]


def test_a_draft_that_lacks_something_is_not_submitted(bob: Person) -> None:
    code = bob.post("listings", {**HOME, "nightly_price": None}).body["code"]
    refused = bob.post(f"listings/{code}/submit")
    assert (refused.status, refused.body["facts"]) == (409, {"missing": ["nightly_price"]})


def test_a_guest_cannot_list(alice: Person) -> None:
    assert alice.post("listings", HOME).code == "not_allowed"


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"host": 1}, "host"),
        ({"host_id": 1}, "host_id"),
        ({"status": "published"}, "status"),
        ({"rating_sum": 500}, "rating_sum"),
        ({"source": "x"}, "source"),
        ({"title": ""}, "title"),
        ({"title": None}, "title"),
        ({"title": {"en": "x"}}, "title"),
        ({"capacity": 0}, "capacity"),
        ({"capacity": 10**30}, "capacity"),
        ({"capacity": True}, "capacity"),
        ({"latitude": 91}, "latitude"),
        ({"latitude": "north"}, "latitude"),
        ({"longitude": -180.1}, "longitude"),
        ({"nightly_price": -1}, "nightly_price"),
        ({"nightly_price": 136.5}, "nightly_price"),
        ({"nightly_price": "13600"}, "nightly_price"),
        ({"nightly_price": 10**19}, "nightly_price"),
        ({"currency": "€"}, "currency"),
        ({"room_type": "castle"}, "room_type"),
        ({"room_type": []}, "room_type"),
        ({"country": "Belgium"}, "country"),
        ({"time_zone": "Mars/Olympus"}, "time_zone"),
        ({"time_zone": "../etc/passwd"}, "time_zone"),
        ({"cancellation_tier": "none"}, "cancellation_tier"),
        ({"minimum_nights": 10, "maximum_nights": 2}, "maximum_nights"),
        ({"amenities": "Wifi"}, "amenities"),
        ({"amenities": ["x" * 121]}, "amenities.0"),
        ({"amenities": ["\x00"]}, "amenities.0"),
        ({"check_in_time": "25:00"}, "check_in_time"),
        ({"bathrooms": 1.55}, "bathrooms"),
        ({"week_discount": 91}, "week_discount"),
    ],
)
def test_a_bad_field_is_named(bob: Person, changes: dict[str, Any], field: str) -> None:
    refused = bob.post("listings", {**HOME, **changes})
    assert (refused.status, refused.body.get("field")) == (422, field), refused.body


def test_two_edits_at_once_do_not_mix(bob: Person, home: str) -> None:
    version = bob.get(f"listings/{home}").body["version"]
    first = bob.patch(f"listings/{home}", {"title": "One", "version": version})
    assert (first.status, first.body["title"]) == (200, "One")
    second = bob.patch(f"listings/{home}", {"title": "Two", "version": version})
    assert (second.status, second.code) == (409, "stale_version")
    by_tag = bob.patch(f"listings/{home}", {"title": "Two"}, If_Match=f'"{version}"')
    assert (by_tag.status, by_tag.code) == (412, "stale_version")
    assert bob.patch(f"listings/{home}", {"title": "Two"}, If_Match='"abc"').status == 412
    assert bob.patch(f"listings/{home}", {"title": "Two"}, If_Match=first.headers["ETag"]).status == 200
    assert bob.patch(f"listings/{home}", {"title": "Three"}).body["field"] == "version"


def test_a_risky_change_goes_back_to_review(bob: Person, home: str, anyone: Caller) -> None:
    harmless = bob.patch(
        f"listings/{home}", {"description": "By the water."}, If_Match=bob.get(f"listings/{home}").headers["ETag"]
    )
    assert harmless.body["status"] == "published"
    risky = bob.patch(f"listings/{home}", {"capacity": 12}, If_Match=harmless.headers["ETag"])
    assert risky.body["status"] == "in_review"
    assert anyone.get(f"listings/{home}").status == 404


def test_another_hosts_home_does_not_exist_for_writing(charlie: Person, home: str) -> None:
    for answer in (
        charlie.patch(f"listings/{home}", {"title": "Mine", "version": 1}),
        charlie.delete(f"listings/{home}"),
        charlie.post(f"listings/{home}/pause"),
        charlie.put(f"listings/{home}/photos", {"photos": []}),
        charlie.put(f"listings/{home}/night-prices", {"first": in_days(1), "end": in_days(2), "price": 1}),
        charlie.post(f"listings/{home}/blocks", {"first": in_days(1), "end": in_days(2)}),
        charlie.delete(f"listings/{home}/blocks/1"),
    ):
        assert (answer.status, answer.code) == (404, "not_found")


def test_photos_are_replaced_in_order(bob: Person, home: str) -> None:
    photos = [{"url": f"https://img.example.org/{number}.jpg", "caption": f"{number}"} for number in (2, 1)]
    set_ = bob.put(f"listings/{home}/photos", {"photos": photos})
    assert [photo["url"] for photo in set_.body["photos"]] == [photo["url"] for photo in photos]
    assert set_.body["status"] == "in_review"
    for bad in ([{"url": "javascript:alert(1)"}], [{"url": "x", "position": 1}], "x", [{}], [None]):
        assert bob.put(f"listings/{home}/photos", {"photos": bad}).status == 422


def test_nights_have_their_own_price_and_a_quote_uses_it(bob: Person, alice: Person, home: str) -> None:
    assert (
        bob.put(f"listings/{home}/night-prices", {"first": in_days(61), "end": in_days(62), "price": 20000}).status
        == 200
    )
    quote = alice.post("quotes", {"listing": home, "guests": 2, **stay(60, 3)})
    nights = [(line["quantity"], line["unit"]["amount"]) for line in quote.body["lines"] if line["kind"] == "nights"]
    assert nights == [(2, 13600), (1, 20000)]
    back = bob.put(f"listings/{home}/night-prices", {"first": in_days(60), "end": in_days(63), "price": None})
    assert back.status == 200
    wrong_way = bob.put(f"listings/{home}/night-prices", {"first": in_days(3), "end": in_days(3), "price": 1})
    assert wrong_way.body["field"] == "end"


def test_the_calendar_tells_strangers_when_and_the_host_why(
    bob: Person, alice: Person, anyone: Caller, home: str
) -> None:
    block = bob.post(f"listings/{home}/blocks", {"first": in_days(10), "end": in_days(12), "cause": "painting"})
    assert block.status == 201
    book(alice, home, first=60)
    seen = anyone.get(f"listings/{home}/calendar").body["held"]
    assert seen == [{"first": in_days(10), "end": in_days(12)}, {"first": in_days(60), "end": in_days(65)}]
    assert [held["kind"] for held in bob.get(f"listings/{home}/calendar").body["held"]] == ["block", "booking"]
    overlapping = bob.post(f"listings/{home}/blocks", {"first": in_days(64), "end": in_days(70)})
    assert (overlapping.status, overlapping.code) == (409, "nights_taken")
    assert bob.delete(f"listings/{home}/blocks/{block.body['block']}").status == 204
    assert bob.delete(f"listings/{home}/blocks/{block.body['block']}").status == 404
    assert len(anyone.get(f"listings/{home}/calendar").body["held"]) == 1
    assert anyone.get(f"listings/{home}/calendar?since=2027-02-30").status == 422


def test_a_home_with_open_bookings_is_not_removed(bob: Person, alice: Person, home: str) -> None:
    book(alice, home)
    assert (bob.delete(f"listings/{home}").code, bob.get(f"listings/{home}").body["status"]) == (
        "conflict",
        "published",
    )


def test_ones_own_homes_page_by_page(bob: Person, charlie: Person) -> None:
    mine = [make_home(bob, title=f"Home {number}") for number in range(5)]
    make_home(charlie)
    seen: list[str] = []
    path: str | None = "me/listings?limit=2"
    while path:
        page = bob.get(path)
        seen += [home["code"] for home in page.body["results"]]
        path = page.body["next"]
    assert seen == mine[::-1]
