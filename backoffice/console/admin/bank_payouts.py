"""Bank payouts: what left the provider for a bank, line by line, and whether the lines add up."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cached_property
from typing import Any

from django.contrib import admin
from django.db.models import BigIntegerField, Count, OuterRef, QuerySet, Subquery, Sum
from django.db.models.functions import Coalesce
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.decorators import display

from backoffice.console import cells, filters, story, trail
from backoffice.console.admin.payouts import everything, payouts_table
from backoffice.console.base import StaffAdmin
from backoffice.console.dialogs import Dialog, DialogForm, said
from backoffice.console.door import Desk
from backoffice.console.lists import Search, View
from backoffice.console.page import Column, Fact, Figure, Figures, Page, Panel, Row, Table, Text
from backoffice.core.money import Money
from backoffice.ledger import queries as ledger
from backoffice.ledger.models import Account
from backoffice.payouts import queries as payouts
from backoffice.payouts.models import BankPayout, BankPayoutLine, Payout
from backoffice.workflows import sweep_earnings

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


class Sweep(Dialog):
    """Send what is earned in a currency to our bank; on the page of what we have in it."""

    name, label, verb = "sweep", "Sweep to the bank", "payouts.sweep"
    icon, tone = "account_balance", "primary"
    preview_template = "console/parts/refund_money.html"

    @property
    def heading(self) -> str:
        return f"Send what is earned in {self.row.currency} to our bank?"

    def offered(self) -> bool:
        return self.row.pk is None and self.row.position.earned.amount > 0

    def unoffered(self) -> str:
        return (
            f"Nothing is earned in {self.row.currency} that has not been swept; open the currency’s own page to sweep."
        )

    def version(self) -> int:
        """The sweep before this one: the same form sent again comes after its own."""
        last = payouts.sweeps().filter(currency=self.row.currency).first()
        return last.pk if last is not None else 0

    def preview(self, form: DialogForm) -> dict[str, Any]:
        shown = sweep_earnings.preview(currency=self.row.currency, actor=self.desk.actor, now=self.desk.now)
        return {
            "money": [
                ("Sent to our bank", cells.of(shown.amount)),
                ("Balance at the provider", cells.of(shown.balance)),
                *((f"− {trail.name_of(code)}", cells.of(amount)) for code, amount in shown.owed.items()),
                ("Earned", cells.of(shown.earned)),
                ("Of the balance available now", cells.of(shown.available)),
            ]
        }

    def perform(self, form: DialogForm) -> str:
        self.same(form)
        made = sweep_earnings.sweep(
            currency=self.row.currency, actor=self.desk.actor, reason=form.cleaned_data["reason"], now=self.desk.now
        )
        return said(f"{Money(made.amount, made.currency)} is on its way to our bank:", made)


class Position:
    """What we have in a currency at the provider and what of it is not ours, by the ledger; summed once a request."""

    def __init__(self, currency: str) -> None:
        self.currency = currency

    @cached_property
    def balance(self) -> Money:
        return Money(ledger.balance(account="1100", key="stripe", currency=self.currency), self.currency)

    @cached_property
    def kept(self) -> Mapping[str, Money]:
        return payouts.kept(currency=self.currency)

    @property
    def earned(self) -> Money:
        return self.balance - Money.sum(self.kept.values(), self.currency)


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
    dialogs = (Sweep,)

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

    def above(self, desk: Desk) -> list[Panel]:
        """What we have at the provider, by currency; what of it is earned takes a sum over all that is not ours."""
        rows = [
            Row((_position_link(currency), cells.of(Position(currency).balance)))
            for currency in payouts.sweep_currencies()
        ]
        columns = (Column("Our balance in"), Column("At the provider", "money"))
        note = "Each leads to what of it is earned, and may be swept."
        return [Table(title="Our balance", note=note, columns=columns, rows=rows)] if rows else []

    def find(self, key: str, desk: Desk) -> Any:
        """A bank payout by its code; by a currency, what we have in it and could sweep."""
        if re.fullmatch("[A-Z]{3}", key):
            row: Any = BankPayout(code=key, currency=key, amount=0, created_at=desk.now)
            row.position = Position(key)
            return row
        return super().find(key, desk)

    def page(self, row: Any, desk: Desk) -> Page:
        if row.pk is None:
            return _position(row.position, desk)
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


def _position_link(currency: str) -> SafeString:
    address = reverse("admin:payouts_bankpayout_change", args=[currency])
    return format_html('<a class="sd-link" href="{}">{}</a>', address, currency)


def _position(position: Position, desk: Desk) -> Page:
    """What we have in a currency at the provider, what of it is owed to others, and what is left: that is earned."""
    currency, may = position.currency, desk.actor.may("ledger.view")

    def leads(code: str) -> str:
        return cells.list_of(Account, f"code={code}&currency={currency}&standing=open") if may else ""

    figures = [
        Figure(
            "Balance at the provider",
            cells.of(position.balance),
            "what is ours and what is not",
            True,
            None,
            leads("1100"),
        )
    ]
    figures += [
        Figure(f"{code} {trail.name_of(code)}", cells.of(-amount), "not ours", False, None, leads(code))
        for code, amount in position.kept.items()
    ]
    figures.append(Figure("Earned", cells.of(position.earned), "ours, and not swept yet", True))
    last, left = payouts.left_by_last_sweep(currency=currency)
    sweeps = list(payouts.sweeps().filter(currency=currency)[:20])
    return Page(
        title=f"Our balance in {currency}",
        subtitle="What a sweep may send to our bank is what is earned, as far as it is available there.",
        facts=(
            Fact("Last sweep", cells.lead(last)),
            Fact("It left", cells.of(left) if last else ""),
        ),
        panels=(
            Figures(
                title="How it adds up",
                note="Balance less every credit that stands on an account outside income: what others own is never swept.",
                figures=figures,
            ),
            Table(
                title="Sweeps",
                columns=(
                    Column("Sweep"),
                    Column("Status"),
                    Column("Asked for by"),
                    Column("Arrives"),
                    Column("Amount", "money"),
                ),
                rows=[
                    Row(
                        (
                            cells.two(cells.link(each), cells.instant(each.created_at)),
                            cells.status(each.status),
                            each.requested_by.name if each.requested_by else "by rule",
                            cells.day(each.arrival_on),
                            cells.money(each.amount, each.currency),
                        )
                    )
                    for each in sweeps
                ],
                empty="Nothing has been swept in this currency.",
            ),
        ),
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
