"""A guest did not come: the stay is over, and what was still to be charged for it is not charged any more."""

from __future__ import annotations

from datetime import datetime

from django.db import transaction

from backoffice.bookings import operations as bookings
from backoffice.bookings.models import Booking
from backoffice.core.actor import Actor
from backoffice.payments import operations as payments
from backoffice.payouts import operations as payouts


def mark(*, booking_code: str, reason: str, actor: Actor, now: datetime) -> Booking:
    """Mark a stay as one that nobody came to: what was paid stays with its host and is released as planned, instalments to
    come are given up. May be said from midnight of check-in to 48 h after check-out (DOMAIN.md).

    Raises Refused without a reason, Conflict outside that time, IllegalTransition for a stay that has ended otherwise."""
    with transaction.atomic():
        # Locks the booking; an instalment that is being charged at this moment is waited for, and kept when it comes.
        booking = bookings.mark_no_show(booking_code=booking_code, reason=reason, actor=actor, now=now)
        payments.cancel_instalments(booking=booking, actor=actor, now=now)
        payments.let_go(booking=booking, now=now)
        payouts.schedule(booking=booking, now=now)
    return booking
