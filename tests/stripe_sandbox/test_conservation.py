"""Money is neither made nor lost: over all accounts and banks, whatever is done in whatever order."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import stripe
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from tests.stripe_sandbox import contract
from tests.stripe_sandbox.server import RunningSandbox, run_sandbox

CARDS = ["pm_card_visa", "pm_card_bypassPending", "pm_card_createDispute", "pm_card_createDisputeInquiry",
         "pm_card_createMultipleDisputes", "pm_card_refundFail"]  # fmt: skip
NUMBERS = ["000123456789", "000111111116"]
MOVING = ("transfer", "transfer_refund", "payment", "payment_refund", "connect_collection_transfer")
AMOUNTS = st.integers(1_000, 90_000)
PICK = st.integers(0, 50)
SETTLING = 60  # seconds, within which a charge has left its balance transaction


class Refusal(NamedTuple):
    """A reason for which the provider says no, with the code and the parameter that it names."""

    holds: bool
    code: str | None
    param: str | None


def answered(ask: Callable[[], Any], *because: Refusal) -> Any:
    """What was answered, None for a refusal: one there is where one of these reasons holds, and by the first that does;
    where none holds there is none."""
    reason = next((refusal[1:] for refusal in because if refusal.holds), None)
    try:
        answer = ask()
    except stripe.InvalidRequestError as refused:
        if (refused.code, refused.param) != reason:
            raise
        return None
    assert reason is None, f"this should have been refused: {reason}"
    return answer


def sums(*parts: list[Any]) -> dict[str, int]:
    found: dict[str, int] = defaultdict(int)
    for money in (money for part in parts for money in part):
        found[money.currency] += money.amount
    return found


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSandbox]:
    folder: Path = tmp_path_factory.mktemp("world")
    with run_sandbox(folder, clock="frozen") as running:
        yield running


def test_money_is_neither_made_nor_lost(world: RunningSandbox) -> None:
    class Marketplace(RuleBasedStateMachine):
        """A platform, two hosts (one with a bank account that sends payouts back), and guests."""

        @initialize()
        def begin(self) -> None:
            world.control("POST", "/_sim/reset", {"clock": True})
            self.client = world.client(contract.JudgedClient(timeout=20))
            self.charges: list[str] = []
            self.transfers: list[str] = []
            self.hosts = []
            for number in NUMBERS:
                account = self.client.v1.accounts.create(
                    {"type": "express", "capabilities": {"transfers": {"requested": True}}}
                )
                world.control("POST", f"/_sim/accounts/{account.id}/onboard", {"account_number": number})
                self.hosts.append(account.id)

        @rule(amount=AMOUNTS, card=st.sampled_from(CARDS), currency=st.sampled_from(["eur", "eur", "usd", "jpy"]))
        def pay(self, amount: int, card: str, currency: str) -> None:
            intent = self.client.v1.payment_intents.create({
                "amount": amount, "currency": currency, "payment_method": card, "confirm": True,
                "automatic_payment_methods": {"enabled": True, "allow_redirects": "never"},
            })  # fmt: skip
            self.charges.append(str(intent.latest_charge))

        @rule(amount=AMOUNTS, host=st.integers(0, 1))
        def earn(self, amount: int, host: int) -> None:
            """A host is paid at once, so that reversals and bank payouts have something to work on."""
            self.pay(amount=amount, card="pm_card_bypassPending", currency="eur")
            params: Any = {"currency": "eur", "destination": self.hosts[host], "source_transaction": self.charges[-1]}
            self.send(params, self.has_lost_its_bank(self.hosts[host]))  # it covers itself: nothing else is in its way

        def send(self, params: Any, *because: Refusal) -> None:
            sent = answered(lambda: self.client.v1.transfers.create(params), *because)
            if sent is not None:
                self.transfers.append(sent.id)

        def has_lost_its_bank(self, host: str) -> Refusal:
            """An account whose bank account sent money back is not used until it is replaced, and gets nothing."""
            account: Any = self.client.v1.accounts.retrieve(host)
            lost = [bank.status for bank in account.external_accounts.data] == ["errored"]
            assert account.capabilities.transfers == ("inactive" if lost else "active")
            return Refusal(lost, "insufficient_capabilities_for_transfer", None)

        @rule(host=st.integers(0, 1), amount=AMOUNTS, card=st.sampled_from(CARDS))
        def pay_directly(self, host: int, amount: int, card: str) -> None:
            """A host charges a guest without us: their balance can fall below zero, for which ours is held back."""
            params: Any = {
                "amount": amount, "currency": "eur", "payment_method": card, "confirm": True,
                "automatic_payment_methods": {"enabled": True, "allow_redirects": "never"},
            }  # fmt: skip
            self.client.v1.payment_intents.create(params, {"stripe_account": self.hosts[host]})

        @rule(which=PICK, host=st.integers(0, 1), amount=AMOUNTS, bound=st.booleans())
        def transfer(self, which: int, host: int, amount: int, bound: bool) -> None:
            params: Any = {"amount": amount, "currency": "eur", "destination": self.hosts[host]}
            if bound and self.charges:
                params["source_transaction"] = charge = self.charges[which % len(self.charges)]
                settled, currency = self.settled(charge)
                left = settled - self.taken_of_charges()[charge]
                because = [Refusal(currency != "eur", None, "currency"), Refusal(amount > left, None, "amount")]
            else:
                because = [Refusal(amount > self.available(), "balance_insufficient", None)]
            self.send(params, self.has_lost_its_bank(self.hosts[host]), *because)

        def settled(self, charge: str) -> tuple[int, str]:
            """What a charge left in our balance, and in which currency: minor units."""
            shown: Any = self.client.v1.charges.retrieve(charge, {"expand": ["balance_transaction"]})
            if shown.balance_transaction is None:
                world.advance(SETTLING)
                shown = self.client.v1.charges.retrieve(charge, {"expand": ["balance_transaction"]})
            return shown.balance_transaction.amount, shown.balance_transaction.currency

        def taken_of_charges(self) -> dict[str, int]:
            """What transfers took of each charge and have not brought back, minor units."""
            taken: dict[str, int] = defaultdict(int)
            for transfer in self.client.v1.transfers.list({"limit": 100}).data:
                if transfer.source_transaction:
                    taken[str(transfer.source_transaction)] += transfer.amount - transfer.amount_reversed
            return taken

        def available(self, account: str | None = None) -> int:
            """What could leave a balance now, euro cents."""
            return sums(self.balance_of(account).available)["eur"]

        @rule(which=PICK, amount=AMOUNTS)
        def reverse(self, which: int, amount: int) -> None:
            if self.transfers:
                transfer = self.client.v1.transfers.retrieve(self.transfers[which % len(self.transfers)])
                left = transfer.amount - transfer.amount_reversed
                answered(
                    lambda: self.client.v1.transfers.reversals.create(transfer.id, {"amount": amount}),
                    Refusal(left == 0, None, "id"),
                    Refusal(amount > left, None, "amount"),
                    Refusal(amount > self.available(str(transfer.destination)), "balance_insufficient", None),
                )

        @rule(which=PICK, amount=AMOUNTS)
        def refund(self, which: int, amount: int) -> None:
            if self.charges:
                charge = self.client.v1.charges.retrieve(self.charges[which % len(self.charges)])
                disputes = self.client.v1.disputes.list({"charge": charge.id, "limit": 100}).data
                left = charge.amount - charge.amount_refunded
                answered(
                    lambda: self.client.v1.refunds.create({"charge": charge.id, "amount": amount}),
                    Refusal(any(not each.is_charge_refundable for each in disputes), "charge_disputed", "charge"),
                    Refusal(left == 0, "charge_already_refunded", "charge"),
                    Refusal(amount > left, None, "amount"),
                )

        @rule(words=st.sampled_from(["winning_evidence", "losing_evidence", "escalate_inquiry_evidence"]), which=PICK)
        def answer(self, words: str, which: int) -> None:
            disputes = self.client.v1.disputes.list().data
            if disputes:
                dispute = disputes[which % len(disputes)]
                answered(
                    lambda: self.client.v1.disputes.update(dispute.id, {"evidence": {"uncategorized_text": words}}),
                    Refusal(not dispute.status.endswith("needs_response"), None, "evidence"),
                )

        @rule(amount=AMOUNTS)
        def sweep(self, amount: int) -> None:
            answered(
                lambda: self.client.v1.payouts.create({"amount": amount, "currency": "eur"}),
                Refusal(amount > self.available(), "balance_insufficient", "amount"),
            )

        @rule(days=st.sampled_from([0.1, 1, 4, 16]))
        def wait(self, days: float) -> None:
            world.advance(days * 86_400)

        @invariant()
        def holds(self) -> None:
            received: dict[str, int] = defaultdict(int)  # what transfers moved between accounts, both sides
            owed = reserved = 0
            for account in (None, *self.hosts):
                rows, balance = self.rows_of(account), self.balance_of(account)
                for currency, net in sums(balance.available, balance.pending).items():
                    assert net == sum(row.net for row in rows if row.currency == currency)
                for row in rows:
                    assert row.net == row.amount - row.fee
                    if row.type in MOVING:
                        received[row.currency] += row.net
                self.payouts_are_their_lines(account, rows)
                if account is None:
                    reserved = sum(money.amount for money in balance.connect_reserved or ())
                else:
                    owed += sum(max(0, -money.amount) for money in balance.available)
            assert not any(received.values()), received
            assert owed == reserved
            self.transfers_stay_within_their_charge()

        def rows_of(self, account: str | None) -> list[stripe.BalanceTransaction]:
            options: Any = {"stripe_account": account} if account else {}
            return list(self.client.v1.balance_transactions.list({"limit": 100}, options).auto_paging_iter())

        def balance_of(self, account: str | None) -> stripe.Balance:
            return self.client.v1.balance.retrieve({}, {"stripe_account": account} if account else {})

        def payouts_are_their_lines(self, account: str | None, rows: list[stripe.BalanceTransaction]) -> None:
            options: Any = {"stripe_account": account} if account else {}
            for payout in self.client.v1.payouts.list({"limit": 100}, options).data:
                moved = sum(row.net for row in rows if row.source == payout.id)
                assert moved == (0 if payout.status in ("failed", "canceled") else -payout.amount)
                if payout.automatic:
                    lines = self.client.v1.balance_transactions.list({"payout": payout.id, "limit": 100}, options).data
                    assert str(payout.balance_transaction) in {row.id for row in lines}
                    assert sum(row.net for row in lines) == 0

        def transfers_stay_within_their_charge(self) -> None:
            for charge, amount in self.taken_of_charges().items():
                assert amount <= self.settled(charge)[0]

    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        Marketplace,
        settings=settings(
            max_examples=12, stateful_step_count=18, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
