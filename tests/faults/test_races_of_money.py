from __future__ import annotations

from collections import Counter
from functools import partial

import pytest

from backoffice.core import clock
from backoffice.core.actor import system
from backoffice.core.errors import StaleVersion
from backoffice.core.money import Money
from backoffice.ledger.models import Journal
from backoffice.notifications.models import OutboxMessage
from backoffice.payments import operations as payments
from backoffice.payments.models import Refund, WebhookEvent
from backoffice.workflows import apply_provider_event, import_balance_transactions, refund_booking
from tests import factories
from tests.racing import race
from tests.workflows.test_pay_and_refund import now, paid

pytestmark = pytest.mark.django_db(transaction=True)


def test_two_staff_refund_the_same_booking_at_once_and_one_succeeds(sandbox) -> None:
    booking = paid(sandbox)
    version = booking.payment.version
    staff = [factories.acting(factories.staff("finance", now=now()), now=now()) for _ in range(2)]
    at = now()
    outcomes = race(
        [
            partial(
                refund_booking.request,
                booking_code=booking.code,
                amount=Money(booking.charge_total, "EUR"),
                cause="service_issue",
                bearer="host",
                reason="No hot water",
                idempotency_key=f"race-{number}",
                version=version,
                actor=actor,
                now=at,
            )
            for number, actor in enumerate(staff)
        ]
    )
    assert Counter(type(outcome) for outcome in outcomes) == {Refund: 1, StaleVersion: 1}
    assert Refund.objects.count() == 1


def test_one_member_of_staff_clicking_three_times_refunds_once(sandbox) -> None:
    booking = paid(sandbox)
    actor = factories.acting(factories.staff("finance", now=now()), now=now())
    ask = partial(
        refund_booking.request,
        booking_code=booking.code,
        amount=Money(1_000, "EUR"),
        cause="service_issue",
        bearer="host",
        reason="No hot water",
        idempotency_key="one-dialog",
        version=booking.payment.version,
        actor=actor,
        now=now(),
    )
    outcomes = race([ask] * 3)
    assert {outcome.code for outcome in outcomes} == {Refund.objects.get().code}


def test_a_refund_is_sent_once_however_many_workers_are_told(sandbox) -> None:
    booking = paid(sandbox)
    actor = factories.acting(factories.staff("finance", now=now()), now=now())
    refund = refund_booking.request(
        booking_code=booking.code,
        amount=Money(1_000, "EUR"),
        cause="service_issue",
        bearer="host",
        reason="No hot water",
        idempotency_key="k",
        version=booking.payment.version,
        actor=actor,
        now=now(),
    )
    outcomes = race([partial(refund_booking.send, refund_code=refund.code, actor=system("worker"), now=now())] * 6)
    assert [outcome for outcome in outcomes if outcome is not None] == [refund], outcomes
    assert len(sandbox.client().v1.refunds.list().data) == 1
    refund.refresh_from_db()
    assert refund.status == "succeeded"


def test_the_same_webhook_delivered_ten_times_at_once_has_one_effect(sandbox) -> None:
    guest = factories.person("Alice", now=now())
    booking = factories.booking(guest=guest, now=now())
    client = sandbox.client()
    attempt = _claimed(booking, guest)
    client.v1.payment_intents.create(
        {
            "amount": booking.charge_total,
            "currency": "eur",
            "payment_method": "pm_card_visa",
            "confirm": True,
            "automatic_payment_methods": {"enabled": True, "allow_redirects": "never"},
            "metadata": {"payment": attempt.payment.code},
        }
    )
    event = next(
        seen for seen in apply_provider_event.gateway().events(since=now().replace(hour=0)) if "succeeded" in seen.type
    )
    at = now()

    def deliver() -> str:
        stored = payments.receive_event(event=event, origin="webhook", now=at)
        return apply_provider_event.apply(webhook_id=stored.id, now=at) if stored else "known"

    outcomes = race([deliver] * 10)
    assert Counter(outcomes) == {"known": 9, "apply": 1}
    assert WebhookEvent.objects.count() == 1
    assert Journal.objects.filter(kind="capture").count() == 1
    assert OutboxMessage.objects.filter(topic="payment_received", channel="email").count() == 1


def test_two_importers_at_once_post_every_movement_once(sandbox) -> None:
    booking = paid(sandbox)
    outcomes = race([partial(import_balance_transactions.run, now=now())] * 4)
    assert sum(outcomes) == 1, outcomes
    assert Journal.objects.filter(kind="bt.charge", subject=booking.code).count() == 1


def _claimed(booking, guest):
    from django.db import transaction

    from backoffice.bookings import operations as bookings

    with transaction.atomic():
        locked = bookings.lock(code=booking.code)
        return payments.begin_attempt(
            booking=locked, payment_method="pm_card_visa", actor=factories.acting(guest, now=now()), now=clock.now()
        )
