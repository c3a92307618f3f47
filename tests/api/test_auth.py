"""Accounts and sessions: nobody becomes more than they are, and no token outlives its welcome."""

from __future__ import annotations

import statistics
import time
from typing import Any

import pytest
from rest_framework_simplejwt.token_blacklist.models import OutstandingToken
from rest_framework_simplejwt.tokens import AccessToken, RefreshToken

from api import auth, throttling
from backoffice.core import clock
from backoffice.people import operations as people
from backoffice.people import queries
from tests.api.conftest import PASSWORD, ROBOT, Caller, Person

pytestmark = pytest.mark.django_db


def register(anyone: Caller, **changes: Any) -> Any:
    body = {"email": "dana@example.org", "password": PASSWORD, "name": "Dana"} | changes
    return anyone.post("auth/register", body)


def test_a_person_registers_signs_in_and_reads_who_they_are(anyone: Caller) -> None:
    made = register(anyone, email=" Dana@Example.ORG ", is_host=True, currency="SGD")
    assert made.status == 201
    assert made.body["person"]["email"] == "dana@example.org" and made.body["person"]["is_host"] is True
    assert Caller(made.body["access"]).get("me").body["currency"] == "SGD"
    signed_in = anyone.post("auth/login", {"email": "DANA@example.org", "password": PASSWORD})
    assert signed_in.status == 200
    me = Caller(signed_in.body["access"]).get("me")
    assert me.body["code"] == made.body["person"]["code"]


@pytest.mark.parametrize(
    "field", ["is_staff", "is_superuser", "is_admin", "role", "roles", "status", "id", "code", "version", "grants"]
)
def test_nothing_is_set_by_guessing_its_name(anyone: Caller, field: str) -> None:
    """A peer's registration took `is_staff: true` and answered with staff tokens."""
    refused = register(anyone, **{field: True})
    assert (refused.status, refused.code) == (422, "invalid")
    assert refused.body["errors"] == [
        {"field": field, "code": "unknown_field", "detail": "There is no such field, or it cannot be set."}
    ]
    assert not queries.people().filter(email="dana@example.org").exists()


def test_a_registered_person_is_never_staff(anyone: Caller) -> None:
    made = register(anyone)
    person = queries.person_by_code(code=made.body["person"]["code"])
    assert (person.is_staff, person.roles.count()) == (False, 0)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"email": "nobody"}, "email"),
        ({"email": ""}, "email"),
        ({"email": None}, "email"),
        ({"email": "a\x00b@example.org"}, "email"),
        ({"password": "short"}, "password"),
        ({"password": "1234567890"}, "password"),
        ({"name": ""}, "name"),
        ({"name": "x" * 121}, "name"),
        ({"name": ["Dana"]}, "name"),
        ({"name": 7}, "name"),
        ({"currency": "euro"}, "currency"),
        ({"currency": "€€€"}, "currency"),
        ({"is_host": "perhaps"}, "is_host"),
    ],
)
def test_a_bad_field_is_named(anyone: Caller, changes: dict[str, Any], field: str) -> None:
    refused = register(anyone, **changes)
    assert (refused.status, refused.body["field"]) == (422, field), refused.body


def test_an_address_has_one_account(anyone: Caller) -> None:
    register(anyone)
    again = register(anyone, email="DANA@example.org")
    assert (again.status, again.code) == (409, "conflict")


def test_wrong_password_and_unknown_address_get_the_same_answer(anyone: Caller, alice: Person) -> None:
    wrong = anyone.post("auth/login", {"email": alice.email, "password": "not-this-one"})
    unknown = anyone.post("auth/login", {"email": "nobody@example.org", "password": "not-this-one"})
    assert (wrong.status, unknown.status) == (401, 401)
    for answer in (wrong.body, unknown.body):
        answer.pop("request_id")
    assert wrong.body == unknown.body


@pytest.mark.usefixtures("slow_passwords")
def test_an_unknown_address_takes_as_long_as_a_wrong_password(anyone: Caller) -> None:
    register(anyone)

    def median_of(email: str) -> float:
        taken = []
        for _ in range(3):
            begun = time.perf_counter()
            with pytest.raises(auth.NotSignedIn):
                auth.person_by_password(email=email, password="not-this-one")
            taken.append(time.perf_counter() - begun)
        return statistics.median(taken)

    known, unknown = median_of("dana@example.org"), median_of("nobody@example.org")
    assert unknown > known / 2  # hashing dominates both; without it the unknown address answers a hundred times faster


def test_a_refresh_token_is_good_once_and_its_second_use_ends_every_session(anyone: Caller, alice: Person) -> None:
    other_session = auth.issue(person_id=alice.id).refresh
    first = auth.issue(person_id=alice.id).refresh
    second = anyone.post("auth/refresh", {"refresh": first})
    assert second.status == 200
    stolen = anyone.post("auth/refresh", {"refresh": first})
    assert (stolen.status, stolen.code) == (401, "not_signed_in")
    for token in (second.body["refresh"], other_session):
        assert anyone.post("auth/refresh", {"refresh": token}).status == 401


def test_logging_out_ends_one_session_and_revoking_all(anyone: Caller, alice: Person) -> None:
    one, two, three = (auth.issue(person_id=alice.id).refresh for _ in range(3))
    assert anyone.post("auth/logout", {"refresh": one}).status == 204
    assert anyone.post("auth/logout", {"refresh": one}).status == 204  # repeating it changes nothing
    assert anyone.post("auth/refresh", {"refresh": two}).status == 200
    assert alice.post("auth/revoke").status == 204
    assert anyone.post("auth/refresh", {"refresh": three}).status == 401


def test_the_database_keeps_no_token_that_lets_somebody_in(alice: Person) -> None:
    assert set(OutstandingToken.objects.values_list("token", flat=True)) == {""}


def test_only_an_access_token_opens_the_door_and_only_a_refresh_token_is_refreshed(
    anyone: Caller, alice: Person
) -> None:
    tokens = auth.issue(person_id=alice.id)
    assert Caller(tokens.refresh).get("me").status == 401
    assert anyone.post("auth/refresh", {"refresh": tokens.access}).status == 401
    forged = RefreshToken()
    forged["user_id"] = str(alice.id)  # signed by us, but never issued
    assert anyone.post("auth/refresh", {"refresh": str(forged)}).status == 401


@pytest.mark.parametrize("claim", ["abc", "", "-1", str(10**30), None, [], {"a": 1}])
def test_a_signed_token_for_nobody_is_refused(db: None, claim: Any) -> None:
    token = AccessToken()
    token["user_id"] = claim
    answer = Caller(str(token)).get("me")
    assert (answer.status, answer.headers["WWW-Authenticate"]) == (401, "Bearer")


@pytest.mark.parametrize("raw", ["", "x", "a.b.c", "ey" + "A" * 5000, "ÿ"])
def test_a_bearer_that_is_no_token_is_refused_also_where_nobody_need_sign_in(db: None, raw: str) -> None:
    for path in ("me", "listings"):
        answer = Caller().get(path, Authorization=f"Bearer {raw}")
        assert (answer.status, answer.code) == (401, "not_signed_in")


def test_a_suspended_person_is_refused_at_once_everywhere(anyone: Caller, alice: Person) -> None:
    refresh = auth.issue(person_id=alice.id).refresh
    people.suspend(person_id=alice.id, reason="fraud", actor=ROBOT, now=clock.now())
    for answer in (
        alice.get("me"),
        alice.get("listings"),
        alice.post("quotes", {}),
        anyone.post("auth/refresh", {"refresh": refresh}),
        anyone.post("auth/login", {"email": alice.email, "password": PASSWORD}),
    ):
        assert (answer.status, answer.code) == (403, "suspended")
    wrong = anyone.post("auth/login", {"email": alice.email, "password": "not-this-one"})
    assert wrong.status == 401  # whether an account is suspended is told to its owner only


def test_logins_are_limited_per_address(anyone: Caller, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(settings.REST_FRAMEWORK["DEFAULT_THROTTLE_RATES"], "login", "3/min")
    answers = [
        anyone.post("auth/login", {"email": f"p{number}@example.org", "password": "wrong"}) for number in range(4)
    ]
    assert [answer.status for answer in answers] == [401, 401, 401, 429]
    assert answers[-1].code == "too_many_requests" and 1 <= int(answers[-1].headers["Retry-After"]) <= 60


def test_logins_are_limited_per_account_from_wherever_they_come(
    anyone: Caller, alice: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(throttling, "ACCOUNT_RATE", "3/hour")
    monkeypatch.setattr(throttling, "_address", lambda request: request.META["HTTP_X_FAR"])
    statuses = [
        anyone.post("auth/login", {"email": alice.email.upper(), "password": "wrong"}, X_Far=f"10.0.0.{number}").status
        for number in range(4)
    ]
    assert statuses == [401, 401, 401, 429]


def test_without_redis_people_work_on_but_nobody_guesses_passwords(
    anyone: Caller, alice: Person, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    settings.REDIS_URL = "redis://127.0.0.1:9/0"  # nothing listens on the discard port
    throttling._redis.cache_clear()
    throttling._redis_script.cache_clear()
    try:
        assert alice.get("me").status == 200
        refused = anyone.post("auth/login", {"email": alice.email, "password": PASSWORD})
    finally:
        throttling._redis.cache_clear()
        throttling._redis_script.cache_clear()
    assert (refused.status, refused.code) == (503, "upstream_unavailable")
    assert refused.headers["Retry-After"]


def test_a_guest_becomes_a_host_once(alice: Person) -> None:
    assert alice.post("me/become-host").body["is_host"] is True
    assert alice.post("me/become-host").body["version"] == alice.get("me").body["version"]


def test_editing_oneself(alice: Person) -> None:
    changed = alice.patch("me", {"name": "  Alice   Liddell ", "currency": "GBP"})
    assert (changed.status, changed.body["name"], changed.body["currency"]) == (200, "Alice Liddell", "GBP")
    for body in ({}, {"email": "new@example.org"}, {"is_staff": True}, {"name": ""}, [], [1], None):
        assert alice.patch("me", body if body is not None else "null").status == 422, body


def test_what_one_was_told_is_read_page_by_page_and_marked(alice: Person, bob: Person) -> None:
    from backoffice.notifications import operations as notifications

    for number in range(5):
        notifications.tell(
            topic="welcome",
            recipient_id=alice.id,
            address=alice.email,
            context={"name": f"Alice {number}"},
            now=clock.now(),
        )
    seen: list[int] = []
    path = "me/notifications?limit=2"
    while path:
        page = alice.get(path)
        seen += [notice["id"] for notice in page.body["results"]]
        path = page.body["next"]
    assert len(seen) == 6 and seen == sorted(seen, reverse=True)  # five, and the welcome at registration
    assert bob.post("me/notifications/read", {"ids": seen}).body == {"read": 0}
    assert alice.post("me/notifications/read", {"ids": seen[:1]}).body == {"read": 1}
    assert len(alice.get("me/notifications?unread=true").body["results"]) == 5
    assert alice.post("me/notifications/read").body == {"read": 5}
