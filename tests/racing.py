"""Races as ordinary tests: many threads, each with a connection of its own, released at once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from typing import Any

from django.db import connections

from backoffice.core.errors import StaydeskError

MOST = 256
# The runners of a test's races and their connections, which stay until the test is over: to connect anew for each of twenty
# rounds took as long as the rounds.
_pool: ThreadPoolExecutor | None = None
_open: list[Any] = []


def race(runners: Sequence[Callable[[], Any]]) -> list[Any]:
    """Run every runner at the same moment; returns what each returned, or was refused by name, in order. Anything else that one
    of them raises (a deadlock, a guard of the database) is a fault, and is raised here: it was nobody's answer."""
    global _pool
    start = threading.Barrier(len(runners))
    _pool = _pool or ThreadPoolExecutor(max_workers=MOST)

    def run(runner: Callable[[], Any]) -> Any:
        try:
            _connect()  # which is not part of the race
            start.wait(timeout=60)
            return runner()
        except StaydeskError as refused:
            return refused

    futures = [_pool.submit(run, runner) for runner in runners]
    wait(futures)  # one that raised is told of when nobody runs any more
    return [future.result() for future in futures]


def go_home() -> None:
    """The test is over: its runners' connections are closed."""
    global _pool
    if _pool is not None:
        _pool.shutdown()
        _pool = None
    while _open:
        with suppress(Exception):  # the server may have ended it
            _open.pop().close()


def _connect() -> None:
    connection = connections["default"]
    connection.close_if_unusable_or_obsolete()
    connection.ensure_connection()
    if connection.connection not in _open:
        _open.append(connection.connection)
