"""Answers kept for repeated requests."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import partial

import pytest

from backoffice.core import operations
from backoffice.core.errors import InFlight, KeyReused
from backoffice.core.models import IdempotencyRecord
from tests.racing import race

pytestmark = pytest.mark.django_db
NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)


def claim(key: str = "k", body: str = "a", *, scope: str = "api:1", now: datetime = NOW) -> IdempotencyRecord:
    return operations.claim_key(scope=scope, key=key, request_hash=body, now=now)


def test_the_first_claims_and_the_repeat_is_answered_with_the_first_answer() -> None:
    first = claim()
    assert first.state == "started"
    operations.answer_key(record_id=first.id, status=201, body={"code": "BK-1"})
    again = claim(now=NOW + timedelta(hours=23))
    assert (again.id, again.state, again.status, again.body) == (first.id, "done", 201, {"code": "BK-1"})


def test_while_the_first_is_at_work_a_repeat_is_told_to_wait() -> None:
    claim()
    with pytest.raises(InFlight):
        claim(now=NOW + operations.ABANDONED_AFTER)


@pytest.mark.parametrize("later", [timedelta(0), timedelta(minutes=10)], ids=["at work", "abandoned"])
@pytest.mark.parametrize("done", [False, True])
def test_another_request_under_the_key_is_refused_whenever_it_comes(done: bool, later: timedelta) -> None:
    first = claim()
    if done:
        operations.answer_key(record_id=first.id, status=200, body={})
    with pytest.raises(KeyReused):
        claim(body="b", now=NOW + later)
    first.refresh_from_db()
    assert first.request_hash == "a" and first.created_at == NOW


def test_a_request_that_died_is_taken_over_once() -> None:
    first = claim()
    late = NOW + operations.ABANDONED_AFTER + timedelta(seconds=1)
    assert claim(now=late).id == first.id
    with pytest.raises(InFlight):
        claim(now=late + timedelta(seconds=1))


def test_keys_of_different_people_never_meet() -> None:
    assert claim(scope="api:1").id != claim(scope="api:2", body="b").id


def test_a_claim_that_came_to_nothing_is_released_and_an_answer_is_not() -> None:
    operations.release_key(record_id=claim().id)
    assert not IdempotencyRecord.objects.exists()
    answered = claim()
    operations.answer_key(record_id=answered.id, status=200, body=None)
    operations.release_key(record_id=answered.id)
    assert IdempotencyRecord.objects.count() == 1


def test_answers_are_kept_for_a_day() -> None:
    claim("old", now=NOW - operations.KEPT_FOR - timedelta(seconds=1))
    claim("young", now=NOW - operations.KEPT_FOR)
    assert operations.forget_old_keys(now=NOW) == 1
    assert IdempotencyRecord.objects.get().key == "young"


@pytest.mark.django_db(transaction=True, available_apps=["backoffice.core"])
def test_of_many_at_once_one_is_first() -> None:
    outcomes = race([claim] * 12)
    assert [type(outcome).__name__ for outcome in outcomes].count("InFlight") == 11
    assert IdempotencyRecord.objects.count() == 1


@pytest.mark.django_db(transaction=True, available_apps=["backoffice.core"])
def test_of_many_who_take_over_an_abandoned_request_one_does() -> None:
    claim()
    late = NOW + operations.ABANDONED_AFTER + timedelta(seconds=1)
    outcomes = race([partial(claim, now=late)] * 12)
    assert [type(outcome).__name__ for outcome in outcomes].count("InFlight") == 11
