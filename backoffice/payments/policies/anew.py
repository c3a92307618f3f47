"""What posting a movement of the provider anew would do to the books."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from backoffice.core.money import Money
from backoffice.payments.policies.postings import Lines


@dataclass(frozen=True, slots=True, kw_only=True)
class Anew:
    """`journals` would be reversed and `lines` posted, by what the provider shows: `amount` less `fee`, of one currency."""

    movement: str
    amount: Money
    fee: Money
    journals: tuple[int, ...]
    lines: Lines

    def as_dict(self) -> dict[str, Any]:
        """As it is proposed by one person and compared before another's yes is carried out."""
        return {
            "movement": self.movement,
            "amount": self.amount.amount,
            "fee": self.fee.amount,
            "currency": self.amount.currency,
            "journals": list(self.journals),
            "lines": [[line.account, line.key, line.amount, line.currency] for line in self.lines],
        }
