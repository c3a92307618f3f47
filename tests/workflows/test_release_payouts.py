"""Hosts are paid: on the day, once, to the cent, whatever is lost, refused or stopped on the way."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from backoffice.bookings.models import Booking
from backoffice.core.actor import system
from backoffice.core.money import Money
from backoffice.ledger import queries as ledger
from backoffice.payments.models import Payment, Refund
from backoffice.payouts.models import Payout
from backoffice.people.models import User
from backoffice.reconciliation.provider import reconcile_stripe
from backoffice.workflows import import_balance_transactions, refund_booking, release_payouts
from tests import factories
from tests.stripe_sandbox.server import RunningSandbox
from tests.workflows.hosts import onboarded
from tests.workflows.steps import ROOMS, now, paid

pytestmark = pytest.mark.django_db(transaction=True, available_apps=ROOMS)
DESK = system("payouts")
DAY = 86_400


def stay(sandbox: RunningSandbox, *, host: User | None = None, ready: bool = True, **options: Any) -> Booking:
    """A paid stay, three nights in 40 days (the new host's month is over by then), whose host can receive."""
    host = host or factories.person("Bob", is_host=True, now=now())
    if ready:
        onboarded(sandbox, host)
    options.setdefault("check_in", (now() + timedelta(days=40)).date())
    home = options.pop("home", None) or factories.listing(host, now=now())
    return paid(home=home, **options)


def until_due(sandbox: RunningSandbox, booking: Booking) -> None:
    """The clock of desk and provider stands just after the first release is due, all movements imported."""
    due = Payout.objects.filter(booking=booking).order_by("due_at").first().due_at
    sandbox.set_clock(due.timestamp() + 60)
    import_balance_transactions.run(now=now())


def balance(account: str, key: str, currency: str = "EUR") -> int:
    return ledger.balance(account=account, key=key, currency=currency)


def released(**options: Any) -> dict[str, int]:
    return release_payouts.run(now=now(), actor=DESK, **options)


def transfers(sandbox: RunningSandbox) -> list[dict[str, Any]]:
    return [row.to_dict() for row in sandbox.client().v1.transfers.list({"limit": 100}).data]


def all_is_well() -> None:
    import_balance_transactions.run(now=now())
    assert reconcile_stripe(since=None, until=None, actor=DESK, now=now()).findings == []
    assert [finding for finding in ledger.check(now=now()) if not finding.ok] == []


def test_a_host_is_paid_a_day_after_check_in_and_both_sides_agree(sandbox: RunningSandbox) -> None:
    booking = stay(sandbox)
    payout = Payout.objects.get(booking=booking)
    share = booking.host_price - booking.host_fee
    assert (payout.status, payout.held, payout.due_at) == (
        "scheduled",
        share,
        booking.check_in_at + timedelta(hours=24),
    )
    assert released() == {}
    until_due(sandbox, booking)
    assert released() == {"transferred": 1}
    payout.refresh_from_db()
    (transfer,) = transfers(sandbox)
    assert (payout.status, payout.transfer_id) == ("transferred", transfer["id"])
    assert (transfer["amount"], transfer["transfer_group"]) == (share, booking.code)
    assert transfer["source_transaction"] == booking.payment.charge_id
    assert balance("2100", booking.code) == balance("2200", booking.host.code) == 0
    assert balance("2210", payout.code) == -share
    sandbox.advance(60)
    all_is_well()
    assert balance("2210", payout.code) == 0
    assert balance("1800", transfer["destination"]) == share == -balance("2800", transfer["destination"])
    assert released() == {} and len(transfers(sandbox)) == 1


def refund(booking: Booking, amount: int, *, currency: str = "EUR", bearer: str = "host", key: str = "r1") -> Refund:
    booking = Booking.objects.get(id=booking.id)
    made = refund_booking.request(
        booking_code=booking.code,
        amount=Money(amount, currency),
        cause="service_issue",
        bearer=bearer,
        reason="No hot water",
        idempotency_key=f"{booking.code}-{key}",
        version=Payment.objects.get(booking=booking).version,
        actor=factories.acting(factories.staff("finance", now=now())),
        now=now(),
    )
    refund_booking.send(refund_code=made.code, actor=DESK, now=now())
    return Refund.objects.get(id=made.id)


def test_a_refund_before_the_release_makes_the_payout_smaller(sandbox: RunningSandbox) -> None:
    booking = stay(sandbox)
    given = refund(booking, 5_000)
    payout = Payout.objects.get(booking=booking)
    assert payout.held == booking.host_price - booking.host_fee - given.held
    until_due(sandbox, booking)
    assert released() == {"transferred": 1}
    payout.refresh_from_db()
    assert payout.transfer_amount == booking.host_price - booking.host_fee - given.held
    sandbox.advance(60)
    all_is_well()


def test_a_refund_after_the_release_is_owed_by_the_host_and_kept_from_the_next_payout(sandbox: RunningSandbox) -> None:
    first = stay(sandbox)
    until_due(sandbox, first)
    released()
    given = refund(first, 10_000)
    host = first.host.code
    assert given.status == "succeeded" and balance("1310", host) == given.held
    assert balance("2100", first.code) == balance("2110", first.code) == 0
    second = stay(sandbox, host=first.host, ready=False, home=first.listing)
    until_due(sandbox, second)
    assert released() == {"transferred": 1}
    payout = Payout.objects.get(booking=second)
    assert payout.netted == given.held
    assert payout.transfer_amount == second.host_price - second.host_fee - given.held
    assert balance("1310", host) == balance("2200", host) == 0
    sandbox.advance(60)
    all_is_well()
