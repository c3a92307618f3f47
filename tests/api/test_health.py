"""Liveness asks nobody; readiness names what is missing."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection

from api import health
from tests.api.conftest import Caller


def test_alive_without_asking_anybody(anyone: Caller) -> None:
    assert anyone.get("/livez").body == {"status": "ok"}  # no database fixture: a query would fail the test


@pytest.mark.django_db
def test_ready(anyone: Caller) -> None:
    ready = anyone.get("/readyz")
    assert (ready.status, ready.body["status"]) == (200, "ok")
    assert ready.body["checks"] == {"database": "ok", "redis": "ok", "migrations": "ok"}


@pytest.mark.django_db
def test_not_ready_without_redis(anyone: Caller, settings: Any) -> None:
    settings.REDIS_URL = "redis://127.0.0.1:9/0"
    unready = anyone.get("/readyz")
    assert (unready.status, unready.body["checks"]["redis"]) == (503, "does not answer")


@pytest.mark.django_db
def test_not_ready_before_the_migrations(anyone: Caller) -> None:
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM django_migrations WHERE app = 'listings' AND name = '0002_search'")
    unready = anyone.get("/readyz")
    assert (unready.status, unready.body["checks"]["migrations"]) == (503, "1 not applied")


def test_not_ready_without_a_database(anyone: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    from django.db import OperationalError

    def refuse(*_: Any, **__: Any) -> None:
        raise OperationalError("no route to host: db.internal")

    monkeypatch.setattr(health.connection, "cursor", refuse)
    monkeypatch.setattr(health, "MigrationExecutor", refuse)
    unready = anyone.get("/readyz")
    assert unready.status == 503 and unready.body["checks"]["database"] == "does not answer"
    assert b"db.internal" not in unready.raw
