"""Questions about what hosts are owed and paid, and where it goes."""

from backoffice.payouts.queries.accounts import (
    account,
    account_by_host,
    account_of,
    account_seen,
    accounts,
    accounts_to_ask_about,
    bank_changes_waiting,
    can_receive,
)

__all__ = [
    "account",
    "account_by_host",
    "account_of",
    "account_seen",
    "accounts",
    "accounts_to_ask_about",
    "bank_changes_waiting",
    "can_receive",
]
