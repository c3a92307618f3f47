"""A stay further ahead than funds may be held: its saved card is charged when its day comes, again when that failed, and
on the last date the unpaid booking is given up; of one that was stayed meanwhile the payment is, there being nothing left to
end."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from typing import Final

from django.db import transaction

from backoffice.bookings import operations as bookings
from backoffice.core.actor import Actor, system
from backoffice.core.errors import Conflict
from backoffice.core.money import Money
from backoffice.jobs import operations as jobs
from backoffice.payments import operations as payments
from backoffice.payments import queries as payment_queries
from backoffice.payments.gateway.stripe import gateway
from backoffice.payments.models import Payment
from backoffice.workflows.pay_booking import carry_out
from backoffice.workflows.settle_payment import cancel_unpaid, give_up_stayed, settle

ACTOR: Final = system("time")


def charge(*, payment_code: str, actor: Actor, now: datetime) -> Payment | None:
    """Charge the saved card of a booking whose day has come, and take over the answer; None when it is not due, or another
    try is under way. A decline plans the next try and tells the guest. Raises as the gateway does."""
    known = payment_queries.payment_by_code(code=payment_code)
    if known.status == "requires_action" and known.provider_id is not None:
        # The guest may have answered their bank, and the news of it been lost.
        settle(seen=gateway().payment(payment_id=known.provider_id), actor=actor, now=now)
    with transaction.atomic():
        # The guest may be cancelling, or paying with another card, at this moment.
        booking = bookings.lock(code=known.booking.code)
        payment = payments.lock_payment(booking=booking)
        due = payment.next_try_at is not None and payment.next_try_at <= now
        open_to_try = payment.status in {"requires_payment", "requires_action"}
        if not due or not open_to_try or booking.status not in payment_queries.RUNNING:
            return None
        try:
            attempt = payments.begin_attempt(booking=booking, payment_method="", off_session=True, actor=actor, now=now)
        except Conflict:
            return None
    _, payment = carry_out(attempt_id=attempt.id, booking_code=booking.code, actor=actor, now=now)
    return payment


def charge_due(*, now: datetime) -> int:
    """Charge every saved card whose day has come; returns how many were asked."""
    due = jobs.turn(ask=partial(payment_queries.payments_to_charge, now=now), now=now)
    return sum(
        payment is not None for payment in jobs.each(due, lambda code: charge(payment_code=code, actor=ACTOR, now=now))
    )


def give_up_unpaid(*, now: datetime) -> int:
    """Cancel the bookings that were not paid by their last date, and give up the payments of those that are over; returns how
    many. No money has moved."""
    return sum(
        jobs.each(
            jobs.turn(ask=partial(payment_queries.payments_unpaid, now=now), now=now),
            lambda code: _give_up(code, now),
        )
    )


def _give_up(payment_code: str, now: datetime) -> bool:
    known = payment_queries.payment_by_code(code=payment_code)
    with transaction.atomic():
        booking = bookings.lock(code=known.booking.code)  # the guest may be paying at this moment
        payment = payments.lock_payment(booking=booking)
        late = payment.pay_by is not None and payment.pay_by <= now
        if not late or payment.status not in {"requires_payment", "requires_action"}:
            return False
        if booking.status == "completed":
            give_up_stayed(booking=booking, payment=payment, actor=ACTOR, now=now)
            return True
        if booking.status not in {"confirmed", "checked_in"}:
            return False
        cancel_unpaid(
            booking=booking,
            amount=Money(payment.amount, payment.currency),
            pay_by=payment.pay_by or now,
            consequence="nothing was charged, and the nights are free again",
            actor=ACTOR,
            now=now,
        )
    return True
