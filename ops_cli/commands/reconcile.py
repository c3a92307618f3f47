"""`ops reconcile`: compare the ledger with the provider's own records, line by line."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import click

from ops_cli.bootstrap import acts
from ops_cli.output import Column, Exit, Result, dry_run, money, progress, renders
from ops_cli.times import INSTANT, age, at

if TYPE_CHECKING:
    from backoffice.core.actor import Actor
    from backoffice.reconciliation.queries import Difference

COLUMNS: Final = (
    Column("code", "Break"),
    Column("class"),
    Column("severity"),
    Column("difference", money="currency"),
    Column("subject"),
    Column("key"),
    Column("age"),
    Column("status"),
    Column("action"),
)


@click.group(short_help="Compare the ledger with the provider, line by line.")
def reconcile() -> None:
    """Compare the ledger with the provider's own records; every difference is a named break.

    \b
    Example:
      ops reconcile stripe
      ops reconcile stripe --since 30d --dry-run
    """


@reconcile.command(short_help="Compare the ledger with Stripe's balance transactions.")
@click.option("--since", type=INSTANT, help="From this instant, or so long ago (30d).  [default: 400 days ago]")
@click.option("--until", type=INSTANT, help="Up to but not including it.  [default: now]")
@dry_run
@renders("reconcile.stripe", COLUMNS)
@acts
def stripe(
    actor: Actor, since: datetime | timedelta | None, until: datetime | timedelta | None, dry_run: bool
) -> Result:
    """Import the provider's newest movements, compare all of them with the ledger, and keep each difference as a break.

    Exit code 0 when every movement matches, 3 with findings (differences that are merely young are shown, and are
    none), 5 while another run is under way, 7 when the provider does not answer. Running it again finds the same.

    \b
    Example:
      ops reconcile stripe
      ops reconcile stripe --since 2026-10-01 --until 2026-11-01 --format json
      ops reconcile stripe --dry-run
    """
    from backoffice.core import clock
    from backoffice.reconciliation import provider, queries

    now = clock.now()
    with progress("comparing") as advance:
        outcome = provider.reconcile_stripe(
            since=at(since, now=now), until=at(until, now=now), actor=actor, now=now, dry_run=dry_run
        )
        advance()
    kept = {} if dry_run else {_identity(found): found for found in queries.breaks_of(run=outcome.run)}
    findings_first = sorted(outcome.differences, key=lambda difference: difference.cls == "late")
    rows = [_row(difference, kept.get(_identity(difference)), now) for difference in findings_first]
    run = outcome.run
    return Result(
        rows=rows,
        summary={
            "lines": run.lines,
            "matched": run.matched,
            "findings": len(outcome.findings),
            "young": len(outcome.differences) - len(outcome.findings),
            "since": run.since,
            "until": run.until,
            "run": None if dry_run else run.pk,
            "explained": {
                currency: {name: money(amount, currency) for name, amount in figures.items()}
                for currency, figures in run.explained.items()
            },
            "digest": run.output_digest,
            "dry_run": dry_run,
        },
        exit_code=Exit.FINDINGS if outcome.findings else Exit.DONE,
    )


def _identity(found: Any) -> tuple[str, str, str]:
    """What makes a difference and a kept break the same (reconciliation.policies.identity)."""
    return found.leg, found.key, found.currency


def _row(difference: Difference, kept: Any, now: datetime) -> dict[str, Any]:
    from backoffice.reconciliation.policies import advice

    what = advice(difference.cls)
    return {
        "code": kept.code if kept is not None else None,
        "class": difference.cls,
        "severity": what.severity,
        "difference": difference.difference,
        "currency": difference.currency,
        "leg": difference.leg,
        "key": difference.key,
        "subject": difference.subject or None,
        "occurred_at": difference.occurred_at,
        "age": age(now - difference.occurred_at),
        "status": kept.status if kept is not None else "not kept",
        "action": what.action,
        "detail": dict(difference.detail),
    }
