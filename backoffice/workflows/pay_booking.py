"""A guest pays: claim the try, ask the provider outside any transaction, take over its answer."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from django.conf import settings
from django.db import transaction

from backoffice.bookings import operations as bookings
from backoffice.core.actor import Actor
from backoffice.core.errors import Indeterminate, NotFound, PaymentDeclined
from backoffice.payments import operations as payments
from backoffice.payments import queries as payment_queries
from backoffice.payments.gateway import submit
from backoffice.payments.gateway.stripe import gateway
from backoffice.payments.models import Payment, PaymentAttempt
from backoffice.payments.policies.charges import told_to_guest
from backoffice.payments.policies.seen import SeenPayment, SeenSetup
from backoffice.workflows.settle_payment import settle, settle_setup

# The provider's clock may run behind ours by this much when it dates what we ask for.
CLOCKS_APART: Final = timedelta(minutes=5)
GIVE_UP_AFTER: Final = timedelta(minutes=10)


def pay(*, booking_code: str, payment_method: str, actor: Actor, now: datetime) -> Payment:
    """Try to pay a booking with a card (none: with the one that was saved).

    Returns the payment: captured (the booking is confirmed), authorised (the host is asked), requires_payment with a saved
    card (confirmed, or the host is asked; it is charged at `charge_at`), requires_action (send the guest to
    `next_action_url`) or processing. Raises PaymentDeclined (another card may be tried), Conflict (not waiting for
    payment, or a try is under way), Indeterminate (the outcome follows by itself)."""
    with transaction.atomic():
        booking = bookings.lock(code=booking_code)  # two tries at once: the second finds the first under way
        if actor.kind in {"guest", "host"} and booking.guest_id != actor.id:
            raise NotFound(kind="booking")
        attempt = payments.begin_attempt(booking=booking, payment_method=payment_method, actor=actor, now=now)
    seen, payment = carry_out(attempt_id=attempt.id, booking_code=booking_code, actor=actor, now=now)
    if seen.status == "requires_payment":
        raise PaymentDeclined(decline_code=told_to_guest(decline_code=seen.error_code), payment=payment.code)
    return payment


def carry_out(
    *, attempt_id: int, booking_code: str, actor: Actor, now: datetime
) -> tuple[SeenPayment | SeenSetup, Payment]:
    """Have the provider carry out a claimed try, and take over its answer. Raises as the gateway does."""
    seen = submit.attempt(
        attempt_id=attempt_id, gateway=gateway(), return_url=return_url(booking_code), actor=actor, now=now
    )
    payment = _settle(seen, attempt_id, actor, now)
    assert payment is not None  # it carries our payment's code
    return seen, payment


def resolve_attempt(*, attempt_id: int, actor: Actor, now: datetime) -> SeenPayment | SeenSetup | None:
    """Find out what became of a try whose answer was lost. Raises as the gateway does.

    The provider is asked what it has; only where it has nothing of this try is the call repeated, with the same key. A
    provider that keeps answering that call with the failure it saved under the key never carried it out: the try is given
    up, and the guest may begin another. A booking that no longer waits for payment is not charged."""
    attempt = PaymentAttempt.objects.select_related("payment__booking").get(id=attempt_id)
    if attempt.status not in {"submitted", "indeterminate"}:
        return None
    payment = attempt.payment
    seen = _look_for(attempt)
    waits = payment.booking.status in _PAYABLE
    if seen is None and not waits:
        # Given up, or out of time: nobody is charged now only to be refunded. Had the call got through, it is late money.
        payments.abandon_attempt(attempt_id=attempt.id, error="The call was never carried out.", actor=actor, now=now)
        return None
    if _is_open(seen, attempt, waits):
        try:
            seen = submit.attempt(
                attempt_id=attempt.id,
                gateway=gateway(),
                return_url=return_url(payment.booking.code),
                actor=actor,
                now=now,
                again=True,
            )
        except Indeterminate as lost:
            # Only a failure that the provider keeps answering with is one: where no answer came, this very call may have been
            # carried out. It may have been even so: who gives up without looking once more lets the guest pay twice.
            if not lost.facts.get("answered", False) or now - attempt.created_at <= GIVE_UP_AFTER:
                raise
            seen = _look_for(attempt)
            if _is_open(seen, attempt, waits):
                payments.abandon_attempt(
                    attempt_id=attempt.id, error="The call was never carried out.", actor=actor, now=now
                )
                raise
    assert seen is not None  # it would be open
    _settle(seen, attempt.id, actor, now)
    return seen


def _is_open(seen: SeenPayment | SeenSetup | None, attempt: PaymentAttempt, waits: bool) -> bool:
    """Whether the provider shows nothing of a try: of a later one it may still show the outcome of the one before, and the
    answer under its key is its own."""
    return seen is None or (waits and attempt.number > 1 and seen.status in {"requires_payment", "requires_action"})


def return_url(booking_code: str) -> str:
    """Where the bank's page sends the guest back to."""
    return f"{settings.SITE_URL}/api/v1/bookings/{booking_code}"


# Bookings in these wait for money: to be confirmed, or charged later as was promised.
_PAYABLE: Final = frozenset({"awaiting_payment", *payment_queries.RUNNING})


def _look_for(attempt: PaymentAttempt) -> SeenPayment | SeenSetup | None:
    payment, since = attempt.payment, attempt.created_at - CLOCKS_APART
    if payments.waits_for_card(payment=payment):
        return gateway().find_setup(reference=payment.code, since=since)
    if payment.provider_id is not None:
        return gateway().payment(payment_id=payment.provider_id)
    return gateway().find_payment(reference=payment.code, since=since)


def _settle(seen: SeenPayment | SeenSetup, attempt_id: int, actor: Actor, now: datetime) -> Payment | None:
    if isinstance(seen, SeenSetup):
        return settle_setup(seen=seen, attempt_id=attempt_id, actor=actor, now=now)
    return settle(seen=seen, attempt_id=attempt_id, actor=actor, now=now)
