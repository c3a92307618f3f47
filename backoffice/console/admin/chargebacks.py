"""Chargebacks and inquiries: what must be answered by when, what the network took and where that stands, the evidence."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

from django import forms
from django.contrib import admin
from django.db.models import QuerySet
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from import_export.fields import Field
from unfold.decorators import display
from unfold.widgets import (
    UnfoldAdminFileFieldWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
)

from backoffice.console import cells, exports, filters, story, trail
from backoffice.console.admin.refunds import PART_WORDS
from backoffice.console.base import StaffAdmin
from backoffice.console.dialogs import Dialog, DialogForm, ReasonForm, answer, offer, said
from backoffice.console.door import Desk
from backoffice.console.lists import Search, View
from backoffice.console.page import Column, Fact, Facts, Figure, Figures, Overview, Page, Panel, Row, Table, Text
from backoffice.core.errors import Invalid
from backoffice.core.money import Money
from backoffice.ledger.models import Journal
from backoffice.payments import operations as payments
from backoffice.payments import queries as money
from backoffice.payments.models import Chargeback, EvidenceFile
from backoffice.payments.policies import PART_NAMES
from backoffice.payments.policies import chargebacks as rules
from backoffice.payments.policies import evidence as evidence_rules
from backoffice.people import queries as people
from backoffice.workflows import work_chargebacks

# The evidence that a stay can have; what the provider knows besides is for goods that are shipped.
_STAYS: Final = (
    "product_description",
    "service_date",
    "customer_name",
    "customer_email_address",
    "customer_purchase_ip",
    "access_activity_log",
    "cancellation_policy_disclosure",
    "cancellation_rebuttal",
    "refund_policy_disclosure",
    "refund_refusal_explanation",
    "duplicate_charge_explanation",
    "uncategorized_text",
)
_SHORT: Final = ("service_date", "customer_name", "customer_email_address", "customer_purchase_ip")
_FILES: Final = tuple(name for name in evidence_rules.FILES if not name.startswith("shipping"))
_URGENCY: Final = {"overdue": "danger", "late": "danger", "soon": "warning", "calm": "info", "none": "plain"}
_NEWS_OF_STATUS: Final = {
    "needs_response": "needs an answer",
    "warning_needs_response": "inquiry, needs an answer",
    "under_review": "with the network",
    "warning_under_review": "inquiry, with the network",
    "warning_closed": "inquiry closed",
    "appeal_needs_response": "appeal, needs an answer",
    "appeal_under_review": "appeal, with the network",
}
_TONES: Final = {
    "warning_needs_response": "warning",
    "appeal_needs_response": "warning",
    "warning_under_review": "info",
    "appeal_under_review": "info",
    "warning_closed": "success",
    "prevented": "success",
}


def status(row: Chargeback) -> SafeString:
    """The provider's own word, or how we say it; one that nobody knows is shown as it came."""
    tone = _TONES.get(row.status, "" if row.status in rules.KNOWN else "warning")
    return cells.status(row.status, _NEWS_OF_STATUS.get(row.status, ""), tone=tone)


def is_claimed(row: Chargeback) -> bool:
    """Somebody has answered it, whether the provider has been heard to know or not. An appeal of it is another matter."""
    return row.submitted_at is not None or row.accepted_at is not None


def awaits_answer(row: Chargeback) -> bool:
    """Somebody has to answer it now, an appeal too."""
    return rules.awaits_answer(status=row.status, claimed=is_claimed(row))


def can_answer(row: Chargeback, desk: Desk) -> bool:
    """Whether it can still be answered here, by this person."""
    in_time = row.due_by is None or desk.now <= row.due_by
    return row.status in rules.ANSWERABLE and not is_claimed(row) and in_time and not own(row, desk)


def own(row: Chargeback, desk: Desk) -> bool:
    """Nobody works on a chargeback of their own booking."""
    if row.payment is None or desk.actor.id is None:
        return False
    return desk.actor.id in {row.payment.booking.guest_id, row.payment.booking.host_id}


def deadline(row: Chargeback, desk: Desk) -> SafeString:
    """Our own deadline with how long is left, in the colour of how pressing it is; the provider's beneath."""
    if row.internal_due_at is None or not rules.is_open(row.status):
        return cells.NONE
    if not awaits_answer(row):
        return cells.two(cells.instant(row.internal_due_at), "answered" if is_claimed(row) else "nothing to answer")
    theirs = f"provider: {cells.when(row.due_by)}" if row.due_by else ""
    beneath = elsewhere(row) or theirs
    return cells.two(format_html("{} {}", badge(row, desk), cells.instant(row.internal_due_at)), beneath)


def elsewhere(row: Chargeback) -> SafeString:
    """The page of the provider's on which one is answered that is not answered here; "" for any other."""
    remedy = money.remedy_of(chargeback=row)
    if remedy is None or not remedy.link:
        return SafeString("")
    return format_html(
        '<a href="{}" target="_blank" rel="noopener noreferrer">answered at the provider</a>', remedy.link
    )


def badge(row: Chargeback, desk: Desk) -> SafeString:
    """How long is left, in the colour of how pressing that is."""
    tone = _URGENCY[money.urgency_of(chargeback=row, now=desk.now)]
    return format_html('<span class="sd-badge sd-{}">{}</span>', tone, time_left(row, desk))


def time_left(row: Chargeback, desk: Desk) -> str:
    """How long until our deadline; after it, until the provider's."""
    if row.due_by is not None and desk.now > row.due_by and row.status not in rules.APPEALABLE:
        return "too late"
    assert row.internal_due_at is not None  # the caller has looked
    if desk.now >= row.internal_due_at:
        return f"late, {_span(row.due_by - desk.now)} to the end" if row.due_by and row.due_by > desk.now else "late"
    return _span(row.internal_due_at - desk.now)


def _span(time: timedelta) -> str:
    hours = int(time.total_seconds() // 3600)
    if hours >= 48:
        return f"{hours // 24} days"
    return f"{hours} h" if hours else f"{max(1, int(time.total_seconds() // 60))} min"


# Dialogs --------------------------------------------------------------------------------------------------------------


class EvidenceForm(DialogForm):
    """What can be said of a stay, in the provider's fields."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name in _STAYS:
            self.fields[name] = forms.CharField(
                label=evidence_rules.WORDS[name],
                required=False,
                max_length=evidence_rules.MOST_IN_A_FIELD,
                widget=UnfoldAdminTextInputWidget() if name in _SHORT else UnfoldAdminTextareaWidget(attrs={"rows": 4}),
            )


class Answering(Dialog):
    """Work on one that can still be answered."""

    def offered(self) -> bool:
        return can_answer(self.row, self.desk)

    @property
    def at_stake(self) -> Money:
        return Money(self.row.amount, self.row.currency)


class Stage(Answering):
    name, label, verb = "evidence", "Evidence", "chargebacks.work"
    icon, wide = "edit_note", True
    form_class = EvidenceForm
    submit = "Keep, do not submit"
    intro = "Kept here and laid beside the dispute at the provider, unsubmitted: nothing goes to the issuer yet."

    @property
    def heading(self) -> str:
        return (
            f"Evidence for {self.row.code}"
            if self.row.evidence
            else f"A first draft of the evidence for {self.row.code}"
        )

    def initial(self) -> dict[str, Any]:
        known = {name: text for name, text in self.row.evidence.items() if name in _STAYS}
        return {**super().initial(), **(known or work_chargebacks.draft(code=self.row.code, actor=self.desk.actor))}

    def perform(self, form: DialogForm) -> str:
        evidence = {name: form.cleaned_data[name] for name in _STAYS}
        row = work_chargebacks.stage(
            code=self.row.code,
            evidence={name: text for name, text in evidence.items() if text or name in self.row.evidence},
            version=form.cleaned_data["version"],
            actor=self.desk.actor,
            now=self.desk.now,
        )
        return said("Kept and staged at the provider, not submitted:", row)


class FileForm(DialogForm):
    field = forms.ChoiceField(
        label="What it shows",
        choices=[(name, evidence_rules.FILES[name]) for name in _FILES],
        widget=UnfoldAdminSelectWidget,
    )
    file = forms.FileField(
        label="File",
        max_length=200,
        help_text="PDF, JPEG or PNG, at most 5 MB; all files together at most 4.5 MB. It replaces the one of its field.",
        widget=UnfoldAdminFileFieldWidget,
        error_messages={"required": "Choose a file."},
    )


class Upload(Answering):
    name, label, verb = "upload", "Add a file", "chargebacks.work"
    icon = "upload_file"
    form_class = FileForm
    submit = "Send to the provider"
    intro = "The file is kept at the provider, where it cannot be deleted again; we keep its name, size and SHA-256."

    @property
    def heading(self) -> str:
        return f"A file for {self.row.code}"

    def form(self, data: Any = None, initial: dict[str, Any] | None = None) -> DialogForm:
        files = self.desk.request.FILES if data is not None else None
        return FileForm(data, files, initial=initial, auto_id="dialog_%s")

    def perform(self, form: DialogForm) -> str:
        file = form.cleaned_data["file"]
        if file.size > evidence_rules.MOST_BYTES:  # before it is read into memory whole
            raise Invalid("file: it is larger than 5 MB; make it smaller.", field="file")
        row = work_chargebacks.upload(
            code=self.row.code,
            field=form.cleaned_data["field"],
            name=file.name,
            content=file.read(),
            actor=self.desk.actor,
            now=self.desk.now,
        )
        return said(f"{evidence_rules.FILES[form.cleaned_data['field']]} is evidence now:", row)


class Submit(Answering):
    name, label, verb = "submit", "Submit", "chargebacks.submit"
    icon, tone, wide = "send", "primary", True
    form_class = DialogForm
    submit = "Submit, once and for all"
    preview_template = "console/parts/evidence_preview.html"
    intro = "It goes to the issuer as it stands here. It cannot be changed or sent a second time."

    def offered(self) -> bool:
        return super().offered() and bool(self.row.evidence)

    @property
    def heading(self) -> str:
        return f"Submit the evidence for {self.row.code}, {self.at_stake}?"

    def preview(self, form: DialogForm) -> dict[str, Any]:
        files = {each.provider_id: each.name for each in files_of(self.row)}
        return {
            "evidence": [
                (label, files.get(self.row.evidence[name], self.row.evidence[name]))
                for name, label in evidence_rules.FIELDS.items()
                if self.row.evidence.get(name)
            ]
        }

    def perform(self, form: DialogForm) -> str:
        row = work_chargebacks.submit(
            code=self.row.code, version=form.cleaned_data["version"], actor=self.desk.actor, now=self.desk.now
        )
        return said("Submitted to the issuer:", row)


class Accept(Answering):
    name, label, verb = "accept", "Accept", "chargebacks.submit"
    icon, tone = "thumb_down", "danger"
    preview_template = "console/parts/loss_preview.html"
    submit = "Give it up"
    intro = "The dispute is closed at the provider. There is no way back."

    @property
    def heading(self) -> str:
        if self.row.kind == "inquiry":
            return f"Close the inquiry {self.row.code} without an answer?"
        return f"Give up {self.at_stake} ({self.row.code})?"

    def preview(self, form: DialogForm) -> dict[str, Any]:
        return {"money": would_be_lost(self.row) if self.row.kind == "chargeback" else []}

    def perform(self, form: DialogForm) -> str:
        row = work_chargebacks.accept(
            code=self.row.code,
            version=form.cleaned_data["version"],
            reason=form.cleaned_data["reason"],
            actor=self.desk.actor,
            now=self.desk.now,
        )
        return said("Accepted:", row)


class OwnerForm(DialogForm):
    owner = forms.TypedChoiceField(label="Owner", coerce=int, widget=UnfoldAdminSelectWidget)


class Own(Dialog):
    name, label, verb = "own", "Owner", "chargebacks.work"
    icon = "person_add"
    form_class = OwnerForm
    intro = "The owner is reminded when our own deadline passes."

    def offered(self) -> bool:
        return rules.is_open(self.row.status)

    @property
    def heading(self) -> str:
        return f"Who works on {self.row.code}?"

    def form(self, data: Any = None, initial: dict[str, Any] | None = None) -> DialogForm:
        form = super().form(data, initial)
        offer(form, "owner", money.chargeback_workers())
        return form

    def initial(self) -> dict[str, Any]:
        return {**super().initial(), "owner": self.row.owner_id or self.desk.actor.id}

    def perform(self, form: DialogForm) -> str:
        row = payments.own_chargeback(
            code=self.row.code,
            owner_id=form.cleaned_data["owner"],
            version=form.cleaned_data["version"],
            actor=self.desk.actor,
            now=self.desk.now,
        )
        return said(f"{people.person(person_id=form.cleaned_data['owner']).name} owns", row)


class NoteForm(DialogForm):
    text = forms.CharField(
        label="Note",
        max_length=2_000,
        help_text="Earlier notes stay. Name no guest or host: notes outlive an erasure.",
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 4}),
        error_messages={"required": "Write the note."},
    )


class Note(Dialog):
    name, label, verb = "note", "Note", "chargebacks.work"
    icon = "sticky_note_2"
    form_class = NoteForm

    @property
    def heading(self) -> str:
        return f"A note on {self.row.code}"

    def perform(self, form: DialogForm) -> str:
        self.same(form)  # three clicks are one note
        row = payments.note_on_chargeback(
            code=self.row.code, text=form.cleaned_data["text"], actor=self.desk.actor, now=self.desk.now
        )
        return said("Noted on", row)


class BearerForm(ReasonForm):
    bearer = forms.ChoiceField(
        label="Who bears what was released",
        choices=[("platform", "We do"), ("host", "The host gives their share back")],
        widget=UnfoldAdminSelectWidget,
    )

    field_order = ["bearer", "reason"]


class Bear(Dialog):
    name, label, verb = "bear", "Who bears it", "chargebacks.submit"
    icon, form_class, submit = "balance", BearerForm, "Decide"
    deciding = ("bearer",)
    preview_template = "console/parts/loss_preview.html"
    intro = "What is still held goes back to the guest either way. This is about what the host was paid already."

    def offered(self) -> bool:
        row = self.row
        lost = row.loss_posted_at is not None
        decides = (lost or rules.is_open(row.status)) and not rules.is_appealed(status=row.status, loss_posted=lost)
        return row.payment is not None and row.kind == "chargeback" and decides and not own(row, self.desk)

    @property
    def heading(self) -> str:
        return f"Who bears a loss of {self.row.code}?"

    def initial(self) -> dict[str, Any]:
        return {**super().initial(), "bearer": self.row.loss_bearer}

    def preview(self, form: DialogForm) -> dict[str, Any]:
        shares = money.shares_if_lost(chargeback=self.row) or money.shares_of_loss(chargeback=self.row)
        return {"money": _borne(shares, by_host=answer(form, "bearer") == "host") if shares else []}

    def perform(self, form: DialogForm) -> str:
        row = payments.bear_loss(
            code=self.row.code,
            bearer=form.cleaned_data["bearer"],
            reason=form.cleaned_data["reason"],
            version=form.cleaned_data["version"],
            actor=self.desk.actor,
            now=self.desk.now,
        )
        return said("Borne by us:" if row.loss_bearer == "platform" else "Borne by the host:", row)


# The list and the page ------------------------------------------------------------------------------------------------


class ChargebacksExport(exports.Resource):
    code = Field("code", "chargeback")
    provider_id = Field("provider_id", "provider id")
    kind = Field("kind", "kind")
    status = Field("status", "status")
    booking = Field("payment__booking__code", "booking")
    amount = Field(column_name="amount")
    currency = Field("currency", "currency")
    reason = Field("reason", "reason")
    network = Field("network", "network")
    opened_at = Field("opened_at", "opened")
    internal_due_at = Field("internal_due_at", "our deadline")
    due_by = Field("due_by", "provider’s deadline")
    submitted_at = Field("submitted_at", "submitted")
    closed_at = Field("closed_at", "closed")
    withdrawn = Field(column_name="withdrawn")
    reinstated = Field(column_name="reinstated")
    fee = Field(column_name="fee")
    settlement_currency = Field("settlement_currency", "settled in")

    def dehydrate_amount(self, row: Chargeback) -> Any:
        return exports.amount(row.amount, row.currency)

    def dehydrate_withdrawn(self, row: Chargeback) -> Any:
        return exports.amount(row.withdrawn, row.settlement_currency or row.currency)

    def dehydrate_reinstated(self, row: Chargeback) -> Any:
        return exports.amount(row.reinstated, row.settlement_currency or row.currency)

    def dehydrate_fee(self, row: Chargeback) -> Any:
        return exports.amount(row.fee, row.settlement_currency or row.currency)


def to_answer(rows: QuerySet[Chargeback], desk: Desk) -> QuerySet[Chargeback]:
    return money.to_answer(rows=rows).filter(internal_due_at__isnull=False)


def with_network(rows: QuerySet[Chargeback], desk: Desk) -> QuerySet[Chargeback]:
    waiting = money.to_answer(rows=Chargeback.objects.filter(internal_due_at__isnull=False))
    return rows.exclude(status__in=rules.CLOSED).exclude(pk__in=waiting.values("pk"))


@admin.register(Chargeback)
class ChargebackAdmin(StaffAdmin):
    verb, export_verb = "chargebacks.view", "chargebacks.export"
    singular, plural = "chargeback", "chargebacks"
    list_words = (
        "What card networks took back, or ask about. Evidence is submitted once, by a person, before the provider’s "
        "deadline; ours is at 60 % of the time until then."
    )
    empty_words = "A chargeback appears when a guest’s bank questions a payment."
    searches = (
        Search("payment__booking__guest__email__startswith", "@", str.lower),
        Search("payment__booking__code", r"^BK-", str.upper),
        Search("provider_id", r"^d[up]_"),
        Search("charge_id", r"^ch_"),
        Search("code__startswith", case=str.upper),
    )
    search_help_text = "CB- or BK- code, du_ or ch_ id, guest’s e-mail"
    views = (
        View("answer", "To answer, soonest first", to_answer, soonest="internal_due_at"),
        View("network", "With the network", with_network),
        View("all", "All", lambda rows, desk: rows),
    )
    overviews = (Overview("ratio", "Ratio by network", "percent"),)
    list_display = ("chargeback", "guest", "status_shown", "money_amount", "due", "owned", "opened")
    list_filter = (
        ("kind", filters.Choices),
        ("loss_bearer", filters.Choices),
        ("opened_at", filters.Days),
        ("due_by", filters.Days),
    )
    lookups = ("payment__booking__code", "payment__code", "currency", "network", "status", "reason")
    list_select_related = ("payment__booking__guest", "owner")
    dialogs = (Submit, Stage, Upload, Bear, Own, Note, Accept)
    resource_classes = (ChargebacksExport,)

    def prepare(self, rows: list[Any], desk: Desk) -> None:
        for row in rows:
            row.desk = desk

    @display(description="Chargeback")
    def chargeback(self, row: Chargeback) -> SafeString:
        what = "inquiry" if row.kind == "inquiry" else cells.words(row.reason) or "chargeback"
        return cells.two(cells.code(row.code), what)

    @display(description="Guest")
    def guest(self, row: Chargeback) -> SafeString | str:
        if row.payment is None:
            return cells.two("–", "none of our bookings")
        return cells.two(row.payment.booking.guest.name, row.payment.booking.code)

    @display(description="Status")
    def status_shown(self, row: Chargeback) -> SafeString:
        return status(row)

    @display(description="Amount")
    def money_amount(self, row: Chargeback) -> SafeString:
        return cells.money(row.amount, row.currency)

    @display(description="Our deadline")
    def due(self, row: Any) -> SafeString:
        return deadline(row, row.desk)

    @display(description="Owner")
    def owned(self, row: Chargeback) -> str:
        return row.owner.name if row.owner else "nobody"

    @display(description="Opened")
    def opened(self, row: Chargeback) -> SafeString:
        return cells.two(cells.instant(row.opened_at), row.network.capitalize())

    def above(self, desk: Desk) -> list[Panel]:
        figures = money.chargeback_figures(now=desk.now)
        late = f", {figures.late} of them past our deadline" if figures.late else ""
        amounts = format_html_join(" ", "{}", ((cells.of(each),) for each in figures.open_amounts))
        facts = [
            Fact("To answer", f"{figures.waiting}{late}" if figures.waiting else "nothing"),
            Fact("At stake in all open ones", amounts),
            Fact("Ratio", figures.words),
        ]
        return [Facts(title="How it stands", facts=facts)]

    def ratio(self, desk: Desk) -> Page:
        """Chargebacks against charges by network, this month and the last."""
        this = desk.now.date().replace(day=1)
        last = (this - timedelta(days=1)).replace(day=1)
        return Page(
            title="Ratio by network",
            subtitle="Chargebacks opened against charges made in a calendar month (UTC); inquiries do not count.",
            panels=[_ratio_table(money.chargeback_ratios(month=month), f"{month:%B %Y}") for month in (this, last)],
        )

    def page_rows(self, desk: Desk) -> QuerySet[Any]:
        return (
            super()
            .page_rows(desk)
            .select_related("payment__booking__host", "payment__booking__listing", "submitted_by")
        )

    def page(self, row: Chargeback, desk: Desk) -> Page:
        journals = trail.journals_about([row.provider_id])
        panels: list[Panel] = [_money(row, journals, desk)]
        shares = would_be_lost(row)
        if shares:
            panels.append(
                Table(
                    title="If it is lost",
                    note="As things stand now: what is held goes back to the guest, the rest is borne by "
                    + ("the host." if row.loss_bearer == "host" else "us unless a person decides otherwise."),
                    columns=(Column("Comes from"), Column("Amount", "money")),
                    rows=[*(Row(pair) for pair in shares), Row(("Together", together(row)), strong=True)],
                )
            )
        panels += [_evidence(row), _files(row)]
        if row.notes:
            panels.append(Text(title="Notes", text=row.notes))
        panels.append(trail.movements_table([row.provider_id]))
        if desk.actor.may("ledger.view"):
            panels.append(trail.journals_table(journals, empty="Nothing has been posted: no money has moved yet."))
        if desk.actor.may("webhooks.view"):
            panels.append(trail.webhooks_table([row.provider_id]))
        return Page(
            title=row.code,
            subtitle=_subtitle(row, desk),
            status=status(row),
            warnings=_warnings(row, desk),
            facts=_facts(row, desk),
            panels=(*panels, story.audit_panel([("chargeback", row.code)], desk)),
        )


def _subtitle(row: Chargeback, desk: Desk) -> SafeString:
    amount = cells.money(row.amount, row.currency)
    kind = "Inquiry about" if row.kind == "inquiry" else "Chargeback of"
    whose = f"by {row.payment.booking.guest.name}" if row.payment else "of a charge of none of our bookings"
    if money.urgency_of(chargeback=row, now=desk.now) in {"none", "overdue"} or row.internal_due_at is None:
        return format_html("{} {} {}", kind, amount, whose)
    return format_html("{} {} {}, to be answered by {}", kind, amount, whose, cells.when(row.internal_due_at))


def _facts(row: Chargeback, desk: Desk) -> tuple[Fact, ...]:
    payment = row.payment
    booking = payment.booking if payment is not None else None
    return (
        Fact("Our deadline", _our_deadline(row, desk)),
        Fact("Provider’s deadline", cells.instant(row.due_by)),
        Fact("Opened", cells.instant(row.opened_at)),
        Fact("Reason", cells.words(row.reason).capitalize()),
        Fact("Network", cells.two(row.network.capitalize(), row.network_reason) if row.network else ""),
        Fact("Booking", cells.link(booking)),
        Fact("Payment", cells.link(payment)),
        Fact("Guest", cells.link(booking.guest, booking.guest.name) if booking is not None else ""),
        Fact("Host", cells.link(booking.host, booking.host.name) if booking is not None else ""),
        Fact("Charge", cells.code(row.charge_id)),
        Fact("At the provider", cells.code(row.provider_id)),
        Fact("Owner", cells.link(row.owner, row.owner.name) if row.owner else "nobody yet"),
        Fact("A loss is borne by", "the host" if row.loss_bearer == "host" else "us"),
        Fact("Staged", cells.instant(row.staged_at)),
        Fact("Submitted", _submitted(row)),
        Fact("Accepted", cells.instant(row.accepted_at)),
        Fact("Closed", cells.instant(row.closed_at)),
        Fact("Loss posted", cells.instant(row.loss_posted_at)),
        Fact("Last asked", cells.instant(row.seen_at)),
    )


def _our_deadline(row: Chargeback, desk: Desk) -> SafeString:
    if money.urgency_of(chargeback=row, now=desk.now) == "none":
        return cells.instant(row.internal_due_at)
    return cells.two(cells.instant(row.internal_due_at), badge(row, desk))


def _submitted(row: Chargeback) -> SafeString:
    if row.submitted_at is None:
        return cells.NONE
    return cells.two(cells.instant(row.submitted_at), f"by {row.submitted_by.name}" if row.submitted_by else "")


def _warnings(row: Chargeback, desk: Desk) -> list[str]:
    said = []
    if row.status not in rules.KNOWN:
        said.append(
            f"The provider calls this “{row.status}”, which we do not know. It is taken for open: nothing is refunded or "
            "released on it. Look at it on the provider’s own pages."
        )
    remedy = money.remedy_of(chargeback=row)
    if remedy is not None and row.status in rules.APPEALABLE:
        due = f" Our deadline is {cells.when(row.internal_due_at)}." if row.internal_due_at is not None else ""
        where = format_html(" It is {}.", elsewhere(row)) if remedy.link else ""
        said.append(format_html("{}{}{}", remedy.sentence, due, where))
    if row.status in rules.ANSWERABLE and is_claimed(row):
        said.append("It was answered; the provider has not confirmed yet. It is asked again every few minutes.")
    elif row.status in rules.ANSWERABLE:
        said += _pressing(row, desk)
    if rules.is_open(row.status) and row.kind == "chargeback" and row.payment is not None:
        said.append("While it is open nothing of this payment can be refunded, and the payouts of its stay wait.")
        owed = money.waiting_by_rule().filter(payment=row.payment)
        said += [
            f"{Money(each.amount, each.currency)} ({each.code}) is the guest’s by rule: it is sent by itself when this is over, "
            "and taken back if the network gives them that very charge."
            for each in owed
        ]
    # What a cancellation owes goes back by itself, where it was decided before this or by the host.
    cancelled = row.payment is not None and row.payment.booking.cancelled_at is not None
    if row.status == "won" and row.payment is not None and cancelled and not money.owed_by_rule(payment=row.payment):
        said.append(
            "The booking was cancelled. What the guest is owed by the policy may not have been refunded while this was "
            "open; look at the booking."
        )
    return said


def _pressing(row: Chargeback, desk: Desk) -> list[str]:
    urgency = money.urgency_of(chargeback=row, now=desk.now)
    amount = Money(row.amount, row.currency)
    if urgency == "overdue":
        return ["The provider takes no evidence any more: this is lost unless it is decided otherwise."]
    if urgency == "late" and row.due_by is not None:
        return [f"Our own deadline has passed. Submit by {cells.when(row.due_by)}, or {amount} is lost."]
    if urgency == "soon" and row.internal_due_at is not None:
        return [f"To be answered by {cells.when(row.internal_due_at)}: {time_left(row, desk)} left."]
    return []


def _money(row: Chargeback, journals: list[Journal], desk: Desk) -> Figures:
    """What the network did, each figure with the postings that add up to it."""
    may, currency = desk.actor.may("ledger.view"), row.settlement_currency or row.currency
    losses = [journal for journal in journals if journal.kind in {"dispute-lost", "reversal"}]

    def taken(category: str, *, credited: bool = False) -> Any:
        found = [journal for journal in journals if journal.kind == f"bt.{category}"]
        return trail.postings(found, "1320", key=row.provider_id, credited=credited) if may else None

    lines = [
        Figure("Disputed", cells.money(row.amount, row.currency), "of the charge, in its currency"),
        Figure("Taken by the network", cells.money(row.withdrawn, currency), "", False, taken("dispute")),
        Figure(
            "Given back", cells.money(row.reinstated, currency), "", False, taken("dispute_reversal", credited=True)
        ),
        Figure(
            "Fees",
            cells.money(row.fee, currency),
            "the provider’s own; the first never comes back",
            False,
            trail.postings(journals, "5110", key=row.provider_id) if may else None,
        ),
    ]
    if losses and may:
        found = trail.postings(losses, "1320", key=row.provider_id, credited=True)
        lines.append(trail.figure("Settled as a loss", found, words="see the postings", currency=currency))
    if may:
        open_now = trail.postings(journals, "1320", key=row.provider_id)
        lines.append(trail.figure("Still open", open_now, words="account 1320 now", strong=True, currency=currency))
    note = "An inquiry moves no money." if row.kind == "inquiry" else "By the provider’s own movements alone."
    return Figures(title="Money", note=note, figures=lines)


def would_be_lost(row: Chargeback) -> list[tuple[str, SafeString]]:
    """Who a loss would come from, as the rule that posts it says."""
    shares = money.shares_if_lost(chargeback=row)
    return _borne(shares, by_host=row.loss_bearer == "host") if shares else []


def _borne(shares: rules.LossShares, *, by_host: bool) -> list[tuple[str, SafeString]]:
    lines = [
        (f"{PART_WORDS[name]}, still held", cells.of(part))
        for name, part in zip(PART_NAMES, shares.held.amounts, strict=True)
        if part
    ]
    if shares.released.total:
        ours = shares.released.total - shares.released.held
        if by_host:
            lines.append(("The host gives back", cells.of(shares.released.held)))
            lines.append(("We give up of what was released", cells.of(ours)))
        else:
            lines.append(("We bear what was released", cells.of(shares.released.total)))
    if shares.out_of_aside:
        lines.append(("What stands aside for the guest, of a refund that came back", cells.of(shares.out_of_aside)))
    if shares.uncovered:
        lines.append(("We bear what was refunded before", cells.of(shares.uncovered)))
    return lines


def together(row: Chargeback) -> SafeString:
    """What the shares add up to, one amount per currency."""
    shares = money.shares_if_lost(chargeback=row)
    if shares is None:
        return cells.NONE
    rest = shares.released.total + shares.out_of_aside + shares.uncovered
    if shares.held.currency == rest.currency:
        return cells.of(shares.held.total + rest)
    return format_html("{} {}", cells.of(shares.held.total), cells.of(rest)) if rest else cells.of(shares.held.total)


def files_of(row: Chargeback) -> list[EvidenceFile]:
    return list(EvidenceFile.objects.filter(chargeback=row).select_related("uploaded_by").order_by("-id"))


def _evidence(row: Chargeback) -> Table:
    words = [(label, row.evidence[name]) for name, label in evidence_rules.WORDS.items() if row.evidence.get(name)]
    total = sum(len(text) for _, text in words)
    stood = (
        "submitted" if row.submitted_at else "staged at the provider, not submitted" if row.staged_at else "kept here"
    )
    return Table(
        title="Evidence in words",
        note=f"{total:,} of {evidence_rules.MOST_CHARACTERS:,} characters, {stood}." if words else "",
        columns=(Column("Field"), Column("What we say")),
        rows=[Row((label, format_html('<div class="sd-evidence">{}</div>', text))) for label, text in words],
        empty="Nothing was written yet. “Evidence” begins with a draft of what the desk knows.",
    )


def _files(row: Chargeback) -> Table:
    used = set(row.evidence.values())
    return Table(
        title="Files",
        note="Kept at the provider; the SHA-256 proves which they were.",
        columns=(Column("File"), Column("Shows"), Column("SHA-256"), Column("Sent"), Column("Size", "number")),
        rows=[
            Row(
                (
                    cells.two(each.name, cells.code(each.provider_id)),
                    cells.two(
                        evidence_rules.FIELDS.get(each.field, each.field),
                        "" if each.provider_id in used else "replaced",
                    ),
                    format_html('<span class="sd-code" title="{}">{}…</span>', each.digest, each.digest[:12]),
                    cells.two(cells.instant(each.uploaded_at), each.uploaded_by.name if each.uploaded_by else ""),
                    f"{max(1, each.size // 1000):,} kB",
                ),
                quiet=each.provider_id not in used,
            )
            for each in files_of(row)
        ],
        empty="No file yet: a receipt, the messages or proof of the stay help most.",
    )


def _ratio_table(ratios: list[rules.NetworkRatio], title: str) -> Table:
    tone = {"fine": "success", "warning": "warning", "over": "danger"}
    return Table(
        title=title,
        columns=(
            Column("Network"),
            Column("Chargebacks", "number"),
            Column("Charges", "number"),
            Column("Ratio", "number"),
            Column("We warn at", "number"),
            Column("Threshold", "number"),
            Column("Stands"),
        ),
        rows=[
            Row(
                (
                    each.network.capitalize(),
                    f"{each.chargebacks:,}",
                    f"{each.charges:,}",
                    f"{each.percent} %",
                    f"{each.warning_percent.normalize():f} %",
                    f"{each.threshold_percent} %",
                    cells.status(each.standing, tone=tone[each.standing]),
                )
            )
            for each in ratios
        ],
        empty="No charge and no chargeback in this month.",
    )
