"""Homes as their hosts keep them and as guests read them."""

from __future__ import annotations

from datetime import date
from typing import Any, ClassVar

from rest_framework import serializers, status
from rest_framework.permissions import AllowAny, IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response

from api.endpoint import Endpoint
from api.fields import Amount, Currency, Day, Input, MoneyOf, Text
from api.pagination import CursorPages
from api.schema import CURSOR, IF_MATCH, LIMIT, documented, page_of
from api.v1.search import SEARCH_PARAMETERS, FoundPageOut, found_page
from backoffice.core.actor import Actor
from backoffice.core.errors import Invalid, NotFound
from backoffice.core.stays import Stay
from backoffice.listings import operations as listings
from backoffice.listings import queries
from backoffice.listings.states import CANCELLATION_TIERS, LISTING, ROOM_TYPES

TAG = "Listings"


class ListingFields(Input):
    """What a host says about a home. Amounts are whole minor units of `currency`; times are local to the home."""

    title = Text(max_length=300)
    description = Text(max_length=20_000, allow_blank=True)
    property_type = Text(max_length=120, allow_blank=True)
    room_type = serializers.ChoiceField(choices=ROOM_TYPES)
    address = Text(max_length=300, allow_blank=True)
    city = Text(max_length=120)
    neighbourhood = Text(max_length=120, allow_blank=True)
    country = serializers.RegexField(r"\A[A-Z]{2}\Z", help_text="ISO 3166-1, two letters")
    latitude = serializers.FloatField(min_value=-90, max_value=90)
    longitude = serializers.FloatField(min_value=-180, max_value=180)
    time_zone = Text(max_length=64, help_text="IANA name such as Europe/Paris")
    capacity = serializers.IntegerField(min_value=1, max_value=1000)
    bedrooms = serializers.IntegerField(min_value=0, max_value=1000, allow_null=True)
    beds = serializers.IntegerField(min_value=0, max_value=1000, allow_null=True)
    bathrooms = serializers.DecimalField(max_digits=4, decimal_places=1, min_value=0, allow_null=True)
    amenities = serializers.ListField(child=Text(max_length=120), max_length=200)
    currency = Currency()
    nightly_price = Amount(allow_null=True, help_text="minor units; null: not for sale yet")
    cleaning_fee = Amount()
    extra_guest_fee = Amount(help_text="per night and guest above included_guests")
    included_guests = serializers.IntegerField(min_value=1, max_value=1000)
    week_discount = serializers.IntegerField(min_value=0, max_value=90, help_text="per cent from 7 nights")
    month_discount = serializers.IntegerField(min_value=0, max_value=90, help_text="per cent from 28 nights")
    minimum_nights = serializers.IntegerField(min_value=1, max_value=10_000)
    maximum_nights = serializers.IntegerField(min_value=1, max_value=10_000)
    cancellation_tier = serializers.ChoiceField(choices=CANCELLATION_TIERS)
    instant_book = serializers.BooleanField()
    check_in_time = serializers.TimeField()
    check_out_time = serializers.TimeField()
    registration_number = Text(max_length=200, allow_blank=True)


class ListingCreateIn(ListingFields):
    """A draft needs what cannot be guessed; everything else may follow."""

    REQUIRED: ClassVar = {"title", "room_type", "city", "country", "latitude", "longitude", "capacity", "currency"}

    def get_fields(self) -> dict[str, Any]:
        fields = super().get_fields()
        for name, field in fields.items():
            field.required = name in self.REQUIRED
        return fields


class ListingEditIn(ListingFields):
    version = serializers.IntegerField(min_value=1, max_value=2**31 - 1, help_text="as read; or send If-Match")

    def get_fields(self) -> dict[str, Any]:
        fields = super().get_fields()
        for field in fields.values():
            field.required = False
        return fields


class PhotoIn(Input):
    url = serializers.URLField(max_length=500)
    caption = Text(max_length=200, allow_blank=True, required=False)
    width = serializers.IntegerField(min_value=1, max_value=100_000, required=False, help_text="pixels")
    height = serializers.IntegerField(min_value=1, max_value=100_000, required=False, help_text="pixels")


class PhotosIn(Input):
    photos = serializers.ListField(child=PhotoIn(), max_length=50)


class NightPricesIn(Input):
    first = Day(help_text="the first night")
    end = Day(help_text="the day after the last night")
    price = Amount(allow_null=True, help_text="minor units of the listing's currency; null: the listing's own price")
    minimum_nights = serializers.IntegerField(min_value=1, max_value=10_000, required=False, allow_null=True)


class BlockIn(Input):
    first = Day(help_text="the first night")
    end = Day(help_text="the day after the last night")
    cause = Text(max_length=60, required=False, default="host")


class PhotoOut(serializers.Serializer[Any]):
    url = serializers.URLField()
    caption = serializers.CharField()
    width = serializers.IntegerField(allow_null=True)
    height = serializers.IntegerField(allow_null=True)


class RatingOut(serializers.Serializer[Any]):
    count = serializers.IntegerField()
    average = serializers.DecimalField(max_digits=3, decimal_places=2, allow_null=True)


class HostOut(serializers.Serializer[Any]):
    code = serializers.CharField()
    name = serializers.CharField(source="first_name")


class ListingOut(serializers.Serializer[Any]):
    """A home as guests see it."""

    code = serializers.CharField()
    title = serializers.CharField()
    description = serializers.CharField()
    property_type = serializers.CharField()
    room_type = serializers.ChoiceField(choices=ROOM_TYPES)
    city = serializers.CharField()
    neighbourhood = serializers.CharField()
    country = serializers.CharField()
    latitude = serializers.FloatField()
    longitude = serializers.FloatField()
    time_zone = serializers.CharField()
    capacity = serializers.IntegerField()
    bedrooms = serializers.IntegerField(allow_null=True)
    beds = serializers.IntegerField(allow_null=True)
    bathrooms = serializers.DecimalField(max_digits=4, decimal_places=1, allow_null=True)
    amenities = serializers.ListField(child=serializers.CharField())
    currency = serializers.CharField()
    nightly_price = MoneyOf("nightly_price", allow_null=True)
    cleaning_fee = MoneyOf("cleaning_fee")
    extra_guest_fee = MoneyOf("extra_guest_fee")
    included_guests = serializers.IntegerField()
    week_discount = serializers.IntegerField()
    month_discount = serializers.IntegerField()
    minimum_nights = serializers.IntegerField()
    maximum_nights = serializers.IntegerField()
    cancellation_tier = serializers.ChoiceField(choices=CANCELLATION_TIERS)
    instant_book = serializers.BooleanField()
    check_in_time = serializers.TimeField(format="%H:%M")
    check_out_time = serializers.TimeField(format="%H:%M")
    registration_number = serializers.CharField()
    rating = serializers.SerializerMethodField()
    photos = PhotoOut(many=True)
    host = HostOut()

    def get_rating(self, home: Any) -> RatingOut:
        average = f"{home.rating_sum / home.rating_count:.2f}" if home.rating_count else None
        return {"count": home.rating_count, "average": average}  # type: ignore[return-value]


class OwnListingOut(ListingOut):
    """A home as its host sees it."""

    status = serializers.ChoiceField(choices=LISTING.statuses)
    available_actions = serializers.SerializerMethodField(help_text="what the host may do with it now")
    address = serializers.CharField()
    created_at = serializers.DateTimeField()
    updated_at = serializers.DateTimeField()
    version = serializers.IntegerField()

    def get_available_actions(self, home: Any) -> list[str]:
        return [action for action in HOST_ACTIONS if LISTING.allows(home.status, action)]


HOST_ACTIONS = ("submit", "pause", "resume", "remove")
OwnListingsPage = page_of(OwnListingOut, "OwnListingsPage")


class CalendarIn(Input):
    since = Day(required=False, help_text="today when absent")
    until = Day(required=False, help_text="a year later when absent")


CALENDAR_PARAMETERS: list[Any] = [CalendarIn()]


class HeldOut(serializers.Serializer[Any]):
    first = serializers.DateField()
    end = serializers.DateField(help_text="the day after the last night")
    kind = serializers.CharField(required=False, help_text="for the host only: booking, block or ical")
    block = serializers.IntegerField(required=False, help_text="for the host only: the id to free a block by")


class CalendarOut(serializers.Serializer[Any]):
    held = HeldOut(many=True)


def own(home: Any, http: int = status.HTTP_200_OK) -> Response:
    """A host's home with its ETag."""
    return Response(OwnListingOut(home).data, status=http, headers={"ETag": f'"{home.version}"'})


class Listings(Endpoint):
    """Public to read, hosts' to write."""

    def get_permissions(self) -> list[Any]:
        return [AllowAny()] if self.request.method == "GET" else [IsAuthenticated()]

    @documented(
        "search_listings",
        "Search homes that can be booked",
        tag=TAG,
        answers={200: FoundPageOut},
        parameters=SEARCH_PARAMETERS,
        errors=(401, 403),
        public=True,
    )
    def get(self, request: Request) -> Response:
        return found_page(request, self.now)

    @documented("create_listing", "Begin a draft", tag=TAG, request=ListingCreateIn, answers={201: OwnListingOut})
    def post(self, request: Request) -> Response:
        fields = ListingCreateIn.read(request.data)
        return own(_whole(listings.create(fields=fields, actor=self.actor, now=self.now).code), status.HTTP_201_CREATED)


class OwnListings(Endpoint):
    @documented(
        "my_listings",
        "List one's own homes, removed ones too, newest first",
        tag=TAG,
        answers={200: OwnListingsPage},
        parameters=[CURSOR, LIMIT],
    )
    def get(self, request: Request) -> Response:
        pages = CursorPages()
        rows = pages.paginate_queryset(queries.listings_of(host_id=self.person_id).select_related("host"), request)
        return pages.get_paginated_response(OwnListingOut(rows, many=True).data)


class OneListing(Endpoint):
    def get_permissions(self) -> list[Any]:
        return [AllowAny()] if self.request.method == "GET" else [IsAuthenticated()]

    @documented(
        "read_listing",
        "Read a home; its host sees more, and sees it in every status",
        tag=TAG,
        answers={200: ListingOut},
        errors=(401, 403, 404),
        public=True,
    )
    def get(self, request: Request, code: str) -> Response:
        home = _seen(code, self.actor)
        if home.host_id == self.actor.id:
            return own(home)
        return Response(ListingOut(home).data, headers={"ETag": f'"{home.version}"'})

    @documented(
        "edit_listing",
        "Change a home; a risky change sends it back to review",
        tag=TAG,
        request=ListingEditIn,
        answers={200: OwnListingOut},
        errors=(404, 409, 412),
        parameters=[IF_MATCH],
    )
    def patch(self, request: Request, code: str) -> Response:
        fields = ListingEditIn.read(request.data)
        version = _version(request, fields.pop("version", None))
        listings.edit(code=code, fields=fields, version=version, actor=self.actor, now=self.now)
        return own(_whole(code))

    @documented(
        "remove_listing",
        "Retire a home; nothing is deleted, and it must have no open booking",
        tag=TAG,
        answers={204: None},
        errors=(404, 409),
    )
    def delete(self, request: Request, code: str) -> Response:
        listings.remove(code=code, actor=self.actor, now=self.now)
        return Response(status=status.HTTP_204_NO_CONTENT)


class Submit(Endpoint):
    @documented(
        "submit_listing", "Hand a draft in for review", tag=TAG, answers={200: OwnListingOut}, errors=(404, 409)
    )
    def post(self, request: Request, code: str) -> Response:
        listings.submit(code=code, actor=self.actor, now=self.now)
        return own(_whole(code))


class Pause(Endpoint):
    @documented(
        "pause_listing",
        "Take a home off the market for a while",
        tag=TAG,
        answers={200: OwnListingOut},
        errors=(404, 409),
    )
    def post(self, request: Request, code: str) -> Response:
        listings.pause(code=code, actor=self.actor, now=self.now)
        return own(_whole(code))


class Resume(Endpoint):
    @documented(
        "resume_listing",
        "Put a paused home back on the market",
        tag=TAG,
        answers={200: OwnListingOut},
        errors=(404, 409),
    )
    def post(self, request: Request, code: str) -> Response:
        listings.resume(code=code, actor=self.actor, now=self.now)
        return own(_whole(code))


class Photos(Endpoint):
    @documented(
        "set_photos",
        "Replace a home's photos, in this order",
        tag=TAG,
        request=PhotosIn,
        answers={200: OwnListingOut},
        errors=(404, 409),
    )
    def put(self, request: Request, code: str) -> Response:
        photos = PhotosIn.read(request.data)["photos"]
        listings.set_photos(code=code, photos=photos, actor=self.actor, now=self.now)
        return own(_whole(code))


class NightPrices(Endpoint):
    @documented(
        "set_night_prices",
        "Give a run of nights its own price or minimum stay",
        tag=TAG,
        request=NightPricesIn,
        answers={200: OwnListingOut},
        errors=(404,),
    )
    def put(self, request: Request, code: str) -> Response:
        fields = NightPricesIn.read(request.data)
        listings.set_night_prices(code=code, actor=self.actor, now=self.now, **fields)
        return own(_whole(code))


class Calendar(Endpoint):
    permission_classes = [AllowAny]

    @documented(
        "listing_calendar",
        "Which nights are taken; its host also sees by what",
        tag=TAG,
        answers={200: CalendarOut},
        parameters=CALENDAR_PARAMETERS,
        errors=(401, 403, 404),
        public=True,
    )
    def get(self, request: Request, code: str) -> Response:
        asked = CalendarIn.read(request.query_params.dict())
        since: date = asked.get("since") or self.now.date()
        until: date = asked.get("until") or since.replace(year=since.year + 1, day=min(since.day, 28))
        home = _seen(code, self.actor)
        owns = home.host_id == self.actor.id
        _stay(since, until, "until")
        held = queries.held(listing_id=home.id, since=since, until=until)
        return Response({"held": [_held(hold, owns) for hold in held]})


class Blocks(Endpoint):
    @documented(
        "block_nights", "Keep nights for oneself", tag=TAG, request=BlockIn, answers={201: HeldOut}, errors=(404, 409)
    )
    def post(self, request: Request, code: str) -> Response:
        fields = BlockIn.read(request.data)
        stay = _stay(fields["first"], fields["end"], "end")
        hold = listings.block(code=code, stay=stay, cause=fields["cause"], actor=self.actor, now=self.now)
        return Response(_held(hold, True), status=status.HTTP_201_CREATED)


class OneBlock(Endpoint):
    @documented("free_nights", "Free blocked nights", tag=TAG, answers={204: None}, errors=(404,))
    def delete(self, request: Request, code: str, block: int) -> Response:
        listings.unblock(code=code, hold_id=block, actor=self.actor, now=self.now)
        return Response(status=status.HTTP_204_NO_CONTENT)


def _whole(code: str) -> Any:
    """The home as it is now, with what its host sees of it."""
    return queries.listing(code=code)


def _seen(code: str, actor: Actor) -> Any:
    """A home that this actor may see: everybody the published ones, hosts their own, staff all. Raises NotFound."""
    home = queries.listing(code=code)
    if home.status != "published" and home.host_id != actor.id and not actor.may("listings.view"):
        raise NotFound(kind="listing")
    return home


def _held(hold: Any, owns: bool) -> dict[str, Any]:
    shown = {"first": hold.stay.lower.isoformat(), "end": hold.stay.upper.isoformat()}
    if not owns:
        return shown
    return shown | {"kind": hold.kind} | ({"block": hold.id} if hold.kind == "block" else {})


def _stay(first: date, end: date, field: str) -> Stay:
    if end <= first:
        raise Invalid(f"{field}: must be after the first night.", field=field)
    return Stay(first, end)


def _version(request: Request, sent: int | None) -> int:
    """The version the client read: from the body, or from If-Match (our ETags are versions)."""
    tag = request.headers.get("If-Match", "").strip().removeprefix("W/").strip('"')
    if tag.isascii() and tag.isdigit() and len(tag) <= 9:
        return int(tag)
    if "If-Match" in request.headers:
        return -1  # a tag that was never ours matches nothing
    if sent is None:
        raise Invalid("version: send the version you read, or its ETag as If-Match.", field="version")
    return sent
