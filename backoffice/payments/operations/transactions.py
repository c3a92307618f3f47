"""The provider's movements of our balance, each stored together with its journal, and posted anew where that was wrong."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from django.db import transaction

from backoffice.core.actor import Actor
from backoffice.core.errors import Conflict, Refused
from backoffice.core.money import Money
from backoffice.ledger import operations as ledger
from backoffice.ledger import queries as ledger_queries
from backoffice.ledger.models import Journal
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


def plan_anew(*, row: SeenBalanceTransaction) -> policies.Anew:
    """What posting a movement anew would reverse and post, by what the provider shows of it (`row`) and the books say now; of
    one that was never imported there is nothing to reverse.

    Raises Conflict when the books say what the provider shows."""
    return _planned(BalanceTransaction.objects.filter(provider_id=row.id).first(), row)


def post_anew(
    *, row: SeenBalanceTransaction, proposed: Mapping[str, Any], reason: str, actor: Actor, now: datetime
) -> BalanceTransaction:
    """Make the books say what the provider shows of a movement (`row`): what stands of it is reversed exactly, and it is
    posted as the import would have, effective now. `proposed` is what was agreed to, as `plan_anew` told it.

    Raises Refused when that is no longer what would be done, Conflict when nothing differs any more or would differ still,
    Overdrawn when what it put on a bounded account has been passed on."""
    actor.must("breaks.write_off")
    with transaction.atomic():
        # Two posting one movement anew at once: the second sees what the first posted.
        kept = BalanceTransaction.objects.select_for_update().filter(provider_id=row.id).first()
        plan = _planned(kept, row)
        if plan.as_dict() != proposed:
            raise Refused(
                "What the provider or the books say of this movement is no longer what was proposed; reject it and look "
                "again.",
                missing="a proposal of what they say now",
            )
        if kept is None and not plan.journals:
            if not _import(row, actor, now):
                raise Conflict(f"{row.id} has been imported meanwhile; look at the break again.")
            return BalanceTransaction.objects.get(provider_id=row.id)
        kept = kept or BalanceTransaction(provider_id=row.id, imported_at=now)  # its journals stand there without it
        facts = _transaction_facts(row)
        prefix = f"bt:{row.id}:again-"
        times = 1 + sum(journal.idempotency_key.startswith(prefix) for journal in _spoken(row.id))
        # Before anything is reversed: what the movement gave to an account that is never overdrawn stays given.
        posted = ledger.post(
            key=f"{prefix}{times}",
            kind=f"bt.{row.reporting_category}",
            lines=plan.lines,
            subject=facts.booking,
            reference=row.id,
            memo=reason,
            effective_at=now,
            actor=actor,
            now=now,
        )
        for journal_id in plan.journals:
            key = f"bt:{row.id}:reversed-{journal_id}"
            ledger.reverse(journal_id=journal_id, key=key, reason=reason, actor=actor, now=now)
        if facts.charge:
            _realise_exchange(facts, row, actor, now, key=f"fx:{row.id}:again-{times}", effective_at=now)
        _set(kept, row)
        kept.journal_id = posted.journal_id if posted is not None else None
        kept.save()
        if _differs(kept, row, _spoken(row.id)):
            raise Conflict(
                f"The books would still not say what the provider shows of {row.id}: one of its journals is no plain posting "
                "or its reversal. Look at them: ops ledger trace " + row.id
            )
        return kept


# Private --------------------------------------------------------------------------------------------------------------


def _import(row: SeenBalanceTransaction, actor: Actor, now: datetime) -> bool:
    with transaction.atomic():
        if BalanceTransaction.objects.filter(provider_id=row.id).exists():
            return False
        kept = BalanceTransaction(provider_id=row.id, imported_at=now)
        _set(kept, row)
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
            _realise_exchange(facts, row, actor, now, key=f"fx:{row.id}", effective_at=row.created)
        return True


def _set(kept: BalanceTransaction, row: SeenBalanceTransaction) -> None:
    """What the provider shows of a movement, but for the journal that says it."""
    kept.type = row.type
    kept.reporting_category = row.reporting_category
    kept.source_id = row.source_id
    kept.amount, kept.fee, kept.net = row.amount.amount, row.fee.amount, row.net.amount
    kept.currency = row.net.currency
    kept.exchange_rate = row.exchange_rate
    kept.fee_details = [dict(detail) for detail in row.fee_details]
    kept.created, kept.available_on = row.created, row.available_on
    kept.payout_id, kept.network = row.payout_id, row.network


def _planned(kept: BalanceTransaction | None, row: SeenBalanceTransaction) -> policies.Anew:
    spoken = _spoken(row.id)
    if kept is not None and not _differs(kept, row, spoken):
        raise Conflict(
            f"The books say of {row.id} what the provider shows; there is nothing to post anew. The next run closes the break."
        )
    undone = {journal.reverses_id for journal in spoken}
    return policies.Anew(
        movement=row.id,
        amount=row.amount,
        fee=row.fee,
        journals=tuple(
            journal.pk
            for journal in spoken
            if journal.reverses_id is None
            and journal.pk not in undone
            # Its own may not move the mirror: what is charged in full as a fee nets to nothing.
            and (journal.kind == "fx" or journal.kind.startswith("bt.") or _mirrored([journal]))
        ),
        lines=policies.balance_transaction(facts=_transaction_facts(row)),
    )


def _differs(kept: BalanceTransaction, row: SeenBalanceTransaction, spoken: Sequence[Journal]) -> bool:
    """Whether a run would find a difference: in what was kept, in its own journal, or in all that was posted of it."""
    own = [journal for journal in spoken if journal.pk == kept.journal_id]
    said = (Money(kept.amount, kept.currency), Money(kept.fee, kept.currency))
    shown = {row.net.currency: row.net.amount} if row.net else {}
    return said != (row.amount, row.fee) or _mirrored(own) != shown or _mirrored(spoken) != shown


def _mirrored(journals: Iterable[Journal]) -> dict[str, int]:
    """Currency -> by how much journals moved the provider's mirror together, zeros left out."""
    sums: dict[str, int] = {}
    for journal in journals:
        for line in journal.lines.all():
            if line.account.code == policies.MIRROR:
                sums[line.currency] = sums.get(line.currency, 0) + line.amount
    return {currency: amount for currency, amount in sums.items() if amount}


def _spoken(movement: str) -> list[Journal]:
    """Every journal of a movement with its lines, what reversed one of them too, first to last."""
    return list(ledger_queries.journals().filter(reference=movement).exclude(reference="").order_by("id"))


def _realise_exchange(
    facts: policies.BalanceTransactionFacts,
    row: SeenBalanceTransaction,
    actor: Actor,
    now: datetime,
    *,
    key: str,
    effective_at: datetime,
) -> None:
    """What a conversion left on the charge's position is gain or loss as soon as one currency is left in it."""
    ledger.post(
        key=key,
        kind="fx",
        lines=policies.fx_realised(
            charge=facts.charge, positions=ledger_queries.standing(account="3900", key=facts.charge)
        ),
        subject=facts.booking,
        reference=row.id,
        effective_at=effective_at,
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
