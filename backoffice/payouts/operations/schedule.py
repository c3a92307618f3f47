"""What a stay will owe its host, and when: written as it is confirmed, drawn anew when what is left of it changes."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.db import transaction
from django.db.models import Max

from backoffice.audit import operations as audit
from backoffice.bookings.models import Booking
from backoffice.core.actor import Actor, system
from backoffice.payments import policies as money
from backoffice.payments import queries as payments
from backoffice.payouts import queries
from backoffice.payouts.models import Payout
from backoffice.payouts.policies import timing
from backoffice.payouts.states import PAYOUT, UNRELEASED
from backoffice.rulebook import queries as rulebook

ACTOR = system("payouts")


def schedule(*, booking: Booking, now: datetime, actor: Actor = ACTOR) -> list[Payout]:
    """Plan the payouts of a booking, or draw what is still to be released anew; returns what is unreleased afterwards.

    The caller has locked the booking and says so once it is confirmed, cancelled, or some of its money went back. Repeating
    it changes nothing. A cancelled stay keeps one release of what it leaves, due as the first night was; where nothing is
    left there is none. Money that came back after the last release is due at once."""
    if booking.status not in queries.OWED_TO_HOSTS:
        return []
    with transaction.atomic():
        # A release of the same booking waits for the booking's lock, which the caller has; the rows are locked for readers
        # that lock nothing else (a transfer's answer).
        rows = list(Payout.objects.select_for_update().filter(booking=booking, weight__gt=0).order_by("id"))
        open_rows = [row for row in rows if row.status in UNRELEASED]
        parts = _expected(booking)
        if not rows and booking.status != "cancelled":
            open_rows = _plan(booking, actor, now)
        elif not open_rows and _left(payments.releasable_parts(booking=booking)):
            open_rows = [_late(booking, rows, actor, now)]
        if booking.status == "cancelled":
            open_rows = _gather(booking, open_rows, parts, actor, now)
        elif not _left(parts):
            open_rows = _void(open_rows, "Nothing is left for the host.", actor, now)
        _spread(open_rows, parts)
        return open_rows


# Private --------------------------------------------------------------------------------------------------------------


def _expected(booking: Booking) -> money.Parts:
    """What is still to be released: what is held and what is to come, or the promise while nothing has been paid."""
    payment = payments.payment_of(booking=booking)
    if payment is not None and payment.status == "captured":
        return payments.releasable_parts(booking=booking) + payments.parts_to_come(booking=booking)
    if booking.status in payments.ENDED or (payment is not None and payment.status == "cancelled"):
        return money.Parts.none(booking.currency)  # nobody is asked for it any more
    return money.Parts.of(
        currency=booking.currency,
        amounts={
            "held": booking.host_price - booking.host_fee,
            "host_fee": booking.host_fee,
            "guest_fee": booking.guest_fee,
        },
    )


def _left(parts: money.Parts) -> bool:
    return bool(parts.held or parts.host_fee or parts.guest_fee)


def _plan(booking: Booking, actor: Actor, now: datetime) -> list[Payout]:
    timings, rules = rulebook.timings(on=now.date()), rulebook.payouts(on=now.date())
    steps = timing.plan(facts=queries.stay_facts(booking=booking), timings=timings.rules, rules=rules.rules)
    return [
        _create(booking, number, actor, now, due_at=step.due_at, weight=step.weight)
        for number, step in enumerate(steps, start=1)
    ]


def _late(booking: Booking, rows: list[Payout], actor: Actor, now: datetime) -> Payout:
    """Money without a plan: of a stay cancelled before it had one, or that came back after the last release."""
    due_at = now if rows else _first_due(booking, now)
    return _create(booking, next_number(booking), actor, now, due_at=due_at, weight=1)


def _first_due(booking: Booking, now: datetime) -> datetime:
    return timing.due_at(
        facts=queries.stay_facts(booking=booking),
        timings=rulebook.timings(on=now.date()).rules,
        rules=rulebook.payouts(on=now.date()).rules,
    )


def _create(booking: Booking, number: int, actor: Actor, now: datetime, *, due_at: datetime, weight: int) -> Payout:
    timings, rules = rulebook.timings(on=now.date()), rulebook.payouts(on=now.date())
    row = Payout.objects.create(
        booking=booking,
        host_id=booking.host_id,
        number=number,
        weight=weight,
        held=0,
        host_fee=0,
        guest_fee=0,
        currency=booking.currency,
        due_at=due_at,
        policy=f"{rules.label} {timings.label}",
        created_at=now,
    )
    note(row, "schedule", actor, now, after={"booking": booking.code, "due_at": due_at.isoformat()})
    return row


def _gather(booking: Booking, rows: list[Payout], parts: money.Parts, actor: Actor, now: datetime) -> list[Payout]:
    """What a cancelled stay leaves is one release, due as its first night was; the others are void."""
    if not rows or not _left(parts):
        return _void(rows, "The stay was cancelled and nothing is left for the host.", actor, now)
    kept, *others = rows
    _void(others, "The stay was cancelled; what is left is paid at once.", actor, now)
    first = _first_due(booking, now)
    if first != kept.due_at and kept.due_at > now:
        before = kept.due_at
        kept.due_at = first
        kept.version += 1
        kept.save(update_fields=["due_at", "version"])
        note(
            kept, "reschedule", actor, now,
            before={"due_at": before.isoformat()}, after={"due_at": kept.due_at.isoformat()},
        )  # fmt: skip
    return [kept]


def _void(rows: list[Payout], why: str, actor: Actor, now: datetime) -> list[Payout]:
    for row in rows:
        row.held = row.host_fee = row.guest_fee = 0
        row.waits_for, row.waits_until = "", None
        move(
            row, "void", actor.because(why), now,
            fields=["held", "host_fee", "guest_fee", "waits_for", "waits_until"],
        )  # fmt: skip
    return []


def _spread(rows: list[Payout], parts: money.Parts) -> None:
    """What each release is expected to move, as far as is known now; the release itself goes by what is there then."""
    if not rows:
        return
    shares = money.instalments(parts=parts, weights=[row.weight for row in rows])
    for row, share in zip(rows, shares, strict=True):
        wanted = (share.held.amount, share.host_fee.amount, share.guest_fee.amount)
        if wanted != (row.held, row.host_fee, row.guest_fee):
            row.held, row.host_fee, row.guest_fee = wanted
            row.version += 1
            row.save(update_fields=["held", "host_fee", "guest_fee", "version"])


def next_number(booking: Booking) -> int:
    """The number of the booking's next payout; the caller has locked the booking."""
    last: int | None = Payout.objects.filter(booking=booking).aggregate(last=Max("number"))["last"]
    return (last or 0) + 1


def move(
    payout: Payout, action: str, actor: Actor, now: datetime, *, fields: list[str] | None = None, **facts: Any
) -> Payout:
    """Take one step of the table, on record. The caller has locked the payout."""
    before = payout.status
    payout.status = PAYOUT.after(before, action)
    payout.version += 1
    payout.save(update_fields=["status", "version", *(fields or [])])
    note(payout, action, actor, now, before={"status": before}, after={"status": payout.status, **facts})
    return payout


def note(
    payout: Payout,
    act: str,
    actor: Actor,
    now: datetime,
    *,
    before: dict[str, Any] | None = None,
    after: dict[str, Any] | None = None,
) -> None:
    """Record what was done to a payout."""
    audit.record(actor=actor, verb=f"payouts.{act}", kind="payout", id=payout.code, before=before, after=after, now=now)
