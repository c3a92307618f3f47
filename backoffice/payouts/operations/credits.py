"""What a host paid for a debt that is none after all (a lost chargeback that was won, a refund that was refused) goes back
to them as a payout of its own."""

from __future__ import annotations

from datetime import datetime

from django.db import transaction

from backoffice.bookings import operations as bookings
from backoffice.core.actor import Actor
from backoffice.core.errors import Conflict
from backoffice.core.money import Money
from backoffice.ledger import operations as ledger
from backoffice.notifications import operations as notifications
from backoffice.payouts import queries
from backoffice.payouts.models import HostAccount, Payout
from backoffice.payouts.operations.schedule import next_number, note
from backoffice.payouts.policies.credits import paid_back


def pay_credit(*, host_code: str, currency: str, actor: Actor, now: datetime) -> Payout | None:
    """Make payable what stands in a host's favour on what they owe, plan its payout, and tell them; what of their debts was
    written off comes back to us first. None when nothing is left for them. Repeating it changes nothing.

    It weighs nothing among the releases of the stay it is about, and waits while a chargeback of that stay is open. Raises
    Conflict when no stay of theirs is known for it (the doctor names it), or when it moved at this moment."""
    code = queries.booking_of_credit(host_code=host_code, currency=currency)
    if not code:
        raise Conflict(f"What is owed back to host {host_code} in {currency} belongs to no stay of theirs.")
    with transaction.atomic():
        booking = bookings.lock(code=code)
        # Two runs at once, a release that nets, a clawback: the second finds what the first has left.
        HostAccount.objects.select_for_update().filter(host_id=booking.host_id).first()
        amount = queries.credit_of(host_code=host_code, currency=currency)
        if not amount:
            return None
        lines = paid_back(
            host=host_code, amount=amount, given_up=queries.given_up(host_code=host_code, currency=currency)
        )
        theirs = -sum(line.amount for line in lines if line.account == "2200")
        payout = None
        if theirs:
            payout = Payout.objects.create(
                booking=booking,
                host_id=booking.host_id,
                number=next_number(booking),
                status="releasable",
                weight=0,
                held=0,
                host_fee=0,
                guest_fee=0,
                currency=booking.currency,
                due_at=now,
                policy=queries.CREDIT_LABEL,
                transfer_amount=theirs,
                transfer_currency=currency,
                created_at=now,
                released_at=now,
            )
            note(payout, "schedule", actor, now, after={"booking": booking.code, "owed_back": theirs})
            _tell(payout, now)
        ledger.post(
            key=f"host-credit:{payout.code}" if payout is not None else f"debt-recovered:{host_code}:{currency}:{now}",
            kind="host-credit",
            lines=lines,
            subject=booking.code,
            reference=payout.code if payout is not None else "",
            effective_at=now,
            actor=actor,
            now=now,
        )
        # What moved the debt at this moment: the posting locked its row, so this reads what is left after both.
        if queries.owed(host_code=host_code, currency=currency).amount > 0:
            raise Conflict("What the host is owed back moved at this moment; it is looked at again at the next run.")
    return payout


# Private --------------------------------------------------------------------------------------------------------------


def _tell(payout: Payout, now: datetime) -> None:
    notifications.tell(
        topic="payout_owed_back",
        recipient_id=payout.host_id,
        address=payout.booking.host.email,
        context={
            "amount": Money(payout.transfer_amount, payout.transfer_currency).format(),
            "booking": payout.booking.code,
            "payout": payout.code,
        },
        now=now,
    )
