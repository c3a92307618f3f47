"""A guest pays: claim the try, ask the provider outside any transaction, take over its answer."""

from __future__ import annotations

from datetime import datetime

from django.conf import settings
from django.db import transaction

from backoffice.bookings import operations as bookings
from backoffice.core.actor import Actor
from backoffice.core.errors import NotFound, PaymentDeclined
from backoffice.payments import operations as payments
from backoffice.payments.gateway import submit
from backoffice.payments.gateway.stripe import gateway
from backoffice.payments.models import Payment, PaymentAttempt
from backoffice.payments.policies.seen import SeenPayment
from backoffice.workflows.settle_payment import settle


def pay(*, booking_code: str, payment_method: str, actor: Actor, now: datetime) -> Payment:
    """Try to pay a booking with a card.

    Returns the payment: captured (the booking is confirmed), requires_action (send the guest to `next_action_url`) or
    processing. Raises PaymentDeclined (another card may be tried), Conflict (not waiting for payment, or a try is under
    way), Indeterminate (the outcome follows by itself)."""
    with transaction.atomic():
        booking = bookings.lock(code=booking_code)  # two tries at once: the second finds the first under way
        if actor.kind in {"guest", "host"} and booking.guest_id != actor.id:
            raise NotFound(kind="booking")
        attempt = payments.begin_attempt(booking=booking, payment_method=payment_method, actor=actor, now=now)
    seen = submit.attempt(
        attempt_id=attempt.id, gateway=gateway(), return_url=_return_url(booking_code), actor=actor, now=now
    )
    payment = settle(seen=seen, actor=actor, now=now)
    assert payment is not None  # it carries our payment's code
    if seen.status == "requires_payment":
        raise PaymentDeclined(decline_code=seen.error_code or "declined", payment=payment.code)
    return payment


def resolve_attempt(*, attempt_id: int, actor: Actor, now: datetime) -> SeenPayment | None:
    """Find out what became of a try whose answer was lost, by asking with the same key. Raises as the gateway does."""
    attempt = PaymentAttempt.objects.select_related("payment__booking").get(id=attempt_id)
    if attempt.status not in {"submitted", "indeterminate"}:
        return None
    code = attempt.payment.booking.code
    seen = submit.attempt(attempt_id=attempt.id, gateway=gateway(), return_url=_return_url(code), actor=actor, now=now)
    settle(seen=seen, actor=actor, now=now)
    return seen


def _return_url(booking_code: str) -> str:
    return f"{settings.SITE_URL}/api/v1/bookings/{booking_code}"
