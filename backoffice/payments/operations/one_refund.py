"""What every change of a refund does, one to a card or one that is paid another way: lock it in the house's order, move it along
its table and record that, tell its guest."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from backoffice.audit import operations as audit
from backoffice.bookings import operations as bookings
from backoffice.core.actor import Actor
from backoffice.core.errors import NotFound, StaleVersion
from backoffice.core.money import Money
from backoffice.notifications import operations as notifications
from backoffice.payments.models import Payment, Refund
from backoffice.payments.operations.attempts import lock_payment
from backoffice.payments.states import REFUND


def lock_refund(*, refund_code: str, version: int | None = None, another_way: bool = False) -> tuple[Refund, Payment]:
    """Lock booking, payment and refund, in the house's order; only one that is paid `another_way`, if said. Raises NotFound,
    StaleVersion."""
    kind = "repayment" if another_way else "refund"
    wanted = Refund.objects.filter(code=refund_code, **({"method": "other"} if another_way else {}))
    found = wanted.select_related("payment__booking").first()
    if found is None:
        raise NotFound(kind=kind)
    booking = bookings.lock(code=found.payment.booking.code)
    payment = lock_payment(booking=booking)
    refund = Refund.objects.select_for_update(of=("self",)).get(id=found.id)
    if version is not None and refund.version != version:
        raise StaleVersion(kind=kind)
    refund.payment = payment
    return refund, payment


def move_refund(*, refund: Refund, action: str, actor: Actor, now: datetime, fields: Iterable[str] = ()) -> Refund:
    """Move a locked refund along its table, save what has changed with it, and record it."""
    before = refund.status
    refund.status = REFUND.after(before, action)
    refund.version += 1
    refund.save(update_fields=["status", "version", *fields])
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


def tell_guest(*, refund: Refund, topic: str, now: datetime) -> None:
    """Tell the guest what became of a refund of theirs."""
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
