"""Hosts' accounts, their debts, write-offs by two, and bank payouts that add up."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from backoffice.console import cells
from backoffice.core.money import Money
from backoffice.payouts import queries
from backoffice.payouts.models import BankPayout, HostAccount, WriteOff
from tests import factories
from tests.console.test_dialogs import answers
from tests.console.test_pages import text_of
from tests.console.test_payouts import minor, owe, page, seated
from tests.console.world import bank_payout, host_account, movement, now, paid, sent


def account_page(host_code: str) -> str:
    return reverse("admin:payouts_hostaccount_change", args=[host_code])


def buttons(client: Client, path: str) -> set[str]:
    return {button["name"] for button in client.get(path).context["buttons"]}


# Accounts -------------------------------------------------------------------------------------------------------------


def test_an_account_that_cannot_receive_says_what_is_missing(db: None) -> None:
    booking = paid()
    row = host_account(
        booking, status="restricted", can_receive=False, missing=["individual.verification.document", "tos_acceptance"]
    )
    shown = text_of(seated("support_l1").get(cells.address_of(row)))
    assert "Nothing can be sent now" in shown
    assert "a document that proves identity" in shown and "a yes to its terms" in shown
    stuck = seated("support_l1").get("/console/payouts/hostaccount/?view=stuck").context["cl"].result_list
    assert [each.pk for each in stuck] == [row.pk]


def test_a_host_who_has_not_begun_has_a_page_and_may_owe(db: None) -> None:
    row = sent(paid())
    owe(row, 4_475)
    path = account_page(row.host.code)
    client = seated("finance")
    shown = text_of(client.get(path))
    assert "Not begun" in shown and "The host owes us 44.75 EUR" in shown
    assert "write_off" in buttons(client, path)
    assert client.get(account_page(row.booking.guest.code)).status_code == 404


def test_new_bank_details_are_approved_by_finance_once(db: None) -> None:
    row = host_account(paid(), bank_changed_at=now() - timedelta(hours=1))
    path = reverse("admin:payouts_hostaccount_approve_bank", args=[row.host.code])
    assert buttons(seated("team_lead"), cells.address_of(row)) == set()
    assert seated("team_lead").get(path).status_code == 403
    client = seated("finance")
    assert "new ones rest" in text_of(client.get(cells.address_of(row)))
    typed = answers(client, path, reason="Called the host on the number of 2024")
    assert client.post(path, typed).status_code == 302
    row.refresh_from_db()
    assert row.bank_approved_by is not None and row.version == 2
    assert client.post(path, typed).status_code == 409
    waiting = client.get("/console/payouts/hostaccount/?view=bank").context["cl"].result_list
    assert not HostAccount.objects.filter(pk__in=[each.pk for each in waiting]).exists()


# Debts and write-offs -------------------------------------------------------------------------------------------------


def test_debts_are_shown_by_age_and_sum_up(db: None) -> None:
    for amount in (4_475, 1_000):
        owe(sent(paid()), amount)
    response = seated("auditor").get(reverse("admin:payouts_hostaccount_receivables"))
    by_age = response.context["page"].panels[0]
    *hosts, together = by_age.rows
    assert len(hosts) == 2 and together.strong
    assert minor(together.cells[-1]) == sum(minor(row.cells[-1]) for row in hosts) == 5_475
    assert [minor(row.cells[1]) for row in hosts] == [minor(row.cells[-1]) for row in hosts]  # all of them young


def test_a_debt_is_given_up_by_two(db: None) -> None:
    row = sent(paid())
    owe(row, 4_475)
    makers = factories.staff("finance", now=now())
    maker = Client()
    maker.force_login(makers)
    propose = reverse("admin:payouts_hostaccount_write_off", args=[row.host.code])
    opened = maker.get(propose)
    assert opened.context["form"].initial["amount"] == "44.75"
    typed = answers(maker, propose, seen="", amount="44.75", reason="The host has left the country")
    assert maker.post(propose, typed).status_code == 302
    made = WriteOff.objects.get()
    assert (made.amount, made.status, made.proposed_by) == (4_475, "proposed", makers)
    assert maker.post(propose, typed).status_code in {409, 422} and WriteOff.objects.count() == 1

    assert buttons(maker, cells.address_of(made)) == set()  # nobody decides their own
    second = seated("finance")
    assert buttons(second, cells.address_of(made)) == {"approve", "reject"}
    approve = reverse("admin:payouts_writeoff_approve", args=[made.code])
    refused = maker.post(approve, answers(maker, approve, reason="I am sure"))
    assert refused.status_code == 403
    assert queries.owed(host_code=row.host.code, currency="EUR") == Money(4_475, "EUR")
    assert second.post(approve, answers(second, approve, reason="Three letters came back")).status_code == 302
    made.refresh_from_db()
    assert made.status == "approved"
    assert not queries.owed(host_code=row.host.code, currency="EUR")
    assert "5220 Bad debt" in text_of(second.get(cells.address_of(made)))


# Bank payouts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("short", "words"), [(0, "Adds up"), (100, "Does not add up")])
def test_a_bank_payout_is_the_sum_of_its_lines_or_says_so(db: None, short: int, words: str) -> None:
    row = sent(paid())
    half = row.transfer_amount // 2
    made = bank_payout(row, half, row.transfer_amount - half - short)
    row.bank_payout = made
    row.save(update_fields=["bank_payout"])
    client = seated("auditor")
    assert words in text_of(client.get("/console/payouts/bankpayout/"))
    shown = page(client, made)
    assert bool(shown.warnings) is bool(short)
    text = text_of(client.get(cells.address_of(made)))
    assert words in text and row.code in text


def test_our_balance_in_a_currency_is_explained_before_it_is_swept(db: None) -> None:
    booking = paid()
    movement(booking)
    path = reverse("admin:payouts_bankpayout_change", args=["EUR"])
    response = seated("auditor").get(path)
    figures = response.context["page"].panels[0].figures
    *parts, earned = figures
    assert minor(earned.amount) == sum(minor(figure.amount) for figure in parts)
    assert response.context["buttons"] == []
    assert minor(earned.amount) < 0 and "sweep" not in buttons(seated("finance"), path)  # all of it is still others'
    assert "/console/payouts/bankpayout/EUR/" in seated("auditor").get("/console/payouts/bankpayout/").content.decode()


def test_what_is_not_ours_is_summed_once_and_only_where_it_is_shown(db: None) -> None:
    movement(paid())
    client = seated("finance")
    for path, times in (("/console/payouts/bankpayout/", 0), ("/console/payouts/bankpayout/EUR/", 1)):
        with CaptureQueriesContext(connection) as statements:
            assert client.get(path).status_code == 200
        assert sum("sum(-balance)" in each["sql"] for each in statements) == times, path


def test_a_sweep_that_was_sent_again_comes_after_its_own(db: None) -> None:
    path, client = reverse("admin:payouts_bankpayout_sweep", args=["EUR"]), seated("finance")
    typed = {**answers(client, path), "reason": "The month is over"}
    typed = answers(client, path, reason="The month is over")
    ours = {"host": None, "account": "", "automatic": False, "reason": "The month is over"}
    bank_payout(sent(paid()), **ours, status="requested", provider_id=None)
    again = client.post(path, typed)
    assert again.status_code == 409 and "changed since you opened it" in again.context["error"]
    assert BankPayout.objects.count() == 1


def test_a_saved_bank_payout_offers_no_sweep(db: None) -> None:
    row = sent(paid())
    made = bank_payout(row, row.transfer_amount)
    assert buttons(seated("finance"), cells.address_of(made)) == set()
    assert BankPayout.objects.count() == 1
