"""The pages of every domain, registered on the console's site."""

from backoffice.console.admin import (
    audit,
    bank_payouts,
    bookings,
    holds,
    host_accounts,
    jobs,
    ledger,
    listings,
    payments,
    payouts,
    people,
    reconciliation,
    recovery,
    refunds,
    stops,
    webhooks,
)

__all__ = [
    "audit",
    "bank_payouts",
    "bookings",
    "holds",
    "host_accounts",
    "jobs",
    "ledger",
    "listings",
    "payments",
    "payouts",
    "people",
    "reconciliation",
    "recovery",
    "refunds",
    "stops",
    "webhooks",
]
