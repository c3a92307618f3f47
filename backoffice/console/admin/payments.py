"""Payments, and the provider's own record of how our balance moved."""

from __future__ import annotations

from typing import Any, ClassVar, Final

from django.contrib import admin
from django.utils.safestring import SafeString
from import_export.fields import Field
from unfold.decorators import display

from backoffice.console import cells, exports, filters, story, trail
from backoffice.console.admin.payouts import payouts_table
from backoffice.console.admin.refunds import PART_WORDS, refunds_table
from backoffice.console.base import StaffAdmin
from backoffice.console.door import Desk
from backoffice.console.lists import Search
from backoffice.console.page import Column, Fact, Figure, Figures, Page, Panel, Posting, Row, Table
from backoffice.core.money import Money
from backoffice.ledger import queries as ledger
from backoffice.ledger.models import Journal
from backoffice.payments.models import PARTS, BalanceTransaction, Chargeback, ExtraCharge, Payment, Refund
from backoffice.payouts.models import Payout


class PaymentsExport(exports.Resource):
    code = Field("code", "payment")
    booking = Field("booking__code", "booking")
    status = Field("status", "status")
    amount = Field(column_name="amount")
    currency = Field("currency", "currency")
    provider_id = Field("provider_id", "provider id")
    charge_id = Field("charge_id", "charge")
    created_at = Field("created_at", "created")
    captured_at = Field("captured_at", "captured")

    def dehydrate_amount(self, row: Payment) -> Any:
        return exports.amount(row.amount, row.currency)


class Collected:
    """What the lists of payments and of the charges beside them share: how a row is searched for, and whose it is."""

    searches: ClassVar[tuple[Search, ...]] = (
        Search("booking__guest__email__startswith", "@", str.lower),
        Search("booking__code", r"^BK-", str.upper),
        Search("provider_id", r"^pi_"),
        Search("charge_id", r"^ch_"),
        Search("code__startswith", case=str.upper),
    )
    lookups: ClassVar[tuple[str, ...]] = ("booking__code", "currency")

    @display(description="Guest")
    def guest(self, row: Payment | ExtraCharge) -> str:
        return row.booking.guest.name

    @display(description="Amount")
    def money_amount(self, row: Payment | ExtraCharge) -> SafeString:
        return cells.money(row.amount, row.currency)


@admin.register(Payment)
class PaymentAdmin(Collected, StaffAdmin):
    verb, export_verb = "payments.view", "payments.export"
    singular, plural = "payment", "payments"
    empty_words = "A payment appears when a guest begins to pay a booking."
    search_help_text = "PY- or BK- code, pi_ or ch_ id, guest’s e-mail"
    list_display = ("payment", "guest", "payment_status", "money_amount", "created", "captured")
    list_filter = (("status", filters.Choices), ("created_at", filters.Days), ("captured_at", filters.Days))
    list_select_related = ("booking__guest",)
    resource_classes = (PaymentsExport,)

    @display(description="Payment")
    def payment(self, row: Payment) -> SafeString:
        return cells.two(cells.code(row.code), f"for {row.booking.code}")

    @display(description="Status")
    def payment_status(self, row: Payment) -> SafeString:
        return cells.status(row.status)

    @display(description="Begun")
    def created(self, row: Payment) -> SafeString:
        return cells.instant(row.created_at)

    @display(description="Captured")
    def captured(self, row: Payment) -> SafeString:
        return cells.instant(row.captured_at)

    def page(self, row: Payment, desk: Desk) -> Page:
        refunds = list(Refund.objects.filter(payment=row).select_related("requested_by", "approved_by").order_by("-id"))
        payouts = list(Payout.objects.filter(booking=row.booking).select_related("host").order_by("number"))
        disputes = list(row.chargebacks.order_by("-id"))
        journals = ledger.trace(row.booking.code)
        panels: list[Panel] = [*_money(row, journals, desk), _attempts(row)]
        if desk.actor.may("refunds.view"):
            panels.append(refunds_table(refunds))
        if desk.actor.may("payouts.view"):
            panels.append(payouts_table(payouts))
        if disputes and desk.actor.may("chargebacks.view"):
            panels.append(chargebacks_table(disputes))
        sources = _sources(row, refunds, payouts, disputes, journals)
        panels.append(trail.movements_table(sources))
        if desk.actor.may("ledger.view"):
            panels.append(trail.journals_table(journals, more=cells.list_of(Journal, f"subject={row.booking.code}")))
        if desk.actor.may("webhooks.view"):
            panels.append(trail.webhooks_table([row.provider_id or "", *sources]))
        things = [("payment", row.code), *(("refund", each.code) for each in refunds)]
        return Page(
            title=row.code,
            subtitle=f"Payment of {row.booking.guest.name} for {row.booking.code}",
            status=cells.status(row.status),
            warnings=_warnings(row, disputes),
            facts=(
                Fact("Booking", cells.link(row.booking)),
                Fact("Guest", cells.link(row.booking.guest, row.booking.guest.name)),
                Fact("Amount", cells.money(row.amount, row.currency)),
                Fact("Begun", cells.instant(row.created_at)),
                Fact("Reserved until", cells.instant(row.capture_before) if row.status == "authorised" else ""),
                Fact("Host said yes", cells.instant(row.capture_asked_at) if row.capture_asked_at else ""),
                Fact("Saved card charged", cells.instant(row.charge_at) if row.charge_at else ""),
                Fact("To be paid by", cells.instant(row.pay_by) if row.pay_by else ""),
                Fact("Captured", cells.instant(row.captured_at)),
                Fact("Provider", row.provider.capitalize()),
                Fact("Intent", cells.code(row.provider_id)),
                Fact("Charge", cells.code(row.charge_id)),
                Fact("Last error", row.last_error),
            ),
            panels=(*panels, story.audit_panel(things, desk)),
        )


def _warnings(row: Payment, disputes: list[Chargeback]) -> list[str]:
    said = [open_dispute(each) for each in disputes if each.closed_at is None]
    for warning in row.fraud_warnings.order_by("id"):
        said.append(
            f"The card’s bank warned that this may be fraud ({cells.words(warning.kind)}): expect a chargeback."
        )
    return said


def open_dispute(row: Chargeback) -> str:
    """One open chargeback as a sentence for the pages of what it is about."""
    until = f" The provider’s deadline is {cells.when(row.due_by)}." if row.due_by else ""
    what = "inquiry" if row.kind == "inquiry" else "chargeback"
    return f"An {what} is open".replace("An c", "A c") + (
        f": {row.code}, {Money(row.amount, row.currency)}, {cells.words(row.status)}.{until}"
    )


_ACCOUNT_OF: Final = {"held": "2100", "host_fee": "2111", "guest_fee": "2110", "vat": "2310", "occupancy_tax": "2300"}


def made_of(row: Payment | ExtraCharge, journals: list[Journal], desk: Desk) -> Figures:
    """What was charged and of what it is made, each unfolding into its postings once it is captured."""
    currency, may = row.booking.currency, desk.actor.may("ledger.view")
    captures = captures_of(row, journals)

    def part(name: str) -> Figure:
        found = trail.postings(captures, _ACCOUNT_OF[name], credited=True) if may else None
        return Figure(PART_WORDS[name], cells.money(row.parts[name], currency), "", False, found)

    charged = Figure(
        "Charged",
        cells.money(row.amount, row.currency),
        "what the guest’s card was asked for",
        True,
        trail.postings(captures, "1150") if may else None,
    )
    return Figures(
        title="What it is for",
        note=f"In the home’s currency, {currency}." if currency != row.currency else "",
        figures=(
            charged,
            *(part(name) for name in PARTS),
            Figure("Together", cells.money(sum(row.parts.values()), currency), "host, us and taxes", True),
        ),
    )


def captures_of(row: Payment | ExtraCharge, journals: list[Journal]) -> list[Journal]:
    """The journal by which this very charge was captured; a long stay has several."""
    return trail.of_event(journals, f"capture:{row.charge_id}") if row.charge_id else []


def _money(row: Payment, journals: list[Journal], desk: Desk) -> list[Panel]:
    """What was captured and of what it is made; then what became of it. Each figure unfolds into its postings."""
    may, first = desk.actor.may("ledger.view"), made_of(row, journals, desk)
    if not captures_of(row, journals):
        return [first]

    def became(label: str, words: str, found: list[Posting]) -> Figure:
        return trail.figure(label, found, words=words, currency=row.currency, open=may)

    # What a guest's bank sent back and was sent again another way has been given once.
    given = [journal for journal in journals if not trail.postings([journal], "2410")]

    return [
        first,
        Figures(
            title="What became of it",
            note="As the ledger holds it now, all of this booking’s journals together.",
            figures=(
                became(
                    "Still held for the host", "until it is released", trail.postings(journals, "2100", credited=True)
                ),
                became("Released to the host", "payable, sent or netted", trail.asked(journals, "2200")),
                became("Sent to the host", "transfers asked for", trail.asked(journals, "2210")),
                became("Given back to the guest", "refunds asked for", trail.asked(given, "2400")),
                became("Taken by chargebacks", "while their outcome is open", trail.postings(journals, "1320")),
                became("Provider’s fees", "from its own records", trail.postings(journals, "5100", "5110")),
            ),
        ),
    ]


def _attempts(row: Payment) -> Table:
    return Table(
        title="Attempts",
        note="Each try has its own key at the provider, so that one try is never two charges.",
        columns=(Column("", "number"), Column("Card"), Column("Outcome"), Column("When"), Column("Key")),
        rows=[
            Row(
                (
                    each.number,
                    cells.code(each.payment_method),
                    cells.two(cells.status(each.status), cells.words(each.error_code)),
                    cells.instant(each.created_at),
                    cells.code(each.idempotency_key),
                )
            )
            for each in row.attempts.order_by("-number")[:20]
        ],
        empty="The guest has not tried a card yet.",
    )


def _sources(
    row: Payment, refunds: list[Refund], payouts: list[Payout], disputes: list[Chargeback], journals: list[Journal]
) -> list[str]:
    """The provider's objects that move this booking's money, a transfer that came back among them."""
    named = (
        row.charge_id,
        *(refund.provider_id for refund in refunds),
        *(payout.transfer_id for payout in payouts),
        *(dispute.provider_id for dispute in disputes),
        *trail.sources_of(journals),
    )
    return list(dict.fromkeys(each for each in named if each))


def chargebacks_table(rows: list[Chargeback]) -> Table:
    """The chargebacks of one payment, newest first."""
    return Table(
        title="Chargebacks",
        columns=(
            Column("Chargeback"),
            Column("Status"),
            Column("Reason"),
            Column("Deadline"),
            Column("Amount", "money"),
        ),
        rows=[
            Row(
                (
                    cells.two(cells.lead(each.code), cells.code(each.provider_id)),
                    cells.status(each.status),
                    cells.words(each.reason).capitalize(),
                    cells.instant(each.due_by),
                    cells.money(each.amount, each.currency),
                ),
                quiet=each.closed_at is not None,
            )
            for each in rows
        ],
    )


class MovementsExport(exports.Resource):
    provider_id = Field("provider_id", "id")
    created = Field("created", "created")
    type = Field("type", "type")
    reporting_category = Field("reporting_category", "reporting category")
    source_id = Field("source_id", "source")
    amount = Field(column_name="amount")
    fee = Field(column_name="fee")
    net = Field(column_name="net")
    currency = Field("currency", "currency")
    available_on = Field("available_on", "available on")
    journal_id = Field("journal_id", "journal")

    def dehydrate_amount(self, row: BalanceTransaction) -> Any:
        return exports.amount(row.amount, row.currency)

    def dehydrate_fee(self, row: BalanceTransaction) -> Any:
        return exports.amount(row.fee, row.currency)

    def dehydrate_net(self, row: BalanceTransaction) -> Any:
        return exports.amount(row.net, row.currency)


@admin.register(BalanceTransaction)
class MovementAdmin(StaffAdmin):
    verb, export_verb = "payments.view", "payments.export"
    singular, plural = "balance transaction", "balance transactions"
    key = "provider_id"
    list_words = "Every movement of our balance at the provider, as imported, in the order it arrived here."
    empty_words = "They arrive minutes after a charge or refund, imported by the worker."
    searches = (Search("provider_id", r"^txn_"), Search("payout_id", r"^po_"), Search("source_id"))
    search_help_text = "txn_ id, or its source: ch_, re_"
    list_display = ("movement", "category", "source", "money_amount", "money_fee", "money_net", "happened")
    list_filter = (("created", filters.Days),)
    lookups = ("source_id", "reporting_category", "currency", "payout_id")
    list_select_related = ()
    resource_classes = (MovementsExport,)

    @display(description="Movement")
    def movement(self, row: BalanceTransaction) -> SafeString:
        return cells.code(row.provider_id)

    @display(description="Kind")
    def category(self, row: BalanceTransaction) -> str:
        return cells.words(row.reporting_category).capitalize()

    @display(description="Source")
    def source(self, row: BalanceTransaction) -> SafeString:
        return cells.lead(row.source_id)

    @display(description="Amount")
    def money_amount(self, row: BalanceTransaction) -> SafeString:
        return cells.money(row.amount, row.currency)

    @display(description="Fee")
    def money_fee(self, row: BalanceTransaction) -> SafeString:
        return cells.money(row.fee, row.currency)

    @display(description="Net")
    def money_net(self, row: BalanceTransaction) -> SafeString:
        return cells.money(row.net, row.currency)

    @display(description="Created")
    def happened(self, row: BalanceTransaction) -> SafeString:
        return cells.instant(row.created)

    def page(self, row: BalanceTransaction, desk: Desk) -> Page:
        journal = ledger.journals().filter(id=row.journal_id).first() if row.journal_id else None
        shown = (
            cells.link(journal, f"journal #{journal.pk}")
            if journal and desk.actor.may("ledger.view")
            else f"#{row.journal_id or '–'}"
        )
        return Page(
            title=row.provider_id,
            subtitle=cells.words(row.reporting_category).capitalize(),
            facts=(
                Fact("Amount", cells.money(row.amount, row.currency)),
                Fact("Fee", cells.money(row.fee, row.currency)),
                Fact("Net", cells.money(row.net, row.currency)),
                Fact("Source", cells.lead(row.source_id)),
                Fact("Type", cells.words(row.type)),
                Fact("Exchange rate", row.exchange_rate),
                Fact("Created", cells.instant(row.created)),
                Fact("Available", cells.instant(row.available_on)),
                Fact("Imported", cells.instant(row.imported_at)),
                Fact("Posted as", shown),
                Fact("Bank payout", cells.lead(row.payout_id)),
            ),
            panels=(
                Table(
                    title="Fees the provider took",
                    columns=(Column("Fee"), Column("Amount", "money")),
                    rows=[
                        Row(
                            (
                                str(each.get("description") or each.get("type") or "fee"),
                                cells.money(
                                    int(each.get("amount", 0)), str(each.get("currency", row.currency)).upper()
                                ),
                            )
                        )
                        for each in row.fee_details
                    ],
                    empty="None.",
                ),
                *_behind(row, journal, desk),
            ),
        )


def _behind(row: BalanceTransaction, journal: Journal | None, desk: Desk) -> list[Panel]:
    """The journal a movement was posted as, and the webhooks about the object it came from."""
    panels: list[Panel] = []
    if journal is not None and desk.actor.may("ledger.view"):
        panels.append(trail.journals_table([journal], title="How it was posted"))
    if desk.actor.may("webhooks.view"):
        panels.append(trail.webhooks_table([row.source_id]))
    return panels
