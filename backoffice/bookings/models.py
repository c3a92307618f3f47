"""Quotes and bookings: one guest's stay with its promised price."""

from __future__ import annotations

from datetime import time
from zoneinfo import ZoneInfo

from django.conf import settings
from django.db import models

from backoffice.bookings.states import BOOKING, CANCELLED_BY
from backoffice.core.fields import currency_code, minor_units, new_code, status_check
from backoffice.listings.models import CalendarHold, Listing


def new_quote_code() -> str:
    return new_code("QT", 12)


def new_booking_code() -> str:
    return new_code("BK", 6)


class Priced(models.Model):
    """What a stay costs: the host's currency with its parts, and what the guest is charged at the frozen rate.

    total = host_price + guest_fee + vat + occupancy_tax, all in `currency`; the host receives host_price - host_fee.
    `charge_total` of `charge_currency` is what the guest pays. `price` is the whole breakdown, line by line."""

    check_in = models.DateField()
    check_out = models.DateField()
    guests = models.PositiveSmallIntegerField()
    currency = currency_code()
    host_price = minor_units()
    host_fee = minor_units()
    guest_fee = minor_units()
    vat = minor_units()
    occupancy_tax = minor_units()
    total = minor_units()
    charge_currency = currency_code()
    charge_total = minor_units()
    rate = models.JSONField(help_text="the exchange rate frozen with its date")
    price = models.JSONField(help_text="the breakdown line by line, with the labels of the policies used")
    cancellation_tier = models.CharField(max_length=16)
    cancellation_version = models.PositiveIntegerField()

    class Meta:
        abstract = True

    @property
    def nights(self) -> int:
        return int((self.check_out - self.check_in).days)


def _price_checks(name: str) -> list[models.BaseConstraint]:
    return [
        models.CheckConstraint(
            name=f"{name}_adds_up",
            condition=models.Q(
                total=models.F("host_price") + models.F("guest_fee") + models.F("vat") + models.F("occupancy_tax")
            ),
        ),
        models.CheckConstraint(name=f"{name}_nights", condition=models.Q(check_out__gt=models.F("check_in"))),
        models.CheckConstraint(
            name=f"{name}_not_negative",
            condition=models.Q(
                host_price__gte=0,
                host_fee__gte=0,
                guest_fee__gte=0,
                vat__gte=0,
                occupancy_tax__gte=0,
                charge_total__gte=0,
            ),
        ),
        models.CheckConstraint(name=f"{name}_guests", condition=models.Q(guests__gte=1)),
    ]


class Quote(Priced):
    """A priced offer to one guest, good until it expires or is booked."""

    code = models.CharField(max_length=24, unique=True, default=new_quote_code)
    listing = models.ForeignKey(Listing, on_delete=models.PROTECT, related_name="+")
    guest = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField()

    class Meta:
        constraints = _price_checks("quote")

    def __str__(self) -> str:
        return self.code


class Booking(Priced):
    """One guest's stay with its money. Codes like BK-7QF3K2 are what people say over the telephone."""

    code = models.CharField(max_length=20, unique=True, default=new_booking_code)
    quote = models.OneToOneField(Quote, on_delete=models.PROTECT, related_name="booking")
    listing = models.ForeignKey(Listing, on_delete=models.PROTECT, related_name="bookings")
    guest = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="bookings")
    host = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    hold = models.OneToOneField(CalendarHold, on_delete=models.PROTECT, related_name="booking")
    status = models.CharField(max_length=16, choices=BOOKING.choices, default=BOOKING.initial)
    check_in_at = models.DateTimeField(help_text="the instant of check-in, UTC")
    check_out_at = models.DateTimeField()
    time_zone = models.CharField(
        max_length=64, help_text="the home's when it was booked: later edits change no promise"
    )
    created_at = models.DateTimeField()
    confirmed_at = models.DateTimeField(null=True)
    cancelled_at = models.DateTimeField(null=True)
    cancelled_by = models.CharField(max_length=8, blank=True, default="")
    cancellation = models.JSONField(null=True, help_text="the decision with its trace, as it was made")
    version = models.PositiveIntegerField(default=1)

    class Meta:
        constraints = [
            *_price_checks("booking"),
            status_check("booking_status", BOOKING.statuses),
            models.CheckConstraint(
                name="booking_cancelled_by",
                condition=models.Q(cancelled_by="")
                | models.Q(cancelled_by__in=CANCELLED_BY, cancelled_at__isnull=False),
            ),
        ]
        indexes = [
            models.Index(name="booking_newest", fields=["-id", "status"]),
            models.Index(name="booking_of_guest", fields=["guest", "-id"]),
            models.Index(name="booking_of_host", fields=["host", "-id"]),
            models.Index(name="booking_by_check_in", fields=["check_in_at"], condition=models.Q(status="confirmed")),
            models.Index(name="booking_by_check_out", fields=["check_out_at"], condition=models.Q(status="checked_in")),
            models.Index(name="booking_unpaid", fields=["created_at"], condition=models.Q(status="awaiting_payment")),
        ]

    def __str__(self) -> str:
        return self.code

    @property
    def check_in_time(self) -> time:
        """The wall-clock time of check-in that was promised."""
        return self.check_in_at.astimezone(ZoneInfo(self.time_zone)).time()

    @property
    def check_out_time(self) -> time:
        """The wall-clock time of check-out that was promised."""
        return self.check_out_at.astimezone(ZoneInfo(self.time_zone)).time()
