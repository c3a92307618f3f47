"""Runs, and what they lay side by side while they compare."""

from __future__ import annotations

from django.db import models

from backoffice.core.fields import currency_code, minor_units, status_check
from backoffice.reconciliation.states import RUN_STATUSES


class Run(models.Model):
    """One comparison: what it looked at, how far it came, and what it found.

    A run that was cut off goes on at its checkpoint. Equal inputs under equal rules have equal digests."""

    scope = models.CharField(max_length=20)
    since = models.DateTimeField()
    until = models.DateTimeField()
    actor = models.CharField(max_length=160)
    reason = models.TextField(blank=True, default="", help_text="why, in the words of whoever began it")
    ticket = models.CharField(max_length=80, blank=True, default="", help_text="the case or approval it was begun for")
    version = models.CharField(max_length=40, blank=True, default="", help_text="of the code")
    dry_run = models.BooleanField(default=False, help_text="only looked; never gone on with")
    rules = models.CharField(max_length=20, blank=True, default="", help_text="the label of the rules it went by")
    source = models.CharField(max_length=8, default="api", help_text="where the provider's lines came from: api, file")
    status = models.CharField(max_length=12, choices=[(status, status) for status in RUN_STATUSES], default="running")
    checkpoint = models.JSONField(default=dict, help_text="how far it has come; empty once it is done")
    watermarks = models.JSONField(default=dict, help_text="the newest rows of each kind that it saw")
    lines = models.PositiveBigIntegerField(default=0, help_text="the provider's movements compared")
    matched = models.PositiveBigIntegerField(default=0)
    found = models.PositiveIntegerField(default=0, help_text="breaks, young ones included")
    counts = models.JSONField(default=dict, help_text="class -> how many")
    input_digest = models.CharField(max_length=64, blank=True, default="")
    output_digest = models.CharField(max_length=64, blank=True, default="")
    explained = models.JSONField(default=dict, help_text="currency -> provider balance, mirror, explained, unexplained")
    note = models.CharField(max_length=300, blank=True, default="", help_text="what it did not compare, and why")
    started_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True)
    error = models.CharField(max_length=300, blank=True, default="")

    class Meta:
        constraints = [status_check("recon_run_status", RUN_STATUSES)]
        indexes = [models.Index(name="recon_run_newest", fields=["-id", "status"])]

    def __str__(self) -> str:
        return f"run {self.pk} of {self.scope}"


class ProviderLine(models.Model):
    """A movement as the provider showed it to a run; kept only while the run compares (the table is not logged)."""

    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="+", db_index=False, db_constraint=False)
    provider_id = models.CharField(max_length=80)
    reporting_category = models.CharField(max_length=60)
    source_id = models.CharField(max_length=80)
    amount = minor_units()
    fee = minor_units()
    net = minor_units()
    currency = currency_code()
    created = models.DateTimeField()

    def __str__(self) -> str:
        return self.provider_id


class ProviderState(models.Model):
    """An object as the provider showed it to a run: a payment, refund or bank payout and its status there."""

    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="+", db_constraint=False)
    kind = models.CharField(max_length=12, help_text="payment, refund or bank_payout")
    provider_id = models.CharField(max_length=80)
    account = models.CharField(max_length=80, blank=True, default="", help_text="acct_…; empty: our own")
    status = models.CharField(max_length=20)
    amount = minor_units()
    currency = currency_code()
    created = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return self.provider_id


class StagedDifference(models.Model):
    """A difference as a run found it, before it is written to its break; kept only while the run writes."""

    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="+", db_constraint=False)
    place = models.PositiveIntegerField(null=True, help_text="in the order of writing; none for what is dropped")
    leg = models.CharField(max_length=10)
    key = models.CharField(max_length=160)
    fact = models.CharField(max_length=160, blank=True, default="", help_text="what it is about, whichever leg sees it")
    hits = models.JSONField(default=list, help_text="every class that holds")
    difference = minor_units()
    at_risk = minor_units()
    currency = currency_code()
    subject = models.CharField(max_length=80, blank=True, default="")
    detail = models.JSONField(default=dict)
    occurred_at = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(name="staged_difference_once", fields=["run", "leg", "key", "currency"])]

    def __str__(self) -> str:
        return f"{self.leg} {self.key}"


class Match(models.Model):
    """A movement that was found equal on both sides, and the journal that it is equal to; by which run, first."""

    movement_id = models.BigIntegerField(primary_key=True, help_text="the imported balance transaction")
    journal_id = models.BigIntegerField(null=True, help_text="none for a movement of zero")
    run_id = models.BigIntegerField()

    def __str__(self) -> str:
        return f"movement {self.movement_id}"
