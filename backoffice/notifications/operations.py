"""Telling people, and handing work to the workers, such that neither is lost or done for a change that was rolled back.

A row is written in the caller's transaction. Delivery is at least once: whoever dies between sending and noting it
leaves a message that is sent again, with the same Message-ID."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from celery import current_app
from django.conf import settings
from django.core.mail import EmailMessage
from django.db import connection, transaction

from backoffice.audit import operations as audit
from backoffice.core.actor import Actor
from backoffice.core.enqueue import enqueue_after_commit
from backoffice.core.errors import NotFound
from backoffice.notifications import policies, queries
from backoffice.notifications.models import Notification, OutboxMessage
from backoffice.notifications.states import OUTBOX

log = logging.getLogger(__name__)

# Both rows in one round trip: every operation of the house ends with this. A key that was used before writes neither.
_TELL = """
WITH message AS (
    INSERT INTO outbox_message (channel, topic, recipient_id, address, subject, body, payload, dedupe_key, status,
                                attempts, next_attempt_at, created_at, sent_at, error)
    VALUES (%(channel)s, %(topic)s, %(recipient)s, %(address)s, %(subject)s, %(body)s, %(payload)s, %(key)s, %(status)s,
            0, %(now)s, %(now)s, %(sent_at)s, '')
    ON CONFLICT (dedupe_key) WHERE NOT dedupe_key = '' DO NOTHING
    RETURNING id
), notice AS (
    INSERT INTO notification (recipient_id, topic, title, body, link, created_at)
    SELECT %(recipient)s, %(topic)s, %(subject)s, %(text)s, %(link)s, %(now)s FROM message
    WHERE %(recipient)s::bigint IS NOT NULL AND NOT %(channel)s = 'task'
)
SELECT id FROM message
"""

_CLAIM = """
UPDATE outbox_message SET attempts = attempts + 1, next_attempt_at = %(lease)s
WHERE id = %(id)s AND status IN ('pending', 'failed') AND (attempts = 0 OR next_attempt_at <= %(now)s)
RETURNING *
"""


def tell(
    *,
    topic: str,
    recipient_id: int | None,
    address: str,
    context: Mapping[str, str],
    now: datetime,
    dedupe_key: str = "",
    language: str = "en",
) -> int | None:
    """Tell a person, in the caller's transaction: an e-mail to `address` and a notice in the application.

    Without an address only the notice, without a recipient only the e-mail. `context` holds amounts and dates as they
    are read. Returns the message's id, None when `dedupe_key` was told before. Raises Invalid for an unknown topic or a
    field that is missing from `context`: errors of the calling code."""
    message = policies.write(topic=topic, context=context, language=language)
    return _put(
        channel="email" if address else "in_app",
        topic=topic,
        recipient=recipient_id,
        address=address,
        subject=message.subject,
        body=message.body,
        text=message.text,
        link=message.link,
        payload="{}",
        key=dedupe_key,
        status="pending" if address else "sent",  # a notice has arrived where it is written
        sent_at=None if address else now,
        now=now,
    )


def enqueue(*, task: str, kwargs: Mapping[str, Any], now: datetime, dedupe_key: str = "") -> int | None:
    """Hand `task` to the workers once the caller's transaction has committed; losing the broker loses nothing.

    The task may arrive more than once and must bear it. `kwargs` are plain JSON. Returns the message's id, None when
    `dedupe_key` was enqueued before."""
    return _put(
        channel="task",
        topic=task,
        recipient=None,
        address="",
        subject="",
        body="",
        text="",
        link="",
        payload=json.dumps(kwargs),
        key=dedupe_key,
        status="pending",
        sent_at=None,
        now=now,
    )


def _put(**values: Any) -> int | None:
    with connection.cursor() as cursor:
        cursor.execute(_TELL, values)
        row = cursor.fetchone()
    if row is None:
        return None
    message_id: int = row[0]
    if values["status"] == "pending":
        enqueue_after_commit("notifications.deliver", ids=[message_id])
    return message_id


def deliver(*, message_id: int, now: datetime) -> bool:
    """Send one message, outside any transaction; True when it was sent by this call.

    The claim is one conditional UPDATE, so of two deliverers one finds nothing to do; it lapses after a minute, for the
    case that this process dies. A failure is noted with the time of the next attempt, the eighth is the last."""
    message = _claim(message_id, now)
    if message is None:
        return False
    try:
        _send(message)
    except Exception as error:  # whatever a mail server or broker raises, the message must not be lost for it
        _note_failure(message, error, now)
        return False
    _note(message, status=OUTBOX.after(message.status, "send"), sent_at=now, error="")
    return True


def deliver_due(*, now: datetime, limit: int = 500) -> dict[str, int]:
    """Send what a lost hint or an earlier failure left behind; returns how many were sent and how many failed."""
    ids = list(queries.due(now=now).values_list("id", flat=True)[:limit])
    sent = sum(deliver(message_id=message_id, now=now) for message_id in ids)
    return {"sent": sent, "not_sent": len(ids) - sent}


def retry(*, message_id: int, actor: Actor, now: datetime) -> OutboxMessage:
    """Give a dead message another eight attempts. Raises NotFound, IllegalTransition when it is not dead."""
    actor.must("jobs.run")
    with transaction.atomic():
        # Two people may press the button at once: the second sees that the message waits again.
        message = OutboxMessage.objects.select_for_update().filter(id=message_id).first()
        if message is None:
            raise NotFound(kind="message")
        message.status = OUTBOX.after(message.status, "retry")
        message.attempts, message.next_attempt_at, message.error = 0, now, ""
        message.save(update_fields=["status", "attempts", "next_attempt_at", "error"])
        audit.record(
            actor=actor,
            verb="notifications.retry",
            kind="message",
            id=message.pk,
            before={"status": "dead"},
            after={"status": message.status},
            now=now,
        )
        enqueue_after_commit("notifications.deliver", ids=[message.pk])
    return message


def mark_read(*, recipient_id: int, ids: Sequence[int] | None = None, now: datetime) -> int:
    """Mark a person's own notices as read, all of them without `ids`; returns how many were unread."""
    found = queries.notices(recipient_id=recipient_id, unread_only=True)
    if ids is not None:
        found = found.filter(id__in=ids)
    return Notification.objects.filter(pk__in=found.order_by().values("pk")).update(read_at=now)


def _claim(message_id: int, now: datetime) -> OutboxMessage | None:
    claimed = OutboxMessage.objects.raw(_CLAIM, {"id": message_id, "now": now, "lease": now + policies.LEASE})
    return next(iter(claimed), None)


def _send(message: OutboxMessage) -> None:
    if message.channel == "task":
        current_app.send_task(message.topic, kwargs=message.payload, retry=False)
        return
    EmailMessage(
        subject=message.subject,
        body=message.body,
        to=[message.address],
        headers={"Message-ID": message_header(message_id=message.pk)},
    ).send()


def message_header(*, message_id: int) -> str:
    """The Message-ID of every attempt to send this message, by which receivers drop a repeat."""
    return f"<outbox-{message_id}@{urlsplit(settings.SITE_URL).hostname}>"


def _note_failure(message: OutboxMessage, error: Exception, now: datetime) -> None:
    verdict = policies.after_failure(channel=message.channel, attempts=message.attempts, now=now)
    line = " ".join(f"{type(error).__name__}: {error}".split())[: policies.ERROR_LENGTH]
    log.warning("message %s (%s), attempt %s: %s", message.pk, message.topic, message.attempts, line)
    _note(
        message,
        status=OUTBOX.after(message.status, verdict.action),
        next_attempt_at=verdict.next_attempt_at,
        error=line,
    )


def _note(message: OutboxMessage, **fields: Any) -> None:
    # Only while the claim is still ours: after a minute's silence another may have taken the message.
    OutboxMessage.objects.filter(pk=message.pk, attempts=message.attempts).update(**fields)
