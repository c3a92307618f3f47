"""Times as they are typed."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import click
import pytest

from ops_cli.times import DAY, INSTANT, SPAN, age, at

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("kind", "text", "meant"),
    [
        (SPAN, "90", timedelta(seconds=90)),
        (SPAN, "90m", timedelta(minutes=90)),
        (SPAN, " 2w ", timedelta(weeks=2)),
        (SPAN, "0", timedelta(0)),
        (INSTANT, "2026-02-28", datetime(2026, 2, 28, tzinfo=UTC)),
        (INSTANT, "2026-02-28T10:30", datetime(2026, 2, 28, 10, 30, tzinfo=UTC)),
        (INSTANT, "2026-02-28T10:30+02:00", datetime(2026, 2, 28, 8, 30, tzinfo=UTC)),
        (INSTANT, "6h", timedelta(hours=6)),
        (DAY, "2026-02", date(2026, 2, 1)),
        (DAY, "2026-02-28", date(2026, 2, 28)),
    ],
)
def test_what_is_written_is_what_is_meant(kind: Any, text: str, meant: Any) -> None:
    assert kind.convert(text, None, None) == meant
    assert kind.convert(meant, None, None) == meant, "a default that was read already stays as it is"


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        *((SPAN, text) for text in ("", "-5", "5y", "1.5h", "40000d", "9" * 13)),
        *((INSTANT, text) for text in ("", "yesterday", "2026-02-30", "5y")),
        *((DAY, text) for text in ("", "2026-13", "2026-02-30", "20260")),
    ],
)
def test_what_means_nothing_is_refused_with_an_example(kind: Any, text: str) -> None:
    with pytest.raises(click.BadParameter, match=r"write|hundred years"):
        kind.convert(text, None, None)


def test_so_long_ago_is_counted_from_the_desks_present() -> None:
    assert at(timedelta(days=1), now=NOW) == datetime(2026, 2, 28, 12, 0, tzinfo=UTC)
    assert at(NOW, now=NOW) == NOW
    assert at(None, now=NOW) is None


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0, "0 s"), (119, "119 s"), (120, "2 min"), (7_200, "2 h"), (200_000, "2 d"), (-3, "0 s")]
)
def test_an_age_fits_a_column(seconds: int, shown: str) -> None:
    assert age(timedelta(seconds=seconds)) == shown
