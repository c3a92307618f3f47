"""`ops reconcile stripe` and the breaks it leaves to work on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from backoffice.audit import queries as audit
from backoffice.core.actor import system
from backoffice.jobs import operations as jobs
from backoffice.ledger.queries import balance
from backoffice.reconciliation.models import Break, Run, StatementLine
from backoffice.reconciliation.states import CAUSES
from ops_cli.commands import breaks
from ops_cli.output import Exit
from tests import factories
from tests.console.world import bank_line
from tests.ops_cli.conftest import Answered
from tests.reconciliation.steps import DAY, compared, post, swept
from tests.reconciliation.test_classes import differing, everything_kept
from tests.reconciliation.test_runs import report
from tests.stripe_sandbox.server import RunningSandbox
from tests.workflows.test_pay_and_refund import now, paid

pytestmark = pytest.mark.django_db(transaction=True)
Ops = Callable[..., Answered]
STATEMENT = Path(__file__).parents[1] / "reconciliation" / "files" / "statement.xml"


def test_books_that_match_are_exit_code_0(ops: Ops, sandbox: RunningSandbox) -> None:
    paid(sandbox)
    found = ops("reconcile", "stripe", "--reason", "month end", "--approval", "AP-1")
    assert (found.code, found.rows) == (Exit.DONE, [])
    run = Run.objects.get()
    assert (run.reason, run.ticket, run.version) == ("month end", "AP-1", jobs.version()) and run.version
    assert {name: found.summary[name] for name in ("reason", "ticket", "version")} == {
        "reason": "month end",
        "ticket": "AP-1",
        "version": run.version,
    }
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


# What stays of a dry run: that somebody has looked.
RECORDED = {"audit_entry", "jobs_jobrun", "jobs_lastsuccess"}


@pytest.mark.parametrize("scope", ["stripe", "payouts", "bank", "state", "all"])
def test_a_dry_run_of_any_scope_writes_nothing_but_that_it_was_made(
    ops: Ops, sandbox: RunningSandbox, tmp_path: Path, scope: str
) -> None:
    """There is something to import, to post, to match and to find, and a known break that has healed."""
    paid(sandbox)
    post("capture:lost", "capture", [("1150", "ch_lost", 5_000), ("2100", "BK-LOST01", -5_000)], at=now() - DAY)
    compared("state", now=now())
    swept("po_1", 10_000, at=now() - DAY, trace="TRACE123ABC")
    post("bt:found", "bt.charge", [("1100", "stripe", 5_000), ("1150", "ch_lost", -5_000)], at=now())
    paid(sandbox)
    statement = tmp_path / "november.csv"
    statement.write_text(f"booked_on,amount,text\n{now().date()},100.00,TRACE123ABC\n{now().date()},3.00,who knows\n")
    layout = ("--file", str(statement), "--account", "BE68", "--currency", "EUR") if scope == "bank" else ()
    before = everything_kept()
    dry = ops("reconcile", scope, *layout, "--dry-run")
    assert dry.code in {Exit.DONE, Exit.FINDINGS} and dry.summary["dry_run"], dry.said
    assert differing(before) <= RECORDED
    real = ops("reconcile", scope, *layout)
    for answer in (dry, real):  # what only a real run imports is young for a dry one
        answer.summary["classes"].pop("late", None)
    assert (real.code, real.summary["classes"]) == (dry.code, dry.summary["classes"])
    assert differing(before) > RECORDED


def test_a_window_is_written_as_days_ago_or_as_instants(ops: Ops, sandbox: RunningSandbox) -> None:
    paid(sandbox)
    assert ops("reconcile", "stripe", "--since", "2d").summary["lines"] == 1
    assert ops("reconcile", "stripe", "--until", "1d").summary["lines"] == 0
    turned = ops("reconcile", "stripe", "--since", "2026-02-30")
    assert turned.code == Exit.USAGE and "is not an instant" in turned.said


@pytest.mark.parametrize("beside", [["--dry-run"], ["--since", "2d"], ["--until", "1d"], ["--file", __file__]])
def test_a_run_is_gone_on_with_as_it_was_begun(ops: Ops, sandbox: RunningSandbox, beside: list[str]) -> None:
    turned = ops("reconcile", "bank", "--resume", *beside)
    assert turned.code == Exit.USAGE and beside[0] in turned.said and not Run.objects.exists()


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
    why = ("--cause", "our_error", "--ticket", "FIN-8812", "--reason", "Booked by hand", "--approval", "AP-4QDR7H")
    assert ops("breaks", "resolve", known.code, *why).rows[0]["status"] == "resolved"
    known.refresh_from_db()
    assert (known.cause, known.ticket) == ("our_error", "FIN-8812") and breaks.CAUSES == CAUSES
    history = {row["fact"]: row["value"] for row in ops("breaks", "show", known.code).rows}["history"]
    last = {name: history[-1][name] for name in ("what", "cause", "ticket", "why")}
    assert last == {"what": "resolve", "cause": "our_error", "ticket": "FIN-8812", "why": "Booked by hand"}
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
    found = ops("breaks", "resolve", known.code, "--cause", "other", *options)
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


# The other scopes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scope", ["payouts", "bank", "state", "all"])
def test_every_scope_of_books_that_match_is_exit_code_0(ops: Ops, sandbox: RunningSandbox, scope: str) -> None:
    paid(sandbox)
    ops("reconcile", "stripe")
    found = ops("reconcile", scope)
    assert (found.code, found.rows) == (Exit.DONE, [])
    assert found.envelope["schema"] == f"ops.reconcile.{scope}/1"
    assert ops("reconcile", scope).summary["digest"] == found.summary["digest"]


def test_the_providers_report_as_a_file_finds_what_its_api_does(
    ops: Ops, sandbox: RunningSandbox, tmp_path: Path
) -> None:
    for _ in range(2):
        paid(sandbox)
    sandbox.advance(60)
    assert ops("reconcile", "stripe").code == Exit.DONE
    changed = sandbox.drift(amount_delta=-3)["balance_transaction"]
    sandbox.advance(2 * 86_400)
    path = tmp_path / "activity.csv"
    path.write_bytes(report(sandbox))
    dry = ops("reconcile", "stripe", "--file", str(path), "--dry-run")
    assert [(row["key"], row["difference"], row["code"]) for row in dry.rows] == [(changed, -3, None)]
    assert not Break.objects.exists()
    by_file = ops("reconcile", "stripe", "--file", str(path))
    assert (by_file.code, by_file.summary["source"], by_file.summary["lines"]) == (Exit.FINDINGS, "file", 2)
    window = ("--since", by_file.summary["since"], "--until", by_file.summary["until"])
    by_api = ops("reconcile", "stripe", *window)
    for name in ("digest", "input_digest", "lines", "classes"):
        assert by_api.summary[name] == by_file.summary[name] == dry.summary[name], name


def test_of_a_report_that_holds_more_than_the_window_only_the_window_is_compared(
    ops: Ops, sandbox: RunningSandbox, tmp_path: Path
) -> None:
    paid(sandbox)
    sandbox.advance(60)
    ops("reconcile", "stripe")
    sandbox.advance(2 * 86_400)
    path = tmp_path / "activity.csv"
    path.write_bytes(report(sandbox))
    outside = ops("reconcile", "stripe", "--file", str(path), "--since", "30d", "--until", "20d")
    assert (outside.code, outside.rows, outside.summary["lines"]) == (Exit.DONE, [], 0)
    within = ops("reconcile", "stripe", "--file", str(path), "--since", "30d")
    assert (within.code, within.summary["matched"]) == (Exit.DONE, 1)


def test_a_camt053_statement_as_a_file_is_kept_matched_and_posted_once(ops: Ops, sandbox: RunningSandbox) -> None:
    swept("po_1", 8_485, trace="TRACE123ABC", at=now() - DAY)
    command = ("reconcile", "bank", "--file", str(STATEMENT))
    found = ops(*command)
    assert found.code == Exit.FINDINGS
    assert sorted(row["difference"] for row in found.rows) == [-15_050, 30_000]
    assert {row["class"] for row in found.rows} == {"bank_unidentified"}
    assert balance(account="1160", key="po_1", currency="EUR") == 0
    before = everything_kept()
    again = ops(*command)
    assert (again.rows, again.summary["digest"]) == (found.rows, found.summary["digest"])
    assert differing(before) <= {*RECORDED, "reconciliation_run"}


def test_a_statement_is_kept_once_and_what_nobody_knows_is_a_finding_until_it_is_confirmed(
    ops: Ops, tmp_path: Path
) -> None:
    payout, _ = swept("po_1", 10_000, at=now() - DAY)
    arrival = (now() + DAY).date()
    path = tmp_path / "november.csv"
    path.write_text(f"Day,Sum,Details\n{arrival},60.00,part one\n{arrival},40.00,part two\n")
    columns = ("--map", "booked_on=Day,amount=Sum,text=Details", "--account", "BE68", "--currency", "EUR")
    dry = ops("reconcile", "bank", "--file", str(path), *columns, "--dry-run")
    assert (dry.code, StatementLine.objects.count(), Run.objects.count()) == (Exit.FINDINGS, 0, 0)
    found = ops("reconcile", "bank", "--file", str(path), *columns)
    assert found.code == Exit.FINDINGS and {row["class"] for row in found.rows} == {"bank_unidentified", "late"}
    assert ops("reconcile", "bank", "--file", str(path), *columns).summary["digest"] == found.summary["digest"]
    assert StatementLine.objects.count() == 2
    code = next(row["code"] for row in found.rows if row["class"] == "late")
    refused = ops("breaks", "confirm", code)
    assert refused.code == Exit.REFUSED and "--reason" in refused.said
    confirmed = ops("breaks", "confirm", code, "--reason", "Two parts", "--approval", "AP-4QDR7H")
    assert [(row["payout"], row["status"]) for row in confirmed.rows] == [(payout.code, "confirmed")] * 2
    assert ops("reconcile", "bank").code == Exit.DONE
    assert "No such proposal" in ops("breaks", "confirm", code, "--reason", "x", "--approval", "AP-4QDR7H").said


def test_which_line_a_payout_is_that_a_bank_has_kept_something_of_is_said(ops: Ops, sandbox: RunningSandbox) -> None:
    payout, _ = swept("po_1", 10_000, at=now() - 20 * DAY)
    kept = bank_line(9_800, text="Gutschrift")
    found = ops("reconcile", "bank")
    assert {row["class"] for row in found.rows} == {"bank_unidentified", "bank_missing"}
    code = next(row["code"] for row in found.rows if row["class"] == "bank_missing")
    say = ("breaks", "confirm", code, "--line", kept.code.lower())
    why = ("--reason", "The bank kept 2.00", "--approval", "AP-4QDR7H")
    assert ops(*say).code == Exit.REFUSED and ops(*say, "--reject", *why).code == Exit.USAGE
    assert "cannot be" in ops(*say[:-1], bank_line(-9_800).code, *why).said
    said = ops(*say, *why)
    assert [(row["payout"], row["amount"], row["method"]) for row in said.rows] == [(payout.code, 9_800, "person")]
    (left,) = [row for row in ops("reconcile", "bank").rows if row["code"] == code]
    assert (left["class"], left["difference"]) == ("bank_amount_mismatch", -200)


@pytest.mark.parametrize(
    ("content", "options", "why"),
    [
        ("Day,Sum\n", (), "no column for the day"),
        ("booked_on,amount\n2026-11-20,x\n", ("--account", "X", "--currency", "EUR"), "line 2"),
        ("booked_on,amount\n", ("--map", "amount"), "field=column"),
        ("<xml/>", (), "not a camt.053"),
    ],
)
def test_a_statement_that_cannot_be_read_is_exit_code_2_and_says_why(
    ops: Ops, tmp_path: Path, content: str, options: tuple[str, ...], why: str
) -> None:
    path = tmp_path / "statement"
    path.write_text(content)
    turned = ops("reconcile", "bank", "--file", str(path), *options)
    assert turned.code == Exit.USAGE and why in turned.said and not Run.objects.exists()


def test_nothing_to_go_on_with_is_said(ops: Ops) -> None:
    turned = ops("reconcile", "state", "--resume")
    assert turned.code == Exit.FAILURE and "begin one: ops reconcile state" in turned.said


# Giving up -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def lost(ops: Ops) -> Break:
    """Money that never came: a capture which the provider does not show."""
    post("capture:lost", "capture", [("1150", "ch_lost", 5_000), ("2100", "BK-LOST01", -5_000)], at=now() - DAY)
    compared("state", now=now())
    return Break.objects.get(key="1150 ch_lost")


def test_a_write_off_takes_two_people_who_sign_in(ops: Ops, ops_as: Callable[..., Answered], lost: Break) -> None:
    mia, chad = (factories.staff("finance", name=name, now=now()) for name in ("Mia", "Chad"))
    command = ("breaks", "write-off", lost.code, "--reason", "Stripe lost it")
    assert ops(*command).code == ops(*command[:3]).code == Exit.REFUSED
    lead = factories.staff("support_l1", now=now())
    assert ops_as(lead, *command).code == Exit.NOT_ALLOWED
    proposed = ops_as(mia, *command)
    assert (proposed.code, proposed.rows[0]["status"]) == (Exit.DONE, "proposed")
    assert "another finance person" in proposed.envelope["warnings"][0]
    own = ops_as(mia, *command, "--approve")
    assert own.code == Exit.NOT_ALLOWED and "proposed yourself" in own.said
    done = ops_as(chad, *command, "--approve")
    assert (done.code, done.rows[0]["status"]) == (Exit.DONE, "written_off") and done.summary["journal"]
    shown = {row["fact"]: row["value"] for row in ops("breaks", "show", lost.code).rows}
    assert [step["what"] for step in shown["history"]] == ["found", "propose", "write_off"]
    assert [posting["kind"] for posting in shown["postings"]] == ["capture", "write_off"]
    assert shown["proposal"]["contra"] == "5220" and shown["at_risk_eur"] == "50.00 EUR"


def test_a_movement_is_posted_anew_by_two_people_who_sign_in(
    ops: Ops, ops_as: Callable[..., Answered], known: Break
) -> None:
    mia, chad = (factories.staff("finance", name=name, now=now()) for name in ("Mia", "Chad"))
    command = ("breaks", "post-anew", known.code, "--reason", "We kept a cent too much")
    assert ops(*command).code == ops(*command[:3]).code == Exit.REFUSED
    assert ops_as(factories.staff("support_l1", now=now()), *command).code == Exit.NOT_ALLOWED
    proposed = ops_as(mia, *command)
    assert (proposed.code, proposed.rows[0]["status"]) == (Exit.DONE, "proposed")
    assert len(proposed.summary["reverses"]) == 1 and proposed.summary["posts"][0][:2] == ["1100", "stripe"]
    assert f"ops breaks post-anew {known.code} --approve" in proposed.envelope["warnings"][0]
    own = ops_as(mia, *command, "--approve")
    assert own.code == Exit.NOT_ALLOWED and "proposed yourself" in own.said
    assert "ops breaks post-anew" in ops_as(chad, "breaks", "write-off", known.code, "--reject", "--reason", "No").said
    assert ops_as(chad, *command, "--reject").rows[0]["status"] == "investigating"
    ops_as(mia, *command)
    done = ops_as(chad, *command, "--approve")
    assert (done.code, done.rows[0]["status"]) == (Exit.DONE, "investigating")
    ops("reconcile", "stripe")
    shown = {row["fact"]: row["value"] for row in ops("breaks", "show", known.code).rows}
    assert [step["what"] for step in shown["history"]] == [
        "found",
        "propose_anew",
        "reject_anew",
        "propose_anew",
        "post_anew",
        "healed",
    ]
    assert [posting["kind"] for posting in shown["postings"]] == ["bt.charge", "bt.charge", "reversal"]
    assert shown["do_first"] == "Our books have another amount of the movement: two of finance post it anew."
    assert shown["command"] == f"ops breaks post-anew {known.code} --reason … --as …"


def test_a_break_is_accepted_until_a_day_to_come(ops: Ops, lost: Break) -> None:
    day = (now() + 5 * DAY).date().isoformat()
    why = ("--reason", "Known", "--approval", "AP-4QDR7H")
    assert ops("breaks", "accept", lost.code, "--until", day).code == Exit.REFUSED
    assert ops("breaks", "accept", lost.code, "--until", "2020-01-01", *why).code == Exit.USAGE
    assert ops("breaks", "accept", lost.code, "--until", day, *why).rows[0]["status"] == "accepted"
    assert ops("breaks", "list").code == Exit.DONE


def test_a_list_says_what_is_at_risk_and_what_to_do(ops: Ops, lost: Break) -> None:
    (row,) = ops("breaks", "list").rows
    assert (row["class"], row["severity"], row["at_risk_eur"]) == ("missing_external", "high", 5_000)
    assert row["action"].startswith("Have the provider asked again by replaying its events")
