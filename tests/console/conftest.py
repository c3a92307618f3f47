from __future__ import annotations

from collections.abc import Iterator

import pytest

from backoffice.console import dashboard
from tests.console.world import World, build


@pytest.fixture(autouse=True)
def _counted_anew() -> Iterator[None]:
    """Badges and figures are kept for seconds; a test looks at its own desk."""
    dashboard.forget()
    yield
    dashboard.forget()


@pytest.fixture
def world(db: None) -> World:
    return build()
