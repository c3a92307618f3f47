"""Bookings: the list, and the page where a stay with its money is seen whole."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from django import forms
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.safestring import SafeString
from import_export.fields import Field
from unfold.contrib.filters.admin import RadioFilter
from unfold.decorators import display
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from backoffice.bookings import queries as booking_queries
from backoffice.bookings.models import Booking
from backoffice.bookings.policies import LineOutcome
from backoffice.console import cells, exports, filters, story, trail
from backoffice.console.admin import payments as payment_pages
from backoffice.console.admin import payouts as payout_pages
from backoffice.console.admin import refunds as refund_pages
from backoffice.console.admin.charges import AskDamage
from backoffice.console.admin.payouts import HoldMoney
from backoffice.console.base import StaffAdmin
from backoffice.console.dialogs import Checked, Dialog, DialogForm, ReasonForm, amount_of, answer, said
from backoffice.console.door import Desk, desk_of
from backoffice.console.lists import Search
from backoffice.console.page import Fact, Figure, Happening, Page, Panel, Posting, Timeline
from backoffice.core import actor as actors
from backoffice.core.errors import Conflict, Invalid, StaleVersion, StaydeskError
from backoffice.core.money import Money
from backoffice.ledger import queries as ledger
from backoffice.ledger.models import Journal, JournalLine
from backoffice.payments import queries as money
from backoffice.payments.models import Chargeback, Payment, Refund
from backoffice.people import queries as people
from backoffice.workflows import cancel_booking, mark_no_show, refund_booking

LINE_WORDS: Final = {
    "nights": "Nights",
    "cleaning": "Cleaning",
    "guest_fee": "Guest fee",
    "vat": "VAT on the guest fee",
    "occupancy_tax": "Occupancy tax",
}


# Cancelling -----------------------------------------------------------------------------------------------------------


class CancelForm(ReasonForm):
    on_behalf_of = forms.ChoiceField(
        label="For whom",
        choices=[("guest", "The guest cancels"), ("host", "The host cancels, or the home cannot be had")],
        widget=UnfoldAdminSelectWidget,
    )

    field_order = ["on_behalf_of", "reason"]


class Cancel(Dialog):
    name, label, verb = "cancel", "Cancel booking", "bookings.cancel"
    icon, tone = "event_busy", "danger"
    submit = "Cancel this booking"
    form_class = CancelForm
    preview_template = "console/parts/cancel_preview.html"
    deciding = ("on_behalf_of",)
    wide = True

    @property
    def heading(self) -> str:
        return f"Cancel {self.row.code}?"

    def offered(self) -> bool:
        return "cancel" in money.available_actions(booking=self.row, actor=self.desk.actor, now=self.desk.now)

    def initial(self) -> dict[str, Any]:
        return {**super().initial(), "on_behalf_of": "guest"}

    def preview(self, form: DialogForm) -> dict[str, Any]:
        side = answer(form, "on_behalf_of") or "guest"
        terms = cancel_booking.preview(
            booking_code=self.row.code, actor=self.desk.actor, now=self.desk.now, on_behalf_of=side
        )
        return {"quote": CancellationQuote(terms), "token": terms.token}

    def perform(self, form: DialogForm) -> str:
        booking = cancel_booking.confirm(
            booking_code=self.row.code,
            # The terms that were on the screen: the token is part of the preview, not of what was typed.
            token=form.data.get("token", ""),
            reason=form.cleaned_data["reason"],
            actor=self.desk.actor,
            now=self.desk.now,
        )
        rows = Refund.objects.filter(payment__booking=booking, by_rule=True, cause__endswith="_cancellation")
        made = list(rows.order_by("id"))  # one of each charge that gives something back
        if not made:
            return f"{booking.code} is cancelled. Nothing goes back to the guest."
        amount = Money(sum(refund.amount for refund in made), booking.charge_currency)
        if made[0].waits_for:
            return said(f"{booking.code} is cancelled; {amount} goes back once no chargeback holds it: refund", made[0])
        return said(f"{booking.code} is cancelled; {amount} goes back by refund", made[0])


@dataclass(frozen=True)
class CancellationQuote:
    """A cancellation preview in cells."""

    terms: cancel_booking.CancellationPreview

    @property
    def refund(self) -> SafeString:
        return cells.of(self.terms.refund)

    @property
    def host_keeps(self) -> SafeString:
        return cells.of(self.terms.host_keeps)

    @property
    def penalty(self) -> SafeString | str:
        return cells.of(self.terms.penalty) if self.terms.penalty is not None else ""

    @property
    def shares(self) -> list[tuple[str, SafeString]]:
        """Guest, host, platform, tax: what goes back, and who gives it up."""
        parts = self.terms.parts
        return [
            ("Guest receives", self.refund),
            *self._later(),
            ("Host gives up", cells.of(parts.held)),
            ("Platform gives up", cells.of(parts.host_fee + parts.guest_fee)),
            ("Taxes given back", cells.of(parts.vat + parts.occupancy_tax)),
            *(
                [("Platform gets, having given it to the guest", cells.of(self.terms.recouped))]
                if self.terms.recouped
                else []
            ),
        ]

    def _later(self) -> list[tuple[str, SafeString]]:
        besides = (
            ("And once no chargeback holds it", self.terms.refund_later),
            ("Covered by what was asked for before", self.terms.refund_asked),
        )
        return [(label, cells.of(amount)) for label, amount in besides if amount]

    @property
    def lines(self) -> list[tuple[str, SafeString, SafeString, SafeString]]:
        decision = self.terms.decision
        return [self._line(line) for line in decision.lines if line.paid] if decision else []

    @property
    def rule(self) -> str:
        return cells.words(str(self.terms.stored["rule"])).replace(":", ": ")

    @property
    def basis(self) -> str:
        return str(self.terms.stored.get("basis", ""))

    @property
    def policy(self) -> str:
        return self.terms.decision.policy if self.terms.decision else ""

    @staticmethod
    def _line(line: LineOutcome) -> tuple[str, SafeString, SafeString, SafeString]:
        words = " ".join(part for part in (LINE_WORDS.get(line.kind, cells.words(line.kind)), line.place) if part)
        return words, cells.of(line.paid), cells.of(line.refund), cells.of(line.kept)


# Refunding ------------------------------------------------------------------------------------------------------------


class RefundForm(ReasonForm):
    amount = forms.CharField(
        label="Amount",
        max_length=20,
        widget=UnfoldAdminTextInputWidget(attrs={"inputmode": "decimal", "autocomplete": "off"}),
        error_messages={"required": "Write how much goes back."},
    )
    cause = forms.ChoiceField(
        label="Cause",
        choices=[
            ("service_issue", "Service issue"),
            ("goodwill", "Goodwill"),
            ("duplicate", "Charged twice"),
        ],
        widget=UnfoldAdminSelectWidget,
    )
    bearer = forms.ChoiceField(
        label="Borne by",
        choices=[("host", "The host"), ("platform", "Us")],
        widget=UnfoldAdminSelectWidget,
    )

    field_order = ["amount", "cause", "bearer", "reason"]


class RefundMoney(Checked):
    name, label, verb = "refund", "Refund", "refunds.request"
    icon, tone = "undo", "primary"
    form_class = RefundForm
    preview_template = "console/parts/refund_preview.html"
    deciding = ("amount", "cause", "bearer")
    wide = True

    @property
    def heading(self) -> str:
        return f"Refund {self.row.code}"

    @property
    def currency(self) -> str:
        return str(self.row.charge_currency)

    def check(self) -> None:
        refund_booking.check(booking=self.row, actor=self.desk.actor)

    def version(self) -> int:
        payment = money.payment_of(booking=self.row)
        return payment.version if payment is not None else 0

    def initial(self) -> dict[str, Any]:
        left = money.money_of(booking=self.row).refundable
        return {
            **super().initial(),
            "amount": f"{left.decimal()}",
            "cause": "service_issue",
            "bearer": "host",
        }

    def form(self, data: Any = None, initial: dict[str, Any] | None = None) -> DialogForm:
        form = super().form(data, initial)
        form.fields["amount"].label = f"Amount in {self.currency}"
        return form

    def preview(self, form: DialogForm) -> dict[str, Any]:
        preview = refund_booking.preview(
            booking_code=self.row.code,
            amount=self._amount(answer(form, "amount")),
            cause=answer(form, "cause"),
            bearer=answer(form, "bearer"),
            actor=self.desk.actor,
            now=self.desk.now,
        )
        if preview.amount > preview.maximum or preview.amount.amount <= 0:
            raise Invalid(f"amount: write between {_least(self.currency)} and {preview.maximum}.", field="amount")
        shown: dict[str, Any] = {"money": _refund_shares(preview), "maximum": cells.of(preview.maximum)}
        if len(preview.gives) > 1:
            shown["charges"] = [cells.of(give.amount) for give in preview.gives]
        if preview.needs_second_person:
            roles = people.roles_of(person_id=self.desk.actor.id) if self.desk.actor.id else ()
            shown |= {"who_decides": refund_pages.who_decides(roles), "submit_words": "Ask for approval"}
        else:
            shown |= {"submit_words": f"Refund {preview.amount}"}
        return shown

    def perform(self, form: DialogForm) -> str:
        amount = self._amount(form.cleaned_data["amount"])
        refund = refund_booking.request(
            booking_code=self.row.code,
            amount=amount,
            cause=form.cleaned_data["cause"],
            bearer=form.cleaned_data["bearer"],
            reason=form.cleaned_data["reason"],
            idempotency_key=self.decision(form),
            version=form.cleaned_data["version"],
            actor=self.desk.actor,
            now=self.desk.now,
        )
        if refund.status == "requested":
            return said(f"{amount} is over your limit and waits for a second person: refund", refund)
        return said(f"{amount} is on its way to the guest: refund", refund)

    def _amount(self, text: str) -> Money:
        return amount_of(text, self.currency)


def _least(currency: str) -> Money:
    return Money(1, currency)


def _refund_shares(preview: refund_booking.RefundPreview) -> list[tuple[str, SafeString]]:
    return refund_pages.share_lines(
        guest=preview.guest,
        host=preview.host,
        fees=preview.platform - preview.borne,
        tax=preview.tax,
        borne=preview.borne,
        released=preview.released,
    )


# No-show --------------------------------------------------------------------------------------------------------------


class NoShow(Dialog):
    name, label, verb = "no_show", "Mark no-show", "bookings.mark_no_show"
    icon = "person_off"
    intro = (
        "The guest did not come. The host is paid what the guest has paid; nothing goes back by itself, and instalments that "
        "are not paid yet are given up."
    )

    @property
    def heading(self) -> str:
        return f"Mark {self.row.code} as a no-show?"

    def offered(self) -> bool:
        return "mark_no_show" in booking_queries.available_actions(
            booking=self.row, actor=self.desk.actor, now=self.desk.now
        )

    def perform(self, form: DialogForm) -> str:
        if self.row.version != form.cleaned_data["version"]:
            raise StaleVersion(kind="booking")
        mark_no_show.mark(
            booking_code=self.row.code,
            reason=form.cleaned_data["reason"],
            actor=self.desk.actor,
            now=self.desk.now,
        )
        return f"{self.row.code} is marked as a no-show."


# The list -------------------------------------------------------------------------------------------------------------


class TonightFilter(RadioFilter):
    """Who sleeps where tonight, who comes, who goes; by the desk's day."""

    title = "stay"
    parameter_name = "today"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("staying", "Staying tonight"), ("arriving", "Arriving today"), ("leaving", "Leaving today")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Booking]) -> QuerySet[Booking]:
        today = desk_of(request).now.date()
        live = queryset.filter(status__in=["confirmed", "checked_in", "completed"])
        if self.value() == "staying":
            return live.filter(check_in__lte=today, check_out__gt=today)
        if self.value() == "arriving":
            return live.filter(check_in=today)
        if self.value() == "leaving":
            return live.filter(check_out=today)
        return queryset


class BookingsExport(exports.Resource):
    code = Field("code", "booking")
    listing = Field("listing__code", "listing")
    city = Field("listing__city", "city")
    guest = Field("guest__code", "guest")
    host = Field("host__code", "host")
    status = Field("status", "status")
    check_in = Field("check_in", "check-in")
    check_out = Field("check_out", "check-out")
    nights = Field("nights", "nights")
    guests = Field("guests", "guests")
    total = Field(column_name="total")
    currency = Field("currency", "currency")
    charged = Field(column_name="charged")
    charge_currency = Field("charge_currency", "charge currency")
    created_at = Field("created_at", "created")
    confirmed_at = Field("confirmed_at", "confirmed")
    cancelled_at = Field("cancelled_at", "cancelled")
    cancelled_by = Field("cancelled_by", "cancelled by")

    def dehydrate_total(self, row: Booking) -> Any:
        return exports.amount(row.total, row.currency)

    def dehydrate_charged(self, row: Booking) -> Any:
        return exports.amount(row.charge_total, row.charge_currency)


@admin.register(Booking)
class BookingAdmin(StaffAdmin):
    verb, export_verb = "bookings.view", "bookings.export"
    singular, plural = "booking", "bookings"
    empty_words = "The first booking appears as soon as a guest books a quote through the API."
    searches = (
        Search("guest__email__startswith", "@", str.lower),
        Search("listing__code", r"^LS-", str.upper),
        Search("guest__code", r"^PN-", str.upper),
        Search("payment__provider_id", r"^pi_"),
        Search("payment__charge_id", r"^ch_"),
        Search("code__startswith", case=str.upper),
    )
    search_help_text = "BK- or LS- code, guest’s e-mail, pi_ or ch_ id"
    list_display = ("booking", "guest_name", "stay", "booking_status", "money_charged", "made")
    list_filter = (
        ("status", filters.Choices),
        TonightFilter,
        ("created_at", filters.Days),
        ("confirmed_at", filters.Days),
        ("check_in", filters.Days),
    )
    lookups = ("guest__code", "host__code", "listing__code", "charge_currency")
    list_select_related = ("listing", "guest", "host")
    dialogs = (RefundMoney, HoldMoney, AskDamage, NoShow, Cancel)
    resource_classes = (BookingsExport,)
    page_template = "console/booking.html"

    @display(description="Booking")
    def booking(self, row: Booking) -> SafeString:
        return cells.two(cells.code(row.code), row.listing.title)

    @display(description="Guest")
    def guest_name(self, row: Booking) -> SafeString:
        return cells.two(row.guest.name, f"{row.guests} guests" if row.guests > 1 else "1 guest")

    @display(description="Stay")
    def stay(self, row: Booking) -> SafeString:
        return cells.stay(row.check_in, row.check_out)

    @display(description="Status")
    def booking_status(self, row: Booking) -> SafeString:
        return cells.status(row.status)

    @display(description="Charged")
    def money_charged(self, row: Booking) -> SafeString:
        return cells.money(row.charge_total, row.charge_currency)

    @display(description="Made")
    def made(self, row: Booking) -> SafeString:
        return cells.instant(row.created_at)

    # The page ---------------------------------------------------------------------------------------------------------

    def find(self, key: str, desk: Desk) -> Any:
        row = super().find(key, desk)
        row.journals = ledger.trace(row.code) if desk.actor.may("ledger.view") else None
        return row

    def page(self, row: Any, desk: Desk) -> Page:
        payment = Payment.objects.filter(booking=row).first()
        refunds = list(
            Refund.objects.filter(payment__booking=row).select_related("requested_by", "approved_by").order_by("-id")
        )
        panels: list[Panel] = []
        if refunds and desk.actor.may("refunds.view"):
            panels.append(refund_pages.refunds_table(refunds))
        if desk.actor.may("payouts.view"):
            panels += payout_pages.of_booking(row)
        disputes = list(payment.chargebacks.order_by("-id")) if payment else []
        if disputes and desk.actor.may("chargebacks.view"):
            panels.append(payment_pages.chargebacks_table(disputes))
        panels.append(_timeline(row, payment, refunds, desk))
        if desk.actor.may("ledger.view"):
            panels.append(trail.journals_table(row.journals, more=cells.list_of(Journal, f"subject={row.code}")))
        return Page(
            title=row.code,
            subtitle=row.listing.title,
            status=cells.status(row.status),
            warnings=(
                *(payment_pages.open_dispute(each) for each in disputes if each.closed_at is None),
                *_blocked(row, disputes, desk),
                *_warnings(row, refunds, desk),
            ),
            facts=_facts(row, payment),
            panels=panels,
        )

    def more(self, row: Any, desk: Desk) -> dict[str, Any]:
        return {
            "booking": row,
            "stay": cells.stay(row.check_in, row.check_out),
            "guest": cells.two(cells.link(row.guest, row.guest.name), row.guest.email),
            "host": cells.two(cells.link(row.host, row.host.name), row.host.email),
            "listing": cells.two(cells.link(row.listing, row.listing.title), row.listing.city),
            "figures": figures(row, row.journals),
            "price_lines": price_lines(row),
            "quote": quote(row, desk),
        }


def _facts(row: Booking, payment: Payment | None) -> tuple[Fact, ...]:
    return (
        Fact("Guests", str(row.guests)),
        Fact("Check-in", cells.instant(row.check_in_at)),
        Fact("Check-out", cells.instant(row.check_out_at)),
        Fact("Cancellation", f"{cells.words(row.cancellation_tier).capitalize()} (version {row.cancellation_version})"),
        Fact("Made", cells.instant(row.created_at)),
        Fact("Confirmed", cells.instant(row.confirmed_at)),
        Fact("Cancelled", _cancelled(row)),
        Fact("Payment", cells.link(payment) if payment else ""),
    )


def _cancelled(row: Booking) -> Any:
    return cells.two(cells.instant(row.cancelled_at), f"by the {row.cancelled_by}") if row.cancelled_at else ""


def _warnings(row: Booking, refunds: list[Refund], desk: Desk) -> tuple[str, ...]:
    waits = money.refund_waits(refunds=refunds)
    said = [
        f"{Money(each.amount, each.currency)} ({each.code}) is the guest’s by rule. {waits[each.pk].sentence}"
        if each.pk in waits
        else f"{Money(each.amount, each.currency)} ({each.code}) waits for a second person since "
        f"{each.requested_at:%d %b, %H:%M} UTC."
        for each in refunds
        if each.status == "requested"
    ]
    expires = row.hold.expires_at if row.status == "awaiting_payment" else None
    if expires is not None:
        past = expires <= desk.now
        said.append(
            f"The nights were held until {expires:%H:%M} UTC; the next sweep frees them."
            if past
            else f"The nights are held until {expires:%H:%M} UTC while the guest pays."
        )
    return tuple(said)


def _blocked(row: Booking, disputes: list[Chargeback], desk: Desk) -> list[str]:
    """Why nothing can be refunded while a card network has the money, and what to do, to who would look for the button."""
    takes = any(each.closed_at is None or each.status == "lost" for each in disputes)
    if not takes or not desk.actor.may("refunds.request"):
        return []
    try:
        refund_booking.check(booking=row, actor=desk.actor)
    except Conflict as refusal:
        return [f"No refund now. {refusal}"]
    except StaydeskError:  # their own booking
        return []
    return []


def figures(row: Booking, journals: list[Journal] | None) -> list[Figure]:
    """The booking's money as it stands: what was charged, what of it is whose, what went back, what may still."""
    table = money.money_of(booking=row)
    left = table.parts_left
    lines = [(journal, line) for journal in journals or () for line in journal.lines.all()]

    def charged() -> list[Posting]:
        return [Posting(j, line, line.money) for j, line in lines if line.account.code == "1150" and line.amount > 0]

    def credited(*codes: str) -> list[Posting]:
        return [Posting(j, line, -line.money) for j, line in lines if line.account.code in codes]

    def refunded() -> list[Posting]:
        return [Posting(j, line, line.money) for j, line in lines if line.account.code == "2400" and line.amount > 0]

    held = left["held"] if journals is None else _ledger_sum(lines, "2100", row.currency)
    return [
        Figure("Charged", cells.of(table.charged), "what the guest paid", True, charged()),
        Figure("Refunded", cells.of(table.refunded), "has reached the guest", False, refunded()),
        Figure("Refunds pending", cells.of(table.refunds_pending), "asked for or on its way", False, credited("2400")),
        Figure("Can still be refunded", cells.of(table.refundable), "charged − refunded − pending", True),
        Figure("Held for the host", cells.of(held), "released 24 h after check-in", True, credited("2100")),
        Figure("Host fee", cells.of(left["host_fee"]), "ours", False, credited("2111", "4110")),
        Figure("Guest fee", cells.of(left["guest_fee"]), "ours", False, credited("2110", "4100")),
        Figure("VAT on fees", cells.of(left["vat"]), "owed to the state", False, credited("2310")),
        Figure("Occupancy tax", cells.of(left["occupancy_tax"]), "owed to the place", False, credited("2300")),
    ]


def _ledger_sum(lines: list[tuple[Journal, JournalLine]], code: str, currency: str) -> Money:
    """What stands to the credit of an account by these lines."""
    found = (line.money for _, line in lines if line.account.code == code and line.currency == currency)
    return -Money.sum(found, currency)


def price_lines(row: Booking) -> list[tuple[str, str, SafeString]]:
    """The price as it was promised, line by line."""
    return [
        (
            str(line["label"]),
            f"{line['quantity']} ×" if line["quantity"] != 1 else "",
            cells.money(line["amount"]["amount"], line["amount"]["currency"]),
        )
        for line in row.price.get("lines", [])
    ]


def quote(row: Booking, desk: Desk) -> CancellationQuote | str:
    """What cancelling now would mean, asked as the house so that every reader sees it; a sentence when it cannot be."""
    try:
        return CancellationQuote(
            cancel_booking.preview(booking_code=row.code, actor=actors.system("console"), now=desk.now)
        )
    except StaydeskError as error:
        return str(error)


def _timeline(row: Booking, payment: Payment | None, refunds: list[Refund], desk: Desk) -> Timeline:
    things = [("booking", row.code), ("quote", row.quote.code)]
    if payment is not None:
        things.append(("payment", payment.code))
    things += [("refund", each.code) for each in refunds]
    told = [
        *story.happenings(story.audit_entries(things), desk),
        *_attempts(payment),
        *story.messages(code=row.code, people=[row.guest_id, row.host_id], since=row.created_at),
    ]
    return Timeline(
        title="Timeline",
        note="Log, payment attempts and messages together, newest first.",
        happenings=story.latest(told),
    )


def _attempts(payment: Payment | None) -> list[Happening]:
    if payment is None:
        return []
    return [
        Happening(
            at=each.settled_at or each.created_at,
            kind="payments",
            what=f"Attempt {each.number}: {cells.words(each.status)}"
            + (f", {cells.words(each.error_code)}" if each.error_code else ""),
            who="guest’s card",
            icon="credit_card",
        )
        for each in payment.attempts.order_by("-number")[:20]
    ]
