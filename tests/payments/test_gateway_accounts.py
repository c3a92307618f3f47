"""Hosts' accounts and payouts to banks over a real socket: what is seen of them, and three kinds of answer."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from backoffice.core.errors import Indeterminate, ProviderError, StaydeskError, UpstreamUnavailable
from backoffice.core.money import Money
from backoffice.payments.gateway.stripe import gateway
from backoffice.payments.policies.provider import KNOWN_CATEGORIES
from backoffice.payments.policies.seen_accounts import SeenAccount
from tests.stripe_sandbox.server import RunningSandbox
from tests.workflows.steps import ROOMS, now

pytestmark = pytest.mark.django_db(transaction=True, available_apps=ROOMS)


def opened(reference: str = "PN-1", key: str = "k1") -> SeenAccount:
    return gateway().open_account(country="BE", email="bob@example.org", reference=reference, key=key)


def told(sandbox: RunningSandbox, account: SeenAccount, **facts: Any) -> SeenAccount:
    sandbox.control("POST", f"/_sim/accounts/{account.id}/onboard", facts)
    return gateway().account(account_id=account.id)


def funded(sandbox: RunningSandbox, amount: int = 50_000) -> None:
    gateway().pay(
        amount=Money(amount, "EUR"),
        payment_method="pm_card_bypassPending",
        reference="PY-1",
        group="BK-1",
        key=f"p{amount}",
        return_url="https://desk.example/back",
    )
    sandbox.advance(5)


def test_an_account_is_made_once_per_key_found_by_our_code_and_seen_as_it_is(sandbox: RunningSandbox) -> None:
    fresh = opened()
    assert (fresh.reference, fresh.can_receive, fresh.can_pay_out, fresh.told_everything) == (
        "PN-1",
        False,
        False,
        False,
    )
    assert "external_account" in fresh.missing and fresh.bank_fingerprint == fresh.bank_hint == ""
    assert opened().id == fresh.id
    since = now() - timedelta(minutes=5)
    found = gateway().find_account(reference="PN-1", since=since)
    assert found is not None and found.id == fresh.id
    assert gateway().find_account(reference="PN-2", since=since) is None
    ready = told(sandbox, fresh)
    assert (ready.can_receive, ready.can_pay_out, ready.told_everything, ready.missing) == (True, True, True, ())
    assert ready.bank_fingerprint.startswith("eur:") and ready.bank_hint == "STRIPE TEST BANK ••6789"
    assert gateway().onboarding_link(account_id=fresh.id, return_url="https://desk.example").startswith("http")


def test_the_fingerprint_is_that_of_every_bank_account_that_is_paid(sandbox: RunningSandbox) -> None:
    account = told(sandbox, opened())
    add = sandbox.client().v1.accounts.external_accounts.create
    bank: Any = {"account_number": "000999999991", "country": "US", "currency": "usd"}
    add(account.id, {"bank_account": bank})
    second = gateway().account(account_id=account.id)
    assert second.bank_fingerprint not in {"", account.bank_fingerprint}, "dollars would go elsewhere"
    spare: Any = {"account_number": "000999999992", "country": "BE", "currency": "eur"}
    add(account.id, {"bank_account": spare})
    assert gateway().account(account_id=account.id).bank_fingerprint == second.bank_fingerprint, (
        "one that is not paid to"
    )
    assert len(second.bank_fingerprint) <= 80


def test_our_own_payout_is_made_once_per_key_and_found_by_our_code(sandbox: RunningSandbox) -> None:
    funded(sandbox)
    assert gateway().available()["EUR"] == Money(49_225, "EUR")
    made = gateway().pay_out(amount=Money(9_000, "EUR"), reference="BP-1", key="s1")
    assert (made.status, made.account, made.automatic, made.itemised, made.reference) == (
        "pending", "", False, False, "BP-1",
    )  # fmt: skip
    assert gateway().pay_out(amount=Money(9_000, "EUR"), reference="BP-1", key="s1").id == made.id
    with pytest.raises(ProviderError):
        gateway().pay_out(amount=Money(9_001, "EUR"), reference="BP-1", key="s1")
    found = gateway().find_bank_payout(reference="BP-1", since=now() - timedelta(hours=1))
    assert found is not None and found.id == made.id
    assert gateway().find_bank_payout(reference="BP-2", since=now() - timedelta(hours=1)) is None
    sandbox.advance(8 * 86_400)
    paid = gateway().bank_payout(payout_id=made.id)
    assert paid.status == "paid" and paid.trace and paid.arrival_on == made.arrival_on
    with pytest.raises(ProviderError, match="insufficient"):
        gateway().pay_out(amount=Money(90_000, "EUR"), reference="BP-3", key="s3")


def test_what_is_held_back_for_a_hosts_debt_is_a_movement_like_any_other_and_one_for_a_person(
    sandbox: RunningSandbox,
) -> None:
    funded(sandbox)
    account = told(sandbox, opened()).id
    owing: Any = {
        "amount": 5_000,
        "currency": "eur",
        "payment_method": "pm_card_createDispute",
        "confirm": True,
        "automatic_payment_methods": {"enabled": True, "allow_redirects": "never"},
    }
    sandbox.client().v1.payment_intents.create(owing, {"stripe_account": account})
    sandbox.advance(5)
    moved = list(gateway().balance_transactions(since=now() - timedelta(hours=1)))
    held = moved[0]
    assert (held.reporting_category, held.net, held.source_reference) == (
        "connect_reserved_funds",
        Money(-7_000, "EUR"),
        "",
    )
    assert held.reporting_category not in KNOWN_CATEGORIES  # so it stands in suspense until somebody has looked
    assert gateway().balance()["EUR"].amount == sum(row.net.amount for row in moved)
    assert gateway().available()["EUR"] == Money(49_225 - 7_000, "EUR")


WRITES: dict[str, tuple[str, Callable[[], Any]]] = {
    "open_account": ("/v1/accounts", opened),
    "pay_out": ("/v1/payouts", lambda: gateway().pay_out(amount=Money(100, "EUR"), reference="BP-1", key="s1")),
}


@pytest.mark.parametrize("name", WRITES)
@pytest.mark.parametrize(
    ("effect", "error"),
    [
        ("reset_after_commit", Indeterminate),
        ("error_500_before_commit", Indeterminate),
        ("error_500_after_commit", Indeterminate),
        ("error_409", Indeterminate),
        ("error_429", UpstreamUnavailable),
    ],
)
def test_a_call_whose_answer_is_lost_may_have_happened_and_one_turned_away_did_not(
    sandbox: RunningSandbox, name: str, effect: str, error: type[StaydeskError]
) -> None:
    path, write = WRITES[name]
    funded(sandbox)
    sandbox.fault(effect, method="POST", path=path, times=3)
    with pytest.raises(error) as raised:
        write()
    assert type(raised.value) is error


@pytest.mark.parametrize(
    ("path", "read"),
    [
        ("/v1/balance", lambda: gateway().available()),
        ("/v1/payouts", lambda: list(gateway().bank_payouts(since=now()))),
        ("/v1/accounts", lambda: gateway().find_account(reference="PN-1", since=now())),
    ],
)
def test_what_only_reads_can_simply_be_asked_again(sandbox: RunningSandbox, path: str, read: Callable[[], Any]) -> None:
    sandbox.fault("error_500_before_commit", method="GET", path=path, times=3)
    with pytest.raises(UpstreamUnavailable) as raised:
        read()
    assert type(raised.value) is UpstreamUnavailable
