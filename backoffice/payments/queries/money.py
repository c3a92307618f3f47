"""Questions about money in and money back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Final

from django.db.models import Q, QuerySet, Sum

from backoffice.bookings.models import Booking
from backoffice.bookings.policies import PriceBreakdown
from backoffice.core.errors import NotFound
from backoffice.core.money import Money
from backoffice.jobs import queries as jobs
from backoffice.ledger import queries as ledger
from backoffice.payments import policies
from backoffice.payments.models import (
    PARTS,
    BalanceTransaction,
    Chargeback,
    ExtraCharge,
    Payment,
    PaymentAttempt,
    Refund,
    WebhookEvent,
)
from backoffice.payments.policies import chargebacks as chargeback_rules
from backoffice.payments.states import REFUND_COUNTS, REFUND_UNDER_WAY, REPAYMENT_GIVEN_UP

# What people asked for and may still come to nothing.
_ASKED: Final = Q(by_rule=False, status__in=REFUND_UNDER_WAY)


def payments() -> QuerySet[Payment]:
    """Every payment with its booking, newest first."""
    return Payment.objects.select_related("booking__listing", "booking__guest").order_by("-id")


def refunds() -> QuerySet[Refund]:
    """Every refund with its payment and booking, newest first."""
    return Refund.objects.select_related("payment__booking", "requested_by", "approved_by").order_by("-id")


def webhooks() -> QuerySet[WebhookEvent]:
    """The inbox, newest first, without the raw payloads."""
    return WebhookEvent.objects.defer("payload").order_by("-id")


def webhook(*, event_id: str) -> WebhookEvent:
    """One event with its payload. Raises NotFound."""
    found = WebhookEvent.objects.filter(event_id=event_id).first()
    if found is None:
        raise NotFound(kind="webhook")
    return found


def balance_transactions() -> QuerySet[BalanceTransaction]:
    """The provider's movements as imported, newest first."""
    return BalanceTransaction.objects.order_by("-created", "-id")


def payment_of(*, booking: Booking) -> Payment | None:
    """The payment of a booking, once the guest has begun to pay."""
    found = Payment.objects.filter(booking=booking).first()
    if found is not None:
        found.booking = booking
    return found


def payment_seen(*, provider_id: str, reference: str) -> Payment | None:
    """Our payment for what the provider shows: by its id, else by our code in its metadata."""
    rows = Payment.objects.select_related("booking__host")
    found = rows.filter(provider_id=provider_id).first() if provider_id else None
    return found or rows.filter(code=reference).first()


def refund(*, code: str) -> Refund:
    """One refund. Raises NotFound."""
    found = refunds().filter(code=code).first()
    if found is None:
        raise NotFound(kind="refund")
    return found


def refund_seen(*, provider_id: str, reference: str) -> Refund | None:
    """Our refund for what the provider shows: by its id, else by our code in its metadata."""
    rows = Refund.objects.select_related("payment__booking__host")
    found = rows.filter(provider_id=provider_id).first() if provider_id else None
    return found or rows.filter(code=reference).first()


def charge_of(*, refund: Refund) -> str:
    """The provider's charge that a refund goes back through: its instalment's, or the payment's."""
    charge = refund.charge
    return (charge.charge_id if charge is not None else refund.payment.charge_id) or ""


def refund_key(*, refund: Refund) -> str:
    """The idempotency key under which the provider knows this refund, whatever asked for it."""
    return f"refund:{refund.code}"


def parts_of(*, payment: Payment) -> policies.Parts:
    """What the captured amount is made of, in the booking's currency."""
    return policies.Parts.of(currency=payment.booking.currency, amounts=payment.parts)


def refund_limits(*, payment: Payment, unless_asked: bool = False) -> policies.RefundLimits:
    """The most that can still go back, refunds that wait or are under way counted; nothing while a chargeback is open, nor
    of a charge that was lost to one. `unless_asked`: as if what people asked for and may still come to nothing were not
    there."""
    refunds = _sure(Refund.objects.filter(payment=payment, charge=None), unless_asked)
    charged = Money(payment.amount, payment.currency)
    return _limits_of(parts_of(payment=payment), charged, refunds, disputed=is_disputed(payment=payment))


def charge_limits(*, charge: ExtraCharge, payment: Payment, unless_asked: bool = False) -> policies.RefundLimits:
    """The most of a captured instalment that can still go back; as `refund_limits` says of the payment."""
    captured = policies.Parts.of(currency=charge.booking.currency, amounts=charge.parts)
    return _limits_of(
        captured,
        Money(charge.amount, charge.currency),
        _sure(Refund.objects.filter(payment=payment, charge=charge), unless_asked),
        disputed=is_disputed(payment=payment, charge_id=charge.charge_id or ""),
    )


def charge_left(*, charge: ExtraCharge, payment: Payment) -> policies.RefundLimits:
    """What refunds have left of a captured charge beside the payment, whatever a card network holds of it."""
    captured = policies.Parts.of(currency=charge.booking.currency, amounts=charge.parts)
    refunds = Refund.objects.filter(payment=payment, charge=charge)
    return _limits_of(captured, Money(charge.amount, charge.currency), refunds, disputed=False)


def captured_left(*, payment: Payment) -> policies.RefundLimits:
    """What refunds have left of a captured payment, whatever a card network holds of it."""
    refunds = Refund.objects.filter(payment=payment, charge=None)
    return _limits_of(parts_of(payment=payment), Money(payment.amount, payment.currency), refunds, disputed=False)


def is_disputed(*, payment: Payment, charge_id: str = "") -> bool:
    """Whether a card network holds money of a payment's booking, or has given that of this charge (the payment's own unless
    said) to the guest."""
    return blocking_chargebacks(payment=payment, charge_id=charge_id).exists()


def blocking_chargebacks(*, payment: Payment, charge_id: str = "") -> QuerySet[Chargeback]:
    """The chargebacks for which nothing of a charge can be refunded now, the latest first: any of its booking's that is
    open, and those that this charge was lost to."""
    rows = Chargeback.objects.filter(payment=payment, kind="chargeback")
    lost_elsewhere = Q(status="lost") & ~Q(charge_id=charge_id or payment.charge_id or "")
    return rows.exclude(status__in=chargeback_rules.REFUNDABLE_AFTER).exclude(lost_elsewhere).order_by("-id")


def kept_by_network(*, refunds: Iterable[Refund]) -> dict[int, list[Chargeback]]:
    """The chargebacks for which nothing of the charge of each of these refunds is given now, by the refund's id, the oldest
    first: open ones of its booking, and those that its charge was lost to. One statement for all of them."""
    found = {refund.pk: refund for refund in refunds}
    rows = Chargeback.objects.filter(payment__in={each.payment_id for each in found.values()}, kind="chargeback")
    there = list(rows.exclude(status__in=chargeback_rules.REFUNDABLE_AFTER).order_by("id")) if found else []
    return {
        pk: [
            row
            for row in there
            if row.payment_id == refund.payment_id
            and (row.status != "lost" or row.charge_id == charge_of(refund=refund))
        ]
        for pk, refund in found.items()
    }


def given_by_network(*, refunds: Iterable[Refund]) -> dict[int, str]:
    """Which of these refunds did not reach their guest and stand aside for them no more, a card network having given them the
    very charge: the chargeback's code by the refund's id."""
    aside = [refund for refund in refunds if refund.status == "failed" and refund.unclaimed]
    lost = {
        pk: [row.code for row in rows if row.loss_posted_at is not None]
        for pk, rows in kept_by_network(refunds=aside).items()
    }
    paid = set(Refund.objects.filter(repays__in=lost, status__in=REFUND_COUNTS).values_list("repays_id", flat=True))
    return {
        refund.pk: lost[refund.pk][-1]
        for refund in aside
        if lost[refund.pk] and refund.pk not in paid and not ledger.standing(account="2410", key=refund.code)
    }


def _sure(refunds: QuerySet[Refund], unless_asked: bool) -> QuerySet[Refund]:
    return refunds.exclude(_ASKED) if unless_asked else refunds


def _limits_of(
    captured: policies.Parts, charged: Money, refunds: QuerySet[Refund], *, disputed: bool
) -> policies.RefundLimits:
    return policies.refund_limits(
        captured=captured,
        charged=charged,
        refunds=[
            policies.RefundTaken(
                status=row.status,
                parts=policies.Parts.of(currency=captured.currency, amounts=row.parts),
                charged=Money(row.amount, row.currency),
                unclaimed=row.status == "failed" and row.unclaimed,
                ours=row.bearer == "platform",
            )
            # A repayment is the same money another way, not more of it.
            for row in refunds.filter(repays=None).order_by("id")
        ],
        disputed=disputed,
    )


def price_of(*, payment: Payment) -> PriceBreakdown:
    """The price that this payment is for, line by line, as the booking froze it."""
    return PriceBreakdown.from_dict(payment.booking.price)


@dataclass(frozen=True, slots=True, kw_only=True)
class RefundSource:
    """A captured charge of a booking and the most that it can still give back; without `charge` it is the payment."""

    charge: ExtraCharge | None
    limits: policies.RefundLimits


def refund_sources(*, payment: Payment, unless_asked: bool = False) -> list[RefundSource]:
    """The captured charges of a payment's booking in the order in which they give money back: the last instalment that was
    paid first, the payment itself last. `unless_asked` as in `refund_limits`."""
    found = [
        RefundSource(charge=charge, limits=charge_limits(charge=charge, payment=payment, unless_asked=unless_asked))
        for charge in reversed(captured_instalments(booking=payment.booking))
    ]
    return [*found, RefundSource(charge=None, limits=refund_limits(payment=payment, unless_asked=unless_asked))]


def asked_together(*, refund: Refund) -> list[Refund]:
    """The refunds of one request, the first first: one for each charge that gives something back, decided as one."""
    first = refund.part_of_id or refund.pk
    return list(refunds().filter(Q(pk=first) | Q(part_of=first)).order_by("id"))


def amount_asked(*, refund: Refund) -> Money:
    """What is decided with a refund that waits: all that still waits of its request, in the currency of the charge."""
    waiting = [row.amount for row in asked_together(refund=refund) if row.status == "requested"]
    return Money(sum(waiting), refund.currency) if waiting else Money(refund.amount, refund.currency)


def refund_asked(*, key: str) -> Refund | None:
    """The refund that a person asked for under an idempotency key, the first of its request."""
    return refunds().filter(idempotency_key=key, by_rule=False, part_of=None).first()


def asked_back() -> QuerySet[Refund]:
    """Refunds that people asked for and that may still come to nothing."""
    return Refund.objects.filter(_ASKED, repays=None)


def is_asked_back(*, payment: Payment) -> bool:
    """Whether something of a payment may still come to nothing that people asked for."""
    return asked_back().filter(payment=payment).exists()


def line_limits(*, payment: Payment) -> dict[str, Money]:
    """The most that each line of the price can still give back, in the booking's currency, of all that was paid; refunds
    under way counted, and those that came back, which stand aside for the guest."""
    taken = Q(status__in=REFUND_COUNTS) | Q(status="failed", unclaimed=True)
    return policies.line_limits(
        price=price_of(payment=payment),
        remaining=policies.most_of([source.limits for source in refund_sources(payment=payment)]).parts,
        earlier=Refund.objects.filter(taken, payment=payment, repays=None).values_list("lines", flat=True),
    )


def posting_keys(*, booking: Booking) -> policies.PostingKeys:
    """Under which keys of the ledger a booking's money stands."""
    taxed = [tax["place"] for tax in booking.price["taxes"] if tax["kind"] == "occupancy_tax"]
    return policies.posting_keys(
        booking=booking.code,
        host=booking.host.code,
        country=booking.listing.country,
        jurisdiction=taxed[0] if taxed else "",
        check_in=booking.check_in,
    )


def refunded_today(*, person_id: int, currency: str, now: datetime) -> int:
    """Minor units of `currency` that a member of staff has refunded since midnight UTC, waiting ones included."""
    midnight = datetime.combine(now.date(), time(0), tzinfo=UTC)
    rows = Refund.objects.filter(
        requested_by_id=person_id, requested_at__gte=midnight, currency=currency, status__in=REFUND_COUNTS
    )
    return int(rows.aggregate(total=Sum("amount", default=0))["total"])


@dataclass(frozen=True, slots=True)
class MoneyTable:
    """A booking's money at a glance, in the currency it was charged in; the parts in the listing's."""

    charged: Money
    refunded: Money
    refunds_pending: Money
    refundable: Money
    parts: Mapping[str, Money]
    parts_left: Mapping[str, Money]


def money_of(*, booking: Booking) -> MoneyTable:
    """What was charged, what went back, what is on its way back, and the most that can still be refunded."""
    # What waits for payment has taken none: a capture and the confirmation commit together.
    payment = None if booking.status == "awaiting_payment" else payment_of(booking=booking)
    zero = Money.zero(booking.charge_currency)
    if payment is None or payment.status != "captured":
        nothing = {part: Money.zero(booking.currency) for part in PARTS}
        return MoneyTable(zero, zero, zero, zero, nothing, nothing)
    left = captured_left(payment=payment)
    charged, still, parts = Money(payment.amount, payment.currency), left.charged, parts_of(payment=payment)
    parts_left = left.parts
    for charge in captured_instalments(booking=booking):
        of_charge = charge_left(charge=charge, payment=payment)
        charged, still = charged + Money(charge.amount, charge.currency), still + of_charge.charged
        parts = parts + policies.Parts.of(currency=booking.currency, amounts=charge.parts)
        parts_left = parts_left + of_charge.parts
    arrived = Q(status="succeeded") | Q(unclaimed=True, repayments__status="succeeded")
    of_the_stay = Q(charge=None) | Q(charge__kind="instalment")  # damage is charged beside it, and goes back beside it
    mine = Refund.objects.filter(of_the_stay, payment=payment, repays=None)
    refunded = Money(mine.filter(arrived).aggregate(total=Sum("amount", default=0))["total"], payment.currency)
    aside = list(mine.filter(status="failed", unclaimed=True).select_related("payment", "charge"))
    given = given_by_network(refunds=aside) if aside else {}
    by_network = Money(sum(refund.amount for refund in aside if refund.pk in given), payment.currency)
    return MoneyTable(
        charged=charged,
        refunded=refunded,
        refunds_pending=charged - still - refunded - by_network,
        refundable=policies.most_of([source.limits for source in refund_sources(payment=payment)]).charged,
        parts={part: Money(amount, booking.currency) for part, amount in parts.as_dict().items()},
        parts_left={part: Money(amount, booking.currency) for part, amount in parts_left.as_dict().items()},
    )


def captured_instalments(*, booking: Booking) -> list[ExtraCharge]:
    """The instalments of a booking that were paid besides its payment, in their order."""
    rows = ExtraCharge.objects.filter(booking=booking, kind="instalment", status="captured")
    return list(rows.select_related("booking").order_by("number"))


def unsettled_attempts(*, older_than: datetime, after: int | str | None = None, limit: int = 100) -> list[int]:
    """Attempts whose outcome we do not know: an answer was lost, or the process died before or after the call."""
    rows = PaymentAttempt.objects.filter(status__in=["submitted", "indeterminate"], created_at__lt=older_than)
    return jobs.next_of(rows=rows.order_by("id"), key="id", after=after, limit=limit)


def waiting_for_provider(*, older_than: datetime, after: int | str | None = None, limit: int = 100) -> list[int]:
    """Payments the provider has been working on for a while, to be asked about in case a webhook was missed, newest first.

    A bank's page that nobody answered stays open for ever: after a day only an event can bring news of it, so that it
    does not keep the sweep from the payments of today."""
    rows = Payment.objects.filter(
        status__in=["processing", "requires_action"],
        provider_id__isnull=False,
        created_at__lt=older_than,
        created_at__gt=older_than - timedelta(days=1),
    )
    return jobs.next_of(rows=rows.order_by("-id"), key="id", after=after, limit=limit)


def refunds_to_send(*, older_than: datetime, after: str | None = None, limit: int = 100) -> list[str]:
    """Codes of refunds that are approved but not sent, or whose answer was lost."""
    rows = Refund.objects.filter(status__in=["approved", "indeterminate"], requested_at__lt=older_than, method="card")
    return jobs.next_of(rows=rows.order_by("id"), key="code", after=after, limit=limit)


def repayments_on_their_way() -> list[Refund]:
    """Refunds paid another way that our bank's statement has not shown yet, the oldest first."""
    rows = Refund.objects.filter(method="other", status__in=["approved", "submitted"])
    return list(rows.order_by("id"))


def repayments_given_up() -> list[Refund]:
    """Refunds paid another way that our bank refused or sent back after they were approved, the oldest first: its statement
    may still show them leave, and come back."""
    rows = Refund.objects.filter(method="other", status__in=REPAYMENT_GIVEN_UP, approved_at__isnull=False)
    return list(rows.order_by("id"))


def is_given_up(*, repayment: Refund) -> bool:
    """Whether our bank refused or sent back a refund paid another way, after it was approved."""
    return repayment.status in REPAYMENT_GIVEN_UP and repayment.approved_at is not None


def refunds_to_ask_about(*, older_than: datetime, after: str | None = None, limit: int = 100) -> list[str]:
    """Codes of refunds that the provider has had for a while without an end."""
    rows = Refund.objects.filter(status="submitted", submitted_at__lt=older_than, method="card")
    return jobs.next_of(rows=rows.order_by("id"), key="code", after=after, limit=limit)


def events_due(*, now: datetime, limit: int = 200) -> list[int]:
    """Webhooks that are waiting to be applied, oldest first."""
    rows = WebhookEvent.objects.filter(status__in=["received", "failed"], next_attempt_at__lte=now)
    return list(rows.order_by("id").values_list("id", flat=True)[:limit])


def unknown_transactions(*, ids: Iterable[str]) -> set[str]:
    """Which of these provider ids have not been imported yet."""
    wanted = set(ids)
    return wanted - set(BalanceTransaction.objects.filter(provider_id__in=wanted).values_list("provider_id", flat=True))


def unknown_events(*, ids: Iterable[str]) -> set[str]:
    """Which of these events have not been stored yet."""
    wanted = set(ids)
    return wanted - set(WebhookEvent.objects.filter(event_id__in=wanted).values_list("event_id", flat=True))


def inbox_backlog(*, now: datetime) -> tuple[int, timedelta, int]:
    """How many webhooks wait, for how long the oldest has, and how many are dead."""
    waiting = WebhookEvent.objects.filter(status__in=["received", "failed"])
    oldest = waiting.order_by("received_at").values_list("received_at", flat=True).first()
    dead = WebhookEvent.objects.filter(status="dead").count()
    return waiting.count(), (now - oldest) if oldest else timedelta(0), dead


def captured_between(*, since: date, until: date) -> QuerySet[Payment]:
    """Payments captured on the days [since, until), by UTC."""
    return Payment.objects.filter(
        captured_at__gte=datetime.combine(since, time(0), tzinfo=UTC),
        captured_at__lt=datetime.combine(until, time(0), tzinfo=UTC),
    ).select_related("booking__listing")
