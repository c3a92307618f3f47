"""Bank statements as CSV: every bank names its columns otherwise, so a map says which is which."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Final

from backoffice.core.errors import Invalid
from backoffice.core.money import Money
from backoffice.reconciliation.policies import SeenStatementLine

FIELDS: Final = (
    "account",
    "reference",
    "amount",
    "currency",
    "booked_on",
    "value_on",
    "trace",
    "text",
    "debit",
    "credit",
)
_MORE: Final = "\0"  # where the reader keeps what has no column; no file names one so
# By the decimal sign: sign, whole part with its thousands parted by one and the same sign, decimals.
_AMOUNTS: Final = {
    ".": re.compile(r"([+-]?) ?(\d{1,3}(?:([, ])\d{3})(?:\3\d{3})*|\d+)(?:\.(\d+))?", re.ASCII),
    ",": re.compile(r"([+-]?) ?(\d{1,3}(?:([. ])\d{3})(?:\3\d{3})*|\d+)(?:,(\d+))?", re.ASCII),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnMap:
    """Our field -> the bank's column. `account` and `currency` stand for all lines where the file has no such column;
    amounts are in `amount` (signed), or apart in `debit` and `credit`."""

    columns: Mapping[str, str] = field(default_factory=lambda: {name: name for name in FIELDS})
    account: str = ""
    currency: str = ""
    date_format: str = "%Y-%m-%d"
    decimal: str = "."
    delimiter: str = ","


def read(content: bytes, *, layout: ColumnMap) -> list[SeenStatementLine]:
    """The lines of the file, in its order. Raises Invalid (field `file`) naming the line and what is wrong with it."""
    unknown = sorted(set(layout.columns) - set(FIELDS))
    if unknown:
        raise Invalid(f"map: there is no field {unknown[0]}; write one of {', '.join(FIELDS)}.", field="map")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise Invalid("file: it is not UTF-8; save it as “CSV UTF-8”.", field="file") from None
    if _MORE in text:
        raise Invalid("file: it is not text; save it as “CSV UTF-8”.", field="file")
    delimiter = layout.delimiter.replace("\\t", "\t")
    if len(delimiter) != 1 or delimiter in '\r\n"':
        raise Invalid("delimiter: one character parts the columns, as in --delimiter ';'.", field="delimiter")
    rows = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, restkey=_MORE)
    try:
        return list(_lines(rows, layout))
    except csv.Error as error:
        raise Invalid(f"file: line {rows.line_num + 1}: it is not CSV ({error}).", field="file") from None


def _lines(rows: csv.DictReader[str], layout: ColumnMap) -> Iterator[SeenStatementLine]:
    there = set(rows.fieldnames or ())
    named = {name: column for name, column in layout.columns.items() if column in there}
    if "booked_on" not in named or not ("amount" in named or {"debit", "credit"} <= set(named)):
        raise Invalid(
            f"file: no column for the day and the amount among {', '.join(sorted(there)) or 'none'}; "
            "say which they are: --map booked_on=…,amount=…",
            field="file",
        )
    for row in rows:
        if any(row.pop(_MORE, ())):
            raise Invalid(
                f"file: line {rows.line_num}: more columns than the first line names; say what parts them: --delimiter.",
                field="file",
            )
        yield _line(row, rows.line_num, named, layout)


def _line(row: Mapping[str, str], number: int, named: Mapping[str, str], layout: ColumnMap) -> SeenStatementLine:
    def value(name: str) -> str:
        return (row.get(named.get(name, ""), "") or "").strip()

    currency = (value("currency") or layout.currency).upper()
    account = value("account") or layout.account
    if not account or not currency:
        raise Invalid(f"file: line {number}: say the account and currency with --account and --currency.", field="file")
    booked_on = _day(value("booked_on"), number, layout)
    amount = _amount(value, number, currency, layout)
    try:
        return SeenStatementLine(
            account=account,
            reference=value("reference"),
            amount=amount,
            booked_on=booked_on,
            value_on=_day(value("value_on"), number, layout) if value("value_on") else booked_on,
            trace=value("trace")[:120],
            text=" ".join(value("text").split())[:500],
        )
    except ValueError as error:
        raise Invalid(f"file: line {number}: {error}.", field="file") from None


def _amount(value: Callable[[str], str], number: int, currency: str, layout: ColumnMap) -> Money:
    signed = value("amount")
    try:
        if signed:
            return _money(signed, currency, layout)
        credit, debit = value("credit"), value("debit")
        if bool(credit) == bool(debit):
            raise Invalid("either a debit or a credit", field="file")
        return _money(credit, currency, layout) if credit else -abs(_money(debit, currency, layout))
    except (Invalid, ValueError, ArithmeticError) as error:
        why = f"the amount cannot be read ({error}); say how they are written: --decimal"
        raise Invalid(f"file: line {number}: {why}.", field="file") from None


def _money(text: str, currency: str, layout: ColumnMap) -> Money:
    """Thousands are parted only before whole groups of three: what stands elsewhere is another bank's decimal sign, and
    taking it for nothing would read the amount a hundred times too large."""
    found = _AMOUNTS[layout.decimal].fullmatch(text.replace("\u00a0", " ").replace("\u202f", " "))
    if found is None:
        raise ValueError(f"{text!r} is no amount with the decimal sign “{layout.decimal}”")
    sign, whole, _, decimals = found.groups()
    return Money.parse(f"{sign}{re.sub('[^0-9]', '', whole)}.{decimals or 0}", currency)


def _day(text: str, number: int, layout: ColumnMap) -> date:
    try:
        return datetime.strptime(text, layout.date_format).date()  # noqa: DTZ007  # a day of the bank, no instant
    except ValueError:
        raise Invalid(
            f"file: line {number}: {text!r} is no day written as {layout.date_format}; say how: --date-format.",
            field="file",
        ) from None
