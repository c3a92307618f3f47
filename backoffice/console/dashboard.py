"""The first page: how the desk stands now, each figure leading to the list behind it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final, cast

from django.conf import settings
from django.core.cache import cache
from django.db.models import Count, Q, Sum
from django.db.models.functions import TruncDate
from django.http import HttpRequest
from django.urls import reverse
from django.utils.safestring import SafeString

from backoffice.bookings.models import Booking
from backoffice.console import cells, navigation
from backoffice.console.door import Desk, desk_of
from backoffice.core.money import Money
from backoffice.ledger import queries as ledger
from backoffice.ledger.models import Account
from backoffice.listings.models import Listing
from backoffice.notifications import queries as notifications
from backoffice.notifications.models import OutboxMessage
from backoffice.payments import queries as money
from backoffice.payments.models import Chargeback, Refund, WebhookEvent
from backoffice.payouts import queries as payouts
from backoffice.payouts.models import HostAccount, Payout, PayoutHold, WriteOff
from backoffice.reconciliation import queries as reconciliation
from backoffice.reconciliation.models import Break, Run
from backoffice.reconciliation.states import FINDINGS

FIGURES_KEY: Final = "console:figures"
# Sums over weeks of bookings: fresh enough to steer by, and many people opening the page at nine cost one of them.
_FIGURES_SECONDS: Final = 30
_DAYS: Final = 14
_STAYS: Final = ("confirmed", "checked_in", "completed")


@dataclass(frozen=True)
class Figure:
    """One number with its words and where it leads. `tone` warning or danger when somebody should look."""

    label: str
    value: Any
    words: str
    href: str
    verb: str
    tone: str = ""


def environment(request: HttpRequest) -> tuple[str, str] | None:
    """A desk whose payments are simulated says so on every page."""
    return ("Sandbox", "warning") if settings.SANDBOXED else None


def account_links(request: HttpRequest) -> list[dict[str, str]]:
    """The user menu: one's own page."""
    if not request.user.is_authenticated:
        return []
    return [{"title": "My page", "link": cells.address_of(request.user)}]


def dashboard(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """Unfold's callback for the index page."""
    desk = desk_of(request)
    facts = counted(desk.now)
    actor = desk.actor
    request.console_place = {"title": "Today"}  # type: ignore[attr-defined]
    return {
        **context,
        "desk_name": actor.name.split(" ", 1)[0],
        "has_grants": bool(actor.grants),
        "empty": facts["empty"],
        "counted_at": facts["now"],
        "groups": [
            (title, [figure for figure in group if actor.may(figure.verb)])
            for title, group in (
                ("Marketplace", _marketplace(facts)),
                ("Waiting for somebody", _waiting(facts)),
                ("Money out", _money_out(facts)),
            )
        ],
        "gmv": _gmv(facts) if actor.may("bookings.view") else [],
        "charts": _charts(facts) if actor.may("bookings.view") and not facts["empty"] else [],
        "refunds": _refunds(desk) if actor.may("refunds.view") else None,
    }


# Counting ---------------------------------------------------------------------------------------------------------------


def counted(now: datetime) -> dict[str, Any]:
    """What `gather` counts, at most half a minute old."""
    return cast(dict[str, Any], cache.get_or_set(FIGURES_KEY, lambda: gather(now), _FIGURES_SECONDS))


def gather(now: datetime) -> dict[str, Any]:
    """Everything the page shows, as plain numbers; some thirty statements, for everybody who looks in half a minute."""
    today = now.date()
    week = today - timedelta(days=6)
    since = today - timedelta(days=_DAYS - 1)
    # One walk of the stays around today: who stays tonight, who comes, who goes.
    stays = Booking.objects.filter(status__in=_STAYS, check_in__lte=today, check_out__gte=today).aggregate(
        staying=Count("pk", filter=Q(check_out__gt=today)),
        arriving=Count("pk", filter=Q(check_in=today)),
        leaving=Count("pk", filter=Q(check_out=today)),
    )
    listed = dict(
        Listing.objects.filter(status__in=["published", "in_review"])
        .order_by()
        .values_list("status")
        .annotate(n=Count("pk"))
    )
    homes = listed.get("published", 0)
    made = _by_day(Booking.objects.filter(created_at__gte=_midnight(since)), "created_at")
    return {
        "now": now,
        "today": today,
        "week": week,
        "made": [(day, made.get(day, 0)) for day in _days(since, today)],
        "gmv_days": _gmv_days(since, today),
        "gmv": _gmv_sums(week),
        **stays,
        "homes": homes,
        "in_review": listed.get("in_review", 0),
        "clearing": [(item.account, item.due <= now) for item in ledger.clearing_open(now=now)],
        "empty": not homes and not Booking.objects.exists() and not Listing.objects.exists(),
        **{name: count(now) for name, count in BACKLOGS.items()},
    }


# Who looks at it in the morning has a day to lift or extend it.
_SOON: Final = timedelta(hours=24)


def _holds(now: datetime) -> tuple[int, int]:
    """Active holds, and how many of them end within a day."""
    counted = PayoutHold.objects.filter(status="active").aggregate(
        all=Count("pk"), ending=Count("pk", filter=Q(expires_at__lte=now + _SOON))
    )
    return counted["all"], counted["ending"]


def _debts(now: datetime) -> tuple[int, int, str]:
    """How many hosts owe us, how many of them for more than 30 days, and how much together."""
    found = payouts.receivables(now=now)
    sums: dict[str, Money] = {}
    for each in found:
        sums[each.amount.currency] = sums.get(each.amount.currency, Money.zero(each.amount.currency)) + each.amount
    old = {each.host_code for each in found if (now - each.oldest).days > 30}
    return len({each.host_code for each in found}), len(old), ", ".join(str(each) for each in sums.values())


BACKLOGS: Final[dict[str, Callable[[datetime], Any]]] = {
    "refunds": lambda now: Refund.objects.filter(status="requested", waits_for="").count(),
    "breaks": lambda now: Break.objects.filter(status__in=FINDINGS).count(),
    "quality": lambda now: reconciliation.score(now=now),
    "outbox": lambda now: notifications.backlog(now=now),
    "webhooks": lambda now: WebhookEvent.objects.filter(status__in=["failed", "dead"]).count(),
    "payouts": lambda now: payouts.counts(now=now),
    "holds": _holds,
    "write_offs": lambda now: WriteOff.objects.filter(status="proposed").count(),
    "banks": lambda now: payouts.bank_changes_waiting().count(),
    "debts": _debts,
    "chargebacks": lambda now: money.chargeback_figures(now=now),
}


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time.min, tzinfo=UTC)


def _days(first: date, last: date) -> list[date]:
    return [first + timedelta(days=step) for step in range((last - first).days + 1)]


def _by_day(rows: Any, column: str) -> dict[date, int]:
    counted = rows.annotate(day=TruncDate(column, tzinfo=UTC)).values("day").annotate(n=Count("id"))
    return {row["day"]: row["n"] for row in counted.order_by("day")}


def _gmv_rows(since: date) -> Any:
    return Booking.objects.filter(confirmed_at__gte=_midnight(since)).exclude(status="expired")


def _gmv_sums(since: date) -> list[tuple[str, int, int]]:
    rows = _gmv_rows(since).values("currency").annotate(total=Sum("total"), n=Count("id")).order_by("-n", "currency")
    return [(row["currency"], row["total"], row["n"]) for row in rows]


def _gmv_days(since: date, today: date) -> dict[str, list[int]]:
    rows = (
        _gmv_rows(since)
        .annotate(day=TruncDate("confirmed_at", tzinfo=UTC))
        .values("currency", "day")
        .annotate(total=Sum("total"))
        .order_by("currency", "day")
    )
    found: dict[str, dict[date, int]] = {}
    for row in rows:
        found.setdefault(row["currency"], {})[row["day"]] = row["total"]
    return {currency: [by_day.get(day, 0) for day in _days(since, today)] for currency, by_day in found.items()}


# Saying -----------------------------------------------------------------------------------------------------------------


def _marketplace(facts: dict[str, Any]) -> Sequence[Figure]:
    today, week = facts["today"], facts["week"]
    made = dict(facts["made"])
    in_week = sum(count for day, count in facts["made"] if day >= week)
    share = f"{_per_cent(facts['staying'], facts['homes'])} of {facts['homes']:,} homes on offer"
    return (
        Figure("Bookings today", f"{made[today]:,}", f"{in_week:,} in seven days",
               cells.list_of(Booking, f"created_at_from={today}"), "bookings.view"),
        Figure("Staying tonight", f"{facts['staying']:,}", share,
               cells.list_of(Booking, "today=staying"), "bookings.view"),
        Figure("Arriving today", f"{facts['arriving']:,}", f"{facts['leaving']:,} leaving",
               cells.list_of(Booking, "today=arriving"), "bookings.view"),
        Figure("Homes in review", f"{facts['in_review']:,}", "before guests see them",
               cells.list_of(Listing, "status__exact=in_review"), "listings.view",
               "warning" if facts["in_review"] else ""),
    )  # fmt: skip


def _waiting(facts: dict[str, Any]) -> Sequence[Figure]:
    overdue = sum(1 for _, late in facts["clearing"] if late)
    outbox, breaks = facts["outbox"], facts["breaks"]
    return (
        Figure("Refunds to approve", f"{facts['refunds']:,}", "wait for a second person",
               cells.list_of(Refund, "status__exact=requested&waits_for__exact="), "refunds.view",
               "warning" if facts["refunds"] else ""),
        Figure("Failed webhooks", f"{facts['webhooks']:,}", "the worker could not apply",
               cells.list_of(WebhookEvent, _any_of("failed", "dead")), "webhooks.view",
               "danger" if facts["webhooks"] else ""),
        Figure("Clearing open", f"{len(facts['clearing']):,}",
               f"{overdue:,} should have cleared by now" if overdue else "all of them young",
               cells.list_of(Account, "standing=clearing"), "ledger.view", "danger" if overdue else ""),
        Figure("Breaks", f"{breaks:,}", "between the provider and our ledger",
               cells.list_of(Break, _any_of(*FINDINGS)), "breaks.view", "danger" if breaks else ""),
        _quality(facts["quality"]),
        Figure("Outbox", f"{outbox.pending + outbox.failing:,}",
               f"{outbox.dead:,} given up" if outbox.dead else "on their way out",
               cells.list_of(OutboxMessage, _any_of("pending", "failed", "dead")), "jobs.view",
               "danger" if outbox.dead else ""),
    )  # fmt: skip


def _money_out(facts: dict[str, Any]) -> Sequence[Figure]:
    counts, disputes = facts["payouts"], facts["chargebacks"]
    holds, ending = facts["holds"]
    hosts, old, owed = facts["debts"]
    late = f"{disputes.late:,} past our own deadline" if disputes.late else ""
    following = f"next by {cells.when(disputes.next_due)}" if disputes.next_due else "nothing to answer"
    return (
        Figure("Payouts due", f"{counts['due']:,}", f"{counts['waiting']:,} of them wait",
               cells.list_of(Payout, "view=overdue"), "payouts.view", "warning" if counts["waiting"] else ""),
        Figure("Transfers refused", f"{counts['failed']:,}", f"{counts['in_transfer']:,} under way",
               cells.list_of(Payout, "status__exact=failed"), "payouts.view", "danger" if counts["failed"] else ""),
        Figure("Payout holds", f"{holds:,}", f"{ending:,} end within a day",
               cells.list_of(PayoutHold, "view=active"), "payouts.view", "warning" if ending else ""),
        Figure("Chargebacks to answer", f"{disputes.waiting:,}", late or disputes.words or following,
               cells.list_of(Chargeback, "view=answer"), "chargebacks.view",
               "danger" if disputes.late else "warning" if disputes.waiting or disputes.words else ""),
        Figure("Hosts who owe us", f"{hosts:,}", f"{owed}; {old:,} for over 30 days" if hosts else "nothing is owed",
               reverse("admin:payouts_hostaccount_receivables"), "payouts.view", "danger" if old else ""),
        Figure("New bank details", f"{facts['banks']:,}", "wait for finance",
               cells.list_of(HostAccount, "view=bank"), "payouts.view", "warning" if facts["banks"] else ""),
        Figure("Write-offs to approve", f"{facts['write_offs']:,}", "wait for a second person",
               cells.list_of(WriteOff, "view=waiting"), "payouts.view", "warning" if facts["write_offs"] else ""),
    )  # fmt: skip


def _quality(score: reconciliation.Score) -> Figure:
    """The books in one number, the lowest of four; the words say which of them are not as they should be."""
    low = [f"{name} {reconciliation.percent(getattr(score, name))}" for name in score.below_goal]
    words = ", ".join(low) or "cleared, in time, complete and explained"
    return Figure("Quality of the books", reconciliation.percent(score.lowest), words, cells.list_of(Run), "breaks.view",
                  "warning" if low else "")  # fmt: skip


def _any_of(*statuses: str) -> str:
    """A list's filter as its own boxes would send it."""
    return "&".join(f"status__exact={status}" for status in statuses)


def _per_cent(part: int, whole: int) -> str:
    return f"{part * 100 // whole} %" if whole else "0 %"


def _gmv(facts: dict[str, Any]) -> list[tuple[SafeString, str, str]]:
    href = cells.list_of(Booking, f"confirmed_at_from={facts['week']}")
    return [
        (cells.money(total, currency), f"{count:,} confirmed {'booking' if count == 1 else 'bookings'}", href)
        for currency, total, count in facts["gmv"]
    ]


def _charts(facts: dict[str, Any]) -> list[dict[str, str]]:
    days = [f"{day.day} {day.strftime('%b')}" for day, _ in facts["made"]]
    charts = [_chart("Bookings made a day", days, [count for _, count in facts["made"]])]
    if facts["gmv"]:
        currency = facts["gmv"][0][0]
        major = [
            float(Money(amount, currency).decimal()) for amount in facts["gmv_days"][currency]
        ]  # pixels, not money
        charts.append(_chart(f"Confirmed a day, in {currency}", days, major))
    return charts


_CHART_OPTIONS: Final = json.dumps(
    {
        "animation": False,
        "maintainAspectRatio": False,
        "plugins": {"legend": {"display": False}},
        "scales": {
            "x": {
                "grid": {"display": False},
                "ticks": {"maxRotation": 0, "autoSkip": True, "autoSkipPadding": 12, "color": "#8a979c"},
            },
            "y": {
                "beginAtZero": True,
                "border": {"display": False},
                "ticks": {"maxTicksLimit": 5, "precision": 0, "color": "#8a979c"},
            },
        },
    }
)


def _chart(title: str, labels: list[str], values: Sequence[float]) -> dict[str, str]:
    bars = {
        "data": list(values),
        "backgroundColor": "var(--color-primary-500)",
        "borderRadius": 3,
        "maxBarThickness": 26,
    }
    return {
        "title": title,
        "options": _CHART_OPTIONS,
        "data": json.dumps({"labels": labels, "datasets": [bars]}),
        "words": f"{title}: " + ", ".join(f"{label} {value:g}" for label, value in zip(labels, values, strict=True)),
    }


def _refunds(desk: Desk) -> list[tuple[SafeString, SafeString, str, SafeString]]:
    rows = Refund.objects.filter(status="requested", waits_for="").select_related("payment__booking", "requested_by")
    return [
        (
            cells.link(row),
            cells.money(row.amount, row.currency),
            row.requested_by.name if row.requested_by else "by rule",
            cells.instant(row.requested_at),
        )
        for row in rows.order_by("id")[:5]
    ]


def forget() -> None:
    """Count anew at the next page; tests and demos that cannot wait half a minute."""
    cache.delete_many([FIGURES_KEY, navigation.BADGES_KEY])
