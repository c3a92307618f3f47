"""Decisions about money out: when it is due, whether it may be sent, what comes back and how."""

from backoffice.payouts.policies.accounts import AccountFacts, Waiting, waiting

__all__ = [
    "AccountFacts",
    "Waiting",
    "waiting",
]
