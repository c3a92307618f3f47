"""`ops ledger` and `ops report`: the books proved and read."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.db import connection

from backoffice.payments.models import Payment
from backoffice.workflows import import_balance_transactions
from ops_cli.output import Exit
from tests.ops_cli.conftest import Answered
from tests.stripe_sandbox.server import RunningSandbox
from tests.workflows.test_pay_and_refund import now, paid, refund

pytestmark = pytest.mark.django_db(transaction=True)
Ops = Callable[..., Answered]


@pytest.fixture
def booking(sandbox: RunningSandbox):
    made = paid(sandbox)
    import_balance_transactions.run(now=now())
    return made


def as_superuser(sql: str, *parameters: object) -> None:
    """Change what nobody may: with the triggers away, as only the database's owner can."""
    with connection.cursor() as cursor:
        cursor.execute("SET session_replication_role = replica")
        cursor.execute(sql, parameters)
        cursor.execute("SET session_replication_role = DEFAULT")


def test_sound_books_are_exit_code_0(ops: Ops, booking) -> None:
    found = ops("ledger", "check")
    assert found.code == Exit.DONE and found.summary == {"sound": True, "failed": []}
    assert all(row["ok"] for row in found.rows)
    assert "bookings_explained" in {row["check"] for row in found.rows}


def test_an_altered_line_is_exit_code_3_and_named(ops: Ops, booking) -> None:
    as_superuser("UPDATE ledger_line SET amount = amount + 1 WHERE id = (SELECT min(id) FROM ledger_line)")
    found = ops("ledger", "check")
    assert found.code == Exit.FINDINGS
    named = {row["check"]: row["offender"] for row in found.rows if not row["ok"]}
    assert "journals_balance" in named and str(named["journals_balance"]).startswith("journal ")


def test_a_booking_whose_money_is_not_what_was_posted_is_named(ops: Ops, booking) -> None:
    Payment.objects.filter(booking=booking).update(held=Payment.objects.get().held + 1)
    found = ops("ledger", "check")
    assert found.code == Exit.FINDINGS and found.summary["failed"] == ["bookings_explained"]
    assert [row["offender"] for row in found.rows if not row["ok"]] == [f"booking {booking.code}"]


def test_balances_statement_and_trace_tell_one_story(ops: Ops, booking) -> None:
    held = booking.host_price - booking.host_fee
    (row,) = ops("ledger", "balances", "--code", "2100", "--key", booking.code).rows
    assert (row["balance"], row["currency"]) == (-held, "EUR")
    found = ops("ledger", "statement", "2100", booking.code, "--currency", "eur")
    assert [line["amount"] for line in found.rows] == [-held]
    assert found.summary["closing"] == {"amount": -held, "currency": "EUR"}
    traced = ops("ledger", "trace", booking.code.lower())
    assert traced.summary["journals"] == 2
    assert sum(line["amount"] for line in traced.rows if line["currency"] == "EUR") == 0
    assert all(row["balance"] for row in ops("ledger", "balances", "--open").rows)


def test_money_is_traced_from_a_providers_id_a_refund_or_a_host_to_its_journals(ops: Ops, booking) -> None:
    asked = refund(booking, 5_000)
    whole = ops("ledger", "trace", booking.code).rows
    charge = booking.payment.charge_id
    by_charge = ops("ledger", "trace", charge)
    assert {row["journal"] for row in by_charge.rows} == {
        row["journal"] for row in whole if charge in (row["key"], row["reference"])
    } and by_charge.summary["journals"] == 2
    (journal,) = {row["journal"] for row in ops("ledger", "trace", asked.code.lower()).rows}
    shown = ops("ledger", "journal", str(journal))
    assert shown.rows == [row for row in whole if row["journal"] == journal]
    assert (shown.summary["key"], shown.summary["reversed_by"]) == (f"refund:{asked.code}", None)
    assert len({row["journal"] for row in ops("ledger", "trace", booking.code, "--limit", "1").rows}) == 1


def test_the_trial_balance_is_even_then_and_now(ops: Ops, booking) -> None:
    found = ops("ledger", "trial-balance")
    assert found.code == Exit.DONE and found.summary["balanced"] is True
    assert found.summary["totals"]["EUR"]["debit"] == found.summary["totals"]["EUR"]["credit"]
    codes = {row["account"] for row in ops("ledger", "balances").rows}
    assert "1150" in codes - {row["account"] for row in found.rows}, "what has cleared is left out"
    assert all(bool(row["debit"]) != bool(row["credit"]) for row in found.rows)
    assert ops("ledger", "trial-balance", "--as-of", "400d").rows == []


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("statement", "9999", "--currency", "EUR"), Exit.USAGE, "no account 9999"),
        (("balances", "--code", "9999"), Exit.USAGE, "no account 9999"),
        (("trace", "BK-NONE22"), Exit.FAILURE, "nothing was ever posted about BK-NONE22"),
        (("journal", "999999999"), Exit.FAILURE, "No such journal"),
    ],
)
def test_what_is_not_there_is_one_clear_line(ops: Ops, arguments: tuple[str, ...], code: Exit, says: str) -> None:
    found = ops("ledger", *arguments)
    assert found.code == code and says in found.said and len(found.said.splitlines()) == 1


@pytest.mark.parametrize("by", ["month", "city"])
def test_gmv_is_tied_to_the_ledger(ops: Ops, booking, by: str) -> None:
    refund(booking, 5_000)
    since, until = (now() - timedelta(days=1)).date(), (now() + timedelta(days=1)).date()
    found = ops("report", "gmv", "--from", str(since), "--to", str(until), "--by", by)
    assert found.code == Exit.DONE and found.summary["tied_to_the_ledger"] is True
    (row,) = found.rows
    assert row["group"] == ("Antwerp" if by == "city" else f"{now():%Y-%m}")
    assert (row["charged"], row["refunded"], row["net"]) == (booking.charge_total, 5_000, booking.charge_total - 5_000)


def test_gmv_that_does_not_tie_warns_by_how_much_and_is_exit_code_3(ops: Ops, booking) -> None:
    Payment.objects.filter(booking=booking).update(amount=booking.charge_total + 1)
    found = ops("report", "gmv")
    assert found.code == Exit.FINDINGS
    (warning,) = found.envelope["warnings"]
    assert "EUR does not tie to the ledger" in warning


def test_a_period_that_ends_before_it_begins_is_a_usage_error(ops: Ops) -> None:
    found = ops("report", "gmv", "--from", "2026-05", "--to", "2026-04")
    assert found.code == Exit.USAGE and "until" in found.said
