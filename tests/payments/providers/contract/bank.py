"""What leaves for a bank: our own balance, and hosts'."""

from __future__ import annotations

from datetime import timedelta

import pytest

from backoffice.core.errors import ProviderError
from backoffice.payments.policies.seen_accounts import BankPayoutStatus, SeenBankPayout
from tests.payments.providers.contract.bench import Bench, need
from tests.payments.providers.contract.money_out import reverse, transfer

ARRIVAL = timedelta(days=8)


class BankContract:
    def test_our_own_money_is_sent_to_our_bank_once_and_found_by_our_code(self, bench: Bench) -> None:
        bench.charge(bench.cards.at_once)
        before = bench.gateway.available()[bench.native]
        sent = _pay_out(bench, 4_000)
        assert (sent.amount, sent.reference, sent.account) == (bench.money(4_000), bench.code("SW"), "")
        assert sent.status in {"pending", "in_transit"} and not sent.automatic and not sent.itemised
        assert _pay_out(bench, 4_000).id == sent.id, "the same key is the same payout"
        assert bench.gateway.available()[bench.native] == before - sent.amount
        assert bench.gateway.bank_payout(payout_id=sent.id) == sent
        assert sent.id in {row.id for row in bench.gateway.bank_payouts(since=bench.since)}
        found = bench.gateway.find_bank_payout(reference=bench.code("SW"), since=bench.since)
        assert found is not None and found.id == sent.id
        assert bench.gateway.find_bank_payout(reference=bench.code("SW", 9), since=bench.since) is None
        moved = bench.movement(category="payout", source=sent.id)
        assert moved.amount == -sent.amount and moved.payout_id == sent.id

    def test_no_more_is_sent_to_a_bank_than_is_available(self, bench: Bench) -> None:
        bench.charge()  # on its way to us, and not ours to send yet
        with pytest.raises(ProviderError):
            _pay_out(bench, bench.gateway.available()[bench.native].amount + 1)

    def test_what_was_sent_arrives(self, bench: Bench) -> None:
        bench.charge(bench.cards.at_once)
        sent = _pay_out(bench, 4_000)
        arrived = _becomes(bench, sent, "paid")
        assert arrived.arrival_on <= bench.now().date() and not arrived.failure

    def test_what_a_bank_sends_back_is_ours_again_and_says_why(self, bench: Bench) -> None:
        send_back = need(bench.send_back, "a bank to send a payout back")
        bench.charge(bench.cards.at_once)
        before = bench.gateway.available()[bench.native]
        sent = _pay_out(bench, 4_000)
        send_back(sent.id)
        failed = _becomes(bench, sent, "failed")
        assert failed.failure
        assert bench.movement(category="payout_reversal", source=sent.id).amount == sent.amount
        back = {row.id: row for row in bench.gateway.bank_payouts_sent_back()}
        assert back[sent.id] == failed and {row.status for row in back.values()} == {"failed"}
        assert bench.gateway.available()[bench.native] == before

    def test_a_host_is_paid_by_itself_and_the_payout_says_which_transfers_it_is_made_of(self, bench: Bench) -> None:
        account, charge = bench.ready_host(), bench.charge(bench.cards.at_once)
        sent = transfer(bench, account, charge)
        reverse(bench, sent, 1_500)

        def arrived() -> SeenBankPayout | None:
            rows = bench.gateway.bank_payouts(account=account, since=bench.since)
            return next((row for row in rows if row.status == "paid" and row.itemised), None)

        paid = bench.later("a host's bank payout to arrive", arrived, within=ARRIVAL)
        assert (paid.account, paid.automatic, paid.amount) == (account, True, bench.money(4_500))
        assert bench.gateway.bank_payout(payout_id=paid.id, account=account) == paid
        lines = list(bench.gateway.bank_payout_lines(payout_id=paid.id, account=account))
        assert sum(line.net.amount for line in lines) == paid.amount.amount
        assert {line.net.amount: line.transfer_id for line in lines}[6_000] == sent.id
        assert all(line.presented == line.net and not line.returned for line in lines)
        assert paid.id not in {line.source_id for line in lines}, "its own movement is not among them"


def _pay_out(bench: Bench, amount: int) -> SeenBankPayout:
    return bench.gateway.pay_out(amount=bench.money(amount), reference=bench.code("SW"), key=bench.code("sweep"))


def _becomes(bench: Bench, sent: SeenBankPayout, status: BankPayoutStatus) -> SeenBankPayout:
    def seen() -> SeenBankPayout | None:
        state = bench.gateway.bank_payout(payout_id=sent.id)
        return state if state.status == status else None

    return bench.later(f"a bank payout to be {status}", seen, within=ARRIVAL)
