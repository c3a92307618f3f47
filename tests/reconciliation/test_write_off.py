"""Giving up what stands on a clearing account takes two people; what is not ours to give up is refused."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from functools import partial
from threading import Event
from typing import Any

import pytest
from django.db import IntegrityError, transaction

from backoffice.audit import queries as audit
from backoffice.core.actor import Actor, system
from backoffice.core.errors import IllegalTransition, Invalid, NotAllowed, Refused, StaleVersion
from backoffice.core.money import Money
from backoffice.ledger import operations as ledger
from backoffice.ledger import queries as ledger_queries
from backoffice.ledger.policies import Line
from backoffice.reconciliation import operations, policies, queries
from backoffice.reconciliation.models import Break
from backoffice.reconciliation.operations import breaks
from tests import factories
from tests.factories import NOW
from tests.racing import race
from tests.reconciliation.steps import compared, post, until_somebody_waits

pytestmark = pytest.mark.django_db(transaction=True)
LATER = NOW + timedelta(days=2)


def finance(name: str = "Finance"):
    return factories.acting(factories.staff("finance", name=name))


def lost_charge(amount: int, currency: str = "EUR") -> Break:
    """We captured and the provider never showed it: 1150 stands for two days."""
    post("capture:lost", "capture", [("1150", "ch_lost", amount), ("2100", "BK-LOST01", -amount)], currency=currency)
    compared("state", now=LATER)
    return Break.objects.get(key="1150 ch_lost")


def test_a_loss_is_proposed_by_one_and_approved_by_another_and_goes_to_bad_debt() -> None:
    found = lost_charge(5_000)
    assert (found.cls, found.at_risk, found.at_risk_eur, found.subject) == (
        "missing_external",
        5_000,
        5_000,
        "BK-LOST01",
    )
    maker, checker = finance("Mia"), finance("Chad")
    found = operations.propose_write_off(code=found.code, reason="Stripe lost it", actor=maker, now=LATER)
    assert found.status == "proposed"
    with pytest.raises(NotAllowed, match="proposed yourself"):
        decide(found, maker)
    done = decide(found, checker)
    assert (done.status, done.closed_at) == ("written_off", LATER)
    assert ledger_queries.balance(account="1150", key="ch_lost", currency="EUR") == 0
    assert ledger_queries.balance(account="5220", key="BK-LOST01", currency="EUR") == 5_000
    entry = audit.entries(verb="breaks.write_off").get()
    assert (entry.actor_id, entry.after["journal"]) == (checker.id, done.journal_id)
    assert [step.what for step in done.events.order_by("id")] == ["found", "propose", "write_off"]
    compared("state", now=LATER)
    assert queries.break_by_code(code=done.code).status == "written_off" and not queries.open_breaks()


def decide(found: Break, actor, *, approve: bool = True, reason: str = "Agreed", version: int | None = None) -> Break:
    return operations.decide_write_off(
        code=found.code,
        approve=approve,
        reason=reason,
        version=found.version if version is None else version,
        actor=actor,
        now=LATER,
    )


@pytest.mark.parametrize(
    ("amount", "contra"),
    [(100, "5900"), (-100, "5900"), (101, "5220"), (-101, None)],
    ids=["a euro short", "a euro over", "more than a euro short", "more than a euro over"],
)
def test_rounding_is_capped_and_more_than_that_of_others_money_is_not_kept(amount: int, contra: str | None) -> None:
    found = lost_charge(amount) if amount > 0 else too_much(-amount)
    maker, checker = finance("Mia"), finance("Chad")
    if contra is None:
        with pytest.raises(Refused, match="belongs to somebody"):
            operations.propose_write_off(code=found.code, reason="Keep it", actor=maker, now=LATER)
        return
    found = operations.propose_write_off(code=found.code, reason="Rounding", actor=maker, now=LATER)
    decide(found, checker)
    key = f"run {found.last_seen_id}" if contra == "5900" else "BK-LOST01"
    assert ledger_queries.balance(account=contra, key=key, currency="EUR") == amount
    assert ledger_queries.clearing_open(now=LATER) == []


def too_much(amount: int) -> Break:
    post("bt:txn_1", "bt.charge", [("1100", "stripe", amount), ("1150", "ch_lost", -amount)])
    compared("bank", now=LATER)
    compared("state", now=LATER)
    return Break.objects.get(key="1150 ch_lost")


def test_what_is_rounded_away_under_one_run_is_capped_too() -> None:
    for number in range(12):
        lines = [("1150", f"ch_{number}", 95), ("2100", "BK-LOST01", -95)]
        post(f"capture:{number}", "capture", lines, currency="EUR")
    compared("state", now=LATER)
    maker, checker = finance("Mia"), finance("Chad")
    found = [
        operations.propose_write_off(code=each.code, reason="Cents", actor=maker, now=LATER)
        for each in Break.objects.order_by("id")
    ]
    for each in found[:10]:  # 9.50 of 10.00 EUR
        decide(each, checker)
    with pytest.raises(Refused, match="where it may go"):
        decide(found[10], checker)
    again = decide(found[10], checker, approve=False)
    again = operations.propose_write_off(code=again.code, reason="A loss, then", actor=maker, now=LATER)
    assert again.proposal["contra"] == "5220"
    assert queries.rounded(run=again.last_seen_id) == [Money(950, "EUR")]


def test_a_write_off_that_is_rejected_leaves_everything_and_can_be_proposed_again() -> None:
    found = lost_charge(5_000)
    maker, checker = finance("Mia"), finance("Chad")
    found = operations.propose_write_off(code=found.code, reason="Stripe lost it", actor=maker, now=LATER)
    found = decide(found, checker, approve=False, reason="Ask Stripe first")
    assert (found.status, found.proposal) == ("investigating", None)
    assert ledger_queries.balance(account="1150", key="ch_lost", currency="EUR") == 5_000
    with pytest.raises(IllegalTransition):
        decide(found, checker)
    assert operations.propose_write_off(code=found.code, reason="Asked", actor=checker, now=LATER).status == "proposed"


def test_what_changed_since_it_was_proposed_is_not_approved() -> None:
    found = lost_charge(5_000)
    found = operations.propose_write_off(code=found.code, reason="Lost", actor=finance("Mia"), now=LATER)
    checker = finance("Chad")
    with pytest.raises(StaleVersion):
        decide(found, checker, version=found.version - 1)
    post("bt:txn_late", "bt.charge", [("1100", "stripe", 4_000), ("1150", "ch_lost", -4_000)])
    with pytest.raises(Refused, match="no longer what stands there"):
        decide(found, checker)
    compared("state", now=LATER)
    found.refresh_from_db()
    assert (found.status, found.cls, found.proposal) == ("investigating", "amount_mismatch", None)


# Account -> its key, what stands there alone, and what would clear it.
HEALED = {
    "1150": (
        "ch_lost",
        ("capture", [("1150", "ch_lost", 5_000), ("2100", "BK-LOST01", -5_000)]),
        ("bt.charge", [("1100", "stripe", 5_000), ("1150", "ch_lost", -5_000)]),
    ),
    "2400": (
        "RF-LOST",
        ("bt.refund", [("1100", "stripe", -5_000), ("2400", "RF-LOST", 5_000)]),
        ("refund", [("2100", "BK-LOST01", 5_000), ("2400", "RF-LOST", -5_000)]),
    ),
}


@pytest.mark.parametrize("first", ["what heals it", "the write-off", "whoever"])
@pytest.mark.parametrize("account", HEALED)
def test_a_write_off_and_what_would_have_healed_the_break_at_once(
    account: str, first: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, (kind, lines), (healing_kind, healing) = HEALED[account]
    post("seed", "capture", [("1150", "ch_seed", 9_000), ("2100", "BK-LOST01", -9_000)], at=LATER)
    post("there", kind, lines)
    compared("state", now=LATER)
    found = Break.objects.get(key=f"{account} {key}")
    maker, checker = finance("Mia"), finance("Chad")
    found = operations.propose_write_off(code=found.code, reason="Lost", actor=maker, now=LATER)
    look, give_up = breaks.proposed_write_off, ledger.post
    looked, healed, given_up = Event(), Event(), Event()

    def looking(**facts: Any) -> policies.WriteOff:
        seen = look(**facts)
        looked.set()
        assert first != "what heals it" or healed.wait(timeout=60)  # it comes between the last look and the posting
        return seen

    def giving_up(**facts: Any) -> Any:
        posted = give_up(**facts)
        given_up.set()
        if first == "the write-off":
            until_somebody_waits()
        return posted

    def heal() -> None:
        assert first == "whoever" or looked.wait(timeout=60)
        assert first != "the write-off" or given_up.wait(timeout=60)
        with transaction.atomic():
            give_up(key="heal", kind=healing_kind, lines=[Line(a, k, n, "EUR") for a, k, n in healing], **told)
        healed.set()

    told = {"subject": "BK-LOST01", "effective_at": LATER, "actor": system("tests"), "now": LATER}
    with monkeypatch.context() as patch:
        patch.setattr(breaks, "proposed_write_off", looking)
        patch.setattr(breaks.ledger, "post", giving_up)
        outcome, fault = race([lambda: decide(found, checker), heal])
    assert fault is None, fault
    compared("state", now=LATER)
    found.refresh_from_db()
    standing = ledger_queries.balance(account=account, key=key, currency="EUR")
    lost = ledger_queries.balance(account="5220", key="BK-LOST01", currency="EUR")
    if isinstance(outcome, Refused):
        assert first != "the write-off", outcome
        assert first == "whoever" or "no longer what stands there" in str(outcome)
        assert (standing, lost, found.status) == (0, 0, "self_healed")
    else:
        assert first != "what heals it" and outcome.status == "written_off", outcome
        assert (standing, lost) == (-5_000, 5_000) and (found.status, found.difference) == ("reopened", 5_000)
    assert [finding for finding in ledger_queries.check(now=LATER) if not finding.ok] == []


def test_a_write_off_of_what_has_come_meanwhile_says_that_it_has_come() -> None:
    found = lost_charge(5_000)
    found = operations.propose_write_off(code=found.code, reason="Lost", actor=finance("Mia"), now=LATER)
    post("bt:txn_late", "bt.charge", [("1100", "stripe", 5_000), ("1150", "ch_lost", -5_000)])
    with pytest.raises(Refused, match=r"has come[.] The next run closes the break"):
        decide(found, finance("Chad"))


def test_what_the_provider_shows_otherwise_is_not_written_off() -> None:
    run = compared("state", now=LATER)
    found = Break.objects.create(
        identity="x",
        leg="line",
        key="txn_1",
        cls="amount_mismatch",
        status="open",
        difference=5,
        currency="EUR",
        occurred_at=NOW,
        first_seen=run,
        last_seen=run,
        opened_at=NOW,
    )
    with pytest.raises(Refused, match="its own movements"):
        operations.propose_write_off(code=found.code, reason="Small", actor=finance(), now=LATER)


def test_who_may_not_and_a_decision_without_a_reason_are_refused() -> None:
    found = lost_charge(5_000)
    with pytest.raises(NotAllowed):
        operations.propose_write_off(
            code=found.code, reason="x", actor=factories.acting(factories.staff("support_l2")), now=LATER
        )
    with pytest.raises(Refused):
        operations.propose_write_off(code=found.code, reason=" ", actor=finance(), now=LATER)
    found = operations.propose_write_off(code=found.code, reason="Lost", actor=finance("Mia"), now=LATER)
    lead = factories.acting(factories.staff("team_lead"))
    with pytest.raises(NotAllowed):
        decide(found, lead)
    with pytest.raises(NotAllowed):
        decide(found, system("worker"))


def test_the_database_knows_that_it_takes_two() -> None:
    found = lost_charge(5_000)
    one = factories.staff("finance", name="One")
    with pytest.raises(IntegrityError, match="break_written_off_by_two"), transaction.atomic():
        Break.objects.filter(pk=found.pk).update(
            status="written_off", proposed_by=one, decided_by=one, proposed_at=NOW, decided_at=NOW
        )
    with pytest.raises(IntegrityError, match="break_written_off_by_two"), transaction.atomic():
        Break.objects.filter(pk=found.pk).update(status="written_off")
    with pytest.raises(IntegrityError, match="break_written_off_by_two"), transaction.atomic():
        Break.objects.filter(pk=found.pk).update(status="written_off", decided_by=one, proposed_at=NOW, decided_at=NOW)


def test_at_a_shell_nobody_proposes_and_nothing_is_decided_without_a_second_yes() -> None:
    found = lost_charge(5_000)
    engineer = Actor(kind="cli", id=None, name="ola", grants=finance().grants)
    with pytest.raises(NotAllowed, match="without being a person"):
        operations.propose_write_off(code=found.code, reason="Lost", actor=engineer, now=LATER)
    for decide_alone in (
        partial(operations.resolve, cause="other"),
        partial(operations.accept, until=LATER + timedelta(days=1)),
    ):
        with pytest.raises(Refused, match="second person's approval"):
            decide_alone(code=found.code, reason="Known", actor=engineer, now=LATER)
    agreed = replace(engineer, approval="AP-1")
    until = LATER + timedelta(days=1)
    assert operations.accept(code=found.code, until=until, reason="Known", actor=agreed, now=LATER).status == "accepted"


def test_an_accepted_break_is_no_finding_until_its_date_or_until_it_changes() -> None:
    found = lost_charge(5_000)
    actor = finance()
    for until in (LATER, LATER + timedelta(days=93)):
        with pytest.raises(Invalid):
            operations.accept(code=found.code, until=until, reason="Known", actor=actor, now=LATER)
    until = LATER + timedelta(days=7)
    assert operations.accept(code=found.code, until=until, reason="Known", actor=actor, now=LATER).status == "accepted"
    compared("state", now=until - timedelta(seconds=1))
    found.refresh_from_db()
    assert found.status == "accepted" and not queries.open_breaks()
    compared("state", now=until)
    found.refresh_from_db()
    assert (found.status, found.accepted_until) == ("reopened", None)
    operations.accept(code=found.code, until=until + timedelta(days=1), reason="Known", actor=actor, now=until)
    post("capture:more", "capture", [("1150", "ch_lost", 1), ("2100", "BK-LOST01", -1)])
    compared("state", now=until)
    found.refresh_from_db()
    assert (found.status, found.difference) == ("reopened", -5_001)


@pytest.mark.parametrize("currency", ["EUR", "JPY"])
def test_the_cap_is_in_euro_whatever_the_currency(currency: str) -> None:
    found = lost_charge(150, currency)  # 1.50 EUR; 150 yen are less than a euro
    proposal = operations.proposed_write_off(found=found, now=LATER)
    assert proposal.contra == ("5220" if currency == "EUR" else "5900")
    assert proposal.amount == Money(150, currency)
    assert sum(line.amount for line in proposal.lines()) == 0
    assert policies.WriteOff.from_dict(proposal.as_dict()) == proposal


def test_a_ledger_line_of_nothing_is_never_proposed() -> None:
    found = lost_charge(5_000)
    post("bt:txn_late", "bt.charge", [("1100", "stripe", 5_000), ("1150", "ch_lost", -5_000)], subject="", at=LATER)
    with pytest.raises(Refused, match="clearing account"):
        operations.propose_write_off(code=found.code, reason="Lost", actor=finance(), now=LATER)
