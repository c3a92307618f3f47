"""Bring the provider's movements of our balance into the ledger."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from backoffice.core.actor import system
from backoffice.jobs import operations as jobs
from backoffice.jobs import queries as jobs_queries
from backoffice.payments import operations as payments
from backoffice.payments import queries as payment_queries
from backoffice.payments.gateway.stripe import gateway
from backoffice.payments.policies.seen import SeenBalanceTransaction
from backoffice.workflows import work_chargebacks

ACTOR: Final = system("balance transactions")
CURSOR: Final = "provider.balance_transactions"
# The provider may list a movement a little after the instant it carries, so each run looks back beyond the last.
OVERLAP: Final = timedelta(hours=1)
BEGINNING: Final = timedelta(days=400)


def run(*, now: datetime, since: datetime | None = None) -> int:
    """Import what is new since the last run (or `since`); returns how many movements were. Repeating it is harmless."""
    since = since or _looked_until(now)
    rows = list(gateway().balance_transactions(since=since))
    new = _unknown(rows)
    imported = payments.import_transactions(rows=new, actor=ACTOR, now=now)
    disputes = (row.source_id for row in new if row.disputed_charge)
    work_chargebacks.follow_money(sources=disputes, actor=ACTOR, now=now)
    latest = max((row.created for row in rows), default=since)
    jobs.set_cursor(name=CURSOR, value={"until": latest.isoformat()}, now=now)
    return imported


def waiting(*, now: datetime) -> list[SeenBalanceTransaction]:
    """The movements that the next run would import; asks the provider, writes nothing."""
    return _unknown(list(gateway().balance_transactions(since=_looked_until(now))))


def _looked_until(now: datetime) -> datetime:
    seen = jobs_queries.cursor(name=CURSOR)
    return datetime.fromisoformat(seen["until"]) - OVERLAP if seen else now - BEGINNING


def _unknown(rows: list[SeenBalanceTransaction]) -> list[SeenBalanceTransaction]:
    unknown = payment_queries.unknown_transactions(ids=(row.id for row in rows))
    return [row for row in rows if row.id in unknown]
