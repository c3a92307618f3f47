"""Hosts’ accounts at the provider: whether they can be paid, what is missing, and what they owe."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.http import Http404
from django.urls import reverse
from django.utils.functional import cached_property
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from unfold.decorators import display
from unfold.widgets import UnfoldAdminSelectWidget

from backoffice.console import cells, filters, story, trail
from backoffice.console.admin.payouts import everything, payouts_table
from backoffice.console.base import StaffAdmin
from backoffice.console.dialogs import Dialog, DialogForm, ReasonForm, amount_field, amount_of, offer, said
from backoffice.console.door import Desk
from backoffice.console.lists import Search, View
from backoffice.console.page import Column, Fact, Overview, Page, Panel, Row, Table
from backoffice.core.money import Money
from backoffice.ledger import queries as ledger
from backoffice.payouts import operations
from backoffice.payouts import queries as payouts
from backoffice.payouts.models import BankPayout, Clawback, HostAccount, Payout, WriteOff
from backoffice.payouts.policies.accounts import asked_for
from backoffice.payouts.policies.clawbacks import AGES
from backoffice.payouts.queries import Receivable
from backoffice.people.models import User
from backoffice.workflows import claw_back


def bank_waits(row: HostAccount) -> bool:
    """Whether new bank details wait for somebody in finance."""
    return row.bank_changed_at is not None and row.bank_approved_by_id is None


class ApproveBank(Dialog):
    name, label, verb = "approve_bank", "Approve bank details", "payouts.approve_bank"
    icon, tone = "verified", "primary"
    intro = (
        "Call the host on a number you knew before the change and ask whether the new details are theirs. Who took over an "
        "account hopes for haste: new details rest for their cool-down even when they are approved."
    )

    @property
    def heading(self) -> str:
        return f"Approve the new bank details of {self.row.host.name}?"

    def offered(self) -> bool:
        return bank_waits(self.row) and self.desk.actor.id != self.row.host_id

    def unoffered(self) -> str:
        return "No new bank details of this host wait for approval."

    def perform(self, form: DialogForm) -> str:
        operations.approve_bank(
            host_code=self.row.host.code,
            reason=form.cleaned_data["reason"],
            version=form.cleaned_data["version"],
            actor=self.desk.actor,
            now=self.desk.now,
        )
        return f"The new bank details of {self.row.host.name} are approved."


class WriteOffForm(ReasonForm):
    currency = forms.ChoiceField(label="Debt in", widget=UnfoldAdminSelectWidget)
    amount = amount_field()

    field_order = ["currency", "amount", "reason"]


class ProposeWriteOff(Dialog):
    name, label, verb = "write_off", "Propose a write-off", "payouts.write_off"
    icon, tone = "money_off", "danger"
    form_class = WriteOffForm
    submit = "Propose"
    intro = "Nothing is given up before a second person in finance says yes."

    @property
    def heading(self) -> str:
        return f"Propose to give up what {self.row.host.name} owes"

    @cached_property
    def debts(self) -> dict[str, Money]:
        """What may be proposed, by currency: what is owed and not proposed already."""
        found = payouts.receivables(now=self.desk.now, host_code=self.row.host.code)
        return {each.amount.currency: each.amount for each in found if not each.proposed}

    def offered(self) -> bool:
        return bool(self.debts) and self.desk.actor.id != self.row.host_id

    def unoffered(self) -> str:
        return "This host owes nothing, or a write-off of it waits for a second person."

    def form(self, data: Any = None, initial: dict[str, Any] | None = None) -> DialogForm:
        form = super().form(data, initial)
        offer(form, "currency", [(each, f"{owed} owed") for each, owed in self.debts.items()])
        return form

    def initial(self) -> dict[str, Any]:
        first = next(iter(self.debts.values()), None)
        if first is None:
            return super().initial()
        return {**super().initial(), "currency": first.currency, "amount": f"{first.decimal()}"}

    def perform(self, form: DialogForm) -> str:
        amount = amount_of(form.cleaned_data["amount"], form.cleaned_data["currency"])
        made = operations.propose_write_off(
            host_code=self.row.host.code,
            amount=amount,
            reason=form.cleaned_data["reason"],
            actor=self.desk.actor,
            now=self.desk.now,
        )
        return said(f"A write-off of {amount} waits for a second person:", made)


@admin.register(HostAccount)
class HostAccountAdmin(StaffAdmin):
    verb = "payouts.view"
    singular, plural = "host account", "hosts’ accounts"
    key = "host__code"
    list_words = "Where payouts go. A host whose account cannot receive waits, and their payouts say so."
    empty_words = "A host appears here when they begin to set up payouts."
    searches = (
        Search("host__email__startswith", "@", str.lower),
        Search("host__code", r"^PN-", str.upper),
        Search("provider_id", r"^acct_"),
        Search("host__name__startswith"),
    )
    search_help_text = "host’s e-mail, PN- code or name, acct_ id"
    views = (
        View("all", "All", everything),
        View("stuck", "Cannot be paid", lambda rows, desk: rows.exclude(status="enabled")),
        View(
            "bank",
            "New bank details",
            lambda rows, desk: rows.filter(bank_changed_at__isnull=False, bank_approved_by__isnull=True),
            soonest="bank_changed_at",
        ),
    )
    list_display = ("host_shown", "account_status", "can", "still_missing", "bank", "seen")
    list_filter = (("status", filters.Choices), ("created_at", filters.Days))
    lookups = ("country",)
    list_select_related = ("host", "bank_approved_by")
    dialogs = (ApproveBank, ProposeWriteOff)
    overviews = (Overview("receivables", "What hosts owe", "hourglass_bottom"),)

    @display(description="Host")
    def host_shown(self, row: HostAccount) -> SafeString:
        return cells.two(row.host.name, row.host.email)

    @display(description="Status")
    def account_status(self, row: HostAccount) -> SafeString:
        return cells.status(row.status)

    @display(description="Can")
    def can(self, row: HostAccount) -> SafeString:
        words = [word for word, may in (("receive", row.can_receive), ("pay out", row.can_pay_out)) if may]
        tags = format_html_join(" ", '<span class="sd-tag">{}</span>', ((word,) for word in words))
        return tags or cells.NONE

    @display(description="Still missing")
    def still_missing(self, row: HostAccount) -> SafeString | str:
        asked = asked_for(missing=row.missing)
        if not asked:
            return cells.NONE
        return cells.two(asked[0], f"and {len(asked) - 1} more" if len(asked) > 1 else "")

    @display(description="Bank")
    def bank(self, row: HostAccount) -> SafeString:
        if bank_waits(row):
            return cells.two(row.bank_hint, cells.status("requested", "new, not approved"))
        return cells.two(row.bank_hint, "") if row.bank_hint else cells.NONE

    @display(description="Last asked")
    def seen(self, row: HostAccount) -> SafeString:
        return cells.instant(row.seen_at)

    def find(self, key: str, desk: Desk) -> Any:
        """A host's account; a host who has not begun has a page too, since they may owe us."""
        found = self.page_rows(desk).filter(host__code=key).first()
        if found is not None:
            return found
        host = User.objects.filter(code=key, is_host=True).first()
        if host is None:
            raise Http404("No such host.")
        return HostAccount(host=host, country="", created_at=host.created_at)

    def page(self, row: HostAccount, desk: Desk) -> Page:
        begun = row.pk is not None
        paid = list(Payout.objects.filter(host=row.host).select_related("booking").order_by("-id")[:15])
        panels: list[Panel] = [_owes(row, desk)]
        if row.missing:
            panels.append(_missing(row))
        panels.append(payouts_table(paid, title="Payouts", more=cells.list_of(Payout, f"host__code={row.host.code}")))
        panels += _recovered(row)
        panels.append(_bank_payouts(row))
        if desk.actor.may("webhooks.view"):
            panels.append(trail.webhooks_table([row.provider_id or ""]))
        return Page(
            title=row.host.name,
            subtitle=format_html("Payouts of {}", cells.link(row.host, row.host.email)),
            status=cells.status(row.status) if begun else cells.status("onboarding", "not begun"),
            warnings=_warnings(row, desk),
            facts=(
                Fact("Host", cells.link(row.host, row.host.code)),
                Fact("At the provider", cells.code(row.provider_id)),
                Fact("Country", row.country),
                Fact("Transfers reach it", cells.yes_no(row.can_receive) if begun else ""),
                Fact("Pays out to the bank", cells.yes_no(row.can_pay_out) if begun else ""),
                Fact("Why not", cells.words(row.disabled_reason).replace(".", ", ")),
                Fact("Bank", row.bank_hint),
                Fact("Bank details changed", cells.instant(row.bank_changed_at)),
                Fact("Approved by", row.bank_approved_by.name if row.bank_approved_by else ""),
                Fact("Begun", cells.instant(row.created_at) if begun else ""),
                Fact("Provider last asked", cells.instant(row.seen_at)),
            ),
            panels=(*panels, story.audit_panel([("host_account", row.host.code)], desk)),
        )

    def receivables(self, desk: Desk) -> Page:
        """What every host owes, by age; and what the rules would take back for it."""
        found = payouts.receivables(now=desk.now)
        return Page(
            title="What hosts owe",
            subtitle="Debts come off the next payouts in the same currency; what stays is taken back, or given up by two.",
            panels=(_by_age(found), _recoveries(desk)),
        )


def _by_age(found: list[Receivable]) -> Table:
    rows = [
        Row(
            (
                cells.two(_account_link(each), _besides(each)),
                *(cells.of(each.ages[label]) if each.ages[label] else cells.NONE for label in AGES),
                cells.of(each.amount),
            )
        )
        for each in found
    ]
    for currency in sorted({each.amount.currency for each in found}):
        of = [each for each in found if each.amount.currency == currency]
        sums = [Money.sum((each.ages[label] for each in of), currency) for label in AGES]
        together = Money.sum((each.amount for each in of), currency)
        rows.append(Row((f"All {currency}", *(cells.of(each) for each in sums), cells.of(together)), strong=True))
    return Table(
        title="By age",
        note="Days since the debt arose; whoever has owed the longest comes first.",
        columns=(Column("Host"), *(Column(f"{label} days", "money") for label in AGES), Column("Owed", "money")),
        rows=rows,
        empty="No host owes anything.",
    )


def _account_link(one: Receivable) -> SafeString:
    address = reverse("admin:payouts_hostaccount_change", args=[one.host_code])
    return format_html('<a class="sd-link" href="{}">{}</a>', address, one.host_name)


def _besides(one: Receivable) -> SafeString | str:
    """What is being done about a debt already."""
    if one.proposed:
        return format_html("write-off {} waits", cells.lead(one.proposed))
    return format_html("{} asked back", cells.of(one.coming_back)) if one.coming_back else one.host_code


def _recoveries(desk: Desk) -> Table:
    rows = []
    for each in claw_back.recoveries(now=desk.now):
        for proposal in each.proposals:
            rows.append(
                Row((each.host_name, cells.of(each.overdue), cells.lead(proposal.payout), cells.of(proposal.amount)))
            )
        if not each.proposals:
            rows.append(
                Row(
                    (each.host_name, cells.of(each.overdue), "no transfer can be reversed: write it off", ""),
                    quiet=True,
                )
            )
    return Table(
        title="What the rules propose to take back",
        note="Netting has had its chance at these; the newest transfers are reversed first, from each payout’s page.",
        columns=(Column("Host"), Column("Overdue", "money"), Column("Take back from"), Column("Amount", "money")),
        rows=rows,
        empty="Netting still has its chance at every debt.",
    )


def _warnings(row: HostAccount, desk: Desk) -> list[str]:
    waiting = payouts.can_receive(host_id=row.host_id, now=desk.now)
    if waiting is None:
        return []
    until = f" Until {cells.when(waiting.until)}." if waiting.until else ""
    return [f"Nothing can be sent now. {waiting.sentence}{until}"]


def _owes(row: HostAccount, desk: Desk) -> Table:
    """What the host is owed and owes, by currency, as the ledger holds it."""
    held = list(ledger.balances(key=row.host.code, open_only=True).filter(code__in=("1310", "2200")))
    may = desk.actor.may("ledger.view")

    def shown(account: Any) -> SafeString:
        money = cells.money(abs(account.amount), account.currency)
        return cells.link(account, money) if may else money

    def what(account: Any) -> str:
        if account.code != "1310":
            return "We owe the host"
        return "The host owes us" if account.amount > 0 else "We owe the host back, to be planned"

    return Table(
        title="Between us",
        note="Debts come off the next payouts in the same currency; what netting cannot reach is taken back or ages.",
        columns=(Column("What"), Column("Amount", "money")),
        rows=[Row((what(each), shown(each))) for each in held],
        empty="Nothing is owed either way.",
    )


def _missing(row: HostAccount) -> Table:
    return Table(
        title="Still missing",
        note="What the provider asks of the host before money may go all the way.",
        columns=(Column("Asked for"),),
        rows=[Row((each,)) for each in asked_for(missing=row.missing)],
    )


def _recovered(row: HostAccount) -> list[Panel]:
    """Clawbacks and write-offs of the host, where there are any."""
    claws = list(Clawback.objects.filter(host=row.host).select_related("payout").order_by("-id")[:10])
    given_up = list(WriteOff.objects.filter(host=row.host).select_related("proposed_by").order_by("-id")[:10])
    panels: list[Panel] = []
    columns = (Column("Which"), Column("Status"), Column("Why"), Column("Amount", "money"))
    if claws:
        rows = [
            Row(
                (
                    cells.two(cells.link(each), f"of {each.payout.code}"),
                    cells.status(each.status),
                    each.reason,
                    cells.money(each.amount, each.currency),
                )
            )
            for each in claws
        ]
        panels.append(Table(title="Clawbacks", columns=columns, rows=rows))
    if given_up:
        rows = [
            Row(
                (
                    cells.two(cells.link(each), f"by {each.proposed_by.name}"),
                    cells.status(each.status),
                    each.reason,
                    cells.money(each.amount, each.currency),
                )
            )
            for each in given_up
        ]
        panels.append(Table(title="Write-offs", columns=columns, rows=rows))
    return panels


def _bank_payouts(row: HostAccount) -> Table:
    found = BankPayout.objects.filter(host=row.host).order_by("-id")[:10]
    return Table(
        title="Bank payouts",
        note="What the provider sent from this account to the host’s bank.",
        columns=(Column("Bank payout"), Column("Status"), Column("Arrives"), Column("Amount", "money")),
        rows=[
            Row(
                (
                    cells.two(cells.link(each), cells.code(each.provider_id)),
                    cells.status(each.status),
                    cells.day(each.arrival_on),
                    cells.money(each.amount, each.currency),
                )
            )
            for each in found
        ],
        empty="Nothing has gone to the bank yet.",
        more=cells.list_of(BankPayout, f"host__code={row.host.code}"),
    )
