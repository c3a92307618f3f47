"""Whole exports, written for the test, through the database and back."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db.backends.postgresql.psycopg_any import DateRange

from backoffice.audit.models import AuditEntry
from backoffice.core.actor import Actor, system
from backoffice.core.errors import Conflict, Invalid, Locked, NightsTaken, NotAllowed
from backoffice.jobs import operations as jobs
from backoffice.jobs.models import JobRun
from backoffice.listings import operations as listings
from backoffice.listings.models import CalendarHold, Listing, NightOverride
from backoffice.people.models import User
from backoffice.reviews import queries as review_queries
from backoffice.reviews.models import Review
from backoffice.workflows.import_inside_airbnb import JOB, Report, Request, UnusableExport, load
from tests import factories
from tests.workflows.inside_airbnb_exports import (
    CALENDAR,
    FIRST,
    LISTING,
    REVIEW,
    SUMMARY_LISTING,
    export,
    listing,
    nights,
    text_of,
    write,
)

pytestmark = pytest.mark.django_db

NOW = datetime(2025, 1, 6, 9, 0, tzinfo=UTC)
KEY = LISTING["id"]
Importer = Callable[..., Report]


@pytest.fixture
def ghent(tmp_path: Path) -> Importer:
    """Load a directory as Ghent."""

    def importing(directory: Path, *, actor: Actor | None = None, now: datetime = NOW, **options: Any) -> Report:
        request = Request(
            **{
                "directory": directory,
                "city": "Ghent",
                "currency": "EUR",
                "country": "BE",
                "time_zone": "Europe/Brussels",
                "rejects": tmp_path / "rejects.csv",
                **options,
            }
        )
        return load(request=request, actor=actor or system("tests"), now=now)

    return importing


def counts(report: Report, kind: str) -> dict[str, Any]:
    return report.counts()[kind]


def home(key: str = KEY) -> Listing:
    return Listing.objects.get(source=f"inside-airbnb:ghent:{key}")


def blocks(key: str = KEY) -> list[tuple[str, str]]:
    rows = CalendarHold.objects.filter(listing=home(key), kind="block", active=True).order_by("stay")
    return [(str(row.stay.lower), str(row.stay.upper)) for row in rows]


def overrides(key: str = KEY) -> list[tuple[str, str, int | None, int | None, int | None]]:
    rows = NightOverride.objects.filter(listing=home(key)).order_by("nights")
    return [
        (str(row.nights.lower), str(row.nights.upper), row.price, row.minimum_nights, row.maximum_nights)
        for row in rows
    ]


def day(offset: int) -> str:
    return (FIRST + timedelta(days=offset)).isoformat()


def everything() -> list[Any]:
    """All that an import could have written, for "nothing was changed"."""
    return [
        list(model.objects.order_by("pk").values())
        for model in (User, Listing, CalendarHold, NightOverride, Review, AuditEntry)
    ]


def rejected(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


# What a home becomes --------------------------------------------------------------------------------------------------


def test_a_home_with_its_host_nights_and_reviews(tmp_path: Path, ghent: Importer) -> None:
    report = ghent(export(tmp_path / "a", calendar=nights(taken="ttffft"), reviews=[REVIEW]))
    found = home()
    assert (found.status, found.city, found.country, found.time_zone) == ("published", "Ghent", "BE", "Europe/Brussels")
    assert (found.title, found.neighbourhood, found.room_type) == ("Loft by the canal", "Portus Ganda", "entire_home")
    assert (found.nightly_price, found.currency, found.capacity, str(found.bathrooms)) == (85_00, "EUR", 4, "1.5")
    assert found.amenities == ["Wifi", "Dedicated workspace – office", '43" TV']
    assert (found.rating_count, found.rating_sum, found.instant_book) == (12, 57, True)
    assert (found.minimum_nights, found.maximum_nights, found.source_seen_on) == (2, 365, FIRST)
    assert found.description == "Bright\nand quiet." and found.latitude == 51.0543422222222222
    assert blocks() == [(day(2), day(5))] and overrides() == []
    assert CalendarHold.objects.get().cause == "unknown"
    assert report.seen_on == FIRST and report.rejects is None
    assert counts(report, "calendar")["loaded"] == 6 and counts(report, "reviews")["added"] == 1


def test_real_people_cannot_be_recognised(tmp_path: Path, ghent: Importer) -> None:
    rows = [listing(name="Wilhelmina's loft", description="Ask Wilhelmina, +32 470 12 34 56, at wil@example.org")]
    reviews = [{**REVIEW, "comments": "Wilhelmina was great, very clean place. Thanks!"}]
    ghent(export(tmp_path / "a", rows, nights(taken="t"), reviews))
    host = User.objects.get(source="inside-airbnb:ghent:host:71")
    assert host.is_host and not host.has_usable_password() and host.email.endswith("@hosts.invalid")
    review = review_queries.reviews_of(listing_code=home().code).get()
    assert review.rating is None and review.text == "… was great, very clean place. Thanks!"
    kept = " ".join([host.name, host.email, home().title, home().description, review.author, review.text])
    for real in ("Wilhelmina", "Bartholomeus", "I am", "470", "wil@"):
        assert real not in kept
    assert not any("Wilhelmina" in str(entry.after) for entry in AuditEntry.objects.all())


def test_names_and_texts_stay_when_asked(tmp_path: Path, ghent: Importer) -> None:
    directory = export(tmp_path / "a", [listing(), listing(id="7", host_id="72", host_name="")], [], [REVIEW])
    ghent(directory, keep_names=True)
    assert User.objects.get(source="inside-airbnb:ghent:host:71").name == "Wilhelmina"
    assert User.objects.get(source="inside-airbnb:ghent:host:72").name  # an empty name is still somebody
    review = Review.objects.get()
    assert (review.author, review.text) == ("Bartholomeus", REVIEW["comments"])


def test_a_home_without_a_price_is_a_draft_that_nobody_can_book(tmp_path: Path, ghent: Importer) -> None:
    rows = [listing(id="1", price=""), listing(id="2", price="$24,999.00"), listing(id="3", price="0"), listing(id="4")]
    report = ghent(export(tmp_path / "a", rows))
    assert [home(key).status for key in "1234"] == ["draft", "draft", "draft", "published"]
    assert [home(key).nightly_price for key in "123"] == [None, None, None]
    assert counts(report, "listings")["reasons"]["adjusted"] == {
        "price_missing": 1,
        "price_sentinel": 1,
        "price_zero": 1,
    }


def test_bounds_that_contradict_or_mean_no_limit(tmp_path: Path, ghent: Importer) -> None:
    rows = [
        listing(id="1", minimum_nights="92", maximum_nights="2"),
        listing(id="2", minimum_nights="1", maximum_nights="100000"),
        listing(id="3", minimum_nights="", maximum_nights=""),
    ]
    ghent(export(tmp_path / "a", rows))
    assert [(home(key).minimum_nights, home(key).maximum_nights) for key in "123"] == [(92, 92), (1, 1125), (1, 1125)]


def test_a_name_is_no_key_and_a_useless_one_is_replaced(tmp_path: Path, ghent: Importer) -> None:
    rows = [
        listing(id="1"),
        listing(id="2"),
        listing(id="3", name="  "),
        listing(id="4", name="The BLUE OWL:\nVEGETARIAN"),
    ]
    ghent(export(tmp_path / "a", rows))
    assert [home(key).title for key in "1234"] == [
        "Loft by the canal",
        "Loft by the canal",
        "Entire home/apt in Portus Ganda",
        "The BLUE OWL: VEGETARIAN",
    ]


# Nights ---------------------------------------------------------------------------------------------------------------


def test_prices_and_bounds_of_nights_become_runs(tmp_path: Path, ghent: Importer) -> None:
    calendar = [
        *nights(taken="tt"),
        *nights(since=FIRST + timedelta(days=2), taken="tf", price="$120.00"),
        *nights(since=FIRST + timedelta(days=4), taken="t", price="$120.00", bounds="5,365"),
        *nights(since=FIRST + timedelta(days=5), taken="t", bounds="92,2"),
        *nights(since=FIRST + timedelta(days=6), taken="t", price=""),
    ]
    calendar[1]["adjusted_price"] = "$70.00"  # what a guest was asked that day
    report = ghent(export(tmp_path / "a", calendar=calendar))
    assert overrides() == [
        (day(1), day(2), 70_00, None, None),
        (day(2), day(4), 120_00, None, None),
        (day(4), day(5), 120_00, 5, None),
    ]
    assert blocks() == [(day(3), day(4))]
    assert counts(report, "calendar")["reasons"]["adjusted"] == {"bounds_contradict": 1}


def test_a_night_priced_to_keep_guests_away_is_blocked_not_sold_at_the_usual_price(
    tmp_path: Path, ghent: Importer
) -> None:
    calendar = [*nights(taken="t"), *nights(since=FIRST + timedelta(days=1), taken="t", price="$9,999.00")]
    ghent(export(tmp_path / "a", calendar=calendar))
    assert blocks() == [(day(1), day(2))] and overrides() == []


def test_a_calendar_need_not_be_grouped_whole_or_of_one_year(tmp_path: Path, ghent: Importer) -> None:
    first, second = nights("1", taken="ffttf"), nights("2", since=FIRST + timedelta(days=1), taken="f" * 400)
    mixed = [row for pair in zip(first, second, strict=False) for row in pair] + second[5:]
    del mixed[2]  # the first home has no record of its second night
    report = ghent(export(tmp_path / "a", [listing(id="1"), listing(id="2")], mixed))
    assert blocks("1") == [(day(0), day(1)), (day(4), day(5))]
    assert blocks("2") == [(day(1), day(401))]
    assert counts(report, "calendar")["loaded"] == 404


def test_nights_of_bookings_and_of_the_hosts_own_blocks_are_never_touched(tmp_path: Path, ghent: Importer) -> None:
    ghent(export(tmp_path / "a", calendar=nights(taken="t" * 10)))
    for kind, lower, upper in (("booking", 2, 4), ("block", 6, 7)):
        CalendarHold.objects.create(
            listing=home(),
            stay=DateRange(FIRST + timedelta(days=lower), FIRST + timedelta(days=upper)),
            kind=kind,
            cause="theirs",
            created_at=NOW,
        )
    before = list(CalendarHold.objects.order_by("id").values())
    report = ghent(export(tmp_path / "b", [listing(last_scraped="2025-01-06")], nights(taken="ffffffffff")))
    assert list(CalendarHold.objects.filter(id__in=[row["id"] for row in before]).order_by("id").values()) == before
    ours = CalendarHold.objects.filter(source="inside-airbnb:ghent", active=True).order_by("stay")
    assert [(str(row.stay.lower), str(row.stay.upper)) for row in ours] == [
        (day(0), day(2)),
        (day(4), day(6)),
        (day(7), day(10)),
    ]
    assert counts(report, "blocks")["added"] == 3
    assert ghent(tmp_path / "b").changed == 0


# Again, and newer -----------------------------------------------------------------------------------------------------


def test_running_it_again_changes_nothing(tmp_path: Path, ghent: Importer) -> None:
    directory = export(
        tmp_path / "a",
        [listing(), listing(id="2", price="")],
        [*nights(taken="ttff"), *nights(since=FIRST + timedelta(days=4), taken="tt", price="$99.00")],
        [REVIEW, {**REVIEW, "id": "1054"}],
    )
    first = ghent(directory)
    before = everything()
    again = ghent(directory, now=NOW + timedelta(days=3))
    assert first.changed > 0 and again.changed == 0
    assert everything() == before
    assert [run.status for run in JobRun.objects.filter(name=JOB)] == ["succeeded", "succeeded"]


def test_a_newer_snapshot_updates_adds_and_retires_without_deleting(tmp_path: Path, ghent: Importer) -> None:
    old = [listing(id=key) for key in "123"]
    old_reviews = [{**REVIEW, "id": key, "listing_id": "1"} for key in ("10", "11")]
    ghent(export(tmp_path / "a", old, nights("1", taken="ffft"), old_reviews))
    newer = {"last_scraped": "2025-01-07"}
    new = [
        listing(id="1", name="Loft, renovated", price="$90.00", **newer),
        listing(id="2", price="", **newer),
        listing(id="4", **newer),
    ]
    calendar = nights("1", since=FIRST + timedelta(days=2), taken="tff")
    reviews = [{**REVIEW, "id": key, "listing_id": "1"} for key in ("10", "12")]
    report = ghent(export(tmp_path / "b", new, calendar, reviews))

    listing_counts = counts(report, "listings")
    assert {name: listing_counts[name] for name in ("added", "updated", "unchanged", "retired")} == {
        "added": 1, "updated": 2, "unchanged": 0, "retired": 1,
    }  # fmt: skip
    assert (home("1").title, home("1").nightly_price) == ("Loft, renovated", 90_00)
    assert (home("2").status, home("2").nightly_price) == ("paused", None)
    assert (home("3").status, home("4").status) == ("removed", "published")
    # Two nights lie before the new calendar: they stay blocked, the third is free now, two more are not.
    assert blocks("1") == [(day(0), day(2)), (day(3), day(5))]
    assert CalendarHold.objects.filter(active=False, released_at=NOW).count() == 1
    assert overrides("1") == [(day(2), day(5), 85_00, None, None)]
    assert {review.source[-2:]: review.retired_on for review in Review.objects.all()} == {
        "10": None, "11": date(2025, 1, 7), "12": None,
    }  # fmt: skip
    assert ghent(tmp_path / "b").changed == 0

    ghent(export(tmp_path / "c", [listing(id=key, last_scraped="2025-01-08") for key in "1234"]))
    assert [home(key).status for key in "1234"] == ["published"] * 4


def test_what_staff_removed_stays_removed(tmp_path: Path, ghent: Importer) -> None:
    ghent(export(tmp_path / "a"))
    listings.remove(code=home().code, actor=system("tests"), now=NOW)
    for month in ("02", "03"):
        ghent(export(tmp_path / month, [listing(last_scraped=f"2025-{month}-01", name="New name")]))
    assert (home().status, home().title) == ("removed", "New name")


def test_a_home_that_is_gone_but_booked_is_only_paused(tmp_path: Path, ghent: Importer) -> None:
    ghent(export(tmp_path / "a", [listing(id="1"), listing(id="2")]))
    held = home("1")
    soon = NOW.date() + timedelta(days=5)
    hold = CalendarHold.objects.create(
        listing=held, stay=DateRange(soon, soon + timedelta(days=2)), kind="booking", created_at=NOW
    )
    ghent(export(tmp_path / "b", [listing(id="2", last_scraped="2025-02-01")]))
    hold.refresh_from_db()
    assert home("1").status == "paused" and hold.active


def test_a_home_that_cannot_be_read_this_time_is_not_gone(tmp_path: Path, ghent: Importer) -> None:
    ghent(export(tmp_path / "a", [listing(id="1"), listing(id="2")]))
    report = ghent(
        export(tmp_path / "b", [listing(id="1", latitude="north"), listing(id="2", last_scraped="2025-02-01")])
    )
    assert home("1").status == "published" and counts(report, "listings")["rejected"] == 1


def test_an_older_snapshot_and_another_currency_are_refused(tmp_path: Path, ghent: Importer) -> None:
    ghent(export(tmp_path / "a", [listing(last_scraped="2025-02-01")]))
    before = everything()
    with pytest.raises(Conflict, match="older"):
        ghent(export(tmp_path / "b"))
    with pytest.raises(Conflict, match="are in EUR"):
        ghent(tmp_path / "a", currency="USD")
    assert everything() == before


def test_the_same_homes_in_two_cities_are_two(tmp_path: Path, ghent: Importer) -> None:
    directory = export(tmp_path / "a", reviews=[REVIEW])
    ghent(directory)
    ghent(directory, city="Ghent South")
    assert Listing.objects.count() == User.objects.count() == Review.objects.count() == 2


# What cannot be loaded ------------------------------------------------------------------------------------------------


def test_records_that_cannot_be_loaded_go_to_a_file_with_their_reason(tmp_path: Path, ghent: Importer) -> None:
    rows = [
        listing(id="1"),
        listing(id="1", name="told twice"),
        listing(id="1e17"),
        listing(id="2", room_type="Igloo"),
        listing(id="3", latitude="91.5"),
        listing(id="4", accommodates="0"),
        listing(id="5", host_id=""),
    ]
    calendar = [
        *nights("1", taken="tt"),
        {**nights("1", taken="t")[0], "date": "2025-02-30"},
        {**nights("1", taken="t")[0], "date": day(7), "available": "maybe"},
        {**nights("1", taken="t")[0], "date": day(8), "price": "much"},
        {**nights("1", taken="t")[0], "date": day(9), "minimum_nights": "two"},
        {**nights("1", taken="f")[0], "date": day(1)},  # that night was told already: the first counts
        *nights("2", taken="tt"),
        *nights("99", taken="t"),
    ]
    reviews = [
        {**REVIEW, "id": "1", "listing_id": "1"},
        {**REVIEW, "id": "1", "listing_id": "1"},
        {**REVIEW, "id": "2", "listing_id": "2"},
        {**REVIEW, "id": "3", "listing_id": "99"},
        {**REVIEW, "id": "4", "listing_id": "1", "date": "soon"},
        {
            **REVIEW,
            "id": "5",
            "listing_id": "1",
            "comments": "The host canceled this reservation. This is an automated posting.",
        },
    ]
    report = ghent(export(tmp_path / "a", rows, calendar, reviews))
    reasons = {kind: counts(report, kind)["reasons"].get("rejected") for kind in ("listings", "calendar", "reviews")}
    assert reasons == {
        "listings": {"id": 1, "id_twice": 1, "room_type": 1, "coordinates": 1, "capacity": 1, "host_id": 1},
        "calendar": {
            "date": 1, "available": 1, "price_unreadable": 1, "bounds_unreadable": 1, "night_twice": 1,
            "listing_rejected": 2, "no_such_listing": 1,
        },
        "reviews": {"id_twice": 1, "listing_rejected": 1, "no_such_listing": 1, "date": 1},
    }  # fmt: skip
    assert counts(report, "reviews")["reasons"]["set_aside"] == {"cancellation_notice": 1}
    for kind in ("listings", "calendar", "reviews"):
        told = counts(report, kind)
        assert told["read"] == told["loaded"] + told["rejected"] + told["set_aside"]
    assert home("1").title == "Loft by the canal" and blocks("1") == []

    assert report.rejects == tmp_path / "rejects.csv"
    lines = rejected(report.rejects)
    assert len(lines) == sum(tally.rejected.total() for tally in report.tallies)
    assert {
        (line["kind"], line["record"], line["id"]) for line in lines if line["reason"] in {"room_type", "night_twice"}
    } == {
        ("listings", "4", "2"),
        ("calendar", "7", "1"),
    }
    assert report.rejects.stat().st_mode & 0o077 == 0
    text = report.rejects.read_text(encoding="utf-8")
    assert "Igloo" in text
    for personal in ("Wilhelmina", "I am", "Bartholomeus", "Great place", "airbnb.com"):
        assert personal not in text


def test_records_that_are_no_records(tmp_path: Path, ghent: Importer) -> None:
    text = (
        text_of([listing(id="1")], LISTING)
        + "2,too,few,fields\n\n"
        + text_of([listing(id="3")], LISTING).split("\n", 1)[1]
    )
    raw = text.encode() + text_of([listing(id="4", license="\x00caf@")], LISTING).split("\n", 1)[1].encode().replace(
        b"caf@", b"caf\xe9"
    )
    directory = export(tmp_path / "a")
    (directory / "listings.csv.gz").write_bytes(gzip.compress(raw))
    report = ghent(directory)
    assert counts(report, "listings")["reasons"]["rejected"] == {"wrong_number_of_fields": 1, "not_utf8": 1}
    assert set(Listing.objects.values_list("source", flat=True)) == {"inside-airbnb:ghent:1", "inside-airbnb:ghent:3"}


def test_rejects_of_an_earlier_run_do_not_stay(tmp_path: Path, ghent: Importer) -> None:
    ghent(export(tmp_path / "a", [listing(), listing(id="x")]))
    assert (tmp_path / "rejects.csv").exists()
    ghent(export(tmp_path / "b"))
    assert not (tmp_path / "rejects.csv").exists()


def _not_an_export(directory: Path) -> None:
    directory.mkdir()
    write(directory / "customers.csv", "a,b\n1,2\n")


def _other_columns(directory: Path) -> None:
    directory.mkdir()
    write(directory / "listings.csv", "a,b\n1,2\n")


def _truncated(directory: Path) -> None:
    rows = [listing(id=str(key), description="x" * key) for key in range(1, 400)]
    path = export(directory, rows, nights("1", taken="t"), [REVIEW]) / "listings.csv.gz"
    path.write_bytes(path.read_bytes()[:-200])


def _damaged_within(directory: Path) -> None:
    path = (
        export(directory, calendar=[row for key in range(1, 60) for row in nights(str(key), taken="tf" * 50)])
        / "calendar.csv.gz"
    )
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(bytes(data))


def _not_gzip_at_all(directory: Path) -> None:
    export(directory, reviews=[REVIEW])
    (directory / "reviews.csv.gz").write_bytes(b"\x1f\x8b not really")


def _without_the_price(directory: Path) -> None:
    export(directory, columns=[name for name in LISTING if name != "price"])


def _calendar_without_dates(directory: Path) -> None:
    export(directory)
    write(directory / "calendar.csv", text_of(nights(taken="t"), [name for name in CALENDAR if name != "date"]))


def _cut_in_a_quote(directory: Path) -> None:
    export(directory, packed=False)
    path = directory / "listings.csv"
    path.write_text(path.read_text() + '2,"https://www.airbnb.com/rooms/2')


def _only_a_header(directory: Path) -> None:
    export(directory, [])


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (_not_an_export, r"there is no listings\.csv"),
        (_other_columns, "not the listings of an Inside Airbnb export"),
        (_truncated, r"listings\.csv\.gz: ends too early"),
        (_damaged_within, r"calendar\.csv\.gz: (is damaged|ends too early)"),
        (_not_gzip_at_all, r"reviews\.csv\.gz: "),
        (_without_the_price, r"the column price is missing"),
        (_calendar_without_dates, r"calendar\.csv: the column date is missing"),
        (_cut_in_a_quote, r"listings\.csv: ends too early .* after record 1"),
        (_only_a_header, "holds no home that can be loaded"),
    ],
)
def test_what_is_no_export_is_one_line_and_changes_nothing(
    tmp_path: Path, ghent: Importer, spoil: Callable[[Path], None], says: str
) -> None:
    ghent(export(tmp_path / "good", [listing(), listing(id="x")], nights(taken="tf"), [REVIEW]))
    before, kept = everything(), (tmp_path / "rejects.csv").read_bytes()
    spoil(tmp_path / "bad")
    with pytest.raises(UnusableExport, match=says) as refused:
        ghent(tmp_path / "bad")
    assert "\n" not in str(refused.value)
    assert everything() == before
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["rejects.csv"]
    assert (tmp_path / "rejects.csv").read_bytes() == kept


def test_options_that_are_missing_or_wrong_are_named(tmp_path: Path, ghent: Importer) -> None:
    directory = export(tmp_path / "a")
    for options, says in (
        ({"city": "Nowhere", "country": None}, "--country"),
        ({"city": "Nowhere", "time_zone": None}, "--time-zone"),
        ({"time_zone": "Europe/Ghent"}, "--time-zone"),
        ({"country": "Belgium"}, "--country"),
        ({"currency": "euro"}, "--currency"),
        ({"city": " "}, "--city"),
    ):
        with pytest.raises(Invalid, match=says):
            ghent(directory, **options)
    assert Listing.objects.count() == 0


# Other layouts --------------------------------------------------------------------------------------------------------


def test_the_short_columns_alone(tmp_path: Path, ghent: Importer) -> None:
    row = {
        **LISTING,
        "neighbourhood": "Brugse Poort",
        "price": "149",
        "last_review": "2024-12-24",
        "name": "Two\nlines",
    }
    directory = tmp_path / "a"
    directory.mkdir()
    write(directory / "AB_GHENT_2024.csv", text_of([row], SUMMARY_LISTING), packed=True)
    twice = [{"listing_id": KEY, "date": "2024-12-24"}] * 2
    write(directory / "reviews.csv", text_of(twice, ("listing_id", "date")))
    report = ghent(directory)
    assert (home().title, home().nightly_price, home().neighbourhood) == ("Two lines", 149_00, "Brugse Poort")
    assert (home().capacity, home().source_seen_on) == (2, date(2024, 12, 24))
    # Records without an id that look the same are different reviews.
    assert Review.objects.count() == 2 and counts(report, "reviews")["added"] == 2
    assert any("capacity is guessed" in warning for warning in report.warnings)
    assert ghent(directory).changed == 0


def test_of_the_detailed_and_the_short_file_the_detailed_one_is_read(tmp_path: Path, ghent: Importer) -> None:
    directory = export(tmp_path / "a", [listing(name="Detailed")], reviews=[REVIEW])
    write(directory / "listings.csv", text_of([{**LISTING, "name": "Short"}], SUMMARY_LISTING))
    write(directory / "reviews_summary.csv", text_of([REVIEW] * 3, ("listing_id", "date")))
    ghent(directory)
    assert home().title == "Detailed" and Review.objects.count() == 1


def test_the_columns_of_2016(tmp_path: Path, ghent: Importer) -> None:
    row = {
        **{name: value for name, value in LISTING.items() if name not in {"description", "bathrooms_text"}},
        "summary": "Old text",
        "bathrooms": "2.5",
        "amenities": '{TV,"Cable TV"}',
        "review_scores_rating": "95",
        "cleaning_fee": "$40.00",
        "extra_people": "$15.00",
        "guests_included": "2",
        "cancellation_policy": "strict_14_with_grace_period",
    }
    directory = export(tmp_path / "a", [row], columns=tuple(row))
    calendar = [
        {"listing_id": KEY, "date": day(0), "available": "t", "price": "$85.00"},
        {"listing_id": KEY, "date": day(1), "available": "f", "price": ""},
    ]
    write(directory / "calendar.csv", text_of(calendar, ("listing_id", "date", "available", "price")), packed=True)
    ghent(directory)
    found = home()
    assert (found.description, found.amenities, str(found.bathrooms)) == ("Old text", ["TV", "Cable TV"], "2.5")
    assert (found.cleaning_fee, found.extra_guest_fee, found.included_guests) == (40_00, 15_00, 2)
    assert (found.cancellation_tier, found.rating_sum) == ("firm", 57)
    assert blocks() == [(day(1), day(2))] and overrides() == []


def test_plain_files_with_a_byte_order_mark_and_windows_line_ends(tmp_path: Path, ghent: Importer) -> None:
    directory = export(tmp_path / "a", calendar=nights(taken="tf"), packed=False)
    for path in directory.iterdir():
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"))
    ghent(directory)
    assert blocks() == [(day(1), day(2))]


def test_without_a_calendar_and_reviews_what_the_desk_has_of_them_stays(tmp_path: Path, ghent: Importer) -> None:
    ghent(export(tmp_path / "a", calendar=nights(taken="ff"), reviews=[REVIEW]))
    report = ghent(export(tmp_path / "b", [listing(last_scraped="2025-03-01")]))
    assert blocks() == [(day(0), day(2))] and Review.objects.get().retired_on is None
    assert len(report.warnings) == 2


# On record ------------------------------------------------------------------------------------------------------------


def test_a_dry_run_says_what_would_be_and_leaves_no_trace(tmp_path: Path, ghent: Importer) -> None:
    before = everything()
    report = ghent(export(tmp_path / "a", calendar=nights(taken="tf"), reviews=[REVIEW]), dry_run=True)
    assert report.dry_run and counts(report, "listings")["added"] == 1 and counts(report, "blocks")["added"] == 1
    assert everything() == before and not JobRun.objects.exists()


def test_one_audit_entry_tells_the_counts(tmp_path: Path, ghent: Importer) -> None:
    ghent(export(tmp_path / "a", calendar=nights(taken="tf"), reviews=[REVIEW]))
    entry = AuditEntry.objects.get()
    assert (entry.verb, entry.object_kind, entry.object_id) == (JOB, "import", "inside-airbnb:ghent:2025-01-05")
    assert entry.after["counts"]["listings"]["added"] == 1 and entry.after["currency"] == "EUR"


def test_who_may_not_run_jobs_may_not_load(tmp_path: Path, ghent: Importer) -> None:
    with pytest.raises(NotAllowed):
        ghent(export(tmp_path / "a"), actor=factories.acting(factories.person(is_host=True)))


def test_two_at_once_are_one(tmp_path: Path, ghent: Importer) -> None:
    directory = export(tmp_path / "a")
    with jobs.running(name=JOB, scope="ghent", actor=system("other"), now=NOW):
        with pytest.raises(Locked):
            ghent(directory)
        assert ghent(directory, city="Bruges").changed > 0  # another city is another matter


def test_what_is_loaded_can_be_booked_at_the_nights_own_price(tmp_path: Path, ghent: Importer) -> None:
    soon = factories.NOW.date() + timedelta(days=10)
    ghent(export(tmp_path / "a", calendar=nights(since=soon, taken="tttf", price="$100.00")))
    quote = factories.quote(home(), factories.person(), check_in=soon)
    assert quote.host_price == 3 * 100_00
    with pytest.raises(NightsTaken):
        factories.quote(home(), factories.person(), check_in=soon + timedelta(days=2))
