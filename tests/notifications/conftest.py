from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

import pytest
import redis
from celery import Celery
from django.core.mail import EmailMessage
from django.core.mail.backends.base import BaseEmailBackend
from django.db import transaction
from pytest_django import Settings

from backoffice import celery_app
from backoffice.notifications import operations
from backoffice.notifications.models import OutboxMessage

# Only their tables are emptied after each test.
ROOMS = [f"backoffice.{room}" for room in ("core", "audit", "jobs", "notifications")]
NOON = datetime(2026, 7, 10, 12, tzinfo=UTC)
ADA = {"topic": "welcome", "recipient_id": 7, "address": "ada@example.org", "context": {"name": "Ada"}}


@dataclass
class MailServer:
    """What a mail server was given, and what it answers next."""

    received: list[EmailMessage] = field(default_factory=list)
    answer: Exception | None = None
    on_receive: Callable[[], object] = lambda: None


_server = MailServer()


class Backend(BaseEmailBackend):
    def send_messages(self, email_messages: Sequence[EmailMessage]) -> int:
        _server.on_receive()
        if _server.answer is not None:
            raise _server.answer
        for message in email_messages:
            message.message()  # as a real one does: a header that cannot be written is an error
        _server.received += email_messages
        return len(email_messages)


@pytest.fixture
def mail(settings: Settings) -> MailServer:
    """The mail server of the test."""
    global _server
    settings.EMAIL_BACKEND = f"{__name__}.Backend"
    _server = MailServer()
    return _server


@dataclass(frozen=True)
class Broker:
    """A queue of the test's own in the real Redis, which can go away and come back."""

    app: Celery
    client: redis.Redis
    queue: str

    def tasks(self) -> list[tuple[str, dict[str, Any]]]:
        """Name and arguments of what waits in the queue, oldest first."""
        found = []
        for raw in reversed(self.client.lrange(self.queue, 0, -1)):
            message = json.loads(raw)
            _, kwargs, _ = json.loads(base64.b64decode(message["body"]))
            found.append((message["headers"]["task"], kwargs))
        return found

    def go_away(self) -> None:
        """As if nobody listened at the broker's address."""
        away = Celery(
            "away",
            broker="redis://127.0.0.1:1/0",
            broker_transport_options=celery_app.conf.broker_transport_options,
            set_as_current=False,
        )
        away.set_current()

    def come_back(self) -> None:
        self.app.set_current()


@pytest.fixture
def broker(settings: Settings) -> Iterator[Broker]:
    """Send to a queue of the test's own."""
    queue = f"test-{uuid.uuid4().hex}"
    app = Celery("test", broker=settings.REDIS_URL, task_default_queue=queue, set_as_current=False)
    client = redis.Redis.from_url(settings.REDIS_URL)
    app.set_current()
    try:
        yield Broker(app, client, queue)
    finally:
        celery_app.set_current()
        client.delete(queue)
        client.close()


class Tell(Protocol):
    def __call__(self, **facts: Any) -> OutboxMessage: ...


@pytest.fixture
def tell() -> Tell:
    """Tell Ada something and commit."""

    def told(**facts: Any) -> OutboxMessage:
        with transaction.atomic():
            message_id = operations.tell(**{**ADA, "now": NOON, **facts})
        return OutboxMessage.objects.get(id=message_id)

    return told
