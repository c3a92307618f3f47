"""Clock, drift, pages: what is done to the sandbox rather than asked of it."""

from __future__ import annotations

from typing import Any

import pytest
import requests
import stripe

from tests.stripe_sandbox.conftest import Pay
from tests.stripe_sandbox.server import ControlError, RunningSandbox


def test_clock_moves_forward_only(sandbox: RunningSandbox, client: stripe.StripeClient) -> None:
    before = sandbox.now()
    assert sandbox.advance(90)["now"] == before + 90
    assert client.v1.customers.create().created == int(before + 90)
    assert sandbox.set_clock(before + 100)["now"] == before + 100
    for body in ({"advance": -1}, {"set": before}, {"set": "soon"}, {"advance": "1"}, {"jump": 1}, {}):
        with pytest.raises(ControlError) as refused:
            sandbox.control("POST", "/_sim/clock", body)
        assert refused.value.status == 400
    assert sandbox.now() == before + 100


def test_a_reset_keeps_the_time_unless_the_clock_is_reset_too(sandbox: RunningSandbox) -> None:
    """A desk runs along with the sandbox's clock, so time is not taken back from it by the way."""
    started = sandbox.now()
    sandbox.advance(90 * 86_400)
    sandbox.control("POST", "/_sim/reset")
    assert sandbox.now() == started + 90 * 86_400
    sandbox.control("POST", "/_sim/reset", {"clock": True})
    assert started <= sandbox.now() < started + 86_400


def test_what_falls_due_happens_at_its_own_time(sandbox: RunningSandbox, client: stripe.StripeClient, pay: Pay) -> None:
    started = sandbox.now()
    pay(card="pm_card_pendingRefund")
    pay(capture_method="manual")
    client.v1.refunds.create({"payment_intent": client.v1.payment_intents.list().data[1].id})
    moved = sandbox.advance(10 * 86_400)
    assert moved["done"] >= 3
    times = {event.type: event.created - int(started) for event in client.v1.events.list({"limit": 100}).data}
    assert times["refund.updated"] == 3_600
    assert times["charge.expired"] == times["payment_intent.canceled"] == 7 * 86_400


def test_health_and_state(sandbox: RunningSandbox, pay: Pay) -> None:
    assert sandbox.control("GET", "/_sim/health")["status"] == "ok"
    pay()
    sandbox.advance(2)
    state = sandbox.control("GET", "/_sim/state")
    assert state["objects"] == {"charge": 1, "payment_intent": 1, "payment_method": 1, "webhook_endpoint": 1}
    assert (state["balance_transactions"], state["events"], state["idempotency_keys"]) == (1, 4, 1)


def test_drift(sandbox: RunningSandbox, client: stripe.StripeClient, pay: Pay) -> None:
    for amount in (10_000, 20_000):
        pay(amount=amount)
    sandbox.advance(2)
    newest, oldest = client.v1.balance_transactions.list().data
    events = sandbox.control("GET", "/_sim/state")["events"]

    changed = sandbox.drift("altered", balance_transaction=oldest.id, amount_delta=-1)
    assert (changed["before"]["amount"], changed["after"]["amount"]) == (10_000, 9_999)
    row = client.v1.balance_transactions.retrieve(oldest.id)
    assert (row.amount, row.net, row.fee) == (9_999, oldest.net - 1, oldest.fee)

    assert sandbox.drift("missing")["balance_transaction"] == newest.id
    with pytest.raises(stripe.InvalidRequestError):
        client.v1.balance_transactions.retrieve(newest.id)

    extra = sandbox.drift("extra", amount_delta=77)
    assert client.v1.balance_transactions.retrieve(extra["balance_transaction"]).net == 77
    assert sandbox.control("GET", "/_sim/state")["events"] == events

    for bad in ({"kind": "lost"}, {"amount_delta": 0}, {"amount_delta": 1.5}, {"balance_transaction": "txn_none"}):
        with pytest.raises(ControlError):
            sandbox.control("POST", "/_sim/drift", bad)


def test_drift_with_nothing_to_falsify(sandbox: RunningSandbox) -> None:
    with pytest.raises(ControlError) as refused:
        sandbox.drift("altered")
    assert refused.value.status == 404


def test_rates_need_sense(sandbox: RunningSandbox) -> None:
    for bad in (
        {},
        {"currency": "eur", "date": "2026-01-01", "per_eur": "1"},
        {"currency": "usd", "date": "yesterday", "per_eur": "1"},
        {"currency": "usd", "date": "2026-01-01", "per_eur": "0"},
        {"currency": "usd", "date": "2026-01-01", "per_eur": "1/0"},
    ):
        with pytest.raises(ControlError):
            sandbox.control("POST", "/_sim/rates", bad)


@pytest.mark.parametrize(("pressed", "status"), [("succeed", "succeeded"), ("fail", "failed")])
def test_challenge_page_leads_back_to_the_merchant(
    sandbox: RunningSandbox, client: stripe.StripeClient, pay: Pay, pressed: str, status: str
) -> None:
    intent = pay(card="pm_card_threeDSecure2Required", return_url="https://staydesk.example/back?booking=BK-1")
    url = intent.next_action.redirect_to_url.url
    page = requests.get(url, timeout=10)
    assert page.status_code == 200 and "€500.00" in page.text
    form = {"client_secret": intent.client_secret, "outcome": pressed}
    address = url.partition("?")[0]
    assert requests.post(address, data={**form, "client_secret": "wrong"}, timeout=10).status_code == 404
    done = requests.post(address, data=form, timeout=10, allow_redirects=False)
    assert done.status_code == 302
    assert done.headers["Location"] == (
        f"https://staydesk.example/back?booking=BK-1&payment_intent={intent.id}&redirect_status={status}"
        f"&payment_intent_client_secret={intent.client_secret}"
    )
    assert requests.post(address, data=form, timeout=10).status_code == 400
    assert "Nothing to confirm" in requests.get(url, timeout=10).text


def test_pages_for_people(sandbox: RunningSandbox, client: stripe.StripeClient, pay: Pay) -> None:
    hostile: Any = {"description": "<script>alert(1)</script>"}
    intent = pay(**hostile)
    sandbox.advance(2)
    client.v1.refunds.create({"payment_intent": intent.id})
    sandbox.fault("slow", path="/v1/<b>")
    overview = requests.get(f"{sandbox.base_url}/", timeout=10)
    assert overview.url.endswith("/_sim/") and "charge.succeeded" in overview.text
    assert "<b>" not in overview.text
    for id in (intent.id, client.v1.events.list().data[0].id, client.v1.balance_transactions.list().data[0].id):
        page = requests.get(f"{sandbox.base_url}/_sim/objects/{id}", timeout=10)
        assert page.status_code == 200 and id in page.text and "<script>" not in page.text
    assert requests.get(f"{sandbox.base_url}/_sim/objects/none", timeout=10).status_code == 404
    assert requests.get(f"{sandbox.base_url}/_sim/nothing", timeout=10).status_code == 404
