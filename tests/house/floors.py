"""The floors of DESIGN.md, for the tests that keep them."""

FLOORS = {
    "core": 0,
    "audit": 1,
    "rulebook": 2,
    "jobs": 2,
    "notifications": 3,
    "people": 4,
    "ledger": 4,
    "listings": 6,
    "bookings": 7,
    "payments": 8,
    "payouts": 9,
    "reviews": 9,
    "workflows": 11,
    "reconciliation": 12,
    "reporting": 13,
    "console": 14,
}
