"""What every part of a desk has in common: a command, a way to tell whether it is well, and a way to stop it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from ops_cli.output import Failed
from ops_cli.parts import processes
from ops_cli.parts.desk import ROOT, Desk
from ops_cli.parts.processes import Account, Record


class PartFailed(Failed):
    """A part did not start; the message names it, why, and where its log is."""


class PortTaken(PartFailed):
    """Somebody else listens on the part's port since it was chosen."""


@dataclass(frozen=True, slots=True)
class Health:
    """The answer of a part to "are you well?". `detail` says why not."""

    ok: bool
    version: str = ""
    detail: str = ""


@dataclass(kw_only=True)
class Part:
    """One process of the desk. Subclasses say what to run and how to ask after it."""

    name: ClassVar[str]
    stop_signal: ClassVar[int] = signal.SIGTERM
    grace: ClassVar[float] = 10.0
    patience: ClassVar[float] = 120.0

    desk: Desk
    environment: Mapping[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)
    _log_began: int = 0

    @property
    def log(self) -> Path:
        return self.desk.logs / f"{self.name}.log"

    @property
    def mark(self) -> str:
        return f"{self.desk.id}:{self.name}"

    @property
    def port(self) -> int | None:
        return self.desk.ports.get(self.name)

    @property
    def address(self) -> str:
        return ""

    @property
    def account(self) -> Account | None:
        """The account to run as; None for the one that runs `ops`."""
        return None

    def command(self) -> Sequence[str]:
        raise NotImplementedError

    def check(self) -> Health:
        """Ask the part itself; never raises."""
        raise NotImplementedError

    def prepare(self) -> None:
        """What must be there before the process starts."""

    def settle(self) -> None:
        """What is done once the process answers for the first time."""

    def record(self) -> Record | None:
        return Record.load(self.desk.run, self.name)

    def spawn(self) -> Record:
        """Start the process and write down which one it is, before anything else can go wrong."""
        self.prepare()
        self.process, record = processes.spawn(
            self.command(),
            name=self.name,
            mark=self.mark,
            log=self.log,
            environment={**os.environ, **self.environment},
            cwd=Path("/") if self.account else ROOT,
            account=self.account,
        )
        self._log_began = record.log_began
        record.save(self.desk.run)
        return record

    @property
    def exit_code(self) -> int | None:
        """The exit code of the process that this one started; None while it runs."""
        return self.process.poll() if self.process else None

    def start(self, *, tick: Callable[[], None]) -> Health:
        """Start the process and wait until it is well. `tick` is called while waiting and may raise.

        Raises PortTaken when its port went to somebody else meanwhile, PartFailed when it ends or stays unwell."""
        self.spawn()
        return self.wait(tick=tick)

    def wait(self, *, tick: Callable[[], None]) -> Health:
        """Wait until the process that was spawned is well; raises as `start` does."""
        deadline = time.monotonic() + self.patience
        while True:
            tick()
            code = self.exit_code
            if code is not None:
                raise self._ended(code)
            health = self.check()
            if health.ok:
                self.settle()
                return health
            if time.monotonic() > deadline:
                raise PartFailed(
                    f"{self.name} did not answer within {self.patience:.0f} s: {health.detail} (log: {self.log})"
                )
            time.sleep(0.1)

    def _ended(self, code: int) -> PartFailed:
        said = last_lines(self.log, 5, since=self._log_began)
        reason = f"{self.name} ended at once with code {code}; its log {self.log} ends with:\n{said}"
        if "ddress already in use" in said or "Address in use" in said:
            return PortTaken(reason)
        return PartFailed(reason)

    def stop(self, *, grace: float | None = None, tick: Callable[[], None] = lambda: None) -> None:
        """Stop the recorded process, if it is still that one, and forget it."""
        record = self.record()
        if record is not None:
            processes.stop(record, by=self.stop_signal, grace=self.grace if grace is None else grace, tick=tick)
        if self.process is not None:
            self.process.wait()
            self.process = None
        Record.forget(self.desk.run, self.name)


def python(*arguments: str) -> list[str]:
    """A command in our interpreter that imports nothing from the directory it happens to stand in."""
    return [sys.executable, "-P", *arguments]


def last_lines(path: Path, count: int, *, since: int = 0) -> str:
    """The end of a log, from the byte `since` on."""
    try:
        with path.open("rb") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(since, end - 20_000))
            text = file.read().decode("utf-8", errors="replace")
    except FileNotFoundError:
        return ""
    return "\n".join(text.splitlines()[-count:])
