"""What the passing of time does: unpaid holds run out, stays begin and end, lost answers are asked for again."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from django.db import transaction

from backoffice.bookings import operations as bookings
from backoffice.bookings import queries as booking_queries
from backoffice.bookings.models import Booking
from backoffice.core.actor import system
from backoffice.jobs import operations as jobs
from backoffice.payments import queries as payment_queries
from backoffice.payments.gateway.stripe import gateway
from backoffice.payments.models import Payment
from backoffice.workflows import claw_back, refund_booking, sweep_earnings
from backoffice.workflows.pay_booking import resolve_attempt
from backoffice.workflows.settle_payment import settle

ACTOR: Final = system("time")
# A call to the provider takes at most its read time-out; what is older than this has been lost.
LOST_AFTER: Final = timedelta(seconds=60)


def expire_holds(*, now: datetime) -> int:
    """Free the nights of bookings whose time to pay has run out; returns how many. A payment that arrives later is given
    its nights back if they are still free, else refunded."""
    return sum(jobs.each(booking_queries.expired_unpaid(now=now), lambda code: _expire(code, now)))


def complete_stays(*, now: datetime) -> int:
    """Begin the stays whose check-in has passed and end those whose check-out has; returns how many moved."""
    begun = jobs.each(
        booking_queries.due_to_begin(now=now), lambda code: _step(code, "confirmed", bookings.check_in, now)
    )
    ended = jobs.each(
        booking_queries.due_to_end(now=now), lambda code: _step(code, "checked_in", bookings.complete, now)
    )
    return sum(begun) + sum(ended)


def resolve_indeterminate(*, now: datetime) -> int:
    """Ask the provider again wherever an answer was lost or is overdue; returns how many were settled."""
    lost = now - LOST_AFTER
    settled: list[object] = [
        *jobs.each(
            jobs.turn(ask=partial(payment_queries.unsettled_attempts, older_than=lost), now=now),
            lambda attempt_id: resolve_attempt(attempt_id=attempt_id, actor=ACTOR, now=now),
        ),
        *jobs.each(
            jobs.turn(ask=partial(payment_queries.waiting_for_provider, older_than=lost), now=now),
            lambda payment_id: _ask(payment_id, now),
        ),
        *jobs.each(
            jobs.turn(ask=partial(payment_queries.refunds_to_send, older_than=lost), now=now),
            lambda code: refund_booking.send(refund_code=code, actor=ACTOR, now=now),
        ),
        *jobs.each(
            jobs.turn(ask=partial(payment_queries.refunds_to_ask_about, older_than=lost), now=now),
            lambda code: refund_booking.ask(refund_code=code, actor=ACTOR, now=now),
        ),
    ]
    done = sum(outcome is not None for outcome in settled)
    return done + claw_back.resolve(now=now) + sweep_earnings.resolve(now=now)


def _expire(code: str, now: datetime) -> bool:
    with transaction.atomic():
        booking = bookings.lock(code=code)  # the guest may be paying at this moment: whoever locks first decides
        if booking.status != "awaiting_payment" or not booking.hold.expires_at or booking.hold.expires_at > now:
            return False
        bookings.expire(booking=booking, actor=ACTOR, now=now)
    return True


def _step(code: str, status: str, step: Callable[..., Booking], now: datetime) -> bool:
    with transaction.atomic():
        booking = bookings.lock(code=code)  # a cancellation at the same moment wins or loses as a whole
        if booking.status != status:
            return False
        step(booking=booking, actor=ACTOR, now=now)
    return True


def _ask(payment_id: int, now: datetime) -> object:
    payment = Payment.objects.get(id=payment_id)
    assert payment.provider_id is not None  # the query asks for it
    return settle(seen=gateway().payment(payment_id=payment.provider_id), actor=ACTOR, now=now)
