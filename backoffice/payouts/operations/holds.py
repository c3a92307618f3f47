"""Keeping money back before it is released: the only control that always works. Placed, extended, lifted, run out."""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from typing import Final

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
    Refused,
    StaleVersion,
)
from backoffice.core.money import Money
from backoffice.notifications import operations as notifications
from backoffice.payments import queries as payments
from backoffice.payouts import queries
from backoffice.payouts.models import Payout, PayoutHold
from backoffice.payouts.operations.schedule import move
from backoffice.payouts.policies.release import HELD
from backoffice.payouts.states import HOLD, HOLD_CAUSES, PAYOUT, UNRELEASED

# What the host is told of why; the reason itself is for us.
_SAID = {
    "dispute": "a question between you and your guest is open.",
    "suspicion": "we are checking this booking.",
    "bank_details": "your bank details are being checked.",
    "service_issue": "the guest reported a problem.",
    "other": "we are looking into something.",
}
# Who may hold for as long as they like decides again in the end.
_MOST_HOURS: Final = 2 * 365 * 24


def place_hold(
    *,
    booking_code: str,
    amount: Money | None,
    cause: str,
    reason: str,
    hours: int,
    owner_id: int | None,
    actor: Actor,
    now: datetime,
    key: str | None = None,
) -> PayoutHold:
    """Keep `amount` of the host's share of a booking (None: all of it) from release for `hours`. The same `key` with the
    same content returns the first hold; with other content it raises KeyReused.

    Raises NotAllowed, OverLimit for longer than the actor's role may hold (DOMAIN.md, roles), Refused without a reason,
    Invalid naming `amount`, `cause` or `hours`, Conflict when all of it has been released (then a clawback is the way), and
    for an amount where only all of it can be held: damage money, and what the provider refused to send."""
    actor.must("payouts.hold")
    if not reason.strip():
        raise Refused(missing="a reason")
    if cause not in HOLD_CAUSES:
        raise Invalid(f"cause: write one of {', '.join(HOLD_CAUSES)}.", field="cause")
    _check_hours(hours, actor, now)
    with transaction.atomic():
        # A release at the same moment: whoever has the booking first, the other sees what is left.
        booking = bookings.lock(code=booking_code)
        bookings.not_for_oneself(booking=booking, actor=actor)
        earlier = PayoutHold.objects.filter(request_key=key).first() if key is not None else None
        if earlier is not None:
            _check_same(earlier, booking, amount, cause, reason)
            return earlier
        left = _lock_payouts(booking, *UNRELEASED, "failed")
        rows = [row for row in left if row.status in UNRELEASED]
        _check_amount(booking, amount, rows, refused=len(left) > len(rows))
        placed = PayoutHold.objects.create(
            booking=booking,
            amount=amount.amount if amount is not None else None,
            currency=booking.currency,
            cause=cause,
            reason=reason.strip(),
            request_key=key,
            owner_id=owner_id if owner_id is not None else actor.id,
            placed_by_id=actor.id,
            placed_at=now,
            expires_at=now + timedelta(hours=hours),
        )
        _note(placed, "place", actor.because(reason), now, amount=placed.amount, currency=placed.currency, cause=cause)
        _mark(booking, rows, actor, now)
        _tell_host(placed, booking, left, now)
    return placed


def extend_hold(*, hold_code: str, hours: int, reason: str, version: int, actor: Actor, now: datetime) -> PayoutHold:
    """Keep it back for `hours` from now on, in all for no longer than the actor could have placed it for.

    To end it sooner by this is to lift it: that is for whoever may lift it. Raises as `place_hold` and `lift_hold` do,
    StaleVersion, IllegalTransition when it has ended."""
    actor.must("payouts.hold")
    if not reason.strip():
        raise Refused(missing="a reason")
    _check_hours(hours, actor, now)
    with transaction.atomic():
        hold, booking = _lock(hold_code, version)  # it may expire, or be lifted, at this moment
        bookings.not_for_oneself(booking=booking, actor=actor)
        HOLD.after(hold.status, "lift")  # raises: what has ended is not extended
        before, until = hold.expires_at, now + timedelta(hours=hours)
        if until < before:
            check_lifter(hold=hold, actor=actor, now=now)
        else:  # however often it is extended, nobody holds for longer than their role may
            _check_hours(math.ceil((until - hold.placed_at) / timedelta(hours=1)), actor, now)
        hold.expires_at = until
        hold.version += 1
        hold.save(update_fields=["expires_at", "version"])
        _note(
            hold, "extend", actor.because(reason), now,
            until_before=before.isoformat(), until=hold.expires_at.isoformat(),
        )  # fmt: skip
        _mark(booking, _lock_payouts(booking, *UNRELEASED), actor, now)
    return hold


def lift_hold(*, hold_code: str, reason: str, version: int, actor: Actor, now: datetime) -> PayoutHold:
    """Let go what was kept back; what is due is released at the next run.

    May be lifted by whoever placed or owns it, or could have placed it for as long. Raises NotAllowed, Refused without a
    reason, StaleVersion, IllegalTransition when it has ended."""
    actor.must("payouts.hold")
    if not reason.strip():
        raise Refused(missing="a reason")
    with transaction.atomic():
        hold, booking = _lock(hold_code, version)
        bookings.not_for_oneself(booking=booking, actor=actor)
        check_lifter(hold=hold, actor=actor, now=now)
        _end(hold, booking, "lift", actor.because(reason), now)
    return hold


def expire_hold(*, hold_code: str, actor: Actor, now: datetime) -> bool:
    """End a hold whose time is up; returns whether it was. Extended or lifted meanwhile, nothing changes."""
    with transaction.atomic():
        hold, booking = _lock(hold_code, None)
        if hold.status != "active" or hold.expires_at > now:
            return False
        _end(hold, booking, "expire", actor.because("its time was up"), now)
    return True


def check_lifter(*, hold: PayoutHold, actor: Actor, now: datetime) -> None:
    """Raise NotAllowed unless the actor may lift this hold; the console's buttons ask it too."""
    if actor.kind == "system" or actor.id in {hold.placed_by_id, hold.owner_id}:
        return
    limit = queries.hold_limit(actor=actor, now=now)
    if limit is not None and hold.expires_at - hold.placed_at > timedelta(hours=limit):
        raise NotAllowed("You may not lift this hold: its owner can, or a colleague who may hold for as long.")


# Private --------------------------------------------------------------------------------------------------------------


def _check_hours(hours: int, actor: Actor, now: datetime) -> None:
    if hours < 1:
        raise Invalid("hours: hold for an hour at least.", field="hours")
    if hours > _MOST_HOURS:
        raise Invalid(f"hours: at most {_MOST_HOURS:,} (two years); hold it anew before it ends.", field="hours")
    limit = queries.hold_limit(actor=actor, now=now)
    if limit is not None and hours > limit:
        raise OverLimit(
            f"{hours} hours is over your limit of {limit} hours: hold it for less, or ask a colleague who may hold for longer.",
            verb="payouts.hold",
            amount=f"{hours} hours",
            limit=f"{limit} hours",
        )


def _check_same(earlier: PayoutHold, booking: Booking, amount: Money | None, cause: str, reason: str) -> None:
    asked = (booking.pk, None if amount is None else amount.amount, cause, reason.strip())
    if asked != (earlier.booking_id, earlier.amount, earlier.cause, earlier.reason):
        raise KeyReused(key=earlier.request_key)


def _check_amount(booking: Booking, amount: Money | None, rows: list[Payout], *, refused: bool) -> None:
    if amount is not None and amount.currency != booking.currency:
        raise Invalid(f"amount: this home is paid in {booking.currency}.", field="amount")
    if amount is not None and amount.amount <= 0:
        raise Invalid("amount: must be above zero; leave it out to hold everything.", field="amount")
    if not rows and not refused:
        raise Conflict("Nothing of this booking is left to hold: it was sent to the host. A clawback is the way now.")
    if amount is None:
        return
    # Damage money and what the provider refused is not held in part: it is payable already, and sent whole.
    left = Money(sum(row.held for row in rows if row.weight), booking.currency)
    if not left:
        raise Conflict("Only all of what is left can be held, not a part of it: leave the amount out.")
    if amount > left:
        raise Invalid(f"amount: only {left} is left to hold; the rest was released.", field="amount")


def _lock_payouts(booking: Booking, *statuses: str) -> list[Payout]:
    return list(Payout.objects.select_for_update().filter(booking=booking, status__in=statuses).order_by("id"))


def _lock(hold_code: str, version: int | None) -> tuple[PayoutHold, Booking]:
    """Lock the booking, then the hold. Raises NotFound, StaleVersion."""
    code = PayoutHold.objects.filter(code=hold_code).values_list("booking__code", flat=True).first()
    if code is None:
        raise NotFound(kind="payout hold")
    booking = bookings.lock(code=code)
    hold = PayoutHold.objects.select_for_update().get(code=hold_code)
    if version is not None and hold.version != version:
        raise StaleVersion(kind="payout hold")
    return hold, booking


def _end(hold: PayoutHold, booking: Booking, action: str, actor: Actor, now: datetime) -> None:
    hold.status = HOLD.after(hold.status, action)
    hold.ended_at, hold.ended_by_id, hold.ended_reason = now, actor.id, actor.reason[:300]
    hold.version += 1
    hold.save(update_fields=["status", "ended_at", "ended_by", "ended_reason", "version"])
    _note(hold, action, actor, now)
    _mark(booking, _lock_payouts(booking, *UNRELEASED), actor, now, ended=True)


def _mark(booking: Booking, rows: list[Payout], actor: Actor, now: datetime, *, ended: bool = False) -> None:
    """Show on the payouts what the holds that are active now mean: held while all of the money is kept back.

    When a hold has ended, what it alone kept is set free; what another still keeps of it the next run sets aside again."""
    holds = queries.active_holds(booking_id=booking.pk)
    whole = any(hold.amount is None for hold in holds)
    until = max((hold.until for hold in holds), default=None)
    for row in rows:
        if whole and PAYOUT.allows(row.status, "hold"):
            row.waits_for, row.waits_until = HELD, until
            move(row, "hold", actor, now, fields=["waits_for", "waits_until"])
        elif row.status == "held" and ended and not whole:
            row.waits_for, row.waits_until = "", None
            move(row, "ripen" if row.due_at <= now else "lift", actor, now, fields=["waits_for", "waits_until"])
        elif row.status == "held" and row.waits_until != until:
            row.waits_until = until
            row.version += 1
            row.save(update_fields=["waits_until", "version"])


def _note(hold: PayoutHold, act: str, actor: Actor, now: datetime, **facts: object) -> None:
    audit.record(
        actor=actor,
        verb=f"payouts.hold.{act}",
        kind="payout_hold",
        id=hold.code,
        after={"status": hold.status, "booking": hold.booking.code, **facts},
        now=now,
    )


def _tell_host(hold: PayoutHold, booking: Booking, rows: list[Payout], now: datetime) -> None:
    kept = [Money(hold.amount, hold.currency)] if hold.amount is not None else _all_of(booking, rows)
    notifications.tell(
        topic="payout_held",
        recipient_id=booking.host_id,
        address=booking.host.email,
        context={
            "amount": " and ".join(amount.format() for amount in kept),
            "booking": booking.code,
            "listing": booking.listing.title,
            "until": f"{hold.expires_at:%Y-%m-%d}",
            "reason": _SAID[hold.cause],
        },
        now=now,
    )


def _all_of(booking: Booking, rows: list[Payout]) -> list[Money]:
    """What a hold of everything keeps, by currency: what the booking holds for the host, and what is payable already."""
    amounts = [payments.held_parts(booking=booking).held]
    amounts += [
        Money(row.transfer_amount, row.transfer_currency) for row in rows if row.status == "failed" or not row.weight
    ]
    sums: dict[str, Money] = {}
    for amount in amounts:
        sums[amount.currency] = sums.get(amount.currency, Money.zero(amount.currency)) + amount
    return [amount for amount in sums.values() if amount] or amounts[:1]
