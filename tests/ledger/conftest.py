from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import pytest

from backoffice.core.actor import Actor, system
from backoffice.ledger import operations
from backoffice.ledger.operations import Posted
from backoffice.ledger.policies import Line

Post = Callable[..., Posted | None]

NOON = datetime(2026, 7, 10, 12, tzinfo=UTC)
ROBOT = system("tests")


def capture(charge: str = "ch_1", booking: str = "BK-1", amount: int = 500_00) -> list[Line]:
    """Money collected for a booking: the smallest posting that touches a clearing and a bounded account."""
    return [Line("1150", charge, amount, "EUR"), Line("2100", booking, -amount, "EUR")]


@pytest.fixture
def post() -> Post:
    """`ledger.operations.post` with everything but the key and the lines filled in."""

    def posted(
        key: str, lines: Sequence[Line], *, subject: str = "BK-1", at: datetime = NOON, actor: Actor = ROBOT
    ) -> Posted | None:
        return operations.post(
            key=key, kind="capture", lines=lines, subject=subject, effective_at=at, actor=actor, now=at
        )

    return posted
