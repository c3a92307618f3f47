"""Clawbacks and write-offs: what hosts owe, taken back or given up."""

from __future__ import annotations

from typing import Any, ClassVar

from django.contrib import admin
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.decorators import display

from backoffice.console import cells, filters, story, trail
from backoffice.console.admin.payouts import asked_back, everything
from backoffice.console.base import StaffAdmin
from backoffice.console.dialogs import Dialog, DialogForm, said
from backoffice.console.door import Desk
from backoffice.console.lists import Search, View
from backoffice.console.page import Fact, Figure, Figures, Page, Panel, Text
from backoffice.core.errors import StaydeskError
from backoffice.core.money import Money
from backoffice.ledger.models import Journal
from backoffice.payouts import operations
from backoffice.payouts import queries as payouts
from backoffice.payouts.models import Clawback, WriteOff
from backoffice.payouts.states import SENT
from backoffice.workflows import claw_back


def _by(person: Any, at: Any) -> SafeString | str:
    if at is None:
        return ""
    return cells.two(cells.link(person, person.name) if person else "by rule", cells.instant(at))


class RetryClawback(Dialog):
    name, label, verb = "retry", "Ask again", "payouts.claw_back"
    icon, tone = "refresh", "primary"
    form_class = DialogForm
    intro = "The provider refused, mostly since the host’s balance there did not hold as much. A new try has a new key."

    @property
    def heading(self) -> str:
        return f"Ask again for {Money(self.row.amount, self.row.currency)} of {self.row.payout.code}?"

    def offered(self) -> bool:
        row, payout = self.row, self.row.payout
        if row.status != "failed" or self.desk.actor.id == row.host_id or payout.status not in SENT:
            return False
        busy = payout.clawbacks.filter(status__in=["requested", "submitted", "indeterminate"]).exists()
        owed = payouts.owed(host_code=row.host.code, currency=row.currency)
        return not busy and row.amount <= min(owed.amount, payout.transfer_amount - payout.reversed_amount)

    def unoffered(self) -> str:
        if self.row.status != "failed":
            return f"This clawback was not refused: it is {self.row.status}."
        return (
            "The host no longer owes as much, nothing of the transfer is left, or another clawback of it is under way."
        )

    def perform(self, form: DialogForm) -> str:
        row = claw_back.retry(
            clawback_code=self.row.code,
            version=form.cleaned_data["version"],
            actor=self.desk.actor,
            now=self.desk.now,
        )
        return said("Asked for again:", row)


@admin.register(Clawback)
class ClawbackAdmin(StaffAdmin):
    verb = "payouts.view"
    singular, plural = "clawback", "clawbacks"
    list_words = "Transfers asked back from hosts, after netting against their next payouts has had its chance."
    empty_words = "A clawback is asked for from a payout that was sent."
    searches = (
        Search("host__email__startswith", "@", str.lower),
        Search("payout__code", r"^PO-", str.upper),
        Search("provider_id", r"^trr_"),
        Search("code__startswith", case=str.upper),
    )
    search_help_text = "CW- or PO- code, trr_ id, host’s e-mail"
    views = (
        View("all", "All", everything),
        View("attention", "Needs attention", lambda rows, desk: rows.filter(status__in=["failed", "indeterminate"])),
    )
    list_display = ("clawback", "host_name", "clawback_status", "money_amount", "why", "asked")
    list_filter = (("status", filters.Choices), ("requested_at", filters.Days))
    lookups = ("host__code", "payout__code")
    list_select_related = ("payout__booking", "host", "requested_by")
    dialogs = (RetryClawback,)

    @display(description="Clawback")
    def clawback(self, row: Clawback) -> SafeString:
        return cells.two(cells.code(row.code), f"of {row.payout.code}")

    @display(description="Host")
    def host_name(self, row: Clawback) -> str:
        return row.host.name

    @display(description="Status")
    def clawback_status(self, row: Clawback) -> SafeString:
        return cells.two(cells.status(row.status), row.failure) if row.failure else cells.status(row.status)

    @display(description="Amount")
    def money_amount(self, row: Clawback) -> SafeString:
        return cells.money(row.amount, row.currency)

    @display(description="Why")
    def why(self, row: Clawback) -> str:
        return row.reason

    @display(description="Asked for")
    def asked(self, row: Clawback) -> SafeString:
        return cells.two(cells.instant(row.requested_at), row.requested_by.name if row.requested_by else "by rule")

    def page(self, row: Clawback, desk: Desk) -> Page:
        may = desk.actor.may("ledger.view")
        payout = row.payout
        journals = trail.journals_about([row.code, row.provider_id or ""])
        asked = asked_back(row, journals) if may else None
        left = payout.transfer_amount - payout.reversed_amount
        panels: list[Panel] = [
            Figures(
                title="How it adds up",
                figures=(
                    Figure(
                        "The payout’s transfer",
                        cells.money(payout.transfer_amount, payout.transfer_currency),
                        payout.code,
                        href=cells.address_of(payout),
                    ),
                    Figure("Asked back by this", cells.money(-row.amount, row.currency), row.reason, False, asked),
                    Figure(
                        "Left with the host now",
                        cells.money(left, payout.transfer_currency),
                        "all clawbacks that succeeded counted",
                        True,
                    ),
                ),
            ),
            trail.movements_table([row.provider_id or ""]),
        ]
        if may:
            panels.append(trail.journals_table(journals))
        if desk.actor.may("webhooks.view"):
            panels.append(trail.webhooks_table([row.provider_id or "", payout.transfer_id or ""]))
        return Page(
            title=row.code,
            subtitle=format_html("{} back from {}", cells.money(row.amount, row.currency), row.host.name),
            status=cells.status(row.status),
            warnings=[f"The provider refused: {row.failure} The host still owes it."] if row.failure else (),
            facts=(
                Fact("Payout", cells.link(payout)),
                Fact("Booking", cells.link(payout.booking)),
                Fact("Host", cells.link(row.host, row.host.name)),
                Fact("Reason", row.reason),
                Fact("Asked for by", _by(row.requested_by, row.requested_at)),
                Fact("Sent", cells.instant(row.submitted_at)),
                Fact("Settled", cells.instant(row.settled_at)),
                Fact("Tries", str(row.tries) if row.tries > 1 else ""),
                Fact("At the provider", cells.code(row.provider_id)),
            ),
            panels=(*panels, story.audit_panel([("clawback", row.code)], desk)),
        )


class _Decide(Dialog):
    verb = "payouts.write_off"
    approves: ClassVar[bool]

    def offered(self) -> bool:
        """The operation's own check, asked beforehand: a button that then refuses would be a bug."""
        if self.row.status != "proposed":
            return False
        try:
            operations.check_write_off_decider(row=self.row, actor=self.desk.actor)
        except StaydeskError:
            return False
        owed = payouts.owed(host_code=self.row.host.code, currency=self.row.currency)
        return not self.approves or self.row.amount <= owed.amount

    def unoffered(self) -> str:
        if self.row.status != "proposed":
            return f"This write-off was {self.row.status}."
        return "It needs another person in finance than who proposed it; or the host no longer owes as much."

    def perform(self, form: DialogForm) -> str:
        row = operations.decide_write_off(
            code=self.row.code,
            approve=self.approves,
            reason=form.cleaned_data["reason"],
            version=form.cleaned_data["version"],
            actor=self.desk.actor,
            now=self.desk.now,
        )
        return said(f"{row.status.capitalize()}:", row)


class ApproveWriteOff(_Decide):
    name, label, approves = "approve", "Approve", True
    icon, tone = "check_circle", "primary"
    intro = "You are the second person. The debt is posted as a loss at once."

    @property
    def heading(self) -> str:
        return f"Give up {Money(self.row.amount, self.row.currency)} that {self.row.host.name} owes?"


class RejectWriteOff(_Decide):
    name, label, approves = "reject", "Reject", False
    icon, tone = "cancel", "danger"
    intro = "The host goes on owing it."

    @property
    def heading(self) -> str:
        return f"Reject the write-off of {Money(self.row.amount, self.row.currency)}?"


@admin.register(WriteOff)
class WriteOffAdmin(StaffAdmin):
    verb = "payouts.view"
    singular, plural = "write-off", "write-offs"
    list_words = "Debts of hosts that are given up: one person of finance proposes, another decides."
    empty_words = "A write-off is proposed from a host’s account page."
    searches = (
        Search("host__email__startswith", "@", str.lower),
        Search("host__code", r"^PN-", str.upper),
        Search("code__startswith", case=str.upper),
    )
    search_help_text = "WO- or PN- code, host’s e-mail"
    views = (
        View("all", "All", everything),
        View("waiting", "Waiting for a second person", lambda rows, desk: rows.filter(status="proposed")),
    )
    list_display = ("write_off", "host_name", "write_off_status", "money_amount", "why", "proposed", "decided")
    list_filter = (("status", filters.Choices), ("proposed_at", filters.Days))
    lookups = ("host__code",)
    list_select_related = ("host", "proposed_by", "decided_by")
    dialogs = (ApproveWriteOff, RejectWriteOff)

    @display(description="Write-off")
    def write_off(self, row: WriteOff) -> SafeString:
        return cells.code(row.code)

    @display(description="Host")
    def host_name(self, row: WriteOff) -> str:
        return row.host.name

    @display(description="Status")
    def write_off_status(self, row: WriteOff) -> SafeString:
        return write_off_status(row)

    @display(description="Amount")
    def money_amount(self, row: WriteOff) -> SafeString:
        return cells.money(row.amount, row.currency)

    @display(description="Why")
    def why(self, row: WriteOff) -> str:
        return row.reason

    @display(description="Proposed")
    def proposed(self, row: WriteOff) -> SafeString:
        return cells.two(cells.instant(row.proposed_at), row.proposed_by.name)

    @display(description="Decided")
    def decided(self, row: WriteOff) -> SafeString:
        if row.decided_at is None:
            return cells.NONE
        return cells.two(cells.instant(row.decided_at), row.decided_by.name if row.decided_by else "")

    def page(self, row: WriteOff, desk: Desk) -> Page:
        may, journals = desk.actor.may("ledger.view"), trail.journals_about([row.code])
        panels: list[Panel] = [_given_up(row, journals, may), Text(title="Why it is given up", text=row.reason)]
        if may:
            panels.append(trail.journals_table(journals, empty="It is posted when a second person approves it."))
        waiting = ["It waits for a second person in finance, never whoever proposed it."]
        return Page(
            title=row.code,
            subtitle=format_html("{} that {} owes", cells.money(row.amount, row.currency), row.host.name),
            status=write_off_status(row),
            warnings=waiting if row.status == "proposed" else (),
            facts=(
                Fact("Host", cells.link(row.host, row.host.name)),
                Fact("Amount", cells.money(row.amount, row.currency)),
                Fact("Proposed by", _by(row.proposed_by, row.proposed_at)),
                Fact("Decided by", _by(row.decided_by, row.decided_at)),
            ),
            panels=(*panels, story.audit_panel([("write_off", row.code)], desk)),
        )


def _given_up(row: WriteOff, journals: list[Journal], may: bool) -> Figures:
    """What is given up, with the loss it was posted as; and what the host then still owes."""
    own = trail.of_event(journals, f"write-off:{row.code}")
    loss = trail.postings(own, "5220") if may else None
    owed = payouts.owed(host_code=row.host.code, currency=row.currency)
    account = reverse("admin:payouts_hostaccount_change", args=[row.host.code])
    return Figures(
        title="How it adds up",
        figures=(
            Figure(
                "Given up", cells.money(row.amount, row.currency), "a loss of ours" if own else "not posted", True, loss
            ),
            Figure("The host owes us now", cells.of(owed), "of the same currency", href=account),
        ),
    )


def write_off_status(row: WriteOff) -> SafeString:
    if row.status == "proposed":
        return cells.status("requested", "waits for approval")
    return cells.status(row.status)
