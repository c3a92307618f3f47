"""`ops chargebacks`: shown by their deadlines, staged, answered by people whom the desk knows."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from backoffice.payments.models import Chargeback, EvidenceFile
from ops_cli.output import Exit
from tests import factories
from tests.ops_cli.conftest import Answered
from tests.stripe_sandbox.server import RunningSandbox
from tests.workflows.steps import now, paid
from tests.workflows.test_chargebacks import PDF, answered, decide, dispute, hear, told

pytestmark = pytest.mark.django_db(transaction=True)
Ops = Callable[..., Answered]


@pytest.fixture
def row(sandbox: RunningSandbox) -> Chargeback:
    return told(sandbox, paid())


def test_the_list_stands_by_deadline_and_narrows(ops: Ops, sandbox: RunningSandbox, row: Chargeback) -> None:
    booking = paid()
    other = told(sandbox, booking, kind="inquiry")
    decide(sandbox, other.provider_id, status="warning_closed")
    hear(sandbox)
    found = ops("chargebacks", "list")
    assert (found.code, found.envelope["schema"]) == (Exit.DONE, "ops.chargebacks.list/1")
    assert [each["code"] for each in found.rows] == [row.code, other.code]
    assert (found.rows[0]["amount"], found.rows[0]["currency"]) == (row.amount, "EUR")
    assert [each["code"] for each in ops("chargebacks", "list", "--open").rows] == [row.code]
    assert [each["code"] for each in ops("chargebacks", "list", "--kind", "inquiry").rows] == [other.code]
    assert [each["code"] for each in ops("chargebacks", "list", "--booking", booking.code.lower()).rows] == [other.code]
    assert ops("chargebacks", "list", "--status", "won").rows == []


def test_one_is_shown_whole_by_either_name(ops: Ops, row: Chargeback) -> None:
    for name in (row.code.lower(), row.provider_id):
        facts = {each["fact"]: each["value"] for each in ops("chargebacks", "show", name).rows}
        assert facts["code"] == row.code and facts["provider_id"] == row.provider_id
    assert row.payment is not None
    total = f"{row.payment.booking.charge_total / 100:.2f} EUR"
    assert facts["withdrawn"] == facts["amount"] == facts["if_lost_out_of_what_is_held"] == total
    assert facts["fee"] == "20.00 EUR" and facts["if_lost_not_covered"] == "0.00 EUR"
    assert ops("chargebacks", "show", "CB-NONE").code == Exit.FAILURE


def test_deadlines_are_findings_once_ours_has_passed(ops: Ops, sandbox: RunningSandbox, row: Chargeback) -> None:
    found = ops("chargebacks", "deadlines")
    assert (found.code, found.summary) == (Exit.DONE, {"to_answer": 1, "late": 0})
    assert found.rows[0]["urgency"] == "calm" and found.rows[0]["left"].endswith("d")
    assert row.internal_due_at is not None
    sandbox.set_clock((row.internal_due_at + timedelta(minutes=5)).timestamp())
    now()  # the desk looks at its clock anew
    found = ops("chargebacks", "deadlines")
    assert (found.code, found.summary["late"], found.rows[0]["urgency"]) == (Exit.FINDINGS, 1, "late")
    assert found.rows[0]["left"].endswith("late")
    other = told(sandbox, paid())
    found = ops("chargebacks", "deadlines", "--limit", "1")
    assert ([each["code"] for each in found.rows], found.summary) == ([row.code], {"to_answer": 2, "late": 1})
    Chargeback.objects.filter(pk=row.pk).update(accepted_at=now())
    found = ops("chargebacks", "deadlines", "--limit", "1")
    assert ([each["code"] for each in found.rows], found.summary) == ([other.code], {"to_answer": 1, "late": 0})


def test_an_appeal_is_among_the_deadlines_with_where_it_is_answered(
    ops: Ops, sandbox: RunningSandbox, row: Chargeback
) -> None:
    assert ops("chargebacks", "deadlines").rows[0]["remedy"].startswith("Submit")
    lost = answered(sandbox, row, "losing_evidence")
    assert ops("chargebacks", "deadlines").rows == []
    decide(sandbox, row.provider_id, status="appeal_needs_response")
    hear(sandbox)
    found = ops("chargebacks", "deadlines")
    assert (found.code, found.summary) == (Exit.FINDINGS, {"to_answer": 1, "late": 1})
    (listed,) = found.rows
    assert listed["code"] == lost.code and "own pages" in listed["remedy"]
    assert listed["link"].endswith(f"/disputes/{row.provider_id}")
    facts = {each["fact"]: each["value"] for each in ops("chargebacks", "show", row.code).rows}
    assert (facts["urgency"], facts["link"]) == ("late", listed["link"])


def test_evidence_is_staged_by_somebody_known_and_shown_before(
    ops: Ops, ops_as: Callable[..., Answered], row: Chargeback, tmp_path: Path
) -> None:
    sam = factories.staff("support_l2", now=now())
    asked = ("chargebacks", "stage", row.code, "--draft", "--set", "customer_name=Alice A.", "--reason", "draft")
    assert ops(*asked).code == Exit.REFUSED
    dry = ops_as(sam, *asked, "--dry-run")
    assert dry.code == Exit.DONE, dry.said
    words = {each["field"]: each["text"] for each in dry.rows}
    assert words["customer_name"] == "Alice A." and "captured" in words["access_activity_log"]
    assert Chargeback.objects.get().evidence == {}
    assert ops_as(sam, *asked).rows == dry.rows
    receipt = tmp_path / "receipt.pdf"
    receipt.write_bytes(PDF)
    ops_as(sam, "chargebacks", "stage", row.code, "--file", f"receipt={receipt}", "--reason", "receipt")
    assert EvidenceFile.objects.get().provider_id == Chargeback.objects.get().evidence["receipt"]
    for flaw, said in (
        (("--set", "colour=blue"), "knows no such field"),
        (("--file", f"receipt={tmp_path}/none.pdf"), "cannot be read"),
        (("--file", f"customer_name={receipt}"), "no file goes there"),
        ((), "say what to keep"),
    ):
        for how in ((), ("--dry-run",)):
            wrong = ops_as(sam, "chargebacks", "stage", row.code, *flaw, *how, "--reason", "x")
            assert wrong.code == Exit.USAGE and said in wrong.said and not wrong.envelope
    nobody = ops_as(factories.staff("trust_safety", now=now()), *asked, "--dry-run")
    assert nobody.code == Exit.NOT_ALLOWED and "captured" not in nobody.said
    assert ops_as(sam, "chargebacks", "stage", row.code, "--set", "nothing", "--reason", "x").code == Exit.USAGE


def test_it_is_submitted_by_who_may_once(ops_as: Callable[..., Answered], row: Chargeback) -> None:
    sam, lea = factories.staff("support_l2", now=now()), factories.staff("team_lead", now=now())
    ops_as(sam, "chargebacks", "stage", row.code, "--set", "uncategorized_text=See the log.", "--reason", "x")
    asked = ("chargebacks", "submit", row.code, "--reason", "complete")
    assert ops_as(sam, *asked).code == Exit.NOT_ALLOWED
    done = ops_as(lea, *asked)
    assert (done.code, done.rows[0]["status"]) == (Exit.DONE, "under_review"), done.said
    again = ops_as(lea, *asked)
    assert again.code == Exit.FAILURE and "submitted already" in again.said
    assert Chargeback.objects.get().submitted_by_id == lea.pk


def test_it_is_given_up_with_a_reason(ops_as: Callable[..., Answered], row: Chargeback) -> None:
    finance = factories.staff("finance", now=now())
    assert ops_as(finance, "chargebacks", "accept", row.code).code == Exit.REFUSED
    done = ops_as(finance, "chargebacks", "accept", row.code, "--reason", "the guest is right")
    assert (done.code, done.rows[0]["status"]) == (Exit.DONE, "lost")


def test_the_ratio_of_a_month_is_a_finding_from_half_the_threshold(ops: Ops, sandbox: RunningSandbox) -> None:
    booking = paid()
    hear(sandbox)
    assert ops("chargebacks", "ratio").code == Exit.DONE
    dispute(sandbox, booking)
    hear(sandbox)
    found = ops("chargebacks", "ratio")
    assert found.code == Exit.FINDINGS
    assert [(each["network"], each["chargebacks"], each["charges"], each["standing"]) for each in found.rows] == [
        ("visa", 1, 1, "over")
    ]
    assert ops("chargebacks", "ratio", "--month", "2025-02").rows == []
    for month in ("soon", "9999-12"):
        assert ops("chargebacks", "ratio", "--month", month).code == Exit.USAGE
