"""Report runs: the same balance transactions as the API's, as CSV in Stripe's columns."""

from __future__ import annotations

import csv
import io
import urllib.request
from decimal import Decimal
from typing import Any

import pytest
import stripe

from ops_cli.stripe_sandbox.reports import TYPES
from tests.stripe_sandbox.conftest import Host, Pay
from tests.stripe_sandbox.server import RunningSandbox

DAY = 86_400
ACTIVITY = "balance_change_from_activity.itemized.3"


def run(
    sandbox: RunningSandbox, client: stripe.StripeClient, kind: str, account: str | None = None, **parameters: Any
) -> list[dict[str, str]]:
    """Have a report made of everything there is; its rows."""
    options: Any = {"stripe_account": account} if account else {}
    known = client.v1.reporting.report_types.retrieve(kind)
    span = {"interval_start": known.data_available_start, "interval_end": known.data_available_end}
    made = client.v1.reporting.report_runs.create({"report_type": kind, "parameters": {**span, **parameters}}, options)  # type: ignore[typeddict-item]
    assert (made.status, made.result) == ("pending", None)
    sandbox.advance(60)
    done = client.v1.reporting.report_runs.retrieve(made.id, {}, options)
    assert done.status == "succeeded" and done.result.purpose == "finance_report_run"
    headers = {"Authorization": f"Bearer {sandbox.api_key}", **({"Stripe-Account": account} if account else {})}
    with urllib.request.urlopen(urllib.request.Request(done.result.url, headers=headers)) as response:
        assert response.headers["Content-Type"].startswith("text/csv")
        return list(csv.DictReader(io.TextIOWrapper(response, "utf-8")))


@pytest.fixture
def month(sandbox: RunningSandbox, client: stripe.StripeClient, pay: Pay, host: Host) -> str:
    """A month of every kind of thing; the host's account."""
    account = host()
    customer = client.v1.customers.create({"email": "guest@example.com", "name": "A. Guest"}).id
    intent = pay(amount=50_000, customer=customer, metadata={"booking": "BK-1"}, description="Stay")
    client.v1.transfers.create({
        "amount": 40_000, "currency": "eur", "destination": account, "metadata": {"payout": "PO-1"},
        "source_transaction": str(intent.latest_charge),
    })  # fmt: skip
    client.v1.refunds.create({"payment_intent": intent.id, "amount": 1_234, "metadata": {"line": "cleaning"}})
    pay(amount=90_000, currency="jpy")
    pay(amount=20_000, currency="usd", card="pm_card_createDispute")
    sandbox.advance(10 * DAY)
    client.v1.payouts.create({"amount": 2_000, "currency": "eur"})
    sandbox.advance(5 * DAY)
    return account


def test_activity_is_the_balance_transactions_in_major_units(
    sandbox: RunningSandbox, client: stripe.StripeClient, month: str
) -> None:
    rows = run(sandbox, client, ACTIVITY)
    listed = list(client.v1.balance_transactions.list({"limit": 100}).auto_paging_iter())
    activity = {row.id: row for row in listed if row.reporting_category not in ("payout", "payout_reversal")}
    assert set(activity) == {row["balance_transaction_id"] for row in rows} and len(rows) == len(activity) > 5
    for row in rows:
        known = activity[row["balance_transaction_id"]]
        assert (Decimal(row["gross"]) * 100, Decimal(row["net"]) * 100) == (known.amount, known.net)
        assert (row["currency"], row["reporting_category"]) == (known.currency, known.reporting_category)
    assert list(rows[0]) == TYPES[ACTIVITY].default


def test_columns_are_chosen_and_filled(sandbox: RunningSandbox, client: stripe.StripeClient, month: str) -> None:
    columns = [
        "source_id", "reporting_category", "payment_intent_id", "customer_email", "card_brand", "dispute_reason",
        "payment_metadata[booking]", "refund_metadata[line]", "transfer_metadata[payout]", "connected_account_id",
        "customer_facing_amount", "customer_facing_currency", "gross", "created", "created_utc",
    ]  # fmt: skip
    rows = run(sandbox, client, ACTIVITY, columns=columns, timezone="Asia/Singapore")
    assert list(rows[0]) == columns
    by_category = {row["reporting_category"]: row for row in rows}
    refund, transfer, dispute = (by_category[name] for name in ("refund", "transfer", "dispute"))
    assert (refund["refund_metadata[line]"], refund["payment_metadata[booking]"]) == ("cleaning", "BK-1")
    assert refund["customer_email"] == "guest@example.com" and refund["customer_facing_amount"] == "-12.34"
    assert (transfer["connected_account_id"], transfer["transfer_metadata[payout]"]) == (month, "PO-1")
    assert dispute["dispute_reason"] == "fraudulent"
    yen = next(row for row in rows if row["customer_facing_currency"] == "jpy")
    assert yen["customer_facing_amount"] == "90000" and "." in yen["gross"]
    assert all(row["created"] != row["created_utc"] for row in rows)


def test_summaries_add_up(sandbox: RunningSandbox, client: stripe.StripeClient, month: str) -> None:
    balance = {row["category"]: Decimal(row["net_amount"]) for row in run(sandbox, client, "balance.summary.1")
               if row["currency"] == "eur"}  # fmt: skip
    assert balance["starting_balance"] == 0 and balance["payouts"] == -20
    assert balance["ending_balance"] == balance["activity"] + balance["payouts"]
    held = client.v1.balance.retrieve()
    euros = sum(money.amount for part in (held.available, held.pending) for money in part if money.currency == "eur")
    assert balance["ending_balance"] * 100 == euros
    summary = run(sandbox, client, "balance_change_from_activity.summary.1")
    assert sum(Decimal(row["net"]) for row in summary if row["currency"] == "eur") == balance["activity"]
    assert sum(int(row["count"]) for row in summary) == len(run(sandbox, client, ACTIVITY))


def test_automatic_payouts_are_reconciled_manual_ones_are_not(
    sandbox: RunningSandbox, client: stripe.StripeClient, month: str
) -> None:
    kind = "payout_reconciliation.itemized.5"
    assert run(sandbox, client, kind) == []
    rows = run(sandbox, client, kind, account=month)
    [payout] = client.v1.payouts.list({}, {"stripe_account": month}).data
    assert {row["automatic_payout_id"] for row in rows} == {payout.id}
    assert sum(Decimal(row["net"]) for row in rows) * 100 == payout.amount
    assert run(sandbox, client, kind, account=month, payout="po_other") == []
    [own] = run(sandbox, client, "payouts.itemized.3")
    assert (own["gross"], own["payout_status"]) == ("-20.00", "paid")


def test_filters_and_what_is_not_there_yet(sandbox: RunningSandbox, client: stripe.StripeClient, month: str) -> None:
    assert {row["currency"] for row in run(sandbox, client, ACTIVITY, currency="usd")} == {"usd"}
    assert {row["reporting_category"] for row in run(sandbox, client, ACTIVITY, reporting_category="refund")} == {
        "refund"
    }
    known = client.v1.reporting.report_types.retrieve(ACTIVITY)
    assert 43_200 <= sandbox.now() - known.data_available_end < 43_200 + DAY
    span = {"interval_start": known.data_available_start, "interval_end": known.data_available_end}
    for parameters, message in (
        ({**span, "interval_end": known.data_available_end + 1}, "data_available_end"),
        ({**span, "interval_start": known.data_available_end}, "start before it ends"),
        ({"interval_start": span["interval_start"]}, "interval_end"),
        ({**span, "columns": ["surprise"]}, "no column surprise"),
        ({**span, "timezone": "Mars/Olympus"}, "Invalid timezone"),
    ):
        with pytest.raises(stripe.InvalidRequestError, match=message):
            client.v1.reporting.report_runs.create({"report_type": ACTIVITY, "parameters": parameters})  # type: ignore[typeddict-item]
    with pytest.raises(stripe.InvalidRequestError, match="No such report type"):
        client.v1.reporting.report_runs.create({"report_type": "surprise.1"})
    told = client.v1.events.list({"type": "reporting.report_run.succeeded"}).data
    assert len(told) == len(client.v1.reporting.report_runs.list().data) == 2


def test_columns_are_the_documented_ones(client: stripe.StripeClient) -> None:
    """67 of version 3 with the three metadata families; version 6 has UTC times alone, and trace ids."""
    assert len(TYPES[ACTIVITY].columns) + 3 == 67
    old, new = (set(TYPES[f"balance_change_from_activity.itemized.{n}"].columns) for n in (3, 6))
    assert old - new == {"created", "available_on", "charge_created"} and new - old == {"trace_id", "trace_id_status"}
    assert {kind.id for kind in client.v1.reporting.report_types.list().data} == set(TYPES)
