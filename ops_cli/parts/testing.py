"""The parts that the tests run on: a PostgreSQL and a Redis of their own, thrown away afterwards."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from ops_cli.parts import ports, processes, supervisor
from ops_cli.parts.desk import Desk, home_directory
from ops_cli.parts.part import Part
from ops_cli.parts.postgres import ELSEWHERE, Postgres
from ops_cli.parts.processes import Record
from ops_cli.parts.redis import Redis

OWNER: Final = "tests"
PYTEST: Final = "pytest"
# A run writes down who it is right after it made its directory.
BIRTH_SECONDS: Final = 60
MAX_CONNECTIONS: Final = 500
# A test that forgets to say where its provider is must fail here, never reach the real one.
NOWHERE: Final = "http://127.0.0.1:9"


@contextlib.contextmanager
def parts(*, tick: Callable[[], None]) -> Iterator[tuple[Desk, dict[str, str]]]:
    """Start them, yield their desk and the environment for the tests, stop and remove them.

    What the environment gives (DATABASE_URL, REDIS_URL) is used instead. Several runs do not disturb each other, nor a
    running desk."""
    base = home_directory() / "test"
    _remove_abandoned(base)
    home = base / f"run-{os.getpid()}"
    desk = Desk(home=home)
    desk.id = Desk.load(home).id
    desk.ports = {name: ports.any_free() for name in ("postgres", "redis")}
    processes.of_this_process(OWNER).save(desk.run)
    started: list[Part] = []
    # Nothing is gathered there for tests; each client would warn of its absence.
    (home / "home" / "static").mkdir(parents=True)
    environment = {
        "SECRET_KEY": desk.secret("SECRET_KEY"),
        "DEBUG": "1",
        "STAYDESK_HOME": str(home / "home"),
        "STRIPE_API_BASE": NOWHERE,
        "STRIPE_WEBHOOK_SECRET": desk.secret("STRIPE_WEBHOOK_SECRET", prefix="whsec_"),
        "STRIPE_CONNECT_WEBHOOK_SECRET": desk.secret("STRIPE_CONNECT_WEBHOOK_SECRET", prefix="whsec_"),
    }
    try:
        if not os.environ.get("DATABASE_URL"):
            postgres = Postgres(desk=desk, data=home / "pg", max_connections=MAX_CONNECTIONS, durable=False, owner=None)
            started.append(postgres)
            postgres.start(tick=tick)
            environment["DATABASE_URL"] = postgres.url
        if not os.environ.get("REDIS_URL"):
            redis = Redis(desk=desk, data=home / "redis", durable=False)
            started.append(redis)
            redis.start(tick=tick)
            environment["REDIS_URL"] = redis.url
        yield desk, environment
    finally:
        for part in reversed(started):
            part.stop(grace=5)
        _remove(desk)


def _remove_abandoned(base: Path) -> None:
    """End and remove what a killed test run left behind."""
    for home in base.glob("run-*"):
        owner = Record.load(home / "run", OWNER)
        is_being_made = owner is None and time.time() - home.stat().st_mtime < BIRTH_SECONDS
        if not is_being_made and (owner is None or not owner.is_alive):
            desk = Desk.load(home)
            for record in [Record.load(desk.run, PYTEST), *supervisor.recorded(desk)]:
                if record is not None:
                    supervisor.end(record, desk)
            _remove(desk)


def _remove(desk: Desk) -> None:
    for base in ELSEWHERE:
        shutil.rmtree(base / desk.id, ignore_errors=True)
    shutil.rmtree(desk.home, ignore_errors=True)
