"""What the guest of a cancelled stay had from us already comes back to us, out of what is held (decision 11)."""

from __future__ import annotations

from datetime import datetime

from backoffice.audit import operations as audit
from backoffice.bookings import queries as booking_queries
from backoffice.core.actor import Actor
from backoffice.core.money import Money
from backoffice.ledger import operations as ledger
from backoffice.ledger import queries as ledger_queries
from backoffice.payments import policies, queries
from backoffice.payments.models import Payment


def recoup(*, payment: Payment, actor: Actor, now: datetime) -> None:
    """Take back for us what a cancellation gives back and its guest cannot get, since they had it from us already: it would
    be released to the host. Once, when nothing that people asked for may come to nothing any more. The caller holds the locks
    of booking and payment."""
    booking, key = payment.booking, f"recoup:{payment.booking.code}"
    if booking.status != "cancelled" or queries.is_asked_back(payment=payment):
        return
    rows = payment.refunds.filter(platform_share__gt=0, status="succeeded", repays=None).order_by("id")
    borne = [(row.code, Money(row.platform_share, booking.currency)) for row in rows]
    if not borne or ledger_queries.journals().filter(idempotency_key=key).exists():
        return
    parts = queries.held_parts(booking=booking)
    if not booking_queries.cancelled_by_host(booking=booking):
        parts = parts.within(queries.uncovered_parts(booking=booking))
    cost = Money.sum((amount for _, amount in borne), booking.currency)
    if parts.total > cost:
        parts = policies.pro_rata(remaining=parts, amount=cost)
    if not parts.total:
        return
    ledger.post(
        key=key,
        kind="recoup",
        lines=policies.recouped(
            parts=parts, keys=queries.posting_keys(booking=booking), borne=_first_of(borne, parts.total)
        ),
        subject=booking.code,
        effective_at=now,
        actor=actor,
        now=now,
    )
    audit.record(
        actor=actor,
        verb="bookings.recoup",
        kind="booking",
        id=booking.code,
        after={"amount": parts.total.amount, "currency": booking.currency},
        now=now,
    )


def _first_of(borne: list[tuple[str, Money]], amount: Money) -> list[tuple[str, Money]]:
    """An amount out of what refunds had cost us, the first of them first."""
    found = []
    for refund, cost in borne:
        taken = min(cost, amount)
        amount -= taken
        found.append((refund, taken))
    return [(refund, taken) for refund, taken in found if taken]
