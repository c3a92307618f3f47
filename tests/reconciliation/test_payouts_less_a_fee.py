"""A payout of ours that comes back less what a bank has kept: the rest is a break with a name, and two people close it."""

from __future__ import annotations

from datetime import timedelta
from functools import partial

import pytest

from backoffice.audit import queries as audit
from backoffice.core.actor import Actor
from backoffice.core.errors import Conflict, IllegalTransition, NotAllowed, NotFound, Refused, StaleVersion
from backoffice.ledger import queries as ledger
from backoffice.payments.policies.seen import SeenBalanceTransaction
from backoffice.payouts.models import BankPayout
from backoffice.reconciliation import operations
from backoffice.reconciliation.models import BankMatch, Break, StatementLine
from backoffice.reconciliation.policies import SeenStatementLine
from tests import factories
from tests.factories import NOW
from tests.racing import race
from tests.reconciliation.steps import DAY, arrived, bank, compared, imported, moved, swept

pytestmark = pytest.mark.django_db(transaction=True)
ARRIVAL = (NOW + 2 * DAY).date()
BACK_ON = ARRIVAL + timedelta(days=9)
LATER = NOW + 20 * DAY
TRACE = "TRACE123ABC"
AMOUNT = 8_485


@pytest.fixture
def mia() -> Actor:
    return factories.acting(factories.staff("finance", name="Mia"))


@pytest.fixture
def chad() -> Actor:
    return factories.acting(factories.staff("finance", name="Chad"))


def standing(account: str, key: str) -> int:
    return ledger.balance(account=account, key=key, currency="EUR")


def classes() -> dict[str, str]:
    """The open breaks of the bank's leg by key, once a run has looked."""
    compared("bank", now=LATER)
    return dict(Break.objects.filter(leg="bank", status__in=["open", "reopened"]).values_list("key", "cls"))


def came_back(*, reached: int = AMOUNT, given_back: int = AMOUNT) -> list[SeenBalanceTransaction]:
    """A sweep of which the bank was brought `reached`, and of which the provider then has `given_back`: its movements."""
    _, rows = swept("po_1", AMOUNT, trace=TRACE)
    if reached:
        arrived(bank(reached, on=ARRIVAL, trace=TRACE))
    return [*rows, *fails(given_back)]


def fails(given_back: int = AMOUNT) -> list[SeenBalanceTransaction]:
    BankPayout.objects.update(status="failed", failed_at=NOW)
    return imported(moved("txn_back", source="po_1", category="payout_reversal", net=given_back))


def named(amount: int) -> SeenStatementLine:
    return bank(amount, on=BACK_ON, trace=TRACE, returned=True)


def nameless(amount: int, text: str = "Zahlung retour") -> SeenStatementLine:
    return bank(amount, on=BACK_ON, text=text)


def given_up(key: str, mia: Actor, chad: Actor) -> None:
    """Two of finance write off what stands under a key."""
    found = Break.objects.get(leg="bank", key=key, status__in=["open", "reopened"])
    found = operations.propose_write_off(code=found.code, reason="Kept by a bank", actor=mia, now=LATER)
    with pytest.raises(NotAllowed):
        operations.decide_write_off(
            code=found.code, approve=True, reason="I say so", version=found.version, actor=mia, now=LATER
        )
    operations.decide_write_off(
        code=found.code, approve=True, reason="Agreed", version=found.version, actor=chad, now=LATER
    )


def say(line: StatementLine, by: Actor) -> BankMatch:
    found = Break.objects.get(leg="bank", key="1160 po_1", status__in=["open", "reopened"])
    return operations.say_line(
        code=found.code, line_code=line.code, reason="The bank says so", version=found.version, actor=by, now=LATER
    )


def assert_settled(*, lost: int) -> None:
    """Nothing stands anywhere, and what our accounts hold less is what a bank has kept."""
    assert classes() == {}
    assert list(ledger.clearing_open(now=LATER)) == []
    spent = sum(account.amount for account in ledger.balances(code="5220"))  # type: ignore[attr-defined]  # annotated there
    at_bank, at_provider = standing("1010", "BE68539007547034"), standing("1100", "stripe")
    assert (spent, at_bank + at_provider) == (lost, -lost)


def test_a_charge_that_the_bank_books_beside_the_return(mia: Actor, chad: Actor) -> None:
    came_back()
    assert classes() == {"1160 po_1": "payout_returned"}
    assert arrived(named(-AMOUNT), nameless(-200, "Fee")) == {"matched": 1, "proposed": 0, "unidentified": 1}
    key = f"9900 bank:{StatementLine.objects.get(amount=-200).code}"
    assert classes() == {key: "bank_unidentified"}
    given_up(key, mia, chad)
    assert_settled(lost=200)


def test_a_charge_within_the_return(mia: Actor, chad: Actor) -> None:
    came_back()
    assert arrived(named(-AMOUNT - 200))["matched"] == 1
    assert classes() == {"1160 po_1": "bank_amount_mismatch"}
    given_up("1160 po_1", mia, chad)
    assert_settled(lost=200)


def test_a_provider_that_was_given_less_back_after_it_had_arrived_or_before(mia: Actor, chad: Actor) -> None:
    came_back(given_back=AMOUNT - 200)
    assert arrived(named(-AMOUNT))["matched"] == 1
    assert classes() == {"1160 po_1": "bank_amount_mismatch"}
    given_up("1160 po_1", mia, chad)
    assert_settled(lost=200)


def test_a_provider_that_was_given_less_back_of_what_never_arrived(mia: Actor, chad: Actor) -> None:
    came_back(reached=0, given_back=AMOUNT - 200)
    assert classes() == {"1160 po_1": "bank_amount_mismatch"}, "no line of the bank is to be waited for"
    given_up("1160 po_1", mia, chad)
    assert_settled(lost=200)


def test_what_never_arrived_and_came_back_whole_is_no_break() -> None:
    came_back(reached=0)
    assert_settled(lost=0)


@pytest.mark.parametrize("kept", [200, -200], ids=["more is taken back", "less is taken back"])
def test_a_return_that_names_nothing_is_said_by_a_person(mia: Actor, chad: Actor, kept: int) -> None:
    came_back()
    assert arrived(nameless(-AMOUNT - kept)) == {"matched": 0, "proposed": 0, "unidentified": 1}
    line = StatementLine.objects.latest("id")
    assert classes() == {"1160 po_1": "payout_returned", f"9900 bank:{line.code}": "bank_unidentified"}
    match = say(line, mia)
    assert (match.status, match.method, match.amount, match.decided_by_id) == (
        "confirmed",
        "person",
        line.amount,
        mia.id,
    )
    assert (standing("9900", f"bank:{line.code}"), standing("1160", "po_1")) == (0, kept)
    entry = audit.entries(verb="breaks.decide_match").get()
    assert (entry.actor_id, entry.reason, entry.after["line"]) == (mia.id, "The bank says so", line.code)
    assert classes() == {"1160 po_1": "bank_amount_mismatch"}
    if kept > 0:
        given_up("1160 po_1", mia, chad)
        assert_settled(lost=200)
        return
    with pytest.raises(Refused, match="belongs to somebody"):  # the bank's own: it will ask for it
        given_up("1160 po_1", mia, chad)
    arrived(nameless(-200, "Rest"))
    say(StatementLine.objects.latest("id"), chad)
    assert_settled(lost=0)


@pytest.mark.parametrize("scope", ["payouts", "all"])
def test_so_it_is_where_a_run_over_the_payouts_has_found_that_it_came_back(mia: Actor, chad: Actor, scope: str) -> None:
    """That a payout came back is one break, whichever leg sees it first; what a bank has kept of it is another."""
    rows = came_back()
    BankPayout.objects.update(paid_at=NOW)
    arrived(nameless(-AMOUNT - 200))
    line = StatementLine.objects.latest("id")
    compared(scope, now=LATER, rows=rows, states=[("bank_payout", "po_1", "", "failed", AMOUNT, "EUR", NOW)])
    found = Break.objects.get(key="po_1")
    assert (found.leg, found.cls) == ("payout", "payout_returned")
    assert classes() == {f"9900 bank:{line.code}": "bank_unidentified"}
    operations.say_line(
        code=found.code, line_code=line.code, reason="The bank says so", version=found.version, actor=mia, now=LATER
    )
    assert classes() == {"1160 po_1": "bank_amount_mismatch"}
    given_up("1160 po_1", mia, chad)
    assert_settled(lost=200)
    found.refresh_from_db()
    assert found.status == "open", "until another payout has taken the money there"
    with pytest.raises(Conflict, match="on its way any more"):
        operations.say_line(code=found.code, line_code=line.code, reason="Again", actor=mia, now=LATER)


def test_what_arrived_short_was_given_up_and_came_back_whole_goes_back_where_it_was_booked(
    mia: Actor, chad: Actor
) -> None:
    swept("po_1", AMOUNT, trace=TRACE)
    arrived(bank(AMOUNT - 200, on=ARRIVAL, trace=TRACE))
    assert classes() == {"1160 po_1": "bank_amount_mismatch"}
    given_up("1160 po_1", mia, chad)
    assert standing("5220", "po_1") == 200
    fails()
    assert classes() == {"1160 po_1": "payout_returned"}
    arrived(named(-AMOUNT + 200))
    assert standing("1160", "po_1") == -200 and classes() == {"1160 po_1": "bank_amount_mismatch"}
    given_up("1160 po_1", mia, chad)
    assert standing("5220", "po_1") == 0
    assert_settled(lost=0)


def test_what_arrived_short_under_no_name_is_said_too(mia: Actor, chad: Actor) -> None:
    swept("po_1", AMOUNT)
    arrived(bank(AMOUNT - 200, on=ARRIVAL, text="Gutschrift"))
    say_of = StatementLine.objects.get()
    assert classes() == {"1160 po_1": "bank_missing", f"9900 bank:{say_of.code}": "bank_unidentified"}
    say(say_of, mia)
    assert classes() == {"1160 po_1": "bank_amount_mismatch"}
    given_up("1160 po_1", mia, chad)
    assert_settled(lost=200)


def test_who_may_say_it_of_what_and_once(mia: Actor, chad: Actor) -> None:
    came_back()
    arrived(nameless(-AMOUNT - 200), bank(500, on=ARRIVAL, text="Somebody's"), bank(-700, on=BACK_ON, currency="USD"))
    classes()
    found, other = Break.objects.get(key="1160 po_1"), Break.objects.get(key__startswith="9900", difference=500)
    line, plus, dollars = StatementLine.objects.order_by("id")[1:]
    tell = partial(operations.say_line, code=found.code, line_code=line.code, reason="It is", actor=mia, now=LATER)
    with pytest.raises(NotAllowed):
        tell(actor=factories.acting(factories.staff("support_l1")))
    with pytest.raises(Refused, match="reason"):
        tell(reason=" ")
    with pytest.raises(Refused, match="second person's approval"):
        tell(actor=Actor(kind="cli", id=None, name="ola", grants=mia.grants))
    with pytest.raises(NotFound):
        tell(line_code="BL-NOSUCH")
    with pytest.raises(Conflict, match="about a payout"):
        tell(code=other.code)
    for wrong in (plus, dollars):
        with pytest.raises(Conflict, match="cannot be"):
            tell(line_code=wrong.code)
    with pytest.raises(StaleVersion):
        tell(version=found.version + 1)
    assert BankMatch.objects.count() == 1 and standing("1160", "po_1") == -AMOUNT
    outcomes = race([partial(tell, version=found.version), partial(tell, version=found.version, actor=chad)])
    assert sorted(isinstance(one, BankMatch) for one in outcomes) == [False, True], outcomes
    assert any(isinstance(one, IllegalTransition | StaleVersion) for one in outcomes), outcomes
    assert standing("1160", "po_1") == 200 and standing("9900", f"bank:{line.code}") == 0
