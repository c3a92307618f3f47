"""What the rulebook holds, as frozen values: cancellation tiers, host penalties, fees, taxes, timings, settlement, limits.

A policy document is a JSON object `{policy, version, effective_from, source, rules}`. `parse_policy` reads one and refuses
whatever it does not understand, naming the field by its path (`rules.tiers[2].after_check_in.nights`) and the remedy.
Every number the business may change lives in such a document; the code below knows only their shapes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from typing import Any, Final, Generic, TypeVar, cast

from backoffice.core.errors import Invalid
from backoffice.core.money import Money, is_currency, minor_digits

Rules = TypeVar("Rules", covariant=True)

PRICE_KINDS: Final = ("nights", "discount", "cleaning", "extra_guests", "guest_fee")
TAX_METHODS: Final = ("percent", "per_night", "per_person_night")


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy(Generic[Rules]):
    """One version of one policy. What used it keeps `label`, so that the numbers can be found again."""

    kind: str
    version: int
    effective_from: date
    source: str
    rules: Rules

    @property
    def label(self) -> str:
        return f"{self.kind}@{self.version}"


def in_force(*, policies: Iterable[Policy[Rules]], on: date) -> Policy[Rules]:
    """The version that rules on that day: the latest to have taken effect, the higher version of two from one day.

    Raises Invalid when none had taken effect yet."""
    candidates = [policy for policy in policies if policy.effective_from <= on]
    if not candidates:
        raise Invalid(
            f"policy: no version is in force on {on.isoformat()}; load one that takes effect earlier", field="policy"
        )
    return max(candidates, key=lambda policy: (policy.effective_from, policy.version))


# Cancellation --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """How long before an instant. Hours are elapsed UTC hours; days are the same wall-clock time N calendar days earlier
    (DOMAIN.md, cancellation). Exactly one of the two is set."""

    hours: int | None = None
    days: int | None = None

    @property
    def nominal_hours(self) -> int:
        """For ordering notices only: a day counts 24 hours here, whatever the clock does."""
        return self.hours if self.hours is not None else 24 * cast(int, self.days)

    def before(self, moment: datetime) -> datetime:
        """The instant that lies this notice before `moment`, which carries the listing's time zone."""
        if self.hours is not None:
            return moment - timedelta(hours=self.hours) if moment.utcoffset() == timedelta(0) else _utc_back(moment, self)
        return moment.replace(tzinfo=None).replace(tzinfo=moment.tzinfo) - timedelta(days=cast(int, self.days))
