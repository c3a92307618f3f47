"""The audit log, entry by entry."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.utils.safestring import SafeString
from import_export.fields import Field
from unfold.decorators import display

from backoffice.audit.models import AuditBlock, AuditEntry
from backoffice.console import cells, exports, filters, story
from backoffice.console.base import StaffAdmin
from backoffice.console.door import Desk
from backoffice.console.lists import Search
from backoffice.console.page import Diff, Fact, Facts, Page


class AuditExport(exports.Resource):
    seq = Field("seq", "seq")
    at = Field("at", "at")
    actor_kind = Field("actor_kind", "actor kind")
    actor_id = Field("actor_id", "actor id")
    actor_name = Field("actor_name", "actor")
    verb = Field("verb", "verb")
    object_kind = Field("object_kind", "kind")
    object_id = Field("object_id", "object")
    reason = Field("reason", "reason")
    request_id = Field("request_id", "request")
    address = Field("address", "address")


@admin.register(AuditEntry)
class AuditAdmin(StaffAdmin):
    verb, export_verb = "audit.view", "audit.export"
    singular, plural = "entry", "audit log"
    key = "seq"
    list_words = (
        "Every act, with a name on it. Nothing here can be changed; `ops audit verify` proves that nothing was."
    )
    empty_words = "The first act on this desk will be the first entry."
    searches = (
        Search("seq", r"^#?\d{1,18}$", lambda term: term.lstrip("#")),
        Search("verb", r"^[a-z_]+\.[a-z_]+$", str.lower),
        Search("request_id", r"^[0-9a-f]{32}$"),
        Search("object_id"),
    )
    search_help_text = "a code or id, a verb such as refunds.request, or an entry's number"
    list_display = ("entry_number", "what", "actor", "why", "happened")
    list_filter = (("actor_kind", filters.Kinds), ("at", filters.Days))
    lookups = ("object_kind", "object_id", "verb", "actor_id")
    list_select_related = ()
    resource_classes = (AuditExport,)

    def get_queryset(self, request: Any) -> QuerySet[AuditEntry]:
        rows: QuerySet[AuditEntry] = super().get_queryset(request).defer("canonical", "leaf")
        return rows

    @display(description="Entry")
    def entry_number(self, row: AuditEntry) -> SafeString:
        return cells.code(f"#{row.seq}")

    @display(description="What")
    def what(self, row: AuditEntry) -> SafeString:
        return cells.two(story.sentence(row), cells.code(row.verb))

    def prepare(self, rows: list[Any], desk: Desk) -> None:
        names = story.names_of(row.actor_id for row in rows if row.actor_id is not None)
        for row in rows:
            row.named = names.get(row.actor_id) or row.actor_name or row.actor_kind

    @display(description="Who")
    def actor(self, row: Any) -> SafeString:
        return cells.two(row.named, row.actor_kind)

    @display(description="Why")
    def why(self, row: AuditEntry) -> str | SafeString:
        return row.reason or cells.NONE

    @display(description="When")
    def happened(self, row: AuditEntry) -> SafeString:
        return cells.instant(row.at)

    def page_rows(self, desk: Desk) -> QuerySet[AuditEntry]:
        return AuditEntry.objects.all()

    def page(self, row: AuditEntry, desk: Desk) -> Page:
        names = story.names_of([row.actor_id] if row.actor_id is not None else [])
        # A block seals all that older transactions wrote, so the first one past this entry's transaction holds it.
        block = AuditBlock.objects.filter(xmin__gt=row.created_xid).order_by("index").only("index", "sealed_at").first()
        sealed = (
            cells.two(f"block {block.index}", cells.instant(block.sealed_at)) if block else "waits for the next seal"
        )
        return Page(
            title=f"Entry #{row.seq}",
            subtitle=story.sentence(row),
            facts=(
                Fact("Who", story.who(row, names)),
                Fact("When", cells.instant(row.at)),
                Fact("From", cells.code(row.address)),
                Fact("Request", cells.code(row.request_id)),
                Fact("Sealed", sealed),
            ),
            panels=(
                Diff(
                    title="What changed", note="Personal fields are kept as a digest only.", changes=story.changes(row)
                ),
                Facts(
                    title="Why",
                    facts=(
                        Fact("Reason", row.reason or "none was asked for"),
                        Fact("Verb", cells.code(row.verb)),
                        Fact("About", story.about(row)),
                        Fact("Case", row.case_ref),
                        Fact("Approval", row.approval_ref),
                        Fact("Leaf", cells.code(bytes(row.leaf).hex())),
                    ),
                ),
                story.audit_panel([(row.object_kind, row.object_id)], desk, "Everything about the same thing"),
            ),
        )
