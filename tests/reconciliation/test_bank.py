"""From the provider's payout to the bank's line: certain, proposed, missing, short, unknown, sent back."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from functools import partial
from threading import Barrier
from typing import Any

import pytest
from django.db import IntegrityError
from hypothesis import given
from hypothesis import strategies as st

from backoffice.audit.models import AuditEntry
from backoffice.core.actor import Actor
from backoffice.core.errors import Conflict, IllegalTransition, NotAllowed, Refused, StaleVersion
from backoffice.core.money import Money
from backoffice.ledger import queries as ledger
from backoffice.ledger.models import Journal
from backoffice.reconciliation import operations, policies, queries
from backoffice.reconciliation.models import BankMatch, Break, StatementLine
from backoffice.reconciliation.policies import OpenLine, OpenPayout
from backoffice.rulebook import queries as rulebook
from tests import factories
from tests.factories import NOW
from tests.racing import race
from tests.reconciliation.steps import ACTOR, DAY, arrived, bank, compared, imported, moved, swept

ARRIVAL = (NOW + 2 * DAY).date()  # Sunday 22 November 2026: the third business day after it is Wednesday the 25th
BANK = "BE68539007547034"
RULES = rulebook.reconciliation(on=NOW.date()).rules
pair = partial(policies.pair, rules=RULES)


def standing(account: str, key: str) -> int:
    return ledger.balance(account=account, key=key, currency="EUR")


def classes(now=NOW, scope: str = "bank") -> list[tuple[str, str]]:
    compared(scope, now=now)
    return sorted(Break.objects.exclude(status="self_healed").values_list("key", "cls"))


def decide(*matches: BankMatch, actor, confirm: bool = True) -> list[BankMatch]:
    """What a person says of some proposals for a payout, once a run has seen that it is open."""
    compared("bank")
    return said(Break.objects.get(key=f"1160 {matches[0].bank_payout.provider_id}"), matches, actor, confirm=confirm)


def said(found: Break, matches, actor, *, confirm: bool = True, **seen) -> list[BankMatch]:
    ids = [match.pk for match in matches]
    return operations.decide_matches(
        code=found.code, match_ids=ids, confirm=confirm, reason="The bank says so", actor=actor, now=NOW, **seen
    )


@pytest.mark.django_db(transaction=True)
def test_a_payout_whose_trace_the_bank_names_clears_and_is_posted_once() -> None:
    swept("po_1", 8_485, trace="TRACE123ABC")
    assert standing("1160", "po_1") == 8_485 and classes() == [("1160 po_1", "late")]
    line = bank(8_485, on=ARRIVAL, trace="TRACE123ABC", text="STRIPE PAYOUT")
    assert arrived(line) == {"matched": 1, "proposed": 0, "unidentified": 0}
    assert (standing("1160", "po_1"), standing("1010", BANK)) == (0, 8_485)
    assert arrived(line) == {"matched": 0, "proposed": 0, "unidentified": 0}
    assert StatementLine.objects.count() == 1 and Journal.objects.filter(kind="bank.line").count() == 1
    match = BankMatch.objects.get()
    assert (match.method, match.confidence, match.status) == ("trace", 100, "confirmed")
    assert classes() == []


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("days", "expected"), [(3, "late"), (3.99, "late"), (4, "bank_missing")], ids=["Tuesday", "Wednesday", "Thursday"]
)
def test_a_payout_is_missing_after_the_third_business_day(days: float, expected: str) -> None:
    swept("po_1", 8_485)
    now = NOW.replace(hour=0, minute=0) + (days + 2) * DAY
    assert now.date() == date(2026, 11, 25 if days < 4 else 26) and now.date() >= ARRIVAL
    assert classes(now=now) == [("1160 po_1", expected)]


@pytest.mark.parametrize("day", [date(2026, 11, 16) + timedelta(days=n) for n in range(14)])
@pytest.mark.django_db(transaction=True)
def test_the_bank_and_the_policy_count_business_days_alike(day: date) -> None:
    swept("po_1", 100, arrived=day)
    due = policies.business_days_after(day=day, days=RULES.bank_business_days)
    midnight = NOW.replace(year=due.year, month=due.month, day=due.day, hour=0, minute=0)
    assert classes(now=midnight + DAY - timedelta(seconds=1)) == [("1160 po_1", "late")]
    assert classes(now=midnight + DAY) == [("1160 po_1", "bank_missing")]


@pytest.mark.django_db(transaction=True)
def test_a_line_that_is_short_leaves_the_rest_standing_and_a_second_line_of_that_trace_clears_it() -> None:
    swept("po_1", 8_485, trace="TRACE123ABC")
    arrived(bank(8_000, on=ARRIVAL, trace="TRACE123ABC"))
    assert classes() == [("1160 po_1", "bank_amount_mismatch")]
    found = Break.objects.get()
    assert (found.difference, found.at_risk, found.leg) == (-485, 485, "bank")
    arrived(bank(485, on=ARRIVAL, trace="TRACE123ABC", reference="R2"))
    assert classes() == [] and standing("1160", "po_1") == 0


@pytest.mark.django_db(transaction=True)
def test_two_parts_of_one_payout_in_one_statement_are_both_its() -> None:
    swept("po_1", 8_485, trace="TRACE123ABC")
    parts = [bank(8_000, on=ARRIVAL, trace="TRACE123ABC"), bank(485, on=ARRIVAL, trace="TRACE123ABC")]
    assert arrived(*parts) == {"matched": 2, "proposed": 0, "unidentified": 0}
    assert standing("1160", "po_1") == 0 and classes() == []
    first = compared("bank").output_digest
    assert arrived() == {"matched": 0, "proposed": 0, "unidentified": 0}
    assert compared("bank").output_digest == first


@pytest.mark.django_db(transaction=True)
def test_money_of_nobody_waits_in_suspense_until_its_payout_comes() -> None:
    arrived(bank(8_485, on=ARRIVAL, trace="TRACE123ABC"))
    key = f"bank:{StatementLine.objects.get().code}"
    assert (standing("9900", key), standing("1010", BANK)) == (-8_485, 8_485)
    assert classes() == [(f"9900 {key}", "bank_unidentified")]
    swept("po_1", 8_485, trace="TRACE123ABC")
    assert arrived()["matched"] == 1
    assert (standing("9900", key), standing("1160", "po_1"), standing("1010", BANK)) == (0, 0, 8_485)
    assert classes() == []


@pytest.mark.django_db(transaction=True)
def test_a_payout_that_the_bank_sends_back_is_returned_until_the_bank_has_taken_it() -> None:
    payout, _ = swept("po_1", 8_485, trace="TRACE123ABC")
    arrived(bank(8_485, on=ARRIVAL, trace="TRACE123ABC"))
    imported(moved("txn_back", source="po_1", category="payout_reversal", net=8_485))
    payout.status, payout.failed_at = "failed", NOW
    payout.save()
    assert standing("1160", "po_1") == -8_485
    assert classes() == [("1160 po_1", "payout_returned")]
    back = bank(-8_485, on=ARRIVAL + timedelta(days=9), trace="TRACE123ABC", returned=True)
    assert arrived(back)["matched"] == 1
    assert (standing("1160", "po_1"), standing("1010", BANK)) == (0, 0)
    assert classes() == []
    assert classes(scope="payouts") == [("po_1", "payout_returned")]  # until another payout has taken the money there
    swept("po_2", 8_485, trace="TRACE456DEF", at=NOW + DAY)
    assert classes(now=NOW + DAY, scope="payouts") == []


@pytest.mark.django_db(transaction=True)
def test_several_lines_that_add_up_are_proposed_and_a_person_says_yes() -> None:
    swept("po_1", 10_000)
    assert arrived(bank(6_000, on=ARRIVAL), bank(4_000, on=ARRIVAL)) == {
        "matched": 0,
        "proposed": 2,
        "unidentified": 2,
    }
    assert arrived() == {"matched": 0, "proposed": 2, "unidentified": 0}
    assert {match.method for match in queries.proposals()} == {"many_lines"}
    assert standing("1160", "po_1") == 10_000  # nothing is posted on a sum alone
    finance = factories.acting(factories.staff("finance"))
    decided = decide(*queries.proposals(), actor=finance)
    assert [match.status for match in decided] == ["confirmed"] * 2
    assert standing("1160", "po_1") == 0 and ledger.balances(code="9900", open_only=True).count() == 0
    assert classes() == []
    with pytest.raises(IllegalTransition):
        decide(decided[0], confirm=False, actor=finance)


@pytest.mark.django_db(transaction=True)
def test_one_line_that_is_several_payouts_is_proposed_and_a_rejected_proposal_does_not_come_back() -> None:
    swept("po_1", 6_000)
    swept("po_2", 4_000)
    assert arrived(bank(10_000, on=ARRIVAL)) == {"matched": 0, "proposed": 2, "unidentified": 1}
    finance = factories.acting(factories.staff("finance"))
    first, second = queries.proposals().order_by("id")
    assert (first.method, first.amount, second.amount) == ("many_payouts", 6_000, 4_000)
    decide(first, actor=finance)
    line = StatementLine.objects.get()
    assert queries.suspended() == {line.code: Money(4_000, "EUR")}
    assert (standing("9900", f"bank:{line.code}"), standing("1160", "po_1")) == (-4_000, 0)
    decide(second, confirm=False, actor=finance)
    assert arrived()["proposed"] == 0
    with pytest.raises(NotAllowed):
        decide(second, actor=factories.acting(factories.staff("support_l1")))


@pytest.mark.django_db(transaction=True)
def test_a_part_that_is_confirmed_before_its_line_is_in_suspense_leaves_the_rest_there() -> None:
    payouts = [swept("po_1", 6_000)[0], swept("po_2", 4_000)[0]]
    operations.import_lines(lines=[bank(10_000, on=ARRIVAL)], actor=ACTOR, now=NOW)
    line = StatementLine.objects.get()
    first, second = (
        BankMatch.objects.create(
            line=line, bank_payout=payout, amount=payout.amount, method="many_payouts", confidence=50, made_at=NOW
        )
        for payout in payouts
    )
    finance = factories.acting(factories.staff("finance"))
    decide(first, actor=finance)
    assert (standing("1160", "po_1"), standing("1160", "po_2")) == (0, 4_000)
    assert standing("9900", f"bank:{line.code}") == -4_000 and standing("1010", BANK) == 10_000
    decide(second, actor=finance)
    assert (standing("1160", "po_2"), queries.suspended()) == (0, {})


@pytest.mark.django_db(transaction=True)
def test_a_line_that_two_runs_find_at_once_is_posted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    swept("po_1", 8_485, trace="TRACE123ABC")
    line = bank(8_485, on=ARRIVAL, trace="TRACE123ABC")
    operations.import_lines(lines=[line, bank(77, on=ARRIVAL)], actor=ACTOR, now=NOW)
    seen = pair(lines=queries.open_lines(), payouts=queries.open_payouts())
    found = race([lambda: operations.match_lines(actor=ACTOR, now=NOW)] * 3)
    assert sorted(outcome["matched"] for outcome in found) == [0, 0, 1], found
    monkeypatch.setattr(policies, "pair", lambda **_: seen)  # a run that looked before the others had posted
    assert operations.match_lines(actor=ACTOR, now=NOW)["matched"] == 0
    assert (standing("1160", "po_1"), standing("1010", BANK)) == (0, 8_562)
    assert [money.amount for money in queries.suspended().values()] == [77]


@pytest.mark.django_db(transaction=True)
def test_a_line_that_was_written_off_is_no_longer_matched() -> None:
    arrived(bank(50, on=ARRIVAL, text="who knows"))
    compared("bank")
    found = Break.objects.get(cls="bank_unidentified")
    mia, chad = (factories.acting(factories.staff("finance", name=name)) for name in ("Mia", "Chad"))
    found = operations.propose_write_off(code=found.code, reason="Nobody's", actor=mia, now=NOW)
    operations.decide_write_off(
        code=found.code, approve=True, reason="Agreed", version=found.version, actor=chad, now=NOW
    )
    swept("po_1", 50)
    assert queries.open_lines() == [] and arrived()["proposed"] == 0


@pytest.mark.django_db(transaction=True)
def test_of_a_match_and_a_write_off_of_one_line_at_once_one_is_done() -> None:
    swept("po_1", 50)
    arrived(bank(50, on=ARRIVAL))
    compared("bank")
    found = Break.objects.get(cls="bank_unidentified")
    match = queries.proposals().get()
    mia, chad = (factories.acting(factories.staff("finance", name=name)) for name in ("Mia", "Chad"))
    found = operations.propose_write_off(code=found.code, reason="Nobody's", actor=mia, now=NOW)
    decided = {"approve": True, "reason": "Agreed", "version": found.version, "actor": chad, "now": NOW}
    outcomes = race(
        [
            lambda: operations.decide_write_off(code=found.code, **decided),
            lambda: said(Break.objects.get(key="1160 po_1"), [match], mia),
        ]
    )
    assert len([outcome for outcome in outcomes if isinstance(outcome, Conflict | Refused)]) == 1, outcomes
    assert queries.suspended() == {} and standing("1160", "po_1") in {0, 50}


@pytest.mark.django_db(transaction=True)
def test_what_a_person_rejected_and_the_line_names_after_all_is_found() -> None:
    payout, _ = swept("po_1", 5_000)
    arrived(bank(5_000, on=ARRIVAL, trace="TRACE123ABC"))
    finance = factories.acting(factories.staff("finance"))
    wrong = queries.proposals().get()
    decide(wrong, confirm=False, actor=finance)
    payout.trace = "TRACE123ABC"  # the provider says so later
    payout.save()
    assert arrived()["matched"] == 1 and standing("1160", "po_1") == 0
    wrong.refresh_from_db()
    assert (wrong.status, wrong.method) == ("confirmed", "trace")


@pytest.mark.django_db(transaction=True)
def test_a_rejected_match_does_not_stand_in_the_way_of_the_right_one() -> None:
    swept("po_1", 5_000)
    swept("po_2", 5_000)
    arrived(bank(5_000, on=ARRIVAL))
    wrong = queries.proposals().get()
    finance = factories.acting(factories.staff("finance"))
    decide(wrong, confirm=False, actor=finance)
    assert arrived()["proposed"] == 1
    right = queries.proposals().get()
    assert {wrong.bank_payout.provider_id, right.bank_payout.provider_id} == {"po_1", "po_2"}


@pytest.mark.django_db(transaction=True)
def test_proposals_are_decided_as_they_were_shown_and_all_of_them_or_none() -> None:
    payouts = [swept("po_1", 6_000)[0], swept("po_2", 4_000)[0]]
    arrived(bank(10_000, on=ARRIVAL))
    compared("bank")
    found = Break.objects.get(leg="bank", cls="bank_unidentified")
    other = Break.objects.get(key="1160 po_2")
    matches = list(queries.proposals_of(found=found))
    finance = factories.acting(factories.staff("finance"))
    with pytest.raises(StaleVersion):
        said(found, matches, finance, version=found.version + 1)
    with pytest.raises(Conflict, match="not what is proposed for this break"):
        said(other, matches, finance)
    with pytest.raises(Conflict, match="not what is proposed for this break"):
        said(found, [], finance)
    engineer = Actor(kind="cli", id=None, name="ola", grants=finance.grants)
    with pytest.raises(Refused, match="second person's approval"):
        said(found, matches, engineer)
    arrived(bank(6_000, on=ARRIVAL, trace=payouts[0].provider_id))  # one of them is found elsewhere meanwhile
    BankMatch.objects.filter(status="proposed").delete()
    again = [
        BankMatch.objects.create(
            line=match.line,
            bank_payout=match.bank_payout,
            amount=match.amount,
            method=match.method,
            confidence=50,
            made_at=NOW,
        )
        for match in reversed(matches)
    ]
    with pytest.raises(StaleVersion):
        said(found, matches, finance)
    with pytest.raises(Conflict, match="matched meanwhile"):
        said(found, again, finance)
    assert not BankMatch.objects.exclude(method="trace").exclude(status="proposed").exists()
    assert standing("1160", "po_2") == 4_000 and not Journal.objects.filter(kind="bank.match").exists()


@pytest.mark.django_db(transaction=True)
def test_of_two_who_confirm_one_proposal_at_once_one_does_and_it_is_posted_once() -> None:
    swept("po_1", 10_000)
    arrived(bank(10_000, on=ARRIVAL))  # the amount alone: proposed
    match = queries.proposals().get()
    assert match.method == "amount"
    people = [factories.acting(factories.staff("finance", name=name)) for name in ("Mia", "Chad")]
    compared("bank")
    found = Break.objects.get(key="1160 po_1")
    outcomes = race([lambda actor=actor: said(found, [match], actor=actor) for actor in people])
    refused = [outcome for outcome in outcomes if isinstance(outcome, IllegalTransition | Conflict)]
    assert len(refused) == 1, outcomes
    assert standing("1160", "po_1") == 0 and Journal.objects.filter(kind="bank.match").count() == 1


@pytest.mark.django_db(transaction=True)
def test_the_same_statement_twice_at_once_is_kept_and_posted_once() -> None:
    swept("po_1", 8_485, trace="TRACE123ABC")
    lines = [bank(8_485, on=ARRIVAL, trace="TRACE123ABC"), bank(77, on=ARRIVAL)]
    counted = race([lambda: operations.import_lines(lines=lines, actor=ACTOR, now=NOW)] * 4)
    assert sorted(counted) == [(0, 2), (0, 2), (0, 2), (2, 0)] and StatementLine.objects.count() == 2
    arrived()
    assert standing("1010", BANK) == 8_562


@pytest.mark.django_db(transaction=True)
def test_each_of_several_statements_at_once_counts_its_own_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """They meet after each has looked at what is there, so that every one is kept beside the others."""
    files = [[bank(number * 100 + line, on=ARRIVAL) for line in range(1, 4)] for number in range(4)]
    meet, keep = Barrier(len(files)), StatementLine.objects.bulk_create

    def keeping(rows: list[StatementLine], **options: Any) -> list[StatementLine]:
        meet.wait(timeout=60)
        return keep(rows, **options)

    monkeypatch.setattr(StatementLine.objects, "bulk_create", keeping)
    counted = race([lambda lines=lines: operations.import_lines(lines=lines, actor=ACTOR, now=NOW) for lines in files])
    assert counted == [(3, 0)] * 4
    told = AuditEntry.objects.filter(verb="reconciliation.import_statement")
    assert [entry.after for entry in told] == [{"lines": 3, "known": 0}] * 4


@pytest.mark.django_db(transaction=True)
def test_two_entries_that_are_alike_in_everything_are_two_however_often_they_are_sent() -> None:
    one = replace(bank(250, on=ARRIVAL, text="card fee back"), reference="")
    assert arrived(one, one)["unidentified"] == 2
    assert arrived(one, one)["unidentified"] == 0 and arrived(one)["unidentified"] == 0
    assert arrived(one, one, one)["unidentified"] == 1
    assert standing("1010", BANK) == 750


@pytest.mark.django_db(transaction=True)
def test_a_line_whose_code_is_taken_is_not_swallowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(StatementLine._meta.get_field("code"), "_get_default", lambda: "BL-ALWAYS")
    with pytest.raises(IntegrityError, match="code"):
        arrived(bank(1, on=ARRIVAL), bank(2, on=ARRIVAL))
    assert not StatementLine.objects.exists()


def test_the_providers_name_with_amount_and_day_is_certain_only_for_one() -> None:
    line = OpenLine(id=1, amount=Money(5, "EUR"), booked_on=ARRIVAL, trace="", text="stripe technology europe")
    one, two = (
        OpenPayout(id=number, open=Money(5, "EUR"), arrival_on=ARRIVAL, names=("", f"po_{number}")) for number in (1, 2)
    )
    assert [(found.method, found.certain) for found in pair(lines=[line], payouts=[one])] == [("descriptor", True)]
    assert [(found.method, found.certain) for found in pair(lines=[line], payouts=[one, two])] == [("amount", False)]
    late = OpenPayout(id=3, open=Money(5, "EUR"), arrival_on=ARRIVAL - timedelta(days=10), names=("",))
    assert pair(lines=[line], payouts=[late]) == []
    dollars = OpenPayout(id=4, open=Money(5, "USD"), arrival_on=ARRIVAL, names=("stripe",))
    assert pair(lines=[line], payouts=[dollars]) == []


_lines = st.lists(
    st.builds(
        OpenLine,
        id=st.integers(1, 10_000),
        amount=st.builds(Money, st.integers(1, 9), st.sampled_from(["EUR", "USD"])),
        booked_on=st.dates(date(2026, 11, 20), date(2026, 11, 27)),
        trace=st.sampled_from(["", "T1", "T2"]),
        text=st.sampled_from(["", "STRIPE"]),
    ),
    max_size=6,
    unique_by=lambda line: line.id,
)
_payouts = st.lists(
    st.builds(
        OpenPayout,
        id=st.integers(1, 10_000),
        open=st.builds(Money, st.integers(1, 9), st.sampled_from(["EUR", "USD"])),
        arrival_on=st.dates(date(2026, 11, 20), date(2026, 11, 27)),
        names=st.sampled_from([("",), ("T1",), ("T2",)]),
    ),
    max_size=6,
    unique_by=lambda payout: payout.id,
)


@given(lines=_lines, payouts=_payouts, data=st.data())
def test_pairing_does_not_depend_on_order_and_gives_nothing_away_twice(lines, payouts, data) -> None:
    found = pair(lines=lines, payouts=payouts)
    assert found == pair(lines=data.draw(st.permutations(lines)), payouts=data.draw(st.permutations(payouts)))
    by_line = {line.id: line for line in lines}
    by_payout = {payout.id: payout for payout in payouts}
    for id, line in by_line.items():
        parts = [pairing.amount.amount for pairing in found if pairing.line == id]
        assert sum(parts) in {0, line.amount.amount}
    for id, payout in by_payout.items():
        parts = [pairing for pairing in found if pairing.payout == id]
        named = [pairing.amount.amount for pairing in parts if pairing.method == "trace"]
        others = [pairing.amount.amount for pairing in parts if pairing.method != "trace"]
        assert len([pairing for pairing in parts if pairing.method == "descriptor"]) <= 1
        if others:
            assert sum(others) == payout.open.amount - sum(named)
    assert all(by_line[pairing.line].amount.currency == by_payout[pairing.payout].open.currency for pairing in found)
    left_lines, left_payouts = _left_after(by_line, by_payout, [pairing for pairing in found if pairing.certain])
    again = pair(lines=left_lines, payouts=left_payouts)
    assert again == [pairing for pairing in found if not pairing.certain]  # who looks again finds what was found
    refused = {(pairing.line, pairing.payout) for pairing in found}
    assert all(
        pairing.method == "trace" or (pairing.line, pairing.payout) not in refused
        for pairing in pair(lines=lines, payouts=payouts, refused=refused)
    )


def _left_after(lines, payouts, found) -> tuple[list[OpenLine], list[OpenPayout]]:
    """What is open once `found` is posted, as the ledger would say it."""
    open_ = {id: payout.open for id, payout in payouts.items()}
    for pairing in found:
        open_[pairing.payout] -= pairing.amount
    posted = {pairing.line for pairing in found}
    return [line for id, line in lines.items() if id not in posted], [
        replace(payout, open=open_[id], returned=open_[id].amount < 0) for id, payout in payouts.items() if open_[id]
    ]
