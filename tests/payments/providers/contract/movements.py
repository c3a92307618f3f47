"""What moved our balance, what happened, and the webhooks that say so."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from backoffice.core.errors import Invalid, ProviderError
from backoffice.reconciliation.parsers import provider_report
from tests.payments.providers.contract.bench import Bench, need


class MovementsContract:
    def test_every_movement_names_its_source_and_adds_up(self, bench: Bench) -> None:
        charge = bench.pay().charge_id
        moved = bench.movement(category="charge", source=charge)
        assert moved.amount == bench.money(10_000) and moved.amount - moved.fee == moved.net
        assert moved.source_reference == bench.code("PY") and moved.available_on >= moved.created
        refund = bench.gateway.refund(
            charge_id=charge, amount=bench.money(2_500), reference=bench.code("RF"), key=bench.code("refund")
        )
        back = bench.movement(category="refund", source=refund.id)
        assert back.amount == -bench.money(2_500) and back.source_reference == bench.code("RF")

    def test_a_window_of_movements_is_half_open(self, bench: Bench) -> None:
        moved = bench.movement(category="charge", source=bench.pay().charge_id)
        inside = bench.gateway.balance_transactions(since=moved.created, until=moved.created + timedelta(seconds=1))
        assert moved.id in {row.id for row in inside}
        before = bench.gateway.balance_transactions(since=moved.created - timedelta(hours=1), until=moved.created)
        assert moved.id not in {row.id for row in before}

    def test_one_movement_is_what_the_list_says_of_it(self, bench: Bench) -> None:
        moved = bench.movement(category="charge", source=bench.pay().charge_id)
        assert bench.gateway.balance_transaction(transaction_id=moved.id) == moved
        with pytest.raises(ProviderError) as refused:
            bench.gateway.balance_transaction(transaction_id="txn_of_nobody")
        assert refused.value.facts["missing"] == "object"

    def test_the_balance_moves_by_the_movements_and_by_nothing_else(self, bench: Bench) -> None:
        def listed() -> dict[str, int]:
            rows = bench.gateway.balance_transactions(since=bench.since)
            return {row.id: row.net.amount for row in rows if row.net.currency == bench.native}

        def held() -> int:
            balance = bench.gateway.balance()
            assert all(money.currency == currency for currency, money in balance.items())
            return balance[bench.native].amount if bench.native in balance else 0

        earlier, before = listed(), held()
        charge = bench.charge()
        assert held() - before == sum(net for id, net in listed().items() if id not in earlier) > 0
        assert charge

    def test_only_what_has_become_available_can_leave(self, bench: Bench) -> None:
        before = bench.gateway.available()
        moved = bench.movement(category="charge", source=bench.charge(bench.cards.at_once))
        after = bench.gateway.available()
        assert all(money.currency == currency for currency, money in after.items())
        assert after[bench.native] - before.get(bench.native, bench.money(0)) == moved.net
        bench.charge(number=2)  # on its way
        assert bench.gateway.available()[bench.native] == after[bench.native]

    def test_the_providers_own_report_has_the_same_movements(self, bench: Bench, tmp_path: Path) -> None:
        make = need(bench.report, "a report of a day that is over")
        charge = bench.charge()
        moved = bench.movement(category="charge", source=charge)
        file = tmp_path / "report.csv"
        file.write_bytes(make(moved.created - timedelta(days=1), moved.created + timedelta(days=1)))
        told = {row.id: row for row in provider_report.movements([file]).rows()}[moved.id]
        assert (told.amount, told.fee, told.net, told.created) == (moved.amount, moved.fee, moved.net, moved.created)
        assert (told.reporting_category, told.source_id) == ("charge", charge)

    def test_what_happened_is_told_once_more_on_request(self, bench: Bench) -> None:
        seen = bench.pay()
        events = list(bench.gateway.events(since=bench.since))
        about = {bench.gateway.about(event_type=event.type) for event in events if event.object_id == seen.id}
        assert about == {"payment"}
        assert bench.gateway.about(event_type="something_new.happened") == ""
        assert len({event.id for event in events}) == len(events)
        assert all(event.payload and not event.livemode and event.created >= bench.since for event in events)

    def test_a_webhook_is_believed_by_either_of_two_secrets_within_five_minutes(self, bench: Bench) -> None:
        payload, at = bench.event(), datetime.now(UTC)
        for secret in (0, 1):
            event = bench.gateway.read_webhook(
                payload=payload, signature=bench.sign(payload, at, secret), now=bench.now()
            )
            assert event.id and event.type and event.payload == payload
        refused = (
            (payload + b" ", bench.sign(payload, at, 0)),
            (payload, bench.sign(payload, at, 2)),
            (payload, bench.sign(payload, at - timedelta(minutes=6), 0)),
            (payload, bench.sign(payload, at + timedelta(minutes=6), 0)),
            (payload, ""),
        )
        for sent, signature in refused:
            with pytest.raises(Invalid):
                bench.gateway.read_webhook(payload=sent, signature=signature, now=bench.now())
