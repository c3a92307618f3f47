"""Search with every filter on 48,895 homes and 250,000 stays, against the floor. `python -m tests.bench.search`

Bars (issue 2, item 15): page 1 at most 5 × the floor's p50, a deep page at most 1.5 × page 1, at most 4 statements."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from datetime import date, timedelta
from urllib.parse import urlencode, urlsplit

from tests.bench.floor import Client, Taken, interleaved, load, must, scratch_database, verdict, web

# Quarters of New York, from very common to rare, and a box for each third request.
PLACES = ("Williamsburg", "Harlem", "Bushwick", "Bedford-Stuyvesant", "Park Slope", "Astoria", "Gramercy", "Red Hook")
DEEP = 30
ROUNDS = 400

PEERS = """\
peers, same kind of query on their own stack (x floor p50, one client; reference run of 2026):
  MM all filters, Park Slope, no pages             2,509 x   1,801 statements
  SO place, dates, guests, no pages                  547 x       3
  AF text search, top 20                              41 x      21
  AF list page 1 / page 6000, no filters        27 / 102 x       2
  SP place and price, page 1                          68 x      12
  REF 60-line reference, page 1 / deep         3.6 / 5.8 x       1"""


def query(number: int, **more: str) -> str:
    """Everything at once: words, price, guests, dates, amenities, kind; different dates and places from call to call."""
    begin = date(2027, 1, 15) + timedelta(days=number % 23)
    asked = {
        "q": PLACES[number % len(PLACES)],
        "min_price": str(10_000 - 500 * (number % 5)),
        "max_price": "20000",
        "currency": "USD",
        "guests": "2",
        "check_in": begin.isoformat(),
        "check_out": (begin + timedelta(days=5)).isoformat(),
        "amenities": "Wifi,Kitchen",
        "ordering": "price",
        **more,
    }
    return "/api/v1/listings?" + urlencode(asked)


def whole_city(number: int) -> str:
    """A query whose pages are many: the box of the whole city."""
    begin = date(2027, 1, 15) + timedelta(days=number % 23)
    asked = {
        "bbox": "-74.3,40.4,-73.6,41.0",
        "min_price": "5000",
        "max_price": "30000",
        "currency": "USD",
        "guests": "2",
        "check_in": begin.isoformat(),
        "check_out": (begin + timedelta(days=4)).isoformat(),
        "amenities": "Wifi",
        "ordering": "price",
    }
    return "/api/v1/listings?" + urlencode(asked)


def pages(client: Client, path: str) -> Iterator[str]:
    """The addresses of the pages of a search, one after another."""
    following: str | None = path
    while following:
        yield following
        status, body = client.get(following)
        must(status, 200, body)
        parts = urlsplit(body["next"] or "")
        following = f"{parts.path}?{parts.query}" if body["next"] else None


def deep_page(client: Client, path: str) -> str:
    """The address of a page far down, or of the last one."""
    return list(itertools.islice(pages(client, path), DEEP))[-1]


def measure(port: int) -> dict[str, Taken]:
    client = Client(port)
    deep = [deep_page(client, whole_city(number)) for number in range(8)]

    def ask(path: str) -> None:
        status, body = client.raw("GET", path)
        must(status, 200, body)

    return interleaved(
        ROUNDS,
        {
            "floor": lambda number: ask("/bench/floor"),
            "quarter, all filters": lambda number: ask(query(number)),
            "quarter, newest first": lambda number: ask(query(number, ordering="newest")),
            "whole city, page 1": lambda number: ask(whole_city(number % 8)),
            f"whole city, page {DEEP}": lambda number: ask(deep[number % 8]),
        },
    )


def main() -> None:
    with scratch_database() as url:
        load(url)
        with web(url) as port:
            taken = measure(port)
    floor = taken.pop("floor")
    print(f"{'floor (p50 / p95)':<26}{floor}")
    for name, one in taken.items():
        print(f"{name:<26}{one}  {verdict(one.p50 / floor.p50, 5)}")
    first, deep = taken["whole city, page 1"], taken[f"whole city, page {DEEP}"]
    print(f"deep page                 {deep.p50 / first.p50:.2f} × page 1 (bar 1.5 ×)")
    print(PEERS)


if __name__ == "__main__":
    main()
