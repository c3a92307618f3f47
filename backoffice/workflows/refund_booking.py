"""Staff give money back: what it would mean for everyone, the request within one's limit or for a second person, the
sending."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction

from django.db import transaction

from backoffice.bookings import operations as bookings
from backoffice.bookings import queries as booking_queries
from backoffice.bookings.models import Booking
from backoffice.core.actor import Actor
from backoffice.core.errors import Conflict, Invalid, KeyReused, OverLimit, RefundTooLarge, Refused, StaleVersion
from backoffice.core.money import Money
from backoffice.jobs import queries as jobs
from backoffice.payments import operations as payments
from backoffice.payments import policies
from backoffice.payments import queries as payment_queries
from backoffice.payments.gateway import submit
from backoffice.payments.gateway.stripe import gateway
from backoffice.payments.models import Payment, Refund
from backoffice.payments.policies import PART_NAMES
from backoffice.payouts import operations as payouts
from backoffice.people import operations as people


@dataclass(frozen=True, slots=True, kw_only=True)
class RefundPreview:
    """What a refund would do. `amount` and `maximum` are in the charge's currency, the rest in the listing's.

    The guest receives `amount`; the host gives up `host`, we give up `platform` (fees, and what we bear ourselves), the tax
    office `tax`. `lines` are those asked for with the taxes that follow them, `line_limits` the most of each.
    `payment_version` goes back with the request, so that a change in between is noticed."""

    maximum: Money
    amount: Money
    guest: Money
    host: Money
    platform: Money
    tax: Money
    parts: dict[str, Money]
    needs_second_person: bool
    payment_version: int
    lines: dict[str, Money]
    line_limits: dict[str, Money]


def preview(
    *,
    booking_code: str,
    amount: Money | None,
    cause: str,
    bearer: str,
    actor: Actor,
    now: datetime,
    lines: Mapping[str, Money] | None = None,
) -> RefundPreview:
    """What a refund of `amount` (None: all that is left), or of these `lines`, would mean: the one object that every door
    shows. Raises what `request` would raise for the amount."""
    actor.must("refunds.request")
    booking = booking_queries.booking(code=booking_code, actor=actor)
    bookings.not_for_oneself(booking=booking, actor=actor)
    payment = _captured_payment(booking)
    payment_queries.assert_refundable(payment=payment)
    limits = payment_queries.refund_limits(payment=payment)
    wanted = limits.charged if amount is None else amount
    taken: dict[str, Money] = {}
    if lines:
        wanted, taken = _of_lines(payment, lines)
    parts, platform_share = _shares(payment, wanted, bearer, taken)
    return RefundPreview(
        maximum=limits.charged,
        amount=wanted,
        guest=wanted,
        host=parts.held,
        platform=parts.host_fee + parts.guest_fee + platform_share,
        tax=parts.vat + parts.occupancy_tax,
        parts=dict(zip(PART_NAMES, parts.amounts, strict=True)),
        needs_second_person=not _within(actor, wanted, now),
        payment_version=payment.version,
        lines=taken,
        line_limits=payment_queries.line_limits(payment=payment),
    )


def request(
    *,
    booking_code: str,
    amount: Money,
    cause: str,
    bearer: str,
    reason: str,
    idempotency_key: str,
    version: int,
    actor: Actor,
    now: datetime,
    lines: Mapping[str, Money] | None = None,
) -> Refund:
    """Refund part or all of a booking: an `amount`, or `lines` whose preview said that amount.

    Within the actor's limits it is approved and sent; over them it waits for a second person (status requested). The same
    key again returns the same refund. Raises NotAllowed, Refused without a reason, RefundTooLarge, StaleVersion when the
    payment changed since it was shown, KeyReused, Stopped, Conflict while a card network holds the money."""
    actor.must("refunds.request")
    jobs.assert_not_stopped(scope="refunds")
    if not reason.strip():
        raise Refused(missing="a reason")
    with transaction.atomic():
        # One person on two pages at once: the second refund sees what the first took of the day's limit.
        people.lock_person(person_id=actor.id)
        # Two members of staff at once: the second waits here and finds the version moved on.
        booking = bookings.lock(code=booking_code)
        bookings.not_for_oneself(booking=booking, actor=actor)
        payment = _captured_payment(booking)
        payment = payments.lock_payment(payment_id=payment.id)
        payment.booking = booking
        repeated = payment.refunds.filter(idempotency_key=idempotency_key).first()
        if repeated is not None:
            return _same(repeated, amount=amount, cause=cause, bearer=bearer)
        if payment.version != version:
            raise StaleVersion(kind="payment")
        payment_queries.assert_refundable(payment=payment)
        taken: dict[str, Money] = {}
        if lines:
            wanted, taken = _of_lines(payment, lines)
            if wanted != amount:
                raise Invalid(f"amount: these lines come to {wanted}; look at the preview again.", field="amount")
        parts, platform_share = _shares(payment, amount, bearer, taken)
        made = payments.open_refund(
            payment=payment,
            lines={name: money.amount for name, money in taken.items()},
            amount=amount,
            parts=parts,
            platform_share=platform_share,
            cause=cause,
            bearer=bearer,
            reason=reason,
            idempotency_key=idempotency_key,
            approved=_within(actor, amount, now),
            actor=actor,
            now=now,
        )
        payouts.schedule(booking=booking, now=now)  # what goes back to the guest is not sent to the host
        return made


def approve(*, refund_code: str, version: int, actor: Actor, now: datetime) -> Refund:
    """A second person's yes; the money leaves after the commit."""
    with transaction.atomic():
        refund = payments.approve_refund(refund_code=refund_code, version=version, actor=actor, now=now)
        payouts.schedule(booking=refund.payment.booking, now=now)
    return refund


def reject(*, refund_code: str, reason: str, version: int, actor: Actor, now: datetime) -> Refund:
    """A second person's no."""
    return payments.reject_refund(refund_code=refund_code, reason=reason, version=version, actor=actor, now=now)


def cancel(*, refund_code: str, version: int, actor: Actor, now: datetime) -> Refund:
    """The maker takes back a refund that still waits."""
    return payments.cancel_refund(refund_code=refund_code, version=version, actor=actor, now=now)


def send(*, refund_code: str, actor: Actor, now: datetime) -> Refund | None:
    """Send an approved refund to the provider and take over its answer; None when another is at it.

    While refunds are stopped an approved one waits for the sweep (raises Stopped). One whose answer was lost is looked for
    first: the provider may have saved a failure under the key while the refund was
    made all the same. Raises Indeterminate when it is not known yet: the sweep asks again."""
    refund = payment_queries.refund(code=refund_code)
    if refund.status == "approved":
        jobs.assert_not_stopped(scope="refunds")
    if refund.status == "indeterminate":
        found = gateway().find_refund(charge_id=payment_queries.charge_of(refund=refund), reference=refund_code)
        if found is not None:
            return payments.record_refund(refund_code=refund_code, seen=found, actor=actor, now=now)
    seen = submit.refund(refund_code=refund_code, gateway=gateway(), actor=actor, now=now)
    if seen is None:
        return None
    return payments.record_refund(refund_code=refund_code, seen=seen, actor=actor, now=now)


def ask(*, refund_code: str, actor: Actor, now: datetime) -> Refund | None:
    """Ask the provider how a refund that it has is getting on; None when it has not seen it."""
    refund = payment_queries.refund(code=refund_code)
    if refund.provider_id is None:
        # The process died between claiming and recording: sending again with the same key is harmless.
        payments.lose_sight_of_refund(refund_code=refund_code, now=now)
        return send(refund_code=refund_code, actor=actor, now=now)
    seen = gateway().refund_state(refund_id=refund.provider_id)
    return payments.record_refund(refund_code=refund_code, seen=seen, actor=actor, now=now)


def _captured_payment(booking: Booking) -> Payment:
    payment = payment_queries.payment_of(booking=booking)
    if payment is None or payment.status != "captured":
        raise Conflict("Nothing has been paid for this booking; there is nothing to refund.")
    return payment


def _within(actor: Actor, amount: Money, now: datetime) -> bool:
    used = (
        payment_queries.refunded_today(person_id=actor.id, currency=amount.currency, now=now)
        if actor.id is not None
        else 0
    )
    try:
        actor.must("refunds.request", amount=amount, used_today=used)
    except OverLimit:
        return False
    return True


def _of_lines(payment: Payment, lines: Mapping[str, Money]) -> tuple[Money, dict[str, Money]]:
    """Lines with the taxes that follow them, and what they come to in the charge's currency."""
    limits = payment_queries.refund_limits(payment=payment)
    most = payment_queries.line_limits(payment=payment)
    policies.parts_of_lines(remaining=limits.parts, lines=lines, limits=most)  # raises for what cannot be
    taken = policies.with_taxes(price=payment_queries.price_of(payment=payment), lines=lines, limits=most)
    return limits.in_charge(amount=Money.sum(taken.values(), payment.booking.currency)), taken


def _shares(payment: Payment, amount: Money, bearer: str, lines: Mapping[str, Money]) -> tuple[policies.Parts, Money]:
    """Who gives what of an amount (charge's currency), in the booking's currency: from the lines that were named, else pro
    rata from what is left of each part (worked posting B), or all of it ours when the platform bears it."""
    if amount.currency != payment.currency:
        raise Invalid(f"amount: this booking was charged in {payment.currency}.", field="amount")
    limits = payment_queries.refund_limits(payment=payment)
    if amount.amount <= 0:
        raise Invalid("amount: must be above zero.", field="amount")
    if amount > limits.charged:
        raise RefundTooLarge(maximum=str(limits.charged), amount=str(amount))
    currency = payment.booking.currency
    if bearer == "platform":
        whole = Money(payment.booking.total, currency)
        share = amount if amount.currency == currency else whole.share(Fraction(amount.amount, payment.amount))
        return policies.Parts.none(currency), share
    if lines:
        most = payment_queries.line_limits(payment=payment)
        return policies.parts_of_lines(remaining=limits.parts, lines=lines, limits=most), Money.zero(currency)
    return policies.pro_rata(remaining=limits.parts, amount=limits.from_charge(amount=amount)), Money.zero(currency)


def _same(earlier: Refund, *, amount: Money, cause: str, bearer: str) -> Refund:
    """The repeat of a request is answered with its first outcome; another request under its key is refused."""
    if (Money(earlier.amount, earlier.currency), earlier.cause, earlier.bearer) != (amount, cause, bearer):
        raise KeyReused(key=earlier.idempotency_key)
    return earlier
