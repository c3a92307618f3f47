"""SetupIntents: a card kept with the guest's blessing, charged later while the guest is away."""

from __future__ import annotations

import urllib.parse
import urllib.request
from typing import Any

import pytest
import stripe

from tests.stripe_sandbox.conftest import Pay
from tests.stripe_sandbox.server import RunningSandbox

NEVER: Any = {"automatic_payment_methods": {"enabled": True, "allow_redirects": "never"}}


@pytest.fixture
def customer(client: stripe.StripeClient) -> str:
    return client.v1.customers.create({"email": "guest@example.com"}).id


def test_a_card_is_kept_with_its_customer(client: stripe.StripeClient, pay: Pay, customer: str) -> None:
    setup = client.v1.setup_intents.create({"customer": customer, "metadata": {"booking": "BK-1"}, **NEVER})
    assert (setup.status, setup.usage, setup.payment_method) == ("requires_payment_method", "off_session", None)
    setup = client.v1.setup_intents.update(setup.id, {"payment_method": "pm_card_visa"})
    assert setup.status == "requires_confirmation"
    setup = client.v1.setup_intents.confirm(setup.id, {"expand": ["payment_method"]})
    method: Any = setup.payment_method
    assert (setup.status, method.customer) == ("succeeded", customer)
    for _ in range(2):
        assert pay(card=method.id, customer=customer, off_session=True).status == "succeeded"
    types = [event.type for event in reversed(client.v1.events.list({"type": "setup_intent.*"}).data)]
    assert types == ["setup_intent.created", "setup_intent.succeeded"]
    assert [item.id for item in client.v1.setup_intents.list({"customer": customer}).data] == [setup.id]
    with pytest.raises(stripe.InvalidRequestError) as refused:
        client.v1.setup_intents.confirm(setup.id)
    assert refused.value.code == "setup_intent_unexpected_state"


@pytest.mark.parametrize(
    ("card", "later"),
    [
        ("pm_card_authenticationRequiredOnSetup", "succeeded"),
        ("pm_card_authenticationRequiredSetupForOffSession", "succeeded"),
        ("pm_card_authenticationRequired", "authentication_required"),
    ],
)
def test_a_challenge_now_spares_one_later(
    sandbox: RunningSandbox, client: stripe.StripeClient, pay: Pay, customer: str, card: str, later: str
) -> None:
    setup = client.v1.setup_intents.create({"customer": customer, "payment_method": card, "confirm": True, **NEVER})
    assert (setup.status, setup.next_action.type) == ("requires_action", "use_stripe_sdk")
    assert sandbox.complete_challenge(setup.id)["status"] == "succeeded"
    method = str(client.v1.setup_intents.retrieve(setup.id).payment_method)
    if later == "succeeded":
        assert pay(card=method, customer=customer, off_session=True).status == "succeeded"
    else:
        with pytest.raises(stripe.CardError) as refused:
            pay(card=method, customer=customer, off_session=True)
        assert refused.value.code == later


def test_the_challenge_page_leads_back(sandbox: RunningSandbox, client: stripe.StripeClient, customer: str) -> None:
    setup = client.v1.setup_intents.create({
        "customer": customer, "payment_method": "pm_card_authenticationRequired", "confirm": True,
        "return_url": f"{sandbox.base_url}/_sim/health?booking=1",
    })  # fmt: skip
    page = setup.next_action.redirect_to_url.url
    with urllib.request.urlopen(page) as shown:
        assert "keeps this card" in shown.read().decode()
    form = urllib.parse.urlencode({"outcome": "fail", "client_secret": setup.client_secret}).encode()
    with urllib.request.urlopen(f"{sandbox.base_url}/_sim/3ds/{setup.id}", data=form) as back:
        query = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(back.url).query))
    assert query["booking"] == "1" and query["setup_intent"] == setup.id and query["redirect_status"] == "failed"
    failed = client.v1.setup_intents.retrieve(setup.id)
    assert failed.status == "requires_payment_method"
    assert failed.last_setup_error.code == "setup_intent_authentication_failure"


def test_declined(client: stripe.StripeClient, pay: Pay, customer: str) -> None:
    params: Any = {"customer": customer, "confirm": True, **NEVER}
    with pytest.raises(stripe.CardError) as refused:
        client.v1.setup_intents.create({**params, "payment_method": "pm_card_chargeDeclinedInsufficientFunds"})
    assert (refused.value.code, refused.value.error.decline_code) == ("card_declined", "insufficient_funds")
    [failed] = client.v1.setup_intents.list().data
    assert (failed.status, failed.payment_method) == ("requires_payment_method", None)
    kept = client.v1.setup_intents.create({**params, "payment_method": "pm_card_chargeCustomerFail"})
    with pytest.raises(stripe.CardError):  # this one lets itself be kept and refuses to pay
        pay(card=str(kept.payment_method), customer=customer, off_session=True)


def test_cancelled(client: stripe.StripeClient, customer: str) -> None:
    setup = client.v1.setup_intents.create({"customer": customer})
    assert client.v1.setup_intents.cancel(setup.id, {"cancellation_reason": "abandoned"}).status == "canceled"
    for act in (client.v1.setup_intents.cancel, client.v1.setup_intents.confirm):
        with pytest.raises(stripe.InvalidRequestError, match="status of canceled"):
            act(setup.id)


def test_refused(client: stripe.StripeClient, customer: str) -> None:
    create = client.v1.setup_intents.create
    with pytest.raises(stripe.InvalidRequestError, match="return_url"):
        create({"customer": customer, "payment_method": "pm_card_visa", "confirm": True})
    with pytest.raises(stripe.InvalidRequestError, match="return_url"):
        create({"return_url": "http://127.0.0.1/"})
    with pytest.raises(stripe.InvalidRequestError, match="missing a payment method"):
        create({"customer": customer, "confirm": True, **NEVER})
    setup = create({"customer": customer})
    with pytest.raises(stripe.InvalidRequestError, match="client_secret"):
        client.v1.setup_intents.retrieve(setup.id, {"client_secret": "other"})
