"""Money in and money back, the provider's balance transactions, and the inbox of its webhooks."""

from __future__ import annotations

from typing import Final

from django.conf import settings
from django.db import models

from backoffice.bookings.models import Booking
from backoffice.core.fields import currency_code, minor_units, new_code, status_check
from backoffice.payments.states import ATTEMPT, BEARERS, PAYMENT, REFUND, REFUND_CAUSES, WEBHOOK

# What a captured amount is made of, in the listing's currency. A refund is made of the same parts.
PARTS: Final = ("held", "host_fee", "guest_fee", "vat", "occupancy_tax")


def new_payment_code() -> str:
    return new_code("PY", 8)


def new_refund_code() -> str:
    return new_code("RF", 8)


class Payment(models.Model):
    """One attempt chain to collect the money of a booking: a PaymentIntent at the provider.

    `amount` of `currency` is what the guest is charged; the parts are what it is for, in `booking.currency`."""

    code = models.CharField(max_length=20, unique=True, default=new_payment_code)
    booking = models.OneToOneField(Booking, on_delete=models.PROTECT, related_name="payment")
    status = models.CharField(max_length=20, choices=PAYMENT.choices, default=PAYMENT.initial)
    amount = minor_units()
    currency = currency_code()
    held = minor_units(help_text="the host's share")
    host_fee = minor_units()
    guest_fee = minor_units()
    vat = minor_units()
    occupancy_tax = minor_units()
    provider = models.CharField(max_length=20, default="stripe")
    provider_id = models.CharField(max_length=80, null=True, unique=True, help_text="pi_…")
    charge_id = models.CharField(max_length=80, null=True, unique=True, help_text="ch_…")
    last_error = models.CharField(max_length=300, blank=True, default="")
    next_action_url = models.URLField(max_length=500, blank=True, default="")
    created_at = models.DateTimeField()
    captured_at = models.DateTimeField(null=True)
    version = models.PositiveIntegerField(default=1)

    class Meta:
        constraints = [
            status_check("payment_status", PAYMENT.statuses),
            models.CheckConstraint(name="payment_positive", condition=models.Q(amount__gt=0)),
            models.CheckConstraint(
                name="payment_captured_has_charge",
                condition=~models.Q(status="captured") | models.Q(charge_id__isnull=False, captured_at__isnull=False),
            ),
        ]
        indexes = [
            models.Index(name="payment_newest", fields=["-id", "status"]),
            models.Index(
                name="payment_open",
                fields=["created_at"],
                condition=models.Q(status__in=["processing", "requires_action", "requires_payment"]),
            ),
        ]

    def __str__(self) -> str:
        return self.code

    @property
    def parts(self) -> dict[str, int]:
        return {part: getattr(self, part) for part in PARTS}


class PaymentAttempt(models.Model):
    """One try with one card; its key goes to the provider, so that the same try is never two charges."""

    payment = models.ForeignKey(Payment, on_delete=models.PROTECT, related_name="attempts")
    number = models.PositiveSmallIntegerField()
    idempotency_key = models.CharField(max_length=120, unique=True)
    payment_method = models.CharField(max_length=120)
    status = models.CharField(max_length=16, choices=ATTEMPT.choices, default=ATTEMPT.initial)
    error_code = models.CharField(max_length=80, blank=True, default="")
    created_at = models.DateTimeField()
    settled_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(name="attempt_number_once", fields=["payment", "number"]),
            models.UniqueConstraint(
                name="one_attempt_under_way",
                fields=["payment"],
                condition=models.Q(status__in=["submitted", "requires_action", "indeterminate"]),
            ),
            status_check("attempt_status", ATTEMPT.statuses),
        ]

    def __str__(self) -> str:
        return f"attempt {self.number} of {self.payment_id}"


class Refund(models.Model):
    """Money back to the guest. `amount` of `currency` goes to the card; the parts say what it gives back, in the
    booking's currency. Only one refund exists per idempotency key, and per payment never more than was captured."""

    code = models.CharField(max_length=20, unique=True, default=new_refund_code)
    payment = models.ForeignKey(Payment, on_delete=models.PROTECT, related_name="refunds")
    status = models.CharField(max_length=16, choices=REFUND.choices, default=REFUND.initial)
    amount = minor_units()
    currency = currency_code()
    held = minor_units()
    host_fee = minor_units()
    guest_fee = minor_units()
    vat = minor_units()
    occupancy_tax = minor_units()
    platform_share = minor_units(default=0, help_text="borne by us on top of the parts, in the booking's currency")
    cause = models.CharField(max_length=20, choices=[(cause, cause.replace("_", " ")) for cause in REFUND_CAUSES])
    bearer = models.CharField(max_length=10, choices=[(bearer, bearer) for bearer in BEARERS], default="host")
    reason = models.TextField(blank=True, default="")
    idempotency_key = models.CharField(max_length=160, unique=True)
    request_hash = models.CharField(max_length=64)
    provider_id = models.CharField(max_length=80, null=True, unique=True, help_text="re_…")
    failure_reason = models.CharField(max_length=200, blank=True, default="")
    unclaimed = models.BooleanField(default=False, help_text="succeeded, then came back from the guest's bank")
    requested_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, related_name="+")
    requested_at = models.DateTimeField()
    approved_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, related_name="+")
    approved_at = models.DateTimeField(null=True)
    submitted_at = models.DateTimeField(null=True)
    settled_at = models.DateTimeField(null=True)
    version = models.PositiveIntegerField(default=1)

    class Meta:
        constraints = [
            status_check("refund_status", REFUND.statuses),
            status_check("refund_cause", REFUND_CAUSES, "cause"),
            status_check("refund_bearer", BEARERS, "bearer"),
            models.CheckConstraint(name="refund_positive", condition=models.Q(amount__gt=0)),
        ]
        indexes = [
            models.Index(name="refund_newest", fields=["-id", "status"]),
            models.Index(name="refund_of_day", fields=["requested_by", "requested_at"]),
            models.Index(
                name="refund_open",
                fields=["status", "requested_at"],
                condition=models.Q(status__in=["requested", "approved", "submitted", "indeterminate"]),
            ),
        ]

    def __str__(self) -> str:
        return self.code

    @property
    def parts(self) -> dict[str, int]:
        return {part: getattr(self, part) for part in PARTS}


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
            models.Index(name="bt_newest", fields=["-created", "-id"]),
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
