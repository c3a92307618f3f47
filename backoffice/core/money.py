"""Money in whole minor units beside a three-letter currency: the only arithmetic on amounts in the house."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from typing import Final

# ISO 4217 exponents that differ from two. The provider's list (Stripe: currencies) agrees but for ISK and UGX,
# which it takes with two decimals that must be zero; we follow the provider, since amounts are exchanged with it.
_DIGITS: Final[dict[str, int]] = {
    **dict.fromkeys(
        ["BIF", "CLP", "DJF", "GNF", "JPY", "KMF", "KRW", "MGA", "PYG", "RWF", "VND", "VUV", "XAF", "XOF", "XPF"], 0
    ),
    **dict.fromkeys(["BHD", "JOD", "KWD", "OMR", "TND"], 3),
}

# What cards can be charged in, in minor units, where that is coarser than the minor unit itself.
_STEPS: Final[dict[str, int]] = {
    **dict.fromkeys(["BHD", "JOD", "KWD", "OMR", "TND"], 10),
    **dict.fromkeys(["ISK", "UGX"], 100),
}

Rate = Decimal | Fraction


def minor_digits(currency: str) -> int:
    """How many decimals the currency has: EUR 2, JPY 0, KWD 3."""
    return _DIGITS.get(currency, 2)


@lru_cache(maxsize=512)
def is_currency(code: str) -> bool:
    """True for the shape of an ISO 4217 code; whether we trade in it is configuration."""
    return len(code) == 3 and code.isascii() and code.isalpha() and code.isupper()


def charge_step(currency: str) -> int:
    """The smallest difference between two amounts that can be charged, in minor units: EUR 1, KWD 10, ISK 100."""
    return _STEPS.get(currency, 1)


class CurrencyMismatch(ValueError):
    """Two currencies met in one sum. A programming error, never an answer to a user."""


@dataclass(frozen=True, slots=True, order=False)
class Money:
    """An amount in minor units. Adds like with like; has no division: parts come from `allocate`."""

    amount: int
    currency: str

    def __post_init__(self) -> None:
        if type(self.amount) is not int:  # a bool is an int to isinstance, and no amount
            raise TypeError(f"Money takes whole minor units, not {type(self.amount).__name__}")
        if not is_currency(self.currency):
            raise ValueError(f"not a currency code: {self.currency!r}")

    @classmethod
    def zero(cls, currency: str) -> Money:
        return cls(0, currency)

    @classmethod
    def parse(cls, text: str, currency: str) -> Money:
        """Read a decimal in major units ("136.00"). Raises ValueError when it has more decimals than the currency."""
        value = Decimal(text)
        scaled = value.scaleb(minor_digits(currency))
        if not value.is_finite() or scaled != scaled.to_integral_value():
            raise ValueError(f"{text!r} has more decimals than {currency} has")
        return cls(int(scaled), currency)

    @classmethod
    def sum(cls, amounts: Iterable[Money], currency: str) -> Money:
        """The sum, zero for none; every amount must be in `currency`."""
        total = 0
        for amount in amounts:
            if amount.currency != currency:
                raise CurrencyMismatch(f"{currency} with {amount.currency}")
            total += amount.amount
        return cls(total, currency)

    def _same(self, other: Money) -> None:
        if self.currency != other.currency:
            raise CurrencyMismatch(f"{self.currency} with {other.currency}")

    def __add__(self, other: Money) -> Money:
        self._same(other)
        return Money(self.amount + other.amount, self.currency)

    def __sub__(self, other: Money) -> Money:
        self._same(other)
        return Money(self.amount - other.amount, self.currency)

    def __neg__(self) -> Money:
        return Money(-self.amount, self.currency)

    def __abs__(self) -> Money:
        return Money(abs(self.amount), self.currency)

    def __mul__(self, times: int) -> Money:
        if isinstance(times, bool) or not isinstance(times, int):
            return NotImplemented
        return Money(self.amount * times, self.currency)

    __rmul__ = __mul__

    def __bool__(self) -> bool:
        return self.amount != 0

    def __lt__(self, other: Money) -> bool:
        self._same(other)
        return self.amount < other.amount

    def __le__(self, other: Money) -> bool:
        self._same(other)
        return self.amount <= other.amount

    def __gt__(self, other: Money) -> bool:
        self._same(other)
        return self.amount > other.amount

    def __ge__(self, other: Money) -> bool:
        self._same(other)
        return self.amount >= other.amount

    def share(self, rate: Rate, rounding: str = "half_up") -> Money:
        """The part `rate` of this amount (0.14 is 14 %), rounded once: half_up (away from zero at .5), down or up; in a
        currency of coarse steps, to what can be charged."""
        numerator, denominator = rate.as_integer_ratio()
        step = self._grain
        return Money(_round(self.amount * numerator, denominator * step, rounding) * step, self.currency)

    def convert(self, rate: Rate, currency: str, rounding: str = "half_up") -> Money:
        """This amount in `currency`, at `rate` major units of it for one major unit of ours; rounded to what can be charged
        in that currency."""
        numerator, denominator = rate.as_integer_ratio()
        shift = minor_digits(currency) - minor_digits(self.currency)
        if shift < 0:
            denominator *= 10**-shift
        step = charge_step(currency)
        return Money(
            _round(self.amount * numerator * 10 ** max(shift, 0), denominator * step, rounding) * step, currency
        )

    def allocate(self, weights: Sequence[int]) -> list[Money]:
        """Split by `weights` with the largest remainder, ties to the earlier part; the parts sum to the whole.

        Weights are non-negative and not all zero, unless the amount is zero."""
        if any(weight < 0 for weight in weights):
            raise ValueError("weights are not negative")
        step = self._grain
        total = sum(weights)
        if total == 0:
            if self.amount == 0:
                return [Money(0, self.currency) for _ in weights]
            raise ValueError("nothing to allocate to: every weight is zero")
        sign = -1 if self.amount < 0 else 1
        whole = abs(self.amount) // step
        parts = [whole * weight // total for weight in weights]
        by_remainder = sorted(range(len(weights)), key=lambda i: (-(whole * weights[i] % total), i))
        for index in by_remainder[: whole - sum(parts)]:
            parts[index] += 1
        result = [Money(sign * part * step, self.currency) for part in parts]
        assert sum(part.amount for part in result) == self.amount
        return result

    @property
    def step(self) -> int:
        """`charge_step` of its currency."""
        return charge_step(self.currency)

    @property
    def _grain(self) -> int:
        """What this amount is shared in: an amount that can be charged is made of amounts that can be."""
        return self.step if self.amount % self.step == 0 else 1

    def decimal(self) -> Decimal:
        """The amount in major units, for printing and for the provider's reports."""
        return Decimal(self.amount).scaleb(-minor_digits(self.currency))

    def __str__(self) -> str:
        return f"{self.decimal():,.{minor_digits(self.currency)}f} {self.currency}"

    def format(self, locale: str = "en") -> str:
        """As a person of that locale writes it: "€1,250.00", "1.250,00 €"."""
        from babel.numbers import format_currency  # Babel takes 40 ms to import and most processes never format

        digits = minor_digits(self.currency)
        pattern = None if digits == 2 else "¤#,##0" + ("." + "0" * digits if digits else "")
        text: str = format_currency(
            self.decimal(), self.currency, format=pattern, locale=locale, currency_digits=digits == 2
        )
        return text


def _round(numerator: int, denominator: int, rounding: str) -> int:
    """One rounding for the whole house, of an exact fraction: half_up (away from zero at .5), down or up."""
    floor, rest = divmod(numerator, denominator)
    if rest == 0 or rounding == "down":
        return floor
    if rounding == "up":
        return floor + 1
    if rounding != "half_up":
        raise KeyError(rounding)
    if 2 * rest == denominator:
        return floor + 1 if numerator > 0 else floor
    return floor + 1 if 2 * rest > denominator else floor
