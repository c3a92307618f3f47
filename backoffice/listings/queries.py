"""Questions about homes and their nights."""

from __future__ import annotations

from datetime import date

from django.db.backends.postgresql.psycopg_any import DateRange
from django.db.models import Prefetch, QuerySet

from backoffice.core.errors import NotFound
from backoffice.core.stays import Stay
from backoffice.listings import policies
from backoffice.listings.models import CalendarHold, Listing, ListingPhoto, NightOverride


def listings() -> QuerySet[Listing]:
    """Every home with its host, newest first."""
    return Listing.objects.select_related("host").order_by("-id")


def listing(*, code: str) -> Listing:
    """One home by code, whatever its status. Raises NotFound."""
    found = _with_photos(Listing.objects.select_related("host")).filter(code=code).first()
    if found is None:
        raise NotFound(kind="listing")
    return found


def published_listing(*, code: str) -> Listing:
    """One home that guests may see: published, and its host not suspended. Raises NotFound."""
    shown = Listing.objects.select_related("host").filter(code=code, status="published", host__status="active")
    found = _with_photos(shown).first()
    if found is None:
        raise NotFound(kind="listing")
    return found


def listings_of(*, host_id: int) -> QuerySet[Listing]:
    """A host's own homes, removed ones too, newest first."""
    return _with_photos(Listing.objects.filter(host_id=host_id)).order_by("-id")


def terms(*, listing: Listing, stay: Stay) -> policies.NightlyTerms:
    """Prices and bounds for a stay, overrides applied."""
    rows = NightOverride.objects.filter(
        listing=listing, nights__overlap=DateRange(stay.check_in, stay.check_out)
    ).order_by("nights")
    runs = [
        policies.Run(row.nights.lower, row.nights.upper, row.price, row.minimum_nights, row.maximum_nights)
        for row in rows
    ]
    return policies.nightly_terms(
        stay=stay,
        price=listing.nightly_price or 0,
        minimum_nights=listing.minimum_nights,
        maximum_nights=listing.maximum_nights,
        runs=runs,
    )


def held(*, listing_id: int, since: date, until: date) -> QuerySet[CalendarHold]:
    """The active holds of a home that touch [since, until), in calendar order."""
    return CalendarHold.objects.filter(
        listing_id=listing_id, active=True, stay__overlap=DateRange(since, until)
    ).order_by("stay", "id")


def is_free(*, listing_id: int, stay: Stay) -> bool:
    """Whether no active hold occupies any of these nights now. A hint: only the hold itself decides."""
    return not held(listing_id=listing_id, since=stay.check_in, until=stay.check_out).exists()


def _with_photos(rows: QuerySet[Listing]) -> QuerySet[Listing]:
    return rows.prefetch_related(Prefetch("photos", ListingPhoto.objects.order_by("position")))
