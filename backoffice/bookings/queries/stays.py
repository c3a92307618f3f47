"""Questions about quotes and bookings."""

from __future__ import annotations

from datetime import datetime

from django.db.models import Q, QuerySet

from backoffice.bookings.models import Booking, Quote
from backoffice.bookings.policies import CancellationFacts, Override, PriceBreakdown, no_show_window
from backoffice.bookings.states import BOOKING, PENDING
from backoffice.core.actor import Actor
from backoffice.core.errors import NotFound
from backoffice.core.stays import Stay
from backoffice.rulebook import queries as rulebook

# What each action of the table asks of the one who takes it; absent: only our own processes take it.
ACTION_VERBS = {
    "pay": "bookings.pay",
    "accept": "bookings.decide",
    "decline": "bookings.decide",
    "cancel": "bookings.cancel",
    "mark_no_show": "bookings.mark_no_show",
}
_OF_THE_HOST = ("accept", "decline")


def bookings() -> QuerySet[Booking]:
    """Every booking with its home and people, newest first."""
    return Booking.objects.select_related("listing", "guest", "host", "hold").order_by("-id")


def bookings_of(*, guest_id: int) -> QuerySet[Booking]:
    """A guest's own bookings, newest first."""
    return bookings().filter(guest_id=guest_id)


def bookings_for(*, host_id: int) -> QuerySet[Booking]:
    """The bookings of a host's homes, newest first."""
    return bookings().filter(host_id=host_id)


def booking(*, code: str, actor: Actor | None = None) -> Booking:
    """One booking; for a guest or host only their own. Raises NotFound."""
    rows = bookings().filter(code=code)
    if actor is not None and actor.kind in {"guest", "host"}:
        rows = rows.filter(Q(guest_id=actor.id) | Q(host_id=actor.id))
    elif actor is not None:
        actor.must("bookings.view")
    found = rows.first()
    if found is None:
        raise NotFound(kind="booking")
    return found


def quote(*, code: str, actor: Actor) -> Quote:
    """One's own quote. Raises NotFound."""
    found = Quote.objects.select_related("listing").filter(code=code, guest_id=actor.id).first()
    if found is None:
        raise NotFound(kind="quote")
    return found


def quote_to_book(*, code: str, actor: Actor) -> Quote:
    """One's own quote with its guest; its home is read under its lock. Raises NotFound."""
    found = Quote.objects.select_related("guest").filter(code=code, guest_id=actor.id).first()
    if found is None:
        raise NotFound(kind="quote")
    return found


def booked_as(*, quote_id: int) -> str | None:
    """The code of the booking that a quote became, if it did."""
    return Booking.objects.filter(quote_id=quote_id).values_list("code", flat=True).first()


def available_actions(*, booking: Booking, actor: Actor, now: datetime) -> tuple[str, ...]:
    """What this actor may do with the booking now: the state table, then the grants, then whose it is. What its money allows
    of it is for `payments.queries.available_actions` to say, which doors ask."""
    may = {
        action
        for action in BOOKING.available(booking.status)
        if action in ACTION_VERBS and actor.may(ACTION_VERBS[action])
    }
    if actor.id != booking.guest_id:
        may.discard("pay")
    if actor.id != booking.host_id:
        may.difference_update(_OF_THE_HOST)
    elif booking.status == "requested":
        may.discard("cancel")  # a host who does not want the guest declines
    if booking.hold.expires_at is not None and booking.hold.expires_at <= now:
        may.difference_update(_OF_THE_HOST)
    if actor.kind in {"guest", "host"} and actor.id not in {booking.guest_id, booking.host_id}:
        may.clear()
    if "pay" in may and booking.hold.expires_at is not None and booking.hold.expires_at <= now:
        may.discard("pay")
    if "mark_no_show" in may:
        first, last = no_show_times(booking=booking, now=now)
        if not first <= now <= last:
            may.discard("mark_no_show")
    return tuple(action for action in BOOKING.actions if action in may)


def no_show_times(*, booking: Booking, now: datetime) -> tuple[datetime, datetime]:
    """The instants between which this booking may be marked a no-show."""
    return no_show_window(
        stay=Stay(booking.check_in, booking.check_out),
        time_zone=booking.time_zone,
        check_out_time=booking.check_out_time,
        hours_after=rulebook.timings(on=now.date()).rules.no_show_hours_after_check_out,
    )


def pending_reason(*, booking: Booking) -> str:
    """Why the API shows the booking as pending; empty when it does not."""
    return PENDING.get(booking.status, "")


def cancelled_by_host(*, booking: Booking) -> bool:
    """Whether a booking ended because its host cancelled (or staff for them), so that all that was paid is the guest's."""
    return booking.status == "cancelled" and (booking.cancellation or {}).get("rule") == "override:host_cancel"


def cancellation_facts(*, booking: Booking, now: datetime, override: Override | None = None) -> CancellationFacts:
    """What the cancellation policy looks at, read from the booking as it was frozen."""
    policy = rulebook.cancellation_version(version=booking.cancellation_version)
    since = policy.rules.guest_fee.looks_back_to(now=now)
    others = Booking.objects.filter(guest_id=booking.guest_id).exclude(id=booking.id)
    return CancellationFacts.of_price(
        price=PriceBreakdown.from_dict(booking.price),
        policy=policy,
        tier=booking.cancellation_tier,
        stay=Stay(booking.check_in, booking.check_out),
        check_in_time=booking.check_in_time,
        time_zone=booking.time_zone,
        confirmed_at=booking.confirmed_at or booking.created_at,
        prior_fee_refunds=others.filter(cancelled_at__gte=since, cancellation__guest_fee_refunded=True).count(),
        overlapping=others.filter(
            status__in=["confirmed", "checked_in"], check_in__lt=booking.check_out, check_out__gt=booking.check_in
        ).exists(),
        override=override,
    )


def expired_unpaid(*, now: datetime, limit: int = 500) -> list[str]:
    """Codes of unpaid bookings whose calendar hold has run out, oldest first."""
    return list(
        Booking.objects.filter(status="awaiting_payment", hold__expires_at__lte=now)
        .order_by("id")
        .values_list("code", flat=True)[:limit]
    )


def unanswered_requests(*, now: datetime, limit: int = 500) -> list[str]:
    """Codes of requests that their host has not answered in time, oldest first."""
    return list(
        Booking.objects.filter(status="requested", hold__expires_at__lte=now)
        .order_by("id")
        .values_list("code", flat=True)[:limit]
    )


def due_to_begin(*, now: datetime, limit: int = 500) -> list[str]:
    """Codes of confirmed bookings whose check-in instant has passed."""
    rows = Booking.objects.filter(status="confirmed", check_in_at__lte=now).order_by("check_in_at", "id")
    return list(rows.values_list("code", flat=True)[:limit])


def due_to_end(*, now: datetime, limit: int = 500) -> list[str]:
    """Codes of running stays whose check-out instant has passed."""
    rows = Booking.objects.filter(status="checked_in", check_out_at__lte=now).order_by("check_out_at", "id")
    return list(rows.values_list("code", flat=True)[:limit])
