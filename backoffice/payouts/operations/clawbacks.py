"""Taking money back that was sent: asked for by finance or by rule, claimed, and recorded as the provider carries it out.

What is asked back leaves the host's debt (1310) at once, so that no netting takes it a second time; where the provider
refuses, the posting is reversed and the host owes it again."""

from __future__ import annotations

from datetime import datetime

from django.db import transaction

from backoffice.audit import operations as audit
from backoffice.core.actor import Actor
from backoffice.core.errors import Conflict, NotAllowed, NotFound, Refused, StaleVersion
from backoffice.core.money import Money
from backoffice.ledger import operations as ledger
from backoffice.ledger import queries as ledger_queries
from backoffice.notifications import operations as notifications
from backoffice.payments import policies as posting
from backoffice.payouts import queries
from backoffice.payouts.models import Clawback, Payout
from backoffice.payouts.policies.clawbacks import check_clawback
from backoffice.payouts.queries.clawbacks import UNDER_WAY
from backoffice.payouts.states import CLAWBACK, PAYOUT, SENT


def request_clawback(
    *, payout_code: str, amount: Money, reason: str, version: int, actor: Actor, now: datetime
) -> Clawback:
    """Ask `amount` (of the transfer's currency) back from a payout that was sent; it is carried out after the commit.

    Raises Refused without a reason, StaleVersion, Conflict when nothing was sent, another clawback of it is under way, or
    it is more than is left of the transfer or than the host owes."""
    actor.must("payouts.claw_back")
    if not reason.strip():
        raise Refused(missing="a reason")
    with transaction.atomic():
        payout = _lock_payout(payout_code)  # two members of staff at once: the second finds the version moved on
        if payout.version != version:
            raise StaleVersion(kind="payout")
        _check_payout(payout, amount, actor)
        clawback = Clawback.objects.create(
            payout=payout,
            host_id=payout.host_id,
            amount=amount.amount,
            currency=amount.currency,
            reason=reason.strip(),
            tries=1,
            requested_by_id=actor.id,
            requested_at=now,
        )
        _touch(payout)
        _ask(clawback, payout, actor, now)
        _note(clawback, "request", "", actor.because(reason), now, payout=payout.code, amount=amount)
    return clawback


def retry_clawback(*, clawback_code: str, version: int, actor: Actor, now: datetime) -> Clawback:
    """Ask again what the provider refused, under a new key. Raises StaleVersion, NotAllowed and Conflict as
    `request_clawback` does."""
    actor.must("payouts.claw_back")
    with transaction.atomic():
        clawback, payout = _lock(clawback_code)  # a second click finds it asked for again
        if clawback.version != version:
            raise StaleVersion(kind="clawback")
        if clawback.status != "failed":
            raise Conflict(f"Clawback {clawback.code} was not refused; there is nothing to try again.")
        _check_payout(payout, Money(clawback.amount, clawback.currency), actor)
        clawback.tries += 1
        clawback.settled_at, clawback.failure = None, ""
        _move(clawback, "submit", actor, now, fields=["tries", "settled_at", "failure"])
        # Nobody has called yet: whoever takes it now, or finds it overdue, looks for it first.
        _move(clawback, "lose_sight", actor, now)
        _ask(clawback, payout, actor, now)
    return clawback


def claim_clawback(*, clawback_code: str, now: datetime) -> Clawback | None:
    """Claim a clawback for sending, or one whose answer was lost; None when somebody else has it or it is done."""
    with transaction.atomic():
        # Two workers with the same hint: the row decides, the provider's key would too.
        clawback = (
            Clawback.objects.select_for_update(of=("self",), skip_locked=True)
            .select_related("payout__host", "payout__booking")
            .filter(code=clawback_code, status__in=["requested", "indeterminate"])
            .first()
        )
        if clawback is None:
            return None
        clawback.status = CLAWBACK.after(clawback.status, "submit")
        clawback.submitted_at = now
        clawback.save(update_fields=["status", "submitted_at"])
        return clawback


def lose_sight_of_clawback(*, clawback_code: str, now: datetime) -> None:
    """The provider's answer was lost: it is looked for, then asked again with the same key."""
    with transaction.atomic():
        clawback = Clawback.objects.select_for_update().get(code=clawback_code)
        if clawback.status == "submitted":
            clawback.status = CLAWBACK.after(clawback.status, "lose_sight")
            clawback.save(update_fields=["status"])


def record_clawback(*, clawback_code: str, provider_id: str, amount: Money, actor: Actor, now: datetime) -> Clawback:
    """The provider has reversed the transfer by this much (`trr_…`); repeating old news changes nothing.

    Raises Conflict when it is not what was asked for."""
    with transaction.atomic():
        clawback, payout = _lock(clawback_code)
        if amount != Money(clawback.amount, clawback.currency):
            raise Conflict(f"The provider's reversal {provider_id} is not that of {clawback.code}.", seen=provider_id)
        if not CLAWBACK.allows(clawback.status, "succeed"):
            return clawback
        clawback.provider_id, clawback.settled_at = provider_id, now
        _move(clawback, "succeed", actor, now, fields=["provider_id", "settled_at"])
        payout.reversed_amount += clawback.amount
        if payout.reversed_amount == payout.transfer_amount and PAYOUT.allows(payout.status, "reverse"):
            payout.status, payout.waits_for = PAYOUT.after(payout.status, "reverse"), ""
        payout.version += 1
        payout.save(update_fields=["reversed_amount", "status", "waits_for", "version"])
        _tell_host(clawback, payout, now)
    return clawback


def fail_clawback(*, clawback_code: str, failure: str, tries: int, actor: Actor, now: datetime) -> Clawback:
    """The provider refused, mostly since the host's balance there does not hold as much: nothing moved, our posting is
    reversed and the host owes it as before. `tries` names the try that was refused; news of an earlier one changes nothing."""
    with transaction.atomic():
        clawback, _ = _lock(clawback_code)
        if clawback.tries != tries or not CLAWBACK.allows(clawback.status, "fail"):
            return clawback
        clawback.failure, clawback.settled_at = failure[:300], now
        _move(clawback, "fail", actor, now, fields=["failure", "settled_at"])
        key = queries.clawback_key(clawback=clawback)
        asked = ledger_queries.journals().get(idempotency_key=key)
        ledger.reverse(
            journal_id=asked.id,
            key=f"{key}:refused",
            reason=f"refused by the provider: {failure}",
            actor=actor,
            now=now,
        )
    return clawback


# Private --------------------------------------------------------------------------------------------------------------


def _lock_payout(code: str) -> Payout:
    payout = Payout.objects.select_for_update(of=("self",)).select_related("host", "booking").filter(code=code).first()
    if payout is None:
        raise NotFound(kind="payout")
    return payout


def _lock(clawback_code: str) -> tuple[Clawback, Payout]:
    """Lock the payout, then its clawback. Raises NotFound."""
    found = Clawback.objects.select_related("payout").filter(code=clawback_code).first()
    if found is None:
        raise NotFound(kind="clawback")
    payout = _lock_payout(found.payout.code)
    return Clawback.objects.select_for_update().get(id=found.id), payout


def _check_payout(payout: Payout, amount: Money, actor: Actor) -> None:
    """Raise unless this much may be asked back from this payout now; the caller has locked it."""
    if payout.host_id == actor.id:
        raise NotAllowed(verb="decide about a payout of your own")
    if payout.status not in SENT:
        raise Conflict(f"Nothing of payout {payout.code} has been sent (it is {payout.status.replace('_', ' ')}).")
    if payout.clawbacks.filter(status__in=UNDER_WAY).exists():
        raise Conflict("A clawback of this payout is under way; wait for its outcome.")
    currency = payout.transfer_currency
    check_clawback(
        amount=amount,
        owed=queries.owed(host_code=payout.host.code, currency=currency),
        left=Money(payout.transfer_amount - payout.reversed_amount, currency),
    )


def _ask(clawback: Clawback, payout: Payout, actor: Actor, now: datetime) -> None:
    """Post our side and have it sent: the row in the outbox is the promise to send."""
    host = payout.host.code
    key = queries.clawback_key(clawback=clawback)
    ledger.post(
        key=key,
        kind="clawback",
        lines=posting.reversal_requested(
            host=host, reversal=clawback.code, amount=Money(clawback.amount, clawback.currency)
        ),
        subject=payout.booking.code,
        reference=payout.code,
        effective_at=now,
        actor=actor,
        now=now,
    )
    # A netting at the same moment: the debt's row was locked by the posting, so this reads what is left after both.
    if queries.owed(host_code=host, currency=clawback.currency).amount < 0:
        raise Conflict("What the host owes was taken from a payout at this moment; look again.")
    notifications.enqueue(task="workflows.send_clawback", kwargs={"clawback_code": clawback.code}, now=now)


def _touch(payout: Payout) -> None:
    """Move the version on: what was shown of this payout is no longer the present."""
    payout.version += 1
    payout.save(update_fields=["version"])


def _move(clawback: Clawback, action: str, actor: Actor, now: datetime, *, fields: list[str] | None = None) -> None:
    before = clawback.status
    clawback.status = CLAWBACK.after(before, action)
    clawback.version += 1
    clawback.save(update_fields=["status", "version", *(fields or [])])
    _note(clawback, action, before, actor, now)


def _note(
    clawback: Clawback,
    act: str,
    before: str,
    actor: Actor,
    now: datetime,
    *,
    payout: str = "",
    amount: Money | None = None,
) -> None:
    facts = {"payout": payout, "amount": amount.amount, "currency": amount.currency} if amount is not None else {}
    audit.record(
        actor=actor,
        verb=f"payouts.clawback.{act}",
        kind="clawback",
        id=clawback.code,
        before={"status": before} if before else None,
        after={"status": clawback.status, **facts},
        now=now,
    )


def _tell_host(clawback: Clawback, payout: Payout, now: datetime) -> None:
    notifications.tell(
        topic="payout_taken_back",
        recipient_id=payout.host_id,
        address=payout.host.email,
        context={
            "amount": Money(clawback.amount, clawback.currency).format(),
            "payout": payout.code,
            "booking": payout.booking.code,
            "reason": clawback.reason if clawback.reason.endswith((".", "!", "?")) else f"{clawback.reason}.",
        },
        now=now,
    )
