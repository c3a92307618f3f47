"""The provider's movements of our balance, each stored together with its journal."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime

from django.db import transaction

from backoffice.core.actor import Actor
from backoffice.ledger import operations as ledger
from backoffice.ledger import queries as ledger_queries
from backoffice.payments import policies, queries
from backoffice.payments.models import (
    BalanceTransaction,
)
from backoffice.payments.policies.seen import SeenBalanceTransaction


def import_transactions(*, rows: Iterable[SeenBalanceTransaction], actor: Actor, now: datetime) -> int:
    """Keep and post balance transactions that are new; returns how many were. Each stands alone: it is stored together
    with its journal or not at all, and importing it again changes nothing. Of two importers at once, the ledger's key
    lets one through."""
    return sum(_import(row, actor, now) for row in sorted(rows, key=lambda row: (row.created, row.id)))


# Private --------------------------------------------------------------------------------------------------------------


def _import(row: SeenBalanceTransaction, actor: Actor, now: datetime) -> bool:
    with transaction.atomic():
        if BalanceTransaction.objects.filter(provider_id=row.id).exists():
            return False
        kept = BalanceTransaction(
            provider_id=row.id,
            type=row.type,
            reporting_category=row.reporting_category,
            source_id=row.source_id,
            amount=row.amount.amount,
            fee=row.fee.amount,
            net=row.net.amount,
            currency=row.net.currency,
            exchange_rate=row.exchange_rate,
            fee_details=[dict(detail) for detail in row.fee_details],
            created=row.created,
            available_on=row.available_on,
            payout_id=row.payout_id,
            network=row.network,
            imported_at=now,
        )
        facts = _transaction_facts(row)
        posted = ledger.post(
            key=f"bt:{row.id}",
            kind=f"bt.{row.reporting_category}",
            lines=policies.balance_transaction(facts=facts),
            subject=facts.booking,
            reference=row.id,
            effective_at=row.created,
            actor=actor,
            now=now,
        )
        if posted is not None and not posted.created:
            return False  # another importer was first; its journal and its row came together
        kept.journal_id = posted.journal_id if posted is not None else None
        kept.save(force_insert=True)
        if facts.charge:
            _realise_exchange(facts, row, actor, now)
        return True


def _realise_exchange(
    facts: policies.BalanceTransactionFacts, row: SeenBalanceTransaction, actor: Actor, now: datetime
) -> None:
    """What a conversion left on the charge's position is gain or loss as soon as one currency is left in it."""
    ledger.post(
        key=f"fx:{row.id}",
        kind="fx",
        lines=policies.fx_realised(
            charge=facts.charge, positions=ledger_queries.standing(account="3900", key=facts.charge)
        ),
        subject=facts.booking,
        reference=row.id,
        effective_at=row.created,
        actor=actor,
        now=now,
    )


def _transaction_facts(row: SeenBalanceTransaction) -> policies.BalanceTransactionFacts:
    """Whose movement it is: the clearing key our own event used, and the booking it belongs to."""
    payment = refund = charge = None
    if row.reporting_category in {"charge", "charge_failure", "partial_capture_reversal"}:
        payment = queries.payment_seen(provider_id="", reference=row.source_reference)
        charge = None if payment is not None else queries.charge_seen(provider_id="", reference=row.source_reference)
        if payment is None and charge is None:  # what was reserved and not taken carries no code of ours
            payment = queries.payment_of_charge(charge_id=row.source_id, provider_id="")
    elif row.reporting_category in {"refund", "refund_failure"}:
        refund = queries.refund_seen(provider_id=row.source_id, reference=row.source_reference)
        payment = refund.payment if refund is not None else None
        charge = refund.charge if refund is not None else None
    elif row.disputed_charge:
        return _dispute_facts(row)
    elif row.reporting_category in {"transfer", "transfer_reversal"}:
        return _transfer_facts(row)
    ours = charge or payment  # an instalment or damage has a charge of its own
    return replace(
        _facts(row),
        key=refund.code if refund is not None else "",
        presented=row.presented if ours is not None else None,
        charge=(ours.charge_id or "") if ours is not None else "",
        booking=ours.booking.code if ours is not None else "",
        host=ours.booking.host.code if ours is not None else "",
    )


def _facts(row: SeenBalanceTransaction) -> policies.BalanceTransactionFacts:
    """What the provider says of a movement, whosever it is."""
    return policies.BalanceTransactionFacts(
        id=row.id,
        type=row.type,
        reporting_category=row.reporting_category,
        source=row.source_id,
        amount=row.amount,
        fee=row.fee,
        net=row.net,
    )


def _transfer_facts(row: SeenBalanceTransaction) -> policies.BalanceTransactionFacts:
    """Money that left for a host's account or came back: it stands under the code of the payout or the clawback, which the
    room above wrote on what it sent."""
    return replace(_facts(row), key=row.source_reference, booking=row.booking, host=row.host, account=row.account)


def _dispute_facts(row: SeenBalanceTransaction) -> policies.BalanceTransactionFacts:
    """Money that a card network took or gave back: it stands under the dispute's own id, whoever hears of that first."""
    payment = queries.payment_of_charge(charge_id=row.disputed_charge, provider_id="")
    return replace(_facts(row), booking=payment.booking.code if payment is not None else "", of_dispute=True)
