"""Chargebacks and the evidence against them."""

from __future__ import annotations

from typing import Protocol


class Disputes(Protocol):
    """Disputes as the provider has them."""
