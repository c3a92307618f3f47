"""A frozen sandbox with a receiver for its webhooks, and the official SDK as its only client, judged by the schema."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import stripe

from tests.stripe_sandbox import contract
from tests.stripe_sandbox.receiver import Receiver, run_receiver
from tests.stripe_sandbox.server import RunningSandbox, run_sandbox

Pay = Callable[..., stripe.PaymentIntent]
Host = Callable[..., str]


@pytest.fixture(scope="session")
def _running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RunningSandbox, Receiver]]:
    """One process for all tests that need nothing special of it; each test finds it empty."""
    with run_receiver() as receiver:
        folder = tmp_path_factory.mktemp("sandbox")
        with run_sandbox(folder, webhook_url=receiver.url, clock="frozen", webhook_timeout=2) as sandbox:
            yield sandbox, receiver


@pytest.fixture
def receiver(_running: tuple[RunningSandbox, Receiver]) -> Receiver:
    """The receiver of the sandbox's webhooks."""
    return _running[1]


@pytest.fixture
def sandbox(_running: tuple[RunningSandbox, Receiver]) -> Iterator[RunningSandbox]:
    """A sandbox whose clock stands still; when the test is over, the object of every event, listed and delivered, is held
    against the schema."""
    running, receiver = _running
    receiver.clear()
    yield running
    try:
        contract.judge_events(running)
        for item in receiver.received if contract.PRESENT else ():
            contract.check_event(item.event)
    finally:
        receiver.clear()
        running.flush()
        running.control("POST", "/_sim/reset", {"clock": True})


@pytest.fixture
def client(sandbox: RunningSandbox) -> stripe.StripeClient:
    return sandbox.client(contract.JudgedClient(timeout=20))


@pytest.fixture
def pay(client: stripe.StripeClient) -> Pay:
    """Make and confirm a PaymentIntent by card; parameters may be added or replaced."""

    def pay(amount: int = 50_000, currency: str = "eur", card: str = "pm_card_visa", **params: Any) -> Any:
        return client.v1.payment_intents.create(
            {
                "amount": amount,
                "currency": currency,
                "payment_method": card,
                "confirm": True,
                "automatic_payment_methods": {"enabled": True, "allow_redirects": "never"},
                **params,
            }  # type: ignore[typeddict-item]
        )

    return pay


@pytest.fixture
def host(sandbox: RunningSandbox, client: stripe.StripeClient) -> Host:
    """Make a connected account that can receive money; its id. ``number`` decides how its payouts end."""

    def host(country: str = "DE", number: str = "000123456789", **params: Any) -> str:
        account = client.v1.accounts.create(
            {"type": "express", "country": country, "capabilities": {"transfers": {"requested": True}}, **params}  # type: ignore[typeddict-item]
        )
        sandbox.control("POST", f"/_sim/accounts/{account.id}/onboard", {"account_number": number})
        return account.id

    return host
