"""What happens to quotes and bookings. Money moves in `payments` and `workflows`; here a stay is promised, held, confirmed
and ended."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from django.db import transaction

from backoffice.audit import operations as audit
from backoffice.bookings import queries
from backoffice.bookings.models import Booking, Quote
from backoffice.bookings.policies import PriceBreakdown, PricingFacts, price_stay
from backoffice.bookings.states import BOOKING
from backoffice.core.actor import Actor
from backoffice.core.errors import Conflict, Invalid, NightsTaken, NotAllowed, NotFound, QuoteExpired, Refused
from backoffice.core.money import Money, is_currency
from backoffice.core.stays import Stay, instant
from backoffice.jobs import queries as jobs
from backoffice.listings import operations as nights
from backoffice.listings import queries as homes
from backoffice.listings.models import Listing
from backoffice.notifications import operations as notifications
from backoffice.people.models import User
from backoffice.rulebook import queries as rulebook

# No stay is sold further ahead: prices, taxes and hosts are not known then.
FARTHEST = timedelta(days=730)


def make_quote(
    *,
    listing_code: str,
    check_in: date,
    check_out: date,
    guests: int,
    currency: str | None,
    actor: Actor,
    now: datetime,
) -> Quote:
    """Price a stay for a guest, good for the minutes of the rulebook; nothing is held.

    Raises Invalid naming `check_in`, `check_out`, `guests` or `currency` (also for a total that cards cannot be charged);
    NightsTaken when the nights are not free now; Conflict when its host would be asked and can no longer answer; NotFound for
    a home that guests may not see."""
    actor.must("bookings.quote")
    jobs.assert_not_stopped(scope="bookings")
    if actor.id is None:
        raise Refused(missing="a guest")
    listing = homes.published_listing(code=listing_code)
    stay = _stay(check_in, check_out, listing.time_zone, now)
    terms = homes.terms(listing=listing, stay=stay)
    _check_fits(listing, stay, guests, terms.minimum_nights, terms.maximum_nights, actor)
    if not homes.is_free(listing_id=listing.id, stay=stay):
        raise NightsTaken(check_in=check_in.isoformat(), check_out=check_out.isoformat())
    price = price_of(
        listing=listing, stay=stay, guests=guests, nightly=terms.prices, currency=currency or listing.currency, now=now
    )
    if not price.charge_total:
        raise Conflict("These nights have no price yet.")
    check_answerable(
        listing=listing, check_in_at=instant(stay.check_in, listing.check_in_time, listing.time_zone), now=now
    )
    rulebook.check_chargeable(amount=price.charge_total, on=now.date(), field="currency")
    cancellation = rulebook.cancellation(on=now.date())
    with transaction.atomic():
        quote = Quote.objects.create(
            listing=listing,
            guest_id=actor.id,
            check_in=check_in,
            check_out=check_out,
            guests=guests,
            **_amounts(price),
            cancellation_tier=listing.cancellation_tier,
            cancellation_version=cancellation.version,
            created_at=now,
            expires_at=now + timedelta(minutes=rulebook.timings(on=now.date()).rules.quote_minutes),
        )
        audit.record(
            actor=actor,
            verb="bookings.quote",
            kind="quote",
            id=quote.code,
            after={
                "listing": listing.code,
                "stay": str(stay),
                "total": price.total.amount,
                "currency": listing.currency,
            },
            now=now,
        )
    return quote


def price_of(
    *, listing: Listing, stay: Stay, guests: int, nightly: tuple[int, ...], currency: str, now: datetime
) -> PriceBreakdown:
    """The price of a stay by the policies in force, charged in `currency` at the day's reference rate."""
    if not is_currency(currency):
        raise Invalid("currency: write a three-letter code such as EUR.", field="currency")
    on = now.date()
    fees, taxes = rulebook.fees(on=on), rulebook.taxes(on=on)
    facts = PricingFacts(
        stay=stay,
        nightly=tuple(Money(price, listing.currency) for price in nightly),
        guests=guests,
        plan=fees.rules.plan(fees.rules.default),
        rate=rulebook.rate(base=listing.currency, quote=currency, on=on),
        cleaning=Money(listing.cleaning_fee, listing.currency),
        extra_guest=Money(listing.extra_guest_fee, listing.currency),
        included_guests=listing.included_guests,
        week_discount=listing.week_discount,
        month_discount=listing.month_discount,
        jurisdictions=taxes.rules.of_place(city=listing.city, country=listing.country),
        vat=taxes.rules.vat_in(listing.country),
        policies=(fees.label, taxes.label, rulebook.cancellation(on=on).label),
    )
    return price_stay(facts=facts)


def create(*, quote_code: str, actor: Actor, now: datetime) -> Booking:
    """Book a quote: the nights are held for the minutes of the rulebook while the guest pays.

    Raises QuoteExpired, NightsTaken, NotFound for another's quote, Conflict when the home is no longer offered or the
    quote is already booked."""
    actor.must("bookings.create")
    jobs.assert_not_stopped(scope="bookings")
    with transaction.atomic():
        quote = queries.quote_to_book(code=quote_code, actor=actor)
        # Two guests after the same nights, or one guest clicking twice, wait here and then see what the other did.
        listing = nights.lock_listing(listing_id=quote.listing_id)
        if now >= quote.expires_at:
            raise QuoteExpired(expires_at=quote.expires_at.isoformat())
        earlier = queries.booked_as(quote_id=quote.id)
        if earlier is not None:
            raise Conflict(f"This quote is already booked as {earlier}.", booking=earlier)
        if listing.status != "published" or listing.host.status != "active":
            raise Conflict("This home is not offered any more; look for another.")
        stay = Stay(quote.check_in, quote.check_out)
        minutes = rulebook.timings(on=now.date()).rules.hold_minutes
        hold = nights.occupy(listing=listing, stay=stay, expires_at=now + timedelta(minutes=minutes), now=now)
        booking = Booking.objects.create(
            quote=quote,
            listing=listing,
            guest=quote.guest,
            host=listing.host,
            hold=hold,
            check_in_at=instant(stay.check_in, listing.check_in_time, listing.time_zone),
            check_out_at=instant(stay.check_out, listing.check_out_time, listing.time_zone),
            time_zone=listing.time_zone,
            created_at=now,
            **{name: getattr(quote, name) for name in _FROZEN},
        )
        audit.record(
            actor=actor,
            verb="bookings.create",
            kind="booking",
            id=booking.code,
            after={"listing": listing.code, "stay": str(stay), "total": quote.total, "currency": quote.currency},
            now=now,
        )
        notifications.tell(
            topic="booking_created",
            recipient_id=quote.guest_id,
            address=booking.guest.email,
            context={
                **facts_to_tell(booking),
                "pay_until": hold.expires_at.strftime("%H:%M UTC") if hold.expires_at else "",
            },
            now=now,
        )
    return booking


# Steps of a stay, taken by workflows and jobs on a booking they have locked. -----------------------------------------


def lock(*, code: str) -> Booking:
    """Lock the home, then the booking, in the house's order; everything of its money is locked after it.

    Raises NotFound. Must run inside a transaction."""
    listing_id = Booking.objects.filter(code=code).values_list("listing_id", flat=True).first()
    if listing_id is None:
        raise NotFound(kind="booking")
    listing = nights.lock_listing(listing_id=listing_id)
    booking = Booking.objects.select_for_update(of=("self",)).select_related("guest", "hold").get(code=code)
    booking.listing = listing
    if booking.host_id == listing.host_id:  # a home may belong to somebody else since
        booking.host = listing.host
    return booking


def not_for_oneself(*, booking: Booking, actor: Actor) -> None:
    """Raise NotAllowed for staff who are the guest or host of this booking: nobody decides over their own money."""
    if actor.kind == "staff" and actor.id in {booking.guest_id, booking.host_id}:
        raise NotAllowed("This is your own booking: a colleague must do this.")


def confirm(*, booking: Booking, actor: Actor, now: datetime) -> Booking:
    """The money is there: the stay stands and its nights no longer expire."""
    nights.keep(hold_id=booking.hold_id)
    booking.confirmed_at = now
    _move(booking, "confirm", actor=actor, now=now, fields=["confirmed_at"])
    _tell_both(booking, "booking_confirmed", now)
    return booking


def request(*, booking: Booking, answer_by: datetime, actor: Actor, now: datetime) -> Booking:
    """The guest has done their part: the host is asked, and the nights are held until they must have answered."""
    nights.keep_until(hold_id=booking.hold_id, expires_at=answer_by)
    booking.hold.expires_at = answer_by
    _move(booking, "request", actor=actor, now=now)
    said = {**facts_to_tell(booking), "answer_by": answer_by.strftime("%Y-%m-%d %H:%M UTC")}
    _tell(booking.guest, "request_sent", said, now)
    _tell(booking.host, "request_received", {**said, "guest": booking.guest.first_name}, now)
    return booking


def check_answerable(*, listing: Listing, check_in_at: datetime, now: datetime) -> None:
    """Raise Conflict for a stay that would have to be asked for when it has begun: nobody can answer before check-in."""
    if not listing.instant_book and check_in_at <= now:
        raise Conflict(
            "This home's host is asked first and can no longer answer before check-in: choose a later day, or a home that "
            "is booked at once."
        )


def of_its_host(*, booking: Booking, actor: Actor) -> None:
    """Raise unless this actor may answer requests for this home: NotAllowed, NotFound for another's."""
    actor.must("bookings.decide")
    if actor.kind in {"guest", "host"} and actor.id != booking.host_id:
        raise NotFound(kind="booking")


def for_host_to_decide(*, booking: Booking, actor: Actor, now: datetime) -> None:
    """Raise unless this actor may answer this request now: NotAllowed, NotFound for another's, Conflict when it was
    answered already or the time is over."""
    of_its_host(booking=booking, actor=actor)
    BOOKING.after(booking.status, "accept")
    if booking.hold.expires_at is not None and booking.hold.expires_at <= now:
        raise Conflict("The time to answer this request is over; the guest may ask again.")


def accept(*, booking: Booking, actor: Actor, now: datetime) -> Booking:
    """The host said yes and what was authorised is ours: the stay stands."""
    nights.keep(hold_id=booking.hold_id)
    booking.confirmed_at = now
    _move(booking, "accept", actor=actor, now=now, fields=["confirmed_at"])
    _tell_both(booking, "booking_confirmed", now)
    return booking


def decline(*, booking: Booking, reason: str, actor: Actor, now: datetime) -> Booking:
    """The host said no: the nights are free again and the guest hears why."""
    nights.release(hold_id=booking.hold_id, now=now)
    _move(booking, "decline", actor=actor.because(reason), now=now)
    _tell(booking.guest, "request_declined", {**facts_to_tell(booking), "reason": reason.strip()}, now)
    return booking


def expire_request(*, booking: Booking, why: str, actor: Actor, now: datetime) -> Booking:
    """A request that came to nothing: the host did not answer, or the money could not be taken (`why`, a sentence)."""
    nights.release(hold_id=booking.hold_id, now=now)
    _move(booking, "expire", actor=actor.because(why), now=now)
    for person in (booking.guest, booking.host):
        _tell(person, "request_expired", {**facts_to_tell(booking), "why": why}, now)
    return booking


def confirm_late(*, booking: Booking, actor: Actor, now: datetime) -> bool:
    """Money came after the hold had run out: take the nights again if they are still free; returns whether they were.

    DOMAIN.md, "A late payment"."""
    BOOKING.after(booking.status, "confirm_late")
    if booking.listing.status != "published" or now >= booking.check_in_at:
        return False
    try:
        booking.hold = nights.occupy(
            listing=booking.listing, stay=Stay(booking.check_in, booking.check_out), expires_at=None, now=now
        )
    except NightsTaken:
        return False
    booking.confirmed_at = now
    _move(booking, "confirm_late", actor=actor, now=now, fields=["hold", "confirmed_at"])
    _tell_both(booking, "booking_confirmed", now)
    return True


def extend_hold(*, booking: Booking, now: datetime) -> bool:
    """More time while the guest's bank is asked, once; returns whether it was given."""
    minutes = rulebook.timings(on=now.date()).rules.hold_extension_minutes
    return nights.extend(hold_id=booking.hold_id, expires_at=now + timedelta(minutes=minutes))


def expire(*, booking: Booking, actor: Actor, now: datetime) -> Booking:
    """Nobody paid in time: the nights are free again."""
    nights.release(hold_id=booking.hold_id, now=now)
    _move(booking, "expire", actor=actor, now=now)
    notifications.tell(
        topic="hold_expired",
        recipient_id=booking.guest_id,
        address=booking.guest.email,
        context=facts_to_tell(booking),
        now=now,
    )
    return booking


def end_by_cancellation(
    *, booking: Booking, by: str, decision: Mapping[str, Any], block_nights: bool, actor: Actor, now: datetime
) -> Booking:
    """Cancel a booking whose decision has been made; the decision with its trace is stored as it is.

    A host who cancels does not get the nights back (`block_nights`)."""
    nights.release(hold_id=booking.hold_id, now=now)
    if block_nights and booking.check_out_at > now:
        nights.block_after_host_cancellation(
            listing=booking.listing,
            stay=Stay(booking.check_in, booking.check_out),
            cause=f"host cancelled {booking.code}",
            now=now,
        )
    booking.cancelled_at = now
    booking.cancelled_by = by
    booking.cancellation = dict(decision)
    _move(booking, "cancel", actor=actor, now=now, fields=["cancelled_at", "cancelled_by", "cancellation"])
    return booking


def check_in(*, booking: Booking, actor: Actor, now: datetime) -> Booking:
    """The check-in instant has passed: the stay runs."""
    return _move(booking, "check_in", actor=actor, now=now)


def complete(*, booking: Booking, actor: Actor, now: datetime) -> Booking:
    """The check-out instant has passed: the stay is over."""
    return _move(booking, "complete", actor=actor, now=now)


def mark_no_show(*, booking_code: str, reason: str, actor: Actor, now: datetime) -> Booking:
    """The guest did not come. May be said from midnight of check-in to 48 h after check-out (DOMAIN.md)."""
    actor.must("bookings.mark_no_show")
    if not reason.strip():
        raise Refused(missing="a reason")
    with transaction.atomic():
        booking = lock(code=booking_code)  # a check-out job at the same moment must not overwrite it
        first, last = queries.no_show_times(booking=booking, now=now)
        if not first <= now <= last:
            raise Conflict(f"A no-show can be marked from {first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M} UTC.")
        return _move(booking, "mark_no_show", actor=actor.because(reason), now=now)


def facts_to_tell(booking: Booking) -> dict[str, str]:
    """What messages say of a booking; amounts and dates as they are read."""
    return {
        "booking": booking.code,
        "listing": booking.listing.title,
        "city": booking.listing.city,
        "check_in": booking.check_in.isoformat(),
        "check_out": booking.check_out.isoformat(),
        "total": Money(booking.charge_total, booking.charge_currency).format(),
    }


# Private --------------------------------------------------------------------------------------------------------------

_FROZEN = (
    "check_in check_out guests currency host_price host_fee guest_fee vat occupancy_tax total "
    "charge_currency charge_total rate price cancellation_tier cancellation_version"
).split()


def _amounts(price: PriceBreakdown) -> dict[str, Any]:
    return {
        "currency": price.total.currency,
        "host_price": price.host_price.amount,
        "host_fee": price.host_fee.amount,
        "guest_fee": price.guest_fee.amount,
        "vat": price.vat.amount,
        "occupancy_tax": price.occupancy_tax.amount,
        "total": price.total.amount,
        "charge_currency": price.charge_total.currency,
        "charge_total": price.charge_total.amount,
        "rate": price.rate.as_dict(),
        "price": price.as_dict(),
    }


def _stay(check_in: date, check_out: date, time_zone: str, now: datetime) -> Stay:
    if check_out <= check_in:
        raise Invalid("check_out: must be after check_in.", field="check_out")
    if check_in < now.astimezone(ZoneInfo(time_zone)).date():  # today is what it is at the home
        raise Invalid("check_in: lies in the past.", field="check_in")
    if check_out > now.date() + FARTHEST:
        raise Invalid(f"check_out: nothing is sold more than {FARTHEST.days} days ahead.", field="check_out")
    return Stay(check_in, check_out)


def _check_fits(listing: Listing, stay: Stay, guests: int, minimum: int, maximum: int, actor: Actor) -> None:
    if not 1 <= guests <= listing.capacity:
        raise Invalid(f"guests: this home takes 1 to {listing.capacity}.", field="guests")
    if not minimum <= stay.nights <= maximum:
        raise Invalid(f"check_out: stays here are {minimum} to {maximum} nights.", field="check_out")
    if not listing.nightly_price:
        raise Conflict("This home has no price yet.")
    if listing.host_id == actor.id:
        raise Conflict("This is your own home; block the nights instead.")


def _move(booking: Booking, action: str, *, actor: Actor, now: datetime, fields: list[str] | None = None) -> Booking:
    before = booking.status
    booking.status = BOOKING.after(before, action)
    booking.version += 1
    booking.save(update_fields=["status", "version", *(fields or [])])
    audit.record(
        actor=actor,
        verb=f"bookings.{action}",
        kind="booking",
        id=booking.code,
        before={"status": before},
        after={"status": booking.status},
        now=now,
    )
    return booking


def _tell_both(booking: Booking, topic: str, now: datetime) -> None:
    for person in (booking.guest, booking.host):
        _tell(person, topic, facts_to_tell(booking), now)


def _tell(person: User, topic: str, facts: Mapping[str, str], now: datetime) -> None:
    notifications.tell(
        topic=topic,
        recipient_id=person.id,
        address=person.email,
        context={**facts, "name": person.first_name},
        now=now,
    )
