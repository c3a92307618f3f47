from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pytest_django import Settings

from backoffice.audit import operations, queries
from backoffice.core.actor import Actor

ROOMS = ["backoffice.audit"]  # only their tables are emptied after each test
NOON = datetime(2026, 7, 10, 12, tzinfo=UTC)
STAFF = Actor(kind="staff", id=7, name="Ines", address="10.0.0.7", request_id="req-1", case="CS-1", approval="AP-1")

Write = Callable[..., int]


@pytest.fixture(autouse=True)
def anchors(settings: Settings, tmp_path: Path) -> Path:
    """A directory of the test's own for what is anchored outside the database."""
    settings.AUDIT_ANCHORS = tmp_path / "anchors"
    return tmp_path / "anchors"


@pytest.fixture
def write() -> Write:
    """Record one plain entry about booking `id`; returns its sequence number."""

    def written(id: str = "BK-1", **facts: object) -> int:
        return operations.record(
            **{  # type: ignore[arg-type]
                "actor": STAFF,
                "verb": "bookings.cancel",
                "kind": "booking",
                "id": id,
                "before": {"status": "confirmed"},
                "after": {"status": "cancelled", "refund": 68000},
                "now": NOON,
                "reason": "asked to",
                **facts,
            }
        )

    return written


def seal_all(now: datetime = NOON) -> int:
    """Seal until nothing waits. Transactions of other databases of the cluster may hold the horizon back for a while."""
    sealed, deadline = 0, time.monotonic() + 60
    while queries.backlog().unsealed:
        assert time.monotonic() < deadline, "some transaction of this cluster stays open and nothing can be sealed"
        sealed += operations.seal(now=now)
        now += timedelta(microseconds=1)
    return sealed
