"""A movement of the provider that our books tell wrongly is posted anew by two people: exactly what stands of it is reversed, and
the next run finds nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from django.db import transaction

from backoffice.audit import queries as audit
from backoffice.core.actor import Actor
from backoffice.core.errors import Conflict, IllegalTransition, NotAllowed, Refused, StaleVersion, StaydeskError
from backoffice.core.money import Money
from backoffice.ledger import operations as ledger
from backoffice.ledger import queries as ledger_queries
from backoffice.ledger.models import Journal
from backoffice.payments.models import BalanceTransaction
from backoffice.payments.policies.seen import SeenBalanceTransaction
from backoffice.reconciliation import operations, provider, queries
from backoffice.reconciliation.models import Break, Match
from tests import factories
from tests.factories import NOW
from tests.falsified import as_superuser
from tests.racing import race
from tests.reconciliation.steps import compared, imported, moved, post
from tests.reconciliation.test_classes import AGO, Books, not_imported, other_fee, posted_twice
from tests.stripe_sandbox.server import RunningSandbox
from tests.workflows.test_pay_and_refund import now as desk_now
from tests.workflows.test_pay_and_refund import paid

pytestmark = pytest.mark.django_db(transaction=True)
WHY = "Our books had it wrong"


def finance(name: str) -> Actor:
    return factories.acting(factories.staff("finance", name=name))


# What is wrong in our books; each returns the movement as the provider shows it. ----------------------------------------


def _kept_wrongly(books: Books, name: str, **wrong: Money) -> SeenBalanceTransaction:
    """Both sides know a charge, ours otherwise than the provider shows it."""
    post(f"capture:{name}", "capture", [("1150", f"ch_{name}", 10_000), ("2100", f"BK-{name}", -10_000)], at=AGO)
    right = shown_as(name)
    imported(replace(right, **wrong), at=AGO)
    books.theirs.append(right)
    return right


def shown_as(name: str) -> SeenBalanceTransaction:
    return moved(f"txn_{name}", source=f"ch_{name}", net=9_825, fee=175, created=AGO)


def currency(books: Books) -> SeenBalanceTransaction:
    dollars = {"amount": Money(10_000, "USD"), "fee": Money(175, "USD"), "net": Money(9_825, "USD")}
    return _kept_wrongly(books, "cur", **dollars)


def amount(books: Books) -> SeenBalanceTransaction:
    return _kept_wrongly(books, "off", amount=Money(10_009, "EUR"), net=Money(9_834, "EUR"))


def fee(books: Books) -> SeenBalanceTransaction:
    other_fee(books)
    return next(row for row in books.theirs if row.id == "txn_fee")


def twice(books: Books) -> SeenBalanceTransaction:
    posted_twice(books)
    return next(row for row in books.theirs if row.id == "txn_twice")


def undone(books: Books) -> SeenBalanceTransaction:
    row = books.charge("undone")
    (journal,) = ledger_queries.journals().filter(reference=row.id)
    with transaction.atomic():
        ledger.reverse(journal_id=journal.pk, key="by hand", reason="A mistake", actor=factories.SYSTEM, now=AGO)
    return row


def never(books: Books) -> SeenBalanceTransaction:
    not_imported(books)
    post("capture:new", "capture", [("1150", "ch_new", 1_000), ("2100", "BK-new", -1_000)], at=AGO)
    return next(row for row in books.theirs if row.id == "txn_new")


def lost_row(books: Books) -> SeenBalanceTransaction:
    row = books.charge("rowless")
    as_superuser(f"DELETE FROM payments_balancetransaction WHERE provider_id = '{row.id}'")
    return row


SEEDS: dict[str, tuple[str, Callable[[Books], SeenBalanceTransaction]]] = {
    "another currency": ("currency_mismatch", currency),
    "another amount": ("amount_mismatch", amount),
    "another fee": ("fee_mismatch", fee),
    "posted twice": ("duplicate_internal", twice),
    "reversed and not posted anew": ("missing_internal", undone),
    "never imported": ("missing_internal", never),
    "its journal without its row": ("missing_internal", lost_row),
}


def broken(seed: str) -> tuple[Books, SeenBalanceTransaction, Break]:
    books = Books()
    books.charge("calm")
    books.run()
    cls, spoil = SEEDS[seed]
    row = spoil(books)
    books.run()
    found = Break.objects.get(leg="line", key=row.id)
    assert found.cls == cls
    return books, row, found


def propose(found: Break, row: SeenBalanceTransaction | None, actor: Actor, reason: str = WHY) -> Break:
    return operations.propose_anew(code=found.code, shown=row, reason=reason, actor=actor, now=NOW)


def decide(found: Break, row: SeenBalanceTransaction | None, actor: Actor, *, approve: bool = True) -> Break:
    return operations.decide_anew(
        code=found.code, approve=approve, shown=row, reason="Agreed", version=found.version, actor=actor, now=NOW
    )


def money() -> dict[tuple[str, str, str], int]:
    return {(row.code, row.key, row.currency): row.amount for row in ledger_queries.balances(open_only=True)}


def unsound() -> list[Any]:
    return [finding for finding in ledger_queries.check(now=NOW) if not finding.ok]


@pytest.mark.parametrize("seed", SEEDS)
def test_what_two_people_post_anew_leaves_nothing_to_be_found(seed: str) -> None:
    books, row, found = broken(seed)
    before = list(Journal.objects.values_list("pk", flat=True))
    mia, chad = finance("Mia"), finance("Chad")
    found = propose(found, row, mia)
    assert found.status == "proposed" and list(Journal.objects.values_list("pk", flat=True)) == before
    told = found.proposal
    done = decide(found, row, chad)
    assert (done.status, done.proposal, done.decided_by_id) == ("investigating", None, chad.id)
    reversals = Journal.objects.filter(reverses__isnull=False).exclude(pk__in=before)
    assert sorted(reversals.values_list("reverses_id", flat=True)) == told["journals"]
    kept = BalanceTransaction.objects.get(provider_id=row.id)
    assert (kept.amount, kept.fee, kept.net, kept.currency) == (
        row.amount.amount,
        row.fee.amount,
        row.net.amount,
        "EUR",
    )
    journal = ledger_queries.journal(number=kept.journal_id)
    assert journal.kind == "bt.charge" and journal.pk not in before
    assert [[line.account.code, line.account.key, line.amount, line.currency] for line in journal.lines.all()] == told[
        "lines"
    ]
    entry = audit.entries(verb="breaks.post_anew").get()
    assert (entry.actor_id, entry.after["journal"], entry.after["reversed"]) == (
        chad.id,
        kept.journal_id,
        told["journals"],
    )
    run = books.run()
    assert (run.found, run.counts) == (0, {}) and not queries.open_breaks()
    assert queries.break_by_code(code=found.code).status == "self_healed" and unsound() == []
    assert Match.objects.get(movement_id=kept.pk).journal_id == kept.journal_id
    standing, posted = money(), Journal.objects.count()
    assert books.run().output_digest == run.output_digest
    assert (money(), Journal.objects.count()) == (standing, posted)
    with pytest.raises(IllegalTransition):
        decide(queries.break_by_code(code=found.code), row, chad)


def test_it_takes_a_second_person_of_finance_and_a_reason() -> None:
    _, row, found = broken("another fee")
    mia = finance("Mia")
    for who, why, refusal in (
        (factories.acting(factories.staff("support_l2")), WHY, NotAllowed),
        (mia, " ", Refused),
        (replace(mia, id=None), WHY, NotAllowed),
    ):
        with pytest.raises(refusal):
            propose(found, row, who, why)
    found = propose(found, row, mia)
    posted = Journal.objects.count()
    for who in (mia, factories.acting(factories.staff("team_lead")), replace(finance("Nobody"), id=None)):
        with pytest.raises(NotAllowed):
            decide(found, row, who)
    with pytest.raises(StaleVersion):
        decide(replace_version(found), row, finance("Chad"))
    assert Journal.objects.count() == posted


def replace_version(found: Break) -> Break:
    stale = Break.objects.get(pk=found.pk)
    stale.version -= 1
    return stale


def test_what_is_rejected_leaves_everything_and_can_be_proposed_again() -> None:
    books, row, found = broken("posted twice")
    before = money()
    found = propose(found, row, finance("Mia"))
    chad = finance("Chad")
    found = decide(found, None, chad, approve=False)
    assert (found.status, found.proposal, money()) == ("investigating", None, before)
    books.run()
    assert queries.break_by_code(code=found.code).cls == "duplicate_internal"
    assert propose(queries.break_by_code(code=found.code), row, chad).status == "proposed"


def at_the_provider(row: SeenBalanceTransaction) -> SeenBalanceTransaction:
    return replace(row, fee=row.fee + Money(1, "EUR"), net=row.net - Money(1, "EUR"))


def in_the_books(row: SeenBalanceTransaction) -> SeenBalanceTransaction:
    lines = [("1100", "stripe", 9_825), ("5100", "", 175), ("1150", row.source_id, -10_000)]
    post(f"bt:{row.id} once more", "bt.charge", lines, reference=row.id, at=AGO)
    return row


@pytest.mark.parametrize("change", [at_the_provider, in_the_books])
def test_what_changed_since_it_was_proposed_is_not_posted(
    change: Callable[[SeenBalanceTransaction], SeenBalanceTransaction],
) -> None:
    books, row, found = broken("another fee")
    found = propose(found, row, finance("Mia"))
    present = change(row)
    before = money()
    with pytest.raises(Refused, match="no longer what was proposed"):
        decide(found, present, finance("Chad"))
    assert money() == before
    books.theirs[books.theirs.index(row)] = present
    books.run()  # and a run that sees it takes the proposal back
    found.refresh_from_db()
    assert (found.status, found.proposal) == ("investigating", None)


def test_a_run_that_sees_the_same_leaves_what_is_proposed() -> None:
    books, row, found = broken("another fee")
    propose(found, row, finance("Mia"))
    books.run()
    found.refresh_from_db()
    assert found.status == "proposed" and found.proposal["movement"] == row.id


def test_two_who_agree_at_once_post_it_once() -> None:
    books, row, found = broken("another amount")
    found = propose(found, row, finance("Mia"))
    posted = Journal.objects.count()
    answers = race([partial(decide, found, row, finance(name)) for name in ("Chad", "Cleo")])
    assert sorted(isinstance(each, StaydeskError) for each in answers) == [False, True], answers
    assert Journal.objects.count() == posted + 2  # one reversal, one posting
    assert books.run().found == 0 and unsound() == []


def test_each_proposal_is_decided_as_what_it_is() -> None:
    _, row, found = broken("another fee")
    found = propose(found, row, finance("Mia"))
    chad = finance("Chad")
    word = {"code": found.code, "reason": "Agreed", "version": found.version, "actor": chad, "now": NOW}
    for approve in (True, False):
        with pytest.raises(Conflict, match="ops breaks post-anew"):
            operations.decide_write_off(approve=approve, **word)
    lost = clearing_break()
    lost = operations.propose_write_off(code=lost.code, reason="Lost", actor=finance("Max"), now=NOW)
    for approve in (True, False):
        with pytest.raises(Conflict, match="ops breaks write-off"):
            decide(lost, row, chad, approve=approve)


def clearing_break() -> Break:
    post("capture:lost", "capture", [("1150", "ch_lost", 5_000), ("2100", "BK-LOST01", -5_000)], at=AGO)
    compared("state", now=NOW)
    return Break.objects.get(key="1150 ch_lost")


def test_what_is_no_movement_or_not_shown_or_right_by_now_is_not_posted_anew() -> None:
    books, row, found = broken("another fee")
    mia = finance("Mia")
    with pytest.raises(Refused, match="Only a movement"):
        propose(clearing_break(), row, mia)
    with pytest.raises(Refused, match="does not show"):
        propose(found, None, mia)
    kept = BalanceTransaction.objects.get(provider_id=row.id)
    as_we_have_it = replace(row, fee=Money(kept.fee, "EUR"), net=Money(kept.net, "EUR"))
    with pytest.raises(Conflict, match="nothing to post anew"):
        propose(found, as_we_have_it, mia)
    assert books.run().found == 2


def test_it_can_be_posted_anew_more_than_once() -> None:
    books, row, found = broken("another fee")
    for cents in (0, 2):
        present = replace(row, fee=row.fee + Money(cents, "EUR"), net=row.net - Money(cents, "EUR"))
        books.theirs[-1] = present
        books.run()
        found.refresh_from_db()
        found = propose(found, present, finance(f"Mia {cents}"))
        decide(found, present, finance(f"Chad {cents}"))
        assert books.run().found == 0 and unsound() == []
    keys = Journal.objects.filter(reference=row.id, kind="bt.charge").order_by("id")
    assert list(keys.values_list("idempotency_key", flat=True)) == [
        f"bt:{row.id}",
        f"bt:{row.id}:again-1",
        f"bt:{row.id}:again-2",
    ]


def test_what_the_movement_gave_to_a_host_and_was_passed_on_is_never_asked_back() -> None:
    """A transfer failed, its money was the host's again, and was sent anew; only our note of its fee is wrong."""
    books = Books()
    right = moved(
        "txn_failed",
        source="tr_failed",
        category="transfer_reversal",
        type="transfer_failure",
        net=5_000,
        created=AGO,
        host="PN-HOST",
        account="acct_host",
    )
    imported(replace(right, fee=Money(1, "EUR"), net=Money(4_999, "EUR")), at=AGO)
    post("transfer:again", "transfer", [("2200", "PN-HOST", 5_000), ("2210", "PO-again", -5_000)], at=AGO)
    books.theirs.append(right)
    books.run("stripe")
    found = propose(Break.objects.get(leg="line"), right, finance("Mia"))
    decide(found, right, finance("Chad"))
    assert ledger_queries.balance(account="2200", key="PN-HOST", currency="EUR") == 0
    assert ledger_queries.balance(account="5100", key="", currency="EUR") == 0
    books.run("stripe")
    assert queries.break_by_code(code=found.code).status == "self_healed"


def everything() -> Any:
    return provider.reconcile(scope="all", since=None, until=None, actor=factories.SYSTEM, now=desk_now())


def test_a_converted_charge_is_asked_for_and_its_exchange_ends_right(sandbox: RunningSandbox) -> None:
    paid(sandbox, currency="JPY")
    sandbox.advance(3 * 3600)
    everything()
    kept = BalanceTransaction.objects.get(reporting_category="charge")
    positions = ledger_queries.standing(account="3900", key=kept.source_id)
    before = money()
    as_superuser(f"UPDATE payments_balancetransaction SET fee = fee + 1, net = net - 1 WHERE id = {kept.pk}")
    everything()
    found = Break.objects.get(leg="line")
    assert found.cls == "fee_mismatch"
    mia, chad = (factories.acting(factories.staff("finance", name=name, now=desk_now())) for name in ("Mia", "Chad"))
    assert provider.look_anew(found=found).journals == tuple(
        Journal.objects.filter(reference=kept.provider_id).order_by("id").values_list("pk", flat=True)
    )
    found = provider.propose_anew(code=found.code, reason=WHY, actor=mia, now=desk_now())
    provider.decide_anew(code=found.code, approve=True, reason="Yes", version=found.version, actor=chad, now=desk_now())
    assert ledger_queries.standing(account="3900", key=kept.source_id) == positions and money() == before
    assert everything().found == 0 and unsound() == []


def test_a_charge_whose_exchange_was_realised_has_it_realised_anew() -> None:
    books = Books()
    books.charge("calm")
    payment = books.payment(11_000, currency="USD", held=10_000, charge_id="ch_conv")
    post("capture:conv", "capture", [("1150", "ch_conv", 11_000), ("3900", "ch_conv", -11_000)], currency="USD", at=AGO)
    post("in:conv", "capture", [("3900", "ch_conv", 10_000), ("2100", payment.booking.code, -10_000)], at=AGO)
    right = replace(
        shown_as("conv"),
        amount=Money(9_950, "EUR"),
        net=Money(9_775, "EUR"),
        source_reference=payment.code,
        presented=Money(11_000, "USD"),
        exchange_rate="0.9045",
    )
    imported(replace(right, amount=Money(9_900, "EUR"), net=Money(9_725, "EUR")), at=AGO)
    assert ledger_queries.balance(account="5300", key="", currency="EUR") == 100  # 100.00 promised, 99.00 settled
    books.theirs.append(right)
    books.run()
    found = Break.objects.get(leg="line", key=right.id)
    found = propose(found, right, finance("Mia"))
    assert len(found.proposal["journals"]) == 2
    decide(found, right, finance("Chad"))
    assert ledger_queries.balance(account="5300", key="", currency="EUR") == 50
    assert ledger_queries.standing(account="3900", key="ch_conv") == []
    assert books.run().found == 0 and unsound() == []


def test_what_the_provider_does_not_show_is_not_proposed(sandbox: RunningSandbox) -> None:
    paid(sandbox)
    everything()
    kept = BalanceTransaction.objects.get()
    as_superuser(f"UPDATE payments_balancetransaction SET fee = fee + 1, net = net - 1 WHERE id = {kept.pk}")
    everything()
    found = Break.objects.get(leg="line")
    sandbox.drift(kind="missing", balance_transaction=kept.provider_id)
    mia = factories.acting(factories.staff("finance", name="Mia", now=desk_now()))
    with pytest.raises(Refused, match="does not show"):
        provider.propose_anew(code=found.code, reason=WHY, actor=mia, now=desk_now())
