from __future__ import annotations

from celery import shared_task

from backoffice.audit import operations
from backoffice.core import clock


@shared_task(name="audit.seal")
def seal() -> None:
    operations.seal(now=clock.now())
