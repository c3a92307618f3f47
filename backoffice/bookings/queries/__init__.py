"""Questions about bookings: `stays` about quotes and bookings, `search` about homes that can be booked."""

from backoffice.bookings.queries.stays import (
    available_actions,
    booked_as,
    booking,
    bookings,
    bookings_for,
    bookings_of,
    cancellation_facts,
    cancelled_by_host,
    due_to_begin,
    due_to_end,
    expired_unpaid,
    no_show_times,
    pending_reason,
    quote,
    quote_to_book,
    unanswered_requests,
)

__all__ = [
    "available_actions",
    "booked_as",
    "booking",
    "bookings",
    "bookings_for",
    "bookings_of",
    "cancellation_facts",
    "cancelled_by_host",
    "due_to_begin",
    "due_to_end",
    "expired_unpaid",
    "no_show_times",
    "pending_reason",
    "quote",
    "quote_to_book",
    "unanswered_requests",
]
