"""Questions about what hosts owe, since when, and what is being taken back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from django.db import connection
from django.db.models import Exists, F, OuterRef, Q, QuerySet, Subquery

from backoffice.core.errors import NotFound
from backoffice.core.money import Money
from backoffice.jobs import queries as jobs
from backoffice.ledger import queries as ledger
from backoffice.payouts.models import Clawback, Payout, WriteOff
from backoffice.payouts.policies.clawbacks import OpenDebt, Reversible, by_age
from backoffice.payouts.states import SENT
from backoffice.people.models import User

HOST_RECEIVABLE: Final = "1310"
UNDER_WAY: Final = ("requested", "submitted", "indeterminate")


@dataclass(frozen=True, slots=True, kw_only=True)
class Receivable:
    """What one host owes us in one currency: `amount` is the sum of `ages`, of `debts`, and the ledger's balance.

    `coming_back` is asked back from the provider already and no longer part of it; `proposed` is the write-off that waits
    for a second person."""

    host_id: int
    host_code: str
    host_name: str
    amount: Money
    ages: Mapping[str, Money]
    debts: Sequence[OpenDebt]
    oldest: datetime
    coming_back: Money
    proposed: str


# What is paid back is set against the oldest debt first. A reversal we asked for and were refused never happened: it and
# its correction are both left out, so that a refusal does not make an old debt young.
_OPEN_DEBTS: Final = """
WITH owing AS (
    SELECT account.id, account.key, account.currency
    FROM ledger_account account JOIN ledger_balance kept ON kept.account_id = account.id
    WHERE account.code = %(code)s AND (%(key)s::text IS NULL OR account.key = %(key)s)
    GROUP BY account.id HAVING sum(kept.balance) > 0
), moves AS (
    SELECT owing.id AS account_id, line.id, line.journal_id, line.amount, journal.effective_at
    FROM owing
    JOIN ledger_line line ON line.account_id = owing.id
    JOIN ledger_journal journal ON journal.id = line.journal_id
    WHERE journal.reverses_id IS NULL
      AND NOT EXISTS (SELECT 1 FROM ledger_journal undone WHERE undone.reverses_id = journal.id)
), debts AS (
    SELECT account_id, id, journal_id, amount, effective_at,
           sum(amount) OVER (PARTITION BY account_id ORDER BY effective_at, id) AS running
    FROM moves WHERE amount > 0
), paid AS (
    SELECT account_id, -sum(amount) AS total FROM moves WHERE amount < 0 GROUP BY account_id
)
SELECT owing.key, owing.currency, debts.effective_at, debts.journal_id,
       least(debts.amount, debts.running - coalesce(paid.total, 0))::bigint
FROM debts
JOIN owing ON owing.id = debts.account_id
LEFT JOIN paid ON paid.account_id = debts.account_id
WHERE debts.running > coalesce(paid.total, 0)
ORDER BY owing.key, owing.currency, debts.effective_at, debts.id
"""


def clawbacks() -> QuerySet[Clawback]:
    """Every clawback, newest first."""
    return Clawback.objects.select_related("payout__booking", "host", "requested_by").order_by("-id")


def clawback(*, code: str) -> Clawback:
    """One clawback. Raises NotFound."""
    found = clawbacks().filter(code=code).first()
    if found is None:
        raise NotFound(kind="clawback")
    return found


def clawback_key(*, clawback: Clawback) -> str:
    """What its reversal is asked for and posted under; a try after a refusal is another request."""
    return f"clawback:{clawback.code}:{clawback.tries}"


def owed(*, host_code: str, currency: str) -> Money:
    """What a host owes now: the balance of 1310, less what has been asked back."""
    return Money(ledger.balance(account=HOST_RECEIVABLE, key=host_code, currency=currency), currency)


def receivables(*, now: datetime, host_code: str | None = None) -> list[Receivable]:
    """What every host (or one) owes, per currency, by age; whoever has owed the longest comes first."""
    debts = _open_debts(host_code)
    hosts = {host.code: host for host in User.objects.filter(code__in={code for code, _ in debts})}
    proposed = {
        (row.host.code, row.currency): row.code
        for row in WriteOff.objects.filter(status="proposed", host__in=hosts.values()).select_related("host")
    }
    coming: dict[tuple[str, str], int] = {}
    for row in Clawback.objects.filter(status__in=UNDER_WAY, host__in=hosts.values()).select_related("host"):
        place = (row.host.code, row.currency)
        coming[place] = coming.get(place, 0) + row.amount
    found = [
        Receivable(
            host_id=hosts[code].id,
            host_code=code,
            host_name=hosts[code].name,
            amount=Money.sum((debt.amount for debt in rows), currency),
            ages=by_age(debts=rows, currency=currency, now=now),
            debts=rows,
            oldest=rows[0].since,
            coming_back=Money(coming.get((code, currency), 0), currency),
            proposed=proposed.get((code, currency), ""),
        )
        for (code, currency), rows in debts.items()
        if code in hosts
    ]
    return sorted(found, key=lambda one: (one.oldest, one.host_code, one.amount.currency))


def reversible(*, host_id: int, currency: str, limit: int = 200) -> list[Reversible]:
    """The host's payouts of a currency whose transfers can still be reversed in part or whole, the newest `limit` of them."""
    own = Clawback.objects.filter(payout=OuterRef("pk"))
    refused = own.filter(status="failed", settled_at__isnull=False).order_by("-settled_at")
    rows = (
        Payout.objects.filter(
            host_id=host_id, transfer_currency=currency, status__in=SENT, transfer_amount__gt=F("reversed_amount")
        )
        .annotate(
            under_way=Exists(own.filter(status__in=UNDER_WAY)), refused_at=Subquery(refused.values("settled_at")[:1])
        )
        .order_by("-transferred_at", "-id")
    )
    return [
        Reversible(
            payout=row.code,
            sent_at=row.transferred_at or row.created_at,
            left=Money(row.transfer_amount - row.reversed_amount, currency),
            under_way=row.under_way,
            refused_at=row.refused_at,
        )
        for row in rows[:limit]
    ]


def clawbacks_to_send(*, older_than: datetime, after: str | None = None, limit: int = 100) -> list[str]:
    """Clawbacks whose hint was lost, or whose answer was."""
    waiting = Q(status="requested", requested_at__lt=older_than)
    lost = Q(status__in=["submitted", "indeterminate"], submitted_at__lt=older_than)
    rows = Clawback.objects.filter(waiting | lost).order_by("id")
    return jobs.next_of(rows=rows, key="code", after=after, limit=limit)


def clawbacks_of_transfer(*, transfer_id: str) -> list[str]:
    """Clawbacks under way of the payout that this transfer carried."""
    rows = Clawback.objects.filter(payout__transfer_id=transfer_id, status__in=UNDER_WAY)
    return list(rows.order_by("id").values_list("code", flat=True))


def _open_debts(host_code: str | None) -> dict[tuple[str, str], list[OpenDebt]]:
    found: dict[tuple[str, str], list[OpenDebt]] = {}
    with connection.cursor() as cursor:
        cursor.execute(_OPEN_DEBTS, {"code": HOST_RECEIVABLE, "key": host_code})
        for key, currency, since, journal_id, amount in cursor.fetchall():
            debt = OpenDebt(amount=Money(amount, currency), since=since, journal_id=journal_id)
            found.setdefault((key, currency), []).append(debt)
    return found
