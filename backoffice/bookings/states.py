"""The life of a booking (DOMAIN.md, statuses)."""

from __future__ import annotations

from typing import Final

from backoffice.core.states import StateTable

BOOKING: Final = StateTable(
    kind="booking",
    statuses=(
        "awaiting_payment",
        "requested",
        "confirmed",
        "checked_in",
        "completed",
        "cancelled",
        "declined",
        "expired",
        "no_show",
    ),
    steps={
        # A stay that stands, or has been slept, is paid by the guest when its saved card could not be charged.
        "pay": {
            "awaiting_payment": "awaiting_payment",
            "confirmed": "confirmed",
            "checked_in": "checked_in",
            "completed": "completed",
        },
        "request": {"awaiting_payment": "requested"},
        "confirm": {"awaiting_payment": "confirmed"},
        "accept": {"requested": "confirmed"},
        "confirm_late": {"expired": "confirmed"},
        "decline": {"requested": "declined"},
        "expire": {"awaiting_payment": "expired", "requested": "expired"},
        "cancel": {
            "awaiting_payment": "cancelled",
            "requested": "cancelled",
            "confirmed": "cancelled",
            "checked_in": "cancelled",
        },
        "check_in": {"confirmed": "checked_in"},
        "complete": {"checked_in": "completed"},
        # A stay is completed at check-out; staff may say until two days later that nobody came.
        "mark_no_show": {"confirmed": "no_show", "checked_in": "no_show", "completed": "no_show"},
    },
)

CANCELLED_BY: Final = ("guest", "host", "staff", "system")

# What the API shows as `pending`, with the reason beside it (DOMAIN.md, statuses).
PENDING: Final = {"awaiting_payment": "awaiting_payment", "requested": "awaiting_host"}
