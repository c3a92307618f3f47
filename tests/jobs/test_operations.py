"""One run at a time, each on record, none left running by a process that died."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime, timedelta

import pytest
from django.conf import settings
from django.db import IntegrityError, connection, transaction

from backoffice.core.actor import Actor, system
from backoffice.core.errors import Conflict, Locked, UpstreamUnavailable
from backoffice.jobs import operations, queries
from backoffice.jobs.models import JobRun, LastSuccess
from backoffice.jobs.operations import Run

ROOMS = ["backoffice.core", "backoffice.jobs"]  # only their tables are emptied after each test

pytestmark = pytest.mark.django_db(transaction=True, available_apps=ROOMS)

NOON = datetime(2026, 7, 10, 12, tzinfo=UTC)
ENGINEER = Actor(kind="cli", id=None, name="mara")


def job(
    name: str = "reconcile.stripe", scope: str = "", *, quiet: bool = False, now: datetime = NOON
) -> AbstractContextManager[Run]:
    return operations.running(name=name, scope=scope, actor=ENGINEER, now=now, args={"day": "2026-07-10"}, quiet=quiet)


def test_a_run_is_on_record_while_it_runs_and_after() -> None:
    with job(scope="2026-07") as run:
        row = queries.run(run_id=run.id or 0)
        assert (row.status, row.actor, row.scope, row.args) == ("running", "mara", "2026-07", {"day": "2026-07-10"})
        assert (row.pid, row.started_at) == (os.getpid(), NOON)
        run.count(matched=3, breaks=0)
        run.count(matched=2)
    row.refresh_from_db()

    assert (row.status, row.counts, row.error) == ("succeeded", {"matched": 5, "breaks": 0}, "")
    assert row.finished_at is not None
    assert timedelta(0) <= row.finished_at - NOON < timedelta(minutes=1)
    assert LastSuccess.objects.get(name="reconcile.stripe").at >= row.finished_at


def test_a_failure_is_on_record_in_one_line_and_goes_on_to_the_caller() -> None:
    def body() -> None:
        with job() as run:
            run.count(matched=1)
            raise_value_error()

    with pytest.raises(ValueError, match="two"):
        body()
    row = JobRun.objects.get()

    assert (row.status, row.error, row.counts) == ("failed", "ValueError: line one line two", {"matched": 1})
    assert not LastSuccess.objects.exists()


def raise_value_error() -> None:
    raise ValueError("line one\nline two")


def test_a_run_that_is_stopped_is_interrupted_not_failed() -> None:
    with pytest.raises(KeyboardInterrupt), job():
        raise KeyboardInterrupt
    assert JobRun.objects.get().status == "interrupted"


def test_a_run_may_find_that_there_is_nothing_to_do() -> None:
    with job() as run:
        run.skip("no movements since the last run")
    assert (JobRun.objects.get().status, JobRun.objects.get().error) == ("skipped", "no movements since the last run")


def test_the_same_scope_runs_once_at_a_time_and_the_refusal_names_the_holder() -> None:
    with job(scope="a") as first:
        with pytest.raises(Locked) as locked, job(scope="a"):
            pass
        with job(scope="b"), job("seed"):
            pass
    assert locked.value.facts["run_id"] == first.id
    assert "reconcile.stripe a is already running since 2026-07-10 12:00:00 UTC" in str(locked.value)
    assert f"by mara, {os.uname().nodename} pid {os.getpid()}" in str(locked.value)
    with job(scope="a"):
        pass


def test_of_many_that_begin_at_once_one_runs() -> None:
    start, results = threading.Barrier(6), []

    def contender() -> None:
        start.wait()
        try:
            with job():
                results.append("ran")
                finish.wait(30)
        except Locked:
            results.append("locked")
        finally:
            connection.close()

    finish = threading.Event()
    threads = [threading.Thread(target=contender) for _ in range(6)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 30
    while len(results) < 6 and time.monotonic() < deadline:
        time.sleep(0.01)
    finish.set()
    for thread in threads:
        thread.join()

    assert sorted(results) == ["locked"] * 5 + ["ran"]


@contextmanager
def another_process(scope: str) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the job's lock, and would hold it for ever."""
    code = f"""
import django; django.setup()
from django.conf import settings
settings.DATABASES["default"]["NAME"] = {connection.settings_dict["NAME"]!r}
import time
from backoffice.core.actor import system
from backoffice.core.clock import now
from backoffice.jobs.operations import running
with running(name="reconcile.stripe", scope={scope!r}, actor=system("night"), now=now()) as run:
    run.checkpoint({{"after": "txn_7"}})
    print("running", flush=True)
    time.sleep(600)
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=settings.BASE_DIR, env=dict(os.environ)
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "running\n"
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_kill_9_frees_the_lock_and_the_next_run_buries_the_dead_one_and_resumes() -> None:
    with another_process("2026-07") as process:
        with pytest.raises(Locked, match=f"by night, .* pid {process.pid}"), job(scope="2026-07"):
            pass
        assert operations.interrupt_dead_runs(now=NOON) == 0, "it is alive"
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        dead = JobRun.objects.get()

        with run_when_free() as run:
            assert run.resume_from == {"after": "txn_7"}
            dead.refresh_from_db()
            assert (dead.status, dead.finished_at) == ("interrupted", NOON)


@contextmanager
def run_when_free() -> Iterator[Run]:
    """The server notices a dead client when it next looks at the socket: at once, but not in no time."""
    deadline = time.monotonic() + 10
    while queries.holder(name="reconcile.stripe", scope="2026-07") and time.monotonic() < deadline:
        time.sleep(0.01)
    with job(scope="2026-07") as run:
        yield run


def test_the_heartbeat_buries_runs_of_dead_processes() -> None:
    dead = JobRun.objects.create(name="seed", actor="x", host="h", pid=1, started_at=NOON, heartbeat_at=NOON)
    with job() as alive:
        assert operations.interrupt_dead_runs(now=NOON) == 1
        assert queries.run(run_id=alive.id or 0).status == "running"
    dead.refresh_from_db()
    assert dead.status == "interrupted"
    assert "can be run again" in dead.error


def test_a_checkpoint_is_kept_with_the_work_it_vouches_for_or_not_at_all() -> None:
    def body() -> None:
        with job() as run:
            with transaction.atomic():
                run.checkpoint(10)
            with transaction.atomic():
                run.checkpoint(20)
                transaction.set_rollback(True)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        body()
    with job() as run:
        assert run.resume_from == 10


def test_a_run_that_ended_well_leaves_nothing_to_resume() -> None:
    with job() as run:
        run.checkpoint(10)
    with job() as run:
        assert run.resume_from is None


def test_a_run_that_lost_its_lock_stops_at_its_next_checkpoint() -> None:
    def body() -> None:
        with job() as run, connection.cursor() as cursor:
            cursor.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_locks WHERE locktype = 'advisory' AND database ="
                " (SELECT oid FROM pg_database WHERE datname = current_database())"
            )
            run.checkpoint(1)

    with pytest.raises(UpstreamUnavailable, match="lost its lock"):
        body()
    assert JobRun.objects.get().status == "failed"


def test_progress_is_written_once_a_second_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    with job() as run:
        run.count(rows=1)
        run.progress()
        assert queries.run(run_id=run.id or 0).counts == {}
        monkeypatch.setattr(operations, "_PROGRESS_EVERY", 0.0)
        run.progress()
        assert queries.run(run_id=run.id or 0).counts == {"rows": 1}


class TestQuiet:
    def test_a_sweep_that_did_nothing_leaves_only_that_it_succeeded(self) -> None:
        for minute in range(3):
            with job(quiet=True, now=NOON + timedelta(minutes=minute)) as run:
                run.count(sent=0)
        assert not JobRun.objects.exists()
        assert LastSuccess.objects.get().at >= NOON + timedelta(minutes=2)

    def test_one_that_did_something_is_on_record(self) -> None:
        with job(quiet=True) as run:
            run.count(sent=2)
        assert (JobRun.objects.get().status, JobRun.objects.get().counts) == ("succeeded", {"sent": 2})

    def test_the_same_failure_again_is_the_same_row(self) -> None:
        for minute in range(3):
            with pytest.raises(ValueError), job(quiet=True, now=NOON + timedelta(minutes=minute)):
                raise_value_error()
        row = JobRun.objects.get()
        assert (row.status, row.counts["failures"], row.started_at) == ("failed", 3, NOON)
        assert row.finished_at is not None
        assert row.finished_at >= NOON + timedelta(minutes=2)

        with pytest.raises(RuntimeError), job(quiet=True):
            raise RuntimeError("another")
        assert JobRun.objects.count() == 2

    def test_its_holder_is_named_too(self) -> None:
        with job(quiet=True), pytest.raises(Locked, match=f"pid {os.getpid()}"), job(quiet=True):
            pass


def test_one_of_many_that_is_refused_does_not_keep_the_others_waiting(caplog: pytest.LogCaptureFixture) -> None:
    def halve(number: int) -> int:
        if number % 2:
            raise Conflict("It is odd.")
        return number // 2

    with caplog.at_level("INFO"):
        assert operations.each([2, 3, 4], halve) == [1, 2]
    assert caplog.messages == ["3 is left for the next tick: It is odd."]
    with pytest.raises(ZeroDivisionError):  # a mistake of ours is none of the answers that a sweep may meet
        operations.each([0], lambda number: 1 // number)


def test_the_database_knows_no_run_that_has_ended_without_an_end() -> None:
    row = JobRun(name="x", actor="x", host="h", pid=1, started_at=NOON, heartbeat_at=NOON, status="succeeded")
    with pytest.raises(IntegrityError, match="job_run_ended"), transaction.atomic():
        row.save()
    row.status, row.finished_at = "sleeping", NOON
    with pytest.raises(IntegrityError, match="job_run_status"), transaction.atomic():
        row.save()


def test_a_cursor_is_kept_between_runs() -> None:
    assert queries.cursor(name="stripe.events") is None
    operations.set_cursor(name="stripe.events", value="evt_1", now=NOON)
    operations.set_cursor(name="stripe.events", value={"after": "evt_2"}, now=NOON)
    assert queries.cursor(name="stripe.events") == {"after": "evt_2"}


def test_the_system_runs_jobs_under_its_process_name() -> None:
    with operations.running(name="x", actor=system("beat"), now=NOON):
        assert JobRun.objects.get().actor == "beat"
