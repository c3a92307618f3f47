"""The files of an export as a stream of records: which file is which, plain or gzip, detailed or summary, old or new.

Nothing here holds more than a record at a time, so a file of any size is read in the same memory.
"""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, ClassVar, Final, Literal, cast

from backoffice.core.errors import StaydeskError

Kind = Literal["listings", "calendar", "reviews"]
Progress = Callable[[str, int], None]

_GZIP_MAGIC: Final = b"\x1f\x8b"
_STEP: Final = 2_000


class UnusableExport(StaydeskError):
    """The directory is not an export that can be loaded; the sentence names the file and the remedy."""

    code: ClassVar[str] = "unusable_export"
    sentence: ClassVar[str] = "{file}: not an Inside Airbnb export."


@dataclass(frozen=True, slots=True)
class Layout:
    """One column set: what it is recognised by, and what it must have besides."""

    name: Literal["detailed", "summary"]
    marks: frozenset[str]
    needs: tuple[str, ...]


_SUMMARY_LISTING = (
    "id",
    "name",
    "host_id",
    "host_name",
    "latitude",
    "longitude",
    "room_type",
    "price",
    "minimum_nights",
)
_LAYOUTS: Final[dict[Kind, tuple[Layout, ...]]] = {
    "listings": (
        Layout(
            "detailed",
            frozenset({"listing_url", "scrape_id", "amenities", "accommodates"}),
            (*_SUMMARY_LISTING, "accommodates", "maximum_nights", "last_scraped"),
        ),
        Layout("summary", frozenset(), _SUMMARY_LISTING),
    ),
    "calendar": (Layout("detailed", frozenset(), ("listing_id", "date", "available", "price")),),
    "reviews": (
        Layout(
            "detailed",
            frozenset({"comments", "reviewer_id", "reviewer_name"}),
            ("listing_id", "id", "date", "comments"),
        ),
        Layout("summary", frozenset(), ("listing_id", "date")),
    ),
}
# The publisher calls both column sets listings.csv and reviews.csv; collections rename the short ones.
_NAMES: Final[dict[Kind, tuple[str, ...]]] = {
    "listings": ("listings.csv", "listings_detailed.csv", "listings_summary.csv", "AB_*.csv"),
    "calendar": ("calendar.csv", "calendar_detailed.csv"),
    "reviews": ("reviews.csv", "reviews_detailed.csv", "reviews_summary.csv"),
}


@dataclass(frozen=True, slots=True)
class Record:
    """One record; `number` counts from 1 after the header, since line numbers mean nothing with newlines in fields.

    `fault` says why it cannot be read as fields; the fields are then what could be had."""

    number: int
    fields: Sequence[str]
    fault: str = ""


@dataclass(frozen=True, slots=True)
class Source:
    """One file of an export, with its columns."""

    kind: Kind
    path: Path
    layout: Literal["detailed", "summary"]
    columns: tuple[str, ...]

    def index(self, column: str) -> int | None:
        return self.columns.index(column) if column in self.columns else None

    @property
    def size(self) -> int:
        """Bytes on disk, for progress."""
        return self.path.stat().st_size

    def records(self, progress: Progress) -> Iterator[Record]:
        """Every record after the header. Raises UnusableExport when the file is damaged."""
        for number, fields, fault in self.rows(progress):
            yield Record(number, fields, fault)

    def rows(self, progress: Progress) -> Iterator[tuple[int, list[str], str]]:
        """What `records` yields, as bare tuples: a calendar has millions of them."""
        width = len(self.columns)
        with self.path.open("rb") as raw:
            reader = csv.reader(_text(raw), strict=True)
            number, told = 0, 0
            try:
                next(reader)
                while True:
                    fault = ""
                    try:
                        row = next(reader)
                    except StopIteration:
                        break
                    except csv.Error as error:
                        if "unexpected end of data" in str(error):
                            raise
                        row, fault = [], "malformed"
                    if not row and not fault:
                        continue
                    number += 1
                    if len(row) != width:
                        fault = fault or "wrong_number_of_fields"
                    yield number, row, fault
                    if number % _STEP == 0:
                        position = raw.tell()
                        progress(self.kind, position - told)
                        told = position
            except (EOFError, zlib.error, gzip.BadGzipFile, csv.Error) as error:
                raise _damaged(self.path, error, number) from None
            progress(self.kind, self.size - told)


@dataclass(frozen=True, slots=True)
class Export:
    """The files of one snapshot of one city. Calendar and reviews may be absent."""

    directory: Path
    listings: Source
    calendar: Source | None
    reviews: Source | None

    @property
    def size(self) -> int:
        return sum(source.size for source in (self.listings, self.calendar, self.reviews) if source)


def find(directory: Path) -> Export:
    """Recognise the files of an export by name and header. Raises UnusableExport naming what is missing."""
    listings = _find(directory, "listings")
    if listings is None:
        raise UnusableExport(
            f"{directory}: there is no listings.csv or listings.csv.gz here; this is not an Inside Airbnb export."
        )
    return Export(directory, listings, _find(directory, "calendar"), _find(directory, "reviews"))


def _find(directory: Path, kind: Kind) -> Source | None:
    """The file of that kind; of several the one with the most to say."""
    found = [
        _recognise(path, kind)
        for name in _NAMES[kind]
        for pattern in (f"{name}.gz", name)
        for path in sorted(directory.glob(pattern))
        if path.is_file()
    ]
    return min(found, key=lambda source: source.layout) if found else None


def _recognise(path: Path, kind: Kind) -> Source:
    columns = _header(path)
    layout = next(layout for layout in _LAYOUTS[kind] if not layout.marks or layout.marks & set(columns))
    missing = [name for name in layout.needs if name not in columns]
    if len(missing) == len(layout.needs):
        raise UnusableExport(f"{path}: not the {kind} of an Inside Airbnb export; none of its columns is there.")
    if missing:
        noun = "column" if len(missing) == 1 else "columns"
        raise UnusableExport(f"{path}: the {noun} {', '.join(missing)} is missing; download the {kind} file again.")
    return Source(kind, path, layout.name, columns)


def _header(path: Path) -> tuple[str, ...]:
    with path.open("rb") as raw:
        try:
            return tuple(name.strip() for name in next(csv.reader(_text(raw), strict=True), []))
        except (EOFError, zlib.error, gzip.BadGzipFile, csv.Error) as error:
            raise _damaged(path, error, 0) from None


def _text(raw: BinaryIO) -> io.TextIOWrapper:
    """The file as text. Compression is told by its first bytes, not by its name; bytes that are not UTF-8 come through
    as lone surrogates, so that the one record that has them can be refused."""
    magic = raw.read(2)
    raw.seek(0)
    stream = cast(BinaryIO, gzip.GzipFile(fileobj=raw, mode="rb")) if magic == _GZIP_MAGIC else raw
    return io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape", newline="")


def _damaged(path: Path, error: BaseException, number: int) -> UnusableExport:
    where = f"after record {number}" if number else "at its beginning"
    cut = isinstance(error, EOFError) or "unexpected end" in str(error)
    what = "ends too early (cut off?)" if cut else f"is damaged ({error})"
    return UnusableExport(f"{path}: {what} {where}; download it again. Nothing was changed.")
