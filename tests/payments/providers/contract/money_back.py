"""Refunds, in every end that they can take."""

from __future__ import annotations

from datetime import timedelta

import pytest

from backoffice.core.errors import ProviderError
from backoffice.payments.policies.seen import RefundStatus, SeenRefund
from tests.payments.providers.contract.bench import Bench

# A provider that makes a refund wait or fail on purpose does so within minutes.
SOON = timedelta(hours=2)


class MoneyBackContract:
    def test_refunds_go_back_in_parts_until_nothing_is_left(self, bench: Bench) -> None:
        charge = bench.charge()
        first = _refund(bench, charge, 4_000)
        assert first.status in {"pending", "succeeded"} and first.charge_id == charge
        assert (first.amount, first.reference) == (bench.money(4_000), bench.code("RF"))
        assert _refund(bench, charge, 4_000).id == first.id, "the same key is the same refund"
        found = bench.gateway.find_refund(charge_id=charge, reference=bench.code("RF"))
        assert found is not None and found.id == first.id
        assert bench.gateway.find_refund(charge_id=charge, reference=bench.code("RF", 9)) is None
        with pytest.raises(ProviderError):
            _refund(bench, charge, 6_001, 2)
        _refund(bench, charge, 6_000, 3)
        with pytest.raises(ProviderError):
            _refund(bench, charge, 1, 4)
        assert bench.gateway.refund_state(refund_id=first.id).amount == bench.money(4_000)

    def test_a_refund_that_waits_is_pending_until_it_has_succeeded(self, bench: Bench) -> None:
        refund = _refund(bench, bench.charge(bench.cards.slow_refund), 4_000)
        assert refund.status == "pending"
        _becomes(bench, refund, "succeeded")
        assert sum(row.amount.amount for row in bench.movements(refund.id)) == -4_000

    def test_a_refund_that_fails_after_it_succeeded_brings_the_money_back(self, bench: Bench) -> None:
        charge = bench.charge(bench.cards.failing_refund)
        refund = _refund(bench, charge, 4_000)
        assert refund.status in {"pending", "succeeded"}
        failed = _becomes(bench, refund, "failed")
        assert failed.failure_reason
        returned = bench.movement(category="refund_failure", source=refund.id)
        assert returned.amount == bench.money(4_000) and returned.source_reference == bench.code("RF")
        assert sum(row.amount.amount for row in bench.movements(refund.id)) == 0


def _refund(bench: Bench, charge: str, amount: int, number: int = 1) -> SeenRefund:
    return bench.gateway.refund(
        charge_id=charge,
        amount=bench.money(amount),
        reference=bench.code("RF", number),
        key=bench.code("refund", number),
    )


def _becomes(bench: Bench, refund: SeenRefund, status: RefundStatus) -> SeenRefund:
    def seen() -> SeenRefund | None:
        state = bench.gateway.refund_state(refund_id=refund.id)
        return state if state.status == status else None

    return bench.later(f"a refund to be {status}", seen, within=SOON)
