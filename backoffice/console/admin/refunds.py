"""Refunds, and the second person's decision about them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date
from functools import cached_property
from typing import Any, Final

from django import forms
from django.contrib import admin
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from import_export.fields import Field
from unfold.decorators import display
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from backoffice.console import cells, exports, filters, story, trail
from backoffice.console.admin.statements import line_words
from backoffice.console.base import StaffAdmin
from backoffice.console.dialogs import Checked, Dialog, DialogForm, ReasonForm, answer, offer, said
from backoffice.console.door import Desk
from backoffice.console.lists import Search
from backoffice.console.page import Column, Fact, Figure, Figures, Page, Panel, Posting, Row, Table
from backoffice.core.errors import Conflict, StaydeskError
from backoffice.core.money import Money
from backoffice.ledger.policies import Line
from backoffice.payments import operations as payments
from backoffice.payments import policies
from backoffice.payments import queries as refund_queries
from backoffice.payments.models import PARTS, Refund
from backoffice.payments.policies import Parts
from backoffice.payments.states import REFUND
from backoffice.people import policies as people_policies
from backoffice.people import queries as people
from backoffice.reconciliation import operations as reconciliation
from backoffice.reconciliation import queries as bank
from backoffice.reconciliation.models import StatementLine
from backoffice.workflows import refund_booking

PART_WORDS = {
    "held": "Host’s share",
    "host_fee": "Host fee",
    "guest_fee": "Guest fee",
    "vat": "VAT on fees",
    "occupancy_tax": "Occupancy tax",
}


def approver_roles(maker_roles: Iterable[str]) -> list[str]:
    """The roles that may say the second yes to a refund made by somebody with `maker_roles`."""
    made_as = list(maker_roles)
    return [
        cells.words(role)
        for role in people_policies.APPROVES
        if people_policies.may_approve(approver_roles=[role], maker_roles=made_as, same_person=False)
    ]


def who_decides(maker_roles: Iterable[str]) -> str:
    """A sentence's end that says who may decide: "a team lead or finance"."""
    named = {"team lead": "a team lead", "finance": "somebody in finance"}
    return " or ".join(named.get(role, role) for role in approver_roles(maker_roles))


class _Decision(Dialog):
    preview_template = "console/parts/refund_money.html"

    def preview(self, form: DialogForm) -> dict[str, Any]:
        return {"money": shares(self.decided, self.desk.now.date())}

    def landing(self) -> str:
        return cells.address_of(self.row)

    @property
    def decided(self) -> list[Refund]:
        """What is decided: the refund, with all that waits of the same request where several charges give it back."""
        together = refund_queries.asked_together(refund=self.row)
        return [one for one in together if one.status == "requested"] or [self.row]

    @property
    def amount(self) -> Money:
        return refund_queries.amount_asked(refund=self.row)


class _SecondPerson(_Decision):
    verb = "refunds.approve"

    def offered(self) -> bool:
        """The operation's own check, asked beforehand: a button that then refuses would be a bug."""
        if self.row.status != "requested":
            return False
        try:
            payments.check_second_person(refund=self.row, actor=self.desk.actor)
        except StaydeskError:
            return False
        return True


class Approve(_SecondPerson):
    name, label = "approve", "Approve"
    icon, tone = "check_circle", "primary"
    form_class = DialogForm
    intro = "You are the second person. The money leaves as soon as you say yes, and cannot be called back."

    @property
    def introduction(self) -> str:
        if self.row.method == "other":
            return "You are the second person. A colleague then sends it from our own account, and notes it here."
        return self.intro

    @property
    def heading(self) -> str:
        return f"Approve the refund of {self.amount}?"

    def perform(self, form: DialogForm) -> str:
        amount = self.amount  # of all that waits, before it no longer does
        refund = refund_booking.approve(
            refund_code=self.row.code, version=form.cleaned_data["version"], actor=self.desk.actor, now=self.desk.now
        )
        if refund.method == "other":
            return said(f"{amount} is approved and can be sent at the bank: refund", refund)
        return said(f"{amount} is approved and on its way: refund", refund)


class Reject(_SecondPerson):
    name, label = "reject", "Reject"
    icon, tone = "cancel", "danger"

    @property
    def heading(self) -> str:
        return f"Reject the refund of {self.amount}?"

    @property
    def introduction(self) -> str:
        return refund_queries.after_no(refund=self.row)

    def perform(self, form: DialogForm) -> str:
        refund = refund_booking.reject(
            refund_code=self.row.code,
            reason=form.cleaned_data["reason"],
            version=form.cleaned_data["version"],
            actor=self.desk.actor,
            now=self.desk.now,
        )
        return _instead(refund) or said("No money moves. Rejected:", refund)


class TakeBack(_Decision):
    name, label, verb = "take_back", "Take back", "refunds.cancel"
    icon = "undo"
    form_class = DialogForm

    @property
    def introduction(self) -> str:
        return f"You asked for this refund; nobody has decided yet. {refund_queries.after_no(refund=self.row)}".strip()

    def offered(self) -> bool:
        mine = self.row.requested_by_id == self.desk.actor.id
        return bool(self.row.status == "requested" and not self.row.waits_for and mine)

    @property
    def heading(self) -> str:
        return f"Take back the refund of {self.amount}?"

    def perform(self, form: DialogForm) -> str:
        refund = refund_booking.cancel(
            refund_code=self.row.code, version=form.cleaned_data["version"], actor=self.desk.actor, now=self.desk.now
        )
        return _instead(refund) or said("Taken back:", refund)


def _instead(refund: Refund) -> str:
    """What goes back by rule in place of a request that came to nothing; empty where nothing does."""
    given = refund_queries.given_instead(refund=refund)
    if not given:
        return ""
    amount = Money(sum(one.amount for one in given), refund.currency)
    return said(f"The stay was cancelled, so {amount} goes back by rule instead: refund", given[0])


class _AnotherWay(Checked, _Decision):
    verb = "refunds.repay"


class Repay(_AnotherWay):
    name, label = "repay", "Pay another way"
    icon, tone = "account_balance", "primary"

    @property
    def introduction(self) -> str:
        what = (
            f"The provider refused this refund ({self.row.failure_reason}), which is the guest’s by rule, and the money stands "
            "aside for them. Make sure that they do not have it already."
            if refund_queries.was_refused(refund=self.row)
            else "The guest’s bank sent this refund back, and the money stands aside for them."
        )
        return (
            f"{what} Agree with the guest where it is to go and keep that with our bank. A colleague in finance must "
            "approve; then it is sent from our own account."
        )

    def check(self) -> Money | None:
        return payments.check_repayment(refund=self.row, actor=self.desk.actor)

    @property
    def heading(self) -> str:
        return f"Pay {self.row.code} another way?"

    def preview(self, form: DialogForm) -> dict[str, Any]:
        return {
            "money": [("Guest receives", cells.of(payments.check_repayment(refund=self.row, actor=self.desk.actor)))]
        }

    def perform(self, form: DialogForm) -> str:
        refund = payments.request_repayment(
            refund_code=self.row.code,
            version=form.cleaned_data["version"],
            reason=form.cleaned_data["reason"],
            actor=self.desk.actor,
            now=self.desk.now,
        )
        return said(f"{Money(refund.amount, refund.currency)} waits for a second person: refund", refund)


class SentForm(DialogForm):
    reference = forms.CharField(
        label="The bank’s reference",
        max_length=80,
        help_text="The line of the bank’s statement that names it settles this refund.",
        widget=UnfoldAdminTextInputWidget(attrs={"autocomplete": "off"}),
        error_messages={"required": "Write the reference under which the bank carries the transfer."},
    )


class Sent(_AnotherWay):
    name, label = "sent", "Sent at the bank"
    icon, tone = "outbox", "primary"
    form_class = SentForm
    intro = "Approved, and to be sent from our own account. Note it here once the bank has taken the order."

    def check(self) -> None:
        payments.check_note(refund=self.row, actor=self.desk.actor)

    @property
    def heading(self) -> str:
        return f"{self.amount} was sent at the bank?"

    def perform(self, form: DialogForm) -> str:
        refund = payments.note_repayment(
            refund_code=self.row.code,
            reference=form.cleaned_data["reference"],
            version=form.cleaned_data["version"],
            actor=self.desk.actor,
            now=self.desk.now,
        )
        return said("It is settled when the bank’s statement shows it: refund", refund)


class Returned(_AnotherWay):
    name, label = "returned", "The bank refused it"
    icon, tone = "keyboard_return", "danger"
    intro = (
        "The bank could not carry this out, or sent it back. What was posted is reversed, and the money stands aside for the "
        "guest, who is told; it can be asked for another way again, by two people. What has left our account already is "
        "asked for again once the bank’s statement shows it back; where a bank kept a fee of it, say here which line that is."
    )

    def check(self) -> None:
        payments.check_return(refund=self.row, actor=self.desk.actor)

    @property
    def heading(self) -> str:
        return f"Our bank did not pay {self.amount}?"

    def perform(self, form: DialogForm) -> str:
        refund = payments.return_repayment(
            refund_code=self.row.code,
            reason=form.cleaned_data["reason"],
            version=form.cleaned_data["version"],
            actor=self.desk.actor,
            now=self.desk.now,
        )
        assert refund.repays is not None  # the database keeps it
        return said("The guest is told; ask for another way on the page of", refund.repays)


class CameBackForm(ReasonForm):
    line = forms.ChoiceField(
        label="Line of the bank’s statement",
        help_text="Money that came in, less than the refund, and waits in suspense. What names the refund comes first.",
        widget=UnfoldAdminSelectWidget,
        error_messages={
            "required": "Choose the line by which it came back.",
            "invalid_choice": "This line does not wait in suspense any more, or brings no less than the refund. Choose another.",
        },
    )

    field_order = ["line", "reason"]


class CameBack(_AnotherWay):
    name, label, submit = "came_back", "Came back less a fee", "It is this line"
    icon, tone = "price_check", "primary"
    form_class = CameBackForm
    preview_template = "console/parts/back_less.html"
    deciding = ("line",)
    intro = (
        "Our bank sent this back and less of it has arrived: a bank has kept something. Nothing but your word says that a "
        "smaller amount is the same money. What comes back whole is found by itself."
    )

    def check(self) -> None:
        payments.check_back_less(refund=self.row, actor=self.desk.actor)
        if not self._lines:
            raise Conflict(
                f"No line of the bank waits in suspense that could be {self.row.code} less a fee. Import the statement that "
                "shows it (ops reconcile bank --file) and look again."
            )

    @cached_property
    def _lines(self) -> dict[str, StatementLine]:
        return {line.code: line for line in bank.lines_back_less(refund=self.row)}

    @property
    def heading(self) -> str:
        return f"Which line brings {self.row.code} back?"

    def form(self, data: Any = None, initial: dict[str, Any] | None = None) -> DialogForm:
        form = super().form(data, initial)
        offer(
            form,
            "line",
            [
                ("", "Choose …"),
                *((code, line_words(line, Money(line.amount, line.currency))) for code, line in self._lines.items()),
            ],
        )
        return form

    def initial(self) -> dict[str, Any]:
        named = [code for code, line in self._lines.items() if bank.is_named(line=line, refund=self.row)]
        return {**super().initial(), "line": named[0] if len(named) == 1 else ""}

    def preview(self, form: DialogForm) -> dict[str, Any]:
        line = self._lines.get(answer(form, "line"))
        if line is None:
            return {}
        whole, came = Money(self.row.amount, self.row.currency), Money(line.amount, line.currency)
        posts = policies.repaid_from_bank(
            refund=self.row.code, bank=line.account, amount=-came, suspense=f"bank:{line.code}"
        )
        return {
            "money": [
                ("The line brings", cells.of(came)),
                ("A bank has kept", cells.of(whole - came)),
                ("The guest can be paid anew", cells.of(whole)),
            ],
            "chosen": line,
            "posts": [_posted_as(one) for one in sorted(posts, key=lambda one: -one.amount)]
            if self.desk.actor.may("ledger.view")
            else [],
            "kept": whole - came,
        }

    def perform(self, form: DialogForm) -> str:
        self.same(form)
        refund = reconciliation.bring_back_less(
            line_code=form.cleaned_data["line"],
            refund_code=self.row.code,
            reason=form.cleaned_data["reason"],
            actor=self.desk.actor,
            now=self.desk.now,
        )
        assert refund.repays is not None  # the database keeps it
        return said("It has come back; ask for another way on the page of", refund.repays)


def _posted_as(line: Line) -> tuple[str, str, SafeString, SafeString]:
    """A line of a journal that is not written yet: account, key, debit, credit."""
    debit, credit = (cells.of(line.money), cells.NONE) if line.amount > 0 else (cells.NONE, cells.of(-line.money))
    return f"{line.account} {trail.name_of(line.account)}", line.key, debit, credit


def shares(rows: Sequence[Refund], on: date) -> list[tuple[str, SafeString]]:
    """Who gives what of refunds that are decided as one, as it stands on that day."""
    own = rows[0].payment.booking.currency
    parts = {part: Money(sum(row.parts[part] for row in rows), own) for part in PARTS}
    return share_lines(
        guest=Money(sum(row.amount for row in rows), rows[0].currency),
        host=parts["held"],
        fees=parts["host_fee"] + parts["guest_fee"],
        tax=parts["vat"] + parts["occupancy_tax"],
        borne=Money(sum(row.platform_share for row in rows), own),
        released=_released(rows, on),
    )


def share_lines(
    *, guest: Money, host: Money, fees: Money, tax: Money, borne: Money, released: refund_booking.Released | None
) -> list[tuple[str, SafeString]]:
    """A refund three ways, in the same lines before it is asked for and before it is decided: what the guest receives is the
    sum of the others, in the home's currency where they paid in another."""
    together = host + fees + tax + borne
    converted = (
        [("Which is, at the booking’s rate", together)] if together.currency != guest.currency and together else []
    )
    amounts = (
        ("Guest receives", guest),
        *converted,
        ("Host gives up", host),
        ("Platform gives up", fees),
        ("Taxes given back", tax),
        *([("Platform bears besides", borne)] if borne else []),
    )
    return [*((label, cells.of(amount)) for label, amount in amounts), *released_shares(released)]


def released_shares(released: refund_booking.Released | None) -> list[tuple[str, SafeString]]:
    """What of a refund is no longer held or is ours, each amount in the currency in which it was settled."""
    if released is None:
        return []
    amounts = (
        ("Of it the host will owe", released.host),
        ("Of it ours, as it was settled", released.platform),
        ("Of it taxes, as they were settled", released.tax),
    )
    return [(label, cells.of(amount)) for label, amount in amounts if amount]


def _released(rows: Sequence[Refund], on: date) -> refund_booking.Released | None:
    """What of refunds that wait for a decision would be taken from what was released."""
    booking = rows[0].payment.booking
    if any(row.status != "requested" or row.method == "other" for row in rows):
        return None
    return refund_booking.released(
        payment=rows[0].payment,
        gives=[
            (
                Money(row.amount, row.currency),
                Parts.of(currency=booking.currency, amounts=row.parts),
                Money(row.platform_share, booking.currency),
            )
            for row in rows
        ],
        on=on,
    )


class RefundsExport(exports.Resource):
    code = Field("code", "refund")
    booking = Field("payment__booking__code", "booking")
    status = Field("status", "status")
    waits_for = Field("waits_for", "waits for the end of a")
    amount = Field(column_name="amount")
    currency = Field("currency", "currency")
    cause = Field("cause", "cause")
    bearer = Field("bearer", "borne by")
    reason = Field("reason", "reason")
    requested_by = Field("requested_by__name", "asked for by")
    requested_at = Field("requested_at", "asked for")
    approved_by = Field("approved_by__name", "approved by")
    approved_at = Field("approved_at", "approved")
    settled_at = Field("settled_at", "settled")
    provider_id = Field("provider_id", "provider id")

    def dehydrate_amount(self, row: Refund) -> Any:
        return exports.amount(row.amount, row.currency)


@admin.register(Refund)
class RefundAdmin(StaffAdmin):
    verb, export_verb = "refunds.view", "refunds.export"
    singular, plural = "refund", "refunds"
    list_words = (
        "Money going back to guests. What is over somebody’s limit waits here for a second person; what is owed by rule while a "
        "chargeback is open waits for its end. What could not be paid to the card says so, and is paid another way."
    )
    empty_words = "A refund appears when staff ask for one, or when a booking is cancelled."
    searches = (
        Search("payment__booking__guest__email__startswith", "@", str.lower),
        Search("payment__booking__code", r"^BK-", str.upper),
        Search("provider_id", r"^re_"),
        Search("code__startswith", case=str.upper),
    )
    search_help_text = "RF- or BK- code, re_ id, guest’s e-mail"
    list_display = ("refund", "guest", "refund_status", "money_amount", "why", "asked", "decided")
    list_filter = (
        ("status", filters.Choices),
        ("cause", filters.Choices),
        ("bearer", filters.Choices),
        ("requested_at", filters.Days),
    )
    lookups = ("payment__booking__code", "payment__code", "currency", "waits_for__exact")
    list_select_related = ("payment__booking__guest", "requested_by", "approved_by")
    dialogs = (Approve, Reject, TakeBack, Repay, Sent, Returned, CameBack)
    resource_classes = (RefundsExport,)

    @display(description="Refund")
    def refund(self, row: Refund) -> SafeString:
        return cells.two(cells.code(row.code), f"of {row.payment.booking.code}")

    @display(description="Guest")
    def guest(self, row: Refund) -> str:
        return row.payment.booking.guest.name

    @display(description="Status")
    def refund_status(self, row: Refund) -> SafeString:
        return status(row)

    @display(description="Amount")
    def money_amount(self, row: Refund) -> SafeString:
        return cells.money(row.amount, row.currency)

    @display(description="Cause")
    def why(self, row: Refund) -> SafeString:
        return cells.two(cells.words(row.cause).capitalize(), f"borne by the {row.bearer}")

    @display(description="Asked for")
    def asked(self, row: Refund) -> SafeString:
        return cells.two(cells.instant(row.requested_at), row.requested_by.name if row.requested_by else "by rule")

    @display(description="Approved")
    def decided(self, row: Refund) -> SafeString:
        if row.approved_at is None:
            return cells.NONE
        return cells.two(cells.instant(row.approved_at), row.approved_by.name if row.approved_by else "by rule")

    def page(self, row: Refund, desk: Desk) -> Page:
        booking = row.payment.booking
        waiting: tuple[str, ...] = ()
        wait = refund_queries.why_refund_waits(refund=row)
        if wait is not None:
            waiting = (f"This refund is the guest’s by rule: nobody decides it. {wait.sentence}",)
        elif row.status == "requested":
            roles = people.roles_of(person_id=row.requested_by_id) if row.requested_by_id else ()
            waiting = (f"This refund waits for a second person: {who_decides(roles)}, never whoever asked for it.",)
            instead = refund_queries.after_no(refund=row)
            waiting = (*waiting, instead) if instead else waiting
        aside = refund_queries.refunds_aside(refunds=[row]).get(row.pk)
        if aside is not None:
            waiting = (*waiting, aside)
        if row.pk in refund_queries.refunds_stopped(refunds=[row]):
            waiting = (*waiting, "It is approved, and is sent as soon as refunds are no longer stopped.")
        others = [one for one in refund_queries.asked_together(refund=row) if one.pk != row.pk]
        if others and row.status == "requested":
            together = refund_queries.amount_asked(refund=row)
            waiting = (*waiting, f"It is decided together with what the other charges give back: {together} in all.")
        return Page(
            title=row.code,
            subtitle=format_html("{} back to {}", cells.money(row.amount, row.currency), booking.guest.name),
            status=status(row),
            warnings=waiting,
            facts=(
                Fact("Booking", cells.link(booking)),
                Fact("Payment", cells.link(row.payment)),
                Fact("Through", cells.link(row.charge) if row.charge is not None else ""),
                Fact("Asked for with", format_html_join(", ", "{}", ((cells.link(one),) for one in others))),
                Fact("Guest", cells.link(booking.guest, booking.guest.name)),
                Fact("Cause", cells.words(row.cause).capitalize()),
                Fact("Borne by", row.bearer.capitalize()),
                Fact("Owed by rule", "yes: it is the guest’s whoever decides what" if row.by_rule else ""),
                Fact("Reason", row.reason),
                Fact("Asked for by", _by(row.requested_by, row.requested_at)),
                Fact("Approved by", _by(row.approved_by, row.approved_at)),
                Fact("Sent", cells.instant(row.submitted_at)),
                Fact("Settled", cells.instant(row.settled_at)),
                Fact("At the bank" if row.method == "other" else "At the provider", cells.code(row.provider_id)),
                Fact("Pays another way", cells.link(row.repays) if row.repays is not None else ""),
                Fact("Paid another way", _another_way(row)),
                Fact("Failure", row.failure_reason),
            ),
            panels=(*_money(row, desk), story.audit_panel([("refund", row.code)], desk)),
        )


# Who gives what, as the accounts that are debited for it; what is not yet posted is shown as it was asked for.
_GIVERS: Final = (
    ("Host gives up", ("2100", "1310"), "held", "what was held for them, or what they then owe"),
    ("We give up", ("2110", "2111", "4100", "4110"), "fees", "our fees"),
    ("Taxes given back", ("2300", "2310"), "taxes", ""),
    ("We bear besides", ("5210",), "platform", "goodwill and protection"),
)


def _money(row: Refund, desk: Desk) -> list[Panel]:
    currency, may = row.payment.booking.currency, desk.actor.may("ledger.view")
    names = [row.code, row.provider_id or ""]
    journals = trail.journals_about(names)
    own = trail.of_event(journals, f"refund:{row.code}")
    asked = {
        "held": row.held,
        "fees": row.host_fee + row.guest_fee,
        "taxes": row.vat + row.occupancy_tax,
        "platform": row.platform_share,
    }
    figures = [
        Figure(
            "Guest receives",
            cells.money(row.amount, row.currency),
            "to the card" if row.method == "card" else "another way than the card",
            True,
            trail.postings(own, "2400", key=row.code, credited=True) if may else None,
        )
    ]
    foreign = row.currency != currency
    for label, codes, part, words in _GIVERS:
        if part == "platform" and not asked[part]:
            continue
        found = trail.postings(own, *codes)
        converted = _converted(label, found, currency, may)
        explained = found if may and not converted else None
        figures.append(Figure(label, cells.money(asked[part], currency), words, False, explained))
        figures += converted
        foreign = foreign or bool(converted)
    panels: list[Panel] = [
        Figures(
            title="Who gives what",
            note=f"In the home’s currency, {currency}, where no other is named." if foreign else "",
            figures=figures,
        ),
        Table(
            title="Parts given back",
            columns=(Column("Part"), Column("Amount", "money")),
            rows=[Row((PART_WORDS[part], cells.money(row.parts[part], currency))) for part in PARTS],
        ),
        trail.movements_table([row.provider_id or ""]),
    ]
    if may:
        panels.append(trail.journals_table(journals, empty="A refund is posted when it is approved."))
    if desk.actor.may("webhooks.view"):
        panels.append(trail.webhooks_table([row.provider_id or ""]))
    return panels


def _converted(label: str, postings: Sequence[Posting], currency: str, may: bool) -> list[Figure]:
    """A share of which something had been released in another currency than the home's: what was taken in each currency,
    with its postings. Nothing where all of it is in the home's."""
    taken = sorted({posting.money.currency for posting in postings})
    if taken in ([], [currency]):
        return []
    figures = []
    for each in taken:
        found = [posting for posting in postings if posting.money.currency == each]
        total = Money.sum([posting.money for posting in found], each)
        words = "of it, as it was held" if each == currency else "of it, at the rate at which it was released"
        figures.append(Figure(f"{label}, in {each}", cells.of(total), words, False, found if may else None))
    return figures


def status(row: Refund) -> SafeString:
    """A refund's status; one that waits for a second person, or by rule for the end of a chargeback, says so."""
    waits = f"waits for the end of a {row.waits_for}" if row.waits_for else "waits for approval"
    return cells.status(row.status, waits if row.status == "requested" else "")


def _by(person: Any, at: Any) -> Any:
    if at is None:
        return ""
    return cells.two(cells.link(person, person.name) if person else "by rule", cells.instant(at))


def _another_way(row: Refund) -> Any:
    """What pays a refund that came back: the latest, after those that were rejected or taken back."""
    last = row.repayments.order_by("id").last()
    return cells.two(cells.link(last), status(last)) if last is not None else ""


def refunds_table(rows: list[Refund]) -> Table:
    """The refunds of one payment, newest first."""
    return Table(
        title="Refunds",
        columns=(
            Column("Refund"),
            Column("Status"),
            Column("Cause"),
            Column("Asked for by"),
            Column("Amount", "money"),
        ),
        rows=[
            Row(
                (
                    cells.two(cells.link(each), cells.instant(each.requested_at)),
                    status(each),
                    cells.words(each.cause).capitalize(),
                    each.requested_by.name if each.requested_by else "by rule",
                    cells.money(each.amount, each.currency),
                ),
                quiet=not REFUND.allows(each.status, "fail") and each.status in REFUND.final,
            )
            for each in rows
        ],
        empty="Nothing has been refunded.",
    )
