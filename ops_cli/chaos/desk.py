"""A desk of its own, everything embedded, in a directory that is thrown away; its parts can be killed at any moment."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import mkdtemp
from typing import Final

from ops_cli.journey import Answer
from ops_cli.output import Exit, Failed
from ops_cli.parts import processes, supervisor
from ops_cli.parts.desk import ROOT, Desk, read_json
from ops_cli.parts.part import last_lines, python
from ops_cli.parts.plan import SETTINGS, Plan, make
from ops_cli.parts.postgres import ELSEWHERE
from ops_cli.parts.processes import Record

# Everybody is at one address here, and asks again quickly. A provider that is away is waited for briefly.
SETTINGS_OF_OURS: Final = {
    "API_RATE": "100000/min",
    "API_ANONYMOUS_RATE": "100000/min",
    "API_LOGIN_RATE": "100000/min",
    "STRIPE_READ_SECONDS": "3",
    "LOG_LEVEL": "WARNING",
}
START_SECONDS: Final = 300
COMMAND_SECONDS: Final = 300
# The supervisor gives a part up that dies young three times in a row; whoever kills lets it grow older than that.
OLD_ENOUGH: Final = supervisor.QUICK_DEATH_SECONDS + 1


@dataclass
class ThrowawayDesk:
    """One running desk. What it is asked, it is asked as any other desk: over HTTP and by `ops`."""

    home: Path
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def desk(self) -> Desk:
        return Desk.load(self.home)

    def start(self) -> None:
        """Bring every part up. Raises Failed with what was said."""
        clean = {name: value for name, value in os.environ.items() if name not in SETTINGS and name != processes.MARK}
        self.environment = {**clean, **SETTINGS_OF_OURS, "STAYDESK_HOME": str(self.home)}
        done = self._run("up", "--detach", "--no-demo", seconds=START_SECONDS)
        if done.returncode != Exit.DONE:
            raise Failed(f"a desk for the chaos did not start: {done.stderr.strip()}")
        self.environment = {**self.environment, **self.desk.environment}

    @property
    def site(self) -> str:
        return self.environment["SITE_URL"]

    def ops(self, *arguments: str) -> Answer:
        """Run `ops … --format json` on this desk; a job of its own that is at the very same is waited for. Raises Failed when
        it neither is done nor has findings."""
        until = time.monotonic() + COMMAND_SECONDS
        while True:
            done = self._run(*arguments, "--format", "json", seconds=COMMAND_SECONDS)
            if done.returncode != Exit.LOCKED or time.monotonic() > until:
                break
            time.sleep(1)
        if done.returncode not in {Exit.DONE, Exit.FINDINGS}:
            raise Failed(f"ops {' '.join(arguments)} ended with {done.returncode}: {done.stderr.strip()}")
        envelope = json.loads(done.stdout)
        return Answer(done.returncode, envelope["data"], envelope["summary"])

    def _run(self, *arguments: str, seconds: float) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            python("-m", "ops_cli.main", *arguments),
            cwd=ROOT,
            env=dict(self.environment),
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds,
        )

    def logins(self) -> list[dict[str, str]]:
        """Who may sign in, once the demo's people are there."""
        return list(read_json(self.home / "demo.json").get("logins", []))

    def kill(self, name: str) -> bool:
        """Kill -9 a part, as a power cut would; whether it was up, and old enough to be given another life."""
        record = Record.load(self.home / "run", name)
        if record is None or not record.is_alive or time.time() - record.started_at < OLD_ENOUGH:
            return False
        part = self._plan.part(name)
        if part is None or not part.check().ok:
            return False  # it is still starting: let it live for a while
        record.signal(signal.SIGKILL)
        return True

    @property
    def is_looked_after(self) -> bool:
        """Whether somebody starts its parts again."""
        return supervisor.running(self.desk) is not None

    @property
    def _plan(self) -> Plan:
        return make(self.desk, given=self.desk.given, choose_ports=False)

    def unwell(self) -> list[str]:
        """The parts that do not answer, and the supervisor when it has gone."""
        gone = [] if self.is_looked_after else [supervisor.NAME]
        return gone + [part.name for part in self._plan.parts if not part.check().ok]

    def last_words(self) -> str:
        """The end of the supervisor's log, for a desk that did not come back."""
        return last_lines(self.home / "logs" / "supervisor.log", 10)

    def stop(self) -> None:
        self._run("down", seconds=120)


@contextmanager
def throwaway_desk(*, keep: bool) -> Iterator[ThrowawayDesk]:
    """A running desk; stopped afterwards, and removed unless `keep`."""
    one = ThrowawayDesk(Path(mkdtemp(prefix="staydesk-chaos-")))
    try:
        one.start()
        yield one
    finally:
        one.stop()
        if not keep:
            for base in ELSEWHERE:
                shutil.rmtree(base / one.desk.id, ignore_errors=True)
            shutil.rmtree(one.home, ignore_errors=True)
