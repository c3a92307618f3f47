"""A worker keeps its database connection from task to task, and does without one that has died meanwhile."""

from __future__ import annotations

import pytest
from celery.fixups.django import DjangoWorkerFixup
from django.db import connection

from backoffice.celery import app
from backoffice.jobs import tasks
from backoffice.jobs.models import Heartbeat
from tests.desk import RunningDesk, wait_until


def run_a_task(desk: RunningDesk) -> set[int]:
    """Let the worker run one; the backends of the database besides ours when it has."""
    before = Heartbeat.objects.filter(part="worker").values_list("at", flat=True).first()
    desk.broker.send_task("jobs.heartbeat")
    wait_until(
        lambda: Heartbeat.objects.filter(part="worker").exclude(at=before).exists(),
        seconds=30,
        otherwise=desk.workers[-1].said,
    )
    return backends()


def backends() -> set[int]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
            " AND backend_type = 'client backend'"
        )
        return {pid for (pid,) in cursor.fetchall()}


def test_a_worker_keeps_its_connection_until_it_dies(back_office: RunningDesk) -> None:
    back_office.worker()
    kept = run_a_task(back_office)
    assert len(kept) == 1
    assert run_a_task(back_office) == kept
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(pid) FROM unnest(%s) AS pid", [list(kept)])
    wait_until(lambda: not backends(), seconds=10)
    assert run_a_task(back_office).isdisjoint(kept), "the next task has a new one, and was done"


@pytest.mark.django_db(transaction=True)
def test_after_a_thousand_tasks_a_worker_takes_a_new_connection() -> None:
    """What a server keeps for a connection grows with it; celery's part of a worker is told of every task's begin and end."""
    worker, task = DjangoWorkerFixup(app), tasks.heartbeat

    def connection_of_a_task() -> int:
        worker.on_task_prerun(sender=task)
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_backend_pid()")
            (pid,) = cursor.fetchone()
        worker.on_task_postrun(sender=task)
        return int(pid)

    pids = [connection_of_a_task() for _ in range(2_500)]
    assert [pids.count(pid) for pid in dict.fromkeys(pids)] == [1_000, 1_000, 500]
