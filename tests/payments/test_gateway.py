"""The port as Stripe's official SDK keeps it, over a real socket: three kinds of answer, whatever goes wrong."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import transaction

from backoffice.core.errors import (
    Indeterminate,
    Invalid,
    ProviderError,
    StaydeskError,
    UnknownPaymentMethod,
    UpstreamUnavailable,
)
from backoffice.core.money import Money
from backoffice.payments.gateway import stripe as provider
from backoffice.payments.gateway import submit
from backoffice.payments.gateway.stripe import StripeGateway, gateway
from backoffice.payments.policies.seen import SeenPayment
from tests.factories import SYSTEM
from tests.stripe_sandbox.server import RunningSandbox
from tests.workflows.steps import ROOMS, now

BACK = "https://desk.example/back"


def pay(card: str = "pm_card_visa", *, amount: int = 10_000, key: str = "k1", reference: str = "PY-1") -> SeenPayment:
    return gateway().pay(
        amount=Money(amount, "EUR"), payment_method=card, reference=reference, group="BK-1", key=key, return_url=BACK
    )


@pytest.mark.parametrize(
    ("card", "status", "code"),
    [
        ("pm_card_visa", "captured", ""),
        ("pm_card_visa_chargeDeclined", "requires_payment", "generic_decline"),
        ("pm_card_visa_chargeDeclinedInsufficientFunds", "requires_payment", "insufficient_funds"),
        ("pm_card_authenticationRequired", "requires_action", ""),
    ],
)
def test_a_cards_answer_is_an_answer(sandbox: RunningSandbox, card: str, status: str, code: str) -> None:
    seen = pay(card)
    assert (seen.status, seen.error_code, seen.reference) == (status, code, "PY-1")
    assert bool(seen.charge_id) is (status == "captured") and bool(seen.next_action_url) is (
        status == "requires_action"
    )
    again = gateway().payment(payment_id=seen.id)
    assert (again.id, again.status, again.amount) == (seen.id, status, Money(10_000, "EUR"))


def test_the_same_key_is_the_same_payment_and_another_amount_under_it_is_refused(sandbox: RunningSandbox) -> None:
    assert pay().id == pay().id
    with pytest.raises(ProviderError):
        pay(amount=20_000)
    assert len(sandbox.client().v1.payment_intents.list().data) == 1


@pytest.mark.parametrize(
    ("effect", "writing", "reading"),
    [
        ("reset_after_commit", Indeterminate, UpstreamUnavailable),
        ("error_500_before_commit", Indeterminate, UpstreamUnavailable),
        ("error_500_after_commit", Indeterminate, UpstreamUnavailable),
        ("error_409", Indeterminate, UpstreamUnavailable),
        ("error_429", UpstreamUnavailable, UpstreamUnavailable),
    ],
)
def test_what_goes_wrong_on_the_way_has_one_name_for_writes_and_one_for_reads(
    sandbox: RunningSandbox, effect: str, writing: type[StaydeskError], reading: type[StaydeskError]
) -> None:
    sandbox.fault(effect, method="POST", path="/v1/payment_intents", times=3)
    with pytest.raises(StaydeskError) as lost:
        pay()
    assert type(lost.value) is writing
    sandbox.clear_faults()
    if not effect.startswith("error_500"):  # Stripe saves that answer under the key
        assert pay().status == "captured"
    sandbox.fault(effect, method="GET", path="/v1/balance", times=3)
    with pytest.raises(reading):
        gateway().balance()
    sandbox.clear_faults()
    gateway().balance()


def test_what_the_provider_refuses_is_a_refusal_with_its_reason(sandbox: RunningSandbox) -> None:
    with pytest.raises(UnknownPaymentMethod) as unknown:
        pay("pm_none")
    assert "pm_none" in unknown.value.words and unknown.value.facts["field"] == "payment_method"
    with pytest.raises(ProviderError) as refused:
        gateway().payment(payment_id="pi_none")
    assert refused.value.facts["provider_code"] == "resource_missing"


def test_a_provider_that_is_not_there_moved_nothing_or_maybe_something(sandbox: RunningSandbox) -> None:
    away = StripeGateway(api_key="sk_test_x", base="http://127.0.0.1:9", secrets=[], read_seconds=1)
    with pytest.raises(UpstreamUnavailable):
        away.balance()
    with pytest.raises(Indeterminate):
        away.refund(charge_id="ch_1", amount=Money(1, "EUR"), reference="RF-1", key="k")


def test_what_carries_our_code_is_found_and_what_does_not_is_not(sandbox: RunningSandbox) -> None:
    since = now() - timedelta(minutes=5)
    mine = pay()
    pay(key="k2", reference="PY-2")
    assert gateway().find_payment(reference="PY-1", since=since) == mine
    assert gateway().find_payment(reference="PY-3", since=since) is None
    made = gateway().refund(charge_id=mine.charge_id, amount=Money(100, "EUR"), reference="RF-1", key="r1")
    assert gateway().find_refund(charge_id=mine.charge_id, reference="RF-1") == made
    assert gateway().find_refund(charge_id=mine.charge_id, reference="RF-2") is None


def test_lists_are_walked_to_the_end(sandbox: RunningSandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(5):
        pay(key=f"k{number}", reference=f"PY-{number}")
    pages = StripeGateway.pages
    monkeypatch.setattr(
        StripeGateway, "pages", lambda self, listing, params: pages(self, listing, {**params, "limit": 2})
    )
    since = now() - timedelta(minutes=5)
    sandbox.advance(60)
    assert gateway().find_payment(reference="PY-0", since=since) is not None
    moved = list(gateway().balance_transactions(since=since))
    assert len(moved) == 5 == len({row.id for row in moved})
    assert all(row.amount - row.fee == row.net and row.presented == Money(10_000, "EUR") for row in moved)
    assert sum(row.net.amount for row in moved) == gateway().balance()["EUR"].amount


def test_a_payment_that_was_not_captured_is_cancelled_once(sandbox: RunningSandbox) -> None:
    seen = pay("pm_card_authenticationRequired")
    assert gateway().cancel_payment(payment_id=seen.id, key="c1").status == "cancelled"
    assert gateway().cancel_payment(payment_id=seen.id, key="c1").status == "cancelled"
    with pytest.raises(ProviderError):
        gateway().cancel_payment(payment_id=pay(key="k2").id, key="c2")


@pytest.mark.parametrize(
    "header",
    [
        "",
        "t=1",
        "v1=abc",
        "t=x,v1=abc",
        "t=1,v1=",
        "t=1,v0=abc",
        "t=-1,v1=abc",
        "t=1,v1=é",
        "t=²,v1=abc",
        ",,=,=",
        "t=" + "9" * 400 + ",v1=a",
    ],
)
def test_no_header_is_an_error_of_ours(sandbox: RunningSandbox, header: str) -> None:
    with pytest.raises(Invalid) as refused:
        gateway().read_webhook(payload=b"{}", signature=header, now=now())
    assert refused.value.facts["field"] == "signature"


@pytest.mark.django_db(transaction=True, available_apps=ROOMS)
def test_the_provider_is_never_called_inside_a_transaction(sandbox: RunningSandbox) -> None:
    with transaction.atomic(), pytest.raises(RuntimeError, match="never called inside a transaction"):
        submit.attempt(attempt_id=1, gateway=gateway(), return_url=BACK, actor=SYSTEM, now=now())
    with transaction.atomic(), pytest.raises(RuntimeError, match="never called inside a transaction"):
        submit.refund(refund_code="RF-1", gateway=gateway(), actor=SYSTEM, now=now())


def test_one_client_a_process(sandbox: RunningSandbox) -> None:
    assert gateway() is provider.gateway()
    assert gateway().ping()
