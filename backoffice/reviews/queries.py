"""Questions about reviews."""

from __future__ import annotations

from django.db.models import QuerySet

from backoffice.reviews.models import Review


def reviews_of(*, listing_code: str) -> QuerySet[Review]:
    """The current reviews of a home, newest first; retired ones are history and not shown."""
    return Review.objects.filter(listing__code=listing_code, retired_on=None).order_by("-written_on", "-id")
