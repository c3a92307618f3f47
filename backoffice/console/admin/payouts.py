"""Payouts: what each stay owes its host, why it waits, and every cent of it explained."""

from __future__ import annotations

from typing import Any, Final

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.utils.html import format_html
from django.utils.safestring import SafeString
from import_export.fields import Field
from unfold.decorators import display

from backoffice.console import cells, exports, filters, story, trail
from backoffice.console.base import StaffAdmin
from backoffice.console.door import Desk
from backoffice.console.lists import Search, View
from backoffice.console.page import Column, Fact, Figure, Figures, Page, Panel, Row, Table
from backoffice.core.money import Money
from backoffice.ledger.models import Journal
from backoffice.payouts.models import Clawback, Payout, PayoutHold
from backoffice.payouts.states import UNRELEASED

# How a status is said where it is not its own word.
_WORDS: Final = {
    "releasable": "ready",
    "in_transfer": "being sent",
    "netted": "kept for a debt",
    "void": "nothing owed",
}


def status(row: Payout) -> SafeString:
    return cells.status(row.status, _WORDS.get(row.status, ""))


def amount(row: Payout) -> SafeString:
    """What the payout is now: sent once it was released, before that the host's share that is expected."""
    if row.transfer_currency:
        return cells.money(row.transfer_amount, row.transfer_currency)
    return cells.money(row.held, row.currency)


def waits(row: Payout) -> SafeString:
    """Why it is not sent, and until when where that is known."""
    if row.status == "failed":
        return cells.two(row.failure or "The provider refused the transfer.", "retry it, or wait for the next run")
    if not row.waits_for:
        return cells.NONE
    return cells.two(row.waits_for, f"until {cells.when(row.waits_until)}" if row.waits_until else "")


def needs_attention(rows: QuerySet[Payout], desk: Desk) -> QuerySet[Payout]:
    """What a person should look at: refused transfers, payouts that wait though they are due, and calls without an answer."""
    overdue = Q(status__in=UNRELEASED, due_at__lte=desk.now)
    return rows.filter(Q(status="failed") | overdue | Q(status="in_transfer", submitted_at__isnull=False))


def everything(rows: QuerySet[Any], desk: Desk) -> QuerySet[Any]:
    return rows


class PayoutsExport(exports.Resource):
    code = Field("code", "payout")
    booking = Field("booking__code", "booking")
    host = Field("host__code", "host")
    status = Field("status", "status")
    held = Field(column_name="host's share")
    currency = Field("currency", "currency")
    due_at = Field("due_at", "due")
    waits_for = Field("waits_for", "waits for")
    netted = Field(column_name="kept for a debt")
    transferred = Field(column_name="transferred")
    transfer_currency = Field("transfer_currency", "transfer currency")
    reversed = Field(column_name="taken back")
    transfer_id = Field("transfer_id", "transfer")
    released_at = Field("released_at", "released")
    transferred_at = Field("transferred_at", "transferred at")
    paid_at = Field("paid_at", "paid")

    def dehydrate_held(self, row: Payout) -> Any:
        return exports.amount(row.held, row.currency)

    def dehydrate_netted(self, row: Payout) -> Any:
        return exports.amount(row.netted, row.transfer_currency or row.currency)

    def dehydrate_transferred(self, row: Payout) -> Any:
        return exports.amount(row.transfer_amount, row.transfer_currency or row.currency)

    def dehydrate_reversed(self, row: Payout) -> Any:
        return exports.amount(row.reversed_amount, row.transfer_currency or row.currency)


@admin.register(Payout)
class PayoutAdmin(StaffAdmin):
    verb, export_verb = "payouts.view", "payouts.export"
    singular, plural = "payout", "payouts"
    list_words = "What each stay owes its host: one release, one transfer. Released a day after check-in, unless something holds it."
    empty_words = "A payout is planned when a booking is confirmed."
    searches = (
        Search("host__email__startswith", "@", str.lower),
        Search("booking__code", r"^BK-", str.upper),
        Search("host__code", r"^PN-", str.upper),
        Search("transfer_id", r"^tr_"),
        Search("code__startswith", case=str.upper),
    )
    search_help_text = "PO-, BK- or PN- code, tr_ id, host’s e-mail"
    views = (
        View("all", "All", everything),
        View("attention", "Needs attention", needs_attention, soonest="due_at"),
        View("due", "Next due", lambda rows, desk: rows.filter(status__in=UNRELEASED), soonest="due_at"),
    )
    list_display = ("payout", "host_name", "payout_status", "money_amount", "due", "why")
    list_filter = (("status", filters.Choices), ("due_at", filters.Days), ("transferred_at", filters.Days))
    lookups = ("booking__code", "host__code", "currency", "bank_payout__code")
    list_select_related = ("booking", "host")
    resource_classes = (PayoutsExport,)

    @display(description="Payout")
    def payout(self, row: Payout) -> SafeString:
        return cells.two(cells.code(row.code), f"for {row.booking.code}")

    @display(description="Host")
    def host_name(self, row: Payout) -> str:
        return row.host.name

    @display(description="Status")
    def payout_status(self, row: Payout) -> SafeString:
        return status(row)

    @display(description="Amount")
    def money_amount(self, row: Payout) -> SafeString:
        return amount(row)

    @display(description="Due")
    def due(self, row: Payout) -> SafeString:
        return cells.instant(row.due_at)

    @display(description="Why it waits")
    def why(self, row: Payout) -> SafeString:
        return waits(row)

    def page_rows(self, desk: Desk) -> QuerySet[Any]:
        return super().page_rows(desk).select_related("booking__payment", "bank_payout", "remainder_of")

    def page(self, row: Payout, desk: Desk) -> Page:
        holds = list(
            PayoutHold.objects.filter(booking=row.booking).select_related("owner", "placed_by").order_by("-id")
        )
        clawbacks = list(row.clawbacks.select_related("requested_by").order_by("-id"))
        others = list(Payout.objects.filter(booking=row.booking).exclude(pk=row.pk).order_by("number"))
        names = [row.code, row.transfer_id or "", *(each.code for each in clawbacks)]
        journals = trail.journals_about(names)
        panels: list[Panel] = [how_it_adds_up(row, holds, clawbacks, journals, desk)]
        panels.append(holds_table(holds))
        if clawbacks:
            panels.append(clawbacks_table(clawbacks))
        if others:
            panels.append(payouts_table(others, title="Other payouts of this stay"))
        panels.append(trail.movements_table(provider_objects(row, clawbacks)))
        if desk.actor.may("ledger.view"):
            panels.append(trail.journals_table(journals, empty="A payout is posted when it is released."))
        if desk.actor.may("webhooks.view"):
            bank = row.bank_payout.provider_id if row.bank_payout else ""
            panels.append(trail.webhooks_table([*provider_objects(row, clawbacks), bank or ""]))
        things = [("payout", row.code), *(("payout_hold", each.code) for each in holds)]
        things += [("clawback", each.code) for each in clawbacks]
        return Page(
            title=row.code,
            subtitle=format_html("{} to {}", amount(row), row.host.name),
            status=status(row),
            warnings=warnings(row, desk),
            facts=_facts(row),
            panels=(*panels, story.audit_panel(things, desk)),
        )


def warnings(row: Payout, desk: Desk) -> list[str]:
    """Why it waits or failed, in the words that its host reads."""
    said = []
    if row.status == "failed":
        said.append(f"The transfer was refused: {row.failure or 'the provider gave no reason'}.")
    elif row.waits_for:
        until = f" Until {cells.when(row.waits_until)}." if row.waits_until else ""
        said.append(f"{row.waits_for}{until}")
    elif row.status in UNRELEASED and row.due_at <= desk.now:
        said.append("It is due; the next run of the release takes it.")
    return said


def _facts(row: Payout) -> tuple[Fact, ...]:
    payment = getattr(row.booking, "payment", None)
    return (
        Fact("Booking", cells.link(row.booking)),
        Fact("Host", cells.link(row.host, row.host.name)),
        Fact("Payment", cells.link(payment)),
        Fact("Instalment", str(row.number) if row.number > 1 else ""),
        Fact("Rest of", cells.link(row.remainder_of) if row.remainder_of else ""),
        Fact("Due", cells.instant(row.due_at)),
        Fact("By the rules of", row.policy),
        Fact("Released", cells.instant(row.released_at)),
        Fact("Transfer asked for", cells.instant(row.submitted_at)),
        Fact("Transferred", cells.instant(row.transferred_at)),
        Fact("Transfer", cells.code(row.transfer_id)),
        Fact("Draws on", cells.lead(row.source_charge)),
        Fact("Tries", str(row.tries) if row.tries > 1 else ""),
        Fact("Bank payout", cells.link(row.bank_payout) if row.bank_payout else ""),
        Fact("Reached the bank", cells.instant(row.paid_at)),
    )


def provider_objects(row: Payout, clawbacks: list[Clawback]) -> list[str]:
    """The provider's objects that moved this payout's money."""
    return [each for each in (row.transfer_id, *(claw.provider_id for claw in clawbacks)) if each]


# The number, to the cent ----------------------------------------------------------------------------------------------


def how_it_adds_up(
    row: Payout, holds: list[PayoutHold], clawbacks: list[Clawback], journals: list[Journal], desk: Desk
) -> Figures:
    """The lines that add up to what the host gets, each with the postings behind it."""
    may = desk.actor.may("ledger.view")
    lines = _before_release(row, holds) if not row.released_at else _since_release(row, clawbacks, journals, may)
    note = "What is expected; the release takes what the stay then still holds." if not row.released_at else ""
    if row.rate:
        note = _rate_words(row)
    return Figures(title="How it adds up", note=note, figures=lines)


def _before_release(row: Payout, holds: list[PayoutHold]) -> list[Figure]:
    active = [hold for hold in holds if hold.status == "active"]
    kept = [Money(hold.amount, hold.currency) for hold in active if hold.amount is not None]
    share = Money(row.held, row.currency)
    lines = [
        Figure(
            "Host’s share",
            cells.of(share),
            "nights and cleaning, less our fee and what was refunded",
            href=cells.address_of(row.booking),
        )
    ]
    left = share
    if any(hold.amount is None for hold in active):
        whole = next(hold for hold in active if hold.amount is None)
        lines.append(Figure("Kept back", cells.of(-left), "all of it", href=cells.address_of(whole)))
        left = Money.zero(row.currency)
    else:
        for hold, amount_kept in zip(active, kept, strict=True):
            taken = min(amount_kept, left)
            lines.append(Figure("Kept back", cells.of(-taken), _why_kept(hold), href=cells.address_of(hold)))
            left = left - taken
    lines.append(Figure("To be released", cells.of(left), "before what the host may owe us", True))
    return lines


def _why_kept(hold: PayoutHold) -> str:
    return f"{cells.words(hold.cause)}, until {cells.when(hold.expires_at)}"


def _since_release(row: Payout, clawbacks: list[Clawback], journals: list[Journal], may: bool) -> list[Figure]:
    currency = row.transfer_currency or row.currency
    released = Money(row.transfer_amount + row.netted, currency)

    def posted(*codes: str, key: str | None = None, credited: bool = False) -> Any:
        return trail.postings(journals, *codes, key=key, credited=credited) if may else None

    lines = [Figure("Host’s share", cells.money(row.held, row.currency), "released", False, posted("2100"))]
    if row.rate:
        lines.append(Figure("Converted", cells.of(released), _rate_words(row)))
    lines.append(
        Figure("Kept for what the host owed", cells.money(-row.netted, currency), "", False, posted("1310"))
        if row.netted
        else Figure("Kept for what the host owed", cells.money(0, currency), "the host owed nothing")
    )
    lines.append(
        Figure(
            "Sent to the host",
            cells.money(row.transfer_amount, currency),
            f"transfer {row.transfer_id}" if row.transfer_id else cells.words(row.status),
            True,
            posted("2210", key=row.code),
        )
    )
    for claw in clawbacks:
        if claw.status == "succeeded":
            words = f"{claw.code}: {claw.reason}"
            found = posted("1170", key=claw.code)
            lines.append(Figure("Taken back", cells.money(-claw.amount, claw.currency), words, False, found))
    if row.reversed_amount:
        lines.append(
            Figure("Left with the host", cells.money(row.transfer_amount - row.reversed_amount, currency), "", True)
        )
    return lines


def _rate_words(row: Payout) -> str:
    rate = row.rate or {}
    return f"At {rate.get('rate', '?')} {row.transfer_currency} for 1 {row.currency}, of {rate.get('date', '?')}."


# Tables for other pages -----------------------------------------------------------------------------------------------


def payouts_table(rows: list[Payout], *, title: str = "Payouts to the host", more: str = "") -> Table:
    """Payouts with their status, date and amount; each leads to its page."""
    return Table(
        title=title,
        columns=(Column("Payout"), Column("Status"), Column("Due"), Column("Why it waits"), Column("Amount", "money")),
        rows=[
            Row(
                (
                    cells.two(cells.link(each), f"instalment {each.number}" if each.number > 1 else ""),
                    status(each),
                    cells.instant(each.due_at),
                    waits(each),
                    amount(each),
                ),
                quiet=each.status in {"void", "reversed"},
            )
            for each in rows
        ],
        empty="No payout is planned.",
        more=more,
    )


def holds_table(rows: list[PayoutHold]) -> Table:
    """The holds on one stay's money, newest first."""
    return Table(
        title="Holds",
        columns=(Column("Hold"), Column("Status"), Column("Why"), Column("Ends"), Column("Amount", "money")),
        rows=[
            Row(
                (
                    cells.two(cells.link(each), f"by {each.placed_by.name}" if each.placed_by else "by rule"),
                    hold_status(each),
                    cells.two(cells.words(each.cause).capitalize(), each.reason),
                    cells.instant(each.ended_at or each.expires_at),
                    hold_amount(each),
                ),
                quiet=each.status != "active",
            )
            for each in rows
        ],
        empty="Nothing is held back.",
    )


def hold_status(row: PayoutHold) -> SafeString:
    return cells.status(row.status, tone="warning" if row.status == "active" else "plain")


def hold_amount(row: PayoutHold) -> SafeString | str:
    return "all of it" if row.amount is None else cells.money(row.amount, row.currency)


def clawbacks_table(rows: list[Clawback]) -> Table:
    """What was asked back of one payout, newest first."""
    return Table(
        title="Clawbacks",
        columns=(Column("Clawback"), Column("Status"), Column("Why"), Column("Asked for"), Column("Amount", "money")),
        rows=[
            Row(
                (
                    cells.two(cells.link(each), cells.code(each.provider_id)),
                    cells.status(each.status),
                    cells.two(each.reason, each.failure),
                    cells.two(cells.instant(each.requested_at), _by(each.requested_by)),
                    cells.money(each.amount, each.currency),
                )
            )
            for each in rows
        ],
        empty="Nothing was taken back.",
    )


def _by(person: Any) -> str:
    return f"by {person.name}" if person is not None else "by rule"
