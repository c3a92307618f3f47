"""Changes to the house's own tables."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import connection, transaction

from backoffice.core import clock
from backoffice.core.errors import InFlight, KeyReused, Refused
from backoffice.core.models import ClockOffset, IdempotencyRecord

# A request that holds a key longer than this died without an answer; its repeat may try again.
ABANDONED_AFTER = timedelta(seconds=90)
KEPT_FOR = timedelta(hours=24)

_CLAIM = """
INSERT INTO core_idempotencyrecord (scope, key, request_hash, state, created_at) VALUES (%s, %s, %s, 'started', %s)
ON CONFLICT (scope, key) DO NOTHING RETURNING id"""


def advance_clock(*, seconds: int) -> timedelta:
    """Move the desk's clock forward; returns the whole offset. Raises Refused in production and for a step back."""
    if not settings.VIRTUAL_CLOCK:
        raise Refused("The clock of a production desk cannot be moved.")
    if seconds < 0:
        raise Refused("The clock only moves forward: what has happened stays in the past.")
    with transaction.atomic():
        row, _ = ClockOffset.objects.select_for_update().get_or_create(id=1)  # two advances at once both count
        row.seconds += seconds
        row.save(update_fields=["seconds"])
    clock.forget_offset()
    return timedelta(seconds=row.seconds)


def claim_key(*, scope: str, key: str, request_hash: str, now: datetime) -> IdempotencyRecord:
    """Claim `key` for a request, or return the record that already answered it (state "done").

    Raises KeyReused when the key came with another request, InFlight while the first is being worked on. Must not run
    inside a transaction: a second request sees the claim at once."""
    with connection.cursor() as cursor:
        cursor.execute(_CLAIM, [scope, key, request_hash, now])
        claimed = cursor.fetchone()
    if claimed is not None:
        return IdempotencyRecord(id=claimed[0], scope=scope, key=key, request_hash=request_hash, created_at=now)
    row = IdempotencyRecord.objects.filter(scope=scope, key=key).first()
    if row is None:  # released in this very moment by a first request that came to nothing
        raise InFlight(key=key)
    if row.request_hash != request_hash:
        raise KeyReused(key=key)
    if row.state == "done":
        return row
    # Two repeats of an abandoned request race for it here; the update of one makes the other's condition false.
    taken = IdempotencyRecord.objects.filter(
        pk=row.pk, state="started", created_at=row.created_at, created_at__lt=now - ABANDONED_AFTER
    ).update(created_at=now)
    if not taken:
        raise InFlight(key=key)
    return row


def answer_key(*, record_id: int, status: int, body: Any) -> None:
    """Keep the answer for repeats."""
    IdempotencyRecord.objects.filter(pk=record_id).update(state="done", status=status, body=body)


def release_key(*, record_id: int) -> None:
    """Forget a claim whose request never began to execute, so that it can be repeated."""
    IdempotencyRecord.objects.filter(pk=record_id, state="started").delete()


def forget_old_keys(*, now: datetime) -> int:
    """Drop answers older than a day; returns how many."""
    return IdempotencyRecord.objects.filter(created_at__lt=now - KEPT_FOR).delete()[0]
