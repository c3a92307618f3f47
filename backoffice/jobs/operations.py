"""Running jobs: one at a time per name and scope, each run on record, none left "running" by a process that died."""

from __future__ import annotations

import logging
import os
import socket
import time
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from functools import cache, partial
from typing import Any, TypeVar

from django.conf import settings
from django.db import Error, connection, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from backoffice.audit import operations as audit
from backoffice.core.actor import Actor
from backoffice.core.errors import Invalid, Locked, NotFound, Refused, StaydeskError, UpstreamUnavailable
from backoffice.jobs import policies, queries
from backoffice.jobs.models import Cursor, Heartbeat, JobRun, LastSuccess, Stop
from backoffice.jobs.states import RUN, STOP_SCOPES

log = logging.getLogger(__name__)

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")

# How much of what stays to be asked again one run of a sweep looks at.
AT_A_TIME = 100
_PROGRESS_EVERY = 1.0  # seconds between two writes of a run's progress
_TOLD = ("status", "counts", "heartbeat_at", "finished_at", "error")


class Run:
    """A run in progress, handed to its body."""

    def __init__(self, row: JobRun, lock: BaseDatabaseWrapper) -> None:
        self._row = row
        self._lock = lock
        self._began = time.monotonic()
        self._told = self._began
        self._outcome = "succeed"

    @property
    def id(self) -> int | None:
        """The run's number; None for a quiet run that has nothing on record yet."""
        return self._row.pk

    @property
    def counts(self) -> Mapping[str, int]:
        counts: dict[str, int] = self._row.counts
        return counts

    @property
    def resume_from(self) -> Any:
        """The checkpoint of the last run of this job and scope, when that one did not end well."""
        return self._row.cursor

    def now(self) -> datetime:
        """The instant the run began at, plus what has passed since."""
        return self._row.started_at + timedelta(seconds=time.monotonic() - self._began)

    def count(self, **numbers: int) -> None:
        """Add to the run's counts."""
        for name, number in numbers.items():
            self._row.counts[name] = self._row.counts.get(name, 0) + number

    def progress(self) -> None:
        """Show the counts to those who watch (a quiet run shows nothing), at most once a second.

        Raises UpstreamUnavailable when the run has lost its lock: another may have begun, so this one must stop."""
        if time.monotonic() - self._told >= _PROGRESS_EVERY:
            self._told = time.monotonic()
            self._assert_locked()
            if self.id is not None:
                self._save()

    def checkpoint(self, cursor: Any) -> None:
        """Keep `cursor`, where a repeated run goes on, in the caller's transaction: with the work it vouches for.

        Not in a quiet run, which has `set_cursor`. Raises UpstreamUnavailable when the run has lost its lock."""
        assert self.id is not None, "a quiet run keeps no checkpoints: use set_cursor"
        self._assert_locked()
        JobRun.objects.filter(pk=self.id).update(cursor=cursor, counts=self._row.counts, heartbeat_at=self.now())

    def skip(self, why: str) -> None:
        """End the run as one that had no reason to do anything."""
        self._outcome, self._row.error = "skip", why[: policies.ERROR_LENGTH]

    def _assert_locked(self) -> None:
        try:
            with self._lock.cursor() as sql:
                sql.execute("SELECT 1")
        except Error:
            raise UpstreamUnavailable(
                f"{self._row.name} lost its lock with its connection to the database; it stopped at its last checkpoint.",
                part="database",
            ) from None

    def _save(self) -> None:
        self._row.heartbeat_at = self.now()
        # Never the cursor: the transaction that moved it may have been rolled back, which this object does not know.
        self._row.save(update_fields=_TOLD if self.id else None)

    def _end(self, action: str, error: str = "") -> None:
        self._row.status = RUN.after(self._row.status, action)
        self._row.finished_at = self.now()
        self._row.error = error or self._row.error
        self._save()


@contextmanager
def running(
    *,
    name: str,
    scope: str = "",
    actor: Actor,
    now: datetime,
    args: Mapping[str, Any] | None = None,
    quiet: bool = False,
) -> Iterator[Run]:
    """Run a job that has its `name` and `scope` to itself. Enter it outside any transaction.

    The lock is a session's advisory lock on a connection of its own: it outlives the body's transactions, and goes with
    the process, however that ends. Raises Locked, naming the holder and since when. A `quiet` run (a sweep every few
    seconds) goes on record only when it counted something or failed, and the same failure again only updates the row."""
    lock = _locked_connection(name=name, scope=scope)
    try:
        _bury(name=name, scope=scope, now=now)
        run = Run(_new_row(name=name, scope=scope, actor=actor, now=now, args=args or {}), lock)
        if not quiet:
            run._save()
        try:
            yield run
        except BaseException as error:
            _end_badly(run, error, quiet=quiet)
            raise
        if not quiet or run.id or any(run.counts.values()):
            run._end(run._outcome)
        LastSuccess.objects.update_or_create(name=name, defaults={"at": run.now()})
    finally:
        _let_go(lock)


def _locked_connection(*, name: str, scope: str) -> BaseDatabaseWrapper:
    lock = connection.copy()
    holder = f"{_host()} pid {os.getpid()}"[:63]
    try:
        with lock.cursor() as sql:
            sql.execute(
                "SELECT set_config('application_name', %s, false), pg_try_advisory_lock(%s, %s)",
                [holder, *policies.lock_key(name=name, scope=scope)],
            )
            if sql.fetchone()[1]:
                return lock
        raise _already_running(name=name, scope=scope)
    except BaseException:
        lock.close()
        raise


def _let_go(lock: BaseDatabaseWrapper) -> None:
    """Unlock before closing: the server ends a session a moment after its client has gone."""
    with suppress(Error), lock.cursor() as sql:
        sql.execute("SELECT pg_advisory_unlock_all()")
    lock.close()


def _already_running(*, name: str, scope: str) -> Locked:
    row = queries.runs(name=name, status="running").filter(scope=scope).first()
    session = queries.holder(name=name, scope=scope)
    since = row.started_at if row else session.since if session else None
    return Locked(
        job=f"{name} {scope}".rstrip(),
        since=since.strftime("%Y-%m-%d %H:%M:%S UTC") if since else "a moment ago",
        holder=(f"run {row.pk} by {row.actor}, " if row else "") + (session.name if session else "just ending"),
        run_id=row.pk if row else None,
    )


def _bury(*, name: str, scope: str, now: datetime) -> None:
    """We hold the lock, so whatever else claims to be running under it has died."""
    for row in JobRun.objects.filter(name=name, scope=scope, status="running"):
        _interrupt(row, now)


def _interrupt(row: JobRun, now: datetime) -> int:
    return JobRun.objects.filter(pk=row.pk, status="running").update(
        status=RUN.after("running", "interrupt"),
        finished_at=now,
        error="The process ended without a word; what it had committed stays, and the job can be run again.",
    )


def _new_row(*, name: str, scope: str, actor: Actor, now: datetime, args: Mapping[str, Any]) -> JobRun:
    return JobRun(
        name=name,
        scope=scope,
        args=dict(args),
        actor=_who(actor),
        host=_host(),
        pid=os.getpid(),
        version=version(),
        started_at=now,
        heartbeat_at=now,
        cursor=queries.last_cursor(name=name, scope=scope),
    )


def _end_badly(run: Run, error: BaseException, *, quiet: bool) -> None:
    line = policies.one_line(error)
    try:
        if isinstance(error, Exception):
            if not (quiet and run.id is None and _failed_again(run, line)):
                run._end("fail", line)
        else:
            run._end("interrupt", line)
    except Error:  # must not hide why the run failed
        log.exception("could not record how %s ended", run._row.name)


def _failed_again(run: Run, line: str) -> bool:
    """A sweep that fails every few seconds for the same reason is one line in the list, not thousands."""
    last = queries.runs(name=run._row.name).filter(scope=run._row.scope).first()
    if last is None or last.status != "failed" or last.error != line:
        return False
    last.counts["failures"] = last.counts.get("failures", 1) + 1
    last.finished_at = last.heartbeat_at = run.now()
    last.save(update_fields=["counts", "finished_at", "heartbeat_at"])
    return True


def each(items: Iterable[Item], act: Callable[[Item], Outcome]) -> list[Outcome]:
    """Act on each of what a sweep has found; returns what came of those that could be acted on.

    One that is refused now must not keep the others waiting: it is logged, and found again at the next tick."""
    done = []
    for item in items:
        try:
            done.append(act(item))
        except StaydeskError as error:
            log.info("%s is left for the next tick: %s", item, error)
    return done


def turn(*, ask: partial[list[Item]], now: datetime, size: int | None = None) -> list[Item]:
    """What a sweep looks at in this run, at most `size` (AT_A_TIME unless said): all that there is, or a part in its turn.

    What cannot be settled stays among what is asked for: were the first always looked at, those behind them never would.
    `ask` is a query of some room that answers as `queries.next_of` does; where it got to is kept under its name."""
    size = size or AT_A_TIME
    first = ask(after=None, limit=size)
    if len(first) < size:
        return first
    name = f"turn:{ask.func.__module__}.{ask.func.__name__}"
    place = queries.cursor(name=name) or ""
    found = ask(after=place, limit=size)
    if len(found) < size:
        found += [item for item in ask(after="", limit=size) if item not in found][: size - len(found)]
    # Before they are looked at: a run that dies of one of them does not begin with it again.
    set_cursor(name=name, value=found[-1], now=now)
    return found


def interrupt_dead_runs(*, now: datetime) -> int:
    """Mark runs whose process has died, so that no list shows them as running; returns how many."""
    rows = list(JobRun.objects.filter(status="running"))  # read before the locks: a run ends before it unlocks
    return sum(_interrupt(row, now) for row in rows if queries.holder(name=row.name, scope=row.scope) is None)


def stop(*, scope: str, reason: str, actor: Actor, now: datetime) -> Stop:
    """Throw a kill switch: nothing new of `scope` begins until `resume`; what is under way ends by itself.

    Stopping what is stopped changes nothing. Raises Invalid for an unknown scope, Refused without a reason."""
    actor.must("stops.switch")
    _known(scope)
    if not reason.strip():
        raise Refused(missing="a reason")
    with transaction.atomic():
        # Two people at once: the unique index lets one row be; the other finds it.
        row, fresh = Stop.objects.get_or_create(
            scope=scope, ended_at=None, defaults={"reason": reason.strip(), "by": _who(actor), "since": now}
        )
        if fresh:
            audit.record(
                actor=actor.because(reason), verb="stops.stop", kind="stop", id=scope, after={"stopped": True}, now=now
            )
    return row


def resume(*, scope: str, reason: str, actor: Actor, now: datetime) -> Stop:
    """Let what was stopped go on. Raises Invalid for an unknown scope, NotFound when it is not stopped, Refused without a
    reason."""
    actor.must("stops.switch")
    _known(scope)
    if not reason.strip():
        raise Refused(missing="a reason")
    with transaction.atomic():
        row = Stop.objects.select_for_update().filter(scope=scope, ended_at=None).first()
        if row is None:
            raise NotFound(f"{scope.capitalize()} are not stopped; there is nothing to resume.", kind="stop")
        row.ended_at, row.ended_by, row.ended_reason = now, _who(actor), reason.strip()
        row.save(update_fields=["ended_at", "ended_by", "ended_reason"])
        audit.record(
            actor=actor.because(reason), verb="stops.resume", kind="stop", id=scope, after={"stopped": False}, now=now
        )
    return row


def set_cursor(*, name: str, value: Any, now: datetime) -> None:
    """Keep how far a job has read, in the caller's transaction. `queries.cursor` reads it."""
    Cursor.objects.update_or_create(name=name, defaults={"value": value, "updated_at": now})


def beat(*, parts: tuple[str, ...], now: datetime) -> None:
    """Note that the parts are alive: this process, and who sent it the task."""
    Heartbeat.objects.bulk_create(
        [Heartbeat(part=part, host=_host(), pid=os.getpid(), version=version(), at=now) for part in parts],
        update_conflicts=True,
        unique_fields=["part", "host"],
        update_fields=["pid", "version", "at"],
    )


def _known(scope: str) -> None:
    if scope not in STOP_SCOPES:
        raise Invalid(f"scope: write one of {', '.join(STOP_SCOPES)}.", field="scope")


def _who(actor: Actor) -> str:
    return (actor.name or f"{actor.kind} {actor.id}")[:120]


@cache
def _host() -> str:
    return socket.gethostname()


@cache
def version() -> str:
    """Of the code that runs, as its project says."""
    project = tomllib.loads((settings.BASE_DIR / "pyproject.toml").read_text())["project"]
    return str(project["version"])
