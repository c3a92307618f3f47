"""The bank's side: lines of its statements, and which payouts they are."""

from __future__ import annotations

from django.conf import settings
from django.db import models

from backoffice.core.fields import currency_code, minor_units, new_code, status_check
from backoffice.payouts.models import BankPayout
from backoffice.reconciliation.states import MATCH


def new_statement_line_code() -> str:
    return new_code("BL", 8)


class StatementLine(models.Model):
    """One entry of a bank statement, as the bank signs it: positive came in. Stored once, however often it is sent."""

    code = models.CharField(max_length=20, unique=True, default=new_statement_line_code)
    account = models.CharField(max_length=60, help_text="the bank account's IBAN or name")
    reference = models.CharField(max_length=120, blank=True, default="", help_text="the bank's own")
    digest = models.CharField(max_length=64, help_text="of its content")
    amount = minor_units()
    currency = currency_code()
    booked_on = models.DateField()
    value_on = models.DateField()
    trace = models.CharField(max_length=120, blank=True, default="", help_text="the sender's reference")
    text = models.CharField(max_length=500, blank=True, default="", help_text="what the bank wrote")
    returned = models.BooleanField(default=False, help_text="the bank took it back")
    journal_id = models.BigIntegerField(null=True)
    imported_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(name="statement_line_once", fields=["account", "reference", "digest"]),
            models.CheckConstraint(name="statement_line_not_zero", condition=~models.Q(amount=0)),
        ]
        indexes = [
            models.Index(name="statement_line_newest", fields=["-id", "booked_on"]),
            models.Index(name="statement_line_reference", fields=["reference"]),
        ]

    def __str__(self) -> str:
        return self.code


class BankMatch(models.Model):
    """That a line of the bank is a payout of the provider, wholly or in part. What only adds up is proposed; a person
    confirms it."""

    line = models.ForeignKey(StatementLine, on_delete=models.PROTECT, related_name="matches")
    bank_payout = models.ForeignKey(BankPayout, on_delete=models.PROTECT, related_name="bank_matches")
    amount = minor_units(help_text="of the line, as the bank signs it")
    method = models.CharField(max_length=12, help_text="trace, descriptor, amount, many_lines, many_payouts or person")
    confidence = models.PositiveSmallIntegerField(help_text="per cent")
    status = models.CharField(max_length=10, choices=MATCH.choices, default=MATCH.initial)
    journal_id = models.BigIntegerField(null=True)
    decided_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, related_name="+")
    made_at = models.DateTimeField()
    decided_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            status_check("bank_match_status", MATCH.statuses),
            models.UniqueConstraint(name="bank_match_once", fields=["line", "bank_payout"]),
        ]

    def __str__(self) -> str:
        return f"{self.line_id} is {self.bank_payout_id}"
