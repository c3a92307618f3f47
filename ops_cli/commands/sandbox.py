"""`ops sandbox`: what goes on at the payment sandbox, its clock, and what goes wrong there."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

import click

from ops_cli.bootstrap import environment, needs_django
from ops_cli.output import Column, Exit, Failed, Result, renders
from ops_cli.simulator import Simulator
from ops_cli.times import SPAN

ON_REQUESTS: Final = (
    "timeout_before_commit",
    "timeout_after_commit",
    "reset_after_commit",
    "error_500_before_commit",
    "error_500_after_commit",
    "error_409",
    "error_429",
    "lock_timeout",
    "slow",
    "truncated_body",
    "webhook_before_answer",
    "extra_field",
)
ON_EVENTS: Final = (
    "duplicate_webhook",
    "drop_webhook",
    "delay_webhook",
    "reorder_webhook",
    "unknown_event_type",
    "stale_webhook",
    "replay_signature",
    "wrong_api_version",
)
RULES: Final = (
    Column("id", "Rule", right=True),
    Column("effect"),
    Column("method"),
    Column("path"),
    Column("event"),
    Column("nth", right=True),
    Column("times", right=True),
    Column("probability", right=True),
    Column("seen", right=True),
    Column("fired", right=True),
)
DRIFT: Final = (
    Column("kind"),
    Column("balance_transaction"),
    Column("before", money="currency"),
    Column("after", money="currency"),
    Column("difference", money="currency"),
)


def _simulator() -> Simulator:
    environment()
    return Simulator.of_desk()


@click.group(short_help="Work the payment sandbox: its clock, its faults.")
def sandbox() -> None:
    """Work the payment sandbox: see what it holds, move the clock, make things go wrong. Refused where payments are real.

    \b
    Example:
      ops sandbox status
      ops sandbox clock advance 2d
      ops sandbox fault drift
    """


@sandbox.command(short_help="Show what the sandbox holds.")
@renders("sandbox.status")
def status() -> Result:
    """Show the sandbox's clock, how many of what it holds, and what waits to be delivered.

    \b
    Example:
      ops sandbox status --format json
    """
    return Result(summary=_simulator().call("GET", "state"))


@sandbox.command(short_help="Make the sandbox forget everything.")
@click.option("--yes", is_flag=True, help="Really; the desk's books then speak of money that the sandbox never saw.")
@renders("sandbox.reset")
def reset(yes: bool) -> Result:
    """Forget every payment, refund and event, but not the webhook endpoint it was started with, nor the time.

    The desk keeps its own records, so reconciliation will name each of them as missing. Refused without --yes.

    \b
    Example:
      ops sandbox reset --yes
    """
    if not yes:
        raise Failed(
            "this makes the sandbox forget every payment, and the desk's books will differ: add --yes", Exit.REFUSED
        )
    return Result(summary=_simulator().call("POST", "reset"))


@sandbox.group(short_help="Show or move the clock of desk and sandbox.")
def clock() -> None:
    """Show or move the one clock that desk and sandbox share.

    \b
    Example:
      ops sandbox clock advance 86400
    """


@clock.command(short_help="Show both clocks.")
@renders("sandbox.clock.show")
@needs_django
def show() -> Result:
    """Show the desk's time and the sandbox's, and how far the desk runs ahead of the wall clock.

    \b
    Example:
      ops sandbox clock show
    """
    from backoffice.core import clock as desk

    theirs, ours = Simulator.of_desk().now(), desk.now()
    return Result(summary=_clocks(ours, theirs, desk.offset()))


@clock.command(short_help="Move desk and sandbox forward together.")
@click.argument("seconds", type=SPAN)
@renders("sandbox.clock.advance")
@needs_django
def advance(seconds: timedelta) -> Result:
    """Move both clocks forward by SECONDS (or 90m, 6h, 2d) and do what falls due on the way. Time never runs back.

    Clocks that had come apart are brought together at the later of the two first; 0 does only that. A production desk
    refuses (exit code 6).

    \b
    Example:
      ops sandbox clock advance 86400
      ops sandbox clock advance 0
    """
    from django.conf import settings

    from backoffice.core import clock as desk
    from backoffice.core import enqueue, operations
    from backoffice.core.errors import Refused
    from backoffice.jobs import queries as jobs

    if not settings.VIRTUAL_CLOCK:
        raise Refused("The clock of a production desk cannot be moved.")
    simulator = Simulator.of_desk()
    theirs, ours = simulator.now(), desk.now()
    target = max(theirs, ours) + seconds
    # The sandbox first: when it is away nothing has changed, and what it sends meanwhile is no older than our clock.
    simulator.advance(max(0.0, (target - theirs).total_seconds()))
    offset = operations.advance_clock(seconds=max(0, round((target - ours).total_seconds())))
    for name in jobs.schedule():
        enqueue.enqueue_after_commit(name)
    enqueue.enqueue_after_commit("jobs.heartbeat")
    return Result(summary=_clocks(desk.now(), simulator.now(), offset))


def _clocks(ours: Any, theirs: Any, offset: timedelta) -> dict[str, Any]:
    return {
        "desk": ours,
        "sandbox": theirs,
        "ahead_of_wall_clock_seconds": int(offset.total_seconds()),
        "apart_seconds": round(abs((ours - theirs).total_seconds()), 1),
    }


@sandbox.group(short_help="Make things go wrong at the provider.")
def fault() -> None:
    """Make things go wrong at the provider: lost answers, errors, late or doubled webhooks, falsified records.

    \b
    Example:
      ops sandbox fault add timeout_after_commit --path '/v1/refunds'
      ops sandbox fault drift
    """


@fault.command(short_help="Add a fault rule.")
@click.argument("effect", type=click.Choice([*ON_REQUESTS, *ON_EVENTS]))
@click.option("--method", help="Only requests of this method.")
@click.option("--path", help="Only requests to this path; * stands for anything.")
@click.option("--event", help="Only events of this type; * stands for anything.")
@click.option("--nth", type=click.IntRange(1), help="From this match on.  [default: 1]")
@click.option("--times", type=click.IntRange(1), help="So often.  [default: 1]")
@click.option("--always", is_flag=True, help="Until it is cleared, instead of --times.")
@click.option("--probability", type=click.FloatRange(0, 1), help="With this chance.  [default: 1]")
@click.option("--seconds", type=click.FloatRange(0), help="How long a slow answer or a late webhook takes.")
@click.option("--copies", type=click.IntRange(1), help="How many more of a doubled webhook.  [default: 1]")
@renders("sandbox.fault.add", RULES)
def add(effect: str, always: bool, **rule: Any) -> Result:
    """Add a rule: EFFECT hits the requests or events that match, so often as told.

    \b
    Example:
      ops sandbox fault add timeout_after_commit --method POST --path '/v1/refunds'
      ops sandbox fault add drop_webhook --event 'payment_intent.*' --always
    """
    asked = {"effect": effect, **{name: value for name, value in rule.items() if value is not None}}
    if always:
        asked["times"] = None
    return Result(rows=[_simulator().call("POST", "faults", asked)])


@fault.command("list", short_help="List the fault rules.")
@renders("sandbox.fault.list", RULES)
def list_rules() -> Result:
    """List the fault rules, with how many matches each has seen and how often it struck.

    \b
    Example:
      ops sandbox fault list
    """
    return Result(rows=_simulator().call("GET", "faults")["data"])


@fault.command(short_help="Remove fault rules.")
@click.argument("rule", type=click.IntRange(1), required=False)
@renders("sandbox.fault.clear")
def clear(rule: int | None) -> Result:
    """Remove one RULE by its number, or all of them.

    \b
    Example:
      ops sandbox fault clear
      ops sandbox fault clear 3
    """
    return Result(summary=_simulator().call("DELETE", "faults" if rule is None else f"faults/{rule}"))


@fault.command(short_help="Falsify one of the provider's own records.")
@click.option(
    "--kind",
    type=click.Choice(["altered", "missing", "extra"]),
    default="altered",
    show_default=True,
    help="Alter a balance transaction, remove one, or add one that nobody caused.",
)
@click.option("--transaction", help="Which one (txn_…).  [default: the newest]")
@click.option("--delta", type=int, default=1, show_default=True, help="By how much, in minor units.")
@renders("sandbox.fault.drift", DRIFT)
def drift(kind: str, transaction: str | None, delta: int) -> Result:
    """Falsify one of the provider's balance transactions behind everybody's back, as `ops reconcile stripe` must find.

    Undo an alteration by the same --transaction and the opposite --delta.

    \b
    Example:
      ops sandbox fault drift
      ops sandbox fault drift --transaction txn_1Q0pQw2eZvKYlo2C --delta -1
    """
    asked: dict[str, Any] = {"kind": kind, "amount_delta": delta}
    if transaction is not None:
        asked["balance_transaction"] = transaction
    done = _simulator().call("POST", "drift", asked)
    before, after = done["before"], done["after"]
    amounts = [row["amount"] if row else None for row in (before, after)]
    row = {
        "kind": done["kind"],
        "balance_transaction": done["balance_transaction"],
        "before": amounts[0],
        "after": amounts[1],
        "difference": (amounts[1] or 0) - (amounts[0] or 0),
        "currency": (before or after)["currency"].upper(),
    }
    return Result(rows=[row])
