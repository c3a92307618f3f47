"""A run, step by step: begun, given the provider's side, classified from one snapshot, written in chunks, finished.

Each step commits with a checkpoint, so that a run that was cut off goes on where it was: what was fetched is not fetched
again, and what was classified stays as that snapshot saw it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import date, datetime
from decimal import Decimal
from itertools import islice
from typing import Any, Final

from django.db import connection, transaction
from django.db.backends.utils import CursorWrapper
from django.db.models import Q

from backoffice.audit import operations as audit
from backoffice.core.actor import Actor
from backoffice.core.errors import Invalid
from backoffice.core.money import Money
from backoffice.jobs import operations as jobs
from backoffice.payments.policies.seen import SeenBalanceTransaction
from backoffice.reconciliation import policies, queries
from backoffice.reconciliation.models import ProviderLine, ProviderState, Run, StagedDifference
from backoffice.reconciliation.operations.writing import heal, write_chunk
from backoffice.reconciliation.queries import legs
from backoffice.reconciliation.states import LEGS, OPEN, SCOPES, WINDOWED
from backoffice.rulebook import queries as rulebook

CHUNK: Final = 1_000
# So many movements of the provider are kept in one transaction, and held in memory.
_PAGE: Final = 5_000
# From so many rows on the planner must know what was staged, or it loops where it should hash.
_WORTH_ANALYSING: Final = 5_000
# So many bytes of them are not deleted row by row.
_WORTH_TRUNCATING: Final = 250_000

# So many minor units are converted to learn a rate without losing digits to rounding.
_MUCH: Final = 10**9

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
_APART: Final = """
CREATE TEMPORARY TABLE reconciliation_found
    (leg, key, fact, hits, difference, at_risk, currency, subject, occurred_at, detail) ON COMMIT DROP AS
{found}
"""
# One fact is one break: the first leg that sees it has it, unless that only waits; the classes of the others are flags.
_ONE_FACT: Final = """
WITH ranked AS (
    SELECT id, leg, fact, hits, at_risk, currency,
           first_value(id) OVER best AS winner, first_value(leg) OVER best AS winning_leg
    FROM reconciliation_stageddifference WHERE run_id = %(run)s AND fact <> ''
    WINDOW best AS (PARTITION BY fact ORDER BY hits = '["late"]', array_position(%(legs)s::text[], leg::text), key)
), beaten AS (
    SELECT * FROM ranked WHERE leg <> winning_leg
), flagged AS (
    UPDATE reconciliation_stageddifference kept
    SET hits = kept.hits || more.hits,
        at_risk = greatest(kept.at_risk, CASE WHEN more.currency = kept.currency THEN more.at_risk END)
    FROM (SELECT winner, jsonb_agg(hit) AS hits, max(at_risk) AS at_risk, min(currency) AS currency
          FROM beaten, jsonb_array_elements(beaten.hits) hit WHERE hit <> '"late"' GROUP BY winner) more
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
# What stands on the clearing accounts, of the legs that are compared.
_STANDING: Final = f"""
SELECT * FROM ({legs.CLEARING}) AS standing
    (leg, key, fact, hits, difference, at_risk, currency, subject, occurred_at, detail)
WHERE leg = ANY(%(compared)s)
"""  # noqa: S608  # a constant of the legs
_STAGE_STANDING: Final = (
    "COPY reconciliation_stageddifference "
    "(run_id, leg, key, fact, hits, difference, at_risk, currency, subject, occurred_at, detail) FROM STDIN"
)
_WATERMARKS: Final = """
SELECT (SELECT max(id) FROM ledger_journal), (SELECT max(id) FROM payments_balancetransaction),
       (SELECT max(id) FROM reconciliation_statementline)
"""


class _TakenBack(Exception):
    """Rolls back to before a trial, once it has been seen what comes of it."""


def begin(
    *,
    scope: str,
    since: datetime,
    until: datetime,
    actor: Actor,
    now: datetime,
    source: str = "api",
    dry_run: bool = False,
) -> Run:
    """Open a run over [since, until); an earlier one that was cut off and shares a leg is not gone on with any more: what it
    had found is older news by then. A dry run ends only dry runs that were cut off.

    Raises Invalid for an unknown scope or an empty window."""
    actor.must("reconciliation.run")
    if scope not in SCOPES:
        raise Invalid(f"scope: write one of {', '.join(SCOPES)}.", field="scope")
    if until <= since:
        raise Invalid("until: must be after since.", field="until")
    with transaction.atomic():
        # The locks of its legs are held, so whatever else says that it compares one of them has died.
        sharing = [other for other, compared in SCOPES.items() if {*compared} & {*SCOPES[scope]}]
        cut_off = Run.objects.filter(Q(status="running") | Q(status="interrupted") & ~Q(checkpoint={}))
        for dead in cut_off.filter(scope__in=sharing):
            if dead.dry_run:
                discard(run=dead)
                continue
            if dry_run and dead.checkpoint:
                continue
            _forget_stage(dead)
            Run.objects.filter(pk=dead.pk).update(
                status="interrupted", checkpoint={}, finished_at=now, error="cut off; a later run began anew"
            )
        run = Run.objects.create(
            scope=scope,
            since=since,
            until=until,
            actor=actor.name,
            reason=actor.reason,
            ticket=actor.case or actor.approval,
            version=jobs.version(),
            dry_run=dry_run,
            rules=rulebook.reconciliation(on=now.date()).label,
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
    carry; `listed` says that the payouts among `states` are all there are in the window. Where `rows` ask the provider page
    by page, each is asked outside any transaction, and kept in one of its own; the checkpoint comes last."""
    run.checkpoint = {}
    with transaction.atomic():
        _forget_stage(run)
        run.save(update_fields=["checkpoint"])
    count = 0
    for page in _pages(rows):
        with connection.cursor() as cursor, cursor.copy(_STAGE) as copy:
            for row in page:
                copy.write_row(_columns(run, row))
        count += len(page)
    with transaction.atomic():
        with connection.cursor() as cursor, cursor.copy(_STAGE_STATES) as copy:
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


def leave_out_balance(*, run: Run, why: str) -> None:
    """Compare without the provider's balance, and say why."""
    run.checkpoint = {**run.checkpoint, "balances": None}
    run.note = why
    run.save(update_fields=["checkpoint", "note"])


def is_staged(*, run: Run) -> bool:
    """Whether what the checkpoint vouches for is still there (the staging tables are not logged: they do not outlive a
    crash of the database)."""
    if run.checkpoint.get("step") == "staged":
        staged: int = run.checkpoint["lines"]
        return ProviderLine.objects.filter(run=run).count() == staged
    return "step" in run.checkpoint


def classify(*, run: Run, now: datetime, trial: Callable[[], None] | None = None) -> None:
    """Compare both sides from one snapshot (REPEATABLE READ) and lay down every difference, with its place in the order of
    writing. Movements that are equal are kept as matches.

    With a `trial`, what stands on clearing accounts is compared as it would be after it; what the trial writes is taken back
    and what it locks is let go before anything else is compared, so that nobody waits for the rest."""
    outermost = not connection.in_atomic_block
    with transaction.atomic():
        if outermost:
            with connection.cursor() as cursor:
                cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        compared = _legs(run)
        asked = datetime.fromisoformat(run.checkpoint["asked"])
        values = _values(run, asked, now)
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL work_mem = '96MB'")  # a million movements are hashed in one piece
            large = not legs.few(lines=queries.mirror_lines())  # the book, not what is compared of it
            if large:  # a day's movements of it are worth two processes
                cursor.execute("SET LOCAL min_parallel_table_scan_size = '1MB'")
            StagedDifference.objects.filter(run=run).delete()
            bank: queries.BankFacts | None = None
            if {"bank", "clearing"} & set(compared):
                bank = _compare_standing(cursor, run, values, trial, large=large)
            ours = (
                _mirror(run, asked, large=large) if {"balance", "line"} & set(compared) else queries.Mirror({}, {}, 0)
            )
            for sql in _found_by(compared):
                _lay_down(cursor, sql, values)
            if "line" in compared:
                _compare_lines(cursor, run, ours, values, large=large)
            if "balance" in compared:
                run.explained = _explain(run, ours.held, now, "line" in compared)
            cursor.execute(_ONE_FACT, values)
            cursor.execute(_KNOWN_ELSEWHERE, values)
            cursor.execute(_PLACES, values)
            cursor.execute(_WATERMARKS)
            marks = cursor.fetchone()
        run.input_digest, newest = queries.input_digest(run=run, bank=bank)
        names = ("journal", "movement", "statement_line", "provider")
        run.watermarks = {
            name: str(mark) if mark is not None else None for name, mark in zip(names, (*marks, newest), strict=True)
        }
        found = StagedDifference.objects.filter(run=run)
        run.found = found.count()
        run.matched = (
            run.lines - found.filter(leg="line", detail__provider__isnull=False).exclude(detail__provider=None).count()
        )
        if bank is not None and compared == ("bank",):
            run.lines, run.matched = bank.lines, bank.lines - bank.open
        run.checkpoint = {
            "step": "classified",
            "written": 0,
            "compared": list(compared),
            "left_out": run.checkpoint["left_out"],
        }
        run.save()


def write(*, run: Run, now: datetime, chunk: int = CHUNK, tell: Callable[[], None] = lambda: None) -> None:
    """Write the differences to their breaks, `chunk` at a time, each chunk together with its checkpoint. A break is found
    by leg and key, whatever its class: seen again it is the same one. Repeating it writes no new one."""
    written = int(run.checkpoint["written"])
    while True:
        with transaction.atomic():
            rows = queries.staged(run=run, after=written, limit=chunk)
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
        heal(run=run, compared=run.checkpoint["compared"], left_out=run.checkpoint["left_out"], now=now)
        sum_up(run=run, now=now)
        _forget_stage(run)
    return run


def sum_up(*, run: Run, now: datetime) -> None:
    """Close a run with the digest and the number of what it found; all that a dry run does of `finish`."""
    run.output_digest, run.counts = queries.outcome(run=run)
    run.status, run.finished_at, run.checkpoint = "succeeded", now, {}
    run.save()


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


def _pages(rows: Iterable[SeenBalanceTransaction]) -> Iterator[list[SeenBalanceTransaction]]:
    rest = iter(rows)
    while page := list(islice(rest, _PAGE)):
        yield page


def _columns(run: Run, row: SeenBalanceTransaction) -> Sequence[Any]:
    return (
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


def _legs(run: Run) -> tuple[str, ...]:
    """The legs of a run's scope; without the provider's balances there is nothing to explain."""
    return tuple(leg for leg in SCOPES[run.scope] if leg != "balance" or run.checkpoint["balances"] is not None)


def _values(run: Run, asked: datetime, now: datetime) -> dict[str, Any]:
    compared = _legs(run)
    rules = rulebook.reconciliation(on=run.started_at.date()).rules  # those of its label, however late it goes on
    return {
        "run": run.pk,
        "since": run.since,
        "until": run.until,
        "asked": asked,
        "now": now,
        "young": now - rules.import_grace,
        "overdue": now - rules.status_grace,
        "band": rules.fx_band_basis_points,
        "bank_days": policies.bank_days(business_days=rules.bank_business_days),
        "left_out": run.checkpoint["left_out"],
        "listed": run.checkpoint["listed"],
        "mirrors": queries.mirror_accounts(),
        "legs": list(LEGS),
        "open": list(OPEN),
        "compared": list(compared),
        "windowed": list(WINDOWED),
    }


def _mirror(run: Run, asked: datetime, *, large: bool) -> queries.Mirror:
    """Both sums of the mirror. A window that is a small part of a large book does not add up the whole of it anew."""
    kept = legs.few(lines=run.lines) and large
    return queries.mirror(asked=asked, since=run.since, until=run.until, left_out=run.checkpoint["left_out"], kept=kept)


def _found_by(compared: Sequence[str]) -> list[str]:
    """What finds the differences of the legs, but for the movements' and for what stands on clearing accounts."""
    by_leg = {"payout": legs.PAYOUTS, "booking": legs.BOOKINGS, "host": legs.HOSTS, "status": legs.STATUSES}
    return [by_leg[leg] for leg in compared if leg in by_leg]


def _lay_down(cursor: CursorWrapper, found: str, values: Mapping[str, Any], *, apart: bool = False) -> None:
    """Lay down the differences that a statement finds; of a large book they are found `apart`, which the database may do in more
    than one process (not so what it writes)."""
    if apart:
        cursor.execute(_APART.format(found=found), values)
        found = "SELECT * FROM reconciliation_found"
    cursor.execute(_INTO.format(found=found), values)
    if apart:
        cursor.execute("DROP TABLE reconciliation_found")


def _compare_standing(
    cursor: CursorWrapper,
    run: Run,
    values: Mapping[str, Any],
    trial: Callable[[], None] | None,
    *,
    large: bool,
) -> queries.BankFacts:
    """Lay down what stands on clearing accounts, or would stand there after a trial; returns what is known of the bank then."""
    if trial is None:
        _lay_down(cursor, _STANDING, values, apart=large)
        return queries.bank_facts()
    found: list[Sequence[Any]] = []
    with suppress(_TakenBack), transaction.atomic():
        trial()
        cursor.execute(_STANDING, values)
        found, bank = cursor.fetchall(), queries.bank_facts()
        raise _TakenBack
    with cursor.copy(_STAGE_STANDING) as copy:
        for row in found:
            copy.write_row((run.pk, *row))
    return bank


def _compare_lines(
    cursor: CursorWrapper, run: Run, ours: queries.Mirror, values: Mapping[str, Any], *, large: bool
) -> None:
    """Pair every movement, keep the equal ones as matches, and look closely at the others."""
    few = legs.few(lines=run.lines)
    if few:
        cursor.execute(legs.UNEQUAL_OF_FEW, values)
    else:
        _pair(cursor, ours.movements, values)
    cursor.execute("ANALYZE reconciliation_unequal")
    # Few are looked up one by one. Where there may be a million none is: when this is planned, the matches may still be none.
    with _without(cursor, ("hashjoin", "mergejoin") if few else ("nestloop",)):
        cursor.execute(legs.MATCHES, values)
    cursor.execute(legs.NO_MATCH_ANY_MORE)
    _lay_down(cursor, legs.LINES, values)
    # Of a whole book, in the order of the index, nothing is hashed or sorted.
    with _without(cursor, ("hashjoin", "mergejoin") if few else ("seqscan", "hashagg")):
        _lay_down(cursor, legs.duplicates(lines=run.lines), values, apart=large)
    cursor.execute("DROP TABLE reconciliation_unequal")
    if not ours.whole:  # the mirror is not what its movements add up to; to look for strays is a join of everything
        _lay_down(cursor, legs.STRAYS, values)
    cursor.execute(legs.IS_ANY_CONVERTED, values)
    if cursor.fetchone() == (True,):
        _compare_rates(cursor, values)


def _compare_rates(cursor: CursorWrapper, values: Mapping[str, Any]) -> None:
    """Compare what was converted with what was promised, at the reference rates."""
    cursor.execute(legs.CONVERTED, values)
    cursor.execute(legs.SETTLED_ELSEWHERE)
    _lay_down(cursor, legs.RATES, {**values, **_references(cursor.fetchall())})
    cursor.execute("DROP TABLE reconciliation_converted")


def _references(wanted: Sequence[tuple[date, str, str]]) -> dict[str, list[Any]]:
    """What one minor unit of a currency was in another by the reference rates of a day; where there is no rate, nothing is
    compared."""
    rates: dict[str, list[Any]] = {"days": [], "bases": [], "quotes": [], "factors": []}
    for day, base, quote in wanted:
        with suppress(Invalid):
            factor = Decimal(rulebook.rate(base=base, quote=quote, on=day).convert(Money(_MUCH, base)).amount) / _MUCH
            for name, value in zip(rates, (day, base, quote, factor), strict=True):
                rates[name].append(value)
    return rates


@contextmanager
def _without(cursor: CursorWrapper, ways: Sequence[str]) -> Iterator[None]:
    """Plan without some ways of joining or finding."""
    for way in ways:
        cursor.execute(f"SET LOCAL enable_{way} = off")
    yield
    for way in ways:
        cursor.execute(f"SET LOCAL enable_{way} = on")


def _pair(cursor: CursorWrapper, movements: int, values: Mapping[str, Any]) -> None:
    """Pair every movement of a whole book and lay those aside that do not agree."""
    for summed in (False, True):
        with _without(cursor, ("nestloop",)):
            cursor.execute(legs.pairs(summed=summed), values)
        cursor.execute("SELECT movements FROM reconciliation_pairs")
        if summed or cursor.fetchone() == (movements,):
            break
        cursor.execute("DROP TABLE reconciliation_pairs")
    cursor.execute(legs.UNEQUAL_OF_ALL)
    cursor.execute("DROP TABLE reconciliation_pairs")


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
    """Clear the staging tables of a run. A truncation leaves nothing to be cleaned up after a million rows; only a run that
    compares movements may, which has them to itself, and when no other that could go on has some there."""
    compares = [scope for scope, of in SCOPES.items() if "line" in of]
    others = Run.objects.filter(scope__in=compares, status__in=["running", "interrupted"]).exclude(checkpoint={})
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_relation_size('reconciliation_providerline') > %s", [_WORTH_TRUNCATING])
        is_worth_it = cursor.fetchone() == (True,)
        if is_worth_it and run.scope in compares and not others.exclude(pk=run.pk).exists():
            cursor.execute("TRUNCATE reconciliation_providerline")
        else:
            ProviderLine.objects.filter(run=run).delete()
    ProviderState.objects.filter(run=run).delete()
    StagedDifference.objects.filter(run=run).delete()
