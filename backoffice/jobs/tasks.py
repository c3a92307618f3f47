from __future__ import annotations

from celery import shared_task

from backoffice.core import clock
from backoffice.core import operations as core
from backoffice.core.actor import system
from backoffice.jobs import operations


@shared_task(name="jobs.heartbeat")
def heartbeat() -> None:
    """Beat sends it and a worker runs it: its arrival proves both."""
    now = clock.now()
    operations.beat(parts=("worker", "beat"), now=now)
    operations.interrupt_dead_runs(now=now)


@shared_task(name="jobs.forget_old_keys")
def forget_old_keys() -> None:
    now = clock.now()
    with operations.running(name="jobs.forget_old_keys", actor=system("beat"), now=now, quiet=True) as run:
        run.count(forgotten=core.forget_old_keys(now=now))
