from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backoffice.core.errors import Refused
from backoffice.jobs import policies

NOON = datetime(2026, 7, 10, 12, tzinfo=UTC)


@given(st.text(), st.text())
def test_a_lock_is_two_32_bit_numbers_that_depend_on_name_and_scope_alone(name: str, scope: str) -> None:
    key = policies.lock_key(name=name, scope=scope)
    assert all(-(2**31) <= half < 2**31 for half in key)
    assert key == policies.lock_key(name=name, scope=scope)
    assert policies.lock_key(name=name, scope=scope + "x")[0] == key[0]


@pytest.mark.parametrize(("count", "approved"), [(50, False), (51, True)])
def test_a_bulk_job_over_fifty_rows_needs_a_second_person(count: int, approved: bool) -> None:
    policies.check_bulk(count=count, what="events", approved=approved)
    with pytest.raises(Refused, match="51 events at once"):
        policies.check_bulk(count=51, what="events", approved=False)


@pytest.mark.parametrize(
    ("every", "silent_for", "late"),
    [
        (5, 0, False),
        (5, 30, False),  # three ticks are 15 s, but nobody is called for less than half a minute
        (5, 31, True),
        (3600, 3 * 3600, False),
        (3600, 3 * 3600 + 1, True),
    ],
)
def test_a_job_is_late_after_three_missed_ticks(every: int, silent_for: int, late: bool) -> None:
    last = NOON - timedelta(seconds=silent_for)
    assert policies.is_late(every=timedelta(seconds=every), last=last, now=NOON) is late


def test_a_job_that_never_succeeded_is_late() -> None:
    assert policies.is_late(every=timedelta(days=1), last=None, now=NOON)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("first\n  second"), "ValueError: first second"),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
        (ValueError("x" * 900), "ValueError: " + "x" * 488),
    ],
)
def test_an_error_is_kept_as_one_line(error: BaseException, line: str) -> None:
    assert policies.one_line(error) == line
