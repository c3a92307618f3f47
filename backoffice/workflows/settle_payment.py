"""What a payment's news means for its booking: the stay stands, the guest gets more time, or late money goes back."""

from __future__ import annotations

from collections.abc import Mapping
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
from backoffice.payments.policies import charges
from backoffice.payments.policies.seen import SeenPayment, SeenSetup
from backoffice.payouts import operations as payouts


def settle(*, seen: SeenPayment, actor: Actor, now: datetime, attempt_id: int | None = None) -> Payment | None:
    """Take over the provider's present state of a payment, once and whole; None when it is not one of ours.

    Called by the one who paid, by webhooks and by the poll: whoever is first does it, the others change nothing.
    `attempt_id` names the try whose own answer this is; without it, news older than a try under way do not end that try."""
    known = payment_queries.payment_seen(provider_id=seen.id, reference=seen.reference)
    if known is None:
        return None
    with transaction.atomic():
        booking, payment = _locked(known)
        given_up = payment.status == "cancelled"
        news = payments.record_payment(payment=payment, seen=seen, attempt_id=attempt_id, actor=actor, now=now)
        if news == "captured":
            drawn = payments.follow_recorded_charge(payment=payment, charge_id=seen.charge_id, actor=actor, now=now)
            _captured(booking, payment, actor, now, given_up=given_up)
            if drawn:
                payouts.schedule(booking=booking, now=now)
        elif news == "authorised":
            _authorised(booking, payment, actor, now)
        elif news == "cancelled":
            _let_go(booking, payment, actor, now)
        elif news in {"asked", "processing"} and booking.status == "awaiting_payment":
            bookings.extend_hold(booking=booking, now=now)
    return payment


def settle_setup(*, seen: SeenSetup, actor: Actor, now: datetime, attempt_id: int | None = None) -> Payment | None:
    """Take over the provider's present state of a card that is to be charged later; None when it is not one of ours."""
    known = payment_queries.payment_seen(provider_id="", reference=seen.reference)
    if known is None:
        return None
    with transaction.atomic():
        booking, payment = _locked(known)
        news = payments.record_setup(payment=payment, seen=seen, attempt_id=attempt_id, actor=actor, now=now)
        if news == "saved":
            _saved(booking, payment, actor, now)
        elif news == "asked" and booking.status == "awaiting_payment":
            bookings.extend_hold(booking=booking, now=now)
    return payment


def confirm_saved(*, booking: Booking, payment: Payment, actor: Actor, now: datetime) -> None:
    """The stay stands though nothing is paid yet: its card is charged later, and the guest is told when."""
    if booking.status == "requested":
        bookings.accept(booking=booking, actor=actor, now=now)
    elif booking.status == "expired":
        if not bookings.confirm_late(booking=booking, actor=actor, now=now):
            return
    else:
        bookings.confirm(booking=booking, actor=actor, now=now)
    payments.schedule_instalments(payment=payment, actor=actor, now=now)
    payouts.schedule(booking=booking, now=now)
    assert payment.charge_at is not None  # only such a payment waits for a card
    _tell_guest(
        "card_saved",
        booking,
        {"amount": Money(payment.amount, payment.currency).format(), "charge_on": payment.charge_at.date().isoformat()},
        now,
    )


def cancel_unpaid(
    *, booking: Booking, amount: Money, pay_by: datetime, consequence: str, actor: Actor, now: datetime
) -> None:
    """End a booking that the caller has locked because money for it did not come in time; guest and host are told."""
    bookings.end_by_cancellation(
        booking=booking,
        by="system",
        decision={"rule": "not paid in time", "basis": f"{amount} was due by {pay_by:%Y-%m-%d %H:%M} UTC", "trace": []},
        block_nights=False,
        actor=actor.because("not paid in time"),
        now=now,
    )
    payments.cancel_instalments(booking=booking, actor=actor, now=now)
    payments.let_go(booking=booking, now=now)
    payouts.schedule(booking=booking, now=now)  # the host is sent what was paid and stays, or nothing
    for person in (booking.guest, booking.host):
        notifications.tell(
            topic="booking_unpaid",
            recipient_id=person.id,
            address=person.email,
            context={
                **bookings.facts_to_tell(booking),
                "name": person.first_name,
                "amount": amount.format(),
                "pay_by": pay_by.strftime("%Y-%m-%d %H:%M UTC"),
                "consequence": consequence,
            },
            now=now,
        )


def give_up_stayed(*, booking: Booking, payment: Payment, actor: Actor, now: datetime) -> None:
    """Nothing was paid of a stay that is over, which the caller has locked with its payment: it is not asked for any more,
    instalments neither, and nothing of it is to come for its host."""
    payments.give_up_payment(payment=payment, actor=actor, now=now)
    payments.cancel_instalments(booking=booking, actor=actor, now=now)
    payouts.schedule(booking=booking, now=now)


def _locked(known: Payment) -> tuple[Booking, Payment]:
    booking = bookings.lock(code=known.booking.code)  # the hold may expire at this very moment
    return booking, payments.lock_payment(booking=booking)


def _captured(booking: Booking, payment: Payment, actor: Actor, now: datetime, *, given_up: bool) -> None:
    _tell_guest("payment_received", booking, {"total": Money(payment.amount, payment.currency).format()}, now)
    if booking.status == "awaiting_payment":
        # The hold is still active: its expiry is a job's act, and that job needs the lock we hold.
        bookings.confirm(booking=booking, actor=actor, now=now)
    elif booking.status == "requested":
        bookings.accept(booking=booking, actor=actor, now=now)
    elif booking.status in payment_queries.RUNNING and payment.charge_at is not None and not given_up:
        return  # charged later, as it was promised when the booking was confirmed
    elif booking.status != "expired" or not bookings.confirm_late(booking=booking, actor=actor, now=now):
        _give_back(booking, payment, actor, now)
        return
    payments.schedule_instalments(payment=payment, actor=actor, now=now)
    payouts.schedule(booking=booking, now=now)


def _authorised(booking: Booking, payment: Payment, actor: Actor, now: datetime) -> None:
    if booking.status != "awaiting_payment":
        payments.let_go(booking=booking, now=now)  # too late: nothing was taken, and nothing will be
        return
    bookings.request(booking=booking, answer_by=_answer_by(booking, payment, now), actor=actor, now=now)


def _saved(booking: Booking, payment: Payment, actor: Actor, now: datetime) -> None:
    if payment.capture_method == "manual":
        if booking.status == "awaiting_payment":
            bookings.request(booking=booking, answer_by=_answer_by(booking, payment, now), actor=actor, now=now)
    elif booking.status in {"awaiting_payment", "expired"}:
        confirm_saved(booking=booking, payment=payment, actor=actor, now=now)


def _answer_by(booking: Booking, payment: Payment, now: datetime) -> datetime:
    return charges.answer_by(
        check_in_at=booking.check_in_at,
        capture_before=payment.capture_before,
        rules=payment_queries.collection_rules(payment=payment),
        now=now,
    )


def _let_go(booking: Booking, payment: Payment, actor: Actor, now: datetime) -> None:
    if booking.status == "completed":
        give_up_stayed(booking=booking, payment=payment, actor=actor, now=now)
    if booking.status in {"confirmed", "checked_in"}:
        # The saved card can be charged no more: without a word the stay would stand for ever, unpaid.
        cancel_unpaid(
            booking=booking,
            amount=Money(payment.amount, payment.currency),
            pay_by=payment.pay_by or now,
            consequence="the payment was closed at the provider, nothing was charged, and the nights are free again",
            actor=actor,
            now=now,
        )
    if booking.status == "requested":
        bookings.expire_request(
            booking=booking,
            why="the money that was reserved could not be taken: the guest's bank has let it go.",
            actor=actor,
            now=now,
        )


def _tell_guest(topic: str, booking: Booking, facts: Mapping[str, str], now: datetime) -> None:
    notifications.tell(
        topic=topic,
        recipient_id=booking.guest_id,
        address=booking.guest.email,
        context={**bookings.facts_to_tell(booking), "name": booking.guest.first_name, **facts},
        now=now,
    )


def _give_back(booking: Booking, payment: Payment, actor: Actor, now: datetime) -> None:
    """The nights are gone or the booking was given up: the money goes back in full (DOMAIN.md, "A late payment")."""
    stayed = booking.status in payment_queries.RUNNING
    reason = "paid after it had been given up" if stayed else f"paid after the booking was {booking.status}"
    refund = payments.give_back_late(payment=payment, charge=None, reason=reason, actor=actor, now=now)
    if refund.status != "approved":
        return  # a card network has a say in it, and the guest was told
    _tell_guest("late_capture_refunded", booking, {"total": Money(payment.amount, payment.currency).format()}, now)
