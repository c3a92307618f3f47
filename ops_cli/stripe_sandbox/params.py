"""Parameter tables: what an operation accepts, and how text from a form becomes values.

A field given as the empty string means "unset": clearable fields read it as ``None``, the others refuse it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .errors import ApiError, not_implemented
from .forms import Raw

Values = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Field:
    """One parameter. ``required`` and ``clearable`` hold for every kind."""

    required: bool = False
    clearable: bool = False

    def read(self, raw: Raw, name: str) -> Any:
        """The value of ``raw``; ApiError 400 naming the parameter when it does not fit."""
        if raw == "":
            if self.clearable:
                return None
            raise ApiError(
                400,
                f"You passed an empty string for '{name}'. We assume empty values are an attempt to unset a parameter; "
                f"however '{name}' cannot be unset. You should remove '{name}' from your request or supply a "
                "non-empty value.",
                code="parameter_invalid_empty",
                param=name,
            )
        return self.parse(raw, name)

    def parse(self, raw: Raw, name: str) -> Any:
        """The value of a non-empty ``raw``."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class Text(Field):
    """Text of at most ``longest`` characters."""

    longest: int = 5000

    def parse(self, raw: Raw, name: str) -> str:
        text = _scalar(raw, name, "string")
        if len(text) > self.longest:
            raise ApiError(
                400, f"Invalid string: {text[:10]}...{text[-5:]}; must be at most {self.longest} characters", param=name
            )
        return text


@dataclass(frozen=True, kw_only=True)
class Integer(Field):
    """A whole number, with optional bounds."""

    least: int | None = None
    most: int | None = None

    def parse(self, raw: Raw, name: str) -> int:
        text = _scalar(raw, name, "integer")
        if not text.removeprefix("-").isascii() or not text.removeprefix("-").isdigit() or len(text) > 18:
            raise ApiError(400, f"Invalid integer: {text}", code="parameter_invalid_integer", param=name)
        value = int(text)
        if self.least is not None and value < self.least:
            raise ApiError(
                400,
                f"This value must be greater than or equal to {self.least}.",
                code="parameter_invalid_integer",
                param=name,
            )
        if self.most is not None and value > self.most:
            raise ApiError(
                400,
                f"This value must be less than or equal to {self.most}.",
                code="parameter_invalid_integer",
                param=name,
            )
        return value


@dataclass(frozen=True, kw_only=True)
class Boolean(Field):
    """``true`` or ``false``."""

    def parse(self, raw: Raw, name: str) -> bool:
        text = _scalar(raw, name, "boolean")
        if text not in ("true", "false"):
            raise ApiError(400, f"Invalid boolean: {text}", param=name)
        return text == "true"


@dataclass(frozen=True, kw_only=True)
class Choice(Field):
    """One of a closed list of words."""

    of: tuple[str, ...]

    def parse(self, raw: Raw, name: str) -> str:
        text = _scalar(raw, name, "string")
        if text not in self.of:
            raise ApiError(400, f"Invalid {name}: must be {_either(self.of)}", param=name)
        return text


@dataclass(frozen=True, kw_only=True)
class BooleanOrChoice(Field):
    """``off_session``: a boolean, or one of the words that mean true."""

    of: tuple[str, ...]

    def parse(self, raw: Raw, name: str) -> bool:
        text = _scalar(raw, name, "boolean")
        if text in self.of:
            return True
        return Boolean().parse(text, name)


@dataclass(frozen=True, kw_only=True)
class ListOf(Field):
    """``name[]=…`` or ``name[0]=…``, in order of position."""

    item: Field
    longest: int = 1000

    def parse(self, raw: Raw, name: str) -> list[Any]:
        if isinstance(raw, str) or not all(key.isdigit() for key in raw):
            raise ApiError(400, "Invalid array", param=name)
        if len(raw) > self.longest:
            raise ApiError(400, f"Invalid array: at most {self.longest} values are allowed", param=name)
        return [self.item.read(raw[key], f"{name}[{key}]") for key in sorted(raw, key=int)]


@dataclass(frozen=True, kw_only=True)
class Group(Field):
    """``name[field]=…`` with its own table of fields."""

    fields: Mapping[str, Field]

    def parse(self, raw: Raw, name: str) -> Values:
        if isinstance(raw, str):
            raise ApiError(400, "Invalid object", param=name)
        return read(self.fields, raw, within=name)


@dataclass(frozen=True, kw_only=True)
class Metadata(Field):
    """Free keys: at most 50, of 40 characters, with values of 500. An empty value removes the key (kept as ``""``)."""

    clearable: bool = True

    def parse(self, raw: Raw, name: str) -> dict[str, str]:
        if isinstance(raw, str):
            raise ApiError(400, "Invalid object", param=name)
        if len(raw) > 50:
            raise ApiError(400, f"You can have up to 50 metadata keys, but you passed {len(raw)}.", param=name)
        return {key: self._value(key, value, name) for key, value in raw.items()}

    @staticmethod
    def _value(key: str, value: Raw, name: str) -> str:
        if len(key) > 40:
            raise ApiError(400, f"Metadata keys can have up to 40 characters, but '{key}' has {len(key)}.", param=name)
        if not isinstance(value, str):
            raise ApiError(400, f"Metadata values must be strings: '{key}' is an object.", param=f"{name}[{key}]")
        if len(value) > 500:
            raise ApiError(
                400,
                "Metadata values can have up to 500 characters, but you passed in a value that is "
                f"{len(value)} characters. Invalid value: {value[:20]}...",
                param=f"{name}[{key}]",
            )
        return value


@dataclass(frozen=True, kw_only=True)
class TimeRange(Field):
    """``created``: one instant, or any of gt, gte, lt, lte (epoch seconds)."""

    def parse(self, raw: Raw, name: str) -> dict[str, int]:
        if isinstance(raw, str):
            return {"eq": Integer().parse(raw, name)}
        bound = Integer()
        return read({"gt": bound, "gte": bound, "lt": bound, "lte": bound}, raw, within=name)


@dataclass(frozen=True, kw_only=True)
class NotSimulated(Field):
    """A parameter that Stripe knows and the sandbox does not act on: refused with 501 rather than ignored."""

    def read(self, raw: Raw, name: str) -> Any:
        raise not_implemented(f"The parameter {name}")


EXPAND = ListOf(item=Text())
ADDRESS: Mapping[str, Field] = {
    part: Text(clearable=True) for part in ("city", "country", "line1", "line2", "postal_code", "state")
}
SHIPPING: Mapping[str, Field] = {
    "address": Group(fields=ADDRESS, required=True),
    "carrier": Text(),
    "name": Text(required=True),
    "phone": Text(),
    "tracking_number": Text(),
}


def listing(**filters: Field) -> dict[str, Field]:
    """The fields every list accepts, and ``filters``."""
    return {
        "limit": Integer(least=1, most=100),
        "starting_after": Text(),
        "ending_before": Text(),
        **filters,
    }


def read(fields: Mapping[str, Field], raw: Mapping[str, Raw], *, within: str = "") -> Values:
    """Read ``raw`` by the table ``fields``: unknown names first, then missing ones, then each value."""
    unknown = [_inside(within, name) for name in raw if name not in fields]
    if unknown:
        plural = "s" if len(unknown) > 1 else ""
        raise ApiError(
            400, f"Received unknown parameter{plural}: {', '.join(unknown)}", code="parameter_unknown", param=unknown[0]
        )
    for name, field in fields.items():
        if field.required and name not in raw:
            full = _inside(within, name)
            raise ApiError(400, f"Missing required param: {full}.", code="parameter_missing", param=full)
    return {name: fields[name].read(value, _inside(within, name)) for name, value in raw.items()}


def merged(before: dict[str, str], change: dict[str, str] | None) -> dict[str, str]:
    """Metadata after an update: given keys are set, empty values remove their key, ``None`` removes all."""
    if change is None:
        return {}
    return {key: value for key, value in {**before, **change}.items() if value != ""}


def _inside(within: str, name: str) -> str:
    return f"{within}[{name}]" if within else name


def _scalar(raw: Raw, name: str, kind: str) -> str:
    if not isinstance(raw, str):
        raise ApiError(400, f"Invalid {kind}: {name} must not be an object or a list", param=name)
    return raw


def _either(words: tuple[str, ...]) -> str:
    return words[0] if len(words) == 1 else f"one of {', '.join(words[:-1])}, or {words[-1]}"
