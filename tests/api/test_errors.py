"""Whatever goes wrong is a problem document with a code that the docs list; nothing is ever our 5xx."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

from api import endpoint, errors
from api.v1 import me
from backoffice.core import errors as house
from tests.api.conftest import Caller, Person

DOCS = Path(settings.BASE_DIR) / "docs" / "errors.md"


def tree(error: type[house.StaydeskError] = house.StaydeskError) -> Iterator[type[house.StaydeskError]]:
    yield error
    for child in error.__subclasses__():
        if child.__module__ == house.__name__:  # a command's own refusals never reach the API
            yield from tree(child)


def documented() -> dict[str, str]:
    """code -> status, from the tables of docs/errors.md."""
    rows = re.findall(r"^\| `(\w+)` \| ([\d, ]+) \|", DOCS.read_text(encoding="utf-8"), re.MULTILINE)
    return dict(rows)


def test_the_docs_list_every_code_with_its_status() -> None:
    ours = {error.code: str(errors.status_of(error)) for error in tree()}
    ours["stale_version"] = "409, 412"
    door = {code: str(status) for code, (status, _) in errors.DOOR_CODES.items()}
    assert documented() == ours | door


def test_a_code_means_one_thing() -> None:
    codes = [error.code for error in tree()] + list(errors.DOOR_CODES)
    assert len(codes) == len(set(codes))


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ("{", 400, "malformed"),
        ("", 422, "invalid"),
        ('{"name": NaN}', 400, "malformed"),
        ('{"name": Infinity}', 400, "malformed"),
        ('{"name": 1e', 400, "malformed"),
        (b"\xff\xfe{}", 400, "malformed"),
        ("[" * 100_000, 400, "malformed"),
        ('{"name": ' + "9" * 5000 + "}", 400, "malformed"),
        ('{"name": "' + "x" * 1_000_001 + '"}', 413, "payload_too_large"),
        ("[]", 422, "invalid"),
        ("null", 422, "invalid"),
        ('"text"', 422, "invalid"),
        ("7", 422, "invalid"),
        ('{"name": "a\\u0000b"}', 422, "invalid"),
        ('{"name": "\\ud800"}', 400, "malformed"),
        ('{"\\uDFFF": 1}', 400, "malformed"),
        ('{"name": {"a": []}}', 422, "invalid"),
        ('{"name": true}', 422, "invalid"),
        ('{"name": 1e400}', 422, "invalid"),
        (json.dumps({f"f{number}": 1 for number in range(500)}), 422, "invalid"),
    ],
)
def test_a_body_that_cannot_be_used(alice: Person, body: Any, status: int, code: str) -> None:
    answer = alice.patch("me", body)
    assert (answer.status, answer.code) == (status, code), answer.body
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.body["status"] == status and answer.body["instance"] == "/api/v1/me"


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "nowhere", 404, "not_found"),
        ("GET", "listings/", 404, "not_found"),
        ("GET", "listings/LS-%00ABCD", 404, "not_found"),
        ("GET", "listings/..%2f..%2fetc", 404, "not_found"),
        ("GET", "listings/LS-" + "A" * 5000, 404, "not_found"),
        ("GET", "listings/LS-ZZZZZZZZ", 404, "not_found"),
        ("GET", "bookings/BK-ZZZZZZ", 404, "not_found"),
        ("GET", "quotes/QT-ZZZZZZ", 404, "not_found"),
        ("DELETE", "listings/LS-ZZZZZZZZ/blocks/99999999999999999999", 404, "not_found"),
        ("DELETE", "listings/LS-ZZZZZZZZ/blocks/-1", 404, "not_found"),
        ("DELETE", "me", 405, "method_not_allowed"),
        ("TRACE", "me", 405, "method_not_allowed"),
        ("GET", "listings?cursor=%00", 422, "invalid"),
        ("GET", "listings?cursor=W10", 422, "invalid"),
        ("GET", "listings?q=%00", 422, "invalid"),
        ("GET", "listings?limit=0", 422, "invalid"),
        ("GET", "listings?limit=101", 422, "invalid"),
        ("GET", "listings?limit=%C2%B2", 422, "invalid"),
        ("GET", "listings?colour=red", 422, "invalid"),
        ("GET", "bookings?cursor=WyJhIl0", 422, "invalid"),
        ("GET", "bookings?as=admin", 422, "invalid"),
        ("GET", "me/listings?cursor=Wy0xXQ&limit=x", 422, "invalid"),
    ],
)
def test_an_address_that_cannot_be_used(bob: Person, method: str, path: str, status: int, code: str) -> None:
    answer = bob.call(method, path)
    assert (answer.status, answer.code) == (status, code), answer.body
    assert answer.headers["Content-Type"] == "application/problem+json"


@pytest.mark.django_db
def test_other_media_types_are_refused(alice: Person) -> None:
    assert alice.patch("me", {"name": "x"}, Accept="text/html").code == "not_acceptable"
    from django.test import Client

    form = Client().patch(
        "/api/v1/me",
        b"name=x",
        content_type="application/x-www-form-urlencoded",
        headers={"Authorization": f"Bearer {alice.token}"},
    )
    assert (form.status_code, form.json()["code"]) == (415, "unsupported_media_type")


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("given", "kept"), [("abc-DEF_1.2", True), ("x" * 65, False), ("a b", False), ("", False), ("é", False)]
)
def test_a_request_has_an_id_from_end_to_end(alice: Person, given: str, kept: bool) -> None:
    answer = alice.get("listings/LS-ZZZZZZZZ", X_Request_Id=given)
    assert (answer.headers["X-Request-Id"] == given) is kept
    assert answer.body["request_id"] == answer.headers["X-Request-Id"]


@pytest.mark.django_db
def test_the_audit_log_knows_the_request_and_the_address(alice: Person) -> None:
    from backoffice.audit import queries as audit

    alice.patch("me", {"name": "Alice Liddell"}, X_Request_Id="find-me-again")
    entry = audit.entries().filter(verb="people.edit").first()
    assert entry is not None and entry.request_id == "find-me-again" and entry.address


@pytest.mark.django_db
def test_a_fault_of_ours_tells_nothing_but_the_request_id(alice: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Any, request: Any) -> None:
        raise RuntimeError("secret")

    monkeypatch.setattr(me.Me, "get", fail)
    answer = alice.get("me")
    assert (answer.status, answer.code) == (500, "internal_error")
    assert b"secret" not in answer.raw and answer.body["request_id"]


@pytest.mark.parametrize(
    ("forwarded", "proxies", "address"),
    [
        ("", 0, "10.0.0.9"),
        ("1.2.3.4", 0, "10.0.0.9"),  # nobody stands in front of us: the header is the client's invention
        ("1.2.3.4", 1, "1.2.3.4"),
        ("6.6.6.6, 1.2.3.4", 1, "1.2.3.4"),
        ("6.6.6.6, 1.2.3.4, 10.0.0.1", 2, "1.2.3.4"),
        ("1.2.3.4", 2, "1.2.3.4"),
    ],
)
def test_the_address_is_the_one_our_own_proxies_saw(forwarded: str, proxies: int, address: str) -> None:
    from django.test import RequestFactory

    request = RequestFactory().get("/", REMOTE_ADDR="10.0.0.9", HTTP_X_FORWARDED_FOR=forwarded)
    assert endpoint.address_of(request, proxies) == address


@pytest.mark.django_db
def test_anonymous_requests_are_limited_and_told_when_to_come_back(
    anyone: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(settings.REST_FRAMEWORK["DEFAULT_THROTTLE_RATES"], "address", "2/min")
    answers = [anyone.get("listings") for _ in range(3)]
    assert [answer.status for answer in answers] == [200, 200, 429]
    assert 1 <= int(answers[-1].headers["Retry-After"]) <= 60
