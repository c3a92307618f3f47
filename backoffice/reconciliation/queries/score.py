"""How well the books are kept, in four questions (ledger.md, 5.4): does money clear, is it known in time, is nothing left
out, is everything explained."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from django.db import connection
from django.db.models import Sum

from backoffice.core.errors import Invalid
from backoffice.core.money import Money
from backoffice.ledger import queries as ledger
from backoffice.reconciliation.models import Break, Run
from backoffice.reconciliation.states import FINDINGS
from backoffice.rulebook import queries as rulebook

WINDOW: Final = timedelta(days=30)
# In parts of a million, so that a share is a whole number as money is.
WHOLE: Final = 1_000_000
GOALS: Final = {"clearing": 999_900, "timeliness": 999_000, "completeness": WHOLE, "explainability": WHOLE}


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """The four shares in parts of a million, of the last thirty days, and what stands behind them.

    clearing: of the money that went through clearing accounts, what is not overdue there now (EUR at today's rate).
    timeliness: of the provider's movements, those in the ledger within a quarter of an hour of their making.
    completeness: of the movements that either side knows, those that both do. explainability: of the money that moved,
    what no unexplained difference is as large as."""

    clearing: int
    timeliness: int
    completeness: int
    explainability: int
    movements: int
    matched: int
    findings: int
    at_risk_eur: int
    median_age: timedelta
    p95_age: timedelta
    last_run_at: datetime | None

    @property
    def lowest(self) -> int:
        """One number for all four: a chain is as good as its weakest link."""
        return min(self.clearing, self.timeliness, self.completeness, self.explainability)

    @property
    def below_goal(self) -> tuple[str, ...]:
        """Which of the four are not as good as they should be."""
        return tuple(name for name, goal in GOALS.items() if getattr(self, name) < goal)

    @property
    def breaks_per_ten_thousand(self) -> int:
        return self.findings * 10_000 // self.movements if self.movements else 0


def percent(parts: int) -> str:
    """A share for people: "99.98 %"; 100 % only when it is whole."""
    return f"{parts // 10_000}.{parts // 100 % 100:02} %" if parts < WHOLE else "100 %"


def score(*, now: datetime) -> Score:
    """How well the books are kept, as of the last runs: as many statements for large books as for small ones."""
    since = now - WINDOW
    movements, known, in_time, matched = _movements(since, now)
    overdue = _eur(((item.amount, item.currency) for item in ledger.clearing_open(now=now) if item.due <= now), now)
    through = _eur(_through_clearing(since, now), now)
    volume = _eur(_volume(since, now), now)
    open_now = Break.objects.filter(status__in=FINDINGS)
    unexplained = open_now.filter(cls="unexplained_difference").aggregate(total=Sum("at_risk_eur", default=0))["total"]
    lines = open_now.filter(leg="line", occurred_at__gte=since)
    # One that we do not have is not among the movements: it belongs to what either side knows.
    unknown_here = lines.filter(cls="missing_internal", detail__ledger=None).count()
    unknown_there = lines.filter(cls="missing_external").count()
    ages = sorted(now - at for at in open_now.values_list("occurred_at", flat=True))
    return Score(
        clearing=_share(max(through, overdue) - overdue, max(through, overdue)),
        timeliness=_share(in_time, movements),
        completeness=_share(known - unknown_there, movements + unknown_here),
        explainability=_share(max(volume, unexplained) - unexplained, max(volume, unexplained)),
        movements=movements,
        matched=matched,
        findings=len(ages),
        at_risk_eur=open_now.aggregate(total=Sum("at_risk_eur", default=0))["total"],
        median_age=ages[len(ages) // 2] if ages else timedelta(0),
        p95_age=ages[len(ages) * 95 // 100] if ages else timedelta(0),
        last_run_at=Run.objects.filter(status="succeeded", scope__in=["stripe", "all"])
        .order_by("-id")
        .values_list("finished_at", flat=True)
        .first(),
    )


def _share(part: int, whole: int) -> int:
    """Rounded down: only what is whole is a hundred per cent."""
    return part * WHOLE // whole if whole else WHOLE


def _movements(since: datetime, now: datetime) -> tuple[int, int, int, int]:
    """Of the movements in the window: all, those with a journal, those imported in time, those found equal."""
    ((movements, known, in_time, matched),) = _rows(
        """
        SELECT count(*), count(*) FILTER (WHERE journal_id IS NOT NULL OR net = 0),
               count(*) FILTER (WHERE imported_at - created <= %(grace)s),
               count(*) FILTER (WHERE EXISTS (SELECT FROM reconciliation_match WHERE movement_id = bt.id))
        FROM payments_balancetransaction bt WHERE created >= %(since)s AND created < %(now)s
        """,
        since=since,
        now=now,
        grace=rulebook.reconciliation(on=now.date()).rules.import_grace,
    )
    return movements, known, in_time, matched


def _through_clearing(since: datetime, now: datetime) -> list[tuple[int, str]]:
    codes = [code for code, account in ledger.chart().items() if account.clears_within is not None]
    return [(row.debits, row.currency) for row in ledger.turnover(since=since, until=now, codes=codes)]


def _volume(since: datetime, now: datetime) -> list[tuple[int, str]]:
    return [
        (amount, currency)
        for currency, amount in _rows(
            """
            SELECT currency, sum(abs(net))::bigint FROM payments_balancetransaction
            WHERE created >= %(since)s AND created < %(now)s GROUP BY currency
            """,
            since=since,
            now=now,
        )
    ]


def _eur(amounts: Iterable[tuple[int, str]], now: datetime) -> int:
    """The sum of amounts in euro cents, signs left out; a currency without a rate counts as it stands."""
    total = 0
    for amount, currency in amounts:
        money = Money(abs(amount), currency)
        try:
            total += rulebook.rate(base=currency, quote="EUR", on=now.date()).convert(money).amount
        except Invalid:
            total += money.amount
    return total


def _rows(sql: str, **values: Any) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, values)
        return list(cursor.fetchall())
