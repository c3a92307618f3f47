"""Kill switches: what may be stopped at once, by whom it was, and why."""

from __future__ import annotations

from typing import Any, Final

from django.contrib import admin
from django.http import Http404
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.decorators import display

from backoffice.console import cells, filters, story
from backoffice.console.base import StaffAdmin
from backoffice.console.dialogs import Dialog, DialogForm
from backoffice.console.door import Desk
from backoffice.console.lists import Search
from backoffice.console.page import Column, Fact, Page, Panel, Row, Table
from backoffice.jobs import operations as jobs
from backoffice.jobs import queries
from backoffice.jobs.models import Stop
from backoffice.jobs.states import STOP_SCOPES

WHAT: Final = {
    "payouts": "No payout is released and no transfer is sent; hosts see that theirs wait.",
    "refunds": "No refund is sent to a guest; what is asked for waits.",
    "bookings": "No new booking is made; guests are told to try again later.",
}


class _Switch(Dialog):
    verb = "stops.switch"

    def version(self) -> int:
        return 1  # a switch has two positions, and turning it twice changes nothing

    def unoffered(self) -> str:
        return f"{self.row.scope.capitalize()} are {'stopped' if on(self.row) else 'not stopped'}."


class StopIt(_Switch):
    name, label = "stop", "Stop"
    icon, tone = "front_hand", "danger"

    @property
    def heading(self) -> str:
        return f"Stop all {self.row.scope}?"

    @property
    def introduction(self) -> str:
        return f"{WHAT[self.row.scope]} What is under way ends by itself. Everybody sees your name and reason."

    def offered(self) -> bool:
        return not on(self.row)

    def perform(self, form: DialogForm) -> str:
        row = jobs.stop(
            scope=self.row.scope, reason=form.cleaned_data["reason"], actor=self.desk.actor, now=self.desk.now
        )
        return f"{row.scope.capitalize()} are stopped until somebody lets them go on."


class Resume(_Switch):
    name, label = "resume", "Let go on"
    icon, tone = "play_arrow", "primary"

    @property
    def heading(self) -> str:
        return f"Let {self.row.scope} go on?"

    @property
    def introduction(self) -> str:
        return f"Stopped by {self.row.by} since {cells.when(self.row.since)}: “{self.row.reason}”"

    def offered(self) -> bool:
        return on(self.row)

    def perform(self, form: DialogForm) -> str:
        row = jobs.resume(
            scope=self.row.scope, reason=form.cleaned_data["reason"], actor=self.desk.actor, now=self.desk.now
        )
        return f"{row.scope.capitalize()} go on."


def on(row: Stop) -> bool:
    """Whether it stops anything now."""
    return row.pk is not None and row.ended_at is None


def switch_status(row: Stop | None) -> SafeString:
    return cells.status("stopped") if row is not None and on(row) else cells.status("ok", "running")


@admin.register(Stop)
class StopAdmin(StaffAdmin):
    verb = "jobs.view"
    singular, plural = "kill switch", "kill switches"
    key = "scope"
    list_words = "What can be stopped at once when something is wrong: nothing new begins, what is under way ends."
    empty_words = "Nothing was ever stopped."
    searches = (Search("scope", case=str.lower),)
    search_help_text = "payouts, refunds or bookings"
    list_display = ("scope_shown", "status_shown", "why", "began", "ended")
    list_filter = (("scope", filters.Choices), ("since", filters.Days))
    list_select_related = ()
    dialogs = (StopIt, Resume)

    @display(description="What")
    def scope_shown(self, row: Stop) -> str:
        return row.scope.capitalize()

    @display(description="Status")
    def status_shown(self, row: Stop) -> SafeString:
        return cells.status("stopped") if on(row) else cells.status("ok", "went on", tone="plain")

    @display(description="Why")
    def why(self, row: Stop) -> str:
        return row.reason

    @display(description="Stopped")
    def began(self, row: Stop) -> SafeString:
        return cells.two(cells.instant(row.since), row.by)

    @display(description="Went on")
    def ended(self, row: Stop) -> SafeString:
        return cells.two(cells.instant(row.ended_at), row.ended_by) if row.ended_at else cells.NONE

    def above(self, desk: Desk) -> list[Panel]:
        stopped = {row.scope: row for row in queries.stops()}
        rows = [
            Row(
                (
                    _switch_link(scope),
                    switch_status(stopped.get(scope)),
                    cells.two(stopped[scope].reason, f"{stopped[scope].by}, {cells.when(stopped[scope].since)}")
                    if scope in stopped
                    else WHAT[scope],
                )
            )
            for scope in STOP_SCOPES
        ]
        return [Table(title="Switches", columns=(Column("What"), Column("Now"), Column("Why")), rows=rows)]

    def find(self, key: str, desk: Desk) -> Any:
        """The switch of a scope as it stands: its latest stop, or none yet."""
        if key not in STOP_SCOPES:
            raise Http404("No such kill switch.")
        latest = queries.stops(active_only=False).filter(scope=key).first()
        return latest or Stop(scope=key, reason="", by="", since=desk.now)

    def page(self, row: Stop, desk: Desk) -> Page:
        stopped = on(row)
        rows = [
            Row(
                (
                    cells.two(cells.instant(each.since), each.by),
                    each.reason,
                    cells.two(cells.instant(each.ended_at), each.ended_by) if each.ended_at else cells.NONE,
                    each.ended_reason,
                )
            )
            for each in queries.stops(active_only=False).filter(scope=row.scope)[:25]
        ]
        return Page(
            title=row.scope.capitalize(),
            subtitle=WHAT[row.scope]
            if stopped
            else f"Running. Stopped: {WHAT[row.scope][0].lower()}{WHAT[row.scope][1:]}",
            status=switch_status(row),
            facts=(
                Fact("Stopped by", row.by if stopped else ""),
                Fact("Since", cells.instant(row.since) if stopped else ""),
                Fact("Why", row.reason if stopped else ""),
            ),
            panels=(
                Table(
                    title="Every time",
                    columns=(Column("Stopped"), Column("Why"), Column("Went on"), Column("Because")),
                    rows=rows,
                    empty=f"{row.scope.capitalize()} were never stopped.",
                ),
                story.audit_panel([("stop", row.scope)], desk),
            ),
        )


def _switch_link(scope: str) -> SafeString:
    address = reverse("admin:jobs_stop_change", args=[scope])
    return format_html('<a class="sd-link" href="{}">{}</a>', address, scope.capitalize())
