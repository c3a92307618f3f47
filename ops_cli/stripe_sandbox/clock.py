"""The virtual clock: nothing in the sandbox waits; time is moved.

With ``real`` it runs with the wall clock plus everything that was ever advanced, with ``frozen`` it moves only when
told to. Both survive a restart.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Literal

from .errors import ApiError, Json
from .store import Transaction

Mode = Literal["real", "frozen"]


class Clock:
    """Reads and moves the virtual time kept in the store."""

    def __init__(self, mode: Mode) -> None:
        self.mode = mode

    def now(self, tx: Transaction) -> float:
        """The virtual time, epoch seconds."""
        if self.mode == "real":
            return time.time() + float(tx.meta("clock_offset") or 0)
        frozen = tx.meta("clock_frozen_at")
        if frozen is None:
            frozen = str(float(int(time.time())))
            tx.set_meta("clock_frozen_at", frozen)
        return float(frozen)

    def advance(self, tx: Transaction, seconds: float) -> float:
        """Move forward; the new time. ApiError 400 for a negative number: time does not run back."""
        if seconds < 0:
            raise ApiError(400, "The clock cannot be moved back; reset the sandbox instead.", param="advance")
        if self.mode == "real":
            tx.set_meta("clock_offset", float(tx.meta("clock_offset") or 0) + seconds)
        else:
            tx.set_meta("clock_frozen_at", self.now(tx) + seconds)
        return self.now(tx)

    def restart(self, tx: Transaction) -> None:
        """Back to the wall clock, as at the very first start; for a sandbox that forgets everything else too."""
        tx.run("DELETE FROM meta WHERE name IN ('clock_offset', 'clock_frozen_at')")

    def shown(self, tx: Transaction) -> Json:
        """The clock as ``/_sim/clock`` shows it."""
        now = self.now(tx)
        next_due = tx.value(
            "SELECT min(due_at) FROM (SELECT due_at FROM deferred UNION ALL "
            "SELECT due_at FROM deliveries WHERE state = 'pending')"
        )
        return {
            "mode": self.mode,
            "now": now,
            "now_iso": datetime.fromtimestamp(now, UTC).isoformat(timespec="seconds"),
            "offset": now - time.time(),
            "next_due": next_due,
        }


def settlement_day(created: float, *, days: int, business_days: bool) -> int:
    """Midnight UTC of the day on which funds of ``created`` become available, epoch seconds."""
    day = datetime.fromtimestamp(created, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    while days > 0:
        day += timedelta(days=1)
        if not business_days or day.weekday() < 5:
            days -= 1
    return int(day.timestamp())
