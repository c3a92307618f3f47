"""Payouts: what each stay owes its host, why it waits, every cent of it explained, and what may be done about it."""

from __future__ import annotations

from typing import Any, Final

from django import forms
from django.contrib import admin
from django.db.models import Q, QuerySet
from django.utils.html import format_html
from django.utils.safestring import SafeString
from import_export.fields import Field
from unfold.decorators import display
from unfold.widgets import UnfoldAdminIntegerFieldWidget, UnfoldAdminSelectWidget

from backoffice.bookings.models import Booking
from backoffice.console import cells, exports, filters, story, trail
from backoffice.console.base import StaffAdmin
from backoffice.console.dialogs import Dialog, DialogForm, ReasonForm, amount_field, amount_of, answer, said
from backoffice.console.door import Desk
from backoffice.console.lists import Search, View
from backoffice.console.page import Column, Fact, Figure, Figures, Overview, Page, Panel, Posting, Row, Table
from backoffice.core.errors import Conflict
from backoffice.core.money import Money
from backoffice.ledger import queries as ledger
from backoffice.ledger.models import Journal
from backoffice.payouts import operations
from backoffice.payouts import queries as payouts
from backoffice.payouts.models import Clawback, Payout, PayoutHold
from backoffice.payouts.policies.accounts import Waiting
from backoffice.payouts.policies.clawbacks import check_clawback
from backoffice.payouts.queries import Explanation, Planned
from backoffice.payouts.queries.explain import Line
from backoffice.payouts.states import HOLD_CAUSES, SENT, UNRELEASED
from backoffice.workflows import claw_back, release_payouts

# How a status is said where it is not its own word.
_WORDS: Final = {
    "releasable": "ready",
    "in_transfer": "being sent",
    "netted": "kept for a debt",
    "void": "nothing owed",
}


_MOST: Final = 50


def status_words(row: Payout) -> str:
    return _WORDS.get(row.status, cells.words(row.status))


def status(row: Payout) -> SafeString:
    return cells.status(row.status, status_words(row))


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
    waiting = Q(status__in=UNRELEASED, due_at__lte=desk.now) & ~Q(waits_for="")
    return rows.filter(Q(status="failed") | waiting | Q(status="in_transfer", submitted_at__isnull=False))


def overdue(rows: QuerySet[Payout], desk: Desk) -> QuerySet[Payout]:
    return rows.filter(status__in=UNRELEASED, due_at__lte=desk.now)


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
        return exports.amount(row.sent.amount, row.sent.currency) if row.sent is not None else ""

    def dehydrate_reversed(self, row: Payout) -> Any:
        return exports.amount(row.reversed_amount, row.transfer_currency or row.currency)


# Dialogs --------------------------------------------------------------------------------------------------------------


class HoldForm(ReasonForm):
    amount = amount_field("Amount", required=False, help_text="Of the host’s share. Leave it empty to keep all of it.")
    cause = forms.ChoiceField(
        label="Cause",
        choices=[(cause, cells.words(cause).capitalize()) for cause in HOLD_CAUSES],
        widget=UnfoldAdminSelectWidget,
    )
    hours = forms.IntegerField(
        label="For how many hours",
        min_value=1,
        widget=UnfoldAdminIntegerFieldWidget,
        error_messages={"required": "Write for how long.", "min_value": "Hold for an hour at least."},
    )

    field_order = ["amount", "cause", "hours", "reason"]


def hours_help(limit: int | None) -> str:
    """For how long somebody may hold, in words."""
    if limit is None:
        return "It ends by itself."
    return f"It ends by itself. You may hold for up to {limit} hours ({limit // 24} days)."


class HoldMoney(Dialog):
    """Keep money of a stay back; on a payout’s page and on its booking’s."""

    name, label, verb = "hold", "Hold payout", "payouts.hold"
    icon = "front_hand"
    form_class = HoldForm

    @property
    def booking(self) -> Booking:
        return self.row if isinstance(self.row, Booking) else self.row.booking

    @property
    def heading(self) -> str:
        return f"Hold the payout of {self.booking.code}"

    @property
    def introduction(self) -> str:
        share = sum(Payout.objects.filter(booking=self.booking, status__in=UNRELEASED).values_list("held", flat=True))
        refused = " What the provider refused to send can only be held whole." if self._left("failed") else ""
        return (
            f"{Money(share, self.booking.currency)} of the host’s share has not been released.{refused} The host is told that "
            "it is held and until when, never the reason you write here."
        )

    def offered(self) -> bool:
        own = self.desk.actor.id in {self.booking.host_id, self.booking.guest_id}
        limit = payouts.hold_limit(actor=self.desk.actor, now=self.desk.now)
        return limit != 0 and not own and self._left(*UNRELEASED, "failed")

    def _left(self, *statuses: str) -> bool:
        return Payout.objects.filter(booking=self.booking, status__in=statuses).exists()

    def unoffered(self) -> str:
        return "Nothing of this stay is left to hold: it was sent to the host. A clawback is the way now."

    def form(self, data: Any = None, initial: dict[str, Any] | None = None) -> DialogForm:
        form = super().form(data, initial)
        form.fields["hours"].help_text = hours_help(payouts.hold_limit(actor=self.desk.actor, now=self.desk.now))
        return form

    def initial(self) -> dict[str, Any]:
        limit = payouts.hold_limit(actor=self.desk.actor, now=self.desk.now)
        return {**super().initial(), "cause": "dispute", "hours": min(72, limit) if limit else 72}

    def perform(self, form: DialogForm) -> str:
        typed = form.cleaned_data["amount"]
        held = operations.place_hold(
            booking_code=self.booking.code,
            amount=amount_of(typed, self.booking.currency) if typed.strip() else None,
            cause=form.cleaned_data["cause"],
            reason=form.cleaned_data["reason"],
            hours=form.cleaned_data["hours"],
            owner_id=self.desk.actor.id,
            actor=self.desk.actor,
            now=self.desk.now,
            key=self.decision(form),
        )
        return said(f"Held back until {cells.when(held.expires_at)}:", held)


class _Send(Dialog):
    verb = "payouts.release"
    tone = "primary"
    form_class = DialogForm
    preview_template = "console/parts/refund_money.html"

    @property
    def waiting(self) -> Waiting | None:
        return payouts.waits(payout=self.row, now=self.desk.now)

    def offered(self) -> bool:
        own = self.desk.actor.id in {self.row.booking.host_id, self.row.booking.guest_id}
        return not own and self.waiting is None

    def unoffered(self) -> str:
        waiting = self.waiting
        return waiting.sentence if waiting else f"This payout is {status_words(self.row)}."

    def perform(self, form: DialogForm) -> str:
        self.same(form)
        payout = release_payouts.release_one(payout_code=self.row.code, actor=self.desk.actor, now=self.desk.now)
        return said(f"{status_words(payout).capitalize()}:", payout)


def _less_debt(row: Payout, label: str, payable: Money) -> list[tuple[str, SafeString]]:
    """What is payable, less what the host owes of the same currency."""
    taken = min(payouts.owed(host_code=row.host.code, currency=payable.currency), payable)
    lines = [(label, cells.of(payable))]
    if taken.amount > 0:
        lines += [("Kept for what the host owes", cells.of(-taken)), ("Sent", cells.of(payable - taken))]
    return lines


class ReleaseNow(_Send):
    name, label = "release", "Release now"
    icon = "send"
    intro = "It is due. The next run would release it too; this does it now."

    @property
    def heading(self) -> str:
        return f"Release {self.row.code} now?"

    def offered(self) -> bool:
        if self.row.status not in UNRELEASED or not super().offered():
            return False
        part = payouts.share_of(payout=self.row, now=self.desk.now)
        return part.waits is None or bool(part.released.held)

    def preview(self, form: DialogForm) -> dict[str, Any]:
        if self.row.status not in UNRELEASED:
            return {"money": [("Released already", amount(self.row))]}
        part = payouts.share_of(payout=self.row, now=self.desk.now)
        kept = [("Stays held back", cells.of(part.kept.held))] if part.kept.held else []
        first, *rest = _less_debt(self.row, "Released for the host", part.released.held)
        return {"money": [first, *kept, *rest]}


class RetryTransfer(_Send):
    name, label = "retry", "Retry the transfer"
    icon = "refresh"
    intro = "The provider refused the last try. A new one has a key of its own, so it is never paid twice."

    @property
    def heading(self) -> str:
        return f"Send {self.row.code} again?"

    def offered(self) -> bool:
        return self.row.status == "failed" and super().offered()

    def preview(self, form: DialogForm) -> dict[str, Any]:
        if not self.row.transfer_currency:  # never sent, so not refused either
            return {"money": [("Not sent yet", amount(self.row))]}
        return {
            "money": _less_debt(self.row, "Sent again", Money(self.row.transfer_amount, self.row.transfer_currency))
        }


class ClawBackForm(ReasonForm):
    amount = amount_field()

    field_order = ["amount", "reason"]


class ClawBack(Dialog):
    name, label, verb = "claw_back", "Claw back", "payouts.claw_back"
    icon, tone = "keyboard_return", "danger"
    form_class = ClawBackForm
    preview_template = "console/parts/refund_money.html"
    deciding = ("amount",)

    @property
    def heading(self) -> str:
        return f"Take money of {self.row.code} back from the host"

    @property
    def left(self) -> Money:
        return Money(self.row.transfer_amount - self.row.reversed_amount, self.row.transfer_currency)

    @property
    def owed(self) -> Money:
        return payouts.owed(host_code=self.row.host.code, currency=self.row.transfer_currency)

    def offered(self) -> bool:
        if self.row.status not in SENT or self.desk.actor.id == self.row.host_id:
            return False
        busy = self.row.clawbacks.filter(status__in=["requested", "submitted", "indeterminate"]).exists()
        return not busy and self.left.amount > 0 and self.owed.amount > 0

    def unoffered(self) -> str:
        if self.row.status not in SENT:
            return f"Nothing of this payout has been sent: it is {status_words(self.row)}."
        if self.owed.amount <= 0:
            return "The host owes nothing, so there is nothing to take back. A refund borne by the host makes a debt."
        return "Nothing of this transfer is left to take back, or a clawback of it is under way."

    def initial(self) -> dict[str, Any]:
        if not self.row.transfer_currency:
            return super().initial()
        return {
            **super().initial(),
            "amount": f"{max(min(self.left, self.owed), Money.zero(self.left.currency)).decimal()}",
        }

    def preview(self, form: DialogForm) -> dict[str, Any]:
        if not self.row.transfer_currency:
            raise Conflict(self.unoffered())
        asked = amount_of(answer(form, "amount"), self.row.transfer_currency)
        check_clawback(amount=asked, owed=self.owed, left=self.left)
        return {
            "money": [
                ("Asked back", cells.of(asked)),
                ("Left of this transfer", cells.of(self.left - asked)),
                ("The host owes us", cells.of(self.owed)),
                ("Still owed afterwards", cells.of(self.owed - asked)),
            ]
        }

    def perform(self, form: DialogForm) -> str:
        asked = amount_of(form.cleaned_data["amount"], self.row.transfer_currency)
        made = claw_back.request(
            payout_code=self.row.code,
            amount=asked,
            reason=form.cleaned_data["reason"],
            version=form.cleaned_data["version"],
            actor=self.desk.actor,
            now=self.desk.now,
        )
        return said(f"{asked} is asked back:", made)


# The list and the page ------------------------------------------------------------------------------------------------


@admin.register(Payout)
class PayoutAdmin(StaffAdmin):
    verb, export_verb = "payouts.view", "payouts.export"
    singular, plural = "payout", "payouts"
    list_words = (
        "What each stay owes its host: one release, one transfer, a day after check-in unless something holds it."
    )
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
        View("overdue", "Due now", overdue, soonest="due_at"),
        View("due", "Next due", lambda rows, desk: rows.filter(status__in=UNRELEASED), soonest="due_at"),
    )
    list_display = ("payout", "host_name", "payout_status", "money_amount", "due", "why")
    list_filter = (("status", filters.Choices), ("due_at", filters.Days), ("transferred_at", filters.Days))
    lookups = ("booking__code", "host__code", "currency", "bank_payout__code")
    list_select_related = ("booking", "host")
    dialogs = (ReleaseNow, RetryTransfer, HoldMoney, ClawBack)
    overviews = (Overview("plan", "What the next run would do", "event_upcoming"),)
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
        made = payouts.explain(code=row.code, now=desk.now)
        stay = ledger.trace(row.booking.code)
        known = {each.pk for each in stay}
        everything_posted = [*stay, *(each for each in journals if each.pk not in known)]
        panels: list[Panel] = [how_it_adds_up(row, made, clawbacks, everything_posted, desk)]
        panels.append(holds_table(holds))
        if clawbacks:
            panels.append(clawbacks_table(clawbacks))
        if others:
            panels.append(payouts_table(others, title="Other payouts of this stay"))
        sources = provider_objects(row, clawbacks, journals)
        panels.append(trail.movements_table(sources))
        if desk.actor.may("ledger.view"):
            panels.append(trail.journals_table(journals, empty="A payout is posted when it is released."))
        if desk.actor.may("webhooks.view"):
            bank = row.bank_payout.provider_id if row.bank_payout else ""
            panels.append(trail.webhooks_table([*sources, bank or ""]))
        things = [("payout", row.code), *(("payout_hold", each.code) for each in holds)]
        things += [("clawback", each.code) for each in clawbacks]
        return Page(
            title=row.code,
            subtitle=format_html("{} to {}", amount(row), row.host.name),
            status=status(row),
            warnings=warnings(row, made, desk),
            facts=_facts(row),
            panels=(*panels, story.audit_panel(things, desk)),
        )

    def plan(self, desk: Desk) -> Page:
        """What a run of the release would do at this instant."""
        planned = payouts.plan(now=desk.now, limit=_MOST)
        stopped = payouts.stop_of_payouts()
        return Page(
            title="What the next run would do",
            subtitle=f"Payouts that are due at {cells.when(desk.now)}, the longest due first.",
            warnings=[f"Payouts are stopped: {stopped}"] if stopped else (),
            panels=(
                Table(
                    title="Due now",
                    note=f"The first {_MOST}." if len(planned) == _MOST else "",
                    columns=(
                        Column("Payout"),
                        Column("Booking"),
                        Column("Due"),
                        Column("Sent, or why not"),
                        Column("Amount", "money"),
                    ),
                    rows=[
                        Row(
                            (
                                cells.lead(each.payout),
                                cells.lead(each.booking),
                                cells.instant(each.due_at),
                                _planned(each),
                                cells.of(each.amount),
                            ),
                            quiet=not each.sends,
                        )
                        for each in planned
                    ],
                    empty="Nothing is due.",
                ),
            ),
        )


def _planned(one: Planned) -> SafeString:
    if one.waits is None:
        return cells.status("ok", "sent")
    return cells.two(one.waits.sentence, f"until {cells.when(one.waits.until)}" if one.waits.until else "")


def warnings(row: Payout, made: Explanation, desk: Desk) -> list[str]:
    """Why it waits or failed, in the words that its host reads."""
    said = []
    if row.status == "failed" and made.waits is None:  # else it is said there, with when it is tried again
        said.append(
            f"The transfer was refused: {row.failure or 'The provider gave no reason.'} The next run tries again."
        )
    if row.status == "held" and row.waits_for:
        said.append(f"{row.waits_for} Until {cells.when(row.waits_until)}." if row.waits_until else row.waits_for)
    elif made.waits is not None and row.due_at <= desk.now:
        until = f" Until {cells.when(made.waits.until)}." if made.waits.until else ""
        said.append(f"{made.waits.sentence}{until}")
    elif row.status in UNRELEASED and row.due_at <= desk.now:
        said.append("It is due; the next run of the release takes it.")
    if not made.adds_up:
        said.append(
            "These lines do not add up to what was sent. Tell on-call: something was posted past the operations."
        )
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


def provider_objects(row: Payout, clawbacks: list[Clawback], journals: list[Journal]) -> list[str]:
    """The provider's objects that moved this payout's money, a transfer that came back among them."""
    named = (row.transfer_id, *(claw.provider_id for claw in clawbacks), *trail.sources_of(journals))
    return list(dict.fromkeys(each for each in named if each))


# The number, to the cent ----------------------------------------------------------------------------------------------


def how_it_adds_up(
    row: Payout, made: Explanation, clawbacks: list[Clawback], journals: list[Journal], desk: Desk
) -> Figures:
    """The lines that add up to what the host gets, each with the postings behind it."""
    may = desk.actor.may("ledger.view")
    figures = [_step(line, journals, may) for line in made.lines]
    figures.append(Figure("Host’s share", cells.of(made.share), "of this payout", True))
    figures += _settled(row, made, journals, may)
    for claw in clawbacks:
        if claw.status == "succeeded":
            found = asked_back(claw, journals) if may else None
            taken = cells.money(-claw.amount, claw.currency)
            figures.append(Figure("Taken back", taken, f"{claw.code}: {claw.reason}", False, found))
    if made.reversed and made.amount is not None:
        figures.append(Figure("Left with the host", cells.of(made.amount - made.reversed), "", True))
    note = "" if row.released_at else "What is expected by today’s facts; the release goes by what is there then."
    return Figures(title="How it adds up", note=note, figures=figures)


def asked_back(row: Clawback, journals: list[Journal]) -> list[Posting]:
    """The posting of a clawback's present try, as what it takes from the host."""
    own = trail.of_event(journals, payouts.clawback_key(clawback=row))
    return trail.postings(own, "1170", key=row.code, credited=True)


def _step(line: Line, journals: list[Journal], may: bool) -> Figure:
    """One step towards the share: the postings of its journal that come to it, or what it speaks of."""
    words = cells.lead(line.reference) if line.reference else ("not posted yet" if line.journal_id is None else "")
    journal = next((each for each in journals if each.pk == line.journal_id), None)
    if journal is None or not may:
        return Figure(line.label, cells.of(line.amount), words)
    for codes, credited in ((("2100",), True), (("2100", "2111"), True), (("2111",), False)):
        found = trail.postings([journal], *codes, credited=credited)
        of_one_currency = {each.money.currency for each in found} == {line.amount.currency}
        if of_one_currency and Money.sum((each.money for each in found), line.amount.currency) == line.amount:
            return Figure(line.label, cells.of(line.amount), words, False, found)
    return Figure(line.label, cells.of(line.amount), words, href=cells.address_of(journal))


def _settled(row: Payout, made: Explanation, journals: list[Journal], may: bool) -> list[Figure]:
    """What the share became: converted where it had to be, less what the host owed, sent."""
    if made.settled is None or made.netted is None or made.amount is None:
        return [
            Figure("Sent to the host", cells.NONE, "in the currency of the settlement, at the release day’s rate", True)
        ]
    figures = []
    if made.rate:
        figures.append(Figure("Converted", cells.of(made.settled), _rate_words(row)))
    kept = [journal for journal in journals if (journal.kind, journal.reference) == ("netting", row.code)]
    netted = trail.postings(kept, "1310") if may and row.netted else None
    words = "of the same currency" if made.netted else "the host owes nothing"
    figures.append(Figure("Kept for what the host owes", cells.of(-made.netted), words, False, netted))
    sent = trail.of_event(journals, payouts.transfer_key(payout=row))
    asked = trail.postings(sent, "2210", key=row.code, credited=True) if may else None
    transfer = f"transfer {made.transfer}" if made.transfer else status_words(row)
    figures.append(Figure("Sent to the host", cells.of(made.amount), transfer, True, asked))
    return figures


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


def of_booking(booking: Booking) -> list[Panel]:
    """Payouts and holds of one stay, for the pages that are about it."""
    holds = list(PayoutHold.objects.filter(booking=booking).select_related("owner", "placed_by").order_by("-id"))
    panels: list[Panel] = [payouts_table(list(Payout.objects.filter(booking=booking).order_by("number")))]
    return [*panels, holds_table(holds)] if holds else panels


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
