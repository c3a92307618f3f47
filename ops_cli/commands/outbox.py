"""`ops outbox`: e-mail and work that has not gone out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click

from ops_cli.bootstrap import acts, reads
from ops_cli.output import Column, Exit, Result, dry_run, renders
from ops_cli.times import age
from ops_cli.words import OneOf

if TYPE_CHECKING:
    from backoffice.core.actor import Actor

COLUMNS: Final = (
    Column("id", "Message", right=True),
    Column("channel"),
    Column("topic"),
    Column("status"),
    Column("attempts", right=True),
    Column("age"),
    Column("error"),
)
# So many are tried again at a time; what is left is found by the next call.
AT_ONCE: Final = 1_000


@click.group(short_help="List what has not gone out, and try it again.")
def outbox() -> None:
    """List e-mail and work that has not gone out, and give what was given up another try.

    \b
    Example:
      ops outbox list --status dead
      ops outbox retry --all
    """


@outbox.command("list", short_help="List messages, newest first.")
@click.option(
    "--status",
    type=OneOf("backoffice.notifications.states:OUTBOX.statuses"),
    default="",
    help="Only this status (pending, failed, dead, sent).",
)
@click.option(
    "--channel",
    type=OneOf("backoffice.notifications.states:CHANNELS"),
    default="",
    help="Only this channel (email, in_app, task).",
)
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="At most so many.")
@renders("outbox.list", COLUMNS)
@reads
def list_messages(actor: Actor, status: str, channel: str, limit: int) -> Result:
    """List messages, newest first, without whom they are for.

    \b
    Example:
      ops outbox list --status dead
      ops outbox list --channel email --limit 10 --format json
    """
    from backoffice.core import clock
    from backoffice.notifications import queries

    actor.must("jobs.view")
    now = clock.now()
    return Result(rows=[_row(message, now) for message in queries.messages(status=status, channel=channel)[:limit]])


@outbox.command(short_help="Give dead messages another try.")
@click.argument("message_ids", nargs=-1, type=click.IntRange(1, 2**63 - 1))
@click.option("--all", "every", is_flag=True, help="Every dead message; more than 50 need an --approval.")
@dry_run
@renders("outbox.retry", COLUMNS)
@acts
def retry(actor: Actor, message_ids: tuple[int, ...], every: bool, dry_run: bool) -> Result:
    """Give the dead messages MESSAGE_IDS, or all of them, another eight attempts.

    \b
    Example:
      ops outbox retry 812 813
      ops outbox retry --all --dry-run
    """
    from backoffice.core import clock
    from backoffice.jobs import policies
    from backoffice.notifications import operations, queries

    if bool(message_ids) == every:
        raise click.UsageError("name MESSAGE_IDS, or write --all")
    actor.must("jobs.run")
    dead = queries.messages(status="dead")
    wanted = list(message_ids) or list(dead.values_list("id", flat=True)[:AT_ONCE])
    if not dry_run:
        policies.check_bulk(count=len(wanted), what="messages", approved=bool(actor.approval))
    now = clock.now()
    if dry_run:
        rows = [_row(message, now) for message in dead.filter(id__in=wanted)]
    else:
        rows = [_row(operations.retry(message_id=one, actor=actor, now=now), now) for one in wanted]
    return Result(rows=rows, summary={"messages": len(rows), "dry_run": dry_run}, exit_code=Exit.DONE)


def _row(message: Any, now: Any) -> dict[str, Any]:
    return {
        "id": message.pk,
        "channel": message.channel,
        "topic": message.topic,
        "status": message.status,
        "attempts": message.attempts,
        "age": age(now - message.created_at),
        "created_at": message.created_at,
        "error": message.error or None,
    }
