"""Races as ordinary tests: many threads, each with a connection of its own, released at once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from django.db import connections

from backoffice.core.errors import StaydeskError


def race(runners: Sequence[Callable[[], Any]]) -> list[Any]:
    """Run every runner at the same moment; returns what each returned, or was refused by name, in order. Anything else that one
    of them raises (a deadlock, a guard of the database) is a fault, and is raised here: it was nobody's answer."""
    start = threading.Barrier(len(runners))

    def run(runner: Callable[[], Any]) -> Any:
        try:
            connections["default"].ensure_connection()  # connecting is not part of the race
            start.wait(timeout=60)
            return runner()
        except StaydeskError as refused:
            return refused
        finally:
            connections.close_all()

    with ThreadPoolExecutor(max_workers=len(runners)) as pool:
        return [future.result() for future in [pool.submit(run, runner) for runner in runners]]
