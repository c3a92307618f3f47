"""Fetching the provider's side and comparing: the room's one call outwards, made outside any transaction.

Like `payments/gateway`, this file is an extra beside the six: it calls the provider, which operations never do."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from backoffice.core.actor import Actor
from backoffice.jobs import operations as jobs
from backoffice.payments.gateway.stripe import gateway
from backoffice.reconciliation import operations
from backoffice.reconciliation.models import Run
from backoffice.reconciliation.queries import Difference
from backoffice.workflows import import_balance_transactions

# The provider's clock may be a little ahead of ours; its newest movements belong to the run all the same.
AHEAD: Final = timedelta(minutes=5)
BEGINNING: Final = timedelta(days=400)
# The balance is asked before and after the movements: it must not have moved in between. A busy desk gets a few tries.
TRIES: Final = 5


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """What a run compared and found; `findings` are the breaks that are not merely young."""

    run: Run
    differences: list[Difference]

    @property
    def findings(self) -> list[Difference]:
        return [difference for difference in self.differences if difference.cls != "late"]


def reconcile_stripe(
    *, since: datetime | None, until: datetime | None, actor: Actor, now: datetime, dry_run: bool = False
) -> Reconciliation:
    """Compare every movement of our balance at the provider in [since, until) with the ledger, import first.

    Raises Locked while another run of this scope is under way, UpstreamUnavailable when the provider does not answer
    (nothing was written then)."""
    with jobs.running(name="reconcile.stripe", actor=actor, now=now) as handle:
        if not dry_run:
            handle.count(imported=import_balance_transactions.run(now=now))
        run = operations.begin(
            scope="stripe", since=since or now - BEGINNING, until=until or now + AHEAD, actor=actor, now=now
        )
        try:
            outcome = _compare(run, handle, dry_run)
        except BaseException as error:  # a run that cannot be finished says so, even when it is interrupted
            operations.fail(run=run, error=f"{type(error).__name__}: {error}", now=now)
            raise
        handle.count(lines=outcome.run.lines, matched=outcome.run.matched, breaks=len(outcome.findings))
    return outcome


def _compare(run: Run, handle: jobs.Run, dry_run: bool) -> Reconciliation:
    provider = gateway()
    for _ in range(TRIES):
        before = provider.balance()
        asked = handle.now()
        operations.stage(run=run, rows=provider.balance_transactions(since=run.since, until=run.until))
        if provider.balance() == before:
            break
    run, differences = operations.compare(run=run, balances=before, asked=asked, now=handle.now(), dry_run=dry_run)
    return Reconciliation(run, differences)
