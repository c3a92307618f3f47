"""Inquiries, chargebacks, the evidence against them, and early warnings."""

from __future__ import annotations

import pytest

from backoffice.core.errors import ProviderError
from backoffice.payments.policies.chargebacks import SeenDispute, SeenFraudWarning
from tests.payments.providers.contract.bench import Bench

PICTURE = b"\x89PNG\r\n\x1a\n" + bytes(64)


class DisputesContract:
    def test_a_chargeback_is_heard_of_and_has_taken_the_money(self, bench: Bench) -> None:
        dispute = _disputed(bench)
        taken = bench.movement(category="dispute", source=dispute.id)
        assert taken.amount == -bench.money(10_000) and taken.fee.amount >= 0
        assert taken.disputed_charge == dispute.charge_id
        assert (dispute.kind, dispute.status, dispute.amount) == ("chargeback", "needs_response", bench.money(10_000))
        assert dispute.due_by is not None and dispute.due_by > bench.now() and dispute.reason and dispute.payment_id
        assert dispute.page == "" or (dispute.page.startswith("https://") and dispute.id in dispute.page)
        assert bench.gateway.dispute(dispute_id=dispute.id) == dispute
        with pytest.raises(ProviderError) as refused:
            _refund(bench, dispute.charge_id)
        assert refused.value.facts["charged_back"] is True

    def test_an_inquiry_asks_and_takes_nothing(self, bench: Bench) -> None:
        inquiry = _disputed(bench, bench.cards.inquired)
        assert inquiry.kind == "inquiry" and inquiry.amount == bench.money(10_000)
        assert not list(bench.movements(inquiry.id))

    def test_evidence_is_staged_beside_what_is_there_and_not_submitted(self, bench: Bench) -> None:
        dispute = _disputed(bench)

        def stage(key: str, **evidence: str) -> SeenDispute:
            return bench.gateway.stage_evidence(dispute_id=dispute.id, evidence=evidence, key=bench.code(key))

        staged = stage("first", customer_name="Alice", service_date="2026-11-20")
        assert stage("first", customer_name="Alice", service_date="2026-11-20") == staged, "the same key"
        assert (staged.status, staged.submissions) == ("needs_response", 0)
        after = stage("second", customer_name="", uncategorized_text="She slept there.")
        assert (after.status, after.submissions) == ("needs_response", 0)
        assert not after.evidence.get("customer_name"), "an empty text takes a field back"
        assert after.evidence["service_date"] == "2026-11-20"
        assert after.evidence["uncategorized_text"] == "She slept there."

    def test_a_file_is_kept_and_laid_beside_the_words(self, bench: Bench) -> None:
        file = bench.gateway.upload_evidence(name="receipt.png", content=PICTURE, key=bench.code("file"))
        assert bench.gateway.upload_evidence(name="receipt.png", content=PICTURE, key=bench.code("file")) == file
        dispute = _disputed(bench)
        staged = bench.gateway.stage_evidence(
            dispute_id=dispute.id, evidence={"receipt": file}, key=bench.code("stage")
        )
        assert (staged.evidence["receipt"], staged.submissions) == (file, 0)

    def test_evidence_is_submitted_once_and_a_dispute_that_is_won_gives_the_money_back(self, bench: Bench) -> None:
        dispute = _disputed(bench)
        submitted = _submit(bench, dispute, bench.winning)
        assert submitted.submissions == 1 and submitted.status != "needs_response"
        assert _submit(bench, dispute, bench.winning).submissions == 1, "the same key submits nothing more"
        _becomes(bench, dispute, "won")
        assert bench.movement(category="dispute_reversal", source=dispute.id).amount == bench.money(10_000)
        with pytest.raises(ProviderError):
            _submit(bench, dispute, bench.winning, number=2)

    def test_a_dispute_that_is_lost_leaves_the_money_with_the_guest(self, bench: Bench) -> None:
        dispute = _disputed(bench)
        _submit(bench, dispute, bench.losing)
        _becomes(bench, dispute, "lost")
        assert not [row for row in bench.movements(dispute.id) if row.reporting_category == "dispute_reversal"]

    def test_a_dispute_that_is_accepted_is_lost_and_there_is_no_way_back(self, bench: Bench) -> None:
        dispute = _disputed(bench)
        for _ in range(2):  # the second time by the same key
            assert bench.gateway.accept_dispute(dispute_id=dispute.id, key=bench.code("accept")).status == "lost"
        with pytest.raises(ProviderError):
            _submit(bench, dispute, bench.winning)

    def test_a_warning_of_fraud_is_heard_of_and_is_over_when_all_was_refunded(self, bench: Bench) -> None:
        payment = bench.pay(bench.cards.suspected)

        def warned() -> SeenFraudWarning | None:
            for event in bench.gateway.events(since=bench.since):
                if event.type == bench.warned:
                    seen = bench.gateway.fraud_warning(warning_id=event.object_id)
                    if seen.charge_id == payment.charge_id:
                        return seen
            return None

        warning = bench.soon("a warning of fraud", warned)
        assert (warning.payment_id, warning.actionable) == (payment.id, True) and warning.kind
        _refund(bench, payment.charge_id)

        def over() -> SeenFraudWarning | None:
            seen = bench.gateway.fraud_warning(warning_id=warning.id)
            return None if seen.actionable else seen

        bench.soon("the warning to be over", over)


def _disputed(bench: Bench, card: str = "") -> SeenDispute:
    charge = bench.pay(card or bench.cards.disputed).charge_id

    def listed() -> SeenDispute | None:
        return next((row for row in bench.gateway.disputes(since=bench.since) if row.charge_id == charge), None)

    return bench.soon(f"a dispute of {charge}", listed)


def _submit(bench: Bench, dispute: SeenDispute, words: str, number: int = 1) -> SeenDispute:
    return bench.gateway.submit_evidence(
        dispute_id=dispute.id, evidence={"uncategorized_text": words}, key=bench.code("submit", number)
    )


def _becomes(bench: Bench, dispute: SeenDispute, status: str) -> SeenDispute:
    def seen() -> SeenDispute | None:
        state = bench.gateway.dispute(dispute_id=dispute.id)
        return state if state.status == status else None

    return bench.soon(f"a dispute that is {status}", seen)


def _refund(bench: Bench, charge: str) -> None:
    bench.gateway.refund(
        charge_id=charge, amount=bench.money(10_000), reference=bench.code("RF"), key=bench.code("refund")
    )
