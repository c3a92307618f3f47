"""Idempotency keys: the first answer to a key is the answer to every repetition, errors included.

What is refused before execution begins (bad parameters, 401, 409, 429) is not kept. Keys may be forgotten after 24
hours of the virtual clock.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from .context import Context
from .errors import ApiError

LONGEST_KEY = 255
KEPT_SECONDS = 24 * 3600


@dataclass(frozen=True)
class Saved:
    """An answer given before."""

    status: int
    body: str
    request_id: str


class InFlight:
    """The keys whose requests are being executed right now."""

    def __init__(self) -> None:
        self._keys: set[tuple[str, str]] = set()
        self._lock = threading.Lock()

    @contextmanager
    def claim(self, account: str, key: str | None) -> Iterator[None]:
        """Hold ``key`` for the duration; ApiError 409 when another request holds it."""
        if key is None:
            yield
            return
        with self._lock:
            if (account, key) in self._keys:
                raise ApiError(
                    409,
                    f"There is currently another in-progress request using this Idempotency Key: {key}. Please try "
                    "again later.",
                    code="idempotency_key_in_use",
                    retry=True,
                )
            self._keys.add((account, key))
        try:
            yield
        finally:
            with self._lock:
                self._keys.discard((account, key))


def read_key(header: str | None, method: str) -> str | None:
    """The key of a request: only POST has one. ApiError 400 when it is too long."""
    if not header or method != "POST":
        return None
    if len(header) > LONGEST_KEY:
        raise ApiError(400, f"Idempotency keys can have up to {LONGEST_KEY} characters, but yours has {len(header)}.")
    return header


def digest(pairs: list[tuple[str, str]]) -> str:
    """What makes two requests to one path the same: their parameters, whatever their order."""
    return hashlib.sha256(repr(sorted(pairs)).encode()).hexdigest()


def recall(ctx: Context, method: str, path: str, parameters: str) -> Saved | None:
    """The answer kept for this request's key; ApiError 400 when the key was first used for something else."""
    key = ctx.idempotency_key
    if key is None:
        return None
    ctx.tx.run(
        "DELETE FROM idempotency WHERE account = ? AND key = ? AND created < ?",
        ctx.account,
        key,
        ctx.now - KEPT_SECONDS,
    )
    rows = ctx.tx.rows("SELECT * FROM idempotency WHERE account = ? AND key = ?", ctx.account, key)
    if not rows:
        return None
    row = rows[0]
    if (row["method"], row["path"]) != (method, path):
        raise _reused(f"for the same endpoint they were first used for ('{path}' vs '{row['path']}')", key)
    if row["digest"] != parameters:
        raise _reused("with the same parameters they were first used with", key)
    return Saved(row["status"], row["body"], row["request_id"])


def keep(ctx: Context, method: str, path: str, parameters: str, status: int, body: str) -> None:
    """Keep the answer to this request's key, if it has one."""
    if ctx.idempotency_key is not None:
        ctx.tx.run(
            "INSERT INTO idempotency VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            ctx.account,
            ctx.idempotency_key,
            method,
            path,
            parameters,
            status,
            body,
            ctx.request_id,
            ctx.now,
        )


def _reused(how: str, key: str) -> ApiError:
    return ApiError(
        400,
        f"Keys for idempotent requests can only be used {how}. Try using a key other than '{key}' if you meant to "
        "execute a different request.",
        type="idempotency_error",
    )
