from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from backoffice.core.actor import system
from backoffice.core.errors import NotFound
from backoffice.jobs import operations, queries
from backoffice.jobs.models import Heartbeat, LastSuccess

pytestmark = pytest.mark.django_db

NOON = datetime(2026, 7, 10, 12, tzinfo=UTC)


def test_the_schedule_is_beats_without_what_proves_itself() -> None:
    schedule = queries.schedule()
    assert schedule["notifications.sweep_outbox"] == timedelta(seconds=5)
    assert "jobs.heartbeat" not in schedule
    assert "audit.seal" not in schedule


def test_late_are_the_jobs_that_did_not_succeed_in_time() -> None:
    names = sorted(queries.schedule())
    assert [job.name for job in queries.late_jobs(now=NOON)] == names

    LastSuccess.objects.bulk_create([LastSuccess(name=name, at=NOON) for name in names])
    assert queries.late_jobs(now=NOON + timedelta(seconds=30)) == []
    (late, *_) = queries.late_jobs(now=NOON + timedelta(days=1))
    assert (late.name, late.last_success_at) == (names[0], NOON)


def test_of_each_part_the_process_heard_of_last_counts() -> None:
    Heartbeat.objects.create(part="worker", host="a", pid=1, at=NOON - timedelta(minutes=5))
    Heartbeat.objects.create(part="worker", host="b", pid=2, at=NOON - timedelta(seconds=4))
    ages = queries.heartbeat_ages(now=NOON)
    assert set(ages) == {"worker"}
    assert (ages["worker"].host, ages["worker"].age) == ("b", timedelta(seconds=4))


def test_a_heartbeat_replaces_the_one_before() -> None:
    operations.beat(parts=("worker", "beat"), now=NOON)
    operations.beat(parts=("worker", "beat"), now=NOON + timedelta(seconds=10))
    ages = queries.heartbeat_ages(now=NOON + timedelta(seconds=12))
    assert {part: age.age.total_seconds() for part, age in ages.items()} == {"worker": 2, "beat": 2}
    assert ages["worker"].version.count(".") == 2


def test_runs_are_listed_newest_first_by_name_and_status() -> None:
    for hour in range(2):
        with operations.running(name="seed", actor=system("x"), now=NOON + timedelta(hours=hour)):
            pass
    with operations.running(name="other", actor=system("x"), now=NOON):
        pass
    assert [run.started_at.hour for run in queries.runs(name="seed", status="succeeded")] == [13, 12]
    with pytest.raises(NotFound):
        queries.run(run_id=0)
