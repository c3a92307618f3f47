"""What a payment's news means for its booking: the stay stands, the guest gets more time, or late money goes back."""

from __future__ import annotations

from datetime import datetime

from django.db import transaction

from backoffice.bookings import operations as bookings
from backoffice.bookings.models import Booking
from backoffice.core.actor import Actor
from backoffice.core.money import Money
from backoffice.notifications import operations as notifications
from backoffice.payments import operations as payments
from backoffice.payments import queries as payment_queries
from backoffice.payments.models import Payment
from backoffice.payments.policies.seen import SeenPayment


def settle(*, seen: SeenPayment, actor: Actor, now: datetime, attempt_id: int | None = None) -> Payment | None:
    """Take over the provider's present state of a payment, once and whole; None when it is not one of ours.

    Called by the one who paid, by webhooks and by the poll: whoever is first does it, the others change nothing.
    `attempt_id` names the try whose own answer this is; without it, news older than a try under way do not end that try."""
    known = payment_queries.payment_seen(provider_id=seen.id, reference=seen.reference)
    if known is None:
        return None
    with transaction.atomic():
        booking = bookings.lock(code=known.booking.code)  # the hold may expire at this very moment
        payment = payments.lock_payment(payment_id=known.id)
        payment.booking = booking
        news = payments.record_payment(payment=payment, seen=seen, attempt_id=attempt_id, actor=actor, now=now)
        if news == "captured":
            _captured(booking, payment, actor, now)
        elif news in {"asked", "processing"} and booking.status == "awaiting_payment":
            bookings.extend_hold(booking=booking, now=now)
    return payment


def _captured(booking: Booking, payment: Payment, actor: Actor, now: datetime) -> None:
    notifications.tell(
        topic="payment_received",
        recipient_id=booking.guest_id,
        address=booking.guest.email,
        context={**bookings.facts_to_tell(booking), "name": booking.guest.first_name},
        now=now,
    )
    if booking.status == "awaiting_payment":
        # The hold is still active: its expiry is a job's act, and that job needs the lock we hold.
        bookings.confirm(booking=booking, actor=actor, now=now)
        return
    if booking.status == "expired" and bookings.confirm_late(booking=booking, actor=actor, now=now):
        return
    _give_back(booking, payment, actor, now)


def _give_back(booking: Booking, payment: Payment, actor: Actor, now: datetime) -> None:
    """The nights are gone or the booking was given up: the money goes back in full (DOMAIN.md, "A late payment")."""
    payments.open_refund(
        payment=payment,
        amount=Money(payment.amount, payment.currency),
        parts=payment_queries.parts_of(payment=payment),
        platform_share=Money.zero(booking.currency),
        cause="late_capture",
        bearer="host",
        reason=f"paid after the booking was {booking.status}",
        idempotency_key=f"late-capture:{payment.code}",
        approved=True,
        actor=actor,
        now=now,
    )
    notifications.tell(
        topic="late_capture_refunded",
        recipient_id=booking.guest_id,
        address=booking.guest.email,
        context={**bookings.facts_to_tell(booking), "name": booking.guest.first_name},
        now=now,
    )
