"""Money is neither made nor lost: over all accounts and banks, whatever is done in whatever order."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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
            try:
                self.transfers.append(self.client.v1.transfers.create(params).id)
            except stripe.InvalidRequestError as refused:
                self.is_because_a_bank_sent_money_back(refused, self.hosts[host])

        def is_because_a_bank_sent_money_back(self, refused: stripe.InvalidRequestError, host: str) -> None:
            """The only refusal of what covers itself: an account whose bank account is not used any more gets nothing."""
            if refused.code != "insufficient_capabilities_for_transfer":
                raise refused
            account: Any = self.client.v1.accounts.retrieve(host)
            assert account.capabilities.transfers == "inactive"
            assert [bank.status for bank in account.external_accounts.data] == ["errored"]

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
                params["source_transaction"] = self.charges[which % len(self.charges)]
            with contextlib.suppress(stripe.InvalidRequestError):
                self.transfers.append(self.client.v1.transfers.create(params).id)

        @rule(which=PICK, amount=AMOUNTS)
        def reverse(self, which: int, amount: int) -> None:
            if self.transfers:
                with contextlib.suppress(stripe.InvalidRequestError):
                    transfer = self.transfers[which % len(self.transfers)]
                    self.client.v1.transfers.reversals.create(transfer, {"amount": amount})

        @rule(which=PICK, amount=AMOUNTS)
        def refund(self, which: int, amount: int) -> None:
            if self.charges:
                with contextlib.suppress(stripe.InvalidRequestError):
                    self.client.v1.refunds.create({"charge": self.charges[which % len(self.charges)], "amount": amount})

        @rule(words=st.sampled_from(["winning_evidence", "losing_evidence", "escalate_inquiry_evidence"]), which=PICK)
        def answer(self, words: str, which: int) -> None:
            disputes = self.client.v1.disputes.list().data
            if disputes:
                with contextlib.suppress(stripe.InvalidRequestError):
                    dispute = disputes[which % len(disputes)].id
                    self.client.v1.disputes.update(dispute, {"evidence": {"uncategorized_text": words}})

        @rule(amount=AMOUNTS)
        def sweep(self, amount: int) -> None:
            with contextlib.suppress(stripe.InvalidRequestError):
                self.client.v1.payouts.create({"amount": amount, "currency": "eur"})

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
            taken: dict[str, int] = defaultdict(int)
            for transfer in self.client.v1.transfers.list({"limit": 100}).data:
                if transfer.source_transaction:
                    taken[str(transfer.source_transaction)] += transfer.amount - transfer.amount_reversed
            for charge, amount in taken.items():
                shown: Any = self.client.v1.charges.retrieve(charge, {"expand": ["balance_transaction"]})
                assert amount <= shown.balance_transaction.amount

    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        Marketplace,
        settings=settings(
            max_examples=12, stateful_step_count=18, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
