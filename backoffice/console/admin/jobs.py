"""What ran by itself, and what waits to go out."""

from __future__ import annotations

import json
from typing import Any

from django.contrib import admin
from django.utils.safestring import SafeString
from unfold.decorators import display

from backoffice.console import cells, filters
from backoffice.console.base import StaffAdmin
from backoffice.console.door import Desk
from backoffice.console.lists import Search
from backoffice.console.page import Fact, Page, Panel, Text
from backoffice.jobs.models import JobRun
from backoffice.notifications.models import OutboxMessage


@admin.register(JobRun)
class JobRunAdmin(StaffAdmin):
    verb = "jobs.view"
    singular, plural = "run", "job runs"
    key = "pk"
    list_words = "Runs of jobs. Sweeps that find nothing to do leave no row, so that what is here is worth a look."
    empty_words = "The worker’s first job will appear here."
    searches = (Search("name"),)
    search_help_text = "a job’s whole name, such as reconciliation.run"
    list_display = ("job", "run_status", "counted", "who", "started", "took")
    list_filter = (("status", filters.Choices), ("started_at", filters.Days))
    lookups = ("name", "scope")
    list_select_related = ()

    @display(description="Job")
    def job(self, row: JobRun) -> SafeString:
        return cells.two(row.name, row.scope)

    @display(description="Status")
    def run_status(self, row: JobRun) -> SafeString:
        return cells.two(cells.status(row.status), row.error) if row.error else cells.status(row.status)

    @display(description="Counted")
    def counted(self, row: JobRun) -> str | SafeString:
        return counts(row.counts)

    @display(description="Started by")
    def who(self, row: JobRun) -> SafeString:
        return cells.two(row.actor, f"{row.host}, process {row.pid}")

    @display(description="Started")
    def started(self, row: JobRun) -> SafeString:
        return cells.instant(row.started_at)

    @display(description="Took")
    def took(self, row: JobRun) -> str | SafeString:
        return took(row.started_at, row.finished_at)

    def page(self, row: JobRun, desk: Desk) -> Page:
        panels: list[Panel] = [Text(title="Error", text=row.error, code=True)] if row.error else []
        panels += [
            Text(title="Called with", text=_pretty(row.args), code=True),
            Text(title="Counted", text=_pretty(row.counts), code=True),
        ]
        if row.cursor is not None:
            panels.append(Text(title="Where a repeat goes on", text=_pretty(row.cursor), code=True))
        return Page(
            title=row.name,
            subtitle=row.scope,
            status=cells.status(row.status),
            facts=(
                Fact("Started", cells.instant(row.started_at)),
                Fact("Ended", cells.instant(row.finished_at)),
                Fact("Took", took(row.started_at, row.finished_at)),
                Fact("Last sign of life", cells.instant(row.heartbeat_at)),
                Fact("Started by", row.actor),
                Fact("On", f"{row.host}, process {row.pid}"),
                Fact("Version", row.version),
            ),
            panels=panels,
        )


def counts(found: dict[str, Any]) -> str | SafeString:
    """Counters in words: "read 120, written 118"."""
    words = [f"{cells.words(name)} {count:,}" for name, count in found.items() if isinstance(count, int)]
    return ", ".join(words) or cells.NONE


def took(started: Any, ended: Any) -> str | SafeString:
    if ended is None:
        return cells.NONE
    seconds = (ended - started).total_seconds()
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s"


def _pretty(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, sort_keys=True)


@admin.register(OutboxMessage)
class OutboxAdmin(StaffAdmin):
    verb = "jobs.view"
    singular, plural = "message", "outbox"
    key = "pk"
    list_words = (
        "E-mails and tasks on their way out, written with the change they tell of. The row is the truth; losing the "
        "broker loses nothing."
    )
    empty_words = "The first booking’s confirmation will be the first message."
    searches = (Search("recipient_id", r"^\d{1,18}$"), Search("topic"))
    search_help_text = "a topic such as booking_confirmed, or a task’s name"
    list_display = ("message", "channel", "message_status", "tries", "written", "sent")
    list_filter = (("status", filters.Choices), ("channel", filters.Choices), ("created_at", filters.Days))
    lookups = ("topic", "recipient_id")
    list_select_related = ()

    @display(description="Message")
    def message(self, row: OutboxMessage) -> SafeString:
        return cells.two(row.subject or cells.words(row.topic), row.address or row.topic)

    @display(description="Status")
    def message_status(self, row: OutboxMessage) -> SafeString:
        return cells.two(cells.status(row.status), row.error) if row.error else cells.status(row.status)

    @display(description="Tries")
    def tries(self, row: OutboxMessage) -> str:
        return str(row.attempts)

    @display(description="Written")
    def written(self, row: OutboxMessage) -> SafeString:
        return cells.instant(row.created_at)

    @display(description="Sent")
    def sent(self, row: OutboxMessage) -> SafeString:
        return cells.instant(row.sent_at)

    def page(self, row: OutboxMessage, desk: Desk) -> Page:
        panels = [Text(title="Message", text=row.body)] if row.body else []
        if row.payload:
            panels.append(Text(title="Called with", text=_pretty(row.payload), code=True))
        return Page(
            title=row.subject or cells.words(row.topic).capitalize(),
            subtitle=row.address,
            status=cells.status(row.status),
            warnings=(f"Its last try failed: {row.error}",) if row.error else (),
            facts=(
                Fact("Topic", cells.code(row.topic)),
                Fact("Channel", cells.words(row.channel)),
                Fact("Written", cells.instant(row.created_at)),
                Fact("Sent", cells.instant(row.sent_at)),
                Fact("Tries", str(row.attempts)),
                Fact("Next try", cells.instant(row.next_attempt_at) if row.status in {"pending", "failed"} else ""),
            ),
            panels=panels,
        )
