"""Reconciliation against its floor, measured in the same run. `python -m tests.bench.reconcile [--lines 1000000]`

A million lines of the provider against a million postings that are already there: compared, the equal ones kept as matches,
the others written as breaks, within 6 x (one bare hash join of the two tables + one bare COPY of the result rows). A window
of one day (35,000 lines) within a second's worth of the machine's join rate, where a machine that joins a million lines a
second is given a second, and one that is slower, or busy, as much longer. Memory stays flat: the rows never pass through this
process. Ends with exit code 1 where one of the three is not so. The server should be set up as docker-compose.yml sets up its
own."""

from __future__ import annotations

import argparse
import io
import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import psutil

from tests.bench.floor import scratch_database, verdict

DAYS = 28
WHOLE_BAR, DAY_BAR = 6, 1
MEMORY_BAR = 64_000_000  # bytes; a million lines as objects would be twenty times as much
A_SECONDS_WORTH = 1_000_000  # lines
BEGIN = datetime(2026, 10, 1, tzinfo=UTC)
NOW = BEGIN + timedelta(days=DAYS)

# The books as they are after so many charges: account, journal, three lines and a movement each, and kept balances.
BOOKS = """
SET session_replication_role = replica;
INSERT INTO ledger_account (id, code, key, currency) OVERRIDING SYSTEM VALUE
    VALUES (1, '1100', 'stripe', 'EUR'), (2, '5100', '', 'EUR');
INSERT INTO ledger_account (id, code, key, currency) OVERRIDING SYSTEM VALUE
    SELECT n + 2, '1150', 'ch_' || md5(n::text), 'EUR' FROM generate_series(1, {lines}) n;
INSERT INTO ledger_journal (id, idempotency_key, request_hash, kind, subject, reference, memo, actor, effective_at, recorded_at)
    OVERRIDING SYSTEM VALUE
    SELECT n, 'bt:txn_' || md5('t' || n), repeat('0', 64), 'bt.charge', 'BK-' || n, 'txn_' || md5('t' || n), '', 'system:bench',
           at, at FROM (SELECT n, timestamptz '{begin}' + n * interval '{days} days' / ({lines} + 1) AS at
                        FROM generate_series(1, {lines}) n) each;
INSERT INTO ledger_line (journal_id, account_id, amount, currency)
    SELECT n, account, amount, 'EUR' FROM generate_series(1, {lines}) n
    CROSS JOIN LATERAL (VALUES (1, 9825 + n % 1000), (2, 175), (n + 2, -10000 - n % 1000)) each (account, amount);
INSERT INTO ledger_balance (account_id, slot, balance, version, journal_id)
    SELECT account_id, 0, CASE WHEN account_id > 2 THEN 0 ELSE sum(amount) END, count(*), max(journal_id)
    FROM ledger_line GROUP BY account_id;
INSERT INTO payments_balancetransaction (provider_id, type, reporting_category, source_id, amount, fee, net, currency,
        exchange_rate, fee_details, created, available_on, payout_id, network, journal_id, imported_at)
    SELECT reference, 'charge', 'charge', 'ch_' || md5(id::text), 10000 + id % 1000, 175, 9825 + id % 1000, 'EUR', '', '[]',
           effective_at, effective_at, '', '', id, effective_at FROM ledger_journal ORDER BY id;
SET session_replication_role = DEFAULT;
"""
# What the provider shows: nine in two thousand are otherwise, in three ways.
THEIRS = """
SELECT provider_id, reporting_category, source_id, amount + CASE WHEN id %% 2000 < 3 THEN 5 ELSE 0 END AS amount, fee,
       net + CASE WHEN id %% 2000 < 3 THEN 5 ELSE 0 END AS net, currency, created
FROM payments_balancetransaction WHERE created >= %s AND created < %s AND id %% 2000 NOT BETWEEN 3 AND 5
UNION ALL
SELECT 'txn_new' || id, reporting_category, 'ch_new' || id, amount, fee, net, currency, created
FROM payments_balancetransaction WHERE created >= %s AND created < %s AND id %% 2000 BETWEEN 6 AND 8
"""
JOIN = """
SELECT count(*) FROM reconciliation_providerline theirs JOIN payments_balancetransaction ours USING (provider_id)
WHERE theirs.net = ours.net AND theirs.run_id = {run}
"""


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--lines", type=int, default=1_000_000)
    lines = options.parse_args().lines
    with scratch_database() as url:
        os.environ.update(
            DATABASE_URL=url,
            DJANGO_SETTINGS_MODULE="backoffice.settings",
            DEBUG="0",  # with DEBUG, Django would keep every statement
            HTTPS="0",
            SECRET_KEY="bench-" + "x" * 50,
        )
        import django

        django.setup()
        build(lines)
        measure(lines)


def build(lines: int) -> None:
    from django.db import ProgrammingError, connection

    began = time.perf_counter()
    with connection.cursor() as cursor:
        cursor.execute(BOOKS.format(lines=lines, begin=BEGIN.isoformat(), days=DAYS))
        cursor.execute("VACUUM ANALYZE")
        with suppress(ProgrammingError):  # not every role may; the books are on disk before anything is measured
            cursor.execute("CHECKPOINT")
    print(f"books of {lines:,} postings made in {time.perf_counter() - began:.0f} s")


def measure(lines: int) -> None:

    from backoffice.reconciliation.models import Match

    whole = (BEGIN, NOW)
    before = psutil.Process().memory_info().rss
    run, staging = timed(lambda: staged(whole))
    print(f"{'staged by COPY':<34}{staging:8.2f} s  {run.lines / staging:10,.0f} lines/s")
    join = bare_join(run)
    written = finished(run)
    copy = bare_copy(Match)
    floor = join + copy
    print(f"{'bare hash join':<34}{join:8.2f} s  {run.lines / join:10,.0f} lines/s")
    print(f"{'bare COPY of the matches':<34}{copy:8.2f} s  {Match.objects.count():10,} rows")
    print(f"{'compared, matched and written':<34}{written:8.2f} s  {verdict(written / floor, WHOLE_BAR)}")
    rerun, _ = timed(lambda: staged(whole))
    repeated = finished(rerun)
    assert (rerun.output_digest, rerun.matched) == (run.output_digest, run.matched)
    print(f"{'the same again (nothing new)':<34}{repeated:8.2f} s  {repeated / floor:5.1f} x floor")
    part = staged((BEGIN + timedelta(days=10), BEGIN + timedelta(days=11)))
    window = finished(part)
    second = join * A_SECONDS_WORTH / run.lines
    print(f"{f'one day of {part.lines:,}':<34}{window:8.2f} s  {verdict(window / second, DAY_BAR)}")
    grown = psutil.Process().memory_info().rss - before
    print(f"{'memory grew by':<34}{grown / 1e6:8.0f} MB  of at most {MEMORY_BAR / 1e6:.0f}")
    print(f"{run.found:,} breaks, {run.matched:,} matches")
    assert run.found == part_of(lines), (run.found, part_of(lines))
    if written / floor > WHOLE_BAR or window / second > DAY_BAR or grown > MEMORY_BAR:
        raise SystemExit(1)


def bare_join(run: Any) -> float:
    """One hash join of the two tables, twice: the better one. What is no hash join is no floor."""
    from django.db import connection

    with connection.cursor() as cursor:
        for setting in ("max_parallel_workers_per_gather = 0", "work_mem = '64MB'", "enable_mergejoin = off"):
            cursor.execute(f"SET {setting}")
        cursor.execute(f"EXPLAIN {JOIN.format(run=run.pk)}")
        plan = "\n".join(line for (line,) in cursor.fetchall())
        assert "Hash Join" in plan, plan
        join = min(timed(lambda: cursor.execute(JOIN.format(run=run.pk)))[1] for _ in range(2))
        for setting in ("max_parallel_workers_per_gather", "work_mem", "enable_mergejoin"):
            cursor.execute(f"RESET {setting}")
    return join


def staged(window: tuple[datetime, datetime]) -> Any:
    """A run with its lines laid beside ours, from a cursor on the server: one row at a time."""
    from backoffice.core.actor import system
    from backoffice.core.money import Money
    from backoffice.reconciliation import operations, queries

    run = operations.begin(scope="stripe", since=window[0], until=window[1], actor=system("bench"), now=NOW)
    balances = {currency: Money(net, currency) for currency, net in queries.mirror(asked=NOW).held.items()}
    operations.stage(run=run, rows=shown(window), balances=balances, asked=NOW)
    return run


def shown(window: tuple[datetime, datetime]) -> Iterator[Any]:
    from django.db import connection

    from backoffice.core.money import Money
    from backoffice.payments.policies.seen import SeenBalanceTransaction

    reader = connection.copy()
    try:
        with reader.chunked_cursor() as cursor:
            cursor.itersize = 10_000
            cursor.execute(THEIRS, [*window, *window])
            for id, category, source, amount, fee, net, currency, created in cursor:
                yield SeenBalanceTransaction(
                    id=id,
                    type=category,
                    reporting_category=category,
                    source_id=source,
                    source_reference="",
                    amount=Money(amount, currency),
                    fee=Money(fee, currency),
                    net=Money(net, currency),
                    created=created,
                    available_on=created,
                )
    finally:
        reader.close()


def finished(run: Any) -> float:
    from backoffice.reconciliation import operations

    def steps() -> None:
        for step in (
            lambda: operations.classify(run=run, now=NOW),
            lambda: operations.write(run=run, now=NOW),
            lambda: operations.finish(run=run, now=NOW),
        ):
            _, took = timed(step)
            print(f"    {took:6.2f} s", end="")
        print("   (classify, write, finish)")

    return timed(steps)[1]


def bare_copy(model: Any) -> float:
    """The result rows into a table without key or index."""
    from django.db import connection

    columns = "movement_id, journal_id, run_id"
    with connection.cursor() as cursor:
        rows = io.BytesIO()
        with cursor.copy(f"COPY {model._meta.db_table} ({columns}) TO STDOUT") as copy:
            for block in copy:
                rows.write(block)
        cursor.execute("CREATE TABLE bare (movement_id bigint, journal_id bigint, run_id bigint)")
        rows.seek(0)

        def fill() -> None:
            with cursor.copy(f"COPY bare ({columns}) FROM STDIN") as copy:
                while block := rows.read(1 << 16):
                    copy.write(block)

        took = timed(fill)[1]
        cursor.execute("DROP TABLE bare")
    return took


def timed(act: Callable[[], Any]) -> tuple[Any, float]:
    began = time.perf_counter()
    made = act()
    return made, time.perf_counter() - began


def part_of(lines: int) -> int:
    """How many of them were seeded: nine in two thousand, by the remainder of their number; and the balance, which the
    seeds do not touch, is then unexplained."""
    seeded = sum(len(range(first or 2_000, lines + 1, 2_000)) for first in range(9))
    return seeded + 1


if __name__ == "__main__":
    main()
