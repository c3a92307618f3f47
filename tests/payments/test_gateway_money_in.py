"""The port's other ways to be paid, over a real socket: reserve and capture, all or part; save a card and charge it while
the guest is away."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from backoffice.core.errors import ProviderError
from backoffice.core.money import Money
from backoffice.payments.gateway.stripe import gateway
from backoffice.payments.policies.seen import SeenPayment
from tests.stripe_sandbox.server import RunningSandbox

TEN = Money(1_000, "EUR")


def pay(**changed: Any) -> SeenPayment:
    facts: dict[str, Any] = {
        "amount": TEN,
        "payment_method": "pm_card_visa",
        "reference": "PY-1",
        "group": "BK-1",
        "key": "k1",
        "return_url": "https://desk.example/back",
        **changed,
    }
    return gateway().pay(**facts)


def test_what_is_reserved_says_until_when_and_is_taken_once(sandbox: RunningSandbox) -> None:
    seen = pay(capture=False)
    assert (seen.status, seen.taken) == ("authorised", Money(0, "EUR")) and seen.charge_id
    assert seen.capture_before is not None
    window = seen.capture_before - datetime.fromtimestamp(sandbox.now(), UTC)
    assert timedelta(days=6, hours=23) < window <= timedelta(days=7)
    taken = gateway().capture(payment_id=seen.id, key="c1")
    assert (taken.status, taken.taken) == ("captured", TEN)
    assert gateway().capture(payment_id=seen.id, key="c1") == taken
    with pytest.raises(ProviderError):
        gateway().capture(payment_id=seen.id, key="c2")


def test_part_of_what_is_reserved_is_taken_and_the_rest_let_go(sandbox: RunningSandbox) -> None:
    seen = pay(capture=False)
    with pytest.raises(ProviderError):
        gateway().capture(payment_id=seen.id, amount=TEN + TEN, key="c0")
    assert gateway().capture(payment_id=seen.id, amount=Money(400, "EUR"), key="c1").taken == Money(400, "EUR")
    sandbox.advance(60)
    moved = list(gateway().balance_transactions(since=datetime(2020, 1, 1, tzinfo=UTC)))
    assert sorted((row.reporting_category, row.amount.amount, row.presented.amount) for row in moved) == [
        ("charge", 1_000, 1_000),
        ("partial_capture_reversal", -600, 600),
    ]
    assert {row.source_id for row in moved} == {seen.charge_id}  # both stand under the charge they are of


@pytest.mark.parametrize("card", ["pm_card_visa", "pm_card_threeDSecure2Required"])
def test_a_saved_card_is_charged_while_the_guest_is_away(sandbox: RunningSandbox, card: str) -> None:
    asked = gateway().save_card(
        payment_method=card, reference="PY-1", group="BK-1", key="s1", return_url="https://desk.example/back"
    )
    if asked.status == "requires_action":
        assert asked.next_action_url
        sandbox.complete_challenge(asked.id)
    saved = gateway().card_setup(setup_id=asked.id)
    assert saved.status == "saved" and saved.reference == "PY-1"
    since = datetime.fromtimestamp(sandbox.now(), UTC) - timedelta(minutes=1)
    assert gateway().find_setup(reference="PY-1", since=since) == saved
    assert gateway().find_setup(reference="PY-2", since=since) is None
    seen = pay(payment_method=saved.payment_method, customer_id=saved.customer_id, off_session=True)
    if card == "pm_card_visa":
        assert (seen.status, seen.taken, seen.customer_id) == ("captured", TEN, saved.customer_id)
        return
    # This bank asks every time: the guest must come, and then proves who they are on the same payment.
    assert (seen.status, seen.error_code) == ("requires_payment", "authentication_required")
    here = gateway().try_again(
        payment_id=seen.id, payment_method=saved.payment_method, key="k2", return_url="https://desk.example/back"
    )
    assert here.status == "requires_action" and here.next_action_url


def test_a_card_that_cannot_be_saved_is_an_answer(sandbox: RunningSandbox) -> None:
    seen = gateway().save_card(
        payment_method="pm_card_chargeDeclinedInsufficientFunds",
        reference="PY-1",
        group="BK-1",
        key="s1",
        return_url="https://desk.example/back",
    )
    assert (seen.status, seen.error_code) == ("requires_payment", "insufficient_funds")


def test_the_card_that_paid_can_be_charged_again(sandbox: RunningSandbox) -> None:
    first = pay()
    assert first.customer_id and first.payment_method
    again = pay(
        reference="CH-1",
        key="k2",
        customer_id=first.customer_id,
        payment_method=first.payment_method,
        off_session=True,
    )
    assert again.status == "captured" and again.customer_id == first.customer_id


def test_what_is_reserved_and_not_taken_in_time_is_gone(sandbox: RunningSandbox) -> None:
    seen = pay(capture=False)
    sandbox.advance(7 * 86_400 + 60)
    assert gateway().payment(payment_id=seen.id).status == "cancelled"
    with pytest.raises(ProviderError):
        gateway().capture(payment_id=seen.id, key="c1")
