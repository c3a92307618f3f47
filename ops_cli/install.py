"""Makes `.venv` and installs the pinned dependencies. Runs under a bare Python 3.11 to 3.13: standard library only.

Called by the launcher as `python install.py ROOT run|test`. Exit codes: 0 installed, 1 failed, 7 the package index did
not answer (safe to retry), 130 interrupted.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# What pip says -> what to do about it; the first match wins.
REMEDIES = (
    (r"do not match the hashes|THESE PACKAGES DO NOT MATCH", 1, "a package is not the one that was pinned: do not use "
     "this package index; if you changed the pins, see requirements/README.md"),
    (r"No space left on device", 1, "the disk is full: free about 1 GB and run it again"),
    (r"Failed to establish a new connection|Temporary failure|timed out|ConnectionError|SSLError|ProxyError|"
     r"Connection (refused|reset|broken)|Max retries", 7,
     "the package index did not answer: check the network or `pip config list`, then run it again"),
    (r"No matching distribution|Could not find a version", 1, "no ready-made package for this Python or system: try "
     "another Python of 3.11 to 3.13 by STAYDESK_PYTHON"),
)  # fmt: skip


class Failed(Exception):
    """The install did not work; carries one line for the user and the exit code."""

    def __init__(self, line: str, code: int = 1) -> None:
        super().__init__(line)
        self.code = code


class Meter:
    """Says how far it is: a line that renews itself on a terminal, otherwise a line every ten seconds."""

    def __init__(self) -> None:
        self.is_terminal = sys.stderr.isatty()
        self.began = time.monotonic()
        self._text = ""
        self._said_at = self.began
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Meter:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
        if self.is_terminal:
            sys.stderr.write("\r\033[K")

    @property
    def seconds(self) -> int:
        return int(time.monotonic() - self.began)

    def say(self, text: str, *, now: bool = False) -> None:
        """What is being done. `now`: without a terminal, print it at once instead of at the next tenth second."""
        self._text = text
        if now and not self.is_terminal:
            self._print()

    def _print(self) -> None:
        self._said_at = time.monotonic()
        print(f"ops: {self._text}", file=sys.stderr, flush=True)

    def _run(self) -> None:
        frames = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏" if (sys.stderr.encoding or "").lower().startswith("utf") else "-\\|/"
        turn = 0
        while not self._done.wait(0.1):
            if self.is_terminal:
                width = shutil.get_terminal_size().columns - 12
                sys.stderr.write(f"\r\033[K{frames[turn % len(frames)]} {self._text[:width]} {self.seconds} s")
                sys.stderr.flush()
                turn += 1
            elif time.monotonic() - self._said_at > 10:
                self._print()


@contextmanager
def only_one(path: Path) -> Iterator[None]:
    """Hold the lock that two first runs at once contend for. The kernel frees it however this process ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("ops: another run is installing the dependencies; waiting for it", file=sys.stderr, flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


class Environment:
    """The virtual environment of the project and the notes it keeps about what is in it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.path = root / ".venv"
        self.notes = self.path / ".staydesk"
        self.unfinished = self.notes / "unfinished"
        self.log = Path(os.environ.get("STAYDESK_HOME") or root / ".staydesk") / "logs" / "install.log"

    @property
    def python(self) -> Path:
        return self.path / "bin" / "python"

    def requirements(self, which: str) -> Path:
        return self.root / "requirements" / f"{which}.txt"

    def is_current(self, which: str) -> bool:
        """Whether the last finished install was of exactly these pins, by the Python asked for."""
        note = self.notes / f"{which}.txt"
        if not note.exists() or note.read_bytes() != self.requirements(which).read_bytes():
            return False
        return self._is_sound()

    def _is_sound(self) -> bool:
        """Whether the environment can be installed into: not half made, alive, with pip, of the Python asked for."""
        if self.unfinished.exists() or not self.python.exists():
            return False
        wanted = os.environ.get("STAYDESK_PYTHON")
        if wanted and (self.notes / "python").exists() and (self.notes / "python").read_text() != wanted:
            return False
        probe = "import sys, pip; raise SystemExit(not (3, 11) <= sys.version_info[:2] <= (3, 13))"
        return subprocess.run([self.python, "-I", "-c", probe], capture_output=True, check=False).returncode == 0

    def make(self, meter: Meter) -> None:
        """Make it anew, unless it is sound. A half-finished install is thrown away: pip cannot tell what it lacks."""
        if self._is_sound():
            return
        meter.say(f"making .venv with Python {sys.version.split()[0]}", now=True)
        base = os.path.realpath(sys.executable)  # a versioned name: an upgrade of the system must not change it unseen
        self._run([base, "-I", "-m", "venv", "--clear", str(self.path)], meter=meter, total=0)

    def install(self, which: str, meter: Meter) -> None:
        """Install the pins of `which`, every file checked against its hash."""
        pins = self.requirements(which)
        total = sum("==" in line for line in pins.read_text().splitlines())
        meter.say(f"installing {total} pinned packages", now=True)
        self.notes.mkdir(exist_ok=True)
        self.unfinished.touch()
        pip = [str(self.python), "-I", "-m", "pip", "--disable-pip-version-check", "--no-input", "install"]
        try:
            self._pip(pip, pins, meter, total)
        except Failed:
            self.unfinished.unlink()  # pip ended by itself and has undone what it began
            raise
        self._remember(which)

    def _pip(self, pip: list[str], pins: Path, meter: Meter, total: int) -> None:
        # Most modules are never imported: each is compiled when it first is, not all of them here.
        how = ["--require-hashes", "--no-deps", "--only-binary=:all:", "--no-compile", "--progress-bar=off"]
        self._run([*pip, *how, "-r", str(pins)], meter=meter, total=total)

    def _remember(self, which: str) -> None:
        # The pins of `test` contain those of `run` (a test sees to it).
        for name in {which, "run"}:
            shutil.copyfile(self.requirements(name), self.notes / f"{name}.txt")
        (self.notes / "python").write_text(os.environ.get("STAYDESK_PYTHON", ""))
        self.unfinished.unlink()

    def _run(self, command: list[str], *, meter: Meter, total: int) -> None:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("a+", encoding="utf-8", errors="replace") as log:
            log.write(f"$ {' '.join(command)}\n")
            log.flush()
            start = log.tell()
            process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
                env={**os.environ, "PIP_USER": "0"}, cwd=self.root,
            )  # fmt: skip
            try:
                self._follow(process, log_line=log.write, meter=meter, total=total)
            finally:
                if process.poll() is None:
                    process.terminate()
                    process.wait()
            if process.returncode:
                log.seek(start)
                raise self._failure(log.read())

    @staticmethod
    def _follow(process: subprocess.Popen[str], *, log_line: object, meter: Meter, total: int) -> None:
        assert process.stdout is not None and callable(log_line)
        seen = 0
        for line in process.stdout:
            log_line(line)
            if found := re.match(r"(?:Collecting|Requirement already satisfied:) (\S+?)==", line):
                seen += 1
                meter.say(f"fetching {seen} of {total}: {found[1]}")
            elif line.startswith("Installing collected"):
                meter.say(f"unpacking {total} packages", now=True)
        process.wait()

    def _failure(self, text: str) -> Failed:
        for pattern, code, remedy in REMEDIES:
            if re.search(pattern, text):
                return Failed(f"{remedy} (details: {self.log})", code)
        said = [line.strip() for line in text.splitlines() if line.startswith(("ERROR", "Error"))]
        reason = said[-1] if said else "the installer stopped"
        return Failed(f"{reason} (details: {self.log})")


def main(root: Path, which: str) -> int:
    environment = Environment(root)
    try:
        with only_one(root / ".staydesk" / "install.lock"):
            if environment.is_current(which):
                return 0
            with Meter() as meter:
                environment.make(meter)
                environment.install(which, meter)
            print(f"ops: dependencies ready in {meter.seconds} s", file=sys.stderr)
    except Failed as error:
        print(f"ops: the dependencies could not be installed: {error}", file=sys.stderr)
        return error.code
    except OSError as error:
        print(f"ops: the dependencies could not be installed: {error.filename}: {error.strerror}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("ops: interrupted; the next run starts the install again", file=sys.stderr)
        return 130
    return 0


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _interrupt)
    raise SystemExit(main(Path(sys.argv[1]), sys.argv[2]))
