"""`ops reconcile stripe` and the breaks it leaves to work on."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from backoffice.audit import queries as audit
from backoffice.core.actor import system
from backoffice.jobs import operations as jobs
from backoffice.reconciliation.models import Break, Run
from ops_cli.output import Exit
from tests import factories
from tests.ops_cli.conftest import Answered
from tests.stripe_sandbox.server import RunningSandbox
from tests.workflows.test_pay_and_refund import now, paid

pytestmark = pytest.mark.django_db(transaction=True)
Ops = Callable[..., Answered]


def test_books_that_match_are_exit_code_0(ops: Ops, sandbox: RunningSandbox) -> None:
    paid(sandbox)
    found = ops("reconcile", "stripe")
    assert (found.code, found.rows) == (Exit.DONE, [])
    assert found.envelope["schema"] == "ops.reconcile.stripe/1"
    assert (found.summary["lines"], found.summary["matched"], found.summary["findings"]) == (1, 1, 0)
    figures = found.summary["explained"]["EUR"]
    assert figures["provider"] == figures["mirror"] and figures["unexplained"] == {"amount": 0, "currency": "EUR"}


def test_a_falsified_cent_is_one_finding_with_its_amount_and_what_to_do(ops: Ops, sandbox: RunningSandbox) -> None:
    booking = paid(sandbox)
    assert ops("reconcile", "stripe").code == Exit.DONE
    changed = sandbox.drift(amount_delta=-1)["balance_transaction"]
    found = ops("reconcile", "stripe")
    assert found.code == Exit.FINDINGS
    (row,) = found.rows
    assert (row["class"], row["difference"], row["currency"]) == ("amount_mismatch", -1, "EUR")
    assert (row["key"], row["subject"], row["status"]) == (changed, booking.code, "open")
    assert row["code"] == Break.objects.get().code and row["severity"] == "high" and row["action"]
    again = ops("reconcile", "stripe")
    assert again.summary["digest"] == found.summary["digest"] and Break.objects.count() == 1


def test_a_dry_run_finds_the_same_and_keeps_nothing(ops: Ops, sandbox: RunningSandbox) -> None:
    paid(sandbox)
    ops("reconcile", "stripe")
    sandbox.drift(amount_delta=7)
    runs = Run.objects.count()
    found = ops("reconcile", "stripe", "--dry-run")
    assert found.code == Exit.FINDINGS
    assert [(row["difference"], row["code"], row["status"]) for row in found.rows] == [(7, None, "not kept")]
    assert (Run.objects.count(), Break.objects.count()) == (runs, 0)


def test_a_window_is_written_as_days_ago_or_as_instants(ops: Ops, sandbox: RunningSandbox) -> None:
    paid(sandbox)
    assert ops("reconcile", "stripe", "--since", "2d").summary["lines"] == 1
    assert ops("reconcile", "stripe", "--until", "1d").summary["lines"] == 0
    turned = ops("reconcile", "stripe", "--since", "2026-02-30")
    assert turned.code == Exit.USAGE and "is not an instant" in turned.said


def test_while_it_runs_elsewhere_it_is_exit_code_5(ops: Ops, sandbox: RunningSandbox) -> None:
    with jobs.running(name="reconcile.stripe", actor=system("night run"), now=now()):
        found = ops("reconcile", "stripe")
    assert found.code == Exit.LOCKED
    assert "already running since" in found.said and "night run" in found.said and len(found.said.splitlines()) == 1


def test_without_the_provider_it_is_exit_code_7_and_nothing_is_kept(ops: Ops, sandbox: RunningSandbox) -> None:
    sandbox.fault("reset_after_commit", method="GET", path="/v1/*", times=None)
    found = ops("reconcile", "stripe")
    sandbox.clear_faults()
    assert (found.code, len(found.said.splitlines())) == (Exit.UPSTREAM, 1)
    assert not Break.objects.exists()


def test_why_and_who_agreed_are_in_the_log(ops: Ops, sandbox: RunningSandbox) -> None:
    ops("reconcile", "stripe", "--reason", "month end", "--approval", "AP-4QDR7H")
    entry = audit.entries(verb="reconciliation.run").get()
    assert (entry.actor_kind, entry.reason, entry.approval_ref) == ("cli", "month end", "AP-4QDR7H")


# Working the breaks ---------------------------------------------------------------------------------------------------


@pytest.fixture
def known(ops: Ops, sandbox: RunningSandbox) -> Break:
    """One open break."""
    paid(sandbox)
    ops("reconcile", "stripe")
    sandbox.drift(amount_delta=-1)
    ops("reconcile", "stripe")
    return Break.objects.get()


def test_a_break_is_listed_shown_assigned_noted_and_resolved(ops: Ops, known: Break) -> None:
    listed = ops("breaks", "list")
    assert listed.code == Exit.FINDINGS and [row["code"] for row in listed.rows] == [known.code]
    finance = factories.staff("finance", now=now())
    assert ops("breaks", "assign", known.code, "--to", finance.code).rows[0]["owner"] == finance.code
    assert ops("breaks", "note", known.code, "Asked the provider.").code == Exit.DONE
    shown = {row["fact"]: row["value"] for row in ops("breaks", "show", known.code.lower()).rows}
    assert (shown["status"], shown["difference"]) == ("investigating", "-0.01 EUR")
    assert "Asked the provider." in shown["notes"] and shown["detail"]["provider"] and shown["do_first"]
    resolved = ops("breaks", "resolve", known.code, "--reason", "Booked by hand", "--approval", "AP-4QDR7H")
    assert resolved.rows[0]["status"] == "resolved"
    assert (ops("breaks", "list").code, ops("breaks", "list", "--all").code) == (Exit.DONE, Exit.DONE)
    assert len(ops("breaks", "list", "--all").rows) == 1
    assert audit.entries(verb="breaks.resolve").get().approval_ref == "AP-4QDR7H"


@pytest.mark.parametrize(
    ("options", "missing"),
    [((), "a reason (--reason)"), (("--reason", "Because"), "a second person's approval (--approval)")],
)
def test_a_break_is_not_resolved_on_ones_own_word(
    ops: Ops, known: Break, options: tuple[str, ...], missing: str
) -> None:
    found = ops("breaks", "resolve", known.code, *options)
    assert found.code == Exit.REFUSED and missing in found.said
    known.refresh_from_db()
    assert known.status == "open"


def test_breaks_that_do_not_exist_and_owners_who_are_not_staff_are_refused(ops: Ops, known: Break) -> None:
    assert "No such break" in ops("breaks", "show", "BR-NONE22").said
    guest = factories.person("Alice", now=now())
    refused = ops("breaks", "assign", known.code, "--to", guest.code)
    assert refused.code == Exit.USAGE and "member of staff" in refused.said


def test_breaks_are_filtered_by_class_status_and_currency(ops: Ops, known: Break) -> None:
    assert ops("breaks", "list", "--class", "amount_mismatch", "--currency", "eur", "--status", "open").rows
    for options in (("--class", "late"), ("--currency", "USD"), ("--status", "resolved")):
        assert ops("breaks", "list", *options).rows == []
