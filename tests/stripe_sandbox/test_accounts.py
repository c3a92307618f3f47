"""Connected accounts: what is due, what it allows, the hosted form, bank accounts, and events of their own."""

from __future__ import annotations

import urllib.request
from pathlib import Path
from typing import Any

import pytest
import stripe

from tests.stripe_sandbox.receiver import run_receiver
from tests.stripe_sandbox.server import ControlError, RunningSandbox, run_sandbox

BANK = {"account_number": "000123456789", "routing_number": "110000000", "country": "US", "currency": "usd"}


@pytest.fixture
def account(client: stripe.StripeClient) -> stripe.Account:
    return client.v1.accounts.create(
        {
            "type": "express",
            "country": "DE",
            "email": "host@example.com",
            "capabilities": {"transfers": {"requested": True}},
        }
    )


def test_a_new_account_may_nothing_and_says_what_is_due(account: stripe.Account) -> None:
    assert (account.charges_enabled, account.payouts_enabled, account.details_submitted) == (False, False, False)
    assert account.requirements.disabled_reason == "requirements.past_due"
    assert "external_account" in account.requirements.currently_due
    assert account.capabilities.transfers == "inactive"
    assert (account.default_currency, account.controller.stripe_dashboard.type) == ("eur", "express")
    assert account.settings.payouts.schedule.to_dict() == {"delay_days": 3, "interval": "daily"}


def test_the_hosted_form_makes_it_ready(
    sandbox: RunningSandbox, client: stripe.StripeClient, account: stripe.Account
) -> None:
    link = client.v1.account_links.create(
        {
            "account": account.id,
            "type": "account_onboarding",
            "refresh_url": "http://127.0.0.1:9/again",
            "return_url": f"{sandbox.base_url}/_sim/health?done",
        }
    )
    assert link.expires_at - link.created == 300
    with urllib.request.urlopen(link.url) as page:
        assert account.id in page.read().decode()
    with urllib.request.urlopen(urllib.request.Request(link.url, data=b"account_number=000123456789")) as answer:
        assert answer.url.endswith("/_sim/health?done")
    ready = client.v1.accounts.retrieve(account.id)
    assert (ready.payouts_enabled, ready.details_submitted, ready.requirements.currently_due) == (True, True, [])
    assert ready.capabilities.transfers == "active"
    assert [bank.last4 for bank in ready.external_accounts.data] == ["6789"]
    types = [event.type for event in client.v1.events.list({}, {"stripe_account": account.id}).data]
    assert sorted(types) == ["account.external_account.created", "account.updated", "capability.updated"]
    assert client.v1.events.list().data == []  # they are the account's, not the platform's
    with pytest.raises(OSError, match="refused"):  # used up: leads to where another link can be asked for
        urllib.request.urlopen(link.url)
    assert client.v1.accounts.login_links.create(account.id).url


def test_an_old_link_leads_back(sandbox: RunningSandbox, client: stripe.StripeClient, account: stripe.Account) -> None:
    back = {"refresh_url": f"{sandbox.base_url}/_sim/health?again", "return_url": "http://127.0.0.1:9/"}
    link = client.v1.account_links.create({"account": account.id, "type": "account_onboarding", **back})  # type: ignore[typeddict-item]
    sandbox.advance(301)
    with urllib.request.urlopen(link.url) as answer:
        assert answer.url.endswith("?again")
    with pytest.raises(stripe.InvalidRequestError, match="return_url"):
        client.v1.account_links.create(
            {"account": account.id, "type": "account_onboarding", "refresh_url": "http://x.test"}
        )


def test_a_custom_account_is_told_through_the_api(client: stripe.StripeClient) -> None:
    accounts = client.v1.accounts
    account = accounts.create({"type": "custom", "country": "US", "capabilities": {"transfers": {"requested": True}}})
    accounts.update(account.id, {
        "business_type": "individual",
        "business_profile": {"mcc": "6513", "url": "https://host.example"},
        "individual": {"first_name": "Ann", "last_name": "Host", "dob": {"day": 2, "month": 3, "year": 1980}},
    })  # fmt: skip
    account = accounts.retrieve(account.id)
    assert account.requirements.currently_due == ["external_account", "tos_acceptance.date", "tos_acceptance.ip"]
    accounts.external_accounts.create(account.id, {"external_account": "btok_us_verified"})
    account = accounts.update(account.id, {"tos_acceptance": {"date": 1_700_000_000, "ip": "203.0.113.1"}})
    assert account.payouts_enabled and account.capabilities.transfers == "active"
    before = client.v1.events.list({"type": "account.updated"}, {"stripe_account": account.id}).data[0]
    assert before.data.previous_attributes["payouts_enabled"] is False


def test_more_is_asked_for_later_and_rejection(
    sandbox: RunningSandbox, client: stripe.StripeClient, account: stripe.Account
) -> None:
    sandbox.control("POST", f"/_sim/accounts/{account.id}/onboard")
    sandbox.control("POST", f"/_sim/accounts/{account.id}/restrict")
    restricted = client.v1.accounts.retrieve(account.id)
    assert not restricted.payouts_enabled and restricted.requirements.past_due == ["individual.verification.document"]
    sandbox.control("POST", f"/_sim/accounts/{account.id}/restrict", {"past_due": []})
    assert client.v1.accounts.retrieve(account.id).payouts_enabled
    rejected = client.v1.accounts.reject(account.id, {"reason": "fraud_other"})
    assert rejected.requirements.disabled_reason == "rejected.platform_fraud"
    with pytest.raises(ControlError, match="No such account"):
        sandbox.control("POST", "/_sim/accounts/acct_none/onboard")


def test_bank_accounts(client: stripe.StripeClient, account: stripe.Account) -> None:
    external = client.v1.accounts.external_accounts
    euro = external.create(account.id, {"bank_account": {**BANK, "country": "DE", "currency": "eur"}})  # type: ignore[typeddict-unknown-key]
    assert (euro.last4, euro.currency, euro.default_for_currency) == ("6789", "eur", True)
    second = external.create(account.id, {"external_account": "btok_us_verified", "default_for_currency": True})
    third = external.create(account.id, {"external_account": "btok_us_noAccount", "default_for_currency": True})
    assert [bank.default_for_currency for bank in external.list(account.id).data] == [True, False, True]
    external.update(account.id, second.id, {"default_for_currency": True, "metadata": {"a": "b"}})
    assert external.retrieve(account.id, second.id).metadata.to_dict() == {"a": "b"}
    with pytest.raises(stripe.InvalidRequestError, match="default external account"):
        external.delete(account.id, second.id)
    assert external.delete(account.id, third.id).deleted
    assert {bank.id for bank in external.list(account.id).data} == {euro.id, second.id}
    with pytest.raises(stripe.InvalidRequestError, match="No such token"):
        external.create(account.id, {"external_account": "btok_none"})


def test_capabilities(client: stripe.StripeClient, account: stripe.Account) -> None:
    capabilities = client.v1.accounts.capabilities
    assert capabilities.retrieve(account.id, "card_payments").status == "unrequested"
    assert capabilities.update(account.id, "card_payments", {"requested": True}).status == "inactive"
    assert [item.id for item in capabilities.list(account.id).data] == ["card_payments", "transfers"]


def test_payout_schedules(client: stripe.StripeClient, account: stripe.Account) -> None:
    def schedule(**fields: Any) -> Any:
        return client.v1.accounts.update(
            account.id, {"settings": {"payouts": {"schedule": fields}}}
        ).settings.payouts.schedule

    assert schedule(interval="weekly", weekly_anchor="friday").weekly_anchor == "friday"
    assert schedule(interval="manual").to_dict() == {"delay_days": 3, "interval": "manual"}
    assert schedule(delay_days=1, interval="daily").delay_days == 3
    assert schedule(delay_days=10).delay_days == 10
    with pytest.raises(stripe.InvalidRequestError, match="monthly_anchor"):
        schedule(interval="monthly")


def test_acting_for_an_account(client: stripe.StripeClient, account: stripe.Account) -> None:
    """``Stripe-Account``: the account's own objects, its own idempotency keys; strangers are refused."""
    options: Any = {"stripe_account": account.id, "idempotency_key": "same"}
    theirs = client.v1.customers.create({"name": "Guest"}, options)
    ours = client.v1.customers.create({"name": "Guest"}, {"idempotency_key": "same"})
    assert theirs.id != ours.id
    with pytest.raises(stripe.InvalidRequestError, match="No such customer"):
        client.v1.customers.retrieve(theirs.id)
    assert client.v1.accounts.retrieve_current({}, {"stripe_account": account.id}).id == account.id
    assert client.v1.accounts.retrieve_current().settings.payouts.schedule.interval == "manual"
    with pytest.raises(stripe.PermissionError, match="does not have access"):
        client.v1.customers.list({}, {"stripe_account": "acct_none"})
    with pytest.raises(stripe.PermissionError, match="does not have access"):
        client.v1.accounts.retrieve("acct_none")


def test_deleting(client: stripe.StripeClient, account: stripe.Account) -> None:
    assert client.v1.accounts.delete(account.id).deleted
    assert client.v1.accounts.list().data == []
    with pytest.raises(stripe.PermissionError):
        client.v1.accounts.retrieve(account.id)


def test_refused(client: stripe.StripeClient) -> None:
    controller = {"losses": {"payments": "stripe"}}
    with pytest.raises(stripe.InvalidRequestError, match="only specify one"):
        client.v1.accounts.create({"type": "express", "controller": controller})  # type: ignore[typeddict-item]
    for country in ("Germany", "XX"):
        with pytest.raises(stripe.InvalidRequestError, match="is unknown"):
            client.v1.accounts.create({"country": country})
    with pytest.raises(stripe.APIError, match="not simulated"):
        client.v1.accounts.create({"company": {"name": "Host Ltd"}})


def test_connect_endpoints_hear_of_connected_accounts_alone(tmp_path: Path) -> None:
    """Two endpoints from the start: one for the platform's events, one for those of its accounts."""
    with run_receiver() as own, run_receiver() as connect:
        options = {"connect_webhook_url": connect.url, "connect_webhook_secret": "whsec_connect"}
        with run_sandbox(tmp_path, webhook_url=own.url, clock="frozen", **options) as sandbox:
            client = sandbox.client()
            client.v1.customers.create()
            account = client.v1.accounts.create({"type": "express"})
            sandbox.control("POST", f"/_sim/accounts/{account.id}/onboard")
            sandbox.flush()
            assert own.types() == ["customer.created"]
            assert sorted(connect.types()) == ["account.external_account.created", "account.updated"]
            delivery = connect.received[0]
            event = client.construct_event(delivery.body, delivery.signature, "whsec_connect")
            assert event.account == account.id
            assert [item["status"] for item in sandbox.redeliver(event.id)] == [200]
            assert len(own.received) == 1
            added = client.v1.webhook_endpoints.create({"url": own.url, "enabled_events": ["*"], "connect": True})
            sandbox.control("POST", f"/_sim/accounts/{account.id}/restrict")
            sandbox.flush()
            assert own.types() == ["customer.created", "account.updated"] and added.secret
            sandbox.control("POST", "/_sim/reset")
            assert len(client.v1.webhook_endpoints.list().data) == 2
