"""Steps that the tests of journeys share: a booking that waits, a try that was claimed and not sent, a refund that staff ask
for."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.db import transaction

from backoffice.bookings import operations as bookings
from backoffice.bookings import queries as booking_queries
from backoffice.bookings.models import Booking
from backoffice.core import clock
from backoffice.core.money import Money
from backoffice.listings.models import Listing
from backoffice.payments import operations as payments
from backoffice.payments.gateway.stripe import gateway
from backoffice.payments.models import Payment, PaymentAttempt, Refund
from backoffice.payments.policies.seen import SeenPayment
from backoffice.people.models import User
from backoffice.reconciliation.provider import reconcile
from backoffice.workflows import refund_booking
from backoffice.workflows.pay_booking import pay
from tests import factories

# The rooms whose tables these tests fill: naming them spares each test Django's own permissions and content types.
ROOMS = [
    f"backoffice.{room}"
    for room in (
        "core audit rulebook jobs notifications people ledger listings bookings payments payouts reviews workflows "
        "reconciliation"
    ).split()
]


def now() -> datetime:
    """The desk's instant, which is the sandbox's."""
    clock.forget_offset()
    return clock.now()


def unpaid(**options: Any) -> Booking:
    """A booking made this moment that waits for its payment."""
    at = now()
    return factories.booking(now=at, **options)


def claimed_try(booking: Booking, *, payment_method: str = "pm_card_visa") -> PaymentAttempt:
    """A try that was committed; the process died before it called the provider, or is about to call."""
    with transaction.atomic():
        locked = bookings.lock(code=booking.code)
        return payments.begin_attempt(
            booking=locked, payment_method=payment_method, actor=factories.acting(booking.guest), now=now()
        )


def paid_unnoticed(booking: Booking, *, payment_method: str = "pm_card_visa") -> SeenPayment:
    """The provider has carried out a try and the process died before it could record the answer."""
    attempt = claimed_try(booking, payment_method=payment_method)
    return gateway().pay(
        amount=Money(booking.charge_total, booking.charge_currency),
        payment_method=payment_method,
        reference=attempt.payment.code,
        group=booking.code,
        key=attempt.idempotency_key,
        return_url="https://desk.example/back",
    )


def paid(*, payment_method: str = "pm_card_visa", home: Listing | None = None, **options: Any) -> Booking:
    """A booking that its guest has paid, a minute ago: the provider's movement of it is there to import."""
    booking = unpaid(home=home, **options)
    pay(
        booking_code=booking.code,
        payment_method=payment_method,
        actor=factories.acting(booking.guest, now=now()),
        now=now(),
    )
    return booking_queries.booking(code=booking.code)


def asked_back(booking: Booking, amount: int, *, by: User | None = None, **terms: Any) -> Refund:
    """A refund that a member of staff asks for (finance unless said), in minor units of what was charged."""
    asked: dict[str, Any] = {
        "amount": Money(amount, booking.charge_currency),
        "cause": "service_issue",
        "bearer": "host",
        "reason": "No hot water",
        "idempotency_key": f"asked:{booking.code}:{Refund.objects.count()}",
        "version": Payment.objects.get(booking=booking).version,
        **terms,
    }
    by = by or User.objects.filter(roles__role="finance").first() or factories.staff("finance", now=now())
    actor = factories.acting(by, now=now())
    return refund_booking.request(booking_code=booking.code, actor=actor, now=now(), **asked)


def payouts_that_do_not_add_up() -> list[tuple[str, int]]:
    """Payouts to banks, ours and hosts', that reconciliation finds not to be the sum of their lines; with what the lines have
    more."""
    found = reconcile(scope="payouts", since=None, until=None, actor=factories.SYSTEM, now=now()).differences
    return [(each.key, each.difference) for each in found if "payout_sum_mismatch" in (each.cls, *each.flags)]
