"""A desk that runs as in earnest, for stories through the real doors: web, worker, sandbox and Redis in processes of
their own, on the test's database and on free loopback ports. No test beside it takes its hints."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from celery import Celery
from django.conf import settings
from django.db import connection

from backoffice.core import clock, enqueue, operations
from backoffice.core import queries as core
from backoffice.payments.gateway import stripe as provider
from ops_cli.parts.ports import any_free
from ops_cli.parts.redis import server_program
from tests.stripe_sandbox import contract
from tests.stripe_sandbox.server import RunningSandbox, run_sandbox

ROOT = Path(__file__).resolve().parents[1]
SECRET = "whsec_test_desk"
CONNECT_SECRET = "whsec_test_desk_connect"


@dataclass
class Process:
    """One process of ours, with its output in a file."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    log: Path
    process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                cwd=ROOT,
                env={**os.environ, **self.environment},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def kill(self) -> None:
        """End it and its children at once, as a power cut would."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End it as an operator would."""
        self._end(signal.SIGTERM)

    def _end(self, number: int) -> None:
        if self.process is None:
            return
        if self.process.poll() is None:
            os.killpg(self.process.pid, number)
        try:
            self.process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(timeout=30)
        self.process = None

    def said(self) -> str:
        return self.log.read_text(errors="replace")[-4000:] if self.log.exists() else ""


@dataclass
class RunningDesk:
    """The desk's processes, and the environment that leads to it."""

    home: Path
    site: str
    sandbox: RunningSandbox
    environment: dict[str, str]
    broker: Celery
    workers: list[Process] = field(default_factory=list)

    def worker(self) -> Process:
        """Start another worker; returns when it takes tasks."""
        number = len(self.workers) + 1
        name = f"test{number}@{self.home.name}"
        command = [
            *(sys.executable, "-P", "-m", "celery", "--app", "backoffice.celery:app", "--quiet", "worker"),
            *("--hostname", name, "--concurrency", "1", "--loglevel", "INFO", "--without-gossip", "--without-mingle"),
        ]
        worker = Process("worker", command, self.environment, self.home / f"worker{number}.log")
        worker.start()
        self.workers.append(worker)
        wait_until(lambda: "ready." in worker.said(), seconds=60, otherwise=worker.said)
        return worker

    def pass_time(self, seconds: int, *sweeps: str) -> None:
        """Move desk and sandbox forward together, and tick as beat would: the jobs named are sent to the workers."""
        self.sandbox.advance(seconds)
        operations.advance_clock(seconds=seconds)
        if sweeps:
            time.sleep(0.6)  # a worker goes by the earlier time for up to half a second (core/clock.py)
        for name in sweeps:
            self.broker.send_task(name)

    def ops(self, *arguments: str, code: int | None = 0) -> dict[str, Any]:
        """Run `ops … --format json` against this desk; the envelope. `code` None accepts every exit code."""
        done = self.run_ops(*arguments, "--format", "json")
        assert code is None or done.returncode == code, f"{done.returncode}: {done.stdout}{done.stderr}"
        envelope: dict[str, Any] = json.loads(done.stdout) if done.stdout else {}
        return envelope | {"code": done.returncode, "stderr": done.stderr}

    def run_ops(self, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-P", "-m", "ops_cli.main", *arguments],
            cwd=ROOT,
            env={**os.environ, **self.environment},
            capture_output=True,
            text=True,
            input=stdin,
            check=False,
            timeout=120,
        )


@contextmanager
def run_desk(home: Path, *, with_web: bool) -> Iterator[RunningDesk]:
    """Sandbox and web, wired to each other; workers are started by who needs them."""
    port = any_free()
    site = f"http://127.0.0.1:{port}"
    hook = f"{site}/webhooks/stripe" if with_web else None
    with (
        run_redis(home) as redis_url,
        run_sandbox(home, webhook_url=hook, webhook_secret=SECRET, connect_secret=CONNECT_SECRET) as sandbox,
    ):
        environment = {
            "DATABASE_URL": database_url(),
            "REDIS_URL": redis_url,
            "SECRET_KEY": settings.SECRET_KEY,
            "DEBUG": "1",
            "SITE_URL": site,
            "STAYDESK_HOME": str(home),
            "STRIPE_API_BASE": sandbox.base_url,
            "STRIPE_API_KEY": sandbox.api_key,
            "STRIPE_WEBHOOK_SECRET": SECRET,
            "STRIPE_CONNECT_WEBHOOK_SECRET": CONNECT_SECRET,
            "STRIPE_READ_SECONDS": "10",
            "API_LOGIN_RATE": "1000/min",
            "CSRF_TRUSTED_ORIGINS": site,
            "AUDIT_ANCHORS": str(home / "anchors"),
            "PYTHONPATH": str(ROOT),
        }
        command = [
            *(sys.executable, "-P", "-m", "granian", "--interface", "wsgi", "--no-ws", "--host", "127.0.0.1"),
            *("--port", str(port), "--workers", "1", "--blocking-threads", "4", "backoffice.wsgi:application"),
        ]
        web = Process("web", command, environment, home / "web.log")
        desk = RunningDesk(home, site, sandbox, environment, Celery(broker=redis_url, set_as_current=False))
        try:
            if with_web:
                web.start()
                wait_until(lambda: _answers(f"{site}/readyz"), seconds=60, otherwise=web.said)
            yield desk
        finally:
            desk.broker.close()
            for process in (*desk.workers, web):
                process.stop()


@contextmanager
def run_redis(home: Path) -> Iterator[str]:
    """A Redis that forgets; its address."""
    port = any_free()
    command = [str(server_program()), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(home)]
    process = Process("redis", command, {}, home / "redis.log")
    process.start()
    try:
        wait_until(lambda: "Ready to accept connections" in process.said(), seconds=20, otherwise=process.said)
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        process.stop()


@pytest.fixture
def desk(tmp_path: Path, transactional_db: None) -> Iterator[RunningDesk]:
    """A running desk on the test's database, whose rows are committed and seen by every process."""
    with _at_the_desk(tmp_path, with_web=True) as running:
        yield running


@pytest.fixture
def back_office(tmp_path: Path, transactional_db: None) -> Iterator[RunningDesk]:
    """A running desk without its web part: no webhook arrives."""
    with _at_the_desk(tmp_path, with_web=False) as running:
        yield running


@contextmanager
def _at_the_desk(home: Path, *, with_web: bool) -> Iterator[RunningDesk]:
    """What the test does in its own process goes to the same provider and workers, by the same clock."""
    with run_desk(home, with_web=with_web) as running, pytest.MonkeyPatch.context() as patch:
        for name in ("STRIPE_API_BASE", "STRIPE_API_KEY", "SITE_URL"):
            patch.setattr(settings, name, running.environment[name])
        patch.setattr(settings, "STRIPE_READ_SECONDS", 10.0)
        patch.setattr(settings, "VIRTUAL_CLOCK", True)
        patch.setattr(enqueue, "current_app", running.broker)
        provider.gateway.cache_clear()
        clock.install_offset(core.clock_offset)
        try:
            yield running
        finally:
            clock.install_offset(None)
            provider.gateway.cache_clear()
        # What its web was sent and its processes asked for, which no client of this process saw.
        contract.judge_events(running.sandbox)
        assert not running.sandbox.not_simulated()


def wait_until(condition: Any, *, seconds: float, otherwise: Any = lambda: "") -> None:
    """Poll until the condition holds; fails with what `otherwise` says."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s\n{otherwise()}"
        time.sleep(0.1)


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def database_url() -> str:
    """The address of the database that this test runs on."""
    facts = connection.settings_dict
    who = quote(facts["USER"] or "", safe="")
    if facts["PASSWORD"]:
        who += ":" + quote(facts["PASSWORD"], safe="")
    host = facts["HOST"] or ""
    where = f"@{host}:{facts['PORT']}" if not host.startswith("/") else f"@:{facts['PORT']}"
    socket = f"?host={quote(host, safe='')}" if host.startswith("/") else ""
    return f"postgresql://{who}{where}/{quote(facts['NAME'], safe='')}{socket}"
