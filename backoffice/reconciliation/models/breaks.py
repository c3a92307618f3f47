"""Named differences and what became of them."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import F, Q

from backoffice.core.fields import currency_code, minor_units, new_code, status_check
from backoffice.reconciliation.models.runs import Run
from backoffice.reconciliation.states import BREAK, CAUSES, CLASSES, LEGS

_PERSON = settings.AUTH_USER_MODEL


def new_break_code() -> str:
    return new_code("BR", 6)


class Break(models.Model):
    """A named difference. `difference` is the provider's amount less ours, in minor units of `currency`; a difference on
    a clearing account is what is left standing there. The same leg and key are the same break, whatever its class."""

    code = models.CharField(max_length=20, unique=True, default=new_break_code)
    identity = models.CharField(max_length=64, unique=True)
    leg = models.CharField(max_length=10)
    key = models.CharField(max_length=160)
    fact = models.CharField(max_length=160, blank=True, default="", help_text="what it is about, whichever leg sees it")
    cls = models.CharField("class", max_length=30, choices=[(cls, cls.replace("_", " ")) for cls in CLASSES])
    flags = models.JSONField(default=list, help_text="the other classes that hold, in order of precedence")
    status = models.CharField(max_length=16, choices=BREAK.choices, default=BREAK.initial)
    difference = minor_units()
    at_risk = minor_units(default=0, help_text="what may be lost, never below zero")
    at_risk_eur = models.BigIntegerField(null=True, help_text="in euro cents at the rate of the day it was last seen")
    currency = currency_code()
    subject = models.CharField(max_length=80, blank=True, default="", help_text="the booking it concerns")
    detail = models.JSONField(default=dict, help_text="both sides")
    owner = models.ForeignKey(_PERSON, on_delete=models.PROTECT, null=True, related_name="+")
    notes = models.TextField(blank=True, default="")
    occurred_at = models.DateTimeField()
    first_seen = models.ForeignKey(Run, on_delete=models.PROTECT, related_name="+")
    last_seen = models.ForeignKey(Run, on_delete=models.PROTECT, related_name="+")
    opened_at = models.DateTimeField()
    closed_at = models.DateTimeField(null=True)
    cause = models.CharField(max_length=20, blank=True, default="", help_text="why there was one, while it is resolved")
    ticket = models.CharField(max_length=80, blank=True, default="", help_text="where that is told at length")
    accepted_until = models.DateTimeField(null=True)
    proposal = models.JSONField(null=True, help_text="what two people decide: its kind, and what would be posted")
    proposed_by = models.ForeignKey(_PERSON, on_delete=models.PROTECT, null=True, related_name="+")
    proposed_by_name = models.CharField(max_length=160, blank=True, default="")
    proposed_at = models.DateTimeField(null=True)
    decided_by = models.ForeignKey(_PERSON, on_delete=models.PROTECT, null=True, related_name="+")
    decided_at = models.DateTimeField(null=True)
    journal_id = models.BigIntegerField(null=True, help_text="the journal that wrote it off")
    version = models.PositiveIntegerField(default=1)

    class Meta:
        constraints = [
            status_check("break_status", BREAK.statuses),
            status_check("break_class", CLASSES, "cls"),
            status_check("break_leg", LEGS, "leg"),
            models.CheckConstraint(name="break_cause", condition=Q(cause="") | Q(status="resolved", cause__in=CAUSES)),
            models.CheckConstraint(
                name="break_written_off_by_two",
                condition=~Q(status__in=["approved", "written_off"])
                | (
                    Q(decided_by__isnull=False, proposed_by__isnull=False, proposed_at__isnull=False)
                    & ~Q(decided_by=F("proposed_by"))
                ),
            ),
            models.CheckConstraint(
                name="break_accepted_until", condition=~Q(status="accepted") | Q(accepted_until__isnull=False)
            ),
        ]
        indexes = [
            models.Index(name="break_newest", fields=["-id", "status"]),
            models.Index(name="break_about", fields=["fact"], condition=~Q(fact="")),
        ]

    def __str__(self) -> str:
        return f"{self.code} {self.cls}"


class BreakEvent(models.Model):
    """One step in the life of a break: seen first, changed, worked, healed, come back."""

    found = models.ForeignKey(Break, on_delete=models.CASCADE, related_name="events")
    at = models.DateTimeField()
    what = models.CharField(max_length=20)
    status = models.CharField(max_length=16)
    cls = models.CharField(max_length=30)
    difference = minor_units()
    run = models.ForeignKey(Run, on_delete=models.PROTECT, null=True, related_name="+", db_index=False)
    who = models.CharField(max_length=160, blank=True, default="")
    why = models.TextField(blank=True, default="")
    cause = models.CharField(max_length=20, blank=True, default="", help_text="what it was said to come from")
    ticket = models.CharField(max_length=80, blank=True, default="")

    def __str__(self) -> str:
        return f"{self.what} {self.at:%Y-%m-%d %H:%M}"
