"""How long loading a city takes beside a bare COPY of the same records into unindexed tables, and what memory it needs.

    DATABASE_URL=postgresql://… python -m tests.bench.import_inside_airbnb ../shared/data/singapore_2023_09 \
        --city Singapore --currency SGD

The same run measures both, on a database of its own that is dropped afterwards; the ratio is what can be compared between
machines. The bare COPY keeps every field as text: no cleaning, no keys, no merging, nothing checked."""

from __future__ import annotations

import argparse
import gzip
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import psycopg

ROOT = Path(__file__).resolve().parents[2]
KINDS = ("listings", "calendar", "reviews")
TIMED = """
import resource, sys, time
import django
django.setup()
from ops_cli.main import main
began = time.perf_counter()
code = main(sys.argv[1:])
took = time.perf_counter() - began
print(f"\\n{took} {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}", file=sys.stderr)
sys.exit(code)
"""


@contextmanager
def scratch(url: str) -> Iterator[str]:
    """A database of our own on the server of `url`."""
    name = f"bench_import_{os.getpid()}"
    with psycopg.connect(url, autocommit=True) as server:
        server.execute(f"CREATE DATABASE {name} TEMPLATE template0")
        try:
            yield urlsplit(url)._replace(path=f"/{name}").geturl()
        finally:
            server.execute(f"DROP DATABASE {name} WITH (FORCE)")


def bare_copy(url: str, directory: Path) -> tuple[float, int]:
    """Seconds for a COPY of every file as it is, and the records copied."""
    took, copied = 0.0, 0
    with psycopg.connect(url) as connection, connection.cursor() as cursor:
        for kind in KINDS:
            path = next(
                (path for path in (directory / f"{kind}.csv.gz", directory / f"{kind}.csv") if path.exists()), None
            )
            if path is None:
                continue
            began = time.perf_counter()
            with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
                columns = file.readline().decode().strip().split(",")
                cursor.execute(f"CREATE TABLE bare_{kind} ({', '.join(f'{name} text' for name in columns)})")
                with cursor.copy(f"COPY bare_{kind} FROM STDIN (FORMAT csv)") as copy:
                    while chunk := file.read(1 << 16):
                        copy.write(chunk)
            copied += cursor.rowcount
            connection.commit()
            took += time.perf_counter() - began
    return took, copied


def load(environment: dict[str, str], directory: Path, options: list[str]) -> tuple[float, int, int]:
    """Seconds, peak kilobytes and changed rows of one `ops seed inside-airbnb`, Python's own start left out."""
    command = ["seed", "inside-airbnb", str(directory), *options, "--format", "json"]
    done = subprocess.run(
        [sys.executable, "-c", TIMED, *command], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    took, peak = done.stderr.split()[-2:]
    return float(took), int(peak), int(json.loads(done.stdout)["summary"]["changed"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--city", required=True)
    parser.add_argument("--currency", required=True)
    options = parser.parse_args()
    with scratch(os.environ["DATABASE_URL"]) as url:
        environment = {**os.environ, "DATABASE_URL": url, "DJANGO_SETTINGS_MODULE": "backoffice.settings", "DEBUG": "1"}
        subprocess.run([sys.executable, "manage.py", "migrate", "-v0"], cwd=ROOT, env=environment, check=True)
        floor, records = bare_copy(url, options.directory)
        city = ["--city", options.city, "--currency", options.currency]
        first, peak, changed = load(environment, options.directory, city)
        again, peak_again, unchanged = load(environment, options.directory, city)
    print(f"records in the files          {records:>12,}")
    print(f"bare COPY, the floor          {floor:>12.2f} s   {records / floor:,.0f} records/s")
    print(f"first import                  {first:>12.2f} s   {first / floor:.1f} x the floor, {changed:,} rows written")
    print(
        f"the same again                {again:>12.2f} s   {again / floor:.1f} x the floor, {unchanged:,} rows written"
    )
    print(f"peak memory                   {max(peak, peak_again) / 1024:>12.0f} MB  (bound: 300 MB)")


if __name__ == "__main__":
    main()
