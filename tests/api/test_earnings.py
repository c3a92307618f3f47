"""A host's earnings and statement at the door: JSON, CSV and PDF say the same, and it is the ledger's."""

from __future__ import annotations

import csv
import io
import unicodedata
from datetime import timedelta
from typing import Any

import pytest
from pypdf import PdfReader

from backoffice.core.money import Money
from backoffice.ledger import queries as ledger
from tests import factories
from tests.api.test_receipts import read_pdf, signed_in
from tests.reporting.test_hosts import NOW, eur, host, post  # noqa: F401

pytestmark = pytest.mark.django_db
PERIOD = f"?since={NOW:%Y-%m-%d}&until={NOW + timedelta(days=30):%Y-%m-%d}"


def test_the_three_forms_say_the_same_and_it_is_the_ledgers(host: Any) -> None:  # noqa: F811
    from backoffice.payments.policies import postings

    post(host.code, "penalty", postings.penalised(host=host.code, amount=eur(4_475)), days=9)
    bob = signed_in(host)
    said = bob.get(f"me/statement{PERIOD}").body
    (account,) = said["accounts"]
    kept = sum(ledger.balance(account=code, key=host.code, currency="EUR") for code in ("2200", "1310"))
    assert account["closing"]["amount"] == -kept == -4_475
    assert account["opening"]["amount"] + sum(line["amount"]["amount"] for line in account["lines"]) == -kept
    sheet = bob.get(f"me/statement.csv{PERIOD}")
    assert sheet.headers["Content-Type"].startswith("text/csv") and "attachment" in sheet.headers["Content-Disposition"]
    rows = list(csv.DictReader(io.StringIO(sheet.raw.decode("utf-8-sig"))))
    assert [row["what"] for row in rows] == [
        "Opening balance", *(line["what"] for line in account["lines"]), "Closing balance"
    ]  # fmt: skip
    assert [row["amount"] for row in rows[1:-1]] == ["400.00", "-68.00", "0.00", "-332.00", "-44.75"]
    assert (rows[0]["balance"], rows[-1]["balance"]) == ("0.00", "-44.75")
    assert bob.get(f"me/statement.csv{PERIOD}", Accept="application/json, */*").raw == sheet.raw
    assert bob.get(f"me/statement.pdf{PERIOD}", Accept="application/json").raw.startswith(b"%PDF")
    assert bob.get("me/statement.pdf?since=never", Accept="application/json").body["field"] == "since"
    printed = bob.get(f"me/statement.pdf{PERIOD}")
    assert printed.headers["Content-Type"] == "application/pdf"
    text = read_pdf(printed.raw)
    for line in account["lines"]:
        assert line["amount"]["formatted"] in text and line["balance"]["formatted"] in text and line["what"] in text
    assert "Closing balance" in text and account["closing"]["formatted"] in text and host.code in text


def test_a_long_statement_runs_over_pages_with_its_headings(host: Any) -> None:  # noqa: F811
    from backoffice.payments.policies import postings

    for day in range(5, 125):
        post(host.code, "penalty", postings.penalised(host=host.code, amount=eur(day)), days=day)
    until = f"{NOW + timedelta(days=200):%Y-%m-%d}"
    printed = signed_in(host).get(f"me/statement.pdf?since={NOW:%Y-%m-%d}&until={until}")
    pages = [page.extract_text() for page in PdfReader(io.BytesIO(printed.raw)).pages]
    assert len(pages) > 2 and all(
        "Balance" in page and f"Page {number}" in page for number, page in enumerate(pages, 1)
    )
    assert sum(page.count("Penalty for a cancellation") for page in pages) == 121


def test_yen_have_no_decimals_and_dinars_three_on_paper_and_in_the_sheet(host: Any) -> None:  # noqa: F811
    from backoffice.payments.policies import postings

    for amount in (Money(123_456, "JPY"), Money(123_456, "KWD")):
        post(host.code, f"penalty{amount.currency}", postings.penalised(host=host.code, amount=amount), days=9)
    bob = signed_in(host)
    text = read_pdf(bob.get(f"me/statement.pdf{PERIOD}").raw)
    assert "-¥123,456" in text and "-KWD123.456" in text
    rows = list(csv.DictReader(io.StringIO(bob.get(f"me/statement.csv{PERIOD}").raw.decode("utf-8-sig"))))
    closing = {row["currency"]: row["balance"] for row in rows if row["what"] == "Closing balance"}
    assert closing == {"EUR": "0.00", "JPY": "-123456", "KWD": "-123.456"}


def test_reading_costs_the_same_whatever_there_is_to_read(host: Any, django_assert_max_num_queries: Any) -> None:  # noqa: F811
    from backoffice.payments.policies import postings

    bob = signed_in(host)
    for day in range(5, 25):
        post(host.code, "penalty", postings.penalised(host=host.code, amount=eur(day)), days=day)
    with django_assert_max_num_queries(12):
        assert len(bob.get(f"me/statement{PERIOD}").body["accounts"][0]["lines"]) == 24
    with django_assert_max_num_queries(14):
        assert bob.get("me/earnings").status == 200


def test_a_cell_that_a_spreadsheet_would_run_is_text(host: Any) -> None:  # noqa: F811
    from backoffice.payments.policies import postings

    post(host.code, "penalty", postings.penalised(host=host.code, amount=eur(1)), days=5, subject='=HYPERLINK("x")')
    raw = signed_in(host).get(f"me/statement.csv{PERIOD}").raw.decode("utf-8-sig")
    assert "'=HYPERLINK" in raw and ",=HYPERLINK" not in raw


def test_a_host_who_earned_nothing_gets_an_empty_statement() -> None:
    carol = signed_in(factories.person("Carol", is_host=True))
    assert carol.get("me/statement").body["accounts"] == []
    assert "Nothing has moved" in read_pdf(carol.get("me/statement.pdf").raw)
    assert carol.get("me/earnings").body["results"] == [] == carol.get("me/earnings").body["balances"]


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("王小明", "王小明"),
        ("山田 たろう", "山田 たろう"),
        ("김철수", "김철수"),
        ("דוד לוי", "דוד לוי"),
        ("محمد", "محمد"),
        ("Zoë Ελένη Юлия", "Zoë Ελένη Юлия"),
        ("สมชาย", "\N{REPLACEMENT CHARACTER}" * 5),  # said to be missing instead of left out
    ],
)
def test_a_name_is_on_paper_in_its_own_letters(name: str, read: str) -> None:
    printed = signed_in(factories.person(name, is_host=True)).get("me/statement.pdf").raw
    assert read in unicodedata.normalize("NFKC", read_pdf(printed))


def test_arabic_letters_are_joined_on_paper() -> None:
    printed = signed_in(factories.person("محمد", is_host=True)).get("me/statement.pdf").raw
    joined = "\N{ARABIC LETTER MEEM INITIAL FORM}\N{ARABIC LETTER HAH MEDIAL FORM}\N{ARABIC LETTER MEEM MEDIAL FORM}"
    assert joined + "\N{ARABIC LETTER DAL FINAL FORM}" in read_pdf(printed)


def test_balances_stand_beside_the_earnings(host: Any) -> None:  # noqa: F811
    from backoffice.payments.policies import postings

    post(host.code, "penalty", postings.penalised(host=host.code, amount=eur(4_475)), days=9)
    said = signed_in(host).get("me/earnings").body
    assert [(money["amount"], money["currency"]) for money in said["balances"]] == [(-4_475, "EUR")]


@pytest.mark.parametrize("path", ["me/earnings", "me/statement", "me/statement.pdf", "me/statement.csv"])
@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("?since=yesterday", "since"),
        ("?since=20261101", "since"),
        ("?since=2026-02-30", "since"),
        ("?until=1999-01-01", "until"),
        ("?since=2026-11-02&until=2026-11-01", "until"),
        ("?until=9999-12-31", "until"),
    ],
)
def test_a_day_that_is_none_is_422(path: str, query: str, field: str) -> None:
    refused = signed_in(factories.person("Carol", is_host=True)).get(f"{path}{query}")
    assert (refused.status, refused.body["field"]) == (422, field)
    assert refused.headers["Content-Type"] == "application/problem+json"
