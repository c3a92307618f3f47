"""A cache that may be away. What is cached is only ever a copy (sessions, badges): without Redis the database answers."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import redis
from django.core.cache.backends.redis import RedisCache, RedisCacheClient

log = logging.getLogger(__name__)


@contextmanager
def _perhaps_away() -> Iterator[None]:
    try:
        yield
    except (redis.ConnectionError, redis.TimeoutError) as error:  # anything else is a fault of ours
        log.warning("the cache is away: %s", error)


class _PatientClient(RedisCacheClient):
    """Without Redis nothing is found and nothing is kept. Removing still fails aloud: a copy that has to go (the session of
    somebody who signed out) would be there again once Redis is."""

    def get(self, key: Any, default: Any) -> Any:
        with _perhaps_away():
            return super().get(key, default)
        return default

    def get_many(self, keys: Iterable[Any]) -> dict[Any, Any]:
        with _perhaps_away():
            return super().get_many(keys)
        return {}

    def has_key(self, key: Any) -> bool:
        with _perhaps_away():
            return bool(super().has_key(key))
        return False

    def add(self, key: Any, value: Any, timeout: Any) -> bool:
        with _perhaps_away():
            return bool(super().add(key, value, timeout))
        return False

    def set(self, key: Any, value: Any, timeout: Any) -> None:
        with _perhaps_away():
            super().set(key, value, timeout)


class PatientRedisCache(RedisCache):
    """Django's cache in Redis, for a desk that works on while Redis does not."""

    def __init__(self, server: str, params: dict[str, Any]) -> None:
        super().__init__(server, params)
        self._class = _PatientClient
