"""Two small tables of the house itself: the offset of its clock, and answers kept for repeated requests."""

from __future__ import annotations

from django.db import models

from backoffice.core.fields import status_check


class ClockOffset(models.Model):
    """How far this desk runs ahead of the wall clock; one row. Production never writes it."""

    id = models.SmallIntegerField(primary_key=True, default=1)
    seconds = models.BigIntegerField(default=0)

    class Meta:
        constraints = [models.CheckConstraint(name="clock_offset_one_row", condition=models.Q(id=1))]

    def __str__(self) -> str:
        return f"clock + {self.seconds} s"


class IdempotencyRecord(models.Model):
    """The first answer to a request with an Idempotency-Key, replayed to its repeats for 24 hours."""

    scope = models.CharField(max_length=80, help_text="whose key: door and actor")
    key = models.CharField(max_length=255)
    request_hash = models.CharField(max_length=64)
    state = models.CharField(max_length=10, default="started")
    status = models.SmallIntegerField(null=True)
    body = models.JSONField(null=True)
    created_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(name="idempotency_key_once", fields=["scope", "key"]),
            status_check("idempotency_state", ("started", "done"), "state"),
        ]
        indexes = [models.Index(name="idempotency_age", fields=["created_at"])]

    def __str__(self) -> str:
        return f"{self.scope} {self.key}"
