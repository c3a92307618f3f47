"""Every operation of the schema, tried by everybody: nobody sees or changes what is not theirs, and none is untested.

What each of them gets is also held against the schema: a status or a body that it does not describe fails."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Any

import pytest
from django.db import transaction
from django.test import override_settings
from drf_spectacular.generators import SchemaGenerator
from jsonschema import Draft202012Validator

from api import auth
from backoffice.bookings import queries as bookings
from backoffice.core import clock
from backoffice.payouts.models import Payout
from backoffice.people import operations as people
from backoffice.workflows import keep_time
from tests.api.conftest import (
    HOME,
    PASSWORD,
    ROBOT,
    Answer,
    Caller,
    Person,
    book,
    in_days,
    make_home,
    make_person,
    stay,
)

pytestmark = pytest.mark.django_db

WHO = ("anonymous", "guest", "other_guest", "host", "other_host", "suspended", "staff")


@dataclass
class World:
    """Alice's booking of Bob's home, and everybody who might have a go at it."""

    callers: dict[str, Caller]
    alice: Person
    home: str
    draft: str
    paused: str
    version: int
    block: int
    quote: str
    booking: str
    expired: str
    payout: str
    token: str
    refresh: Callable[[], str]


@pytest.fixture(scope="module")
def world(django_db_setup: None, django_db_blocker: Any) -> Iterator[World]:
    """Made once; every test changes it within a transaction of its own that is rolled back."""
    hashers = override_settings(PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"])
    with django_db_blocker.unblock(), hashers, transaction.atomic():
        yield make_world()
        transaction.set_rollback(True)


def make_world() -> World:
    alice, bob, charlie = make_person("Alice"), make_person("Bob", is_host=True), make_person("Charlie", is_host=True)
    eve = make_person("Eve", is_host=True)
    home, paused, other = make_home(bob), make_home(bob), make_home(bob)
    bob.post(f"listings/{paused}/pause")
    book(alice, other)
    draft = bob.post("listings", HOME).body
    block = bob.post(f"listings/{home}/blocks", {"first": in_days(5), "end": in_days(7)}).body["block"]
    expired = book(alice, home, first=100)["code"]
    keep_time.expire_holds(now=clock.now() + timedelta(minutes=16))
    booking = book(alice, home)["code"]
    people.suspend(person_id=eve.id, reason="tests", actor=ROBOT, now=clock.now())
    return World(
        callers={
            "anonymous": Caller(),
            "guest": alice,
            "other_guest": make_person("Dana"),
            "host": bob,
            "other_host": charlie,
            "suspended": eve,
            "staff": make_person("Sam", role="support_l1"),
        },
        alice=alice,
        home=home,
        draft=draft["code"],
        paused=paused,
        version=draft["version"],
        block=block,
        quote=alice.post("quotes", {"listing": home, "guests": 2, **stay(30, 2)}).body["code"],
        booking=booking,
        expired=expired,
        payout=planned(booking),
        token=alice.post(f"bookings/{booking}/cancellation-quote").body["token"],
        refresh=lambda: auth.issue(person_id=alice.id).refresh,
    )


def planned(booking: str) -> str:
    """A payout of the booking as it is planned when it is confirmed; nothing has been paid yet."""
    row = bookings.booking(code=booking)
    return Payout.objects.create(
        booking=row,
        host=row.host,
        number=1,
        held=row.host_price - row.host_fee,
        host_fee=row.host_fee,
        guest_fee=row.guest_fee,
        currency=row.currency,
        due_at=row.check_in_at + timedelta(hours=24),
        policy="tests",
        created_at=clock.now(),
    ).code


@dataclass(frozen=True)
class Case:
    """One request and what each of `WHO` gets for it."""

    operation: str
    path: str
    expected: str
    body: Callable[[World], Any] | None = None

    def __str__(self) -> str:
        return f"{self.operation} {self.path}"


ANYBODY = "200 200 200 200 200 403 200"
SIGNED_IN = "401 200 200 200 200 403 200"
NOT_STAFF = "401 200 200 200 200 403 403"
ITS_HOST = "401 403 403 200 404 403 403"
ITS_OWN_HOST = "401 403 403 200 200 403 403"
ITS_HOST_204 = "401 403 403 204 404 403 403"

CASES = [
    # Open to all, whoever they are signed in as.
    Case("register", "auth/register", " ".join(["201"] * 7), lambda w: {
        "email": f"{uuid.uuid4().hex}@example.org", "password": PASSWORD, "name": "New"}),
    Case("login", "auth/login", " ".join(["200"] * 7), lambda w: {"email": w.alice.email, "password": PASSWORD}),
    Case("refresh", "auth/refresh", " ".join(["200"] * 7), lambda w: {"refresh": w.refresh()}),
    Case("logout", "auth/logout", " ".join(["204"] * 7), lambda w: {"refresh": w.refresh()}),
    # One's own.
    Case("revoke_sessions", "auth/revoke", "401 204 204 204 204 403 204"),
    Case("me", "me", SIGNED_IN),
    Case("edit_me", "me", NOT_STAFF, lambda w: {"name": "Somebody"}),
    Case("become_host", "me/become-host", NOT_STAFF),
    Case("my_notifications", "me/notifications", SIGNED_IN),
    Case("read_notifications", "me/notifications/read", SIGNED_IN, lambda w: {}),
    Case("my_listings", "me/listings", SIGNED_IN),
    # Homes.
    Case("search_listings", "listings?guests=2", ANYBODY),
    Case("create_listing", "listings", "401 403 403 201 201 403 403", lambda w: HOME),
    Case("read_listing", "listings/{home}", ANYBODY),
    Case("read_listing", "listings/{draft}", "404 404 404 200 404 403 200"),
    Case("edit_listing", "listings/{draft}", ITS_HOST, lambda w: {"title": "New", "version": w.version}),
    Case("remove_listing", "listings/{draft}", ITS_HOST_204),
    Case("submit_listing", "listings/{draft}/submit", ITS_HOST),
    Case("pause_listing", "listings/{home}/pause", ITS_HOST),
    Case("resume_listing", "listings/{paused}/resume", ITS_HOST),
    Case("set_photos", "listings/{home}/photos", ITS_HOST, lambda w: {"photos": [{"url": "https://i.example.org/1.jpg"}]}),
    Case("set_night_prices", "listings/{home}/night-prices", ITS_HOST, lambda w: {
        "first": in_days(1), "end": in_days(2), "price": 100}),
    Case("listing_calendar", "listings/{home}/calendar", ANYBODY),
    Case("listing_calendar", "listings/{draft}/calendar", "404 404 404 200 404 403 200"),
    Case("block_nights", "listings/{home}/blocks", "401 403 403 201 404 403 403", lambda w: {
        "first": in_days(1), "end": in_days(2)}),
    Case("free_nights", "listings/{home}/blocks/{block}", ITS_HOST_204),
    # A stay.
    Case("make_quote", "quotes", "401 201 201 409 201 403 403", lambda w: {"listing": w.home, "guests": 1, **stay(10, 2)}),
    Case("read_quote", "quotes/{quote}", "401 200 404 404 404 403 404"),
    Case("list_bookings", "bookings", SIGNED_IN),
    Case("list_bookings", "bookings?as=host", SIGNED_IN),
    Case("create_booking", "bookings", "401 201 404 404 404 403 403", lambda w: {"quote": w.quote}),
    Case("read_booking", "bookings/{booking}", "401 200 404 200 404 403 200"),
    Case("pay_booking", "bookings/{expired}/pay", "401 409 404 404 404 403 403", lambda w: {"payment_method": "pm_card_visa"}),
    Case("quote_cancellation", "bookings/{booking}/cancellation-quote", "401 200 404 200 404 403 200"),
    Case("cancel_booking", "bookings/{booking}/cancel", "401 200 404 422 404 403 200", lambda w: {
        "token": w.token, "reason": "Plans have changed."}),
    # A stay that is asked for, and what is charged beside its payment.
    Case("accept_booking", "bookings/{booking}/accept", "401 403 403 409 404 403 403"),
    Case("decline_booking", "bookings/{booking}/decline", "401 403 403 409 404 403 403", lambda w: {"reason": "Away."}),
    Case("list_charges", "bookings/{booking}/charges", "401 200 404 200 404 403 200"),
    Case("pay_charge", "charges/CH-NONE2222/pay", "401 404 404 404 404 403 404", lambda w: {}),
    # What was paid, for who paid it; what was earned, for who earned it.
    Case("read_receipt", "bookings/{booking}/receipt", "401 409 404 404 404 403 409"),
    Case("print_receipt", "bookings/{booking}/receipt.pdf", "401 409 404 404 404 403 409"),
    Case("list_booking_refunds", "bookings/{booking}/refunds", "401 200 404 404 404 403 200"),
    Case("my_earnings", "me/earnings", ITS_OWN_HOST),
    Case("my_statement", "me/statement", ITS_OWN_HOST),
    Case("print_statement", "me/statement.pdf", ITS_OWN_HOST),
    Case("download_statement", "me/statement.csv", ITS_OWN_HOST),
    Case("list_payouts", "me/payouts", ITS_OWN_HOST),
    Case("read_payout", "me/payouts/{payout}", "401 403 403 200 404 403 403"),
    Case("my_payout_account", "me/payout-account", "401 403 403 404 404 403 403"),
    # The provider is not asked within a test's transaction: where hosts come back to is refused before that.
    Case("set_up_payouts", "me/payout-account", "401 403 403 422 422 403 403", lambda w: {"return_url": "nowhere"}),
]  # fmt: skip


@cache
def schema() -> dict[str, Any]:
    found: dict[str, Any] = SchemaGenerator().get_schema(request=None, public=True)
    return found


@cache
def operations() -> dict[str, tuple[str, dict[str, Any]]]:
    """operation id -> (method, its description)."""
    return {
        operation["operationId"]: (method, operation)
        for path in schema()["paths"].values()
        for method, operation in path.items()
    }


def test_no_operation_is_untested() -> None:
    assert {case.operation for case in CASES} == set(operations())


@pytest.mark.parametrize("case", CASES, ids=str)
def test_who_may_do_what(case: Case, world: World) -> None:
    method, operation = operations()[case.operation]
    path = case.path.format(**vars(world))
    needs_key = "Idempotency-Key" in str(operation.get("parameters", ""))
    found = {}
    for who in WHO:
        with transaction.atomic():
            body = case.body(world) if case.body else None
            headers = {"Idempotency-Key": uuid.uuid4().hex} if needs_key else {}
            answer = world.callers[who].call(method.upper(), path, body, **headers)
            transaction.set_rollback(True)
        found[who] = str(answer.status)
        held_against_the_schema(operation, answer)
    assert found == dict(zip(WHO, case.expected.split(), strict=True))


def held_against_the_schema(operation: dict[str, Any], answer: Answer) -> None:
    described = operation["responses"].get(str(answer.status))
    assert described is not None, f"{operation['operationId']} does not describe {answer.status}: {answer.body}"
    if "content" not in described:
        assert answer.raw == b""
        return
    kind = answer.headers["Content-Type"].split(";")[0]
    assert kind in described["content"], (kind, list(described["content"]))
    if "json" not in kind:
        assert answer.raw, "a document is not empty"
        return
    rules = {**described["content"][kind]["schema"], "components": schema()["components"]}
    problems = [
        f"{list(error.path)}: {error.message}" for error in Draft202012Validator(rules).iter_errors(answer.body)
    ]
    assert problems == []


def test_lists_hold_nothing_of_others(world: World) -> None:
    callers = world.callers
    assert {row["code"] for row in callers["guest"].get("bookings").body["results"]} >= {world.booking}
    for who in ("other_guest", "other_host", "staff"):
        for path in ("bookings", "bookings?as=host", "me/listings"):
            assert callers[who].get(path).body["results"] == []
        codes = {notice["body"] for notice in callers[who].get("me/notifications").body["results"]}
        assert not any(world.booking in body for body in codes)
    seen = callers["guest"].get(f"bookings/{world.booking}").body
    assert "email" not in str(seen) and seen["host_money"] is None


def test_money_is_not_moved_by_guests_or_hosts() -> None:
    """A peer's refund and capture addresses asked only whether one was signed in; here they can only be read."""
    about_money = [
        (path, method)
        for path, methods in schema()["paths"].items()
        for method in methods
        if any(word in path for word in ("refund", "capture", "payout", "receipt", "earning", "statement"))
    ]
    assert about_money and {method for path, method in about_money if not path.endswith("/payout-account")} == {"get"}


def test_every_operation_is_described() -> None:
    for operation_id, (_, operation) in operations().items():
        assert operation["summary"] and operation["tags"], operation_id
        assert "429" in operation["responses"], operation_id
        for status, described in operation["responses"].items():
            if int(status) >= 400:
                assert list(described["content"]) == ["application/problem+json"], (operation_id, status)
    assert schema()["openapi"] == "3.1.0"
