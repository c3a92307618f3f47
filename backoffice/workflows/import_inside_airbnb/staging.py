"""From the files to temporary tables: each record read once, cleaned, and copied in.

A calendar is folded while it streams past: nights that follow one another with the same terms become one run, so that
1.3 million records are copied as a hundred thousand rows. What can only be seen across records (an id twice, a night
of a home that is not there) is found in the database afterwards; no set of ids is kept in memory."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from operator import itemgetter
from typing import Any, Final

from psycopg import Copy, Cursor

from backoffice.core.fields import new_code
from backoffice.listings.states import CANCELLATION_TIERS
from backoffice.workflows.import_inside_airbnb import cleaning, masking
from backoffice.workflows.import_inside_airbnb.cleaning import Unreadable
from backoffice.workflows.import_inside_airbnb.counting import Rejects, Tally
from backoffice.workflows.import_inside_airbnb.places import Place
from backoffice.workflows.import_inside_airbnb.reading import Progress, Source

# What the import owns on a listing: these follow the snapshot, everything else is the desk's.
LISTING_COLUMNS: Final[dict[str, str]] = {
    "title": "text",
    "description": "text",
    "property_type": "text",
    "room_type": "text",
    "neighbourhood": "text",
    "city": "text",
    "country": "text",
    "latitude": "double precision",
    "longitude": "double precision",
    "time_zone": "text",
    "capacity": "smallint",
    "bedrooms": "smallint",
    "beds": "smallint",
    "bathrooms": "numeric(4,1)",
    "amenities": "varchar(120)[]",
    "currency": "text",
    "nightly_price": "bigint",
    "cleaning_fee": "bigint",
    "extra_guest_fee": "bigint",
    "included_guests": "smallint",
    "minimum_nights": "integer",
    "maximum_nights": "integer",
    "cancellation_tier": "text",
    "registration_number": "text",
    "rating_count": "integer",
    "rating_sum": "integer",
}
_HOST_COLUMNS: Final = {"host_id": "bigint", "host_name": "text", "host_since": "timestamptz", "host_code": "text"}
_STAGED_LISTING: Final = {"record": "bigint", "id": "bigint", "code": "text", **_HOST_COLUMNS, **LISTING_COLUMNS}
_STAGED_RUN: Final = {
    "record": "bigint",
    "listing_id": "bigint",
    "nights": "daterange",
    "blocked": "boolean",
    "price": "bigint",
    "minimum_nights": "integer",
    "maximum_nights": "integer",
}
_STAGED_REVIEW: Final = {
    "record": "bigint",
    "id": "bigint",
    "listing_id": "bigint",
    "author": "text",
    "written_on": "date",
    "text": "text",
}
TABLES: Final[dict[str, dict[str, str]]] = {
    "staged_listing": _STAGED_LISTING,
    "staged_run": _STAGED_RUN,
    "staged_review": _STAGED_REVIEW,
    "refused_listing": {"id": "bigint"},
}

# What the statements here and in `merging` make of them.
_DERIVED: Final = (
    "lost_run",
    "staged_night",
    "staged_host",
    "previous",
    "wanted",
    "listing_key",
    "wanted_block",
    "wanted_override",
    "wanted_review",
)
_TWICE: Final = (
    "DELETE FROM {table} later USING {table} first WHERE later.id = first.id AND later.record > first.record"
    " RETURNING later.record, later.id"
)

# How reading marks a byte that is not UTF-8.
_NOT_UTF8: Final = re.compile("[\udc80-\udcff]")
# Summaries do not say how many people a home takes.
_GUESSED_CAPACITY: Final = 2
_SMALLEST: Final = 32_767


@dataclass(frozen=True, slots=True)
class Terms:
    """How to read an export: what it does not say itself."""

    place: Place
    currency: str
    keep_names: bool
    sentinel_from: int | None


def create_tables(cursor: Cursor[Any]) -> None:
    """The temporary tables of this transaction; they are gone when it ends."""
    for name, columns in TABLES.items():
        cursor.execute(f"CREATE TEMPORARY TABLE {name} ({_defined(columns)}) ON COMMIT DROP")


def drop_tables(cursor: Cursor[Any]) -> None:
    """Give back what they take now: the caller may be part of a longer transaction."""
    cursor.execute("DROP TABLE IF EXISTS " + ", ".join(f"pg_temp.{name}" for name in (*TABLES, *_DERIVED)))


def _defined(columns: dict[str, str]) -> str:
    return ", ".join(f"{name} {kind}" for name, kind in columns.items())


def copy_into(table: str) -> str:
    return f"COPY {table} ({', '.join(TABLES[table])}) FROM STDIN"


# Listings -------------------------------------------------------------------------------------------------------------


def stage_listings(
    cursor: Cursor[Any], source: Source, *, terms: Terms, rejects: Rejects, progress: Progress
) -> tuple[Tally, date | None]:
    """Copy the homes in; returns the counts and the day of the snapshot (the latest day on which a home was seen)."""
    tally = Tally("listings")
    seen_on: date | None = None
    fields = _Fields(source)
    with cursor.copy(copy_into("staged_listing")) as copy:
        for number, row, fault in source.rows(progress):
            tally.read += 1
            fields.row = row
            try:
                _check(row, fault)
                copy.write_row(_listing(number, fields, terms, tally.adjusted))
                seen_on = max(filter(None, (seen_on, _seen_on(fields))), default=None)
            except Unreadable as reason:
                tally.rejected[str(reason)] += 1
                key = fields.get("id") if not fault else ""
                rejects.add(
                    kind="listings", record=number, key=key, reason=str(reason), columns=source.columns, row=row
                )
                if key.isascii() and key.isdigit() and int(key) < 2**63:
                    # Its id alone: a home that cannot be read is not a home that is gone.
                    copy.write_row((number, int(key), *[None] * (len(_STAGED_LISTING) - 2)))
    cursor.execute("INSERT INTO refused_listing SELECT id FROM staged_listing WHERE host_id IS NULL")
    cursor.execute("DELETE FROM staged_listing WHERE host_id IS NULL")
    cursor.execute("CREATE INDEX ON staged_listing (id)")
    cursor.execute("ANALYZE staged_listing")
    _drop(
        cursor, _TWICE.format(table="staged_listing"), kind="listings", reason="id_twice", tally=tally, rejects=rejects
    )
    return tally, seen_on


class _Fields:
    """The fields of the present record by column; a column that this layout lacks is empty."""

    def __init__(self, source: Source) -> None:
        self._index = {name: position for position, name in enumerate(source.columns)}
        self.layout = source.layout
        self.row: Sequence[str] = ()

    def get(self, column: str) -> str:
        position = self._index.get(column)
        return self.row[position] if position is not None else ""


def _check(row: Sequence[str], fault: str) -> None:
    if fault:
        raise Unreadable(fault)
    text = "".join(row)
    if not text.isascii() and _NOT_UTF8.search(text):
        raise Unreadable("not_utf8")


def _seen_on(fields: _Fields) -> date | None:
    """When the home was seen; a summary says at least when it was last reviewed."""
    try:
        return cleaning.day(fields.get("last_scraped") or fields.get("last_review"))
    except Unreadable:
        return None


def _listing(number: int, fields: _Fields, terms: Terms, adjusted: Counter[str]) -> tuple[Any, ...]:
    get = fields.get
    key = cleaning.identifier(get("id"))
    host_key = _named("host_id", cleaning.identifier, get("host_id"))
    room_type = cleaning.ROOM_TYPES.get(get("room_type").strip().lower())
    if room_type is None:
        raise Unreadable("room_type")
    latitude, longitude = _coordinate(get("latitude"), 90), _coordinate(get("longitude"), 180)
    real_name = cleaning.line(get("host_name"), 120)
    host_name = (terms.keep_names and real_name) or masking.person(host_key)
    neighbourhood = cleaning.line(get("neighbourhood_cleansed") or get("neighbourhood"), 120)
    capacity = _capacity(fields, adjusted)
    minimum, maximum = _bounds(fields, adjusted)
    rating_count, rating_sum = cleaning.rating(get("review_scores_rating"), get("number_of_reviews"))

    def shown(text: str) -> str:
        return text if terms.keep_names else masking.without_name(masking.without_contacts(text), real_name, host_name)

    return (
        number,
        key,
        new_code("LS", 10),
        host_key,
        host_name,
        _since(get("host_since")),
        new_code("PN", 10),
        _title(shown(cleaning.line(get("name"), 300)), get("room_type"), neighbourhood or terms.place.name, adjusted),
        shown(cleaning.clean(get("description") or get("summary"))),
        cleaning.line(get("property_type"), 120),
        room_type,
        neighbourhood,
        terms.place.name,
        terms.place.country,
        latitude,
        longitude,
        terms.place.time_zone,
        capacity,
        _small(get("bedrooms")),
        _small(get("beds")),
        cleaning.bathrooms(get("bathrooms_text"), get("bathrooms")),
        cleaning.amenities(get("amenities")),
        terms.currency,
        _amount(get("price"), terms, adjusted),
        _amount(get("cleaning_fee"), terms, Counter()) or 0,
        _amount(get("extra_people"), terms, Counter()) or 0,
        min(max(_small(get("guests_included")) or 1, 1), capacity),
        minimum,
        maximum,
        _tier(get("cancellation_policy"), key),
        cleaning.line(get("license"), 200),
        rating_count,
        rating_sum,
    )


def _named(reason: str, parse: Callable[[str], int], text: str) -> int:
    try:
        return parse(text)
    except Unreadable:
        raise Unreadable(reason) from None


def _coordinate(text: str, most: int) -> float:
    text = text.strip()
    if not re.fullmatch(r"-?\d{1,3}(\.\d{1,20})?", text, re.ASCII) or abs(float(text)) > most:
        raise Unreadable("coordinates")
    return float(text)


def _capacity(fields: _Fields, adjusted: Counter[str]) -> int:
    if fields.layout == "summary":
        adjusted["capacity_guessed"] += 1
        return _GUESSED_CAPACITY
    try:
        capacity = cleaning.number(fields.get("accommodates"))
    except Unreadable:
        capacity = None
    if not capacity or capacity > _SMALLEST:
        raise Unreadable("capacity")
    return capacity


def _bounds(fields: _Fields, adjusted: Counter[str]) -> tuple[int, int]:
    """The home's own shortest and longest stay. Where they contradict each other the shortest stands."""
    try:
        read = cleaning.number(fields.get("minimum_nights")), cleaning.number(fields.get("maximum_nights"))
    except Unreadable:
        adjusted["bounds_unreadable"] += 1
        read = None, None
    if (read[1] or 0) > cleaning.LONGEST_STAY:
        adjusted["maximum_nights_capped"] += 1
    shortest, longest = cleaning.stay_bounds(*read)
    shortest, longest = shortest or 1, longest or cleaning.LONGEST_STAY
    if shortest > longest:
        adjusted["bounds_contradict"] += 1
        longest = shortest
    return shortest, longest


def _title(name: str, room_type: str, where: str, adjusted: Counter[str]) -> str:
    if name:
        return name
    adjusted["title_empty"] += 1
    return cleaning.line(f"{room_type} in {where}", 300)


def _small(text: str) -> int | None:
    try:
        value = cleaning.number(text)
    except Unreadable:
        return None
    return value if value is None or value <= _SMALLEST else None


def _amount(text: str, terms: Terms, adjusted: Counter[str]) -> int | None:
    found = cleaning.price(text, terms.currency, terms.sentinel_from)
    if found.reason:
        adjusted[found.reason] += 1
    elif found.amount is None:
        adjusted["price_missing"] += 1
    return found.amount


def _tier(policy: str, key: int) -> str:
    tier = cleaning.TIERS.get(policy.strip().lower(), "")
    return tier if tier in CANCELLATION_TIERS else masking.cancellation_tier(key)


def _since(text: str) -> datetime | None:
    try:
        return datetime.combine(cleaning.day(text), time(), UTC)
    except Unreadable:
        return None


# Calendar -------------------------------------------------------------------------------------------------------------


def stage_calendar(cursor: Cursor[Any], source: Source, *, terms: Terms, rejects: Rejects, progress: Progress) -> Tally:
    """Copy the nights in, folded into runs."""
    tally = Tally("calendar")
    with cursor.copy(copy_into("staged_run")) as copy:
        fold = _Fold(copy, source, terms, tally, rejects)
        fold.all(progress)
    cursor.execute("CREATE INDEX ON staged_run (listing_id)")
    cursor.execute("ANALYZE staged_run")
    _reject_nights_of_no_listing(cursor, tally, rejects)
    _reject_nights_told_twice(cursor, tally, rejects)
    return tally


class _Fold:
    """Folds consecutive records of one home, whose dates follow one another and whose terms are the same."""

    def __init__(self, copy: Copy, source: Source, terms: Terms, tally: Tally, rejects: Rejects) -> None:
        self._copy, self._source, self._tally, self._rejects = copy, source, tally, rejects
        wanted = ("listing_id", "available", "price", "adjusted_price", "minimum_nights", "maximum_nights")
        self._names = [name for name in wanted if name in source.columns]
        self._get = itemgetter(*(source.columns.index(name) for name in self._names))
        self._day = source.columns.index("date")
        self._length = 0
        # Millions of records share few sets of terms.
        self._terms_of = lru_cache(maxsize=65_536)(lambda values: self._parse(values, terms))

    def all(self, progress: Progress) -> None:
        get, position = self._get, self._day
        same: tuple[str, ...] = ()
        first = following = ""
        number = begun = 0
        for number, row, fault in self._source.rows(progress):
            if fault:
                self._tally.rejected[fault] += 1
                self._rejects.add(
                    kind="calendar", record=number, key="", reason=fault, columns=self._source.columns, row=row
                )
                continue
            values, day = get(row), row[position]
            # A refused record in between must not count as one of the run.
            if values == same and day == following and number == begun + 1:
                begun, following = number, cleaning.day_after(day)
                self._length += 1
                continue
            if same:
                self._flush(begun - self._length + 1, same, first)
            same, first, begun, following = values, day, number, cleaning.day_after(day)
            self._length = 1
        if same:
            self._flush(begun - self._length + 1, same, first)
        self._tally.read = number

    def _flush(self, record: int, values: tuple[str, ...], first: str) -> None:
        try:
            listing_id = _named("listing_id", cleaning.identifier, values[0])
            start = cleaning.day(first)
            blocked, price, minimum, maximum, adjusted = self._terms_of(values[1:])
        except Unreadable as reason:
            self._refuse(record, values, first, str(reason))
            return
        if adjusted:
            self._tally.adjusted[adjusted] += self._length
        nights = f"[{start},{start + timedelta(days=self._length)})"
        self._copy.write_row((record, listing_id, nights, blocked, price, minimum, maximum))

    def _refuse(self, record: int, values: tuple[str, ...], first: str, reason: str) -> None:
        day = first
        for offset in range(self._length):
            self._tally.rejected[reason] += 1
            self._rejects.add(
                kind="calendar",
                record=record + offset,
                key=values[0],
                reason=reason,
                columns=("listing_id", "date", *self._names[1:]),
                row=(values[0], day, *values[1:]),
            )
            day = cleaning.day_after(day)

    def _parse(self, values: tuple[str, ...], terms: Terms) -> tuple[bool, int | None, int | None, int | None, str]:
        """(blocked, price, minimum, maximum, what was adjusted) of one set of terms."""
        text = dict(zip(self._names[1:], values, strict=True))
        available = {"t": True, "true": True, "f": False, "false": False}.get(text["available"].strip().lower())
        if available is None:
            raise Unreadable("available")
        # The adjusted price is what a guest would have been asked that day; exports since 2024 leave it empty.
        printed = text.get("adjusted_price") or text["price"]
        found = cleaning.price(printed, terms.currency, terms.sentinel_from)
        if found.reason == "price_unreadable":
            raise Unreadable("price_unreadable")
        adjusted = found.reason
        try:
            read = cleaning.number(text.get("minimum_nights", "")), cleaning.number(text.get("maximum_nights", ""))
        except Unreadable:
            raise Unreadable("bounds_unreadable") from None
        minimum, maximum = cleaning.stay_bounds(*read)
        if minimum and maximum and minimum > maximum:
            minimum = maximum = None
            adjusted = adjusted or "bounds_contradict"
        # A price that means "do not book" must not turn into the home's ordinary price: the night is blocked instead.
        refused = bool(found.reason)
        return not available or refused, found.amount, minimum, maximum, adjusted


def _reject_nights_of_no_listing(cursor: Cursor[Any], tally: Tally, rejects: Rejects) -> None:
    cursor.execute("CREATE TEMPORARY TABLE lost_run ON COMMIT DROP AS SELECT * FROM staged_run WHERE false")
    cursor.execute(
        "WITH lost AS (DELETE FROM staged_run run WHERE NOT EXISTS"
        " (SELECT FROM staged_listing listing WHERE listing.id = run.listing_id) RETURNING *)"
        " INSERT INTO lost_run SELECT * FROM lost"
    )
    if not cursor.rowcount:
        return
    for record, key, night, refused in cursor.stream(
        "SELECT record + nth - 1, listing_id, night::date, listing_id IN (SELECT id FROM refused_listing)"
        " FROM lost_run, generate_series(lower(nights), upper(nights) - 1, interval '1 day')"
        " WITH ORDINALITY AS each(night, nth) ORDER BY record, nth"
    ):
        reason = "listing_rejected" if refused else "no_such_listing"
        tally.rejected[reason] += 1
        rejects.add(
            kind="calendar",
            record=record,
            key=str(key),
            reason=reason,
            columns=("listing_id", "date"),
            row=(str(key), str(night)),
        )


def _reject_nights_told_twice(cursor: Cursor[Any], tally: Tally, rejects: Rejects) -> None:
    """Of two records for one night of one home the first counts. Only homes that have such nights are unfolded."""
    cursor.execute(
        "CREATE TEMPORARY TABLE staged_night ON COMMIT DROP AS"
        " SELECT run.record + nth - 1 AS record, listing_id, night::date AS night, blocked, price, minimum_nights,"
        " maximum_nights FROM staged_run run, generate_series(lower(nights), upper(nights) - 1, interval '1 day')"
        " WITH ORDINALITY AS each(night, nth) WHERE listing_id IN (SELECT listing_id FROM ("
        "  SELECT listing_id, lower(nights) AS begins, max(upper(nights)) OVER (PARTITION BY listing_id"
        "  ORDER BY lower(nights), record ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS so_far FROM staged_run"
        " ) ordered WHERE begins < so_far)"
    )
    if not cursor.rowcount:
        return
    cursor.execute("CREATE INDEX ON staged_night (listing_id, night)")
    _drop(
        cursor,
        "DELETE FROM staged_night later USING staged_night first WHERE later.listing_id = first.listing_id"
        " AND later.night = first.night AND later.record > first.record RETURNING later.record, later.listing_id",
        kind="calendar",
        reason="night_twice",
        tally=tally,
        rejects=rejects,
    )
    cursor.execute("DELETE FROM staged_run WHERE listing_id IN (SELECT listing_id FROM staged_night)")
    cursor.execute(
        "INSERT INTO staged_run SELECT record, listing_id, daterange(night, night + 1), blocked, price, minimum_nights,"
        " maximum_nights FROM staged_night"
    )


# Reviews --------------------------------------------------------------------------------------------------------------


def stage_reviews(cursor: Cursor[Any], source: Source, *, terms: Terms, rejects: Rejects, progress: Progress) -> Tally:
    """Copy the reviews in. Records of a summary have no id and are never taken for one another."""
    tally = Tally("reviews")
    fields = _Fields(source)
    with cursor.copy(copy_into("staged_review")) as copy:
        for number, row, fault in source.rows(progress):
            tally.read += 1
            fields.row = row
            try:
                _check(row, fault)
                if cleaning.is_cancellation_notice(fields.get("comments")):
                    tally.set_aside["cancellation_notice"] += 1
                    continue
                copy.write_row(_review(number, fields, terms))
            except Unreadable as reason:
                tally.rejected[str(reason)] += 1
                key = fields.get("id") if not fault else ""
                rejects.add(kind="reviews", record=number, key=key, reason=str(reason), columns=source.columns, row=row)
    cursor.execute("CREATE INDEX ON staged_review (id)")
    cursor.execute("ANALYZE staged_review")
    _drop(cursor, _TWICE.format(table="staged_review"), kind="reviews", reason="id_twice", tally=tally, rejects=rejects)
    for why, condition in (
        ("listing_rejected", "review.listing_id IN (SELECT id FROM refused_listing)"),
        ("no_such_listing", "true"),
    ):
        query = (
            "DELETE FROM staged_review review WHERE NOT EXISTS (SELECT FROM staged_listing listing"  # noqa: S608  # ours
            f" WHERE listing.id = review.listing_id) AND {condition} RETURNING record, coalesce(id, listing_id)"
        )
        _drop(cursor, query, kind="reviews", reason=why, tally=tally, rejects=rejects)
    return tally


def _review(number: int, fields: _Fields, terms: Terms) -> tuple[Any, ...]:
    key = cleaning.identifier(fields.get("id")) if fields.layout == "detailed" else None
    listing_id = _named("listing_id", cleaning.identifier, fields.get("listing_id"))
    written_on = cleaning.day(fields.get("date"))
    text = cleaning.clean(fields.get("comments"))
    if terms.keep_names:
        name = cleaning.line(fields.get("reviewer_name"), 120)
    else:
        writer = fields.get("reviewer_id")
        name = masking.author(int(writer)) if writer.isascii() and writer.isdigit() else ""
        text = masking.blurred(text)
    return number, key, listing_id, name, written_on, text


def _drop(cursor: Cursor[Any], delete: str, *, kind: str, reason: str, tally: Tally, rejects: Rejects) -> None:
    """Count and write down records that are found wanting only beside the others. `delete` returns record and id, of a
    record told three times more than once."""
    query = f"WITH gone(record, key) AS ({delete}) SELECT DISTINCT record, key FROM gone ORDER BY record"  # noqa: S608
    for record, key in cursor.stream(query):
        tally.rejected[reason] += 1
        rejects.add(kind=kind, record=record, key=str(key), reason=reason)
