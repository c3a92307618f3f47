"""What is to go out, and what a person finds in the application. Recipients by id and address as sent: no foreign key,
since people live on a higher floor."""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from backoffice.core.fields import status_check
from backoffice.notifications.states import CHANNELS, OUTBOX, WAITING


class OutboxMessage(models.Model):
    """One message or task, written with the change that it tells of. The row is the truth; a hint only hurries it."""

    channel = models.CharField(max_length=10, choices=[(name, name) for name in CHANNELS])
    topic = models.CharField(max_length=80, help_text="what it is about; for a task, the task's name")
    recipient_id = models.BigIntegerField(null=True)
    address = models.TextField(blank=True, help_text="e-mail address as sent")
    subject = models.TextField(blank=True)
    body = models.TextField(blank=True)
    payload = models.JSONField(default=dict)
    dedupe_key = models.CharField(max_length=200, blank=True, help_text="the same key is written once")
    status = models.CharField(max_length=10, choices=OUTBOX.choices, default=OUTBOX.initial)
    attempts = models.SmallIntegerField(default=0)
    next_attempt_at = models.DateTimeField()
    created_at = models.DateTimeField()
    sent_at = models.DateTimeField(null=True)
    error = models.CharField(max_length=300, blank=True)

    class Meta:
        db_table = "outbox_message"
        constraints = [
            status_check("outbox_status", OUTBOX.statuses),
            status_check("outbox_channel", CHANNELS, "channel"),
            models.UniqueConstraint(name="outbox_once", fields=["dedupe_key"], condition=~Q(dedupe_key="")),
            models.CheckConstraint(
                name="outbox_sent_at", condition=Q(status="sent", sent_at__isnull=False) | ~Q(status="sent")
            ),
        ]
        indexes = [
            models.Index(name="outbox_waiting", fields=["next_attempt_at"], condition=Q(status__in=WAITING)),
            models.Index(name="outbox_dead", fields=["-created_at"], condition=Q(status="dead")),
            models.Index(name="outbox_recipient", fields=["recipient_id", "-created_at"]),
        ]

    def __str__(self) -> str:
        return f"message {self.pk} {self.topic}"


class Notification(models.Model):
    """What a person finds in the application."""

    recipient_id = models.BigIntegerField()
    topic = models.CharField(max_length=80)
    title = models.TextField()
    body = models.TextField()
    link = models.TextField(blank=True)
    created_at = models.DateTimeField()
    read_at = models.DateTimeField(null=True)

    class Meta:
        db_table = "notification"
        indexes = [
            models.Index(name="notification_of", fields=["recipient_id", "-created_at", "-id"]),
            models.Index(name="notification_unread", fields=["recipient_id"], condition=Q(read_at__isnull=True)),
        ]

    def __str__(self) -> str:
        return f"notification {self.pk} {self.topic}"
