"""Giving up what a host owes."""

from __future__ import annotations

from backoffice.core.errors import Conflict, Invalid
from backoffice.core.money import Money


def check_write_off(*, amount: Money, owed: Money) -> None:
    """Raise unless this much of a debt may be given up. Raises Invalid for an amount that is none, Conflict for more than
    is owed now."""
    if amount.amount <= 0:
        raise Invalid("amount: must be above zero.", field="amount")
    if amount > owed:
        raise Conflict(f"The host owes {owed}; {amount} cannot be written off.", maximum=str(owed))
