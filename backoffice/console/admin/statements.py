"""The bank's statement lines: what each is, and where it was posted."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from unfold.decorators import display

from backoffice.console import cells, filters, story, trail
from backoffice.console.base import StaffAdmin
from backoffice.console.door import Desk
from backoffice.console.lists import Search, View
from backoffice.console.page import Column, Fact, Figure, Figures, Page, Panel, Row, Table
from backoffice.core.money import Money
from backoffice.ledger.models import Journal
from backoffice.reconciliation import queries
from backoffice.reconciliation.models import BankMatch, Break, StatementLine


def everything(rows: QuerySet[Any], desk: Desk) -> QuerySet[Any]:
    return rows


@admin.register(StatementLine)
class StatementLineAdmin(StaffAdmin):
    verb = "breaks.view"
    singular, plural = "bank line", "bank lines"
    list_words = (
        "What our bank booked, as its statements say: each line is a payout of the provider’s, or waits in suspense (9900) "
        "until somebody knows what it is."
    )
    empty_words = "No statement has been read yet: `ops reconcile bank --file statement.xml`."
    searches = (
        Search("code", r"^BL-", str.upper),
        Search("matches__bank_payout__code", r"^BP-", str.upper),
        Search("matches__bank_payout__provider_id", r"^po_"),
        Search("reference"),
    )
    search_help_text = "BL- code, the payout’s BP- code or po_ id, or the bank’s whole reference"
    views = (
        View("all", "All", everything),
        View("suspense", "In suspense", lambda rows, desk: rows.filter(code__in=queries.suspended())),
        View("proposed", "Match proposed", lambda rows, desk: rows.filter(matches__status="proposed").distinct()),
        View("returned", "Sent back", lambda rows, desk: rows.filter(returned=True)),
    )
    list_display = ("line", "booked", "money_amount", "standing", "matched_to", "banks_reference")
    list_filter = (("booked_on", filters.Days),)
    lookups = ("account", "currency")
    list_select_related = ()

    def get_queryset(self, request: Any) -> QuerySet[StatementLine]:
        rows: QuerySet[StatementLine] = super().get_queryset(request)
        return rows.prefetch_related(queries.WITH_MATCHES)

    def prepare(self, rows: list[Any], desk: Desk) -> None:
        left = queries.suspended(codes=[row.code for row in rows])
        for row in rows:
            row.left = left.get(row.code)

    @display(description="Bank line")
    def line(self, row: StatementLine) -> SafeString:
        return cells.two(_short(row.text or row.trace or "Without a text"), cells.code(row.code))

    @display(description="Booked on")
    def booked(self, row: StatementLine) -> SafeString:
        return cells.day(row.booked_on)

    @display(description="Amount")
    def money_amount(self, row: StatementLine) -> SafeString:
        return cells.money(row.amount, row.currency, signed=True)

    @display(description="Where it stands")
    def standing(self, row: Any) -> SafeString:
        return stands(row, row.left)

    @display(description="Matched to")
    def matched_to(self, row: StatementLine) -> SafeString:
        return matched(row)

    @display(description="Bank’s reference")
    def banks_reference(self, row: StatementLine) -> SafeString:
        return cells.code(row.reference)

    def page(self, row: StatementLine, desk: Desk) -> Page:
        left = queries.suspended(codes=[row.code]).get(row.code)
        journals = trail.journals_about([row.code, f"bank:{row.code}"])
        may = desk.actor.may("ledger.view")
        panels: list[Panel] = [_adds_up(row, left, journals, may), _matches(row)]
        if may:
            panels.append(trail.journals_table(journals, empty="The next run of reconciliation posts it."))
        found = Break.objects.filter(fact=f"bank:{row.code}").order_by("-id").first()
        things = [("bank_match", str(match.pk)) for match in row.matches.all()]
        return Page(
            title=row.code,
            subtitle=format_html(
                "{} booked on {}", cells.money(row.amount, row.currency, signed=True), cells.day(row.booked_on)
            ),
            status=stands(row, left),
            warnings=_warnings(row, left),
            facts=(
                Fact("Text", row.text),
                Fact("Account", cells.code(row.account)),
                Fact("Booked on", cells.day(row.booked_on)),
                Fact("Value day", cells.day(row.value_on)),
                Fact("Bank’s reference", cells.code(row.reference)),
                Fact("Sender’s reference", cells.code(row.trace)),
                Fact("Sent back", "The bank says that it took it back" if row.returned else ""),
                Fact("Journal", _journal(row, may)),
                Fact("Break", cells.link(found, found.code) if found else ""),
                Fact("Imported", cells.instant(row.imported_at)),
            ),
            panels=(*panels, story.audit_panel(things, desk)),
        )


def line_words(row: StatementLine, amount: Money) -> str:
    """A line where one of several is chosen: what stands of it, when it was booked, what the bank wrote, its code."""
    text = row.text or row.trace or row.reference
    shown = f"{text[:39].rstrip()}…" if len(text) > 40 else text
    return " · ".join(part for part in (str(amount), cells.day_text(row.booked_on), shown, row.code) if part)


def _short(text: str) -> SafeString:
    """The beginning of what a bank wrote, as much as a narrow screen holds; the whole is on hover and on the page."""
    shown = text if len(text) <= 30 else f"{text[:29].rstrip()}…"
    return format_html('<span title="{}">{}</span>', text, shown)


def stands(row: StatementLine, left: Money | None) -> SafeString:
    """Whether it is known what a line is, with what is still in suspense of it."""
    if row.journal_id is None:
        return cells.status("new", "Not posted yet", tone="plain")
    if left is not None:
        whole = abs(left.amount) == abs(row.amount)
        return cells.two(cells.status("open", "In suspense", tone="warning"), "" if whole else cells.of(left))
    if any(match.status == "confirmed" for match in row.matches.all()):
        return cells.status("matched", tone="success")
    return cells.status("settled", "Settled otherwise", tone="success")


def matched(row: StatementLine) -> SafeString:
    """The payouts that a line is, or may be."""
    said = [
        cells.two(
            cells.lead(match.bank_payout.code),
            cells.words(match.method) if match.status == "confirmed" else f"proposed, {match.confidence} %",
        )
        for match in row.matches.all()
        if match.status != "rejected"
    ]
    return format_html_join(" ", "{}", ((one,) for one in said)) if said else cells.NONE


def _warnings(row: StatementLine, left: Money | None) -> list[str]:
    if left is None:
        return []
    proposed = any(match.status == "proposed" for match in row.matches.all())
    next_step: str = "Its break asks whether the proposed match is right." if proposed else "Find out whose it is."
    if left.amount > 0 and not proposed:
        maybe = [(cells.link(refund, refund.code),) for refund in queries.refunds_back_less(amount=left)]
        if maybe:
            next_step = format_html(
                "{} It may be what a bank has left of a refund that it sent back; its page takes this line: {}.",
                next_step,
                format_html_join(", ", "{}", maybe),
            )
    return [format_html("{} stand in suspense (9900). {}", str(left), next_step)]


def _journal(row: StatementLine, may: bool) -> SafeString | str:
    if row.journal_id is None:
        return ""
    return cells.link(Journal(pk=row.journal_id), f"#{row.journal_id}") if may else f"#{row.journal_id}"


def _adds_up(row: StatementLine, left: Money | None, journals: list[Journal], may: bool) -> Figures:
    """The line, what of it is known, and what is left: each unfolding into its postings."""
    own = [journal for journal in journals if journal.pk == row.journal_id]
    booked = trail.postings(own, "1010") if may else None
    figures = [
        Figure(
            "What the bank booked", cells.money(row.amount, row.currency, signed=True), row.text, True, booked or None
        )
    ]
    for match in row.matches.all():
        if match.status == "confirmed":
            posted = [journal for journal in journals if journal.pk == match.journal_id]
            found = trail.postings(posted, "1160", credited=True) if may else None
            amount = cells.money(match.amount, row.currency, signed=True)
            figures.append(
                Figure(format_html("Payout {}", cells.lead(match.bank_payout.code)), amount, "", False, found)
            )
    standing = trail.postings(journals, "9900", key=f"bank:{row.code}", credited=True)
    if standing:
        shown = cells.of(left or Money.zero(row.currency), signed=True)
        figures.append(
            Figure("Left in suspense", shown, "nobody knows yet what it is", True, standing if may else None)
        )
    return Figures(title="What it is", figures=figures)


def _matches(row: StatementLine) -> Table:
    return Table(
        title="Matches",
        note="By its trace or name a payout is found; what only adds up is proposed, and a person says whether it is one.",
        columns=(Column("Payout"), Column("Status"), Column("By"), Column("Decided"), Column("Amount", "money")),
        rows=[
            Row(
                (
                    cells.lead(match.bank_payout.code),
                    cells.status(match.status),
                    f"{cells.words(match.method)}, {match.confidence} %",
                    _decided(match),
                    cells.money(match.amount, row.currency, signed=True),
                )
            )
            for match in row.matches.all()
        ],
        empty="No payout is known for it.",
    )


def _decided(match: BankMatch) -> SafeString:
    if match.decided_at is None:
        return cells.NONE
    by = match.decided_by.name if match.decided_by else "a run"
    return cells.two(by, cells.instant(match.decided_at))
