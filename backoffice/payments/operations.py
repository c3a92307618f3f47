"""What happens to payments, refunds, the provider's movements and its webhooks.

Nothing here calls the provider: intents are claimed and outcomes recorded, each in one transaction. Whoever changes a
payment holds its booking's lock first (`bookings.operations.lock`), then takes the payment's.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any, Final

from django.db import transaction

from backoffice.audit import operations as audit
from backoffice.bookings import operations as bookings
from backoffice.bookings.models import Booking
from backoffice.core.actor import Actor
from backoffice.core.errors import (
    Conflict,
    Invalid,
    KeyReused,
    NotAllowed,
    NotFound,
    OverLimit,
    RefundTooLarge,
    Refused,
    StaleVersion,
)
from backoffice.core.money import Money
from backoffice.ledger import operations as ledger
from backoffice.ledger import queries as ledger_queries
from backoffice.notifications import operations as notifications
from backoffice.payments import policies, queries
from backoffice.payments.models import (
    BalanceTransaction,
    Payment,
    PaymentAttempt,
    Refund,
    WebhookEvent,
)
from backoffice.payments.policies.seen import SeenBalanceTransaction, SeenEvent, SeenPayment, SeenRefund
from backoffice.payments.states import ATTEMPT, BEARERS, PAYMENT, REFUND, REFUND_CAUSES, WEBHOOK
from backoffice.people import policies as people_policies
from backoffice.people import queries as people

# A webhook that fails is tried again after 10 s, 20 s, 40 s … and given up after this many tries (about three hours).
MOST_TRIES: Final = 10
FIRST_RETRY: Final = timedelta(seconds=10)


# Money in -------------------------------------------------------------------------------------------------------------


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


def record_payment(*, payment: Payment, seen: SeenPayment, actor: Actor, now: datetime) -> str:
    """Take over what the provider shows of a payment that the caller has locked with its booking.

    Returns what is news: captured, authorised, declined, asked, processing, cancelled, or "" when nothing is. A capture is
    posted to the ledger here, once, whoever brings the news first."""
    if payment.provider_id is None:
        payment.provider_id = seen.id
        payment.save(update_fields=["provider_id"])
    if payment.provider_id != seen.id or seen.amount != Money(payment.amount, payment.currency):
        raise Conflict(f"The provider's payment {seen.id} is not that of {payment.code}.", seen=seen.id)
    if payment.status == "captured":
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


# Money back -----------------------------------------------------------------------------------------------------------


def open_refund(
    *,
    payment: Payment,
    amount: Money,
    parts: policies.Parts,
    platform_share: Money,
    cause: str,
    bearer: str,
    reason: str,
    idempotency_key: str,
    approved: bool,
    actor: Actor,
    now: datetime,
) -> Refund:
    """Open one refund of a payment that the caller has locked with its booking. `amount` is in the charge's currency,
    `parts` and `platform_share` (what we bear ourselves) in the booking's. Approved at once, or waiting for a second person.

    The same key with the same content returns the first refund; with other content it raises KeyReused. Raises
    RefundTooLarge when it is more than what is left, pending refunds counted."""
    digest = _digest(payment.code, amount.amount, parts.as_dict(), platform_share.amount, cause, bearer)
    earlier = Refund.objects.filter(idempotency_key=idempotency_key).first()
    if earlier is not None:
        if earlier.request_hash != digest:
            raise KeyReused(key=idempotency_key)
        return earlier
    if cause not in REFUND_CAUSES:
        raise Invalid(f"cause: write one of {', '.join(REFUND_CAUSES)}.", field="cause")
    if bearer not in BEARERS:
        raise Invalid(f"bearer: write one of {', '.join(BEARERS)}.", field="bearer")
    _check_room(payment, amount, parts)
    refund = Refund.objects.create(
        payment=payment,
        amount=amount.amount,
        currency=amount.currency,
        **parts.as_dict(),
        platform_share=platform_share.amount,
        cause=cause,
        bearer=bearer,
        reason=reason,
        idempotency_key=idempotency_key,
        request_hash=digest,
        requested_by_id=actor.id,
        requested_at=now,
    )
    audit.record(
        actor=actor,
        verb="refunds.request",
        kind="refund",
        id=refund.code,
        after={
            "booking": payment.booking.code,
            "amount": amount.amount,
            "currency": amount.currency,
            "cause": cause,
            "bearer": bearer,
        },
        reason=reason,
        now=now,
    )
    if approved:
        _approve(refund, payment, actor, now)
    return refund


def approve_refund(*, refund_code: str, version: int, actor: Actor, now: datetime) -> Refund:
    """A second person says yes: never the maker, and only to whom their role may (DOMAIN.md, roles).

    The refund is sent to the provider after the commit."""
    actor.must("refunds.approve")
    with transaction.atomic():
        refund, payment = _lock_refund(refund_code, version)  # two approvers at once: the second finds it approved
        check_second_person(refund=refund, actor=actor)
        _approve(refund, payment, actor, now)
    return refund


def reject_refund(*, refund_code: str, version: int, reason: str, actor: Actor, now: datetime) -> Refund:
    """A second person says no, and why. The amount can be refunded otherwise again."""
    actor.must("refunds.approve")
    if not reason.strip():
        raise Refused(missing="a reason")
    with transaction.atomic():
        refund, _ = _lock_refund(refund_code, version)
        check_second_person(refund=refund, actor=actor)
        return _move_refund(refund, "reject", actor=actor.because(reason), now=now)


def cancel_refund(*, refund_code: str, version: int, actor: Actor, now: datetime) -> Refund:
    """Take back a refund that waits for a second person; what is approved is on its way and stays so."""
    actor.must("refunds.cancel")
    with transaction.atomic():
        refund, _ = _lock_refund(refund_code, version)
        if refund.status != "requested":
            raise Conflict("This refund is approved already and on its way to the guest.")
        if refund.requested_by_id != actor.id:
            raise NotAllowed(verb="take back a refund that somebody else asked for")
        return _move_refund(refund, "cancel", actor=actor, now=now)


def claim_refund(*, refund_code: str, now: datetime) -> Refund | None:
    """Claim an approved refund for sending, or one whose answer was lost; None when somebody else has it."""
    with transaction.atomic():
        # Two workers with the same hint: the row decides, the provider's key would too.
        refund = (
            Refund.objects.select_for_update(of=("self",), skip_locked=True)
            .select_related("payment")
            .filter(code=refund_code)
            .first()
        )
        if refund is None or not REFUND.allows(refund.status, "submit"):
            return None
        refund.status = REFUND.after(refund.status, "submit")
        refund.submitted_at = now
        refund.save(update_fields=["status", "submitted_at"])
        return refund


def lose_sight_of_refund(*, refund_code: str, now: datetime) -> None:
    """The provider's answer was lost; the same key, a webhook or the poll will tell."""
    with transaction.atomic():
        refund = Refund.objects.select_for_update().get(code=refund_code)
        if refund.status == "submitted" and refund.provider_id is None:
            refund.status = REFUND.after(refund.status, "lose_sight")
            refund.save(update_fields=["status"])


def record_refund(*, refund_code: str, seen: SeenRefund, actor: Actor, now: datetime) -> Refund:
    """Take over what the provider shows of a refund; repeating old news changes nothing."""
    with transaction.atomic():
        refund, payment = _lock_refund(refund_code, None)
        if seen.amount != Money(refund.amount, refund.currency):
            raise Conflict(f"The provider's refund {seen.id} is not that of {refund.code}.", seen=seen.id)
        if refund.provider_id is None:
            refund.provider_id = seen.id
            refund.save(update_fields=["provider_id"])
        if seen.status == "succeeded" and REFUND.allows(refund.status, "succeed"):
            refund.settled_at = now
            _move_refund(refund, "succeed", actor=actor, now=now, fields=["settled_at"])
            _tell_guest(refund, "refund_succeeded", now)
        elif seen.status in {"failed", "cancelled"} and REFUND.allows(refund.status, "fail"):
            _fail(refund, payment, seen.failure_reason or seen.status, at_provider=True, actor=actor, now=now)
    return refund


def fail_refund(*, refund_code: str, failure: str, at_provider: bool, actor: Actor, now: datetime) -> Refund:
    """The provider refused a refund. Where no money moved there (`at_provider` False) our posting is reversed."""
    with transaction.atomic():
        refund, payment = _lock_refund(refund_code, None)
        if REFUND.allows(refund.status, "fail"):
            _fail(refund, payment, failure, at_provider=at_provider, actor=actor, now=now)
    return refund


# The provider's movements ---------------------------------------------------------------------------------------------


def import_transactions(*, rows: Iterable[SeenBalanceTransaction], actor: Actor, now: datetime) -> int:
    """Keep and post balance transactions that are new; returns how many were. Each stands alone: it is stored together
    with its journal or not at all, and importing it again changes nothing. Of two importers at once, the ledger's key
    lets one through."""
    return sum(_import(row, actor, now) for row in sorted(rows, key=lambda row: (row.created, row.id)))


# The inbox ------------------------------------------------------------------------------------------------------------


def receive_event(*, event: SeenEvent, origin: str, now: datetime) -> WebhookEvent | None:
    """Store an event as it came; None when it is here already. Applying it is another's work, after the commit."""
    # The unique event id makes ten deliveries at once one row: the others find it there and leave it to the first.
    row, fresh = WebhookEvent.objects.get_or_create(
        event_id=event.id,
        defaults={
            "type": event.type,
            "object_id": event.object_id,
            "account": event.account,
            "created": event.created,
            "livemode": event.livemode,
            "payload": event.payload,
            "origin": origin,
            "received_at": now,
            "next_attempt_at": now,
        },
    )
    return row if fresh else None


def claim_event(*, webhook_id: int, now: datetime) -> WebhookEvent | None:
    """Take one webhook to apply it; None when another worker has it or it is done."""
    with transaction.atomic():
        row = (
            WebhookEvent.objects.select_for_update(skip_locked=True)
            .filter(id=webhook_id, status__in=["received", "failed"], next_attempt_at__lte=now)
            .first()
        )
        if row is None:
            return None
        row.attempts += 1
        # If this process dies now, the row is due again after the usual delay; nothing else needs to notice.
        row.next_attempt_at = now + FIRST_RETRY * 2 ** min(row.attempts - 1, MOST_TRIES)
        row.save(update_fields=["attempts", "next_attempt_at"])
        return row


def finish_event(*, webhook_id: int, action: str, error: str = "", now: datetime) -> None:
    """Record what came of a webhook: apply, ignore or fail; the last failure gives up and waits for a person."""
    with transaction.atomic():
        row = WebhookEvent.objects.select_for_update().get(id=webhook_id)
        if action == "fail" and row.attempts >= MOST_TRIES:
            action = "give_up"
        if not WEBHOOK.allows(row.status, action):
            return
        row.status = WEBHOOK.after(row.status, action)
        row.error = error[:300]
        row.applied_at = now if action in {"apply", "ignore"} else None
        row.save(update_fields=["status", "error", "applied_at"])


def replay_webhook(*, event_id: str, actor: Actor, now: datetime) -> WebhookEvent:
    """Apply a webhook anew, whatever became of it before; applying is idempotent."""
    actor.must("webhooks.replay")
    with transaction.atomic():
        row = WebhookEvent.objects.select_for_update().filter(event_id=event_id).first()
        if row is None:
            raise NotFound(kind="webhook")
        before = row.status
        row.status = WEBHOOK.after(row.status, "replay") if row.status != "received" else row.status
        row.attempts = 0
        row.next_attempt_at = now
        row.save(update_fields=["status", "attempts", "next_attempt_at"])
        audit.record(
            actor=actor,
            verb="webhooks.replay",
            kind="webhook",
            id=event_id,
            before={"status": before},
            after={"status": row.status},
            now=now,
        )
        notifications.enqueue(task="workflows.apply_provider_event", kwargs={"webhook_id": row.id}, now=now)
    return row


# Private: payments ----------------------------------------------------------------------------------------------------


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


# Private: refunds -----------------------------------------------------------------------------------------------------


def _check_room(payment: Payment, amount: Money, parts: policies.Parts) -> None:
    if payment.status != "captured":
        raise Conflict("Nothing has been paid yet; there is nothing to refund.")
    if amount.currency != payment.currency:
        raise Invalid(f"amount: this booking was charged in {payment.currency}.", field="amount")
    if amount.amount <= 0:
        raise Invalid("amount: must be above zero.", field="amount")
    limits = queries.refund_limits(payment=payment)
    left = limits.parts.as_dict()
    over = [part for part, wanted in parts.as_dict().items() if wanted > left[part]]
    if amount > limits.charged or over:
        raise RefundTooLarge(maximum=str(limits.charged), amount=str(amount), parts=over)


def _approve(refund: Refund, payment: Payment, actor: Actor, now: datetime) -> None:
    """Approve, post our side of the refund, and have it sent: the row in the outbox is the promise to send."""
    refund.approved_by_id = actor.id
    refund.approved_at = now
    _move_refund(refund, "approve", actor=actor, now=now, fields=["approved_by", "approved_at"])
    ledger.post(
        key=f"refund:{refund.code}",
        kind="refund",
        lines=policies.refunded(
            refund=refund.code,
            amount=Money(refund.amount, refund.currency),
            parts=policies.Parts.of(currency=payment.booking.currency, amounts=refund.parts),
            keys=queries.posting_keys(booking=payment.booking),
            charge=payment.charge_id or "",
            released=False,  # what is held is released by the payouts room, which brings the other answer with it
            platform_share=Money(refund.platform_share, payment.booking.currency),
        ),
        subject=payment.booking.code,
        reference=refund.code,
        effective_at=now,
        actor=actor,
        now=now,
    )
    notifications.enqueue(task="workflows.send_refund", kwargs={"refund_code": refund.code}, now=now)


def _fail(refund: Refund, payment: Payment, failure: str, *, at_provider: bool, actor: Actor, now: datetime) -> None:
    refund.failure_reason = failure[:200]
    refund.settled_at = now
    refund.unclaimed = at_provider  # the provider took the money and gives it back: it stands on 2410 for the guest
    _move_refund(refund, "fail", actor=actor, now=now, fields=["failure_reason", "settled_at", "unclaimed"])
    if not at_provider:
        posted = ledger_queries.journals().get(idempotency_key=f"refund:{refund.code}")
        ledger.reverse(
            journal_id=posted.id,
            key=f"refund-refused:{refund.code}",
            reason=f"refused by the provider: {failure}",
            actor=actor,
            now=now,
        )
    _tell_guest(refund, "refund_failed", now)


def _lock_refund(refund_code: str, version: int | None) -> tuple[Refund, Payment]:
    """Lock booking, payment and refund, in the house's order. Raises NotFound, StaleVersion."""
    found = Refund.objects.select_related("payment__booking").filter(code=refund_code).first()
    if found is None:
        raise NotFound(kind="refund")
    bookings.lock(code=found.payment.booking.code)
    payment = lock_payment(payment_id=found.payment_id)
    refund = Refund.objects.select_for_update(of=("self",)).get(id=found.id)
    if version is not None and refund.version != version:
        raise StaleVersion(kind="refund")
    refund.payment = payment
    return refund, payment


def check_second_person(*, refund: Refund, actor: Actor) -> None:
    """Raise unless the actor may say the second yes or no to this refund now; the console's buttons ask it too."""
    if refund.status != "requested":
        REFUND.after(refund.status, "approve")  # raises: says what it is and that it cannot be decided again
    maker = refund.requested_by_id
    allowed = people_policies.may_approve(
        approver_roles=people.roles_of(person_id=actor.id) if actor.id is not None else (),
        maker_roles=people.roles_of(person_id=maker) if maker is not None else (),
        same_person=maker == actor.id,
    )
    if not allowed:
        raise NotAllowed("You may not decide this refund: it needs another person with the authority for its maker.")
    grant = actor.grants.get("refunds.request")
    limit = grant.limit.get(refund.currency, 0) if grant and grant.limit is not None else None
    # A lead approves up to a lead's own limit; finance approves any amount, its limit being only its four-eyes threshold.
    if "finance" not in people.roles_of(person_id=actor.id or 0) and limit is not None and refund.amount > limit:
        raise OverLimit(
            verb="refunds.approve",
            amount=str(Money(refund.amount, refund.currency)),
            limit=str(Money(limit, refund.currency)),
        )


def _move_refund(
    refund: Refund, action: str, *, actor: Actor, now: datetime, fields: list[str] | None = None
) -> Refund:
    before = refund.status
    refund.status = REFUND.after(before, action)
    refund.version += 1
    refund.save(update_fields=["status", "version", *(fields or [])])
    audit.record(
        actor=actor,
        verb=f"refunds.{action}",
        kind="refund",
        id=refund.code,
        before={"status": before},
        after={"status": refund.status, "booking": refund.payment.booking.code},
        now=now,
    )
    return refund


def _tell_guest(refund: Refund, topic: str, now: datetime) -> None:
    booking = refund.payment.booking
    notifications.tell(
        topic=topic,
        recipient_id=booking.guest_id,
        address=booking.guest.email,
        context={
            "booking": booking.code,
            "refund": refund.code,
            "amount": Money(refund.amount, refund.currency).format(),
            "reason": refund.failure_reason,
        },
        now=now,
    )


# Private: the provider's movements ------------------------------------------------------------------------------------


def _import(row: SeenBalanceTransaction, actor: Actor, now: datetime) -> bool:
    with transaction.atomic():
        if BalanceTransaction.objects.filter(provider_id=row.id).exists():
            return False
        kept = BalanceTransaction(
            provider_id=row.id,
            type=row.type,
            reporting_category=row.reporting_category,
            source_id=row.source_id,
            amount=row.amount.amount,
            fee=row.fee.amount,
            net=row.net.amount,
            currency=row.net.currency,
            exchange_rate=row.exchange_rate,
            fee_details=[dict(detail) for detail in row.fee_details],
            created=row.created,
            available_on=row.available_on,
            payout_id=row.payout_id,
            imported_at=now,
        )
        facts = _transaction_facts(row)
        posted = ledger.post(
            key=f"bt:{row.id}",
            kind=f"bt.{row.reporting_category}",
            lines=policies.balance_transaction(facts=facts),
            subject=facts.booking,
            reference=row.id,
            effective_at=row.created,
            actor=actor,
            now=now,
        )
        if posted is not None and not posted.created:
            return False  # another importer was first; its journal and its row came together
        kept.journal_id = posted.journal_id if posted is not None else None
        kept.save(force_insert=True)
        if facts.charge:
            _realise_exchange(facts, row, actor, now)
        return True


def _realise_exchange(
    facts: policies.BalanceTransactionFacts, row: SeenBalanceTransaction, actor: Actor, now: datetime
) -> None:
    """What a conversion left on the charge's position is gain or loss as soon as one currency is left in it."""
    ledger.post(
        key=f"fx:{row.id}",
        kind="fx",
        lines=policies.fx_realised(
            charge=facts.charge, positions=ledger_queries.standing(account="3900", key=facts.charge)
        ),
        subject=facts.booking,
        reference=row.id,
        effective_at=row.created,
        actor=actor,
        now=now,
    )


def _transaction_facts(row: SeenBalanceTransaction) -> policies.BalanceTransactionFacts:
    """Whose movement it is: the clearing key our own event used, and the booking it belongs to."""
    payment = refund = None
    if row.reporting_category in {"charge", "charge_failure", "partial_capture_reversal"}:
        payment = queries.payment_seen(provider_id="", reference=row.source_reference)
    elif row.reporting_category in {"refund", "refund_failure"}:
        refund = queries.refund_seen(provider_id=row.source_id, reference=row.source_reference)
        payment = refund.payment if refund is not None else None
    return policies.BalanceTransactionFacts(
        id=row.id,
        type=row.type,
        reporting_category=row.reporting_category,
        source=row.source_id,
        amount=row.amount,
        fee=row.fee,
        net=row.net,
        key=refund.code if refund is not None else "",
        presented=row.presented if payment is not None else None,
        charge=(payment.charge_id or "") if payment is not None else "",
        booking=payment.booking.code if payment is not None else "",
        host=payment.booking.host.code if payment is not None else "",
    )


def _digest(*facts: Any) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
