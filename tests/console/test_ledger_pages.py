"""Ledger pages: an account opens, moves and closes; every line leads on to what it came from."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.urls import reverse

from backoffice.console import cells
from backoffice.console.admin import ledger as pages
from backoffice.ledger import queries as ledger
from backoffice.ledger.models import Account, Journal
from backoffice.payments.models import WebhookEvent
from tests.console.test_pages import text_of
from tests.console.test_payouts import minor, owe, seated
from tests.console.world import movement, paid, sent, webhook


def statement(response: Any) -> list[Any]:
    rows = response.context["page"].panels[0].rows
    assert response.status_code == 200
    return list(rows)


def test_an_account_opens_where_the_page_before_it_ends(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Opening balance + lines = closing balance on every page, and the pages hang together."""
    monkeypatch.setattr(pages, "_MOST", 2)
    row = sent(paid())
    for later in range(4):
        check_in = row.booking.check_out + timedelta(days=5 * later)
        owe(sent(paid(home=row.booking.listing, check_in=check_in)), 1_000)
    account = Account.objects.get(code="1310", key=row.host.code)
    client, path, expected = seated("auditor"), cells.address_of(account), 4_000
    for _ in range(2):
        response = client.get(path)
        closing, *lines, opening = statement(response)
        assert minor_of(closing) == expected
        assert len(lines) == 2 and minor_of(lines[0]) == expected
        expected -= 2_000
        assert minor_of(opening) == expected
        path = cells.address_of(account) + response.context["page"].panels[0].more
    assert expected == 0 and not response.context["page"].warnings


def test_a_statement_is_narrow_enough_for_its_balance_and_leads_to_what_each_line_is_about(db: None) -> None:
    booking = paid()
    account = Account.objects.get(code="1150", key=booking.payment.charge_id)
    response = seated("auditor").get(cells.address_of(account))
    table = response.context["page"].panels[0]
    assert [column.label for column in table.columns] == ["When", "Journal", "About", "Debit", "Credit", "Balance"]
    about = str(table.rows[1].cells[2])
    assert f'href="{cells.address_of(booking)}"' in about and f"?q={booking.payment.charge_id}" in about


def minor_of(row: Any) -> int:
    """A row's balance in minor units; these are all debits."""
    return minor(str(row.cells[-1]).partition('<span class="sd-side-word">')[0])


def test_a_clearing_account_says_since_when_it_stands_and_when_that_is_too_long(
    db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    booking = paid()
    account = Account.objects.get(code="1150", key=booking.payment.charge_id)
    client = seated("auditor")
    response = client.get(cells.address_of(account))
    assert "Should be zero by" in text_of(response) and not response.context["page"].warnings
    (open_,) = ledger.clearing_open(now=booking.created_at)
    assert cells.when(open_.due) in text_of(client.get("/console/ledger/account/?standing=clearing"))
    monkeypatch.setattr("backoffice.core.clock.now", lambda: open_.due + timedelta(minutes=1))
    response = client.get(cells.address_of(account))
    assert "This should have been zero by" in response.context["page"].warnings[0]
    assert "overdue" in text_of(client.get("/console/ledger/account/?standing=clearing"))


def test_the_trial_balance_adds_up_in_every_currency_and_leads_to_its_accounts(db: None) -> None:
    booking = paid()
    movement(booking)
    response = seated("auditor").get(reverse("admin:ledger_account_trial_balance"))
    (euro,) = response.context["page"].panels
    *codes, together = euro.rows
    assert together.cells[2] == together.cells[3]
    assert {row.code for row in ledger.trial_balance() if row.debit or row.credit} == {
        code
        for code in ledger.chart()
        if f"{code} {ledger.chart()[code].name}" in " ".join(str(r.cells[0]) for r in codes)
    }
    assert "Adds up" in text_of(response)
    held = seated("auditor").get("/console/ledger/account/?code=2100&currency=EUR&standing=open").context["cl"]
    assert [row.key for row in held.result_list] == [booking.code]


def test_a_journal_leads_to_the_movement_and_the_webhooks_behind_it(db: None) -> None:
    booking = paid()
    moved = movement(booking)
    event = webhook(status="applied")
    WebhookEvent.objects.filter(pk=event.pk).update(object_id=booking.payment.charge_id)
    journal = Journal.objects.get(pk=moved.journal_id)
    content = seated("auditor").get(cells.address_of(journal)).content.decode()
    for address in (
        cells.address_of(moved),
        cells.address_of(event),
        cells.address_of(booking),
        f"{reverse('admin:find')}?q={moved.provider_id}",
    ):
        assert f'href="{address}"' in content, address
    content = seated("auditor").get(cells.address_of(moved)).content.decode()
    assert f'href="{cells.address_of(journal)}"' in content and f'href="{cells.address_of(event)}"' in content
