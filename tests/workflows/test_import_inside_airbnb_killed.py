"""An import that is killed or interrupted leaves the desk as it was, and can be run again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from django.db import connection

from backoffice.jobs.models import JobRun
from backoffice.listings.models import Listing
from backoffice.people.models import User
from tests.workflows.inside_airbnb_exports import export, listing, nights

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.django_db(transaction=True)


def begin(directory: Path) -> subprocess.Popen[str]:
    """`ops seed inside-airbnb` as a process of its own, on the test's database."""
    database = connection.settings_dict
    place = f"{database['USER']}:{database['PASSWORD']}@{database['HOST']}:{database['PORT']}/{database['NAME']}"
    options = ("--city", "Ghent", "--currency", "EUR", "--country", "BE", "--time-zone", "Europe/Brussels")
    return subprocess.Popen(
        [sys.executable, "-m", "ops_cli.main", "seed", "inside-airbnb", str(directory), *options],
        cwd=ROOT,
        env={**os.environ, "DATABASE_URL": f"postgresql://{place}", "STAYDESK_HOME": str(directory / "home")},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_until_it_reads(process: subprocess.Popen[str], directory: Path) -> None:
    """Its first rejected record has been written: it is in the middle of its transaction."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        if list((directory / "home" / "imports").glob(".*")):
            return
        time.sleep(0.01)
    raise AssertionError(f"it never began to read: {process.communicate()[1]}")


@pytest.mark.parametrize(("by", "code"), [(signal.SIGKILL, -9), (signal.SIGINT, 130)])
def test_a_run_that_was_cut_short_changes_nothing_and_can_be_repeated(
    tmp_path: Path, by: signal.Signals, code: int
) -> None:
    rows = [listing(id="x"), *(listing(id=str(key), description="a quiet home. " * 60) for key in range(1, 6_000))]
    directory = export(tmp_path, rows, nights("1", taken="tf"))
    process = begin(directory)
    try:
        wait_until_it_reads(process, directory)
        process.send_signal(by)
        said = process.communicate(timeout=60)[1]
    finally:
        process.kill()
        process.wait()
    assert process.returncode == code and "Traceback" not in said
    assert not Listing.objects.exists() and not User.objects.exists()
    if by == signal.SIGINT:
        assert list((directory / "home" / "imports").iterdir()) == []

    again = begin(export(tmp_path, [listing(id="x"), listing(id="1")], nights("1", taken="tf")))
    said = again.communicate(timeout=120)[1]
    assert again.returncode == 0, said
    assert Listing.objects.count() == 1
    assert [run.status for run in JobRun.objects.order_by("id")] == ["interrupted", "succeeded"]
