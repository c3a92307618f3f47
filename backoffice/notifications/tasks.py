from __future__ import annotations

from contextlib import suppress
from typing import Any

from celery import shared_task

from backoffice.core import clock
from backoffice.core.actor import system
from backoffice.core.errors import Locked
from backoffice.jobs import operations as jobs
from backoffice.notifications import operations


@shared_task(name="notifications.deliver")
def deliver(*, ids: list[int], **_: Any) -> None:
    for message_id in ids:
        operations.deliver(message_id=message_id, now=clock.now())


@shared_task(name="notifications.sweep_outbox")
def sweep_outbox(**_: Any) -> None:
    now = clock.now()
    with (
        suppress(Locked),  # the last sweep is still at it
        jobs.running(name="notifications.sweep_outbox", actor=system("beat"), now=now, quiet=True) as run,
    ):
        run.count(**operations.deliver_due(now=now))
