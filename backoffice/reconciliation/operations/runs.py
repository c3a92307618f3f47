"""A run, step by step: begun, given the provider's side, classified from one snapshot, written in chunks, finished.

Each step commits with a checkpoint, so that a run that was cut off goes on where it was: what was fetched is not fetched
again, and what was classified stays as that snapshot saw it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from django.db import connection, transaction

from backoffice.audit import operations as audit
from backoffice.core.actor import Actor
from backoffice.core.errors import Invalid
from backoffice.core.money import Money
from backoffice.payments.policies.seen import SeenBalanceTransaction
from backoffice.reconciliation import policies, queries
from backoffice.reconciliation.models import ProviderLine, ProviderState, Run, StagedDifference
from backoffice.reconciliation.operations.writing import heal, write_chunk
from backoffice.reconciliation.queries import legs
from backoffice.reconciliation.states import LEGS, OPEN, SCOPES, WINDOWED

CHUNK: Final = 1_000
# From so many rows on the planner must know what was staged, or it loops where it should hash.
_WORTH_ANALYSING: Final = 5_000

_STAGE: Final = (
    "COPY reconciliation_providerline "
    "(run_id, provider_id, reporting_category, source_id, amount, fee, net, currency, created) FROM STDIN"
)
_STAGE_STATES: Final = (
    "COPY reconciliation_providerstate "
    "(run_id, kind, provider_id, account, status, amount, currency, created) FROM STDIN"
)
_INTO: Final = """
INSERT INTO reconciliation_stageddifference AS known
    (run_id, leg, key, fact, hits, difference, at_risk, currency, subject, occurred_at, detail)
SELECT %(run)s, found.* FROM ({found}) AS found
    (leg, key, fact, hits, difference, at_risk, currency, subject, occurred_at, detail)
ON CONFLICT (run_id, leg, key, currency) DO UPDATE
SET hits = known.hits || excluded.hits, difference = known.difference + excluded.difference,
    at_risk = greatest(known.at_risk, excluded.at_risk), detail = excluded.detail || known.detail
"""
# Equal movements are kept as matches, once; one that no longer agrees is none any more. Loops are off for the pairing: the
# matches may be none when it is planned and a million while it runs.
_PAIR: Final = """
WITH {pairs}, matched AS (
    INSERT INTO reconciliation_match (movement_id, journal_id, run_id)
    SELECT movement_id, journal_id, %(run)s FROM pairs
    WHERE equal AND NOT EXISTS (SELECT FROM reconciliation_match known WHERE known.movement_id = pairs.movement_id)
)
INSERT INTO reconciliation_unequal
SELECT line_id, movement_id, journal_id, our_net, our_currency FROM pairs WHERE equal IS NOT TRUE
"""
# One fact is one break: the first leg that sees it has it, unless that only waits; the classes of the others are flags.
_ONE_FACT: Final = """
WITH ranked AS (
    SELECT id, leg, fact, hits,
           first_value(id) OVER best AS winner, first_value(leg) OVER best AS winning_leg
    FROM reconciliation_stageddifference WHERE run_id = %(run)s AND fact <> ''
    WINDOW best AS (PARTITION BY fact ORDER BY hits = '["late"]', array_position(%(legs)s::text[], leg::text), key)
), beaten AS (
    SELECT * FROM ranked WHERE leg <> winning_leg
), flagged AS (
    UPDATE reconciliation_stageddifference kept SET hits = kept.hits || more.hits
    FROM (SELECT winner, jsonb_agg(hit) AS hits FROM beaten, jsonb_array_elements(beaten.hits) hit
          WHERE hit <> '"late"' GROUP BY winner) more
    WHERE kept.id = more.winner
)
DELETE FROM reconciliation_stageddifference WHERE id IN (SELECT id FROM beaten)
"""
# The same for what another scope's run has found, or one of another window, and this one does not look at.
_KNOWN_ELSEWHERE: Final = """
DELETE FROM reconciliation_stageddifference mine
USING reconciliation_break known
WHERE mine.run_id = %(run)s AND mine.fact <> '' AND known.fact = mine.fact AND known.status = ANY(%(open)s)
  AND known.cls <> 'late'
  AND (NOT known.leg = ANY(%(compared)s) OR known.leg = ANY(%(windowed)s)
       AND NOT (known.occurred_at >= %(since)s AND known.occurred_at < %(until)s))
  AND (mine.hits = '["late"]'
       OR array_position(%(legs)s::text[], known.leg::text) < array_position(%(legs)s::text[], mine.leg::text))
"""
_PLACES: Final = """
UPDATE reconciliation_stageddifference staged SET place = ordered.place
FROM (SELECT id, row_number() OVER (ORDER BY leg COLLATE "C", key COLLATE "C", currency COLLATE "C") AS place
      FROM reconciliation_stageddifference WHERE run_id = %(run)s) ordered
WHERE staged.id = ordered.id
"""
_WATERMARKS: Final = """
SELECT (SELECT max(id) FROM ledger_journal), (SELECT max(id) FROM payments_balancetransaction),
       (SELECT max(id) FROM reconciliation_statementline),
       (SELECT max(created) FROM reconciliation_providerline WHERE run_id = %(run)s)
"""


def begin(*, scope: str, since: datetime, until: datetime, actor: Actor, now: datetime, source: str = "api") -> Run:
    """Open a run over [since, until); an earlier one of the scope that was cut off is not gone on with any more.

    Raises Invalid for an unknown scope or an empty window."""
    actor.must("reconciliation.run")
    if scope not in SCOPES:
        raise Invalid(f"scope: write one of {', '.join(SCOPES)}.", field="scope")
    if until <= since:
        raise Invalid("until: must be after since.", field="until")
    with transaction.atomic():
        # The scope's lock is held, so whatever else says that it is running has died.
        for dead in Run.objects.filter(scope=scope, status__in=["running", "interrupted"]):
            _forget_stage(dead)
            Run.objects.filter(pk=dead.pk).update(
                status="interrupted", checkpoint={}, finished_at=now, error="cut off; a later run began anew"
            )
        run = Run.objects.create(
            scope=scope,
            since=since,
            until=until,
            actor=actor.name,
            rules=policies.RULES,
            source=source,
            started_at=now,
        )
        audit.record(
            actor=actor,
            verb="reconciliation.run",
            kind="reconciliation",
            id=run.pk,
            after={"scope": scope, "since": since.isoformat(), "until": until.isoformat()},
            now=now,
        )
    return run


def stage(
    *,
    run: Run,
    rows: Iterable[SeenBalanceTransaction] = (),
    states: Iterable[Sequence[Any]] = (),
    balances: Mapping[str, Money] | None = None,
    asked: datetime,
    left_out: Sequence[str] = (),
    listed: bool = True,
) -> int:
    """Lay the provider's side beside ours by COPY, replacing what an interrupted attempt left; returns how many movements.

    `rows` are its movements, `states` its objects as (kind, id, account, status, minor units, currency, created).
    `balances` is what it holds for us, None when it was not asked; `left_out` the categories that the source does not
    carry; `listed` says that the payouts among `states` are all there are in the window."""
    count = 0
    with transaction.atomic():
        _forget_stage(run)
        with connection.cursor() as cursor:
            with cursor.copy(_STAGE) as copy:
                for row in rows:
                    copy.write_row(
                        (
                            run.pk,
                            row.id,
                            row.reporting_category,
                            row.source_id,
                            row.amount.amount,
                            row.fee.amount,
                            row.net.amount,
                            row.net.currency,
                            row.created,
                        )
                    )
                    count += 1
            with cursor.copy(_STAGE_STATES) as copy:
                for state in states:
                    copy.write_row((run.pk, *state))
        if run.source == "file":
            _keep_one_of_each(run)
            count = ProviderLine.objects.filter(run=run).count()
        run.checkpoint = {
            "step": "staged",
            "asked": asked.isoformat(),
            "balances": None if balances is None else {name: money.amount for name, money in balances.items()},
            "left_out": list(left_out),
            "listed": listed,
            "lines": count,
        }
        run.lines = count
        run.save(update_fields=["checkpoint", "lines"])
    if count >= _WORTH_ANALYSING:
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE reconciliation_providerline")
    return count


def is_staged(*, run: Run) -> bool:
    """Whether what the checkpoint vouches for is still there (the staging tables are not logged: they do not outlive a
    crash of the database)."""
    if run.checkpoint.get("step") == "staged":
        staged: int = run.checkpoint["lines"]
        return ProviderLine.objects.filter(run=run).count() == staged
    return "step" in run.checkpoint


def classify(*, run: Run, now: datetime) -> None:
    """Compare both sides from one snapshot (REPEATABLE READ) and lay down every difference, with its place in the order of
    writing. Movements that are equal are kept as matches."""
    outermost = not connection.in_atomic_block
    with transaction.atomic():
        if outermost:
            with connection.cursor() as cursor:
                cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        compared = _legs(run)
        asked = datetime.fromisoformat(run.checkpoint["asked"])
        values = _values(run, asked, now)
        ours = queries.mirror(asked=asked) if {"balance", "line"} & set(compared) else {}  # a pass over its lines
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL work_mem = '64MB'")
            StagedDifference.objects.filter(run=run).delete()
            for sql in _statements(run, compared, ours, asked):
                cursor.execute(sql, values)
            if "balance" in compared:
                run.explained = _explain(run, ours, now, "line" in compared)
            cursor.execute(_ONE_FACT, values)
            cursor.execute(_KNOWN_ELSEWHERE, values)
            cursor.execute(_PLACES, values)
            cursor.execute(_WATERMARKS, values)
            marks = cursor.fetchone()
        names = ("journal", "movement", "statement_line", "provider")
        run.watermarks = {
            name: str(mark) if mark is not None else None for name, mark in zip(names, marks, strict=True)
        }
        found = StagedDifference.objects.filter(run=run)
        run.found = found.count()
        run.matched = (
            run.lines - found.filter(leg="line", detail__provider__isnull=False).exclude(detail__provider=None).count()
        )
        _, run.input_digest = queries.input_digest(run=run)
        run.checkpoint = {"step": "classified", "written": 0, "compared": list(compared)}
        run.save()


def write(*, run: Run, now: datetime, chunk: int = CHUNK, tell: Callable[[], None] = lambda: None) -> None:
    """Write the differences to their breaks, `chunk` at a time, each chunk together with its checkpoint. A break is found
    by leg and key, whatever its class: seen again it is the same one. Repeating it writes no new one."""
    written = int(run.checkpoint["written"])
    while True:
        with transaction.atomic():
            rows = list(queries.staged(run=run, after=written, limit=chunk))
            if not rows:
                return
            write_chunk(run=run, differences=[found for _, found in rows], now=now)
            written = rows[-1][0]
            run.checkpoint = {**run.checkpoint, "written": written}
            run.save(update_fields=["checkpoint"])
        tell()


def finish(*, run: Run, now: datetime) -> Run:
    """Heal what this run looked for and did not find, seal its digest, and clear what it had laid side by side."""
    with transaction.atomic():
        heal(run=run, compared=run.checkpoint["compared"], now=now)
        run.output_digest = queries.output_digest(run=run)
        counts = Counter(found.cls for _, found in queries.staged(run=run))
        run.counts = dict(sorted(counts.items()))
        run.status, run.finished_at, run.checkpoint = "succeeded", now, {}
        run.save()
        _forget_stage(run)
    return run


def interrupt(*, run: Run, error: str, now: datetime) -> None:
    """Note that a run was cut off; with a checkpoint it can go on."""
    Run.objects.filter(pk=run.pk).update(status="interrupted", error=error[:300], finished_at=now)


def fail(*, run: Run, error: str, now: datetime) -> None:
    """Close a run that could not be finished; what it had staged goes, what it had written stays and is written anew."""
    with transaction.atomic():
        _forget_stage(run)
        Run.objects.filter(pk=run.pk).update(status="failed", error=error[:300], finished_at=now, checkpoint={})


def discard(*, run: Run) -> None:
    """Leave nothing of a dry run."""
    with transaction.atomic():
        _forget_stage(run)
        Run.objects.filter(pk=run.pk).delete()


# Private --------------------------------------------------------------------------------------------------------------


def _legs(run: Run) -> tuple[str, ...]:
    """The legs of a run's scope; without the provider's balances there is nothing to explain."""
    return tuple(leg for leg in SCOPES[run.scope] if leg != "balance" or run.checkpoint["balances"] is not None)


def _values(run: Run, asked: datetime, now: datetime) -> dict[str, Any]:
    compared = _legs(run)
    return {
        "run": run.pk,
        "since": run.since,
        "until": run.until,
        "asked": asked,
        "now": now,
        "young": now - policies.IMPORT_GRACE,
        "overdue": now - policies.STATUS_GRACE,
        "band": policies.FX_BAND_BASIS_POINTS,
        "left_out": run.checkpoint["left_out"],
        "listed": run.checkpoint["listed"],
        "mirrors": queries.mirror_accounts(),
        "legs": list(LEGS),
        "open": list(OPEN),
        "compared": list(compared),
        "windowed": list(WINDOWED),
    }


def _statements(run: Run, compared: Sequence[str], ours: Mapping[str, int], asked: datetime) -> list[str]:
    by_leg: dict[str, tuple[str, ...]] = {
        "payout": (legs.PAYOUTS,),
        "booking": (legs.BOOKINGS,),
        "host": (legs.HOSTS,),
        "status": (legs.STATUSES,),
    }
    statements = [_INTO.format(found=found) for leg in compared for found in by_leg.get(leg, ())]
    if "line" in compared:
        # Strays are looked for only when the mirror is not what its movements add up to: it is a join of everything.
        more = (
            legs.DUPLICATES,
            legs.RATES,
            *(() if queries.mirror_is_whole(ours=ours, asked=asked) else (legs.STRAYS,)),
        )
        statements += [*_compare_lines(run), *(_INTO.format(found=found) for found in more)]
    if "bank" in compared or "clearing" in compared:
        wanted = f"SELECT * FROM ({legs.CLEARING}) AS s (leg, k, f, h, d, r, c, s, o, t) WHERE leg = ANY(%(compared)s)"  # noqa: S608
        statements.append(_INTO.format(found=wanted))
    return statements


def _compare_lines(run: Run) -> list[str]:
    return [
        """
        CREATE TEMPORARY TABLE reconciliation_unequal (
            line_id bigint, movement_id bigint, journal_id bigint, our_net bigint, our_currency text) ON COMMIT DROP
        """,
        "SET LOCAL enable_nestloop = off",
        _PAIR.format(pairs=legs.pairs(lines=run.lines)),
        "SET LOCAL enable_nestloop = on",
        "ANALYZE reconciliation_unequal",
        """
        DELETE FROM reconciliation_match known USING reconciliation_unequal differing
        WHERE known.movement_id = differing.movement_id
        """,
        _INTO.format(found=legs.LINES),
        "DROP TABLE reconciliation_unequal",
    ]


def _explain(run: Run, ours: Mapping[str, int], now: datetime, lines_compared: bool) -> dict[str, dict[str, int]]:
    """Explained difference = total difference, per currency; what is left over is the worst class of all."""
    theirs: Mapping[str, int] = run.checkpoint["balances"]
    named = queries.named(run=run, lines_compared=lines_compared)
    explained: dict[str, dict[str, int]] = {}
    for currency in sorted({*ours, *theirs}):
        total = theirs.get(currency, 0) - ours.get(currency, 0)
        left = total - named.get(currency, 0)
        explained[currency] = {
            "provider": theirs.get(currency, 0),
            "mirror": ours.get(currency, 0),
            "explained": named.get(currency, 0),
            "unexplained": left,
        }
        if left:
            StagedDifference.objects.create(
                run=run,
                leg="balance",
                key=currency,
                hits=["unexplained_difference"],
                difference=left,
                at_risk=abs(left),
                currency=currency,
                occurred_at=now,
                detail=explained[currency],
            )
    return explained


def _keep_one_of_each(run: Run) -> None:
    """Two reports may overlap: a movement that is in both is one."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            DELETE FROM reconciliation_providerline WHERE run_id = %(run)s AND id NOT IN (
                SELECT min(id) FROM reconciliation_providerline WHERE run_id = %(run)s GROUP BY provider_id)
            """,
            {"run": run.pk},
        )


def _forget_stage(run: Run) -> None:
    """Clear the staging tables of a run. A truncation leaves nothing to be cleaned up after a million rows; it is possible
    when no other run's rows are there."""
    others = ProviderLine.objects.exclude(run=run).exists()
    with connection.cursor() as cursor:
        if others:
            ProviderLine.objects.filter(run=run).delete()
        else:
            cursor.execute("TRUNCATE reconciliation_providerline")
    ProviderState.objects.filter(run=run).delete()
    StagedDifference.objects.filter(run=run).delete()
