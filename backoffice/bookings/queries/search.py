"""Homes that can be booked: by place and words, box, dates, price, guests and amenities, one page at a time.

The database drives the page by whichever index is narrowest: words and amenities, box, or the order itself, so that a common
place costs no more than a rare one. Nights are looked up per candidate in the index of the constraint that keeps them from
being sold twice. Pages are keyset pages: the next begins after the last row, whatever came or went meanwhile.

Homes are priced in their own currencies. A price bound or order in the reader's currency is turned into a bound in each
currency on the market, so that both use the index; the rates of the first page's day hold for the pages that follow."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from math import ceil, floor
from typing import Any, Final, Literal, NamedTuple, get_args

from django.db import connection

from backoffice.bookings.policies import HomeTerms, StayTotals
from backoffice.core.errors import Invalid
from backoffice.core.money import Money, minor_digits
from backoffice.core.stays import Stay
from backoffice.rulebook import queries as rulebook
from backoffice.rulebook.policies import ExchangeRate

Ordering = Literal["newest", "price", "-price", "rating"]
ORDERINGS: Final[tuple[str, ...]] = get_args(Ordering)
# Prices are compared across currencies in this one when the reader names none.
COMMON_CURRENCY: Final = "EUR"
_WORTH: Final = 10**12
_FARTHEST_ID: Final = 2**63 - 1

Position = tuple[str | int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """Degrees. `west` above `east` means across the antimeridian."""

    west: float
    south: float
    east: float
    north: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Criteria:
    """What a guest looks for; everything absent is not asked for.

    Prices are a night's, in minor units of `currency`; `amenities` must all be there, one of `room_types` suffices."""

    text: str = ""
    box: Box | None = None
    stay: Stay | None = None
    guests: int | None = None
    min_price: int | None = None
    max_price: int | None = None
    currency: str | None = None
    amenities: tuple[str, ...] = ()
    room_types: tuple[str, ...] = ()
    ordering: Ordering = "newest"

    def __post_init__(self) -> None:
        if (self.min_price is not None or self.max_price is not None) and self.currency is None:
            raise Invalid("currency: say in which currency the price is meant.", field="currency")
        if self.min_price is not None and self.max_price is not None and self.max_price < self.min_price:
            raise Invalid("max_price: must not be below min_price.", field="max_price")
        if self.box is not None and self.box.north < self.box.south:
            raise Invalid("bbox: north must not be below south (west,south,east,north).", field="bbox")

    @property
    def by_price(self) -> bool:
        return self.ordering in {"price", "-price"} or self.min_price is not None or self.max_price is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundHome:
    """A home on a page of results. With dates, `nights_price` and `total` are the stay's: the host price, and all that
    the guest pays for it, fees and taxes included; `charged` is the total in the currency asked for."""

    id: int
    code: str
    title: str
    city: str
    neighbourhood: str
    country: str
    latitude: float
    longitude: float
    room_type: str
    property_type: str
    capacity: int
    bedrooms: int | None
    beds: int | None
    bathrooms: Decimal | None
    instant_book: bool
    cancellation_tier: str
    rating_count: int
    rating_sum: int
    photo: str | None
    nightly_price: Money
    nightly_price_shown: Money
    total: Money | None = None
    charged: Money | None = None


@dataclass(frozen=True, slots=True)
class FoundPage:
    """One page; `position` is where the next begins, None on the last."""

    homes: tuple[FoundHome, ...]
    position: Position | None


def search(*, criteria: Criteria, limit: int, now: datetime, after: Sequence[str | int] | None = None) -> FoundPage:
    """One page of at most `limit` homes that match. At most three statements, whatever the rows.

    Raises Invalid naming `cursor` when `after` is not a position of this order, or `currency` without a rate."""
    start = _Start.read(criteria.ordering, after)
    on = date.fromisoformat(start.rates_of) if start is not None and start.rates_of else now.date()
    rates = _rates(criteria, on) if criteria.by_price else {}
    rows = _rows(criteria, start, rates, limit + 1)
    more = len(rows) > limit
    rows = rows[:limit]
    position = _position(criteria.ordering, rows[-1], on) if more and rows else None
    prices = _Prices(criteria, now.date())
    return FoundPage(homes=tuple([prices.home(row) for row in rows]), position=position)


# Where a page begins --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Start:
    """The last row of the page before: its sort value, its currency when that is a price, its id."""

    value: int
    currency: str
    id: int
    rates_of: str

    @classmethod
    def read(cls, ordering: str, after: Sequence[str | int] | None) -> _Start | None:
        if after is None:
            return None
        try:
            kind, value, currency, row_id, rates_of = after
            start = cls(_whole(value), str(currency), _whole(row_id), str(rates_of))
            if kind != ordering or (ordering in {"price", "-price"} and not date.fromisoformat(start.rates_of)):
                raise ValueError
        except ValueError:
            raise Invalid("cursor: does not belong to this search; begin without it.", field="cursor") from None
        return start


def _whole(value: str | int) -> int:
    if not isinstance(value, int):
        raise ValueError
    return value


def _position(ordering: str, row: _Row, on: date) -> Position:
    if ordering in {"price", "-price"}:
        return (ordering, row.nightly_price, row.currency, row.id, on.isoformat())
    return (ordering, row.score if ordering == "rating" else 0, "", row.id, "")


# Prices in many currencies --------------------------------------------------------------------------------------------

_CURRENCIES: Final = """
WITH RECURSIVE known AS (
    (SELECT currency FROM listings_listing WHERE status = 'published' ORDER BY currency LIMIT 1)
    UNION ALL
    SELECT (SELECT l.currency FROM listings_listing l WHERE l.status = 'published' AND l.currency > known.currency
            ORDER BY l.currency LIMIT 1)
    FROM known WHERE known.currency IS NOT NULL)
SELECT currency FROM known WHERE currency IS NOT NULL"""


def _rates(criteria: Criteria, on: date) -> Mapping[str, Fraction]:
    """For each currency on the market, the reader's minor units that one of its minor units is worth.

    Rounded to a fixed denominator: what a night is worth is then a whole number, the same in SQL and here, so that no two
    pages disagree about the order."""
    shown = criteria.currency or COMMON_CURRENCY
    with connection.cursor() as cursor:
        cursor.execute(_CURRENCIES)  # jumps along the index: one step a currency, not one a home
        on_market = [row[0] for row in cursor.fetchall()]
    return {currency: _worth(currency, shown, on) for currency in on_market}


@lru_cache(maxsize=512)
def _worth(currency: str, shown: str, on: date) -> Fraction:
    rate = rulebook.rate(base=currency, quote=shown, on=on)
    exact = rate.value * Fraction(10) ** (minor_digits(shown) - minor_digits(currency))
    return Fraction(max(1, round(exact * _WORTH)), _WORTH)


# The statement --------------------------------------------------------------------------------------------------------


class _Row(NamedTuple):
    """A row of the page as the database gave it; the fields are in the order of `_COLUMNS`, then `_LOOKED_UP`."""

    id: int
    code: str
    title: str
    city: str
    neighbourhood: str
    country: str
    latitude: float
    longitude: float
    room_type: str
    property_type: str
    capacity: int
    bedrooms: int | None
    beds: int | None
    bathrooms: Decimal | None
    instant_book: bool
    cancellation_tier: str
    rating_count: int
    rating_sum: int
    currency: str
    nightly_price: int
    cleaning_fee: int
    extra_guest_fee: int
    included_guests: int
    week_discount: int
    month_discount: int
    minimum_nights: int
    maximum_nights: int
    score: int
    photo: str | None
    own_nights: int
    own_price: int


# Thousandths of a star; a home without ratings comes last. The same expression is in the index `listing_by_rating`.
_SCORE: Final = "((l.rating_sum * 1000) / GREATEST(l.rating_count, 1))"
_COLUMNS: Final = (
    "l.id, l.code, l.title, l.city, l.neighbourhood, l.country, l.latitude, l.longitude, l.room_type, l.property_type, "
    "l.capacity, l.bedrooms, l.beds, l.bathrooms, l.instant_book, l.cancellation_tier, l.rating_count, l.rating_sum, "
    "l.currency, l.nightly_price, l.cleaning_fee, l.extra_guest_fee, l.included_guests, l.week_discount, "
    f"l.month_discount, l.minimum_nights, l.maximum_nights, {_SCORE} AS score"
)
# Looked up for the rows of the page only: the first photo, and the nights of the stay that have a price of their own with
# what they come to (runs never overlap, so they add up).
_PHOTO: Final = (
    "(SELECT p.url FROM listings_listingphoto p WHERE p.listing_id = l.id ORDER BY p.position LIMIT 1) AS photo"
)
_OWN: Final = (
    "LEFT JOIN LATERAL (SELECT COALESCE(sum(n), 0)::bigint AS own_nights, COALESCE(sum(n * price), 0)::bigint AS own_price"
    " FROM (SELECT o.price, LEAST(upper(o.nights), %s) - GREATEST(lower(o.nights), %s) AS n FROM listings_nightoverride o"
    " WHERE o.listing_id = l.id AND o.nights && daterange(%s, %s) AND o.price IS NOT NULL) run) own_runs ON true"
)

# How many homes that match by everything but their nights are looked at before the whole market is, per home wanted.
_GLANCE: Final = 4

_Part = tuple[str, list[Any]]


def _rows(criteria: Criteria, start: _Start | None, rates: Mapping[str, Fraction], count: int) -> list[_Row]:
    """The first `count` rows after `start`.

    Looking up nights is the dear part, and most homes are free on most nights: so first only the nearest few candidates
    are looked up, in order; only when too few of them are free, all."""
    if criteria.by_price and not rates:
        return []
    if criteria.stay is not None and len(rates) < 2:
        rows = _fetch(*_statement(criteria, start, rates, count, glance=count * _GLANCE))
        if len(rows) == count:
            return rows
    return _fetch(*_statement(criteria, start, rates, count, glance=None))


def _fetch(statement: str, values: list[Any]) -> list[_Row]:
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        return [_Row._make(row) for row in cursor.fetchall()]


_ORDER: Final = {
    "newest": "l.id DESC",
    "rating": f"{_SCORE} DESC, l.id DESC",
    "price": "l.nightly_price, l.id",
    "-price": "l.nightly_price DESC, l.id DESC",
}


def _statement(
    criteria: Criteria, start: _Start | None, rates: Mapping[str, Fraction], count: int, glance: int | None
) -> _Part:
    parts = list(_filters(criteria))
    if criteria.ordering in {"price", "-price"}:
        return _by_price(criteria, parts, start, rates, count, glance)
    if rates:
        parts.insert(0, _any_of([_price_bounds(criteria, currency, rate) for currency, rate in rates.items()]))
    return _page(criteria, _keyset(criteria.ordering, start) + parts, count, glance)


def _page(criteria: Criteria, parts: Sequence[_Part], count: int, glance: int | None) -> _Part:
    """Candidates by what stands in their row; of those the free ones; of those the page, with its photos."""
    order = _ORDER[criteria.ordering]
    after = order.replace(_SCORE, "l.score")
    conditions = " AND ".join(["l.status = 'published'", "l.nightly_price > 0", *(text for text, _ in parts)])
    values = [value for _, given in parts for value in given]
    most = count if criteria.stay is None else glance
    fence = "" if most is None else f" ORDER BY {order} LIMIT {most:d}"
    inner = f"SELECT {_COLUMNS} FROM listings_listing l WHERE {conditions}{fence}"  # noqa: S608
    if criteria.stay is not None:
        joined, free, dates = _free(criteria.stay)
        inner = f"SELECT l.* FROM ({inner}) l {joined} WHERE {free} ORDER BY {after} LIMIT {count:d}"  # noqa: S608
        values += dates
    if criteria.stay is None:
        return f"SELECT l.*, {_PHOTO}, 0 AS own_nights, 0 AS own_price FROM ({inner}) l ORDER BY {after}", values  # noqa: S608
    values = [*values, criteria.stay.check_out, criteria.stay.check_in, criteria.stay.check_in, criteria.stay.check_out]
    looked_up = f"{_PHOTO}, own_runs.own_nights, own_runs.own_price"
    return f"SELECT l.*, {looked_up} FROM ({inner}) l {_OWN} ORDER BY {after}", values  # noqa: S608


def _by_price(
    criteria: Criteria,
    parts: Sequence[_Part],
    start: _Start | None,
    rates: Mapping[str, Fraction],
    count: int,
    glance: int | None,
) -> _Part:
    """One ordered branch a currency, each along its own stretch of the index, merged by what a night is worth."""
    branches = []
    values: list[Any] = []
    for currency, rate in rates.items():
        bounds = [_price_bounds(criteria, currency, rate), *_price_keyset(criteria.ordering, start, currency, rates)]
        text, given = _page(criteria, [*bounds, *parts], count, glance)
        if len(rates) == 1:
            return text, given
        branches.append(f"(SELECT b.*, b.nightly_price::numeric * {rate * _WORTH} AS worth FROM ({text}) b)")  # noqa: S608
        values += given
    direction = "DESC" if criteria.ordering == "-price" else "ASC"
    columns = ", ".join("l." + name for name in _Row._fields)
    return (
        f"SELECT {columns} FROM ({' UNION ALL '.join(branches)}) l "  # noqa: S608
        f"ORDER BY l.worth {direction}, l.id {direction} LIMIT {count:d}",
        values,
    )


def _price_bounds(criteria: Criteria, currency: str, rate: Fraction) -> _Part:
    """`criteria`'s price bounds as whole minor units of `currency`: what is worth at least and at most as much."""
    text, values = ["l.currency = %s"], [currency]
    if criteria.min_price is not None:
        text.append("l.nightly_price >= %s")
        values.append(min(ceil(criteria.min_price / rate), _FARTHEST_ID))  # type: ignore[arg-type]
    if criteria.max_price is not None:
        text.append("l.nightly_price <= %s")
        values.append(min(floor(criteria.max_price / rate), _FARTHEST_ID))  # type: ignore[arg-type]
    return " AND ".join(text), list(values)


def _price_keyset(ordering: str, start: _Start | None, currency: str, rates: Mapping[str, Fraction]) -> list[_Part]:
    """After `start` in the order of worth, as a condition on whole minor units of `currency`."""
    if start is None:
        return []
    if start.currency not in rates:  # the last home of that currency left the market between two pages
        raise Invalid("cursor: is out of date; begin without it.", field="cursor")
    here = start.value * rates[start.currency] / rates[currency]
    above = ordering == "price"
    if here.denominator == 1:
        sign = ">" if above else "<"
        return [(f"(l.nightly_price, l.id) {sign} (%s, %s)", [_bigint(here), start.id])]
    if above:
        return [("l.nightly_price > %s", [_bigint(floor(here))])]
    return [("l.nightly_price < %s", [_bigint(ceil(here))])]


def _bigint(value: Fraction | int) -> int:
    return max(-_FARTHEST_ID, min(int(value), _FARTHEST_ID))


def _keyset(ordering: str, start: _Start | None) -> list[_Part]:
    if start is None:
        return []
    if ordering == "rating":
        return [(f"({_SCORE}, l.id) < (%s, %s)", [start.value, start.id])]
    return [("l.id < %s", [start.id])]


def _any_of(parts: Sequence[_Part]) -> _Part:
    return "(" + " OR ".join(f"({text})" for text, _ in parts) + ")", [value for _, given in parts for value in given]


def _filters(criteria: Criteria) -> Iterable[_Part]:
    """What the row itself tells; the cheap comparisons first, since the database asks them in this order."""
    if criteria.guests is not None:
        yield "l.capacity >= %s", [criteria.guests]
    if criteria.room_types:
        yield "l.room_type = ANY(%s)", [list(criteria.room_types)]
    if criteria.box is not None:
        yield _in_box(criteria.box)
    if criteria.text:
        yield "l.words @@ plainto_tsquery('staydesk', %s)", [criteria.text]  # every word; no word at all finds nothing
    if criteria.amenities:
        yield "l.amenities @> %s::varchar(120)[]", [list(criteria.amenities)]


def _in_box(box: Box) -> _Part:
    if box.west <= box.east:
        return (
            "l.latitude BETWEEN %s AND %s AND l.longitude BETWEEN %s AND %s",
            [box.south, box.north, box.west, box.east],
        )
    return (
        "l.latitude BETWEEN %s AND %s AND (l.longitude >= %s OR l.longitude <= %s)",
        [box.south, box.north, box.west, box.east],
    )


def _free(stay: Stay) -> tuple[str, str, list[Any]]:
    """No active hold on any of the nights, and a stay of that length may begin on the first: a join, its condition, and
    the values of both. OFFSET 0 keeps the lookups one by one, along the index, for the candidates alone."""
    joined = (
        "LEFT JOIN LATERAL (SELECT o.minimum_nights, o.maximum_nights FROM listings_nightoverride o"
        " WHERE o.listing_id = l.id AND o.nights @> %s::date OFFSET 0) own ON true"
    )
    free = (
        "%s BETWEEN COALESCE(own.minimum_nights, l.minimum_nights) AND COALESCE(own.maximum_nights, l.maximum_nights)"
        " AND NOT EXISTS (SELECT 1 FROM listings_calendarhold h WHERE h.listing_id = l.id AND h.active"
        " AND h.stay && daterange(%s, %s))"
    )
    return joined, free, [stay.check_in, stay.nights, stay.check_in, stay.check_out]


# What the stay costs --------------------------------------------------------------------------------------------------


class _Prices:
    """What the homes of one page cost today; the policies are looked up once for all homes of a place."""

    def __init__(self, criteria: Criteria, on: date) -> None:
        self._criteria = criteria
        self._on = on
        self._totals: dict[tuple[str, str, str], StayTotals | None] = {}
        self._rates: dict[str, ExchangeRate] = {}

    def home(self, row: _Row) -> FoundHome:
        nightly = Money(row.nightly_price, row.currency)
        rate = self._rate(row.currency)
        total = self._total(row)
        return FoundHome(
            id=row.id,
            code=row.code,
            title=row.title,
            city=row.city,
            neighbourhood=row.neighbourhood,
            country=row.country,
            latitude=row.latitude,
            longitude=row.longitude,
            room_type=row.room_type,
            property_type=row.property_type,
            capacity=row.capacity,
            bedrooms=row.bedrooms,
            beds=row.beds,
            bathrooms=row.bathrooms,
            instant_book=row.instant_book,
            cancellation_tier=row.cancellation_tier,
            rating_count=row.rating_count,
            rating_sum=row.rating_sum,
            photo=row.photo,
            nightly_price=nightly,
            nightly_price_shown=rate.convert(nightly),
            total=total,
            charged=None if total is None else rate.convert(total),
        )

    def _total(self, row: _Row) -> Money | None:
        """What a quote would say. None without dates, and for a home that cannot be quoted (its place taxes in another
        currency than its own): the page shows the others all the same."""
        stay = self._criteria.stay
        if stay is None:
            return None
        key = (row.currency, row.city, row.country)
        if key not in self._totals:
            self._totals[key] = self._totals_in(*key, stay)
        totals = self._totals[key]
        if totals is None:
            return None
        terms = HomeTerms(
            nights=row.nightly_price * (stay.nights - row.own_nights) + row.own_price,
            cleaning=row.cleaning_fee,
            extra_guest=row.extra_guest_fee,
            included_guests=row.included_guests,
            week_discount=row.week_discount,
            month_discount=row.month_discount,
        )
        return Money(totals.total(terms), row.currency)

    def _totals_in(self, currency: str, city: str, country: str, stay: Stay) -> StayTotals | None:
        fees, taxes = rulebook.fees(on=self._on).rules, rulebook.taxes(on=self._on).rules
        try:
            return StayTotals(
                nights=stay.nights,
                guests=self._criteria.guests or 1,
                currency=currency,
                plan=fees.plan(fees.default),
                jurisdictions=taxes.of_place(city=city, country=country),
                vat=taxes.vat_in(country),
            )
        except Invalid:
            return None

    def _rate(self, currency: str) -> ExchangeRate:
        """From a home's currency to the reader's."""
        if currency not in self._rates:
            shown = self._criteria.currency or currency
            self._rates[currency] = rulebook.rate(base=currency, quote=shown, on=self._on)
        return self._rates[currency]
