"""Processes of ours, told apart from all others by pid *and* birth: a recycled pid is never mistaken for ours."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

import psutil

from ops_cli.parts.desk import read_json, write_private

# Every process started for a desk carries this variable, and its own children inherit it: a leftover can be recognised
# after the process that started it was killed.
MARK: Final = "STAYDESK_PART"
# A log larger than this is set aside when its process starts again; one earlier log is kept.
LOG_BYTES: Final = 20_000_000


def birth(pid: int) -> str | None:
    """What distinguishes this process from an earlier or later one of the same pid; None when there is none alive.

    On Linux the kernel's start ticks and boot id, which do not move when the wall clock is set."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except FileNotFoundError:
        return None if Path("/proc/self/stat").exists() else _portable_birth(pid)
    except ProcessLookupError:
        return None
    fields = stat.rpartition(")")[2].split()
    is_zombie = fields[0] in {"Z", "X"}
    return None if is_zombie else f"{_boot_id()}:{fields[19]}"


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def _portable_birth(pid: int) -> str | None:
    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else f"{process.create_time():.2f}"
    except psutil.Error:
        return None


@dataclass(frozen=True, slots=True)
class Record:
    """A process as written to `run/<name>.json`: enough to find it again and to be sure that it is the one."""

    name: str
    pid: int
    birth: str
    started_at: float
    mark: str = ""
    log_began: int = 0
    details: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_alive(self) -> bool:
        return bool(self.birth) and birth(self.pid) == self.birth

    @property
    def uptime(self) -> int:
        """Whole seconds since the process was started."""
        return max(0, int(time.time() - self.started_at))

    def signal(self, number: int) -> None:
        """Send a signal to exactly this process; nothing when it is gone. PermissionError when it is another user's."""
        if self.is_alive:
            try:
                os.kill(self.pid, number)
            except ProcessLookupError:
                return

    def save(self, directory: Path) -> None:
        write_private(directory / f"{self.name}.json", json.dumps(asdict(self)) + "\n")

    @classmethod
    def load(cls, directory: Path, name: str) -> Record | None:
        memory = read_json(directory / f"{name}.json")
        try:
            return cls(
                name=name,
                pid=int(memory["pid"]),
                birth=str(memory["birth"]),
                started_at=float(memory["started_at"]),
                mark=str(memory.get("mark", "")),
                details=memory.get("details", {}),
            )
        except (KeyError, TypeError, ValueError):
            return None

    @staticmethod
    def forget(directory: Path, name: str) -> None:
        (directory / f"{name}.json").unlink(missing_ok=True)


def of_this_process(name: str, **details: str) -> Record:
    """A record of the running interpreter itself."""
    return Record(name, os.getpid(), birth(os.getpid()) or "", time.time(), details=details)


@dataclass(frozen=True, slots=True)
class Account:
    """The account of the operating system that a process runs as; ours unless given."""

    uid: int
    gid: int
    name: str


def spawn(
    command: Sequence[str],
    *,
    name: str,
    mark: str,
    log: Path,
    environment: Mapping[str, str],
    cwd: Path,
    account: Account | None = None,
    stdin: int = subprocess.DEVNULL,
) -> tuple[subprocess.Popen[bytes], Record]:
    """Start a process in a session of its own, so that Ctrl-C reaches only the one who stops it in order.

    Its output is appended to `log`."""
    log.parent.mkdir(parents=True, exist_ok=True)
    if log.exists() and log.stat().st_size > LOG_BYTES:
        log.replace(log.with_suffix(".log.1"))
    with log.open("ab") as output:
        log_began = output.tell()
        process = subprocess.Popen(
            list(command),
            stdin=stdin,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=cwd,
            env={**environment, MARK: mark},
            start_new_session=True,
            user=account.uid if account else None,
            group=account.gid if account else None,
            extra_groups=[] if account else None,
        )
    record = Record(name, process.pid, birth(process.pid) or "", time.time(), mark=mark, log_began=log_began)
    return process, record


def stop(record: Record, *, by: int, grace: float, tick: Callable[[], None] = lambda: None) -> bool:
    """Ask the process to end, wait `grace` seconds, then kill it, and end what it left behind.

    Returns whether it ended by itself. `tick` is called while waiting; it may raise to cut the wait short."""
    record.signal(by)
    gentle = wait_until(lambda: not record.is_alive, seconds=grace, tick=tick)
    if not gentle:
        record.signal(signal.SIGKILL)
        wait_until(lambda: not record.is_alive, seconds=5)
    end_leftovers(record)
    return gentle


def end_leftovers(record: Record) -> int:
    """Kill what a dead process left behind (a web server's workers outlive it). Returns how many there were.

    They are known by the mark that they inherited, which names this desk and this part; nobody else's carry it."""
    if record.is_alive or not record.mark:
        return 0
    left = [process for process in psutil.process_iter() if _carries(process, record.mark)]
    for process in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(left, timeout=5)
    return len(left)


def _carries(process: psutil.Process, mark: str) -> bool:
    try:
        return process.environ().get(MARK) == mark
    except (psutil.Error, OSError):
        return False


def wait_until(
    condition: Callable[[], bool], *, seconds: float, every: float = 0.05, tick: Callable[[], None] = lambda: None
) -> bool:
    """Poll until the condition holds, at most `seconds`. Returns whether it does."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= deadline:
            return False
        tick()
        time.sleep(every)
    return True
