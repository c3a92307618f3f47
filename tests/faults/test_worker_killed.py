"""kill -9 at the worst moments: what was committed is done, once, by whoever comes next."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from backoffice.bookings import queries as booking_queries
from backoffice.bookings.models import Booking
from backoffice.core import clock
from backoffice.core.actor import system
from backoffice.core.money import Money
from backoffice.ledger.models import Journal
from backoffice.notifications.models import OutboxMessage
from backoffice.payments.models import Refund
from backoffice.people.models import User
from backoffice.reconciliation.provider import reconcile
from backoffice.reporting.queries import health
from backoffice.workflows import import_balance_transactions, refund_booking
from backoffice.workflows.pay_booking import pay
from tests import factories
from tests.desk import ROOT, RunningDesk, wait_until

SWEEPS = ("notifications.sweep_outbox", "workflows.resolve_indeterminate")

# A refund asked for by finance, in a process that dies at the very moment at which it would tell the workers.
DIES_BEFORE_THE_HINT = """
import os, signal, sys
import django
django.setup()
from backoffice.core import enqueue
enqueue._send = lambda task, kwargs: os.kill(os.getpid(), signal.SIGKILL)
from tests.faults.test_worker_killed import ask_for_refund
ask_for_refund(sys.argv[1], int(sys.argv[2]))
"""


def ask_for_refund(booking_code: str, person_id: int) -> None:
    at = clock.now()
    refund_booking.request(
        booking_code=booking_code,
        amount=Money(5_000, "EUR"),
        cause="service_issue",
        bearer="host",
        reason="No hot water",
        idempotency_key="one",
        version=booking_queries.booking(code=booking_code).payment.version,
        actor=factories.acting(User.objects.get(pk=person_id), now=at),
        now=at,
    )


@pytest.fixture
def paid(back_office: RunningDesk) -> Booking:
    """A booking that is paid and in the books, with no worker about."""
    at = clock.now()
    guest = factories.person("Alice", now=at)
    booking = factories.booking(guest=guest, now=at)
    pay(booking_code=booking.code, payment_method="pm_card_visa", actor=factories.acting(guest, now=at), now=at)
    back_office.pass_time(2)
    import_balance_transactions.run(now=clock.now())
    return booking_queries.booking(code=booking.code)


@pytest.fixture
def finance(back_office: RunningDesk) -> User:
    return factories.staff("finance", now=clock.now())


def assert_refunded_once(desk: RunningDesk, paid: Booking) -> None:
    wait_until(
        lambda: Refund.objects.get().status == "succeeded",
        seconds=90,
        otherwise=lambda: f"{Refund.objects.get().status}\n{desk.workers[-1].said()}",
    )
    provided = desk.sandbox.client().v1.refunds.list().data
    assert [(refund.amount, refund.status) for refund in provided] == [(5_000, "succeeded")]
    assert Journal.objects.filter(kind="refund", subject=paid.code).count() == 1
    assert reconcile(scope="stripe", since=None, until=None, actor=system("tests"), now=clock.now()).findings == []
    assert [finding for finding in health.ledger_check(now=clock.now()) if not finding.ok] == []


def test_a_refund_whose_hint_was_never_sent_is_swept_up(back_office: RunningDesk, paid: Booking, finance: User) -> None:
    died = subprocess.run(
        [sys.executable, "-c", DIES_BEFORE_THE_HINT, paid.code, str(finance.pk)],
        cwd=ROOT,
        env={**os.environ, **back_office.environment, "DJANGO_SETTINGS_MODULE": "backoffice.settings"},
        check=False,
        timeout=60,
    )
    assert died.returncode == -signal.SIGKILL
    assert Refund.objects.get().status == "approved"
    waiting = OutboxMessage.objects.filter(channel="task").values_list("topic", "status")
    assert list(waiting) == [("workflows.send_refund", "pending")]
    back_office.worker()
    back_office.pass_time(30, "notifications.sweep_outbox")
    assert_refunded_once(back_office, paid)


@pytest.mark.parametrize("effect", ["slow", "timeout_after_commit"])
def test_a_worker_killed_while_it_asks_the_provider_loses_nothing(
    back_office: RunningDesk, paid: Booking, finance: User, effect: str
) -> None:
    """Slow: it dies before the provider has acted, which it does a little later; after_commit: when it has."""
    back_office.sandbox.fault(effect, method="POST", path="/v1/refunds", seconds=3)
    worker = back_office.worker()
    ask_for_refund(paid.code, finance.pk)
    wait_until(lambda: back_office.sandbox.control("GET", "/_sim/faults")["data"][0]["fired"] == 1, seconds=60)
    worker.kill()
    assert Refund.objects.get().status == "submitted"
    back_office.worker()
    back_office.pass_time(120, *SWEEPS)
    assert_refunded_once(back_office, paid)
