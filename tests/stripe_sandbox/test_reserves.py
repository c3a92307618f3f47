"""What of the platform's balance is held back while a connected account whose losses it bears is below zero."""

from __future__ import annotations

from typing import Any

import pytest
import stripe

from tests.stripe_sandbox.conftest import Host, Pay
from tests.stripe_sandbox.server import RunningSandbox

DAY = 86_400


def balance(client: stripe.StripeClient, part: str = "available", account: str = "") -> int:
    shown = client.v1.balance.retrieve({}, {"stripe_account": account} if account else {})
    return sum(money.amount for money in getattr(shown, part) if money.currency == "eur")


def reserves(client: stripe.StripeClient, account: str = "") -> list[tuple[str, int]]:
    rows = client.v1.balance_transactions.list({"limit": 100}, {"stripe_account": account} if account else {}).data
    wanted = ("connect_reserved_funds", "connect_collection_transfer")
    return [(row.type, row.net) for row in rows if row.reporting_category in wanted]


@pytest.fixture
def indebted(sandbox: RunningSandbox, client: stripe.StripeClient, host: Host) -> str:
    """A host who was paid directly, by a card that is disputed: 50.00 and the fee of 20.00 are gone before the 50.00 have
    become available."""
    account = host()
    owe(client, account)
    sandbox.advance(5)
    return account


def owe(client: stripe.StripeClient, account: str) -> None:
    client.v1.payment_intents.create(
        {
            "amount": 5_000,
            "currency": "eur",
            "payment_method": "pm_card_createDispute",
            "confirm": True,
            "automatic_payment_methods": {"enabled": True, "allow_redirects": "never"},
        },
        {"stripe_account": account},
    )


def test_a_debt_is_held_back_and_released_as_it_becomes_less(
    sandbox: RunningSandbox, client: stripe.StripeClient, pay: Pay, indebted: str
) -> None:
    assert balance(client, account=indebted) == -7_000
    assert balance(client, "connect_reserved") == 7_000
    assert (balance(client), balance(client, "connect_reserved", indebted)) == (-7_000, 0)
    charge = pay(amount=20_000, card="pm_card_bypassPending").latest_charge
    sandbox.advance(2)
    before = balance(client)
    assert before == 12_675
    client.v1.transfers.create(
        {"amount": 3_000, "currency": "eur", "destination": indebted, "source_transaction": str(charge)}
    )
    assert (balance(client, "connect_reserved"), balance(client)) == (4_000, before)  # 30.00 sent, 30.00 released
    sandbox.advance(7 * DAY)  # what the host was paid has become available
    assert (balance(client, account=indebted) >= 0, balance(client, "connect_reserved")) == (True, 0)
    assert reserves(client) == [
        ("reserve_transaction", 4_000),
        ("reserve_transaction", 3_000),
        ("reserve_transaction", -7_000),
    ]
    shown: Any = client.v1.balance_transactions.list({"type": "reserve_transaction", "expand": ["data.source"]}).data[0]
    assert (shown.source.object, shown.source.amount, shown.source.currency) == ("reserve_transaction", 4_000, "eur")


def test_after_180_days_the_account_is_filled_up_from_what_was_held(
    sandbox: RunningSandbox, client: stripe.StripeClient, indebted: str
) -> None:
    sandbox.advance(7 * DAY)
    debt = -balance(client, account=indebted)
    assert 0 < debt == balance(client, "connect_reserved")
    sandbox.advance(170 * DAY)
    assert balance(client, account=indebted) == -debt
    sandbox.advance(4 * DAY)
    assert (balance(client, account=indebted), balance(client, "connect_reserved")) == (0, 0)
    assert reserves(client, indebted) == [("connect_collection_transfer", debt)]
    assert reserves(client)[:2] == [("reserve_transaction", debt), ("connect_collection_transfer", -debt)]
    collected: Any = client.v1.balance_transactions.list(
        {"type": "connect_collection_transfer", "expand": ["data.source.destination"]}
    ).data[0]
    assert collected.source.destination.id == indebted
    owe(client, indebted)
    sandbox.advance(5)
    assert balance(client, "connect_reserved") == 7_000  # a new debt, with 180 days of its own
    sandbox.advance(100 * DAY)
    assert len(reserves(client, indebted)) == 1


def test_nothing_is_held_for_an_account_whose_losses_stripe_bears(
    sandbox: RunningSandbox, client: stripe.StripeClient, host: Host
) -> None:
    account = host(type="standard")
    owe(client, account)
    sandbox.advance(5)
    assert balance(client, account=account) == -7_000
    assert (balance(client, "connect_reserved"), reserves(client)) == (0, [])
