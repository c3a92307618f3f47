"""Exchange rates: exact, dated, frozen on what used them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from fractions import Fraction

from backoffice.core.errors import Invalid
from backoffice.core.money import Money, charge_step, minor_digits


@dataclass(frozen=True, slots=True, kw_only=True)
class ExchangeRate:
    """One `base` buys `value` of `quote` (major units), as published on the day `on`; cross rates stay exact."""

    base: str
    quote: str
    value: Fraction
    on: date
    source: str

    def __post_init__(self) -> None:
        if self.value <= 0:
            raise ValueError("an exchange rate is above zero")

    @classmethod
    def same(cls, *, currency: str, on: date) -> ExchangeRate:
        """A currency into itself: one, so that callers need no second path."""
        return cls(base=currency, quote=currency, value=Fraction(1), on=on, source="identity")

    @classmethod
    def from_reference(
        cls, *, base: str, quote: str, per_euro: Mapping[str, Decimal], on: date, source: str = "ECB"
    ) -> ExchangeRate:
        """A rate between two currencies from the ECB's reference rates, which say what one euro buys.

        Raises Invalid naming the currency that has none on that day."""
        known = {**per_euro, "EUR": Decimal(1)}
        for currency in (base, quote):
            if currency not in known:
                raise Invalid(
                    f"currency: {currency} has no reference rate on {on.isoformat()}; choose another", field="currency"
                )
        return cls(base=base, quote=quote, value=Fraction(known[quote]) / Fraction(known[base]), on=on, source=source)

    def convert(self, money: Money) -> Money:
        """An amount of `base` in `quote`, rounded once (half away from zero)."""
        self._of_base(money)
        if self.base == self.quote and self.value == 1:
            return money
        return money.convert(self.value, self.quote)

    def convert_lines(self, lines: Sequence[Money]) -> tuple[Money, ...]:
        """Each line in `quote`, by largest remainder, so that they add up to the converted sum of the lines.

        Lines may be negative (discounts); a tie goes to the earlier line."""
        for line in lines:
            self._of_base(line)
        if self.base == self.quote and self.value == 1:
            return tuple(lines)
        shift, step = minor_digits(self.quote) - minor_digits(self.base), charge_step(self.quote)
        up = self.value.numerator * 10 ** max(shift, 0)
        down = self.value.denominator * 10 ** max(-shift, 0) * step
        parts, remainders = zip(*(divmod(line.amount * up, down) for line in lines), strict=True) if lines else ((), ())
        missing = self.convert(Money.sum(lines, self.base)).amount // step - sum(parts)
        by_remainder = sorted(range(len(lines)), key=lambda index: (-remainders[index], index))
        raised = set(by_remainder[:missing])
        return tuple(Money((part + (index in raised)) * step, self.quote) for index, part in enumerate(parts))

    def _of_base(self, money: Money) -> None:
        if money.currency != self.base:
            raise ValueError(f"a rate from {self.base} cannot convert {money.currency}")

    def as_dict(self) -> dict[str, str]:
        """For storing on the quote that froze it."""
        return {
            "base": self.base,
            "quote": self.quote,
            "value": str(self.value),
            "on": self.on.isoformat(),
            "source": self.source,
        }

    @classmethod
    def from_dict(cls, stored: Mapping[str, str]) -> ExchangeRate:
        return cls(
            base=stored["base"],
            quote=stored["quote"],
            value=Fraction(stored["value"]),
            on=date.fromisoformat(stored["on"]),
            source=stored["source"],
        )
