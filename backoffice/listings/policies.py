"""Decisions about listings: what a draft still lacks, which change sends a home back to review, what a night costs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any, Final

from backoffice.core.stays import Stay

# DOMAIN.md, statuses: published -> in_review when one of these changes.
RISKY_FIELDS: Final = frozenset({"address", "city", "country", "latitude", "longitude", "capacity"})
# A new price this many times above or below the old one is an outlier that a person looks at.
OUTLIER_FACTOR: Final = 5


def lacks(*, facts: Mapping[str, Any]) -> tuple[str, ...]:
    """The fields a listing must have before it can be submitted."""
    needed = ("title", "city", "country", "nightly_price", "room_type", "capacity", "time_zone")
    return tuple(name for name in needed if facts.get(name) in (None, "", 0))


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
