"""Staff give money back: what it would mean for everyone, the request within one's limit or for a second person, the
sending."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from fractions import Fraction
from typing import Final

from django.db import transaction

from backoffice.bookings import operations as bookings
from backoffice.bookings import queries as booking_queries
from backoffice.bookings.models import Booking
from backoffice.core.actor import Actor, system
from backoffice.core.errors import Conflict, Invalid, KeyReused, OverLimit, RefundTooLarge, Refused, StaleVersion
from backoffice.core.money import Money
from backoffice.jobs import queries as jobs
from backoffice.payments import operations as payments
from backoffice.payments import policies
from backoffice.payments import queries as payment_queries
from backoffice.payments.gateway import submit
from backoffice.payments.gateway.stripe import gateway
from backoffice.payments.models import ExtraCharge, Payment, Refund
from backoffice.payments.policies import PART_NAMES
from backoffice.payments.policies.seen import SeenRefund
from backoffice.payouts import operations as payouts
from backoffice.people import operations as people

# What a rule gives once a person's request has come to nothing; nobody asked for it, and it takes nobody's limit.
ACTOR: Final = system("refunds")


@dataclass(frozen=True, slots=True, kw_only=True)
class Give:
    """What one charge gives back: `amount` in its currency, made of `parts` and of what we bear (`share`) in the
    listing's. Without an instalment it is the payment of the booking."""

    charge: ExtraCharge | None
    amount: Money
    parts: policies.Parts
    share: Money
    lines: dict[str, Money]


@dataclass(frozen=True, slots=True, kw_only=True)
class Released:
    """What of a refund is taken from what was released already, and from us, in the currency in which the charge was settled
    and so released: the host then owes `host`; `platform` is of our revenue and what we bear, `tax` what the tax office no
    longer gets."""

    host: Money
    platform: Money
    tax: Money


@dataclass(frozen=True, slots=True, kw_only=True)
class RefundPreview:
    """What a refund would do. `amount` and `maximum` are in the charge's currency, the rest in the listing's.

    The guest receives `amount`; the host gives up `host`, we give up `platform` (our fees, and besides `borne`), the tax
    office `tax`: together `worth`, which is `amount` at the rate of the booking. What of these three was released already
    is `released`: in another currency where that release had to convert, at its rate; None where the host owes nothing of
    it. `lines` are those asked for with the taxes that follow them, `line_limits` the most of each; `gives` says through
    which charges it goes back, the last instalment that was paid first. `payment_version` goes back with the request, so
    that a change in between is noticed."""

    maximum: Money
    amount: Money
    guest: Money
    host: Money
    platform: Money
    borne: Money
    tax: Money
    released: Released | None
    parts: dict[str, Money]
    needs_second_person: bool
    payment_version: int
    lines: dict[str, Money]
    line_limits: dict[str, Money]
    gives: tuple[Give, ...]

    @property
    def worth(self) -> Money:
        return self.host + self.platform + self.tax


def check(*, booking: Booking, actor: Actor) -> None:
    """Raise, saying why and what to do, unless something of a booking can be refunded now by the actor; the console's button
    asks it too."""
    actor.must("refunds.request")
    bookings.not_for_oneself(booking=booking, actor=actor)
    payment = _captured_payment(booking)
    _something_left(_most(payment))


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
    most = _most(payment)
    gives, taken = _gives(payment, amount, bearer, lines or {})
    wanted = _total(give.amount for give in gives)
    parts, share = _whole(gives)
    return RefundPreview(
        maximum=most.charged,
        amount=wanted,
        guest=wanted,
        host=parts.held,
        platform=parts.host_fee + parts.guest_fee + share,
        borne=share,
        tax=parts.vat + parts.occupancy_tax,
        released=released(
            payment=payment, gives=[(give.amount, give.parts, give.share) for give in gives], on=now.date()
        ),
        parts=dict(zip(PART_NAMES, parts.amounts, strict=True)),
        needs_second_person=not _within(actor, wanted, now),
        payment_version=payment.version,
        lines=taken,
        line_limits=payment_queries.line_limits(payment=payment),
        gives=gives,
    )


def released(*, payment: Payment, gives: Iterable[tuple[Money, policies.Parts, Money]], on: date) -> Released | None:
    """What refunds approved on that day would take from what was released; each is its amount, the parts it gives back and
    what we bear. None where the host owes nothing of it and nothing was converted."""
    origins = payment_queries.refund_origins(payment=payment, gives=gives, on=on)
    taken = [origin for origin in origins if origin.released.total or origin.share]
    if not taken:
        return None
    parts, share = taken[0].released, taken[0].share
    for origin in taken[1:]:
        parts, share = parts + origin.released, share + origin.share
    if not parts.held and parts.currency == payment.booking.currency:
        return None
    return Released(
        host=parts.held, platform=parts.host_fee + parts.guest_fee + share, tax=parts.vat + parts.occupancy_tax
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
    """Refund part or all of a booking: an `amount`, or `lines` whose preview said that amount. Each charge that gives some
    of it back has a refund of its own; the first is returned, the others are part of it and decided with it.

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
        payment = payments.lock_payment(booking=_captured_payment(booking).booking)
        repeated = payment.refunds.filter(idempotency_key=idempotency_key, by_rule=False, part_of=None).first()
        if repeated is not None:
            return _same(repeated, amount=amount, cause=cause, bearer=bearer)
        if payment.version != version:
            raise StaleVersion(kind="payment")
        gives, _ = _gives(payment, amount, bearer, lines or {})
        approved, first = _within(actor, amount, now), None
        for number, give in enumerate(gives):
            made = payments.open_refund(
                payment=payment,
                charge=give.charge,
                part_of=first,
                lines={name: money.amount for name, money in give.lines.items()},
                amount=give.amount,
                parts=give.parts,
                platform_share=give.share,
                cause=cause,
                bearer=bearer,
                reason=reason,
                idempotency_key=f"{idempotency_key}:{number + 1}" if number else idempotency_key,
                approved=approved,
                actor=actor,
                now=now,
            )
            first = first or made
        assert first is not None  # an amount above zero comes from somewhere
        payouts.schedule(booking=booking, now=now)  # what goes back to the guest is not sent to the host
        return first


def asked_before(
    *,
    booking_code: str,
    amount: Money | None,
    cause: str,
    bearer: str,
    idempotency_key: str,
    actor: Actor,
    lines: Mapping[str, Money] | None = None,
) -> Refund | None:
    """What was asked for under a key already: doors that preview before they ask look here first, since what went back is
    not there to be previewed again. `amount` None, without lines, was all that was left.

    Raises KeyReused when it was something else, NotFound."""
    actor.must("refunds.request")
    booking = booking_queries.booking(code=booking_code, actor=actor)
    earlier = payment_queries.refund_asked(key=idempotency_key)
    if earlier is None:
        return None
    together = payment_queries.asked_together(refund=earlier)
    whole = _total(Money(row.amount, row.currency) for row in together)
    named = {name: sum(row.lines.get(name, 0) for row in together) for name in lines or {}}
    if earlier.payment.booking_id != booking.pk or named != {name: line.amount for name, line in (lines or {}).items()}:
        raise KeyReused(key=idempotency_key)
    return _same(earlier, amount=whole if amount is None else amount, cause=cause, bearer=bearer)


def approve(*, refund_code: str, version: int, actor: Actor, now: datetime) -> Refund:
    """A second person's yes; the money leaves after the commit."""
    with transaction.atomic():
        refund = payments.approve_refund(refund_code=refund_code, version=version, actor=actor, now=now)
        payouts.schedule(booking=refund.payment.booking, now=now)
    return refund


def reject(*, refund_code: str, reason: str, version: int, actor: Actor, now: datetime) -> Refund:
    """A second person's no. Of a stay that was cancelled meanwhile the guest then gets what the cancellation gives without
    it."""
    with transaction.atomic():
        refund = payments.reject_refund(refund_code=refund_code, reason=reason, version=version, actor=actor, now=now)
        return _came_to_nothing(refund, now)


def cancel(*, refund_code: str, version: int, actor: Actor, now: datetime) -> Refund:
    """The maker takes back a refund that still waits; what a cancellation meanwhile gives the guest goes as after `reject`."""
    with transaction.atomic():
        refund = payments.cancel_refund(refund_code=refund_code, version=version, actor=actor, now=now)
        return _came_to_nothing(refund, now)


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
            return record(refund_code=refund_code, seen=found, actor=actor, now=now)
    seen = submit.refund(refund_code=refund_code, gateway=gateway(), actor=actor, now=now)
    if seen is None:
        return None
    return record(refund_code=refund_code, seen=seen, actor=actor, now=now)


def record(*, refund_code: str, seen: SeenRefund, actor: Actor, now: datetime) -> Refund:
    """Take over what the provider shows of a refund, whoever brings it; of a stay that was cancelled meanwhile, what is ours
    then."""
    with transaction.atomic():
        refund = payments.record_refund(refund_code=refund_code, seen=seen, actor=actor, now=now)
        payments.recoup(payment=refund.payment, actor=ACTOR, now=now)
        return refund


def ask(*, refund_code: str, actor: Actor, now: datetime) -> Refund | None:
    """Ask the provider how a refund that it has is getting on; None when it has not seen it."""
    refund = payment_queries.refund(code=refund_code)
    if refund.provider_id is None:
        # The process died between claiming and recording: sending again with the same key is harmless.
        payments.lose_sight_of_refund(refund_code=refund_code, now=now)
        return send(refund_code=refund_code, actor=actor, now=now)
    seen = gateway().refund_state(refund_id=refund.provider_id)
    return record(refund_code=refund_code, seen=seen, actor=actor, now=now)


def _came_to_nothing(refund: Refund, now: datetime) -> Refund:
    for each in payment_queries.asked_together(refund=refund):
        each.payment = refund.payment  # locked, with its booking
        payments.give_as_cancelled(refund=each, actor=ACTOR, now=now)
    payments.recoup(payment=refund.payment, actor=ACTOR, now=now)
    payouts.schedule(booking=refund.payment.booking, now=now)
    return refund


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


def _most(payment: Payment) -> policies.RefundLimits:
    """The most that can go back of all that was paid. Raises Conflict, saying why, where a card network has the money."""
    most = policies.most_of([source.limits for source in payment_queries.refund_sources(payment=payment)])
    if not most.charged:
        payment_queries.assert_refundable(payment=payment)
    return most


def _something_left(most: policies.RefundLimits) -> None:
    if not most.charged:
        raise Conflict("All that was paid has gone back already, or is on its way: see its refunds.")


def _gives(
    payment: Payment, amount: Money | None, bearer: str, lines: Mapping[str, Money]
) -> tuple[tuple[Give, ...], dict[str, Money]]:
    """Which charges give how much of an amount (charge's currency; None: all that is left), or of lines, for which an
    amount must be what they come to; and the lines with the taxes that follow them."""
    sources, most = payment_queries.refund_sources(payment=payment), _most(payment)
    limits = [source.limits for source in sources]
    ours = bearer == "platform"
    taken: dict[str, Money] = {}
    if amount is not None and amount.currency != payment.currency:
        raise Invalid(f"amount: this booking was charged in {payment.currency}.", field="amount")
    if lines:
        taken = _with_taxes(payment, most, lines)
        portions = _of_lines(payment, most, limits, taken)
        wanted = _total(portion.amount for portion in portions)
        if amount is not None and amount != wanted:
            raise Invalid(f"amount: these lines come to {wanted}; look at the preview again.", field="amount")
    else:
        if amount is None:
            _something_left(most)
        wanted = most.charged if amount is None else amount
    if wanted.amount <= 0:
        raise Invalid("amount: must be above zero.", field="amount")
    if wanted > most.charged:
        raise RefundTooLarge(maximum=str(most.charged), amount=str(wanted))
    if ours or not lines:
        portions = policies.spread_amount(limits=limits, amount=wanted, borne_by_us=ours)
    weights = [portion.amount.amount for portion in portions]
    shares = _share(payment, wanted, ours).allocate(weights)
    named = policies.spread_lines(lines=taken, portions=portions)
    found = zip(sources, portions, shares, named, strict=True)
    return tuple(
        Give(charge=source.charge, amount=portion.amount, parts=portion.parts, share=share, lines=given)
        for source, portion, share, given in found
        if portion.amount
    ), taken


def _with_taxes(payment: Payment, most: policies.RefundLimits, lines: Mapping[str, Money]) -> dict[str, Money]:
    limits = payment_queries.line_limits(payment=payment)
    policies.parts_of_lines(remaining=most.parts, lines=lines, limits=limits)  # raises for what cannot be
    return policies.with_taxes(price=payment_queries.price_of(payment=payment), lines=lines, limits=limits)


def _of_lines(
    payment: Payment, most: policies.RefundLimits, limits: list[policies.RefundLimits], lines: Mapping[str, Money]
) -> tuple[policies.Portion, ...]:
    """What each charge gives of lines, whole or not at all: an earlier refund that we bore may have left less of a charge
    than of what it was for."""
    parts = policies.parts_of_lines(
        remaining=most.parts, lines=lines, limits=payment_queries.line_limits(payment=payment)
    )
    portions = policies.spread_parts(limits=limits, parts=parts)
    if _total(portion.parts.total for portion in portions) != parts.total:
        raise RefundTooLarge(maximum=str(most.charged), amount=str(most.in_charge(amount=parts.total)))
    return portions


def _share(payment: Payment, amount: Money, ours: bool) -> Money:
    """What we bear of an amount (charge's currency), in the booking's currency: all of it or nothing."""
    booking = payment.booking
    if not ours:
        return Money.zero(booking.currency)
    if amount.currency == booking.currency:
        return amount
    return Money(booking.total, booking.currency).share(Fraction(amount.amount, booking.charge_total))


def _whole(gives: tuple[Give, ...]) -> tuple[policies.Parts, Money]:
    first, *others = gives
    parts, share = first.parts, first.share
    for give in others:
        parts, share = parts + give.parts, share + give.share
    return parts, share


def _total(amounts: Iterable[Money]) -> Money:
    first, *others = amounts
    return Money.sum([first, *others], first.currency)


def _same(earlier: Refund, *, amount: Money, cause: str, bearer: str) -> Refund:
    """The repeat of a request is answered with its first outcome; another request under its key is refused."""
    together = payment_queries.asked_together(refund=earlier)
    whole = _total(Money(row.amount, row.currency) for row in together)
    if (whole, earlier.cause, earlier.bearer) != (amount, cause, bearer):
        raise KeyReused(key=earlier.idempotency_key)
    return earlier
