"""Payout holds: what is kept back from hosts, why, by whom and until when."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import QuerySet
from django.utils.safestring import SafeString
from unfold.decorators import display
from unfold.widgets import UnfoldAdminIntegerFieldWidget

from backoffice.console import cells, filters, story, trail
from backoffice.console.admin.payouts import amount, everything, hold_amount, hold_status, hours_help, payouts_table
from backoffice.console.base import StaffAdmin
from backoffice.console.dialogs import Dialog, DialogForm, ReasonForm, said
from backoffice.console.door import Desk
from backoffice.console.lists import Search, View
from backoffice.console.page import Fact, Figure, Figures, Page, Text
from backoffice.core.errors import StaydeskError
from backoffice.core.money import Money
from backoffice.ledger import queries as ledger
from backoffice.payouts import operations
from backoffice.payouts import queries as payouts
from backoffice.payouts.models import Payout, PayoutHold


def active(rows: QuerySet[PayoutHold], desk: Desk) -> QuerySet[PayoutHold]:
    return rows.filter(status="active")


class _HoldDialog(Dialog):
    verb = "payouts.hold"

    def offered(self) -> bool:
        own = self.desk.actor.id in {self.row.booking.host_id, self.row.booking.guest_id}
        return self.row.status == "active" and not own

    def unoffered(self) -> str:
        return f"This hold has ended: it was {self.row.status}." if self.row.status != "active" else "It is not yours."


class Lift(_HoldDialog):
    name, label = "lift", "Lift"
    icon, tone = "lock_open", "primary"
    intro = "What was kept back is released at the next run, if it is due."

    @property
    def heading(self) -> str:
        return f"Lift {self.row.code}?"

    def offered(self) -> bool:
        """The operation's own check, asked beforehand: a button that then refuses would be a bug."""
        try:
            operations.check_lifter(hold=self.row, actor=self.desk.actor, now=self.desk.now)
        except StaydeskError:
            return False
        return super().offered()

    def perform(self, form: DialogForm) -> str:
        row = operations.lift_hold(
            hold_code=self.row.code,
            reason=form.cleaned_data["reason"],
            version=form.cleaned_data["version"],
            actor=self.desk.actor,
            now=self.desk.now,
        )
        return said("Lifted:", row)


class ExtendForm(ReasonForm):
    hours = forms.IntegerField(
        label="For how many hours from now",
        min_value=1,
        widget=UnfoldAdminIntegerFieldWidget,
        error_messages={"required": "Write for how long.", "min_value": "Hold for an hour at least."},
    )

    field_order = ["hours", "reason"]


class Extend(_HoldDialog):
    name, label = "extend", "Extend"
    icon = "more_time"
    form_class = ExtendForm

    @property
    def heading(self) -> str:
        return f"Extend {self.row.code}"

    @property
    def introduction(self) -> str:
        return f"It would end at {cells.when(self.row.expires_at)}."

    @property
    def most(self) -> int | None:
        return payouts.extension_limit(hold=self.row, actor=self.desk.actor, now=self.desk.now)

    def offered(self) -> bool:
        longer = self.most is None or self.desk.now + timedelta(hours=self.most) > self.row.expires_at
        return longer and super().offered()

    def unoffered(self) -> str:
        if self.row.status == "active" and self.most is not None:
            return "It is held for as long as your role may hold: a colleague who may hold for longer can extend it."
        return super().unoffered()

    def form(self, data: Any = None, initial: dict[str, Any] | None = None) -> DialogForm:
        form = super().form(data, initial)
        form.fields["hours"].help_text = hours_help(self.most)
        return form

    def initial(self) -> dict[str, Any]:
        return {**super().initial(), "hours": min(72, self.most) if self.most else 72}

    def perform(self, form: DialogForm) -> str:
        row = operations.extend_hold(
            hold_code=self.row.code,
            hours=form.cleaned_data["hours"],
            reason=form.cleaned_data["reason"],
            version=form.cleaned_data["version"],
            actor=self.desk.actor,
            now=self.desk.now,
        )
        return said(f"Held until {cells.when(row.expires_at)}:", row)


@admin.register(PayoutHold)
class HoldAdmin(StaffAdmin):
    verb = "payouts.view"
    singular, plural = "hold", "payout holds"
    list_words = (
        "Money kept back from release. A hold ends by itself; holding before the release is the only control that always "
        "works, since what was sent has to be asked back."
    )
    empty_words = "A hold is placed from a payout’s or a booking’s page."
    searches = (
        Search("booking__host__email__startswith", "@", str.lower),
        Search("booking__code", r"^BK-", str.upper),
        Search("code__startswith", case=str.upper),
    )
    search_help_text = "HD- or BK- code, host’s e-mail"
    views = (
        View("active", "Active, expiring first", active, soonest="expires_at"),
        View("all", "All", everything),
    )
    list_display = ("hold", "host_name", "status_shown", "money_amount", "why", "expires", "owned")
    list_filter = (("status", filters.Choices), ("cause", filters.Choices), ("expires_at", filters.Days))
    lookups = ("booking__code", "owner__code")
    list_select_related = ("booking__host", "owner", "placed_by", "ended_by")
    dialogs = (Lift, Extend)

    @display(description="Hold")
    def hold(self, row: PayoutHold) -> SafeString:
        return cells.two(cells.code(row.code), f"on {row.booking.code}")

    @display(description="Host")
    def host_name(self, row: PayoutHold) -> str:
        return row.booking.host.name

    @display(description="Status")
    def status_shown(self, row: PayoutHold) -> SafeString:
        return hold_status(row)

    @display(description="Kept back")
    def money_amount(self, row: PayoutHold) -> SafeString | str:
        return hold_amount(row)

    @display(description="Why")
    def why(self, row: PayoutHold) -> SafeString:
        return cells.two(cells.words(row.cause).capitalize(), row.reason)

    @display(description="Ends")
    def expires(self, row: PayoutHold) -> SafeString:
        return cells.instant(row.ended_at or row.expires_at)

    @display(description="Owner")
    def owned(self, row: PayoutHold) -> SafeString:
        placed = row.placed_by.name if row.placed_by else "rule"
        return cells.two(row.owner.name if row.owner else "nobody", f"placed by {placed}")

    def page(self, row: PayoutHold, desk: Desk) -> Page:
        stay = list(Payout.objects.filter(booking=row.booking).order_by("number"))
        warnings = []
        if row.status == "active" and row.expires_at <= desk.now:
            warnings.append("It has expired; the next sweep ends it and the money is released.")
        return Page(
            title=row.code,
            subtitle=f"Keeps money of {row.booking.code} back from {row.booking.host.name}",
            status=hold_status(row),
            warnings=warnings,
            facts=(
                Fact("Booking", cells.link(row.booking)),
                Fact("Payment", cells.link(getattr(row.booking, "payment", None))),
                Fact("Host", cells.link(row.booking.host, row.booking.host.name)),
                Fact("Kept back", hold_amount(row)),
                Fact("Cause", cells.words(row.cause).capitalize()),
                Fact("Owner", _person(row.owner)),
                Fact("Placed by", _person(row.placed_by) or "by rule"),
                Fact("Placed", cells.instant(row.placed_at)),
                Fact("Expires", cells.instant(row.expires_at)),
                Fact("Ended", cells.instant(row.ended_at)),
                Fact("Ended by", _ended_by(row)),
                Fact("Because", row.ended_reason),
            ),
            panels=(
                Text(title="Why it is held", text=row.reason),
                _adds_up(row, stay, desk),
                payouts_table(stay, title="Payouts of this stay"),
                story.audit_panel([("payout_hold", row.code)], desk),
            ),
        )


def _adds_up(row: PayoutHold, stay: list[Payout], desk: Desk) -> Figures:
    """What of the stay's money is held for the host, what holds keep of it, and what is left to be released."""
    currency, may = row.booking.currency, desk.actor.may("ledger.view")
    journals = ledger.trace(row.booking.code)
    held = trail.postings(journals, "2100", key=row.booking.code, credited=True)
    left = Money.sum((each.money for each in held if each.money.currency == currency), currency)
    figures = [
        trail.figure("Held for the host", held, words="not released yet", strong=True, currency=currency, open=may)
    ]
    for each in PayoutHold.objects.filter(booking=row.booking, status="active").order_by("id"):
        kept = left if each.amount is None else min(Money(each.amount, currency), left)
        left = left - kept
        own = each.pk == row.pk
        label, words = ("Kept by this hold", "") if own else ("Kept by another hold", each.code)
        figures.append(Figure(label, cells.of(-kept), words, href="" if own else cells.address_of(each)))
    figures.append(Figure("Left to be released", cells.of(left), "when its payout is due", True))
    figures += [
        Figure("Set aside", amount(each), f"{each.code}: what a hold kept", href=cells.address_of(each))
        for each in stay
        if each.remainder_of_id is not None
    ]
    note = "" if row.status == "active" else "As it is now: this hold has ended and keeps nothing."
    return Figures(title="How it adds up", note=note, figures=figures)


def _person(person: Any) -> SafeString | str:
    return cells.link(person, person.name) if person is not None else ""


def _ended_by(row: PayoutHold) -> SafeString | str:
    if row.ended_at is None:
        return ""
    return _person(row.ended_by) or ("itself" if row.status == "expired" else "rule")
