"""Delivery of events: signed per attempt, retried on the virtual clock for three days, in no promised order."""

from __future__ import annotations

import hashlib
import hmac
import http.client
import json
import ssl
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

from .context import Context, run_due
from .errors import ApiError, Json
from .events import listening, show
from .store import Store

GIVE_UP_SECONDS = 3 * 86400
_LONGEST_PAUSE = 86400
STALE_SECONDS = 3600.0  # older than any receiver tolerates
OLD_VERSION = "2020-08-27"


@dataclass(frozen=True)
class Outcome:
    """What came of one attempt."""

    status: int | None
    error: str | None = None

    @property
    def delivered(self) -> bool:
        """Only 2xx counts; a redirect is a failure."""
        return self.status is not None and 200 <= self.status < 300


@dataclass(frozen=True)
class Letter:
    """One event for one endpoint; ``secrets`` are two while one of them is being rolled."""

    url: str
    secrets: tuple[str, ...]
    body: bytes
    signed_before: float = 0.0
    copies: int = 1


def sign(secrets: Iterable[str], body: bytes, at: int) -> str:
    """The ``Stripe-Signature`` header, with one v1 for each secret."""
    macs = [hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest() for secret in secrets]
    return ",".join([f"t={at}", *(f"v1={mac}" for mac in macs)])


def pause_after(attempts: int) -> float:
    """Seconds until the next try after ``attempts`` failed ones: 15, 60, 240, … up to a day."""
    return float(min(15 * 4 ** (attempts - 1), _LONGEST_PAUSE))


def send(letter: Letter, timeout: float) -> Outcome:
    """One attempt. Signed with the wall clock, as the receiver's tolerance is about transport, not about the demo. Several
    copies are the very same message, and the last one's answer counts."""
    signature = sign(letter.secrets, letter.body, int(time.time() - letter.signed_before))
    for _ in range(letter.copies):
        outcome = _post(letter, signature, timeout)
    return outcome


def _post(letter: Letter, signature: str, timeout: float) -> Outcome:
    parts = urlsplit(letter.url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    host = parts.hostname or ""
    connection = (
        http.client.HTTPSConnection(host, port, timeout=timeout, context=ssl.create_default_context())
        if parts.scheme == "https"
        else http.client.HTTPConnection(host, port, timeout=timeout)
    )
    headers = {
        "Content-Type": "application/json; charset=utf-8",
        "User-Agent": "Stripe/1.0 (+https://stripe.com/docs/webhooks)",
        "Stripe-Signature": signature,
    }
    try:
        connection.request(
            "POST", (parts.path or "/") + (f"?{parts.query}" if parts.query else ""), body=letter.body, headers=headers
        )
        return Outcome(connection.getresponse().status)
    except (OSError, http.client.HTTPException) as error:
        return Outcome(None, f"{type(error).__name__}: {error}")
    finally:
        connection.close()


class Deliverer:
    """The worker: does what is due on the clock, sends what is due to endpoints, sleeps in between."""

    def __init__(self, store: Store, context: Callable[..., Context], *, timeout: float, workers: int) -> None:
        self._store = store
        self._context = context
        self._timeout = timeout
        self._slots = workers
        self._busy: set[int] = set()
        self._state = threading.Condition()
        self._woken = False
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="deliverer", daemon=True)

    def start(self) -> None:
        """Begin; what an earlier process left undelivered is taken up."""
        self._thread.start()

    def stop(self) -> None:
        """End the loop. Attempts under way are abandoned; being still pending, they are repeated after a restart."""
        with self._state:
            self._stopping = True
            self._state.notify_all()
        self._thread.join(timeout=5)

    def wake(self) -> None:
        """Something may be due."""
        with self._state:
            self._woken = True
            self._state.notify_all()

    def flush(self, timeout: float) -> bool:
        """Wait until everything due has been attempted; whether that happened within ``timeout`` seconds."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            with self._store.transaction() as tx:
                ctx = self._context(tx)
                run_due(ctx)
                idle = not tx.value("SELECT 1 FROM deliveries WHERE state = 'pending' AND due_at <= ? LIMIT 1", ctx.now)
            with self._state:
                if idle and not self._busy:
                    return True
            self.wake()
            time.sleep(0.01)
        return False

    def redeliver(self, event: str, *, times: int, endpoint: str | None = None) -> list[Json]:
        """Send an event again, ``times`` over at the same moment, to one endpoint or to all that are enabled."""
        with self._store.transaction() as tx:
            ctx = self._context(tx)
            owner = tx.value("SELECT account FROM events WHERE id = ?", event)
            letters = [
                (row["id"], self._letter(ctx, event, row["id"]))
                for row in (listening(ctx, connect=owner != ctx.account) if owner else [])
                if endpoint in (None, row["id"])
            ]
        if owner is None:
            raise ApiError(404, f"No such event: '{event}'", code="resource_missing", param="event")
        jobs = [job for job in letters for _ in range(times)]
        results: list[Json] = []
        starting_line = threading.Barrier(len(jobs)) if jobs else None

        def run(endpoint_id: str, letter: Letter) -> None:
            if starting_line:
                starting_line.wait()
            outcome = send(letter, self._timeout)
            results.append({"endpoint": endpoint_id, "status": outcome.status, "error": outcome.error})

        threads = [threading.Thread(target=run, args=job, daemon=True) for job in jobs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return results

    def _run(self) -> None:
        while True:
            pause = self._round()
            with self._state:
                if not self._woken and not self._stopping:
                    self._state.wait(pause)
                self._woken = False
                if self._stopping:
                    return

    def _round(self) -> float:
        """Start what is due and can be started; seconds until it is worth looking again."""
        with self._store.transaction() as tx:
            ctx = self._context(tx)
            run_due(ctx)
            with self._state:
                free, busy = self._slots - len(self._busy), sorted(self._busy)
            rows = tx.rows(
                "SELECT d.id FROM deliveries d LEFT JOIN deliveries a ON a.id = d.after_delivery "
                "WHERE d.state = 'pending' AND d.due_at <= ? AND d.id NOT IN (SELECT value FROM json_each(?)) "
                "AND (a.id IS NULL OR a.attempts > 0 OR a.state NOT IN ('pending', 'held')) "
                "ORDER BY d.due_at, d.id LIMIT ?",
                ctx.now,
                json.dumps(busy),
                free,
            )
            next_due = tx.value(
                "SELECT min(due_at) FROM (SELECT due_at FROM deferred UNION ALL "
                "SELECT due_at FROM deliveries WHERE state = 'pending' AND due_at > ?)",
                ctx.now,
            )
        for row in rows:
            with self._state:
                self._busy.add(row["id"])
            threading.Thread(target=self._attempt, args=(row["id"],), daemon=True).start()
        return 1.0 if next_due is None else min(1.0, max(0.01, next_due - ctx.now))

    def _attempt(self, delivery: int) -> None:
        try:
            with self._store.transaction() as tx:
                rows = tx.rows("SELECT event, endpoint FROM deliveries WHERE id = ?", delivery)
                if not rows:  # forgotten by a reset since it was picked
                    return
                letter = self._letter(self._context(tx), rows[0]["event"], rows[0]["endpoint"])
                for row in tx.rows("DELETE FROM disturbed WHERE delivery = ? RETURNING effect, seconds", delivery):
                    letter = _disturbed(letter, row["effect"], row["seconds"])
            outcome = send(letter, self._timeout)
            with self._store.transaction() as tx:
                self._record(self._context(tx), delivery, outcome)
        finally:
            with self._state:
                self._busy.discard(delivery)
            self.wake()

    def _letter(self, ctx: Context, event: str, endpoint: str) -> Letter:
        shown = show(ctx, ctx.tx.rows("SELECT * FROM events WHERE id = ?", event)[0])
        target = ctx.tx.rows("SELECT doc, private FROM objects WHERE id = ?", endpoint)[0]
        private = json.loads(target["private"])
        rolled = private.get("rolled") or {}
        old = [rolled["secret"]] if rolled and ctx.now < rolled["until"] else []
        return Letter(json.loads(target["doc"])["url"], (private["secret"], *old), json.dumps(shown, indent=2).encode())

    @staticmethod
    def _record(ctx: Context, delivery: int, outcome: Outcome) -> None:
        rows: list[Any] = ctx.tx.rows(
            "SELECT attempts, first_at FROM deliveries WHERE id = ? AND state = 'pending'", delivery
        )
        if not rows:
            return
        attempts = rows[0]["attempts"] + 1
        due_at = ctx.now + pause_after(attempts)
        state = "succeeded" if outcome.delivered else "pending"
        if state == "pending" and due_at - rows[0]["first_at"] > GIVE_UP_SECONDS:
            state = "failed"
        ctx.tx.run(
            "UPDATE deliveries SET state = ?, attempts = ?, due_at = ?, last_status = ?, last_error = ? WHERE id = ?",
            state,
            attempts,
            due_at,
            outcome.status,
            outcome.error,
            delivery,
        )


def _disturbed(letter: Letter, effect: str, seconds: float) -> Letter:
    """What a fault rule makes of a delivery."""
    if effect == "stale_webhook":
        return replace(letter, signed_before=seconds or STALE_SECONDS)
    if effect == "replay_signature":
        return replace(letter, copies=2)
    return replace(letter, body=json.dumps({**json.loads(letter.body), "api_version": OLD_VERSION}, indent=2).encode())
