"""What every benchmark stands on: a scratch database with New York in it, the web part as the desk runs it, and the floor.

The floor is an empty DRF view that returns twenty dicts, without authentication or throttling, in the same server and run.
`python -m tests.bench.floor` prints it alone. Addresses come from DATABASE_URL (a role that may create databases) and
REDIS_URL; the scratch database is dropped at the end."""

from __future__ import annotations

import csv
import gzip
import http.client
import json
import os
import random
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
from psycopg import sql
from psycopg.types.range import DateRange

ROOT = Path(__file__).resolve().parents[2]
NEW_YORK = ROOT.parent / "shared" / "data" / "nyc_2019" / "AB_NYC_2019.csv.gz"
HOMES = 48_895
STAYS = 250_000
AMENITIES = (
    "Wifi,Kitchen,Heating,Essentials,Washer,Dryer,Iron,Hair dryer,Workspace,TV,Air conditioning,Elevator,"
    "Free parking,Smoke alarm,Self check-in,Pets allowed"
).split(",")
ROOM_TYPES = {"Entire home/apt": "entire_home", "Private room": "private_room", "Shared room": "shared_room"}
MADE = datetime(2026, 1, 1, tzinfo=UTC)
WORKERS = 2

# The server's side: `granian tests.bench.floor:application` ------------------------------------------------------------


def _serve() -> Any:
    """The desk's own application, as in production but over plain http, with the floor beside it and limits out of the way."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "backoffice.settings")
    from django.conf import settings

    settings.ROOT_URLCONF = "tests.bench.floor_urls"
    from django.core.wsgi import get_wsgi_application

    return get_wsgi_application()


def __getattr__(name: str) -> Any:
    if name == "application":
        return _serve()
    raise AttributeError(name)


# The scratch database -------------------------------------------------------------------------------------------------


@contextmanager
def scratch_database() -> Iterator[str]:
    """A migrated database of our own; yields its URL."""
    url = os.environ.get("DATABASE_URL", "")
    if not url:
        raise SystemExit("DATABASE_URL is missing: a PostgreSQL whose role may create databases")
    name = f"bench_{os.getpid()}"
    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))
    ours = urlsplit(url)._replace(path=f"/{name}").geturl()
    try:
        _say("migrate …")
        subprocess.run([sys.executable, "manage.py", "migrate", "-v0"], cwd=ROOT, check=True, env=_environment(ours))
        yield ours
    finally:
        with psycopg.connect(url, autocommit=True) as admin:
            admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def _environment(url: str) -> dict[str, str]:
    limits = dict.fromkeys(("API_RATE", "API_ANONYMOUS_RATE", "API_LOGIN_RATE"), "100000000/min")
    fixed = {"DATABASE_URL": url, "DEBUG": "0", "HTTPS": "0", "SECRET_KEY": "bench-" + "x" * 50, "LOG_LEVEL": "ERROR"}
    return {**os.environ, **fixed, **limits, "PYTHONPATH": str(ROOT)}


@dataclass(frozen=True)
class Home:
    """One row of the city."""

    title: str
    host: int
    city: str
    neighbourhood: str
    latitude: float
    longitude: float
    room_type: str
    price: int
    minimum_nights: int


def homes() -> Iterator[Home]:
    """New York as Inside Airbnb saw it in 2019 where the file is present, else a city of the same size and shape."""
    if NEW_YORK.exists():
        with gzip.open(NEW_YORK, "rt", encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                yield Home(
                    title=row["name"][:300] or "Untitled",
                    host=int(row["host_id"]),
                    city=row["neighbourhood_group"],
                    neighbourhood=row["neighbourhood"],
                    latitude=float(row["latitude"]),
                    longitude=float(row["longitude"]),
                    room_type=ROOM_TYPES[row["room_type"]],
                    price=int(row["price"]) * 100,
                    minimum_nights=min(int(row["minimum_nights"]), 1000),
                )
        return
    dice = random.Random(1)
    for number in range(HOMES):
        quarter = min(int(dice.expovariate(0.06)), 199)  # a few quarters hold most homes, as in a real city
        yield Home(
            title=f"Home {number} near the park",
            host=dice.randrange(37_000),
            city=("Brooklyn", "Manhattan", "Queens", "Bronx", "Staten Island")[quarter % 5],
            neighbourhood=("Williamsburg", "Harlem", "Bushwick", "Midtown")[quarter]
            if quarter < 4
            else f"Quarter {quarter}",
            latitude=40.5 + dice.random() * 0.4,
            longitude=-74.2 + dice.random() * 0.5,
            room_type=dice.choice(list(ROOM_TYPES.values())),
            price=int(dice.lognormvariate(4.7, 0.6)) * 100,
            minimum_nights=dice.choice((1, 1, 1, 2, 2, 3, 5, 30)),
        )


def load(url: str) -> None:
    """The city, its hosts, 250,000 stays and some nights with their own price, through COPY; the same every time."""
    dice = random.Random(7)
    rows = list(homes())
    with psycopg.connect(url) as link:
        hosts = {host: number for number, host in enumerate(sorted({row.host for row in rows}), start=1)}
        _say(f"{len(rows):,} homes of {len(hosts):,} hosts …")
        _copy(
            link,
            "people_user",
            "id password email name is_host is_staff status currency code created_at version",
            (
                (number, "!", f"host{number}@bench.example", f"Host {number}", True, False, "active", "USD",
                 f"PN-{number:08d}", MADE, 1)
                for number in hosts.values()
            ),
        )  # fmt: skip
        _copy(
            link,
            "listings_listing",
            _LISTING,
            (_listing(number, row, hosts, dice) for number, row in enumerate(rows, 1)),
        )
        _say(f"{STAYS:,} stays …")
        _copy(
            link,
            "listings_calendarhold",
            "listing_id stay kind active extended cause source created_at",
            _stays(len(rows), dice),
        )
        _copy(link, "listings_nightoverride", "listing_id nights price minimum_nights", _overrides(rows, dice))
        for table in ("people_user", "listings_listing"):
            link.execute(
                sql.SQL("SELECT setval(pg_get_serial_sequence({}, 'id'), (SELECT max(id) FROM {}))").format(
                    sql.Literal(table), sql.Identifier(table)
                )
            )
    with psycopg.connect(url, autocommit=True) as link:
        link.execute("VACUUM ANALYZE")


_LISTING = (
    "id code host_id status title description property_type room_type address city neighbourhood country latitude "
    "longitude time_zone capacity bedrooms beds bathrooms amenities currency nightly_price cleaning_fee extra_guest_fee "
    "included_guests week_discount month_discount minimum_nights maximum_nights cancellation_tier instant_book "
    "check_in_time check_out_time registration_number rating_count rating_sum created_at updated_at version"
)


def _listing(number: int, row: Home, hosts: dict[int, int], dice: random.Random) -> tuple[Any, ...]:
    beds = dice.choice((1, 1, 1, 2, 2, 3, 4))
    ratings = int(dice.expovariate(0.05))
    return (
        number, f"LS-{number:08d}", hosts[row.host], "published", row.title, "", "", row.room_type, "", row.city,
        row.neighbourhood, "US", row.latitude, row.longitude, "America/New_York", 2 * beds, beds, beds, beds / 2,
        dice.sample(AMENITIES, dice.randrange(3, 12)), "USD", row.price or None, dice.choice((0, 2500, 6000)),
        dice.choice((0, 0, 1500)), 2, dice.choice((0, 0, 10)), dice.choice((0, 20)), row.minimum_nights, 1125,
        "moderate", True, "15:00", "11:00", "", ratings, int(ratings * dice.uniform(3.5, 5)), MADE, MADE, 1,
    )  # fmt: skip


def _stays(homes_count: int, dice: random.Random) -> Iterator[tuple[Any, ...]]:
    """Stays one after another through 2026 and 2027, more of them in some homes than in others."""
    first = date(2026, 6, 1)
    left = STAYS
    ends: dict[int, date] = {}
    while left:
        number = 1 + min(int(homes_count * dice.random() ** 1.5), homes_count - 1)
        begin = ends.get(number, first) + timedelta(days=dice.randrange(1, 60))
        end = begin + timedelta(days=dice.choice((2, 3, 4, 5, 7, 14)))
        ends[number] = end
        left -= 1
        yield (number, DateRange(begin, end), "booking", True, False, "", "", MADE)


def _overrides(rows: Sequence[Home], dice: random.Random) -> Iterator[tuple[Any, ...]]:
    """Every tenth home has dearer weekends in January 2027."""
    for number, row in enumerate(rows, 1):
        if number % 10 == 0:
            for friday in (date(2027, 1, 1), date(2027, 1, 8), date(2027, 1, 15), date(2027, 1, 22)):
                yield (
                    number,
                    DateRange(friday, friday + timedelta(days=2)),
                    int(row.price * dice.uniform(1.1, 1.5)),
                    None,
                )


def _copy(link: psycopg.Connection[Any], table: str, columns: str, rows: Iterable[tuple[Any, ...]]) -> None:
    names = sql.SQL(", ").join(map(sql.Identifier, columns.split()))
    statement = sql.SQL("COPY {} ({}) FROM STDIN").format(sql.Identifier(table), names)
    with link.cursor() as cursor, cursor.copy(statement) as copy:
        for row in rows:
            copy.write_row(row)


# The web part ---------------------------------------------------------------------------------------------------------


@contextmanager
def web(url: str) -> Iterator[int]:
    """The web part as `ops up` starts it, on a free port; yields the port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    command = (
        sys.executable, "-m", "granian", "--interface", "wsgi", "--http", "1", "--no-ws", "--host", "127.0.0.1",
        "--port", str(port), "--workers", str(WORKERS), "--blocking-threads", "8", "tests.bench.floor:application",
    )  # fmt: skip
    process = subprocess.Popen(command, cwd=ROOT, env=_environment(url), stdout=subprocess.DEVNULL)
    try:
        _wait(port, process)
        yield port
    finally:
        process.terminate()
        process.wait(timeout=20)


def _wait(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise SystemExit("the web part did not start")
        with suppress(OSError, http.client.HTTPException):
            if Client(port).get("/bench/floor")[0] == 200:
                return
        time.sleep(0.2)
    raise SystemExit("the web part did not answer within a minute")


class Client:
    """One keep-alive connection."""

    def __init__(self, port: int, token: str = "") -> None:
        self._link = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}

    def get(self, path: str) -> tuple[int, Any]:
        return self.send("GET", path)

    def post(self, path: str, body: Any, **headers: str) -> tuple[int, Any]:
        return self.send("POST", path, json.dumps(body), **headers)

    def send(self, method: str, path: str, body: str | None = None, **headers: str) -> tuple[int, Any]:
        status, raw = self.raw(method, path, body, **headers)
        return status, json.loads(raw) if raw else None

    def raw(self, method: str, path: str, body: str | None = None, **headers: str) -> tuple[int, bytes]:
        sent = {**self._headers, "Content-Type": "application/json"}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        self._link.request(method, path, body, sent)
        response = self._link.getresponse()
        return response.status, response.read()


# Measuring ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Taken:
    """Milliseconds."""

    p50: float
    p95: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Taken:
        ordered = sorted(seconds)
        return cls(statistics.median(ordered) * 1000, ordered[int(len(ordered) * 0.95)] * 1000)

    def __str__(self) -> str:
        return f"{self.p50:6.2f} / {self.p95:6.2f} ms"


def interleaved(rounds: int, acts: dict[str, Callable[[int], None]], warm_up: int = 30) -> dict[str, Taken]:
    """Each act once a round, in turn, so that whatever the machine does at the moment happens to all of them alike."""
    for number in range(warm_up):
        for act in acts.values():
            act(-1 - number)
    taken: dict[str, list[float]] = {name: [] for name in acts}
    for number in range(rounds):
        for name, act in acts.items():
            begun = time.perf_counter()
            act(number)
            taken[name].append(time.perf_counter() - begun)
    return {name: Taken.of(seconds) for name, seconds in taken.items()}


def must(status: int, expected: int, body: Any) -> None:
    if status != expected:
        raise SystemExit(f"expected {expected}, got {status}: {body}")


def verdict(ratio: float, bar: float) -> str:
    return f"{ratio:5.1f} × floor (bar {bar:g} ×: {'kept' if ratio <= bar else f'missed by {ratio / bar - 1:.0%}'})"


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    """The floor alone."""
    with scratch_database() as url, web(url) as port:
        client = Client(port)
        print(
            "floor", interleaved(500, {"floor": lambda _: must(client.raw("GET", "/bench/floor")[0], 200, "")})["floor"]
        )


if __name__ == "__main__":
    main()
