"""Money back to the guest."""

from __future__ import annotations

from django.conf import settings
from django.db import models

from backoffice.core.fields import currency_code, minor_units, new_code, status_check
from backoffice.payments.models.money_in import PARTS, ExtraCharge, Payment
from backoffice.payments.states import BEARERS, REFUND, REFUND_CAUSES, REFUND_METHODS, REFUND_WAITS


def new_refund_code() -> str:
    return new_code("RF", 8)


class Refund(models.Model):
    """Money back to the guest. `amount` of `currency` goes to the card; the parts say what it gives back, in the
    booking's currency. Only one refund exists per idempotency key of a person, or of a rule, and per payment never more than
    was captured."""

    code = models.CharField(max_length=20, unique=True, default=new_refund_code)
    payment = models.ForeignKey(Payment, on_delete=models.PROTECT, related_name="refunds")
    charge = models.ForeignKey(
        ExtraCharge,
        on_delete=models.PROTECT,
        null=True,
        related_name="refunds",
        help_text="the instalment it gives back; empty: the payment of the booking",
    )
    part_of = models.ForeignKey(
        "self",
        on_delete=models.PROTECT,
        null=True,
        related_name="rest",
        help_text="the first refund of the same request, which several charges give back: one decision for all of them",
    )
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
    waits_for = models.CharField(
        max_length=12,
        choices=[(what, what) for what in REFUND_WAITS],
        blank=True,
        default="",
        help_text="owed by rule, and approved by itself when this is over; empty: requested, it waits for a person",
    )
    lines = models.JSONField(
        default=dict, help_text="what was given back of nights, cleaning, fees and taxes, if by line"
    )
    method = models.CharField(max_length=10, default="card", help_text="card, or other: the card was closed")
    repays = models.ForeignKey(
        "self", on_delete=models.PROTECT, null=True, related_name="repayments", help_text="the refund that came back"
    )
    by_rule = models.BooleanField(
        default=False,
        help_text="a rule of ours owes it to the guest; never one that a person asked for, whatever its key",
    )
    idempotency_key = models.CharField(max_length=160, help_text="people's and the rules' are told apart")
    request_hash = models.CharField(max_length=64)
    provider_id = models.CharField(max_length=80, null=True, unique=True, help_text="re_…")
    failure_reason = models.CharField(max_length=200, blank=True, default="")
    unclaimed = models.BooleanField(
        default=False,
        help_text="failed, and the money stands aside for the guest: their bank sent it back, or the provider refused what is "
        "theirs by rule",
    )
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
            status_check("refund_method", REFUND_METHODS, "method"),
            models.CheckConstraint(
                name="refund_another_way_repays",
                condition=models.Q(method="card", repays__isnull=True) | models.Q(method="other", repays__isnull=False),
            ),
            models.UniqueConstraint(
                name="refund_repaid_once",
                fields=["repays"],
                condition=models.Q(status__in=["requested", "approved", "submitted", "succeeded"]),
            ),
            models.CheckConstraint(
                name="refund_waits_before_it_is_approved",
                condition=models.Q(waits_for="") | models.Q(status="requested", waits_for__in=REFUND_WAITS),
            ),
            models.CheckConstraint(name="refund_positive", condition=models.Q(amount__gt=0)),
            models.UniqueConstraint(name="refund_once_per_key", fields=["idempotency_key", "by_rule"]),
            models.CheckConstraint(
                name="refund_waits_by_rule", condition=models.Q(waits_for="") | models.Q(by_rule=True)
            ),
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
