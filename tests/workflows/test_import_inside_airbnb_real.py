"""Real exports, where they are at hand: the figures that `data/SOURCES.md` and the database must agree on."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from backoffice.core.actor import system
from backoffice.listings.models import CalendarHold, Listing
from backoffice.people.models import User
from backoffice.reviews.models import Review
from backoffice.workflows.import_inside_airbnb import Report, Request, load

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
NOW = datetime(2026, 11, 20, 9, 0, tzinfo=UTC)

pytestmark = [
    pytest.mark.django_db,
    pytest.mark.skipif(not DATA.is_dir(), reason="the real exports are not published with the project"),
]


def loading(name: str, city: str, currency: str, tmp_path: Path) -> Report:
    request = Request(directory=DATA / name, city=city, currency=currency, rejects=tmp_path / "rejects.csv")
    return load(request=request, actor=system("tests"), now=NOW)


def figures(report: Report, kind: str) -> dict[str, Any]:
    names = ("read", "loaded", "added", "updated", "unchanged", "retired")
    return {name: report.counts()[kind][name] for name in names}


def test_albany_and_then_albany_a_year_later(tmp_path: Path) -> None:
    first = loading("albany_2024_11", "Albany", "USD", tmp_path)
    assert figures(first, "listings") == {
        "read": 421,
        "loaded": 421,
        "added": 421,
        "updated": 0,
        "unchanged": 0,
        "retired": 0,
    }
    assert figures(first, "reviews") == {
        "read": 25_313,
        "loaded": 25_313,
        "added": 25_313,
        "updated": 0,
        "unchanged": 0,
        "retired": 0,
    }
    assert (first.counts()["calendar"]["read"], first.rejects) == (153_665, None)
    assert Listing.objects.filter(nightly_price=None, status="draft").count() == 37
    assert loading("albany_2024_11", "Albany", "USD", tmp_path).changed == 0

    second = loading("albany_2025_10", "Albany", "USD", tmp_path)
    homes = figures(second, "listings")
    assert (homes["added"], homes["updated"] + homes["unchanged"], homes["retired"]) == (150, 311, 110)
    reviews = figures(second, "reviews")
    assert (reviews["added"], reviews["unchanged"], reviews["retired"]) == (6_540, 21_324, 3_989)
    assert Listing.objects.filter(status="paused", nightly_price=None).count() == 18
    assert Listing.objects.count() == 421 + 150 and Review.objects.count() == 25_313 + 6_540
    assert not CalendarHold.objects.exclude(kind="block").exists()
    assert loading("albany_2025_10", "Albany", "USD", tmp_path).changed == 0


@pytest.mark.long
def test_singapore_whole(tmp_path: Path) -> None:
    report = loading("singapore_2023_09", "Singapore", "SGD", tmp_path)
    assert figures(report, "listings")["added"] == 3_483 and report.counts()["calendar"]["loaded"] == 1_271_274
    assert report.counts()["reviews"]["reasons"] == {"set_aside": {"cancellation_notice": 242}}
    assert report.counts()["calendar"]["reasons"]["adjusted"]["bounds_contradict"] == 707
    assert Listing.objects.get(source="inside-airbnb:singapore:19847774").nightly_price is None  # $109,999.00
    assert Listing.objects.filter(source="inside-airbnb:singapore:985940069189910173").exists()
    with connection.cursor() as cursor:
        cursor.execute("SELECT sum(upper(stay) - lower(stay)) FROM listings_calendarhold")
        blocked = cursor.fetchone()[0]
    # Every night that the export calls unavailable, and those priced to keep guests away.
    assert blocked == _unavailable("singapore_2023_09")
    assert loading("singapore_2023_09", "Singapore", "SGD", tmp_path).changed == 0


def _unavailable(name: str) -> int:
    """Counted without any of our code, from the text alone."""
    import csv
    import gzip

    refused = {"$10,000.00", "$109,999.00"}
    with gzip.open(DATA / name / "calendar.csv.gz", "rt", encoding="utf-8", newline="") as file:
        rows = csv.reader(file)
        next(rows)
        return sum(1 for row in rows if row[2] == "f" or (row[4] or row[3]) in refused)


@pytest.mark.long
def test_antwerp_has_no_reviews_and_424_homes_without_a_price(tmp_path: Path) -> None:
    report = loading("antwerp_2024_06", "Antwerp", "EUR", tmp_path)
    assert report.counts()["listings"]["reasons"]["adjusted"]["price_missing"] == 424
    assert report.warnings == ("There is no reviews file here: what the desk has of it stays as it was.",)
    assert loading("antwerp_2024_06", "Antwerp", "EUR", tmp_path).changed == 0


@pytest.mark.long
def test_new_york_by_its_short_columns(tmp_path: Path) -> None:
    report = loading("nyc_2019", "New York", "USD", tmp_path)
    assert figures(report, "listings")["added"] == 48_895
    assert Listing.objects.filter(nightly_price=None).count() == 11 + 3 + 3  # priced 0, 10000 and 9999
    assert User.objects.count() == len(set(Listing.objects.values_list("host_id", flat=True)))
    assert loading("nyc_2019", "New York", "USD", tmp_path).changed == 0
