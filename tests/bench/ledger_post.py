"""Posting through `ledger.operations.post` against the same SQL without Django. `python -m tests.bench.ledger_post`

What is posted is a capture: six lines, a booking's own accounts and those that every booking moves, one transaction each,
from sixteen clients at once. Both sides run the same function of the database, so what the ratio shows is what Django,
the rules and the checks before it cost."""

from __future__ import annotations

import argparse
import itertools
import os
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import psycopg

from tests.bench.floor import scratch_database

CLIENTS = 16
SECONDS = 8.0
ROUNDS = 3
AT = datetime(2026, 11, 20, tzinfo=UTC)
POST = "SELECT journal_id FROM ledger_post(%s, %s, %s, %s, %s, %s, %s, %s, %s, %s::text[], %s::text[], %s::bigint[], %s::text[])"
_numbers = itertools.count(1)


def lines_of(number: int) -> list[tuple[str, str, int]]:
    """The worked capture of 500.00 EUR (ledger.md, section 4, A), under the keys of one booking."""
    booking = f"BK-{number}"
    return [
        ("1150", f"ch_{number}", 50_000),
        ("2100", booking, -40_740),
        ("2110", booking, -5_000),
        ("2111", booking, -1_260),
        ("2310", "BE:2026-11", -1_050),
        ("2300", "BE-ANTWERP:2026-11", -1_950),
    ]


def through_django(stop: threading.Event) -> int:
    from django.db import connection, transaction

    from backoffice.core.actor import system
    from backoffice.ledger import operations as ledger
    from backoffice.ledger.policies import Line

    actor, done = system("bench"), 0
    while not stop.is_set():
        number = next(_numbers)
        with transaction.atomic():
            ledger.post(
                key=f"capture:{number}",
                kind="capture",
                lines=[Line(account, key, amount, "EUR") for account, key, amount in lines_of(number)],
                subject=f"BK-{number}",
                effective_at=AT,
                actor=actor,
                now=AT,
            )
        done += 1
    connection.close()
    return done


def without_django(stop: threading.Event) -> int:
    done = 0
    with psycopg.connect(os.environ["DATABASE_URL"]) as connection:
        while not stop.is_set():
            number = next(_numbers)
            accounts, keys, amounts = (list(column) for column in zip(*lines_of(number), strict=True))
            facts = [f"capture:{number}", "capture", f"BK-{number}", "", "", "system:bench", AT, AT, None]
            connection.execute(POST, [*facts, accounts, keys, amounts, ["EUR"] * len(keys)])
            connection.commit()
            done += 1
    return done


def rate(client: Callable[[threading.Event], int], seconds: float, clients: int) -> float:
    """Journals a second, all clients together."""
    stop = threading.Event()
    done: list[int] = []
    threads = [threading.Thread(target=lambda: done.append(client(stop))) for _ in range(clients)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    time.sleep(seconds)
    stop.set()
    for thread in threads:
        thread.join()
    return sum(done) / (time.perf_counter() - began)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seconds", type=float, default=SECONDS)
    options.add_argument("--clients", type=int, default=CLIENTS)
    given = options.parse_args()
    with scratch_database() as url:
        os.environ.update(
            DATABASE_URL=url,
            DJANGO_SETTINGS_MODULE="backoffice.settings",
            DEBUG="0",
            HTTPS="0",
            SECRET_KEY="bench-" + "x" * 50,
        )
        import django

        django.setup()
        measure(given.seconds, given.clients)


def measure(seconds: float, clients: int) -> None:
    """A few rounds in turn: a machine that others share moves by a factor between two of them."""
    sides: dict[str, Callable[[threading.Event], int]] = {"SQL alone": without_django, "ledger.post": through_django}
    found: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(ROUNDS):
        for name, client in sides.items():
            found[name].append(rate(client, seconds, clients))
    print(f"{clients} clients, {len(lines_of(0))} lines a journal, {ROUNDS} rounds of {seconds:g} s")
    for name, rates in found.items():
        print(f"{name:<16}" + "".join(f"{each:10,.0f}" for each in rates) + " journals/s")
    ratios = [ours / floor for ours, floor in zip(found["ledger.post"], found["SQL alone"], strict=True)]
    print(f"ledger.post keeps {min(ratios):.0%} to {max(ratios):.0%} of the rate of the same SQL without Django")
    verify()


def verify() -> None:
    """What was measured is a ledger: it adds up."""
    from backoffice.ledger import queries as ledger

    bad: list[Any] = [check for check in ledger.check(now=AT) if not check.ok and check.check != "clearing"]
    assert not bad, bad


if __name__ == "__main__":
    main()
