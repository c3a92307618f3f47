"""`ops audit`: prove the log of who did what, and read it."""

from __future__ import annotations

import time
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

import click

from ops_cli.bootstrap import acts, reads
from ops_cli.output import Column, Exit, Result, dry_run, progress, renders
from ops_cli.times import INSTANT, at

if TYPE_CHECKING:
    from backoffice.core.actor import Actor

FINDINGS: Final = (Column("seq", "Entry", right=True), Column("finding"))
ENTRIES: Final = (
    Column("seq", "Entry", right=True),
    Column("at"),
    Column("actor"),
    Column("verb"),
    Column("object"),
    Column("before"),
    Column("after"),
    Column("reason"),
)


@click.group(short_help="Prove the log of who did what, and read it.")
def audit() -> None:
    """Prove the log of who did what, and read it.

    \b
    Example:
      ops audit verify
      ops audit list --kind booking --id BK-7QF3K2
    """


@audit.command(short_help="Prove that nothing in the log was changed, removed or inserted.")
@click.option("--since", type=INSTANT, help="Only blocks sealed since then, trusting what is older.  [default: all]")
@renders("audit.verify", FINDINGS)
@reads
def verify(actor: Actor, since: datetime | timedelta | None) -> Result:
    """Compare every entry with the hash it was written with, every block with its entries, the blocks with each other
    and with the anchors outside the database. Names the first altered, missing or inserted entry.

    Exit code 0 when the log is as it was written, 3 otherwise.

    \b
    Example:
      ops audit verify
      ops audit verify --since 7d --format json
    """
    from backoffice.audit import queries
    from backoffice.core import clock

    actor.must("audit.verify")
    began = time.monotonic()
    with progress("proving the log") as advance:
        found = queries.verify(since=at(since, now=clock.now()))
        advance(found.checked)
    warnings = []
    if found.unanchored and found.ok:
        warnings.append(
            f"{found.unanchored} blocks have no anchor outside the database yet; `ops audit seal` writes them"
        )
    return Result(
        rows=[] if found.first_bad is None else [{"seq": found.first_bad[0], "finding": found.first_bad[1]}],
        summary={
            "intact": found.ok,
            "entries": found.checked,
            "blocks": found.blocks,
            "bad": found.bad,
            "not_sealed_yet": found.unsealed,
            "anchors_compared": found.anchors_compared,
            "unanchored": found.unanchored,
            "head": found.head,
            "seconds": round(time.monotonic() - began, 2),
        },
        warnings=warnings,
        exit_code=Exit.DONE if found.ok else Exit.FINDINGS,
    )


@audit.command("list", short_help="List entries, newest first.")
@click.option("--kind", default="", help="Of what: booking, refund, person, …")
@click.option("--id", "object_id", default="", help="Of which one: its code.")
@click.option("--verb", default="", help="Only this act (refunds.request).")
@click.option("--by", "person", help="By this person (PN-…).")
@click.option("--since", type=INSTANT, help="From this instant, or so long ago (6h).")
@click.option("--until", type=INSTANT, help="Up to but not including it.")
@click.option("--limit", type=click.IntRange(1, 100_000), default=50, show_default=True, help="At most so many.")
@renders("audit.list", ENTRIES)
@reads
def list_entries(
    actor: Actor,
    kind: str,
    object_id: str,
    verb: str,
    person: str | None,
    since: datetime | timedelta | None,
    until: datetime | timedelta | None,
    limit: int,
) -> Result:
    """List who did what, newest first. Guests and hosts are known by id; what is personal is not in the log.

    \b
    Example:
      ops audit list --kind booking --id BK-7QF3K2
      ops audit list --verb refunds.request --since 7d --format csv
    """
    from backoffice.audit import queries
    from backoffice.core import clock
    from backoffice.people import queries as people

    actor.must("audit.view")
    now = clock.now()
    found = queries.entries(
        kind=kind,
        id=object_id,
        verb=verb,
        actor_id=None if person is None else people.person_by_code(code=person.upper()).pk,
        since=at(since, now=now),
        until=at(until, now=now),
    )
    return Result(
        rows=[
            {
                "seq": entry.seq,
                "at": entry.at,
                "actor": f"{entry.actor_kind} {entry.actor_name or entry.actor_id or ''}".strip(),
                "verb": entry.verb,
                "object": f"{entry.object_kind} {entry.object_id}",
                "before": entry.before,
                "after": entry.after,
                "reason": entry.reason or None,
                "approval": entry.approval_ref or None,
                "request_id": entry.request_id or None,
                "address": entry.address or None,
            }
            for entry in found[:limit]
        ]
    )


@audit.command(short_help="Seal what waits, and anchor it outside the database.")
@dry_run
@renders("audit.seal")
@acts
def seal(actor: Actor, dry_run: bool) -> Result:
    """Seal every entry that is older than all running transactions, and write the roots outside the database.

    Beat does this every half minute; by hand it is for a desk without beat.

    \b
    Example:
      ops audit seal
    """
    from backoffice.audit import operations, queries
    from backoffice.core import clock
    from backoffice.jobs import operations as jobs

    now = clock.now()
    actor.must("jobs.run")
    if dry_run:
        return Result(summary={"would_seal": queries.backlog().unsealed, "dry_run": True})
    with jobs.running(name="audit.seal", actor=actor, now=now) as run:
        sealed = operations.seal(now=now)
        run.count(sealed=sealed)
    after = queries.backlog()
    return Result(summary={"sealed": sealed, "not_sealed_yet": after.unsealed, "last_block": after.last_block})
