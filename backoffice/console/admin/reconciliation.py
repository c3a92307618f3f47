"""Reconciliation: runs, and the breaks they found."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

from django.contrib import admin
from django.utils.safestring import SafeString
from import_export.fields import Field
from unfold.decorators import display

from backoffice.console import cells, exports, filters, story
from backoffice.console.admin.jobs import took
from backoffice.console.admin.ledger import subject
from backoffice.console.base import StaffAdmin
from backoffice.console.dialogs import Dialog, DialogForm
from backoffice.console.door import Desk
from backoffice.console.lists import Search
from backoffice.console.page import Column, Fact, Page, Row, Table, Text
from backoffice.core.errors import StaleVersion
from backoffice.reconciliation import operations as reconciliation
from backoffice.reconciliation.models import Break, Run
from backoffice.reconciliation.states import BREAK


class _Work(Dialog):
    verb = "breaks.work"

    def seen(self, form: DialogForm) -> None:
        if self.row.version != form.cleaned_data["version"]:
            raise StaleVersion(kind="break")


class Take(_Work):
    name, label = "take", "Take"
    icon, tone = "back_hand", "primary"
    form_class = DialogForm
    intro = "You become its owner and investigate it."

    @property
    def heading(self) -> str:
        return f"Take {self.row.code}?"

    def offered(self) -> bool:
        return BREAK.allows(self.row.status, "take") and self.row.owner_id != self.desk.actor.id

    def perform(self, form: DialogForm) -> str:
        self.seen(form)
        owner = self.desk.actor.id
        assert owner is not None  # staff are persons
        reconciliation.take(code=self.row.code, owner_id=owner, actor=self.desk.actor, now=self.desk.now)
        return f"{self.row.code} is yours."


class Note(_Work):
    name, label = "note", "Add a note"
    icon = "edit_note"
    intro = "Kept on the break for whoever looks next."

    @property
    def heading(self) -> str:
        return f"Note on {self.row.code}"

    def form(self, data: Any = None, initial: dict[str, Any] | None = None) -> DialogForm:
        form = super().form(data, initial)
        form.fields["reason"].label = "What you found"
        return form

    def perform(self, form: DialogForm) -> str:
        self.seen(form)
        text = form.cleaned_data["reason"]
        reconciliation.note(code=self.row.code, text=text, actor=self.desk.actor, now=self.desk.now)
        return f"Noted on {self.row.code}."


class Resolve(_Work):
    name, label = "resolve", "Resolve"
    icon, tone = "check_circle", "primary"
    intro = "It is explained and put right. A later run that still finds it opens it again."

    @property
    def heading(self) -> str:
        return f"Resolve {self.row.code}?"

    def offered(self) -> bool:
        return BREAK.allows(self.row.status, "resolve")

    def perform(self, form: DialogForm) -> str:
        reconciliation.resolve(
            code=self.row.code,
            reason=form.cleaned_data["reason"],
            version=form.cleaned_data["version"],
            actor=self.desk.actor,
            now=self.desk.now,
        )
        return f"{self.row.code} is resolved."


class BreaksExport(exports.Resource):
    code = Field("code", "break")
    leg = Field("leg", "leg")
    cls = Field("cls", "class")
    key = Field("key", "key")
    status = Field("status", "status")
    difference = Field(column_name="difference")
    currency = Field("currency", "currency")
    subject = Field("subject", "about")
    owner = Field("owner__name", "owner")
    occurred_at = Field("occurred_at", "occurred")
    opened_at = Field("opened_at", "opened")
    closed_at = Field("closed_at", "closed")

    def dehydrate_difference(self, row: Break) -> Any:
        return exports.amount(row.difference, row.currency)


@admin.register(Break)
class BreakAdmin(StaffAdmin):
    verb, export_verb = "breaks.view", "breaks.export"
    singular, plural = "break", "breaks"
    list_words = "Named differences between the provider and our ledger. Amounts are the provider’s side less ours."
    empty_words = "No difference has been found. `ops reconcile stripe` looks again."
    searches = (
        Search("code", r"^BR-", str.upper),
        Search("subject", r"^BK-", str.upper),
        Search("key"),
    )
    search_help_text = "BR- or BK- code, or the key: a txn_ id"
    list_display = ("difference_found", "break_status", "about", "money_difference", "age", "owned")
    list_filter = (
        ("status", filters.Choices),
        ("cls", filters.Choices),
        ("opened_at", filters.Days),
    )
    lookups = ("subject", "currency", "leg", "last_seen")
    list_select_related = ("owner", "first_seen", "last_seen")
    dialogs = (Take, Note, Resolve)
    resource_classes = (BreaksExport,)

    def prepare(self, rows: list[Any], desk: Desk) -> None:
        for row in rows:
            row.open_for = (row.closed_at or desk.now) - row.opened_at

    @display(description="Break")
    def difference_found(self, row: Break) -> SafeString:
        return cells.two(row.get_cls_display().capitalize(), cells.code(row.code))

    @display(description="Status")
    def break_status(self, row: Break) -> SafeString:
        return cells.status(row.status)

    @display(description="About")
    def about(self, row: Break) -> SafeString:
        return cells.two(cells.code(row.key), row.subject or f"{row.leg} leg")

    @display(description="Difference")
    def money_difference(self, row: Break) -> SafeString:
        return cells.money(row.difference, row.currency, signed=True)

    @display(description="Open for")
    def age(self, row: Any) -> SafeString:
        return cells.two(span(row.open_for), cells.instant(row.opened_at))

    @display(description="Owner")
    def owned(self, row: Break) -> str | SafeString:
        return row.owner.name if row.owner else cells.NONE

    def page(self, row: Break, desk: Desk) -> Page:
        sides = row.detail if isinstance(row.detail, dict) else {}
        return Page(
            title=row.code,
            subtitle=f"{row.get_cls_display().capitalize()} on {row.key}",
            status=cells.status(row.status),
            facts=(
                Fact("Difference", cells.money(row.difference, row.currency, signed=True)),
                Fact("Class", row.get_cls_display()),
                Fact("Leg", row.leg),
                Fact("Key", cells.code(row.key)),
                Fact("Booking", subject(row.subject)),
                Fact("Owner", cells.link(row.owner, row.owner.name) if row.owner else ""),
                Fact("Occurred", cells.instant(row.occurred_at)),
                Fact("Open for", span((row.closed_at or desk.now) - row.opened_at)),
                Fact("First seen", cells.link(row.first_seen)),
                Fact("Last seen", cells.link(row.last_seen)),
                Fact("Closed", cells.instant(row.closed_at)),
            ),
            panels=(
                _sides(row, sides),
                Text(title="Notes", text=row.notes or "Nobody has written anything yet."),
                Text(title="As the run saw it", text=json.dumps(sides, indent=2, sort_keys=True), code=True),
                story.audit_panel([("break", row.code)], desk),
            ),
        )


def _sides(row: Break, sides: dict[str, Any]) -> Table:
    theirs, ours = (sides.get(name) or {} for name in ("provider", "ledger"))
    shown = [
        Row(
            (
                name.capitalize(),
                cells.money(theirs.get(name), theirs.get("currency", row.currency)),
                cells.money(ours.get(name), ours.get("currency", row.currency)),
            )
        )
        for name in ("amount", "fee", "net")
        if name in theirs or name in ours
    ]
    if "standing" in sides:
        shown.append(Row(("Standing on the account", cells.NONE, cells.money(sides["standing"], row.currency))))
    return Table(
        title="Both sides",
        columns=(Column(""), Column("Provider", "money"), Column("Ledger", "money")),
        rows=shown,
        empty="This leg compares sums; see how the run saw it below.",
    )


def span(length: timedelta) -> str:
    """A length of time in its largest whole unit."""
    minutes = max(0, int(length.total_seconds()) // 60)
    for size, name in ((1440, "day"), (60, "hour"), (1, "minute")):
        if minutes >= size:
            count = minutes // size
            return f"{count} {name}{'' if count == 1 else 's'}"
    return "under a minute"


@admin.register(Run)
class RunAdmin(StaffAdmin):
    verb = "breaks.view"
    singular, plural = "run", "reconciliation"
    key = "pk"
    list_words = "Each run compares the provider’s own movements with our ledger, line by line and in sum."
    empty_words = "No run yet: `ops reconcile stripe` makes the first."
    searches = (Search("pk", r"^#?\d{1,18}$", lambda term: term.lstrip("#")),)
    search_help_text = "a run’s number"
    list_display = ("run", "run_status", "window", "compared", "found_count", "started", "took")
    list_filter = (("status", filters.Choices), ("started_at", filters.Days))
    lookups = ("scope",)
    list_select_related = ()

    @display(description="Run")
    def run(self, row: Run) -> SafeString:
        return cells.two(row.scope.capitalize(), cells.code(f"#{row.pk}"))

    @display(description="Status")
    def run_status(self, row: Run) -> SafeString:
        return cells.two(cells.status(row.status), row.error or row.actor)

    @display(description="Movements of")
    def window(self, row: Run) -> SafeString:
        return cells.two(cells.instant(row.since), cells.instant(row.until))

    @display(description="Compared")
    def compared(self, row: Run) -> SafeString:
        return cells.two(f"{row.lines:,}", f"{row.matched:,} match")

    @display(description="Breaks")
    def found_count(self, row: Run) -> SafeString:
        return cells.status("open" if row.found else "ok", f"{row.found:,}")

    @display(description="Started")
    def started(self, row: Run) -> SafeString:
        return cells.instant(row.started_at)

    @display(description="Took")
    def took(self, row: Run) -> str | SafeString:
        return took(row.started_at, row.finished_at)

    def page(self, row: Run, desk: Desk) -> Page:
        seen = Break.objects.filter(last_seen=row).order_by("-id")[:50]
        return Page(
            title=f"Run #{row.pk}",
            subtitle=f"{row.scope.capitalize()} against the ledger",
            status=cells.status(row.status),
            facts=(
                Fact("From", cells.instant(row.since)),
                Fact("Until", cells.instant(row.until)),
                Fact("Compared", f"{row.lines:,}"),
                Fact("Match", f"{row.matched:,}"),
                Fact("Breaks", f"{row.found:,}"),
                Fact("By", row.actor),
                Fact("Started", cells.instant(row.started_at)),
                Fact("Took", took(row.started_at, row.finished_at)),
                Fact("Error", row.error),
                Fact("Digest", cells.code(row.output_digest)),
            ),
            panels=(
                Table(
                    title="Balance explained",
                    note="What the provider holds, what our mirror account says, and how much of the difference has a name.",
                    columns=(Column("Currency"), *(Column(name.capitalize(), "money") for name in _EXPLAINED)),
                    rows=[
                        Row((currency, *(cells.money(sums.get(name), currency) for name in _EXPLAINED)))
                        for currency, sums in sorted(row.explained.items())
                    ],
                    empty="Not compared yet.",
                ),
                Table(
                    title="Breaks last seen by this run",
                    columns=(Column("Break"), Column("Class"), Column("Key"), Column("Difference", "money")),
                    rows=[
                        Row(
                            (
                                cells.link(each, each.code),
                                cells.two(each.get_cls_display().capitalize(), cells.status(each.status)),
                                cells.code(each.key),
                                cells.money(each.difference, each.currency, signed=True),
                            )
                        )
                        for each in seen
                    ],
                    empty="None: every movement is in the ledger, to the cent.",
                    more=cells.list_of(Break, f"last_seen={row.pk}"),
                ),
            ),
        )


_EXPLAINED = ("provider", "mirror", "explained", "unexplained")
