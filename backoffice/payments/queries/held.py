"""What of a booking's money is still held for its host and for us, and in which currency it was settled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from django.db.models import Sum

from backoffice.bookings.models import Booking
from backoffice.core.money import Money
from backoffice.ledger import queries as ledger
from backoffice.payments import policies
from backoffice.payments.models import PARTS, BalanceTransaction, ExtraCharge, Payment
from backoffice.rulebook import queries as rulebook

_BY_BOOKING: Final = {"2100": "held", "2110": "guest_fee", "2111": "host_fee"}
_BY_SUBJECT: Final = {"2310": "vat", "2300": "occupancy_tax"}
# Instalments that will still be asked for, or are being asked for.
_TO_COME: Final = ("requested", "scheduled", "submitted", "indeterminate", "requires_action", "failed")


def held_parts(*, booking: Booking) -> policies.Parts:
    """What the ledger still holds under a booking in its own currency: captured, neither refunded nor released.

    The taxes in it are those that this booking brought; they are owed to their offices from the first."""
    amounts = dict.fromkeys(PARTS, 0)
    for account in ledger.balances(key=booking.code, open_only=True):
        if account.code in _BY_BOOKING and account.currency == booking.currency:
            amounts[_BY_BOOKING[account.code]] = max(-int(account.amount), 0)  # type: ignore[attr-defined]
    for row in ledger.subject_sums(codes=list(_BY_SUBJECT), subjects=[booking.code]):
        if row.currency == booking.currency:
            amounts[_BY_SUBJECT[row.code]] = max(-row.amount, 0)
    return policies.Parts.of(currency=booking.currency, amounts=amounts)


def parts_to_come(*, booking: Booking) -> policies.Parts:
    """What instalments of a long stay that were not paid yet will bring."""
    rows = ExtraCharge.objects.filter(booking=booking, kind="instalment", status__in=_TO_COME)
    sums: Mapping[str, int] = rows.aggregate(**{part: Sum(part, default=0) for part in PARTS})
    return policies.Parts.of(currency=booking.currency, amounts=sums)


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A captured charge of a booking. `settled` is what the provider made of it; None until it has said so."""

    charge: str
    settled: Money | None


def sources(*, booking: Booking) -> list[Source]:
    """The captured charges of a booking's own money, the payment's first, then its instalments in their order."""
    charges = list(
        Payment.objects.filter(booking=booking, status="captured", charge_id__isnull=False).values_list(
            "charge_id", flat=True
        )
    )
    charges += (
        ExtraCharge.objects.filter(booking=booking, kind="instalment", status="captured", charge_id__isnull=False)
        .order_by("number")
        .values_list("charge_id", flat=True)
    )
    rows = BalanceTransaction.objects.filter(
        source_id__in=charges, reporting_category__in=["charge", "partial_capture_reversal"]
    ).values_list("source_id", "amount", "currency")
    settled: dict[str, Money] = {}
    for charge, amount, currency in rows:
        settled[charge] = settled.get(charge, Money.zero(currency)) + Money(amount, currency)
    return [Source(charge=charge or "", settled=settled.get(charge or "")) for charge in charges]


def settlement_currency(*, payment: Payment) -> str:
    """The currency in which the provider settles a payment: what it said of its charge, else what the rules expect."""
    said = BalanceTransaction.objects.filter(source_id=payment.charge_id or "-", reporting_category="charge")
    currency = said.values_list("currency", flat=True).first()
    at = payment.captured_at or payment.created_at
    return currency or rulebook.settlement(on=at.date()).rules.currency_for(payment.currency)
