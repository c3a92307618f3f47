"""Inquiries and chargebacks: what they take, how they are answered, how they end; early fraud warnings; evidence files."""

from __future__ import annotations

import io
import urllib.request
from typing import Any

import pytest
import stripe

from tests.stripe_sandbox.conftest import Pay
from tests.stripe_sandbox.receiver import Receiver
from tests.stripe_sandbox.server import ControlError, RunningSandbox

DAY = 86_400
FEE = COUNTERED = 2_000


def dispute_of(sandbox: RunningSandbox, client: stripe.StripeClient, pay: Pay, card: str, **params: Any) -> Any:
    """Pay with a card whose issuer disputes it, and let that happen."""
    intent = pay(card=card, **params)
    sandbox.advance(2)
    return client.v1.disputes.list({"payment_intent": intent.id}).data[0]


def rows(client: stripe.StripeClient, source: str) -> list[tuple[str, str, int, int]]:
    found = client.v1.balance_transactions.list({"source": source}).data
    return [(row.type, row.reporting_category, row.amount, row.fee) for row in reversed(found)]


def told(client: stripe.StripeClient, kind: str = "charge.dispute.*") -> list[str]:
    return [
        event.type.removeprefix("charge.dispute.") for event in reversed(client.v1.events.list({"type": kind}).data)
    ]


@pytest.mark.parametrize(
    ("card", "reason"),
    [("pm_card_createDispute", "fraudulent"), ("pm_card_createDisputeProductNotReceived", "product_not_received")],
)
def test_a_chargeback_takes_amount_and_fee_at_once(
    sandbox: RunningSandbox, client: stripe.StripeClient, pay: Pay, card: str, reason: str
) -> None:
    dispute = dispute_of(sandbox, client, pay, card, amount=50_000)
    assert (dispute.status, dispute.reason, dispute.amount) == ("needs_response", reason, 50_000)
    assert dispute.payment_method_details.card.case_type == "chargeback"
    assert rows(client, dispute.id) == [("adjustment", "dispute", -50_000, FEE)]
    assert [row.net for row in dispute.balance_transactions] == [-52_000]
    assert 14 * DAY <= dispute.evidence_details.due_by - dispute.created <= 15 * DAY
    assert told(client) == ["created", "funds_withdrawn"]
    charge = client.v1.charges.retrieve(dispute.charge)
    assert charge.disputed and not dispute.is_charge_refundable
    with pytest.raises(stripe.InvalidRequestError) as refused:
        client.v1.refunds.create({"charge": charge.id})
    assert refused.value.code == "charge_disputed"


def test_an_inquiry_moves_no_money(sandbox: RunningSandbox, client: stripe.StripeClient, pay: Pay) -> None:
    dispute = dispute_of(sandbox, client, pay, "pm_card_createDisputeInquiry")
    assert (dispute.status, dispute.balance_transactions) == ("warning_needs_response", [])
    assert dispute.payment_method_details.card.case_type == "inquiry" and dispute.is_charge_refundable
    assert rows(client, dispute.id) == [] and told(client) == ["created"]
    client.v1.refunds.create({"charge": dispute.charge})
    assert client.v1.disputes.retrieve(dispute.id).status == "warning_closed"
    assert told(client) == ["created", "closed"]


def test_an_inquiry_forgotten_for_120_days_is_closed(
    sandbox: RunningSandbox, client: stripe.StripeClient, pay: Pay
) -> None:
    dispute = dispute_of(sandbox, client, pay, "pm_card_createDisputeInquiry")
    sandbox.advance(16 * DAY)
    late = client.v1.disputes.retrieve(dispute.id)
    assert (late.status, late.evidence_details.past_due) == ("warning_needs_response", True)
    sandbox.advance(104 * DAY)
    assert client.v1.disputes.retrieve(dispute.id).status == "warning_closed"
    assert rows(client, dispute.id) == []


def test_an_inquiry_becomes_a_chargeback(sandbox: RunningSandbox, client: stripe.StripeClient, pay: Pay) -> None:
    dispute = dispute_of(sandbox, client, pay, "pm_card_createDisputeInquiry")
    evidence: Any = {"evidence": {"uncategorized_text": "escalate_inquiry_evidence"}}
    assert client.v1.disputes.update(dispute.id, evidence).status == "warning_under_review"
    sandbox.advance(2)
    after = client.v1.disputes.retrieve(dispute.id)
    assert (after.status, after.payment_method_details.card.case_type) == ("needs_response", "chargeback")
    assert rows(client, dispute.id) == [("adjustment", "dispute", -50_000, FEE)]
    assert told(client) == ["created", "updated", "updated", "funds_withdrawn"]
    with pytest.raises(ControlError, match="only an inquiry escalates"):
        sandbox.control("POST", f"/_sim/disputes/{dispute.id}", {"escalate": True})


def test_evidence_is_staged_then_submitted_once(sandbox: RunningSandbox, client: stripe.StripeClient, pay: Pay) -> None:
    dispute = dispute_of(sandbox, client, pay, "pm_card_createDispute")
    disputes = client.v1.disputes
    staged = disputes.update(dispute.id, {"evidence": {"customer_name": "A. Guest"}, "submit": False})
    assert (staged.status, staged.evidence_details.submission_count) == ("needs_response", 0)
    assert staged.evidence_details.has_evidence and staged.evidence.customer_name == "A. Guest"
    disputes.update(dispute.id, {"metadata": {"case": "C-1"}})
    assert disputes.retrieve(dispute.id).status == "needs_response"  # metadata alone submits nothing
    sent = disputes.update(dispute.id, {"evidence": {"uncategorized_text": "winning_evidence"}})
    assert (sent.status, sent.evidence_details.submission_count) == ("under_review", 1)
    assert sent.evidence.customer_name == "A. Guest" and sent.evidence_details.submission_method == "manual"
    with pytest.raises(stripe.InvalidRequestError, match="already under review"):
        disputes.update(dispute.id, {"evidence": {"customer_name": "B. Guest"}, "submit": False})
    with pytest.raises(stripe.InvalidRequestError, match="already under review"):
        disputes.update(dispute.id, {"submit": True})


@pytest.mark.parametrize(
    ("words", "status", "moves"),
    [
        (
            "winning_evidence",
            "won",
            [("adjustment", "dispute_reversal", 50_000, 0), ("stripe_fee", "fee", COUNTERED, 0)],
        ),
        ("losing_evidence", "lost", []),
    ],
)
def test_magic_words_decide(
    sandbox: RunningSandbox,
    client: stripe.StripeClient,
    pay: Pay,
    words: str,
    status: str,
    moves: list[tuple[str, str, int, int]],
) -> None:
    dispute = dispute_of(sandbox, client, pay, "pm_card_createDispute", amount=50_000)
    client.v1.disputes.update(dispute.id, {"evidence": {"uncategorized_text": words}})
    sandbox.advance(2)
    ended = client.v1.disputes.retrieve(dispute.id)
    assert ended.status == status
    taken = [("adjustment", "dispute", -50_000, FEE), ("stripe_fee", "fee", -COUNTERED, 0)]
    assert rows(client, dispute.id) == taken + moves
    reinstated = ["funds_reinstated"] if status == "won" else []
    assert told(client) == ["created", "funds_withdrawn", "updated", *reinstated, "closed"]
    lost = sum(amount - fee for _, _, amount, fee in taken + moves)
    assert client.v1.balance.retrieve().available[0].amount == lost
    with pytest.raises(stripe.InvalidRequestError, match="already closed"):
        client.v1.disputes.update(dispute.id, {"evidence": {"customer_name": "late"}})


def test_silence_until_the_deadline_loses(sandbox: RunningSandbox, client: stripe.StripeClient, pay: Pay) -> None:
    dispute = dispute_of(sandbox, client, pay, "pm_card_createDispute")
    sandbox.set_clock(dispute.evidence_details.due_by - 1)
    assert client.v1.disputes.retrieve(dispute.id).status == "needs_response"
    sandbox.advance(1)
    lost = client.v1.disputes.retrieve(dispute.id)
    assert (lost.status, lost.evidence_details.past_due) == ("lost", True)
    assert lost.evidence_details.submission_method == "not_submitted"


def test_without_magic_the_issuer_takes_75_days(sandbox: RunningSandbox, client: stripe.StripeClient, pay: Pay) -> None:
    dispute = dispute_of(sandbox, client, pay, "pm_card_createDispute")
    client.v1.disputes.update(dispute.id, {"evidence": {"uncategorized_text": "The guest slept here."}})
    sandbox.advance(74 * DAY)
    assert client.v1.disputes.retrieve(dispute.id).status == "under_review"
    sandbox.advance(DAY)
    assert client.v1.disputes.retrieve(dispute.id).status == "lost"


def test_accepting(sandbox: RunningSandbox, client: stripe.StripeClient, pay: Pay) -> None:
    dispute = dispute_of(sandbox, client, pay, "pm_card_createDispute")
    assert client.v1.disputes.close(dispute.id).status == "lost"
    assert told(client) == ["created", "funds_withdrawn", "closed"]
    with pytest.raises(stripe.InvalidRequestError, match="cannot be closed"):
        client.v1.disputes.close(dispute.id)


def test_no_more_of_a_charge_is_disputed_than_was_paid(
    sandbox: RunningSandbox, client: stripe.StripeClient, pay: Pay
) -> None:
    charge = str(pay(amount=10_000).latest_charge)
    first = sandbox.control("POST", "/_sim/disputes", {"charge": charge, "amount": 7_000})
    second = sandbox.control("POST", "/_sim/disputes", {"charge": charge})
    assert [first["amount"], second["amount"]] == [7_000, 3_000]
    with pytest.raises(ControlError, match="nothing to dispute"):
        sandbox.control("POST", "/_sim/disputes", {"charge": charge})
    sandbox.control("POST", f"/_sim/disputes/{second['id']}", {"status": "won"})
    assert sandbox.control("POST", "/_sim/disputes", {"charge": charge})["amount"] == 3_000


def test_one_charge_disputed_twice(sandbox: RunningSandbox, client: stripe.StripeClient, pay: Pay) -> None:
    intent = pay(amount=50_000, card="pm_card_createMultipleDisputes")
    sandbox.advance(2)
    found = client.v1.disputes.list({"charge": str(intent.latest_charge)}).data
    assert [dispute.amount for dispute in found] == [25_000, 25_000]


def test_refunded_before_the_issuer_could_ask(sandbox: RunningSandbox, client: stripe.StripeClient, pay: Pay) -> None:
    intent = pay(card="pm_card_createMultipleDisputes")
    client.v1.refunds.create({"payment_intent": intent.id})
    sandbox.advance(2)
    assert client.v1.disputes.list().data == []


def test_what_converts_is_taken_at_the_rate_of_the_day(
    sandbox: RunningSandbox, client: stripe.StripeClient, pay: Pay
) -> None:
    dispute = dispute_of(sandbox, client, pay, "pm_card_createDispute", amount=100_000, currency="jpy")
    row = client.v1.balance_transactions.list({"source": dispute.id}).data[0]
    assert (dispute.currency, dispute.amount, row.currency) == ("jpy", 100_000, "eur")
    assert row.exchange_rate is not None and row.amount == -round(100_000 * row.exchange_rate * 100)


def test_what_issuers_do_on_request(
    sandbox: RunningSandbox, receiver: Receiver, client: stripe.StripeClient, pay: Pay
) -> None:
    """Any charge can be disputed; appeals and statuses nobody has heard of can be acted out."""
    charge = str(pay(amount=10_000).latest_charge)
    sandbox.advance(2)
    dispute = sandbox.control(
        "POST", "/_sim/disputes", {"charge": charge, "reason": "credit_not_processed", "amount": 4_000}
    )
    assert (dispute["amount"], dispute["payment_method_details"]["card"]["network_reason_code"]) == (4_000, "13.6")
    path = f"/_sim/disputes/{dispute['id']}"
    sandbox.control("POST", path, {"status": "won"})
    assert client.v1.refunds.create({"charge": charge, "amount": 1_000}).status == "succeeded"
    sandbox.control("POST", path, {"status": "appeal_under_review", "funds": "withdrawn"})
    assert client.v1.disputes.retrieve(dispute["id"]).status == "appeal_under_review"
    assert [row[2] for row in rows(client, dispute["id"])] == [-4_000, 4_000, -4_000]
    sandbox.control("POST", path, {"funds": "reinstated"})
    assert sandbox.control("POST", path, {"status": "arbitration_2031"})["status"] == "arbitration_2031"
    sandbox.flush()
    receiver.clear()
    sandbox.control("POST", "/_sim/reset")  # the judge of all events would not accept that one
    for body, message in (
        ({"charge": "ch_none"}, "No such charge"),
        ({"charge": charge, "kind": "complaint"}, "kind must be"),
        ({"surprise": 1}, "Unknown field"),
    ):
        with pytest.raises(ControlError, match=message):
            sandbox.control("POST", "/_sim/disputes", body)
    with pytest.raises(ControlError, match="No such dispute"):
        sandbox.control("POST", path, {"status": "won"})


def test_early_fraud_warning_until_refunded(sandbox: RunningSandbox, client: stripe.StripeClient, pay: Pay) -> None:
    intent = pay(card="pm_card_createIssuerFraudRecord")
    sandbox.advance(2)
    [warning] = client.v1.radar.early_fraud_warnings.list({"charge": str(intent.latest_charge)}).data
    assert warning.actionable and warning.fraud_type == "made_with_stolen_card"
    client.v1.refunds.create({"payment_intent": intent.id, "amount": 100})
    assert client.v1.radar.early_fraud_warnings.retrieve(warning.id).actionable
    client.v1.refunds.create({"payment_intent": intent.id})
    assert not client.v1.radar.early_fraud_warnings.retrieve(warning.id).actionable
    types = [event.type for event in client.v1.events.list({"type": "radar.*"}).data]
    assert types == ["radar.early_fraud_warning.updated", "radar.early_fraud_warning.created"]
    other = str(pay().latest_charge)
    assert sandbox.control("POST", "/_sim/early_fraud_warnings", {"charge": other})["actionable"]


def document(content: bytes = b"%PDF-1.7 /Type /Page\n", name: str = "lease.pdf") -> io.BytesIO:
    file = io.BytesIO(content)
    file.name = name
    return file


def upload(client: stripe.StripeClient, file: io.BytesIO) -> stripe.File:
    return client.v1.files.create({"purpose": "dispute_evidence", "file": file})


def test_files_as_evidence(sandbox: RunningSandbox, client: stripe.StripeClient, pay: Pay) -> None:
    file = upload(client, document())
    assert (file.filename, file.type, file.size) == ("lease.pdf", "pdf", 21)
    request = urllib.request.Request(str(file.url), headers={"Authorization": f"Bearer {sandbox.api_key}"})
    with urllib.request.urlopen(request) as response:
        assert response.read() == b"%PDF-1.7 /Type /Page\n" and response.headers["Content-Type"] == "application/pdf"
    with pytest.raises(OSError, match="401"):
        urllib.request.urlopen(str(file.url))
    dispute = dispute_of(sandbox, client, pay, "pm_card_createDispute")
    staged = client.v1.disputes.update(dispute.id, {"evidence": {"receipt": file.id}, "submit": False})
    assert staged.evidence.receipt == file.id
    assert client.v1.files.retrieve(file.id).purpose == "dispute_evidence"
    assert [item.id for item in client.v1.files.list({"purpose": "dispute_evidence"}).data] == [file.id]
    with pytest.raises(stripe.InvalidRequestError, match="No such file upload"):
        client.v1.disputes.update(dispute.id, {"evidence": {"receipt": "file_none"}, "submit": False})


def test_too_much_evidence(sandbox: RunningSandbox, client: stripe.StripeClient, pay: Pay) -> None:
    dispute = dispute_of(sandbox, client, pay, "pm_card_createDispute")

    def stage(**evidence: str) -> Any:
        return client.v1.disputes.update(dispute.id, {"evidence": evidence, "submit": False})  # type: ignore[typeddict-item]

    half = upload(client, document(b"%PDF-" + bytes(2_400_000)))
    with pytest.raises(stripe.InvalidRequestError, match=r"4\.5 MB"):  # the same file on two fields counts twice
        stage(receipt=half.id, service_documentation=half.id)
    assert stage(receipt=half.id).evidence.receipt == half.id
    long = upload(client, document(b"%PDF-" + b"/Type /Page\n" * 51))
    with pytest.raises(stripe.InvalidRequestError) as refused:
        stage(refund_policy=long.id)
    assert refused.value.code == "dispute_evidence_page_limit_exceeded"
    fields = ("access_activity_log", "cancellation_rebuttal", "product_description", "uncategorized_text",
              "refund_policy_disclosure", "refund_refusal_explanation", "cancellation_policy_disclosure",
              "duplicate_charge_explanation")  # fmt: skip
    with pytest.raises(stripe.InvalidRequestError, match="150000"):
        stage(**dict.fromkeys(fields, "x" * 19_000))


@pytest.mark.parametrize(
    ("content", "name", "message"),
    [
        (b"hello", "note.pdf", "pdf, jpg or png"),
        (b"", "empty.pdf", "empty"),
        (b"%PDF-" + bytes(5 * 2**20), "large.pdf", "5 MB"),
    ],
)
def test_files_refused(client: stripe.StripeClient, content: bytes, name: str, message: str) -> None:
    with pytest.raises(stripe.InvalidRequestError, match=message):
        upload(client, document(content, name))
