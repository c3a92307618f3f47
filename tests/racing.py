"""Races as ordinary tests: many threads, each with a connection of its own, released at once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from django.db import connections


def race(runners: Sequence[Callable[[], Any]]) -> list[Any]:
    """Run every runner at the same moment; returns what each returned or raised, in order."""
    start = threading.Barrier(len(runners))

    def run(runner: Callable[[], Any]) -> Any:
        try:
            connections["default"].ensure_connection()  # connecting is not part of the race
            start.wait(timeout=60)
            return runner()
        except Exception as error:  # the test looks at what came, whatever it is
            return error
        finally:
            connections.close_all()

    with ThreadPoolExecutor(max_workers=len(runners)) as pool:
        return [future.result() for future in [pool.submit(run, runner) for runner in runners]]
