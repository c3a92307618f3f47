"""The provider's reports as CSV: itemised balance change from activity, itemised payouts (columns: docs/stripe-fidelity.md).

Columns are found by their names. Amounts are decimals in major units; times are UTC where the column says so, and taken for
UTC where the report was asked for in no other time zone."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, TextIO

from backoffice.core.errors import Invalid
from backoffice.core.money import Money
from backoffice.payments.policies.seen import SeenBalanceTransaction

# The report of activity leaves these to the report of payouts.
PAYOUT_CATEGORIES: Final = ("payout", "payout_reversal")
_NEEDED: Final = ("balance_transaction_id", "currency", "gross", "fee", "net", "reporting_category")
_TIMES: Final = ("created_utc", "effective_at_utc", "created", "effective_at")
_LONGEST: Final = 60
_SOURCES: Final = ("source_id", "payout_id")


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """What the reports cover, as far as their rows tell: whole days in UTC."""

    since: datetime
    until: datetime


@dataclass(frozen=True, slots=True)
class Reports:
    """Some report files. They are read anew each time, row by row, so that a year of them fits into little memory."""

    paths: Sequence[Path]

    @property
    def left_out(self) -> tuple[str, ...]:
        """The categories that none of the files carries."""
        kinds = {_kind(path) for path in self.paths}
        activity = {"activity"} & kinds
        if not activity:
            raise Invalid(
                "file: give the report of activity (balance_change_from_activity.itemized), alone or with that of payouts.",
                field="file",
            )
        return () if "payouts" in kinds else PAYOUT_CATEGORIES

    def rows(self) -> Iterator[SeenBalanceTransaction]:
        """Every movement in the files. Raises Invalid (field `file`) naming file, line and what is wrong."""
        for path in self.paths:
            with _opened(path) as (reader, columns):
                for row in reader:
                    yield _movement(row, columns, f"{path.name}, line {reader.line_num}")

    def window(self) -> Window:
        """Whole days in UTC from the first movement to the last. Raises Invalid when there is none."""
        times = [row.created for row in self.rows()]
        if not times:
            raise Invalid("file: it holds no movement; say the window with --since and --until.", field="file")
        day = timedelta(days=1)
        return Window(since=_midnight(min(times)), until=_midnight(max(times)) + day)


@dataclass(frozen=True, slots=True)
class _Columns:
    time: str
    source: str


@contextmanager
def _opened(path: Path) -> Iterator[tuple[csv.DictReader[str], _Columns]]:
    with _text(path) as text:
        reader = csv.DictReader(text)
        try:
            yield reader, _columns(reader, path)
        except (UnicodeDecodeError, csv.Error) as error:
            where = f"{path.name}, after line {reader.line_num}"
            raise Invalid(f"file: {where}: it is not CSV in UTF-8 ({error}).", field="file") from None


def _columns(reader: csv.DictReader[str], path: Path) -> _Columns:
    there = set(reader.fieldnames or ())
    missing = [name for name in _NEEDED if name not in there]
    time = next((name for name in _TIMES if name in there), "")
    if missing or not time:
        said = missing[0] if missing else "created_utc"
        raise Invalid(f"file: {path.name} has no column {said}; ask for it in the report's columns.", field="file")
    return _Columns(time=time, source=next((name for name in _SOURCES if name in there), ""))


@contextmanager
def _text(path: Path) -> Iterator[TextIO]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as text:
            yield text
    except OSError as error:
        raise Invalid(f"file: {path} cannot be read: {error.strerror}.", field="file") from None


def _kind(path: Path) -> str:
    with _opened(path) as (_, columns):
        return "payouts" if columns.source == "payout_id" else "activity"


def _movement(row: Mapping[str, str], columns: _Columns, where: str) -> SeenBalanceTransaction:
    if None in row or None in row.values():
        raise Invalid(f"file: {where}: not as many columns as the first line names; is the file whole?", field="file")
    for name in (*_NEEDED, *filter(None, [columns.source])):
        if len(row[name]) > _LONGEST:
            raise Invalid(f"file: {where}: {name} is longer than {_LONGEST} characters.", field="file")
    try:
        currency = row["currency"].upper()
        amount, fee, net = (Money.parse(row[name], currency) for name in ("gross", "fee", "net"))
        created = datetime.strptime(row[columns.time], "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)
    except (ValueError, ArithmeticError) as error:
        raise Invalid(f"file: {where}: {error}", field="file") from None
    if amount - fee != net:
        raise Invalid(f"file: {where}: {amount} less {fee} is not {net}.", field="file")
    return SeenBalanceTransaction(
        id=row["balance_transaction_id"],
        type=row["reporting_category"],
        reporting_category=row["reporting_category"],
        source_id=row[columns.source] if columns.source else "",
        source_reference="",
        amount=amount,
        fee=fee,
        net=net,
        created=created,
        available_on=created,
    )


def _midnight(at: datetime) -> datetime:
    return at.replace(hour=0, minute=0, second=0, microsecond=0)


def movements(paths: Iterable[Path]) -> Reports:
    """The provider's movements in some report files."""
    return Reports(tuple(paths))
