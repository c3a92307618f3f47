"""From the text of a field to a value, or a reason why not. Pure: no database, no clock.

Every rule answers a quirk that real exports have; tests/workflows/test_import_inside_airbnb_cleaning.py shows each."""

from __future__ import annotations

import html
import json
import re
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Final

from backoffice.core.money import Money

# The marketplace's own longest stay; exports write 9999, 100000 and the like for "no limit".
LONGEST_STAY: Final = 1125
# From this price on, in euro, 9,999 and 10,000 mean "do not book", not a price; 9,999 yen is an ordinary night.
SENTINEL_FROM_EUR: Final = 5_000

ROOM_TYPES: Final = {
    "entire home/apt": "entire_home",
    "private room": "private_room",
    "shared room": "shared_room",
    "hotel room": "hotel_room",
}
# Column of the 2016 exports -> our tiers.
TIERS: Final = {
    "flexible": "flexible",
    "moderate": "moderate",
    "strict": "strict",
    "strict_14_with_grace_period": "firm",
    "super_strict_30": "strict",
    "super_strict_60": "strict",
}

_AMOUNT: Final = re.compile(r"[^\d\s.,-]{0,3}\s?(\d{1,3}(?:,\d{3})+|\d{1,12})(\.\d{1,3})?", re.ASCII)
_KNOWN_TAG: Final = re.compile(
    r"<(/?)(br|p|li|ul|ol|div|span|b|i|u|a|em|strong|small|h[1-6])\b(?:\s[^<>]*)?/?>", re.IGNORECASE
)
_BREAKING: Final = frozenset({"br", "p", "li", "ul", "ol", "div", "h1", "h2", "h3", "h4", "h5", "h6"})
_NEWLINES: Final = re.compile("\r\n|[\r\x85\u2028\u2029]")
_SPACES: Final = re.compile(r"[^\S\n]+")
# Controls (C1 mojibake too), zero-width spaces, lone surrogates, private use. The joiner of emoji (U+200D) stays.
_UNSHOWN: Final = re.compile(
    "[\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f\\u200b\\u2060\\ufeff\\ud800-\\udfff\\ue000-\\uf8ff\\U000f0000-\\U0010ffff]"
)
_BLANK_LINES: Final = re.compile(r"\s*\n\s*\n\s*")
_PLAIN: Final = re.compile(r"[\x21-\x25\x27-\x3b\x3d-\x7e]+(?: [\x21-\x25\x27-\x3b\x3d-\x7e]+)*")


class Unreadable(ValueError):
    """A field without a usable value; the text is the reason that is counted."""


@dataclass(frozen=True, slots=True)
class Price:
    """A nightly price in whole minor units, or none and the reason why what was printed is not one."""

    amount: int | None
    reason: str = ""


def number(text: str) -> int | None:
    """A whole number that fits eight bytes, digits only ("1.0" is one too); None for an empty field."""
    text = text.strip()
    if not text:
        return None
    if text.endswith(".0"):
        text = text[:-2]
    if not (text.isascii() and text.isdigit()) or int(text) >= 2**63:
        raise Unreadable("not_a_number")
    return int(text)


def identifier(text: str) -> int:
    """An id: ids exceed 2^53, so they never pass through a float."""
    if not (text.isascii() and text.isdigit()) or not 0 < int(text) < 2**63:
        raise Unreadable("id")
    return int(text)


@lru_cache(maxsize=8192)
def day(text: str) -> date:
    """An ISO date of a plausible year."""
    try:
        value = date.fromisoformat(text) if len(text) == 10 else None
    except ValueError:
        value = None
    if value is None or not 1990 <= value.year <= 2200:
        raise Unreadable("date")
    return value


@lru_cache(maxsize=8192)
def day_after(text: str) -> str:
    """The date after this one, as it is written; empty for what is no date."""
    try:
        return (day(text) + timedelta(days=1)).isoformat()
    except Unreadable:
        return ""


@lru_cache(maxsize=65_536)
def price(text: str, currency: str, sentinel_from: int | None) -> Price:
    """A price as printed: "$" whatever the currency, thousands by comma, or bare digits. Minor units of `currency`.

    `sentinel_from` is the amount in minor units from which round and all-nines prices are refusals; None: not known.
    Nothing printed, zero, a sentinel and an unreadable text give no amount and say which."""
    text = text.strip()
    if not text:
        return Price(None)
    match = _AMOUNT.fullmatch(text)
    if match is None:
        return Price(None, "price_unreadable")
    try:
        amount = Money.parse(match[1].replace(",", "") + (match[2] or ""), currency).amount
    except ValueError:
        return Price(None, "price_unreadable")
    if amount == 0:
        return Price(None, "price_zero")
    if sentinel_from is not None and amount >= sentinel_from and _looks_like_a_refusal(match[1].replace(",", "")):
        return Price(None, "price_sentinel")
    return Price(amount)


def _looks_like_a_refusal(whole: str) -> bool:
    """9999, 24999, 109999, 10000, 100000: typed to keep guests away."""
    return whole.endswith("999") or bool(re.fullmatch(r"10+", whole))


def clean(text: str) -> str:
    """Text fit to show: known HTML tags gone (a literal "<3" stays), entities read, newlines uniform, and no character
    that cannot be seen."""
    if _PLAIN.fullmatch(text):
        return text
    text = _NEWLINES.sub("\n", text)
    text = _KNOWN_TAG.sub(lambda tag: "\n" if tag[2].lower() in _BREAKING else "", text)
    text = html.unescape(text)
    text = _SPACES.sub(" ", _UNSHOWN.sub("", text))
    return _BLANK_LINES.sub("\n\n", text).strip()


def line(text: str, longest: int) -> str:
    """`clean`, on one line, cut to `longest` characters."""
    return " ".join(clean(text).split())[:longest].rstrip()


def amenities(text: str) -> list[str]:
    """The amenities in their order, each once: a JSON array since 2021, `{TV,"Cable TV"}` before."""
    text = text.strip()
    if text.startswith("{") and text.endswith("}"):
        names = [quoted or bare for quoted, bare in re.findall(r'"((?:[^"\\]|\\.)*)"|([^,{}"]+)', text)]
    else:
        try:
            loaded = json.loads(text) if text else []
        except ValueError:
            loaded = []
        names = [name for name in loaded if isinstance(name, str)] if isinstance(loaded, list) else []
    return list(dict.fromkeys(cleaned for name in names if (cleaned := line(name, 120))))


def bathrooms(text: str, bare: str) -> Decimal | None:
    """The number of bathrooms from "1.5 shared baths" or "Half-bath", else from the bare number of old exports."""
    for value in (text, bare):
        match = re.match(r"\s*(\d{1,3}(?:\.\d)?)(?:\d|\b)", value)
        if match:
            return Decimal(match[1])
        if "half-bath" in value.lower():
            return Decimal("0.5")
    return None


def rating(score: str, count: str) -> tuple[int, int]:
    """How many ratings and their sum, on the scale of 5; scores of 2016 are out of 100, none without a score."""
    try:
        reviews, average = number(count) or 0, Decimal(score.strip())
    except (Unreadable, ArithmeticError):
        return 0, 0
    if not average.is_finite() or not 0 < average <= 100:
        return 0, 0
    if average > 5:
        average /= 20
    return reviews, int((average * reviews).to_integral_value())


def stay_bounds(minimum: int | None, maximum: int | None) -> tuple[int | None, int | None]:
    """Shortest and longest stay; 0 says nothing, and beyond the marketplace's longest stay means no limit."""
    shortest = min(minimum, LONGEST_STAY) if minimum else None
    return shortest, min(maximum, LONGEST_STAY) if maximum else None


def is_cancellation_notice(comment: str) -> bool:
    """Whether a comment was posted by the marketplace when a host cancelled: an event, not a review."""
    return comment.startswith("The ") and "This is an automated posting." in comment
