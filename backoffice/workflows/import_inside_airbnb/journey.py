"""Load one snapshot of a city into the desk: read and clean it, then merge it, in one transaction."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, cast

from django.db import connection, transaction
from psycopg import Connection, Cursor

from backoffice.audit import operations as audit
from backoffice.core.actor import Actor
from backoffice.core.errors import Conflict, Invalid
from backoffice.core.money import Money, is_currency
from backoffice.jobs import operations as jobs
from backoffice.rulebook import queries as rulebook
from backoffice.workflows.import_inside_airbnb import cleaning, merging, reading, staging
from backoffice.workflows.import_inside_airbnb.counting import Rejects, Tally
from backoffice.workflows.import_inside_airbnb.places import Place, place
from backoffice.workflows.import_inside_airbnb.reading import Export, Progress

JOB = "seed.inside-airbnb"


@dataclass(frozen=True, slots=True)
class Request:
    """What to load. `rejects` is the file for records that cannot be; `keep_names` keeps real names and texts."""

    directory: Path
    city: str
    currency: str
    rejects: Path
    country: str | None = None
    time_zone: str | None = None
    keep_names: bool = False
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class Report:
    """What an import did, or with `dry_run` would have done."""

    place: Place
    currency: str
    seen_on: date
    dry_run: bool
    tallies: tuple[Tally, ...]
    rejects: Path | None
    warnings: tuple[str, ...]

    @property
    def changed(self) -> int:
        """Rows of the desk that are not as they were; 0 when the snapshot was there already."""
        return sum(tally.changed for tally in self.tallies)

    def counts(self) -> dict[str, dict[str, Any]]:
        return {
            tally.kind: {name: value for name, value in tally.as_row().items() if name != "kind"}
            for tally in self.tallies
        }


def quiet(kind: str, steps: int) -> None:
    """A progress that tells nobody."""


def size(directory: Path) -> int:
    """How many bytes `load` reads from a directory: the whole of its progress. Raises UnusableExport."""
    return reading.find(directory).size


def load(*, request: Request, actor: Actor, now: datetime, progress: Progress = quiet) -> Report:
    """Load a snapshot of a city: all of it or nothing.

    Running it again changes nothing; a newer snapshot updates, adds and retires, and deletes no home, block, booking or
    review. `progress(kind, bytes)` is called as the files are read. Raises UnusableExport for a directory that is not
    one, or is damaged; Invalid naming an option; Conflict when the desk has a newer snapshot or another currency;
    Locked when the same city is being loaded."""
    actor.must("jobs.run")
    where = place(city=request.city, country=request.country, time_zone=request.time_zone)
    if not is_currency(request.currency):
        raise Invalid("--currency: write three capital letters such as SGD.", field="currency")
    export = reading.find(request.directory)
    with _recorded(request, where, actor, now) as run, _rejects(request) as rejects:
        report = _load(export, where, request, rejects, actor, now, progress)
        if run is not None:
            run.count(**{tally.kind: tally.changed for tally in report.tallies})
            if report.changed:
                _refresh_statistics()
    return report


def _refresh_statistics() -> None:
    """A city at once changes what the planner should know; waiting for autovacuum would make search guess till then."""
    with connection.cursor() as cursor:
        cursor.execute(f"ANALYZE {', '.join(merging.WRITTEN)}")


@contextmanager
def _rejects(request: Request) -> Iterator[Rejects]:
    """The rejects file: in its place once the import stands, gone when it failed."""
    rejects = Rejects(request.rejects, keep_personal=request.keep_names)
    try:
        yield rejects
    except BaseException:
        rejects.discard()
        raise
    rejects.keep()


def _recorded(request: Request, where: Place, actor: Actor, now: datetime) -> AbstractContextManager[jobs.Run | None]:
    """The job run, which also keeps a second import of the city out; a dry run leaves no trace."""
    if request.dry_run:
        return nullcontext()
    return jobs.running(name=JOB, scope=where.slug, actor=actor, now=now)


def _load(
    export: Export, where: Place, request: Request, rejects: Rejects, actor: Actor, now: datetime, progress: Progress
) -> Report:
    terms = staging.Terms(where, request.currency, request.keep_names, _sentinel_from(request.currency, now))
    with transaction.atomic(), _cursor() as cursor:
        staging.create_tables(cursor)
        tallies, seen_on = _stage(cursor, export, terms, rejects, progress)
        snapshot = merging.Snapshot(where, request.currency, seen_on, now)
        _check_city(cursor, snapshot)
        report = Report(
            place=where,
            currency=request.currency,
            seen_on=seen_on,
            dry_run=request.dry_run,
            tallies=tuple(_merge(cursor, snapshot, tallies)),
            rejects=request.rejects if rejects.count else None,
            warnings=tuple(_warnings(export, tallies)),
        )
        staging.drop_tables(cursor)
        if request.dry_run:
            transaction.set_rollback(True)
        elif report.changed:
            audit.record(
                actor=actor,
                verb=JOB,
                kind="import",
                id=f"{snapshot.tag}:{seen_on.isoformat()}",
                after={"currency": request.currency, "names_kept": request.keep_names, "counts": report.counts()},
                now=now,
            )
    return report


def _stage(
    cursor: Cursor[Any], export: Export, terms: staging.Terms, rejects: Rejects, progress: Progress
) -> tuple[dict[str, Tally], date]:
    listing_tally, seen_on = staging.stage_listings(
        cursor, export.listings, terms=terms, rejects=rejects, progress=progress
    )
    if not listing_tally.loaded:
        raise reading.UnusableExport(
            f"{export.listings.path}: holds no home that can be loaded ({listing_tally.read} read). Nothing was changed."
        )
    tallies = {"listings": listing_tally}
    if export.calendar:
        tallies["calendar"] = staging.stage_calendar(
            cursor, export.calendar, terms=terms, rejects=rejects, progress=progress
        )
    if export.reviews:
        tallies["reviews"] = staging.stage_reviews(
            cursor, export.reviews, terms=terms, rejects=rejects, progress=progress
        )
    return tallies, seen_on or _written_on(export.listings.path)


def _merge(cursor: Cursor[Any], snapshot: merging.Snapshot, tallies: dict[str, Tally]) -> Iterator[Tally]:
    """Merge in the house's lock order (people, then homes, then nights), giving each kind's counts."""
    values = snapshot.values()
    hosts = merging.merge_hosts(cursor, values)
    merging.lock_listings(cursor, values)
    merging.merge_listings(cursor, values, tallies["listings"])
    yield tallies["listings"]
    yield hosts
    if "calendar" in tallies:
        yield tallies["calendar"]
        yield merging.merge_blocks(cursor, values)
        yield merging.merge_night_prices(cursor, values)
    if "reviews" in tallies:
        merging.merge_reviews(cursor, values, tallies["reviews"])
        yield tallies["reviews"]


def _check_city(cursor: Cursor[Any], snapshot: merging.Snapshot) -> None:
    """An older snapshot must not undo a newer one, and a city does not change its currency."""
    seen_on, currency = merging.known(cursor, snapshot.values())
    name = snapshot.place.name
    if seen_on is not None and seen_on > snapshot.seen_on:
        raise Conflict(f"The desk has {name} as of {seen_on}; this export is older, of {snapshot.seen_on}.")
    if currency not in (None, snapshot.currency):
        raise Conflict(f"--currency: the homes of {name} are in {currency}, not {snapshot.currency}.")


def _warnings(export: Export, tallies: dict[str, Tally]) -> Iterator[str]:
    if export.listings.layout == "summary":
        yield "These are the short columns of listings: capacity is guessed, and descriptions and amenities are missing."
    for kind, source in (("calendar", export.calendar), ("reviews", export.reviews)):
        if source is None:
            yield f"There is no {kind} file here: what the desk has of it stays as it was."
    for kind, tally in tallies.items():
        if tally.rejected:
            yield f"{tally.rejected.total()} of {tally.read} {kind} records were rejected."


def _sentinel_from(currency: str, now: datetime) -> int | None:
    """From which amount a round price is a refusal, in minor units; None for a currency without a reference rate."""
    try:
        rate = rulebook.rate(base="EUR", quote=currency, on=now.date())
    except Invalid:
        return None
    return rate.convert(Money(cleaning.SENTINEL_FROM_EUR * 100, "EUR")).amount


def _written_on(path: Path) -> date:
    """The day of a file whose records say none."""
    return datetime.fromtimestamp(path.stat().st_mtime, UTC).date()


@contextmanager
def _cursor() -> Iterator[Cursor[Any]]:
    """A cursor of the driver on Django's own connection and transaction: COPY and row streaming are not in Django's."""
    connection.ensure_connection()
    driver = cast(Connection[Any], connection.connection)
    with driver.cursor() as cursor:
        cursor.execute("SET LOCAL work_mem = '64MB'")
        yield cursor
