"""Reports: a definition in words and one query each, over everything, changing nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from typing import Any, Final, Literal

from django.db.models import Count, F, Q, QuerySet, Sum
from django.db.models.functions import TruncMonth

from backoffice.core.errors import Invalid
from backoffice.ledger.models import JournalLine
from backoffice.payments.models import ExtraCharge, Payment, Refund

By = Literal["month", "city"]
GROUPS: Final = ("month", "city")

# What the report counts, said once for its page, its command and its docs.
GMV: Final = (
    "Gross merchandise value: what guests were charged for stays, by the instant of capture (UTC), in the currency "
    "charged. Refunds are those approved in the same period, less those refused or stopped in it, whatever period the "
    "charge fell in."
)


@dataclass(frozen=True, slots=True)
class GmvRow:
    """One group of one currency; amounts in minor units. `net` is charged less refunded."""

    group: str
    currency: str
    bookings: int
    charged: int
    refunded: int

    @property
    def net(self) -> int:
        return self.charged - self.refunded


@dataclass(frozen=True, slots=True)
class Tie:
    """A currency's total beside the ledger's for the same period; they are equal, or the books need a look."""

    currency: str
    charged: int
    ledger_charged: int
    refunded: int
    ledger_refunded: int

    @property
    def holds(self) -> bool:
        return (self.charged, self.refunded) == (self.ledger_charged, self.ledger_refunded)


def gmv(*, since: date, until: date, by: str) -> list[GmvRow]:
    """GMV of the days [since, until) by month of capture or by the home's city, groups in order, then currency.

    Raises Invalid naming `by` or `until`."""
    if by not in GROUPS:
        raise Invalid(f"by: write one of {', '.join(GROUPS)}.", field="by")
    if until <= since:
        raise Invalid("until: must be after since.", field="until")
    start, end = _midnight(since), _midnight(until)
    captured = Payment.objects.filter(status="captured", captured_at__gte=start, captured_at__lt=end)
    # Instalments, and damage that was paid too late: held for the guest, it is money of the stay until it has gone back.
    beside = ExtraCharge.objects.filter(
        Q(kind="instalment") | Q(held__gt=0), status="captured", captured_at__gte=start, captured_at__lt=end
    )
    # A refund the provider took and the bank sent back stays a refund: the money stands aside for the guest, and what pays
    # it another way is the same refund, not one more.
    approved = Refund.objects.filter(approved_at__gte=start, approved_at__lt=end, repays=None)
    refused = Refund.objects.filter(
        Q(status="failed", unclaimed=False) | Q(status="cancelled"),
        approved_at__isnull=False,
        settled_at__gte=start,
        settled_at__lt=end,
        repays=None,
    )
    rows: dict[tuple[str, str], list[int]] = {}
    for group, currency, count, total in _grouped(captured, by, "captured_at", "booking__listing__city"):
        rows[group, currency] = [count, total, 0]
    for group, currency, _, total in _grouped(beside, by, "captured_at", "booking__listing__city"):
        rows.setdefault((group, currency), [0, 0, 0])[1] += total
    for refunds, sign, at in ((approved, 1, "approved_at"), (refused, -1, "settled_at")):
        for group, currency, _, total in _grouped(refunds, by, at, "payment__booking__listing__city"):
            rows.setdefault((group, currency), [0, 0, 0])[2] += sign * total
    return [GmvRow(group, currency, *figures) for (group, currency), figures in sorted(rows.items())]


def ties(*, since: date, until: date, rows: list[GmvRow]) -> list[Tie]:
    """The report's totals beside what the ledger was told of captures and refunds in the same period."""
    start, end = _midnight(since), _midnight(until)
    charged = _posted(start, end, code="1150", kind="capture")
    refunded = _posted(start, end, code="2400", kind="refund")
    currencies = {row.currency for row in rows} | set(charged) | set(refunded)
    return [
        Tie(
            currency,
            sum(row.charged for row in rows if row.currency == currency),
            charged.get(currency, 0),
            sum(row.refunded for row in rows if row.currency == currency),
            -refunded.get(currency, 0),
        )
        for currency in sorted(currencies)
    ]


def _grouped(rows: QuerySet[Any], by: str, at: str, city: str) -> Iterator[tuple[str, str, int, int]]:
    """Group, currency, how many, and their sum in minor units."""
    group = TruncMonth(at, tzinfo=UTC) if by == "month" else F(city)
    counted = rows.annotate(group=group).values("group", "currency").annotate(count=Count("id"), total=Sum("amount"))
    for row in counted.order_by("group", "currency"):
        yield _name(row["group"]), row["currency"], row["count"], row["total"]


def _posted(start: datetime, end: datetime, *, code: str, kind: str) -> Mapping[str, int]:
    """What journals of a kind, and what reversed one of them, put on an account."""
    told = Q(journal__kind=kind) | Q(journal__kind="reversal", journal__reverses__kind=kind)
    rows = (
        JournalLine.objects.filter(
            told, account__code=code, journal__effective_at__gte=start, journal__effective_at__lt=end
        )
        .values("currency")
        .annotate(total=Sum("amount"))
        .order_by("currency")
    )
    return {row["currency"]: row["total"] for row in rows}


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(0), tzinfo=UTC)


def _name(group: object) -> str:
    return f"{group:%Y-%m}" if isinstance(group, datetime | date) else str(group)
