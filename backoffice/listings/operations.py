"""What happens to homes and to their nights.

Lock order: the listing row first, always. A race for nights therefore waits at the listing instead of deadlocking, and the
exclusion constraint is the guard that would still hold if somebody forgot.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Any

from django.core.exceptions import ValidationError
from django.db import connection, transaction
from django.db.backends.postgresql.psycopg_any import DateRange
from django.db.models import F

from backoffice.audit import operations as audit
from backoffice.core.actor import Actor
from backoffice.core.errors import Conflict, Invalid, NightsTaken, NotFound, Refused, StaleVersion
from backoffice.core.stays import Stay, time_zones
from backoffice.listings import policies
from backoffice.listings.models import CalendarHold, Listing, ListingPhoto, NightOverride
from backoffice.listings.states import LISTING

EDITABLE = frozenset(
    (
        "title description property_type room_type address city neighbourhood country latitude longitude "
        "time_zone capacity bedrooms beds bathrooms amenities currency nightly_price cleaning_fee "
        "extra_guest_fee included_guests week_discount month_discount minimum_nights maximum_nights "
        "cancellation_tier instant_book check_in_time check_out_time registration_number"
    ).split()
)


def create(*, fields: Mapping[str, Any], actor: Actor, now: datetime) -> Listing:
    """Begin a draft that belongs to the actor. Raises Invalid naming the field."""
    actor.must("listings.create")
    if actor.id is None:
        raise Refused(missing="a host")
    _known(fields)
    listing = Listing(host_id=actor.id, created_at=now, updated_at=now, **fields)
    _clean(listing)
    with transaction.atomic():
        listing.save(force_insert=True)
        audit.record(
            actor=actor, verb="listings.create", kind="listing", id=listing.code, after=_plain(fields), now=now
        )
    return listing


def edit(*, code: str, fields: Mapping[str, Any], actor: Actor, now: datetime, version: int | None = None) -> Listing:
    """Change a home. A risky change to a published home sends it back to review.

    Raises Invalid naming the field, StaleVersion when `version` is not the present one, NotFound for another's home."""
    actor.must("listings.edit")
    _known(fields)
    with transaction.atomic():
        listing = _own_locked(code, actor)  # two edits at once must not mix their fields
        if version is not None and version != listing.version:
            raise StaleVersion(kind="listing")
        if listing.status == "removed":
            raise Conflict("A removed listing cannot be edited; restore it first.")
        before = {name: getattr(listing, name) for name in EDITABLE}
        for name, value in fields.items():
            setattr(listing, name, value)
        _clean(listing)
        changed = {name: now_is for name in fields if before[name] != (now_is := getattr(listing, name))}
        if not changed:
            return listing
        if "currency" in changed and listing.overrides.filter(price__isnull=False).exists():
            raise Invalid("currency: take the prices of single nights back first.", field="currency")
        if listing.status in {"published", "paused"} and policies.needs_review(before=before, after=changed):
            listing.status = LISTING.after(listing.status, "review_again")
        listing.version += 1
        listing.updated_at = now
        listing.save()
        audit.record(
            actor=actor,
            verb="listings.edit",
            kind="listing",
            id=code,
            before=_plain({name: before[name] for name in changed}),
            after=_plain(changed),
            now=now,
        )
    return listing


def submit(*, code: str, actor: Actor, now: datetime) -> Listing:
    """Hand a draft in for review. Raises Conflict naming what it still lacks."""
    actor.must("listings.edit")
    with transaction.atomic():
        listing = _own_locked(code, actor)
        missing = policies.lacks(facts={name: getattr(listing, name) for name in EDITABLE})
        if missing:
            raise Conflict(f"The listing still lacks: {', '.join(missing)}.", missing=list(missing))
        return _move(listing, "submit", actor=actor, now=now)


def pause(*, code: str, actor: Actor, now: datetime) -> Listing:
    """Take a home off the market for a while; its bookings stand."""
    actor.must("listings.edit")
    with transaction.atomic():
        return _move(_own_locked(code, actor), "pause", actor=actor, now=now)


def resume(*, code: str, actor: Actor, now: datetime) -> Listing:
    """Put a paused home back on the market."""
    actor.must("listings.edit")
    with transaction.atomic():
        return _move(_own_locked(code, actor), "resume", actor=actor, now=now)


def remove(*, code: str, actor: Actor, now: datetime) -> Listing:
    """Retire a home. Raises Conflict while a booking still occupies its nights; nothing is deleted."""
    actor.must("listings.edit")
    with transaction.atomic():
        listing = _own_locked(code, actor)  # a booking made at this moment waits and then finds the home removed
        open_stays = CalendarHold.objects.filter(
            listing=listing, active=True, kind="booking", stay__endswith__gt=now.date()
        ).count()
        if open_stays:
            raise Conflict(f"{open_stays} booking(s) still occupy nights of this home; cancel or host them first.")
        return _move(listing, "remove", actor=actor, now=now)


def publish(*, code: str, actor: Actor, now: datetime) -> Listing:
    """A member of staff lets guests see the home."""
    return _moderate(code=code, action="publish", reason="", actor=actor, now=now)


def send_back(*, code: str, reason: str, actor: Actor, now: datetime) -> Listing:
    """A member of staff returns the home to its host, saying why."""
    if not reason.strip():
        raise Refused(missing="a reason")
    return _moderate(code=code, action="send_back", reason=reason, actor=actor, now=now)


def set_photos(*, code: str, photos: Sequence[Mapping[str, Any]], actor: Actor, now: datetime) -> Listing:
    """Replace a home's photos, in this order. Each has `url` and may have `caption`, `width`, `height` (pixels).

    Raises Invalid naming `photos` and which of them cannot be accepted."""
    actor.must("listings.edit")
    with transaction.atomic():
        listing = _own_locked(code, actor)  # two replacements at once must not mix
        made = [_photo(listing, position, photo) for position, photo in enumerate(photos, start=1)]
        listing.photos.all().delete()
        ListingPhoto.objects.bulk_create(made)
        if listing.status in {"published", "paused"}:
            listing.status = LISTING.after(listing.status, "review_again")
        listing.version += 1
        listing.updated_at = now
        listing.save(update_fields=["status", "version", "updated_at"])
        audit.record(
            actor=actor, verb="listings.set_photos", kind="listing", id=code, after={"count": len(photos)}, now=now
        )
    return listing


def set_night_prices(
    *,
    code: str,
    first: date,
    end: date,
    price: int | None,
    actor: Actor,
    now: datetime,
    minimum_nights: int | None = None,
) -> Listing:
    """Give the nights [first, end) their own price (minor units) or minimum stay; both None: back to the listing's.

    Raises Invalid naming `end`, `price` or `minimum_nights`."""
    actor.must("listings.edit")
    if end <= first:
        raise Invalid("end: must be after first.", field="end")
    if price is not None and not 0 <= price <= policies.MOST_MINOR_UNITS:
        raise Invalid("price: write minor units from 0 up.", field="price")
    if minimum_nights is not None and not 1 <= minimum_nights <= policies.MOST_NIGHTS:
        raise Invalid(f"minimum_nights: write 1 to {policies.MOST_NIGHTS}.", field="minimum_nights")
    with transaction.atomic():
        listing = _own_locked(code, actor)  # runs of the same home are cut and laid one writer at a time
        _cut_overrides(listing.id, first, end)
        if price is not None or minimum_nights is not None:
            NightOverride.objects.create(
                listing=listing, nights=DateRange(first, end), price=price, minimum_nights=minimum_nights
            )
        Listing.objects.filter(id=listing.id).update(version=F("version") + 1, updated_at=now)
        audit.record(
            actor=actor,
            verb="listings.set_night_prices",
            kind="listing",
            id=code,
            after={"first": str(first), "end": str(end), "price": price, "minimum_nights": minimum_nights},
            now=now,
        )
    return listing


def block(*, code: str, stay: Stay, cause: str, actor: Actor, now: datetime) -> CalendarHold:
    """A host keeps nights for themselves. Raises NightsTaken."""
    actor.must("listings.block")
    with transaction.atomic():
        listing = _own_locked(code, actor)
        hold = _hold(listing=listing, stay=stay, kind="block", expires_at=None, cause=cause or "host", now=now)
        audit.record(actor=actor, verb="listings.block", kind="listing", id=code, after={"stay": str(stay)}, now=now)
    return hold


def unblock(*, code: str, hold_id: int, actor: Actor, now: datetime) -> CalendarHold:
    """Free blocked nights. Raises NotFound for a hold that is not an active block of this home."""
    actor.must("listings.block")
    with transaction.atomic():
        listing = _own_locked(code, actor)
        hold = CalendarHold.objects.filter(id=hold_id, listing=listing, kind="block", active=True).first()
        if hold is None:
            raise NotFound(kind="block")
        _release(hold, now)
        audit.record(
            actor=actor, verb="listings.unblock", kind="listing", id=code, before={"stay": str(hold.stay)}, now=now
        )
    return hold


# For the rooms above: nights of a booking. They take the listing's lock and are part of the caller's transaction. -----


def lock_listing(*, listing_id: int) -> Listing:
    """Lock the home whose nights are about to change; everything else about the booking is locked after it."""
    found = (
        Listing.objects.select_related("host")
        .select_for_update(of=("self",), no_key=True)
        .filter(id=listing_id)
        .first()
    )
    if found is None:
        raise NotFound(kind="listing")
    return found


def occupy(*, listing: Listing, stay: Stay, expires_at: datetime | None, now: datetime) -> CalendarHold:
    """Hold nights for a booking on a listing locked by `lock_listing`. Raises NightsTaken."""
    return _hold(listing=listing, stay=stay, kind="booking", expires_at=expires_at, cause="", now=now)


def keep(*, hold_id: int) -> None:
    """The booking stands: its nights no longer expire."""
    CalendarHold.objects.filter(id=hold_id, active=True).update(expires_at=None)


def extend(*, hold_id: int, expires_at: datetime) -> bool:
    """Give an unpaid hold more time, once; returns whether it was given."""
    return bool(
        CalendarHold.objects.filter(id=hold_id, active=True, extended=False).update(
            expires_at=expires_at, extended=True
        )
    )


def keep_until(*, hold_id: int, expires_at: datetime) -> None:
    """The host is asked: the nights are held until then, whatever time to pay was left."""
    CalendarHold.objects.filter(id=hold_id, active=True).update(expires_at=expires_at)


def release(*, hold_id: int, now: datetime) -> bool:
    """Free the nights of a booking; returns whether they were still held."""
    return bool(CalendarHold.objects.filter(id=hold_id, active=True).update(active=False, released_at=now))


def block_after_host_cancellation(*, listing: Listing, stay: Stay, cause: str, now: datetime) -> CalendarHold:
    """A host who cancels does not get the nights back to sell (DOMAIN.md, host cancels: nights blocked)."""
    return _hold(listing=listing, stay=stay, kind="block", expires_at=None, cause=cause, now=now)


# Private --------------------------------------------------------------------------------------------------------------


def _hold(
    *, listing: Listing, stay: Stay, kind: str, expires_at: datetime | None, cause: str, now: datetime
) -> CalendarHold:
    with connection.cursor() as cursor:
        cursor.execute(_OCCUPY, [listing.id, stay.check_in, stay.check_out, kind, expires_at, cause, now])
        made = cursor.fetchone()
    if made is None:
        raise NightsTaken(check_in=stay.check_in.isoformat(), check_out=stay.check_out.isoformat())
    return CalendarHold(
        id=made[0],
        listing=listing,
        stay=DateRange(stay.check_in, stay.check_out),
        kind=kind,
        expires_at=expires_at,
        cause=cause,
        created_at=now,
    )


# The constraint itself says whether the nights are taken: no error to recover from, one statement.
_OCCUPY = """
INSERT INTO listings_calendarhold (listing_id, stay, kind, active, expires_at, extended, cause, source, created_at)
VALUES (%s, daterange(%s, %s), %s, true, %s, false, %s, '', %s)
ON CONFLICT ON CONSTRAINT nights_held_once DO NOTHING RETURNING id"""


def _release(hold: CalendarHold, now: datetime) -> None:
    hold.active = False
    hold.released_at = now
    hold.save(update_fields=["active", "released_at"])


def _cut_overrides(listing_id: int, first: date, end: date) -> None:
    """Remove [first, end) from the home's runs, keeping what sticks out on either side."""
    for row in NightOverride.objects.filter(listing_id=listing_id, nights__overlap=DateRange(first, end)):
        row.delete()
        for lower, upper in ((row.nights.lower, first), (end, row.nights.upper)):
            if lower < upper:
                NightOverride.objects.create(
                    listing_id=listing_id,
                    nights=DateRange(lower, upper),
                    price=row.price,
                    minimum_nights=row.minimum_nights,
                    maximum_nights=row.maximum_nights,
                )


def _own_locked(code: str, actor: Actor) -> Listing:
    """The home, locked, if it is the actor's: another's home does not exist for them."""
    found = Listing.objects.select_for_update(no_key=True).filter(code=code).first()
    if found is None or (actor.kind in {"guest", "host"} and found.host_id != actor.id):
        raise NotFound(kind="listing")
    return found


def _moderate(*, code: str, action: str, reason: str, actor: Actor, now: datetime) -> Listing:
    actor.must("listings.moderate")
    with transaction.atomic():
        listing = _own_locked(code, actor)
        return _move(listing, action, actor=actor.because(reason) if reason else actor, now=now)


def _move(listing: Listing, action: str, *, actor: Actor, now: datetime) -> Listing:
    before = listing.status
    listing.status = LISTING.after(before, action)
    listing.version += 1
    listing.updated_at = now
    listing.save(update_fields=["status", "version", "updated_at"])
    audit.record(
        actor=actor,
        verb=f"listings.{action}",
        kind="listing",
        id=listing.code,
        before={"status": before},
        after={"status": listing.status},
        now=now,
    )
    return listing


def _known(fields: Mapping[str, Any]) -> None:
    unknown = sorted(set(fields) - EDITABLE)
    if unknown:
        raise Invalid(f"{unknown[0]}: there is no such field, or it cannot be set.", field=unknown[0])


def _clean(listing: Listing) -> None:
    """Field and row constraints, said in words; the database repeats them, and is not asked beforehand: a question for
    each of its constraints took longer than the rest of the operation."""
    if listing.time_zone not in time_zones():
        raise Invalid("time_zone: write an IANA name such as Europe/Paris.", field="time_zone")
    _within_bounds(listing)
    unset = {field.name for field in listing._meta.fields if field.null and getattr(listing, field.attname) is None}
    if not listing.amenities:
        unset.add("amenities")
    try:
        listing.full_clean(exclude=unset | {"host", "code"}, validate_unique=False, validate_constraints=False)
    except ValidationError as error:
        field, messages = next(iter(error.message_dict.items()))
        raise Invalid(f"{field}: {' '.join(messages)}", field=field) from None
    _within_bounds(listing)  # a text became a number


def _within_bounds(listing: Listing) -> None:
    for field, sentence in policies.faults(facts={name: getattr(listing, name) for name in EDITABLE}):
        raise Invalid(f"{field}: {sentence}", field=field)


def _photo(listing: Listing, position: int, facts: Mapping[str, Any]) -> ListingPhoto:
    unknown = sorted(set(facts) - {"url", "caption", "width", "height"})
    if unknown:
        raise Invalid(f"photos: {unknown[0]} cannot be set.", field="photos")
    photo = ListingPhoto(listing=listing, position=position, **facts)
    try:
        unset = {name for name in ("width", "height") if getattr(photo, name) is None}
        photo.full_clean(exclude={"listing", *unset}, validate_unique=False, validate_constraints=False)
    except ValidationError as error:
        name, messages = next(iter(error.message_dict.items()))
        raise Invalid(f"photos: the {name} of number {position}: {' '.join(messages)}", field="photos") from None
    return photo


def _plain(fields: Mapping[str, Any]) -> dict[str, Any]:
    """What the audit log keeps of a listing's fields; the street address is personal and kept as a digest."""
    plain: dict[str, Any] = {}
    for name, value in fields.items():
        if name == "address":
            plain[name] = audit.personal(value)
        elif isinstance(value, str | int | float | bool | list | None):
            plain[name] = value
        else:
            plain[name] = str(value)
    return plain
