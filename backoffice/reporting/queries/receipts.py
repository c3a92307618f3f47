"""A guest's receipt: what was charged, line by line, at which rate, and what went back."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime

from backoffice.bookings import queries as bookings
from backoffice.bookings.models import Booking
from backoffice.bookings.policies import PriceBreakdown, PriceLine
from backoffice.core.actor import Actor
from backoffice.core.errors import Conflict, NotFound
from backoffice.core.money import Money
from backoffice.payments import queries as payments
from backoffice.payments.models import ExtraCharge, Payment, Refund
from backoffice.reporting.policies import RefundStory, refund_story
from backoffice.rulebook.policies import ExchangeRate


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiptCharge:
    """One amount that was taken, with the code under which we know it."""

    code: str
    what: str
    at: datetime
    amount: Money


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiptRefund:
    """One amount that went back or is on its way, in the currency that was charged; `repays` names the refund that a bank
    sent back and that this one pays another way, out of our own account and in its currency."""

    code: str
    cause: str
    amount: Money
    asked_at: datetime
    sent_at: datetime | None
    repays: str
    story: RefundStory


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """A booking's money as its guest sees it. `lines` add up to `total` (the home's currency) and, in `charged` of each, to
    `charge_total`. `charged` − `refunded` = `paid`, in the currency of the payment; `refunds_pending` are not yet in
    `refunded`. A charge for damage in another currency is listed and not summed."""

    number: str
    booking: str
    issued_at: datetime
    guest: str
    host: str
    listing: str
    place: str
    check_in: date
    check_out: date
    nights: int
    guests: int
    lines: tuple[PriceLine, ...]
    rate: ExchangeRate
    total: Money
    charge_total: Money
    charges: tuple[ReceiptCharge, ...]
    refunds: tuple[ReceiptRefund, ...]
    charged: Money
    refunded: Money
    refunds_pending: Money
    paid: Money


def receipt(*, booking_code: str, actor: Actor, now: datetime) -> Receipt:
    """The receipt of one's own booking, or for staff of any. Raises NotFound, Conflict while nothing has been paid."""
    booking = _theirs(booking_code, actor)
    payment = payments.payment_of(booking=booking)
    if payment is None or payment.captured_at is None:
        raise Conflict("Nothing has been paid for this booking yet; there is no receipt.")
    price = PriceBreakdown.from_dict(booking.price)
    charges = _charges(booking, payment)
    refunds = _refunds(booking)
    currency = payment.currency
    charged = Money.sum((charge.amount for charge in charges if charge.amount.currency == currency), currency)
    # What a bank sent back is counted once, as it was taken: paid another way it may be in another currency. So may damage
    # that was paid too late.
    back = [row for row in refunds if not row.repays and row.amount.currency == currency]
    refunded = Money.sum((row.amount for row in back if row.story.state == "sent"), currency)
    pending = [row for row in back if row.story.state in {"waiting", "on_its_way", "returned"}]
    return Receipt(
        number=f"{payment.code}-{len(charges) + len(refunds)}",
        booking=booking.code,
        issued_at=now,
        guest=booking.guest.name,
        host=booking.host.first_name,
        listing=booking.listing.title,
        place=f"{booking.listing.city}, {booking.listing.country}",
        check_in=booking.check_in,
        check_out=booking.check_out,
        nights=booking.nights,
        guests=booking.guests,
        lines=price.lines,
        rate=price.rate,
        total=price.total,
        charge_total=price.charge_total,
        charges=charges,
        refunds=refunds,
        charged=charged,
        refunded=refunded,
        refunds_pending=Money.sum((row.amount for row in pending), currency),
        paid=charged - refunded,
    )


def refunds_of(*, booking_code: str, actor: Actor) -> tuple[ReceiptRefund, ...]:
    """What went back of one's own booking, or for staff of any, first to last. Raises NotFound."""
    return _refunds(_theirs(booking_code, actor))


def _theirs(code: str, actor: Actor) -> Booking:
    """The guest's own; a host sees what a stay earns, not what was taken from the guest's card."""
    found = bookings.booking(code=code, actor=actor)
    if actor.kind in {"guest", "host"}:
        if found.guest_id != actor.id:
            raise NotFound(kind="booking")
    else:
        actor.must("payments.view")
    return found


def _charges(booking: Booking, payment: Payment) -> tuple[ReceiptCharge, ...]:
    assert payment.captured_at is not None
    stay = ReceiptCharge(
        code=payment.code, what="stay", at=payment.captured_at, amount=Money(payment.amount, payment.currency)
    )
    later = ExtraCharge.objects.filter(booking=booking, status="captured")
    return (
        stay,
        *(
            ReceiptCharge(
                code=row.code, what=row.kind, at=row.captured_at or row.due_at, amount=Money(row.amount, row.currency)
            )
            for row in later.order_by("captured_at", "id")
        ),
    )


def _refunds(booking: Booking) -> tuple[ReceiptRefund, ...]:
    """What was turned down or taken back never concerned the guest."""
    rows = Refund.objects.filter(payment__booking=booking).exclude(status__in=["rejected", "cancelled"])
    found = list(rows.order_by("id"))
    repayments = {row.repays_id: row for row in found if row.repays_id is not None}
    codes = {row.id: row.code for row in found}
    waits, given = payments.refund_waits(refunds=found), payments.given_by_network(refunds=found)
    stopped = payments.refunds_stopped(refunds=found)
    return tuple(
        ReceiptRefund(
            code=row.code,
            cause=row.cause,
            amount=Money(row.amount, row.currency),
            asked_at=row.requested_at,
            sent_at=row.submitted_at,
            repays=codes.get(row.repays_id or 0, ""),
            story=_story(
                row,
                repayments.get(row.id),
                waits.get(row.id),
                by_network=row.id in given,
                stopped=stopped.get(row.id, ""),
            ),
        )
        for row in found
    )


def _story(
    row: Refund, repayment: Refund | None, wait: payments.RefundWait | None, *, by_network: bool, stopped: str
) -> RefundStory:
    return refund_story(
        status=row.status,
        sent_on=row.submitted_at.astimezone(UTC).date() if row.submitted_at else None,
        unclaimed=row.unclaimed,
        refused=payments.was_refused(refund=row),
        repaid=repayment.status if repayment is not None else "",
        method=row.method,
        by_network=by_network,
        stopped=stopped.rstrip("."),
        disputed=wait is not None,
        answered_by=wait.until.astimezone(UTC).date() if wait is not None and wait.until is not None else None,
    )
