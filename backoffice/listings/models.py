"""Homes, what they cost on which night, and what occupies those nights."""

from __future__ import annotations

from datetime import time

from django.conf import settings
from django.contrib.postgres.constraints import ExclusionConstraint
from django.contrib.postgres.fields import ArrayField, DateRangeField, RangeOperators
from django.db import models
from django.db.models.functions import Greatest

from backoffice.core.fields import currency_code, minor_units, new_code, status_check
from backoffice.listings.states import CANCELLATION_TIERS, HOLD_KINDS, LISTING, ROOM_TYPES


def new_listing_code() -> str:
    return new_code("LS", 8)


class Listing(models.Model):
    """A home that can be booked. Amounts are minor units of `currency`; times are wall-clock time at the home."""

    code = models.CharField(max_length=20, unique=True, default=new_listing_code)
    host = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="listings")
    status = models.CharField(max_length=12, choices=LISTING.choices, default=LISTING.initial)
    title = models.CharField(max_length=300)
    description = models.TextField(blank=True, default="")
    property_type = models.CharField(max_length=120, blank=True, default="")
    room_type = models.CharField(max_length=16, choices=[(kind, kind.replace("_", " ")) for kind in ROOM_TYPES])
    address = models.CharField(max_length=300, blank=True, default="")
    city = models.CharField(max_length=120)
    neighbourhood = models.CharField(max_length=120, blank=True, default="")
    country = models.CharField(max_length=2, help_text="ISO 3166-1")
    latitude = models.FloatField()
    longitude = models.FloatField()
    time_zone = models.CharField(max_length=64, default="UTC", help_text="IANA name")
    capacity = models.PositiveSmallIntegerField()
    bedrooms = models.PositiveSmallIntegerField(null=True)
    beds = models.PositiveSmallIntegerField(null=True)
    bathrooms = models.DecimalField(max_digits=4, decimal_places=1, null=True)
    amenities = ArrayField(models.CharField(max_length=120), default=list)
    currency = currency_code()
    nightly_price = minor_units(null=True, help_text="none: cannot be booked until the host sets one")
    cleaning_fee = minor_units(default=0)
    extra_guest_fee = minor_units(default=0, help_text="per night and guest above included_guests")
    included_guests = models.PositiveSmallIntegerField(default=1)
    week_discount = models.PositiveSmallIntegerField(default=0, help_text="per cent from 7 nights")
    month_discount = models.PositiveSmallIntegerField(default=0, help_text="per cent from 28 nights")
    minimum_nights = models.PositiveIntegerField(default=1)
    maximum_nights = models.PositiveIntegerField(default=1125)
    cancellation_tier = models.CharField(
        max_length=16, choices=[(tier, tier.replace("_", " ")) for tier in CANCELLATION_TIERS], default="moderate"
    )
    instant_book = models.BooleanField(default=True)
    check_in_time = models.TimeField(default=time(15))
    check_out_time = models.TimeField(default=time(11))
    registration_number = models.CharField(max_length=200, blank=True, default="")
    rating_count = models.PositiveIntegerField(default=0, help_text="pushed down by reviews")
    rating_sum = models.PositiveIntegerField(default=0)
    source = models.CharField(max_length=160, null=True, unique=True, help_text="import and id there")
    source_seen_on = models.DateField(null=True, help_text="the snapshot that last held it")
    created_at = models.DateTimeField()
    updated_at = models.DateTimeField()
    version = models.PositiveIntegerField(default=1)

    class Meta:
        constraints = [
            status_check("listing_status", LISTING.statuses),
            status_check("listing_room_type", ROOM_TYPES, "room_type"),
            status_check("listing_cancellation_tier", CANCELLATION_TIERS, "cancellation_tier"),
            models.CheckConstraint(name="listing_price_not_negative", condition=models.Q(nightly_price__gte=0)),
            models.CheckConstraint(
                name="listing_fees_not_negative", condition=models.Q(cleaning_fee__gte=0, extra_guest_fee__gte=0)
            ),
            models.CheckConstraint(name="listing_capacity", condition=models.Q(capacity__gte=1)),
            models.CheckConstraint(
                name="listing_nights",
                condition=models.Q(minimum_nights__gte=1, maximum_nights__gte=models.F("minimum_nights")),
            ),
            models.CheckConstraint(
                name="listing_point",
                condition=models.Q(latitude__gte=-90, latitude__lte=90, longitude__gte=-180, longitude__lte=180),
            ),
            models.CheckConstraint(
                name="listing_discounts", condition=models.Q(week_discount__lte=90, month_discount__lte=90)
            ),
        ]
        indexes = [
            models.Index(name="listing_newest", fields=["-id", "status"]),
            models.Index(name="listing_by_city", fields=["city", "id"], condition=models.Q(status="published")),
            models.Index(
                name="listing_by_price",
                fields=["currency", "nightly_price", "id"],
                condition=models.Q(status="published"),
            ),
            models.Index(
                name="listing_by_place", fields=["latitude", "longitude"], condition=models.Q(status="published")
            ),
            models.Index(
                (models.F("rating_sum") * 1000 / Greatest("rating_count", 1)).desc(),
                models.F("id").desc(),
                name="listing_by_rating",
                condition=models.Q(status="published"),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.title} ({self.code})"


class ListingPhoto(models.Model):
    """What is known of a photo; the bytes live in the object store."""

    listing = models.ForeignKey(Listing, on_delete=models.CASCADE, related_name="photos")
    position = models.PositiveSmallIntegerField()
    url = models.URLField(max_length=500)
    caption = models.CharField(max_length=200, blank=True, default="")
    width = models.PositiveIntegerField(null=True)
    height = models.PositiveIntegerField(null=True)

    class Meta:
        constraints = [models.UniqueConstraint(name="photo_position_once", fields=["listing", "position"])]

    def __str__(self) -> str:
        return f"photo {self.position} of {self.listing_id}"


class NightOverride(models.Model):
    """A run of nights that differ from the listing: its price, its minimum or maximum stay. Runs never overlap."""

    listing = models.ForeignKey(Listing, on_delete=models.CASCADE, related_name="overrides")
    nights = DateRangeField()
    price = minor_units(null=True)
    minimum_nights = models.PositiveIntegerField(null=True)
    maximum_nights = models.PositiveIntegerField(null=True)

    class Meta:
        constraints = [
            ExclusionConstraint(
                name="override_nights_once",
                expressions=[("listing", RangeOperators.EQUAL), ("nights", RangeOperators.OVERLAPS)],
            ),
            models.CheckConstraint(name="override_price_not_negative", condition=models.Q(price__gte=0)),
        ]

    def __str__(self) -> str:
        return f"override {self.nights} of {self.listing_id}"


class CalendarHold(models.Model):
    """What occupies nights: a booking, a host's block, an imported calendar. Two active ones never overlap: the
    database refuses the second (DESIGN.md "Nights")."""

    listing = models.ForeignKey(Listing, on_delete=models.PROTECT, related_name="holds")
    stay = DateRangeField(help_text="half-open: the night of the upper bound is free")
    kind = models.CharField(max_length=8, choices=[(kind, kind) for kind in HOLD_KINDS])
    active = models.BooleanField(default=True)
    expires_at = models.DateTimeField(null=True, help_text="while unpaid; none once it stands")
    extended = models.BooleanField(default=False, help_text="an unpaid hold is extended once")
    cause = models.CharField(max_length=60, blank=True, default="")
    source = models.CharField(max_length=160, blank=True, default="")
    created_at = models.DateTimeField()
    released_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            ExclusionConstraint(
                name="nights_held_once",
                expressions=[("listing", RangeOperators.EQUAL), ("stay", RangeOperators.OVERLAPS)],
                condition=models.Q(active=True),
            ),
            status_check("hold_kind", HOLD_KINDS, "kind"),
            models.CheckConstraint(
                name="hold_of_at_least_a_night", condition=models.Q(stay__isempty=False, stay__isnull=False)
            ),
            models.CheckConstraint(
                name="hold_released_when_inactive",
                condition=models.Q(active=True, released_at__isnull=True)
                | models.Q(active=False, released_at__isnull=False),
            ),
        ]
        indexes = [
            models.Index(
                name="hold_expiring", fields=["expires_at"], condition=models.Q(active=True, expires_at__isnull=False)
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.stay} of {self.listing_id}"
