"""The one clock. Doors read it once and pass `now` inward; nothing below a door asks what time it is.

A desk with a sandbox may run ahead of the wall clock (`ops sandbox clock advance`): the offset is kept in the database
and read through the source installed by `CoreConfig`. Production installs none.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

OffsetSource = Callable[[], timedelta]

# Reading the offset on every call would cost a statement a request; half a second is far below what a person
# who moves the clock can notice, and `forget_offset` makes it immediate in the process that moved it.
_FRESH_SECONDS = 0.5

_source: OffsetSource | None = None
_offset = timedelta(0)
_read_at = float("-inf")


def install_offset(source: OffsetSource | None) -> None:
    """Use `source` for the offset from the wall clock; None for none."""
    global _source
    _source = source
    forget_offset()


def forget_offset() -> None:
    """Read the offset anew at the next call."""
    global _read_at
    _read_at = float("-inf")


def offset() -> timedelta:
    """How far the desk's clock is ahead of the wall clock."""
    global _offset, _read_at
    if _source is None:
        return timedelta(0)
    if time.monotonic() - _read_at > _FRESH_SECONDS:
        _offset, _read_at = _source(), time.monotonic()
    return _offset


def now() -> datetime:
    """The present instant, aware, in UTC."""
    return datetime.now(UTC) + offset()
