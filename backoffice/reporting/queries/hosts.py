"""What a host earned, and their account with us over a period: read from the ledger, changing nothing."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import partial
from typing import Any, Final

from django.db.models import Exists, F, OuterRef, Q, QuerySet, Sum
from django.db.models.functions import TruncMonth

from backoffice.bookings.models import Booking
from backoffice.core.errors import Invalid
from backoffice.core.money import Money
from backoffice.ledger import queries as ledger
from backoffice.ledger.models import JournalLine
from backoffice.ledger.queries import Statement, StatementLine
from backoffice.payments.models import ExtraCharge, Payment, Refund
from backoffice.payments.policies.postings import HELD, HOST_PAYABLE, HOST_RECEIVABLE
from backoffice.payouts.models import Payout
from backoffice.payouts.states import UNRELEASED
from backoffice.people import queries as people
from backoffice.reporting.policies import movement

LOST: Final = "dispute-lost"  # the kind of the journal that posts a lost chargeback
# A statement is read by a person; what is longer is asked for in parts.
LONGEST: Final = timedelta(days=366)


@dataclass(frozen=True, slots=True, kw_only=True)
class HostLine:
    """One journal that moved a host's account. Above zero is in the host's favour.

    `payable` is the change of what we owe them (2200), `owed` of what they owe us (1310, above zero: less of it);
    `amount` is both together, `balance` the account after it."""

    at: datetime
    journal: int
    what: str
    booking: str
    reference: str
    payable: Money
    owed: Money
    amount: Money
    balance: Money


@dataclass(frozen=True, slots=True, kw_only=True)
class HostAccountStatement:
    """A host's account in one currency: opening + lines = closing. `payable` − `owed` = closing, as of the end."""

    currency: str
    opening: Money
    lines: tuple[HostLine, ...]
    closing: Money
    payable: Money
    owed: Money


@dataclass(frozen=True, slots=True, kw_only=True)
class HostStatement:
    """A host's accounts with us over the days [since, until), by UTC, one for each currency that ever moved."""

    host: str
    name: str
    since: date
    until: date
    issued_at: datetime
    accounts: tuple[HostAccountStatement, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class EarningsRow:
    """Stays that begin in one month, in one currency. `gross` is the price of what guests have paid for, `refunds` what of
    it went back to them, `fees` our share of the rest, `chargebacks` what of the host's share a network took for good:
    gross − refunds − fees − chargebacks = `net`, the host's.

    `scheduled` is still to become due, what a guest has yet to pay included (instalments, a saved card that is charged later);
    `released` has (and was sent, or kept for what the host owed). `stays` are those that were paid for or are to be."""

    month: str
    currency: str
    stays: int
    gross: Money
    refunds: Money
    fees: Money
    chargebacks: Money
    net: Money
    scheduled: Money
    released: Money


def statement(*, host_id: int, since: date, until: date, now: datetime) -> HostStatement:
    """A host's account with us over the days [since, until). Raises Invalid naming `until`, NotFound."""
    if not timedelta(0) < until - since <= LONGEST:
        raise Invalid("until: must be after since, and at most a year after it.", field="until")
    host = people.person(person_id=host_id)
    moved = Q(code=HOST_PAYABLE) | Q(code=HOST_RECEIVABLE)
    currencies = ledger.balances(key=host.code).filter(moved).values_list("currency", flat=True)
    return HostStatement(
        host=host.code,
        name=host.name,
        since=since,
        until=until,
        issued_at=now,
        accounts=tuple(_account(host.code, currency, since, until) for currency in sorted(set(currencies))),
    )


def balances(*, host_id: int) -> dict[str, Money]:
    """What a host's account stands at now, by currency; above zero we owe them."""
    host = people.person(person_id=host_id)
    found: dict[str, Money] = {}
    for account in (HOST_PAYABLE, HOST_RECEIVABLE):
        for standing in ledger.standing(account=account, key=host.code):
            found[standing.currency] = found.get(standing.currency, Money.zero(standing.currency)) - standing
    return dict(sorted(found.items()))


def earnings(*, host_id: int, since: date, until: date) -> list[EarningsRow]:
    """What stays that begin on the days [since, until) earn a host, by month and currency. Raises Invalid naming
    `until`."""
    if until <= since:
        raise Invalid("until: must be after since.", field="until")
    sums: dict[tuple[str, str], dict[str, int]] = defaultdict(lambda: defaultdict(int))
    _add(sums, _captured(host_id, since, until), {"held": "held", "host_fee": "host_fee"})
    _add(sums, _instalments(host_id, since, until), {"held": "held", "host_fee": "host_fee"})
    _add(sums, _refunded(host_id, since, until), {"held": "back_held", "host_fee": "back_fee"})
    _add_losses(sums, host_id, since, until)
    payouts = _of_host(Payout.objects.exclude(status="void"), "booking__", host_id, since, until)
    _add(sums, payouts.filter(status__in=UNRELEASED), {"held": "scheduled"})
    _add(sums, payouts.exclude(status__in=UNRELEASED), {"held": "released"})
    stays = _stays(host_id, since, until)
    return [_row(month, currency, sums[month, currency], stays) for month, currency in sorted(sums)]


# Private --------------------------------------------------------------------------------------------------------------


def _account(host: str, currency: str, since: date, until: date) -> HostAccountStatement:
    statement = partial(ledger.statement, key=host, currency=currency, since=_midnight(since), until=_midnight(until))
    payable, owed = statement(account=HOST_PAYABLE), statement(account=HOST_RECEIVABLE)
    opening = Money(-payable.opening - owed.opening, currency)
    return HostAccountStatement(
        currency=currency,
        opening=opening,
        lines=tuple(_lines(host, payable, owed, opening)),
        closing=Money(-payable.closing - owed.closing, currency),
        payable=Money(-payable.closing, currency),
        owed=Money(owed.closing, currency),
    )


def _lines(host: str, payable: Statement, owed: Statement, opening: Money) -> Iterable[HostLine]:
    """The movements of both accounts as one list, a line for each journal."""
    journals: dict[tuple[datetime, int], list[list[StatementLine]]] = {}
    for side, found in enumerate((payable, owed)):
        for line in found.lines:
            journals.setdefault((line.effective_at, line.journal_id), [[], []])[side].append(line)
    balance, currency = opening, opening.currency
    for (at, journal), (ours, theirs) in sorted(journals.items(), key=lambda item: item[0]):
        first = (ours or theirs)[0]
        change = Money(-sum(line.amount for line in ours), currency)
        less = Money(-sum(line.amount for line in theirs), currency)
        balance += change + less
        yield HostLine(
            at=at,
            journal=journal,
            what=movement(first.kind),
            booking=first.subject if first.subject != host else "",
            reference=first.reference,
            payable=change,
            owed=less,
            amount=change + less,
            balance=balance,
        )


def _captured(host_id: int, since: date, until: date) -> QuerySet[Any]:
    return _of_host(Payment.objects.filter(status="captured"), "booking__", host_id, since, until)


def _instalments(host_id: int, since: date, until: date) -> QuerySet[Any]:
    return _of_host(
        ExtraCharge.objects.filter(status="captured", kind="instalment"), "booking__", host_id, since, until
    )


def _refunded(host_id: int, since: date, until: date) -> QuerySet[Any]:
    """What was approved, not refused by the provider and not taken back for a chargeback; what a bank sent back stands aside
    for the guest all the same, and what is owed by rule is theirs while it waits. Damage that was paid too late was never the
    host's."""
    owed = Refund.objects.filter(Q(approved_at__isnull=False) | ~Q(waits_for="")).exclude(charge__kind="damage")
    approved = owed.exclude(Q(status="failed", unclaimed=False) | Q(status="cancelled"))
    return _of_host(approved, "payment__booking__", host_id, since, until)


def _of_host(rows: QuerySet[Any], path: str, host_id: int, since: date, until: date) -> QuerySet[Any]:
    mine = {f"{path}host_id": host_id, f"{path}check_in__gte": since, f"{path}check_in__lt": until}
    found: QuerySet[Any] = rows.filter(**mine).annotate(month=TruncMonth(f"{path}check_in"), own=F(f"{path}currency"))
    return found


def _stays(host_id: int, since: date, until: date) -> Mapping[tuple[str, str], int]:
    counted: dict[tuple[str, str], int] = defaultdict(int)
    mine = Booking.objects.filter(host_id=host_id, check_in__gte=since, check_in__lt=until)
    to_come = Exists(Payout.objects.filter(booking=OuterRef("pk"), status__in=UNRELEASED))
    for check_in, currency in mine.filter(Q(payment__status="captured") | to_come).values_list("check_in", "currency"):
        counted[f"{check_in:%Y-%m}", currency] += 1
    return counted


def _add(sums: dict[tuple[str, str], dict[str, int]], rows: QuerySet[Any], names: Mapping[str, str]) -> None:
    totals = rows.order_by().values("month", "own").annotate(**{f"sum_{column}": Sum(column) for column in names})
    for row in totals:
        for column, name in names.items():
            sums[f"{row['month']:%Y-%m}", row["own"]][name] += row[f"sum_{column}"]


def _add_losses(sums: dict[tuple[str, str], dict[str, int]], host_id: int, since: date, until: date) -> None:
    """What lost chargebacks took of the host's share, held or sent already; one that came back after all is reversed."""
    mine = Booking.objects.filter(host_id=host_id, check_in__gte=since, check_in__lt=until)
    months = {code: f"{check_in:%Y-%m}" for code, check_in in mine.values_list("code", "check_in")}
    lost = Q(journal__kind=LOST) | Q(journal__reverses__kind=LOST)
    lines = (
        JournalLine.objects.filter(lost, journal__subject__in=months, account__code__in=[HELD, HOST_RECEIVABLE])
        .order_by()
        .values("journal__subject", "currency")
        .annotate(total=Sum("amount"))
    )
    for line in lines:
        sums[months[line["journal__subject"]], line["currency"]]["lost"] += line["total"]


def _row(month: str, currency: str, sums: Mapping[str, int], stays: Mapping[tuple[str, str], int]) -> EarningsRow:
    def money(*amounts: int) -> Money:
        return Money(sum(amounts), currency)

    held, fee, back_held, back_fee = (sums.get(name, 0) for name in ("held", "host_fee", "back_held", "back_fee"))
    return EarningsRow(
        month=month,
        currency=currency,
        stays=stays.get((month, currency), 0),
        gross=money(held, fee),
        refunds=money(back_held, back_fee),
        fees=money(fee, -back_fee),
        chargebacks=money(sums.get("lost", 0)),
        net=money(held, -back_held, -sums.get("lost", 0)),
        scheduled=money(sums.get("scheduled", 0)),
        released=money(sums.get("released", 0)),
    )


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(0), tzinfo=UTC)
