"""What of a booking's money is still held for its host and for us, and in which currency it was settled."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from fractions import Fraction
from typing import Final

from django.db.models import Sum

from backoffice.bookings.models import Booking
from backoffice.bookings.queries import cancelled_by_host
from backoffice.core.money import Money, minor_digits
from backoffice.ledger import queries as ledger
from backoffice.ledger.models import JournalLine
from backoffice.payments import policies
from backoffice.payments.models import PARTS, BalanceTransaction, ExtraCharge, Payment
from backoffice.payments.queries.waits import parts_undecided, parts_waiting
from backoffice.rulebook import queries as rulebook
from backoffice.rulebook.policies import ExchangeRate

BY_BOOKING: Final = {"2100": "held", "2110": "guest_fee", "2111": "host_fee"}
_BY_SUBJECT: Final = {"2310": "vat", "2300": "occupancy_tax"}
# Instalments that will still be asked for, or are being asked for.
_TO_COME: Final = ("requested", "scheduled", "submitted", "indeterminate", "requires_action", "failed")


def held_parts(*, booking: Booking) -> policies.Parts:
    """What the ledger still holds under a booking in its own currency: captured, neither refunded nor released, and not
    waiting to go back by rule (that is its guest's).

    The taxes in it are those that this booking brought; they are owed to their offices from the first."""
    amounts = dict.fromkeys(PARTS, 0)
    for account in ledger.balances(key=booking.code, open_only=True):
        if account.code in BY_BOOKING and account.currency == booking.currency:
            amounts[BY_BOOKING[account.code]] = max(-int(account.amount), 0)  # type: ignore[attr-defined]  # annotated there
    for row in ledger.subject_sums(codes=list(_BY_SUBJECT), subjects=[booking.code]):
        if row.currency == booking.currency:
            amounts[_BY_SUBJECT[row.code]] = max(-row.amount, 0)
    return policies.Parts.of(currency=booking.currency, amounts=amounts).minus(parts_waiting(booking=booking))


def releasable_parts(*, booking: Booking) -> policies.Parts:
    """What of `held_parts` may be planned and released for the host: nothing of a stay that they cancelled, and not what a
    guest's cancellation took back while it may go either way."""
    if cancelled_by_host(booking=booking):
        return policies.Parts.none(booking.currency)
    return held_parts(booking=booking).minus(parts_undecided(booking=booking))


def parts_to_come(*, booking: Booking) -> policies.Parts:
    """What instalments of a long stay that were not paid yet will bring."""
    rows = ExtraCharge.objects.filter(booking=booking, kind="instalment", status__in=_TO_COME)
    sums: Mapping[str, int] = rows.aggregate(**{part: Sum(part, default=0) for part in PARTS})
    return policies.Parts.of(currency=booking.currency, amounts=sums)


def instalment_overdue(*, booking: Booking, now: datetime) -> bool:
    """Whether an instalment should have been paid by now and was not."""
    rows = ExtraCharge.objects.filter(booking=booking, kind="instalment", status__in=_TO_COME, due_at__lte=now)
    return rows.exists()


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


def settled_of(*, charge: str) -> Money | None:
    """What the provider made of any charge; None until it has said so."""
    rows = BalanceTransaction.objects.filter(
        source_id=charge or "-", reporting_category__in=["charge", "partial_capture_reversal"]
    )
    amounts = [Money(amount, currency) for amount, currency in rows.values_list("amount", "currency")]
    return Money.sum(amounts, amounts[0].currency) if amounts else None


def release_rate(*, booking: Booking, settled: str, on: date) -> ExchangeRate | None:
    """At what the releases of a booking converted, as it stands in the ledger: what a refund takes from the host is what
    they got for it. Before any, that day's rate; None where nothing has to be converted."""
    if settled == booking.currency:
        return None
    rows = JournalLine.objects.filter(
        journal__subject=booking.code, journal__kind="release", account__code__in=["2100", "2200"]
    )
    sums: dict[tuple[str, str], int] = {}
    for code, currency, amount in rows.values_list("account__code", "currency", "amount"):
        sums[code, currency] = sums.get((code, currency), 0) + amount
    promised, given = sums.get(("2100", booking.currency), 0), -sums.get(("2200", settled), 0)
    if promised <= 0 or given <= 0:
        return rulebook.rate(base=booking.currency, quote=settled, on=on)
    places = minor_digits(booking.currency) - minor_digits(settled)
    value = Fraction(given, promised) * Fraction(10) ** places
    return ExchangeRate(base=booking.currency, quote=settled, value=value, on=on, source="its releases")


def settlement_currency(*, payment: Payment) -> str:
    """The currency in which the provider settles a payment: what it said of its charge, else what the rules expect."""
    said = BalanceTransaction.objects.filter(source_id=payment.charge_id or "-", reporting_category="charge")
    currency = said.values_list("currency", flat=True).first()
    at = payment.captured_at or payment.created_at
    return currency or rulebook.settlement(on=at.date()).rules.currency_for(payment.currency)


def refund_origins(
    *, payment: Payment, gives: Iterable[tuple[Money, policies.Parts, Money]], on: date
) -> list[policies.RefundOrigin]:
    """Where refunds of one payment's booking, approved on that day one after the other, are taken from. Each is its amount
    (currency of its charge), the parts it gives back, and what we bear ourselves (listing's currency)."""
    booking = payment.booking
    settled, held = settlement_currency(payment=payment), held_parts(booking=booking)
    rate = release_rate(booking=booking, settled=settled, on=on)
    origins = []
    for amount, parts, share in gives:
        origin = policies.refund_origin(amount=amount, parts=parts, held=held, share=share, settled=settled, rate=rate)
        held = held.minus(origin.held)
        origins.append(origin)
    return origins
