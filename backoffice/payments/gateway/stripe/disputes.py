"""Chargebacks: the card network's disputes of payments, and the evidence against them."""

from __future__ import annotations

from backoffice.payments.gateway.stripe.calls import Calls


class Disputes(Calls):
    """Disputes as the provider has them, their evidence and files."""
