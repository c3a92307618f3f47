"""The inbox's door: signed events are stored once and answered at once, whatever else arrives is not stored."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from pathlib import Path
from typing import Any

import pytest
from django.test import Client

from backoffice.payments import queries as payments
from backoffice.payments.gateway import stripe as provider
from tests.api.conftest import Person, book
from tests.stripe_sandbox.server import RunningSandbox, run_sandbox

pytestmark = pytest.mark.django_db
SECRETS = ["whsec_old", "whsec_new"]


@pytest.fixture(autouse=True)
def _secrets(settings: Any) -> Any:
    settings.STRIPE_WEBHOOK_SECRETS = SECRETS
    provider.gateway.cache_clear()
    yield
    provider.gateway.cache_clear()


def event(number: int = 1) -> bytes:
    return json.dumps(
        {
            "id": f"evt_{number}",
            "object": "event",
            "type": "charge.succeeded",
            "created": int(time.time()),
            "livemode": False,
            "data": {"object": {"id": "ch_1", "object": "charge"}},
        }
    ).encode()


def signed(payload: bytes, secret: str = SECRETS[1], at: float | None = None) -> str:
    moment = int(time.time() if at is None else at)
    digest = hmac.new(secret.encode(), b"%d." % moment + payload, hashlib.sha256).hexdigest()
    return f"t={moment},v1={digest}"


def deliver(payload: bytes, signature: str | None) -> Any:
    headers = {} if signature is None else {"Stripe-Signature": signature}
    return Client().post("/webhooks/stripe", payload, content_type="application/json", headers=headers)


def test_a_peer_routed_no_webhook_ours_is_there_and_stores_the_bytes() -> None:
    payload = event()
    assert deliver(payload, signed(payload)).status_code == 200
    stored = payments.webhooks().defer(None).get()
    assert (stored.event_id, bytes(stored.payload), stored.status) == ("evt_1", payload, "received")


def test_the_same_event_again_is_answered_and_not_stored_again() -> None:
    payload = event()
    assert [deliver(payload, signed(payload, secret)).status_code for secret in SECRETS] == [200, 200]
    assert payments.webhooks().count() == 1


@pytest.mark.parametrize(
    "signature",
    [
        None,
        "",
        "x",
        "t=1",
        "t=abc,v1=abc",
        "t=99999999999999999999,v1=00",
        "t=1,v1=\u20ac".encode().decode("latin-1"),
    ],
)
def test_what_is_no_signature_is_400(signature: str | None) -> None:
    refused(signature)


def test_what_the_provider_did_not_sign_now_is_400() -> None:
    for signature in (
        signed(event(), "whsec_other"),
        signed(event(2)),
        signed(event(), at=time.time() - 3600),
        signed(event(), at=time.time() + 3600),
    ):
        refused(signature)


def refused(signature: str | None) -> None:
    answer = deliver(event(), signature)
    assert (answer.status_code, payments.webhooks().count()) == (400, 0), signature
    assert answer.json()["error"]


@pytest.mark.parametrize(
    "payload", [b"", b"{", b"[]", b"null", b'"x"', b"{}", b'{"id": 1}', b"\xff", b'{"id": "evt_1", "type": "x"}']
)
def test_what_is_signed_but_no_event_is_400(payload: bytes) -> None:
    refused = deliver(payload, signed(payload))
    assert (refused.status_code, payments.webhooks().count()) == (400, 0)


def test_only_posts_are_taken() -> None:
    assert Client().get("/webhooks/stripe").status_code == 405


@pytest.mark.django_db(transaction=True)
def test_what_happens_on_a_hosts_account_reaches_us_over_the_wire(
    tmp_path: Path, live_server: Any, settings: Any
) -> None:
    """The sandbox delivers connected accounts' events apart, with their own secret, to the same door."""
    hook = f"{live_server.url}/webhooks/stripe"
    with run_sandbox(tmp_path, webhook_url=hook, webhook_secret=SECRETS[0], connect_secret="whsec_hosts") as provider_:
        settings.STRIPE_CONNECT_WEBHOOK_SECRETS = ["whsec_hosts"]
        provider.gateway.cache_clear()
        account = provider_.client().v1.accounts.create({"type": "express", "country": "DE"}).id
        provider_.control("POST", f"/_sim/accounts/{account}/onboard", {})
        assert provider_.flush()
    heard = payments.webhooks().filter(account=account)
    assert "account.updated" in set(heard.values_list("type", flat=True))
    assert set(heard.values_list("object_id", flat=True)) >= {account}


@pytest.mark.django_db(transaction=True)
def test_the_provider_reaches_us_over_the_wire(
    sandbox: RunningSandbox, live_server: Any, alice: Person, home: str, settings: Any
) -> None:
    """The sandbox's own delivery to a real socket: signed with its secret, stored, and pointing at the payment."""
    inbox = sandbox.client().v1.webhook_endpoints.create(
        {"url": f"{live_server.url}/webhooks/stripe", "enabled_events": ["*"]}
    )
    settings.STRIPE_WEBHOOK_SECRETS = [inbox.secret]
    provider.gateway.cache_clear()
    paid = alice.pay_or_book(f"bookings/{book(alice, home)['code']}/pay", {"payment_method": "pm_card_visa"})
    assert paid.status == 200
    assert sandbox.flush()
    kinds = set(payments.webhooks().values_list("type", flat=True))
    assert "payment_intent.succeeded" in kinds
