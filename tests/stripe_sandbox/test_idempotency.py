"""Idempotency keys: one answer per key, errors included, and what is not kept."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import requests
import stripe

from tests.stripe_sandbox.conftest import Pay
from tests.stripe_sandbox.server import RunningSandbox

PAY = {
    "amount": "1000",
    "currency": "eur",
    "payment_method": "pm_card_visa",
    "confirm": "true",
    "automatic_payment_methods[enabled]": "true",
    "automatic_payment_methods[allow_redirects]": "never",
}


def post(sandbox: RunningSandbox, path: str, data: dict[str, str], key: str | None = None) -> requests.Response:
    headers = {"Authorization": f"Bearer {sandbox.api_key}", **({"Idempotency-Key": key} if key else {})}
    return requests.post(sandbox.base_url + path, data=data, headers=headers, timeout=20)


def test_repetition_gets_the_first_answer(sandbox: RunningSandbox, client: stripe.StripeClient) -> None:
    first = post(sandbox, "/v1/payment_intents", PAY, "k1")
    again = post(sandbox, "/v1/payment_intents", dict(reversed(PAY.items())), "k1")
    assert (first.status_code, again.status_code) == (200, 200) and first.text == again.text
    assert "Idempotent-Replayed" not in first.headers and again.headers["Idempotent-Replayed"] == "true"
    assert again.headers["Original-Request"] == first.headers["Request-Id"] != again.headers["Request-Id"]
    assert len(client.v1.payment_intents.list().data) == 1


def test_declines_are_kept(sandbox: RunningSandbox, client: stripe.StripeClient) -> None:
    declined = {**PAY, "payment_method": "pm_card_visa_chargeDeclined"}
    first, again = (post(sandbox, "/v1/payment_intents", declined, "k1") for _ in range(2))
    assert (first.status_code, again.status_code) == (402, 402)
    assert again.headers["Idempotent-Replayed"] == "true" and first.text == again.text
    assert len(client.v1.charges.list().data) == 1


def test_refusals_of_the_handler_are_kept_but_not_those_of_the_parameters(sandbox: RunningSandbox) -> None:
    assert post(sandbox, "/v1/refunds", {"charge": "ch_none"}, "k1").status_code == 404
    assert post(sandbox, "/v1/refunds", {"charge": "ch_none"}, "k1").headers["Idempotent-Replayed"] == "true"
    assert post(sandbox, "/v1/payment_intents", {"amount": "x", "currency": "eur"}, "k2").status_code == 400
    assert post(sandbox, "/v1/payment_intents", {"amount": "1000", "currency": "eur"}, "k2").status_code == 200


def test_key_reused_for_something_else(client: stripe.StripeClient) -> None:
    client.v1.payment_intents.create({"amount": 1000, "currency": "eur"}, {"idempotency_key": "k1"})
    with pytest.raises(stripe.IdempotencyError, match="same parameters") as refused:
        client.v1.payment_intents.create({"amount": 1001, "currency": "eur"}, {"idempotency_key": "k1"})
    assert (refused.value.http_status, refused.value.error.type) == (400, "idempotency_error")
    with pytest.raises(stripe.IdempotencyError, match="same endpoint"):
        client.v1.customers.create({}, {"idempotency_key": "k1"})


def test_key_in_flight_is_409_and_the_sdk_retries_it(sandbox: RunningSandbox, client: stripe.StripeClient) -> None:
    sandbox.fault("slow", path="/v1/payment_intents", seconds=2)
    answers: list[requests.Response] = []
    slow = threading.Thread(target=lambda: answers.append(post(sandbox, "/v1/payment_intents", PAY, "k1")))
    slow.start()
    while sandbox.control("GET", "/_sim/faults")["data"][0]["fired"] == 0:
        pass
    second = post(sandbox, "/v1/payment_intents", PAY, "k1")
    assert (second.status_code, second.json()["error"]["code"]) == (409, "idempotency_key_in_use")
    assert second.headers["Stripe-Should-Retry"] == "true"
    patient = sandbox.client(max_network_retries=4)
    params: Any = {
        "amount": 1000,
        "currency": "eur",
        "payment_method": "pm_card_visa",
        "confirm": True,
        "automatic_payment_methods": {"enabled": True, "allow_redirects": "never"},
    }
    intent = patient.v1.payment_intents.create(params, {"idempotency_key": "k1"})
    slow.join()
    assert answers[0].json()["id"] == intent.id
    assert len(client.v1.payment_intents.list().data) == 1


def test_the_same_key_at_once_makes_one_payment(sandbox: RunningSandbox, client: stripe.StripeClient) -> None:
    answers: list[requests.Response] = []
    start = threading.Barrier(12)

    def ask() -> None:
        start.wait()
        answers.append(post(sandbox, "/v1/payment_intents", PAY, "k1"))

    threads = [threading.Thread(target=ask) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {answer.status_code for answer in answers} <= {200, 409}
    assert len({answer.json()["id"] for answer in answers if answer.status_code == 200}) == 1
    assert len(client.v1.charges.list().data) == 1


def test_keys_are_forgotten_after_a_day(sandbox: RunningSandbox, client: stripe.StripeClient) -> None:
    post(sandbox, "/v1/payment_intents", PAY, "k1")
    sandbox.advance(86_400 + 1)
    assert "Idempotent-Replayed" not in post(sandbox, "/v1/payment_intents", PAY, "k1").headers
    assert len(client.v1.payment_intents.list().data) == 2


def test_get_and_long_keys(sandbox: RunningSandbox, pay: Pay) -> None:
    headers = {"Authorization": f"Bearer {sandbox.api_key}", "Idempotency-Key": "k1"}
    for _ in range(2):
        answer = requests.get(f"{sandbox.base_url}/v1/payment_intents", headers=headers, timeout=20)
        assert answer.status_code == 200 and "Idempotent-Replayed" not in answer.headers
    assert post(sandbox, "/v1/payment_intents", PAY, "k" * 256).status_code == 400
