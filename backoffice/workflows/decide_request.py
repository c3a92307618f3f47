"""A guest asked for a stay: the host says yes (what was reserved is taken) or no (it is let go), or says nothing in time."""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import partial
from typing import Final

from django.db import transaction

from backoffice.bookings import operations as bookings
from backoffice.bookings import queries as booking_queries
from backoffice.bookings.models import Booking
from backoffice.core.actor import Actor, system
from backoffice.core.errors import Conflict, Indeterminate, NotFound, ProviderError, Refused
from backoffice.jobs import operations as jobs
from backoffice.payments import operations as payments
from backoffice.payments import queries as payment_queries
from backoffice.payments.gateway import submit
from backoffice.payments.gateway.stripe import gateway
from backoffice.payments.models import Payment
from backoffice.workflows.pay_booking import GIVE_UP_AFTER
from backoffice.workflows.settle_payment import confirm_saved, settle

ACTOR: Final = system("time")
# A call to the provider takes at most its read time-out; what is older than this has been lost.
LOST_AFTER: Final = timedelta(seconds=60)


def accept(*, booking_code: str, actor: Actor, now: datetime) -> Booking:
    """The host says yes: what the guest reserved is taken and the stay stands; where a card is to be charged later, it
    stands at once. Returns the booking: confirmed, or still requested while the provider's answer is not known. A yes that
    is repeated (its answer may have been lost) is the same yes.

    Raises Conflict when it was answered otherwise, the time is over, or the reserved money is gone (the request has ended
    then, and the guest is told); Indeterminate when the answer was lost (it follows by itself)."""
    with transaction.atomic():
        # Host, guest and the deadline may all decide now: the first one in is the only one.
        booking = bookings.lock(code=booking_code)
        bookings.of_its_host(booking=booking, actor=actor)
        again = payment_queries.was_accepted(booking=booking)
        if again and booking.status == "confirmed":
            return booking
        if not again:
            bookings.for_host_to_decide(booking=booking, actor=actor, now=now)
        payment = _payment(booking)
        if payment.charge_at is not None:
            confirm_saved(booking=booking, payment=payment, actor=actor, now=now)
            return booking
        if not again:
            payments.ask_to_capture(payment=payment, actor=actor, now=now)
    take(payment_code=payment.code, actor=actor, now=now)
    decided = booking_queries.booking(code=booking_code)
    if decided.status == "expired":
        raise Conflict(
            "The guest's bank has let the reserved money go, so this request has ended; the guest may ask again."
        )
    return decided


def decline(*, booking_code: str, reason: str, actor: Actor, now: datetime) -> Booking:
    """The host says no: the nights are free and what was reserved is let go after the commit.

    Raises Conflict when it was answered already, Refused without a reason."""
    if not reason.strip():
        raise Refused(missing="a reason")
    with transaction.atomic():
        booking = bookings.lock(code=booking_code)  # not after a yes whose money is being taken
        bookings.for_host_to_decide(booking=booking, actor=actor, now=now)
        payments.not_while_captured(booking=booking)
        bookings.decline(booking=booking, reason=reason, actor=actor, now=now)
        payments.let_go(booking=booking, now=now)
    return booking


def take(*, payment_code: str, actor: Actor, now: datetime) -> Payment:
    """Capture what a host has accepted, and take over the answer; repeating it has no second effect.

    Where the provider says no, it is asked what it has: an authorisation that lapsed ends the request. Raises
    Indeterminate when the answer was lost."""
    payment = payment_queries.payment_by_code(code=payment_code)
    if payment.status != "authorised" or payment.capture_asked_at is None:
        return payment
    try:
        seen = submit.capture(payment=payment, gateway=gateway())
    except ProviderError:
        assert payment.provider_id is not None
        seen = gateway().payment(payment_id=payment.provider_id)
        if seen.status == "authorised":
            raise
    settled = settle(seen=seen, actor=actor, now=now)
    assert settled is not None
    return settled


def take_again(*, payment_code: str, actor: Actor, now: datetime) -> Payment:
    """Find out what became of a capture whose answer was lost: the provider is asked what it has; only where it still holds
    the authorisation is the call repeated, with the same key. One that is never carried out, or refused while the money is
    still reserved, is withdrawn after a while, so that the host can say yes anew. Raises as the gateway does."""
    payment = ask(payment_code=payment_code, actor=actor, now=now)
    if payment.status != "authorised" or payment.capture_asked_at is None:
        return payment
    try:
        return take(payment_code=payment_code, actor=actor, now=now)
    except (Indeterminate, ProviderError) as lost:
        # Only what the provider keeps answering with is one, and only when the money is still merely reserved.
        answered = isinstance(lost, ProviderError) or lost.facts.get("answered", False)
        if not answered or now - payment.capture_asked_at <= GIVE_UP_AFTER:
            raise
        if ask(payment_code=payment_code, actor=actor, now=now).status == "authorised":
            with transaction.atomic():
                booking = bookings.lock(code=payment.booking.code)  # an event may bring the capture at this moment
                payments.withdraw_capture(payment=_payment(booking), actor=actor, now=now)
        raise


def release(*, payment_code: str, actor: Actor, now: datetime) -> Payment:
    """Let go what was reserved for a booking that has ended, and take over the answer; repeating it has no second effect.
    A payment that was captured in the meantime goes back by itself."""
    payment = payment_queries.payment_by_code(code=payment_code)
    if payment.status in {"captured", "cancelled"} or payment.provider_id is None:
        return payment
    if payment.booking.status not in payment_queries.ENDED:
        return payment
    try:
        seen = submit.release(payment=payment, gateway=gateway(), now=now)
    except ProviderError:
        seen = gateway().payment(payment_id=payment.provider_id)
    settled = settle(seen=seen, actor=actor, now=now)
    assert settled is not None
    return settled


def run(*, now: datetime) -> int:
    """What becomes of requests by themselves: unanswered ones end, lost answers of the provider are asked for again; returns
    how many of these were settled. Running it twice does no harm."""
    return expire_unanswered(now=now) + sweep(now=now)


def expire_unanswered(*, now: datetime) -> int:
    """End the requests that their hosts did not answer in time; returns how many."""
    return sum(jobs.each(booking_queries.unanswered_requests(now=now), lambda code: _expire(code, now)))


def sweep(*, now: datetime) -> int:
    """Ask again wherever a capture or a release was not answered, and look after authorisations whose window has passed;
    returns how many were settled."""
    lost = now - LOST_AFTER
    settled = [
        *jobs.each(
            jobs.turn(ask=partial(payment_queries.captures_unanswered, older_than=lost), now=now),
            lambda code: take_again(payment_code=code, actor=ACTOR, now=now),
        ),
        *jobs.each(
            jobs.turn(ask=partial(payment_queries.authorisations_to_release, older_than=lost), now=now),
            lambda code: release(payment_code=code, actor=ACTOR, now=now),
        ),
        *jobs.each(
            jobs.turn(ask=partial(payment_queries.authorisations_lapsing, now=now), now=now),
            lambda code: ask(payment_code=code, actor=ACTOR, now=now),
        ),
    ]
    return sum(payment.status != "authorised" for payment in settled)


def ask(*, payment_code: str, actor: Actor, now: datetime) -> Payment:
    """Ask the provider what became of an authorisation, and take that over."""
    payment = payment_queries.payment_by_code(code=payment_code)
    assert payment.provider_id is not None  # what is authorised has been seen there
    settled = settle(seen=gateway().payment(payment_id=payment.provider_id), actor=actor, now=now)
    assert settled is not None
    return settled


def _expire(booking_code: str, now: datetime) -> bool:
    with transaction.atomic():
        booking = bookings.lock(code=booking_code)  # the host may be answering at this moment
        if booking.status != "requested" or not booking.hold.expires_at or booking.hold.expires_at > now:
            return False
        if payments.being_captured(booking=booking):
            return False  # the host said yes in time; the provider's answer decides
        bookings.expire_request(booking=booking, why="the host did not answer in time.", actor=ACTOR, now=now)
        payments.let_go(booking=booking, now=now)
    return True


def _payment(booking: Booking) -> Payment:
    if payment_queries.payment_of(booking=booking) is None:
        raise NotFound(kind="payment")
    return payments.lock_payment(booking=booking)
