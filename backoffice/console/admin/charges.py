"""Charges beside the payments of bookings: instalments of long stays, and damage with the second person's decision."""

from __future__ import annotations

from typing import Any, Final

from django.contrib import admin
from django.utils.html import format_html
from django.utils.safestring import SafeString
from import_export.fields import Field
from unfold.decorators import display

from backoffice.console import cells, exports, filters, story, trail
from backoffice.console.admin.payments import Collected, made_of
from backoffice.console.admin.refunds import refunds_table
from backoffice.console.base import StaffAdmin
from backoffice.console.dialogs import Checked, DialogForm, ReasonForm, amount_field, amount_of, said
from backoffice.console.door import Desk
from backoffice.console.page import Fact, Figure, Figures, Page, Panel
from backoffice.core.errors import Conflict
from backoffice.core.money import Money
from backoffice.ledger.models import Journal
from backoffice.payments import operations as payments
from backoffice.payments.models import ExtraCharge, Refund
from backoffice.payments.states import CHARGE


class DamageForm(ReasonForm):
    amount = amount_field()

    field_order = ["amount", "reason"]


class AskDamage(Checked):
    """On a booking: the first person's half."""

    name, label, verb = "damage", "Charge damage", "charges.request"
    icon = "broken_image"
    form_class = DamageForm
    intro = (
        "A colleague must approve it. Then the guest is told, reads your reason, has a day to answer, and the card that "
        "paid is charged."
    )

    @property
    def heading(self) -> str:
        return f"Charge damage of {self.row.code}, in {self.row.currency}"

    def check(self) -> None:
        payments.check_damage(booking=self.row, actor=self.desk.actor, now=self.desk.now)

    def perform(self, form: DialogForm) -> str:
        charge = payments.request_damage(
            booking_code=self.row.code,
            amount=amount_of(form.cleaned_data["amount"], self.row.currency),
            reason=form.cleaned_data["reason"],
            key=self.decision(form),
            actor=self.desk.actor,
            now=self.desk.now,
        )
        return said(f"{Money(charge.amount, charge.currency)} is asked for; it waits for a second person:", charge)


class _OfCharge(Checked):
    verb = "charges.approve"
    action = ""

    @property
    def amount(self) -> Money:
        return Money(self.row.amount, self.row.currency)

    def check(self) -> None:
        if self.row.kind != "damage":
            raise Conflict("An instalment belongs to its stay: cancel the booking instead.")
        CHARGE.after(self.row.status, self.action)
        payments.check_charge_approver(charge=self.row, actor=self.desk.actor)

    def answers(self, form: DialogForm) -> dict[str, Any]:
        return {
            "charge_code": self.row.code,
            "version": form.cleaned_data["version"],
            "actor": self.desk.actor,
            "now": self.desk.now,
        }


class Approve(_OfCharge):
    name, label, action = "approve", "Approve", "approve"
    icon, tone = "check_circle", "primary"
    form_class = DialogForm
    intro = "You are the second person. The guest is told at once, and the card is charged when their time is over."

    @property
    def heading(self) -> str:
        return f"Approve {self.amount} for damage?"

    def perform(self, form: DialogForm) -> str:
        charge = payments.approve_damage(**self.answers(form))
        return said(f"{self.amount} is approved and the guest is told:", charge)


class Reject(_OfCharge):
    name, label, action = "reject", "Reject", "reject"
    icon, tone = "cancel", "danger"

    @property
    def heading(self) -> str:
        return f"Reject {self.amount} for damage?"

    def perform(self, form: DialogForm) -> str:
        charge = payments.reject_damage(reason=form.cleaned_data["reason"], **self.answers(form))
        return said("Nothing is asked of the guest. Rejected:", charge)


class Withdraw(_OfCharge):
    name, label, action = "withdraw", "Ask no more", "cancel"
    icon = "undo"
    intro = "What was approved is not asked of the guest any more; they are told, and the debt is reversed."

    def check(self) -> None:
        super().check()
        if self.row.status == "requested":
            raise Conflict("Nobody has approved this charge yet; reject it instead.")

    @property
    def heading(self) -> str:
        return f"Ask no more for {self.amount}?"

    def perform(self, form: DialogForm) -> str:
        charge = payments.cancel_damage(reason=form.cleaned_data["reason"], **self.answers(form))
        return said("The guest owes nothing for it:", charge)


class Cover(_OfCharge):
    name, label, action = "cover", "Cover", "cover"
    icon, tone = "shield", "primary"
    intro = "The guest did not pay. The house bears it, and the host is paid."

    def check(self) -> None:
        payments.check_cover(charge=self.row, actor=self.desk.actor)

    @property
    def heading(self) -> str:
        return f"Cover {self.amount} for the host?"

    def perform(self, form: DialogForm) -> str:
        charge = payments.cover_damage(reason=form.cleaned_data["reason"], **self.answers(form))
        return said(f"{self.amount} is payable to the host:", charge)


class ChargesExport(exports.Resource):
    code = Field("code", "charge")
    booking = Field("booking__code", "booking")
    kind = Field("kind", "kind")
    status = Field("status", "status")
    amount = Field(column_name="amount")
    currency = Field("currency", "currency")
    due_at = Field("due_at", "due")
    captured_at = Field("captured_at", "paid")
    tries = Field("tries", "tries")
    provider_id = Field("provider_id", "provider id")

    def dehydrate_amount(self, row: ExtraCharge) -> Any:
        return exports.amount(row.amount, row.currency)


@admin.register(ExtraCharge)
class ChargeAdmin(Collected, StaffAdmin):
    verb, export_verb = "payments.view", "payments.export"
    singular, plural = "charge", "charges"
    list_words = (
        "Instalments of long stays and damage, charged to the card that paid. Damage waits for a second person."
    )
    empty_words = "A charge appears when a long stay is paid by the month, or when staff ask for damage."
    search_help_text = "CH- or BK- code, pi_ or ch_ id, guest’s e-mail"
    list_display = ("charge", "guest", "charge_status", "money_amount", "due", "last_try")
    list_filter = (
        ("status", filters.Choices),
        ("kind", filters.Choices),
        ("due_at", filters.Days),
    )
    list_select_related = ("booking__guest", "booking__host", "requested_by", "approved_by", "covered_by")
    dialogs = (Approve, Reject, Cover, Withdraw)
    resource_classes = (ChargesExport,)

    @display(description="Charge")
    def charge(self, row: ExtraCharge) -> SafeString:
        return cells.two(cells.code(row.code), f"{row.kind} of {row.booking.code}")

    @display(description="Status")
    def charge_status(self, row: ExtraCharge) -> SafeString:
        return status(row)

    @display(description="Due")
    def due(self, row: ExtraCharge) -> SafeString:
        return cells.instant(row.due_at)

    @display(description="Last try")
    def last_try(self, row: ExtraCharge) -> SafeString:
        if row.submitted_at is None:
            return cells.NONE
        return cells.two(cells.instant(row.submitted_at), row.last_error or f"try {row.tries}")

    def page(self, row: ExtraCharge, desk: Desk) -> Page:
        refunds = list(Refund.objects.filter(charge=row).select_related("requested_by", "approved_by").order_by("-id"))
        journals = trail.journals_about([row.code, row.charge_id or ""])
        named = (row.charge_id, *(each.provider_id for each in refunds), *trail.sources_of(journals))
        sources = list(dict.fromkeys(each for each in named if each))
        panels: list[Panel] = [_damage(row, journals, desk) if row.kind == "damage" else made_of(row, journals, desk)]
        if refunds and desk.actor.may("refunds.view"):
            panels.append(refunds_table(refunds))
        panels.append(trail.movements_table(sources))
        if desk.actor.may("ledger.view"):
            panels.append(trail.journals_table(journals))
        if desk.actor.may("webhooks.view"):
            panels.append(trail.webhooks_table([row.provider_id or "", *sources]))
        return Page(
            title=row.code,
            subtitle=format_html("{} of {}", cells.money(row.amount, row.currency), row.booking.guest.name),
            status=status(row),
            warnings=_warnings(row),
            facts=(
                Fact("Booking", cells.link(row.booking)),
                Fact("Guest", cells.link(row.booking.guest, row.booking.guest.name)),
                Fact("Host", cells.link(row.booking.host, row.booking.host.name)),
                Fact("For", row.reason),
                Fact("Due", cells.instant(row.due_at)),
                Fact("Charged next", cells.instant(row.next_try_at)),
                Fact("To be paid by", cells.instant(row.pay_by)),
                Fact("Tries", str(row.tries)),
                Fact("Last error", row.last_error),
                Fact("Paid", cells.instant(row.captured_at)),
                Fact("Asked for by", row.requested_by.name if row.requested_by else "by rule"),
                Fact("Approved by", row.approved_by.name if row.approved_by else ""),
                Fact("Covered by", row.covered_by.name if row.covered_by else ""),
                Fact("Payable to the host", cells.instant(row.released_at)),
                Fact("Payment", cells.link(getattr(row.booking, "payment", None))),
                Fact("At the provider", cells.code(row.provider_id)),
                Fact("Charge there", cells.code(row.charge_id)),
            ),
            panels=(
                *panels,
                story.audit_panel([("charge", row.code), *(("refund", each.code) for each in refunds)], desk),
            ),
        )


def status(row: ExtraCharge) -> SafeString:
    """A charge's status; one that waits for a second person says so."""
    return cells.status(row.status, "waits for approval" if row.status == "requested" else "")


def _warnings(row: ExtraCharge) -> tuple[str, ...]:
    if row.status == "requested":
        return ("This charge waits for a second person: a team lead or finance, never whoever asked for it.",)
    if row.status == "failed" and row.next_try_at is None and row.kind == "damage":
        return ("The guest has not paid and the card is not tried any more: cover it, or ask no more.",)
    return ()


# What is posted of a damage, as the account that says it of this charge.
_OF_DAMAGE: Final = (
    ("damage-approved", "Owed by the guest", "since a second person approved it", "1300", False),
    ("damage-captured", "Paid by the guest", "by the card that paid for the stay", "1300", True),
    ("damage-covered", "Borne by us", "the guest did not pay", "5210", False),
    ("damage-released", "Payable to the host", "with the next payout", "2120", False),
)


def _damage(row: ExtraCharge, journals: list[Journal], desk: Desk) -> Figures:
    """What was asked for, and what became of it as far as it is posted."""
    may = desk.actor.may("ledger.view")
    figures = [Figure("Asked for", cells.money(row.amount, row.currency), "all of it is for the host", True)]
    for kind, label, words, code, credited in _OF_DAMAGE:
        own = trail.of_event(journals, f"{kind}:{row.code}")
        if own:
            found = trail.postings(own, code, key=row.code, credited=credited)
            figures.append(trail.figure(label, found, words=words, currency=row.currency, open=may))
    owed = trail.postings(journals, "1300", key=row.code)
    if owed:
        figures.append(trail.figure("Still owed by the guest", owed, strong=True, currency=row.currency, open=may))
    return Figures(title="How it adds up", figures=figures)
