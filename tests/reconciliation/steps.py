"""Books made by hand: journals, the provider's rows beside them, and runs over both without a provider to ask."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from datetime import date, datetime, timedelta
from typing import Any

from django.db import connection, transaction

from backoffice.core.actor import system
from backoffice.core.money import Money
from backoffice.ledger import operations as ledger
from backoffice.ledger.policies import Line
from backoffice.payments import operations as payments
from backoffice.payments.policies.seen import SeenBalanceTransaction
from backoffice.payouts.models import BankPayout, BankPayoutLine
from backoffice.reconciliation import operations, queries
from backoffice.reconciliation.models import Run
from backoffice.reconciliation.policies import SeenStatementLine
from tests.factories import NOW

ACTOR = system("finance")
BOOKING = "BK-LOST01"
DAY = timedelta(days=1)


def post(
    key: str,
    kind: str,
    lines: Iterable[tuple[str, str, int]],
    *,
    currency: str = "EUR",
    subject: str = BOOKING,
    reference: str = "",
    at: datetime = NOW,
) -> int:
    """Post a journal of (account, key, minor units); its id."""
    with transaction.atomic():
        posted = ledger.post(
            key=key,
            kind=kind,
            lines=[Line(account, of, amount, currency) for account, of, amount in lines],
            subject=subject,
            reference=reference,
            effective_at=at,
            actor=ACTOR,
            now=at,
        )
    assert posted is not None
    return posted.journal_id


def moved(
    id: str, *, source: str = "", category: str = "charge", net: int = 1_000, fee: int = 0, **facts: Any
) -> SeenBalanceTransaction:
    """A movement of the provider, of euros a moment ago unless said."""
    currency = facts.pop("currency", "EUR")
    created = facts.pop("created", NOW)
    return SeenBalanceTransaction(
        id=id,
        type=facts.pop("type", category),
        reporting_category=category,
        source_id=source or f"ch_{id}",
        source_reference="",
        amount=Money(net + fee, currency),
        fee=Money(fee, currency),
        net=Money(net, currency),
        created=created,
        available_on=created,
        **facts,
    )


def imported(*rows: SeenBalanceTransaction, at: datetime = NOW) -> list[SeenBalanceTransaction]:
    """Both sides know of these movements."""
    payments.import_transactions(rows=rows, actor=ACTOR, now=at)
    return list(rows)


def balance_of(rows: Iterable[SeenBalanceTransaction]) -> dict[str, Money]:
    """What the provider holds for us if these are all its movements."""
    totals: dict[str, Money] = {}
    for row in rows:
        totals[row.net.currency] = totals.get(row.net.currency, Money.zero(row.net.currency)) + row.net
    return totals


def compared(
    scope: str,
    *,
    rows: Sequence[SeenBalanceTransaction] = (),
    states: Iterable[Sequence[Any]] = (),
    balances: dict[str, Money] | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    now: datetime = NOW,
    chunk: int = operations.CHUNK,
    left_out: Sequence[str] = (),
) -> Run:
    """A run over what the provider is said to show; without rows its balance is that of our own mirror."""
    run = operations.begin(scope=scope, since=since or NOW - 400 * DAY, until=until or now + DAY, actor=ACTOR, now=now)
    if balances is None:
        mirror = {currency: Money(net, currency) for currency, net in queries.mirror(asked=now).held.items()}
        balances = balance_of(rows) if rows else mirror
    states = list(states)
    listed = any(state[0] == "bank_payout" for state in states)  # else the provider was not asked for its payouts
    operations.stage(run=run, rows=rows, states=states, balances=balances, asked=now, listed=listed, left_out=left_out)
    operations.classify(run=run, now=now)
    operations.write(run=run, now=now, chunk=chunk)
    return operations.finish(run=run, now=now)


def swept(
    id: str,
    amount: int,
    *,
    status: str = "paid",
    arrived: date | None = None,
    trace: str = "",
    lines: Sequence[int] | None = None,
    failed: bool = False,
    currency: str = "EUR",
    at: datetime = NOW,
) -> tuple[BankPayout, list[SeenBalanceTransaction]]:
    """A payout to our own bank with its movements, both sides known: to be paid on `arrived`, two days on unless said."""
    rows = [moved(f"txn_{id}", source=id, category="payout", net=-amount, currency=currency, created=at)]
    if failed:
        rows.append(
            moved(f"txn_{id}_back", source=id, category="payout_reversal", net=amount, currency=currency, created=at)
        )
    payout = BankPayout.objects.create(
        provider_id=id,
        status="failed" if failed else status,
        amount=amount,
        currency=currency,
        arrival_on=arrived or (at + 2 * DAY).date(),
        trace=trace,
        created_at=at,
        paid_at=at if status == "paid" else None,
        failed_at=at if failed else None,
    )
    for number, net in enumerate([amount] if lines is None else lines):
        BankPayoutLine.objects.create(
            bank_payout=payout,
            provider_id=f"txn_{id}_{number}",
            reporting_category="charge",
            net=net,
            currency=currency,
            created=at,
        )
    return payout, imported(*rows, at=at)


def bank(amount: int, *, on: date, reference: str = "", currency: str = "EUR", **facts: Any) -> SeenStatementLine:
    """A line of our bank."""
    return SeenStatementLine(
        account="BE68539007547034",
        reference=reference or f"REF-{on}-{amount}-{facts.get('trace', '')}",
        amount=Money(amount, currency),
        booked_on=on,
        value_on=on,
        **facts,
    )


def arrived(*lines: SeenStatementLine, now: datetime = NOW) -> dict[str, int]:
    """The bank sends its statement."""
    operations.import_lines(lines=lines, actor=ACTOR, now=now)
    return operations.match_lines(actor=ACTOR, now=now)


def until_somebody_waits() -> None:
    """Another connection has come to wait for a lock."""
    with connection.cursor() as cursor:
        for _ in range(2_000):
            cursor.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
            )
            if cursor.fetchone()[0]:
                return
            time.sleep(0.01)
    raise AssertionError("nobody has come to wait")
