"""What waits to go out, what could not, and what a person has not read."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import Count, Min, Q, QuerySet

from backoffice.notifications import policies
from backoffice.notifications.models import Notification, OutboxMessage
from backoffice.notifications.states import WAITING


def messages(*, status: str = "", channel: str = "", recipient_id: int | None = None) -> QuerySet[OutboxMessage]:
    """Messages, newest first."""
    found = OutboxMessage.objects.order_by("-created_at", "-id")
    if status:
        found = found.filter(status=status)
    if channel:
        found = found.filter(channel=channel)
    if recipient_id is not None:
        found = found.filter(recipient_id=recipient_id)
    return found


def due(*, now: datetime) -> QuerySet[OutboxMessage]:
    """Messages whose hint was lost or whose next attempt has come, the longest waiting first."""
    never_tried = Q(attempts=0, created_at__lte=now - policies.HINT_LOST_AFTER)
    return OutboxMessage.objects.filter(
        never_tried | Q(attempts__gt=0, next_attempt_at__lte=now), status__in=WAITING
    ).order_by("next_attempt_at", "id")


@dataclass(frozen=True, slots=True)
class Backlog:
    """What has not gone out: waiting ones, given-up ones, and the age of the oldest that waits."""

    pending: int
    failing: int
    dead: int
    oldest: timedelta | None


def backlog(*, now: datetime) -> Backlog:
    """The state of the outbox; healthy when nothing waits longer than half a minute and nothing is dead."""
    unsent = OutboxMessage.objects.filter(status__in=[*WAITING, "dead"])
    found = unsent.aggregate(
        pending=Count("id", filter=Q(status="pending")),
        failing=Count("id", filter=Q(status="failed")),
        dead=Count("id", filter=Q(status="dead")),
        oldest=Min("created_at", filter=Q(status__in=WAITING)),
    )
    oldest = found.pop("oldest")
    return Backlog(**found, oldest=now - oldest if oldest else None)


def notices(*, recipient_id: int, unread_only: bool = False) -> QuerySet[Notification]:
    """What a person was told in the application, newest first."""
    found = Notification.objects.filter(recipient_id=recipient_id).order_by("-created_at", "-id")
    return found.filter(read_at__isnull=True) if unread_only else found


def unread(*, recipient_id: int) -> int:
    """How many of them the person has not read."""
    return notices(recipient_id=recipient_id, unread_only=True).count()
