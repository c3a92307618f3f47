"""Questions about how a stay is paid: its plan, what is due to be charged, and the charges beside the payment."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from django.db.models import Q, QuerySet

from backoffice.bookings import queries as booking_queries
from backoffice.bookings.models import Booking
from backoffice.bookings.policies import PriceBreakdown
from backoffice.core.actor import Actor
from backoffice.core.errors import NotFound
from backoffice.jobs import queries as jobs
from backoffice.payments.models import ExtraCharge, Payment
from backoffice.payments.policies import Parts, charges
from backoffice.payments.states import PAYMENT
from backoffice.rulebook import queries as rulebook
from backoffice.rulebook.policies import CollectionRules

# Bookings in these need no money any more: what is reserved for them is let go.
ENDED: Final = ("cancelled", "declined", "expired", "no_show")
# Bookings in these are still collected for.
RUNNING: Final = ("confirmed", "checked_in", "completed")
# Charges in these are tried when their day has come: a page of the guest's bank that nobody answered is no payment.
DUE: Final = ("scheduled", "failed", "requires_action")


def collection_rules(*, payment: Payment) -> CollectionRules:
    """The rules in force when the guest began to pay: later versions change no promise."""
    return rulebook.collection(on=payment.created_at.date()).rules


def collection_plan(*, booking: Booking, now: datetime) -> charges.CollectionPlan:
    """How a booking that is paid for at `now` is collected."""
    return charges.collection_plan(
        price=PriceBreakdown.from_dict(booking.price),
        check_in_at=booking.check_in_at,
        instant_book=booking.listing.instant_book,
        rules=rulebook.collection(on=now.date()).rules,
        timings=rulebook.timings(on=now.date()).rules,
        now=now,
    )


def later_instalments(*, payment: Payment) -> tuple[charges.Instalment, ...]:
    """What is due besides the payment of a booking, by the plan it began with."""
    return collection_plan(booking=payment.booking, now=payment.created_at).later


# Payments -------------------------------------------------------------------------------------------------------------


def with_payments(rows: QuerySet[Booking]) -> QuerySet[Booking]:
    """Bookings read together with their payments, for a list that says what may be done with each."""
    return rows.select_related("payment")


def available_actions(*, booking: Booking, actor: Actor, now: datetime) -> tuple[str, ...]:
    """What this actor may do with the booking now: what its room offers, without what its money forbids."""
    offered = booking_queries.available_actions(booking=booking, actor=actor, now=now)
    forbidden = _forbidden(booking, getattr(booking, "payment", None), now) if offered else frozenset()
    return tuple(action for action in offered if action not in forbidden)


def _forbidden(booking: Booking, payment: Payment | None, now: datetime) -> frozenset[str]:
    if payment is None:
        return frozenset() if booking.status == "awaiting_payment" else frozenset({"pay"})
    if payment.status == "authorised" and payment.capture_asked_at is not None:
        return frozenset({"pay", "accept", "decline", "cancel"})  # the host said yes: the provider's answer decides
    waits = booking.status == "awaiting_payment" or payment.charge_at is None or payment.charge_at <= now
    return frozenset() if waits and PAYMENT.allows(payment.status, "attempt") else frozenset({"pay"})


def was_accepted(*, booking: Booking) -> bool:
    """Whether the host of a request said yes to it: it stands, or what was reserved is being taken."""
    rows = Payment.objects.filter(booking=booking, capture_method="manual")
    if booking.status == "requested":
        return rows.filter(status="authorised", capture_asked_at__isnull=False).exists()
    return booking.status == "confirmed" and rows.exists()


def captures_unanswered(*, older_than: datetime, after: str | None = None, limit: int = 100) -> list[str]:
    """Codes of payments whose host said yes a while ago and whose capture we have not seen."""
    rows = Payment.objects.filter(status="authorised", capture_asked_at__lt=older_than)
    return jobs.next_of(rows=rows.order_by("id"), key="code", after=after, limit=limit)


def authorisations_to_release(*, older_than: datetime, after: str | None = None, limit: int = 100) -> list[str]:
    """Codes of payments that still reserve money for a booking that has ended."""
    rows = Payment.objects.filter(
        status="authorised", capture_asked_at=None, booking__status__in=ENDED, authorised_at__lt=older_than
    )
    return jobs.next_of(rows=rows.order_by("id"), key="code", after=after, limit=limit)


def authorisations_lapsing(*, now: datetime, after: str | None = None, limit: int = 100) -> list[str]:
    """Codes of payments whose capture window has passed: the provider has let them go, whether we heard of it or not."""
    rows = Payment.objects.filter(status="authorised", capture_before__lte=now)
    return jobs.next_of(rows=rows.order_by("capture_before", "id"), key="code", after=after, limit=limit)


def payments_to_charge(*, now: datetime, after: str | None = None, limit: int = 200) -> list[str]:
    """Codes of payments whose saved card is due to be charged, also of stays that were over before it; a page of the guest's
    bank that nobody answered is no payment."""
    rows = Payment.objects.filter(
        next_try_at__lte=now, status__in=["requires_payment", "requires_action"], booking__status__in=RUNNING
    )
    return jobs.next_of(rows=rows.order_by("next_try_at", "id"), key="code", after=after, limit=limit)


def payments_unpaid(*, now: datetime, after: str | None = None, limit: int = 200) -> list[str]:
    """Codes of payments of a saved card whose last date has passed, also of stays that were over before it; a try that is
    under way is waited for."""
    rows = Payment.objects.filter(
        pay_by__lte=now, status__in=["requires_payment", "requires_action"], booking__status__in=RUNNING
    )
    return jobs.next_of(rows=rows.order_by("pay_by", "id"), key="code", after=after, limit=limit)


def payment_by_code(*, code: str) -> Payment:
    """One payment with its booking. Raises NotFound."""
    found = Payment.objects.select_related("booking").filter(code=code).first()
    if found is None:
        raise NotFound(kind="payment")
    return found


# Extra charges --------------------------------------------------------------------------------------------------------


def extra_charges() -> QuerySet[ExtraCharge]:
    """Every instalment and damage charge with its booking, newest first."""
    return ExtraCharge.objects.select_related(
        "booking__listing", "booking__guest", "booking__host", "requested_by", "approved_by", "covered_by"
    ).order_by("-id")


def charges_of(*, booking_code: str, actor: Actor) -> list[ExtraCharge]:
    """What is asked for beside the payment of one's own booking, in the order it is due. A guest sees damage once a second
    person has approved it. Raises NotFound."""
    found = Booking.objects.filter(code=booking_code)
    if actor.kind in {"guest", "host"}:
        found = found.filter(Q(guest_id=actor.id) | Q(host_id=actor.id))
    else:
        actor.must("payments.view")
    booking = found.first()
    if booking is None:
        raise NotFound(kind="booking")
    rows = extra_charges().filter(booking=booking).order_by("due_at", "id")
    if actor.kind in {"guest", "host"}:
        rows = rows.exclude(kind="damage", approved_at=None)
    return list(rows)


def extra_charge(*, code: str) -> ExtraCharge:
    """One extra charge. Raises NotFound."""
    found = extra_charges().filter(code=code).first()
    if found is None:
        raise NotFound(kind="charge")
    return found


def charge_seen(*, provider_id: str, reference: str) -> ExtraCharge | None:
    """Our extra charge for what the provider shows: by its id, else by our code in its metadata."""
    rows = ExtraCharge.objects.select_related("booking__host")
    found = rows.filter(provider_id=provider_id).first() if provider_id else None
    return found or rows.filter(code=reference).first()


def parts_of_charge(*, charge: ExtraCharge) -> Parts:
    """What an instalment is made of, in the booking's currency."""
    return Parts.of(currency=charge.booking.currency, amounts=charge.parts)


def is_wanted(*, charge: ExtraCharge) -> bool:
    """Whether a charge is still asked for: an instalment while its stay runs, damage whatever became of the stay."""
    return charge.kind == "damage" or charge.booking.status in RUNNING


def charges_due(*, now: datetime, after: str | None = None, limit: int = 200) -> list[str]:
    """Codes of extra charges whose saved card is due to be charged; none that will not be (`is_wanted`), lest the oldest
    of them keep the others waiting for ever."""
    wanted = Q(kind="damage") | Q(booking__status__in=RUNNING)
    rows = ExtraCharge.objects.filter(wanted, status__in=DUE, next_try_at__lte=now, booking__payment__status="captured")
    return jobs.next_of(rows=rows.order_by("next_try_at", "id"), key="code", after=after, limit=limit)


def charges_unanswered(*, older_than: datetime, after: str | None = None, limit: int = 100) -> list[str]:
    """Codes of extra charges whose outcome we do not know."""
    rows = ExtraCharge.objects.filter(status__in=["submitted", "indeterminate"], submitted_at__lt=older_than)
    return jobs.next_of(rows=rows.order_by("id"), key="code", after=after, limit=limit)


def charges_unpaid(*, now: datetime, after: str | None = None, limit: int = 200) -> list[str]:
    """Codes of instalments whose last date has passed, also of stays that were over before it. Damage stays open for a person
    to decide."""
    rows = ExtraCharge.objects.filter(kind="instalment", status__in=["failed", "requires_action"], pay_by__lte=now)
    rows = rows.exclude(booking__status__in=ENDED)
    return jobs.next_of(rows=rows.order_by("pay_by", "id"), key="code", after=after, limit=limit)
