"""Stays: half-open ranges of nights, in the listing's own calendar."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from zoneinfo import ZoneInfo, available_timezones


@dataclass(frozen=True, slots=True, order=True)
class Stay:
    """[check_in, check_out): the guest sleeps there every night from check_in, not the night of check_out."""

    check_in: date
    check_out: date

    def __post_init__(self) -> None:
        if self.check_out <= self.check_in:
            raise ValueError("check_out must be after check_in")

    @property
    def nights(self) -> int:
        return (self.check_out - self.check_in).days

    def dates(self) -> Iterator[date]:
        """Each night, by the date on which it begins."""
        for offset in range(self.nights):
            yield self.check_in + timedelta(days=offset)

    def overlaps(self, other: Stay) -> bool:
        return self.check_in < other.check_out and other.check_in < self.check_out

    def __str__(self) -> str:
        return f"{self.check_in.isoformat()} → {self.check_out.isoformat()}"


@cache
def time_zones() -> frozenset[str]:
    """The IANA names that are known here. Kept: they are found by walking over a directory of a thousand files."""
    return frozenset(available_timezones())


def instant(day: date, at: time, zone: str) -> datetime:
    """The UTC instant of a wall-clock time at the listing. A time the clock skips is read as the later one."""
    local = datetime.combine(day, at, tzinfo=ZoneInfo(zone))
    return local.astimezone(UTC)
