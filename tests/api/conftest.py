"""The cast of the API's tests, and a client that speaks JSON as one of them."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from django.test import Client

from api import auth, throttling
from backoffice.core import clock
from backoffice.core.actor import system
from backoffice.listings import operations as listings
from backoffice.people import operations as people
from backoffice.people import queries
from tests.provider import sandbox, sandbox_process  # noqa: F401

PASSWORD = "correct-horse-battery"
ROBOT = system("tests")
HOME: Mapping[str, Any] = {
    "title": "House by the canal",
    "room_type": "entire_home",
    "city": "Antwerp",
    "country": "BE",
    "neighbourhood": "Zurenborg",
    "latitude": 51.2,
    "longitude": 4.4,
    "time_zone": "Europe/Brussels",
    "capacity": 4,
    "currency": "EUR",
    "nightly_price": 13600,
    "cleaning_fee": 2000,
    "amenities": ["Wifi", "Kitchen"],
    "cancellation_tier": "flexible",
}


@dataclass
class Answer:
    """What came back: status, headers and the body as JSON."""

    status: int
    headers: Mapping[str, str]
    body: Any
    raw: bytes = b""

    @property
    def code(self) -> str:
        return str(self.body["code"])


@dataclass
class Caller:
    """Somebody at the API's door; without a token nobody in particular."""

    token: str = ""
    headers: dict[str, str] = field(default_factory=dict)

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        sent: dict[str, str] = {**self.headers, **{name.replace("_", "-"): value for name, value in headers.items()}}
        if self.token:
            sent["Authorization"] = f"Bearer {self.token}"
        url = path if path.startswith(("/", "http")) else f"/api/v1/{path}"
        data = body if isinstance(body, bytes | str) else json.dumps(body) if body is not None else ""
        response = Client(raise_request_exception=False).generic(
            method, url, data, content_type="application/json", headers=sent
        )
        is_json = "json" in response.headers.get("Content-Type", "")
        parsed = json.loads(response.content) if response.content and is_json else None
        return Answer(response.status_code, response.headers, parsed, response.content)

    def get(self, path: str, **headers: str) -> Answer:
        return self.call("GET", path, **headers)

    def post(self, path: str, body: Any = None, **headers: str) -> Answer:
        return self.call("POST", path, {} if body is None else body, **headers)

    def patch(self, path: str, body: Any, **headers: str) -> Answer:
        return self.call("PATCH", path, body, **headers)

    def put(self, path: str, body: Any, **headers: str) -> Answer:
        return self.call("PUT", path, body, **headers)

    def delete(self, path: str, **headers: str) -> Answer:
        return self.call("DELETE", path, **headers)

    def pay_or_book(self, path: str, body: Any, key: str = "") -> Answer:
        """A POST with an idempotency key of its own."""
        return self.call("POST", path, body, Idempotency_Key=key or uuid.uuid4().hex)


@dataclass
class Person(Caller):
    """One of the cast, signed in."""

    id: int = 0
    code: str = ""
    email: str = ""


def make_person(name: str, *, is_host: bool = False, role: str = "") -> Person:
    now = clock.now()
    email = f"{name.lower()}-{uuid.uuid4().hex[:8]}@example.org"
    common = {"email": email, "password": PASSWORD, "name": name, "actor": ROBOT, "now": now}
    user = people.make_demo_staff(role=role, **common) if role else people.register(is_host=is_host, **common)
    return Person(token=auth.issue(person_id=user.id).access, id=user.id, code=user.code, email=email)


def actor_of(person: Person) -> Any:
    return queries.actor_for(user=queries.person(person_id=person.id), now=clock.now())


def make_home(host: Person, **changes: Any) -> str:
    """A published home; returns its code."""
    now = clock.now()
    code = listings.create(fields={**HOME, **changes}, actor=actor_of(host), now=now).code
    listings.submit(code=code, actor=actor_of(host), now=now)
    listings.publish(code=code, actor=ROBOT, now=now)
    return code


def in_days(days: int) -> str:
    # The wall clock: cases are written down before there is a database to ask how far the desk is ahead of it.
    return (datetime.now(UTC).date() + timedelta(days=days)).isoformat()


def stay(first: int = 60, nights: int = 5) -> dict[str, str]:
    return {"check_in": in_days(first), "check_out": in_days(first + nights)}


def book(guest: Caller, home: str, first: int = 60, nights: int = 5) -> dict[str, Any]:
    """An unpaid booking, through the door."""
    quote = guest.post("quotes", {"listing": home, "guests": 2, **stay(first, nights)})
    assert quote.status == 201, quote.body
    booking = guest.pay_or_book("bookings", {"quote": quote.body["code"]})
    assert booking.status == 201, booking.body
    found: dict[str, Any] = booking.body
    return found


@pytest.fixture(autouse=True)
def _quick_passwords(settings: Any, request: pytest.FixtureRequest) -> None:
    if "slow_passwords" not in request.fixturenames:
        settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture
def slow_passwords() -> None:
    """Hash as the desk does."""


@pytest.fixture(autouse=True)
def _fresh_throttles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test starts with an untouched allowance, which no test of another process touches: they share one Redis."""
    monkeypatch.setattr(throttling, "PREFIX", f"{throttling.PREFIX}{uuid.uuid4().hex}:")


@pytest.fixture
def anyone() -> Caller:
    return Caller()


@pytest.fixture
def alice(db: None) -> Person:
    """A guest."""
    return make_person("Alice")


@pytest.fixture
def bob(db: None) -> Person:
    """A host."""
    return make_person("Bob", is_host=True)


@pytest.fixture
def charlie(db: None) -> Person:
    """Guest and host, and a stranger to the other two."""
    return make_person("Charlie", is_host=True)


@pytest.fixture
def sam(db: None) -> Person:
    """Staff: support, first line."""
    return make_person("Sam", role="support_l1")


@pytest.fixture
def home(bob: Person) -> str:
    return make_home(bob)


def parse(moment: str) -> datetime:
    return datetime.fromisoformat(moment)


def day(text: str) -> date:
    return date.fromisoformat(text)
