"""An import that is killed or interrupted leaves the desk as it was, and can be run again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from django.db import connection, transaction

from backoffice.jobs.models import JobRun
from backoffice.listings.models import Listing
from backoffice.people.models import User
from tests.desk import ROOT, database_url
from tests.workflows.inside_airbnb_exports import export, listing, nights

pytestmark = pytest.mark.django_db(transaction=True)

# How the command is run: as ever, or so that it stands still, in the middle of a COPY, once it has rejected a record.
OPS = ("-m", "ops_cli.main")
STANDS_STILL_AT_A_REJECT = (
    "-c",
    "import signal, sys\n"
    "from ops_cli.bootstrap import django\n"
    "django()\n"
    "from backoffice.workflows.import_inside_airbnb.counting import Rejects\n"
    "from ops_cli.main import main\n"
    "add = Rejects.add\n"
    "Rejects.add = lambda *args, **named: (add(*args, **named), signal.pause())\n"
    "sys.exit(main())\n",
)


def begin(directory: Path, program: tuple[str, ...] = OPS) -> subprocess.Popen[str]:
    """`ops seed inside-airbnb` as a process of its own, on the test's database."""
    options = ("--city", "Ghent", "--currency", "EUR", "--country", "BE", "--time-zone", "Europe/Brussels")
    return subprocess.Popen(
        [sys.executable, *program, "seed", "inside-airbnb", str(directory), *options],
        cwd=ROOT,
        env={**os.environ, "DATABASE_URL": database_url(), "STAYDESK_HOME": str(directory / "home")},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def cut_short_while_it_reads(directory: Path, by: signal.Signals) -> subprocess.Popen[str]:
    """Its first rejected record has been written, and it does not come to the next."""
    return cut_short(
        begin(directory, STANDS_STILL_AT_A_REJECT), by, once=lambda: any((directory / "home" / "imports").glob(".*"))
    )


def cut_short_while_it_writes(directory: Path, by: signal.Signals) -> subprocess.Popen[str]:
    """Its host and home are in its transaction, and it waits for a table that this test holds until it is no more."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("LOCK TABLE listings_calendarhold IN SHARE MODE")

        def it_waits() -> bool:
            cursor.execute("SELECT FROM pg_locks WHERE relation = 'listings_calendarhold'::regclass AND NOT granted")
            return cursor.fetchone() is not None

        return cut_short(begin(directory), by, once=it_waits)


def cut_short(process: subprocess.Popen[str], by: signal.Signals, *, once: Callable[[], bool]) -> subprocess.Popen[str]:
    """Send it the signal once it is so far; returns when it has ended."""
    try:
        deadline = time.monotonic() + 60
        while not once():
            assert process.poll() is None, f"it never came so far: {process.communicate()[1]}"
            assert time.monotonic() < deadline, "it never came so far"
            time.sleep(0.01)
        process.send_signal(by)
        process.wait(timeout=60)
    finally:
        process.kill()
        process.wait()
    return process


@pytest.mark.parametrize(("by", "code"), [(signal.SIGKILL, -9), (signal.SIGINT, 130)])
@pytest.mark.parametrize("cut", [cut_short_while_it_reads, cut_short_while_it_writes])
def test_a_run_that_was_cut_short_changes_nothing_and_can_be_repeated(
    tmp_path: Path, cut: Callable[[Path, signal.Signals], subprocess.Popen[str]], by: signal.Signals, code: int
) -> None:
    directory = export(tmp_path, [listing(id="1"), listing(id="x"), listing(id="2")], nights("1", taken="tf"))
    process = cut(directory, by)
    said = process.communicate()[1]
    assert process.returncode == code and "Traceback" not in said, said
    assert not Listing.objects.exists() and not User.objects.exists()
    if by == signal.SIGINT:
        assert list((directory / "home" / "imports").iterdir()) == []

    again = begin(directory)
    said = again.communicate(timeout=120)[1]
    assert again.returncode == 0, said
    assert Listing.objects.count() == 2
    assert [run.status for run in JobRun.objects.order_by("id")] == ["interrupted", "succeeded"]
