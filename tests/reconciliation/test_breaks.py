from __future__ import annotations

from dataclasses import replace

import pytest
from django.db import IntegrityError, transaction

from backoffice.core.actor import system
from backoffice.core.errors import IllegalTransition, Invalid, Refused
from backoffice.core.money import Money
from backoffice.ledger import queries as ledger
from backoffice.reconciliation import operations, provider, queries
from backoffice.reconciliation.models import Break, Run
from tests import factories
from tests.factories import NOW
from tests.reconciliation.steps import compared, imported, moved
from tests.stripe_sandbox.server import RunningSandbox
from tests.workflows.test_pay_and_refund import now, paid, refund

pytestmark = pytest.mark.django_db(transaction=True)
FINANCE = system("finance")


def reconcile(**options):
    return provider.reconcile(scope="stripe", since=None, until=None, actor=FINANCE, now=now(), **options)


def kinds(outcome) -> list[tuple[str, int, str]]:
    return sorted((found.cls, found.difference, found.currency) for found in outcome.findings)


def test_a_paid_yen_booking_that_is_not_settled_yet_is_young_in_both_currencies(sandbox: RunningSandbox) -> None:
    booking = paid(sandbox, currency="JPY")
    refund(booking, 1_000)  # approved, not sent: its clearing key and the charge's position stand in two currencies
    outcome = reconcile()
    assert outcome.findings == []
    assert {found.currency for found in outcome.differences} == {"EUR", "JPY"}
    assert reconcile().run.output_digest == outcome.run.output_digest


@pytest.mark.parametrize(
    ("drift", "expected"),
    [
        ({"kind": "altered", "amount_delta": -1}, "amount_mismatch"),
        ({"kind": "altered", "amount_delta": 7}, "amount_mismatch"),
        ({"kind": "missing"}, "missing_external"),
    ],
)
def test_every_drift_of_the_provider_is_one_break_of_its_class(
    sandbox: RunningSandbox, drift: dict[str, object], expected: str
) -> None:
    paid(sandbox)
    assert reconcile().differences == []
    changed = sandbox.drift(**drift)
    amount = (changed["after"] or {"net": 0})["net"] - changed["before"]["net"]
    assert kinds(reconcile()) == [(expected, amount, "EUR")]
    assert Break.objects.count() == 1


def test_a_break_heals_when_both_sides_are_equal_again_and_reopens_when_they_are_not(sandbox: RunningSandbox) -> None:
    paid(sandbox)
    reconcile()
    sandbox.drift(amount_delta=5)
    reconcile()
    found = Break.objects.get()
    assert found.status == "open" and found.first_seen_id == found.last_seen_id
    sandbox.drift(amount_delta=-5)
    assert reconcile().differences == []
    found.refresh_from_db()
    assert found.status == "self_healed" and found.closed_at is not None
    sandbox.drift(amount_delta=3)
    reconcile()
    found.refresh_from_db()
    assert found.status == "reopened" and found.difference == 3 and Break.objects.count() == 1


def test_a_second_run_writes_no_break_and_has_the_same_digest(sandbox: RunningSandbox) -> None:
    paid(sandbox)
    reconcile()
    sandbox.drift(amount_delta=5)
    first, second = reconcile(), reconcile()
    assert first.run.output_digest == second.run.output_digest
    assert Break.objects.count() == 1


def test_a_dry_run_finds_the_same_and_leaves_nothing(sandbox: RunningSandbox) -> None:
    paid(sandbox)
    reconcile()
    before = Run.objects.count()
    sandbox.drift(amount_delta=5)
    outcome = reconcile(dry_run=True)
    assert kinds(outcome) == [("amount_mismatch", 5, "EUR")]
    assert (Break.objects.count(), Run.objects.count()) == (0, before)


def test_the_mirror_equals_the_providers_balance_and_what_differs_is_explained(sandbox: RunningSandbox) -> None:
    paid(sandbox)
    paid(sandbox, home=factories.listing(city="Singapore", country="SG", currency="SGD", now=now()))
    outcome = reconcile()
    assert set(outcome.run.explained) == {"EUR", "SGD"}
    for currency, figures in outcome.run.explained.items():
        assert figures["provider"] == figures["mirror"] > 0 and figures["unexplained"] == 0
        assert ledger.balance(account="1100", key="stripe", currency=currency) == figures["mirror"]
    sandbox.drift(amount_delta=5)
    changed = reconcile().run.explained
    assert sum(figures["explained"] for figures in changed.values()) == 5
    assert all(figures["unexplained"] == 0 for figures in changed.values())


def test_a_break_is_worked_by_finance_with_a_reason_and_cannot_be_resolved_twice(sandbox: RunningSandbox) -> None:
    paid(sandbox)
    reconcile()
    sandbox.drift(amount_delta=5)
    reconcile()
    owner = factories.staff("finance", now=now())
    actor = factories.acting(owner, now=now())
    code = Break.objects.get().code
    assert operations.take(code=code, owner_id=owner.id, actor=actor, now=now()).status == "investigating"
    operations.note(code=code, text="Asked the provider.", actor=actor, now=now())
    with pytest.raises(Refused):
        operations.resolve(code=code, cause="timing", reason=" ", actor=actor, now=now())
    with pytest.raises(Invalid, match="timing, provider_error"):
        operations.resolve(code=code, cause="aliens", reason="Known drift", actor=actor, now=now())
    assert (
        operations.resolve(code=code, cause="provider_error", reason="Known drift", actor=actor, now=now()).status
        == "resolved"
    )
    with pytest.raises(IllegalTransition):
        operations.resolve(code=code, cause="timing", reason="Again", actor=actor, now=now())
    assert queries.open_breaks().count() == 0
    reconcile()
    assert Break.objects.get().status == "reopened"


def test_a_break_that_comes_back_has_no_cause_until_somebody_says_one_and_keeps_the_former_in_its_history() -> None:
    (ours,) = imported(moved("txn_a"))
    cent = Money(1, "EUR")
    theirs = [replace(ours, amount=ours.amount + cent, net=ours.net + cent)]
    compared("stripe", rows=theirs)
    found = Break.objects.get()
    finance = factories.acting(factories.staff("finance"))
    facts = {"code": found.code, "actor": finance, "now": NOW}
    operations.resolve(cause="provider_error", ticket="FIN-1", reason="Stripe's cent", **facts)
    compared("stripe", rows=theirs)
    found.refresh_from_db()
    assert (found.status, found.cause, found.ticket) == ("reopened", "", "")
    with pytest.raises(IntegrityError, match="break_cause"), transaction.atomic():
        Break.objects.filter(pk=found.pk).update(cause="provider_error")
    operations.resolve(cause="our_error", reason="It was ours after all", **facts)
    assert [(step.what, step.cause, step.ticket, step.why) for step in queries.history(found=found)] == [
        ("found", "", "", ""),
        ("resolve", "provider_error", "FIN-1", "Stripe's cent"),
        ("reopened", "", "", ""),
        ("resolve", "our_error", "", "It was ours after all"),
    ]
    assert queries.break_by_code(code=found.code).cause == "our_error"
