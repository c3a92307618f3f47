"""What a guest paid for damage, or we did for them, goes to the host as a payout of its own: it is payable already."""

from __future__ import annotations

from datetime import datetime

from django.db import transaction

from backoffice.bookings import operations as bookings
from backoffice.core.actor import Actor
from backoffice.payments import queries as payments
from backoffice.payouts import queries
from backoffice.payouts.models import Payout
from backoffice.payouts.operations.schedule import next_number, note


def pay_damage(*, charge_code: str, actor: Actor, now: datetime) -> Payout | None:
    """The payout of damage money that was released to the host; None while it was not. Repeating it changes nothing.

    It weighs nothing among the releases of the stay: it takes no share of what is held for nights."""
    charge = payments.extra_charge(code=charge_code)
    if charge.kind != "damage" or charge.released_at is None:
        return None
    with transaction.atomic():
        booking = bookings.lock(code=charge.booking.code)  # two runs at once: the second finds it made
        found = Payout.objects.filter(booking=booking, policy=queries.damage_label(charge_code=charge_code)).first()
        if found is not None:
            return found
        same = charge.currency == booking.currency
        payout = Payout.objects.create(
            booking=booking,
            host_id=booking.host_id,
            number=next_number(booking),
            status="releasable",
            weight=0,
            held=charge.amount if same else 0,
            host_fee=0,
            guest_fee=0,
            currency=booking.currency,
            due_at=charge.released_at,
            policy=queries.damage_label(charge_code=charge_code),
            transfer_amount=charge.amount,
            transfer_currency=charge.currency,
            source_charge=charge.charge_id or "",
            created_at=now,
            released_at=charge.released_at,
        )
        note(payout, "schedule", actor, now, after={"booking": booking.code, "damage": charge_code})
    return payout
