"""Transfers: of a charge or of the balance, never more than there is; reversals take back what the host still has."""

from __future__ import annotations

from typing import Any

import pytest
import stripe

from tests.stripe_sandbox.conftest import Host, Pay
from tests.stripe_sandbox.server import RunningSandbox

DAY = 86_400


def held(client: stripe.StripeClient, account: str, part: str = "available", currency: str = "eur") -> int:
    balance = client.v1.balance.retrieve({}, {"stripe_account": account})
    return sum(money.amount for money in getattr(balance, part) if money.currency == currency)


def test_a_transfer_of_a_charge(sandbox: RunningSandbox, client: stripe.StripeClient, pay: Pay, host: Host) -> None:
    account = host()
    intent = pay(amount=50_000, transfer_group="BK-1")
    transfer = client.v1.transfers.create(
        {
            "amount": 40_000,
            "currency": "eur",
            "destination": account,
            "source_transaction": str(intent.latest_charge),
            "expand": ["balance_transaction", "destination_payment.balance_transaction"],
        }
    )
    ours: Any = transfer.balance_transaction
    theirs: Any = transfer.destination_payment
    charge = client.v1.charges.retrieve(str(intent.latest_charge), {"expand": ["balance_transaction"]})
    settled: Any = charge.balance_transaction
    assert (ours.type, ours.reporting_category, ours.net) == ("transfer", "transfer", -40_000)
    assert theirs.id.startswith("py_") and theirs.source_transfer == transfer.id
    assert (theirs.balance_transaction.type, theirs.balance_transaction.net) == ("payment", 40_000)
    assert theirs.balance_transaction.reporting_category == "charge"
    assert ours.available_on == theirs.balance_transaction.available_on == settled.available_on
    assert transfer.transfer_group == "BK-1"
    assert (held(client, account), held(client, account, "pending")) == (0, 40_000)
    assert [event.type for event in client.v1.events.list({"type": "transfer.*"}).data] == ["transfer.created"]
    assert client.v1.events.list({"type": "payment.created"}, {"stripe_account": account}).data[0].account == account


def test_group_is_made_up_when_there_is_none(client: stripe.StripeClient, pay: Pay, host: Host) -> None:
    intent = pay()
    charge = str(intent.latest_charge)
    params: Any = {"amount": 100, "currency": "eur", "destination": host(), "source_transaction": charge}
    assert client.v1.transfers.create(params).transfer_group == f"group_{intent.id}"
    assert client.v1.charges.retrieve(charge).transfer_group == f"group_{intent.id}"


def test_transfers_of_a_charge_never_exceed_it(client: stripe.StripeClient, pay: Pay, host: Host) -> None:
    account, charge = host(), str(pay(amount=10_000).latest_charge)
    params: Any = {"currency": "eur", "destination": account, "source_transaction": charge}
    first = client.v1.transfers.create({"amount": 6_000, **params})
    with pytest.raises(stripe.InvalidRequestError, match=r"€40.01 was asked for, €40.00"):
        client.v1.transfers.create({"amount": 4_001, **params})
    assert client.v1.transfers.create(params).amount == 4_000
    with pytest.raises(stripe.InvalidRequestError, match="must not exceed"):
        client.v1.transfers.create({"amount": 1, **params})
    assert (
        client.v1.transfers.list({"destination": account, "transfer_group": first.transfer_group}).data[-1].id
        == first.id
    )


def test_partly_captured_charge_can_give_what_was_captured(client: stripe.StripeClient, pay: Pay, host: Host) -> None:
    intent = pay(amount=10_000, capture_method="manual")
    params: Any = {"currency": "eur", "destination": host(), "source_transaction": intent.latest_charge}
    with pytest.raises(stripe.InvalidRequestError, match="has not been captured"):
        client.v1.transfers.create({"amount": 1, **params})
    client.v1.payment_intents.capture(intent.id, {"amount_to_capture": 7_000})
    with pytest.raises(stripe.InvalidRequestError, match="must not exceed"):
        client.v1.transfers.create({"amount": 7_001, **params})
    assert client.v1.transfers.create(params).amount == 7_000


def test_a_transfer_of_the_balance_needs_available_money(
    sandbox: RunningSandbox, client: stripe.StripeClient, pay: Pay, host: Host
) -> None:
    account = host()
    params: Any = {"amount": 40_000, "currency": "eur", "destination": account}
    pay(amount=50_000)
    sandbox.advance(2)
    with pytest.raises(stripe.InvalidRequestError) as refused:
        client.v1.transfers.create(params)
    assert refused.value.code == "balance_insufficient"
    sandbox.advance(7 * DAY)
    client.v1.transfers.create(params)
    assert held(client, account) == 40_000
    assert client.v1.balance.retrieve().available[0].amount == 50_000 - 775 - 40_000


@pytest.mark.parametrize(
    ("change", "message", "code"),
    [
        ({"destination": "acct_none"}, "No such destination", "resource_missing"),
        ({"source_transaction": "ch_none"}, "No such charge", "resource_missing"),
        ({"currency": "usd"}, r"\(eur\) must be the same as the transfer currency \(usd\)", None),
        ({"amount": 0}, "greater than or equal to 1", "parameter_invalid_integer"),
        ({"amount": None, "source_transaction": None}, "Missing required param: amount", "parameter_missing"),
    ],
)
def test_refused(
    client: stripe.StripeClient, pay: Pay, host: Host, change: dict[str, Any], message: str, code: str | None
) -> None:
    params = {
        "amount": 100,
        "currency": "eur",
        "destination": host(),
        "source_transaction": pay().latest_charge,
        **change,
    }
    with pytest.raises(stripe.InvalidRequestError, match=message) as refused:
        client.v1.transfers.create({name: value for name, value in params.items() if value is not None})  # type: ignore[arg-type]
    assert refused.value.code == code


def test_a_host_who_may_not_receive_yet(client: stripe.StripeClient, pay: Pay) -> None:
    account = client.v1.accounts.create({"type": "express", "capabilities": {"transfers": {"requested": True}}})
    with pytest.raises(stripe.InvalidRequestError, match="transfers") as refused:
        client.v1.transfers.create(
            {"amount": 1, "currency": "eur", "destination": account.id, "source_transaction": str(pay().latest_charge)}
        )
    assert refused.value.code == "insufficient_capabilities_for_transfer"


def test_settlement_currency_is_what_counts(client: stripe.StripeClient, pay: Pay, host: Host) -> None:
    """A charge in yen settles in euro: the transfer is in euro; a host who holds other money has it converted."""
    charge = str(pay(amount=100_000, currency="jpy").latest_charge)
    american = host(country="US")
    transfer = client.v1.transfers.create(
        {"amount": 10_000, "currency": "eur", "destination": american, "source_transaction": charge}
    )
    row = client.v1.balance_transactions.list({}, {"stripe_account": american}).data[0]
    assert (row.currency, row.source) == ("usd", transfer.destination_payment)
    assert row.exchange_rate is not None and row.net == round(10_000 * row.exchange_rate)


def test_reversals(sandbox: RunningSandbox, client: stripe.StripeClient, pay: Pay, host: Host) -> None:
    account = host(settings={"payouts": {"schedule": {"interval": "manual"}}})
    transfer = client.v1.transfers.create(
        {"amount": 10_000, "currency": "eur", "destination": account, "source_transaction": str(pay().latest_charge)}
    )
    reversals = client.v1.transfers.reversals
    with pytest.raises(stripe.InvalidRequestError) as refused:  # still pending on the host's side
        reversals.create(transfer.id, {"amount": 3_000})
    assert refused.value.code == "balance_insufficient"
    sandbox.advance(7 * DAY)
    reversal = reversals.create(
        transfer.id, {"amount": 3_000, "metadata": {"why": "clawback"}, "expand": ["balance_transaction"]}
    )
    row: Any = reversal.balance_transaction
    assert (row.type, row.reporting_category, row.net) == ("transfer_refund", "transfer_reversal", 3_000)
    theirs = client.v1.balance_transactions.list({"type": "payment_refund"}, {"stripe_account": account}).data[0]
    assert (theirs.net, theirs.reporting_category, theirs.source) == (
        -3_000,
        "refund",
        reversal.destination_payment_refund,
    )
    assert held(client, account) == 7_000
    with pytest.raises(stripe.InvalidRequestError, match="larger than the unreversed amount"):
        reversals.create(transfer.id, {"amount": 7_001})
    rest = reversals.create(transfer.id)
    assert rest.amount == 7_000
    after = client.v1.transfers.retrieve(transfer.id)
    assert (after.amount_reversed, after.reversed) == (10_000, True)
    assert [item.id for item in after.reversals.data] == [rest.id, reversal.id]
    assert [item.id for item in reversals.list(transfer.id).data] == [rest.id, reversal.id]
    assert reversals.update(transfer.id, rest.id, {"metadata": {"a": "b"}}).metadata.to_dict() == {"a": "b"}
    assert reversals.retrieve(transfer.id, reversal.id).metadata.to_dict() == {"why": "clawback"}
    with pytest.raises(stripe.InvalidRequestError, match="already fully reversed"):
        reversals.create(transfer.id)
    assert client.v1.events.list({"type": "transfer.reversed"}).data[0].data.object["reversed"] is True


def test_refunds_and_transfers_know_nothing_of_each_other(client: stripe.StripeClient, pay: Pay, host: Host) -> None:
    intent = pay()
    transfer = client.v1.transfers.create(
        {"amount": 1_000, "currency": "eur", "destination": host(), "source_transaction": str(intent.latest_charge)}
    )
    client.v1.refunds.create({"payment_intent": intent.id})
    assert client.v1.transfers.retrieve(transfer.id).amount_reversed == 0
    updated = client.v1.transfers.update(transfer.id, {"metadata": {"payout": "PO-1"}, "description": "July"})
    assert (updated.description, updated.metadata.to_dict()) == ("July", {"payout": "PO-1"})
