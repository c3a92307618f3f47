"""Locks and lateness, as arithmetic."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final
from zlib import crc32

from backoffice.core.errors import Refused

# A job may miss two ticks (a deploy, a slow run) before anybody should look; short ones have half a minute.
MISSED_TICKS: Final = 3
LEAST_GRACE: Final = timedelta(seconds=30)

# Beat's own tasks that prove themselves: the age of a heartbeat and of the oldest unsealed entry say more.
NOT_JOBS: Final = frozenset({"jobs.heartbeat", "audit.seal"})

ERROR_LENGTH: Final = 500

# A bulk job over more rows needs a second person (DOMAIN.md, roles and first limits).
MOST_ALONE: Final = 50


def lock_key(*, name: str, scope: str) -> tuple[int, int]:
    """The two 32-bit halves of a job's advisory lock. Two jobs that share one by chance only wait for each other."""
    return _signed(crc32(f"job:{name}".encode())), _signed(crc32(scope.encode()))


def _signed(value: int) -> int:
    return value - (1 << 32) if value >= 1 << 31 else value


def check_bulk(*, count: int, what: str, approved: bool) -> None:
    """Raises Refused for more rows at once than one person may do without a second one's approval."""
    if count > MOST_ALONE and not approved:
        raise Refused(missing=f"a second person's approval (--approval) for {count} {what} at once")


def is_late(*, every: timedelta, last: datetime | None, now: datetime) -> bool:
    """Whether a job that runs `every` so often should have succeeded again by now."""
    return last is None or now - last > max(every * MISSED_TICKS, LEAST_GRACE)


def one_line(error: BaseException) -> str:
    """An error as the run keeps it: its kind and its first words, on one line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}"[:ERROR_LENGTH].rstrip(": ")
