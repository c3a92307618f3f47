"""Charges beside the payment of a booking are collected: from the saved card on their day, or paid by the guest with any
card; what comes too late goes back, and an instalment that does not come ends the stay."""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import partial
from typing import Final

from django.db import transaction

from backoffice.bookings import operations as bookings
from backoffice.core.actor import Actor, system
from backoffice.core.errors import Indeterminate, PaymentDeclined, ProviderError, UpstreamUnavailable
from backoffice.core.money import Money
from backoffice.jobs import operations as jobs
from backoffice.payments import operations as payments
from backoffice.payments import queries as payment_queries
from backoffice.payments.gateway import submit
from backoffice.payments.gateway.stripe import gateway
from backoffice.payments.models import ExtraCharge
from backoffice.payments.policies.charges import told_to_guest
from backoffice.payments.policies.seen import SeenPayment
from backoffice.payouts import operations as payouts
from backoffice.workflows import charge_later
from backoffice.workflows.pay_booking import CLOCKS_APART, GIVE_UP_AFTER, return_url
from backoffice.workflows.settle_payment import cancel_unpaid

ACTOR: Final = system("time")
LOST_AFTER: Final = timedelta(seconds=60)


def charge(*, charge_code: str, actor: Actor, now: datetime) -> ExtraCharge | None:
    """Charge the saved card what is due, and take over the answer; None when it is not due or somebody else is at it. A
    decline plans the next try and tells the guest. Raises as the gateway does."""
    known = payment_queries.extra_charge(code=charge_code)
    if known.status == "requires_action" and known.provider_id is not None:
        # The guest may have answered their bank, and the news of it been lost.
        settle(seen=gateway().payment(payment_id=known.provider_id), actor=actor, now=now)
    claimed = payments.claim_charge(charge_code=charge_code, actor=actor, now=now)
    if claimed is None:
        return None
    _submit(claimed, actor, now)
    return payment_queries.extra_charge(code=charge_code)


def pay(*, charge_code: str, payment_method: str, actor: Actor, now: datetime) -> ExtraCharge:
    """The guest pays a charge with any card (none: with the saved one), present to prove who they are.

    Returns the charge: captured, or requires_action (send the guest to `next_action_url`). Raises PaymentDeclined,
    Conflict when there is nothing to pay, NotFound for another's, Indeterminate (the outcome follows by itself)."""
    payments.claim_charge(
        charge_code=charge_code, payment_method=payment_method, off_session=False, actor=actor, now=now
    )
    seen = _submit(payment_queries.extra_charge(code=charge_code), actor, now)
    if seen.status == "requires_payment":
        raise PaymentDeclined(decline_code=told_to_guest(decline_code=seen.error_code), charge=charge_code)
    return payment_queries.extra_charge(code=charge_code)


def settle(*, seen: SeenPayment, actor: Actor, now: datetime) -> ExtraCharge | None:
    """Take over the provider's present state of an extra charge, once and whole; None when it is not one of ours."""
    known = payment_queries.charge_seen(provider_id=seen.id, reference=seen.reference)
    if known is None:
        return None
    if (
        known.status in payments.UNDER_WAY
        and seen.status in {"requires_payment", "requires_action"}
        and known.tries > 1
    ):
        return (
            known  # perhaps of the try before: the answer under the present key is its own, and the sweep asks for it
        )
    _record(known, seen, actor, now)
    return payment_queries.extra_charge(code=known.code)


def resolve(*, charge_code: str, actor: Actor, now: datetime) -> SeenPayment | None:
    """Find out what became of a try whose answer was lost. Raises as the gateway does.

    The provider is asked what it has; only where it has nothing of this try is the call repeated, with the same key."""
    charge = payment_queries.extra_charge(code=charge_code)
    if charge.status not in payments.UNDER_WAY or charge.submitted_at is None:
        return None
    seen = _look_for(charge)
    wanted = payment_queries.is_wanted(charge=charge)
    if seen is None and not wanted:
        _refuse(charge, "The call was never carried out.", actor, now)
        return None
    if _is_open(seen, charge, wanted):
        try:
            return _submit(charge, actor, now, again=True)
        except Indeterminate as lost:
            # As with a payment: a failure that the provider keeps answering with, and nothing to be found of it even now.
            if not lost.facts.get("answered", False) or now - charge.submitted_at <= GIVE_UP_AFTER:
                raise
            seen = _look_for(charge)
            if _is_open(seen, charge, wanted):
                _refuse(charge, "The call was never carried out.", actor, now)
                raise
    assert seen is not None  # it would be open
    _record(charge, seen, actor, now)
    return seen


def _look_for(charge: ExtraCharge) -> SeenPayment | None:
    """What the provider shows of a charge that was submitted."""
    if charge.provider_id is not None:
        return gateway().payment(payment_id=charge.provider_id)
    assert charge.submitted_at is not None  # asked for by whoever resolves it
    return gateway().find_payment(reference=charge.code, since=charge.submitted_at - CLOCKS_APART)


def _is_open(seen: SeenPayment | None, charge: ExtraCharge, wanted: bool) -> bool:
    return seen is None or (wanted and charge.tries > 1 and seen.status in {"requires_payment", "requires_action"})


def run(*, now: datetime) -> int:
    """What is collected by itself: lost answers are asked for again, saved cards charged whose day has come, for a booking
    or beside its payment, and what was not paid by its last date given up; returns how many of these were done. Running it
    twice does no harm."""
    unanswered = resolve_unanswered(now=now)
    charged = charge_later.charge_due(now=now) + collect_due(now=now)
    return unanswered + charged + charge_later.give_up_unpaid(now=now) + give_up_unpaid(now=now)


def collect_due(*, now: datetime) -> int:
    """Charge everything that is due; returns how many were asked."""
    due = jobs.turn(ask=partial(payment_queries.charges_due, now=now), now=now)
    return sum(row is not None for row in jobs.each(due, lambda code: charge(charge_code=code, actor=ACTOR, now=now)))


def resolve_unanswered(*, now: datetime) -> int:
    """Ask again wherever the answer to a charge was lost; returns how many were settled."""
    lost = jobs.turn(ask=partial(payment_queries.charges_unanswered, older_than=now - LOST_AFTER), now=now)
    return sum(
        seen is not None for seen in jobs.each(lost, lambda code: resolve(charge_code=code, actor=ACTOR, now=now))
    )


def give_up_unpaid(*, now: datetime) -> int:
    """End the stays whose instalment was not paid by its last date; of one that is over the instalment is given up, there being
    no nights left to end. Returns how many. What was paid stays with its nights; damage stays open for a person to decide."""
    return sum(
        jobs.each(
            jobs.turn(ask=partial(payment_queries.charges_unpaid, now=now), now=now),
            lambda code: _give_up(code, now),
        )
    )


def _give_up(charge_code: str, now: datetime) -> bool:
    known = payment_queries.extra_charge(code=charge_code)
    with transaction.atomic():
        booking = bookings.lock(code=known.booking.code)  # the guest may be paying at this moment
        charge = payments.lock_charge(charge_code=charge_code)
        late = charge.pay_by is not None and charge.pay_by <= now
        if not late or charge.status not in {"failed", "requires_action"}:
            return False
        if booking.status == "completed":
            payments.give_up_instalment(charge=charge, actor=ACTOR, now=now)
            payouts.schedule(booking=booking, now=now)  # what was paid does not wait for it any more
            return True
        if booking.status not in {"confirmed", "checked_in"}:
            return False
        cancel_unpaid(
            booking=booking,
            amount=Money(charge.amount, charge.currency),
            pay_by=charge.pay_by or now,
            consequence="the nights that were paid stay as they are, those after them are free again",
            actor=ACTOR,
            now=now,
        )
    return True


def _submit(charge: ExtraCharge, actor: Actor, now: datetime, *, again: bool = False) -> SeenPayment:
    try:
        seen = submit.charge(charge=charge, gateway=gateway(), return_url=return_url(charge.booking.code))
    except Indeterminate:
        payments.lose_sight_of_charge(charge_code=charge.code, now=now)
        raise
    except UpstreamUnavailable as error:
        if again:  # a provider that has no time for the repeat says nothing of what was sent before
            payments.lose_sight_of_charge(charge_code=charge.code, now=now)
            raise Indeterminate() from error
        _refuse(charge, str(error), actor, now)
        raise
    except ProviderError as error:
        _refuse(charge, error.words, actor, now, refused=True)
        raise
    _record(charge, seen, actor, now)
    return seen


def _refuse(charge: ExtraCharge, error: str, actor: Actor, now: datetime, *, refused: bool = False) -> None:
    with transaction.atomic():
        booking = bookings.lock(code=charge.booking.code)  # the stay may be ending at this moment
        news = payments.refuse_charge(charge_code=charge.code, error=error, refused=refused, actor=actor, now=now)
        if news == "lapsed":
            payouts.schedule(booking=booking, now=now)  # what the stay leaves to its host does not wait for it any more


def _record(charge: ExtraCharge, seen: SeenPayment, actor: Actor, now: datetime) -> None:
    """Take over the provider's answer; an instalment of a stay that has ended meanwhile, or damage that was decided
    otherwise, goes back in full."""
    with transaction.atomic():
        booking = bookings.lock(code=charge.booking.code)  # the stay may be ending at this moment
        news = payments.record_charge(charge_code=charge.code, seen=seen, actor=actor, now=now)
        if news == "lapsed":
            payouts.schedule(booking=booking, now=now)
        if news not in {"captured", "late"}:
            return
        payment = payments.lock_payment(booking=booking)
        drawn = payments.follow_recorded_charge(payment=payment, charge_id=seen.charge_id, actor=actor, now=now)
        if news == "late":
            late = payments.lock_charge(charge_code=charge.code)
            payments.give_back_late(payment=payment, charge=late, reason=_why_late(late), actor=actor, now=now)
        if drawn or news == "late":
            payouts.schedule(booking=booking, now=now)  # none of it is to come for the host any more


def _why_late(charge: ExtraCharge) -> str:
    if charge.kind == "instalment" and charge.booking.status == "completed":
        return "paid after it had been given up"
    if charge.kind == "instalment":
        return f"charged after the booking was {charge.booking.status}"
    return f"charged after the damage was {'covered' if charge.covered_at else 'asked for no more'}"
