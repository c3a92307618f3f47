"""Homes, their nights and what guests are shown of them."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.utils.safestring import SafeString
from import_export.fields import Field
from unfold.decorators import display

from backoffice.bookings.models import Booking
from backoffice.console import cells, exports, filters, story
from backoffice.console.base import StaffAdmin
from backoffice.console.dialogs import Dialog, DialogForm
from backoffice.console.door import Desk
from backoffice.console.lists import Search
from backoffice.console.page import Column, Fact, Facts, Page, Panel, Row, Table, Text
from backoffice.core.errors import StaleVersion
from backoffice.listings import operations as listings
from backoffice.listings.models import CalendarHold, Listing
from backoffice.listings.states import LISTING


class _Moderation(Dialog):
    verb = "listings.moderate"

    def offered(self) -> bool:
        return LISTING.allows(self.row.status, self.name)

    def seen(self, form: DialogForm) -> None:
        if self.row.version != form.cleaned_data["version"]:
            raise StaleVersion(kind="listing")


class Publish(_Moderation):
    name, label = "publish", "Publish"
    icon, tone = "check_circle", "primary"
    intro = "Guests will find and book this home at once."
    form_class = DialogForm

    @property
    def heading(self) -> str:
        return f"Publish “{self.row.title}”?"

    def perform(self, form: DialogForm) -> str:
        self.seen(form)
        listings.publish(code=self.row.code, actor=self.desk.actor, now=self.desk.now)
        return f"“{self.row.title}” is published."


class SendBack(_Moderation):
    name, label = "send_back", "Send back"
    icon = "reply"
    intro = "The home returns to its host as a draft. Say what has to change."

    @property
    def heading(self) -> str:
        return f"Send “{self.row.title}” back to its host?"

    def form(self, data: Any = None, initial: dict[str, Any] | None = None) -> DialogForm:
        form = super().form(data, initial)
        assert isinstance(form.fields["reason"], forms.CharField)
        form.fields["reason"].label = "What has to change"
        return form

    def perform(self, form: DialogForm) -> str:
        self.seen(form)
        reason = form.cleaned_data["reason"]
        listings.send_back(code=self.row.code, reason=reason, actor=self.desk.actor, now=self.desk.now)
        return f"“{self.row.title}” went back to its host."


class ListingsExport(exports.Resource):
    code = Field("code", "code")
    title = Field("title", "title")
    host = Field("host__code", "host")
    status = Field("status", "status")
    city = Field("city", "city")
    country = Field("country", "country")
    room_type = Field("room_type", "room type")
    capacity = Field("capacity", "guests")
    nightly_price = Field(column_name="nightly price")
    currency = Field("currency", "currency")
    cancellation_tier = Field("cancellation_tier", "cancellation")
    rating_count = Field("rating_count", "ratings")
    created_at = Field("created_at", "created")

    def dehydrate_nightly_price(self, row: Listing) -> Any:
        return exports.amount(row.nightly_price, row.currency)


@admin.register(Listing)
class ListingAdmin(StaffAdmin):
    verb, export_verb = "listings.view", "listings.export"
    singular, plural = "listing", "listings"
    empty_words = "Homes appear here when hosts list them, or after `ops seed inside-airbnb`."
    searches = (
        Search("host__email__startswith", "@", str.lower),
        Search("code__startswith", r"^LS-", str.upper),
        Search("host__code", r"^PN-", str.upper),
        Search("city"),
    )
    search_help_text = "LS- code, city, or the host's e-mail"
    list_display = ("home", "place", "listing_status", "host_name", "guests", "money_night", "rating")
    list_filter = (("status", filters.Choices), ("room_type", filters.Choices), ("created_at", filters.Days))
    lookups = ("host__code", "city")
    list_select_related = ("host",)
    dialogs = (Publish, SendBack)
    resource_classes = (ListingsExport,)

    @display(description="Home")
    def home(self, row: Listing) -> SafeString:
        return cells.two(row.title, cells.code(row.code))

    @display(description="Place")
    def place(self, row: Listing) -> SafeString:
        return cells.two(row.city, row.neighbourhood or row.country)

    @display(description="Status")
    def listing_status(self, row: Listing) -> SafeString:
        return cells.status(row.status)

    @display(description="Host")
    def host_name(self, row: Listing) -> str:
        return row.host.name

    @display(description="Guests")
    def guests(self, row: Listing) -> str:
        return f"{row.capacity}"

    @display(description="A night")
    def money_night(self, row: Listing) -> SafeString:
        return cells.money(row.nightly_price, row.currency)

    @display(description="Rating")
    def rating(self, row: Listing) -> SafeString:
        return rating(row)

    def page(self, row: Listing, desk: Desk) -> Page:
        panels: list[Panel] = [_nights(row, desk), _overrides(row)]
        if desk.actor.may("bookings.view"):
            panels.append(_bookings(row))
        panels += [
            _house(row),
            _photos(row),
            Text(title="Description", text=row.description or "The host has written none."),
            story.audit_panel([("listing", row.code)], desk),
        ]
        return Page(
            title=row.title,
            subtitle=", ".join(part for part in (row.neighbourhood, row.city, row.country) if part),
            status=cells.status(row.status),
            facts=(
                Fact("Code", cells.code(row.code)),
                Fact("Host", cells.link(row.host, row.host.name)),
                Fact("A night", cells.money(row.nightly_price, row.currency)),
                Fact("Cleaning", cells.money(row.cleaning_fee, row.currency)),
                Fact("Extra guest", _extra_guest(row)),
                Fact("From 7 nights", f"{row.week_discount} % off" if row.week_discount else ""),
                Fact("From 28 nights", f"{row.month_discount} % off" if row.month_discount else ""),
                Fact("Cancellation", cells.words(row.cancellation_tier).capitalize()),
                Fact("Rating", rating(row)),
                Fact("Listed", cells.instant(row.created_at)),
                Fact("Changed", cells.instant(row.updated_at)),
                Fact("Imported from", row.source or ""),
            ),
            panels=panels,
            warnings=("It has no nightly price yet, so nobody can book it.",) if row.nightly_price is None else (),
        )


def rating(row: Listing) -> SafeString:
    if not row.rating_count:
        return cells.NONE
    tenths = (row.rating_sum * 10 + row.rating_count // 2) // row.rating_count
    return cells.two(f"{tenths // 10}.{tenths % 10} ★", f"{row.rating_count} reviews")


def _extra_guest(row: Listing) -> SafeString | str:
    if not row.extra_guest_fee:
        return ""
    return cells.two(cells.money(row.extra_guest_fee, row.currency), f"a night, above {row.included_guests} guests")


def _nights(row: Listing, desk: Desk) -> Table:
    holds = (
        CalendarHold.objects.filter(listing=row, active=True, stay__endswith__gte=desk.now.date())
        .select_related("booking__guest")
        .order_by("stay")[:20]
    )
    return Table(
        title="Occupied nights",
        note="What holds nights from today on. The database refuses a second hold on any of them.",
        columns=(Column("Nights"), Column("Held by"), Column("Until")),
        rows=[
            Row(
                (
                    cells.stay(each.stay.lower, each.stay.upper),
                    _holder(each),
                    cells.two(cells.instant(each.expires_at), "if unpaid") if each.expires_at else "stands",
                )
            )
            for each in holds
        ],
        empty="Every night from today on is free.",
    )


def _holder(hold: CalendarHold) -> Any:
    booking = getattr(hold, "booking", None)
    if booking is not None:
        return cells.two(cells.link(booking), booking.guest.name)
    return {"block": "Blocked", "ical": "Imported calendar", "booking": "Booking"}[hold.kind] + (
        f": {hold.cause}" if hold.cause else ""
    )


def _overrides(row: Listing) -> Table:
    return Table(
        title="Nights with their own price or minimum",
        columns=(Column("Nights"), Column("A night", "money"), Column("Minimum stay", "number")),
        rows=[
            Row(
                (
                    cells.stay(each.nights.lower, each.nights.upper),
                    cells.money(each.price, row.currency),
                    each.minimum_nights or cells.NONE,
                )
            )
            for each in row.overrides.order_by("nights")[:20]
        ],
        empty="Every night costs the same.",
    )


def _bookings(row: Listing) -> Table:
    rows = Booking.objects.filter(listing=row).select_related("guest").order_by("-id")[:10]
    return Table(
        title="Bookings",
        columns=(Column("Booking"), Column("Guest"), Column("Stay"), Column("Status"), Column("Charged", "money")),
        rows=[
            Row(
                (
                    cells.link(each),
                    cells.link(each.guest, each.guest.name),
                    cells.stay(each.check_in, each.check_out),
                    cells.status(each.status),
                    cells.money(each.charge_total, each.charge_currency),
                )
            )
            for each in rows
        ],
        empty="Nobody has booked it yet.",
        more=cells.list_of(Booking, f"listing__code={row.code}"),
    )


def _house(row: Listing) -> Facts:
    return Facts(
        title="The home",
        facts=(
            Fact("Kind", f"{cells.words(row.room_type).capitalize()}, {row.property_type or 'kind not said'}"),
            Fact("Takes", f"{row.capacity} guests"),
            Fact("Rooms", _rooms(row)),
            Fact("Address", row.address or "not given"),
            Fact("Point", f"{row.latitude:.5f}, {row.longitude:.5f}"),
            Fact("Local time", row.time_zone),
            Fact("Check-in from", row.check_in_time.strftime("%H:%M")),
            Fact("Check-out until", row.check_out_time.strftime("%H:%M")),
            Fact("Stays", f"{row.minimum_nights} to {row.maximum_nights} nights"),
            Fact("Booked", "at once" if row.instant_book else "after the host agrees"),
            Fact("Registration", row.registration_number),
            Fact("Amenities", ", ".join(row.amenities)),
        ),
    )


def _rooms(row: Listing) -> str:
    parts = ((row.bedrooms, "bedrooms"), (row.beds, "beds"), (row.bathrooms, "bathrooms"))
    return ", ".join(f"{count:g} {name}" for count, name in parts if count is not None)


def _photos(row: Listing) -> Table:
    return Table(
        title="Photos",
        columns=(Column("", "number"), Column("Caption"), Column("Size"), Column("Where")),
        rows=[
            Row(
                (
                    each.position,
                    each.caption or cells.NONE,
                    f"{each.width} × {each.height}" if each.width and each.height else cells.NONE,
                    cells.code(each.url),
                )
            )
            for each in row.photos.order_by("position")[:20]
        ],
        empty="No photos yet.",
    )
