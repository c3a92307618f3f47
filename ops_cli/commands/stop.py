"""`ops stop` and `ops resume`: the kill switches of payouts, refunds and bookings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click

from ops_cli.bootstrap import acts
from ops_cli.output import Column, Exit, Result, renders
from ops_cli.times import age

if TYPE_CHECKING:
    from backoffice.core.actor import Actor

COLUMNS: Final = (
    Column("scope"),
    Column("since"),
    Column("age"),
    Column("by"),
    Column("reason"),
    Column("ended_at", "Ended"),
    Column("ended_by", "Ended by"),
    Column("ended_reason", "Why it goes on"),
)


@click.command(short_help="Stop payouts, refunds or bookings for everybody, with a reason.")
@click.argument("scope", required=False)
@click.option("--list", "only_list", is_flag=True, help="Only list what is stopped; exit code 3 when something is.")
@click.option("--all", "ended_too", is_flag=True, help="With --list: those that were ended, too.")
@renders("stop", COLUMNS)
@acts
def stop(actor: Actor, scope: str | None, only_list: bool, ended_too: bool) -> Result:
    """Stop SCOPE (payouts, refunds or bookings): nothing new of it begins, in any door, until `ops resume`.

    What is already under way with the provider ends by itself. Refused (exit code 6) without --reason, which every door
    shows to whoever asks. Stopping what is stopped changes nothing.

    \b
    Example:
      ops stop payouts --reason "transfers doubled, see incident 41"
      ops stop --list
    """
    from backoffice.core import clock
    from backoffice.jobs import operations, queries

    if bool(scope) == only_list:
        raise click.UsageError("name a SCOPE (payouts, refunds, bookings), or write --list")
    now = clock.now()
    if scope:
        row = operations.stop(scope=scope.lower(), reason=actor.reason, actor=actor, now=now)
        return Result(rows=[_row(row, now)], summary={"stopped": [row.scope]})
    actor.must("jobs.view")
    found = queries.stops(active_only=not ended_too)
    on = [row.scope for row in found if row.ended_at is None]
    return Result(
        rows=[_row(row, now) for row in found[:1000]],
        summary={"stopped": on},
        exit_code=Exit.FINDINGS if on else Exit.DONE,
    )


@click.command(short_help="Let what was stopped go on.")
@click.argument("scope")
@renders("resume", COLUMNS)
@acts
def resume(actor: Actor, scope: str) -> Result:
    """Let SCOPE (payouts, refunds or bookings) go on. What waited is taken up by the jobs within their usual time.

    \b
    Example:
      ops resume payouts --reason "the doubled transfers were reversed"
    """
    from backoffice.core import clock
    from backoffice.jobs import operations

    now = clock.now()
    row = operations.resume(scope=scope.lower(), reason=actor.reason, actor=actor, now=now)
    return Result(rows=[_row(row, now)], summary={"resumed": [row.scope]})


def _row(row: Any, now: Any) -> dict[str, Any]:
    return {
        "scope": row.scope,
        "since": row.since,
        "age": age((row.ended_at or now) - row.since),
        "by": row.by,
        "reason": row.reason,
        "ended_at": row.ended_at,
        "ended_by": row.ended_by or None,
        "ended_reason": row.ended_reason or None,
    }
