"""Statements of banks and reports of the provider, as files: what is read, and what is refused with its reason."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from backoffice.core.errors import Invalid
from backoffice.core.money import Money
from backoffice.reconciliation.parsers import bank_csv, camt053, provider_report
from backoffice.reconciliation.parsers.bank_csv import ColumnMap

STATEMENT = (Path(__file__).parent / "files" / "statement.xml").read_bytes()


def test_the_booked_entries_of_a_statement_are_read_once_each_however_many_details_they_have() -> None:
    first, second, third = camt053.read(STATEMENT)
    assert (first.account, first.reference, first.amount) == ("BE68539007547034", "REF-0001", Money(8_485, "EUR"))
    assert (first.booked_on, first.value_on) == (date(2026, 11, 24), date(2026, 11, 25))
    assert (first.trace, first.text, first.returned) == ("TRACE123ABC", "STRIPE PAYOUT", False)
    assert (second.amount, second.value_on) == (Money(30_000, "EUR"), date(2026, 11, 24))
    assert (second.trace, second.text) == ("", "collective one collective two")
    assert (third.amount, third.returned, third.text) == (Money(-15_050, "EUR"), True, "RETURN TRACE999")


@pytest.mark.parametrize("version", ["02", "04", "08", "13"])
def test_every_version_of_the_message_is_read(version: str) -> None:
    content = STATEMENT.replace(b"camt.053.001.08", f"camt.053.001.{version}".encode())
    if version == "02":  # its status is a plain word
        content = content.replace(b"<Sts><Cd>BOOK</Cd></Sts>", b"<Sts>BOOK</Sts>")
    assert len(camt053.read(content)) == 3


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "not XML"),
        (b"<Document/>", "not a camt.053"),
        (STATEMENT.replace(b"camt.053.001", b"camt.052.001"), "not a camt.053"),
        (STATEMENT.replace(b"<Stmt>", b"<Rpt>").replace(b"</Stmt>", b"</Rpt>"), "no statement"),
        (STATEMENT.replace(b"<IBAN>BE68539007547034</IBAN>", b""), "name its account"),
        (STATEMENT.replace(b">84.85<", b">84.855<"), "entry 1: .*no amount"),
        (STATEMENT.replace(b">84.85<", b">lots<"), "entry 1: .*no amount"),
        (STATEMENT.replace(b"BE68539007547034", b"B" * 61), "entry 1: account: longer than 60"),
        (STATEMENT.replace(b"REF-0001", b"R" * 121), "entry 1: reference: longer than 120"),
        (STATEMENT.replace(b">84.85<", b">84.84<"), "an entry is missing"),
        (STATEMENT.replace(b"<BookgDt><Dt>2026-11-24</Dt></BookgDt><ValDt>", b"<ValDt>"), "no date"),
        (STATEMENT.replace(b"<Document ", b'<!DOCTYPE d [<!ENTITY e "x">]><Document '), "not XML that may be read"),
        (STATEMENT[:-40], "not XML"),
    ],
)
def test_what_is_no_statement_or_not_whole_is_refused_with_its_reason(content: bytes, why: str) -> None:
    with pytest.raises(Invalid, match=why) as refused:
        camt053.read(content)
    assert refused.value.facts["field"] == "file"


def test_a_csv_statement_is_read_by_its_own_columns() -> None:
    text = "Buchungstag;Betrag;Zweck;Ref\n24.11.2026;1.234,56;STRIPE PAYOUT;R1\n25.11.2026;-7,00;Return;R2\n"
    layout = ColumnMap(
        columns={"booked_on": "Buchungstag", "amount": "Betrag", "text": "Zweck", "reference": "Ref"},
        account="BE68",
        currency="eur",
        date_format="%d.%m.%Y",
        decimal=",",
        delimiter=";",
    )
    first, second = bank_csv.read(b"\xef\xbb\xbf" + text.encode(), layout=layout)
    assert (first.amount, first.booked_on, first.value_on) == (
        Money(123_456, "EUR"),
        date(2026, 11, 24),
        date(2026, 11, 24),
    )
    assert (second.amount, second.reference, second.account) == (Money(-700, "EUR"), "R2", "BE68")


def test_debits_and_credits_may_stand_apart() -> None:
    text = "booked_on,debit,credit,account,currency\n2026-11-24,,84.85,X,EUR\n2026-11-24,5.00,,X,EUR\n"
    amounts = [line.amount for line in bank_csv.read(text.encode(), layout=ColumnMap())]
    assert amounts == [Money(8_485, "EUR"), Money(-500, "EUR")]


@pytest.mark.parametrize(
    ("written", "decimal", "amount"),
    [
        ("12.50", ".", 1_250),
        ("12,50", ",", 1_250),
        ("1,250.00", ".", 125_000),
        ("1.250,00", ",", 125_000),
        ("-1 234 567,8", ",", -123_456_780),
        ("+1\u00a0234.56", ".", 123_456),
        ("12,50", ".", None),  # once read as 1250.00, and posted
        ("12.50", ",", None),
        ("1,23,456.00", ".", None),
        ("1,234 567.00", ".", None),
        ("1234,567.00", ".", None),
        ("1e3", ".", None),
        ("12.50-", ".", None),
    ],
)
def test_thousands_are_parted_only_where_they_can_be(written: str, decimal: str, amount: int | None) -> None:
    content = f"booked_on;amount\n2026-11-24;{written}\n".encode()
    layout = ColumnMap(account="X", currency="EUR", decimal=decimal, delimiter=";")
    if amount is None:
        with pytest.raises(Invalid, match=r"line 2: the amount .* --decimal"):
            bank_csv.read(content, layout=layout)
    else:
        assert [line.amount for line in bank_csv.read(content, layout=layout)] == [Money(amount, "EUR")]


@pytest.mark.parametrize(
    ("text", "layout", "why"),
    [
        ("a,b\n1,2\n", {}, "no column for the day and the amount"),
        ("booked_on,amount\n2026-11-24,1.00\n", {}, "line 2: say the account"),
        ("booked_on,amount\n24/11/2026,1.00\n", {"account": "X", "currency": "EUR"}, "line 2: '24/11/2026' is no day"),
        ("booked_on,amount\n2026-11-24,1.005\n", {"account": "X", "currency": "EUR"}, "line 2: the amount"),
        ("booked_on,amount\n2026-11-24,x\n", {"account": "X", "currency": "EUR"}, "line 2: the amount"),
        ("booked_on,debit,credit\n2026-11-24,1,1\n", {"account": "X", "currency": "EUR"}, "debit or a credit"),
        ("booked_on,amount\n", {"columns": {"day": "booked_on"}}, "there is no field day"),
        ("booked_on,amount\n2026-11-24,1,234.50\n", {"account": "X", "currency": "EUR"}, "line 2: more columns"),
        ("booked_on,amount\n", {"delimiter": ";;"}, "delimiter: one character"),
        ("booked_on,amount\n", {"delimiter": ""}, "delimiter: one character"),
        ("booked_on,amount\n2026-11-24,1\n", {"account": "X" * 61, "currency": "EUR"}, "line 2: account: longer than"),
        ("booked_on,amount\n2026-11-24,1e9\n", {"account": "X", "currency": "EUR"}, "line 2: the amount"),
        (
            "booked_on,amount\n2026-11-24,9999999999999999\n",
            {"account": "X", "currency": "EUR"},
            "line 2: amount: .* large",
        ),
        (
            f"booked_on,amount\n2026-11-24,{'1' * 140_000}\n",
            {"account": "X", "currency": "EUR"},
            "line 2: it is not CSV",
        ),
        ("booked_on,amount\n2026-11-24,1\0\n", {"account": "X", "currency": "EUR"}, "not text"),
    ],
)
def test_a_csv_statement_that_cannot_be_read_names_its_line(text: str, layout: dict, why: str) -> None:
    with pytest.raises(Invalid, match=why):
        bank_csv.read(text.encode(), layout=ColumnMap(**layout))


def test_columns_may_be_parted_by_tabs_however_they_are_said() -> None:
    content = b"booked_on\tamount\n2026-11-24\t5.00\n"
    for tab in ("\t", r"\t"):
        (line,) = bank_csv.read(content, layout=ColumnMap(account="X", currency="EUR", delimiter=tab))
        assert line.amount == Money(500, "EUR")


def test_a_csv_statement_in_another_encoding_says_how_to_save_it() -> None:
    with pytest.raises(Invalid, match="UTF-8"):
        bank_csv.read(b"booked_on,amount\n\xff\xfe", layout=ColumnMap())


ACTIVITY = (
    '"balance_transaction_id","created_utc","currency","gross","fee","net","reporting_category","source_id"\n'
    '"txn_1","2026-11-20 23:59:59","eur","500.00","7.75","492.25","charge","ch_1"\n'
    '"txn_2","2026-11-21 00:00:00","jpy","-1200","0","-1200","refund","re_1"\n'
)
PAYOUTS = (
    '"payout_id","effective_at","currency","gross","fee","net","reporting_category","balance_transaction_id"\n'
    '"po_1","2026-11-22 10:00:00","eur","-84.85","0.00","-84.85","payout","txn_3"\n'
)


def files(tmp_path: Path, **contents: str) -> list[Path]:
    paths = []
    for name, content in contents.items():
        path = tmp_path / f"{name}.csv"
        path.write_text(content, encoding="utf-8", errors="surrogateescape")
        paths.append(path)
    return paths


def test_the_providers_reports_are_read_into_its_movements(tmp_path: Path) -> None:
    reports = provider_report.movements(files(tmp_path, activity=ACTIVITY, payouts=PAYOUTS))
    charge, refund, payout = reports.rows()
    assert (charge.id, charge.amount, charge.fee, charge.net) == (
        "txn_1",
        Money(50_000, "EUR"),
        Money(775, "EUR"),
        Money(49_225, "EUR"),
    )
    assert (refund.amount, refund.source_id) == (Money(-1_200, "JPY"), "re_1")
    assert (payout.source_id, payout.reporting_category) == ("po_1", "payout")
    assert reports.left_out == ()
    window = reports.window()
    assert (window.since, window.until) == (datetime(2026, 11, 20, tzinfo=UTC), datetime(2026, 11, 23, tzinfo=UTC))


def test_the_report_of_activity_alone_says_what_it_leaves_out(tmp_path: Path) -> None:
    assert provider_report.movements(files(tmp_path, activity=ACTIVITY)).left_out == ("payout", "payout_reversal")
    with pytest.raises(Invalid, match="report of activity"):
        _ = provider_report.movements(files(tmp_path, payouts=PAYOUTS)).left_out


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("a,b\n1,2\n", "no column balance_transaction_id"),
        (ACTIVITY.replace("created_utc", "at"), "no column created_utc"),
        (ACTIVITY.replace("492.25", "492.26"), r"line 2: .* less .* is not"),
        (ACTIVITY.replace("-1200", "-12.5"), "line 3"),
        (ACTIVITY.replace("2026-11-20 23", "20 Nov 23"), "line 2"),
        (ACTIVITY.splitlines()[0], "no movement"),
        (ACTIVITY[:-25], "line 3: not as many columns"),
        (ACTIVITY.replace('"ch_1"', '"ch_1","more"'), "line 2: not as many columns"),
        (ACTIVITY.replace('"ch_1"', '"ch_\udcff"'), "activity.csv, after line 0: it is not CSV in UTF-8"),
        (ACTIVITY + "x" * 140_000, "activity.csv, after line 3: it is not CSV in UTF-8"),
        (ACTIVITY.replace('"txn_2"', f'"{"t" * 61}"'), "line 3: balance_transaction_id is longer"),
    ],
)
def test_a_report_that_cannot_be_read_names_file_and_line(tmp_path: Path, content: str, why: str) -> None:
    reports = provider_report.movements(files(tmp_path, activity=content))
    with pytest.raises(Invalid, match=why):
        reports.window()
    with pytest.raises(Invalid, match="cannot be read"):
        list(provider_report.movements([tmp_path / "none.csv"]).rows())
