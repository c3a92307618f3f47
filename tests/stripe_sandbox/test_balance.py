"""Balances are sums of balance transactions, whatever happened; amounts settle where the tariff says."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from datetime import UTC, datetime
from typing import Any

import pytest
import stripe
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.stripe_sandbox.conftest import Pay
from tests.stripe_sandbox.server import RunningSandbox, run_sandbox

NATIVE = ["eur", "usd", "gbp", "sgd", "cad", "chf"]


@pytest.mark.parametrize("currency", NATIVE)
def test_settles_natively(sandbox: RunningSandbox, client: stripe.StripeClient, pay: Pay, currency: str) -> None:
    pay(amount=10_000, currency=currency)
    sandbox.advance(2)
    row = client.v1.balance_transactions.list().data[0]
    assert (row.currency, row.amount, row.exchange_rate) == (currency, 10_000, None)


@pytest.mark.parametrize(
    ("currency", "per_eur", "amount", "settled"),
    [
        ("jpy", "160", 16_001, 10_001),  # zero decimals: 16 001 yen are 100.00625 EUR
        ("kwd", "0.35", 35_000, 10_000),  # three decimals: 35.000 dinars
        ("sek", "11", 1_100, 100),
        ("sek", "11", 1_111, 101),
    ],
)
def test_converts_everything_else(
    sandbox: RunningSandbox,
    client: stripe.StripeClient,
    pay: Pay,
    currency: str,
    per_eur: str,
    amount: int,
    settled: int,
) -> None:
    today = sandbox.control("GET", "/_sim/clock")["now_iso"][:10]
    sandbox.control("POST", "/_sim/rates", {"currency": currency, "date": today, "per_eur": per_eur})
    intent = pay(amount=amount, currency=currency)
    sandbox.advance(2)
    row = client.v1.balance_transactions.list().data[0]
    assert (row.currency, row.amount) == ("eur", settled)
    assert intent.amount_received == amount


def test_money_becomes_available_after_business_days(
    sandbox: RunningSandbox, client: stripe.StripeClient, pay: Pay
) -> None:
    pay()
    sandbox.advance(2)
    row = client.v1.balance_transactions.list().data[0]
    assert client.v1.balance.retrieve().pending[0].amount == 49_225
    day = datetime.fromtimestamp(row.available_on, UTC)
    assert (day.hour, day.minute) == (0, 0) and day.weekday() < 5
    assert 3 <= (day.date() - datetime.fromtimestamp(row.created, UTC).date()).days <= 5
    sandbox.set_clock(row.available_on)
    balance = client.v1.balance.retrieve()
    assert (balance.available[0].amount, balance.pending[0].amount) == (49_225, 0)
    assert client.v1.balance_transactions.retrieve(row.id).status == "available"
    told = client.v1.events.list({"type": "balance.available"}).data
    assert [event.data.object["available"][0]["amount"] for event in told] == [49_225]


def test_bypass_pending_is_available_at_once(sandbox: RunningSandbox, client: stripe.StripeClient, pay: Pay) -> None:
    pay(card="pm_card_bypassPending")
    sandbox.advance(2)
    assert client.v1.balance.retrieve().available[0].amount == 49_225


def test_filters(sandbox: RunningSandbox, client: stripe.StripeClient, pay: Pay) -> None:
    intents = [pay(amount=1_000 + n, currency=currency) for n, currency in enumerate(["eur", "usd", "eur"])]
    sandbox.advance(2)
    refund = client.v1.refunds.create({"payment_intent": intents[0].id})
    transactions = client.v1.balance_transactions
    assert {row.currency for row in transactions.list({"currency": "usd"}).data} == {"usd"}
    assert [row.source for row in transactions.list({"type": "refund"}).data] == [refund.id]
    assert [row.type for row in transactions.list({"source": intents[0].latest_charge}).data] == ["charge"]
    assert transactions.list({"payout": "po_none"}).data == []
    created = transactions.list().data[-1].created
    assert len(transactions.list({"created": {"gte": created}}).data) == 4
    assert transactions.list({"created": {"gt": created + 1}}).data == []
    with pytest.raises(stripe.InvalidRequestError, match="No such balance transaction"):
        transactions.retrieve("txn_none")


ACTS = st.lists(
    st.one_of(
        st.tuples(
            st.just("pay"),
            st.integers(1_000, 90_000),
            st.sampled_from(["eur", "usd", "jpy", "sgd"]),
            st.sampled_from(["pm_card_visa", "pm_card_refundFail", "pm_card_pendingRefund", "pm_card_bypassPending"]),
        ),
        st.tuples(st.just("authorise"), st.integers(1_000, 90_000), st.integers(1, 100)),
        st.tuples(st.just("refund"), st.integers(0, 20), st.integers(1, 60_000)),
        st.tuples(st.just("advance"), st.sampled_from([1, 3_600, 86_400, 400_000])),
    ),
    min_size=1,
    max_size=25,
)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with run_sandbox(tmp_path_factory.mktemp("world"), clock="frozen") as running:
        yield running


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(acts=ACTS)
def test_every_cent_is_in_a_balance_transaction(world: RunningSandbox, acts: list[Any]) -> None:
    """Whatever is done: balances are the sums of net, and what was taken less what went back is what is there."""
    world.control("POST", "/_sim/reset")
    client = world.client()
    intents: list[str] = []
    for act, *what in acts:
        if act == "advance":
            world.advance(what[0])
        elif act == "refund" and intents:
            with contextlib.suppress(stripe.InvalidRequestError):
                client.v1.refunds.create({"payment_intent": intents[what[0] % len(intents)], "amount": what[1]})
        elif act in ("pay", "authorise"):
            intent = client.v1.payment_intents.create(
                {
                    "amount": what[0],
                    "currency": what[1] if act == "pay" else "eur",
                    "payment_method": what[2] if act == "pay" else "pm_card_visa",
                    "capture_method": "automatic_async" if act == "pay" else "manual",
                    "confirm": True,
                    "automatic_payment_methods": {"enabled": True, "allow_redirects": "never"},
                }
            )
            if act == "authorise":
                taken = max(1, what[0] * what[1] // 100)
                client.v1.payment_intents.capture(intent.id, {"amount_to_capture": taken})
            intents.append(intent.id)
    world.advance(30 * 86_400)

    rows = list(client.v1.balance_transactions.list({"limit": 100}).auto_paging_iter())
    sums: dict[str, int] = defaultdict(int)
    gross: dict[str, int] = defaultdict(int)
    for row in rows:
        assert row.net == row.amount - row.fee and row.fee == sum(fee.amount for fee in row.fee_details)
        sums[row.currency] += row.net
        gross[row.currency] += row.amount
    balance = client.v1.balance.retrieve()
    held = {money.currency: money.amount for money in balance.available if money.amount}
    assert held == {currency: total for currency, total in sums.items() if total}
    assert all(money.amount == 0 for money in balance.pending)

    kept: dict[str, int] = defaultdict(int)
    for charge in client.v1.charges.list({"limit": 100}).auto_paging_iter():
        assert 0 <= charge.amount_refunded <= charge.amount
        if charge.currency != "jpy":  # converted amounts differ by the rate of the day
            kept[charge.currency] += charge.amount - charge.amount_refunded
    converted = {row.source for row in rows if row.exchange_rate is not None}
    for row in rows:
        if row.source in converted:
            gross[row.currency] -= row.amount
    assert {currency: total for currency, total in gross.items() if total} == {
        currency: total for currency, total in kept.items() if total
    }
