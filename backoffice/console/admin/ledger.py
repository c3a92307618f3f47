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

from backoffice.console import cells, exports, filters, trail
from backoffice.console.base import StaffAdmin
from backoffice.console.door import Desk
from backoffice.console.lists import Search
from backoffice.console.page import Column, Fact, Overview, Page, Panel, Row, Table
from backoffice.console.trail import account, credit, debit, name_of, side
from backoffice.ledger import queries as ledger
from backoffice.ledger.models import Account, Balance, Journal, JournalLine
from backoffice.payments.models import BalanceTransaction

_MOST = 100


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
    list_display = ("account", "kind", "key_shown", "money_balance", "standing_since", "lines_count")
    list_filter = (OpenFilter, ChartFilter)
    lookups = ("key", "currency")
    list_select_related = ()
    overviews = (Overview("trial_balance", "Trial balance", "balance"),)
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

    @display(description="Standing since")
    def standing_since(self, row: Any) -> SafeString:
        open_ = getattr(row, "clearing", None)
        if open_ is None:
            return cells.NONE
        return cells.two(cells.instant(open_.since), "overdue" if row.overdue else f"due {cells.when(open_.due)}")

    def prepare(self, rows: list[Any], desk: Desk) -> None:
        """How long what should have cleared has been standing: one question for the whole page, about its rows alone."""
        chart = ledger.chart()
        asked = [row.pk for row in rows if row.standing and row.code in chart and chart[row.code].clears_within]
        if asked:
            standing = ledger.clearing_open(now=desk.now, accounts=asked)
            found = {(each.account, each.key, each.currency): each for each in standing}
            for row in rows:
                row.clearing = found.get((row.code, row.key, row.currency))
                row.overdue = row.clearing is not None and row.clearing.due <= desk.now

    def page(self, row: Any, desk: Desk) -> Page:
        known = ledger.chart().get(row.code)
        self.prepare([row], desk)
        clearing = getattr(row, "clearing", None)
        statement, whole = _statement(row, desk)
        warnings = []
        if clearing is not None and row.overdue:
            warnings.append(
                f"This should have been zero by {clearing.due:%d %b %Y, %H:%M} UTC: something did not happen, "
                "happened twice, or differs. The lines say what is missing its counterpart."
            )
        if not whole:
            warnings.append("The balance that is kept is not the sum of these lines. Tell on-call: `ops ledger check`.")
        return Page(
            title=f"{row.code} {name_of(row.code)}",
            subtitle=format_html("{} {}", cells.lead(row.key) if row.key else "", row.currency),
            warnings=warnings,
            facts=(
                Fact("Balance", side(row.standing, row.currency)),
                Fact("Lines", f"{row.posted:,}"),
                Fact("Kind", known.kind.capitalize() if known else ""),
                Fact(f"Key ({known.dimension})" if known and known.dimension else "Key", cells.lead(row.key)),
                Fact("Should clear within", _within(row.code)),
                Fact("Standing since", cells.instant(clearing.since) if clearing else ""),
                Fact("Should be zero by", cells.instant(clearing.due) if clearing else ""),
                Fact("Other accounts of this key", _same_key(row)),
                Fact("What it is for", known.note if known else ""),
            ),
            panels=(statement,),
        )

    def trial_balance(self, desk: Desk) -> Page:
        """Every code with what stands on it, by currency: debits equal credits, or something is broken."""
        rows = ledger.trial_balance()
        panels: list[Panel] = []
        for currency in sorted({row.currency for row in rows}):
            of = [row for row in rows if row.currency == currency and (row.debit or row.credit)]
            debits, credits = sum(row.debit for row in of), sum(row.credit for row in of)
            panels.append(_trial_of(currency, of, debits, credits))
        return Page(
            title="Trial balance",
            subtitle="What stands on every account now. Each leads to the accounts behind it.",
            status=cells.status("ok", "adds up")
            if all(
                sum(row.debit - row.credit for row in rows if row.currency == currency) == 0
                for currency in {row.currency for row in rows}
            )
            else cells.status("failed", "does not add up"),
            panels=panels
            or [Table(title="Nothing posted yet", empty="The first captured payment makes the first journal.")],
        )


def _trial_of(currency: str, rows: list[ledger.TrialRow], debits: int, credits: int) -> Table:
    shown = [
        Row(
            (
                format_html(
                    '<a class="sd-link" href="{}">{} {}</a>',
                    cells.list_of(Account, f"code={row.code}&currency={currency}&standing=open"),
                    row.code,
                    row.name,
                ),
                row.kind.capitalize(),
                cells.money(row.debit, currency) if row.debit else cells.NONE,
                cells.money(row.credit, currency) if row.credit else cells.NONE,
            )
        )
        for row in rows
    ]
    shown.append(Row(("Together", "", cells.money(debits, currency), cells.money(credits, currency)), strong=True))
    return Table(
        title=currency,
        columns=(Column("Account"), Column("Kind"), Column("Debit", "money"), Column("Credit", "money")),
        rows=shown,
    )


def _statement(row: Any, desk: Desk) -> tuple[Table, bool]:
    """The account's lines, newest first, between what it closes and what it opens with; and whether all of it adds up.

    `?before=LINE` is the page of older lines, closing with what stood before that line."""
    asked = desk.request.GET.get("before", "")
    before = int(asked) if asked.isascii() and asked.isdigit() and len(asked) < 19 else 0
    lines = JournalLine.objects.filter(account=row)
    closing = row.standing
    if before:
        lines = lines.filter(id__lt=before)
        closing = lines.aggregate(total=Sum("amount", default=0))["total"]
    found = list(lines.select_related("journal").order_by("-id")[: _MOST + 1])
    older, found = len(found) > _MOST, found[:_MOST]
    balance = closing
    rows = [_edge("Closing balance", side(closing, row.currency))]
    for line in found:
        rows.append(Row((*_told(line.journal), debit(line), credit(line), side(balance, row.currency))))
        balance -= line.amount
    rows.append(_edge("Opening balance", side(balance, row.currency)))
    table = Table(
        title="Statement",
        note="Opening balance + lines = closing balance, newest first, with the balance after each line.",
        columns=(
            Column("When"),
            Column("Journal"),
            Column("About"),
            Column("Debit", "money"),
            Column("Credit", "money"),
            Column("Balance", "money"),
        ),
        rows=rows if found else [],
        empty="Nothing was ever posted here.",
        more=f"?before={found[-1].pk}" if older else ("?" if before else ""),
        more_text="Older lines" if older else "Newest lines",
    )
    return table, older or balance == 0


def _edge(label: str, balance: SafeString) -> Row:
    return Row(("", label, "", "", "", balance), strong=True)


def _told(journal: Journal) -> tuple[SafeString, SafeString, SafeString]:
    """A journal in the columns of a statement: when, what, and about what, with the id of the thing itself beneath. Few
    columns: the balance stands in the last, and must be seen without moving the table."""
    return (
        cells.instant(journal.effective_at),
        cells.two(cells.link(journal, trail.kind_of(journal)), journal.memo),
        cells.two(subject(journal.subject), cells.lead(journal.reference)),
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
    return cells.lead(code)


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
        return cells.two(trail.kind_of(row).capitalize(), cells.code(f"#{row.pk}"))

    @display(description="About")
    def about(self, row: Journal) -> SafeString:
        return subject(row.subject)

    @display(description="Reference")
    def reference_shown(self, row: Journal) -> SafeString:
        return cells.lead(row.reference)

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
                    account(line.account),
                    cells.lead(line.account.key),
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
            subtitle=trail.kind_of(row).capitalize(),
            status=cells.status("failed", "reversed") if reversal else "",
            facts=(
                Fact("About", subject(row.subject)),
                Fact("Provider’s id", cells.lead(row.reference)),
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
                *_origin(row, desk),
            ),
        )


def _origin(row: Journal, desk: Desk) -> list[Panel]:
    """Where the provider told of it: the movement it was posted from, and the webhooks about the object behind it."""
    if not row.reference:
        return []
    movement = BalanceTransaction.objects.filter(provider_id=row.reference).first()
    panels: list[Panel] = []
    if movement is not None and desk.actor.may("payments.view"):
        panels.append(trail.movements_table([movement.source_id], title="The provider’s movements of the same object"))
    if desk.actor.may("webhooks.view"):
        panels.append(trail.webhooks_table([row.reference, movement.source_id if movement else ""]))
    return panels


def lines_of(row: Journal) -> SafeString:
    """The debits of a journal in one cell: where the money went, and how much."""
    debits = [line for line in row.lines.all() if line.amount > 0]
    if not debits:
        return cells.NONE
    largest = max(debits, key=lambda line: line.amount)
    others = f" and {len(debits) - 1} more" if len(debits) > 1 else ""
    return cells.two(cells.money(largest.amount, largest.currency), f"to {name_of(largest.account.code)}{others}")
