"""Cancelling a stay: first what it would mean, to the cent and with its rules; then exactly that, or a refusal."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from django.core import signing
from django.db import transaction

from backoffice.audit import operations as audit
from backoffice.bookings import operations as bookings
from backoffice.bookings import queries as booking_queries
from backoffice.bookings.models import Booking
from backoffice.bookings.policies import (
    CancellationDecision,
    HostPenalty,
    HostPenaltyFacts,
    Override,
    decide_cancellation,
    decide_host_penalty,
)
from backoffice.bookings.states import BOOKING
from backoffice.core.actor import Actor
from backoffice.core.errors import Conflict, Invalid, NotFound, OverLimit, Refused, StaleVersion
from backoffice.core.money import Money
from backoffice.core.stays import Stay
from backoffice.ledger import operations as ledger
from backoffice.notifications import operations as notifications
from backoffice.payments import operations as payments
from backoffice.payments import policies as payment_policies
from backoffice.payments import queries as payment_queries
from backoffice.payments.models import ExtraCharge, Payment
from backoffice.payouts import operations as payouts
from backoffice.people import operations as people
from backoffice.rulebook import queries as rulebook

GOOD_FOR: Final = timedelta(minutes=15)
_SALT: Final = "cancellation"


@dataclass(frozen=True, slots=True, kw_only=True)
class Give:
    """What one charge gives back: `refund` in its currency, made of `parts` in the listing's. Without an instalment it is
    the payment of the booking."""

    charge: ExtraCharge | None
    refund: Money
    parts: payment_policies.Parts


@dataclass(frozen=True, slots=True, kw_only=True)
class CancellationPreview:
    """What cancelling now would mean. `refund` is what the guest gets, in the currency they paid, `refund_later` what goes
    back by itself once no card network holds it, and `refund_asked` what of this cancellation is covered by
    refunds that people asked for before: it goes back by itself where they come to nothing. `host_keeps` (before the host
    fee), `recouped` (what the guest had from us before, and so is ours), `penalty` and the lines are in the listing's. `token`
    confirms exactly this, until `expires_at`."""

    booking: str
    by: str
    decision: CancellationDecision | None
    refund: Money
    refund_later: Money
    refund_asked: Money
    host_keeps: Money
    recouped: Money
    penalty: Money | None
    parts: payment_policies.Parts
    gives: tuple[Give, ...]
    later: tuple[Give, ...]
    stored: dict[str, Any]
    token: str
    expires_at: datetime

    def as_dict(self) -> dict[str, Any]:
        """JSON for doors: amounts as {amount, currency}."""
        return {
            "booking": self.booking,
            "by": self.by,
            "refund": _json(self.refund),
            "refund_later": _json(self.refund_later),
            "refund_asked": _json(self.refund_asked),
            "host_keeps": _json(self.host_keeps),
            "penalty": _json(self.penalty) if self.penalty is not None else None,
            "parts": {part: _json(Money(amount, self.parts.currency)) for part, amount in self.parts.as_dict().items()},
            "decision": self.stored,
            "token": self.token,
            "expires_at": self.expires_at.isoformat(),
        }


def preview(*, booking_code: str, actor: Actor, now: datetime, on_behalf_of: str = "") -> CancellationPreview:
    """What cancelling this booking now would mean for guest, host and us.

    Staff say `on_behalf_of` guest or host (guest unless said). Raises NotFound for another's booking, IllegalTransition
    when it can no longer be cancelled."""
    booking = booking_queries.booking(code=booking_code, actor=actor)
    return _preview(booking, _side(booking, actor, on_behalf_of), actor, now)


def confirm(*, booking_code: str, token: str, reason: str, actor: Actor, now: datetime) -> Booking:
    """Cancel on the terms of a preview: the decision is stored, the refund approved and posted, a host's penalty booked,
    the nights freed (or kept blocked when the host cancelled). What a card network holds of a stay that its host cancels goes
    back by itself once it holds it no more.

    Raises StaleVersion when the terms have changed since the preview or it has expired, Refused without a reason from
    staff or hosts."""
    promised = _read(token, booking_code, now)
    with transaction.atomic():
        if actor.kind == "staff":
            people.lock_person(person_id=actor.id)  # what a person refunds in a day is counted one act at a time
        # Guest, host and staff may cancel at the same moment, or a payment arrive: one of them is first, here.
        booking = bookings.lock(code=booking_code)
        if actor.kind in {"guest", "host"} and actor.id not in {booking.guest_id, booking.host_id}:
            raise NotFound(kind="booking")
        side = _side(booking, actor, promised["by"])
        if side != promised["by"]:
            raise Invalid("token: it is for the other side of this booking.", field="token")
        if (actor.kind == "staff" or side == "host") and not reason.strip():
            raise Refused(missing="a reason")
        terms = _preview(booking, side, actor, now)
        if _terms(terms, booking) != promised["terms"]:
            raise StaleVersion("What this cancellation means has changed since you looked; look again.", kind="booking")
        _must(actor, terms, now)
        return _carry_out(booking, terms, actor.because(reason), now)


def _preview(booking: Booking, by: str, actor: Actor, now: datetime) -> CancellationPreview:
    BOOKING.after(booking.status, "cancel")  # raises when it is too late
    payments.not_while_captured(booking=booking)
    if by == "host" and booking.status == "requested":
        raise Conflict("This guest is waiting for your answer: decline the request instead.")
    payment = payment_queries.payment_of(booking=booking)
    asked, ours = Money.zero(booking.charge_currency), Money.zero(booking.currency)
    decision: CancellationDecision | None = None
    penalty: HostPenalty | None = None
    gives: tuple[Give, ...] = ()
    later: tuple[Give, ...] = ()
    host_keeps = Money.zero(booking.currency)
    stored: dict[str, Any] = {"rule": "unpaid", "basis": "nothing has been paid", "trace": []}
    if payment is not None and payment.status == "captured":
        override = Override(kind="host_cancel", basis="the host cancelled") if by == "host" else None
        decision = decide_cancellation(
            facts=booking_queries.cancellation_facts(booking=booking, now=now, override=override), now=now
        )
        stored = decision.as_dict()
        held = _held_by_networks(payment)
        sources = held or payment_queries.refund_sources(payment=payment)
        taken, given = _taken(sources, booking, decision)
        gives, later = ((), given) if held else (given, ())
        host_keeps = _host_keeps(sources, taken, booking, decision)
        due, most = taken, given  # if nothing comes of what people asked for before
        if not held and payment_queries.is_asked_back(payment=payment):
            due, most = _taken(payment_queries.refund_sources(payment=payment, unless_asked=True), booking, decision)
            asked = max(_total(most, booking) - _total(given, booking), asked)
            stored["asked"] = _json(asked)
        ours = due.minus(_parts(most, booking)).total
        # What is taken beyond what the guest gets is theirs if requests come to nothing, else ours (operations.owed).
        if due != _parts(given, booking):
            stored["due"] = due.as_dict()
    if by == "host" and booking.confirmed_at is not None:  # also where the guest's card was to be charged later
        penalty = _penalty(booking, now)
        stored = {**stored, "penalty": penalty.trace}
    preview = CancellationPreview(
        booking=booking.code,
        by=by,
        decision=decision,
        refund=_total(gives, booking),
        refund_later=_total(later, booking),
        refund_asked=asked,
        host_keeps=host_keeps,
        penalty=penalty.amount if penalty is not None else None,
        recouped=ours,
        parts=_parts(gives, booking),
        gives=gives,
        later=later,
        stored=stored,
        token="",
        expires_at=now + GOOD_FOR,
    )
    token = signing.dumps(
        {
            "booking": booking.code,
            "by": by,
            "terms": _terms(preview, booking),
            "until": preview.expires_at.timestamp(),
        },
        salt=_SALT,
        compress=True,
    )
    return CancellationPreview(
        **{name: getattr(preview, name) for name in preview.__dataclass_fields__ if name != "token"}, token=token
    )


def _taken(
    sources: list[payment_queries.RefundSource], booking: Booking, decision: CancellationDecision
) -> tuple[payment_policies.Parts, tuple[Give, ...]]:
    """The decision in the parts of what was captured, never more than these charges have left of each after earlier refunds, and
    what each of them gives the guest: less, where an earlier refund that we bore left less of a charge than of its parts.

    Of a long stay the instalments that are still to come are given up first; what they do not cover goes back from the
    last one that was paid, then from the one before. What the policy keeps beyond that is not charged any more."""
    to_come = payment_queries.parts_to_come(booking=booking)
    taken = payment_policies.parts_of_cancellation(remaining=_left(sources) + to_come, decision=decision).minus(to_come)
    portions = payment_policies.spread_parts(limits=[source.limits for source in sources], parts=taken)
    return taken, tuple(
        Give(charge=source.charge, refund=portion.amount, parts=portion.parts)
        for source, portion in zip(sources, portions, strict=True)
        if portion.amount
    )


def _host_keeps(
    sources: list[payment_queries.RefundSource],
    taken: payment_policies.Parts,
    booking: Booking,
    decision: CancellationDecision,
) -> Money:
    """What the decision leaves the host, before the host fee: of a long stay no more than was paid."""
    if len(sources) == 1 and not payment_queries.parts_to_come(booking=booking).total:
        return decision.host_keeps
    kept = _left(sources).minus(taken)
    return min(decision.host_keeps, kept.held + kept.host_fee)


def _left(sources: list[payment_queries.RefundSource]) -> payment_policies.Parts:
    return payment_policies.most_of([source.limits for source in sources]).parts


def _total(gives: tuple[Give, ...], booking: Booking) -> Money:
    return Money.sum((give.refund for give in gives), booking.charge_currency)


def _parts(gives: tuple[Give, ...], booking: Booking) -> payment_policies.Parts:
    return sum((give.parts for give in gives), payment_policies.Parts.none(booking.currency))


def _held_by_networks(payment: Payment) -> list[payment_queries.RefundSource]:
    """The charges that no refund can go through while a chargeback of the booking is open, and what refunds have left of each;
    not those that a network has given to the guest."""
    found = []
    for source in payment_queries.refund_sources(payment=payment):
        charge_id = (source.charge.charge_id or "") if source.charge is not None else ""
        keeping = [row.status for row in payment_queries.blocking_chargebacks(payment=payment, charge_id=charge_id)]
        if keeping and "lost" not in keeping:
            left = payment_queries.left_of(payment=payment, charge=source.charge)
            found.append(payment_queries.RefundSource(charge=source.charge, limits=left))
    return found


def _penalty(booking: Booking, now: datetime) -> HostPenalty:
    policy = rulebook.host_penalty(on=now.date())
    return decide_host_penalty(
        facts=HostPenaltyFacts(
            policy=policy,
            host_price=Money(booking.host_price, booking.currency),
            stay=Stay(booking.check_in, booking.check_out),
            check_in_time=booking.check_in_time,
            time_zone=booking.time_zone,
            rate=rulebook.rate(base=policy.rules.floor.currency, quote=booking.currency, on=now.date()),
        ),
        now=now,
    )


def _carry_out(booking: Booking, terms: CancellationPreview, actor: Actor, now: datetime) -> Booking:
    payment = payment_queries.payment_of(booking=booking)
    bookings.end_by_cancellation(
        booking=booking,
        by="staff" if actor.kind == "staff" else terms.by,
        decision=terms.stored,
        block_nights=terms.by == "host",
        actor=actor,
        now=now,
    )
    payments.cancel_instalments(booking=booking, actor=actor, now=now)
    payments.let_go(booking=booking, now=now)
    if payment is not None and (terms.gives or terms.later):
        payment, cause = payments.lock_payment(booking=booking), f"{terms.by}_cancellation"
        for give in terms.gives:
            payments.open_refund(
                payment=payment,
                charge=give.charge,
                amount=give.refund,
                parts=give.parts,
                platform_share=Money.zero(booking.currency),
                cause=cause,
                bearer="host",
                reason=actor.reason,
                idempotency_key=_key(booking, give),
                approved=True,
                by_rule=True,
                actor=actor,
                now=now,
            )
        for give in terms.later:
            payments.give_back_when_free(
                payment=payment,
                charge=give.charge,
                amount=give.refund,
                parts=give.parts,
                cause=cause,
                key=_key(booking, give),
                reason=actor.reason,
                actor=actor,
                now=now,
            )
    if payment is not None:
        payments.recoup(payment=payment, actor=actor, now=now)
    payouts.schedule(booking=booking, now=now)  # what the stay leaves to its host
    if terms.penalty:
        _book_penalty(booking, terms.penalty, actor, now)
    for person in (booking.guest, booking.host):
        notifications.tell(
            topic="booking_cancelled",
            recipient_id=person.id,
            address=person.email,
            context={
                **bookings.facts_to_tell(booking),
                "name": person.first_name,
                "by": terms.by,
                "refund": (terms.refund + terms.refund_later + terms.refund_asked).format(),
            },
            now=now,
        )
    return booking


def _key(booking: Booking, give: Give) -> str:
    return f"cancel:{booking.code}" + (f":{give.charge.number}" if give.charge else "")


def _book_penalty(booking: Booking, penalty: Money, actor: Actor, now: datetime) -> None:
    ledger.post(
        key=f"penalty:{booking.code}",
        kind="penalty",
        lines=payment_policies.penalised(host=booking.host.code, amount=penalty),
        subject=booking.code,
        effective_at=now,
        actor=actor,
        now=now,
    )
    audit.record(
        actor=actor,
        verb="bookings.penalise_host",
        kind="booking",
        id=booking.code,
        after={"penalty": penalty.amount, "currency": penalty.currency, "host": booking.host.code},
        now=now,
    )


def _side(booking: Booking, actor: Actor, on_behalf_of: str) -> str:
    """For whom the actor cancels; a guest and a host can only be themselves, and staff never are."""
    actor.must("bookings.cancel")
    if actor.kind in {"guest", "host"}:
        return "guest" if actor.id == booking.guest_id else "host"
    bookings.not_for_oneself(booking=booking, actor=actor)
    if on_behalf_of not in {"", "guest", "host"}:
        raise Invalid("on_behalf_of: write guest or host.", field="on_behalf_of")
    return on_behalf_of or "guest"


def _must(actor: Actor, terms: CancellationPreview, now: datetime) -> None:
    """Staff who cancel cause a refund by policy: above their own limit they may not (DOMAIN.md, roles)."""
    caused = terms.refund + terms.refund_later + terms.refund_asked
    if actor.kind != "staff" or not caused:
        return
    used = payment_queries.refunded_today(person_id=actor.id or 0, currency=caused.currency, now=now)
    try:
        actor.must("refunds.request", amount=caused, used_today=used)
    except OverLimit as error:
        raise OverLimit(
            f"Cancelling refunds {caused}, over your limit of {error.facts['limit']}; a colleague with a higher "
            "limit must cancel this booking.",
            **error.facts,
        ) from None


def _terms(preview: CancellationPreview, booking: Booking) -> list[Any]:
    """What a person agreed to: the status and every amount."""
    return [
        booking.status,
        preview.refund.amount,
        preview.refund_later.amount,
        preview.refund_asked.amount,
        preview.host_keeps.amount,
        preview.penalty.amount if preview.penalty is not None else 0,
        preview.parts.as_dict(),
    ]


def _read(token: str, booking_code: str, now: datetime) -> dict[str, Any]:
    try:
        promised: dict[str, Any] = signing.loads(token, salt=_SALT)
    except signing.BadSignature:
        raise Invalid("token: ask for a new cancellation quote.", field="token") from None
    if promised["booking"] != booking_code:
        raise Invalid("token: it is for another booking.", field="token")
    if now.timestamp() > promised["until"]:
        raise StaleVersion("This cancellation quote has expired; look again.", kind="booking")
    return promised


def _json(money: Money) -> dict[str, Any]:
    return {"amount": money.amount, "currency": money.currency}
