"""Decisions about listings: what a draft still lacks, which change sends a home back to review, what a night costs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any, Final

from backoffice.core.money import is_currency
from backoffice.core.stays import Stay

# DOMAIN.md, statuses: published -> in_review when one of these changes.
RISKY_FIELDS: Final = frozenset({"address", "city", "country", "latitude", "longitude", "capacity", "currency"})
# A new price this many times above or below the old one is an outlier that a person looks at.
OUTLIER_FACTOR: Final = 5
# Far above any price, and far enough below what the database holds for a year's stay to be added up.
MOST_MINOR_UNITS: Final = 10**12
MOST_NIGHTS: Final = 2**31 - 1
MOST_DISCOUNT: Final = 90


def lacks(*, facts: Mapping[str, Any]) -> tuple[str, ...]:
    """The fields a listing must have before it can be submitted."""
    needed = ("title", "city", "country", "nightly_price", "room_type", "capacity", "time_zone")
    return tuple(name for name in needed if facts.get(name) in (None, "", 0))


def faults(*, facts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What cannot be of a home's fields: the name and a sentence with the remedy. The database repeats these bounds;
    what is no number at all is left to the field's own check."""
    for name, (least, most, sentence) in _BOUNDS.items():
        value = facts.get(name)
        if isinstance(value, int | float) and not least <= value <= most:
            yield name, sentence
    shortest, longest = facts.get("minimum_nights"), facts.get("maximum_nights")
    if isinstance(shortest, int) and isinstance(longest, int) and longest < shortest:
        yield "maximum_nights", "must not be below minimum_nights."
    if not is_currency(str(facts.get("currency"))):
        yield "currency", "write a three-letter code such as EUR."
    country = str(facts.get("country"))
    if len(country) != 2 or not country.isascii() or not country.isupper():
        yield "country", "write the two letters of ISO 3166-1, such as BE."


_AMOUNT: Final = (0, MOST_MINOR_UNITS, "write minor units from 0 up.")
_PER_CENT: Final = (0, MOST_DISCOUNT, f"write 0 to {MOST_DISCOUNT} per cent.")
_NIGHTS: Final = (1, MOST_NIGHTS, f"write 1 to {MOST_NIGHTS}.")
_BOUNDS: Final[Mapping[str, tuple[float, float, str]]] = {
    "capacity": (1, 1_000, "write for how many guests, 1 to 1,000."),
    "included_guests": (1, 1_000, "write how many guests the price includes, from 1 up."),
    "nightly_price": _AMOUNT,
    "cleaning_fee": _AMOUNT,
    "extra_guest_fee": _AMOUNT,
    "latitude": (-90, 90, "write -90 to 90 degrees."),
    "longitude": (-180, 180, "write -180 to 180 degrees."),
    "minimum_nights": _NIGHTS,
    "maximum_nights": _NIGHTS,
    "week_discount": _PER_CENT,
    "month_discount": _PER_CENT,
}


def needs_review(*, before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """Whether a change to a published home must be looked at before guests see it."""
    if any(before[name] != after[name] for name in RISKY_FIELDS if name in after):
        return True
    old, new = before.get("nightly_price"), after.get("nightly_price", before.get("nightly_price"))
    if not old or not new:
        return False
    return bool(new * OUTLIER_FACTOR < old or new > old * OUTLIER_FACTOR)


@dataclass(frozen=True, slots=True)
class Run:
    """A run of nights [first, end) with its own price or bounds; None keeps the listing's."""

    first: date
    end: date
    price: int | None = None
    minimum_nights: int | None = None
    maximum_nights: int | None = None


@dataclass(frozen=True, slots=True)
class NightlyTerms:
    """What the nights of one stay cost, and how long a stay that begins then must be."""

    prices: tuple[int, ...]
    minimum_nights: int
    maximum_nights: int


def nightly_terms(
    *, stay: Stay, price: int, minimum_nights: int, maximum_nights: int, runs: Iterable[Run]
) -> NightlyTerms:
    """Price each night by its override, else the listing's price; the bounds are those of the check-in night."""
    by_night = dict.fromkeys(stay.dates(), price)
    for run in runs:
        for night in by_night:
            if run.first <= night < run.end and run.price is not None:
                by_night[night] = run.price
        if run.first <= stay.check_in < run.end:
            minimum_nights = run.minimum_nights or minimum_nights
            maximum_nights = run.maximum_nights or maximum_nights
    return NightlyTerms(
        prices=tuple(by_night[night] for night in stay.dates()),
        minimum_nights=minimum_nights,
        maximum_nights=maximum_nights,
    )
