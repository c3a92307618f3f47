"""The card network's disputes of payments."""

from __future__ import annotations

from django.conf import settings
from django.db import models

from backoffice.core.fields import currency_code, minor_units, new_code, status_check
from backoffice.payments.models.money_in import Payment
from backoffice.payments.states import CHARGEBACK_KINDS, LOSS_BEARERS


def new_chargeback_code() -> str:
    return new_code("CB", 8)


class Chargeback(models.Model):
    """A dispute of a payment by its cardholder, or the inquiry that comes before one and moves no money.

    `status` is the provider's own word and may be one we do not know: it is kept and shown. `amount` is in the charge's
    currency. Money moves by balance transactions alone; `withdrawn` and `reinstated` say what they have brought so far."""

    code = models.CharField(max_length=20, unique=True, default=new_chargeback_code)
    provider_id = models.CharField(max_length=80, unique=True, help_text="du_…")
    payment = models.ForeignKey(Payment, on_delete=models.PROTECT, null=True, related_name="chargebacks")
    charge_id = models.CharField(max_length=80)
    kind = models.CharField(max_length=10, choices=[(kind, kind) for kind in CHARGEBACK_KINDS])
    status = models.CharField(max_length=60)
    amount = minor_units()
    currency = currency_code()
    reason = models.CharField(max_length=60, blank=True, default="")
    network_reason = models.CharField(max_length=40, blank=True, default="")
    network = models.CharField(max_length=40, blank=True, default="")
    reminded_at = models.DateTimeField(null=True, help_text="of the deadline it has now")
    due_by = models.DateTimeField(null=True, help_text="the provider's")
    internal_due_at = models.DateTimeField(null=True, help_text="at 60 % of the time until then")
    withdrawn = minor_units(default=0, help_text="of our balance, in its currency")
    reinstated = minor_units(default=0)
    fee = minor_units(default=0, help_text="from the balance transactions")
    settlement_currency = currency_code(blank=True, default="")
    evidence = models.JSONField(default=dict, help_text="staged: field -> text, or the id of a file at the provider")
    staged_at = models.DateTimeField(null=True)
    submitted_at = models.DateTimeField(null=True)
    submitted_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, related_name="+")
    accepted_at = models.DateTimeField(null=True, help_text="given up by a person")
    loss_bearer = models.CharField(
        max_length=8, choices=[(bearer, bearer) for bearer in LOSS_BEARERS], default="platform"
    )
    loss_posted_at = models.DateTimeField(null=True)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, related_name="+")
    notes = models.TextField(blank=True, default="")
    page = models.URLField(max_length=300, blank=True, default="", help_text="the provider's own, where people see it")
    opened_at = models.DateTimeField(help_text="the provider's")
    closed_at = models.DateTimeField(null=True)
    seen_at = models.DateTimeField(help_text="when the provider was last asked")
    version = models.PositiveIntegerField(default=1)

    class Meta:
        constraints = [
            status_check("chargeback_kind", CHARGEBACK_KINDS, "kind"),
            status_check("chargeback_bearer", LOSS_BEARERS, "loss_bearer"),
            models.CheckConstraint(
                name="chargeback_submitted_by_a_person",
                condition=models.Q(submitted_at__isnull=True) | models.Q(submitted_by__isnull=False),
            ),
        ]
        indexes = [
            models.Index(name="chargeback_newest", fields=["-id", "status"]),
            models.Index(
                name="chargeback_answer_by", fields=["internal_due_at"], condition=models.Q(closed_at__isnull=True)
            ),
            models.Index(name="chargeback_opened", fields=["opened_at"]),
        ]

    def __str__(self) -> str:
        return self.code


class EvidenceFile(models.Model):
    """A file sent to the provider as evidence; its bytes stay there, we keep what proves which it was."""

    chargeback = models.ForeignKey(Chargeback, on_delete=models.PROTECT, related_name="files")
    field = models.CharField(max_length=60, help_text="the evidence field it is for")
    name = models.CharField(max_length=200)
    digest = models.CharField(max_length=64, help_text="SHA-256")
    size = models.PositiveIntegerField()
    provider_id = models.CharField(max_length=80, unique=True, help_text="file_…")
    uploaded_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, related_name="+")
    uploaded_at = models.DateTimeField()

    def __str__(self) -> str:
        return self.name


class FraudWarning(models.Model):
    """The issuer's early word that a charge may be fraud: a chargeback is likely."""

    provider_id = models.CharField(max_length=80, unique=True, help_text="issfr_…")
    payment = models.ForeignKey(Payment, on_delete=models.PROTECT, null=True, related_name="fraud_warnings")
    charge_id = models.CharField(max_length=80)
    kind = models.CharField(max_length=60)
    actionable = models.BooleanField(default=True)
    seen_at = models.DateTimeField()

    def __str__(self) -> str:
        return self.provider_id
