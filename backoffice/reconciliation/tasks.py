"""Reconciling by itself: what has not come to its end every hour, everything every night."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from celery import shared_task

from backoffice.core import clock
from backoffice.core.errors import Locked, UpstreamUnavailable
from backoffice.jobs import operations as jobs
from backoffice.reconciliation import provider


@shared_task(name="reconciliation.state")
def state(**_: Any) -> None:
    _with_job("reconciliation.state", "state")


@shared_task(name="reconciliation.all")
def everything(**_: Any) -> None:
    _with_job("reconciliation.all", "all")


def _with_job(name: str, scope: str) -> None:
    """A provider that is away is asked again at the next tick; a run that is under way is as good as ours."""
    now = clock.now()
    with (
        suppress(Locked, UpstreamUnavailable),
        jobs.running(name=name, actor=provider.ACTOR, now=now, quiet=True) as run,
    ):
        run.count(findings=provider.keep_up(scope=scope, now=now))
