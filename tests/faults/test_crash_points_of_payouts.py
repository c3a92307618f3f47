"""The power is cut before and after every commit and call of a release: the next runs pick up what is left, and every host
is paid once, as if nothing had happened."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import transaction

from backoffice.bookings.models import Booking
from backoffice.core.actor import system
from backoffice.core.money import Money
from backoffice.ledger import queries as ledger
from backoffice.ledger.operations import post as post_journal
from backoffice.ledger.policies import Line
from backoffice.notifications.models import Notification
from backoffice.payments import operations as payments
from backoffice.payouts import operations as payouts
from backoffice.payouts import queries
from backoffice.payouts.models import Payout
from backoffice.people.models import User
from backoffice.reconciliation.provider import reconcile
from backoffice.reporting.queries import health
from backoffice.workflows import collect_charges, import_balance_transactions, keep_time, release_payouts
from tests import factories
from tests.factories import SYSTEM
from tests.faults import test_crash_points as cutting
from tests.faults import two_of_three_are_long
from tests.stripe_sandbox.server import RunningSandbox
from tests.workflows.hosts import onboarded, owes
from tests.workflows.steps import ROOMS, now, paid
from tests.workflows.test_instalments import use_another_card

pytestmark = pytest.mark.django_db(transaction=True, available_apps=ROOMS)
DESK = system("payouts")
OWED = 3_000


@pytest.fixture(autouse=True)
def _calls_of_payouts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cutting, "CALLS", ("transfer",))


def host_of_old(sandbox: RunningSandbox) -> User:
    """A host whose first month is over, so that their payouts are due a day after check-in."""
    host = factories.person("Bob", is_host=True, now=now())
    onboarded(sandbox, host)
    paid(home=factories.listing(host, now=now()), check_in=(now() + timedelta(days=200)).date(), nights=1)
    sandbox.advance(31 * 86_400)
    return host


def due_stay(sandbox: RunningSandbox, host: User) -> Booking:
    booking = paid(home=factories.listing(host, now=now()), check_in=(now() + timedelta(days=2)).date(), nights=1)
    sandbox.set_clock((booking.check_in_at + timedelta(hours=25)).timestamp())
    import_balance_transactions.run(now=now())
    return booking


def _plain(sandbox: RunningSandbox, host: User) -> Booking:
    return due_stay(sandbox, host)


def _of_a_debtor(sandbox: RunningSandbox, host: User) -> Booking:
    owes(host, Money(OWED, "EUR"))
    return due_stay(sandbox, host)


def _partly_held(sandbox: RunningSandbox, host: User) -> Booking:
    booking = due_stay(sandbox, host)
    payouts.place_hold(
        booking_code=booking.code,
        amount=Money(4_000, "EUR"),
        cause="dispute",
        reason="Broken window",
        hours=72,
        owner_id=None,
        actor=SYSTEM,
        now=now(),
    )
    return booking


def _unplanned(sandbox: RunningSandbox, host: User) -> Booking:
    booking = due_stay(sandbox, host)
    Payout.objects.filter(booking=booking).delete()
    return booking


def _owed_back(sandbox: RunningSandbox, host: User) -> Booking:
    """Paid already; a debt that the host had paid since is none after all."""
    booking = _paid_before(sandbox, host)
    with transaction.atomic():
        post_journal(
            key=f"reversal:{booking.code}",
            kind="reversal",
            lines=[Line("1310", host.code, -OWED, "EUR"), Line("5200", f"du_{booking.code}", OWED, "EUR")],
            subject=booking.code,
            effective_at=now(),
            actor=DESK,
            now=now(),
        )
    return booking


def _covered(sandbox: RunningSandbox, host: User) -> Booking:
    """Paid already; we bear damage that the guest did not pay."""
    booking = _paid_before(sandbox, host)
    keep_time.complete_stays(now=now())
    charge = payments.request_damage(
        booking_code=booking.code, amount=Money(OWED, "EUR"), reason="The window", actor=_staff("support_l2"), now=now()
    )
    charge = payments.approve_damage(
        charge_code=charge.code, version=charge.version, actor=_staff("finance"), now=now()
    )
    use_another_card(booking, "pm_card_chargeCustomerFail")
    sandbox.advance(25 * 3_600)
    collect_charges.collect_due(now=now())
    charge.refresh_from_db()
    payments.cover_damage(
        charge_code=charge.code, version=charge.version, reason="No card works", actor=_staff("finance"), now=now()
    )
    return booking


def _paid_before(sandbox: RunningSandbox, host: User) -> Booking:
    """What follows draws on no charge, but on what is available."""
    paid(payment_method="pm_card_bypassPending", check_in=(now() + timedelta(days=60)).date())
    booking = due_stay(sandbox, host)
    release_payouts.run(now=now(), actor=DESK)
    sandbox.advance(60)
    import_balance_transactions.run(now=now())
    return booking


def _staff(role: str) -> Any:
    return factories.acting(User.objects.filter(roles__role=role).first() or factories.staff(role, now=now()))


def end_of(booking: Booking, sandbox: RunningSandbox) -> dict[str, Any]:
    """All that must not depend on when the power was cut."""
    rows = Payout.objects.filter(booking=booking).order_by("number")
    sent = sandbox.client().v1.transfers.list({"transfer_group": booking.code, "limit": 100}).data
    sums = ledger.subject_sums(codes=list(ledger.chart()), subjects=[booking.code])
    return {
        "payouts": [(row.status, row.held, row.netted, row.transfer_amount, bool(row.transfer_id)) for row in rows],
        "sent": [row.amount for row in sent],
        "clearing": [ledger.balance(account="2210", key=row.code, currency="EUR") for row in rows],
        "owed": ledger.balance(account="1310", key=booking.host.code, currency="EUR"),
        "ledger": {row.code: row.amount for row in sums if row.amount},
        "told": Notification.objects.filter(topic="payout_sent", body__contains=booking.code).count(),
    }


STORIES: dict[str, Callable[[RunningSandbox, User], Booking]] = {
    "a stay is paid": _plain,
    "a debt is kept from it": _of_a_debtor,
    "part of it is held back": _partly_held,
    "it had no plan": _unplanned,
    "what a host is owed back is paid": _owed_back,
    "damage that we bear is paid": _covered,
}


def recover(sandbox: RunningSandbox) -> None:
    """What beat does in the minutes after a restart, but for the run itself, which comes again."""
    sandbox.advance(90)
    import_balance_transactions.run(now=now())


@pytest.mark.parametrize("story", two_of_three_are_long(STORIES))
def test_wherever_the_power_is_cut_each_host_is_paid_once(sandbox: RunningSandbox, story: str) -> None:
    host = host_of_old(sandbox)

    def end(booking: Booking) -> dict[str, Any]:
        found = end_of(booking, sandbox)
        assert {row[0] for row in found["payouts"]} <= {"transferred", "held"}, found
        assert len(found["sent"]) == sum(row[0] == "transferred" for row in found["payouts"]) > 0, found
        return found

    moments = cutting.cut_everywhere(
        begin=lambda: STORIES[story](sandbox, host),
        act=lambda _: release_payouts.run(now=now(), actor=DESK),
        recover=lambda: recover(sandbox),
        end=end,
    )
    assert len(moments) >= 6 and "before transfer" in moments, moments
    assert all(queries.explain(code=row.code, now=now()).adds_up for row in Payout.objects.all())
    assert reconcile(scope="stripe", since=None, until=None, actor=DESK, now=now()).findings == []
    assert [finding for finding in health.ledger_check(now=now()) if not finding.ok] == []
