"""`ops jobs`, `ops outbox` and `ops webhooks`: what runs, what waits, and another try."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from backoffice.audit import queries as audit
from backoffice.bookings import queries as bookings
from backoffice.core import clock
from backoffice.core.actor import system
from backoffice.jobs import operations as jobs
from backoffice.jobs import queries as job_queries
from backoffice.jobs.models import JobRun
from backoffice.notifications import operations as notifications
from backoffice.notifications.models import OutboxMessage
from backoffice.payments import operations as payments
from backoffice.payments.models import WebhookEvent
from backoffice.payments.policies.seen import SeenEvent
from ops_cli.commands.jobs import scheduled
from ops_cli.output import Exit
from tests import factories
from tests.ops_cli.conftest import Answered

pytestmark = pytest.mark.django_db(transaction=True)
Ops = Callable[..., Answered]


@pytest.fixture(autouse=True)
def _hints_go_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """No worker of another test may be told of rows that are about to go."""
    for module in ("backoffice.notifications.operations", "backoffice.core.enqueue"):
        monkeypatch.setattr(f"{module}.enqueue_after_commit", lambda task, **kwargs: None)


def test_every_job_of_the_schedule_can_be_run_by_hand() -> None:
    assert set(scheduled()) == set(job_queries.schedule()) | {"audit.seal"}


@pytest.mark.parametrize(
    "name", sorted({"audit.seal", "jobs.forget_old_keys", "notifications.sweep_outbox", "workflows.complete_stays"})
)
def test_a_job_run_by_hand_is_on_record_under_the_engineers_name(ops: Ops, name: str) -> None:
    found = ops("jobs", "run", name)
    assert found.code == Exit.DONE and found.summary["job"] == name
    run = JobRun.objects.get(pk=found.summary["run"])
    assert (run.name, run.status) == (name, "succeeded")
    assert found.summary["counts"] == run.counts
    shown = {row["fact"]: row["value"] for row in ops("jobs", "show", str(run.pk)).rows}
    assert (shown["name"], shown["by"], shown["status"]) == (name, run.actor, "succeeded")
    assert [row["id"] for row in ops("jobs", "list", "--name", name).rows] == [run.pk]


MOVE_MONEY = {
    "workflows.answer_requests",
    "workflows.charge_saved_cards",
    "workflows.claw_back",
    "workflows.release_payouts",
    "workflows.resolve_indeterminate",
    "workflows.sweep_earnings",
}


def test_which_jobs_move_money() -> None:
    assert {name for name, job in scheduled().items() if job.moves_money} == MOVE_MONEY


@pytest.mark.parametrize("name", sorted(MOVE_MONEY))
def test_a_job_that_moves_money_needs_a_second_person_at_the_shell(ops: Ops, name: str) -> None:
    refused = ops("jobs", "run", name)
    assert refused.code == Exit.REFUSED and "--approval" in refused.said and not JobRun.objects.exists()
    assert ops("jobs", "run", name, "--dry-run").summary == {"job": name, "waiting": 0, "dry_run": True}


def test_a_dry_run_says_what_waits_and_does_nothing(ops: Ops) -> None:
    an_hour_ago = clock.now() - timedelta(hours=1)
    booking = factories.booking(now=an_hour_ago)
    waiting = ops("jobs", "run", "workflows.expire_holds", "--dry-run")
    assert waiting.summary == {"job": "workflows.expire_holds", "waiting": 1, "dry_run": True}
    assert bookings.booking(code=booking.code).status == "awaiting_payment" and not JobRun.objects.exists()
    assert ops("jobs", "run", "workflows.expire_holds").summary["counts"] == {"done": 1}
    assert bookings.booking(code=booking.code).status == "expired"


def test_a_job_that_runs_elsewhere_is_exit_code_5(ops: Ops) -> None:
    with jobs.running(name="workflows.expire_holds", actor=system("beat"), now=clock.now()):
        found = ops("jobs", "run", "workflows.expire_holds")
    assert found.code == Exit.LOCKED and "already running" in found.said


def test_a_job_whose_part_is_away_is_exit_code_7_and_failed_on_record(ops: Ops, sandbox) -> None:
    sandbox.fault("reset_after_commit", method="GET", path="/v1/*", times=None)
    found = ops("jobs", "run", "workflows.poll_missed_events")
    sandbox.clear_faults()
    assert found.code == Exit.UPSTREAM
    assert JobRun.objects.get().status == "failed"
    assert ops("jobs", "list", "--status", "failed").rows[0]["error"]


def test_an_unknown_job_names_the_known_ones(ops: Ops) -> None:
    found = ops("jobs", "run", "expire_holds")
    assert found.code == Exit.USAGE and "workflows.expire_holds" in found.said


def test_the_schedule_says_when_each_job_last_succeeded_and_which_is_late(ops: Ops) -> None:
    assert ops("jobs", "schedule").code == Exit.FINDINGS
    ops("jobs", "run", "workflows.expire_holds")
    rows = {row["name"]: row for row in ops("jobs", "schedule").rows}
    assert set(rows) == set(job_queries.schedule())
    done, never = rows["workflows.expire_holds"], rows["workflows.complete_stays"]
    assert (done["late"], never["late"], never["last_success"]) == (False, True, "never")
    assert done["last_success"].endswith("s ago") and done["every_seconds"] == 15


# The outbox -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def dead() -> OutboxMessage:
    """A message that was given up."""
    message_id = notifications.enqueue(task="workflows.send_refund", kwargs={"refund_code": "RF-1"}, now=clock.now())
    OutboxMessage.objects.filter(pk=message_id).update(status="dead", attempts=8, error="refused")
    return OutboxMessage.objects.get()


def test_dead_messages_are_listed_and_tried_again(ops: Ops, dead: OutboxMessage) -> None:
    (row,) = ops("outbox", "list", "--status", "dead").rows
    assert (row["id"], row["topic"], row["error"]) == (dead.pk, "workflows.send_refund", "refused")
    assert ops("outbox", "retry", "--all", "--dry-run").rows[0]["status"] == "dead"
    (tried,) = ops("outbox", "retry", str(dead.pk)).rows
    assert (tried["status"], tried["attempts"]) == ("pending", 0)
    assert ops("outbox", "list", "--status", "dead").rows == []
    assert ops("outbox", "retry").code == Exit.USAGE


def test_a_bulk_retry_over_fifty_needs_a_second_person(ops: Ops) -> None:
    for number in range(51):
        notifications.enqueue(task="workflows.send_refund", kwargs={"refund_code": f"RF-{number}"}, now=clock.now())
    OutboxMessage.objects.update(status="dead")
    refused = ops("outbox", "retry", "--all")
    assert refused.code == Exit.REFUSED and "--approval" in refused.said
    assert len(ops("outbox", "retry", "--all", "--approval", "AP-4QDR7H").rows) == 51


# The inbox ------------------------------------------------------------------------------------------------------------


def event(number: int = 1, *, status: str = "applied") -> WebhookEvent:
    now = clock.now()
    seen = SeenEvent(
        id=f"evt_{number}",
        type="payment_intent.succeeded",
        object_id=f"pi_{number}",
        account="",
        created=now,
        livemode=False,
        payload=b'{"object": "event", "id": "evt"}',
    )
    stored = payments.receive_event(event=seen, origin="webhook", now=now)
    assert stored is not None
    WebhookEvent.objects.filter(pk=stored.pk).update(status=status, attempts=3)
    return stored


def test_events_are_listed_shown_and_replayed(ops: Ops) -> None:
    event(1)
    event(2, status="failed")
    assert [row["event"] for row in ops("webhooks", "list").rows] == ["evt_2", "evt_1"]
    assert [row["event"] for row in ops("webhooks", "list", "--status", "failed").rows] == ["evt_2"]
    assert [row["event"] for row in ops("webhooks", "list", "--object", "pi_1").rows] == ["evt_1"]
    assert ops("webhooks", "list", "--type", "refund.").rows == []
    shown = {row["fact"]: row["value"] for row in ops("webhooks", "show", "evt_1").rows}
    assert shown["payload"] == {"object": "event", "id": "evt"} and shown["status"] == "applied"
    assert [row["status"] for row in ops("webhooks", "replay", "--status", "failed", "--dry-run").rows] == ["failed"]
    (row,) = ops("webhooks", "replay", "--status", "failed", "--reason", "rule added").rows
    assert (row["event"], row["status"], row["attempts"]) == ("evt_2", "received", 0)
    assert OutboxMessage.objects.get(topic="workflows.apply_provider_event").status == "pending"
    assert audit.entries(verb="webhooks.replay").get().reason == "rule added"


@pytest.mark.parametrize("arguments", [(), ("evt_1", "--status", "failed")])
def test_a_replay_says_which_by_name_or_by_status(ops: Ops, arguments: tuple[str, ...]) -> None:
    assert ops("webhooks", "replay", *arguments).code == Exit.USAGE


def test_an_event_that_never_came_is_not_replayed(ops: Ops) -> None:
    found = ops("webhooks", "replay", "evt_never")
    assert found.code == Exit.FAILURE and "No such webhook" in found.said


def test_a_bulk_replay_over_fifty_needs_a_second_person(ops: Ops) -> None:
    for number in range(51):
        event(number, status="dead")
    refused = ops("webhooks", "replay", "--status", "dead", "--yes")
    assert refused.code == Exit.REFUSED and "--approval" in refused.said
    assert not OutboxMessage.objects.exists()


def test_events_are_replayed_by_type_and_time_after_they_were_counted(ops: Ops) -> None:
    now = clock.now()
    for number, (kind, hours) in enumerate(
        [("refund.updated", 1), ("refund.created", 5), ("refund.updated", 30), ("payout.paid", 2)]
    ):
        row = event(number)
        WebhookEvent.objects.filter(pk=row.pk).update(type=kind, created=now - timedelta(hours=hours), account="acct_1")
    which = ("--type", "refund.", "--since", "1d")
    counted = ops("webhooks", "replay", *which, "--dry-run")
    assert [row["event"] for row in counted.rows] == ["evt_0", "evt_1"] and counted.summary["events"] == 2
    assert [row["event"] for row in ops("webhooks", "list", *which).rows] == ["evt_1", "evt_0"]
    refused = ops("webhooks", "replay", *which)
    assert refused.code == Exit.REFUSED and "--yes" in refused.said and "2 events" in refused.said
    assert not OutboxMessage.objects.exists()
    done = ops("webhooks", "replay", *which, "--until", "2h", "--yes", "--reason", "outage")
    assert [(row["event"], row["status"]) for row in done.rows] == [("evt_1", "received")]
    assert ops("webhooks", "list", "--account", "acct_1", "--limit", "1").summary == {"in_all": 4}
