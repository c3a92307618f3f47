"""Hosts are paid: on the day, once, to the cent, whatever is lost, refused or stopped on the way."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from backoffice.bookings.models import Booking
from backoffice.core.actor import system
from backoffice.core.money import Money
from backoffice.ledger import queries as ledger
from backoffice.payouts.models import Payout
from backoffice.people.models import User
from backoffice.reconciliation.provider import reconcile_stripe
from backoffice.workflows import import_balance_transactions, release_payouts
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
