"""The rate limiter: so many requests per wall-clock second; the rest are told to come back (429)."""

from __future__ import annotations

import threading
import time

from .errors import ApiError


class Limiter:
    """A bucket that refills evenly and holds one second's worth."""

    def __init__(self, per_second: int) -> None:
        self._rate = per_second
        self._tokens = float(per_second)
        self._at = time.monotonic()
        self._lock = threading.Lock()

    def take(self) -> None:
        """Count one request. ApiError 429 ``rate_limit`` when there were too many; a limit of 0 lets all through."""
        if not self._rate:
            return
        with self._lock:
            now = time.monotonic()
            self._tokens = min(float(self._rate), self._tokens + (now - self._at) * self._rate)
            self._at = now
            if self._tokens < 1:
                raise too_many()
            self._tokens -= 1


def too_many() -> ApiError:
    """429 as the limiter says it: before idempotency, so nothing is kept under the request's key."""
    return ApiError(
        429,
        "Request rate limit exceeded. Learn more about rate limits here https://stripe.com/docs/rate-limits.",
        code="rate_limit",
    )
