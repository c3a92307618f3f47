"""Fault rules on requests: what the caller sees, and what has happened all the same."""

from __future__ import annotations

from typing import Any

import pytest
import stripe

from tests.stripe_sandbox.receiver import Receiver
from tests.stripe_sandbox.server import ControlError, RunningSandbox

INTENT: Any = {"amount": 1000, "currency": "eur"}


def made(client: stripe.StripeClient) -> int:
    return len(client.v1.payment_intents.list().data)


CASES = [
    # effect, the SDK's error, whether the intent exists, whether the same key then succeeds, intents in the end
    ("timeout_before_commit", stripe.APIConnectionError, 0, True, 1),
    ("timeout_after_commit", stripe.APIConnectionError, 1, True, 1),
    ("reset_after_commit", stripe.APIConnectionError, 1, True, 1),
    ("truncated_body", stripe.APIConnectionError, 1, True, 1),
    ("error_500_before_commit", stripe.APIError, 0, False, 0),
    ("error_500_after_commit", stripe.APIError, 1, False, 1),
    ("error_409", stripe.APIError, 0, True, 1),
    ("error_429", stripe.RateLimitError, 0, True, 1),
    ("lock_timeout", stripe.RateLimitError, 0, True, 1),
]


@pytest.mark.parametrize(("effect", "error", "exists", "repeatable", "in_the_end"), CASES)
def test_effects(
    sandbox: RunningSandbox,
    client: stripe.StripeClient,
    effect: str,
    error: type[Exception],
    exists: int,
    repeatable: bool,
    in_the_end: int,
) -> None:
    sandbox.fault(effect, method="POST", path="/v1/payment_intents")
    key: Any = {"idempotency_key": "k1"}
    with pytest.raises(error):
        client.v1.payment_intents.create(INTENT, key)
    assert made(client) == exists
    if repeatable:
        client.v1.payment_intents.create(INTENT, key)
    else:
        with pytest.raises(stripe.APIError) as again:
            client.v1.payment_intents.create(INTENT, key)
        assert again.value.headers["Idempotent-Replayed"] == "true"
    assert made(client) == in_the_end


def test_reset_is_a_reset(sandbox: RunningSandbox, client: stripe.StripeClient) -> None:
    sandbox.fault("reset_after_commit")
    with pytest.raises(stripe.APIConnectionError, match="reset by peer"):
        client.v1.payment_intents.create(INTENT)


def test_the_webhook_comes_before_the_answer(sandbox: RunningSandbox, receiver: Receiver) -> None:
    sandbox.fault("webhook_before_answer", path="/v1/customers")
    sandbox.client().v1.customers.create()
    assert receiver.types() == ["customer.created"]  # nobody waited for it


def test_a_field_that_nobody_knows_is_the_answers_alone(sandbox: RunningSandbox) -> None:
    sandbox.fault("extra_field", path="/v1/customers")
    client, key = sandbox.client(), {"idempotency_key": "k1"}
    first, again = (client.v1.customers.create({}, key).to_dict() for _ in range(2))  # type: ignore[arg-type]
    assert first.pop("unheard_of") and first == again


def test_a_held_socket_outlasts_the_callers_patience(sandbox: RunningSandbox) -> None:
    sandbox.fault("timeout_after_commit", seconds=4)
    hasty = sandbox.client(stripe.RequestsClient(timeout=1.5))
    with pytest.raises(stripe.APIConnectionError, match="timed out"):
        hasty.v1.payment_intents.create(INTENT)
    assert made(sandbox.client()) == 1


def test_the_sdk_survives_a_lost_answer_without_paying_twice(sandbox: RunningSandbox) -> None:
    sandbox.fault("timeout_after_commit", path="/v1/payment_intents", times=2)
    patient = sandbox.client(max_network_retries=3)
    intent = patient.v1.payment_intents.create(INTENT)
    assert [item.id for item in patient.v1.payment_intents.list().data] == [intent.id]
    assert patient.v1.events.list().data[0].pending_webhooks >= 0


def test_nth_and_times(sandbox: RunningSandbox, client: stripe.StripeClient) -> None:
    rule = sandbox.fault("error_500_before_commit", path="/v1/customers", nth=2, times=2)
    seen = []
    for _ in range(5):
        try:
            client.v1.customers.create()
            seen.append(200)
        except stripe.APIError as error:
            seen.append(error.http_status or 0)
    assert seen == [200, 500, 500, 200, 200]
    assert sandbox.control("GET", "/_sim/faults")["data"] == [{**rule, "seen": 5, "fired": 2}]
    sandbox.clear_faults()
    assert sandbox.control("GET", "/_sim/faults")["data"] == []


def test_probability_is_repeatable(sandbox: RunningSandbox, client: stripe.StripeClient) -> None:
    def run() -> list[bool]:
        sandbox.control("POST", "/_sim/reset")
        sandbox.fault("error_429", path="/v1/customers", times=None, probability=0.5)
        outcome = []
        for _ in range(24):
            try:
                client.v1.customers.create()
                outcome.append(True)
            except stripe.RateLimitError:
                outcome.append(False)
        return outcome

    first = run()
    assert 4 < sum(first) < 20
    assert run() == first


@pytest.mark.parametrize(
    ("rule", "names"),
    [
        ({"effect": "earthquake"}, "effect"),
        ({"effect": "slow", "when": 1}, "when"),
        ({"effect": "slow", "nth": "1"}, "nth"),
        ({"effect": "slow", "seconds": -1}, "seconds"),
        ({"effect": "slow", "probability": True}, "probability"),
        ({}, "effect"),
    ],
)
def test_bad_rules_are_refused(sandbox: RunningSandbox, rule: dict[str, Any], names: str) -> None:
    with pytest.raises(ControlError) as refused:
        sandbox.control("POST", "/_sim/faults", rule)
    assert refused.value.status == 400 and refused.value.body["error"]["param"] == names
