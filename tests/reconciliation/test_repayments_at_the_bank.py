"""The line of our bank's statement that carries a refund paid another way settles it, once, and nothing else does."""

from __future__ import annotations

from datetime import timedelta
from functools import partial

import pytest
from django.db import transaction

from backoffice.core.actor import system
from backoffice.core.errors import Conflict, NotAllowed, Refused
from backoffice.core.money import Money
from backoffice.ledger import operations as ledger_operations
from backoffice.ledger import queries as ledger
from backoffice.ledger.policies import Line
from backoffice.payments import operations as payments
from backoffice.payments.models import Refund
from backoffice.people.models import User
from backoffice.reconciliation import operations, queries
from backoffice.reconciliation.models import Break, StatementLine
from backoffice.reconciliation.policies import SeenStatementLine
from backoffice.workflows import import_balance_transactions
from tests import factories
from tests.payments.test_repayments import (  # noqa: F401 — fixtures among them
    approved_for,
    farid,
    fatima,
    not_paid,
    repay,
    returned,
    sent_at_the_bank,
)
from tests.racing import race
from tests.reconciliation.steps import compared
from tests.workflows.steps import now

pytestmark = pytest.mark.django_db(transaction=True)
ACTOR = system("reconciliation")


def line(amount: int, text: str, reference: str = "B-1") -> SeenStatementLine:
    today = now().date()
    return SeenStatementLine(
        account="BE68", reference=reference, amount=Money(amount, "EUR"), booked_on=today,
        value_on=today - timedelta(days=1), text=text,
    )  # fmt: skip


def match(*lines: SeenStatementLine) -> dict[str, int]:
    operations.import_lines(lines=lines, actor=ACTOR, now=now())
    return operations.match_lines(actor=ACTOR, now=now())


def test_the_line_that_names_a_repayment_settles_it_once(returned: Refund, farid: User, fatima: User) -> None:  # noqa: F811
    import_balance_transactions.run(now=now())
    asked = repay(returned, farid)
    payments.approve_refund(refund_code=asked.code, version=asked.version, actor=factories.acting(fatima), now=now())
    noted = payments.note_repayment(
        refund_code=asked.code, reference="E2E-1", version=asked.version + 1, actor=factories.acting(farid), now=now()
    )
    assert noted.status == "submitted" and queries.refunds_under_way() == [], "the provider is not asked about it"
    other = line(-3_999, f"SEPA credit transfer {asked.code}", "B-0")
    assert match(other)["unidentified"] == 1, "another amount is not it"
    assert match(line(-4_000, f"SEPA credit transfer {asked.code}"), other)["matched"] == 1
    asked.refresh_from_db()
    assert asked.status == "succeeded"
    assert ledger.balance(account="2400", key=asked.code, currency="EUR") == 0
    assert ledger.balance(account="1010", key="BE68", currency="EUR") == -7_999
    assert match(line(-4_000, f"SEPA credit transfer {asked.code}"))["matched"] == 0
    assert ledger.balance(account="1010", key="BE68", currency="EUR") == -7_999


def test_the_lines_by_which_it_left_and_came_back_are_both_its(returned: Refund, farid: User, fatima: User) -> None:  # noqa: F811
    import_balance_transactions.run(now=now())
    first = sent_at_the_bank(approved_for(returned, farid, fatima), farid)
    out, back = line(-4_000, "SEPA E2E-77"), line(4_000, "RETURN E2E-77 AC04", "B-2")
    assert match(out)["matched"] == 1
    first.refresh_from_db()
    not_paid(first, farid)
    assert match(line(3_950, "RETURN E2E-77 less fee", "B-3")) == {"matched": 0, "proposed": 0, "unidentified": 1}
    assert match(out, back) == {"matched": 1, "proposed": 0, "unidentified": 0}
    assert match(out, back) == {"matched": 0, "proposed": 0, "unidentified": 0}
    assert ledger.balance(account="2400", key=first.code, currency="EUR") == 0
    second = approved_for(returned, farid, fatima)
    assert match(line(-4_000, f"SEPA {second.code}", "B-4"))["matched"] == 1
    assert ledger.balance(account="1010", key="BE68", currency="EUR") == -4_000 + 3_950


def test_a_person_says_which_line_is_one_that_came_back_less_a_fee(
    returned: Refund,  # noqa: F811  # a fixture of test_repayments, by its name
    farid: User,  # noqa: F811  # as above
    fatima: User,  # noqa: F811  # as above
) -> None:
    import_balance_transactions.run(now=now())
    first = sent_at_the_bank(approved_for(returned, farid, fatima), farid)
    match(line(-4_000, "SEPA E2E-77"), line(3_950, "RETURN E2E-77 less fee", "B-2"), line(4_500, "WHO KNOWS", "B-3"))
    out, back, other = StatementLine.objects.order_by("id")
    first.refresh_from_db()
    say = partial(
        operations.bring_back_less, refund_code=first.code, reason="0.50 kept", actor=factories.acting(farid), now=now()
    )
    with pytest.raises(Conflict, match="Nobody has recorded yet"):
        say(line_code=back.code)
    not_paid(first, farid)
    with pytest.raises(Conflict, match="has not shown it back"):
        repay(Refund.objects.get(pk=returned.pk), farid)
    with pytest.raises(Conflict, match="less a fee"):
        say(line_code=other.code)
    with pytest.raises(Conflict, match="suspense"):
        say(line_code=out.code)
    with pytest.raises(Refused, match="reason"):
        say(line_code=back.code, reason=" ")
    lead = factories.acting(factories.staff("team_lead", now=now()))
    with pytest.raises(NotAllowed):
        say(line_code=back.code, actor=lead)
    outcomes = race([partial(say, line_code=back.code)] * 2)
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["Conflict", "Refund"], outcomes
    assert ledger.balance(account="9900", key=f"bank:{back.code}", currency="EUR") == 0
    assert ledger.balance(account="2400", key=first.code, currency="EUR") == 50, "for two people to write off"
    assert ledger.balance(account="1010", key="BE68", currency="EUR") == -4_000 + 3_950 + 4_500
    again = line(3_900, "RETURN E2E-77 once more", "B-4")
    assert match(again)["unidentified"] == 1
    with pytest.raises(Conflict, match="Another line"):
        say(line_code=StatementLine.objects.latest("id").code)
    second = approved_for(returned, farid, fatima)
    assert second.amount == 4_000 and match(line(-4_000, f"SEPA {second.code}", "B-5"))["matched"] == 1


def test_a_person_was_quicker_than_both_lines_of_the_bank(returned: Refund, farid: User, fatima: User) -> None:  # noqa: F811
    import_balance_transactions.run(now=now())
    first = not_paid(sent_at_the_bank(approved_for(returned, farid, fatima), farid), farid)
    out, back = line(-4_000, "SEPA E2E-77"), line(4_000, "SEPA E2E-77", "B-2")
    assert match(back, out)["matched"] == 2, "in whichever order the statement shows them"
    assert ledger.balance(account="2400", key=first.code, currency="EUR") == 0
    more = [line(-4_000, "SEPA E2E-77", "B-8"), line(4_000, "SEPA E2E-77", "B-9")]
    assert match(*more) == {"matched": 0, "proposed": 0, "unidentified": 2}, "each once"
    first.refresh_from_db()
    assert first.status == "failed"


def test_a_line_older_than_the_yes_is_found_in_suspense(returned: Refund, farid: User, fatima: User) -> None:  # noqa: F811
    import_balance_transactions.run(now=now())
    asked = repay(returned, farid)
    assert match(line(-4_000, f"SEPA {asked.code}"))["unidentified"] == 1
    key = f"bank:{StatementLine.objects.get().code}"
    assert ledger.balance(account="9900", key=key, currency="EUR") == 4_000 and open_breaks() == [f"9900 {key}"]
    payments.approve_refund(refund_code=asked.code, version=asked.version, actor=factories.acting(fatima), now=now())
    runs = race([partial(operations.match_lines, actor=ACTOR, now=now())] * 3)
    assert sorted(run["matched"] for run in runs) == [0, 0, 1], runs
    asked.refresh_from_db()
    assert asked.status == "succeeded"
    stands = [("9900", key), ("2400", asked.code), ("2410", returned.code)]
    assert [ledger.balance(account=account, key=name, currency="EUR") for account, name in stands] == [0, 0, 0]
    assert ledger.balance(account="1010", key="BE68", currency="EUR") == -4_000 and open_breaks() == []


def test_a_line_that_came_back_before_anybody_said_so_is_found_in_suspense(
    returned: Refund,  # noqa: F811
    farid: User,  # noqa: F811
    fatima: User,  # noqa: F811
) -> None:
    import_balance_transactions.run(now=now())
    first = sent_at_the_bank(approved_for(returned, farid, fatima), farid)
    assert match(line(-4_000, "SEPA E2E-77"), line(4_000, "RETURN E2E-77", "B-2"))["unidentified"] == 1
    first.refresh_from_db()
    not_paid(first, farid)
    assert match() == {"matched": 1, "proposed": 0, "unidentified": 0} != match()
    assert ledger.balance(account="2400", key=first.code, currency="EUR") == 0
    assert ledger.balance(account="1010", key="BE68", currency="EUR") == 0 and queries.suspended() == {}
    assert approved_for(returned, farid, fatima).status == "approved"


def test_of_a_line_that_a_payout_has_taken_a_part_of_no_repayment_is_made(
    returned: Refund,  # noqa: F811
    farid: User,  # noqa: F811
    fatima: User,  # noqa: F811
) -> None:
    import_balance_transactions.run(now=now())
    asked = repay(returned, farid)
    match(line(-4_000, f"SEPA {asked.code}"))
    kept = StatementLine.objects.get()
    with transaction.atomic():  # a part of it was something else's
        ledger_operations.post(
            key="part", kind="bank.match", subject="", effective_at=now(), actor=ACTOR, now=now(),
            lines=(Line.of("1160", "po_1", Money(1_000, "EUR")), Line.of("9900", f"bank:{kept.code}", Money(-1_000, "EUR"))),
        )  # fmt: skip
    payments.approve_refund(refund_code=asked.code, version=asked.version, actor=factories.acting(fatima), now=now())
    assert match()["matched"] == 0 and queries.suspended() == {kept.code: Money(-3_000, "EUR")}


def open_breaks() -> list[str]:
    compared("bank", now=now())
    return [row.key for row in Break.objects.exclude(status="self_healed")]
