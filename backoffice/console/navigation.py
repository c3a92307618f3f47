"""The sidebar: what a person may open, and how much waits there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, cast

from django.core.cache import cache
from django.http import HttpRequest
from django.urls import NoReverseMatch, reverse

from backoffice.console.door import may
from backoffice.notifications.models import OutboxMessage
from backoffice.payments import queries as money
from backoffice.payments.models import Chargeback, ExtraCharge, Refund, WebhookEvent
from backoffice.payouts.models import Payout, WriteOff
from backoffice.reconciliation.models import Break
from backoffice.reconciliation.states import FINDINGS

BADGES_KEY: Final = "console:badges"
# Long enough that a page costs no count, short enough that a queue is seen to move.
_BADGES_SECONDS: Final = 15
# A badge says "there is much": beyond this the figure would cost a scan and tell nothing more.
_MOST: Final = 99
# What waits for a second person; the rest of the badges count what went wrong.
_WAITING: Final = frozenset({"charges", "chargebacks", "refunds", "write_offs"})


@dataclass(frozen=True)
class Item:
    """`place` is app_label_model; `badge` names a count."""

    title: str
    icon: str
    place: str
    verb: str
    badge: str = ""


GROUPS: Final[tuple[tuple[str, tuple[Item, ...]], ...]] = (
    (
        "Marketplace",
        (
            Item("Bookings", "luggage", "bookings_booking", "bookings.view"),
            Item("Listings", "cottage", "listings_listing", "listings.view"),
            Item("People", "group", "people_user", "people.view"),
        ),
    ),
    (
        "Money in",
        (
            Item("Payments", "credit_card", "payments_payment", "payments.view"),
            Item("Charges", "event_repeat", "payments_extracharge", "payments.view", badge="charges"),
            Item("Refunds", "undo", "payments_refund", "refunds.view", badge="refunds"),
            Item("Chargebacks", "gavel", "payments_chargeback", "chargebacks.view", badge="chargebacks"),
        ),
    ),
    (
        "Money out",
        (
            Item("Payouts", "outgoing_mail", "payouts_payout", "payouts.view", badge="payouts"),
            Item("Payout holds", "front_hand", "payouts_payouthold", "payouts.view"),
            Item("Hosts’ accounts", "badge", "payouts_hostaccount", "payouts.view"),
            Item("Clawbacks", "keyboard_return", "payouts_clawback", "payouts.view"),
            Item("Write-offs", "money_off", "payouts_writeoff", "payouts.view", badge="write_offs"),
            Item("Bank payouts", "account_balance_wallet", "payouts_bankpayout", "payouts.view"),
        ),
    ),
    (
        "Books",
        (
            Item("Balance transactions", "sync_alt", "payments_balancetransaction", "payments.view"),
            Item("Ledger accounts", "account_balance", "ledger_account", "ledger.view"),
            Item("Journals", "menu_book", "ledger_journal", "ledger.view"),
        ),
    ),
    (
        "Control",
        (
            Item("Breaks", "heart_broken", "reconciliation_break", "breaks.view", badge="breaks"),
            Item("Bank lines", "receipt_long", "reconciliation_statementline", "breaks.view"),
            Item("Reconciliation", "balance", "reconciliation_run", "breaks.view"),
            Item("Webhook inbox", "inbox", "payments_webhookevent", "webhooks.view", badge="webhooks"),
            Item("Outbox", "outbox", "notifications_outboxmessage", "jobs.view", badge="outbox"),
            Item("Kill switches", "dangerous", "jobs_stop", "jobs.view"),
            Item("Job runs", "bolt", "jobs_jobrun", "jobs.view"),
            Item("Audit log", "policy", "audit_auditentry", "audit.view"),
        ),
    ),
)


def sidebar(request: HttpRequest) -> list[dict[str, Any]]:
    """Unfold's navigation for this person. An item that is not theirs is not there."""
    badges = waiting()
    groups: list[dict[str, Any]] = [{"items": [_dashboard(request)]}]
    for title, items in GROUPS:
        shown = [_entry(request, item, badges) for item in items if may(request, item.verb)]
        groups.append({"title": title, "separator": True, "items": [each for each in shown if each]})
    return [group for group in groups if group["items"]]


def _dashboard(request: HttpRequest) -> dict[str, Any]:
    link = reverse("admin:index")
    return {"title": "Today", "icon": "space_dashboard", "link": link, "active": request.path == link}


def _entry(request: HttpRequest, item: Item, badges: dict[str, int]) -> dict[str, Any]:
    try:
        link = reverse(f"admin:{item.place}_changelist")
    except NoReverseMatch:
        return {}
    entry: dict[str, Any] = {
        "title": item.title,
        "icon": item.icon,
        "link": link,
        "active": request.path.startswith(link),
    }
    count = badges.get(item.badge, 0)
    if count:
        entry["badge"] = f"{_MOST}+" if count > _MOST else str(count)
        entry["badge_variant"] = "warning" if item.badge in _WAITING else "danger"
    return entry


def waiting() -> dict[str, int]:
    """How much waits for somebody, by badge; counted once in fifteen seconds for everybody."""
    return cast(dict[str, int], cache.get_or_set(BADGES_KEY, _count, _BADGES_SECONDS))


def _count() -> dict[str, int]:
    return {name: count() for name, count in COUNTS.items()}


def _up_to_most(rows: Any) -> int:
    return int(rows[: _MOST + 1].count())


COUNTS: Final[dict[str, Callable[[], int]]] = {
    "chargebacks": lambda: _up_to_most(money.to_answer(rows=Chargeback.objects.all())),
    "charges": lambda: _up_to_most(ExtraCharge.objects.filter(status="requested")),
    "refunds": lambda: _up_to_most(Refund.objects.filter(status="requested", waits_for="")),
    "breaks": lambda: _up_to_most(Break.objects.filter(status__in=FINDINGS)),
    "payouts": lambda: _up_to_most(Payout.objects.filter(status="failed")),
    "write_offs": lambda: _up_to_most(WriteOff.objects.filter(status="proposed")),
    "outbox": lambda: _up_to_most(OutboxMessage.objects.filter(status="dead")),
    "webhooks": lambda: _up_to_most(WebhookEvent.objects.filter(status__in=["failed", "dead"])),
}
