"""What the provider says: the movements of our balance, and its webhooks."""

from __future__ import annotations

from django.db import models

from backoffice.core.fields import currency_code, minor_units, status_check
from backoffice.payments.states import WEBHOOK


class BalanceTransaction(models.Model):
    """One movement of our balance at the provider, as imported; it is in the ledger under `bt:<provider_id>`."""

    provider_id = models.CharField(max_length=80, unique=True)
    type = models.CharField(max_length=60)
    reporting_category = models.CharField(max_length=60)
    source_id = models.CharField(max_length=80, blank=True, default="")
    amount = minor_units()
    fee = minor_units()
    net = minor_units()
    currency = currency_code()
    exchange_rate = models.CharField(max_length=40, blank=True, default="")
    fee_details = models.JSONField(default=list)
    created = models.DateTimeField()
    available_on = models.DateTimeField()
    payout_id = models.CharField(max_length=80, blank=True, default="")
    network = models.CharField(max_length=40, blank=True, default="", help_text="of the card that was charged")
    journal_id = models.BigIntegerField(null=True)
    imported_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.CheckConstraint(
                name="balance_transaction_net", condition=models.Q(net=models.F("amount") - models.F("fee"))
            )
        ]
        indexes = [
            models.Index(name="bt_by_source", fields=["source_id", "reporting_category"]),
            models.Index(
                name="bt_of_disputes",
                fields=["imported_at"],
                condition=models.Q(reporting_category__in=["dispute", "dispute_reversal"]),
            ),
            models.Index(name="bt_newest", fields=["-created", "-id"]),
            # What all movements add up to is asked by each reconciliation: from a quarter of the pages.
            models.Index(
                name="bt_adds_up", fields=["currency"], include=["net", "imported_at", "created", "reporting_category"]
            ),
            # What was converted is little of a large book, and compared with what was promised in each run over it.
            models.Index(name="bt_converted", fields=["created"], condition=~models.Q(exchange_rate="")),
            models.Index(
                name="bt_charges_of_month",
                fields=["created", "network"],
                condition=models.Q(reporting_category="charge"),
            ),
        ]

    def __str__(self) -> str:
        return self.provider_id


class WebhookEvent(models.Model):
    """One event as the provider sent it, byte for byte. It is a hint to ask for the object's present state."""

    event_id = models.CharField(max_length=80, unique=True)
    type = models.CharField(max_length=80)
    object_id = models.CharField(max_length=80, blank=True, default="")
    account = models.CharField(max_length=80, blank=True, default="")
    created = models.DateTimeField()
    livemode = models.BooleanField(default=False)
    payload = models.BinaryField()
    origin = models.CharField(max_length=8, default="webhook", help_text="webhook or poll")
    status = models.CharField(max_length=10, choices=WEBHOOK.choices, default=WEBHOOK.initial)
    attempts = models.PositiveSmallIntegerField(default=0)
    error = models.CharField(max_length=300, blank=True, default="")
    received_at = models.DateTimeField()
    next_attempt_at = models.DateTimeField()
    applied_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [status_check("webhook_status", WEBHOOK.statuses)]
        indexes = [
            models.Index(name="webhook_newest", fields=["-id", "status"]),
            models.Index(
                name="webhook_due", fields=["next_attempt_at"], condition=models.Q(status__in=["received", "failed"])
            ),
            models.Index(name="webhook_by_object", fields=["object_id"]),
        ]

    def __str__(self) -> str:
        return f"{self.type} {self.event_id}"
