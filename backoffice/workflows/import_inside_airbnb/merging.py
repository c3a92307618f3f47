"""From the temporary tables to the desk, by sets: add what is new, update what differs, retire what is gone.

Nothing is deleted but night prices, which have no history: a home that is gone is removed from sale, a block that is
gone is released, a review that is gone is retired. Every statement compares first, so a second run writes nothing.
The homes are locked in id order before their nights are looked at (the house's lock order); bookings of the city wait
for the merge, not for the reading."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Final

from django.contrib.auth.hashers import make_password
from psycopg import Cursor

from backoffice.workflows.import_inside_airbnb.counting import Tally
from backoffice.workflows.import_inside_airbnb.places import Place
from backoffice.workflows.import_inside_airbnb.staging import LISTING_COLUMNS

CAUSE: Final = "unknown"
WRITTEN: Final = (
    "people_user",
    "listings_listing",
    "listings_calendarhold",
    "listings_nightoverride",
    "reviews_review",
)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Which snapshot of which city is merged, and when."""

    place: Place
    currency: str
    seen_on: date
    now: datetime

    @property
    def tag(self) -> str:
        """What the `source` of every row of this city begins with, and the whole source of its blocks."""
        return f"inside-airbnb:{self.place.slug}"

    def values(self) -> dict[str, Any]:
        return {
            "tag": self.tag,
            "listing_prefix": f"{self.tag}:",
            "host_prefix": f"{self.tag}:host:",
            "review_prefix": f"{self.tag}:review:",
            "any_listing": f"{self.tag}:%",
            "any_review": f"{self.tag}:review:%",
            "host_at": f"-{self.place.slug}@hosts.invalid",
            "currency": self.currency,
            "seen_on": self.seen_on,
            "now": self.now,
            "today": self.now.date(),
            "cause": CAUSE,
            "password": make_password(None),
        }


def known(cursor: Cursor[Any], values: dict[str, Any]) -> tuple[date | None, str | None]:
    """The day of the city's latest snapshot here and its currency; none before the first."""
    found = cursor.execute(
        "SELECT max(source_seen_on), min(currency) FROM listings_listing WHERE source LIKE %(any_listing)s", values
    ).fetchone()
    return found or (None, None)


def merge_hosts(cursor: Cursor[Any], values: dict[str, Any]) -> Tally:
    """Hosts become people without a usable password; a new name (another choice of --keep-names) is an update."""
    tally = Tally("hosts")
    cursor.execute(
        """
        CREATE TEMPORARY TABLE staged_host ON COMMIT DROP AS
        SELECT DISTINCT ON (host_id) host_id AS id, %(host_prefix)s || host_id AS source, host_name AS name,
               host_since, host_code AS code
        FROM staged_listing ORDER BY host_id, record
        """,
        values,
    )
    tally.read = cursor.rowcount
    cursor.execute("CREATE INDEX ON staged_host (source)")
    cursor.execute("ANALYZE staged_host")
    cursor.execute(
        """
        UPDATE people_user person SET name = host.name, version = version + 1
        FROM staged_host host WHERE person.source = host.source AND person.name <> host.name
        """
    )
    tally.updated = cursor.rowcount
    cursor.execute(
        """
        INSERT INTO people_user
            (code, email, name, password, is_host, is_staff, status, currency, source, created_at, version)
        SELECT code, 'host-' || id || %(host_at)s, name, %(password)s, true, false, 'active', %(currency)s, source,
               least(coalesce(host_since, %(now)s), %(now)s), 1
        FROM staged_host host
        WHERE NOT EXISTS (SELECT FROM people_user person WHERE person.source = host.source)
        ORDER BY id
        """,
        values,
    )
    tally.added = cursor.rowcount
    tally.unchanged = tally.read - tally.added - tally.updated
    return tally


def lock_listings(cursor: Cursor[Any], values: dict[str, Any]) -> None:
    """Lock the city's homes in id order: from here on nobody books their nights until the merge is done."""
    cursor.execute(
        "SELECT count(*) FROM (SELECT id FROM listings_listing WHERE source LIKE %(any_listing)s"
        " ORDER BY id FOR NO KEY UPDATE) locked",
        values,
    )


_OWNED: Final = tuple(LISTING_COLUMNS)
# A home that lost its price is paused, since without one it cannot be booked; it returns with its price. A home that an
# earlier snapshot had lost (last seen before the previous one) returns too; one that staff removed does not.
_STATUS: Final = """
    CASE
        WHEN old.status = 'published' AND new.nightly_price IS NULL THEN 'paused'
        WHEN old.status IN ('draft', 'paused') AND old.nightly_price IS NULL AND new.nightly_price IS NOT NULL
            THEN 'published'
        WHEN old.status IN ('removed', 'paused') AND old.source_seen_on < previous.seen_on
            THEN CASE WHEN new.nightly_price IS NULL THEN 'draft' ELSE 'published' END
        ELSE old.status
    END
"""


def merge_listings(cursor: Cursor[Any], values: dict[str, Any], tally: Tally) -> None:
    """Update the homes that differ, add the new, retire the ones that the snapshot no longer holds."""
    cursor.execute(
        """
        CREATE TEMPORARY TABLE previous ON COMMIT DROP AS
        SELECT max(source_seen_on) AS seen_on FROM listings_listing WHERE source LIKE %(any_listing)s
        """,
        values,
    )
    cursor.execute(
        f"""
        CREATE TEMPORARY TABLE wanted ON COMMIT DROP AS
        SELECT old.id, person.id AS host_id, {_STATUS} AS status, {", ".join(f"new.{name}" for name in _OWNED)}
        FROM staged_listing new
        JOIN listings_listing old ON old.source = %(listing_prefix)s || new.id
        JOIN people_user person ON person.source = %(host_prefix)s || new.host_id
        CROSS JOIN previous
        """,  # noqa: S608  # column names of ours
        values,
    )
    known = cursor.rowcount
    compared = ("host_id", "status", *_OWNED)
    cursor.execute(
        f"""
        UPDATE listings_listing old
        SET ({", ".join(compared)}) = ROW({", ".join(f"wanted.{name}" for name in compared)}),
            version = old.version + 1, updated_at = %(now)s
        FROM wanted
        WHERE wanted.id = old.id AND ({", ".join(f"old.{name}" for name in compared)})
              IS DISTINCT FROM ({", ".join(f"wanted.{name}" for name in compared)})
        """,  # noqa: S608  # column names of ours
        values,
    )
    tally.updated = cursor.rowcount
    tally.unchanged = known - tally.updated
    cursor.execute(
        "UPDATE listings_listing SET source_seen_on = %(seen_on)s FROM wanted"
        " WHERE wanted.id = listings_listing.id AND source_seen_on IS DISTINCT FROM %(seen_on)s",
        values,
    )
    _add_listings(cursor, values, tally)
    _retire_listings(cursor, values, tally)


def _add_listings(cursor: Cursor[Any], values: dict[str, Any], tally: Tally) -> None:
    cursor.execute(
        f"""
        INSERT INTO listings_listing
            (code, host_id, status, {", ".join(_OWNED)}, address, week_discount, month_discount, instant_book,
             check_in_time, check_out_time, source, source_seen_on, created_at, updated_at, version)
        SELECT new.code, person.id, CASE WHEN nightly_price IS NULL THEN 'draft' ELSE 'published' END,
               {", ".join(f"new.{name}" for name in _OWNED)}, '', 0, 0, true,
               '15:00', '11:00', %(listing_prefix)s || new.id, %(seen_on)s, %(now)s, %(now)s, 1
        FROM staged_listing new
        JOIN people_user person ON person.source = %(host_prefix)s || new.host_id
        WHERE NOT EXISTS (SELECT FROM listings_listing old WHERE old.source = %(listing_prefix)s || new.id)
        ORDER BY new.id
        """,  # noqa: S608  # column names of ours
        values,
    )
    tally.added = cursor.rowcount
    cursor.execute(
        """
        CREATE TEMPORARY TABLE listing_key ON COMMIT DROP AS
        SELECT new.id AS id, listing.id AS listing_id, listing.nightly_price, listing.minimum_nights,
               listing.maximum_nights
        FROM staged_listing new JOIN listings_listing listing ON listing.source = %(listing_prefix)s || new.id
        """,
        values,
    )
    cursor.execute("CREATE INDEX ON listing_key (id)")
    cursor.execute("ANALYZE listing_key")


def _retire_listings(cursor: Cursor[Any], values: dict[str, Any], tally: Tally) -> None:
    """A home that is gone leaves the market; while a stay is still to come it is paused, as nobody may remove it."""
    cursor.execute(
        """
        WITH gone AS (
            SELECT id, CASE WHEN EXISTS (
                SELECT FROM listings_calendarhold hold WHERE hold.listing_id = listing.id AND hold.active
                AND hold.kind = 'booking' AND upper(hold.stay) > %(today)s
            ) THEN 'paused' ELSE 'removed' END AS status
            FROM listings_listing listing
            WHERE source LIKE %(any_listing)s AND status <> 'removed'
              AND NOT EXISTS (SELECT FROM staged_listing seen WHERE listing.source = %(listing_prefix)s || seen.id)
              AND NOT EXISTS (SELECT FROM refused_listing seen WHERE listing.source = %(listing_prefix)s || seen.id)
        )
        UPDATE listings_listing listing SET status = gone.status, version = version + 1, updated_at = %(now)s
        FROM gone WHERE gone.id = listing.id AND listing.status <> gone.status
        """,
        values,
    )
    tally.retired = cursor.rowcount


def merge_blocks(cursor: Cursor[Any], values: dict[str, Any]) -> Tally:
    """Nights that cannot be had become blocks of unknown cause, as long runs; those of bookings and of other blocks
    stay as they are. Nights outside the snapshot's calendar keep the blocks that earlier snapshots gave them."""
    tally = Tally("blocks")
    cursor.execute(
        """
        CREATE TEMPORARY TABLE wanted_block ON COMMIT DROP AS
        WITH told AS (
            SELECT listing_key.listing_id, range_agg(nights) AS covered,
                   coalesce(range_agg(nights) FILTER (WHERE blocked), '{}') AS blocked
            FROM staged_run JOIN listing_key ON listing_key.id = staged_run.listing_id GROUP BY listing_key.listing_id
        ), held AS (
            SELECT listing_id, coalesce(range_agg(stay) FILTER (WHERE source = %(tag)s), '{}') AS ours,
                   coalesce(range_agg(stay) FILTER (WHERE source <> %(tag)s), '{}') AS others
            FROM listings_calendarhold hold
            WHERE active AND EXISTS (SELECT FROM told WHERE told.listing_id = hold.listing_id) GROUP BY listing_id
        )
        SELECT listing_id, unnest(
            (coalesce(ours, '{}') - covered) + (blocked - coalesce(others, '{}'))
        ) AS stay
        FROM told LEFT JOIN held USING (listing_id)
        """,
        values,
    )
    tally.read = cursor.rowcount
    cursor.execute("CREATE INDEX ON wanted_block (listing_id, stay)")
    cursor.execute("ANALYZE wanted_block")
    cursor.execute(
        """
        UPDATE listings_calendarhold hold SET active = false, released_at = %(now)s
        WHERE active AND source = %(tag)s
          AND listing_id IN (SELECT listing_key.listing_id FROM staged_run
                             JOIN listing_key ON listing_key.id = staged_run.listing_id)
          AND NOT EXISTS (SELECT FROM wanted_block wanted
                          WHERE wanted.listing_id = hold.listing_id AND wanted.stay = hold.stay)
        """,
        values,
    )
    tally.retired = cursor.rowcount
    cursor.execute(
        """
        INSERT INTO listings_calendarhold
            (listing_id, stay, kind, active, expires_at, extended, cause, source, created_at, released_at)
        SELECT listing_id, stay, 'block', true, NULL, false, %(cause)s, %(tag)s, %(now)s, NULL
        FROM wanted_block wanted
        WHERE NOT EXISTS (SELECT FROM listings_calendarhold hold WHERE hold.active AND hold.source = %(tag)s
                          AND hold.listing_id = wanted.listing_id AND hold.stay = wanted.stay)
        ORDER BY listing_id, stay
        """,
        values,
    )
    tally.added = cursor.rowcount
    tally.unchanged = tally.read - tally.added
    return tally


def merge_night_prices(cursor: Cursor[Any], values: dict[str, Any]) -> Tally:
    """Nights whose price or bounds differ from the home's become override runs; the export owns them inside its
    calendar, earlier nights keep theirs."""
    tally = Tally("night_prices")
    cursor.execute(
        """
        CREATE TEMPORARY TABLE wanted_override ON COMMIT DROP AS
        WITH told AS (
            SELECT listing_key.listing_id, nights,
                   nullif(staged_run.price, listing_key.nightly_price) AS price,
                   nullif(staged_run.minimum_nights, listing_key.minimum_nights) AS minimum_nights,
                   nullif(staged_run.maximum_nights, listing_key.maximum_nights) AS maximum_nights
            FROM staged_run JOIN listing_key ON listing_key.id = staged_run.listing_id
        ), covered AS (
            SELECT listing_id, range_agg(nights) AS nights FROM told GROUP BY listing_id
        ), parts AS (
            SELECT * FROM told
            UNION ALL
            SELECT old.listing_id, unnest(old.nights::datemultirange - covered.nights), price, minimum_nights,
                   maximum_nights
            FROM listings_nightoverride old JOIN covered USING (listing_id)
        )
        SELECT listing_id, unnest(range_agg(nights)) AS nights, price, minimum_nights, maximum_nights
        FROM parts WHERE price IS NOT NULL OR minimum_nights IS NOT NULL OR maximum_nights IS NOT NULL
        GROUP BY listing_id, price, minimum_nights, maximum_nights
        """
    )
    tally.read = cursor.rowcount
    cursor.execute("CREATE INDEX ON wanted_override (listing_id, nights)")
    cursor.execute("ANALYZE wanted_override")
    cursor.execute(
        """
        DELETE FROM listings_nightoverride old
        WHERE listing_id IN (SELECT listing_key.listing_id FROM staged_run
                             JOIN listing_key ON listing_key.id = staged_run.listing_id)
          AND NOT EXISTS (
              SELECT FROM wanted_override wanted
              WHERE wanted.listing_id = old.listing_id AND wanted.nights = old.nights
                AND (wanted.price, wanted.minimum_nights, wanted.maximum_nights)
                    IS NOT DISTINCT FROM (old.price, old.minimum_nights, old.maximum_nights)
          )
        """
    )
    tally.retired = cursor.rowcount
    cursor.execute(
        """
        INSERT INTO listings_nightoverride (listing_id, nights, price, minimum_nights, maximum_nights)
        SELECT listing_id, nights, price, minimum_nights, maximum_nights FROM wanted_override wanted
        WHERE NOT EXISTS (SELECT FROM listings_nightoverride old
                          WHERE old.listing_id = wanted.listing_id AND old.nights = wanted.nights)
        ORDER BY listing_id, nights
        """
    )
    tally.added = cursor.rowcount
    tally.unchanged = tally.read - tally.added
    return tally


def merge_reviews(cursor: Cursor[Any], values: dict[str, Any], tally: Tally) -> None:
    """Reviews as history. Those without an id are told apart by home, day and their place among that day's."""
    cursor.execute(
        """
        CREATE TEMPORARY TABLE wanted_review ON COMMIT DROP AS
        SELECT listing_key.listing_id, author, written_on, text, record,
               %(review_prefix)s || coalesce(
                   review.id::text,
                   review.listing_id || ':' || written_on || ':' || row_number() OVER (
                       PARTITION BY review.id, review.listing_id, written_on ORDER BY record)
               ) AS source
        FROM staged_review review JOIN listing_key ON listing_key.id = review.listing_id
        """,
        values,
    )
    known = cursor.rowcount
    cursor.execute("CREATE INDEX ON wanted_review (source)")
    cursor.execute("ANALYZE wanted_review")
    cursor.execute(
        """
        UPDATE reviews_review old
        SET listing_id = new.listing_id, author = new.author, written_on = new.written_on, text = new.text,
            retired_on = NULL
        FROM wanted_review new
        WHERE new.source = old.source AND (old.listing_id, old.author, old.written_on, old.text, old.retired_on)
              IS DISTINCT FROM (new.listing_id, new.author, new.written_on, new.text, NULL::date)
        """
    )
    tally.updated = cursor.rowcount
    cursor.execute(
        """
        INSERT INTO reviews_review (listing_id, author, written_on, text, rating, source, retired_on, created_at)
        SELECT listing_id, author, written_on, text, NULL, source, NULL, %(now)s FROM wanted_review new
        WHERE NOT EXISTS (SELECT FROM reviews_review old WHERE old.source = new.source)
        ORDER BY record
        """,
        values,
    )
    tally.added = cursor.rowcount
    tally.unchanged = known - tally.added - tally.updated
    cursor.execute(
        """
        UPDATE reviews_review old SET retired_on = %(seen_on)s
        WHERE source LIKE %(any_review)s AND retired_on IS NULL
          AND NOT EXISTS (SELECT FROM wanted_review new WHERE new.source = old.source)
        """,
        values,
    )
    tally.retired = cursor.rowcount
