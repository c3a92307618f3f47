"""What the passing of time does by itself, and that doing it twice, or beside itself, does it once."""

from __future__ import annotations

from datetime import timedelta
from functools import partial

import pytest

from backoffice.bookings import queries as booking_queries
from backoffice.bookings.models import Booking
from backoffice.core.errors import UpstreamUnavailable
from backoffice.core.stays import Stay
from backoffice.jobs.models import JobRun
from backoffice.listings import queries as homes
from backoffice.notifications.models import OutboxMessage
from backoffice.payments.gateway.stripe import gateway
from backoffice.payments.models import Payment, Refund
from backoffice.workflows import cancel_booking, keep_time, tasks
from backoffice.workflows.pay_booking import pay
from tests import factories
from tests.racing import race
from tests.stripe_sandbox.server import RunningSandbox
from tests.workflows.steps import ROOMS, now, paid, paid_unnoticed, unpaid

pytestmark = pytest.mark.django_db(transaction=True, available_apps=ROOMS)


def status(booking: Booking) -> str:
    return booking_queries.booking(code=booking.code).status


def test_an_unpaid_hold_runs_out_at_its_instant_once_and_frees_the_nights(sandbox: RunningSandbox) -> None:
    booking = unpaid()
    ends = booking.hold.expires_at
    assert ends is not None
    assert keep_time.expire_holds(now=ends - timedelta(seconds=1)) == 0
    assert keep_time.expire_holds(now=ends) == 1 and keep_time.expire_holds(now=ends) == 0
    assert status(booking) == "expired"
    assert homes.is_free(listing_id=booking.listing_id, stay=Stay(booking.check_in, booking.check_out))
    assert OutboxMessage.objects.filter(topic="hold_expired", channel="email").count() == 1
    factories.booking(booking.listing, factories.person("Charlie"), check_in=booking.check_in, now=now())


def test_two_sweeps_at_once_expire_it_once(sandbox: RunningSandbox) -> None:
    bookings = [unpaid() for _ in range(3)]
    ends = max(booking.hold.expires_at for booking in bookings if booking.hold.expires_at)
    assert sum(race([partial(keep_time.expire_holds, now=ends)] * 4)) == 3
    assert OutboxMessage.objects.filter(topic="hold_expired", channel="email").count() == 3


def test_a_guest_who_pays_in_the_last_second_and_the_sweep_do_not_both_win(sandbox: RunningSandbox) -> None:
    """Either the stay is confirmed, or it expired and the late money found its nights still free: never both or neither."""
    for _ in range(4):
        booking = unpaid()
        ends = booking.hold.expires_at
        assert ends is not None
        guest = factories.acting(booking.guest)
        outcomes = race(
            [
                partial(
                    pay,
                    booking_code=booking.code,
                    payment_method="pm_card_visa",
                    actor=guest,
                    now=ends - timedelta(seconds=1),
                ),
                partial(keep_time.expire_holds, now=ends),
            ]
        )
        assert not isinstance(outcomes[1], Exception), outcomes
        payment = Payment.objects.filter(booking=booking).first()
        captured = payment is not None and payment.status == "captured"
        assert status(booking) == ("confirmed" if captured else "expired")
        assert booking_queries.booking(code=booking.code).hold.active is captured


def test_a_confirmed_stay_begins_and_ends_by_the_homes_clock(sandbox: RunningSandbox) -> None:
    booking = paid()
    keep = partial(keep_time.complete_stays)
    assert keep(now=booking.check_in_at - timedelta(seconds=1)) == 0
    assert keep(now=booking.check_in_at) == 1 and status(booking) == "checked_in"
    assert keep(now=booking.check_out_at - timedelta(seconds=1)) == 0
    assert keep(now=booking.check_out_at) == 1 and status(booking) == "completed"
    assert keep(now=booking.check_out_at) == 0


def test_a_desk_that_slept_through_a_whole_stay_catches_up_in_one_sweep(sandbox: RunningSandbox) -> None:
    booking = paid()
    assert keep_time.complete_stays(now=booking.check_out_at) == 2
    assert status(booking) == "completed"


def test_a_stay_that_was_cancelled_or_never_paid_does_not_begin(sandbox: RunningSandbox) -> None:
    ended, waiting = paid(), unpaid()
    alice = factories.acting(ended.guest)
    shown = cancel_booking.preview(booking_code=ended.code, actor=alice, now=now())
    cancel_booking.confirm(booking_code=ended.code, token=shown.token, reason="", actor=alice, now=now())
    assert keep_time.complete_stays(now=max(ended.check_out_at, waiting.check_out_at)) == 0
    assert (status(ended), status(waiting)) == ("cancelled", "awaiting_payment")


def test_one_that_cannot_be_settled_does_not_keep_the_others_waiting(sandbox: RunningSandbox) -> None:
    stuck, fine = unpaid(), unpaid()
    lost = paid_unnoticed(stuck)
    paid_unnoticed(fine)
    Payment.objects.filter(booking=stuck).update(amount=1)  # the provider's amount is not ours: a person must look
    assert keep_time.resolve_indeterminate(now=now() + timedelta(minutes=2)) == 1
    assert (status(stuck), status(fine)) == ("awaiting_payment", "confirmed") and lost.status == "captured"


def test_what_was_lost_is_asked_for_after_a_minute_and_not_before(sandbox: RunningSandbox) -> None:
    booking = unpaid()
    paid_unnoticed(booking)
    assert keep_time.resolve_indeterminate(now=now() + timedelta(seconds=50)) == 0
    assert keep_time.resolve_indeterminate(now=now() + timedelta(seconds=65)) == 1
    assert status(booking) == "confirmed"


# The tasks ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "task",
    [
        tasks.apply_pending_events,
        tasks.poll_missed_events,
        tasks.import_balance_transactions,
        tasks.expire_holds,
        tasks.complete_stays,
        tasks.resolve_indeterminate,
    ],
    ids=lambda task: task.name,
)
def test_a_sweep_may_find_nothing_and_bears_arguments_of_tomorrow(sandbox: RunningSandbox, task: object) -> None:
    task(added_by_a_newer_sender=1)  # type: ignore[operator]


def test_a_provider_that_is_away_fails_no_task(sandbox: RunningSandbox) -> None:
    booking = paid()
    refund = Refund.objects.create(
        payment=Payment.objects.get(booking=booking),
        status="approved",
        amount=100,
        currency="EUR",
        held=100,
        host_fee=0,
        guest_fee=0,
        vat=0,
        occupancy_tax=0,
        cause="goodwill",
        idempotency_key="k",
        request_hash="",
        requested_at=now(),
    )
    sandbox.fault("reset_after_commit", method="*", path="/v1/*", times=None)
    for task in (tasks.poll_missed_events, tasks.import_balance_transactions, tasks.resolve_indeterminate):
        task()
    tasks.send_refund(refund_code=refund.code)
    sandbox.clear_faults()
    refund.refresh_from_db()
    assert refund.status == "indeterminate"
    assert not JobRun.objects.filter(status="running").exists()
    keep_time.resolve_indeterminate(now=now() + timedelta(minutes=2))
    refund.refresh_from_db()
    assert refund.status == "succeeded" and len(sandbox.client().v1.refunds.list().data) == 1


def test_a_read_that_got_no_answer_may_be_repeated(sandbox: RunningSandbox) -> None:
    sandbox.fault("reset_after_commit", method="GET", path="/v1/balance", times=3)
    with pytest.raises(UpstreamUnavailable):
        gateway().balance()
    assert gateway().balance() == {} or all(not held for held in gateway().balance().values())
