"""The allowance: spent at once, given back evenly, one for each."""

from __future__ import annotations

import time
import uuid

import pytest

from api.throttling import parse_rate, wait_for


@pytest.mark.parametrize(
    ("text", "rate"), [("300/min", (300, 60)), ("10/s", (10, 1)), ("30/hour", (30, 3600)), ("5/day", (5, 86400))]
)
def test_rates_are_read(text: str, rate: tuple[int, int]) -> None:
    assert parse_rate(text) == rate


def test_an_allowance_is_spent_at_once_and_comes_back_evenly() -> None:
    ident = uuid.uuid4().hex
    assert [wait_for(scope="test", ident=ident, rate="5/s") for _ in range(5)] == [0] * 5
    wait = wait_for(scope="test", ident=ident, rate="5/s")
    assert 0 < wait <= 0.2  # the next fifth of a second's worth
    time.sleep(wait + 0.01)
    assert wait_for(scope="test", ident=ident, rate="5/s") == 0
    assert wait_for(scope="test", ident=ident, rate="5/s") > 0


def test_a_refused_request_is_not_counted() -> None:
    ident = uuid.uuid4().hex
    waits = [wait_for(scope="test", ident=ident, rate="2/min") for _ in range(50)]
    assert waits[:2] == [0, 0] and all(25 < wait <= 30 for wait in waits[2:])


def test_everybody_and_every_limit_has_their_own() -> None:
    one, other = uuid.uuid4().hex, uuid.uuid4().hex
    assert wait_for(scope="test", ident=one, rate="1/min") == 0
    assert wait_for(scope="test", ident=one, rate="1/min") > 0
    assert wait_for(scope="test", ident=other, rate="1/min") == 0
    assert wait_for(scope="else", ident=one, rate="1/min") == 0
