"""`ops test`: parts of its own, pytest's arguments and exit code, and nothing left behind however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ops_cli.commands.test import pytest_command
from ops_cli.output import Exit
from ops_cli.parts import chromium, plan, processes
from tests.ops_cli import leftovers

ROOT = Path(__file__).parent.parent.parent
SLOW_TEST = """
import os, subprocess, time
from pathlib import Path

def test_slow():
    subprocess.Popen(["sleep", "305"], start_new_session=True)
    Path(__file__).with_name("started").write_text(os.environ["DATABASE_URL"])
    time.sleep(300)
"""
QUICK_TEST = """
import os, psycopg, redis

def test_quick():
    with psycopg.connect(os.environ["DATABASE_URL"]) as database:
        assert database.execute("SELECT rolsuper FROM pg_roles WHERE rolname = current_user").fetchone() == (True,)
        assert database.execute("SHOW max_connections").fetchone() == ("500",)
    assert redis.Redis.from_url(os.environ["REDIS_URL"]).ping()
    assert not os.environ["STRIPE_API_BASE"].startswith("https")
"""


def start(home: Path, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    outside = {name: value for name, value in os.environ.items() if name not in plan.SETTINGS}
    for name in [name for name in outside if name.startswith(("PYTEST_", "STAYDESK_", "DJANGO_")) or name == "CI"]:
        del outside[name]
    return subprocess.Popen(
        [sys.executable, "-m", "ops_cli.main", "test", "-n0", "-p", "no:cacheprovider", *arguments],
        cwd=ROOT,
        env={**outside, "STAYDESK_HOME": str(home), **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "test_slow.py").write_text(SLOW_TEST)
    (tmp_path / "test_quick.py").write_text(QUICK_TEST)
    return tmp_path / "home"


def started(home: Path, run: subprocess.Popen[str]) -> None:
    assert processes.wait_until(lambda: (home.parent / "started").exists() or run.poll() is not None, seconds=120)
    assert run.poll() is None, run.stdout and run.stdout.read()


def test_the_tests_get_parts_of_their_own_that_are_removed_afterwards(home: Path) -> None:
    run = start(home, str(home.parent / "test_quick.py"))
    out, _ = run.communicate(timeout=200)
    assert run.returncode == 0, out
    assert "1 passed" in out
    assert list((home / "test").iterdir()) == []
    assert leftovers.of(home) == []


def test_ctrl_c_leaves_nothing_behind(home: Path) -> None:
    run = start(home, str(home.parent / "test_slow.py"))
    started(home, run)
    run.send_signal(signal.SIGINT)
    out, _ = run.communicate(timeout=100)
    assert run.returncode == Exit.INTERRUPTED, out
    assert "KeyboardInterrupt" in out, "pytest was given the chance to tear down"
    assert list((home / "test").iterdir()) == []
    assert leftovers.of(home) == []


def test_what_a_killed_run_left_is_ended_by_the_next(home: Path) -> None:
    run = start(home, str(home.parent / "test_slow.py"))
    started(home, run)
    run.kill()
    run.wait()
    remains = " ".join(leftovers.of(home))
    assert all(name in remains for name in ("redis", "postgres", "pytest", "sleep 305")), "the kill left much to end"
    code = start(home, str(home.parent / "no_such_test.py"))
    code.communicate(timeout=200)
    assert code.returncode == pytest.ExitCode.USAGE_ERROR, "the exit code is pytest's"
    assert leftovers.of(home) == []
    assert list((home / "test").iterdir()) == []


@pytest.mark.parametrize(
    ("given", "with_long", "added"),
    [
        ((), False, ["-n", "--dist", "--no-loadscope-reorder", "-m"]),
        (("-n0",), False, ["-m"]),
        (("-n", "4", "tests/core"), False, ["-m"]),
        (("--numprocesses=3",), True, []),
        (("--pdb",), False, ["-m"]),
        (("-m", "browser"), False, ["-n", "--dist", "--no-loadscope-reorder"]),
        ((), True, ["-n", "--dist", "--no-loadscope-reorder"]),
        (("--maxfail=1", "-k", "not slow"), False, ["-n", "--dist", "--no-loadscope-reorder", "-m"]),
    ],
)
def test_the_callers_arguments_win(given: tuple[str, ...], with_long: bool, added: list[str]) -> None:
    command = pytest_command(given, with_long=with_long)
    head = command[command.index("pytest") + 1 : len(command) - len(given)]
    assert [argument for argument in head if argument.startswith("-")] == added
    assert tuple(command[len(command) - len(given) :]) == given


def test_a_browser_on_the_path_that_does_not_start_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, code in (("chromium", 1), ("google-chrome", 0)):
        (tmp_path / name).write_text(f"#!/bin/sh\nexit {code}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert chromium.find(tmp_path / "cache") == chromium.Chromium(tmp_path / "google-chrome", chromium.SYSTEM_ARGS)


def test_without_a_browser_and_npm_there_is_none_and_ci_refuses(tmp_path: Path, home: Path) -> None:
    python = tmp_path / "bin"
    python.mkdir()
    for name in ("sh", "rm"):
        (python / name).symlink_to(f"/bin/{name}")
    path = str(python)
    quick = start(home, str(home.parent / "test_quick.py"), PATH=path)
    out, _ = quick.communicate(timeout=200)
    assert quick.returncode == 0, out
    assert "the browser tests are SKIPPED" in out
    refused = start(home, str(home.parent / "test_quick.py"), PATH=path, CI="true")
    out, _ = refused.communicate(timeout=60)
    assert refused.returncode == Exit.FAILURE
    assert out.splitlines()[-1].startswith("ops: no Chromium for the browser tests: install `chromium`")
