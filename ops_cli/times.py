"""How times are written on the command line: a day, an instant, or how long ago."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

import click

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}
# Longer than any desk has run; beyond it the arithmetic of dates ends.
_MOST: Final = timedelta(days=36_500)


class SpanType(click.ParamType[timedelta]):
    """A length of time: seconds, or a number with a unit (90m, 6h, 7d, 2w)."""

    name = "span"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        if isinstance(value, timedelta):
            return value
        found = re.fullmatch(r"(\d{1,12})([smhdw]?)", str(value).strip())
        if found is None:
            self.fail(f"{value!r} is not a length of time: write seconds, or 90m, 6h, 7d, 2w.", param, ctx)
        span = timedelta(seconds=int(found[1]) * _UNITS[found[2] or "s"])
        if span > _MOST:
            self.fail(f"{value!r} is more than a hundred years.", param, ctx)
        return span


class InstantType(click.ParamType[datetime | timedelta]):
    """An instant in UTC: 2026-03-01, 2026-03-01T12:00, with an offset if not UTC; or how long ago (6h, 7d)."""

    name = "instant"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime | timedelta:
        if isinstance(value, datetime | timedelta):
            return value
        text = str(value).strip()
        if re.fullmatch(r"\d{1,12}[smhdw]", text):
            return SPAN.convert(text, param, ctx)
        try:
            instant = datetime.fromisoformat(text)
        except ValueError:
            self.fail(
                f"{text!r} is not an instant: write 2026-03-01, 2026-03-01T12:00Z, or 7d for a week ago.", param, ctx
            )
        return instant if instant.tzinfo else instant.replace(tzinfo=UTC)


class DayType(click.ParamType[date]):
    """A day, 2026-03-01, or the first day of a month, 2026-03."""

    name = "day"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> date:
        if isinstance(value, date):
            return value
        text = str(value).strip()
        try:
            return date.fromisoformat(f"{text}-01" if re.fullmatch(r"\d{4}-\d{2}", text) else text)
        except ValueError:
            self.fail(f"{text!r} is not a day: write 2026-03-01, or 2026-03 for its first.", param, ctx)


SPAN: Final = SpanType()
INSTANT: Final = InstantType()
DAY: Final = DayType()


def at(written: datetime | timedelta | None, *, now: datetime) -> datetime | None:
    """The instant that was meant; one written as a length of time lies that long before `now`."""
    return now - written if isinstance(written, timedelta) else written


def age(length: timedelta) -> str:
    """How old something is, as it fits a column: 12 s, 5 min, 3 h, 9 d."""
    seconds = max(0, int(length.total_seconds()))
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"
