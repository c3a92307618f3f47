from __future__ import annotations

from datetime import timedelta

import pytest
from celery import current_app

from backoffice.core import clock
from backoffice.core.models import IdempotencyRecord
from backoffice.jobs import queries, tasks
from backoffice.jobs.models import JobRun

ROOMS = ["backoffice.core", "backoffice.jobs"]  # only their tables are emptied after each test

pytestmark = pytest.mark.django_db(transaction=True, available_apps=ROOMS)


def test_the_heartbeat_proves_worker_and_beat() -> None:
    tasks.heartbeat()
    ages = queries.heartbeat_ages(now=clock.now())
    assert set(ages) == {"worker", "beat"}
    assert all(part.age < timedelta(seconds=10) for part in ages.values())


def test_old_keys_are_forgotten_and_the_run_is_on_record() -> None:
    for hours in (1, 25):
        IdempotencyRecord.objects.create(
            scope="x", key=str(hours), request_hash="h", created_at=clock.now() - timedelta(hours=hours)
        )
    tasks.forget_old_keys()
    assert [record.key for record in IdempotencyRecord.objects.all()] == ["1"]
    assert JobRun.objects.get().counts == {"forgotten": 1}


def test_tasks_are_known_by_the_names_that_beat_sends() -> None:
    assert {"jobs.heartbeat", "jobs.forget_old_keys"} <= set(current_app.tasks)
