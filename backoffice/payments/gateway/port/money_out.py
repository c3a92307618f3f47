"""Money out: hosts' accounts, what is sent to them and taken back, and what leaves for a bank."""

from __future__ import annotations

from typing import Protocol


class MoneyOut(Protocol):
    """Connected accounts, transfers, reversals, bank payouts."""
