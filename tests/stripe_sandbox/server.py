"""A real sandbox process for tests: on a free loopback port, with its own file, ended when the block ends.

with run_sandbox(tmp_path, webhook_url=url) as sandbox:
    sandbox.client().v1.payment_intents.create({...})
    sandbox.advance(86400)
"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import stripe

ROOT = Path(__file__).resolve().parents[2]
Json = dict[str, Any]


class ControlError(Exception):
    """A control endpoint refused; the status and body it gave."""

    def __init__(self, status: int, body: Json) -> None:
        super().__init__(f"{status}: {body}")
        self.status = status
        self.body = body


@dataclass
class RunningSandbox:
    """One sandbox process and everything a test does to it."""

    command: list[str]
    store: Path
    webhook_secret: str
    connect_secret: str = "whsec_test_connect"
    api_key: str = "sk_test_sandbox"
    base_url: str = ""
    on_clock: Callable[[], None] = lambda: None  # told when a test has moved the virtual time
    process: subprocess.Popen[str] = field(init=False)

    def start(self) -> None:
        """Start the process; returns when it listens. A restart keeps the port."""
        port = self.base_url.rpartition(":")[2] or "0"
        self.process = subprocess.Popen(
            [*self.command, "--port", port], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line.startswith("ready "):
            raise RuntimeError(f"the sandbox did not start: {self.process.communicate()[1]}")
        self.base_url = line.split()[1]

    def stop(self) -> int:
        """End it as an operator would (SIGTERM); the exit code."""
        return self._end(signal.SIGTERM)

    def kill(self) -> int:
        """End it as a crash would (SIGKILL)."""
        return self._end(signal.SIGKILL)

    def client(self, http_client: stripe.HTTPClient | None = None, **options: Any) -> stripe.StripeClient:
        """The official SDK, pointed here."""
        stripe.enable_telemetry = False
        return stripe.StripeClient(
            self.api_key,
            base_addresses={"api": self.base_url, "files": self.base_url},
            http_client=http_client or stripe.RequestsClient(timeout=20),
            **options,
        )

    def control(self, method: str, path: str, body: Json | None = None) -> Json:
        """Call a control endpoint such as ``/_sim/state``. Raises ControlError for a refusal."""
        request = urllib.request.Request(
            self.base_url + path, method=method, data=None if body is None else json.dumps(body).encode()
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                return json.load(response)
        except urllib.error.HTTPError as error:
            raise ControlError(error.code, json.load(error)) from error

    def advance(self, seconds: float) -> Json:
        """Move the virtual clock forward and do what falls due."""
        return self._move({"advance": seconds})

    def set_clock(self, to: float | str) -> Json:
        """Move the virtual clock forward to an instant (epoch seconds or ISO)."""
        return self._move({"set": to})

    def _move(self, how: Json) -> Json:
        moved = self.control("POST", "/_sim/clock", how)
        self.on_clock()
        return moved

    def now(self) -> float:
        """The virtual time, epoch seconds."""
        return float(self.control("GET", "/_sim/clock")["now"])

    def ahead(self) -> float:
        """How many seconds its clock is ahead of ours, unless it is frozen. Read from its file: a desk asks at every step."""
        return sum(float(row[0]) for row in self._kept("SELECT value FROM meta WHERE name = 'clock_offset'"))

    def fault(self, effect: str, **rule: Any) -> Json:
        """Add a fault rule."""
        return self.control("POST", "/_sim/faults", {"effect": effect, **rule})

    def clear_faults(self) -> None:
        """Remove all fault rules."""
        self.control("DELETE", "/_sim/faults")

    def drift(self, kind: str = "altered", **which: Any) -> Json:
        """Falsify a balance transaction; what was changed."""
        return self.control("POST", "/_sim/drift", {"kind": kind, **which})

    def redeliver(self, event: str, times: int = 1) -> list[Json]:
        """Send an event again, ``times`` over at once; the outcome of each."""
        return list(self.control("POST", "/_sim/webhooks/redeliver", {"event": event, "times": times})["deliveries"])

    def events(self) -> list[Json]:
        """Every event since the last reset as its endpoints got it, of all accounts, also what is too old to be listed. Read
        from its file, so that neither a fault nor the end of the process stands in between."""
        return [{**json.loads(row[0]), "pending_webhooks": 0} for row in self._kept("SELECT doc FROM events")]

    def not_simulated(self) -> list[str]:
        """The last answer 501 since the start, if there was one."""
        return [row[0] for row in self._kept("SELECT value FROM meta WHERE name = 'not_simulated'")]

    def _kept(self, question: str) -> list[tuple[str]]:
        with closing(sqlite3.connect(f"{self.store.as_uri()}?mode=ro", uri=True, timeout=10)) as db:
            return db.execute(question).fetchall()

    def flush(self, timeout: float = 30) -> bool:
        """Wait until every delivery that is due has been attempted."""
        return bool(self.control("POST", "/_sim/webhooks/flush", {"timeout": timeout})["flushed"])

    def complete_challenge(self, intent: str, outcome: str = "succeed") -> Json:
        """Do what the guest does on the bank's page."""
        return self.control("POST", f"/_sim/3ds/{intent}/complete", {"outcome": outcome})

    def _end(self, number: signal.Signals) -> int:
        if self.process.poll() is None:
            os.kill(self.process.pid, number)
        self.process.communicate(timeout=20)
        return self.process.returncode


@contextmanager
def run_sandbox(
    tmp_path: Path,
    webhook_url: str | None = None,
    webhook_secret: str = "whsec_test",
    connect_secret: str | None = None,
    **options: Any,
) -> Iterator[RunningSandbox]:
    """A sandbox with its file in ``tmp_path``; ``options`` are those of the command line (``clock="frozen"``).

    With a ``connect_secret`` the events of connected accounts go to ``webhook_url`` too, signed with that."""
    store = tmp_path / "stripe.sqlite3"
    command = [sys.executable, "-m", "ops_cli.stripe_sandbox", "--db", str(store)]
    if webhook_url is not None:
        command += ["--webhook-url", webhook_url, "--webhook-secret", webhook_secret]
        if connect_secret is not None:
            command += ["--connect-webhook-url", webhook_url, "--connect-webhook-secret", connect_secret]
    for name, value in options.items():
        command += [f"--{name.replace('_', '-')}", str(value)]
    sandbox = RunningSandbox(command, store.resolve(), webhook_secret, connect_secret or "whsec_test_connect")
    sandbox.start()
    try:
        yield sandbox
    finally:
        sandbox.stop()
