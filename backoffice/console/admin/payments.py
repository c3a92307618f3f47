"""Payments, and the provider's own record of how our balance moved."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.utils.safestring import SafeString
from import_export.fields import Field
from unfold.decorators import display

from backoffice.console import cells, exports, filters, story
from backoffice.console.admin.refunds import PART_WORDS, refunds_table
from backoffice.console.base import StaffAdmin
from backoffice.console.door import Desk
from backoffice.console.lists import Search
from backoffice.console.page import Column, Fact, Page, Panel, Row, Table
from backoffice.ledger.models import Journal
from backoffice.payments.models import PARTS, BalanceTransaction, Payment, Refund, WebhookEvent


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


@admin.register(Payment)
class PaymentAdmin(StaffAdmin):
    verb, export_verb = "payments.view", "payments.export"
    singular, plural = "payment", "payments"
    empty_words = "A payment appears when a guest begins to pay a booking."
    searches = (
        Search("booking__guest__email__startswith", "@", str.lower),
        Search("booking__code", r"^BK-", str.upper),
        Search("provider_id", r"^pi_"),
        Search("charge_id", r"^ch_"),
        Search("code__startswith", case=str.upper),
    )
    search_help_text = "PY- or BK- code, pi_ or ch_ id, guest’s e-mail"
    list_display = ("payment", "guest", "payment_status", "money_amount", "created", "captured")
    list_filter = (("status", filters.Choices), ("created_at", filters.Days), ("captured_at", filters.Days))
    lookups = ("booking__code", "currency")
    list_select_related = ("booking__guest",)
    resource_classes = (PaymentsExport,)

    @display(description="Payment")
    def payment(self, row: Payment) -> SafeString:
        return cells.two(cells.code(row.code), f"for {row.booking.code}")

    @display(description="Guest")
    def guest(self, row: Payment) -> str:
        return row.booking.guest.name

    @display(description="Status")
    def payment_status(self, row: Payment) -> SafeString:
        return cells.status(row.status)

    @display(description="Amount")
    def money_amount(self, row: Payment) -> SafeString:
        return cells.money(row.amount, row.currency)

    @display(description="Begun")
    def created(self, row: Payment) -> SafeString:
        return cells.instant(row.created_at)

    @display(description="Captured")
    def captured(self, row: Payment) -> SafeString:
        return cells.instant(row.captured_at)

    def page(self, row: Payment, desk: Desk) -> Page:
        refunds = list(Refund.objects.filter(payment=row).select_related("requested_by", "approved_by").order_by("-id"))
        panels: list[Panel] = [_parts(row), _attempts(row)]
        if desk.actor.may("refunds.view"):
            panels.append(refunds_table(refunds))
        panels.append(_movements(row, refunds))
        if desk.actor.may("webhooks.view"):
            panels.append(_webhooks(row, refunds))
        things = [("payment", row.code), *(("refund", each.code) for each in refunds)]
        return Page(
            title=row.code,
            subtitle=f"Payment of {row.booking.guest.name} for {row.booking.code}",
            status=cells.status(row.status),
            facts=(
                Fact("Booking", cells.link(row.booking)),
                Fact("Guest", cells.link(row.booking.guest, row.booking.guest.name)),
                Fact("Amount", cells.money(row.amount, row.currency)),
                Fact("Begun", cells.instant(row.created_at)),
                Fact("Captured", cells.instant(row.captured_at)),
                Fact("Provider", row.provider.capitalize()),
                Fact("Intent", cells.code(row.provider_id)),
                Fact("Charge", cells.code(row.charge_id)),
                Fact("Last error", row.last_error),
            ),
            panels=(*panels, story.audit_panel(things, desk)),
        )


def _parts(row: Payment) -> Table:
    currency = row.booking.currency
    return Table(
        title="What it is for",
        note=f"In the home’s currency, {currency}." if currency != row.currency else "",
        columns=(Column("Part"), Column("Amount", "money")),
        rows=[
            *(Row((PART_WORDS[part], cells.money(row.parts[part], currency))) for part in PARTS),
            Row(("Together", cells.money(sum(row.parts.values()), currency)), strong=True),
        ],
    )


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


def _sources(row: Payment, refunds: list[Refund]) -> list[str]:
    return [each for each in (row.charge_id, *(refund.provider_id for refund in refunds)) if each]


def _movements(row: Payment, refunds: list[Refund]) -> Table:
    found = BalanceTransaction.objects.filter(source_id__in=_sources(row, refunds)).order_by("-id")[:20]
    return Table(
        title="Balance transactions",
        note="What the provider says has moved; each is posted to the ledger once.",
        columns=(
            Column("Movement"),
            Column("Kind"),
            Column("Amount", "money"),
            Column("Fee", "money"),
            Column("Net", "money"),
        ),
        rows=[
            Row(
                (
                    cells.two(cells.link(each), cells.instant(each.created)),
                    cells.words(each.reporting_category),
                    cells.money(each.amount, each.currency),
                    cells.money(each.fee, each.currency),
                    cells.money(each.net, each.currency),
                )
            )
            for each in found
        ],
        empty="The provider has not reported a movement yet.",
    )


def _webhooks(row: Payment, refunds: list[Refund]) -> Table:
    objects = [each for each in (row.provider_id, *_sources(row, refunds)) if each]
    found = WebhookEvent.objects.filter(object_id__in=objects).defer("payload").order_by("-id")[:20]
    return Table(
        title="Webhooks",
        columns=(Column("Event"), Column("About"), Column("Status"), Column("Received")),
        rows=[
            Row(
                (
                    cells.two(cells.link(each, each.type), cells.code(each.event_id)),
                    cells.code(each.object_id),
                    cells.status(each.status),
                    cells.instant(each.received_at),
                )
            )
            for each in found
        ],
        empty="The provider has not told us anything about it.",
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
        return cells.code(row.source_id)

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
        journal = Journal.objects.filter(id=row.journal_id).first() if row.journal_id else None
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
                Fact("Source", cells.code(row.source_id)),
                Fact("Type", cells.words(row.type)),
                Fact("Exchange rate", row.exchange_rate),
                Fact("Created", cells.instant(row.created)),
                Fact("Available", cells.instant(row.available_on)),
                Fact("Imported", cells.instant(row.imported_at)),
                Fact("Posted as", shown),
                Fact("Bank payout", cells.code(row.payout_id)),
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
            ),
        )
