"""How every command answers: one decorator for `--format table|json|csv|ndjson`, one for `--dry-run`, one progress bar, and
the exit codes. Answers go to stdout, everything else to stderr, so that a pipe carries data only."""

from __future__ import annotations

import csv
import functools
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import IntEnum
from typing import Any, Final, Literal, ParamSpec, Protocol, TextIO, TypeGuard, TypeVar

import click

P = ParamSpec("P")
R = TypeVar("R")

Format = Literal["table", "json", "csv", "ndjson"]
FORMATS: Final[tuple[Format, ...]] = ("table", "json", "csv", "ndjson")

# What a spreadsheet takes for the start of a formula, in any of the three it might be opened with.
_FORMULA_STARTS: Final = ("=", "+", "-", "@", "\t", "\r")


class Exit(IntEnum):
    """The exit codes of `ops` (DOMAIN.md): what a script or an on-call engineer can rely on."""

    DONE = 0
    FAILURE = 1
    USAGE = 2
    FINDINGS = 3
    NOT_ALLOWED = 4
    LOCKED = 5
    REFUSED = 6
    UPSTREAM = 7
    PARTIAL = 8
    INTERRUPTED = 130
    TERMINATED = 143


class Failed(click.ClickException):
    """A command that ends with one line on stderr and an exit code of its own."""

    def __init__(self, message: str, code: Exit = Exit.FAILURE) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table or CSV file.

    `money` names the key that holds the row's currency, or is a three-letter code; the value is whole minor units and
    is shown in major units with the currency's decimals. JSON keeps the minor units."""

    key: str
    title: str = ""
    money: str = ""
    right: bool = False

    @property
    def heading(self) -> str:
        return self.title or self.key.replace("_", " ").capitalize()

    @property
    def justify(self) -> Literal["left", "right"]:
        return "right" if self.right or self.money else "left"


@dataclass(frozen=True, slots=True)
class Result:
    """What a command found or did: rows, a summary of a few figures, warnings, and its exit code.

    `columns` overrides the decorator's, for reports whose columns depend on their options."""

    rows: Iterable[Mapping[str, Any]] = ()
    summary: Mapping[str, Any] = field(default_factory=dict)
    warnings: Sequence[str] = ()
    exit_code: Exit = Exit.DONE
    columns: Sequence[Column] = ()


def renders(schema: str, columns: Sequence[Column] = ()) -> Callable[[Callable[P, Result]], Callable[..., None]]:
    """Give a command `--format` and print the `Result` it returns.

    `schema` is "<noun>.<verb>" and names the JSON envelope `ops.<noun>.<verb>/1`. Without `columns`, those of the first
    row are used. The command's exit code is the result's. Put it under `@click.command` and its options."""

    def decorate(command: Callable[P, Result]) -> Callable[..., None]:
        @click.option(
            "--format",
            "output_format",
            type=click.Choice(FORMATS),
            default="table",
            show_default=True,
            help="A table for people, JSON for programs (ndjson: a line per row), CSV for spreadsheets.",
        )
        @functools.wraps(command)
        def render(*args: Any, output_format: Format = "table", **kwargs: Any) -> None:
            result = command(*args, **kwargs)
            write(result, schema=schema, columns=columns, output_format=output_format, stream=sys.stdout)
            if result.exit_code:
                click.get_current_context().exit(int(result.exit_code))

        return render

    return decorate


def dry_run(command: Callable[P, R]) -> Callable[P, R]:
    """Give a command `--dry-run`; it is called with `dry_run: bool` and changes nothing when that is true."""
    return click.option("--dry-run", is_flag=True, help="Show what would change, and change nothing.")(command)


def write(result: Result, *, schema: str, columns: Sequence[Column], output_format: Format, stream: TextIO) -> None:
    """Print `result` to `stream`. Warnings are part of the JSON envelope; otherwise they go to stderr."""
    if output_format == "json":
        _write_json(result, schema, stream)
        return
    if output_format == "ndjson":
        for row in result.rows:
            stream.write(_json(row) + "\n")
        _say(result)
        return
    rows = list(result.rows)
    shown = result.columns or columns or [Column(key) for key in (rows[0] if rows else ())]
    if output_format == "csv":
        _write_csv(rows, shown, stream)
    elif stream.isatty():
        _write_rich(rows, shown, result.summary, stream)
    else:
        _write_plain(rows, shown, result.summary, stream)
    _say(result)


def _say(result: Result) -> None:
    for warning in result.warnings:
        warn(warning)


def warn(sentence: str) -> None:
    """One line on stderr that does not stop the command."""
    click.secho(f"warning: {sentence}", fg="yellow", err=True)


def note(sentence: str) -> None:
    """One line on stderr about what is going on; never part of the answer."""
    click.echo(sentence, err=True)


def _write_json(result: Result, schema: str, stream: TextIO) -> None:
    """One envelope; rows are written as they come, so that a long answer never sits in memory whole."""
    stream.write(f'{{"schema": {json.dumps(f"ops.{schema}/1")}, "data": [')
    separator = "\n  "
    for row in result.rows:
        stream.write(separator + _json(row))
        separator = ",\n  "
    stream.write(f'], "summary": {_json(result.summary)}, "warnings": {_json(list(result.warnings))}}}\n')


def _json(value: object) -> str:
    return json.dumps(value, default=_plain, ensure_ascii=False)


def _plain(value: object) -> object:
    """JSON for what JSON does not know. Instants are UTC with a Z; exact decimals stay exact as strings."""
    if isinstance(value, datetime):
        return _instant(value)
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, set | frozenset):
        return sorted(value)
    return str(value)


def _instant(value: datetime) -> str:
    if value.tzinfo is None:
        return value.isoformat()
    return value.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _write_csv(rows: Iterable[Mapping[str, Any]], columns: Sequence[Column], stream: TextIO) -> None:
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([column.key for column in columns])
    for row in rows:
        writer.writerow([_harmless(row, column) for column in columns])


def _harmless(row: Mapping[str, Any], column: Column) -> str:
    """The cell as text; text that a spreadsheet would run as a formula gets a leading apostrophe. Numbers do not."""
    value = row.get(column.key)
    text = _cell(row, column, group=False)
    is_number = isinstance(value, int | float | Decimal) and not isinstance(value, bool)
    if text.startswith(_FORMULA_STARTS) and not is_number:
        text = "'" + text
    # Readers end a row at a bare carriage return, which the writer does not quote.
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _cell(row: Mapping[str, Any], column: Column, *, group: bool = True) -> str:
    value = row.get(column.key)
    if value is None:
        return ""
    if column.money and isinstance(value, int):
        return _money(value, str(row.get(column.money, column.money)), group=group)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, date | datetime):
        return str(_plain(value.replace(microsecond=0) if isinstance(value, datetime) else value))
    if _is_money(value):
        return _money(value["amount"], value["currency"], group=group)
    if isinstance(value, list | tuple) and all(isinstance(item, str) for item in value):
        return ", ".join(value)
    if isinstance(value, Mapping | list | tuple):
        return _json(value)
    return str(value)


def money(amount: int, currency: str) -> dict[str, int | str]:
    """An amount in minor units as JSON carries it, for a summary; a table shows it in major units."""
    return {"amount": amount, "currency": currency}


def _is_money(value: object) -> TypeGuard[Mapping[str, Any]]:
    return isinstance(value, Mapping) and set(value) == {"amount", "currency"}


def _money(minor: int, currency: str, *, group: bool) -> str:
    from backoffice.core.money import minor_digits  # most commands print no money

    digits = minor_digits(currency)
    amount = Decimal(minor).scaleb(-digits)
    return f"{amount:,.{digits}f} {currency}" if group else f"{amount:.{digits}f}"


def _summary_lines(summary: Mapping[str, Any], within: str = "") -> list[str]:
    """One line a figure; figures that are grouped carry the names of their groups."""
    lines: list[str] = []
    for key, value in summary.items():
        name = f"{within} {str(key).replace('_', ' ')}".strip()
        if isinstance(value, Mapping) and value and not _is_money(value):
            lines += _summary_lines(value, name)
        else:
            lines.append(f"{name}: {_cell({'value': value}, Column('value'))}")
    return lines


def _said_beside(rows: Sequence[Mapping[str, Any]], columns: Sequence[Column], summary: Mapping[str, Any]) -> list[str]:
    """The summary's lines; a list with nothing in it and nothing beside it says so, and does not look like a failure."""
    lines = _summary_lines(summary)
    return lines if rows or lines or not columns else ["nothing to list"]


def _write_plain(
    rows: Sequence[Mapping[str, Any]], columns: Sequence[Column], summary: Mapping[str, Any], stream: TextIO
) -> None:
    """Aligned text without colour, borders or truncation: the same bytes for the same answer, whatever the width."""
    if rows:
        table = [[column.heading for column in columns], *[[_line(row, column) for column in columns] for row in rows]]
        widths = [max(len(line[index]) for line in table) for index in range(len(columns))]
        for line in table:
            cells = [
                text.rjust(width) if column.justify == "right" else text.ljust(width)
                for text, width, column in zip(line, widths, columns, strict=True)
            ]
            stream.write("  ".join(cells).rstrip() + "\n")
    for text in _said_beside(rows, columns, summary):
        stream.write(text + "\n")


def _line(row: Mapping[str, Any], column: Column) -> str:
    return " ".join(_cell(row, column).split())


def _write_rich(
    rows: Sequence[Mapping[str, Any]], columns: Sequence[Column], summary: Mapping[str, Any], stream: TextIO
) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(file=stream)
    if rows:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for column in columns:
            table.add_column(column.heading, justify=column.justify, overflow="fold")
        for row in rows:
            table.add_row(*[Text(_cell(row, column)) for column in columns])
        console.print(table)
    for text in _said_beside(rows, columns, summary):
        console.print(Text(text), highlight=False)


class Advance(Protocol):
    """Move a progress bar on: by `steps`, and optionally say what is being worked on."""

    def __call__(self, steps: int = 1, /, *, description: str | None = None, total: int | None = None) -> None: ...


@contextmanager
def progress(description: str, *, total: int | None = None) -> Iterator[Advance]:
    """A progress bar on stderr with rate and time left, silent where stderr is not a terminal.

    Yields a function to call with the number of steps done since the last call."""
    if not sys.stderr.isatty():
        yield lambda steps=1, /, *, description=None, total=None: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        SpinnerColumn,
        Task,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class RateColumn(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(f"{task.speed:,.0f}/s" if task.speed else "")

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        RateColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(description, total=total)

        def advance(steps: int = 1, /, *, description: str | None = None, total: int | None = None) -> None:
            bar.update(task, advance=steps, description=description, total=total)

        yield advance
