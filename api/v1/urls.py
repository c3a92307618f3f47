"""The addresses of version 1."""

from __future__ import annotations

from django.urls import path, re_path, register_converter
from django.urls.converters import IntConverter, StringConverter
from drf_spectacular.views import SpectacularAPIView, SpectacularRedocView, SpectacularSwaggerView
from rest_framework.permissions import AllowAny

from api.endpoint import Nowhere
from api.fields import BIGINT_PATTERN
from api.v1 import auth, bookings, charges, earnings, listings, me, payouts, quotes, receipts


class Code(StringConverter):
    """A public code such as BK-7QF3K2; anything else is no address of ours."""

    regex = "[A-Z]{2}-[0-9A-Z]{4,24}"


class RowId(IntConverter):
    """A row's number, within what the database can hold."""

    regex = BIGINT_PATTERN


register_converter(Code, "code")
register_converter(RowId, "row")

_OPEN = {"permission_classes": [AllowAny], "authentication_classes": [], "throttle_classes": []}

urlpatterns = [
    path("auth/register", auth.Register.as_view()),
    path("auth/login", auth.Login.as_view()),
    path("auth/refresh", auth.Refresh.as_view()),
    path("auth/logout", auth.Logout.as_view()),
    path("auth/revoke", auth.Revoke.as_view()),
    path("me", me.Me.as_view()),
    path("me/become-host", me.BecomeHost.as_view()),
    path("me/notifications", me.Notices.as_view()),
    path("me/notifications/read", me.NoticesRead.as_view()),
    path("me/listings", listings.OwnListings.as_view()),
    path("listings", listings.Listings.as_view()),
    path("listings/<code:code>", listings.OneListing.as_view()),
    path("listings/<code:code>/submit", listings.Submit.as_view()),
    path("listings/<code:code>/pause", listings.Pause.as_view()),
    path("listings/<code:code>/resume", listings.Resume.as_view()),
    path("listings/<code:code>/photos", listings.Photos.as_view()),
    path("listings/<code:code>/night-prices", listings.NightPrices.as_view()),
    path("listings/<code:code>/calendar", listings.Calendar.as_view()),
    path("listings/<code:code>/blocks", listings.Blocks.as_view()),
    path("listings/<code:code>/blocks/<row:block>", listings.OneBlock.as_view()),
    path("quotes", quotes.Quotes.as_view()),
    path("quotes/<code:code>", quotes.OneQuote.as_view()),
    path("bookings", bookings.Bookings.as_view()),
    path("bookings/<code:code>", bookings.OneBooking.as_view()),
    path("bookings/<code:code>/pay", bookings.Pay.as_view()),
    path("bookings/<code:code>/accept", bookings.Accept.as_view()),
    path("bookings/<code:code>/decline", bookings.Decline.as_view()),
    path("bookings/<code:code>/charges", charges.Charges.as_view()),
    path("charges/<code:code>/pay", charges.PayCharge.as_view()),
    path("bookings/<code:code>/cancellation-quote", bookings.CancellationQuote.as_view()),
    path("bookings/<code:code>/cancel", bookings.Cancel.as_view()),
    path("bookings/<code:code>/receipt", receipts.Receipt.as_view()),
    path("bookings/<code:code>/receipt.pdf", receipts.ReceiptPdf.as_view()),
    path("bookings/<code:code>/refunds", receipts.BookingRefunds.as_view()),
    path("me/earnings", earnings.Earnings.as_view()),
    path("me/statement", earnings.Statement.as_view()),
    path("me/statement.pdf", earnings.StatementPdf.as_view()),
    path("me/statement.csv", earnings.StatementCsv.as_view()),
    path("me/payouts", payouts.Payouts.as_view()),
    path("me/payouts/<code:code>", payouts.OnePayout.as_view()),
    path("me/payout-account", payouts.PayoutAccount.as_view()),
    path("schema/", SpectacularAPIView.as_view(**_OPEN), name="schema"),
    path("docs/", SpectacularSwaggerView.as_view(url_name="schema", **_OPEN), name="docs"),
    path("redoc/", SpectacularRedocView.as_view(url_name="schema", **_OPEN), name="redoc"),
    re_path(r"", Nowhere.as_view()),
]
