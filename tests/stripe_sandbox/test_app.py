"""What holds for every request: keys, versions, headers, unknown addresses, lists, expansion."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import Any

import pytest
import requests
import stripe

from tests.stripe_sandbox.conftest import Pay
from tests.stripe_sandbox.server import RunningSandbox, run_sandbox


def get(sandbox: RunningSandbox, path: str, **headers: str) -> requests.Response:
    return requests.get(sandbox.base_url + path, headers=headers, timeout=20)


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({}, 401, None),
        ({"Authorization": "Bearer nonsense"}, 401, None),
        ({"Authorization": "Bearer sk_live_1234567890"}, 401, None),
        ({"Authorization": "Bearer pk_test_1"}, 401, "secret_key_required"),
        ({"Authorization": "Bearer sk_test_1", "Stripe-Account": "acct_none"}, 403, "account_invalid"),
        ({"Authorization": "Bearer sk_test_1", "Stripe-Version": "2020-08-27"}, 400, None),
        ({"Authorization": "Bearer sk_test_1"}, 200, None),
        ({"Authorization": "Bearer rk_test_1", "Stripe-Version": "2026-10-28.endive"}, 200, None),
        ({"Authorization": "Basic c2tfdGVzdF8xOg=="}, 200, None),
    ],
)
def test_who_may_ask(sandbox: RunningSandbox, headers: dict[str, str], status: int, code: str | None) -> None:
    answer = get(sandbox, "/v1/balance", **headers)
    assert answer.status_code == status
    assert answer.headers["Request-Id"].startswith("req_") and answer.headers["Stripe-Version"] == "2026-10-28.endive"
    if status != 200:
        assert answer.json()["error"].get("code") == code
        assert "1234567890" not in answer.text


def test_unknown_addresses(sandbox: RunningSandbox) -> None:
    key = {"Authorization": "Bearer sk_test_1"}
    unknown = get(sandbox, "/v3/nothing", **key)
    assert unknown.status_code == 404 and "Unrecognized request URL (GET: /v3/nothing)" in unknown.text
    assert requests.delete(f"{sandbox.base_url}/v1/balance", headers=key, timeout=20).status_code == 501
    assert requests.post(f"{sandbox.base_url}/v1/refunds", json={"a": 1}, headers=key, timeout=20).status_code == 400


def test_pages_of_a_list(client: stripe.StripeClient, pay: Pay) -> None:
    ids = [client.v1.customers.create({"email": f"g{n}@example.com"}).id for n in range(25)][::-1]
    first = client.v1.customers.list({"limit": 10})
    assert [item.id for item in first.data] == ids[:10] and first.has_more
    second = client.v1.customers.list({"limit": 10, "starting_after": ids[9]})
    assert [item.id for item in second.data] == ids[10:20] and second.has_more
    last = client.v1.customers.list({"limit": 10, "starting_after": ids[19]})
    assert [item.id for item in last.data] == ids[20:] and not last.has_more
    back = client.v1.customers.list({"limit": 10, "ending_before": ids[20]})
    assert [item.id for item in back.data] == ids[10:20] and back.has_more
    assert [item.id for item in client.v1.customers.list({"limit": 7}).auto_paging_iter()] == ids
    assert [item.email for item in client.v1.customers.list({"email": "g3@example.com"}).data] == ["g3@example.com"]
    for params in ({"limit": 0}, {"limit": 101}, {"starting_after": "cus_none"}):
        with pytest.raises(stripe.InvalidRequestError):
            client.v1.customers.list(params)  # type: ignore[arg-type]


def test_expansion(sandbox: RunningSandbox, client: stripe.StripeClient, pay: Pay) -> None:
    customer = client.v1.customers.create({"name": "Guest"})
    intent = pay(customer=customer.id)
    sandbox.advance(2)
    client.v1.refunds.create({"payment_intent": intent.id, "amount": 100})
    paths = ["latest_charge.balance_transaction", "latest_charge.refunds.data.balance_transaction", "customer"]
    expanded = client.v1.payment_intents.retrieve(intent.id, {"expand": [*paths, "payment_method"]})
    assert expanded.customer.name == "Guest" and expanded.payment_method.card.last4 == "4242"
    assert expanded.latest_charge.balance_transaction.source == expanded.latest_charge.id
    assert expanded.latest_charge.refunds.data[0].balance_transaction.amount == -100
    listed = client.v1.charges.list({"expand": ["data.payment_intent.customer"]}).data[0]
    assert listed.payment_intent.customer.id == customer.id
    assert isinstance(client.v1.payment_intents.retrieve(intent.id).latest_charge, str)


@pytest.mark.parametrize("path", ["amount", "nothing", "latest_charge.nothing", "latest_charge.a.b.c.d"])
def test_what_cannot_be_expanded(client: stripe.StripeClient, pay: Pay, path: str) -> None:
    intent = pay()
    with pytest.raises(stripe.InvalidRequestError, match="expand"):
        client.v1.payment_intents.retrieve(intent.id, {"expand": [path]})
    with pytest.raises(stripe.InvalidRequestError, match=r"data\.customer"):
        client.v1.charges.list({"expand": ["customer"]})


def test_customers_and_their_methods(client: stripe.StripeClient) -> None:
    address: Any = {"city": "Albany", "country": "US"}
    customer = client.v1.customers.create({"email": "a@example.com", "address": address, "metadata": {"a": "1"}})
    assert customer.address.city == "Albany" and customer.address.line1 is None
    updated = client.v1.customers.update(customer.id, {"address": "", "metadata": {"a": "", "b": "2"}})
    assert updated.address is None and updated.metadata.to_dict() == {"b": "2"}
    method = client.v1.payment_methods.create({"type": "card", "card": {"token": "tok_visa"}})
    client.v1.payment_methods.attach(method.id, {"customer": customer.id})
    assert [item.id for item in client.v1.payment_methods.list({"customer": customer.id}).data] == [method.id]
    client.v1.payment_methods.detach(method.id)
    with pytest.raises(stripe.InvalidRequestError, match="may not be used again"):
        client.v1.payment_methods.attach(method.id, {"customer": customer.id})
    with pytest.raises(stripe.CardError):
        client.v1.payment_methods.attach("pm_card_visa_chargeDeclined", {"customer": customer.id})
    deleted = client.v1.customers.delete(customer.id)
    assert deleted.deleted and client.v1.customers.retrieve(customer.id).deleted


def test_raw_card_numbers_are_refused(client: stripe.StripeClient) -> None:
    card: Any = {"number": "4242424242424242", "exp_month": 12, "exp_year": 2034}
    with pytest.raises(stripe.StripeError, match="generally unsafe"):
        client.v1.payment_methods.create({"type": "card", "card": card})


def test_same_seed_same_ids(sandbox: RunningSandbox, client: stripe.StripeClient) -> None:
    first = client.v1.customers.create().id
    sandbox.control("POST", "/_sim/reset")
    assert client.v1.customers.create().id == first


def test_too_many_requests_in_a_second(tmp_path: Path) -> None:
    """429 ``rate_limit``; a refused request was never executed, so its key is still free."""
    with run_sandbox(tmp_path, clock="frozen", rate_limit=5) as limited:
        client = limited.client()
        answers = []
        for _ in range(12):
            try:
                answers.append(client.v1.balance.retrieve().object)
            except stripe.RateLimitError as refused:
                answers.append(str(refused.error.code))
        assert answers[:5] == ["balance"] * 5 and "rate_limit" in answers
        for number in range(8):
            with contextlib.suppress(stripe.RateLimitError):
                client.v1.customers.create({"name": str(number)}, {"idempotency_key": "same"})
                break
            time.sleep(0.25)
        assert limited.control("GET", "/_sim/state")["objects"] == {"customer": 1}
