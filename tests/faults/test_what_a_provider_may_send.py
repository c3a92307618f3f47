"""What a provider may do to its answers and its news: cut off, early, old, played back, of another version, of a kind that
nobody knows. The desk takes each payment once all the same, and keeps what it does not understand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection

from backoffice.core.actor import system
from backoffice.core.errors import Indeterminate
from backoffice.payments import queries as payments
from backoffice.payments.gateway import stripe as provider
from backoffice.payments.gateway.stripe import money_in
from backoffice.payments.models import Payment, PaymentAttempt
from backoffice.reconciliation.provider import reconcile
from backoffice.workflows import apply_provider_event as events
from backoffice.workflows import import_balance_transactions, keep_time
from tests.stripe_sandbox import contract
from tests.stripe_sandbox.receiver import run_receiver
from tests.stripe_sandbox.server import RunningSandbox
from tests.workflows.steps import ROOMS, now, paid

pytestmark = pytest.mark.django_db(transaction=True, available_apps=ROOMS)
TRIES = 3  # of the SDK, before it gives the answer up
Hears = Callable[[], str]


@pytest.fixture
def hears(sandbox: RunningSandbox, live_server: Any, settings: Any) -> Hears:
    """Let the provider tell the desk of a new payment over the wire; the payment's event."""
    endpoint = sandbox.client().v1.webhook_endpoints.create(
        {"url": f"{live_server.url}/webhooks/stripe", "enabled_events": ["*"]}
    )
    settings.STRIPE_WEBHOOK_SECRETS = [endpoint.secret]
    provider.gateway.cache_clear()

    def hear() -> str:
        paid()
        assert sandbox.flush()
        return sandbox.client().v1.events.list({"type": "payment_intent.succeeded"}).data[0].id

    return hear


def statuses_of(sandbox: RunningSandbox) -> list[int]:
    """How the desk answered each delivery, oldest first."""
    rows = sandbox.control("GET", "/_sim/deliveries")["data"]
    return [row["last_status"] for row in reversed(rows) if row["type"] == "payment_intent.succeeded"]


def taken_once(sandbox: RunningSandbox) -> None:
    """One payment, here and there, and nothing to explain."""
    sandbox.advance(60)
    events.poll(now=now())
    events.apply_due(now=now())
    import_balance_transactions.run(now=now())
    charges = sandbox.client().v1.charges.list().data
    assert [row.id for row in charges] == [Payment.objects.get(status="captured").charge_id]
    assert reconcile(scope="all", since=None, until=None, actor=system("tests"), now=now()).findings == []


def asked_for_again(sandbox: RunningSandbox) -> None:
    """What could not be read is not known yet; asked for again it is the same try."""
    assert PaymentAttempt.objects.get().status == "indeterminate"
    sandbox.advance(90)
    keep_time.resolve_indeterminate(now=now())
    assert Payment.objects.get().status == "captured" and PaymentAttempt.objects.count() == 1
    taken_once(sandbox)


def test_an_answer_cut_off_is_no_answer_and_asked_for_again_with_the_same_key(sandbox: RunningSandbox) -> None:
    sandbox.fault("truncated_body", method="POST", path="/v1/payment_intents", times=TRIES)
    with pytest.raises(Indeterminate):
        paid()
    asked_for_again(sandbox)


def test_a_status_that_is_new_to_us_is_an_answer_that_cannot_be_read_yet(sandbox: RunningSandbox) -> None:
    with pytest.MonkeyPatch.context() as older:
        older.setattr(money_in, "_PAYMENT", {k: v for k, v in money_in._PAYMENT.items() if k != "succeeded"})
        with pytest.raises(Indeterminate):
            paid()
    asked_for_again(sandbox)


def test_the_news_comes_before_the_answer(sandbox: RunningSandbox) -> None:
    heard: list[str] = []

    def desk(event: dict[str, Any]) -> int:
        """A worker that is quicker than the answer."""
        try:
            events.poll(now=now())
            events.apply_due(now=now())
            heard.extend(Payment.objects.values_list("status", flat=True))
        finally:
            connection.close()
        return 200

    with run_receiver() as receiver:
        receiver.status = desk
        wanted: Any = {"url": receiver.url, "enabled_events": ["payment_intent.succeeded"]}
        sandbox.client().v1.webhook_endpoints.create(wanted)
        sandbox.fault("webhook_before_answer", method="POST", path="/v1/payment_intents")
        assert paid().payment.status == "captured"
    assert heard == ["captured"]
    taken_once(sandbox)


def test_a_field_that_nobody_knows_is_left_alone(sandbox: RunningSandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contract, "PRESENT", False)  # the judge would not let it pass
    sandbox.fault("extra_field", path="/v1/*", times=None)
    assert paid().payment.status == "captured"
    sandbox.advance(60)
    import_balance_transactions.run(now=now())
    assert [rule["fired"] > 1 for rule in sandbox.control("GET", "/_sim/faults")["data"]] == [True]
    sandbox.clear_faults()
    taken_once(sandbox)


def test_news_that_is_signed_too_long_ago_is_refused_and_comes_again(sandbox: RunningSandbox, hears: Hears) -> None:
    sandbox.fault("stale_webhook", event="payment_intent.succeeded")
    event = hears()
    assert statuses_of(sandbox) == [400] and not payments.webhooks().filter(event_id=event).exists()
    sandbox.advance(15)
    assert sandbox.flush() and statuses_of(sandbox) == [200]
    assert payments.webhooks().get(event_id=event).origin == "webhook"
    taken_once(sandbox)


@pytest.mark.parametrize("effect", ["replay_signature", "wrong_api_version"])
def test_news_played_back_or_of_another_version_is_taken_once(
    sandbox: RunningSandbox, hears: Hears, effect: str
) -> None:
    sandbox.fault(effect, event="payment_intent.succeeded")
    event = hears()
    assert statuses_of(sandbox) == [200] and payments.webhooks().filter(event_id=event).count() == 1
    taken_once(sandbox)
    assert payments.webhooks().get(event_id=event).status == "applied"


def test_news_of_a_kind_that_nobody_knows_is_kept_and_stops_nothing(sandbox: RunningSandbox, hears: Hears) -> None:
    sandbox.fault("unknown_event_type", event="payment_intent.succeeded")
    event = hears()
    taken_once(sandbox)
    kept = payments.webhooks().get(type="unheard_of.happened")
    assert (kept.status, kept.error) == ("ignored", "") and b"unheard_of" in bytes(kept.payload)
    assert payments.webhooks().get(event_id=event).status == "applied"


def test_while_a_secret_is_rolled_either_is_good(sandbox: RunningSandbox, hears: Hears, settings: Any) -> None:
    endpoint = sandbox.client().v1.webhook_endpoints.list().data[0].id
    rolled = sandbox.control("POST", f"/_sim/webhook_endpoints/{endpoint}/roll", {"expires_in": 3600})
    assert rolled["secret"] not in settings.STRIPE_WEBHOOK_SECRETS
    hears()  # by the old secret, beside which the new one signs already
    settings.STRIPE_WEBHOOK_SECRETS = [rolled["secret"]]
    provider.gateway.cache_clear()
    hears()
    assert statuses_of(sandbox) == [200, 200]
