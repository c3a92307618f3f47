"""Questions about refunds that are owed and cannot go to the card: those that wait by rule (for what, until when, what of a
booking's money is theirs), and those whose money stands aside for the guest."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from django.db.models import Q, QuerySet, Sum

from backoffice.bookings.models import Booking
from backoffice.core.money import Money
from backoffice.jobs import queries as jobs
from backoffice.payments import policies
from backoffice.payments.models import PARTS, Chargeback, ExtraCharge, Payment, Refund
from backoffice.payments.policies import chargebacks as rules
from backoffice.payments.queries.money import (
    amount_asked,
    asked_back,
    asked_together,
    captured_left,
    charge_left,
    given_by_network,
    kept_by_network,
)
from backoffice.payments.states import REFUND_AGAIN, REFUND_COUNTS, REFUND_INSTEAD

_REFUSED: Final = "The provider refused to send it, and the money stands aside for the guest (2410). "
_SENT_BACK: Final = "The guest's bank sent it back, and the money stands aside for them (2410). "
_WAITS: Final = "It waits for the end of chargeback {code}: won, it is paid another way; lost, the guest has it."
_GIVEN: Final = (
    "The guest's bank sent it back, and then the card network gave them the charge itself (chargeback {code}): nothing of it is "
    "owed to them, unless an appeal brings it back to us."
)
_DO_NOT_SEND: Final = (
    "Do not send it at the bank any more: chargeback {code} has taken this charge, and the guest would have it twice. If it was "
    "not sent, say so (“The bank refused it”, ops refunds returned)."
)
_REMEDY: Final = (
    "Ask them where it is to go; two of finance then pay it another way (“Pay another way”, ops refunds repay)."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RefundWait:
    """What keeps a refund that is owed by rule: the open chargebacks of its booking, by code. `until` is the latest day by
    which one of them is to be answered, where the network names one; the network decides after it."""

    chargebacks: tuple[str, ...]
    until: datetime | None

    @property
    def sentence(self) -> str:
        """For staff; a guest reads it in the words of their receipt."""
        which = " and ".join(self.chargebacks) or "a chargeback"
        answer = f", to be answered by {self.until:%d %b %Y %H:%M} UTC" if self.until is not None else ""
        return (
            f"It waits for the end of {which}{answer}. It is sent by itself once nothing holds this money, and taken back if "
            "the card network gives this charge to the guest."
        )


def waiting_by_rule() -> QuerySet[Refund]:
    """Refunds that are owed by rule and wait, the oldest first."""
    return Refund.objects.filter(status="requested").exclude(waits_for="").order_by("id")


def refund_waits(*, refunds: Iterable[Refund]) -> dict[int, RefundWait]:
    """Why each of these refunds waits that is owed by rule, by id; those that wait for a person are not among them. One
    statement for all of them."""
    waiting = [refund for refund in refunds if refund.waits_for]
    found: dict[int, list[Chargeback]] = {}
    if waiting:
        rows = Chargeback.objects.filter(payment__in={refund.payment_id for refund in waiting}, kind="chargeback")
        for row in rows.exclude(status__in=rules.CLOSED).order_by("id"):
            found.setdefault(row.payment_id or 0, []).append(row)
    return {refund.pk: _wait(found.get(refund.payment_id, [])) for refund in waiting}


def why_refund_waits(*, refund: Refund) -> RefundWait | None:
    """Why a refund that is owed by rule waits; None for any other."""
    return refund_waits(refunds=[refund]).get(refund.pk)


def owed_by_rule(*, payment: Payment) -> QuerySet[Refund]:
    """The refunds of a payment that give back what is the guest's by rule, the oldest first."""
    return Refund.objects.filter(payment=payment, by_rule=True).select_related("charge__booking").order_by("id")


def stands_aside(*, refund: Refund) -> bool:
    """Whether the money of a refund stands aside for its guest (2410): it came back, or the provider refused what is theirs
    by rule."""
    return refund.status == "failed" and refund.unclaimed


def was_refused(*, refund: Refund) -> bool:
    """Whether the money of a refund stands aside though the provider never sent any of it."""
    return stands_aside(refund=refund) and refund.provider_id is None


def refunds_aside(*, refunds: Iterable[Refund]) -> dict[int, str]:
    """What became of those of these refunds that did not reach their guest, and what is to be done, by id; those that are being
    paid another way are not among them, unless that should be stopped. A few statements for all."""
    shown = list(refunds)
    aside = [refund for refund in shown if stands_aside(refund=refund)]
    to_send = [refund for refund in shown if refund.method == "other" and refund.status == "approved"]
    if not aside and not to_send:
        return {}
    paid = set(Refund.objects.filter(repays__in=aside, status__in=REFUND_COUNTS).values_list("repays_id", flat=True))
    keeping = kept_by_network(refunds=[*aside, *to_send])
    given = given_by_network(refunds=aside)
    said = {}
    for refund in aside:
        if refund.pk not in paid and refund.pk not in given:
            what = _REFUSED if was_refused(refund=refund) else _SENT_BACK
            waits = [row.code for row in keeping[refund.pk] if row.status != "lost" or row.loss_posted_at is None]
            said[refund.pk] = what + (_WAITS.format(code=waits[-1]) if waits else _REMEDY)
        elif refund.pk in given:
            said[refund.pk] = _GIVEN.format(code=given[refund.pk])
    for refund in to_send:
        if keeping[refund.pk]:
            said[refund.pk] = _DO_NOT_SEND.format(code=keeping[refund.pk][-1].code)
    return said


def refunds_stopped(*, refunds: Iterable[Refund]) -> dict[int, str]:
    """Why refunds are stopped for now, for each of these that is approved and would be sent to the card, by id. What the
    provider has been asked for goes on."""
    to_send = [refund for refund in refunds if refund.status == "approved" and refund.method == "card"]
    stop = jobs.stops().filter(scope="refunds").first() if to_send else None
    return {refund.pk: stop.reason for refund in to_send} if stop is not None else {}


def left_of(*, payment: Payment, charge: ExtraCharge | None) -> policies.RefundLimits:
    """What refunds have left of a captured charge, the payment's own unless said, whatever a card network holds of it."""
    return captured_left(payment=payment) if charge is None else charge_left(charge=charge, payment=payment)


def given_since(*, refund: Refund) -> Money:
    """What people have given back of the same charge since a refund of it was opened, out of its parts."""
    by_hand = Refund.objects.filter(
        Q(status__in=REFUND_COUNTS) | Q(status="failed", unclaimed=True),
        payment=refund.payment_id,
        charge=refund.charge_id,
        by_rule=False,
        repays=None,
        platform_share=0,
        pk__gt=refund.pk,
    )
    return Money(by_hand.aggregate(total=Sum("amount", default=0))["total"], refund.currency)


def parts_waiting(*, booking: Booking) -> policies.Parts:
    """What stands under a booking and is the guest's by rule, though it cannot go back yet."""
    return _sum(booking, waiting_by_rule().filter(payment__booking=booking))


def parts_undecided(*, booking: Booking) -> policies.Parts:
    """What stands under a stay that its guest cancelled and is not its host's whatever is decided, while something is under way
    that people had asked for."""
    if booking.status != "cancelled" or not asked_back().filter(payment__booking=booking).exists():
        return policies.Parts.none(booking.currency)
    return uncovered_parts(booking=booking)


def after_no(*, refund: Refund) -> str:
    """What happens if a refund that waits for a person is rejected or taken back, where its stay was cancelled since; else
    nothing is to be said."""
    covered = (refund.payment.booking.cancellation or {}).get("asked")
    if covered is None or refund.status != "requested" or refund.waits_for or refund.method != "card":
        return ""
    instead = refund.payment.refunds.filter(by_rule=True, idempotency_key__endswith=REFUND_INSTEAD)
    given = int(instead.aggregate(total=Sum("amount", default=0))["total"])
    rest = min(Money(covered["amount"] - given, covered["currency"]), amount_asked(refund=refund))
    if rest.amount <= 0:
        return ""
    return (
        f"The stay was cancelled after this was asked for. Whatever is decided, {rest} that this covers is the guest’s: "
        "rejected or taken back, it goes back by rule instead."
    )


def given_instead(*, refund: Refund) -> list[Refund]:
    """What went back by rule in place of a request that came to nothing, through each of its charges."""
    keys = [f"{one.code}{REFUND_INSTEAD}" for one in asked_together(refund=refund)]
    return list(Refund.objects.filter(payment=refund.payment_id, by_rule=True, idempotency_key__in=keys).order_by("id"))


def uncovered_parts(*, booking: Booking) -> policies.Parts:
    """What a guest's cancellation takes back beyond what it has given: the guest's, should what people had asked for before it
    come to nothing, or ours, who gave it to them before."""
    due = (booking.cancellation or {}).get("due")
    if due is None:
        return policies.Parts.none(booking.currency)
    given = Refund.objects.filter(payment__booking=booking, by_rule=True, cause="guest_cancellation")
    first = given.exclude(idempotency_key__contains=REFUND_AGAIN)  # not what was tried again
    return policies.Parts.of(currency=booking.currency, amounts=due).minus(_sum(booking, first))


def later_left(*, booking: Booking, number: int) -> policies.Parts:
    """What is still there of the captured instalments after `number`: less what went back of them, and what is to."""
    later = ExtraCharge.objects.filter(booking=booking, kind="instalment", status="captured", number__gt=number)
    # What waits for a person still stands under the booking.
    gone = ~Q(waits_for="") | Q(status__in=set(REFUND_COUNTS) - {"requested"}) | Q(status="failed", unclaimed=True)
    back = Refund.objects.filter(gone, charge__in=later, repays=None)
    return _sum(booking, later).minus(_sum(booking, back))


def _sum(booking: Booking, rows: QuerySet[Refund] | QuerySet[ExtraCharge]) -> policies.Parts:
    amounts = rows.order_by().aggregate(**{part: Sum(part, default=0) for part in PARTS})
    return policies.Parts.of(currency=booking.currency, amounts=amounts)


def _wait(found: list[Chargeback]) -> RefundWait:
    return RefundWait(
        chargebacks=tuple(row.code for row in found),
        until=max((row.due_by for row in found if row.due_by is not None), default=None),
    )
