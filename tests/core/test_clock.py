from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import OperationalError

from backoffice.core import clock, operations, queries
from backoffice.core.errors import Refused
from backoffice.core.models import ClockOffset


@pytest.fixture(autouse=True)
def _own_source() -> Iterator[None]:
    before = clock._source
    yield
    clock.install_offset(before)


def test_without_a_source_it_is_the_wall_clock_in_utc() -> None:
    clock.install_offset(None)
    assert clock.now().tzinfo is UTC and abs(clock.now() - datetime.now(UTC)) < timedelta(seconds=5)
    assert clock.offset() == timedelta(0)


def test_the_offset_is_added_and_read_at_most_twice_a_second() -> None:
    reads = []
    clock.install_offset(lambda: reads.append(1) or timedelta(days=3))  # type: ignore[func-returns-value]
    assert all(clock.now() - datetime.now(UTC) > timedelta(days=2) for _ in range(50))
    assert len(reads) == 1
    clock.forget_offset()
    clock.now()
    assert len(reads) == 2


@pytest.mark.django_db
def test_the_clock_moves_forward_only_and_every_move_counts(settings: Any) -> None:
    settings.VIRTUAL_CLOCK = True
    clock.install_offset(queries.clock_offset)
    assert operations.advance_clock(seconds=60) == timedelta(seconds=60)
    assert operations.advance_clock(seconds=3_600) == timedelta(seconds=3_660)
    assert clock.offset() == timedelta(seconds=3_660)
    with pytest.raises(Refused, match="forward"):
        operations.advance_clock(seconds=-1)
    assert ClockOffset.objects.get().seconds == 3_660


@pytest.mark.django_db
def test_a_production_clock_cannot_be_moved(settings: Any) -> None:
    settings.VIRTUAL_CLOCK = False
    with pytest.raises(Refused, match="production"):
        operations.advance_clock(seconds=60)
    assert not ClockOffset.objects.exists()


def test_before_the_first_migration_there_is_no_offset(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_table(*_: object, **__: object) -> None:
        raise OperationalError("no such table")

    monkeypatch.setattr(ClockOffset.objects, "filter", no_table)
    assert queries.clock_offset() == timedelta(0)
