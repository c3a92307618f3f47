"""Booking with price snapshot, audit and outbox, against the floor. `python -m tests.bench.booking`

Bar (issue 2, item 15): at most 10 × the floor's p50. What is measured is POST /bookings: idempotency key, quote, lock, hold,
booking, audit entry, e-mail and notice, all committed. Making the quote is measured beside it."""

from __future__ import annotations

import itertools
import threading
import time
import uuid
from datetime import date, timedelta
from typing import Any

from tests.bench.floor import Client, interleaved, load, must, scratch_database, verdict, web

ROUNDS = 300
CLIENTS = 8
SECONDS = 10.0

PEERS = """\
peers, one successful booking on their own stack (p50, one client; reference run of 2026; none of them writes an audit
entry that can be proven, keeps an idempotency key or queues an e-mail):
  MM 18 x floor, 11 statements    AF 5.7 x, 6    SO 14 x, 6    SP 16 x, 9    pretix ~105 x, 65    REF (60 lines) 3.7 x, 6"""


class Guest:
    """A signed-in guest who books one home after another."""

    _homes = itertools.count(1)
    _days = itertools.count()

    def __init__(self, port: int) -> None:
        anyone = Client(port)
        account = {"email": f"{uuid.uuid4().hex}@bench.example", "password": "night after night", "name": "Guest"}
        status, made = anyone.post("/api/v1/auth/register", account)
        must(status, 201, made)
        self._client = Client(port, token=made["access"])
        self.code = ""

    def quote(self) -> None:
        """Ask until a home takes the dates: some are booked, some take longer stays only."""
        while not self._asked():
            pass

    def _asked(self) -> bool:
        begin = date(2028, 3, 1) + timedelta(days=7 * (next(self._days) % 20))
        stay: dict[str, Any] = {"check_in": begin.isoformat(), "check_out": (begin + timedelta(days=5)).isoformat()}
        home = f"LS-{next(self._homes):08d}"
        status, body = self._client.post("/api/v1/quotes", {"listing": home, "guests": 2, **stay})
        if status == 201:
            self.code = body["code"]
            return True
        if status not in {409, 422}:
            must(status, 201, body)
        return False

    def book(self) -> None:
        status, body = self._client.post("/api/v1/bookings", {"quote": self.code}, Idempotency_Key=uuid.uuid4().hex)
        must(status, 201, body)


def alone(port: int) -> None:
    """One client: the floor, a quote and a booking in turn."""
    guest, client = Guest(port), Client(port)
    taken = interleaved(
        ROUNDS,
        {
            "floor": lambda _: must(client.raw("GET", "/bench/floor")[0], 200, ""),
            "quote": lambda _: guest.quote(),
            "booking": lambda _: guest.book(),
        },
    )
    print(f"{'floor (p50 / p95)':<26}{taken['floor']}")
    print(f"{'quote (with misses)':<26}{taken['quote']}  {taken['quote'].p50 / taken['floor'].p50:5.1f} × floor")
    print(f"{'booking':<26}{taken['booking']}  {verdict(taken['booking'].p50 / taken['floor'].p50, 10)}")


def together(port: int) -> None:
    """Many clients on different homes: bookings a second."""
    guests = [Guest(port) for _ in range(CLIENTS)]
    done = [0] * CLIENTS
    until = time.monotonic() + SECONDS

    def run(index: int) -> None:
        while time.monotonic() < until:
            guests[index].quote()
            guests[index].book()
            done[index] += 1

    threads = [threading.Thread(target=run, args=(index,)) for index in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(f"{CLIENTS} clients: {sum(done) / SECONDS:.0f} quotes and bookings a second")


def main() -> None:
    with scratch_database() as url:
        load(url)
        with web(url) as port:
            alone(port)
            together(port)
    print(PEERS)


if __name__ == "__main__":
    main()
