"""Bank payouts: what left the provider for a bank, line by line, and whether the lines add up."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import BigIntegerField, Count, OuterRef, QuerySet, Subquery, Sum
from django.db.models.functions import Coalesce
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.decorators import display

from backoffice.console import cells, filters, story, trail
from backoffice.console.admin.payouts import everything, payouts_table
from backoffice.console.base import StaffAdmin
from backoffice.console.door import Desk
from backoffice.console.lists import Search, View
from backoffice.console.page import Column, Fact, Page, Panel, Row, Table, Text
from backoffice.payouts.models import BankPayout, BankPayoutLine, Payout

_MOST = 200


def _of_lines(what: Any) -> Coalesce:
    lines = BankPayoutLine.objects.filter(bank_payout=OuterRef("pk")).order_by().values("bank_payout")
    return Coalesce(Subquery(lines.annotate(total=what).values("total")), 0, output_field=BigIntegerField())


def adds_up(row: Any) -> SafeString:
    """Whether the lines that are known add up to what left."""
    if not row.lines_count:
        return cells.status("pending", "no lines yet", tone="plain")
    if row.lines_sum == row.amount:
        return cells.status("ok", "adds up")
    return cells.status("failed", "does not add up")


def whose(row: BankPayout) -> str:
    return row.host.name if row.host else "our own"


@admin.register(BankPayout)
class BankPayoutAdmin(StaffAdmin):
    verb = "payouts.view"
    singular, plural = "bank payout", "bank payouts"
    list_words = (
        "The provider’s payouts to banks: of hosts’ accounts by itself, of ours when finance sweeps what is earned. "
        "Each is the sum of its lines, or it is a break."
    )
    empty_words = "The first appears when the provider pays a host’s bank, or when finance sweeps."
    searches = (
        Search("provider_id", r"^po_"),
        Search("account", r"^acct_"),
        Search("host__email__startswith", "@", str.lower),
        Search("code__startswith", case=str.upper),
    )
    search_help_text = "BP- code, po_ or acct_ id, host’s e-mail"
    views = (
        View("all", "All", everything),
        View("own", "Our own", lambda rows, desk: rows.filter(account="")),
        View("hosts", "Hosts’", lambda rows, desk: rows.exclude(account="")),
        View(
            "attention",
            "Needs attention",
            lambda rows, desk: rows.filter(status__in=["failed", "indeterminate"]),
        ),
    )
    list_display = ("bank_payout", "of_whom", "payout_status", "money_amount", "lines_shown", "arrives", "made")
    list_filter = (("status", filters.Choices), ("created_at", filters.Days), ("arrival_on", filters.Days))
    lookups = ("host__code", "account", "currency")
    list_select_related = ("host", "requested_by")

    def get_queryset(self, request: Any) -> QuerySet[BankPayout]:
        rows: QuerySet[BankPayout] = super().get_queryset(request)
        return rows.annotate(lines_sum=_of_lines(Sum("net")), lines_count=_of_lines(Count("pk")))

    @display(description="Bank payout")
    def bank_payout(self, row: BankPayout) -> SafeString:
        return cells.two(cells.code(row.code), cells.code(row.provider_id))

    @display(description="Of")
    def of_whom(self, row: BankPayout) -> SafeString:
        return cells.two(whose(row), "automatic" if row.automatic else "sweep")

    @display(description="Status")
    def payout_status(self, row: BankPayout) -> SafeString:
        return cells.two(cells.status(row.status), row.failure) if row.failure else cells.status(row.status)

    @display(description="Amount")
    def money_amount(self, row: BankPayout) -> SafeString:
        return cells.money(row.amount, row.currency)

    @display(description="Lines")
    def lines_shown(self, row: Any) -> SafeString:
        return adds_up(row)

    @display(description="Arrives")
    def arrives(self, row: BankPayout) -> SafeString:
        return cells.day(row.arrival_on)

    @display(description="Made")
    def made(self, row: BankPayout) -> SafeString:
        return cells.instant(row.created_at)

    def page(self, row: Any, desk: Desk) -> Page:
        carried = list(Payout.objects.filter(bank_payout=row).select_related("booking").order_by("id")[:_MOST])
        panels: list[Panel] = [lines_table(row)]
        if carried:
            panels.append(payouts_table(carried, title="Payouts it carried"))
        if row.reason:
            panels.append(Text(title="Why it was swept", text=row.reason))
        if desk.actor.may("ledger.view"):
            panels.append(trail.journals_table(trail.journals_about([row.code, row.provider_id or ""])))
        if desk.actor.may("webhooks.view"):
            panels.append(trail.webhooks_table([row.provider_id or ""]))
        said = [f"The bank sent it back: {row.failure}"] if row.failure else []
        if row.lines_count and row.lines_sum != row.amount:
            said.append("Its lines do not add up to its amount: reconciliation keeps it as a break until they do.")
        return Page(
            title=row.code,
            subtitle=format_html("{} to the bank, {}", cells.money(row.amount, row.currency), whose(row)),
            status=cells.status(row.status),
            warnings=said,
            facts=(
                Fact("Host", cells.link(row.host, row.host.name) if row.host else ""),
                Fact("Account", cells.lead(row.account) if row.account else "our own"),
                Fact("Made by", "the provider, by itself" if row.automatic else "a sweep"),
                Fact("Asked for by", cells.link(row.requested_by, row.requested_by.name) if row.requested_by else ""),
                Fact("Created", cells.instant(row.created_at)),
                Fact("Arrives", cells.day(row.arrival_on)),
                Fact("Paid", cells.instant(row.paid_at)),
                Fact("Failed", cells.instant(row.failed_at)),
                Fact("At the provider", cells.code(row.provider_id)),
                Fact("On the bank’s statement", cells.code(row.trace)),
            ),
            panels=(*panels, story.audit_panel([("bank_payout", row.code)], desk)),
        )


def lines_table(row: Any) -> Table:
    """The movements a bank payout carried, with their sum beside its amount."""
    lines = list(row.lines.order_by("created", "id")[:_MOST])
    rows = [
        Row(
            (
                cells.instant(line.created),
                cells.lead(line.provider_id),
                cells.words(line.reporting_category).capitalize(),
                cells.lead(line.source_id),
                cells.money(line.net, line.currency),
            )
        )
        for line in lines
    ]
    if lines:
        together = cells.money(row.lines_sum, row.currency)
        rows.append(Row(("Sum of the lines", "", "", adds_up(row), together), strong=True))
        rows.append(Row(("Paid out", "", "", "", cells.money(row.amount, row.currency)), strong=True))
    return Table(
        title="Lines",
        note=f"The first {_MOST} of {row.lines_count:,}." if row.lines_count > _MOST else "",
        columns=(Column("When"), Column("Movement"), Column("Kind"), Column("From"), Column("Net", "money")),
        rows=rows,
        empty="The provider has not itemised it yet.",
    )
