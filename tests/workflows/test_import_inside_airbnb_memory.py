"""A large export must not take more memory than a small one: the peak of a process of its own, measured."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from django.conf import settings
from django.db import connection

from tests.workflows.inside_airbnb_exports import CALENDAR, FIRST, REVIEW, export, listing, text_of

MOST_KB = 300 * 1024
ROOT = Path(__file__).resolve().parents[2]
# The command, and then what the kernel says this process needed at most. Linux passes the peak of whoever started a process
# on to it (ru_maxrss survives exec), so it is read from the process's own memory map where there is one.
RUN = """
import pathlib, resource, sys
from ops_cli.main import main
code = main(sys.argv[1:])
status = pathlib.Path("/proc/self/status")
lines = status.read_text().splitlines() if status.exists() else []
own = [int(line.split()[1]) for line in lines if line.startswith("VmHWM:")]
print(own[0] if own else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)
sys.exit(code)
"""


def _large(directory: Path, *, homes: int, nights: int, reviews: int, run: int = 1) -> None:
    """Runs of `run` nights (1: nothing folds); a tenth of the runs cannot be loaded."""
    export(directory, [listing(id=str(key), description="word " * 400) for key in range(1, homes + 1)])
    days = [(FIRST + timedelta(days=offset)).isoformat() for offset in range(nights)]
    with gzip.open(directory / "calendar.csv.gz", "wt", encoding="utf-8", newline="", compresslevel=1) as file:
        file.write(",".join(CALENDAR) + "\n")
        for key in range(1, homes + 1):
            file.writelines(
                f'{key},{day},{"tf"[place // run % 2]},"${place // run + 20}.00",,1,{30 if place // run % 10 else "x"}\n'
                for place, day in enumerate(days)
            )
    with gzip.open(directory / "reviews.csv.gz", "wt", encoding="utf-8", newline="", compresslevel=1) as file:
        line = text_of(
            [{**REVIEW, "listing_id": "1", "id": "%d", "comments": "Great place, very clean. " * 40}], REVIEW
        )
        header, record = line.split("\n", 1)
        file.write(header + "\n")
        file.writelines(record % key for key in range(1, reviews + 1))


def _peak(directory: Path) -> int:
    database = connection.settings_dict
    place = f"{database['USER']}:{database['PASSWORD']}@{database['HOST']}:{database['PORT']}/{database['NAME']}"
    environment = {**os.environ, "DATABASE_URL": f"postgresql://{place}", "STAYDESK_HOME": str(directory / "home")}
    command = ("seed", "inside-airbnb", str(directory), "--city", "Ghent", "--currency", "EUR", "--country", "BE")
    options = ("--time-zone", "Europe/Brussels", "--dry-run", "--format", "json")
    done = subprocess.run(
        [sys.executable, "-c", RUN, *command, *options],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["summary"]["dry_run"] is True
    return int(done.stderr.split()[-1])


@pytest.mark.django_db(transaction=True)
def test_memory_stays_below_its_bound_and_does_not_grow_with_the_file(tmp_path: Path) -> None:
    assert settings.DATABASES["default"]["NAME"] == connection.settings_dict["NAME"]
    _large(tmp_path / "small", homes=20, nights=200, reviews=500)
    _large(tmp_path / "large", homes=200, nights=300, reviews=15_000)
    small, large = _peak(tmp_path / "small"), _peak(tmp_path / "large")
    assert large < MOST_KB
    assert large - small < 40 * 1024, f"{small} KB for a small file, {large} KB for one thirty times as large"


@pytest.mark.long
@pytest.mark.django_db(transaction=True)
def test_two_million_nights_fit_too(tmp_path: Path) -> None:
    _large(tmp_path / "large", homes=4_000, nights=500, reviews=30_000, run=25)
    assert _peak(tmp_path / "large") < MOST_KB
