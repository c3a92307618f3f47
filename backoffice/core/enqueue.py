"""Hints to the workers. The row in the database is the truth; a lost hint only delays it until beat's next sweep."""

from __future__ import annotations

import logging
from typing import Any

from celery import current_app
from django.db import transaction

log = logging.getLogger(__name__)


def enqueue_after_commit(task: str, **kwargs: Any) -> None:
    """Send `task` by name once the present transaction has committed. A broker that is down is logged, not raised."""
    transaction.on_commit(lambda: _send(task, kwargs))


def _send(task: str, kwargs: dict[str, Any]) -> None:
    try:
        current_app.send_task(task, kwargs=kwargs, retry=False)
    except Exception:  # the broker's errors are many, and none may fail what is already committed
        log.warning("could not hint %s; the sweep will find it", task, exc_info=True)
