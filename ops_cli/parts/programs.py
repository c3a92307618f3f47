"""The parts that are our own programs: the Stripe sandbox, web, worker and beat."""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import ClassVar

from ops_cli.parts.part import Health, Part, python
from ops_cli.parts.ports import LOOPBACK

SANDBOX_SEED = 7


@dataclass(kw_only=True)
class Sandbox(Part):
    """The local server that speaks Stripe's wire API."""

    name = "sandbox"
    webhook_url: str = ""

    @property
    def address(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"

    def command(self) -> Sequence[str]:
        return python(
            "-m", "ops_cli.stripe_sandbox",
            "--host", LOOPBACK,
            "--port", str(self.port),
            "--db", str(self.desk.home / "stripe" / "sandbox.sqlite3"),
            "--webhook-url", self.webhook_url,
            "--webhook-secret", self.desk.secret("STRIPE_WEBHOOK_SECRET", prefix="whsec_", length=24),
            # What happens on hosts' accounts is told apart, with a secret of its own, to the same door.
            "--connect-webhook-url", self.webhook_url,
            "--connect-webhook-secret", self.desk.secret("STRIPE_CONNECT_WEBHOOK_SECRET", prefix="whsec_", length=24),
            "--seed", str(SANDBOX_SEED),
        )  # fmt: skip

    def prepare(self) -> None:
        (self.desk.home / "stripe").mkdir(parents=True, exist_ok=True)

    def check(self) -> Health:
        return ask(f"{self.address}/_sim/health")


@dataclass(kw_only=True)
class Web(Part):
    """Console, API and their documentation, served by Granian."""

    name = "web"
    grace: ClassVar[float] = 15.0

    @property
    def address(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"

    def command(self) -> Sequence[str]:
        # One database connection for each thread: workers × threads stays far below max_connections.
        workers = max(2, min(4, os.cpu_count() or 2))
        return python(
            "-m", "granian", "--interface", "wsgi", "--http", "1", "--no-ws",
            "--host", LOOPBACK,
            "--port", str(self.port),
            "--workers", str(workers),
            "--blocking-threads", "8",
            "--respawn-failed-workers",
            "--workers-kill-timeout", "10",
            "backoffice.wsgi:application",
        )  # fmt: skip

    def check(self) -> Health:
        """Whether the desk answers and says itself that its parts are there."""
        health = ask(f"{self.address}/readyz", headers={"X-Forwarded-Proto": "https"})
        return Health(health.ok, f"django {version('django')}, granian {version('granian')}", health.detail)


@dataclass(kw_only=True)
class Worker(Part):
    """The Celery worker."""

    name = "worker"
    grace: ClassVar[float] = 20.0

    @property
    def node(self) -> str:
        return f"worker@{self.desk.id}"

    def command(self) -> Sequence[str]:
        return python(
            "-m", "celery", "--app", "backoffice.celery:app", "--quiet", "worker",
            "--hostname", self.node,
            "--concurrency", "2",
            "--loglevel", "INFO",
            "--without-gossip", "--without-mingle",
        )  # fmt: skip

    def check(self) -> Health:
        """Ping the worker through the broker, as whoever sends it a task would reach it."""
        from celery import Celery

        app = Celery(broker=self.environment["REDIS_URL"])
        app.conf.broker_connection_max_retries = 0
        try:
            replies = app.control.ping(destination=[self.node], timeout=1.0, limit=1)
        except Exception as error:  # kombu lets the errors of whichever transport through
            return Health(ok=False, detail=str(error))
        finally:
            app.close()
        if not replies:
            return Health(ok=False, detail="does not answer a ping")
        return Health(ok=True, version=f"celery {version('celery')}")


@dataclass(kw_only=True)
class Beat(Part):
    """The Celery scheduler: starts what runs by itself."""

    name = "beat"

    def command(self) -> Sequence[str]:
        return python(
            "-m", "celery", "--app", "backoffice.celery:app", "--quiet", "beat",
            "--schedule", str(self.desk.run / "beat-schedule"),
            "--pidfile", "",
            "--loglevel", "INFO",
        )  # fmt: skip

    def check(self) -> Health:
        record = self.record()
        if record is None or not record.is_alive:
            return Health(ok=False, detail="not running")
        return Health(ok=True, version=f"celery {version('celery')}")


def ask(url: str, *, headers: dict[str, str] | None = None, timeout: float = 5.0) -> Health:
    """Ask a health address of ours; the version is in the answer when it is a JSON object that has one."""
    request = urllib.request.Request(url, headers=headers or {})  # noqa: S310  the address is ours: http and loopback
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(request, timeout=timeout) as answer:
            text = answer.read(65_536).decode(errors="replace")
    except urllib.error.HTTPError as error:
        said = " ".join(error.read(300).decode(errors="replace").split())
        return Health(ok=False, detail=f"{url} answered {error.code}: {said}")
    except (OSError, ValueError) as error:
        return Health(ok=False, detail=f"{url}: {error}")
    return Health(ok=True, version=_stated_version(text))


def _stated_version(text: str) -> str:
    try:
        facts = json.loads(text)
    except ValueError:
        return ""
    return str(facts.get("version") or facts.get("api_version") or "") if isinstance(facts, dict) else ""
