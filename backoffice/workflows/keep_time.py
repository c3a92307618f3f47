"""What the passing of time does: unpaid holds run out, stays begin and end, lost answers are asked for again."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

from django.db import transaction

from backoffice.bookings import operations as bookings
from backoffice.bookings import queries as booking_queries
from backoffice.core.actor import system
from backoffice.core.errors import StaydeskError
from backoffice.payments import queries as payment_queries
from backoffice.payments.gateway.stripe import gateway
from backoffice.payments.models import Payment
from backoffice.workflows import claw_back, refund_booking, sweep_earnings
from backoffice.workflows.pay_booking import resolve_attempt
from backoffice.workflows.settle_payment import settle

log = logging.getLogger(__name__)

ACTOR: Final = system("time")
# A call to the provider takes at most its read time-out; what is older than this has been lost.
LOST_AFTER: Final = timedelta(seconds=60)


def expire_holds(*, now: datetime) -> int:
    """Free the nights of bookings whose time to pay has run out; returns how many. A payment that arrives later is given
    its nights back if they are still free, else refunded."""
    done = 0
    for code in booking_queries.expired_unpaid(now=now):
        with transaction.atomic():
            booking = bookings.lock(code=code)  # the guest may be paying at this moment: whoever locks first decides
            if booking.status == "awaiting_payment" and booking.hold.expires_at and booking.hold.expires_at <= now:
                bookings.expire(booking=booking, actor=ACTOR, now=now)
                done += 1
    return done


def complete_stays(*, now: datetime) -> int:
    """Begin the stays whose check-in has passed and end those whose check-out has; returns how many moved."""
    done = 0
    for due, step, status in (
        (booking_queries.due_to_begin, bookings.check_in, "confirmed"),
        (booking_queries.due_to_end, bookings.complete, "checked_in"),
    ):
        for code in due(now=now):
            with transaction.atomic():
                booking = bookings.lock(code=code)  # a cancellation at the same moment wins or loses as a whole
                if booking.status == status:
                    step(booking=booking, actor=ACTOR, now=now)
                    done += 1
    return done


def resolve_indeterminate(*, now: datetime) -> int:
    """Ask the provider again wherever an answer was lost or is overdue; returns how many were settled."""
    lost = now - LOST_AFTER
    done = 0
    for attempt_id in payment_queries.unsettled_attempts(older_than=lost):
        done += _quietly(lambda: resolve_attempt(attempt_id=attempt_id, actor=ACTOR, now=now))  # noqa: B023 — called at once
    for payment_id in payment_queries.waiting_for_provider(older_than=lost):
        done += _quietly(lambda: _ask(payment_id, now))  # noqa: B023 — called at once
    for code in payment_queries.refunds_to_send(older_than=lost):
        done += _quietly(lambda: refund_booking.send(refund_code=code, actor=ACTOR, now=now))  # noqa: B023 — called at once
    for code in payment_queries.refunds_to_ask_about(older_than=lost):
        done += _quietly(lambda: refund_booking.ask(refund_code=code, actor=ACTOR, now=now))  # noqa: B023 — called at once
    return done + claw_back.resolve(now=now) + sweep_earnings.resolve(now=now)


def _ask(payment_id: int, now: datetime) -> object:
    payment = Payment.objects.get(id=payment_id)
    assert payment.provider_id is not None  # the query asks for it
    return settle(seen=gateway().payment(payment_id=payment.provider_id), actor=ACTOR, now=now)


def _quietly(act: Callable[[], object]) -> int:
    """One that cannot be settled now must not keep the others waiting; it is asked again at the next tick."""
    try:
        return int(act() is not None)
    except StaydeskError as error:
        log.info("still unsettled: %s", error)
        return 0
