"""A Redis that is away takes nothing with it but speed."""

from __future__ import annotations

from typing import Any

import pytest
import redis
from django.test import Client

from backoffice.core.cache import PatientRedisCache
from tests import factories

NOWHERE = "redis://127.0.0.1:9/0"


def away() -> PatientRedisCache:
    return PatientRedisCache(NOWHERE, {})


def test_without_redis_nothing_is_found_and_nothing_is_kept() -> None:
    cache = away()
    cache.set("badge", 3)
    assert cache.get("badge") is None and cache.get("badge", 7) == 7
    assert cache.get_many(["badge"]) == {} and "badge" not in cache
    assert cache.get_or_set("badge", lambda: 5) == 5


def test_what_has_to_go_is_not_quietly_kept() -> None:
    with pytest.raises(redis.ConnectionError):
        away().delete("session")


def test_with_redis_it_is_an_ordinary_cache(settings: Any) -> None:
    cache = PatientRedisCache(settings.REDIS_URL, {"KEY_PREFIX": "test-cache"})
    cache.set("badge", 3, timeout=20)
    assert cache.get("badge") == 3 and cache.get_many(["badge", "other"]) == {"badge": 3} and "badge" in cache
    assert not cache.add("badge", 4)
    assert cache.delete("badge") and cache.get("badge") is None


@pytest.mark.django_db
def test_the_console_works_on_while_redis_is_away(settings: Any, client: Client) -> None:
    staff = factories.staff("finance")
    client.force_login(staff)
    assert client.get("/console/").status_code == 200
    settings.CACHES = {"default": {**settings.CACHES["default"], "LOCATION": NOWHERE}}
    assert client.get("/console/").status_code == 200
    assert client.get("/console/bookings/booking/").status_code == 200
