"""Transfers to hosts' accounts, and what is taken back of them."""

from __future__ import annotations

import pytest

from backoffice.core.errors import ProviderError
from backoffice.payments.policies.seen import SeenReversal, SeenTransfer
from tests.payments.providers.contract.bench import Bench


class MoneyOutContract:
    def test_a_transfer_is_made_once_and_found_by_its_key(self, bench: Bench) -> None:
        account, charge = bench.ready_host(), bench.charge()
        sent = transfer(bench, account, charge)
        assert transfer(bench, account, charge).id == sent.id, "the same key is the same transfer"
        assert (sent.amount, sent.account, sent.charge_id) == (bench.money(6_000), account, charge)
        assert (sent.reference, sent.group, sent.reversed_amount) == (
            bench.code("PO"),
            bench.code("BK"),
            bench.money(0),
        )
        assert bench.gateway.transfer_state(transfer_id=sent.id) == sent
        found = bench.gateway.find_transfer(group=bench.code("BK"), key=bench.code("transfer"))
        assert found is not None and found.id == sent.id
        assert bench.gateway.find_transfer(group=bench.code("BK"), key=bench.code("transfer", 9)) is None
        moved = bench.movement(category="transfer", source=sent.id)
        assert moved.amount == -bench.money(6_000) and moved.source_reference == bench.code("PO")
        assert (moved.booking, moved.host, moved.account) == (bench.code("BK"), bench.code("HO"), account)

    def test_of_a_charge_no_more_is_sent_than_it_brought(self, bench: Bench) -> None:
        account, charge = bench.ready_host(), bench.charge()
        transfer(bench, account, charge)
        with pytest.raises(ProviderError):
            transfer(bench, account, charge, number=2)

    def test_without_a_charge_a_transfer_draws_on_what_is_available(self, bench: Bench) -> None:
        account = bench.ready_host()
        bench.charge(bench.cards.at_once)
        sent = transfer(bench, account, "")
        assert (sent.amount, sent.charge_id) == (bench.money(6_000), "")
        with pytest.raises(ProviderError):
            transfer(bench, account, "", amount=bench.gateway.available()[bench.native].amount + 1, number=2)

    def test_of_a_transfer_part_is_taken_back_once_and_never_more_than_is_left(self, bench: Bench) -> None:
        account, charge = bench.ready_host(), bench.charge(bench.cards.at_once)
        sent = transfer(bench, account, charge)
        back = reverse(bench, sent, 2_000)
        assert (back.amount, back.transfer_id, back.reference) == (bench.money(2_000), sent.id, bench.code("CW"))
        assert reverse(bench, sent, 2_000).id == back.id, "the same key is the same reversal"
        assert bench.gateway.transfer_state(transfer_id=sent.id).reversed_amount == bench.money(2_000)
        found = bench.gateway.find_reversal(transfer_id=sent.id, reference=bench.code("CW"))
        assert found is not None and found.id == back.id
        assert bench.gateway.find_reversal(transfer_id=sent.id, reference=bench.code("CW", 9)) is None
        moved = bench.movement(category="transfer_reversal", source=back.id)
        assert moved.amount == bench.money(2_000) and moved.source_reference == bench.code("CW")
        with pytest.raises(ProviderError):
            reverse(bench, sent, 4_001, 2)
        reverse(bench, sent, 4_000, 3)
        with pytest.raises(ProviderError):
            reverse(bench, sent, 1, 4)
        assert bench.gateway.transfer_state(transfer_id=sent.id).reversed_amount == sent.amount


def transfer(bench: Bench, account: str, charge: str, *, amount: int = 6_000, number: int = 1) -> SeenTransfer:
    return bench.gateway.transfer(
        amount=bench.money(amount),
        account=account,
        charge_id=charge,
        group=bench.code("BK"),
        reference=bench.code("PO", number),
        host=bench.code("HO"),
        key=bench.code("transfer", number),
    )


def reverse(bench: Bench, sent: SeenTransfer, amount: int, number: int = 1) -> SeenReversal:
    return bench.gateway.reverse_transfer(
        transfer_id=sent.id,
        amount=bench.money(amount),
        account=sent.account,
        group=bench.code("BK"),
        payout=bench.code("PO"),
        reference=bench.code("CW", number),
        host=bench.code("HO"),
        key=bench.code("reversal", number),
    )
