"""The pages of every domain, registered on the console's site."""

from backoffice.console.admin import (
    audit,
    bookings,
    jobs,
    ledger,
    listings,
    payments,
    people,
    reconciliation,
    refunds,
    webhooks,
)

__all__ = [
    "audit",
    "bookings",
    "jobs",
    "ledger",
    "listings",
    "payments",
    "people",
    "reconciliation",
    "refunds",
    "webhooks",
]
