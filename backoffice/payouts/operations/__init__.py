"""What happens to hosts' accounts, payouts and what is kept or taken back. Nothing here calls the provider."""

from backoffice.payouts.operations.accounts import approve_bank, begin_account, record_account

__all__ = [
    "approve_bank",
    "begin_account",
    "record_account",
]
