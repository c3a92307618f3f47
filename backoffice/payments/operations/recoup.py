"""What the guest of a cancelled stay had from us already comes back to us, out of what is held (decision 11)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from fractions import Fraction

from backoffice.audit import operations as audit
from backoffice.bookings import queries as booking_queries
from backoffice.core.actor import Actor
from backoffice.core.money import Money
from backoffice.ledger import operations as ledger
from backoffice.ledger import queries as ledger_queries
from backoffice.payments import policies, queries
from backoffice.payments.models import Payment, Refund


def recoup(*, payment: Payment, actor: Actor, now: datetime) -> None:
    """Take back for us what a cancellation gives back and its guest cannot get, since they had it from us already: it would
    be released to the host. Once, when nothing that people asked for may come to nothing any more. The caller holds the locks
    of booking and payment."""
    booking, key = payment.booking, f"recoup:{payment.booking.code}"
    if booking.status != "cancelled" or queries.is_asked_back(payment=payment):
        return
    rows = payment.refunds.filter(platform_share__gt=0, status="succeeded", repays=None).order_by("id")
    borne = {row: Money(row.platform_share, booking.currency) for row in rows.select_related("payment", "charge")}
    if not borne or ledger_queries.journals().filter(idempotency_key=key).exists():
        return
    parts = queries.held_parts(booking=booking)
    if not booking_queries.cancelled_by_host(booking=booking):
        parts = parts.within(queries.uncovered_parts(booking=booking))
    cost = Money.sum(borne.values(), booking.currency)
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


def _first_of(borne: Mapping[Refund, Money], wanted: Money) -> list[policies.Borne]:
    """An amount out of what refunds had cost us, the first of them first; each in the currency in which it did."""
    found = []
    for refund, share in borne.items():
        taken = min(share, wanted)
        wanted -= taken
        for cost in ledger_queries.balances(code="5210", key=refund.code, open_only=True):
            whole = Money(int(cost.amount), cost.currency)  # type: ignore[attr-defined]  # annotated there
            part = taken if cost.currency == taken.currency else whole.share(Fraction(taken.amount, share.amount))
            charge = queries.charge_of(refund=refund)
            found.append(policies.Borne(refund=refund.code, charge=charge, taken=taken, amount=part))
    return [each for each in found if each.taken]
