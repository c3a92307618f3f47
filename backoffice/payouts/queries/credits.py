"""Questions about what stands in hosts' favour on what they owe: a debt that was none after all, and was paid."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from django.db.models import Exists, OuterRef, QuerySet

from backoffice.bookings.models import Booking
from backoffice.core.money import Money
from backoffice.ledger import queries as ledger
from backoffice.ledger.models import JournalLine
from backoffice.payouts.models import Clawback
from backoffice.payouts.queries.clawbacks import HOST_RECEIVABLE, UNDER_WAY

BAD_DEBT: Final = "5220"
# What stands on the payout of such money in place of the rules of a release date.
CREDIT_LABEL: Final = "owed back"


@dataclass(frozen=True, slots=True)
class Credit:
    """What we owe one host back in one currency: above zero."""

    host_code: str
    amount: Money


def credits_to_pay() -> list[Credit]:
    """What 1310 holds in hosts' favour, by host and currency. Where a clawback is under way it is waited for: when it is
    refused, the host owes that much again."""
    asked = set(Clawback.objects.filter(status__in=UNDER_WAY).values_list("host__code", "currency"))
    return [one for one in _in_credit() if (one.host_code, one.amount.currency) not in asked]


def credit_of(*, host_code: str, currency: str) -> Money:
    """What stands in one host's favour on what they owe; zero where they owe something, or nothing does."""
    balance = ledger.balance(account=HOST_RECEIVABLE, key=host_code, currency=currency)
    return Money(max(-balance, 0), currency)


def credits_that_stay(*, since: datetime) -> list[Credit]:
    """What was owed back to hosts before then and still is: no run could pay it."""
    recent = JournalLine.objects.filter(account=OuterRef("pk"), journal__recorded_at__gte=since)
    return _in_credit(~Exists(recent))


def given_up(*, host_code: str, currency: str) -> Money:
    """What of a host's debts was written off and has not come back."""
    return Money(max(ledger.balance(account=BAD_DEBT, key=host_code, currency=currency), 0), currency)


def booking_of_credit(*, host_code: str, currency: str) -> str:
    """Code of the host's booking that the latest credit is about: its reversed loss or refund; "" where there is none."""
    stays = Booking.objects.filter(host__code=host_code).values("code")
    rows = JournalLine.objects.filter(
        account__code=HOST_RECEIVABLE,
        account__key=host_code,
        account__currency=currency,
        amount__lt=0,
        journal__subject__in=stays,
    )
    return rows.order_by("-id").values_list("journal__subject", flat=True).first() or ""


# Private --------------------------------------------------------------------------------------------------------------


def _in_credit(*wanted: Any) -> list[Credit]:
    rows: QuerySet[Any] = ledger.balances(code=HOST_RECEIVABLE).filter(*wanted)
    return [Credit(row.key, Money(-row.amount, row.currency)) for row in rows.filter(amount__lt=0)]
