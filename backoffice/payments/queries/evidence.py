"""What the desk knows of a disputed stay, put together as a first draft of the evidence."""

from __future__ import annotations

from django.db.models import Sum

from backoffice.bookings import queries as bookings
from backoffice.bookings.models import Booking
from backoffice.bookings.policies import Deadline, PriceBreakdown, cancellation_deadlines
from backoffice.core.money import Money
from backoffice.payments.models import Chargeback, Payment, Refund
from backoffice.payments.policies import evidence as rules
from backoffice.rulebook import queries as rulebook


def evidence_draft(*, chargeback: Chargeback) -> dict[str, str]:
    """A first draft, field by field; empty for a charge that is none of our bookings'."""
    payment = chargeback.payment
    if payment is None:
        return {}
    booking = payment.booking
    price = PriceBreakdown.from_dict(booking.price)
    sums = Refund.objects.filter(payment=payment, status="succeeded").aggregate(total=Sum("amount", default=0))
    refunded = str(Money(sums["total"], payment.currency)) if sums["total"] else ""
    return rules.draft(
        known=rules.Known(
            booking=booking.code,
            listing=booking.listing.title,
            city=booking.listing.city,
            host=booking.host.first_name,
            guest=booking.guest.name,
            email=booking.guest.email,
            check_in=booking.check_in,
            check_out=booking.check_out,
            guests=booking.guests,
            booked_at=booking.created_at,
            policy=_policy(booking),
            receipt=[(line.label, str(line.charged)) for line in price.lines],
            total=str(Money(payment.amount, payment.currency)),
            steps=_steps(booking, payment),
            cancelled=_cancelled(booking, refunded),
            refunded=refunded,
        )
    )


def _policy(booking: Booking) -> str:
    """The cancellation policy as the booking froze it, with its instants."""
    tier = rulebook.cancellation_version(version=booking.cancellation_version).rules.tier(booking.cancellation_tier)
    facts = bookings.cancellation_facts(booking=booking, now=booking.created_at)
    terms = [_term(deadline) for deadline in cancellation_deadlines(facts=facts)]
    return f"Policy “{tier.label}”, version {booking.cancellation_version}. " + " ".join(terms)


def _term(deadline: Deadline) -> str:
    when = f"Until {deadline.until:%Y-%m-%d %H:%M} UTC" if deadline.until is not None else "From check-in on"
    keep = deadline.keep
    if not keep.nights and not keep.rest_percent:
        return f"{when} the nights are refunded in full."
    kept = [f"{keep.nights} {'night' if keep.nights == 1 else 'nights'}"] if keep.nights else []
    if keep.rest_percent:
        kept.append(f"{keep.rest_percent} % of the{' other' if keep.nights else ''} nights")
    return f"{when} the host keeps {' and '.join(kept)}."


def _steps(booking: Booking, payment: Payment) -> list[rules.Step]:
    """What happened, first to last. Names and addresses stay out: the issuer knows its cardholder."""
    found = [rules.Step(at=booking.created_at, what=f"the guest booked ({booking.code})")]
    for attempt in payment.attempts.order_by("number"):
        found.append(rules.Step(at=attempt.created_at, what=f"the guest paid by card, attempt {attempt.number}"))
        if attempt.settled_at is not None:
            found.append(rules.Step(at=attempt.settled_at, what=f"attempt {attempt.number} {attempt.status}"))
    for at, what in (
        (payment.captured_at, f"payment {payment.code} captured"),
        (booking.confirmed_at, "booking confirmed, confirmation sent to the guest"),
        (booking.cancelled_at, f"booking cancelled by the {booking.cancelled_by}"),
        (booking.check_in_at if booking.status in {"checked_in", "completed"} else None, "the stay began"),
        (booking.check_out_at if booking.status == "completed" else None, "the stay ended"),
    ):
        if at is not None:
            found.append(rules.Step(at=at, what=what))
    for refund in Refund.objects.filter(payment=payment, status="succeeded", settled_at__isnull=False).order_by("id"):
        assert refund.settled_at is not None  # the filter
        found.append(
            rules.Step(
                at=refund.settled_at, what=f"refund {refund.code} of {Money(refund.amount, refund.currency)} sent"
            )
        )
    return sorted(found, key=lambda step: step.at)


def _cancelled(booking: Booking, refunded: str) -> str:
    if booking.cancelled_at is None:
        return ""
    return (
        f"Booking {booking.code} was cancelled by the {booking.cancelled_by} on {booking.cancelled_at:%Y-%m-%d %H:%M} UTC. "
        f"By the policy the guest accepted, {refunded or 'nothing'} was to be refunded."
    )
