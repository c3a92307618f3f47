"""`ops webhooks`: the provider's events as they came, and applying them anew."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import click

from ops_cli.bootstrap import acts, reads
from ops_cli.output import Column, Exit, Result, dry_run, renders
from ops_cli.times import age

if TYPE_CHECKING:
    from backoffice.core.actor import Actor

COLUMNS: Final = (
    Column("event"),
    Column("type"),
    Column("object"),
    Column("status"),
    Column("attempts", right=True),
    Column("age"),
    Column("origin"),
    Column("error"),
)
FACTS: Final = (Column("fact"), Column("value"))
# A bulk job over so many rows needs a second person (DOMAIN.md, roles and first limits).
MOST_ALONE: Final = 50


@click.group(short_help="List the provider's events, and apply them anew.")
def webhooks() -> None:
    """List the provider's events as they came in, and apply them anew.

    \b
    Example:
      ops webhooks list --status failed
      ops webhooks replay evt_1Q0pQw2eZvKYlo2C
    """


@webhooks.command("list", short_help="List events, newest first.")
@click.option("--status", help="Only this status (received, applied, ignored, failed, dead).")
@click.option("--type", "kind", help="Only types that begin so (payment_intent.).")
@click.option("--object", "object_id", help="Only events about this object (pi_…, re_…).")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="At most so many.")
@renders("webhooks.list", COLUMNS)
@reads
def list_events(actor: Actor, status: str | None, kind: str | None, object_id: str | None, limit: int) -> Result:
    """List the provider's events, newest first.

    \b
    Example:
      ops webhooks list --status failed
      ops webhooks list --object pi_3Q0pQw2eZvKYlo2C --format json
    """
    from backoffice.core import clock

    actor.must("webhooks.view")
    found = _inbox(status)
    if kind:
        found = found.filter(type__startswith=kind)
    if object_id:
        found = found.filter(object_id=object_id)
    now = clock.now()
    return Result(rows=[_row(event, now) for event in found[:limit]])


@webhooks.command(short_help="Show one event whole.")
@click.argument("event_id")
@renders("webhooks.show", FACTS)
@reads
def show(actor: Actor, event_id: str) -> Result:
    """Show one event with what became of it, and its content as the provider sent it.

    \b
    Example:
      ops webhooks show evt_1Q0pQw2eZvKYlo2C
    """
    from backoffice.core import clock
    from backoffice.payments import queries

    actor.must("webhooks.view")
    event = queries.webhook(event_id=event_id)
    facts = {
        **_row(event, clock.now()),
        "created": event.created,
        "applied_at": event.applied_at,
        "next_attempt_at": event.next_attempt_at,
        "live": event.livemode,
        "payload": json.loads(bytes(event.payload)),
    }
    return Result(rows=[{"fact": fact, "value": value} for fact, value in facts.items()])


@webhooks.command(short_help="Apply events anew.")
@click.argument("event_ids", nargs=-1)
@click.option("--status", type=click.Choice(["failed", "dead"]), help="All events of this status.")
@dry_run
@renders("webhooks.replay", COLUMNS)
@acts
def replay(actor: Actor, event_ids: tuple[str, ...], status: str | None, dry_run: bool) -> Result:
    """Have the events EVENT_IDS, or all that failed, applied anew by a worker. Applying is idempotent.

    More than 50 at once are refused (exit code 6) without the --approval of a second person.

    \b
    Example:
      ops webhooks replay evt_1Q0pQw2eZvKYlo2C --reason "posting rule added"
      ops webhooks replay --status failed --dry-run
    """
    from backoffice.core import clock
    from backoffice.core.errors import Refused
    from backoffice.payments import operations, queries

    if bool(event_ids) == bool(status):
        raise click.UsageError("name EVENT_IDS, or write --status failed")
    actor.must("webhooks.replay")
    wanted = list(event_ids) or list(_inbox(status).values_list("event_id", flat=True))
    if len(wanted) > MOST_ALONE and not actor.approval and not dry_run:
        raise Refused(missing=f"an approval (--approval) for {len(wanted)} events at once")
    now = clock.now()
    if dry_run:
        rows = [_row(queries.webhook(event_id=one), now) for one in wanted]
    else:
        rows = [_row(operations.replay_webhook(event_id=one, actor=actor, now=now), now) for one in wanted]
    return Result(rows=rows, summary={"events": len(rows), "dry_run": dry_run}, exit_code=Exit.DONE)


def _inbox(status: str | None) -> Any:
    from backoffice.payments import queries

    found = queries.webhooks()
    return found.filter(status=status) if status else found


def _row(event: Any, now: Any) -> dict[str, Any]:
    return {
        "event": event.event_id,
        "type": event.type,
        "object": event.object_id,
        "status": event.status,
        "attempts": event.attempts,
        "age": age(now - event.received_at),
        "received_at": event.received_at,
        "origin": event.origin,
        "error": event.error or None,
    }
