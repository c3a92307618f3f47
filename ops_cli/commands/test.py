"""`ops test`: the tests, on parts of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from types import FrameType

import click

from ops_cli.output import Exit, Failed, note, warn
from ops_cli.parts import chromium, processes, testing
from ops_cli.parts.desk import ROOT, Desk, home_directory
from ops_cli.parts.part import python
from ops_cli.parts.reporting import Person

# pytest may need this long to tear down what its tests started.
TEARDOWN_SECONDS = 30


@click.command(
    short_help="Run the tests on parts of their own, beside a running desk.",
    context_settings={"ignore_unknown_options": True},
)
@click.option("--long", "with_long", is_flag=True, help="Add the long tests: fuzz, chaos, a million rows.")
@click.argument("pytest_args", nargs=-1, type=click.UNPROCESSED)
def test(with_long: bool, pytest_args: tuple[str, ...]) -> int:
    """Run the tests in parallel on a PostgreSQL and a Redis of their own; PYTEST_ARGS go to pytest as they are.

    Its exit code is pytest's. Browser tests use Chromium from the PATH, else one fetched by npm; without either they
    are skipped, and with CI=true that is a failure.

    \b
    Example:
      ops test
      ops test tests/ledger -k reverse -x
      ops test --long
    """
    with Person().closing() as person:
        person.begin("looking for Chromium")
        browser = chromium.find(home_directory() / "chromium")
        if browser is None and os.environ.get("CI") == "true":
            raise Failed("no Chromium for the browser tests: install `chromium`, or npm so that it can be fetched")
        person.end(f"Chromium: {browser.program if browser else 'none'}")
        if browser is None:
            warn("no Chromium and no npm: the browser tests are SKIPPED; install `chromium` to run them")
        person.begin("starting PostgreSQL and Redis for the tests")
        with _Terminations() as stop, testing.parts(tick=stop.check) as (desk, environment):
            person.end("PostgreSQL and Redis for the tests")
            if browser is not None:
                environment["STAYDESK_CHROMIUM"] = str(browser.program)
                environment["STAYDESK_CHROMIUM_ARGS"] = " ".join(browser.args)
            return _run(pytest_command(pytest_args, with_long=with_long), environment, stop, desk)


def pytest_command(given: Sequence[str], *, with_long: bool) -> list[str]:
    """The pytest command: parallel by file and without the long tests, unless the caller's arguments say otherwise."""
    extra: list[str] = []
    if not _mentions(given, "-n", "--numprocesses", "--pdb", "--trace", "-p"):
        # One more than there are cores: a quarter of the time a test waits for a desk, a browser or a silent provider.
        extra += ["-n", str(min(8, (os.cpu_count() or 2) + 1)), "--dist", "loadfile", "--no-loadscope-reorder"]
    if not with_long and not _mentions(given, "-m", "--markexpr"):
        extra += ["-m", "not long"]
    return python("-m", "pytest", *extra, *given)


def _mentions(given: Sequence[str], *options: str) -> bool:
    short = tuple(option for option in options if not option.startswith("--"))
    return any(
        argument in options
        or argument.startswith(tuple(f"{option}=" for option in options))
        or (argument.startswith(short) and not argument.startswith("--"))
        for argument in given
    )


class _Terminations:
    """Counts requests to stop while parts are starting and pytest runs, so that everything is torn down in order."""

    def __init__(self) -> None:
        self.count = 0
        self.last = 0

    def __enter__(self) -> _Terminations:
        self._before = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.count, self.last = self.count + 1, number

    def check(self) -> None:
        """Raises KeyboardInterrupt when a stop was asked for."""
        if self.count:
            raise KeyboardInterrupt


def _run(command: list[str], environment: dict[str, str], stop: _Terminations, desk: Desk) -> int:
    """Run pytest in the foreground; a stop is passed on, and what outlives it is ended."""
    mark = f"{desk.id}:{testing.PYTEST}"
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, **environment, processes.MARK: mark},
        # A session of its own would cut pytest off from the terminal; a group of its own keeps Ctrl-C ours to pass on.
        process_group=0 if not os.isatty(0) else None,
    )
    record = processes.Record(testing.PYTEST, process.pid, processes.birth(process.pid) or "", time.time(), mark=mark)
    record.save(desk.run)
    try:
        while process.poll() is None:
            if stop.count:
                return _interrupt(process, stop)
            processes.wait_until(lambda: process.poll() is not None or stop.count > 0, seconds=3600, every=0.1)
        return process.returncode if process.returncode >= 0 else Exit.FAILURE
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        if left := processes.end_leftovers(record):
            note(f"ended {left} processes that the tests left behind")


def _interrupt(process: subprocess.Popen[bytes], stop: _Terminations) -> int:
    """Let pytest tear down. On a terminal Ctrl-C has reached it already; a second one would cut its teardown short."""
    if stop.last == signal.SIGTERM or not os.isatty(0):
        process.send_signal(signal.SIGINT)
    processes.wait_until(lambda: process.poll() is not None or stop.count > 1, seconds=TEARDOWN_SECONDS)
    return Exit.INTERRUPTED if stop.last == signal.SIGINT else Exit.TERMINATED
