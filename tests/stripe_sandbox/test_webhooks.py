"""Events and their delivery: signed, retried on the virtual clock, given up after three days, sent again on demand."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
import stripe

from ops_cli.stripe_sandbox.webhooks import pause_after, sign
from tests.stripe_sandbox.conftest import Pay
from tests.stripe_sandbox.receiver import Receiver, run_receiver
from tests.stripe_sandbox.server import ControlError, RunningSandbox


def states(sandbox: RunningSandbox) -> dict[str, int]:
    return dict(sandbox.control("GET", "/_sim/state")["deliveries"])


def test_deliveries_carry_a_signature_the_sdk_accepts(
    sandbox: RunningSandbox, receiver: Receiver, client: stripe.StripeClient, pay: Pay
) -> None:
    intent = pay(metadata={"booking": "BK-1"})
    arrived = receiver.wait_for(3)
    for item in arrived:
        event = client.construct_event(item.body, item.signature, sandbox.webhook_secret)
        assert event.api_version == "2026-10-28.endive" and event.livemode is False
        assert client.v1.events.retrieve(event.id).type == event.type
    assert sorted(receiver.types()) == ["charge.succeeded", "payment_intent.created", "payment_intent.succeeded"]
    paid = next(item.event for item in arrived if item.event["type"] == "payment_intent.succeeded")
    assert paid["data"]["object"]["id"] == intent.id and paid["pending_webhooks"] >= 1
    with pytest.raises(stripe.SignatureVerificationError):
        client.construct_event(arrived[0].body, arrived[0].signature, "whsec_other")
    with pytest.raises(stripe.SignatureVerificationError):
        client.construct_event(arrived[0].body + b" ", arrived[0].signature, sandbox.webhook_secret)


def test_signature_is_the_sdks_own() -> None:
    body = b'{"id": "evt_1"}'
    expected = stripe.WebhookSignature.generate_signature_header(body.decode(), "whsec_x", timestamp=1_700_000_000)
    assert sign(["whsec_x"], body, 1_700_000_000) == expected


def test_event_keeps_the_object_as_it_was(client: stripe.StripeClient, pay: Pay) -> None:
    intent = pay()
    created = client.v1.events.list({"type": "payment_intent.created"}).data[0]
    assert created.data.object["status"] == "requires_confirmation"
    assert client.v1.payment_intents.retrieve(intent.id).status == "succeeded"
    assert created.request.id.startswith("req_") and created.request.idempotency_key


def test_failed_delivery_is_retried_on_the_virtual_clock(
    sandbox: RunningSandbox, receiver: Receiver, client: stripe.StripeClient
) -> None:
    receiver.status = 500
    client.v1.customers.create()
    sandbox.flush()
    event = client.v1.events.list().data[0]
    assert event.pending_webhooks == 1
    assert client.v1.events.list({"delivery_success": False}).data[0].id == event.id
    assert len(receiver.received) == 1
    sandbox.advance(14)
    sandbox.flush()
    assert len(receiver.received) == 1
    receiver.status = 204
    sandbox.advance(1)
    sandbox.flush()
    first, second = receiver.received
    assert first.body == second.body or first.event["id"] == second.event["id"]
    assert client.v1.events.retrieve(event.id).pending_webhooks == 0
    assert [item.id for item in client.v1.events.list({"delivery_success": True}).data] == [event.id]


@pytest.mark.parametrize("answer", [301, 302, 400, 404, 503])
def test_anything_but_2xx_is_a_failure(
    sandbox: RunningSandbox, receiver: Receiver, client: stripe.StripeClient, answer: int
) -> None:
    receiver.status = answer
    client.v1.customers.create()
    sandbox.flush()
    assert states(sandbox) == {"pending": 1}
    delivery = sandbox.control("GET", "/_sim/deliveries")["data"][0]
    assert (delivery["last_status"], delivery["attempts"]) == (answer, 1)


def test_an_endpoint_that_is_too_slow_has_failed(
    sandbox: RunningSandbox, receiver: Receiver, client: stripe.StripeClient
) -> None:
    receiver.delay = 2.5
    client.v1.customers.create()
    sandbox.flush()
    assert sandbox.control("GET", "/_sim/deliveries")["data"][0]["last_status"] is None
    assert states(sandbox) == {"pending": 1}


def test_given_up_after_three_days(sandbox: RunningSandbox, receiver: Receiver, client: stripe.StripeClient) -> None:
    receiver.status = 500
    client.v1.customers.create()
    sandbox.flush()
    attempts = 1
    while states(sandbox) == {"pending": 1}:
        sandbox.advance(pause_after(attempts))
        sandbox.flush()
        attempts += 1
    assert states(sandbox) == {"failed": 1}
    assert attempts == len(receiver.received) == 10
    assert client.v1.events.list({"delivery_success": False}).data != []


def test_events_can_be_read_for_thirty_days(sandbox: RunningSandbox, client: stripe.StripeClient) -> None:
    client.v1.customers.create()
    event = client.v1.events.list().data[0]
    sandbox.advance(30 * 86_400)
    assert client.v1.events.retrieve(event.id).id == event.id
    sandbox.advance(1)
    assert client.v1.events.list().data == []
    with pytest.raises(stripe.InvalidRequestError, match="No such event"):
        client.v1.events.retrieve(event.id)


def test_filters_by_type(client: stripe.StripeClient, pay: Pay) -> None:
    pay()
    events = client.v1.events
    assert [event.type for event in events.list({"type": "charge.*"}).data] == ["charge.succeeded"]
    wanted = ["payment_intent.created", "payment_intent.succeeded"]
    assert sorted(event.type for event in events.list({"types": wanted}).data) == wanted
    with pytest.raises(stripe.InvalidRequestError) as refused:
        events.list({"type": "a", "types": ["b"]})
    assert refused.value.error.code == "parameters_exclusive"


def test_sent_again_many_times_at_once(
    sandbox: RunningSandbox, receiver: Receiver, client: stripe.StripeClient
) -> None:
    client.v1.customers.create()
    event = client.v1.events.list().data[0].id
    receiver.wait_for(1)
    outcomes = sandbox.redeliver(event, times=10)
    assert [outcome["status"] for outcome in outcomes] == [200] * 10
    assert {item.event["id"] for item in receiver.wait_for(11)} == {event}
    with pytest.raises(ControlError, match="No such event"):
        sandbox.redeliver("evt_none")


def test_endpoints_have_their_own_secret_and_choose_their_events(
    sandbox: RunningSandbox, client: stripe.StripeClient
) -> None:
    with run_receiver() as second:
        made = client.v1.webhook_endpoints.create(
            {"url": second.url, "enabled_events": ["customer.created", "refund.created"]}
        )
        assert made.secret.startswith("whsec_")
        assert "secret" not in client.v1.webhook_endpoints.retrieve(made.id)
        client.v1.customers.create()
        client.v1.payment_intents.create({"amount": 1000, "currency": "eur"})
        sandbox.flush()
        assert second.types() == ["customer.created"]
        client.construct_event(second.received[0].body, second.received[0].signature, made.secret)

        client.v1.webhook_endpoints.update(made.id, {"disabled": True})
        client.v1.customers.create()
        client.v1.webhook_endpoints.update(made.id, {"disabled": False, "enabled_events": ["*"]})
        client.v1.payment_intents.create({"amount": 1000, "currency": "eur"})
        sandbox.flush()
        assert second.types() == ["customer.created", "payment_intent.created"]
        client.v1.webhook_endpoints.delete(made.id)
        client.v1.customers.create()
        sandbox.flush()
        assert len(second.received) == 2
    assert len(client.v1.webhook_endpoints.list().data) == 1


def test_at_most_sixteen_endpoints(client: stripe.StripeClient) -> None:
    params: Any = {"url": "http://127.0.0.1:9/", "enabled_events": ["customer.created"]}
    for bad in ({"url": "nowhere"}, {"enabled_events": ["customer.*"]}, {"enabled_events": []}):
        with pytest.raises(stripe.InvalidRequestError):
            client.v1.webhook_endpoints.create({**params, **bad})
    for _ in range(15):
        client.v1.webhook_endpoints.create(params)
    with pytest.raises(stripe.InvalidRequestError, match="maximum of 16"):
        client.v1.webhook_endpoints.create(params)


FAULTS = [
    ("drop_webhook", {}, 0),
    ("duplicate_webhook", {"copies": 2}, 3),
    ("delay_webhook", {"seconds": 600}, 0),
]


@pytest.mark.parametrize(("effect", "rule", "arrives"), FAULTS)
def test_disturbed_deliveries(
    sandbox: RunningSandbox,
    receiver: Receiver,
    client: stripe.StripeClient,
    effect: str,
    rule: dict[str, Any],
    arrives: int,
) -> None:
    sandbox.fault(effect, event="customer.created", **rule)
    client.v1.customers.create()
    sandbox.flush()
    assert len(receiver.received) == arrives
    if effect == "delay_webhook":
        sandbox.advance(600)
        receiver.wait_for(1)
    if effect == "drop_webhook":
        event = client.v1.events.list({"delivery_success": False}).data[0]
        assert sandbox.redeliver(event.id)[0]["status"] == 200
    client.v1.customers.create()
    sandbox.flush()
    assert len(receiver.received) == max(arrives, 1) + 1


@pytest.mark.parametrize("effect", ["stale_webhook", "replay_signature", "wrong_api_version"])
def test_a_first_delivery_that_is_odd_and_the_next_as_it_should_be(
    sandbox: RunningSandbox, receiver: Receiver, client: stripe.StripeClient, effect: str
) -> None:
    sandbox.fault(effect, event="customer.created")
    receiver.status = 500
    client.v1.customers.create()
    sandbox.flush()
    first, *more = receiver.received
    secret = sandbox.webhook_secret
    if effect == "stale_webhook":
        with pytest.raises(stripe.SignatureVerificationError, match="tolerance"):
            client.construct_event(first.body, first.signature, secret)
    else:
        client.construct_event(first.body, first.signature, secret)
    assert [(item.signature, item.body) for item in more] == (
        [(first.signature, first.body)] if effect == "replay_signature" else []
    )
    assert (first.event["api_version"] == "2026-10-28.endive") == (effect != "wrong_api_version")
    known = len(receiver.received)
    sandbox.advance(15)
    sandbox.flush()
    (again,) = receiver.received[known:]
    assert client.construct_event(again.body, again.signature, secret).api_version == "2026-10-28.endive"


def test_an_event_of_a_kind_that_nobody_knows_stands_beside_the_one_that_was_to_come(
    sandbox: RunningSandbox, receiver: Receiver, client: stripe.StripeClient
) -> None:
    sandbox.fault("unknown_event_type", event="customer.created")
    client.v1.customers.create()
    sandbox.flush()
    assert sorted(receiver.types()) == ["customer.created", "unheard_of.happened"]
    assert [event.type for event in client.v1.events.list().data] == ["unheard_of.happened", "customer.created"]


def test_a_rolled_secret_signs_beside_the_old_one_until_that_has_run_out(
    sandbox: RunningSandbox, receiver: Receiver, client: stripe.StripeClient
) -> None:
    with run_receiver() as second:
        made = client.v1.webhook_endpoints.create({"url": second.url, "enabled_events": ["customer.created"]})
        rolled = sandbox.control("POST", f"/_sim/webhook_endpoints/{made.id}/roll", {"expires_in": 3600})["secret"]
        for seconds, signed_by in ((0, [made.secret, rolled]), (3600, [rolled])):
            sandbox.advance(seconds)
            client.v1.customers.create()
            sandbox.flush()
            last = second.received[-1]
            assert last.signature.count("v1=") == len(signed_by)
            for secret in signed_by:
                client.construct_event(last.body, last.signature, secret)


def test_reordered_delivery_arrives_after_the_next(
    sandbox: RunningSandbox, receiver: Receiver, client: stripe.StripeClient
) -> None:
    sandbox.fault("reorder_webhook", event="payment_intent.created")
    client.v1.payment_intents.create({"amount": 1000, "currency": "eur"})
    sandbox.flush()
    assert receiver.types() == []
    client.v1.customers.create()
    receiver.wait_for(2)
    assert receiver.types() == ["customer.created", "payment_intent.created"]
    sandbox.fault("reorder_webhook", event="customer.created")
    client.v1.customers.create()
    sandbox.advance(0)  # moving the clock lets go of what was held
    receiver.wait_for(3)


def test_deliveries_go_out_soon(sandbox: RunningSandbox, receiver: Receiver, client: stripe.StripeClient) -> None:
    started = time.monotonic()
    client.v1.customers.create()
    receiver.wait_for(1)
    assert time.monotonic() - started < 5
    assert json.loads(receiver.received[0].body)["type"] == "customer.created"
