"""`ops stop` and `ops resume`: a kill switch is thrown with a reason, seen in every door, and let go."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from backoffice.audit import queries as audit
from backoffice.core.errors import Stopped
from backoffice.jobs import queries as jobs
from ops_cli.commands.status import _stopped
from ops_cli.output import Exit
from tests.ops_cli.conftest import Answered

pytestmark = pytest.mark.django_db
Ops = Callable[..., Answered]


@pytest.mark.parametrize("scope", ["payouts", "refunds", "bookings"])
def test_a_scope_is_stopped_seen_and_resumed(ops: Ops, scope: str) -> None:
    assert ops("stop", "--list").code == Exit.DONE
    (row,) = ops("stop", scope, "--reason", "transfers doubled").rows
    assert (row["scope"], row["reason"], row["ended_at"]) == (scope, "transfers doubled", None)
    with pytest.raises(Stopped, match="transfers doubled"):
        jobs.assert_not_stopped(scope=scope)
    listed = ops("stop", "--list")
    assert listed.code == Exit.FINDINGS and listed.summary == {"stopped": [scope]}
    examined = ops("doctor", "--check", "stops")
    assert examined.code == Exit.FINDINGS
    assert "transfers doubled" in examined.rows[0]["detail"] and f"ops resume {scope}" in examined.rows[0]["fix"]
    (ended,) = ops("resume", scope, "--reason", "they were reversed").rows
    assert ended["ended_at"] and ended["ended_reason"] == "they were reversed"
    jobs.assert_not_stopped(scope=scope)
    assert ops("doctor", "--check", "stops").code == Exit.DONE
    assert ops("stop", "--list").rows == [] and len(ops("stop", "--list", "--all").rows) == 1
    kept = {entry.verb: entry.reason for entry in audit.entries() if entry.object_id == scope}
    assert kept == {"stops.stop": "transfers doubled", "stops.resume": "they were reversed"}


def test_status_shows_what_is_stopped_and_stays_silent_while_the_database_is_away(ops: Ops) -> None:
    ops("stop", "refunds", "--reason", "the bank has an outage")
    assert _stopped([{"part": "postgres", "state": "external"}]) == {"refunds": "the bank has an outage"}
    assert _stopped([{"part": "postgres", "state": "stopped"}]) == {} == _stopped([])


def test_stopping_twice_is_one_stop_with_its_first_reason(ops: Ops) -> None:
    ops("stop", "payouts", "--reason", "first")
    (row,) = ops("stop", "payouts", "--reason", "second").rows
    assert row["reason"] == "first" and jobs.stops(active_only=False).count() == 1


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("stop", "payouts"), Exit.REFUSED, "a reason is missing"),
        (("resume", "payouts", "--reason", "x"), Exit.FAILURE, "Payouts are not stopped"),
        (("resume", "everything", "--reason", "x"), Exit.USAGE, "payouts, refunds, bookings"),
        (("resume", "payouts"), Exit.REFUSED, "a reason is missing"),
        (("stop", "everything", "--reason", "x"), Exit.USAGE, "payouts, refunds, bookings"),
        (("stop",), Exit.USAGE, "--list"),
        (("stop", "payouts", "--list"), Exit.USAGE, "--list"),
    ],
)
def test_what_is_missing_is_said(ops: Ops, arguments: tuple[str, ...], code: Exit, says: str) -> None:
    found = ops(*arguments)
    assert found.code == code and says in found.said and not jobs.stops().exists()
