"""Questions about runs and breaks, and the set-based comparison itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from django.db import connection
from django.db.models import QuerySet

from backoffice.core.errors import NotFound
from backoffice.reconciliation.models import Break, Run
from backoffice.reconciliation.policies import IMPORT_GRACE
from backoffice.reconciliation.states import FINDINGS, OPEN


@dataclass(frozen=True, slots=True)
class Difference:
    """One difference as a run finds it; `difference` is the provider's side less ours, minor units."""

    leg: str
    key: str
    cls: str
    difference: int
    currency: str
    subject: str
    occurred_at: datetime
    detail: Mapping[str, Any]


def breaks() -> QuerySet[Break]:
    """Every break, newest first."""
    return Break.objects.select_related("owner", "last_seen").order_by("-id")


def open_breaks() -> QuerySet[Break]:
    """Breaks that are a finding now."""
    return breaks().filter(status__in=FINDINGS)


def breaks_of(*, run: Run) -> QuerySet[Break]:
    """The breaks that this run saw, new ones and known ones."""
    return breaks().filter(last_seen=run)


def runs() -> QuerySet[Run]:
    """Every run, newest first."""
    return Run.objects.order_by("-id")


def break_by_code(*, code: str) -> Break:
    """One break. Raises NotFound."""
    found = breaks().filter(code=code).first()
    if found is None:
        raise NotFound(kind="break")
    return found


# Our side is the ledger: what the mirror account (1100) moved by for each movement. The imported row only says which
# journal that is, and carries amount and fee apart. A movement we imported after the provider was asked is left out.
_LINES: Final = """
WITH theirs AS (
    SELECT provider_id, reporting_category, source_id, amount, fee, net, currency, created,
           row_number() OVER (PARTITION BY source_id, reporting_category ORDER BY created, provider_id) AS nth
    FROM reconciliation_providerline WHERE run_id = %(run)s
), mirror AS (
    SELECT line.journal_id, sum(line.amount)::bigint AS net, min(line.currency) AS currency
    FROM ledger_line line JOIN ledger_account account ON account.id = line.account_id
    WHERE account.code = '1100' GROUP BY line.journal_id
), ours AS (
    SELECT bt.provider_id, bt.amount, bt.fee, mirror.net, mirror.currency, bt.created, bt.reporting_category, bt.source_id,
           journal.subject
    FROM payments_balancetransaction bt
    LEFT JOIN mirror ON mirror.journal_id = bt.journal_id
    LEFT JOIN ledger_journal journal ON journal.id = bt.journal_id
    WHERE bt.created >= %(since)s AND bt.created < %(until)s AND bt.imported_at <= %(asked)s
)
SELECT coalesce(theirs.provider_id, ours.provider_id),
       CASE
           WHEN theirs.currency <> ours.currency THEN 'currency_mismatch'
           WHEN theirs.nth > 1 AND theirs.source_id <> ''
                AND theirs.reporting_category IN ('charge', 'refund', 'transfer', 'payout', 'dispute')
                THEN 'duplicate_external'
           WHEN ours.provider_id IS NULL AND theirs.created > %(young)s THEN 'late'
           WHEN ours.net IS NULL THEN 'missing_internal'
           WHEN theirs.provider_id IS NULL THEN 'missing_external'
           WHEN theirs.amount <> ours.amount OR theirs.net - theirs.amount = ours.net - ours.amount THEN 'amount_mismatch'
           ELSE 'fee_mismatch'
       END,
       coalesce(theirs.net, 0) - coalesce(ours.net, 0),
       coalesce(theirs.currency, ours.currency),
       coalesce(ours.subject, ''),
       coalesce(theirs.created, ours.created),
       jsonb_build_object(
           'provider', CASE WHEN theirs.provider_id IS NULL THEN NULL ELSE jsonb_build_object(
               'amount', theirs.amount, 'fee', theirs.fee, 'net', theirs.net, 'currency', theirs.currency) END,
           'ledger', CASE WHEN ours.provider_id IS NULL THEN NULL ELSE jsonb_build_object(
               'amount', ours.amount, 'fee', ours.fee, 'net', ours.net, 'currency', ours.currency) END,
           'category', coalesce(theirs.reporting_category, ours.reporting_category),
           'source', coalesce(theirs.source_id, ours.source_id))
FROM theirs FULL JOIN ours USING (provider_id)
WHERE theirs.provider_id IS NULL OR ours.net IS NULL OR theirs.amount <> ours.amount OR theirs.fee <> ours.fee
      OR theirs.net <> ours.net OR theirs.currency <> ours.currency
      OR (theirs.nth > 1 AND theirs.source_id <> ''
          AND theirs.reporting_category IN ('charge', 'refund', 'transfer', 'payout', 'dispute'))
ORDER BY 1
"""

# A clearing key that is not zero: only our side is there (late, then missing at the provider), only theirs, or both differ.
# A charge's exchange position (3900) stands between two facts for a while whenever it moves, so it is judged by age alone.
_CLEARING: Final = """
WITH standing AS (
    SELECT account.id, account.code, account.key, account.currency, sum(held.balance)::bigint AS balance
    FROM ledger_balance held
    JOIN ledger_account account ON account.id = held.account_id
    JOIN ledger_chart chart ON chart.code = account.code AND chart.clears_within IS NOT NULL
    GROUP BY account.id HAVING sum(held.balance) <> 0
)
SELECT standing.code || ' ' || standing.key,
       CASE
           WHEN standing.code <> '3900' AND sides.theirs > 0 AND sides.mine > 0 THEN 'amount_mismatch'
           WHEN %(now)s - sides.first < chart.clears_within THEN 'late'
           WHEN standing.code = '3900' THEN 'fx_mismatch'
           WHEN sides.theirs = 0 THEN 'missing_external'
           ELSE 'missing_internal'
       END,
       -standing.balance, standing.currency, sides.subject, sides.first,
       jsonb_build_object('account', standing.code, 'key', standing.key, 'standing', standing.balance)
FROM standing
JOIN ledger_chart chart ON chart.code = standing.code
CROSS JOIN LATERAL (
    SELECT count(*) FILTER (WHERE journal.kind LIKE 'bt.%%') AS theirs,
           count(*) FILTER (WHERE journal.kind NOT LIKE 'bt.%%') AS mine,
           min(journal.effective_at) AS first, max(journal.subject) AS subject
    FROM ledger_line line JOIN ledger_journal journal ON journal.id = line.journal_id
    WHERE line.account_id = standing.id
) sides
WHERE standing.code <> '9900'
ORDER BY 1
"""

_SUSPENSE: Final = """
SELECT '9900 ' || account.key, 'unknown_type', -sum(held.balance)::bigint, account.currency, '', %(now)s::timestamptz,
       jsonb_build_object('account', '9900', 'key', account.key)
FROM ledger_balance held JOIN ledger_account account ON account.id = held.account_id
WHERE account.code = '9900' GROUP BY account.id HAVING sum(held.balance) <> 0 ORDER BY 1
"""

_MIRROR: Final = """
SELECT account.currency, sum(held.balance)::bigint
       - coalesce((SELECT sum(bt.net) FROM payments_balancetransaction bt
                   WHERE bt.currency = account.currency AND bt.imported_at > %(asked)s), 0)::bigint
FROM ledger_balance held JOIN ledger_account account ON account.id = held.account_id
WHERE account.code = '1100' GROUP BY account.currency
"""


def line_differences(*, run: Run, asked: datetime, now: datetime) -> list[Difference]:
    """Ledger against the provider's movements in the run's window, which must be staged; one statement."""
    values = {
        "run": run.pk,
        "since": run.since,
        "until": run.until,
        "asked": asked,
        "young": now - IMPORT_GRACE,
    }
    return _differences("line", _LINES, values)


def clearing_differences(*, now: datetime) -> list[Difference]:
    """Clearing keys that are not zero, and money in suspense."""
    return [*_differences("clearing", _CLEARING, {"now": now}), *_differences("clearing", _SUSPENSE, {"now": now})]


def mirror(*, asked: datetime) -> dict[str, int]:
    """Currency -> what the ledger says the provider holds for us, without what was imported after `asked`."""
    with connection.cursor() as cursor:
        cursor.execute(_MIRROR, {"asked": asked})
        return dict(cursor.fetchall())


def line_breaks_outside(*, since: datetime) -> dict[str, int]:
    """Currency -> the differences of open line breaks older than the window, which still explain the balance."""
    totals: dict[str, int] = {}
    rows = Break.objects.filter(leg="line", status__in=OPEN, occurred_at__lt=since).values_list(
        "currency", "difference"
    )
    for currency, difference in rows:
        totals[currency] = totals.get(currency, 0) + difference
    return totals


def _differences(leg: str, sql: str, values: Mapping[str, Any]) -> list[Difference]:
    with connection.cursor() as cursor:
        cursor.execute(sql, values)
        return [
            Difference(leg, key, cls, amount, currency, subject, at, _json(detail))
            for key, cls, amount, currency, subject, at, detail in cursor.fetchall()
        ]


def _json(detail: Any) -> Mapping[str, Any]:
    loaded: Mapping[str, Any] = json.loads(detail) if isinstance(detail, str) else detail
    return loaded
