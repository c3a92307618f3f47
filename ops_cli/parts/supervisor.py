"""Starts the parts of a desk in order, keeps them running, and stops exactly what it started, in reverse order."""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Final

from ops_cli.output import Exit
from ops_cli.parts import processes
from ops_cli.parts.desk import ROOT, Desk
from ops_cli.parts.part import Health, Part, PartFailed, PortTaken, last_lines, python
from ops_cli.parts.plan import Plan, given_settings, make
from ops_cli.parts.postgres import Postgres
from ops_cli.parts.processes import Record
from ops_cli.parts.programs import Beat, Sandbox, Web, Worker
from ops_cli.parts.redis import Redis
from ops_cli.parts.reporting import Journal, Pipe, Reporter

NAME: Final = "supervisor"
# A part that lives less than this has not really started; three such deaths in a row and the desk gives up.
QUICK_DEATH_SECONDS: Final = 30.0
QUICK_DEATHS: Final = 3
PART_TYPES: Final[tuple[type[Part], ...]] = (Postgres, Redis, Sandbox, Web, Worker, Beat)
# These need a migrated database, and start side by side.
OURS: Final = ("web", "worker", "beat")
STEPS: Final = ("settings", "migrate", "static", "demo")
_STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(Exception):
    """Somebody asked the desk to stop while it was starting."""


class _EarlierDied(Exception):
    """A part that this one needs has died while this one was being started again."""


class AlreadyRunning(Exception):
    """Another supervisor holds this desk."""


@dataclass(slots=True)
class _Deaths:
    """How often a part died young lately."""

    born: float = 0.0
    quick: int = 0


@dataclass(slots=True, eq=False)
class Supervisor:
    """Runs one desk. `start`, then `watch`, then `stop`; `hold` must be entered around them."""

    desk: Desk
    report: Reporter
    web_port: int | None = None
    with_demo: bool = True
    plan: Plan = field(init=False, repr=False)
    failure: str = ""
    _stops: int = 0
    _deaths: dict[str, _Deaths] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.plan = Plan(desk=self.desk, parts=[], environment={})

    @contextlib.contextmanager
    def hold(self) -> Iterator[None]:
        """Be the only supervisor of this desk, and listen for signals. Raises AlreadyRunning.

        The lock is the kernel's: it is free again however this process ends."""
        self.desk.run.mkdir(parents=True, exist_ok=True)
        with (self.desk.run / "desk.lock").open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise AlreadyRunning from None
            before = {number: signal.signal(number, self._on_signal) for number in _STOP_SIGNALS}
            try:
                processes.of_this_process(NAME, state="starting").save(self.desk.run)
                yield
            finally:
                Record.forget(self.desk.run, NAME)
                for number, handler in before.items():
                    signal.signal(number, handler)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._stops += 1

    def _tick(self) -> None:
        if self._stops:
            raise Interrupted

    def start(self) -> None:
        """Bring every part up. Raises PartFailed or Interrupted; what was started by then is for `stop`."""
        self._end_orphans()
        for attempt in range(3):
            self.plan = make(self.desk, given=given_settings(), web_port=self.web_port)
            for name, (wanted, instead) in self.plan.moved.items():
                self.report.warn(f"port {wanted} is in use by another program: {name} takes {instead}")
            try:
                self._start_parts()
                break
            except PortTaken:
                if attempt == 2:
                    raise
                self.stop()
        if self.with_demo:
            self._load_demo()
        processes.of_this_process(NAME, state="ready").save(self.desk.run)

    def _start_parts(self) -> None:
        self.desk.environment, self.desk.given = dict(self.plan.environment), given_settings()
        self.desk.save()
        self._step("settings", "checking the settings", python("-c", "import backoffice.settings"))
        with self._static() as collected:
            for part in self.plan.parts:
                if part.name not in OURS:
                    self.report.begin(f"starting {part.name}")
                    self._came_up(part, part.start(tick=self._tick))
            # The system's checks are for whoever changes it (.ci/run): they would load the whole console here.
            self._step("migrate", "migrating the database", _manage("migrate", "--noinput", "--skip-checks"))
            collected()
        ours = [part for part in self.plan.parts if part.name in OURS]
        self.report.begin(f"starting {', '.join(part.name for part in ours)}")
        for part in ours:
            part.spawn()
        for part in ours:
            self._came_up(part, part.wait(tick=self._tick))

    def _came_up(self, part: Part, health: Health) -> None:
        self._deaths[part.name] = _Deaths(born=time.monotonic())
        self.report.end(" ".join(filter(None, [part.name, health.version, part.address])))
        if isinstance(part, Postgres) and part.note:
            self.report.warn(part.note)

    def _step(self, name: str, text: str, command: list[str]) -> None:
        """Run one command to its end; PartFailed with its last line when it fails."""
        with self._beside(name, text, command) as wait:
            wait()

    @contextlib.contextmanager
    def _beside(self, name: str, text: str, command: list[str]) -> Iterator[Callable[[], None]]:
        """Run one command beside the block, which waits for its end where it needs it: PartFailed with its last line when it
        fails. It does not outlive the block."""
        log = self.desk.logs / f"{name}.log"
        process, record = processes.spawn(
            command,
            name=name,
            mark=f"{self.desk.id}:{name}",
            log=log,
            environment={**os.environ, **self.plan.environment},
            cwd=ROOT,
        )
        record.save(self.desk.run)

        def wait() -> None:
            self.report.begin(text)
            while process.poll() is None:
                self._tick()
                time.sleep(0.05)
            if process.returncode:
                reason = _reason(log, record.log_began) or f"code {process.returncode}"
                code = Exit.USAGE if process.returncode == Exit.USAGE else Exit.FAILURE
                raise PartFailed(f"{text} failed: {reason} (log: {log})", code=code)
            self.report.end(text)

        try:
            yield wait
        finally:
            processes.stop(record, by=signal.SIGTERM, grace=10)
            process.wait()
            Record.forget(self.desk.run, name)

    @contextlib.contextmanager
    def _static(self) -> Iterator[Callable[[], None]]:
        """Gather the console's static files beside the block, unless nothing that they come from has changed."""
        stamp, now = self.desk.home / "static" / ".collected-from", _static_sources()
        if stamp.exists() and stamp.read_text(encoding="utf-8") == now:
            yield lambda: None
            return
        with self._beside("static", "collecting static files", _manage("collectstatic", "--noinput")) as wait:
            yield wait
        stamp.parent.mkdir(parents=True, exist_ok=True)
        stamp.write_text(now, encoding="utf-8")

    def _load_demo(self) -> None:
        """Load the demo into an empty desk. A desk without it is still a desk: a failure is told, not fatal."""
        from ops_cli.main import COMMANDS

        if "seed" not in COMMANDS:
            return
        try:
            self._step("demo", "loading the demo", python("-m", "ops_cli.main", "seed", "demo", "--if-empty"))
        except PartFailed as error:
            self.report.warn(f"{error.message}; `ops seed demo` tries again")

    def watch(self) -> Exit:
        """Restart what dies, until somebody asks to stop (DONE) or a part dies young again and again (FAILURE)."""
        while not self._stops:
            dead = next((part for part in self.plan.parts if part.exit_code is not None), None)
            if dead is None:
                time.sleep(0.2)
            elif not self._revive(dead):
                return Exit.FAILURE
        return Exit.DONE

    def _tick_for(self, part: Part) -> None:
        """Parts need those before them. Whoever waits for a later one while an earlier one is dead waits for nothing."""
        self._tick()
        if any(earlier.exit_code is not None for earlier in self.plan.parts[: self.plan.parts.index(part)]):
            raise _EarlierDied

    def _revive(self, part: Part) -> bool:
        deaths, code = self._deaths[part.name], part.exit_code
        lived = time.monotonic() - deaths.born
        deaths.quick = deaths.quick + 1 if lived < QUICK_DEATH_SECONDS else 1
        if deaths.quick >= QUICK_DEATHS:
            self.failure = (
                f"{part.name} died {QUICK_DEATHS} times in a row; its log {part.log} ends with:\n"
                f"{last_lines(part.log, 10)}"
            )
            return False
        self.report.warn(f"{part.name} ended ({_manner(code)}); starting it again")
        part.stop(grace=0)
        pause = 0.2 * 4 ** (deaths.quick - 1)
        try:
            processes.wait_until(lambda: False, seconds=pause, tick=self._tick)
            deaths.born = time.monotonic()
            part.start(tick=lambda: self._tick_for(part))
        except Interrupted:
            return True
        except _EarlierDied:  # it runs, and is looked after again once the other does
            deaths.quick -= 1
            return True
        except PartFailed as error:
            self.report.warn(error.message)
            return True
        self.report.end(f"{part.name} runs again")
        return True

    def stop(self) -> None:
        """Stop every part of ours in reverse order; a second signal cuts the waiting short."""
        asked = self._stops
        for part in reversed(self.plan.parts):
            if part.record() is None:
                continue
            self.report.begin(f"stopping {part.name}")
            try:
                part.stop(tick=lambda: self._hurry(asked))
            except Interrupted:
                part.stop(grace=0)
            self.report.end(f"{part.name} stopped")

    def _hurry(self, asked: int) -> None:
        if self._stops > max(asked, 1):
            raise Interrupted

    def _end_orphans(self) -> None:
        """Stop what an earlier supervisor left running when it was killed: it is ours, and nobody looks after it."""
        for record in recorded(self.desk):
            if record.is_alive:
                self.report.warn(f"{record.name} was left running by a desk that was killed; stopping it")
            end(record, self.desk)


def run(supervisor: Supervisor, *, on_ready: Callable[[], None]) -> Exit:
    """One whole life of a desk: start, tell that it is ready, watch, stop. Raises AlreadyRunning or PartFailed."""
    with supervisor.hold():
        try:
            supervisor.start()
            on_ready()
            return supervisor.watch()
        except Interrupted:
            return Exit.INTERRUPTED
        finally:
            supervisor.stop()


def recorded(desk: Desk) -> list[Record]:
    """What this desk has written down as started, in the order in which it is to be stopped."""
    names = (*(part.name for part in PART_TYPES), *STEPS)
    return [record for name in reversed(names) if (record := Record.load(desk.run, name)) is not None]


def end(record: Record, desk: Desk) -> None:
    """Stop a recorded process and forget it."""
    how = next((part for part in PART_TYPES if part.name == record.name), None)
    processes.stop(record, by=how.stop_signal if how else signal.SIGTERM, grace=how.grace if how else 10.0)
    Record.forget(desk.run, record.name)


def running(desk: Desk) -> Record | None:
    """The supervisor that runs this desk now."""
    record = Record.load(desk.run, NAME)
    return record if record is not None and record.is_alive else None


def state(desk: Desk) -> str:
    """ "starting", "ready", or "" when no supervisor runs."""
    record = running(desk)
    return str(record.details.get("state", "")) if record else ""


def _manage(*arguments: str) -> list[str]:
    return python(str(ROOT / "manage.py"), *arguments)


def _manner(code: int | None) -> str:
    if code is not None and code < 0:
        return f"killed by {signal.Signals(-code).name}"
    return f"code {code}"


def _reason(log: Path, since: int) -> str:
    """The line that says why a command failed: the last that reads like an error, else the last."""
    lines = [line.strip() for line in last_lines(log, 40, since=since).splitlines() if line.strip()]
    telling = [line for line in lines if re.match(r"staydesk: |ops: |[\w.]*(Error|Exception|Refused)\b", line)]
    return (telling or lines or [""])[-1].removeprefix("staydesk: ").removeprefix("ops: ")


def _static_sources() -> str:
    """A digest of what static files are made from: the pins, and our own files' names, sizes and times."""
    digest = hashlib.sha256((ROOT / "requirements" / "run.txt").read_bytes())
    for file in sorted(ROOT.glob("backoffice/**/static/**/*")):
        facts = file.stat()
        digest.update(f"{file.relative_to(ROOT)}:{facts.st_size}:{facts.st_mtime_ns}".encode())
    return digest.hexdigest()


def main() -> int:
    """A detached desk: tells its start by JSON lines on stdout, then writes to its log only."""
    parser = argparse.ArgumentParser(description="Run a desk in the background (use `ops up --detach`).")
    parser.add_argument("--port", type=int)
    parser.add_argument("--no-demo", action="store_true")
    options = parser.parse_args()
    pipe = Pipe(sys.stdout)
    supervisor = Supervisor(Desk.load(), pipe, web_port=options.port, with_demo=not options.no_demo)

    def let_go() -> None:
        pipe.tell(ready=True)
        supervisor.report = Journal(sys.stderr)
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)

    try:
        code = run(supervisor, on_ready=let_go)
    except PartFailed as error:
        pipe.tell(failed=error.message, code=int(error.code))
        return error.code
    except AlreadyRunning:
        pipe.tell(failed="another desk is starting here at this very moment", code=int(Exit.LOCKED))
        return Exit.LOCKED
    if supervisor.failure:
        supervisor.report.warn(supervisor.failure)
    return code


if __name__ == "__main__":
    raise SystemExit(main())
