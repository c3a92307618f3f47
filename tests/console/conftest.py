from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import pytest
import stripe
from django.contrib import admin
from django.db import transaction

from backoffice.console import dashboard
from tests.console.world import World, build

admin.autodiscover()  # as the addresses do: tests are made from what is registered


@dataclass
class _Kept:
    """The world is built once and lies in a transaction around those tests that ask for it: each works in a savepoint of its
    own, and the others find an empty desk. To build it took longer than most tests of a page."""

    blocker: Any = None
    wanted: bool = False
    world: World | None = None
    around: transaction.Atomic | None = None

    def settle(self) -> None:
        """Before a test's own transaction begins: build the world if it asks for it, else take it away."""
        if self.wanted and self.world is None:
            with self.blocker.unblock():
                self.around = transaction.atomic()
                self.around._from_testcase = True  # type: ignore[attr-defined]  # as TestCase marks its own
                self.around.__enter__()
                self.world = build()
        elif not self.wanted:
            self.drop()

    def drop(self) -> None:
        if self.around is None:
            return
        with self.blocker.unblock():
            transaction.set_rollback(True)
            self.around.__exit__(None, None, None)
        self.world = self.around = None


_KEPT = _Kept()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Function) -> None:
    """Here, because a fixture of one test begins after that test's own transaction."""
    _KEPT.wanted = "world" in item.fixturenames and not _commits(item)
    if _KEPT.blocker is not None:
        _KEPT.settle()


def _commits(item: pytest.Function) -> bool:
    marker = item.get_closest_marker("django_db")
    by_name = {"transactional_db", "live_server"} & set(item.fixturenames)
    return bool(by_name) or (marker is not None and bool(marker.kwargs.get("transaction")))


@pytest.fixture(scope="package", autouse=True)
def _kept(django_db_setup: None, django_db_blocker: Any) -> Iterator[None]:
    _KEPT.blocker = django_db_blocker
    _KEPT.settle()
    yield
    _KEPT.drop()
    _KEPT.blocker = None


@pytest.fixture(autouse=True)
def _counted_anew() -> Iterator[None]:
    """Badges and figures are kept for seconds; a test looks at its own desk."""
    dashboard.forget()
    yield
    dashboard.forget()


@pytest.fixture(autouse=True)
def _nobody_waits_for_nobody(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no provider each call is refused at once, and the SDK's pauses before its next tries change nothing."""
    if "sandbox" not in request.fixturenames:
        monkeypatch.setattr(stripe.HTTPClient, "INITIAL_DELAY", 0.01)


@pytest.fixture
def world(db: None) -> World:
    """One small desk with something on every page, of this test alone."""
    return deepcopy(_KEPT.world) if _KEPT.world else build()
