"""Payouts: by hand on the platform, by schedule on connected accounts; what fails, and when, by account number."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
import stripe

from tests.stripe_sandbox.conftest import Host, Pay
from tests.stripe_sandbox.server import ControlError, RunningSandbox

DAY = 86_400


def give(client: stripe.StripeClient, pay: Pay, account: str, amount: int = 40_000, card: str = "pm_card_visa") -> None:
    charge = str(pay(amount=amount, card=card).latest_charge)
    client.v1.transfers.create(
        {"amount": amount, "currency": "eur", "destination": account, "source_transaction": charge}
    )


def of(account: str) -> Any:
    return {"stripe_account": account}


@pytest.fixture
def funded(sandbox: RunningSandbox, client: stripe.StripeClient, pay: Pay) -> stripe.StripeClient:
    """49,225 euro cents available to the platform."""
    pay(card="pm_card_bypassPending")
    sandbox.advance(2)
    return client


def test_by_hand_until_it_is_paid(sandbox: RunningSandbox, funded: stripe.StripeClient) -> None:
    payouts = funded.v1.payouts
    payout = payouts.create({"amount": 9_225, "currency": "eur", "metadata": {"sweep": "S-1"}})
    assert (payout.status, payout.automatic, payout.reconciliation_status) == ("pending", False, "not_applicable")
    row = funded.v1.balance_transactions.retrieve(str(payout.balance_transaction))
    assert (row.type, row.reporting_category, row.net, row.source) == ("payout", "payout", -9_225, payout.id)
    assert funded.v1.balance.retrieve().available[0].amount == 40_000
    assert funded.v1.balance_transactions.list({"payout": payout.id}).data == []
    sandbox.set_clock(payout.arrival_date - 1)
    assert payouts.retrieve(payout.id).status == "in_transit"
    sandbox.advance(1)
    paid = payouts.retrieve(payout.id, {"expand": ["destination"]})
    assert paid.status == "paid" and paid.trace_id.status == "supported"
    bank: Any = paid.destination
    assert (bank.last4, bank.currency) == ("6789", "eur")
    assert datetime.fromtimestamp(paid.arrival_date, UTC).weekday() < 5
    types = [event.type for event in funded.v1.events.list({"type": "payout.*"}).data]
    assert types == ["payout.paid", "payout.updated", "payout.created"]
    assert payouts.list({"status": "paid", "arrival_date": {"lte": paid.arrival_date}}).data[0].id == payout.id
    assert payouts.list({"arrival_date": {"gt": paid.arrival_date}}).data == []


def test_refused(sandbox: RunningSandbox, funded: stripe.StripeClient) -> None:
    with pytest.raises(stripe.InvalidRequestError) as refused:
        funded.v1.payouts.create({"amount": 49_226, "currency": "eur"})
    assert refused.value.code == "balance_insufficient"
    with pytest.raises(stripe.InvalidRequestError, match="No such external account"):
        funded.v1.payouts.create({"amount": 1, "currency": "eur", "destination": "ba_none"})
    with pytest.raises(stripe.InvalidRequestError, match="divisible by 100"):
        funded.v1.payouts.create({"amount": 150, "currency": "huf"})
    with pytest.raises(stripe.APIError, match="not simulated"):
        funded.v1.payouts.create({"amount": 100, "currency": "eur", "method": "instant"})


def test_cancelled_while_pending(sandbox: RunningSandbox, funded: stripe.StripeClient) -> None:
    payout = funded.v1.payouts.create({"amount": 9_000, "currency": "eur"})
    cancelled = funded.v1.payouts.cancel(payout.id, {"expand": ["failure_balance_transaction"]})
    row: Any = cancelled.failure_balance_transaction
    assert (cancelled.status, row.type, row.reporting_category) == ("canceled", "payout_cancel", "payout_reversal")
    assert funded.v1.balance.retrieve().available[0].amount == 49_225
    with pytest.raises(stripe.InvalidRequestError, match="cannot be canceled"):
        funded.v1.payouts.cancel(payout.id)
    sandbox.advance(7 * DAY)
    assert funded.v1.payouts.retrieve(payout.id).status == "canceled"


def test_paid_and_yet_failed(sandbox: RunningSandbox, funded: stripe.StripeClient) -> None:
    payout = funded.v1.payouts.create({"amount": 9_000, "currency": "eur"})
    sandbox.set_clock(payout.arrival_date)
    assert funded.v1.payouts.retrieve(payout.id).status == "paid"
    sandbox.control("POST", f"/_sim/payouts/{payout.id}/fail", {"failure_code": "account_frozen"})
    failed = funded.v1.payouts.retrieve(payout.id)
    assert (failed.status, failed.failure_code) == ("failed", "account_frozen")
    row = funded.v1.balance_transactions.retrieve(str(failed.failure_balance_transaction))
    assert (row.type, row.reporting_category, row.net) == ("payout_failure", "payout_reversal", 9_000)
    with pytest.raises(stripe.InvalidRequestError, match="disabled"):
        funded.v1.payouts.create({"amount": 1, "currency": "eur"})
    sandbox.control("POST", "/_sim/bank_account", {"account_number": "000123456789"})
    assert funded.v1.payouts.create({"amount": 1, "currency": "eur"}).status == "pending"
    with pytest.raises(ControlError, match="cannot fail"):
        sandbox.control("POST", f"/_sim/payouts/{payout.id}/fail")
    with pytest.raises(ControlError, match="No such payout"):
        sandbox.control("POST", "/_sim/payouts/po_none/fail")


def test_automatic_payouts_say_what_they_are_made_of(
    sandbox: RunningSandbox, client: stripe.StripeClient, pay: Pay, host: Host
) -> None:
    account = host()
    for amount in (40_000, 10_000):
        give(client, pay, account, amount)
    assert client.v1.payouts.list({}, of(account)).data == []
    sandbox.advance(7 * DAY)
    [payout] = client.v1.payouts.list({}, of(account)).data
    assert (payout.amount, payout.automatic) == (50_000, True)
    rows = client.v1.balance_transactions.list({"payout": payout.id}, of(account)).data
    assert sorted((row.type, row.net) for row in rows) == [
        ("payment", 10_000),
        ("payment", 40_000),
        ("payout", -50_000),
    ]
    sandbox.advance(7 * DAY)
    payout = client.v1.payouts.retrieve(payout.id, {}, of(account))
    assert (payout.status, payout.reconciliation_status) == ("paid", "completed")
    events = client.v1.events.list({"type": "payout.*"}, of(account)).data
    assert [event.type for event in events] == [
        "payout.paid", "payout.reconciliation_completed", "payout.updated", "payout.created",
    ]  # fmt: skip
    assert client.v1.balance.retrieve({}, of(account)).available[0].amount == 0
    with pytest.raises(stripe.InvalidRequestError, match="Automatic payouts cannot be canceled"):
        client.v1.payouts.cancel(payout.id, {}, of(account))


@pytest.mark.parametrize(("number", "code"), [("000111111116", "no_account"), ("000111111113", "account_closed")])
def test_a_returned_payout_waits_for_another_bank_account(
    sandbox: RunningSandbox, client: stripe.StripeClient, pay: Pay, host: Host, number: str, code: str
) -> None:
    account = host(number=number)
    give(client, pay, account, card="pm_card_bypassPending")
    sandbox.advance(7 * DAY)
    [payout] = client.v1.payouts.list({}, of(account)).data
    assert (payout.status, payout.failure_code) == ("failed", code)
    stopped = client.v1.accounts.retrieve(account)
    assert not stopped.payouts_enabled and stopped.requirements.currently_due == ["external_account"]
    assert stopped.external_accounts.data[0].status == "errored"
    assert client.v1.balance.retrieve({}, of(account)).available[0].amount == 40_000
    sandbox.advance(7 * DAY)
    assert len(client.v1.payouts.list({}, of(account)).data) == 1
    bank: Any = {"account_number": "000123456789", "country": "DE", "currency": "eur"}
    client.v1.accounts.external_accounts.create(account, {"bank_account": bank, "default_for_currency": True})
    assert client.v1.accounts.retrieve(account).payouts_enabled
    sandbox.advance(7 * DAY)
    again = client.v1.payouts.list({}, of(account)).data[0]
    assert (again.id != payout.id, again.status, again.amount) == (True, "paid", 40_000)
    rows = client.v1.balance_transactions.list({"payout": again.id}, of(account)).data
    assert sorted(row.type for row in rows) == ["payout", "payout_failure"]


@pytest.mark.parametrize(
    ("schedule", "right"),
    [
        ({"interval": "weekly", "weekly_anchor": "friday"}, lambda day: day.weekday() == 4),
        (
            {"interval": "monthly", "monthly_anchor": 31},
            lambda day: day.month != (day.fromordinal(day.toordinal() + 1)).month,
        ),
        ({"interval": "daily"}, lambda day: day.weekday() < 5),
    ],
)
def test_on_the_days_of_the_schedule(
    sandbox: RunningSandbox, client: stripe.StripeClient, pay: Pay, host: Host, schedule: Any, right: Any
) -> None:
    account = host(settings={"payouts": {"schedule": schedule}})
    give(client, pay, account)
    sandbox.advance(45 * DAY)
    [payout] = client.v1.payouts.list({}, of(account)).data
    assert right(datetime.fromtimestamp(payout.created, UTC).date())


def test_accounts_on_manual_payouts_keep_their_money(
    sandbox: RunningSandbox, client: stripe.StripeClient, pay: Pay, host: Host
) -> None:
    account = host(settings={"payouts": {"schedule": {"interval": "manual"}}})
    give(client, pay, account)
    sandbox.advance(40 * DAY)
    assert client.v1.payouts.list({}, of(account)).data == []
    payout = client.v1.payouts.create({"amount": 40_000, "currency": "eur"}, of(account))
    assert payout.automatic is False


def test_an_account_deleted_while_its_last_payout_is_under_way(
    sandbox: RunningSandbox, client: stripe.StripeClient, pay: Pay, host: Host
) -> None:
    account = host(number="000111111116")
    give(client, pay, account, card="pm_card_bypassPending")
    while not client.v1.payouts.list({}, of(account)).data:
        sandbox.advance(DAY)
    assert client.v1.accounts.delete(account).deleted
    sandbox.advance(7 * DAY)
    assert client.v1.accounts.list().data == []
