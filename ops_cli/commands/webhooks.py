"""`ops webhooks`: the provider's events as they came, and applying them anew."""

from __future__ import annotations

import json
import sys
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import click

from ops_cli.bootstrap import acts, reads
from ops_cli.output import Column, Result, dry_run, progress, renders
from ops_cli.times import INSTANT, age, at
from ops_cli.words import OneOf

if TYPE_CHECKING:
    from backoffice.core.actor import Actor

Instant = datetime | timedelta
COLUMNS: Final = (
    Column("event"),
    Column("type"),
    Column("object"),
    Column("account"),
    Column("status"),
    Column("attempts", right=True),
    Column("age"),
    Column("origin"),
    Column("error"),
)
FACTS: Final = (Column("fact"), Column("value"))


@click.group(short_help="List the provider's events, and apply them anew.")
def webhooks() -> None:
    """List the provider's events as they came in, and apply them anew.

    \b
    Example:
      ops webhooks list --status failed
      ops webhooks replay evt_1Q0pQw2eZvKYlo2C
    """


_status = click.option(
    "--status",
    type=OneOf("backoffice.payments.states:WEBHOOK.statuses"),
    help="Only this status (received, applied, ignored, failed, dead).",
)
_type = click.option("--type", "kind", help="Only types that begin so (payment_intent.).")
_since = click.option("--since", type=INSTANT, help="Only events that the provider made from then on, or so long ago.")
_until = click.option("--until", type=INSTANT, help="Only events made before that instant.")


@webhooks.command("list", short_help="List events, newest first.")
@_status
@_type
@click.option("--object", "object_id", help="Only events about this object (pi_…, re_…, acct_…).")
@click.option("--account", help="Only events of this connected account (acct_…).")
@_since
@_until
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="At most so many.")
@renders("webhooks.list", COLUMNS)
@reads
def list_events(
    actor: Actor,
    status: str | None,
    kind: str | None,
    object_id: str | None,
    account: str | None,
    since: Instant | None,
    until: Instant | None,
    limit: int,
) -> Result:
    """List the provider's events, newest first.

    \b
    Example:
      ops webhooks list --status failed
      ops webhooks list --object pi_3Q0pQw2eZvKYlo2C --format json
      ops webhooks list --type payout. --since 6h
    """
    from backoffice.core import clock

    actor.must("webhooks.view")
    now = clock.now()
    found = _inbox(status=status, kind=kind, since=since, until=until, now=now)
    if object_id:
        found = found.filter(object_id=object_id)
    if account:
        found = found.filter(account=account)
    return Result(rows=[_row(event, now) for event in found[:limit]], summary={"in_all": found.count()})


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
        "applied_at": event.applied_at,
        "next_attempt_at": event.next_attempt_at,
        "live": event.livemode,
        "payload": json.loads(bytes(event.payload)),
    }
    return Result(rows=[{"fact": fact, "value": value} for fact, value in facts.items()])


@webhooks.command(short_help="Apply events anew.")
@click.argument("event_ids", nargs=-1)
@_status
@_type
@_since
@_until
@click.option("--yes", is_flag=True, help="Do not ask before replaying all that were found.")
@dry_run
@renders("webhooks.replay", COLUMNS)
@acts
def replay(
    actor: Actor,
    event_ids: tuple[str, ...],
    status: str | None,
    kind: str | None,
    since: Instant | None,
    until: Instant | None,
    yes: bool,
    dry_run: bool,
) -> Result:
    """Have the events EVENT_IDS, or all of a status, a type or a time, applied anew by a worker. Applying is idempotent.

    --dry-run counts and lists them. More than one found is asked about first (--yes answers; exit code 6 where nobody can
    be asked); more than 50 are refused without the --approval of a second person.

    \b
    Example:
      ops webhooks replay evt_1Q0pQw2eZvKYlo2C --reason "posting rule added"
      ops webhooks replay --status failed --dry-run
      ops webhooks replay --type refund. --since 2026-11-01 --until 2026-11-02 --yes --reason "outage of 1 November"
    """
    from backoffice.core import clock
    from backoffice.payments import operations, queries

    chosen = any((status, kind, since, until))
    if bool(event_ids) == chosen:
        raise click.UsageError("name EVENT_IDS, or say which by --status, --type, --since or --until")
    actor.must("webhooks.replay")
    now = clock.now()
    found = _inbox(status=status, kind=kind, since=since, until=until, now=now)
    # Oldest first, as they came; each is an act of its own, so that an interrupted replay is simply repeated.
    wanted = list(event_ids) or list(found.order_by("id").values_list("event_id", flat=True))
    summary = {"events": len(wanted), "dry_run": dry_run}
    if dry_run:
        shown = [queries.webhook(event_id=one) for one in event_ids] or found.order_by("id")[:1000]
        return Result(rows=[_row(event, now) for event in shown], summary=summary)
    _agreed(actor, len(wanted), by_name=bool(event_ids), yes=yes)
    rows = []
    with progress("replaying", total=len(wanted)) as advance:
        for one in wanted:
            rows.append(_row(operations.replay_webhook(event_id=one, actor=actor, now=now), now))
            advance()
    return Result(rows=rows, summary=summary)


def _agreed(actor: Actor, count: int, *, by_name: bool, yes: bool) -> None:
    """Raise Refused for what is too much for one person, or was not confirmed."""
    from backoffice.core.errors import Refused
    from backoffice.jobs import policies

    policies.check_bulk(count=count, what="events", approved=bool(actor.approval))
    if by_name or yes or count <= 1:
        return
    if not sys.stdin.isatty():
        raise Refused(missing=f"a confirmation (--yes) for {count} events at once")
    click.confirm(f"Apply {count} events anew?", abort=True, err=True)


def _inbox(*, status: str | None, kind: str | None, since: Instant | None, until: Instant | None, now: datetime) -> Any:
    from backoffice.payments import queries

    wanted = {
        "status": status,
        "type__startswith": kind,
        "created__gte": at(since, now=now),
        "created__lt": at(until, now=now),
    }
    return queries.webhooks().filter(**{name: value for name, value in wanted.items() if value})


def _row(event: Any, now: Any) -> dict[str, Any]:
    return {
        "event": event.event_id,
        "type": event.type,
        "object": event.object_id,
        "account": event.account or None,
        "status": event.status,
        "attempts": event.attempts,
        "age": age(now - event.received_at),
        "created": event.created,
        "received_at": event.received_at,
        "origin": event.origin,
        "error": event.error or None,
    }
