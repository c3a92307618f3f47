"""Money in: one payment per booking, its tries, and charges of their own kind."""

from __future__ import annotations

from typing import Final

from django.conf import settings
from django.db import models

from backoffice.bookings.models import Booking
from backoffice.core.fields import currency_code, minor_units, new_code, status_check
from backoffice.payments.states import ATTEMPT, CHARGE, CHARGE_KINDS, PAYMENT

# What a captured amount is made of, in the listing's currency. A refund is made of the same parts.
PARTS: Final = ("held", "host_fee", "guest_fee", "vat", "occupancy_tax")


def new_payment_code() -> str:
    return new_code("PY", 8)


def new_charge_code() -> str:
    return new_code("CH", 8)


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
    capture_method = models.CharField(max_length=9, default="automatic", help_text="automatic, or manual: after a yes")
    authorised_at = models.DateTimeField(null=True)
    capture_before = models.DateTimeField(null=True, help_text="when the provider lets an authorisation go")
    customer_id = models.CharField(max_length=80, blank=True, default="", help_text="cus_… whose saved card is charged")
    setup_id = models.CharField(max_length=80, blank=True, default="", help_text="seti_… that saved the card")
    saved_method = models.CharField(max_length=120, blank=True, default="", help_text="pm_… to be charged later")
    charge_at = models.DateTimeField(null=True, help_text="when the saved card is charged")
    next_try_at = models.DateTimeField(null=True, help_text="when the saved card is charged again")
    pay_by = models.DateTimeField(null=True, help_text="after a failed charge: unpaid then, the booking is given up")
    capture_asked_at = models.DateTimeField(
        null=True, help_text="the host said yes; what was authorised is being taken"
    )
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
            models.Index(name="payment_authorised", fields=["capture_before"], condition=models.Q(status="authorised")),
            models.Index(
                name="payment_to_charge", fields=["next_try_at"], condition=models.Q(next_try_at__isnull=False)
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
    off_session = models.BooleanField(default=False, help_text="the saved card, while the guest is away")
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


class ExtraCharge(models.Model):
    """Money asked of a guest beside the payment of the booking, off-session from the saved card: an instalment of a long
    stay, or damage. `amount` of `currency` is charged; the parts (instalments only) are in the booking's currency."""

    code = models.CharField(max_length=20, unique=True, default=new_charge_code)
    booking = models.ForeignKey(Booking, on_delete=models.PROTECT, related_name="extra_charges")
    kind = models.CharField(max_length=12, choices=[(kind, kind) for kind in CHARGE_KINDS])
    number = models.PositiveSmallIntegerField(default=1)
    status = models.CharField(max_length=16, choices=CHARGE.choices, default=CHARGE.initial)
    amount = minor_units()
    currency = currency_code()
    held = minor_units(default=0)
    host_fee = minor_units(default=0)
    guest_fee = minor_units(default=0)
    vat = minor_units(default=0)
    occupancy_tax = minor_units(default=0)
    due_at = models.DateTimeField()
    next_try_at = models.DateTimeField(null=True)
    tries = models.PositiveSmallIntegerField(default=0, help_text="part of the provider's key: each try has its own")
    payment_method = models.CharField(max_length=120, blank=True, default="", help_text="pm_… of the present try")
    off_session = models.BooleanField(default=True, help_text="of the present try: the guest is away")
    submitted_at = models.DateTimeField(null=True)
    pay_by = models.DateTimeField(null=True, help_text="after a failed charge: what is asked for lapses then")
    reason = models.TextField(blank=True, default="")
    provider_id = models.CharField(max_length=80, null=True, unique=True, help_text="pi_…")
    charge_id = models.CharField(max_length=80, null=True, unique=True, help_text="ch_…")
    last_error = models.CharField(max_length=300, blank=True, default="")
    next_action_url = models.URLField(max_length=500, blank=True, default="")
    requested_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, related_name="+")
    request_key = models.CharField(max_length=160, null=True, unique=True, help_text="damage: one key, one charge")
    approved_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, related_name="+")
    covered_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, related_name="+")
    created_at = models.DateTimeField()
    approved_at = models.DateTimeField(null=True)
    captured_at = models.DateTimeField(null=True)
    covered_at = models.DateTimeField(null=True)
    released_at = models.DateTimeField(null=True, help_text="damage: when it became payable to the host")
    version = models.PositiveIntegerField(default=1)

    class Meta:
        constraints = [
            status_check("extra_charge_status", CHARGE.statuses),
            status_check("extra_charge_kind", CHARGE_KINDS, "kind"),
            models.CheckConstraint(name="extra_charge_positive", condition=models.Q(amount__gt=0)),
            models.UniqueConstraint(name="extra_charge_number_once", fields=["booking", "kind", "number"]),
        ]
        indexes = [
            models.Index(name="extra_charge_newest", fields=["-id", "status"]),
            models.Index(
                name="extra_charge_due",
                fields=["next_try_at"],
                condition=models.Q(status__in=["scheduled", "failed", "requires_action"]),
            ),
            models.Index(
                name="extra_charge_unanswered",
                fields=["id"],
                condition=models.Q(status__in=["submitted", "indeterminate"]),
            ),
            models.Index(
                name="extra_charge_unpaid",
                fields=["pay_by", "id"],
                condition=models.Q(status__in=["failed", "requires_action"]),
            ),
        ]

    def __str__(self) -> str:
        return self.code

    @property
    def parts(self) -> dict[str, int]:
        return {part: getattr(self, part) for part in PARTS}
