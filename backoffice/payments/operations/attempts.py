"""Money in: tries to pay are claimed here and their outcomes recorded; the provider is called in between, elsewhere.

Whoever changes a payment holds its booking's lock first (`bookings.operations.lock`), then takes the payment's.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

from django.db import transaction

from backoffice.audit import operations as audit
from backoffice.bookings import operations as bookings
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
from backoffice.payments.policies import charges
from backoffice.payments.policies.seen import SeenPayment, SeenSetup
from backoffice.payments.states import ATTEMPT, PAYMENT
from backoffice.people import queries as people
from backoffice.rulebook import queries as rulebook


def begin_attempt(
    *, booking: Booking, payment_method: str, actor: Actor, now: datetime, off_session: bool = False
) -> PaymentAttempt:
    """Claim one try to pay a booking that the caller has locked; the provider is called after the commit. Without a
    `payment_method` the saved card is used; `off_session` says that the guest is away. A page of their bank that is still
    open is given up for it.

    Raises Conflict when the booking does not wait for payment, or while another try is under way; Invalid for an amount
    that cannot be charged."""
    actor.must("bookings.pay")
    if actor.kind in {"guest", "host"} and actor.id != booking.guest_id:
        raise NotFound(kind="booking")
    payment = Payment.objects.select_for_update().filter(booking=booking).first()
    method = payment_method.strip() or (payment.saved_method if payment is not None else "")
    if not method or len(method) > 120:
        raise Invalid("payment_method: send the provider's token for a card, such as pm_….", field="payment_method")
    _check_waits(booking, payment, now)
    payment = payment or _new_payment(booking, now)
    payment.booking = booking
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
        payment_method=method,
        off_session=off_session,
        created_at=now,
    )
    _move_payment(payment, "attempt", actor=actor, now=now)
    return attempt


def waits_for_card(*, payment: Payment) -> bool:
    """Whether what is asked for now is a card to be charged later, not money."""
    return payment.charge_at is not None and not payment.saved_method


def ask_to_capture(*, payment: Payment, actor: Actor, now: datetime) -> None:
    """The host said yes to a request whose payment the caller has locked: from here on nobody takes it back; what was
    authorised is captured after the commit, again and again with the same key until the answer is known.

    Raises Conflict when nothing is authorised any more, or the yes was said already."""
    if payment.capture_asked_at is not None:
        raise Conflict("This request was accepted already; the payment is being taken.")
    if payment.status != "authorised":
        raise Conflict("What the guest had reserved is gone; the request ends by itself.")
    payment.capture_asked_at = now
    payment.version += 1
    payment.save(update_fields=["capture_asked_at", "version"])
    audit.record(
        actor=actor,
        verb="payments.ask_to_capture",
        kind="payment",
        id=payment.code,
        after={"booking": payment.booking.code, "amount": payment.amount, "currency": payment.currency},
        now=now,
    )


def withdraw_capture(*, payment: Payment, actor: Actor, now: datetime) -> None:
    """The provider has not carried out a capture that was asked for long ago, of a payment that the caller has locked:
    the host may say yes anew, which asks under another key."""
    if payment.status != "authorised" or payment.capture_asked_at is None:
        return
    payment.capture_asked_at = None
    payment.version += 1
    payment.save(update_fields=["capture_asked_at", "version"])
    audit.record(
        actor=actor,
        verb="payments.withdraw_capture",
        kind="payment",
        id=payment.code,
        after={"booking": payment.booking.code},
        reason="never carried out by the provider",
        now=now,
    )


def being_captured(*, booking: Booking) -> bool:
    """Whether the host of a booking that the caller has locked said yes, and the provider's answer is not known yet."""
    return Payment.objects.filter(booking=booking, status="authorised", capture_asked_at__isnull=False).exists()


def not_while_captured(*, booking: Booking) -> None:
    """Raise Conflict while the yes of the host is being carried out: a moment later it is known whether the stay stands."""
    if being_captured(booking=booking):
        raise Conflict("The host has accepted and the payment is being taken; look again in a minute.")


def let_go(*, booking: Booking, now: datetime) -> None:
    """A booking that the caller has locked has ended: what is reserved is let go at the provider, what was to be charged
    later is not. Money that was captured is somebody else's decision."""
    payment = Payment.objects.select_for_update(of=("self",)).filter(booking=booking).first()
    if payment is None:
        return
    if payment.next_try_at is not None:
        payment.next_try_at = None
        payment.save(update_fields=["next_try_at"])
    if payment.status not in {"captured", "cancelled"} and payment.provider_id is not None:
        notifications.enqueue(task="workflows.release_authorisation", kwargs={"payment_code": payment.code}, now=now)


def give_up_payment(*, payment: Payment, actor: Actor, now: datetime) -> None:
    """The saved card of a payment that the caller has locked with its booking was not charged by the last date, or can be
    charged no more, and the stay is over: there is nothing left to end for it. It is not asked for any more, its page says
    why, and guest, host and finance are told. Paid all the same, it goes back."""
    booking = payment.booking
    by = f"{payment.pay_by or now:%Y-%m-%d %H:%M} UTC"
    payment.last_error = f"Not paid by {by}. The stay was over by then, and it is not asked for any more."
    payment.next_try_at, payment.next_action_url = None, ""
    fields = ["last_error", "next_try_at", "next_action_url"]
    _settle_open_attempts(payment, "decline", "given up", now)
    if payment.status == "cancelled":  # closed at the provider
        payment.save(update_fields=fields)
    else:
        _move_payment(payment, "cancel", actor=actor.because("not paid in time"), now=now, fields=fields)
    told = [(booking.guest, "stay_unpaid"), (booking.host, "stay_unpaid")]
    finance = people.staff().filter(roles__role="finance", status="active").order_by("id")
    for person, topic in [*told, *((person, "stay_unpaid_staff") for person in finance)]:
        notifications.tell(
            topic=topic,
            recipient_id=person.pk,
            address=person.email,
            context={
                **bookings.facts_to_tell(booking),
                "name": person.first_name,
                "amount": Money(payment.amount, payment.currency).format(),
                "pay_by": by,
                "payment": payment.code,
            },
            now=now,
        )


def record_payment(
    *, payment: Payment, seen: SeenPayment, actor: Actor, now: datetime, attempt_id: int | None = None
) -> str:
    """Take over what the provider shows of a payment that the caller has locked with its booking.

    Returns what is news: captured, authorised, declined, asked, processing, cancelled, or "" when nothing is. A declined
    charge of a saved card plans the next try and tells the guest. A capture is posted to the ledger here, once, whoever
    brings the news first. `attempt_id` names the try whose own answer this is."""
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


def record_setup(
    *, payment: Payment, seen: SeenSetup, actor: Actor, now: datetime, attempt_id: int | None = None
) -> str:
    """Take over what the provider shows of a card being made ready for a payment that the caller has locked.

    Returns what is news: saved, asked, declined, or "". No money has moved and nothing is posted."""
    if not waits_for_card(payment=payment) or payment.status in {"captured", "cancelled"}:
        return ""
    if seen.status in _OF_A_TRY and (
        _another_is_asked(payment, attempt_id) or _is_another_setup(payment, seen, attempt_id)
    ):
        return ""
    payment.setup_id = seen.id
    payment.save(update_fields=["setup_id"])
    if seen.status == "saved":
        payment.customer_id, payment.saved_method = seen.customer_id, seen.payment_method
        payment.next_try_at = payment.charge_at
        payment.last_error = payment.next_action_url = ""
        _settle_open_attempts(payment, "succeed", "", now)
        fields = ["customer_id", "saved_method", "next_try_at", "last_error", "next_action_url"]
        if payment.status == "requires_payment":  # the news comes after the try was given up
            payment.save(update_fields=fields)
        else:
            _move_payment(payment, "save", actor=actor, now=now, fields=fields)
        return "saved"
    facts = SeenPayment(
        id=seen.id,
        status="requires_action" if seen.status == "requires_action" else "requires_payment",
        amount=Money(payment.amount, payment.currency),
        error_code=seen.error_code,
        error_message=seen.error_message,
        next_action_url=seen.next_action_url,
    )
    if seen.status == "requires_action":
        return _asked(payment, facts, actor, now)
    return _declined(payment, facts, actor, now) if seen.status == "requires_payment" else ""


def lose_sight_of_attempt(*, attempt_id: int, now: datetime) -> None:
    """The provider's answer was lost: the outcome is unknown until it is asked with the same key."""
    with transaction.atomic():
        attempt = PaymentAttempt.objects.select_for_update().get(id=attempt_id)
        if attempt.status == "submitted":
            _settle_attempt(attempt, "lose_sight", "", None)


def abandon_attempt(*, attempt_id: int, error: str, actor: Actor, now: datetime, refused: bool = False) -> None:
    """The call itself came to nothing: the try is over and the guest may begin another. Where the provider `refused` a
    saved card, that is a failed charge like any other; a call that was never carried out is simply made again."""
    with transaction.atomic():
        known = PaymentAttempt.objects.select_related("payment__booking").get(id=attempt_id)
        booking = bookings.lock(code=known.payment.booking.code)  # it may be cancelled, or given up, at this moment
        payment = lock_payment(booking=booking)
        attempt = PaymentAttempt.objects.select_for_update().get(id=attempt_id)
        if attempt.status not in {"submitted", "indeterminate"}:
            return
        _settle_attempt(attempt, "decline", "refused", now)
        payment.last_error = error[:300]
        fields = ["last_error"]
        if refused and attempt.off_session and booking.status not in queries.ENDED:
            _plan_next_try(payment, "", now)
            fields += ["next_try_at", "pay_by"]
        _move_payment(payment, "decline", actor=actor, now=now, fields=fields)


def lock_payment(*, booking: Booking) -> Payment:
    """Lock the payment of a booking that the caller has locked; the caller knows that there is one."""
    payment = Payment.objects.select_for_update().get(booking=booking)
    payment.booking = booking
    return payment


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


def _is_another_setup(payment: Payment, seen: SeenSetup, attempt_id: int | None) -> bool:
    """Whether this is news of an earlier card than the one that the guest is being asked about."""
    return attempt_id is None and payment.setup_id not in {"", seen.id}


def _check_waits(booking: Booking, payment: Payment | None, now: datetime) -> None:
    if booking.status == "awaiting_payment" and not (booking.hold.expires_at and booking.hold.expires_at <= now):
        bookings.check_answerable(listing=booking.listing, check_in_at=booking.check_in_at, now=now)
        return
    unpaid = payment is not None and payment.status not in {"captured", "cancelled"}
    if payment is not None and unpaid and booking.status in queries.RUNNING:
        if payment.charge_at is not None and payment.charge_at > now:
            raise Conflict(f"Booking {booking.code} is charged to the saved card on {payment.charge_at:%Y-%m-%d}.")
        return
    raise Conflict(f"Booking {booking.code} is not waiting for payment (it is {booking.status.replace('_', ' ')}).")


def _new_payment(booking: Booking, now: datetime) -> Payment:
    plan = queries.collection_plan(booking=booking, now=now)
    rulebook.check_chargeable(amount=plan.first.amount, on=now.date(), field="amount")
    return Payment.objects.create(
        booking=booking,
        amount=plan.first.amount.amount,
        currency=plan.first.amount.currency,
        **plan.first.parts.as_dict(),
        capture_method="manual" if plan.ask_host else "automatic",
        charge_at=plan.charge_at,
        created_at=now,
    )


def _captured(payment: Payment, seen: SeenPayment, actor: Actor, now: datetime) -> str:
    payment.charge_id = seen.charge_id
    payment.captured_at = now
    payment.last_error = payment.next_action_url = ""
    payment.next_try_at = None
    _keep_card(payment, seen)
    _settle_open_attempts(payment, "succeed", "", now)
    _move_payment(
        payment,
        "capture",
        actor=actor,
        now=now,
        fields=[
            "charge_id",
            "captured_at",
            "last_error",
            "next_action_url",
            "next_try_at",
            "customer_id",
            "saved_method",
        ],
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
    payment.authorised_at = now
    payment.capture_before = seen.capture_before
    payment.last_error = payment.next_action_url = ""
    _keep_card(payment, seen)
    _settle_open_attempts(payment, "succeed", "", now)
    _move_payment(
        payment,
        "authorise",
        actor=actor,
        now=now,
        fields=[
            "charge_id",
            "authorised_at",
            "capture_before",
            "last_error",
            "next_action_url",
            "customer_id",
            "saved_method",
        ],
    )
    return "authorised"


def _keep_card(payment: Payment, seen: SeenPayment) -> None:
    """The card that paid is the one that later charges of this booking go to."""
    if seen.customer_id and seen.payment_method:
        payment.customer_id, payment.saved_method = seen.customer_id, seen.payment_method


def _asked(payment: Payment, seen: SeenPayment, actor: Actor, now: datetime) -> str:
    payment.next_action_url = seen.next_action_url
    if payment.status == "requires_action":
        payment.save(update_fields=["next_action_url"])
        return ""
    if payment.saved_method and payment.charge_at is not None:
        follows = charges.after_asking(
            planned=payment.next_try_at,
            due_at=payment.charge_at,
            pay_by=payment.pay_by,
            rules=queries.collection_rules(payment=payment),
            now=now,
        )
        payment.next_try_at, payment.pay_by = follows.next_try_at, follows.pay_by
    _settle_open_attempts(payment, "ask_guest", "", None)
    _move_payment(payment, "ask_guest", actor=actor, now=now, fields=["next_action_url", "next_try_at", "pay_by"])
    return "asked"


def _declined(payment: Payment, seen: SeenPayment, actor: Actor, now: datetime) -> str:
    if payment.status not in {"processing", "requires_action"}:
        return ""
    payment.last_error = (seen.error_message or seen.error_code)[:300]
    payment.next_action_url = ""
    fields = ["last_error", "next_action_url"]
    ended = payment.booking.status in queries.ENDED  # nothing is tried again, and nobody is asked to pay for it
    if payment.saved_method and payment.charge_at is not None and not ended:
        _plan_next_try(payment, seen.error_code, now)
        fields += ["next_try_at", "pay_by"]
    _settle_open_attempts(payment, "decline", seen.error_code or "declined", now)
    _move_payment(payment, "decline", actor=actor, now=now, fields=fields)
    if payment.pay_by is None and not ended:
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


def _plan_next_try(payment: Payment, error_code: str, now: datetime) -> None:
    """A saved card was not charged: when it is tried again, and the guest hears until when they can pay otherwise."""
    follows = charges.after_failure(
        pay_by=payment.pay_by,
        must_act=error_code == charges.GUEST_MUST_ACT,
        rules=queries.collection_rules(payment=payment),
        now=now,
    )
    payment.next_try_at, payment.pay_by = follows.next_try_at, follows.pay_by
    booking = payment.booking
    notifications.tell(
        topic="charge_failed",
        recipient_id=booking.guest_id,
        address=booking.guest.email,
        context={
            **bookings.facts_to_tell(booking),
            "name": booking.guest.first_name,
            "amount": Money(payment.amount, payment.currency).format(),
            "reason": payment.last_error,
            "pay_by": follows.pay_by.strftime("%Y-%m-%d %H:%M UTC"),
            "otherwise": (
                "your host is not paid for the stay"
                if booking.status == "completed"
                else "the booking is cancelled and the nights are given to others"
            ),
        },
        now=now,
    )


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
