"""Stripe behind our port: on the sandbox always, on Stripe itself with `STRIPE_TEST_KEY=sk_test_… ./ops test …`."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import time
from datetime import UTC, datetime
from typing import Any

import pytest

from backoffice.payments.gateway.stripe import StripeGateway
from tests.payments.providers.contract import Bench, ProviderContract
from tests.stripe_sandbox.server import RunningSandbox
from tests.workflows.steps import now

SECRETS = ("whsec_old", "whsec_new", "whsec_of_somebody_else")
KEY = os.environ.get("STRIPE_TEST_KEY", "")
STRIPE = "https://api.stripe.com"


def sign(payload: bytes, at: datetime, secret: int) -> str:
    stamp = int(at.timestamp())
    mac = hmac.new(SECRETS[secret].encode(), f"{stamp}.".encode() + payload, hashlib.sha256)
    return f"t={stamp},v1={mac.hexdigest()}"


def an_event() -> bytes:
    return json.dumps(
        {
            "object": "event",
            "id": "evt_1",
            "type": "payment_intent.succeeded",
            "created": int(time.time()),
            "livemode": False,
            "data": {"object": {"id": "pi_1", "object": "payment_intent"}},
        }
    ).encode()


def bench_of(key: str, base: str, **options: Any) -> Bench:
    gateway = StripeGateway(api_key=key, base=base, secrets=list(SECRETS[:2]), read_seconds=20)
    return Bench(
        gateway=gateway,
        good_card="pm_card_visa",
        declined_card="pm_card_visa_chargeDeclined",
        challenged_card="pm_card_authenticationRequired",
        disputed_card="pm_card_createDispute",
        sign=sign,
        event=an_event,
        **options,
    )


class TestTheSandbox(ProviderContract):
    @pytest.fixture
    def bench(self, sandbox: RunningSandbox) -> Bench:
        def host(account: str) -> None:
            sandbox.control("POST", f"/_sim/accounts/{account}/onboard", {})

        return bench_of(sandbox.api_key, sandbox.base_url, settle=lambda: sandbox.advance(60), now=now, host=host)


@pytest.mark.skipif(not KEY, reason="STRIPE_TEST_KEY is not set: Stripe itself is not asked")
class TestStripe(ProviderContract):
    @pytest.fixture
    def bench(self) -> Bench:
        assert KEY.startswith(("sk_test_", "rk_test_")), "these tests move money: only with a key of test mode"
        return bench_of(KEY, STRIPE, settle=lambda: time.sleep(3), now=lambda: datetime.now(UTC))
