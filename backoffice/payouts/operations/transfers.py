"""What became of a transfer: it went, it was refused, or the provider failed it afterwards."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from django.db import transaction

from backoffice.core.actor import Actor
from backoffice.core.errors import Conflict, NotFound
from backoffice.core.money import Money
from backoffice.ledger import operations as ledger
from backoffice.ledger import queries as ledger_queries
from backoffice.notifications import operations as notifications
from backoffice.payments.policies.seen import SeenTransfer
from backoffice.payouts import queries
from backoffice.payouts.models import Payout
from backoffice.payouts.operations.schedule import move
from backoffice.payouts.policies.release import refused
from backoffice.payouts.states import SENT
from backoffice.rulebook import queries as rulebook

_FAILED: Final = [
    *("failure", "failed_at", "waits_for", "waits_until"),
    *("transfer_id", "transfer_amount", "reversed_amount", "bank_payout", "paid_at"),
]


def record_transfer(*, payout_code: str, seen: SeenTransfer, actor: Actor, now: datetime) -> Payout:
    """The provider has made the transfer (`tr_…`); repeating old news changes nothing. Raises Conflict when what it shows
    is not what was asked for."""
    with transaction.atomic():
        payout = _lock(payout_code)  # two who asked at once: the second finds it recorded
        asked = Money(payout.transfer_amount, payout.transfer_currency or seen.amount.currency)
        if seen.amount != asked or payout.transfer_id not in {None, seen.id}:
            raise Conflict(f"The provider's transfer {seen.id} is not that of {payout.code}.", seen=seen.id)
        if payout.status != "in_transfer":
            return payout
        payout.transfer_id, payout.transferred_at = seen.id, now
        payout.source_charge = seen.charge_id or payout.source_charge
        move(payout, "transfer", actor, now, fields=["transfer_id", "transferred_at", "source_charge"])
        _tell_host(payout, "payout_sent", now)
    return payout


def fail_transfer(*, payout_code: str, failure: str, tries: int, actor: Actor, now: datetime) -> Payout:
    """The provider refused: nothing moved, our posting is reversed, and the money stays payable until it is sent again.

    `tries` names the try that was refused; news of an earlier one changes nothing."""
    with transaction.atomic():
        payout = _lock(payout_code)
        if payout.status != "in_transfer" or payout.tries != tries:
            return payout
        key = queries.transfer_key(payout=payout)
        posted = ledger_queries.journals().get(idempotency_key=key)
        ledger.reverse(
            journal_id=posted.pk, key=f"{key}:refused", reason=f"refused by the provider: {failure}",
            actor=actor, now=now,
        )  # fmt: skip
        _fail(payout, failure, actor, now)
    return payout


def note_transfer_failure(*, payout_code: str, transfer_id: str, failure: str, actor: Actor, now: datetime) -> Payout:
    """The provider failed this transfer (`tr_…`) that it had made: its movement has made the money payable again, and it is
    sent anew under another key. News of an earlier transfer than the present one changes nothing."""
    with transaction.atomic():
        payout = _lock(payout_code)  # two runs that both read of it: the second finds it failed, or sent anew
        if payout.status not in SENT or payout.transfer_id != transfer_id:
            return payout
        # The movements keep the transfer, the bank's payout its lines; the next try gets its own.
        payout.transfer_id, payout.bank_payout, payout.paid_at = None, None, None
        # What had been taken back of it before does not come back with it, and is not sent a second time.
        payout.transfer_amount, payout.reversed_amount = payout.transfer_amount - payout.reversed_amount, 0
        _fail(payout, failure, actor, now)
    return payout


# Private --------------------------------------------------------------------------------------------------------------


def _lock(payout_code: str) -> Payout:
    rows = Payout.objects.select_for_update(of=("self",)).select_related("booking__listing", "host")
    payout = rows.filter(code=payout_code).first()
    if payout is None:
        raise NotFound(kind="payout")
    return payout


def _fail(payout: Payout, failure: str, actor: Actor, now: datetime) -> None:
    resting = refused(failure=failure, at=now, rules=rulebook.payouts(on=now.date()).rules)
    payout.failure, payout.failed_at = failure[:300], now
    payout.waits_for, payout.waits_until = resting.sentence[:200], resting.until
    move(payout, "fail", actor.because(failure), now, fields=_FAILED)
    _tell_host(payout, "payout_failed", now)


def _tell_host(payout: Payout, topic: str, now: datetime) -> None:
    notifications.tell(
        topic=topic,
        recipient_id=payout.host_id,
        address=payout.host.email,
        context={
            "amount": Money(payout.transfer_amount, payout.transfer_currency).format(),
            "payout": payout.code,
            "booking": payout.booking.code,
            "listing": payout.booking.listing.title,
            "reason": payout.failure,
        },
        now=now,
    )
