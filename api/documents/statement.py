"""A host's statement on paper and for a spreadsheet."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from datetime import timedelta
from io import StringIO
from typing import Final

from api.documents.paper import Paper
from backoffice.core.money import Money
from backoffice.reporting.queries import HostAccountStatement, HostLine, HostStatement

COLUMNS: Final = ("at", "currency", "what", "booking", "reference", "payable", "owed", "amount", "balance")
# What a spreadsheet takes for the start of a formula.
_FORMULA_STARTS: Final = ("=", "+", "-", "@", "\t", "\r")


def statement_pdf(statement: HostStatement) -> bytes:
    """The statement; each currency adds up from its opening to its closing balance."""
    last = statement.until - timedelta(days=1)
    paper = Paper(title="Statement of account", subject=f"{statement.host} {statement.since} to {last}")
    paper.facts(
        [
            ("Host", f"{statement.name} ({statement.host})"),
            ("Period", f"{statement.since} to {last}, days in UTC"),
            ("Issued", f"{statement.issued_at:%Y-%m-%d %H:%M} UTC"),
        ]
    )
    for account in statement.accounts:
        _account(paper, account)
    if not statement.accounts:
        paper.text("Nothing has moved on your account yet.")
    paper.text("Amounts above zero are in your favour. Dates are in UTC.", style="grey")
    return paper.pdf(foot=f"{statement.host}, {statement.since} to {last}")


def _account(paper: Paper, account: HostAccountStatement) -> None:
    rows = [["", "Opening balance", "", "", account.opening.format()]]
    rows += [_row(line) for line in account.lines]
    rows.append(["", "Closing balance", "", "", account.closing.format()])
    paper.heading(f"Account in {account.currency}")
    paper.table(
        headings=["Date", "What", "Reference", "Amount", "Balance"],
        rows=rows,
        widths=[58, None, 132, 74, 78],
        numbers=2,
        bold=[0, len(rows) - 1],
    )
    paper.text(f"Payable to you {account.payable.format()}, owed by you {account.owed.format()}.", style="grey")


def _row(line: HostLine) -> list[str]:
    about = " ".join(part for part in (line.booking, line.reference) if part)
    # What is kept for a debt leaves the sum as it is: both sides are named, or the line would say nothing.
    what = line.what if line.amount else f"{line.what} ({line.owed.format()})"
    return [f"{line.at:%Y-%m-%d}", what, about, line.amount.format(), line.balance.format()]


def statement_csv(statement: HostStatement) -> bytes:
    """The statement's lines with opening and closing rows, amounts in major units without grouping, UTF-8 with a mark so
    that spreadsheets know it."""
    written = StringIO()
    writer = csv.writer(written, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    for account in statement.accounts:
        for row in _csv_rows(statement, account):
            writer.writerow(row)
    return b"\xef\xbb\xbf" + written.getvalue().encode()


def _csv_rows(statement: HostStatement, account: HostAccountStatement) -> Iterator[list[str]]:
    blank = ["", "", "", "", ""]
    opening = _plain(account.opening)
    yield [f"{statement.since}T00:00:00Z", account.currency, "Opening balance", *blank, opening]
    for line in account.lines:
        yield [
            f"{line.at:%Y-%m-%dT%H:%M:%SZ}",
            account.currency,
            _harmless(line.what),
            _harmless(line.booking),
            _harmless(line.reference),
            *(_plain(amount) for amount in (line.payable, line.owed, line.amount, line.balance)),
        ]
    yield [f"{statement.until}T00:00:00Z", account.currency, "Closing balance", *blank, _plain(account.closing)]


def _plain(amount: Money) -> str:
    return f"{amount.decimal():f}"


def _harmless(text: str) -> str:
    return f"'{text}" if text.startswith(_FORMULA_STARTS) else text
