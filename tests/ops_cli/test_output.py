"""One way to answer: the same rows as a table, as JSON and as CSV."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import re
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from ops_cli.output import Column, Exit, Result, dry_run, progress, renders, write

ROOT = Path(__file__).parent.parent.parent
COLUMNS = (Column("code"), Column("paid", money="currency"), Column("count", "How many", right=True))
ROWS = [
    {"code": "BK-1", "paid": 123456, "currency": "EUR", "count": 3},
    {"code": "BK-22", "paid": -5, "currency": "JPY", "count": None},
    {"code": "BK-3", "paid": 1500, "currency": "KWD", "count": 12},
]


def shown(output_format: Any, rows: Any = ROWS, columns: Any = COLUMNS, **result: Any) -> str:
    stream = io.StringIO()
    write(Result(rows=rows, **result), schema="x.y", columns=columns, output_format=output_format, stream=stream)
    return stream.getvalue()


def command(result: Result) -> click.Command:
    @click.command()
    @renders("ledger.check", COLUMNS)
    @dry_run
    def check(dry_run: bool) -> Result:
        return Result(rows=[{"code": str(dry_run)}]) if dry_run else result

    return check


def test_a_table_off_a_terminal_is_aligned_text_without_colour_or_cut() -> None:
    assert shown("table") == (
        "Code           Paid  How many\n"
        "BK-1   1,234.56 EUR         3\n"
        "BK-22        -5 JPY\n"
        "BK-3      1.500 KWD        12\n"
    )
    long_text = "x" * 500
    assert long_text in shown("table", rows=[{"code": long_text}], columns=[Column("code")])


def test_a_cell_never_breaks_the_line_it_is_in() -> None:
    assert shown("table", rows=[{"code": "one\ntwo\tthree"}], columns=[Column("code")]) == "Code\none two three\n"


def test_an_instant_is_told_to_the_second_but_to_programs() -> None:
    rows = [{"at": datetime(2026, 3, 1, 12, 0, 5, 331_575, tzinfo=UTC)}]
    assert shown("table", rows=rows, columns=[Column("at")]).splitlines()[1] == "2026-03-01T12:00:05Z"
    assert "2026-03-01T12:00:05.331575Z" in shown("json", rows=rows)


def test_a_list_with_nothing_in_it_says_so() -> None:
    assert shown("table", rows=[]) == "nothing to list\n"
    assert shown("table", rows=[], summary={"in_all": 0}) == "in all: 0\n"
    assert shown("table", rows=[], columns=()) == "" and shown("csv", rows=[]) == "code,paid,count\n"


def test_json_is_one_envelope_with_minor_units_and_exact_values() -> None:
    rows = [
        {
            "at": datetime(2026, 3, 1, 12, 0, tzinfo=timezone(timedelta(hours=2))),
            "on": date(2026, 3, 1),
            "rate": Decimal("1.10"),
            "paid": 12345,
            "currency": "EUR",
            "name": "Ána",
        }
    ]
    answer = json.loads(shown("json", rows=rows, summary={"rows": 1}, warnings=["late"]))
    assert answer == {
        "schema": "ops.x.y/1",
        "data": [
            {
                "at": "2026-03-01T10:00:00Z",
                "on": "2026-03-01",
                "rate": "1.10",
                "paid": 12345,
                "currency": "EUR",
                "name": "Ána",
            }
        ],
        "summary": {"rows": 1},
        "warnings": ["late"],
    }
    assert json.loads(shown("json", rows=[]))["data"] == []


def test_json_is_written_row_by_row() -> None:
    stream = io.StringIO()
    written: list[int] = []

    def rows() -> Any:
        for number in range(3):
            written.append(len(stream.getvalue()))
            yield {"number": number}

    write(Result(rows=rows()), schema="x.y", columns=(), output_format="json", stream=stream)
    assert written == sorted(set(written)), "each row was on its way before the next was asked for"


def test_ndjson_is_a_line_for_each_row_as_json_has_it() -> None:
    lines = shown("ndjson", rows=iter(ROWS), summary={"rows": 3}).splitlines()
    assert [json.loads(line) for line in lines] == json.loads(shown("json"))["data"]
    assert shown("ndjson", rows=[]) == ""


def test_csv_has_keys_plain_amounts_and_no_formula() -> None:
    rows = [{"code": "=1+1", "paid": -123456, "currency": "EUR", "count": -4}]
    assert list(csv.reader(io.StringIO(shown("csv", rows=rows)))) == [
        ["code", "paid", "count"],
        ["'=1+1", "-1234.56", "-4"],
    ]


@given(st.text())
def test_no_text_reaches_a_spreadsheet_as_a_formula(text: str) -> None:
    [_, [cell]] = csv.reader(io.StringIO(shown("csv", rows=[{"code": text}], columns=[Column("code")]), newline=""))
    assert not cell.startswith(("=", "+", "-", "@", "\t", "\r"))
    assert cell.removeprefix("'") == text.removeprefix("'") or "\r" in text


def test_a_report_may_bring_its_own_columns() -> None:
    assert shown("csv", rows=[{"a": 1, "b": 2}], columns=COLUMNS).splitlines()[0] == "code,paid,count"
    own = Result(rows=[{"a": 1, "b": 2}], columns=[Column("b")])
    stream = io.StringIO()
    write(own, schema="x.y", columns=COLUMNS, output_format="csv", stream=stream)
    assert stream.getvalue() == "b\n2\n"


@pytest.mark.parametrize("code", [Exit.DONE, Exit.FINDINGS, Exit.PARTIAL])
def test_the_exit_code_is_the_results(code: Exit) -> None:
    run = CliRunner().invoke(command(Result(rows=ROWS, exit_code=code)), ["--format", "json"])
    assert run.exit_code == code
    assert json.loads(run.stdout)["schema"] == "ops.ledger.check/1"


def test_warnings_go_to_stderr_so_that_a_pipe_carries_data_only() -> None:
    run = CliRunner().invoke(command(Result(rows=ROWS, warnings=["old rates"])), ["--format", "csv"])
    assert "old rates" in run.stderr
    assert "old rates" not in run.stdout


def test_an_unknown_format_is_a_usage_error_that_names_the_known_ones() -> None:
    run = CliRunner().invoke(command(Result()), ["--format", "xml"])
    assert run.exit_code == Exit.USAGE
    assert "'table', 'json', 'csv', 'ndjson'" in run.stderr


def test_dry_run_reaches_the_command() -> None:
    assert json.loads(CliRunner().invoke(command(Result()), ["--dry-run", "--format", "json"]).stdout)["data"] == [
        {"code": "True"}
    ]


def test_progress_is_silent_without_a_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    with progress("loading", total=3) as advance:
        advance()
        advance(2, description="more")
    assert capfd.readouterr() == ("", "")


def test_progress_shows_on_a_terminal_and_keeps_off_stdout() -> None:
    code = (
        "from ops_cli.output import progress\n"
        "with progress('loading', total=2) as advance:\n"
        "    advance(2)\n"
        "print('answer')\n"
    )
    controller, terminal = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100", "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=terminal, env=environment)
    os.close(terminal)
    out, _ = process.communicate(timeout=60)
    seen = b""
    try:
        while chunk := os.read(controller, 4096):
            seen += chunk
    except OSError:  # Linux says so when the last writer has gone
        pass
    finally:
        os.close(controller)
    assert out == b"answer\n"
    assert re.search(rb"loading.*2/2", seen, re.DOTALL)
