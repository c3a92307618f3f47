"""Another way: a refund that the guest's bank sent back (the card was closed), or that is theirs by rule and the provider
refused, is paid from our own bank account.

The money stands on 2410 for the guest. One member of finance names where it is to go, another says yes, the first sends it
at the bank and notes the bank's reference; the line of the bank's statement that carries it settles it. Where it goes is
kept with the bank, not here: only the reference is.

What the bank refuses or sends back stands aside for the guest again, and can be asked for anew.
"""

from __future__ import annotations

from datetime import datetime
from fractions import Fraction

from django.db import transaction

from backoffice.audit import operations as audit
from backoffice.bookings import operations as bookings
from backoffice.core.actor import Actor
from backoffice.core.errors import Conflict, Invalid, Refused
from backoffice.core.money import Money
from backoffice.jobs import queries as jobs
from backoffice.ledger import operations as ledger
from backoffice.ledger import queries as ledger_queries
from backoffice.payments import policies, queries
from backoffice.payments.models import Refund
from backoffice.payments.operations.attempts import touch
from backoffice.payments.operations.one_refund import lock_refund, move_refund, tell_guest
from backoffice.payments.policies.postings import FX_POSITION, UNCLAIMED
from backoffice.payments.policies.postings import REFUND as REFUNDING
from backoffice.payments.states import REFUND, REFUND_COUNTS, REPAYMENT_GIVEN_UP


def request_repayment(*, refund_code: str, version: int, reason: str, actor: Actor, now: datetime) -> Refund:
    """Ask for what a refund that did not reach its guest left standing to be paid another way; a second person must agree.

    The amount is in our settlement currency: what the provider gave back to us of this refund, or what its charge had brought
    where the provider never sent it. Raises Refused without a reason, StaleVersion, Stopped while refunds are, Conflict when
    nothing stands aside of it, it is being repaid already, its money has not been seen at the provider yet, or a card network
    holds or has given it."""
    actor.must("refunds.repay")
    jobs.assert_not_stopped(scope="refunds")
    if not reason.strip():
        raise Refused(missing="a reason")
    with transaction.atomic():
        # Two people with the same returned refund: the second finds the first one's repayment.
        returned, payment = lock_refund(refund_code=refund_code, version=version)
        amount = check_repayment(refund=returned, actor=actor)
        number = Refund.objects.filter(repays=returned).count() + 1
        refund = Refund.objects.create(
            payment=payment,
            amount=amount.amount,
            currency=amount.currency,
            held=0,
            host_fee=0,
            guest_fee=0,
            vat=0,
            occupancy_tax=0,
            cause=returned.cause,
            bearer=returned.bearer,
            reason=reason.strip(),
            method="other",
            repays=returned,
            idempotency_key=f"repay:{returned.code}:{number}",
            request_hash="",
            requested_by_id=actor.id,
            requested_at=now,
        )
        audit.record(
            actor=actor.because(reason),
            verb="refunds.repay",
            kind="refund",
            id=refund.code,
            after={"repays": returned.code, "amount": amount.amount, "currency": amount.currency},
            now=now,
        )
        touch(payment=payment)
    return refund


def check_repayment(*, refund: Refund, actor: Actor) -> Money:
    """What can be paid another way of a refund; raises unless it came back, stands aside and nobody pays it yet. The
    console's button asks it too."""
    actor.must("refunds.repay")
    if not queries.stands_aside(refund=refund):
        raise Conflict(
            "Only a refund that the guest's bank sent back, or that is theirs by rule and the provider refused, is paid another "
            "way."
        )
    if refund.repayments.filter(status__in=REFUND_COUNTS).exists():
        raise Conflict("This refund is being paid another way already.")
    bookings.not_for_oneself(booking=refund.payment.booking, actor=actor)
    queries.assert_repayable(refund=refund)
    return _payable(refund)


def note_repayment(*, refund_code: str, reference: str, version: int, actor: Actor, now: datetime) -> Refund:
    """Note that an approved repayment was sent at the bank, under the bank's reference, which its statement will name.

    Raises Invalid for the reference, StaleVersion, IllegalTransition unless it was approved and not sent."""
    actor.must("refunds.repay")
    if not reference.strip() or len(reference) > 80:
        raise Invalid(
            "reference: write the bank's reference of the transfer, at most 80 characters.", field="reference"
        )
    with transaction.atomic():
        refund, _ = lock_refund(refund_code=refund_code, version=version, another_way=True)
        check_note(refund=refund, actor=actor)
        if Refund.objects.filter(provider_id=reference.strip()).exclude(id=refund.id).exists():
            raise Invalid("reference: another repayment carries it already.", field="reference")
        refund.provider_id, refund.submitted_at = reference.strip(), now
        return move_refund(refund=refund, action="submit", actor=actor, now=now, fields=["provider_id", "submitted_at"])


def check_note(*, refund: Refund, actor: Actor) -> None:
    """Raise unless the actor may say that this repayment was sent at the bank; the console's button asks it too."""
    actor.must("refunds.repay")
    if refund.method != "other":
        raise Conflict("The provider sends this refund to the guest's card; there is nothing to send at the bank.")
    REFUND.after(refund.status, "submit")
    bookings.not_for_oneself(booking=refund.payment.booking, actor=actor)


def return_repayment(*, refund_code: str, reason: str, version: int, actor: Actor, now: datetime) -> Refund:
    """Record that the bank refused an approved repayment, or sent it back after its statement had shown it: the yes is
    reversed, so that the money stands aside for the guest as before, and the guest is told.

    One that was never noted as sent is cancelled, any other has failed. What had left our account is not asked for again
    before the bank's statement shows it back (`bring_back_repayment`). Raises Refused without a reason, StaleVersion,
    IllegalTransition unless it was approved."""
    actor.must("refunds.repay")
    if not reason.strip():
        raise Refused(missing="a reason")
    with transaction.atomic():
        # The statement may settle it at this moment: one after the other, and either way it is reversed once.
        refund, _ = lock_refund(refund_code=refund_code, version=version, another_way=True)
        check_return(refund=refund, actor=actor)
        refund.failure_reason, refund.settled_at = reason.strip()[:200], now
        step = "cancel" if refund.status == "approved" else "fail"
        refund = move_refund(
            refund=refund, action=step, actor=actor.because(reason), now=now, fields=["failure_reason", "settled_at"]
        )
        posted = ledger_queries.journals().get(idempotency_key=f"refund:{refund.code}")
        ledger.reverse(
            journal_id=posted.pk, key=f"repayment-returned:{refund.code}", reason=reason, actor=actor, now=now
        )
        tell_guest(refund=refund, topic="refund_failed", now=now)
        touch(payment=refund.payment)
    return refund


def check_return(*, refund: Refund, actor: Actor) -> None:
    """Raise unless the actor may say that the bank did not carry out this repayment; the console's button asks it too."""
    actor.must("refunds.repay")
    if refund.method != "other":
        raise Conflict("The provider sends this refund to the guest's card, and says itself when it comes back.")
    if refund.status not in {"approved", "submitted", "succeeded"}:
        REFUND.after(refund.status, "submit")  # raises: says what it is
    bookings.not_for_oneself(booking=refund.payment.booking, actor=actor)


def settle_repayment(
    *, refund_code: str, bank: str, line: str, amount: Money, actor: Actor, now: datetime, suspense: str = ""
) -> Refund:
    """A line of the bank's statement (`line` is its id, `amount` what left, above zero) carries a repayment. One that was
    recorded as sent back meanwhile stays so: the money is on its way back to us. `suspense` is the key under which the
    line stands in suspense (9900), if it came before anybody knew whose it is.

    Raises Conflict when it is not what was approved: then the line stays for a person to identify."""
    with transaction.atomic():
        refund, _ = lock_refund(refund_code=refund_code, another_way=True)
        if refund.status == "succeeded":
            return refund
        lines = policies.repaid_from_bank(refund=refund.code, bank=bank, amount=amount, suspense=suspense)
        _post_line(refund, f"repaid:{refund.code}", "repayment", amount, lines, line, actor, now)
        if queries.is_given_up(repayment=refund):
            return refund
        refund.settled_at = now
        if refund.status == "approved":  # the statement was quicker than whoever sent it
            refund.submitted_at = now
            move_refund(refund=refund, action="submit", actor=actor, now=now, fields=["submitted_at"])
        refund = move_refund(refund=refund, action="succeed", actor=actor, now=now, fields=["settled_at"])
        tell_guest(refund=refund, topic="refund_succeeded", now=now)
        return refund


def bring_back_repayment(
    *,
    refund_code: str,
    bank: str,
    line: str,
    amount: Money,
    actor: Actor,
    now: datetime,
    suspense: str = "",
    less: bool = False,
) -> Refund:
    """A line of the bank's statement (`amount` is what came in, above zero) brings a repayment back that was recorded as
    sent back; `suspense` as in `settle_repayment`. Where a person says so it may be `less`: what a bank has kept of it is
    left standing under the repayment (2400), for two people to write off, and the guest is paid all of it anew.

    Repeating it changes nothing, unless a person says so (`check_back_less`). Raises Conflict when nobody has recorded it, or
    it is another amount."""
    with transaction.atomic():
        refund, _ = lock_refund(refund_code=refund_code, another_way=True)
        _check_given_up(refund)
        if less:
            check_back_less(refund=refund, actor=actor)
            _check_less(refund, amount)
        lines = policies.repaid_from_bank(refund=refund.code, bank=bank, amount=-amount, suspense=suspense)
        _post_line(refund, _back(refund), "repayment_back", amount, lines, line, actor, now, less=less)
        return refund


def check_back_less(*, refund: Refund, actor: Actor) -> None:
    """Raise unless the actor may say which line of the bank brings this repayment back less a fee: it was recorded as sent
    back, the statement has shown it leave, and no line has brought it back yet. The console's button asks it too."""
    actor.must("refunds.repay")
    if refund.method != "other":
        raise Conflict("The provider sends this refund to the guest's card, and says itself when it comes back.")
    _check_given_up(refund)
    journals = ledger_queries.journals()
    if not journals.filter(idempotency_key=f"repaid:{refund.code}").exists():
        raise Conflict(f"The bank's statement has not shown yet that {refund.code} left our account; import it first.")
    if journals.filter(idempotency_key=_back(refund)).exists():
        raise Conflict(f"Another line has brought {refund.code} back already.")
    bookings.not_for_oneself(booking=refund.payment.booking, actor=actor)


def post_repayment(*, refund: Refund, actor: Actor, now: datetime) -> None:
    """The second person said yes: what stood aside for the guest is on its way. In the transaction of the caller, who has
    locked booking and payment. Raises Conflict when what was asked for does not stand aside any more."""
    returned, amount = refund.repays, Money(refund.amount, refund.currency)
    assert returned is not None  # the database keeps it: what is paid another way says what it repays
    queries.assert_repayable(refund=returned)
    payable, charge = _payable(returned), queries.charge_of(refund=returned)
    if payable != amount:
        raise Conflict(
            f"What stands aside of {returned.code} is {payable}, not {amount}; reject this one and ask anew."
        )
    ledger.post(
        key=f"refund:{refund.code}",
        kind="repayment_approved",
        lines=policies.repaid(
            returned=returned.code, refund=refund.code, standing=_standing(returned), amount=amount, charge=charge
        ),
        subject=refund.payment.booking.code,
        reference=refund.code,
        effective_at=now,
        actor=actor,
        now=now,
    )
    if queries.was_refused(refund=returned):  # in the currency of the charge, perhaps, whose position ends with it
        positions = ledger_queries.standing(account=FX_POSITION, key=charge)
        ledger.post(
            key=f"fx:refund:{refund.code}",
            kind="fx",
            lines=policies.fx_realised(charge=charge, positions=positions),
            subject=refund.payment.booking.code,
            reference=refund.code,
            effective_at=now,
            actor=actor,
            now=now,
        )


# Private --------------------------------------------------------------------------------------------------------------


def _back(refund: Refund) -> str:
    return f"repaid-back:{refund.code}"


def _check_given_up(refund: Refund) -> None:
    if not queries.is_given_up(repayment=refund):
        raise Conflict(f"Nobody has recorded yet that the bank sent {refund.code} back.")


def _check_less(refund: Refund, amount: Money) -> None:
    whole = Money(refund.amount, refund.currency)
    if amount.currency != whole.currency or not 0 < amount.amount < whole.amount:
        raise Conflict(f"The bank's line brings {amount}; that is not {whole} of {refund.code} less a fee.")


def _post_line(
    refund: Refund,
    key: str,
    kind: str,
    amount: Money,
    lines: policies.Lines,
    line: str,
    actor: Actor,
    now: datetime,
    *,
    less: bool = False,
) -> None:
    """The bank's side of a repayment. Leaving and coming back are one line's each, once."""
    if amount != Money(refund.amount, refund.currency) and not less:
        raise Conflict(f"The bank's line says {amount}; {refund.code} is over {Money(refund.amount, refund.currency)}.")
    if ledger_queries.journals().filter(idempotency_key=key).exists():
        return
    ledger.post(
        key=key,
        kind=kind,
        lines=lines,
        subject=refund.payment.booking.code,
        reference=line,
        effective_at=now,
        actor=actor,
        now=now,
    )


def _payable(returned: Refund) -> Money:
    """What can be paid another way of this refund. What the provider never sent stands in the currency of the charge, and is
    with us in that which the provider settled it in."""
    standing = _standing(returned)
    if not queries.was_refused(refund=returned):
        return standing
    settled = queries.settled_of(charge=queries.charge_of(refund=returned))
    if settled is None:
        raise Conflict("The provider has not told us yet what this charge brought; import its movements first.")
    if settled.currency == standing.currency:
        return standing
    charged = returned.charge.amount if returned.charge is not None else returned.payment.amount
    return settled.share(Fraction(standing.amount, charged))


def _standing(returned: Refund) -> Money:
    """What stands aside of this refund and nobody has taken since, nor is still with our bank."""
    for earlier in returned.repayments.filter(status__in=REPAYMENT_GIVEN_UP):
        back = ledger_queries.journals().filter(idempotency_key=_back(earlier)).exists()  # perhaps less a fee
        if not back and ledger_queries.standing(account=REFUNDING, key=earlier.code):
            raise Conflict(
                f"{earlier.code} left our account and the bank's statement has not shown it back yet; import it first."
            )
    standing = [-amount for amount in ledger_queries.standing(account=UNCLAIMED, key=returned.code)]
    if not standing:
        raise Conflict("The provider has not given this money back to us yet; import its movements first.")
    if len(standing) > 1 or standing[0].amount < 0:
        raise Conflict(f"What stands aside of {returned.code} is not one amount; look at account 2410 first.")
    return standing[0]
