"""Reconciliation: runs, and the breaks they found."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from functools import cached_property
from typing import Any, ClassVar

from django import forms
from django.contrib import admin
from django.utils.html import format_html
from django.utils.safestring import SafeString
from import_export.fields import Field
from unfold.decorators import display
from unfold.widgets import UnfoldAdminIntegerFieldWidget, UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from backoffice.console import cells, dashboard, exports, filters, story, trail
from backoffice.console.admin.jobs import took
from backoffice.console.admin.ledger import subject
from backoffice.console.admin.statements import line_words
from backoffice.console.base import StaffAdmin
from backoffice.console.dialogs import Checked, Dialog, DialogForm, ReasonForm, answer, offer, said
from backoffice.console.door import Desk
from backoffice.console.lists import Search
from backoffice.console.page import Column, Fact, Facts, Figure, Figures, Page, Panel, Row, Table, Text
from backoffice.core.errors import Conflict, StaydeskError
from backoffice.core.money import Money
from backoffice.core.words import counted
from backoffice.ledger.models import Journal
from backoffice.payouts.models import BankPayout
from backoffice.reconciliation import operations as reconciliation
from backoffice.reconciliation import policies, provider, queries
from backoffice.reconciliation.models import Break, BreakEvent, Run, StatementLine
from backoffice.reconciliation.policies import WriteOff
from backoffice.reconciliation.states import BREAK, CAUSES, OPEN


class _Work(Dialog):
    verb = "breaks.work"

    def decided(self, form: DialogForm) -> dict[str, Any]:
        """What every act on a break is told: which one, as it was seen, by whom, when."""
        return {
            "code": self.row.code,
            "version": form.cleaned_data["version"],
            "actor": self.desk.actor,
            "now": self.desk.now,
        }


class Take(_Work):
    name, label = "take", "Take"
    icon, tone = "back_hand", "primary"
    form_class = DialogForm
    intro = "You become its owner and investigate it."

    @property
    def heading(self) -> str:
        return f"Take {self.row.code}?"

    def offered(self) -> bool:
        return BREAK.allows(self.row.status, "take") and self.row.owner_id != self.desk.actor.id

    def perform(self, form: DialogForm) -> str:
        owner = self.desk.actor.id
        assert owner is not None  # staff are persons
        reconciliation.take(owner_id=owner, **self.decided(form))
        return f"{self.row.code} is yours."


class Note(_Work):
    name, label = "note", "Add a note"
    icon = "edit_note"
    intro = "Kept on the break for whoever looks next."

    @property
    def heading(self) -> str:
        return f"Note on {self.row.code}"

    def form(self, data: Any = None, initial: dict[str, Any] | None = None) -> DialogForm:
        form = super().form(data, initial)
        form.fields["reason"].label = "What you found"
        return form

    def perform(self, form: DialogForm) -> str:
        reconciliation.note(text=form.cleaned_data["reason"], **self.decided(form))
        return f"Noted on {self.row.code}."


class ResolveForm(ReasonForm):
    cause = forms.ChoiceField(
        label="Cause",
        choices=[("", "Choose …"), *((cause, cells.words(cause).capitalize()) for cause in CAUSES)],
        widget=UnfoldAdminSelectWidget,
        error_messages={"required": "Say why there was a difference."},
    )
    ticket = forms.CharField(
        label="Ticket",
        required=False,
        max_length=80,
        help_text="Where it is told at length, if anywhere.",
        widget=UnfoldAdminTextInputWidget,
    )

    field_order = ["cause", "ticket", "reason"]


class Resolve(_Work):
    name, label = "resolve", "Resolve"
    icon, tone = "check_circle", "primary"
    form_class = ResolveForm
    intro = "It is explained and put right. A later run that still finds it opens it again."

    @property
    def heading(self) -> str:
        return f"Resolve {self.row.code}?"

    def offered(self) -> bool:
        return BREAK.allows(self.row.status, "resolve")

    def perform(self, form: DialogForm) -> str:
        typed = {name: form.cleaned_data[name] for name in ("cause", "ticket", "reason")}
        reconciliation.resolve(**typed, **self.decided(form))
        return f"{self.row.code} is resolved."


class AcceptForm(ReasonForm):
    days = forms.IntegerField(
        label="For how many days",
        min_value=1,
        max_value=92,
        widget=UnfoldAdminIntegerFieldWidget,
        help_text="It is a finding again afterwards, or as soon as it changes.",
        error_messages={"required": "Write for how many days.", "max_value": "Three months at most."},
    )

    field_order = ["days", "reason"]


class Accept(_Work):
    name, label = "accept", "Accept for a while"
    icon = "event_available"
    form_class = AcceptForm
    intro = "It is known and no finding until then."

    @property
    def heading(self) -> str:
        return f"Accept {self.row.code} for a while?"

    def offered(self) -> bool:
        return BREAK.allows(self.row.status, "accept")

    def perform(self, form: DialogForm) -> str:
        until = self.desk.now + timedelta(days=form.cleaned_data["days"])
        reconciliation.accept(until=until, reason=form.cleaned_data["reason"], **self.decided(form))
        return f"{self.row.code} is accepted until {cells.when(until)}."


class ProposeWriteOff(_Work):
    name, label = "propose", "Propose a write-off"
    icon, tone = "money_off", "danger"

    @property
    def introduction(self) -> str:
        try:
            proposal = reconciliation.proposed_write_off(found=self.row, now=self.desk.now)
        except StaydeskError as refusal:
            return str(refusal)
        return (
            f"{proposal.amount} under {proposal.account} {proposal.key} would go to {proposal.contra} "
            f"{trail.name_of(proposal.contra).lower()}. Nothing is posted until another finance person agrees."
        )

    @property
    def heading(self) -> str:
        return f"Propose to write off {self.row.code}?"

    def offered(self) -> bool:
        return self.row.leg in ("bank", "clearing") and BREAK.allows(self.row.status, "propose")

    def perform(self, form: DialogForm) -> str:
        reconciliation.propose_write_off(reason=form.cleaned_data["reason"], **self.decided(form))
        return f"A write-off of {self.row.code} is proposed; another finance person decides."


class _Decide(_Work):
    verb = "breaks.write_off"
    approve: ClassVar[bool]
    kind: ClassVar[str]

    def offered(self) -> bool:
        own = self.approve and self.row.proposed_by_id == self.desk.actor.id
        return BREAK.allows(self.row.status, "approve") and policies.kind_of(self.row.proposal) == self.kind and not own


class _DecideWriteOff(_Decide):
    kind = policies.WRITE_OFF

    @property
    def introduction(self) -> str:
        kept = self.row.proposal
        if policies.kind_of(kept) != self.kind:
            return "No write-off is proposed."
        proposal = WriteOff.from_dict(kept)
        return (
            f"{self.row.proposed_by_name} proposes to book {proposal.amount} from {proposal.account} {proposal.key} to "
            f"{proposal.contra} {trail.name_of(proposal.contra).lower()}: {kept['reason']}"
        )

    def perform(self, form: DialogForm) -> str:
        reconciliation.decide_write_off(approve=self.approve, reason=form.cleaned_data["reason"], **self.decided(form))
        return f"{self.row.code} is {'written off' if self.approve else 'not written off'}."


class ApproveWriteOff(_DecideWriteOff):
    name, label = "approve", "Approve the write-off"
    icon, tone = "verified", "danger"
    approve = True

    @property
    def heading(self) -> str:
        return f"Write off {self.row.code}?"


class RejectWriteOff(_DecideWriteOff):
    name, label = "reject", "Reject the write-off"
    icon = "block"
    approve = False

    @property
    def heading(self) -> str:
        return f"Reject the write-off of {self.row.code}?"


_POSTED_ANEW = "console/parts/posted_anew.html"


def _would_post(told: Mapping[str, Any]) -> dict[str, Any]:
    """Which journals are reversed and which lines are posted, shown before anybody says yes."""
    return {
        "reversed": ", ".join(f"#{number}" for number in told["journals"]),
        "lines": [
            (f"{account} {trail.name_of(account)}", key, cells.of(Money(amount, currency), signed=True))
            for account, key, amount, currency in told["lines"]
        ],
    }


class ProposePostAnew(_Work):
    name, label = "propose-anew", "Propose to post anew"
    preview_template = _POSTED_ANEW
    icon, tone = "published_with_changes", "danger"
    intro = (
        "What our books say of this movement is reversed, and what the provider shows of it now is posted. Nothing happens "
        "until another finance person agrees."
    )

    @property
    def heading(self) -> str:
        return f"Propose to post {self.row.key} anew?"

    def offered(self) -> bool:
        mendable = policies.may_be_posted_anew(leg=self.row.leg, cls=self.row.cls, flags=self.row.flags)
        return mendable and BREAK.allows(self.row.status, "propose")

    def preview(self, form: DialogForm) -> dict[str, Any]:
        return _would_post(provider.look_anew(found=self.row).as_dict())

    def perform(self, form: DialogForm) -> str:
        provider.propose_anew(reason=form.cleaned_data["reason"], **self.decided(form))
        return f"It is proposed to post {self.row.key} anew; another finance person decides."


class _DecideAnew(_Decide):
    kind = policies.POST_ANEW
    preview_template = _POSTED_ANEW

    @property
    def introduction(self) -> str:
        kept = self.row.proposal or {}
        return f"{self.row.proposed_by_name} proposes this: {kept.get('reason', '')}"

    def preview(self, form: DialogForm) -> dict[str, Any]:
        kept: dict[str, Any] | None = self.row.proposal
        if kept is None or policies.kind_of(kept) != self.kind:
            raise Conflict("It is not proposed to post this anew.")
        return _would_post(kept)

    def perform(self, form: DialogForm) -> str:
        provider.decide_anew(approve=self.approve, reason=form.cleaned_data["reason"], **self.decided(form))
        return f"{self.row.key} is {'posted anew; the next run closes the break' if self.approve else 'left as it is'}."


class ApprovePostAnew(_DecideAnew):
    name, label = "approve-anew", "Approve posting anew"
    icon, tone = "verified", "danger"
    approve = True

    @property
    def heading(self) -> str:
        return f"Post {self.row.key} anew?"


class RejectPostAnew(_DecideAnew):
    name, label = "reject-anew", "Reject posting anew"
    icon = "block"
    approve = False

    @property
    def heading(self) -> str:
        return f"Leave {self.row.key} as it is posted?"


class MatchForm(ReasonForm):
    # What was shown is what is decided, whatever has been proposed since.
    matches = forms.CharField(widget=forms.HiddenInput, required=False)


class _Match(_Work):
    form_class = MatchForm
    confirm: ClassVar[bool]

    def initial(self) -> dict[str, Any]:
        shown = queries.proposals_of(found=self.row).values_list("pk", flat=True)
        return {**super().initial(), "matches": " ".join(map(str, shown))}

    @property
    def introduction(self) -> str:
        parts = [
            f"{Money(match.amount, match.line.currency)} of {match.line.booked_on:%d %b} ({match.line.text or match.line.code}) "
            f"is payout {match.bank_payout.code}"
            for match in queries.proposals_of(found=self.row)
        ]
        return "; ".join(parts) or "Nothing is proposed any more."

    def offered(self) -> bool:
        return self.row.leg == "bank" and self.row.status in OPEN and queries.proposals_of(found=self.row).exists()

    def perform(self, form: DialogForm) -> str:
        done = reconciliation.decide_matches(
            match_ids=[int(pk) for pk in form.cleaned_data["matches"].split() if pk.isdecimal()],
            confirm=self.confirm,
            reason=form.cleaned_data["reason"],
            **self.decided(form),
        )
        return f"{len(done)} {'confirmed and posted' if self.confirm else 'rejected'}; the next run closes the break."


class ConfirmMatch(_Match):
    name, label = "confirm-match", "Confirm the match"
    icon, tone = "join_inner", "primary"
    confirm = True

    @property
    def heading(self) -> str:
        return "Are these one?"


class RejectMatch(_Match):
    name, label = "reject-match", "Not the same"
    icon = "join_left"
    confirm = False

    @property
    def heading(self) -> str:
        return "Are these not one?"


class LineForm(ReasonForm):
    line = forms.ChoiceField(
        label="Line of the bank’s statement",
        help_text="What waits in suspense and went the same way; the nearest to the payout comes first.",
        widget=UnfoldAdminSelectWidget,
        error_messages={
            "required": "Choose the line that is this payout.",
            "invalid_choice": "This line does not wait in suspense any more, or cannot be this payout. Choose another.",
        },
    )

    field_order = ["line", "reason"]


class SayLine(Checked, _Work):
    name, label, submit = "say-line", "It is this line", "It is this line"
    icon = "price_check"
    form_class = LineForm
    preview_template = "console/parts/line_of_payout.html"
    deciding = ("line",)
    intro = (
        "A line of the bank is this payout, or its return, but a bank has kept something of it: nothing adds up, and nothing but "
        "your word says that they are one."
    )

    def check(self) -> None:
        reconciliation.check_line_can_be_said(found=self.row, actor=self.desk.actor)
        if not self._lines:
            raise Conflict(
                "No line of the bank that could be this payout waits in suspense. Import the statement that shows it (ops "
                "reconcile bank --file) and look again."
            )

    @cached_property
    def _payout(self) -> BankPayout | None:
        return BankPayout.objects.filter(account="", provider_id=queries.payout_of_break(found=self.row)).first()

    @cached_property
    def _lines(self) -> dict[str, tuple[StatementLine, Money]]:
        found = queries.lines_for_payout(payout=self._payout) if self._payout is not None else []
        return {line.code: (line, left) for line, left in found}

    @property
    def heading(self) -> str:
        return f"Which line is {self._payout}?"

    def form(self, data: Any = None, initial: dict[str, Any] | None = None) -> DialogForm:
        form = super().form(data, initial)
        choices = [(code, line_words(line, left)) for code, (line, left) in self._lines.items()]
        offer(form, "line", [("", "Choose …"), *choices])
        return form

    def preview(self, form: DialogForm) -> dict[str, Any]:
        chosen = self._lines.get(answer(form, "line"))
        if chosen is None or self._payout is None:
            return {}
        line, left = chosen[1], queries.payout_left(self._payout)
        return {
            "money": [
                ("The line", cells.of(line, signed=True)),
                ("Left of the payout", cells.of(left, signed=True)),
                ("Then still stands there", cells.of(left - line, signed=True)),
            ],
            "chosen": chosen[0],
            "rest": left - line,
        }

    def perform(self, form: DialogForm) -> str:
        match = reconciliation.say_line(
            line_code=form.cleaned_data["line"], reason=form.cleaned_data["reason"], **self.decided(form)
        )
        return said("Posted; the next run looks at what is left of the payout. It is", match.line)


class BreaksExport(exports.Resource):
    code = Field("code", "break")
    leg = Field("leg", "leg")
    cls = Field("cls", "class")
    key = Field("key", "key")
    status = Field("status", "status")
    flags = Field(column_name="flags")
    difference = Field(column_name="difference")
    at_risk = Field(column_name="at risk")
    at_risk_eur = Field(column_name="at risk (EUR)")
    currency = Field("currency", "currency")
    subject = Field("subject", "about")
    owner = Field("owner__name", "owner")
    occurred_at = Field("occurred_at", "occurred")
    opened_at = Field("opened_at", "opened")
    closed_at = Field("closed_at", "closed")

    def dehydrate_flags(self, row: Break) -> str:
        return " ".join(row.flags)

    def dehydrate_difference(self, row: Break) -> Any:
        return exports.amount(row.difference, row.currency)

    def dehydrate_at_risk(self, row: Break) -> Any:
        return exports.amount(row.at_risk, row.currency)

    def dehydrate_at_risk_eur(self, row: Break) -> Any:
        return "" if row.at_risk_eur is None else exports.amount(row.at_risk_eur, "EUR")


@admin.register(Break)
class BreakAdmin(StaffAdmin):
    verb, export_verb = "breaks.view", "breaks.export"
    singular, plural = "break", "breaks"
    list_words = "Named differences between the provider and our ledger. Amounts are the provider’s side less ours."
    empty_words = "No difference has been found. `ops reconcile all` looks again."
    searches = (
        Search("code", r"^BR-", str.upper),
        Search("subject", r"^BK-", str.upper),
        Search("key"),
    )
    search_help_text = "BR- or BK- code, or the key: a txn_ id"
    list_display = ("difference_found", "break_status", "about", "money_difference", "age", "owned")
    list_filter = (
        ("status", filters.Choices),
        ("cls", filters.Choices),
        ("opened_at", filters.Days),
    )
    lookups = ("subject", "currency", "leg", "last_seen")
    list_select_related = ("owner", "first_seen", "last_seen")
    dialogs = (
        Take,
        Note,
        Resolve,
        Accept,
        ProposeWriteOff,
        ApproveWriteOff,
        RejectWriteOff,
        ProposePostAnew,
        ApprovePostAnew,
        RejectPostAnew,
        ConfirmMatch,
        RejectMatch,
        SayLine,
    )
    resource_classes = (BreaksExport,)

    def prepare(self, rows: list[Any], desk: Desk) -> None:
        for row in rows:
            row.open_for = (row.closed_at or desk.now) - row.opened_at

    @display(description="Break")
    def difference_found(self, row: Break) -> SafeString:
        return cells.two(row.get_cls_display().capitalize(), cells.code(row.code))

    @display(description="Status")
    def break_status(self, row: Break) -> SafeString:
        return cells.status(row.status)

    @display(description="About")
    def about(self, row: Break) -> SafeString:
        return cells.two(about(row), row.subject or f"{row.leg} leg")

    @display(description="Difference")
    def money_difference(self, row: Break) -> SafeString:
        shown = cells.money(row.difference, row.currency, signed=True)
        risk = row.at_risk_eur
        same = risk is None or (row.currency == "EUR" and risk == abs(row.difference))
        return shown if same else cells.two(shown, format_html("{} at risk", cells.money(risk, "EUR")))

    @display(description="Open for")
    def age(self, row: Any) -> SafeString:
        return cells.two(span(row.open_for), cells.instant(row.opened_at))

    @display(description="Owner")
    def owned(self, row: Break) -> str | SafeString:
        return row.owner.name if row.owner else cells.NONE

    def page(self, row: Break, desk: Desk) -> Page:
        sides = row.detail if isinstance(row.detail, dict) else {}
        what = policies.advice(cls=row.cls, leg=row.leg)
        journals = queries.journals_behind(found=row)
        sources = _sources(row, sides, journals)
        return Page(
            title=row.code,
            subtitle=f"{row.get_cls_display().capitalize()} on {row.key}",
            status=cells.status(row.status),
            facts=(
                Fact("Class", row.get_cls_display()),
                Fact("Also", ", ".join(cells.words(flag) for flag in row.flags)),
                Fact("Severity", what.severity),
                Fact("Do first", what.action),
                Fact("Command", cells.code(_command(row))),
                Fact("Leg", row.leg),
                Fact("Key", about(row)),
                Fact("Booking", subject(row.subject)),
                Fact("Owner", cells.link(row.owner, row.owner.name) if row.owner else ""),
                Fact("Occurred", cells.instant(row.occurred_at)),
                Fact("Age", policies.age_bucket(days=((row.closed_at or desk.now) - row.occurred_at).days) + " days"),
                Fact("Open for", span((row.closed_at or desk.now) - row.opened_at)),
                Fact("Accepted until", cells.instant(row.accepted_until)),
                Fact("Write-off", _written_off(row)),
                Fact("Posted anew", _posted_anew(row)),
                Fact("First seen", cells.link(row.first_seen)),
                Fact("Last seen", cells.link(row.last_seen)),
                Fact("Closed", cells.instant(row.closed_at)),
                Fact("Cause", _cause(row)),
            ),
            panels=(
                _adds_up(row, sides, journals, desk),
                _sides(row, sides),
                *((_behind(journals),) if desk.actor.may("ledger.view") else ()),
                trail.movements_table(sources),
                *((trail.webhooks_table(sources),) if desk.actor.may("webhooks.view") else ()),
                _proposals(row),
                Text(title="Notes", text=row.notes or "Nobody has written anything yet."),
                _history(row),
                Text(title="As the run saw it", text=json.dumps(sides, indent=2, sort_keys=True), code=True),
                story.audit_panel([("break", row.code)], desk),
            ),
        )


def _written_off(row: Break) -> str:
    """The write-off that was proposed, by whom."""
    if not row.proposal or policies.kind_of(row.proposal) != policies.WRITE_OFF:
        return ""
    proposal = WriteOff.from_dict(row.proposal)
    return f"{proposal.amount} to {proposal.contra}, by {row.proposed_by_name}"


def _posted_anew(row: Break) -> str:
    """The posting anew that is proposed, by whom."""
    proposed = row.status == "proposed" and policies.kind_of(row.proposal) == policies.POST_ANEW
    return f"proposed by {row.proposed_by_name}" if proposed else ""


def _command(row: Break) -> str:
    return policies.command(
        cls=row.cls,
        leg=row.leg,
        code=row.code,
        key=row.key,
        fact=row.fact,
        subject=row.subject,
        occurred_at=row.occurred_at,
    )


def about(row: Break) -> SafeString:
    """What a break is about: the account it stands on, if it does, and what its key names, which leads there."""
    account, _, name = row.key.rpartition(" ")
    named = cells.lead(name.removeprefix("bank:"))
    return format_html("{} {}", cells.code(account), named) if account else named


def _sources(row: Break, sides: dict[str, Any], journals: Sequence[Journal]) -> list[str]:
    """The provider's objects that a break is about."""
    named = [sides.get("source"), sides.get("key"), row.fact, row.key]
    return list(dict.fromkeys([*(str(name) for name in named if name), *trail.sources_of(journals)]))


def _adds_up(row: Break, sides: dict[str, Any], journals: Sequence[Journal], desk: Desk) -> Figures:
    """How the difference comes about: what was posted, by whose word, each part unfolding into its postings."""
    may, account = desk.actor.may("ledger.view"), sides.get("account")
    figures = []
    if account:
        posted = trail.postings(journals, account, key=sides.get("key"))
        for label, told in _TELLERS.items():
            part = [posting for posting in posted if told(posting.journal.kind)]
            if part:
                figures.append(trail.figure(label, part, currency=row.currency, open=may))
        figures.append(trail.figure(f"Stands on {account} now", posted, strong=True, currency=row.currency, open=may))
    theirs = sides.get("provider") or {}
    if theirs.get("net") is not None:
        net = cells.money(theirs["net"], theirs.get("currency", row.currency))
        figures.append(Figure("At the provider", net, cells.words(sides.get("category", ""))))
    if row.leg == "line":
        ours = trail.postings(journals, "1100")
        figures.append(trail.figure("In our ledger", ours, currency=row.currency, open=may))
    risk = cells.money(row.at_risk, row.currency)
    euro = f"{Money(row.at_risk_eur, 'EUR')} at the day’s rate" if row.at_risk_eur and row.currency != "EUR" else ""
    difference = cells.money(row.difference, row.currency, signed=True)
    figures += [
        Figure("Difference", difference, f"as run #{row.last_seen_id} saw it: the provider’s side less ours", True),
        Figure("At risk", risk, euro or "what may be lost of it"),
    ]
    return Figures(title="How it adds up", figures=figures)


_TELLERS: dict[str, Callable[[str], bool]] = {
    "Posted by what we did": lambda kind: not kind.startswith(("bt.", "bank")),
    "Posted by the provider’s movements": lambda kind: kind.startswith("bt."),
    "Posted by the bank’s lines": lambda kind: kind.startswith("bank"),
}


def _behind(journals: Sequence[Journal]) -> Panel:
    return trail.journals_table(
        journals,
        title="Postings behind it",
        note="What the ledger was told of it: both sides of the clearing account, or the movement’s journal.",
        empty="The ledger was told nothing of it.",
    )


def _proposals(row: Break) -> Table:
    return Table(
        title="Proposed matches",
        note="They add up; a person says whether they are one.",
        columns=(Column("Bank line"), Column("Booked"), Column("Payout"), Column("By"), Column("Amount", "money")),
        rows=[
            Row(
                (
                    cells.two(cells.lead(match.line.code), match.line.text),
                    cells.day(match.line.booked_on),
                    cells.lead(match.bank_payout.code),
                    f"{cells.words(match.method)}, {match.confidence} %",
                    cells.money(match.amount, match.line.currency),
                )
            )
            for match in queries.proposals_of(found=row)
        ],
        empty="Nothing is proposed.",
    )


def _cause(row: Break | BreakEvent) -> str:
    return " · ".join(filter(None, [cells.words(row.cause).capitalize(), row.ticket]))


def _history(row: Break) -> Table:
    return Table(
        title="Its life",
        columns=(
            Column("When"),
            Column("What"),
            Column("As"),
            Column("By"),
            Column("Why"),
            Column("Difference", "money"),
        ),
        rows=[
            Row(
                (
                    cells.instant(step.at),
                    cells.words(step.what),
                    cells.two(cells.words(step.cls), cells.status(step.status)),
                    cells.link(step.run) if step.run else step.who,
                    cells.two(_cause(step), step.why) if step.cause else step.why,
                    cells.money(step.difference, row.currency, signed=True),
                )
            )
            for step in queries.history(found=row)
        ],
        empty="It was found before its steps were kept.",
    )


def _sides(row: Break, sides: dict[str, Any]) -> Table:
    theirs, ours = (sides.get(name) or {} for name in ("provider", "ledger"))
    shown = [
        Row(
            (
                name.capitalize(),
                cells.money(theirs.get(name), theirs.get("currency", row.currency)),
                cells.money(ours.get(name), ours.get("currency", row.currency)),
            )
        )
        for name in ("amount", "fee", "net")
        if name in theirs or name in ours
    ]
    if "provider_sum" in sides:
        sums = (sides["provider_sum"], sides.get("ledger_sum", 0) + sides.get("bank_sum", 0))
        shown.append(
            Row(("Posted to the account", *(cells.money(amount, row.currency, signed=True) for amount in sums)))
        )
    if "standing" in sides:
        shown.append(Row(("Standing on the account", cells.NONE, cells.money(sides["standing"], row.currency))))
    return Table(
        title="Both sides",
        columns=(Column(""), Column("Provider", "money"), Column("Ledger", "money")),
        rows=shown,
        empty="This leg compares sums; see how the run saw it below.",
    )


def span(length: timedelta) -> str:
    """A length of time in its largest whole unit."""
    minutes = max(0, int(length.total_seconds()) // 60)
    for size, name in ((1440, "day"), (60, "hour"), (1, "minute")):
        if minutes >= size:
            return counted(minutes // size, name)
    return "under a minute"


_QUALITY: dict[str, str] = {
    "clearing": "of the money that went through clearing accounts, what is not overdue there",
    "timeliness": "of the provider’s movements, those in the ledger in time",
    "completeness": "of the movements that either side knows, those that both do",
    "explainability": "of the money that moved, what no unexplained difference is as large as",
}


def _goal(name: str) -> str:
    return queries.percent(queries.GOALS[name])


@admin.register(Run)
class RunAdmin(StaffAdmin):
    verb = "breaks.view"
    singular, plural = "run", "reconciliation"
    key = "pk"
    list_words = "Each run compares the provider’s own movements with our ledger, line by line and in sum."
    empty_words = "No run yet: `ops reconcile stripe` makes the first."
    searches = (Search("pk", r"^#?\d{1,18}$", lambda term: term.lstrip("#")),)
    search_help_text = "a run’s number"
    list_display = ("run", "run_status", "window", "compared", "found_count", "started", "took")
    list_filter = (("status", filters.Choices), ("started_at", filters.Days))
    lookups = ("scope",)
    list_select_related = ()

    def above(self, desk: Desk) -> list[Panel]:
        """The four questions to which the first page gives the lowest answer."""
        score: queries.Score = dashboard.counted(desk.now)["quality"]
        shares = [
            Fact(
                name.capitalize(),
                cells.two(queries.percent(getattr(score, name)), f"{words}; {_goal(name)} is the goal"),
            )
            for name, words in _QUALITY.items()
        ]
        findings = f"{score.findings:,}, {Money(score.at_risk_eur, 'EUR')} at risk"
        ages = f"half of them {span(score.median_age)} old or more, one in twenty {span(score.p95_age)}"
        return [
            Facts(
                title="Quality of the books",
                note="Of the last thirty days, as of the last runs.",
                facts=[*shares, Fact("Open findings", cells.two(findings, ages) if score.findings else "none")],
            )
        ]

    @display(description="Run")
    def run(self, row: Run) -> SafeString:
        return cells.two(row.scope.capitalize(), cells.code(f"#{row.pk}"))

    @display(description="Status")
    def run_status(self, row: Run) -> SafeString:
        return cells.two(cells.status(row.status), row.error or row.actor)

    @display(description="Movements of")
    def window(self, row: Run) -> SafeString:
        return cells.two(cells.instant(row.since), cells.instant(row.until))

    @display(description="Compared")
    def compared(self, row: Run) -> SafeString:
        return cells.two(f"{row.lines:,}", f"{row.matched:,} match")

    @display(description="Breaks")
    def found_count(self, row: Run) -> SafeString:
        return cells.status("open" if row.found else "ok", f"{row.found:,}")

    @display(description="Started")
    def started(self, row: Run) -> SafeString:
        return cells.instant(row.started_at)

    @display(description="Took")
    def took(self, row: Run) -> str | SafeString:
        return took(row.started_at, row.finished_at)

    def page(self, row: Run, desk: Desk) -> Page:
        seen = Break.objects.filter(last_seen=row).order_by("-id")[:50]
        return Page(
            title=f"Run #{row.pk}",
            subtitle=f"{row.scope.capitalize()} against the ledger",
            status=cells.status(row.status),
            facts=(
                Fact("From", cells.instant(row.since)),
                Fact("Until", cells.instant(row.until)),
                Fact("Compared", f"{row.lines:,}"),
                Fact("Match", f"{row.matched:,}"),
                Fact("Breaks", f"{row.found:,}"),
                Fact("By", row.actor),
                Fact("Started", cells.instant(row.started_at)),
                Fact("Took", took(row.started_at, row.finished_at)),
                Fact("Error", row.error),
                Fact("Digest", cells.code(row.output_digest)),
            ),
            panels=(
                Table(
                    title="Balance explained",
                    note="What the provider holds, what our mirror account says, and how much of the difference has a name.",
                    columns=(Column("Currency"), *(Column(name.capitalize(), "money") for name in _EXPLAINED)),
                    rows=[
                        Row((currency, *(cells.money(sums.get(name), currency) for name in _EXPLAINED)))
                        for currency, sums in sorted(row.explained.items())
                    ],
                    empty="Not compared yet.",
                ),
                Table(
                    title="Breaks last seen by this run",
                    columns=(Column("Break"), Column("Class"), Column("Key"), Column("Difference", "money")),
                    rows=[
                        Row(
                            (
                                cells.link(each, each.code),
                                cells.two(each.get_cls_display().capitalize(), cells.status(each.status)),
                                about(each),
                                cells.money(each.difference, each.currency, signed=True),
                            )
                        )
                        for each in seen
                    ],
                    empty="None: every movement is in the ledger, to the cent.",
                    more=cells.list_of(Break, f"last_seen={row.pk}"),
                ),
            ),
        )


_EXPLAINED = ("provider", "mirror", "explained", "unexplained")
