"""Hosts’ accounts at the provider: whether they can be paid, what is missing, and what they owe."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import Http404
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from unfold.decorators import display

from backoffice.console import cells, filters, story, trail
from backoffice.console.admin.payouts import everything, payouts_table
from backoffice.console.base import StaffAdmin
from backoffice.console.door import Desk
from backoffice.console.lists import Search, View
from backoffice.console.page import Column, Fact, Page, Panel, Row, Table
from backoffice.ledger import queries as ledger
from backoffice.payouts import queries as payouts
from backoffice.payouts.models import BankPayout, Clawback, HostAccount, Payout, WriteOff
from backoffice.people.models import User


def bank_waits(row: HostAccount) -> bool:
    """Whether new bank details wait for somebody in finance."""
    return row.bank_changed_at is not None and row.bank_approved_by_id is None


def asked_for(row: HostAccount) -> list[str]:
    """What the provider still asks of the host, in words."""
    return [str(each).replace("_", " ").replace(".", ", ") for each in row.missing]


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
        asked = asked_for(row)
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

    return Table(
        title="Between us",
        note="Debts come off the next payouts in the same currency; what netting cannot reach is taken back or ages.",
        columns=(Column("What"), Column("Amount", "money")),
        rows=[Row(("The host owes us" if each.code == "1310" else "We owe the host", shown(each))) for each in held],
        empty="Nothing is owed either way.",
    )


def _missing(row: HostAccount) -> Table:
    return Table(
        title="Still missing",
        note="What the provider asks of the host before money may go all the way.",
        columns=(Column("Asked for"),),
        rows=[Row((each,)) for each in asked_for(row)],
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
