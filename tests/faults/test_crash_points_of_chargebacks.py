"""The power is cut before and after every commit and call of hearing of a chargeback, losing, staging, submitting and giving
one up: the sweeps pick up what is left, or the person tries again, and it ends as if nothing had happened."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from backoffice.audit.models import AuditEntry
from backoffice.core.errors import Conflict
from backoffice.ledger import queries as ledger
from backoffice.ledger.models import Journal
from backoffice.notifications.models import OutboxMessage
from backoffice.payments.models import Chargeback, EvidenceFile, Payment, Refund
from backoffice.payouts.models import Payout
from backoffice.workflows import apply_provider_event as events
from backoffice.workflows import import_balance_transactions, refund_booking, work_chargebacks
from tests.faults import test_crash_points as cutting
from tests.faults import two_of_three_are_long
from tests.stripe_sandbox.server import RunningSandbox
from tests.workflows.steps import ROOMS, asked_back, now, paid
from tests.workflows.test_chargebacks import (
    ACTOR,
    accept,
    again,
    clean,
    decide,
    dispute,
    finance,
    stage,
    submit,
    told,
    upload,
)

pytestmark = pytest.mark.django_db(transaction=True, available_apps=ROOMS)


@pytest.fixture(autouse=True)
def _calls_of_disputes(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = ("stage_evidence", "submit_evidence", "accept_dispute", "upload_evidence")
    monkeypatch.setattr(cutting, "CALLS", calls)


def hear() -> None:
    """The provider's webhooks come, and the movements are imported."""
    events.poll(now=now())
    events.apply_due(now=now())
    import_balance_transactions.run(now=now())


def recover(sandbox: RunningSandbox) -> None:
    """What beat does in the minutes after a restart."""
    sandbox.advance(120)
    hear()
    work_chargebacks.run(now=now())
    for refund in Refund.objects.filter(status__in=["approved", "indeterminate"]):
        refund_booking.send(refund_code=refund.code, actor=ACTOR, now=now())
    sandbox.advance(3600)
    hear()
    work_chargebacks.run(now=now())


def end_of(dispute_id: str, sandbox: RunningSandbox) -> dict[str, Any]:
    """All that must not depend on when the power was cut."""
    row = Chargeback.objects.get(provider_id=dispute_id)
    assert row.payment is not None
    booking = row.payment.booking
    there = sandbox.client().v1.disputes.retrieve(dispute_id)
    sums = ledger.subject_sums(codes=list(ledger.chart()), subjects=[booking.code])
    acts = AuditEntry.objects.filter(object_id=row.code).values_list("verb", flat=True)
    return {
        "row": (row.kind, row.status, row.withdrawn == row.amount, row.reinstated, row.fee, row.loss_posted_at is None),
        "answer": (row.submitted_at is None, row.accepted_at is None, sorted(row.evidence)),
        "there": (there.status, there.evidence_details.submission_count),
        "files": EvidenceFile.objects.filter(chargeback=row).count(),
        "ledger": {(each.code, each.currency): each.amount for each in sums if each.amount},
        "losses": Journal.objects.filter(kind="dispute-lost", reference=dispute_id).count(),
        "refunds": sorted(Refund.objects.filter(payment=row.payment).values_list("status", "amount")),
        "payouts": sorted(Payout.objects.filter(booking=booking).values_list("status", "held")),
        "acts": sorted(set(acts) - {"chargebacks.move"}),  # that it was under review may pass unseen
        "told": OutboxMessage.objects.filter(topic="chargeback_opened", subject__contains=row.code).count(),
    }


def _heard_of(sandbox: RunningSandbox) -> str:
    booking = paid()
    sandbox.advance(60)
    import_balance_transactions.run(now=now())
    asked_back(booking, 1_000)  # on its way when the network takes the money
    found = dispute(sandbox, booking)
    sandbox.advance(60)
    return found


def _lost(sandbox: RunningSandbox) -> str:
    found = told(sandbox, paid()).provider_id
    decide(sandbox, found, status="lost")
    sandbox.advance(60)
    return found


def _won(sandbox: RunningSandbox) -> str:
    found = told(sandbox, paid()).provider_id
    decide(sandbox, found, status="won")
    sandbox.advance(60)
    return found


def _escalated(sandbox: RunningSandbox) -> str:
    found = told(sandbox, paid(), kind="inquiry").provider_id
    decide(sandbox, found, escalate=True)
    sandbox.advance(60)
    return found


def _open(sandbox: RunningSandbox) -> str:
    return told(sandbox, paid()).provider_id


def _staged(sandbox: RunningSandbox) -> str:
    return stage(told(sandbox, paid()), uncategorized_text="losing_evidence").provider_id


def _row(dispute_id: str) -> Chargeback:
    return Chargeback.objects.get(provider_id=dispute_id)


def _hear_of(dispute_id: str) -> None:
    """A webhook's worker and the import, one after the other."""
    work_chargebacks.take_over(dispute_id=dispute_id, actor=ACTOR, now=now())
    import_balance_transactions.run(now=now())


def _stage(dispute_id: str) -> None:
    stage(_row(dispute_id), customer_name="Alice")


def _upload(dispute_id: str) -> None:
    upload(_row(dispute_id))


def _submit(dispute_id: str) -> None:
    with suppress(Conflict):  # it was answered before the power went
        submit(_row(dispute_id))


def _accept(dispute_id: str) -> None:
    with suppress(Conflict):
        accept(_row(dispute_id))


STORIES: dict[str, tuple[Callable[[RunningSandbox], str], Callable[[str], None]]] = {
    "the network takes the money while a refund is on its way": (_heard_of, _hear_of),
    "the network decides against us": (_lost, _hear_of),
    "evidence is staged": (_open, _stage),
    "evidence is submitted": (_staged, _submit),
    "a file is sent": (_open, _upload),
    "it is given up": (_open, _accept),
    "an inquiry becomes a chargeback": (_escalated, _hear_of),
    "the network gives the money back": (_won, _hear_of),
}


@pytest.mark.parametrize("story", two_of_three_are_long(STORIES))
def test_wherever_the_power_is_cut_it_ends_as_if_nothing_had_happened(sandbox: RunningSandbox, story: str) -> None:
    finance()  # somebody to be told
    begin, act = STORIES[story]
    moments = cutting.cut_everywhere(
        begin=lambda: begin(sandbox),
        act=act,
        recover=lambda: recover(sandbox),
        end=lambda found: end_of(found, sandbox),
        again=lambda found: again(_row(found)).status == "needs_response" and act(found),
    )
    assert len(moments) >= 4, moments
    assert Payment.objects.count() == len(moments) + 1
    clean()
