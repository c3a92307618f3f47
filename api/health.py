"""Is the desk there (`/livez`), and can it work (`/readyz`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import redis
from django.conf import settings
from django.db import Error, connection
from django.db.migrations.executor import MigrationExecutor
from django.http import HttpRequest, JsonResponse

_TIMEOUT_SECONDS: Final = 1.0


def livez(request: HttpRequest) -> JsonResponse:
    """This process answers; asks nobody else."""
    return JsonResponse({"status": "ok"})


def readyz(request: HttpRequest) -> JsonResponse:
    """The database and Redis answer and every migration is applied; 503 otherwise, naming what is missing."""
    checks = {name: check() for name, check in _CHECKS.items()}
    ready = all(said == "ok" for said in checks.values())
    return JsonResponse({"status": "ok" if ready else "unavailable", "checks": checks}, status=200 if ready else 503)


def _database() -> str:
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except Error:
        return "does not answer"
    return "ok"


def _redis() -> str:
    client = redis.Redis.from_url(
        settings.REDIS_URL, socket_timeout=_TIMEOUT_SECONDS, socket_connect_timeout=_TIMEOUT_SECONDS
    )
    try:
        client.ping()
    except redis.RedisError:
        return "does not answer"
    finally:
        client.close()
    return "ok"


def _migrations() -> str:
    try:
        executor = MigrationExecutor(connection)
        missing = len(executor.migration_plan(executor.loader.graph.leaf_nodes()))
    except Error:
        return "not known: the database does not answer"
    return f"{missing} not applied" if missing else "ok"


_CHECKS: Final[dict[str, Callable[[], str]]] = {"database": _database, "redis": _redis, "migrations": _migrations}
