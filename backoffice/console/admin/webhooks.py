"""The inbox of the provider's webhooks."""

from __future__ import annotations

import json
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.utils.safestring import SafeString
from unfold.decorators import display

from backoffice.console import cells, filters, story
from backoffice.console.base import StaffAdmin
from backoffice.console.dialogs import Dialog, DialogForm
from backoffice.console.door import Desk
from backoffice.console.lists import Search
from backoffice.console.page import Fact, Page, Text
from backoffice.core.errors import StaleVersion
from backoffice.payments import operations as payments
from backoffice.payments.models import WebhookEvent


class Replay(Dialog):
    name, label, verb = "replay", "Replay", "webhooks.replay"
    icon, tone = "replay", "primary"
    form_class = DialogForm
    intro = (
        "The worker asks the provider for the object’s present state and applies that. Applying an event twice changes "
        "nothing."
    )

    @property
    def heading(self) -> str:
        return f"Replay {self.row.type}?"

    def version(self) -> int:
        return int(self.row.attempts)

    def perform(self, form: DialogForm) -> str:
        if self.version() != form.cleaned_data["version"]:
            raise StaleVersion(kind="webhook")
        payments.replay_webhook(event_id=self.row.event_id, actor=self.desk.actor, now=self.desk.now)
        return f"{self.row.type} waits for the worker again."


@admin.register(WebhookEvent)
class WebhookAdmin(StaffAdmin):
    verb = "webhooks.view"
    singular, plural = "webhook", "webhook inbox"
    key = "event_id"
    list_words = (
        "Every event as the provider sent it, once. It is only a hint: what is applied is the object’s present state."
    )
    empty_words = "The provider has not sent anything yet."
    searches = (Search("event_id", r"^evt_"), Search("object_id"))
    search_help_text = "evt_ id, or what it is about: pi_, ch_, re_"
    list_display = ("event", "about", "webhook_status", "tries", "received", "applied")
    list_filter = (("status", filters.Choices), ("received_at", filters.Days))
    lookups = ("type", "object_id", "origin")
    list_select_related = ()
    dialogs = (Replay,)

    def get_queryset(self, request: Any) -> QuerySet[WebhookEvent]:
        rows: QuerySet[WebhookEvent] = super().get_queryset(request).defer("payload")
        return rows

    @display(description="Event")
    def event(self, row: WebhookEvent) -> SafeString:
        return cells.two(row.type, cells.code(row.event_id))

    @display(description="About")
    def about(self, row: WebhookEvent) -> SafeString:
        return cells.code(row.object_id)

    @display(description="Status")
    def webhook_status(self, row: WebhookEvent) -> SafeString:
        return cells.two(cells.status(row.status), row.error) if row.error else cells.status(row.status)

    @display(description="Tries")
    def tries(self, row: WebhookEvent) -> str:
        return str(row.attempts)

    @display(description="Received")
    def received(self, row: WebhookEvent) -> SafeString:
        return cells.instant(row.received_at)

    @display(description="Applied")
    def applied(self, row: WebhookEvent) -> SafeString:
        return cells.instant(row.applied_at)

    def page(self, row: WebhookEvent, desk: Desk) -> Page:
        return Page(
            title=row.type,
            subtitle=cells.code(row.event_id),
            status=cells.status(row.status),
            warnings=(_why(row),) if row.error else (),
            facts=(
                Fact("About", cells.code(row.object_id)),
                Fact("Came by", row.origin),
                Fact("Created", cells.instant(row.created)),
                Fact("Received", cells.instant(row.received_at)),
                Fact("Applied", cells.instant(row.applied_at)),
                Fact("Tries", str(row.attempts)),
                Fact("Next try", cells.instant(row.next_attempt_at) if row.status == "failed" else ""),
                Fact("Live money", cells.yes_no(row.livemode)),
                Fact("Account", cells.code(row.account)),
            ),
            panels=(
                Text(
                    title="As it came", note="The stored bytes, laid out for reading.", text=_readable(row), code=True
                ),
                story.audit_panel([("webhook", row.event_id)], desk),
            ),
        )


def _readable(row: WebhookEvent) -> str:
    raw = bytes(row.payload)
    try:
        return json.dumps(json.loads(raw), indent=2, ensure_ascii=False)
    except ValueError:
        return raw.decode("utf-8", "replace")


def _why(row: WebhookEvent) -> str:
    return f"It was ignored: {row.error}." if row.status == "ignored" else f"Its last try failed: {row.error}"
