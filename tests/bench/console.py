"""The console's lists on 48,895 homes and 250,000 bookings, against the floor. `python -m tests.bench.console`

Bars (issue 2, item 15): a list at most 60 × the floor's p50, the last page as the first."""

from __future__ import annotations

import http.client
import os
import re
from urllib.parse import urlencode

import psycopg
from django.conf import settings
from django.contrib.auth.hashers import make_password

from tests.bench.floor import Client, Taken, interleaved, load, must, scratch_database, verdict, web

ROUNDS = 60
EMAIL, PASSWORD = "finance@bench.example", "harbour lantern 7"

PEERS = """\
peers, their staff list of bookings at this size (reference/unfold.md, section 5: the same library, stock settings):
  bookings 1M, date hierarchy + full count           640 ms, of it 500 ms in the database
  audit 200k, stock paginator, page at offset 200k   270 ms; ours reads no OFFSET"""

# One booking per stay that the city has, each with its quote; a fifth of them by another guest.
BOOKINGS = """
WITH stays AS (
    SELECT hold.id AS hold_id, hold.listing_id, home.host_id, home.nightly_price AS price, row_number() OVER () AS number,
           lower(hold.stay) AS check_in, upper(hold.stay) AS check_out
    FROM listings_calendarhold hold JOIN listings_listing home ON home.id = hold.listing_id
), quoted AS (
    INSERT INTO bookings_quote (code, listing_id, guest_id, check_in, check_out, guests, currency, host_price, host_fee,
        guest_fee, vat, occupancy_tax, total, charge_currency, charge_total, rate, price, cancellation_tier,
        cancellation_version, created_at, expires_at)
    SELECT 'QT-' || number, listing_id, 1 + number % 30000, check_in, check_out, 2, 'USD', coalesce(price, 0), 0, 0, 0, 0,
           coalesce(price, 0), 'USD', coalesce(price, 0), '{}', '{}', 'moderate', 1, check_in - 30, check_in - 29
    FROM stays RETURNING id, code, guest_id
)
INSERT INTO bookings_booking (code, quote_id, listing_id, guest_id, host_id, hold_id, status, check_in_at, check_out_at,
    time_zone, check_in, check_out, guests, currency, host_price, host_fee, guest_fee, vat, occupancy_tax, total,
    charge_currency, charge_total, rate, price, cancellation_tier, cancellation_version, created_at, confirmed_at,
    cancelled_by, version)
SELECT 'BK-' || number, quoted.id, listing_id, quoted.guest_id, host_id, hold_id,
       CASE WHEN number % 40 = 0 THEN 'completed' ELSE 'confirmed' END, check_in, check_out, 'UTC', check_in, check_out, 2,
       'USD', coalesce(price, 0), 0, 0, 0, 0, coalesce(price, 0), 'USD', coalesce(price, 0), '{}', '{}', 'moderate', 1,
       check_in - 30, check_in - 30, '', 1
FROM stays JOIN quoted ON quoted.code = 'QT-' || number
"""


def book(url: str) -> None:
    """Bookings for the city's stays, and one member of staff."""
    with psycopg.connect(url) as link:
        link.execute(BOOKINGS)
        link.execute(
            "INSERT INTO people_user (password, email, name, is_host, is_staff, status, currency, code, created_at, version)"
            " VALUES (%s, %s, 'Fiona', false, true, 'active', 'EUR', 'PN-STAFF', now(), 1) RETURNING id",
            [make_password(PASSWORD), EMAIL],
        )
        link.execute(
            "INSERT INTO people_staffrole (user_id, role, granted_at)"
            " SELECT id, 'finance', now() FROM people_user WHERE email = %s",
            [EMAIL],
        )
    with psycopg.connect(url, autocommit=True) as link:
        link.execute("VACUUM ANALYZE")


class Browser:
    """Somebody signed in, on one connection."""

    def __init__(self, port: int) -> None:
        self._link = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        self._cookies: dict[str, str] = {}
        token = re.search(rb'csrfmiddlewaretoken" value="([^"]+)', self.get("/console/login/")[1])
        assert token is not None
        form = {"username": EMAIL, "password": PASSWORD, "csrfmiddlewaretoken": token.group(1).decode()}
        status, body = self._send("POST", "/console/login/", urlencode(form))
        must(status, 302, body)

    def get(self, path: str) -> tuple[int, bytes]:
        return self._send("GET", path, None)

    def _send(self, method: str, path: str, body: str | None) -> tuple[int, bytes]:
        cookies = "; ".join(f"{name}={value}" for name, value in self._cookies.items())
        headers = {"Cookie": cookies, "Content-Type": "application/x-www-form-urlencoded"}
        self._link.request(method, path, body, headers)
        response = self._link.getresponse()
        for cookie in response.msg.get_all("Set-Cookie") or ():
            name, _, value = cookie.partition(";")[0].partition("=")
            self._cookies[name] = value
        return response.status, response.read()


def measure(port: int) -> dict[str, Taken]:
    staff, anyone = Browser(port), Client(port)

    def ask(path: str) -> None:
        status, body = staff.get(path)
        must(status, 200, body[:200])

    return interleaved(
        ROUNDS,
        {
            "floor": lambda _: must(anyone.raw("GET", "/bench/floor")[0], 200, ""),
            "bookings, first page": lambda _: ask("/console/bookings/booking/"),
            "bookings, last page": lambda _: ask("/console/bookings/booking/?oldest=1"),
            "bookings, one status": lambda _: ask("/console/bookings/booking/?status__exact=completed"),
            "bookings, a code": lambda number: ask(f"/console/bookings/booking/?q=BK-{4_000 + number}"),
            "listings, first page": lambda _: ask("/console/listings/listing/"),
            "listings, last page": lambda _: ask("/console/listings/listing/?oldest=1"),
            "people, an address": lambda number: ask(f"/console/people/user/?q=host{2_000 + number}@bench.example"),
            "today": lambda _: ask("/console/"),
        },
        warm_up=5,
    )


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "backoffice.settings")
    assert settings.PASSWORD_HASHERS  # reads the settings before the hasher is asked
    with scratch_database() as url:
        load(url)
        book(url)
        with web(url) as port:
            taken = measure(port)
    floor = taken.pop("floor")
    print(f"{'floor (p50 / p95)':<26}{floor}")
    for name, one in taken.items():
        print(f"{name:<26}{one}  {verdict(one.p50 / floor.p50, 60)}")
    for what in ("bookings", "listings"):
        ratio = taken[f"{what}, last page"].p50 / taken[f"{what}, first page"].p50
        print(f"{what}: the last page costs {ratio:.2f} × the first")
    print(PEERS)


if __name__ == "__main__":
    main()
