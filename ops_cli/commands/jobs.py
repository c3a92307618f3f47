"""`ops jobs`: what runs by itself, what ran, and running one now."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import click

from ops_cli.bootstrap import acts, reads
from ops_cli.output import Column, Exit, Failed, Result, dry_run, progress, renders
from ops_cli.times import age
from ops_cli.words import OneOf

if TYPE_CHECKING:
    from backoffice.core.actor import Actor

RUNS: Final = (
    Column("id", "Run", right=True),
    Column("name"),
    Column("status"),
    Column("started_at", "Started"),
    Column("seconds", right=True),
    Column("counts"),
    Column("by"),
    Column("error"),
)
SCHEDULE: Final = (
    Column("name"),
    Column("every_seconds", "Every (s)", right=True),
    Column("last_success"),
    Column("late"),
)
FACTS: Final = (Column("fact"), Column("value"))


class Job(NamedTuple):
    """What a scheduled job does, and how much of it waits now; None where only the provider can tell. One that moves money
    is begun by hand only with a second person's yes (DOMAIN.md, roles)."""

    act: Callable[[datetime], int | Mapping[str, int]]
    waiting: Callable[[datetime], int | None]
    moves_money: bool = False


@click.group(short_help="Show what runs by itself, what ran, and run one now.")
def jobs() -> None:
    """Show what runs by itself, what ran, and run one now.

    \b
    Example:
      ops jobs schedule
      ops jobs run workflows.expire_holds
    """


@jobs.command("list", short_help="List runs, newest first.")
@click.option("--name", default="", help="Only runs of this job.")
@click.option(
    "--status",
    type=OneOf("backoffice.jobs.states:RUN.statuses"),
    default="",
    help="Only this status (running, succeeded, failed, interrupted, skipped).",
)
@click.option("--limit", type=click.IntRange(1, 10_000), default=20, show_default=True, help="At most so many.")
@renders("jobs.list", RUNS)
@reads
def list_runs(actor: Actor, name: str, status: str, limit: int) -> Result:
    """List runs, newest first. A sweep that found nothing to do leaves no run; `ops jobs schedule` knows when it was.

    \b
    Example:
      ops jobs list --status failed
      ops jobs list --name reconcile.stripe --limit 5 --format json
    """
    from backoffice.jobs import queries

    actor.must("jobs.view")
    return Result(rows=[_row(run) for run in queries.runs(name=name, status=status)[:limit]])


@jobs.command(short_help="Show one run whole.")
@click.argument("run_id", type=click.IntRange(1, 2**63 - 1))
@renders("jobs.show", FACTS)
@reads
def show(actor: Actor, run_id: int) -> Result:
    """Show run RUN_ID: its arguments, where it ran, what it counted, where a repeated one goes on, why it failed.

    \b
    Example:
      ops jobs show 4711
    """
    from backoffice.jobs import queries

    actor.must("jobs.view")
    run = queries.run(run_id=run_id)
    holder = queries.holder(name=run.name, scope=run.scope) if run.status == "running" else None
    facts = {
        **_row(run),
        "scope": run.scope,
        "arguments": run.args,
        "host": run.host,
        "pid": run.pid,
        "version": run.version,
        "finished_at": run.finished_at,
        "last_heard_at": run.heartbeat_at,
        "goes_on_from": run.cursor,
        "holds_the_lock": holder.name if holder else None,
    }
    return Result(rows=[{"fact": fact, "value": value} for fact, value in facts.items()])


@jobs.command(short_help="List the jobs that run by themselves.")
@renders("jobs.schedule", SCHEDULE)
@reads
def schedule(actor: Actor) -> Result:
    """List the jobs that run by themselves, how often, and when each last succeeded. Exit code 3 when one is late.

    \b
    Example:
      ops jobs schedule
    """
    from backoffice.core import clock
    from backoffice.jobs import queries

    actor.must("jobs.view")
    now = clock.now()
    late = {job.name for job in queries.late_jobs(now=now)}
    last = queries.last_successes()
    rows = [
        {
            "name": name,
            "every_seconds": int(every.total_seconds()),
            "last_success": f"{age(now - last[name])} ago" if name in last else "never",
            "last_success_at": last.get(name),
            "late": name in late,
        }
        for name, every in sorted(queries.schedule().items())
    ]
    return Result(rows=rows, exit_code=Exit.FINDINGS if late else Exit.DONE)


@jobs.command(short_help="Run one job now, in the foreground.")
@click.argument("name")
@dry_run
@renders("jobs.run")
@acts
def run(actor: Actor, name: str, dry_run: bool) -> Result:
    """Run job NAME of the schedule now, here, and say what it did. With --dry-run only how much waits for it.

    Exit code 5 while it is running elsewhere, 7 when a part it needs does not answer. A job that moves money (charges guests,
    sends refunds, pays hosts or our bank) is refused (exit code 6) without the --approval of a second person.

    \b
    Example:
      ops jobs run workflows.expire_holds
      ops jobs run notifications.sweep_outbox --dry-run
    """
    from backoffice.core import clock
    from backoffice.core.errors import Refused
    from backoffice.jobs import operations

    table = scheduled()
    if name not in table:
        raise Failed(f"NAME: no job {name!r}; there are {', '.join(sorted(table))}", Exit.USAGE)
    actor.must("jobs.run")
    now = clock.now()
    if dry_run:
        return Result(summary={"job": name, "waiting": table[name].waiting(now), "dry_run": True})
    if table[name].moves_money and not actor.approval:
        raise Refused(missing="a second person's approval (--approval), since this job moves money")
    with progress(name) as advance, operations.running(name=name, actor=actor, now=now) as running:
        done = table[name].act(now)
        running.count(**({"done": done} if isinstance(done, int) else done))
        advance()
    return Result(summary={"job": name, "run": running.id, "counts": dict(running.counts)})


def scheduled() -> Mapping[str, Job]:
    """Every job of beat's schedule, by name (a test compares)."""
    from backoffice.audit import operations as audit
    from backoffice.audit import queries as audit_queries
    from backoffice.bookings import queries as bookings
    from backoffice.core import operations as core
    from backoffice.notifications import operations as notifications
    from backoffice.notifications import queries as messages
    from backoffice.payments import queries as payments
    from backoffice.payouts import queries as payouts
    from backoffice.reconciliation import provider as reconciliation
    from backoffice.workflows import apply_provider_event as events
    from backoffice.workflows import (
        claw_back,
        collect_charges,
        decide_request,
        follow_bank_payouts,
        keep_time,
        release_payouts,
        sweep_earnings,
        work_chargebacks,
    )
    from backoffice.workflows import import_balance_transactions as transactions

    lost = keep_time.LOST_AFTER

    return {
        "audit.seal": Job(lambda now: audit.seal(now=now), lambda now: audit_queries.backlog().unsealed),
        "jobs.forget_old_keys": Job(lambda now: core.forget_old_keys(now=now), lambda now: None),
        "notifications.sweep_outbox": Job(
            lambda now: notifications.deliver_due(now=now), lambda now: messages.due(now=now).count()
        ),
        "reconciliation.state": Job(lambda now: reconciliation.keep_up(scope="state", now=now), lambda now: None),
        "reconciliation.all": Job(lambda now: reconciliation.keep_up(scope="all", now=now), lambda now: None),
        "workflows.apply_pending_events": Job(
            lambda now: events.apply_due(now=now), lambda now: len(payments.events_due(now=now))
        ),
        "workflows.poll_missed_events": Job(lambda now: events.poll(now=now), lambda now: None),
        "workflows.import_balance_transactions": Job(lambda now: transactions.run(now=now), lambda now: None),
        "workflows.expire_holds": Job(
            lambda now: keep_time.expire_holds(now=now), lambda now: len(bookings.expired_unpaid(now=now))
        ),
        "workflows.complete_stays": Job(
            lambda now: keep_time.complete_stays(now=now),
            lambda now: len(bookings.due_to_begin(now=now)) + len(bookings.due_to_end(now=now)),
        ),
        "workflows.answer_requests": Job(
            lambda now: decide_request.run(now=now),
            lambda now: len(bookings.unanswered_requests(now=now)) + len(payments.authorisations_lapsing(now=now)),
            moves_money=True,  # captures whose answer was lost
        ),
        "workflows.charge_saved_cards": Job(
            lambda now: collect_charges.run(now=now),
            lambda now: len(payments.payments_to_charge(now=now)) + len(payments.charges_due(now=now)),
            moves_money=True,
        ),
        "workflows.release_payouts": Job(
            lambda now: release_payouts.run(now=now, actor=release_payouts.ACTOR),
            lambda now: len(payouts.due(now=now)),
            moves_money=True,
        ),
        "workflows.follow_bank_payouts": Job(lambda now: follow_bank_payouts.run(now=now), lambda now: None),
        "workflows.follow_chargebacks": Job(lambda now: work_chargebacks.run(now=now), lambda now: None),
        "workflows.claw_back": Job(
            lambda now: claw_back.run(now=now),
            lambda now: claw_back.run(now=now, dry_run=True)["proposed"],
            moves_money=True,
        ),
        "workflows.sweep_earnings": Job(
            lambda now: sweep_earnings.run(now=now), lambda now: len(payouts.sweep_currencies()), moves_money=True
        ),
        "workflows.resolve_indeterminate": Job(
            lambda now: keep_time.resolve_indeterminate(now=now),
            lambda now: (
                len(payments.unsettled_attempts(older_than=now - lost))
                + len(payments.waiting_for_provider(older_than=now - lost))
                + len(payments.refunds_to_send(older_than=now - lost))
                + len(payments.refunds_to_ask_about(older_than=now - lost))
            ),
            moves_money=True,  # payments, refunds, clawbacks and sweeps whose answer was lost
        ),
    }


def _row(run: Any) -> dict[str, Any]:
    ended = run.finished_at or run.heartbeat_at
    return {
        "id": run.pk,
        "name": f"{run.name} {run.scope}".strip(),
        "status": run.status,
        "started_at": run.started_at,
        "seconds": round((ended - run.started_at).total_seconds(), 1),
        "counts": run.counts,
        "by": run.actor,
        "error": run.error or None,
    }
