"""Money that was sent and is owed comes back by reversals: once, never more than is owed or was sent, refused or lost."""

from __future__ import annotations

from datetime import timedelta

import pytest

from backoffice.audit.models import AuditEntry
from backoffice.core.errors import (
    Conflict,
    Indeterminate,
    Invalid,
    NotAllowed,
    ProviderError,
    Refused,
    StaleVersion,
    Stopped,
)
from backoffice.core.money import Money
from backoffice.jobs import operations as jobs
from backoffice.jobs import queries as job_queries
from backoffice.ledger import queries as ledger
from backoffice.notifications.models import Notification, OutboxMessage
from backoffice.payouts import queries
from backoffice.payouts.models import Clawback, Payout
from backoffice.people.models import User
from backoffice.reconciliation.provider import reconcile
from backoffice.reporting.queries import health
from backoffice.workflows import apply_provider_event as events
from backoffice.workflows import claw_back, import_balance_transactions, refund_booking, release_payouts, tasks
from tests import factories
from tests.factories import SYSTEM
from tests.racing import race
from tests.stripe_sandbox.server import RunningSandbox
from tests.workflows.hosts import onboarded, owes, sent
from tests.workflows.steps import ROOMS, asked_back, now, paid

pytestmark = pytest.mark.django_db(transaction=True, available_apps=ROOMS)


def eur(amount: int) -> Money:
    return Money(amount, "EUR")


@pytest.fixture
def host() -> User:
    return factories.person("Bob", is_host=True, now=now())


def asked(payout: Payout, amount: int, *, staff: User | None = None, version: int | None = None) -> Clawback:
    finance = staff or factories.staff("finance", now=now())
    return claw_back.request(
        payout_code=payout.code,
        amount=eur(amount),
        reason="Refunded after the stay",
        version=version if version is not None else Payout.objects.get(id=payout.id).version,
        actor=factories.acting(finance),
        now=now(),
    )


def balance(account: str, key: str) -> int:
    return ledger.balance(account=account, key=key, currency="EUR")


def reversals(sandbox: RunningSandbox, payout: Payout) -> list[int]:
    return [row.amount for row in sandbox.client().v1.transfers.reversals.list(payout.transfer_id or "").data]


def settled(sandbox: RunningSandbox) -> None:
    sandbox.advance(60)
    import_balance_transactions.run(now=now())


def test_what_is_owed_comes_back_and_everything_clears(sandbox: RunningSandbox, host: User) -> None:
    payout = sent(sandbox, host)
    owes(host, eur(8_148))
    clawback = asked(payout, 8_148)
    assert (clawback.status, balance("1310", host.code), balance("1170", clawback.code)) == ("requested", 0, 8_148)
    done = claw_back.send(clawback_code=clawback.code, actor=SYSTEM, now=now())
    assert done is not None and (done.status, done.provider_id[:4]) == ("succeeded", "trr_")
    settled(sandbox)
    account = queries.account_of(host_id=host.id)
    payout.refresh_from_db()
    assert balance("1170", clawback.code) == 0 and (payout.status, payout.reversed_amount) == ("transferred", 8_148)
    assert balance("1800", account.provider_id) == payout.transfer_amount - 8_148
    assert [finding for finding in ledger.check(now=now()) if not finding.ok] == []
    assert Notification.objects.filter(topic="payout_taken_back", recipient_id=host.id).count() == 1
    verbs = AuditEntry.objects.filter(object_kind="clawback", object_id=clawback.code).values_list("verb", flat=True)
    assert list(verbs.order_by("seq")) == ["payouts.clawback.request", "payouts.clawback.succeed"]
    assert OutboxMessage.objects.filter(topic="workflows.send_clawback").count() == 1


def test_taken_back_wholly_a_payout_is_reversed(sandbox: RunningSandbox, host: User) -> None:
    payout = sent(sandbox, host)
    owes(host, eur(payout.transfer_amount))
    for part in (1_000, payout.transfer_amount - 1_000):
        clawback = asked(payout, part)
        claw_back.send(clawback_code=clawback.code, actor=SYSTEM, now=now())
    payout.refresh_from_db()
    assert payout.status == "reversed" and sum(reversals(sandbox, payout)) == payout.transfer_amount
    owes(host, eur(100))
    with pytest.raises(Conflict, match="reversed"):
        asked(payout, 100)


@pytest.mark.parametrize(
    ("amount", "error", "words"),
    [
        (8_001, Conflict, "The host owes 80.00 EUR"),
        (0, Invalid, "above zero"),
        (-5, Invalid, "above zero"),
        (10_000_000, Conflict, "At most"),
    ],
)
def test_never_more_than_is_owed_nor_than_was_sent(
    sandbox: RunningSandbox, host: User, amount: int, error: type[Exception], words: str
) -> None:
    payout = sent(sandbox, host)
    owes(host, eur(8_000))
    with pytest.raises(error, match=words):
        asked(payout, amount)
    assert balance("1310", host.code) == 8_000 and not Clawback.objects.exists()


def test_who_may_with_what_and_when(sandbox: RunningSandbox, host: User) -> None:
    payout = sent(sandbox, host)
    owes(host, eur(8_000))
    with pytest.raises(NotAllowed):
        asked(payout, 1_000, staff=factories.staff("team_lead", now=now()))
    with pytest.raises(StaleVersion):
        asked(payout, 1_000, version=payout.version + 1)
    terms = {"payout_code": payout.code, "amount": eur(1_000), "version": payout.version, "now": now()}
    with pytest.raises(Refused):
        claw_back.request(reason=" ", actor=SYSTEM, **terms)
    jobs.stop(scope="payouts", reason="a doubt", actor=SYSTEM, now=now())
    with pytest.raises(Stopped):
        claw_back.request(reason="Owed", actor=SYSTEM, **terms)
    jobs.resume(scope="payouts", reason="clear", actor=SYSTEM, now=now())
    asked(payout, 1_000)
    with pytest.raises(Conflict, match="under way"):
        asked(payout, 1_000)
    Payout.objects.filter(id=payout.id).update(status="failed")
    Clawback.objects.all().update(status="failed")
    with pytest.raises(Conflict, match="Nothing of payout"):
        asked(payout, 1_000)


def test_refused_for_lack_of_balance_it_stays_owed_and_is_tried_again_under_another_key(
    sandbox: RunningSandbox, host: User
) -> None:
    payout = sent(sandbox, host, payment_method="pm_card_visa")  # pending there for days: nothing can be taken back yet
    owes(host, eur(8_000))
    clawback = asked(payout, 8_000)
    with pytest.raises(ProviderError, match="insufficient"):
        claw_back.send(clawback_code=clawback.code, actor=SYSTEM, now=now())
    clawback.refresh_from_db()
    assert (clawback.status, balance("1310", host.code), balance("1170", clawback.code)) == ("failed", 8_000, 0)
    assert "insufficient" in clawback.failure and reversals(sandbox, payout) == []
    assert claw_back.send(clawback_code=clawback.code, actor=SYSTEM, now=now()) is None, (
        "over until somebody tries again"
    )

    give_room(sandbox, host)
    finance = factories.acting(factories.staff("finance", now=now()))
    again = claw_back.retry(clawback_code=clawback.code, version=clawback.version, actor=finance, now=now())
    assert (again.tries, balance("1310", host.code), balance("1170", clawback.code)) == (2, 0, 8_000)
    with pytest.raises(StaleVersion):
        claw_back.retry(clawback_code=clawback.code, version=clawback.version, actor=finance, now=now())
    done = claw_back.send(clawback_code=clawback.code, actor=SYSTEM, now=now())
    assert done is not None and done.status == "succeeded" and reversals(sandbox, payout) == [8_000]
    settled(sandbox)
    assert balance("1170", clawback.code) == 0


def give_room(sandbox: RunningSandbox, host: User) -> None:
    """Another stay's money is available on the host's account at once."""
    sent(sandbox, host)


@pytest.mark.parametrize("effect", ["reset_after_commit", "error_500_after_commit", "error_500_before_commit"])
def test_a_lost_answer_is_looked_for_and_never_reversed_twice(sandbox: RunningSandbox, host: User, effect: str) -> None:
    payout = sent(sandbox, host)
    owes(host, eur(8_000))
    clawback = asked(payout, 8_000)
    sandbox.fault(effect, method="POST", path=f"/v1/transfers/{payout.transfer_id}/reversals", times=3)
    with pytest.raises(Indeterminate):
        claw_back.send(clawback_code=clawback.code, actor=SYSTEM, now=now())
    clawback.refresh_from_db()
    assert clawback.status == "indeterminate" and balance("1170", clawback.code) == 8_000
    sandbox.clear_faults()
    sandbox.advance(90)
    if effect == "error_500_before_commit":  # the provider repeats what it saved under the key, for a day
        assert claw_back.resolve(now=now()) == 0 and reversals(sandbox, payout) == []
        sandbox.advance(86_400)
        give_room(sandbox, host)  # the host's bank has had the rest meanwhile
    assert claw_back.resolve(now=now()) == 1 and claw_back.resolve(now=now()) == 0
    clawback.refresh_from_db()
    assert clawback.status == "succeeded" and reversals(sandbox, payout) == [8_000]


def test_the_provider_s_event_brings_a_lost_answer(sandbox: RunningSandbox, host: User) -> None:
    payout = sent(sandbox, host)
    owes(host, eur(8_000))
    clawback = asked(payout, 8_000)
    sandbox.fault("reset_after_commit", method="POST", path=f"/v1/transfers/{payout.transfer_id}/reversals", times=3)
    with pytest.raises(Indeterminate):
        claw_back.send(clawback_code=clawback.code, actor=SYSTEM, now=now())
    sandbox.clear_faults()
    events.poll(now=now())
    events.apply_due(now=now())
    clawback.refresh_from_db()
    assert clawback.status == "succeeded" and reversals(sandbox, payout) == [8_000]


def test_two_people_and_two_workers_at_once_take_it_back_once(sandbox: RunningSandbox, host: User) -> None:
    payout, other = sent(sandbox, host), sent(sandbox, host)
    owes(host, eur(8_000))
    finance = factories.staff("finance", now=now())
    both = race([lambda: asked(payout, 8_000, staff=finance), lambda: asked(other, 8_000, staff=finance)] * 2)
    made = [one for one in both if isinstance(one, Clawback)]
    assert len(made) == 1 and all(isinstance(one, Conflict | Clawback) for one in both), both
    assert balance("1310", host.code) == 0
    at = now()
    send = lambda: claw_back.send(clawback_code=made[0].code, actor=SYSTEM, now=at)  # noqa: E731
    outcomes = race([send, send, send])
    assert not [one for one in outcomes if isinstance(one, Exception)], outcomes
    assert reversals(sandbox, payout) + reversals(sandbox, other) == [8_000]


def test_by_rule_the_newest_transfers_come_back_when_netting_had_its_chance(
    sandbox: RunningSandbox, host: User
) -> None:
    older, newer = sent(sandbox, host), sent(sandbox, host)
    debt = newer.transfer_amount + 500
    owes(host, eur(debt))
    assert claw_back.recoveries(now=now() + timedelta(days=13)) == []
    later = now() + timedelta(days=14, minutes=1)
    [recovery] = claw_back.recoveries(now=later)
    assert [(one.payout, one.amount.amount) for one in recovery.proposals] == [
        (newer.code, newer.transfer_amount),
        (older.code, 500),
    ]
    counts = claw_back.run(now=later, dry_run=True)
    assert counts["proposed"] == 2 and not Clawback.objects.exists()
    assert claw_back.run(now=later)["requested"] == 2
    assert balance("1310", host.code) == 0 and claw_back.run(now=later)["proposed"] == 0
    newer.refresh_from_db()
    assert newer.status == "reversed" and reversals(sandbox, older) == [500]


def test_one_whose_answer_was_lost_is_asked_for_not_refused(sandbox: RunningSandbox, host: User) -> None:
    payout = sent(sandbox, host)
    owes(host, eur(8_000), at=now() - timedelta(days=20))
    sandbox.fault("reset_after_commit", method="POST", path=f"/v1/transfers/{payout.transfer_id}/reversals", times=3)
    counts = claw_back.run(now=now())
    assert (counts["proposed"], counts["requested"], counts["refused"]) == (1, 1, 0)


def test_one_that_was_refused_is_left_alone_for_a_week(sandbox: RunningSandbox, host: User) -> None:
    payout = sent(sandbox, host, payment_method="pm_card_visa")
    owes(host, eur(8_000), at=now() - timedelta(days=20))
    assert claw_back.run(now=now())["refused"] == 1
    assert claw_back.run(now=now())["proposed"] == 0
    sandbox.advance(7 * 86_400)
    assert payout.transfer_id
    counts = claw_back.run(now=now() + timedelta(days=1))
    assert (counts["proposed"], counts["refused"]) == (1, 1), "the host's bank has had it meanwhile"
    assert balance("1310", host.code) == 8_000


def test_debts_are_told_by_age_and_a_refusal_does_not_make_them_young(sandbox: RunningSandbox, host: User) -> None:
    onboarded(sandbox, host)
    at = now()
    for days, amount in ((40, 1_000), (10, 2_000), (5, 300), (2, 40), (0, 5)):
        owes(host, eur(amount), at=at - timedelta(days=days))
    [debt] = queries.receivables(now=at)
    assert {label: money.amount for label, money in debt.ages.items()} == {
        "0-1": 5, "2-3": 40, "4-7": 300, "8-30": 2_000, "over 30": 1_000,
    }  # fmt: skip
    assert debt.amount == eur(3_345) == queries.owed(host_code=host.code, currency="EUR")
    payout = sent(sandbox, host, payment_method="pm_card_visa")
    clawback = asked(payout, 1_500)
    [debt] = queries.receivables(now=now())
    assert (debt.amount.amount, debt.coming_back.amount, debt.ages["over 30"].amount) == (1_845, 1_500, 0)
    assert debt.ages["8-30"].amount == 1_500
    with pytest.raises(ProviderError):
        claw_back.send(clawback_code=clawback.code, actor=SYSTEM, now=now())
    [debt] = queries.receivables(now=now())
    assert (debt.ages["over 30"].amount, debt.ages["8-30"].amount, debt.coming_back.amount) == (1_000, 2_000, 0)


def test_refunded_after_the_host_was_paid_the_books_explain_every_step(sandbox: RunningSandbox, host: User) -> None:
    """The whole way through the real journeys: stay, release, refund, clawback; both sides agree to the cent."""
    onboarded(sandbox, host)
    booking = paid(
        home=factories.listing(host, now=now()),
        check_in=(now() + timedelta(days=40)).date(),
        payment_method="pm_card_bypassPending",
    )
    due = Payout.objects.get(booking=booking).due_at
    sandbox.set_clock(due.timestamp() + 60)
    import_balance_transactions.run(now=now())
    assert release_payouts.run(now=now(), actor=SYSTEM) == {"transferred": 1}
    refund_booking.send(refund_code=asked_back(booking, 10_000).code, actor=SYSTEM, now=now())
    payout = Payout.objects.get(booking=booking)
    debt = balance("1310", host.code)
    assert 0 < debt <= 10_000
    clawback = asked(payout, debt)
    claw_back.send(clawback_code=clawback.code, actor=SYSTEM, now=now())
    settled(sandbox)
    assert balance("1310", host.code) == balance("1170", clawback.code) == 0
    assert reconcile(scope="stripe", since=None, until=None, actor=SYSTEM, now=now()).findings == []
    assert [finding for finding in health.ledger_check(now=now()) if not finding.ok] == []
    account = queries.account_of(host_id=host.id)
    payout.refresh_from_db()
    assert balance("1800", account.provider_id) == payout.transfer_amount - debt
    seen = queries.explain(code=payout.code, now=now())
    assert seen.adds_up, seen


def test_an_event_brings_the_lost_answer_of_a_transfer_too(sandbox: RunningSandbox, host: User) -> None:
    onboarded(sandbox, host)
    booking = paid(home=factories.listing(host, now=now()), check_in=(now() + timedelta(days=40)).date())
    sandbox.set_clock(Payout.objects.get(booking=booking).due_at.timestamp() + 60)
    import_balance_transactions.run(now=now())
    sandbox.fault("reset_after_commit", method="POST", path="/v1/transfers", times=3)
    assert release_payouts.run(now=now(), actor=SYSTEM) == {"lost": 1}
    sandbox.clear_faults()
    events.poll(now=now())
    events.apply_due(now=now())
    payout = Payout.objects.get(booking=booking)
    assert payout.status == "transferred" and len(sandbox.client().v1.transfers.list().data) == 1


def test_a_netting_and_a_clawback_at_once_take_what_is_owed_once(sandbox: RunningSandbox, host: User) -> None:
    earlier = sent(sandbox, host)
    booking = paid(home=factories.listing(host, now=now()), check_in=(now() + timedelta(days=40)).date())
    due = Payout.objects.get(booking=booking)
    sandbox.set_clock(due.due_at.timestamp() + 60)
    import_balance_transactions.run(now=now())
    give_room(sandbox, host)
    owes(host, eur(8_000))
    finance, at = factories.staff("finance", now=now()), now()
    outcomes = race(
        [
            lambda: asked(earlier, 8_000, staff=finance),
            lambda: release_payouts.run(now=at, actor=SYSTEM),
        ]
    )
    assert not [one for one in outcomes if isinstance(one, Exception) and not isinstance(one, Conflict)], outcomes
    release_payouts.run(now=now(), actor=SYSTEM)
    due.refresh_from_db()
    taken = due.netted + sum(row.amount for row in Clawback.objects.all())
    assert (taken, balance("1310", host.code), due.status) == (8_000, 0, "transferred"), outcomes


def test_the_workers_carry_out_what_was_asked_for_and_bear_a_refusal(sandbox: RunningSandbox, host: User) -> None:
    refused, fine = sent(sandbox, host, payment_method="pm_card_visa"), sent(sandbox, host)
    owes(host, eur(fine.transfer_amount + 1_000))
    clawbacks = [asked(fine, fine.transfer_amount), asked(refused, 1_000)]
    for clawback in clawbacks * 2:
        tasks.send_clawback(clawback_code=clawback.code)
    assert [Clawback.objects.get(id=row.id).status for row in clawbacks] == ["succeeded", "failed"]
    for job in (tasks.take_back, tasks.follow_payouts_to_banks, tasks.sweep_what_is_earned):
        job()
    successes = set(job_queries.last_successes())
    assert {"workflows.claw_back", "workflows.follow_bank_payouts", "workflows.sweep_earnings"} <= successes


def test_a_transfer_that_came_back_by_itself_has_nothing_to_reverse(sandbox: RunningSandbox, host: User) -> None:
    payout = sent(sandbox, host)
    owes(host, eur(8_000))
    clawback = asked(payout, 8_000)
    Payout.objects.filter(id=payout.id).update(status="failed", transfer_id=None)
    sandbox.advance(90)
    assert claw_back.resolve(now=now()) == 0
    clawback.refresh_from_db()
    assert (clawback.status, balance("1310", host.code)) == ("failed", 8_000) and "came back" in clawback.failure
