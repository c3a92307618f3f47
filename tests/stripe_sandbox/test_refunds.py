"""Refunds: partial, too large, late, failing, in another currency."""

from __future__ import annotations

from typing import Any

import pytest
import stripe

from tests.stripe_sandbox.conftest import Pay
from tests.stripe_sandbox.server import RunningSandbox


def test_partial_refunds_until_nothing_is_left(client: stripe.StripeClient, pay: Pay) -> None:
    intent = pay(amount=10_000)
    first = client.v1.refunds.create(
        {"payment_intent": intent.id, "amount": 3_000, "reason": "requested_by_customer", "metadata": {"case": "C-1"}}
    )
    assert (first.status, first.currency, first.charge) == ("succeeded", "eur", intent.latest_charge)
    with pytest.raises(stripe.InvalidRequestError, match=r"\(€70.01\) is greater than unrefunded amount .*€70.00"):
        client.v1.refunds.create({"payment_intent": intent.id, "amount": 7_001})
    client.v1.refunds.create({"charge": intent.latest_charge})
    charge = client.v1.charges.retrieve(intent.latest_charge, {"expand": ["refunds"]})
    assert (charge.amount_refunded, charge.refunded) == (10_000, True)
    assert [refund.amount for refund in charge.refunds.data] == [7_000, 3_000]
    with pytest.raises(stripe.InvalidRequestError, match="already been refunded") as refused:
        client.v1.refunds.create({"charge": intent.latest_charge})
    assert refused.value.error.code == "charge_already_refunded"


def test_refund_returns_no_fee_and_tells(client: stripe.StripeClient, pay: Pay) -> None:
    intent = pay()
    refund = client.v1.refunds.create({"payment_intent": intent.id, "expand": ["balance_transaction"]})
    transaction = refund.balance_transaction
    assert (transaction.amount, transaction.fee, transaction.net) == (-50_000, 0, -50_000)
    assert (transaction.type, transaction.reporting_category, transaction.source) == ("refund", "refund", refund.id)
    told = [event.type for event in client.v1.events.list({"limit": 3}).data][::-1]
    assert told == ["charge.updated", "refund.created", "charge.refunded"]


def test_refund_before_settlement_settles_the_charge_first(client: stripe.StripeClient, pay: Pay) -> None:
    client.v1.refunds.create({"payment_intent": pay().id})
    assert [row.type for row in client.v1.balance_transactions.list().data] == ["refund", "charge"]


def test_pending_refund_succeeds_later(sandbox: RunningSandbox, client: stripe.StripeClient, pay: Pay) -> None:
    refund = client.v1.refunds.create({"payment_intent": pay(card="pm_card_pendingRefund").id})
    assert (refund.status, refund.pending_reason) == ("pending", "processing")
    sandbox.advance(3600)
    after = client.v1.refunds.retrieve(refund.id)
    assert after.status == "succeeded" and "pending_reason" not in after
    updated = client.v1.events.list({"type": "refund.updated"}).data[0]
    assert updated.data.previous_attributes["status"] == "pending"


def test_refund_that_fails_later_brings_the_money_back(
    sandbox: RunningSandbox, client: stripe.StripeClient, pay: Pay
) -> None:
    intent = pay(card="pm_card_refundFail")
    refund = client.v1.refunds.create({"payment_intent": intent.id, "amount": 20_000})
    assert refund.status == "succeeded"
    sandbox.advance(3600)
    after = client.v1.refunds.retrieve(refund.id, {"expand": ["failure_balance_transaction"]})
    assert (after.status, after.failure_reason) == ("failed", "expired_or_canceled_card")
    back = after.failure_balance_transaction
    assert (back.amount, back.type, back.reporting_category) == (20_000, "refund_failure", "refund_failure")
    assert client.v1.charges.retrieve(intent.latest_charge).amount_refunded == 0
    assert [event.type for event in client.v1.events.list({"type": "refund.*"}).data] == [
        "refund.failed",
        "refund.updated",
        "refund.created",
    ]


@pytest.mark.parametrize(
    ("params", "status", "code"),
    [
        ({}, 400, "parameter_missing"),
        ({"charge": "ch_none"}, 404, "resource_missing"),
        ({"payment_intent": "pi_none"}, 404, "resource_missing"),
        ({"charge": "ch_none", "amount": 0}, 400, "parameter_invalid_integer"),
        ({"charge": "ch_none", "reason": "whim"}, 400, None),
    ],
)
def test_refused_refunds(client: stripe.StripeClient, params: Any, status: int, code: str | None) -> None:
    with pytest.raises(stripe.InvalidRequestError) as refused:
        client.v1.refunds.create(params)
    assert (refused.value.http_status, refused.value.error.code) == (status, code)


def test_unpaid_intent_cannot_be_refunded(client: stripe.StripeClient, pay: Pay) -> None:
    intent = pay(capture_method="manual")
    with pytest.raises(stripe.InvalidRequestError, match="does not have a successful charge"):
        client.v1.refunds.create({"payment_intent": intent.id})
    with pytest.raises(stripe.InvalidRequestError, match="has not been captured"):
        client.v1.refunds.create({"charge": intent.latest_charge})


def test_card_refund_cannot_be_cancelled_but_annotated(client: stripe.StripeClient, pay: Pay) -> None:
    refund = client.v1.refunds.create({"payment_intent": pay().id})
    with pytest.raises(stripe.InvalidRequestError, match="requires_action"):
        client.v1.refunds.cancel(refund.id)
    assert client.v1.refunds.update(refund.id, {"metadata": {"a": "b"}}).metadata["a"] == "b"


def test_refund_at_another_rate_costs_another_amount(
    sandbox: RunningSandbox, client: stripe.StripeClient, pay: Pay
) -> None:
    today = sandbox.control("GET", "/_sim/clock")["now_iso"][:10]
    sandbox.control("POST", "/_sim/rates", {"currency": "huf", "date": today, "per_eur": "400"})
    intent = pay(amount=40_000_00, currency="huf")
    sandbox.advance(2)
    sandbox.control("POST", "/_sim/rates", {"currency": "huf", "date": today, "per_eur": "410"})
    client.v1.refunds.create({"payment_intent": intent.id})
    out, into = client.v1.balance_transactions.list().data
    assert (into.currency, into.amount, into.exchange_rate) == ("eur", 10_000, 0.0025)
    assert (out.amount, out.fee) == (-9_756, 0)
