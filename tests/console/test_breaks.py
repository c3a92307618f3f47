"""A break's page: both sides, its postings and its life; given up by two people; matches confirmed by one."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from backoffice.console import dashboard
from backoffice.core.money import Money
from backoffice.ledger import queries as ledger
from backoffice.payments.models import BalanceTransaction, WebhookEvent
from backoffice.reconciliation import operations, queries
from backoffice.reconciliation.models import Break, StatementLine
from backoffice.reconciliation.provider import reconcile
from tests import factories
from tests.console.test_dialogs import answers
from tests.falsified import as_superuser
from tests.reconciliation.steps import DAY, arrived, bank, compared, imported, moved, post, swept
from tests.stripe_sandbox.server import RunningSandbox
from tests.workflows.test_pay_and_refund import now as desk_now
from tests.workflows.test_pay_and_refund import paid

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def lost() -> Break:
    """Money that never came."""
    now = timezone.now()
    post("capture:lost", "capture", [("1150", "ch_lost", 5_000), ("2100", "BK-LOST01", -5_000)], at=now - DAY)
    compared("state", now=now)
    return Break.objects.get(key="1150 ch_lost")


def signed_in(role: str, name: str) -> Client:
    client = Client()
    client.force_login(factories.staff(role, name=name))
    return client


def act(client: Client, found: Break, name: str, **typed: Any) -> Any:
    path = reverse(f"admin:reconciliation_break_{name}", args=[found.code])
    return client.post(path, answers(client, path, **typed))


def page(client: Client, found: Break) -> str:
    return client.get(reverse("admin:reconciliation_break_change", args=[found.code])).content.decode()


def test_a_write_off_is_shown_before_it_is_proposed_and_decided_by_another(lost: Break) -> None:
    mia, chad = signed_in("finance", "Mia"), signed_in("finance", "Chad")
    opened = mia.get(reverse("admin:reconciliation_break_propose", args=[lost.code])).content.decode()
    assert "50.00 EUR" in opened and "5220" in opened and "another finance person" in opened
    assert act(mia, lost, "propose", reason="Stripe lost it").status_code == 302
    assert act(mia, lost, "approve", reason="Agreed").status_code == 403
    assert "Mia proposes" in chad.get(reverse("admin:reconciliation_break_approve", args=[lost.code])).content.decode()
    assert act(chad, lost, "approve", reason="Agreed").status_code == 302
    lost.refresh_from_db()
    assert lost.status == "written_off"
    assert ledger.balance(account="5220", key="BK-LOST01", currency="EUR") == 5_000
    shown = page(chad, lost)
    for words in ("Postings behind it", "Its life", "write off", "missing external", "At risk"):
        assert words in shown, words


def test_the_difference_unfolds_into_its_postings_and_leads_to_the_provider(lost: Break) -> None:
    now = timezone.now()
    imported(moved("txn_part", source="ch_lost", net=4_000, created=now), at=now)
    WebhookEvent.objects.create(
        event_id="evt_lost",
        type="charge.updated",
        object_id="ch_lost",
        payload=b"{}",
        created=now,
        received_at=now,
        next_attempt_at=now,
    )
    compared("state", now=now)
    finance = signed_in("finance", "Mia")
    shown = page(finance, lost)
    find = reverse("admin:find")
    assert f'href="{find}?q=ch_lost"' in shown  # the key leads to what it names
    for words in (
        "Posted by what we did",
        "Posted by the provider’s movements",
        "Stands on 1150 now",
        "txn_part",
        "evt_lost",
        "charge.updated",
    ):
        assert words in shown, words
    figures = shown[shown.index("How it adds up") : shown.index("Both sides")]
    assert figures.count("<details") == 3 and "−10.00" in figures and "40.00" in figures
    run = finance.get(reverse("admin:reconciliation_run_change", args=[Break.objects.get().last_seen_id]))
    assert f'href="{find}?q=ch_lost"' in run.content.decode()
    support = signed_in("auditor", "Ada")
    assert "How it adds up" in page(support, lost)


def test_a_write_off_is_rejected_and_a_break_accepted_for_a_while(lost: Break) -> None:
    mia, chad = signed_in("finance", "Mia"), signed_in("finance", "Chad")
    act(mia, lost, "propose", reason="Stripe lost it")
    assert act(chad, lost, "reject", reason="Ask first").status_code == 302
    assert act(chad, lost, "accept", days="93", reason="Known").status_code == 422
    assert act(chad, lost, "accept", days="7", reason="Known").status_code == 302
    lost.refresh_from_db()
    assert lost.status == "accepted" and lost.accepted_until is not None
    assert lost.accepted_until - timezone.now() > timedelta(days=6)


def test_what_would_be_reversed_and_posted_is_shown_before_it_is_proposed(sandbox: RunningSandbox, lost: Break) -> None:
    paid(sandbox)
    reconcile(scope="stripe", since=None, until=None, actor=factories.SYSTEM, now=desk_now())
    kept = BalanceTransaction.objects.get()
    as_superuser(f"UPDATE payments_balancetransaction SET fee = fee + 1, net = net - 1 WHERE id = {kept.pk}")
    reconcile(scope="stripe", since=None, until=None, actor=factories.SYSTEM, now=desk_now())
    found = Break.objects.get(key=kept.provider_id)
    mia, chad = signed_in("finance", "Mia"), signed_in("finance", "Chad")
    assert "Propose a write-off" not in page(mia, found) and "Propose to post anew" in page(mia, found)
    assert "Propose to post anew" not in page(mia, lost)
    opened = mia.get(reverse("admin:reconciliation_break_propose-anew", args=[found.code])).content.decode()
    net = f"{Money(kept.net, kept.currency).decimal():,.2f} <abbr>"
    for words in (f"#{kept.journal_id}", net, "1100 Provider mirror", "stripe", "another finance person"):
        assert words in opened, words
    assert act(mia, found, "propose-anew", reason="The fee was kept wrongly").status_code == 302
    assert act(mia, found, "approve-anew", reason="Agreed").status_code == 403
    assert act(chad, found, "approve", reason="Agreed").status_code == 409
    assert "proposed by Mia" in page(chad, found) and "Approve the write-off" not in page(chad, found)
    asked = chad.get(reverse("admin:reconciliation_break_approve-anew", args=[found.code])).content.decode()
    assert "The fee was kept wrongly" in asked and f"#{kept.journal_id}" in asked
    assert act(chad, found, "reject-anew", reason="Ask first").status_code == 302
    act(mia, found, "propose-anew", reason="The fee was kept wrongly")
    assert act(chad, found, "approve-anew", reason="Agreed").status_code == 302
    found.refresh_from_db()
    assert (found.status, found.proposal) == ("investigating", None)
    kept.refresh_from_db()
    assert ledger.journal(number=kept.journal_id).idempotency_key == f"bt:{kept.provider_id}:again-1"
    reconcile(scope="stripe", since=None, until=None, actor=factories.SYSTEM, now=desk_now())
    found.refresh_from_db()
    assert found.status == "self_healed" and "post anew" in page(chad, found)


def test_what_a_break_once_came_from_is_in_its_life_and_not_said_of_its_present_opening(lost: Break) -> None:
    mia = signed_in("finance", "Mia")
    act(mia, lost, "resolve", cause="bank_charge", ticket="FIN-8812", reason="The bank kept it")
    assert page(mia, lost).count("Bank charge · FIN-8812") == 2  # among the facts and in its life
    compared("state", now=timezone.now())
    lost.refresh_from_db()
    assert lost.status == "reopened"
    facts, _, life = page(mia, lost).partition("Its life")
    assert "Bank charge" not in facts and "Bank charge · FIN-8812" in life and "The bank kept it" in life


def test_a_write_off_that_did_not_end_it_is_in_its_life_and_not_proposed_any_more(lost: Break) -> None:
    mia, chad = signed_in("finance", "Mia"), signed_in("finance", "Chad")
    act(mia, lost, "propose", reason="Stripe lost it")
    act(chad, lost, "approve", reason="Agreed")
    now = timezone.now()
    imported(moved("txn_late", source="ch_lost", net=5_000, created=now - DAY), at=now)
    compared("state", now=now)
    lost.refresh_from_db()
    assert (lost.status, lost.difference, lost.proposal) == ("reopened", 5_000, None)
    facts, _, life = page(mia, lost).partition("Its life")
    assert "by Mia" not in facts and "Stripe lost it" in life


def test_who_reads_only_is_offered_nothing(lost: Break) -> None:
    auditor = signed_in("auditor", "Ada")
    assert "Propose a write-off" not in page(auditor, lost)
    for name in ("propose", "approve", "accept", "confirm-match"):
        path = reverse(f"admin:reconciliation_break_{name}", args=[lost.code])
        assert auditor.get(path).status_code == auditor.post(path, {"key": "k", "version": 1}).status_code == 403


@pytest.mark.parametrize("answer", ["confirm-match", "reject-match"])
def test_what_adds_up_is_shown_and_a_person_says_whether_it_is_one(answer: str) -> None:
    now = timezone.now()
    swept("po_1", 10_000, at=now - DAY)
    day = (now + DAY).date()
    arrived(bank(6_000, on=day, text="part one"), bank(4_000, on=day, text="part two"), now=now)
    compared("bank", now=now)
    found = Break.objects.get(key="1160 po_1")
    finance = signed_in("finance", "Mia")
    shown = page(finance, found)
    assert "part one" in shown
    for line in StatementLine.objects.all():
        assert f'{reverse("admin:find")}?q={line.code}"' in shown
    assert act(finance, found, answer, reason="The bank says so").status_code == 302
    confirmed = answer == "confirm-match"
    assert ledger.balance(account="1160", key="po_1", currency="EUR") == (0 if confirmed else 10_000)
    assert len(queries.suspended()) == (0 if confirmed else 2)
    operations.match_lines(actor=factories.SYSTEM, now=now)
    found.refresh_from_db()
    assert "part one" not in page(finance, found)


def test_the_four_questions_of_quality_are_answered_beside_their_goals(lost: Break) -> None:
    dashboard.forget()
    score = queries.score(now=timezone.now())
    assert score.below_goal == ("clearing",) and score.findings == 1
    shown = signed_in("auditor", "Ada").get(reverse("admin:reconciliation_run_changelist")).content.decode()
    for name, goal in queries.GOALS.items():
        assert name.capitalize() in shown and f"{queries.percent(goal)} is the goal" in shown
    assert queries.percent(score.clearing) in shown and "1, 50.00 EUR at risk" in shown and "1 day old or more" in shown
