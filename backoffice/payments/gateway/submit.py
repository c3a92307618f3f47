"""Calling the provider: claim the intent, commit, call, record. Never inside a transaction (DESIGN.md).

A call whose answer is lost leaves `indeterminate`; the same key asked again, a webhook or the poll settles it.
"""

from __future__ import annotations

from datetime import datetime

from django.db import connection

from backoffice.core.actor import Actor
from backoffice.core.errors import Indeterminate, ProviderError, UpstreamUnavailable
from backoffice.core.money import Money
from backoffice.payments import operations, queries
from backoffice.payments.gateway.port import Gateway
from backoffice.payments.models import ExtraCharge, Payment, PaymentAttempt, Refund
from backoffice.payments.policies.seen import SeenPayment, SeenRefund, SeenSetup


def attempt(
    *, attempt_id: int, gateway: Gateway, return_url: str, actor: Actor, now: datetime, again: bool = False
) -> SeenPayment | SeenSetup:
    """Ask the provider to carry out a claimed attempt; repeating it with the same attempt has no second effect. Where the
    payment waits for a card to be charged later, the card is made ready and no money moves.

    `again` says that it has been sent before, and what came of that is not known: a provider that has no time for the
    repeat says nothing of the first. Raises Indeterminate (the attempt is marked so), ProviderError or, sent for the first
    time, UpstreamUnavailable (the attempt is over)."""
    outside_transaction()
    claimed = PaymentAttempt.objects.select_related("payment__booking").get(id=attempt_id)
    try:
        return _attempt(claimed, gateway, return_url)
    except Indeterminate:
        operations.lose_sight_of_attempt(attempt_id=attempt_id, now=now)
        raise
    except UpstreamUnavailable as error:
        if again:
            operations.lose_sight_of_attempt(attempt_id=attempt_id, now=now)
            raise Indeterminate() from error
        operations.abandon_attempt(attempt_id=attempt_id, error=str(error), actor=actor, now=now)
        raise
    except ProviderError as error:
        operations.abandon_attempt(attempt_id=attempt_id, error=error.words, refused=True, actor=actor, now=now)
        raise


def _attempt(claimed: PaymentAttempt, gateway: Gateway, return_url: str) -> SeenPayment | SeenSetup:
    payment = claimed.payment
    if operations.waits_for_card(payment=payment):
        return gateway.save_card(
            payment_method=claimed.payment_method,
            reference=payment.code,
            group=payment.booking.code,
            key=claimed.idempotency_key,
            return_url=return_url,
        )
    if payment.provider_id is None:
        return gateway.pay(
            amount=Money(payment.amount, payment.currency),
            payment_method=claimed.payment_method,
            reference=payment.code,
            group=payment.booking.code,
            key=claimed.idempotency_key,
            return_url=return_url,
            capture=payment.capture_method == "automatic" or payment.charge_at is not None,
            customer_id=payment.customer_id,
            off_session=claimed.off_session,
        )
    return gateway.try_again(
        payment_id=payment.provider_id,
        payment_method=claimed.payment_method,
        key=claimed.idempotency_key,
        return_url=return_url,
        off_session=claimed.off_session,
    )


def capture(*, payment: Payment, gateway: Gateway) -> SeenPayment:
    """Take what was authorised for a payment whose host said yes; the same key however often. Raises as the gateway."""
    outside_transaction()
    # What is authorised has been seen at the provider, and the host's yes has its instant: another yes, another key.
    assert payment.provider_id is not None and payment.capture_asked_at is not None
    key = f"capture:{payment.code}:{payment.capture_asked_at.timestamp():.0f}"
    return gateway.capture(payment_id=payment.provider_id, key=key)


def release(*, payment: Payment, gateway: Gateway, now: datetime) -> SeenPayment:
    """Let go what was reserved for a booking that has ended. Doing it twice is refused and changes nothing, so that a
    failure which the provider has saved under one key does not keep the next from trying. Raises as the gateway."""
    outside_transaction()
    assert payment.provider_id is not None
    key = f"cancel:{payment.code}:{now.timestamp():.0f}"
    return gateway.cancel_payment(payment_id=payment.provider_id, key=key)


def charge(*, charge: ExtraCharge, gateway: Gateway, return_url: str) -> SeenPayment:
    """Carry out the claimed try of an extra charge; the same key however often. Raises as the gateway."""
    outside_transaction()
    key = f"charge:{charge.code}:{charge.tries}"
    if charge.provider_id is None:
        return gateway.pay(
            amount=Money(charge.amount, charge.currency),
            payment_method=charge.payment_method,
            reference=charge.code,
            group=charge.booking.code,
            key=key,
            return_url=return_url,
            customer_id=charge.booking.payment.customer_id,
            off_session=charge.off_session,
        )
    return gateway.try_again(
        payment_id=charge.provider_id,
        payment_method=charge.payment_method,
        key=key,
        return_url=return_url,
        off_session=charge.off_session,
    )


def refund(*, refund_code: str, gateway: Gateway, actor: Actor, now: datetime) -> SeenRefund | None:
    """Send an approved refund to the provider; None when somebody else is doing or has done it.

    Raises Indeterminate (the refund is marked so) and ProviderError (the refund has failed, see `refuse_refund`)."""
    outside_transaction()
    claimed: Refund | None = operations.claim_refund(refund_code=refund_code, now=now)
    if claimed is None:
        return None
    try:
        return gateway.refund(
            charge_id=queries.charge_of(refund=claimed),
            amount=Money(claimed.amount, claimed.currency),
            reference=claimed.code,
            key=queries.refund_key(refund=claimed),
        )
    except UpstreamUnavailable:
        operations.lose_sight_of_refund(refund_code=refund_code, now=now)
        raise
    except ProviderError as error:
        operations.refuse_refund(
            refund_code=refund_code,
            failure=error.words,
            charged_back=bool(error.facts.get("charged_back")),
            actor=actor,
            now=now,
        )
        raise


def outside_transaction() -> None:
    """Raise RuntimeError inside a transaction: a rollback would forget what the provider has done."""
    if connection.in_atomic_block:
        raise RuntimeError("the provider is never called inside a transaction")
