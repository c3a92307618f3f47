"""The API's objects, one module each: parameter tables, operations, and how the object looks."""

from . import (
    accounts,
    balances,
    charges,
    customers,
    disputes,
    events,
    files,
    payment_intents,
    payment_methods,
    payouts,
    refunds,
    reports,
    setup_intents,
    transfers,
    webhook_endpoints,
)

__all__ = [
    "accounts",
    "balances",
    "charges",
    "customers",
    "disputes",
    "events",
    "files",
    "payment_intents",
    "payment_methods",
    "payouts",
    "refunds",
    "reports",
    "setup_intents",
    "transfers",
    "webhook_endpoints",
]
