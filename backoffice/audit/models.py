"""The log's two tables. The database refuses UPDATE, DELETE and TRUNCATE on both (migration 0002); they are written by
`audit.operations` alone."""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.core.serializers.json import DjangoJSONEncoder
from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper


class TransactionId(models.Field):  # type: ignore[type-arg]  # Django's Field takes no parameters at run time
    """A transaction of the database cluster (xid8), read as text: 64 bits that never wrap."""

    def db_type(self, connection: BaseDatabaseWrapper) -> str:
        return "xid8"


class AuditEntry(models.Model):
    """Who did what to which thing, when, from where and why. Persons by id: no foreign key, no name of a guest."""

    seq = models.BigAutoField(primary_key=True)
    at = models.DateTimeField(help_text="the desk's clock")
    actor_kind = models.CharField(max_length=10)
    actor_id = models.BigIntegerField(null=True)
    actor_name = models.TextField(blank=True, help_text="of staff and processes; guests and hosts are known by id")
    verb = models.CharField(max_length=80)
    object_kind = models.CharField(max_length=40)
    object_id = models.TextField()
    before = models.JSONField(null=True, encoder=DjangoJSONEncoder)
    after = models.JSONField(null=True, encoder=DjangoJSONEncoder)
    reason = models.TextField(blank=True)
    request_id = models.TextField(blank=True)
    address = models.TextField(blank=True, help_text="network address; a guest's or host's as a keyed digest")
    case_ref = models.TextField(blank=True)
    approval_ref = models.TextField(blank=True)
    created_xid = TransactionId(editable=False)
    canonical = models.BinaryField(help_text="the exact bytes that were hashed")
    leaf = models.BinaryField(help_text="SHA-256 of 0x00 and the canonical bytes")

    class Meta:
        db_table = "audit_entry"
        verbose_name_plural = "audit entries"
        indexes = [
            models.Index(name="audit_entry_object", fields=["object_kind", "object_id", "seq"]),
            models.Index(
                name="audit_entry_actor", fields=["actor_id", "seq"], condition=models.Q(actor_id__isnull=False)
            ),
            models.Index(name="audit_entry_xid", fields=["created_xid"]),
            models.Index(name="audit_entry_at", fields=["at"]),
        ]

    def __str__(self) -> str:
        return f"{self.seq} {self.verb} {self.object_kind} {self.object_id}"


class AuditBlock(models.Model):
    """A sealed set of entries: everything committed by transactions older than `xmin` that no earlier block holds."""

    index = models.BigIntegerField(primary_key=True, help_text="1, 2, 3 … without gaps")
    prev_root = models.BinaryField()
    root = models.BinaryField()
    seqs = ArrayField(models.BigIntegerField(), help_text="its entries; sequences have gaps, so the list is the proof")
    leaves = models.BinaryField(help_text="their leaves, 32 bytes each: tells which entry was rewritten, not only that")
    count = models.IntegerField()
    xmin = TransactionId(editable=False, db_column="snapshot_xmin", help_text="every transaction before it had ended")
    xmax = TransactionId(editable=False, db_column="snapshot_xmax", help_text="no transaction from it on had begun")
    sealed_at = models.DateTimeField()

    class Meta:
        db_table = "audit_block"

    def __str__(self) -> str:
        return f"block {self.index} ({self.count} entries)"
