"""Stripe behind our port: on the sandbox always, on Stripe itself with `STRIPE_TEST_KEY=sk_test_… ./ops test …`, with
transfers to a host where `STRIPE_TEST_HOST=acct_…` names a connected account that was onboarded by hand."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import time
import urllib.request
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from backoffice.payments.gateway.stripe import StripeGateway
from tests.payments.providers.contract import Bench, Cards, ProviderContract
from tests.stripe_sandbox.server import RunningSandbox
from tests.workflows.steps import now

SECRETS = ("whsec_old", "whsec_new", "whsec_of_somebody_else")
KEY = os.environ.get("STRIPE_TEST_KEY", "")
HOST = os.environ.get("STRIPE_TEST_HOST", "")
STRIPE = "https://api.stripe.com"
CARDS = Cards(
    good="pm_card_visa",
    declined="pm_card_visa_chargeDeclined",
    challenged="pm_card_authenticationRequired",
    wary="pm_card_authenticationRequiredOnSetup",
    at_once="pm_card_bypassPending",
    disputed="pm_card_createDispute",
    inquired="pm_card_createDisputeInquiry",
    suspected="pm_card_createIssuerFraudRecord",
    slow_refund="pm_card_pendingRefund",
    failing_refund="pm_card_refundFail",
)
REPORT = "balance_change_from_activity.itemized.3"
COLUMNS = "balance_transaction_id created_utc currency gross fee net reporting_category source_id".split()


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
        cards=CARDS,
        sign=sign,
        event=an_event,
        winning="winning_evidence",
        losing="losing_evidence",
        warned="radar.early_fraud_warning.created",
        **options,
    )


class TestTheSandbox(ProviderContract):
    @pytest.fixture
    def bench(self, sandbox: RunningSandbox) -> Bench:
        def host() -> str:
            opened = bench.gateway.open_account(
                country="DE", email="bob@example.org", reference=bench.code("HO"), key=bench.code("host")
            )
            sandbox.control("POST", f"/_sim/accounts/{opened.id}/onboard", {})
            return opened.id

        bench = bench_of(
            sandbox.api_key,
            sandbox.base_url,
            settle=lambda: sandbox.advance(60),
            now=now,
            pass_time=lambda span: sandbox.advance(span.total_seconds()),
            host=host,
            send_back=lambda payout: sandbox.control("POST", f"/_sim/payouts/{payout}/fail", {}),
            report=lambda since, until: report(sandbox, since, until),
            # Not once but as often as the SDK repeats a call by itself.
            lose_answer=lambda: sandbox.fault("reset_after_commit", path="/v1/payment_intents", times=3),
            turn_away=lambda: sandbox.fault("error_429", path="/v1/payment_intents", times=1),
        )
        return bench


def report(sandbox: RunningSandbox, since: datetime, until: datetime) -> bytes:
    """Stripe's own file of the movements, asked for when all days of the window are over."""
    sandbox.advance(timedelta(days=3).total_seconds())
    reports = sandbox.client().v1.reporting
    span = {"interval_start": int(since.timestamp()), "interval_end": int(until.timestamp())}
    made = reports.report_runs.create({"report_type": REPORT, "parameters": {**span, "columns": COLUMNS}})  # type: ignore[typeddict-item]
    sandbox.advance(600)
    done = reports.report_runs.retrieve(made.id)
    assert done.result is not None
    headers = {"Authorization": f"Bearer {sandbox.api_key}"}
    with urllib.request.urlopen(urllib.request.Request(str(done.result.url), headers=headers), timeout=20) as response:
        return bytes(response.read())


class AskedItself(ProviderContract):
    """Stripe's own test mode. What takes it days is skipped, saying what it awaits."""

    @pytest.fixture
    def bench(self) -> Bench:
        assert KEY.startswith(("sk_test_", "rk_test_")), "these tests move money: only with a key of test mode"
        return bench_of(
            KEY,
            STRIPE,
            settle=lambda: time.sleep(3),
            now=lambda: datetime.now(UTC),
            host=(lambda: HOST) if HOST else None,
        )


if KEY:
    TestStripe = type("TestStripe", (AskedItself,), {})
else:

    @pytest.mark.skip(reason="STRIPE_TEST_KEY is not set: Stripe itself is not asked")
    def test_stripe_itself() -> None:
        """One skip for all of the contract's tests."""
