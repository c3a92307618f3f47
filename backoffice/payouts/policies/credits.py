"""What a host paid for a debt that is none after all goes back to them."""

from __future__ import annotations

from backoffice.core.money import Money
from backoffice.payments.policies.postings import BAD_DEBT, HOST_PAYABLE, HOST_RECEIVABLE, Lines, credit, debit, journal


def paid_back(*, host: str, amount: Money, given_up: Money) -> Lines:
    """What stands in the host's favour on what they owe (1310) becomes payable; what of their debts we had given up comes
    back to us first: they never paid it."""
    recovered = min(amount, given_up)
    return journal(
        debit(HOST_RECEIVABLE, host, amount),
        credit(BAD_DEBT, host, recovered),
        credit(HOST_PAYABLE, host, amount - recovered),
    )
