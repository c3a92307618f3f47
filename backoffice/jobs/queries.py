"""What ran, what is late, what is alive."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from celery import current_app
from django.db import connection
from django.db.models import QuerySet

from backoffice.core.errors import NotFound, Stopped
from backoffice.jobs import policies
from backoffice.jobs.models import Cursor, Heartbeat, JobRun, LastSuccess, Stop


def runs(*, name: str = "", status: str = "") -> QuerySet[JobRun]:
    """Runs, newest first."""
    found = JobRun.objects.order_by("-started_at", "-id")
    if name:
        found = found.filter(name=name)
    if status:
        found = found.filter(status=status)
    return found


def run(*, run_id: int) -> JobRun:
    """One run. Raises NotFound."""
    found = JobRun.objects.filter(id=run_id).first()
    if found is None:
        raise NotFound(kind="job run")
    return found


def stops(*, active_only: bool = True) -> QuerySet[Stop]:
    """Kill switches that are on (or were), newest first."""
    found = Stop.objects.order_by("-since", "-id")
    return found.filter(ended_at=None) if active_only else found


def assert_not_stopped(*, scope: str) -> None:
    """Raises Stopped, with its reason, while the kill switch of `scope` is on."""
    with connection.cursor() as sql:  # asked by every quote and booking: the ORM would take longer than the question
        sql.execute("SELECT reason FROM jobs_stop WHERE ended_at IS NULL AND scope = %s", [scope])
        row = sql.fetchone()
    if row is not None:
        raise Stopped(scope=scope.capitalize(), reason=row[0])


def last_cursor(*, name: str, scope: str = "") -> Any:
    """Where the latest run of this job and scope was when it did not end well; None when there is nothing to resume."""
    last = runs(name=name).filter(scope=scope).exclude(status__in=["running", "skipped"]).first()
    return last.cursor if last is not None and last.status in {"failed", "interrupted"} else None


def cursor(*, name: str) -> Any:
    """The value kept under `name` between runs; None before the first."""
    return Cursor.objects.filter(name=name).values_list("value", flat=True).first()


def next_of(*, rows: QuerySet[Any], key: str, after: Any, limit: int) -> list[Any]:
    """What a sweep is to look at next, each row by its `key`: the first `limit` in the rows' own order (`after` None), or by
    id those behind the row whose key is `after` ("": from the lowest id). `operations.turn` asks it."""
    if after is None:
        return list(rows.values_list(key, flat=True)[:limit])
    if after != "":
        rows = rows.filter(pk__gt=rows.model._default_manager.filter(**{key: after}).values("pk")[:1])
    return list(rows.order_by("pk").values_list(key, flat=True)[:limit])


@dataclass(frozen=True, slots=True)
class LateJob:
    """A job of beat's schedule whose last success is too long ago, or that never succeeded."""

    name: str
    every: timedelta
    last_success_at: datetime | None


def schedule() -> dict[str, timedelta]:
    """The jobs that run by themselves, and how often."""
    entries: Mapping[str, Mapping[str, Any]] = current_app.conf.beat_schedule
    return {
        entry["task"]: timedelta(seconds=float(entry["schedule"]))
        for entry in entries.values()
        if entry["task"] not in policies.NOT_JOBS
    }


def last_successes() -> dict[str, datetime]:
    """When each job last ended well, quiet runs too."""
    return dict(LastSuccess.objects.values_list("name", "at"))


def late_jobs(*, now: datetime) -> list[LateJob]:
    """Scheduled jobs that should have succeeded by now and have not, by name."""
    last = last_successes()
    return [
        LateJob(name, every, last.get(name))
        for name, every in sorted(schedule().items())
        if policies.is_late(every=every, last=last.get(name), now=now)
    ]


@dataclass(frozen=True, slots=True)
class PartAge:
    """How long a part of the desk has not been heard of; the youngest of its processes counts."""

    part: str
    host: str
    pid: int
    version: str
    age: timedelta


def heartbeat_ages(*, now: datetime) -> dict[str, PartAge]:
    """By part ("worker", "beat"), the process that was heard of last."""
    newest: dict[str, PartAge] = {}
    for beat in Heartbeat.objects.order_by("at", "id"):
        newest[beat.part] = PartAge(beat.part, beat.host, beat.pid, beat.version, now - beat.at)
    return newest


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a job's lock: taken from the database's own sessions, so that it is true even of a quiet run."""

    name: str
    since: datetime


def holder(*, name: str, scope: str = "") -> Holder | None:
    """The session that holds the job's lock now."""
    with connection.cursor() as sql:
        sql.execute(
            "SELECT application_name, backend_start FROM pg_locks JOIN pg_stat_activity USING (pid)"
            " WHERE locktype = 'advisory' AND objsubid = 2 AND granted AND pg_locks.database ="
            " (SELECT oid FROM pg_database WHERE datname = current_database())"
            " AND classid::bigint = %s AND objid::bigint = %s",
            [half % (1 << 32) for half in policies.lock_key(name=name, scope=scope)],
        )
        row = sql.fetchone()
    return Holder(*row) if row else None
