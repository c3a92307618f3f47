"""The ledger: accounts with the postings behind their balances, and journals."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import BigIntegerField, OuterRef, Prefetch, QuerySet, Subquery, Sum, Value
from django.db.models.functions import Coalesce
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from import_export.fields import Field
from unfold.contrib.filters.admin import RadioFilter
from unfold.decorators import display

from backoffice.bookings.models import Booking
from backoffice.console import cells, exports, filters
from backoffice.console.base import StaffAdmin
from backoffice.console.door import Desk
from backoffice.console.lists import Search
from backoffice.console.page import Column, Fact, Page, Row, Table
from backoffice.ledger import queries as ledger
from backoffice.ledger.models import Account, Balance, Journal, JournalLine

_MOST = 100


def name_of(code: str) -> str:
    """An account's name in the chart."""
    known = ledger.chart().get(code)
    return known.name if known else "not in the chart"


def debit(line: JournalLine) -> SafeString:
    return cells.money(line.amount, line.currency) if line.amount > 0 else cells.NONE


def credit(line: JournalLine) -> SafeString:
    return cells.money(-line.amount, line.currency) if line.amount < 0 else cells.NONE


def side(amount: int, currency: str) -> SafeString:
    """A balance with the side it stands on."""
    shown = cells.money(abs(amount), currency)
    return format_html('{} <span class="sd-side-word">{}</span>', shown, "Dr" if amount > 0 else "Cr" if amount else "")


def _sum_of_slots(column: str) -> Coalesce:
    """An account that every booking moves keeps its balance in several slots; what stands is their sum."""
    slots = Balance.objects.filter(account=OuterRef("pk")).order_by().values("account")
    return Coalesce(
        Subquery(slots.annotate(total=Sum(column)).values("total")), Value(0), output_field=BigIntegerField()
    )


class OpenFilter(RadioFilter):
    """Balances that stand, and of those the ones that should have cleared."""

    title = "balance"
    parameter_name = "standing"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("open", "Not zero"), ("clearing", "Clearing, not zero")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if self.value() in {"open", "clearing"}:
            queryset = queryset.exclude(standing=0)
        if self.value() == "clearing":
            codes = [code for code, account in ledger.chart().items() if account.clears_within is not None]
            queryset = queryset.filter(code__in=codes)
        return queryset


class ChartFilter(RadioFilter):
    title = "account"
    parameter_name = "code"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(code, f"{code} {account.name}") for code, account in ledger.chart().items()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Account]) -> QuerySet[Account]:
        return queryset.filter(code=self.value()) if self.value() else queryset


class AccountsExport(exports.Resource):
    code = Field("code", "code")
    name = Field(column_name="name")
    key = Field("key", "key")
    currency = Field("currency", "currency")
    balance = Field(column_name="balance (debit positive)")

    def dehydrate_name(self, row: Any) -> str:
        return name_of(row.code)

    def dehydrate_balance(self, row: Any) -> Any:
        return exports.amount(row.standing, row.currency)


@admin.register(Account)
class AccountAdmin(StaffAdmin):
    verb, export_verb = "ledger.view", "ledger.export"
    singular, plural = "account", "ledger accounts"
    key = "pk"
    list_words = (
        "One row per account, key and currency. The database keeps each balance equal to the sum of its lines; "
        "a clearing account that is not zero is something that has not happened yet, or happened twice."
    )
    empty_words = "The first captured payment opens the first accounts."
    searches = (Search("code", r"^\d{4}$"), Search("key"))
    search_help_text = "a code such as 2100, or a key: a booking, a charge, a host"
    list_display = ("account", "kind", "key_shown", "money_balance", "lines_count")
    list_filter = (OpenFilter, ChartFilter)
    lookups = ("key", "currency")
    list_select_related = ()
    resource_classes = (AccountsExport,)

    def get_queryset(self, request: Any) -> QuerySet[Account]:
        rows: QuerySet[Account] = (
            super().get_queryset(request).annotate(standing=_sum_of_slots("balance"), posted=_sum_of_slots("version"))
        )
        return rows

    @display(description="Account")
    def account(self, row: Any) -> SafeString:
        return cells.two(format_html("{} {}", cells.code(row.code), name_of(row.code)), row.currency)

    @display(description="Kind")
    def kind(self, row: Any) -> str:
        known = ledger.chart().get(row.code)
        return known.kind.capitalize() if known else "?"

    @display(description="Key")
    def key_shown(self, row: Any) -> SafeString:
        return cells.code(row.key)

    @display(description="Balance")
    def money_balance(self, row: Any) -> SafeString:
        return side(row.standing, row.currency)

    @display(description="Lines")
    def lines_count(self, row: Any) -> str:
        return f"{row.posted:,}"

    def page(self, row: Any, desk: Desk) -> Page:
        known = ledger.chart().get(row.code)
        lines = list(JournalLine.objects.filter(account=row).select_related("journal").order_by("-id")[: _MOST + 1])
        more = len(lines) > _MOST
        balance = row.standing
        rows = []
        for line in lines[:_MOST]:
            journal = line.journal
            rows.append(
                Row(
                    (
                        cells.instant(journal.effective_at),
                        cells.two(cells.link(journal, cells.words(journal.kind)), journal.memo or journal.reference),
                        subject(journal.subject),
                        debit(line),
                        credit(line),
                        side(balance, row.currency),
                    )
                )
            )
            balance -= line.amount
        note = "The postings behind the balance, newest first, with the balance after each."
        return Page(
            title=f"{row.code} {name_of(row.code)}",
            subtitle=" ".join(part for part in (row.key, row.currency) if part),
            facts=(
                Fact("Balance", side(row.standing, row.currency)),
                Fact("Lines", f"{row.posted:,}"),
                Fact("Kind", known.kind.capitalize() if known else ""),
                Fact(f"Key ({known.dimension})" if known and known.dimension else "Key", cells.code(row.key)),
                Fact("Should clear within", _within(row.code)),
                Fact("Other accounts of this key", _same_key(row)),
            ),
            panels=(
                Table(
                    title="Statement",
                    note=f"{note} Only the latest {_MOST} are shown." if more else note,
                    columns=(
                        Column("When"),
                        Column("Journal"),
                        Column("About"),
                        Column("Debit", "money"),
                        Column("Credit", "money"),
                        Column("Balance", "money"),
                    ),
                    rows=rows,
                    empty="Nothing was ever posted here.",
                ),
            ),
        )


def _within(code: str) -> str:
    known = ledger.chart().get(code)
    if known is None or known.clears_within is None:
        return "need not clear"
    hours = int(known.clears_within.total_seconds()) // 3600
    return f"{hours} h" if hours < 72 else f"{hours // 24} days"


def _same_key(row: Account) -> SafeString | str:
    if not row.key:
        return ""
    return format_html('<a class="sd-link" href="{}">show them</a>', cells.list_of(Account, f"key={row.key}"))


def subject(code: str) -> SafeString:
    """What a journal is about; a booking is led to by its list, which costs no lookup."""
    if code.startswith("BK-"):
        return format_html(
            '<a class="sd-link sd-nobreak" href="{}">{}</a>',
            reverse("admin:bookings_booking_change", args=[code]),
            code,
        )
    return cells.code(code)


class JournalsExport(exports.Resource):
    id = Field("id", "journal")
    kind = Field("kind", "kind")
    subject = Field("subject", "about")
    reference = Field("reference", "reference")
    memo = Field("memo", "memo")
    effective_at = Field("effective_at", "effective")
    recorded_at = Field("recorded_at", "recorded")
    lines = Field(column_name="lines")

    def dehydrate_lines(self, row: Journal) -> str:
        return "; ".join(
            f"{'Dr' if line.amount > 0 else 'Cr'} {line.account.code} {line.account.key} {abs(line.money)}"
            for line in row.lines.all()
        )


@admin.register(Journal)
class JournalAdmin(StaffAdmin):
    verb, export_verb = "ledger.view", "ledger.export"
    singular, plural = "journal", "journals"
    key = "pk"
    list_words = (
        "One journal per business fact; its lines sum to zero in every currency. A mistake is reversed, never edited."
    )
    empty_words = "The first captured payment makes the first journal."
    searches = (
        Search("pk", r"^#?\d{1,18}$", lambda term: term.lstrip("#")),
        Search("subject", r"^BK-", str.upper),
        Search("idempotency_key", r":"),
        Search("reference"),
    )
    search_help_text = "a booking, a provider's id, a journal's number or key"
    list_display = ("journal", "about", "reference_shown", "moved", "effective")
    list_filter = (("effective_at", filters.Days),)
    lookups = ("subject", "reference", "kind")
    list_select_related = ()
    resource_classes = (JournalsExport,)

    def get_queryset(self, request: Any) -> QuerySet[Journal]:
        lines = Prefetch("lines", JournalLine.objects.select_related("account").order_by("id"))
        rows: QuerySet[Journal] = super().get_queryset(request).prefetch_related(lines)
        return rows

    @display(description="Journal")
    def journal(self, row: Journal) -> SafeString:
        return cells.two(cells.words(row.kind).capitalize(), cells.code(f"#{row.pk}"))

    @display(description="About")
    def about(self, row: Journal) -> SafeString:
        return subject(row.subject)

    @display(description="Reference")
    def reference_shown(self, row: Journal) -> SafeString:
        return cells.code(row.reference)

    @display(description="Moved")
    def moved(self, row: Journal) -> SafeString:
        return lines_of(row)

    @display(description="Effective")
    def effective(self, row: Journal) -> SafeString:
        return cells.instant(row.effective_at)

    def page(self, row: Journal, desk: Desk) -> Page:
        reversal = Journal.objects.filter(reverses=row).first()
        lines = list(row.lines.all())
        rows = [
            Row(
                (
                    cells.link(line.account, f"{line.account.code} {name_of(line.account.code)}"),
                    cells.code(line.account.key),
                    debit(line),
                    credit(line),
                )
            )
            for line in lines
        ]
        for currency in sorted({line.currency for line in lines}):
            total = sum(line.amount for line in lines if line.currency == currency and line.amount > 0)
            shown = cells.money(total, currency)
            rows.append(Row((f"Sum {currency}", "", shown, shown), strong=True))
        return Page(
            title=f"Journal #{row.pk}",
            subtitle=cells.words(row.kind).capitalize(),
            status=cells.status("failed", "reversed") if reversal else "",
            facts=(
                Fact("About", subject(row.subject)),
                Fact("Reference", cells.code(row.reference)),
                Fact("Effective", cells.instant(row.effective_at)),
                Fact("Recorded", cells.instant(row.recorded_at)),
                Fact("By", row.actor),
                Fact("Reverses", cells.link(row.reverses, f"journal #{row.reverses_id}") if row.reverses_id else ""),
                Fact("Reversed by", cells.link(reversal, f"journal #{reversal.pk}") if reversal else ""),
                Fact("Key", cells.code(row.idempotency_key)),
                Fact("Memo", row.memo),
            ),
            panels=(
                Table(
                    title="Lines",
                    columns=(Column("Account"), Column("Key"), Column("Debit", "money"), Column("Credit", "money")),
                    rows=rows,
                    empty="A journal without lines cannot exist; call on-call.",
                ),
            ),
        )


def lines_of(row: Journal) -> SafeString:
    """The debits of a journal in one cell: where the money went, and how much."""
    debits = [line for line in row.lines.all() if line.amount > 0]
    if not debits:
        return cells.NONE
    largest = max(debits, key=lambda line: line.amount)
    others = f" and {len(debits) - 1} more" if len(debits) > 1 else ""
    return cells.two(cells.money(largest.amount, largest.currency), f"to {name_of(largest.account.code)}{others}")


def trace_table(booking: Booking, journals: list[Journal]) -> Table:
    """Every posting about a booking, first to last."""
    rows = []
    for journal in journals:
        for index, line in enumerate(journal.lines.all()):
            rows.append(
                Row(
                    (
                        cells.instant(journal.effective_at) if index == 0 else "",
                        cells.link(journal, cells.words(journal.kind)) if index == 0 else "",
                        cells.link(line.account, f"{line.account.code} {name_of(line.account.code)}"),
                        debit(line),
                        credit(line),
                    ),
                    quiet=index > 0,
                )
            )
    return Table(
        title="Postings",
        note="Every journal about this booking, as the ledger holds it.",
        columns=(
            Column("When"),
            Column("Journal"),
            Column("Account"),
            Column("Debit", "money"),
            Column("Credit", "money"),
        ),
        rows=rows,
        empty="No money has moved for this booking yet.",
        more=cells.list_of(Journal, f"subject={booking.code}"),
    )
