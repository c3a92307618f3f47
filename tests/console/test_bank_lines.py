"""The bank's lines: what each is, what waits in suspense, and the postings behind both."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from backoffice.ledger import queries as ledger
from backoffice.reconciliation.models import Break, StatementLine
from tests import factories
from tests.console.test_dialogs import messages_of
from tests.console.test_payouts import buttons, minor
from tests.reconciliation.steps import DAY, arrived, bank, compared, swept

pytestmark = pytest.mark.django_db(transaction=True)
LIST = reverse("admin:reconciliation_statementline_changelist")


@pytest.fixture
def lines() -> dict[str, StatementLine]:
    """A payout in full, one in two parts of which one is proposed, money of nobody, and money that was taken back."""
    now = timezone.now()
    day = (now + DAY).date()
    swept("po_1", 8_485, trace="TRACE123ABC", at=now - DAY)
    swept("po_2", 5_000, at=now - DAY)
    arrived(
        bank(8_485, on=day, trace="TRACE123ABC", text="STRIPE PAYOUT", reference="REF-1"),
        bank(5_000, on=day, text="Who may this be, of whom nobody knows", reference="REF-2"),
        bank(-77, on=day, text="Card returned", reference="REF-3", returned=True),
        now=now,
    )
    compared("bank", now=now)
    return {line.reference: line for line in StatementLine.objects.all()}


def client(role: str = "finance") -> Client:
    made = Client()
    made.force_login(factories.staff(role))
    return made


def listed(made: Client, **asked: Any) -> set[str]:
    """The references on the list."""
    shown = made.get(LIST, asked).content.decode()
    return {f"REF-{number}" for number in (1, 2, 3) if f">REF-{number}<" in shown}


def test_bank_lines_are_listed_by_what_they_wait_for(lines: dict[str, StatementLine]) -> None:
    made = client()
    assert listed(made) == {"REF-1", "REF-2", "REF-3"}
    assert listed(made, view="suspense") == {"REF-2", "REF-3"}
    assert listed(made, view="proposed") == {"REF-2"}
    assert listed(made, view="returned") == {"REF-3"}
    assert listed(made, q="REF-1") == listed(made, q="po_1") == listed(made, q=lines["REF-1"].code.lower()) == {"REF-1"}
    assert listed(made, booked_on_to="2020-01-01") == set()
    shown = made.get(LIST).content.decode()
    for words in ("+84.85", "−0.77", "In suspense", "Matched", "proposed, 60 %", ">Who may this be, of whom nobo…<"):
        assert words in shown, words
    assert LIST in made.get(reverse("admin:index")).content.decode()  # in the sidebar
    assert client("support_l1").get(LIST).status_code == 403


def test_a_bank_lines_page_says_what_it_is_and_unfolds_into_its_postings(lines: dict[str, StatementLine]) -> None:
    made = client()
    first, second, third = (
        made.get(reverse("admin:reconciliation_statementline_change", args=[line.code])).content.decode()
        for line in lines.values()
    )
    payout = lines["REF-1"].matches.get().bank_payout.code
    for words in ("STRIPE PAYOUT", "TRACE123ABC", payout, "trace, 100 %", "a run", "1010", "1160", ">bank line<"):
        assert words in first, words
    assert "in suspense" not in first.lower()
    found = Break.objects.get(key=f"9900 bank:{lines['REF-2'].code}")
    for words in ("50.00 EUR stand in suspense", "asks whether the proposed match is right", "9900", found.code):
        assert words in second, words
    assert "The bank says that it took it back" in third and "Find out whose it is" in third
    went = made.get(reverse("admin:find"), {"q": lines["REF-2"].code})
    assert went.headers["Location"] == reverse("admin:reconciliation_statementline_change", args=[lines["REF-2"].code])


def test_which_line_is_a_payout_that_a_bank_has_kept_something_of_is_chosen_on_its_break() -> None:
    now = timezone.now()
    day = (now + DAY).date()
    payout, _ = swept("po_3", 5_000, at=now - DAY)
    arrived(
        bank(300, on=day, text="Rent of somebody"),
        bank(4_800, on=day, text="Gutschrift", reference="SHORT"),
        bank(-4_900, on=day, text="Paid to somebody"),
        now=now,
    )
    compared("bank", now=now)
    found, line = Break.objects.get(key="1160 po_3"), StatementLine.objects.get(reference="SHORT")
    made, auditor = client(), client("auditor")
    assert "say-line" in buttons(made, found) and "say-line" not in buttons(auditor, found)
    path = reverse("admin:reconciliation_break_say-line", args=[found.code])
    assert auditor.get(path).status_code == 403
    opened = made.get(path)
    offered = [words for code, words in opened.context["form"].fields["line"].choices if code]
    assert [words.split(" · ")[0] for words in offered] == ["48.00 EUR", "3.00 EUR"], "the nearest first"
    assert "Choose a line" in opened.content.decode()
    sent = {"key": "k", "version": found.version, "line": line.code, "reason": "The bank kept 2.00"}
    shown = dict(made.post(path, {**sent, "preview": "1"}).context["money"])
    assert {label: minor(amount) for label, amount in shown.items()} == {
        "The line": 4_800, "Left of the payout": 5_000, "Then still stands there": 200,
    }  # fmt: skip
    taken_out = StatementLine.objects.get(amount=-4_900).code
    wrong = made.post(path, {**sent, "line": taken_out, "seen": taken_out})
    assert wrong.status_code == 422 and "cannot be this payout" in wrong.context["form"].errors["line"][0]
    assert made.post(path, {**sent, "version": found.version + 1, "seen": line.code}).status_code == 409
    assert ledger.balance(account="1160", key="po_3", currency="EUR") == 5_000
    assert line.code in messages_of(made, made.post(path, {**sent, "seen": line.code}))
    assert ledger.balance(account="1160", key="po_3", currency="EUR") == 200
    assert line.matches.get().bank_payout == payout
    compared("bank", now=now)
    found.refresh_from_db()
    assert (found.cls, found.difference) == ("bank_amount_mismatch", -200)
    assert {"propose"} <= buttons(made, found)
