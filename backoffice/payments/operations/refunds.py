"""Money back: opened, approved by the right person, claimed for sending, and recorded as the provider carries it out.

Whoever changes a refund holds its booking's and its payment's lock first.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django.db import transaction
from django.db.models import Q

from backoffice.audit import operations as audit
from backoffice.bookings import operations as bookings
from backoffice.core.actor import Actor
from backoffice.core.errors import (
    Conflict,
    Invalid,
    KeyReused,
    NotAllowed,
    RefundTooLarge,
    Refused,
)
from backoffice.core.money import Money
from backoffice.ledger import operations as ledger
from backoffice.ledger import queries as ledger_queries
from backoffice.notifications import operations as notifications
from backoffice.payments import policies, queries
from backoffice.payments.models import (
    ExtraCharge,
    Payment,
    Refund,
)
from backoffice.payments.operations.approvers import check_approver
from backoffice.payments.operations.attempts import touch
from backoffice.payments.operations.one_refund import lock_refund, move_refund, tell_guest
from backoffice.payments.operations.repayments import post_repayment
from backoffice.payments.policies.seen import SeenRefund
from backoffice.payments.states import BEARERS, REFUND, REFUND_CAUSES, REFUND_COUNTS
from backoffice.people import queries as people


def open_refund(
    *,
    payment: Payment,
    amount: Money,
    parts: policies.Parts,
    platform_share: Money,
    cause: str,
    bearer: str,
    reason: str,
    idempotency_key: str,
    approved: bool,
    actor: Actor,
    now: datetime,
    lines: Mapping[str, int] | None = None,
    charge: ExtraCharge | None = None,
    part_of: Refund | None = None,
    by_rule: bool = False,
    waits_for: str = "",
) -> Refund:
    """Open one refund of a payment that the caller has locked with its booking. `amount` is in the charge's currency,
    `parts`, `platform_share` (what we bear ourselves) and `lines` (where it was asked for by line) in the booking's.
    Approved at once, or waiting for a second person. With a `charge` it is that instalment that goes back; where several
    charges give back what was asked for, all but the first are `part_of` that and decided with it. One that is owed
    `by_rule` may be opened while it cannot be sent: it `waits_for` that to end (see `resume_refund`), and the guest is told.

    The same key with the same content returns the first refund; with other content it raises KeyReused. Raises
    RefundTooLarge when it is more than what is left, pending refunds counted."""
    digest = _digest(
        payment.code,
        amount.amount,
        parts.as_dict(),
        platform_share.amount,
        cause,
        bearer,
        dict(lines or {}),
        *([charge.code] if charge is not None else []),
    )
    earlier = Refund.objects.filter(idempotency_key=idempotency_key, by_rule=by_rule).first()
    if earlier is not None:
        if earlier.request_hash != digest:
            raise KeyReused(key=idempotency_key)
        return earlier
    if cause not in REFUND_CAUSES:
        raise Invalid(f"cause: write one of {', '.join(REFUND_CAUSES)}.", field="cause")
    if bearer not in BEARERS:
        raise Invalid(f"bearer: write one of {', '.join(BEARERS)}.", field="bearer")
    _check_room(payment, charge, amount, parts, waits=bool(waits_for))
    refund = Refund.objects.create(
        payment=payment,
        charge=charge,
        part_of=part_of,
        by_rule=by_rule,
        waits_for=waits_for,
        amount=amount.amount,
        currency=amount.currency,
        **parts.as_dict(),
        platform_share=platform_share.amount,
        lines=dict(lines or {}),
        cause=cause,
        bearer=bearer,
        reason=reason,
        idempotency_key=idempotency_key,
        request_hash=digest,
        requested_by_id=actor.id,
        requested_at=now,
    )
    audit.record(
        actor=actor,
        verb="refunds.request",
        kind="refund",
        id=refund.code,
        after={
            "booking": payment.booking.code,
            "amount": amount.amount,
            "currency": amount.currency,
            "cause": cause,
            "bearer": bearer,
        },
        reason=reason,
        now=now,
    )
    if approved and not waits_for:
        _approve(refund, payment, actor, now)
    if waits_for:
        tell_guest(refund=refund, topic="refund_waits", now=now)
    touch(payment=payment)  # what a page shows of this money is no longer the present, whoever took of it
    return refund


def approve_refund(*, refund_code: str, version: int, actor: Actor, now: datetime) -> Refund:
    """A second person says yes: never the maker, and only to whom their role may (DOMAIN.md, roles). What was asked for
    together is approved together.

    The refund is sent to the provider after the commit."""
    actor.must("refunds.approve")
    with transaction.atomic():
        # Two approvers at once: the second finds it approved.
        refund, payment = lock_refund(refund_code=refund_code, version=version)
        check_second_person(refund=refund, actor=actor)
        for each in _together(refund):
            _approve(each, payment, actor, now)
    return refund


def reject_refund(*, refund_code: str, version: int, reason: str, actor: Actor, now: datetime) -> Refund:
    """A second person says no, and why, to all that was asked for together. It can be refunded otherwise again."""
    actor.must("refunds.approve")
    if not reason.strip():
        raise Refused(missing="a reason")
    with transaction.atomic():
        refund, _ = lock_refund(refund_code=refund_code, version=version)
        check_second_person(refund=refund, actor=actor)
        for each in _together(refund):
            move_refund(refund=each, action="reject", actor=actor.because(reason), now=now)
    return refund


def cancel_refund(*, refund_code: str, version: int, actor: Actor, now: datetime) -> Refund:
    """Take back a refund that waits for a second person, with what was asked for together with it; what is approved is on
    its way and stays so."""
    actor.must("refunds.cancel")
    with transaction.atomic():
        refund, _ = lock_refund(refund_code=refund_code, version=version)
        if refund.status != "requested":
            raise Conflict("This refund is approved already and on its way to the guest.")
        if refund.requested_by_id != actor.id or refund.waits_for:
            raise NotAllowed(verb="take back a refund that somebody else asked for")
        for each in _together(refund):
            move_refund(refund=each, action="cancel", actor=actor, now=now)
    return refund


def resume_refund(*, refund: Refund, actor: Actor, now: datetime) -> None:
    """What a refund that is owed by rule waited for is over: approve and send it. The caller has locked booking and payment,
    and found that nothing keeps it any more."""
    refund = _locked(refund)
    if refund.status == "requested" and refund.waits_for:
        _approve(refund, refund.payment, actor, now)
        touch(payment=refund.payment)


def stop_refund(*, refund: Refund, actor: Actor, now: datetime, tell: bool = True) -> bool:
    """Take back a refund that waits or has not been sent, because a card network has taken the money; the actor says why,
    and the guest is told to ask their bank (unless another takes its place: not `tell`). Returns whether it was taken back.
    The caller has locked booking and payment.

    One that is being sent is left alone: the provider answers whether it went out before the network took the charge."""
    refund = _locked(refund)
    if refund.status not in {"requested", "approved"}:
        return False
    posted = refund.status == "approved"
    refund.settled_at, refund.waits_for = now, ""
    move_refund(refund=refund, action="cancel", actor=actor, now=now, fields=["settled_at", "waits_for"])
    if posted:
        _unpost(refund, f"refund-stopped:{refund.code}", actor.reason, actor, now)
    if tell:
        tell_guest(refund=refund, topic="refund_stopped", now=now)
    return True


def claim_refund(*, refund_code: str, now: datetime) -> Refund | None:
    """Claim an approved refund for sending, or one whose answer was lost; None when somebody else has it."""
    with transaction.atomic():
        # Two workers with the same hint: the row decides, the provider's key would too.
        refund = (
            Refund.objects.select_for_update(of=("self",), skip_locked=True)
            .select_related("payment")
            .filter(code=refund_code, method="card")
            .first()
        )
        if refund is None or not REFUND.allows(refund.status, "submit"):
            return None
        refund.status = REFUND.after(refund.status, "submit")
        refund.submitted_at = now
        refund.save(update_fields=["status", "submitted_at"])
        return refund


def lose_sight_of_refund(*, refund_code: str, now: datetime) -> None:
    """The provider's answer was lost; the same key, a webhook or the poll will tell."""
    with transaction.atomic():
        refund = Refund.objects.select_for_update().get(code=refund_code)
        if refund.status == "submitted" and refund.provider_id is None:
            refund.status = REFUND.after(refund.status, "lose_sight")
            refund.save(update_fields=["status"])


def record_refund(*, refund_code: str, seen: SeenRefund, actor: Actor, now: datetime) -> Refund:
    """Take over what the provider shows of a refund; repeating old news changes nothing."""
    with transaction.atomic():
        refund, _ = lock_refund(refund_code=refund_code)
        if seen.amount != Money(refund.amount, refund.currency):
            raise Conflict(f"The provider's refund {seen.id} is not that of {refund.code}.", seen=seen.id)
        if refund.provider_id is None:
            refund.provider_id = seen.id
            refund.save(update_fields=["provider_id"])
        if seen.status == "succeeded" and REFUND.allows(refund.status, "succeed"):
            refund.settled_at = now
            move_refund(refund=refund, action="succeed", actor=actor, now=now, fields=["settled_at"])
            tell_guest(refund=refund, topic="refund_succeeded", now=now)
        elif seen.status in {"failed", "cancelled"} and REFUND.allows(refund.status, "fail"):
            _fail(refund, seen.failure_reason or seen.status, at_provider=True, actor=actor, now=now)
    return refund


def fail_refund(
    *, refund_code: str, failure: str, at_provider: bool, actor: Actor, now: datetime, aside: bool = False
) -> Refund:
    """The provider refused a refund. Where no money moved there (`at_provider` False) our posting is reversed; unless the money
    is the guest's all the same: then it stands `aside` for them, to be paid another way."""
    with transaction.atomic():
        refund, _ = lock_refund(refund_code=refund_code)
        if REFUND.allows(refund.status, "fail"):
            _fail(refund, failure, at_provider=at_provider, aside=aside, actor=actor, now=now)
    return refund


def hold_again(*, refund: Refund, actor: Actor, now: datetime) -> bool:
    """A card network has a say in what stands aside of a refund that the provider refused: it is held under its booking again,
    and is no longer given; returns whether it was. The caller has locked booking and payment. One that is being paid another
    way stays so."""
    refund = _locked(refund)
    if not queries.was_refused(refund=refund) or refund.repayments.filter(status__in=REFUND_COUNTS).exists():
        return False
    aside = ledger_queries.journals().get(idempotency_key=f"refund-aside:{refund.code}")
    ledger.reverse(
        journal_id=aside.id, key=f"refund-aside-back:{refund.code}", reason=actor.reason, actor=actor, now=now
    )
    _unpost(refund, f"refund-refused:{refund.code}", actor.reason, actor, now)
    refund.unclaimed, refund.settled_at = False, now
    refund.version += 1
    refund.save(update_fields=["unclaimed", "settled_at", "version"])
    audit.record(
        actor=actor,
        verb="refunds.hold_again",
        kind="refund",
        id=refund.code,
        after={"status": refund.status, "booking": refund.payment.booking.code},
        now=now,
    )
    return True


# Private --------------------------------------------------------------------------------------------------------------


def _check_room(
    payment: Payment, charge: ExtraCharge | None, amount: Money, parts: policies.Parts, *, waits: bool
) -> None:
    if payment.status != "captured":
        raise Conflict("Nothing has been paid yet; there is nothing to refund.")
    if not waits:
        queries.assert_refundable(payment=payment, charge_id=(charge.charge_id or "") if charge is not None else "")
    charged_in = charge.currency if charge is not None else payment.currency  # damage: in the home's
    if amount.currency != charged_in:
        raise Invalid(f"amount: this booking was charged in {charged_in}.", field="amount")
    if amount.amount <= 0:
        raise Invalid("amount: must be above zero.", field="amount")
    limits = queries.left_of(payment=payment, charge=charge)  # of what no card network holds, as was just asked
    left = limits.parts.as_dict()
    over = [part for part, wanted in parts.as_dict().items() if wanted > left[part]]
    if amount > limits.charged or over:
        raise RefundTooLarge(maximum=str(limits.charged), amount=str(amount), parts=over)


def _approve(refund: Refund, payment: Payment, actor: Actor, now: datetime) -> None:
    """Approve, post our side of the refund, and have it sent: the row in the outbox is the promise to send."""
    refund.approved_by_id = actor.id
    refund.approved_at = now
    refund.waits_for = ""
    move_refund(
        refund=refund, action="approve", actor=actor, now=now, fields=["approved_by", "approved_at", "waits_for"]
    )
    if refund.method == "other":
        post_repayment(refund=refund, actor=actor, now=now)
        return
    ledger.post(
        key=f"refund:{refund.code}",
        kind="refund",
        lines=_lines(refund, payment, now),
        subject=payment.booking.code,
        reference=refund.code,
        effective_at=now,
        actor=actor,
        now=now,
    )
    notifications.enqueue(task="workflows.send_refund", kwargs={"refund_code": refund.code}, now=now)


def _lines(refund: Refund, payment: Payment, now: datetime) -> policies.Lines:
    """Each part comes first from what is still held, the rest from the host and our revenue."""
    booking, amount = payment.booking, Money(refund.amount, refund.currency)
    parts = policies.Parts.of(currency=booking.currency, amounts=refund.parts)
    share = Money(refund.platform_share, booking.currency)
    (origin,) = queries.refund_origins(payment=payment, gives=[(amount, parts, share)], on=now.date())
    return policies.refunded(
        refund=refund.code,
        amount=amount,
        held=origin.held,
        released=origin.released,
        of_released=origin.of_released,
        keys=queries.posting_keys(booking=booking),
        charge=queries.charge_of(refund=refund),
        platform_share=origin.share,
    )


def _fail(refund: Refund, failure: str, *, at_provider: bool, actor: Actor, now: datetime, aside: bool = False) -> None:
    refund.failure_reason = failure[:200]
    refund.settled_at = now
    # The provider took the money and gives it back, or never took what is the guest's: it stands on 2410 for them.
    refund.unclaimed = at_provider or aside
    move_refund(
        refund=refund, action="fail", actor=actor, now=now, fields=["failure_reason", "settled_at", "unclaimed"]
    )
    if aside:
        _set_aside(refund, actor, now)
    elif not at_provider:
        _unpost(refund, f"refund-refused:{refund.code}", f"refused by the provider: {failure}", actor, now)
    tell_guest(refund=refund, topic="refund_failed", now=now)
    if refund.unclaimed:
        _tell_finance(refund, now)


def _set_aside(refund: Refund, actor: Actor, now: datetime) -> None:
    ledger.post(
        key=f"refund-aside:{refund.code}",
        kind="refund_aside",
        lines=policies.set_aside(refund=refund.code, amount=Money(refund.amount, refund.currency)),
        subject=refund.payment.booking.code,
        reference=refund.code,
        effective_at=now,
        actor=actor,
        now=now,
    )


def _unpost(refund: Refund, key: str, reason: str, actor: Actor, now: datetime) -> None:
    posted = ledger_queries.journals().get(idempotency_key=f"refund:{refund.code}")
    ledger.reverse(journal_id=posted.id, key=key, reason=reason, actor=actor, now=now)


def _locked(refund: Refund) -> Refund:
    """The refund as it is now, of a booking and payment that the caller has locked: a worker may be claiming it."""
    rows = Refund.objects.select_for_update(of=("self",)).select_related("payment__booking__guest")
    return rows.get(id=refund.pk)


def _together(refund: Refund) -> list[Refund]:
    """A refund that was locked with its booking, and what else of its request still waits: one decision for all."""
    first = refund.part_of_id or refund.pk
    rows = Refund.objects.select_for_update(of=("self",)).filter(Q(pk=first) | Q(part_of=first), status="requested")
    others = list(rows.exclude(pk=refund.pk).order_by("id"))
    for other in others:
        other.payment = refund.payment
    return [refund, *others]


def check_second_person(*, refund: Refund, actor: Actor) -> None:
    """Raise unless the actor may say the second yes or no to this refund now; the console's buttons ask it too."""
    if refund.status != "requested":
        REFUND.after(refund.status, "approve")  # raises: says what it is and that it cannot be decided again
    if refund.waits_for:
        raise Conflict(
            "This refund is owed by rule and waits for the end of a chargeback; then it is approved by itself, or taken back. "
            "Nobody decides it."
        )
    if refund.method == "other":
        actor.must("refunds.repay")
    bookings.not_for_oneself(booking=refund.payment.booking, actor=actor)
    check_approver(
        what="refund",
        verb="refunds.approve",
        amount=queries.amount_asked(refund=refund),
        maker_id=refund.requested_by_id,
        actor=actor,
    )


def _tell_finance(refund: Refund, now: datetime) -> None:
    """Somebody has to ask the guest where else it may be paid, and nobody but finance may."""
    for person in people.staff().filter(roles__role="finance", status="active").order_by("id"):
        notifications.tell(
            topic="refund_stands_aside",
            recipient_id=person.pk,
            address=person.email,
            context={
                "name": person.first_name,
                "booking": refund.payment.booking.code,
                "refund": refund.code,
                "amount": Money(refund.amount, refund.currency).format(),
                "reason": refund.failure_reason,
            },
            dedupe_key=f"refund-aside:{refund.code}:{person.pk}",
            now=now,
        )


def _digest(*facts: Any) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
