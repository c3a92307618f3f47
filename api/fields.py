"""What crosses the door: money as an object, days within reason, inputs that refuse what they do not know."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from functools import cache, lru_cache
from typing import Any, Final

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers
from rest_framework.exceptions import ErrorDetail

from backoffice.core.money import Money

FIRST_DAY: Final = date(2000, 1, 1)
LAST_DAY: Final = date(2100, 1, 1)
MAX_MINOR_UNITS: Final = 10**12
BIGINT_PATTERN: Final = "[0-9]{1,18}"

_MONEY_SCHEMA: Final = {
    "type": "object",
    "required": ["amount", "currency", "formatted"],
    "properties": {
        "amount": {"type": "integer", "format": "int64", "description": "whole minor units (cents; yen for JPY)"},
        "currency": {"type": "string", "pattern": "^[A-Z]{3}$"},
        "formatted": {"type": "string", "description": "for people, in English"},
    },
}


@lru_cache(maxsize=16384)
def _formatted(amount: int, currency: str) -> str:
    """Babel takes 50 µs an amount, and a page of homes shows forty, most of them the same from page to page."""
    return Money(amount, currency).format()


def money(amount: Money) -> dict[str, Any]:
    """{"amount": minor units, "currency", "formatted"}."""
    return {
        "amount": amount.amount,
        "currency": amount.currency,
        "formatted": _formatted(amount.amount, amount.currency),
    }


@extend_schema_field(_MONEY_SCHEMA)
class MoneyOut(serializers.Field[Money, Any, dict[str, Any], Any]):
    """An amount on its way out. Amounts come in as whole minor units of a currency that is named beside them."""

    def to_representation(self, value: Money) -> dict[str, Any]:
        return money(value)


@extend_schema_field(_MONEY_SCHEMA)
class StoredMoneyOut(serializers.Field[dict[str, Any], Any, dict[str, Any], Any]):
    """An amount that was stored as {"amount", "currency"}, on its way out."""

    def to_representation(self, value: dict[str, Any]) -> dict[str, Any]:
        return money(Money(value["amount"], value["currency"]))


@extend_schema_field(_MONEY_SCHEMA)
class MoneyOf(serializers.Field[Any, Any, dict[str, Any] | None, Any]):
    """An amount that lies in two columns, `amount` in minor units and `currency`, on its way out as one."""

    def __init__(self, amount: str, currency: str = "currency", **options: Any) -> None:
        self._columns = amount, currency
        super().__init__(source="*", read_only=True, **options)

    def to_representation(self, value: Any) -> dict[str, Any] | None:
        amount, currency = (getattr(value, column) for column in self._columns)
        return None if amount is None else money(Money(amount, currency))


class Text(serializers.CharField):
    """Text that was sent as text: a number or a truth value is not silently turned into letters."""

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        return str(super().to_internal_value(data))


class Day(serializers.DateField):
    """A calendar day, ISO 8601, within the years that a stay can lie in."""

    def __init__(self, **options: Any) -> None:
        super().__init__(input_formats=["iso-8601"], **options)

    def to_internal_value(self, value: Any) -> date:
        if not isinstance(value, str):
            self.fail("invalid", format="YYYY-MM-DD")
        day = super().to_internal_value(value)
        if not FIRST_DAY <= day <= LAST_DAY:
            raise serializers.ValidationError(f"Write a day from {FIRST_DAY} to {LAST_DAY}.", code="out_of_range")
        return day


class Amount(serializers.IntegerField):
    """Whole minor units, never negative, never text and never a fraction."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"min_value": 0, "max_value": MAX_MINOR_UNITS, **options})

    def to_internal_value(self, data: Any) -> int:
        if isinstance(data, bool) or not isinstance(data, int):
            self.fail("invalid")
        return int(super().to_internal_value(data))


class Currency(serializers.RegexField):
    """A three-letter ISO 4217 code in capitals."""

    def __init__(self, **options: Any) -> None:
        super().__init__(r"\A[A-Z]{3}\Z", max_length=3, **options)
        self.error_messages["invalid"] = "Write a three-letter code such as EUR."


class Input(serializers.Serializer[Any]):
    """A request's fields. A field that is not declared is refused, so that nothing is set by guessing its name."""

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, Mapping):
            unknown = sorted(str(name) for name in data if name not in self.fields)
            if unknown:
                refusal = ErrorDetail("There is no such field, or it cannot be set.", code="unknown_field")
                raise serializers.ValidationError({name[:80]: [refusal] for name in unknown[:20]})
        return super().to_internal_value(data)

    @classmethod
    def read(cls, data: Any) -> dict[str, Any]:
        """The validated fields. Raises DRF's ValidationError, which becomes a 422 naming each field."""
        return dict(_reader(cls).run_validation(data))


@cache
def _reader(kind: type[Input]) -> Input:
    """One instance reads for everybody: validating keeps no state in it, and making its fields anew takes longer."""
    return kind()
