"""PaymentIntents through the official SDK: their states, refusals and what they leave behind."""

from __future__ import annotations

from typing import Any

import pytest
import stripe

from tests.stripe_sandbox.conftest import Pay
from tests.stripe_sandbox.server import RunningSandbox


def types(client: stripe.StripeClient) -> list[str]:
    """Event types, oldest first."""
    return [event.type for event in client.v1.events.list({"limit": 100}).data][::-1]


def test_card_payment_settles_asynchronously(sandbox: RunningSandbox, client: stripe.StripeClient, pay: Pay) -> None:
    intent = pay(metadata={"booking": "BK-1"}, transfer_group="BK-1", expand=["latest_charge"])
    assert intent.status == "succeeded" and intent.amount_received == 50_000
    assert intent.latest_charge.balance_transaction is None and intent.latest_charge.metadata["booking"] == "BK-1"
    assert types(client) == ["payment_intent.created", "charge.succeeded", "payment_intent.succeeded"]

    sandbox.advance(2)
    charge = client.v1.charges.retrieve(intent.latest_charge.id, {"expand": ["balance_transaction"]})
    transaction = charge.balance_transaction
    assert (transaction.amount, transaction.fee, transaction.net) == (50_000, 775, 49_225)
    assert (transaction.type, transaction.reporting_category, transaction.status) == ("charge", "charge", "pending")
    updated = client.v1.events.list({"type": "charge.updated"}).data[0]
    assert updated.data.previous_attributes["balance_transaction"] is None
    assert updated.data.object["balance_transaction"] == transaction.id
    assert updated.request.id is None


def test_synchronous_capture_has_its_transaction_at_once(pay: Pay) -> None:
    intent = pay(capture_method="automatic", expand=["latest_charge.balance_transaction"])
    assert intent.latest_charge.balance_transaction.net == 49_225


def test_states_before_payment(client: stripe.StripeClient) -> None:
    intent = client.v1.payment_intents.create({"amount": 1000, "currency": "EUR"})
    assert (intent.status, intent.currency, intent.capture_method) == (
        "requires_payment_method",
        "eur",
        "automatic_async",
    )
    intent = client.v1.payment_intents.update(intent.id, {"payment_method": "pm_card_visa", "amount": 1200})
    assert (intent.status, intent.amount) == ("requires_confirmation", 1200)
    intent = client.v1.payment_intents.confirm(intent.id, {"return_url": "https://staydesk.example/return"})
    assert intent.status == "succeeded" and intent.client_secret.startswith(f"{intent.id}_secret_")


def test_confirming_without_method_or_twice_is_refused(client: stripe.StripeClient, pay: Pay) -> None:
    intent = client.v1.payment_intents.create({"amount": 1000, "currency": "eur"})
    with pytest.raises(stripe.InvalidRequestError, match="missing a payment method") as refused:
        client.v1.payment_intents.confirm(intent.id)
    assert refused.value.error.code == "payment_intent_unexpected_state"
    assert refused.value.error.payment_intent.id == intent.id
    with pytest.raises(stripe.InvalidRequestError, match="already succeeded"):
        client.v1.payment_intents.confirm(pay().id)


def test_redirecting_methods_need_a_return_url(client: stripe.StripeClient) -> None:
    with pytest.raises(stripe.InvalidRequestError, match="you must provide a `return_url`"):
        client.v1.payment_intents.create(
            {"amount": 1000, "currency": "eur", "confirm": True, "payment_method": "pm_card_visa"}
        )
    assert client.v1.payment_intents.list().data == []


DECLINES = [
    ("pm_card_visa_chargeDeclined", "card_declined", "generic_decline"),
    ("pm_card_visa_chargeDeclinedInsufficientFunds", "card_declined", "insufficient_funds"),
    ("pm_card_visa_chargeDeclinedLostCard", "card_declined", "lost_card"),
    ("pm_card_visa_chargeDeclinedStolenCard", "card_declined", "stolen_card"),
    ("pm_card_visa_chargeDeclinedVelocityLimitExceeded", "card_declined", "card_velocity_exceeded"),
    ("pm_card_chargeDeclinedExpiredCard", "expired_card", "expired_card"),
    ("pm_card_chargeDeclinedIncorrectCvc", "incorrect_cvc", "incorrect_cvc"),
    ("pm_card_chargeDeclinedProcessingError", "processing_error", "processing_error"),
    ("pm_card_radarBlock", "card_declined", "fraudulent"),
]


@pytest.mark.parametrize(("card", "code", "decline_code"), DECLINES)
def test_declined_card_leaves_a_failed_charge(
    client: stripe.StripeClient, pay: Pay, card: str, code: str, decline_code: str
) -> None:
    with pytest.raises(stripe.CardError) as refused:
        pay(card=card)
    error = refused.value.error
    assert (refused.value.http_status, error.code, error.decline_code) == (402, code, decline_code)
    intent = client.v1.payment_intents.retrieve(error.payment_intent.id, {"expand": ["latest_charge"]})
    assert intent.status == "requires_payment_method" and intent.payment_method is None
    assert intent.last_payment_error.code == code
    assert (intent.latest_charge.status, intent.latest_charge.paid) == ("failed", False)
    assert intent.latest_charge.balance_transaction is None
    assert types(client) == ["payment_intent.created", "charge.failed", "payment_intent.payment_failed"]


def test_another_card_after_a_decline(client: stripe.StripeClient, pay: Pay) -> None:
    with pytest.raises(stripe.CardError) as refused:
        pay(card="pm_card_visa_chargeDeclined")
    intent = client.v1.payment_intents.confirm(
        refused.value.error.payment_intent.id, {"payment_method": "pm_card_mastercard"}
    )
    assert intent.status == "succeeded" and intent.last_payment_error is None
    charges = client.v1.charges.list({"payment_intent": intent.id}).data
    assert [charge.status for charge in charges] == ["succeeded", "failed"]


@pytest.mark.parametrize(
    ("card", "outcome", "status", "code"),
    [
        ("pm_card_threeDSecure2Required", "succeed", "succeeded", None),
        (
            "pm_card_threeDSecure2Required",
            "fail",
            "requires_payment_method",
            "payment_intent_authentication_failure",
        ),
        ("pm_card_threeDSecureRequiredChargeDeclined", "succeed", "requires_payment_method", "card_declined"),
        ("pm_card_threeDSecureRequiredProcessingError", "succeed", "requires_payment_method", "processing_error"),
    ],
)
def test_three_d_secure(
    sandbox: RunningSandbox, client: stripe.StripeClient, pay: Pay, card: str, outcome: str, status: str, code: Any
) -> None:
    intent = pay(card=card, return_url="https://staydesk.example/return")
    assert intent.status == "requires_action" and intent.next_action.type == "redirect_to_url"
    assert intent.next_action.redirect_to_url.url.startswith(f"{sandbox.base_url}/_sim/3ds/{intent.id}?")
    assert intent.latest_charge is None
    sandbox.complete_challenge(intent.id, outcome)
    after = client.v1.payment_intents.retrieve(intent.id, {"expand": ["latest_charge"]})
    assert after.status == status
    assert (after.last_payment_error.code if after.last_payment_error else None) == code
    if status == "succeeded":
        assert after.latest_charge.payment_method_details.card.three_d_secure.result == "authenticated"


def test_three_d_secure_without_return_url_is_left_to_the_browser_library(pay: Pay) -> None:
    intent = pay(card="pm_card_authenticationRequired")
    assert intent.next_action.type == "use_stripe_sdk"


def test_off_session_needs_a_card_that_was_set_up(client: stripe.StripeClient, pay: Pay) -> None:
    customer = client.v1.customers.create({"email": "guest@example.com"})
    with pytest.raises(stripe.CardError) as refused:
        pay(card="pm_card_authenticationRequired", customer=customer.id, off_session=True)
    assert (refused.value.error.code, refused.value.error.decline_code) == (
        "authentication_required",
        "authentication_required",
    )
    first = pay(
        card="pm_card_authenticationRequiredSetupForOffSession",
        customer=customer.id,
        off_session=True,
        setup_future_usage="off_session",
    )
    methods = client.v1.customers.payment_methods.list(customer.id).data
    assert [method.id for method in methods] == [first.payment_method]
    assert pay(card=first.payment_method, customer=customer.id, off_session=True).status == "succeeded"


def test_card_that_must_be_set_up_once(sandbox: RunningSandbox, client: stripe.StripeClient, pay: Pay) -> None:
    customer = client.v1.customers.create()
    card = "pm_card_authenticationRequiredOnSetup"
    first = pay(card=card, customer=customer.id, setup_future_usage="off_session")
    assert first.status == "requires_action"
    sandbox.complete_challenge(first.id)
    assert pay(card=first.payment_method, customer=customer.id, off_session=True).status == "succeeded"


def test_unattached_card_is_spent_after_one_use(pay: Pay) -> None:
    first = pay()
    with pytest.raises(stripe.InvalidRequestError, match="may not be used again"):
        pay(card=first.payment_method)


def test_manual_capture_in_part_leaves_two_balance_transactions(client: stripe.StripeClient, pay: Pay) -> None:
    intent = pay(amount=10_000, capture_method="manual", expand=["latest_charge"])
    assert (intent.status, intent.amount_capturable) == ("requires_capture", 10_000)
    card = intent.latest_charge.payment_method_details.card
    assert card.capture_before - intent.latest_charge.created == 7 * 86400
    with pytest.raises(stripe.InvalidRequestError) as refused:
        client.v1.payment_intents.capture(intent.id, {"amount_to_capture": 10_001})
    assert refused.value.error.code == "amount_too_large"
    captured = client.v1.payment_intents.capture(intent.id, {"amount_to_capture": 7_000})
    assert (captured.status, captured.amount_received, captured.amount_capturable) == ("succeeded", 7_000, 0)
    rows = client.v1.balance_transactions.list().data
    assert [(row.type, row.reporting_category, row.amount, row.fee) for row in rows] == [
        ("refund", "partial_capture_reversal", -3_000, 0),
        ("charge", "charge", 10_000, 130),
    ]
    with pytest.raises(stripe.InvalidRequestError, match="status of succeeded"):
        client.v1.payment_intents.capture(intent.id)


def test_authorisation_expires(sandbox: RunningSandbox, client: stripe.StripeClient, pay: Pay) -> None:
    intent = pay(capture_method="manual")
    sandbox.advance(7 * 86400 - 1)
    assert client.v1.payment_intents.retrieve(intent.id).status == "requires_capture"
    sandbox.advance(1)
    expired = client.v1.payment_intents.retrieve(intent.id)
    assert (expired.status, expired.cancellation_reason) == ("canceled", "expired")
    assert types(client)[-2:] == ["charge.expired", "payment_intent.canceled"]
    assert client.v1.balance_transactions.list().data == []


def test_cancel_releases_and_is_refused_when_paid(client: stripe.StripeClient, pay: Pay) -> None:
    intent = pay(capture_method="manual")
    canceled = client.v1.payment_intents.cancel(intent.id, {"cancellation_reason": "requested_by_customer"})
    assert (canceled.status, canceled.amount_capturable) == ("canceled", 0)
    assert client.v1.charges.retrieve(canceled.latest_charge).refunded is True
    with pytest.raises(stripe.InvalidRequestError) as refused:
        client.v1.payment_intents.cancel(pay().id)
    assert refused.value.error.code == "payment_intent_unexpected_state"


def test_a_paid_intent_keeps_its_amount_but_not_its_description(client: stripe.StripeClient, pay: Pay) -> None:
    intent = pay(metadata={"a": "1", "b": "2"})
    with pytest.raises(stripe.InvalidRequestError, match="amount could not be updated"):
        client.v1.payment_intents.update(intent.id, {"amount": 1})
    updated = client.v1.payment_intents.update(intent.id, {"description": "stay", "metadata": {"a": "", "c": "3"}})
    assert updated.description == "stay" and updated.metadata.to_dict() == {"b": "2", "c": "3"}
    assert client.v1.payment_intents.update(intent.id, {"metadata": ""}).metadata.to_dict() == {}


AMOUNTS = [
    (49, "eur", "amount_too_small"),
    (50, "eur", None),
    (29, "gbp", "amount_too_small"),
    (30, "gbp", None),
    (99_999_999, "eur", None),
    (100_000_000, "eur", "amount_too_large"),
    (50, "jpy", "amount_too_small"),  # settles in EUR here: 50 yen are less than 0.50 EUR
    (200, "jpy", None),
    (1_001, "kwd", None),  # three decimals: the last digit must be 0
    (1_000, "kwd", None),
    (0, "eur", "parameter_invalid_integer"),
]


@pytest.mark.parametrize(("amount", "currency", "code"), AMOUNTS)
def test_amount_bounds(client: stripe.StripeClient, amount: int, currency: str, code: str | None) -> None:
    if code is None and (amount, currency) != (1_001, "kwd"):
        assert client.v1.payment_intents.create({"amount": amount, "currency": currency}).amount == amount
        return
    with pytest.raises(stripe.InvalidRequestError) as refused:
        client.v1.payment_intents.create({"amount": amount, "currency": currency})
    assert (refused.value.error.code, refused.value.error.param) == (code, "amount")


@pytest.mark.parametrize(
    ("params", "code", "param"),
    [
        ({"payment_method_types": ["card"]}, "payment_method_types_no_longer_supported", "payment_method_types"),
        ({"surprise": "1"}, "parameter_unknown", "surprise"),
        ({"shipping": {"name": "x", "surprise": "1", "address": {}}}, "parameter_unknown", "shipping[surprise]"),
        ({"amount": "ten"}, "parameter_invalid_integer", "amount"),
        ({"currency": ""}, "parameter_invalid_empty", "currency"),
        ({"currency": "zzz"}, None, "currency"),
        ({"capture_method": "later"}, None, "capture_method"),
        ({"customer": "cus_none"}, "resource_missing", "customer"),
        ({"payment_method": "pm_none"}, "resource_missing", "payment_method"),
        ({"return_url": "https://a.example"}, None, "return_url"),
        ({"metadata": {"k": "v" * 501}}, None, "metadata[k]"),
        ({"statement_descriptor": "x" * 23}, None, "statement_descriptor"),
        (
            {"allowed_payment_method_types": ["card"], "automatic_payment_methods": {"enabled": True}},
            "parameters_exclusive",
            "allowed_payment_method_types",
        ),
    ],
)
def test_refused_parameters(client: stripe.StripeClient, params: Any, code: str | None, param: str) -> None:
    with pytest.raises(stripe.InvalidRequestError) as refused:
        client.v1.payment_intents.create({"amount": 1000, "currency": "eur", **params})
    error = refused.value.error
    assert (refused.value.http_status, error.code, error.param) == (400, code, param)
    assert error.type == "invalid_request_error"


def test_missing_parameter(client: stripe.StripeClient) -> None:
    with pytest.raises(stripe.InvalidRequestError, match="Missing required param: currency") as refused:
        client.v1.payment_intents.create({"amount": 1000})  # type: ignore[typeddict-item]
    assert refused.value.error.code == "parameter_missing"


def test_unknown_intent_is_404(client: stripe.StripeClient) -> None:
    with pytest.raises(stripe.InvalidRequestError, match="No such payment_intent: 'pi_none'") as refused:
        client.v1.payment_intents.retrieve("pi_none")
    assert (refused.value.http_status, refused.value.error.code) == (404, "resource_missing")


def test_what_is_not_simulated_says_so(client: stripe.StripeClient) -> None:
    for call in (
        lambda: client.v1.topups.create({"amount": 100, "currency": "eur"}),
        lambda: client.v1.payment_intents.create({"amount": 100, "currency": "eur", "application_fee_amount": 1}),
        client.v1.reviews.list,
    ):
        with pytest.raises(stripe.APIError) as refused:
            call()
        assert (refused.value.http_status, refused.value.error.code) == (501, "not_implemented")
