"""Reconciliation runs, the provider's lines of a run, and the breaks that runs found."""

from __future__ import annotations

from django.conf import settings
from django.db import models

from backoffice.core.fields import currency_code, minor_units, new_code, status_check
from backoffice.reconciliation.states import BREAK, CLASSES, LEGS, RUN_STATUSES


def new_break_code() -> str:
    return new_code("BR", 6)


class Run(models.Model):
    """One comparison of ledger and provider, with what it looked at and what it found."""

    scope = models.CharField(max_length=20)
    since = models.DateTimeField()
    until = models.DateTimeField()
    actor = models.CharField(max_length=160)
    status = models.CharField(max_length=12, choices=[(status, status) for status in RUN_STATUSES], default="running")
    lines = models.PositiveBigIntegerField(default=0, help_text="the provider's movements compared")
    matched = models.PositiveBigIntegerField(default=0)
    found = models.PositiveIntegerField(default=0, help_text="breaks, young ones included")
    output_digest = models.CharField(max_length=64, blank=True, default="")
    explained = models.JSONField(default=dict, help_text="currency -> provider balance, mirror, explained, unexplained")
    started_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True)
    error = models.CharField(max_length=300, blank=True, default="")

    class Meta:
        constraints = [status_check("recon_run_status", RUN_STATUSES)]
        indexes = [models.Index(name="recon_run_newest", fields=["-id", "status"])]

    def __str__(self) -> str:
        return f"run {self.pk} of {self.scope}"


class ProviderLine(models.Model):
    """A movement as the provider showed it to a run; kept only while the run compares."""

    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="+")
    provider_id = models.CharField(max_length=80)
    reporting_category = models.CharField(max_length=60)
    source_id = models.CharField(max_length=80)
    amount = minor_units()
    fee = minor_units()
    net = minor_units()
    currency = currency_code()
    created = models.DateTimeField()

    class Meta:
        indexes = [models.Index(name="provider_line_of_run", fields=["run", "provider_id"])]

    def __str__(self) -> str:
        return self.provider_id


class Break(models.Model):
    """A named difference. `difference` is the provider's amount less ours, in minor units of `currency`; a difference on
    a clearing account is what is left standing there. The same leg and key are the same break, whatever its class."""

    code = models.CharField(max_length=20, unique=True, default=new_break_code)
    identity = models.CharField(max_length=64, unique=True)
    leg = models.CharField(max_length=10)
    key = models.CharField(max_length=160)
    cls = models.CharField("class", max_length=30, choices=[(cls, cls.replace("_", " ")) for cls in CLASSES])
    status = models.CharField(max_length=16, choices=BREAK.choices, default=BREAK.initial)
    difference = minor_units()
    currency = currency_code()
    subject = models.CharField(max_length=80, blank=True, default="", help_text="the booking it concerns")
    detail = models.JSONField(default=dict, help_text="both sides")
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, related_name="+")
    notes = models.TextField(blank=True, default="")
    occurred_at = models.DateTimeField()
    first_seen = models.ForeignKey(Run, on_delete=models.PROTECT, related_name="+")
    last_seen = models.ForeignKey(Run, on_delete=models.PROTECT, related_name="+")
    opened_at = models.DateTimeField()
    closed_at = models.DateTimeField(null=True)
    version = models.PositiveIntegerField(default=1)

    class Meta:
        constraints = [
            status_check("break_status", BREAK.statuses),
            status_check("break_class", CLASSES, "cls"),
            status_check("break_leg", LEGS, "leg"),
        ]
        indexes = [models.Index(name="break_newest", fields=["-id", "status"])]

    def __str__(self) -> str:
        return f"{self.code} {self.cls}"
