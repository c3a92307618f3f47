"""Money out: connected accounts, transfers and their reversals, bank payouts."""

from __future__ import annotations

from backoffice.payments.gateway.stripe.calls import Calls


class MoneyOut(Calls):
    """Hosts' accounts, what is sent to them and taken back, and what leaves for a bank."""
