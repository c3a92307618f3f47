"""The inbox of webhooks: stored as they came, claimed by one worker, retried, given up, replayed."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from django.db import transaction

from backoffice.audit import operations as audit
from backoffice.core.actor import Actor
from backoffice.core.errors import (
    NotFound,
)
from backoffice.notifications import operations as notifications
from backoffice.payments.models import (
    WebhookEvent,
)
from backoffice.payments.policies.seen import SeenEvent
from backoffice.payments.states import WEBHOOK

# A webhook that fails is tried again after 10 s, 20 s, 40 s … and given up after this many tries (about three hours).
MOST_TRIES: Final = 10
FIRST_RETRY: Final = timedelta(seconds=10)


def receive_event(*, event: SeenEvent, origin: str, now: datetime) -> WebhookEvent | None:
    """Store an event as it came; None when it is here already. Applying it is another's work, after the commit."""
    # The unique event id makes ten deliveries at once one row: the others find it there and leave it to the first.
    row, fresh = WebhookEvent.objects.get_or_create(
        event_id=event.id,
        defaults={
            "type": event.type,
            "object_id": event.object_id,
            "account": event.account,
            "created": event.created,
            "livemode": event.livemode,
            "payload": event.payload,
            "origin": origin,
            "received_at": now,
            "next_attempt_at": now,
        },
    )
    return row if fresh else None


def claim_event(*, webhook_id: int, now: datetime) -> WebhookEvent | None:
    """Take one webhook to apply it; None when another worker has it or it is done."""
    with transaction.atomic():
        row = (
            WebhookEvent.objects.select_for_update(skip_locked=True)
            .filter(id=webhook_id, status__in=["received", "failed"], next_attempt_at__lte=now)
            .first()
        )
        if row is None:
            return None
        row.attempts += 1
        # If this process dies now, the row is due again after the usual delay; nothing else needs to notice.
        row.next_attempt_at = now + FIRST_RETRY * 2 ** min(row.attempts - 1, MOST_TRIES)
        row.save(update_fields=["attempts", "next_attempt_at"])
        return row


def finish_event(*, webhook_id: int, action: str, error: str = "", now: datetime) -> None:
    """Record what came of a webhook: apply, ignore or fail; the last failure gives up and waits for a person."""
    with transaction.atomic():
        row = WebhookEvent.objects.select_for_update().get(id=webhook_id)
        if action == "fail" and row.attempts >= MOST_TRIES:
            action = "give_up"
        if not WEBHOOK.allows(row.status, action):
            return
        row.status = WEBHOOK.after(row.status, action)
        row.error = error[:300]
        row.applied_at = now if action in {"apply", "ignore"} else None
        row.save(update_fields=["status", "error", "applied_at"])


def replay_webhook(*, event_id: str, actor: Actor, now: datetime) -> WebhookEvent:
    """Apply a webhook anew, whatever became of it before; applying is idempotent."""
    actor.must("webhooks.replay")
    with transaction.atomic():
        row = WebhookEvent.objects.select_for_update().filter(event_id=event_id).first()
        if row is None:
            raise NotFound(kind="webhook")
        before = row.status
        row.status = WEBHOOK.after(row.status, "replay") if row.status != "received" else row.status
        row.attempts = 0
        row.next_attempt_at = now
        row.save(update_fields=["status", "attempts", "next_attempt_at"])
        audit.record(
            actor=actor,
            verb="webhooks.replay",
            kind="webhook",
            id=event_id,
            before={"status": before},
            after={"status": row.status},
            now=now,
        )
        notifications.enqueue(task="workflows.apply_provider_event", kwargs={"webhook_id": row.id}, now=now)
    return row
