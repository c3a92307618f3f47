"""What a host owes and will not pay is given up: proposed by one person of finance, decided by another."""

from __future__ import annotations

from datetime import datetime

from django.db import transaction

from backoffice.audit import operations as audit
from backoffice.core.actor import Actor
from backoffice.core.errors import Conflict, NotAllowed, NotFound, Refused, StaleVersion
from backoffice.core.money import Money
from backoffice.ledger import operations as ledger
from backoffice.payments import policies as posting
from backoffice.payouts import queries
from backoffice.payouts.models import WriteOff
from backoffice.payouts.policies.write_offs import check_write_off
from backoffice.payouts.states import WRITE_OFF
from backoffice.people import policies as people_policies
from backoffice.people import queries as people
from backoffice.people.models import User


def propose_write_off(*, host_code: str, amount: Money, reason: str, actor: Actor, now: datetime) -> WriteOff:
    """Propose to give up `amount` of what a host owes; nothing is posted before a second person says yes.

    Raises Refused without a reason, Conflict when it is more than is owed or another one of the host waits."""
    actor.must("payouts.write_off")
    if not reason.strip():
        raise Refused(missing="a reason")
    if actor.id is None:
        raise NotAllowed("A write-off is proposed by a person: somebody else has to say yes to it.")
    with transaction.atomic():
        # Two colleagues on the same list: the second waits for the host's row and finds the first one's proposal.
        host = User.objects.select_for_update().filter(code=host_code).first()
        if host is None:
            raise NotFound(kind="host")
        if host.id == actor.id:
            raise NotAllowed(verb="write off a debt of your own")
        if WriteOff.objects.filter(host=host, currency=amount.currency, status="proposed").exists():
            raise Conflict(
                "A write-off of this host and currency waits for a second person already; decide that first."
            )
        check_write_off(amount=amount, owed=queries.owed(host_code=host_code, currency=amount.currency))
        row = WriteOff.objects.create(
            host=host,
            amount=amount.amount,
            currency=amount.currency,
            reason=reason.strip(),
            proposed_by_id=actor.id,
            proposed_at=now,
        )
        _note(row, "propose", "", actor.because(reason), now)
    return row


def decide_write_off(*, code: str, approve: bool, reason: str, version: int, actor: Actor, now: datetime) -> WriteOff:
    """A second person says yes, which posts it, or no. Never more than is owed at that moment.

    Raises Refused without a reason, NotAllowed for its maker, StaleVersion, IllegalTransition when it was decided."""
    actor.must("payouts.write_off")
    if not reason.strip():
        raise Refused(missing="a reason")
    with transaction.atomic():
        # Two deciders at once: the second finds it decided.
        row = WriteOff.objects.select_for_update(of=("self",)).select_related("host").filter(code=code).first()
        if row is None:
            raise NotFound(kind="write-off")
        if row.version != version:
            raise StaleVersion(kind="write-off")
        check_write_off_decider(row=row, actor=actor)
        action = "approve" if approve else "reject"
        before = row.status
        row.status = WRITE_OFF.after(before, action)
        row.decided_by_id, row.decided_at = actor.id, now
        row.version += 1
        row.save(update_fields=["status", "decided_by", "decided_at", "version"])
        _note(row, action, before, actor.because(reason), now)
        if approve:
            _give_up(row, actor, now)
    return row


def check_write_off_decider(*, row: WriteOff, actor: Actor) -> None:
    """Raise unless the actor may say the second yes or no; the console's buttons ask it too."""
    actor.must("payouts.write_off")
    if actor.id is None or actor.id in {row.proposed_by_id, row.host_id}:
        raise NotAllowed("You may not decide this write-off: it needs a person other than its maker.")
    if not people_policies.may_approve(
        approver_roles=people.roles_of(person_id=actor.id),
        maker_roles=people.roles_of(person_id=row.proposed_by_id),
        same_person=False,
    ):
        raise NotAllowed("You may not decide this write-off: it needs a person with the authority for its maker.")


# Private --------------------------------------------------------------------------------------------------------------


def _give_up(row: WriteOff, actor: Actor, now: datetime) -> None:
    amount = Money(row.amount, row.currency)
    check_write_off(amount=amount, owed=queries.owed(host_code=row.host.code, currency=row.currency))
    ledger.post(
        key=f"write-off:{row.code}",
        kind="write_off",
        lines=posting.written_off(host=row.host.code, amount=amount),
        subject=row.host.code,
        reference=row.code,
        effective_at=now,
        actor=actor,
        now=now,
    )
    # A netting or clawback at the same moment: the posting locked the debt's row, so this reads what is left after both.
    if queries.owed(host_code=row.host.code, currency=row.currency).amount < 0:
        raise Conflict("What the host owes came back at this moment; look again.")


def _note(row: WriteOff, act: str, before: str, actor: Actor, now: datetime) -> None:
    audit.record(
        actor=actor,
        verb=f"payouts.write_off.{act}",
        kind="write_off",
        id=row.code,
        before={"status": before} if before else None,
        after={"status": row.status, "host": row.host.code, "amount": row.amount, "currency": row.currency},
        now=now,
    )
