"""`ops payouts`: what is due and why it waits, sent once by whom the desk knows, kept back, and taken back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from backoffice.audit import queries as audit
from backoffice.core.money import Money
from backoffice.jobs import operations as jobs
from backoffice.payouts.models import Payout, PayoutHold
from backoffice.payouts.states import HOLD_CAUSES
from ops_cli.commands import payouts as command
from ops_cli.output import Exit
from tests import factories
from tests.ops_cli.conftest import Answered
from tests.provider import sandbox, sandbox_process  # noqa: F401
from tests.stripe_sandbox.server import RunningSandbox
from tests.workflows.hosts import owes, sent
from tests.workflows.steps import now
from tests.workflows.test_release_payouts import stay, transfers, until_due

pytestmark = pytest.mark.django_db(transaction=True)
Ops = Callable[..., Answered]
WHY = ("--reason", "the host called")


@pytest.fixture
def booking(sandbox: RunningSandbox) -> Any:  # noqa: F811
    return stay(sandbox)


@pytest.fixture
def payout(booking: Any) -> Payout:
    return Payout.objects.get(booking=booking)


def test_the_causes_offered_are_those_of_the_house() -> None:
    assert command.CAUSES == HOLD_CAUSES


def test_the_plan_names_what_is_due_and_what_it_waits_for(
    ops: Ops,
    sandbox: RunningSandbox,  # noqa: F811
    booking: Any,
    payout: Payout,
) -> None:
    assert ops("payouts", "plan").rows == []
    (early,) = ops("payouts", "release", payout.code, "--dry-run").rows
    assert early["waits_for"] == "It is not due yet." and early["waits_until"] == f"{payout.due_at:%Y-%m-%dT%H:%M:%SZ}"
    assert ops("payouts", "release", "PO-NOBODY22", "--dry-run").code == Exit.FAILURE
    until_due(sandbox, booking)
    (row,) = ops("payouts", "plan").rows
    assert (row["payout"], row["amount"], row["waits_for"]) == (payout.code, payout.held, None)
    jobs.stop(scope="payouts", reason="transfers doubled", actor=factories.SYSTEM, now=now())
    stopped = ops("payouts", "plan")
    assert "transfers doubled" in stopped.rows[0]["waits_for"]
    assert stopped.summary == {"due": 1, "shown": 1, "ready": 0, "waiting": 1}
    assert transfers(sandbox) == []


def test_what_is_due_is_released_once_by_whoever_may(
    ops: Ops,
    ops_as: Ops,
    sandbox: RunningSandbox,  # noqa: F811
    booking: Any,
    payout: Payout,
) -> None:
    until_due(sandbox, booking)
    assert ops("payouts", "release", "--dry-run").summary["release"] == 1
    assert ops("payouts", "release").code == Exit.REFUSED
    assert ops("payouts", "release", *WHY).code == Exit.REFUSED and transfers(sandbox) == []
    sam, fay = factories.staff("support_l1", now=now()), factories.staff("finance", now=now())
    assert ops_as(sam, "payouts", "release", *WHY).code == Exit.NOT_ALLOWED and transfers(sandbox) == []
    (row,) = ops_as(fay, "payouts", "release", payout.code, *WHY).rows
    assert (row["status"], row["sent"], row["sent_currency"]) == ("transferred", payout.held, "EUR")
    over = ops("payouts", "release", payout.code, "--dry-run")
    assert over.code == Exit.FAILURE and "is transferred: nothing of it is left to send" in over.said
    again = ops("payouts", "release", *WHY, "--approval", "AP-4QDR7H")
    assert again.code == Exit.DONE and "transferred" not in again.summary and len(transfers(sandbox)) == 1
    released = audit.entries().filter(object_id=payout.code, actor_id=fay.pk)
    assert released.exists() and {entry.reason for entry in released} == {"the host called"}
    shown = {fact["fact"]: fact["value"] for fact in ops("payouts", "show", payout.code.lower()).rows}
    assert shown["transfer"] == transfers(sandbox)[0]["id"] and shown["sent"] == str(Money(payout.held, "EUR"))
    assert [one["code"] for one in ops("payouts", "list", "--booking", booking.code).rows] == [payout.code]
    assert ops("payouts", "list", "--status", "failed").rows == []


def test_a_payout_is_explained_before_and_after_it_was_sent(
    ops: Ops,
    ops_as: Ops,
    sandbox: RunningSandbox,  # noqa: F811
    booking: Any,
    payout: Payout,
) -> None:
    before = ops("payouts", "explain", payout.code.lower())
    assert before.code == Exit.DONE and before.summary[payout.code]["adds_up"] is True
    assert "until" in str(before.summary[payout.code]) and before.summary[payout.code]["waits_until"]
    until_due(sandbox, booking)
    owes(booking.host, Money(4_000, "EUR"))
    ops("payouts", "release", *WHY, "--approval", "AP-4QDR7H")
    after = ops("payouts", "explain", booking.code)
    steps = {row["what"]: row["amount"] for row in after.rows}
    assert steps["= the host's share"] == payout.held == sum(row["amount"] for row in after.rows if row["journal"])
    assert steps["= sent"] == payout.held - 4_000 and steps["kept for what the host owed"] == -4_000
    assert after.code == Exit.DONE and after.summary[payout.code]["waits_for"] is None
    legs = ops("payouts", "explain", payout.code, "--postings").rows
    assert {row["kind"] for row in legs} >= {"release", "netting", "transfer"}
    assert sum(row["amount"] for row in legs) == 0


def test_a_run_beside_the_job_is_locked_out(ops: Ops, booking: Any) -> None:
    with jobs.running(name=command.RELEASE, actor=factories.SYSTEM, now=now()):
        found = ops("payouts", "release", *WHY, "--approval", "AP-1")
    assert found.code == Exit.LOCKED and "already running" in found.said


def test_an_amount_is_kept_back_extended_and_let_go(
    ops: Ops,
    ops_as: Ops,
    sandbox: RunningSandbox,  # noqa: F811
    booking: Any,
    payout: Payout,
) -> None:
    sam, lea = factories.staff("support_l1", now=now()), factories.staff("team_lead", now=now())
    asked = ("payouts", "hold", booking.code, "--amount", "120.00", "--cause", "dispute")
    assert ops(*asked, *WHY).code == Exit.REFUSED
    assert ops_as(sam, *asked, *WHY, "--for", "100h").code == Exit.NOT_ALLOWED
    (placed,) = ops_as(sam, *asked, *WHY, "--for", "72h").rows
    assert (placed["amount"], placed["owner"], placed["status"]) == (12_000, sam.code, "active")
    assert [row["code"] for row in ops("payouts", "holds").rows] == [placed["code"]]
    (longer,) = ops_as(lea, "payouts", "extend", placed["code"], "--for", "10d", *WHY).rows
    assert longer["expires_at"] > placed["expires_at"]
    (ended,) = ops_as(lea, "payouts", "lift", placed["code"], "--reason", "the guest withdrew").rows
    assert (ended["status"], ended["ended_reason"]) == ("lifted", "the guest withdrew")
    assert ops("payouts", "holds").rows == [] and len(ops("payouts", "holds", "--all").rows) == 1


def test_what_the_provider_refused_is_sent_again_by_hand(
    ops: Ops,
    ops_as: Ops,
    sandbox: RunningSandbox,  # noqa: F811
    booking: Any,
    payout: Payout,
) -> None:
    until_due(sandbox, booking)
    fay = factories.staff("finance", now=now())
    assert ops_as(fay, "payouts", "retry", payout.code, *WHY).code == Exit.FAILURE
    account = sandbox.client().v1.accounts.list().data[0].id
    sandbox.control("POST", f"/_sim/accounts/{account}/restrict", {})
    refused = ops_as(fay, "payouts", "release", payout.code, *WHY)
    assert refused.code == Exit.FAILURE and "refused" in refused.said
    (row,) = ops("payouts", "list", "--status", "failed").rows
    assert row["failure"] and transfers(sandbox) == [] and (row["amount"], row["sent"]) == (payout.held, None)
    sandbox.control("POST", f"/_sim/accounts/{account}/restrict", {"past_due": []})
    resting = ops_as(fay, "payouts", "retry", payout.code, *WHY)
    assert resting.code == Exit.FAILURE and "It waits until" in resting.said and transfers(sandbox) == []
    sandbox.advance(86_400)
    found = ops_as(fay, "payouts", "retry", payout.code, "--reason", "they finished their set-up")
    assert found.code == Exit.DONE, found.said
    (again,) = found.rows
    assert again["status"] == "transferred" and len(transfers(sandbox)) == 1


def test_money_is_taken_back_from_a_transfer(
    ops: Ops,
    ops_as: Ops,
    sandbox: RunningSandbox,  # noqa: F811
) -> None:
    host = factories.person("Bob", is_host=True, now=now())
    paid_out = sent(sandbox, host)
    owes(host, Money(5_000, "EUR"))
    fay = factories.staff("finance", now=now())
    asked = ("payouts", "claw-back", paid_out.code, "--amount", "50.00", *WHY)
    assert ops(*asked).code == Exit.REFUSED
    (row,) = ops_as(fay, *asked).rows
    assert (row["payout"], row["amount"], row["status"]) == (paid_out.code, 5_000, "requested")


def test_what_hosts_owe_is_a_finding(ops: Ops, sandbox: RunningSandbox) -> None:  # noqa: F811
    assert ops("payouts", "receivables").code == Exit.DONE
    host = factories.person("Bob", is_host=True, now=now())
    owes(host, Money(4_475, "EUR"))
    found = ops("payouts", "receivables")
    assert found.code == Exit.FINDINGS and [(row["host"], row["owed"]) for row in found.rows] == [(host.code, 4_475)]
    assert ops("payouts", "receivables", "--host", "PN-NOBODY").rows == []


def test_a_sweep_shows_whose_the_balance_is_before_it_sends_what_is_ours(
    ops: Ops,
    ops_as: Ops,
    sandbox: RunningSandbox,  # noqa: F811
) -> None:
    sent(sandbox, factories.person("Bob", is_host=True, now=now()))
    shown = ops("payouts", "sweep", "eur", "--dry-run")
    said = {row["what"]: row["amount"] for row in shown.rows}
    owed = -sum(amount for what, amount in said.items() if what.startswith("owed to others"))
    assert shown.code == Exit.DONE and said["earned"] == said["balance at the provider"] - owed
    assert said["would be sent"] <= said["available now"]
    assert ops("payouts", "sweep", "EUR", "--reason", "x").code == Exit.REFUSED
    sam = factories.staff("support_l1", now=now())
    assert ops_as(sam, "payouts", "sweep", "EUR", "--reason", "x").code == Exit.NOT_ALLOWED


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("show", "PO-NONE2222"), Exit.FAILURE, "No such payout"),
        (("lift", "HD-NONE2222"), Exit.REFUSED, "a reason"),
        (("hold", "BK-NONE22", "--cause", "whim"), Exit.USAGE, "whim"),
        (("sweep", "EURO", "--dry-run"), Exit.USAGE, "three letters"),
        (("release", "--limit", "0"), Exit.USAGE, "0"),
    ],
)
@pytest.mark.django_db
def test_what_cannot_be_done_is_one_clear_answer(ops: Ops, arguments: tuple[str, ...], code: Exit, says: str) -> None:
    found = ops("payouts", *arguments)
    assert found.code == code and says in found.said and not PayoutHold.objects.exists()
