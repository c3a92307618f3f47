"""Search: what a guest asks in the query string, and the page of homes that answers it."""

from __future__ import annotations

import math
from datetime import datetime
from typing import Any

from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from api.fields import Currency, Day, Input, MoneyOut, money
from api.pagination import decode_cursor, page_of, read_limit
from api.schema import CURSOR, LIMIT
from api.schema import page_of as page_schema
from backoffice.bookings.queries.search import ORDERINGS, Box, Criteria, FoundHome, search
from backoffice.core.errors import Invalid
from backoffice.core.stays import Stay
from backoffice.listings.states import ROOM_TYPES


class SearchIn(Input):
    q = serializers.CharField(max_length=200, required=False, allow_blank=True, help_text="words of the place or title")
    bbox = serializers.CharField(max_length=120, required=False, help_text="west,south,east,north in degrees")
    check_in = Day(required=False)
    check_out = Day(required=False)
    guests = serializers.IntegerField(min_value=1, max_value=1000, required=False)
    min_price = serializers.IntegerField(
        min_value=0, max_value=10**12, required=False, help_text="a night's, minor units of `currency`"
    )
    max_price = serializers.IntegerField(
        min_value=0, max_value=10**12, required=False, help_text="a night's, minor units of `currency`"
    )
    currency = Currency(required=False, help_text="prices are meant and shown in it")
    amenities = serializers.CharField(max_length=2000, required=False, help_text="all of these, by comma")
    room_type = serializers.CharField(
        max_length=120, required=False, help_text=f"one of {', '.join(ROOM_TYPES)}; several by comma"
    )
    ordering = serializers.ChoiceField(choices=ORDERINGS, required=False, default="newest")
    cursor = serializers.CharField(max_length=500, required=False)
    limit = serializers.CharField(max_length=10, required=False)


SEARCH_PARAMETERS: list[Any] = [SearchIn(), LIMIT, CURSOR]


class FoundPointOut(serializers.Serializer[Any]):
    latitude = serializers.FloatField()
    longitude = serializers.FloatField()


class FoundRatingOut(serializers.Serializer[Any]):
    count = serializers.IntegerField()
    average = serializers.FloatField(allow_null=True)


class FoundHomeOut(serializers.Serializer[Any]):
    """A home on a page of results. `total` is all that the guest pays for the stay, fees and taxes included, in the
    home's currency; `charged` the same in the currency asked for. Both are null without dates."""

    code = serializers.CharField()
    title = serializers.CharField()
    city = serializers.CharField()
    neighbourhood = serializers.CharField()
    country = serializers.CharField()
    location = FoundPointOut()
    room_type = serializers.CharField()
    property_type = serializers.CharField()
    capacity = serializers.IntegerField()
    bedrooms = serializers.IntegerField(allow_null=True)
    beds = serializers.IntegerField(allow_null=True)
    bathrooms = serializers.CharField(allow_null=True)
    instant_book = serializers.BooleanField()
    cancellation_tier = serializers.CharField()
    rating = FoundRatingOut()
    photo = serializers.URLField(allow_null=True)
    nightly_price = MoneyOut()
    nightly_price_shown = MoneyOut()
    total = MoneyOut(allow_null=True)
    charged = MoneyOut(allow_null=True)


FoundPageOut = page_schema(FoundHomeOut, "FoundPage")


def found_page(request: Request, now: datetime) -> Response:
    """One page of results. Raises Invalid naming the parameter."""
    asked = SearchIn.read(request.query_params.dict())
    cursor = asked.get("cursor")
    page = search(
        criteria=_criteria(asked),
        limit=read_limit(request),
        now=now,
        after=decode_cursor(cursor) if cursor else None,
    )
    return page_of(request, [_shown(home) for home in page.homes], page.position)


def _shown(home: FoundHome) -> dict[str, Any]:
    """`FoundHomeOut` by hand: a page of twenty through the serializer costs more than finding it."""
    average = round(home.rating_sum / home.rating_count, 2) if home.rating_count else None
    return {
        "code": home.code,
        "title": home.title,
        "city": home.city,
        "neighbourhood": home.neighbourhood,
        "country": home.country,
        "location": {"latitude": home.latitude, "longitude": home.longitude},
        "room_type": home.room_type,
        "property_type": home.property_type,
        "capacity": home.capacity,
        "bedrooms": home.bedrooms,
        "beds": home.beds,
        "bathrooms": None if home.bathrooms is None else str(home.bathrooms),
        "instant_book": home.instant_book,
        "cancellation_tier": home.cancellation_tier,
        "rating": {"count": home.rating_count, "average": average},
        "photo": home.photo,
        "nightly_price": money(home.nightly_price),
        "nightly_price_shown": money(home.nightly_price_shown),
        "total": None if home.total is None else money(home.total),
        "charged": None if home.charged is None else money(home.charged),
    }


def _criteria(asked: dict[str, Any]) -> Criteria:
    return Criteria(
        text=asked.get("q", ""),
        box=_box(asked["bbox"]) if "bbox" in asked else None,
        stay=_stay(asked),
        guests=asked.get("guests"),
        min_price=asked.get("min_price"),
        max_price=asked.get("max_price"),
        currency=asked.get("currency"),
        amenities=_names(asked.get("amenities", "")),
        room_types=_room_types(asked.get("room_type", "")),
        ordering=asked["ordering"],
    )


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip()[:120] for name in text.split(",") if name.strip())[:50]


def _room_types(text: str) -> tuple[str, ...]:
    names = _names(text)
    if unknown := [name for name in names if name not in ROOM_TYPES]:
        raise Invalid(f"room_type: {unknown[0]} is none of {', '.join(ROOM_TYPES)}.", field="room_type")
    return names


def _stay(asked: dict[str, Any]) -> Stay | None:
    check_in, check_out = asked.get("check_in"), asked.get("check_out")
    if check_in is None and check_out is None:
        return None
    if check_in is None or check_out is None:
        missing = "check_in" if check_in is None else "check_out"
        raise Invalid(f"{missing}: dates come in pairs; send both.", field=missing)
    if check_out <= check_in:
        raise Invalid("check_out: must be after check_in.", field="check_out")
    if (check_out - check_in).days > MAX_NIGHTS:
        raise Invalid(f"check_out: search for at most {MAX_NIGHTS} nights.", field="check_out")
    return Stay(check_in, check_out)


MAX_NIGHTS = 365


def _box(text: str) -> Box:
    try:
        west, south, east, north = (float(part) for part in text.split(","))
    except ValueError:
        raise Invalid("bbox: write west,south,east,north in degrees.", field="bbox") from None
    if not all(map(math.isfinite, (west, south, east, north))) or max(abs(west), abs(east)) > 180:
        raise Invalid("bbox: longitudes lie from -180 to 180.", field="bbox")
    if not -90 <= south <= north <= 90:
        raise Invalid("bbox: latitudes lie from -90 to 90, south below north.", field="bbox")
    return Box(west=west, south=south, east=east, north=north)
