"""Money that is the guest's by rule goes back without anybody's decision, through its charge, once: all of one that was
captured too late, for a stay that had ended or damage that was decided otherwise, or paid for a stay that its host cancelled;
and of a stay that its guest cancelled what the policy gave them of each, also where somebody's request covered it that came to
nothing later.

While a chargeback of the booking is open the refund waits, as any would be refused; it is sent once nothing holds the money
any more. What a chargeback of the very charge has given to the guest is not refunded on top, unless an appeal brings it back.
A chargeback of another charge of the booking returns nothing of this one. One that the provider refuses for a reason of its own
stands aside for the guest, to be paid another way. Callers hold the locks of booking and payment.
"""

from __future__ import annotations

from datetime import datetime

from django.db import transaction

from backoffice.bookings import queries as booking_queries
from backoffice.core.actor import Actor
from backoffice.core.money import Money
from backoffice.payments import policies, queries
from backoffice.payments.models import Chargeback, ExtraCharge, Payment, Refund
from backoffice.payments.operations.recoup import recoup
from backoffice.payments.operations.refunds import fail_refund, open_refund, resume_refund, stop_refund
from backoffice.payments.states import REFUND_AGAIN, REFUND_INSTEAD


def give_back_late(*, payment: Payment, charge: ExtraCharge | None, reason: str, actor: Actor, now: datetime) -> Refund:
    """Give back all of a charge that has just been recorded as captured too late (none: the payment itself). The refund is
    approved; or requested, waiting for the end of a chargeback; or cancelled, where the network gave this very charge to the
    guest."""
    key = f"late-charge:{charge.code}" if charge is not None else f"late-capture:{payment.code}"
    return _open(payment, charge, *_all_left(payment, charge), "late_capture", reason, key, actor, now)


def give_back_when_free(
    *,
    payment: Payment,
    charge: ExtraCharge | None,
    amount: Money,
    parts: policies.Parts,
    cause: str,
    key: str,
    reason: str,
    actor: Actor,
    now: datetime,
) -> Refund:
    """A stay was cancelled of which a card network holds the money of a charge (none: of the payment itself): what the
    cancellation gives of it, `amount` in its currency made of `parts`, is the guest's and waits for the end of that."""
    return _open(payment, charge, amount, parts, cause, reason, key, actor, now)


def follow_owed(*, payment: Payment, actor: Actor, now: datetime) -> None:
    """A chargeback of the booking has news: send what is owed by rule and waited for its end, and let what was taken back
    because of it wait or go again, where the network did not give that charge to the guest after all."""
    debts: dict[str, list[Refund]] = {}  # each with its tries
    for row in queries.owed_by_rule(payment=payment):
        debts.setdefault(row.idempotency_key.partition(REFUND_AGAIN)[0], []).append(row)
    for tries in debts.values():
        _follow(tries, payment, actor, now)


def refuse_refund(*, refund_code: str, failure: str, charged_back: bool, actor: Actor, now: datetime) -> Refund:
    """The provider refused a refund outright, and no money moved there. What a person asked for is held as before, unless the
    stay was cancelled meanwhile (`give_as_cancelled`). What is the guest's by rule stays theirs: it waits like others where a
    chargeback is why (`charged_back`, the provider's own word), and goes again with the news of that; for any other reason it
    stands aside, and two of finance pay it another way."""
    with transaction.atomic():
        owed = queries.refund(code=refund_code).by_rule
        refund = fail_refund(
            refund_code=refund_code,
            failure=failure,
            at_provider=False,
            aside=owed and not charged_back,
            actor=actor,
            now=now,
        )
        if owed and charged_back and _keeping(refund.payment, refund.charge):  # else its news is still to come
            follow_owed(payment=refund.payment, actor=actor, now=now)
        if refund.status == "failed" and not refund.unclaimed:
            give_as_cancelled(refund=refund, actor=actor, now=now)
        recoup(payment=refund.payment, actor=actor, now=now)
    return refund


def give_as_cancelled(*, refund: Refund, actor: Actor, now: datetime) -> Refund | None:
    """What a person asked for has come to nothing: it was rejected, taken back, refused by the provider or stopped for a
    chargeback. Was the stay cancelled meanwhile, its guest gets of this charge what the cancellation gives without it: all of
    it where the host cancelled, else what of the policy's share the request had covered. Once: whoever hears of a refusal a
    second time finds it given."""
    booking, key = refund.payment.booking, f"{refund.code}{REFUND_INSTEAD}"
    if refund.by_rule or refund.method != "card" or refund.payment.refunds.filter(idempotency_key=key).exists():
        return None
    if booking_queries.cancelled_by_host(booking=booking):
        cause, (amount, parts) = "host_cancellation", _all_left(refund.payment, refund.charge)
    else:
        cause, (amount, parts) = "guest_cancellation", _uncovered(refund)
    if not amount:
        return None
    why = f"the {cause.partition('_')[0]} cancelled, and {refund.code} came to nothing"
    return _open(refund.payment, refund.charge, amount, parts, cause, why, key, actor, now)


def _uncovered(refund: Refund) -> tuple[Money, policies.Parts]:
    """What a guest's cancellation still owes of the charge of a request that came to nothing."""
    owed = queries.uncovered_parts(booking=refund.payment.booking)
    (portion,) = policies.spread_parts(
        limits=[queries.left_of(payment=refund.payment, charge=refund.charge)], parts=owed
    )
    return portion.amount, portion.parts


def _follow(tries: list[Refund], payment: Payment, actor: Actor, now: datetime) -> None:
    last = tries[-1]
    keeping = _keeping(payment, last.charge)
    if any(row.status == "lost" for row in keeping):
        return  # the guest has it, and what was not sent has been taken back
    if last.waits_for and not keeping:
        resume_refund(
            refund=last, actor=actor.because(f"no chargeback holds this money any more: {last.reason}"), now=now
        )
    # One that the provider refused because the network had been quicker than the news of it goes again like the others.
    refused = last.status == "failed" and not last.unclaimed
    if last.status != "cancelled" and not refused:
        return
    amount, parts = _still_owed(last, payment)
    if amount:  # nothing is left where a person gave it back meanwhile
        key = f"{tries[0].idempotency_key}{REFUND_AGAIN}{len(tries)}"
        _open(payment, last.charge, amount, parts, last.cause, last.reason, key, actor, now)


def _still_owed(last: Refund, payment: Payment) -> tuple[Money, policies.Parts]:
    """What a refund that did not go out still owes: what the policy gave a guest who cancelled, less what a person gave them
    since; or else all that is left of the charge."""
    if last.cause != "guest_cancellation":
        return _all_left(payment, last.charge)
    return policies.still_owed(
        amount=Money(last.amount, last.currency),
        parts=policies.Parts.of(currency=payment.booking.currency, amounts=last.parts),
        given=queries.given_since(refund=last),
        left=queries.left_of(payment=payment, charge=last.charge),
    )


def _all_left(payment: Payment, charge: ExtraCharge | None) -> tuple[Money, policies.Parts]:
    left = queries.left_of(payment=payment, charge=charge)
    return left.charged, policies.pro_rata(remaining=left.parts, amount=left.from_charge(amount=left.charged))


def _open(
    payment: Payment,
    charge: ExtraCharge | None,
    amount: Money,
    parts: policies.Parts,
    cause: str,
    reason: str,
    key: str,
    actor: Actor,
    now: datetime,
) -> Refund:
    keeping = _keeping(payment, charge)
    refund = open_refund(
        payment=payment,
        charge=charge,
        amount=amount,
        parts=parts,
        platform_share=Money.zero(payment.booking.currency),
        cause=cause,
        bearer="host",
        reason=reason,
        idempotency_key=key,
        approved=True,
        by_rule=True,
        waits_for="chargeback" if keeping else "",
        actor=actor,
        now=now,
    )
    lost = next((row for row in keeping if row.status == "lost"), None)
    if lost is not None:
        stop_refund(refund=refund, actor=actor.because(f"chargeback {lost.code} has taken this money"), now=now)
        refund.refresh_from_db()
    return refund


def _keeping(payment: Payment, charge: ExtraCharge | None) -> list[Chargeback]:
    """The chargebacks for which nothing of a charge can go back: any open one of the booking, and those it was lost to."""
    charge_id = (charge.charge_id or "") if charge is not None else ""
    return list(queries.blocking_chargebacks(payment=payment, charge_id=charge_id))
