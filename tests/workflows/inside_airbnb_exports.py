"""Exports in the shape of the real ones, written for a test: every quirk by hand, no line of real data."""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Iterable, Mapping
from datetime import date, timedelta
from pathlib import Path
from typing import Any

Row = Mapping[str, Any]

LISTING: dict[str, str] = {
    "id": "985940069189910173",  # above 2^53
    "listing_url": "https://www.airbnb.com/rooms/985940069189910173",
    "scrape_id": "20250105",
    "last_scraped": "2025-01-05",
    "source": "city scrape",
    "name": "Loft by the canal",
    "description": "Bright<br />and quiet.",
    "host_id": "71",
    "host_url": "https://www.airbnb.com/users/show/71",
    "host_name": "Wilhelmina",
    "host_since": "2015-03-09",
    "host_about": "I am\r\nreal.",
    "neighbourhood": "Neighborhood highlights",
    "neighbourhood_cleansed": "Portus Ganda",
    "neighbourhood_group_cleansed": "",
    "latitude": "51.0543422222222222",
    "longitude": "3.71742",
    "property_type": "Entire loft",
    "room_type": "Entire home/apt",
    "accommodates": "4",
    "bathrooms": "",
    "bathrooms_text": "1.5 shared baths",
    "bedrooms": "2",
    "beds": "3",
    "amenities": '["Wifi", "Dedicated workspace \\u2013 office", "43\\" TV"]',
    "price": "$85.00",
    "minimum_nights": "2",
    "maximum_nights": "365",
    "number_of_reviews": "12",
    "review_scores_rating": "4.75",
    "license": "BE-1234",
    "instant_bookable": "f",
}
CALENDAR = ("listing_id", "date", "available", "price", "adjusted_price", "minimum_nights", "maximum_nights")
REVIEW: dict[str, str] = {
    "listing_id": LISTING["id"],
    "id": "1053",
    "date": "2024-11-02",
    "reviewer_id": "9001",
    "reviewer_name": "Bartholomeus",
    "comments": "Great place, very clean.",
}
SUMMARY_LISTING = (
    "id", "name", "host_id", "host_name", "neighbourhood_group", "neighbourhood", "latitude", "longitude", "room_type",
    "price", "minimum_nights", "number_of_reviews", "last_review", "reviews_per_month",
    "calculated_host_listings_count", "availability_365",
)  # fmt: skip
FIRST = date(2025, 1, 5)


def listing(**changes: str) -> dict[str, str]:
    """A home of the detailed column set."""
    return {**LISTING, **changes}


def nights(
    listing_id: str = LISTING["id"],
    *,
    since: date = FIRST,
    taken: str = "",
    price: str = "$85.00",
    bounds: str = "2,365",
) -> list[dict[str, str]]:
    """A calendar of one home: one night for each letter of `taken`, t available and f not."""
    minimum, maximum = bounds.split(",")
    return [
        {
            "listing_id": listing_id,
            "date": (since + timedelta(days=offset)).isoformat(),
            "available": letter,
            "price": price,
            "adjusted_price": "",
            "minimum_nights": minimum,
            "maximum_nights": maximum,
        }
        for offset, letter in enumerate(taken)
    ]


def text_of(rows: Iterable[Row], columns: Iterable[str]) -> str:
    buffer = io.StringIO(newline="")
    writer = csv.DictWriter(buffer, list(columns), restval="", extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()


def export(
    directory: Path,
    listings: Iterable[Row] = (LISTING,),
    calendar: Iterable[Row] | None = None,
    reviews: Iterable[Row] | None = None,
    *,
    packed: bool = True,
    columns: Iterable[str] = tuple(LISTING),
) -> Path:
    """Write an export of the detailed column set; without a calendar or reviews where those are None."""
    directory.mkdir(parents=True, exist_ok=True)
    files = {"listings": text_of(listings, columns)}
    if calendar is not None:
        files["calendar"] = text_of(calendar, CALENDAR)
    if reviews is not None:
        files["reviews"] = text_of(reviews, tuple(REVIEW))
    for name, text in files.items():
        write(directory / f"{name}.csv", text, packed=packed)
    return directory


def write(path: Path, text: str, *, packed: bool = False) -> None:
    if packed:
        path.with_name(path.name + ".gz").write_bytes(gzip.compress(text.encode()))
    else:
        path.write_bytes(text.encode())
