"""The ledger's tables. The database guards them (migrations 0002 and 0003): nothing here is written but by
`ledger.operations`, and what is written once stays."""

from __future__ import annotations

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper

from backoffice.core.fields import currency_code, minor_units
from backoffice.core.money import Money


class TransactionId(models.Field):  # type: ignore[type-arg]  # Django's Field takes no parameters at run time
    """The transaction that wrote the row (xid8), set by the database: it tells whether a journal is still open."""

    def db_type(self, connection: BaseDatabaseWrapper) -> str:
        return "xid8"


class CurrentTransaction(models.Func):
    function = "pg_current_xact_id"
    output_field = TransactionId()


class Account(models.Model):
    """A code of the chart for one key and currency; made when it is first posted to, never changed."""

    code = models.CharField(max_length=4, help_text="code of the chart of accounts")
    key = models.TextField(blank=True, default="", help_text="whose or which: a booking's code, a provider's id")
    currency = currency_code()

    class Meta:
        constraints = [
            models.UniqueConstraint(name="ledger_account_once", fields=["code", "key", "currency"]),
            # Target of the lines' composite foreign key: a line cannot be in another currency than its account (I4).
            models.UniqueConstraint(name="ledger_account_currency", fields=["id", "currency"]),
            models.CheckConstraint(
                name="ledger_account_currency_code", condition=models.Q(currency__regex=r"^[A-Z]{3}$")
            ),
        ]
        indexes = [models.Index(name="ledger_account_key", fields=["key"])]

    def __str__(self) -> str:
        return " ".join(part for part in (self.code, self.key, self.currency) if part)


class Journal(models.Model):
    """One business fact, told in two or more lines that sum to zero per currency.

    `effective_at` is when it happened, `recorded_at` when we learned of it; `subject` is what it is about (a booking's
    code), `reference` the provider's id."""

    idempotency_key = models.TextField(help_text="one per business fact: capture:PAY-…, bt:txn_…")
    request_hash = models.CharField(max_length=64, help_text="of kind, subject, reference, reversal and lines")
    kind = models.CharField(max_length=60)
    subject = models.TextField(blank=True, default="")
    reference = models.TextField(blank=True, default="")
    memo = models.TextField(blank=True, default="")
    actor = models.TextField()
    effective_at = models.DateTimeField()
    recorded_at = models.DateTimeField()
    reverses = models.ForeignKey(
        "self", null=True, on_delete=models.PROTECT, related_name="reversals", db_constraint=False, db_index=False
    )
    created_xid = TransactionId(db_default=CurrentTransaction(), editable=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(name="ledger_journal_key_once", fields=["idempotency_key"]),
            models.UniqueConstraint(name="ledger_journal_reversed_once", fields=["reverses"]),
            models.CheckConstraint(name="ledger_journal_has_key", condition=~models.Q(idempotency_key="")),
        ]
        indexes = [
            models.Index(name="ledger_journal_subject", fields=["subject", "id"], condition=~models.Q(subject="")),
            models.Index(name="ledger_journal_reference", fields=["reference"], condition=~models.Q(reference="")),
            models.Index(name="ledger_journal_effective", fields=["effective_at", "id"]),
        ]

    def __str__(self) -> str:
        return f"journal {self.pk} {self.kind} {self.subject}".rstrip()


class JournalLine(models.Model):
    """One leg: signed minor units, debit positive."""

    # The foreign keys are made in migration 0002: checked at the statement, not at commit as Django's are.
    journal = models.ForeignKey(
        Journal, on_delete=models.PROTECT, related_name="lines", db_constraint=False, db_index=False
    )
    account = models.ForeignKey(
        Account, on_delete=models.PROTECT, related_name="lines", db_constraint=False, db_index=False
    )
    amount = minor_units()
    currency = currency_code()

    class Meta:
        db_table = "ledger_line"
        constraints = [models.CheckConstraint(name="ledger_line_not_zero", condition=~models.Q(amount=0))]
        indexes = [
            models.Index(name="ledger_line_journal", fields=["journal"]),
            models.Index(name="ledger_line_account", fields=["account", "id"]),
        ]

    def __str__(self) -> str:
        return f"{'Dr' if self.amount > 0 else 'Cr'} {abs(self.money)}"

    @property
    def money(self) -> Money:
        return Money(self.amount, self.currency)


class Balance(models.Model):
    """The sum of an account's lines, kept by the database in the statement that writes them.

    An account that every booking moves has several slots, one per connection; its balance is their sum. `version`
    counts the lines, so that one that was lost or slipped in shows even where amounts agree."""

    pk = models.CompositePrimaryKey("account_id", "slot")
    account = models.ForeignKey(
        Account, on_delete=models.PROTECT, related_name="balances", db_constraint=False, db_index=False
    )
    slot = models.SmallIntegerField(default=0)
    balance = minor_units()
    version = models.BigIntegerField()
    journal = models.ForeignKey(
        Journal, on_delete=models.PROTECT, related_name="+", db_constraint=False, db_index=False
    )

    class Meta:
        db_table = "ledger_balance"

    def __str__(self) -> str:
        return f"{self.account}: {Money(self.balance, self.account.currency)}"
