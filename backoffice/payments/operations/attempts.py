"""Money in: tries to pay are claimed here and their outcomes recorded; the provider is called in between, elsewhere.

Whoever changes a payment holds its booking's lock first (`bookings.operations.lock`), then takes the payment's.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

from django.db import transaction

from backoffice.audit import operations as audit
from backoffice.bookings.models import Booking
from backoffice.core.actor import Actor
from backoffice.core.errors import (
    Conflict,
    Invalid,
    NotFound,
)
from backoffice.core.money import Money
from backoffice.ledger import operations as ledger
from backoffice.ledger import queries as ledger_queries
from backoffice.notifications import operations as notifications
from backoffice.payments import policies, queries
from backoffice.payments.models import (
    Payment,
    PaymentAttempt,
)
from backoffice.payments.policies.seen import SeenPayment
from backoffice.payments.states import ATTEMPT, PAYMENT


def begin_attempt(*, booking: Booking, payment_method: str, actor: Actor, now: datetime) -> PaymentAttempt:
    """Claim one try to pay a booking that the caller has locked; the provider is called after the commit.

    Raises Conflict when the booking does not wait for payment, or while another try is under way."""
    actor.must("bookings.pay")
    if actor.kind in {"guest", "host"} and actor.id != booking.guest_id:
        raise NotFound(kind="booking")
    if not payment_method.strip() or len(payment_method) > 120:
        raise Invalid("payment_method: send the provider's token for a card, such as pm_….", field="payment_method")
    if booking.status != "awaiting_payment" or (booking.hold.expires_at and booking.hold.expires_at <= now):
        raise Conflict(f"Booking {booking.code} is not waiting for payment (it is {booking.status.replace('_', ' ')}).")
    payment = _payment_for(booking, now)
    under_way = payment.attempts.filter(status__in=["submitted", "requires_action", "indeterminate"]).first()
    if under_way is not None and under_way.status != "requires_action":
        raise Conflict("A payment of this booking is under way; wait for its outcome.")
    if under_way is not None:
        _settle_attempt(under_way, "decline", "abandoned", now)
    number = payment.attempts.count() + 1
    attempt = PaymentAttempt.objects.create(
        payment=payment,
        number=number,
        idempotency_key=f"pay:{payment.code}:{number}",
        payment_method=payment_method,
        created_at=now,
    )
    _move_payment(payment, "attempt", actor=actor, now=now)
    return attempt


def record_payment(
    *, payment: Payment, seen: SeenPayment, actor: Actor, now: datetime, attempt_id: int | None = None
) -> str:
    """Take over what the provider shows of a payment that the caller has locked with its booking.

    Returns what is news: captured, authorised, declined, asked, processing, cancelled, or "" when nothing is. A capture is
    posted to the ledger here, once, whoever brings the news first. `attempt_id` names the try whose own answer this is."""
    if payment.provider_id is None:
        payment.provider_id = seen.id
        payment.save(update_fields=["provider_id"])
    if payment.provider_id != seen.id or seen.amount != Money(payment.amount, payment.currency):
        raise Conflict(f"The provider's payment {seen.id} is not that of {payment.code}.", seen=seen.id)
    if payment.status == "captured" or (seen.status in _OF_A_TRY and _another_is_asked(payment, attempt_id)):
        return ""
    news = {
        "captured": _captured,
        "authorised": _authorised,
        "requires_action": _asked,
        "requires_payment": _declined,
        "processing": _processing,
        "cancelled": _cancelled,
    }[seen.status]
    return news(payment, seen, actor, now)


def lose_sight_of_attempt(*, attempt_id: int, now: datetime) -> None:
    """The provider's answer was lost: the outcome is unknown until it is asked with the same key."""
    with transaction.atomic():
        attempt = PaymentAttempt.objects.select_for_update().get(id=attempt_id)
        if attempt.status == "submitted":
            _settle_attempt(attempt, "lose_sight", "", None)


def abandon_attempt(*, attempt_id: int, error: str, actor: Actor, now: datetime) -> None:
    """The provider refused the call itself: the try is over and the guest may begin another."""
    with transaction.atomic():
        attempt = PaymentAttempt.objects.select_related("payment").get(id=attempt_id)
        payment = Payment.objects.select_for_update().get(id=attempt.payment_id)
        attempt = PaymentAttempt.objects.select_for_update().get(id=attempt_id)
        if attempt.status not in {"submitted", "indeterminate"}:
            return
        _settle_attempt(attempt, "decline", "refused", now)
        payment.last_error = error[:300]
        _move_payment(payment, "decline", actor=actor, now=now, fields=["last_error"])


def lock_payment(*, payment_id: int) -> Payment:
    """Lock a payment whose booking the caller has locked."""
    return Payment.objects.select_for_update(of=("self",)).select_related("booking__listing").get(id=payment_id)


def touch(*, payment: Payment) -> None:
    """Move the version on: what was shown of this payment's money is no longer the present."""
    payment.version += 1
    payment.save(update_fields=["version"])


# Private --------------------------------------------------------------------------------------------------------------


# What the provider shows of the try before, until the call of the next one has reached it.
_OF_A_TRY: Final = frozenset({"requires_payment", "requires_action"})


def _another_is_asked(payment: Payment, attempt_id: int | None) -> bool:
    """Whether a call of another try is under way: its own answer, or the sweep, will say what became of it."""
    others = payment.attempts.filter(status="submitted")
    return (others if attempt_id is None else others.exclude(id=attempt_id)).exists()


def _payment_for(booking: Booking, now: datetime) -> Payment:
    payment = Payment.objects.select_for_update().filter(booking=booking).first()
    if payment is not None:
        return payment
    return Payment.objects.create(
        booking=booking,
        amount=booking.charge_total,
        currency=booking.charge_currency,
        held=booking.host_price - booking.host_fee,
        host_fee=booking.host_fee,
        guest_fee=booking.guest_fee,
        vat=booking.vat,
        occupancy_tax=booking.occupancy_tax,
        created_at=now,
    )


def _captured(payment: Payment, seen: SeenPayment, actor: Actor, now: datetime) -> str:
    payment.charge_id = seen.charge_id
    payment.captured_at = now
    payment.last_error = payment.next_action_url = ""
    _settle_open_attempts(payment, "succeed", "", now)
    _move_payment(
        payment, "capture", actor=actor, now=now, fields=["charge_id", "captured_at", "last_error", "next_action_url"]
    )
    ledger.post(
        key=f"capture:{seen.charge_id}",
        kind="capture",
        lines=policies.captured(
            charge=seen.charge_id,
            charged=Money(payment.amount, payment.currency),
            parts=queries.parts_of(payment=payment),
            keys=queries.posting_keys(booking=payment.booking),
        ),
        subject=payment.booking.code,
        reference=seen.charge_id,
        effective_at=now,
        actor=actor,
        now=now,
    )
    # Where the provider's movement was imported before this news, it could not close the charge's position.
    ledger.post(
        key=f"fx:{seen.charge_id}",
        kind="fx",
        lines=policies.fx_realised(
            charge=seen.charge_id, positions=ledger_queries.standing(account="3900", key=seen.charge_id)
        ),
        subject=payment.booking.code,
        reference=seen.charge_id,
        effective_at=now,
        actor=actor,
        now=now,
    )
    return "captured"


def _authorised(payment: Payment, seen: SeenPayment, actor: Actor, now: datetime) -> str:
    if payment.status == "authorised":
        return ""
    payment.charge_id = seen.charge_id
    _move_payment(payment, "authorise", actor=actor, now=now, fields=["charge_id"])
    return "authorised"


def _asked(payment: Payment, seen: SeenPayment, actor: Actor, now: datetime) -> str:
    payment.next_action_url = seen.next_action_url
    if payment.status == "requires_action":
        payment.save(update_fields=["next_action_url"])
        return ""
    _settle_open_attempts(payment, "ask_guest", "", None)
    _move_payment(payment, "ask_guest", actor=actor, now=now, fields=["next_action_url"])
    return "asked"


def _declined(payment: Payment, seen: SeenPayment, actor: Actor, now: datetime) -> str:
    if payment.status not in {"processing", "requires_action"}:
        return ""
    payment.last_error = (seen.error_message or seen.error_code)[:300]
    payment.next_action_url = ""
    _settle_open_attempts(payment, "decline", seen.error_code or "declined", now)
    _move_payment(payment, "decline", actor=actor, now=now, fields=["last_error", "next_action_url"])
    notifications.tell(
        topic="payment_failed",
        recipient_id=payment.booking.guest_id,
        address=payment.booking.guest.email,
        context={
            "booking": payment.booking.code,
            "amount": Money(payment.amount, payment.currency).format(),
            "reason": payment.last_error,
        },
        now=now,
    )
    return "declined"


def _processing(payment: Payment, seen: SeenPayment, actor: Actor, now: datetime) -> str:
    return "processing"


def _cancelled(payment: Payment, seen: SeenPayment, actor: Actor, now: datetime) -> str:
    if payment.status == "cancelled":
        return ""
    _settle_open_attempts(payment, "decline", "cancelled", now)
    _move_payment(payment, "cancel", actor=actor, now=now)
    return "cancelled"


def _settle_open_attempts(payment: Payment, action: str, error_code: str, now: datetime | None) -> None:
    for attempt in payment.attempts.filter(status__in=["submitted", "requires_action", "indeterminate"]):
        _settle_attempt(attempt, action, error_code, now)


def _settle_attempt(attempt: PaymentAttempt, action: str, error_code: str, now: datetime | None) -> None:
    if not ATTEMPT.allows(attempt.status, action):
        return
    attempt.status = ATTEMPT.after(attempt.status, action)
    attempt.error_code = error_code[:80]
    attempt.settled_at = now
    attempt.save(update_fields=["status", "error_code", "settled_at"])


def _move_payment(
    payment: Payment, action: str, *, actor: Actor, now: datetime, fields: list[str] | None = None
) -> Payment:
    before = payment.status
    payment.status = PAYMENT.after(before, action)
    payment.version += 1
    payment.save(update_fields=["status", "version", *(fields or [])])
    audit.record(
        actor=actor,
        verb=f"payments.{action}",
        kind="payment",
        id=payment.code,
        before={"status": before},
        after={"status": payment.status, "booking": payment.booking.code},
        now=now,
    )
    return payment
