"""Requests to book: what the guest reserves is taken when the host says yes and let go whatever else happens."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from backoffice.bookings import operations as bookings
from backoffice.bookings import queries as booking_queries
from backoffice.bookings.models import Booking
from backoffice.core.errors import (
    Conflict,
    Indeterminate,
    NotAllowed,
    NotFound,
    PaymentDeclined,
    ProviderError,
    Refused,
)
from backoffice.ledger import queries as ledger
from backoffice.notifications.models import OutboxMessage
from backoffice.payments import queries as payments
from backoffice.payments.models import Payment, Refund
from backoffice.reconciliation.provider import reconcile
from backoffice.workflows import apply_provider_event as events
from backoffice.workflows import cancel_booking, decide_request, import_balance_transactions, keep_time
from backoffice.workflows.pay_booking import pay
from tests import factories
from tests.racing import race
from tests.stripe_sandbox.server import RunningSandbox
from tests.workflows.steps import now

pytestmark = pytest.mark.django_db(transaction=True)


def requested(*, card: str = "pm_card_visa", **options: Any) -> Booking:
    """A request whose money is reserved."""
    at = now()
    home = factories.listing(now=at, instant_book=False)
    booking = factories.booking(home, now=at, **options)
    pay(booking_code=booking.code, payment_method=card, actor=factories.acting(booking.guest, now=at), now=at)
    return fresh(booking)


def fresh(booking: Booking) -> Booking:
    return booking_queries.booking(code=booking.code)


def host(booking: Booking) -> Any:
    return factories.acting(booking.host, now=now())


def guest(booking: Booking) -> Any:
    return factories.acting(booking.guest, now=now())


def told(booking: Booking) -> set[str]:
    people = [booking.guest_id, booking.host_id]
    return set(OutboxMessage.objects.filter(recipient_id__in=people).values_list("topic", flat=True))


def release_all() -> None:
    """What the worker does with the tasks that were handed to it, and the sweep with those that were lost."""
    decide_request.sweep(now=now() + timedelta(minutes=2))


def intents(sandbox: RunningSandbox) -> list[str]:
    return sorted(row.status for row in sandbox.client().v1.payment_intents.list().data)


def nothing_was_moved(booking: Booking, sandbox: RunningSandbox) -> None:
    """The guest is charged nothing, the nights are free, and both books say so."""
    booking = fresh(booking)
    assert not booking.hold.active
    assert Payment.objects.get(booking=booking).status == "cancelled"
    assert intents(sandbox) == ["canceled"]
    assert [row for row in ledger.subject_sums(codes=list(ledger.chart()), subjects=[booking.code]) if row.amount] == []
    import_balance_transactions.run(now=now())
    assert reconcile(scope="stripe", since=None, until=None, actor=decide_request.ACTOR, now=now()).findings == []


def test_a_request_reserves_the_money_and_the_host_is_asked(sandbox: RunningSandbox) -> None:
    booking = requested()
    payment = booking.payment
    assert (booking.status, payment.status, payment.capture_method) == ("requested", "authorised", "manual")
    assert payment.capture_before and payment.capture_before > now() + timedelta(days=6)
    assert booking.hold.expires_at == pytest.approx(now() + timedelta(hours=24), abs=timedelta(minutes=1))
    assert {"request_sent", "request_received"} <= told(booking)
    assert [row for row in ledger.subject_sums(codes=list(ledger.chart()), subjects=[booking.code]) if row.amount] == []
    assert booking_queries.available_actions(booking=booking, actor=host(booking), now=now()) == ("accept", "decline")
    assert booking_queries.available_actions(booking=booking, actor=guest(booking), now=now()) == ("cancel",)
    later = now() + timedelta(days=1, minutes=1)
    assert booking_queries.available_actions(booking=booking, actor=host(booking), now=later) == ()


def test_the_host_says_yes_and_what_was_reserved_is_taken(sandbox: RunningSandbox) -> None:
    booking = requested()
    decided = decide_request.accept(booking_code=booking.code, actor=host(booking), now=now())
    assert decided.status == "confirmed" and decided.hold.expires_at is None
    assert Payment.objects.get(booking=booking).status == "captured"
    assert {"booking_confirmed", "payment_received"} <= told(booking)
    sandbox.advance(60)
    assert import_balance_transactions.run(now=now()) == 1
    assert reconcile(scope="stripe", since=None, until=None, actor=decide_request.ACTOR, now=now()).findings == []
    assert ledger.balance(account="2100", key=booking.code, currency="EUR") == -(booking.host_price - booking.host_fee)
    with pytest.raises(Conflict):
        decide_request.decline(booking_code=booking.code, reason="No", actor=host(booking), now=now())


def test_a_yes_whose_answer_was_lost_can_be_repeated_and_is_the_same_yes(sandbox: RunningSandbox) -> None:
    booking = requested()
    path = f"/v1/payment_intents/{booking.payment.provider_id}/capture"
    sandbox.fault("reset_after_commit", method="POST", path=path, times=3)
    with pytest.raises(Indeterminate):
        decide_request.accept(booking_code=booking.code, actor=host(booking), now=now())
    sandbox.clear_faults()
    later = now() + timedelta(hours=25)  # the yes itself was in time
    for _ in range(2):
        with pytest.raises(NotAllowed):
            decide_request.accept(booking_code=booking.code, actor=guest(booking), now=later)
        said = decide_request.accept(booking_code=booking.code, actor=host(booking), now=later)
        assert said.status == "confirmed"
    assert [row.amount_captured for row in sandbox.client().v1.charges.list().data] == [booking.charge_total]
    assert OutboxMessage.objects.filter(topic="booking_confirmed", recipient_id=booking.host_id).count() == 1


def test_the_host_says_no_and_what_was_reserved_is_let_go(sandbox: RunningSandbox) -> None:
    booking = requested()
    with pytest.raises(Refused):
        decide_request.decline(booking_code=booking.code, reason=" ", actor=host(booking), now=now())
    decide_request.decline(booking_code=booking.code, reason="My sister comes.", actor=host(booking), now=now())
    assert fresh(booking).status == "declined" and "request_declined" in told(booking)
    decide_request.release(payment_code=booking.payment.code, actor=decide_request.ACTOR, now=now())
    nothing_was_moved(booking, sandbox)


def test_nobody_but_the_host_decides(sandbox: RunningSandbox) -> None:
    booking = requested()
    other = factories.acting(factories.person("Dora", is_host=True, now=now()), now=now())
    with pytest.raises(NotFound):
        decide_request.accept(booking_code=booking.code, actor=other, now=now())
    with pytest.raises(NotAllowed):
        decide_request.decline(booking_code=booking.code, reason="No", actor=guest(booking), now=now())
    assert fresh(booking).status == "requested"


def test_a_request_that_nobody_answers_ends_and_lets_go(sandbox: RunningSandbox) -> None:
    booking = requested()
    sandbox.advance(25 * 3600)
    with pytest.raises(Conflict, match="over"):
        decide_request.accept(booking_code=booking.code, actor=host(booking), now=now())
    assert keep_time.expire_holds(now=now()) == 0  # it is not unpaid
    assert decide_request.expire_unanswered(now=now()) == 1 and decide_request.expire_unanswered(now=now()) == 0
    assert fresh(booking).status == "expired" and "request_expired" in told(booking)
    release_all()
    nothing_was_moved(booking, sandbox)


def test_one_that_cannot_be_ended_does_not_keep_the_others_waiting(
    sandbox: RunningSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    stuck, fine = requested(), requested()
    end = bookings.expire_request

    def refused(**facts: Any) -> Booking:
        if facts["booking"].pk == stuck.pk:
            raise Conflict("Not this one.")
        return end(**facts)

    monkeypatch.setattr(bookings, "expire_request", refused)
    assert decide_request.expire_unanswered(now=now() + timedelta(hours=25)) == 1
    assert (fresh(stuck).status, fresh(fine).status) == ("requested", "expired")


def test_the_guest_takes_a_request_back(sandbox: RunningSandbox) -> None:
    booking = requested()
    shown = cancel_booking.preview(booking_code=booking.code, actor=guest(booking), now=now())
    assert not shown.refund
    cancel_booking.confirm(booking_code=booking.code, token=shown.token, reason="", actor=guest(booking), now=now())
    assert fresh(booking).status == "cancelled"
    release_all()
    nothing_was_moved(booking, sandbox)


def test_the_bank_asks_the_guest_before_it_reserves(sandbox: RunningSandbox) -> None:
    at = now()
    booking = factories.booking(factories.listing(now=at, instant_book=False), now=at)
    payment = pay(
        booking_code=booking.code, payment_method="pm_card_threeDSecure2Required", actor=guest(booking), now=now()
    )
    assert payment.status == "requires_action" and payment.next_action_url
    sandbox.complete_challenge(payment.provider_id)
    events.poll(now=now())
    events.apply_due(now=now())
    assert (fresh(booking).status, fresh(booking).payment.status) == ("requested", "authorised")


def test_a_card_that_is_declined_is_not_a_request(sandbox: RunningSandbox) -> None:
    at = now()
    booking = factories.booking(factories.listing(now=at, instant_book=False), now=at)
    with pytest.raises(PaymentDeclined):
        pay(booking_code=booking.code, payment_method="pm_card_chargeDeclined", actor=guest(booking), now=now())
    assert fresh(booking).status == "awaiting_payment"
    pay(booking_code=booking.code, payment_method="pm_card_visa", actor=guest(booking), now=now())
    assert fresh(booking).status == "requested"


def test_money_that_the_bank_let_go_ends_the_request_and_everybody_hears(sandbox: RunningSandbox) -> None:
    booking = requested()
    sandbox.client().v1.payment_intents.cancel(booking.payment.provider_id)
    with pytest.raises(Conflict, match="let the reserved money go"):
        decide_request.accept(booking_code=booking.code, actor=host(booking), now=now())
    assert fresh(booking).status == "expired"
    assert OutboxMessage.objects.filter(topic="request_expired").count() == 2
    nothing_was_moved(booking, sandbox)


def test_an_authorisation_whose_window_has_passed_is_noticed_without_an_event(sandbox: RunningSandbox) -> None:
    booking = requested()
    sandbox.advance(8 * 86400)  # everything stood still for a week
    assert decide_request.sweep(now=now()) == 1
    assert fresh(booking).status == "expired"
    nothing_was_moved(booking, sandbox)


@pytest.mark.parametrize("effect", ["reset_after_commit", "error_500_after_commit", "timeout_after_commit"])
def test_a_capture_whose_answer_was_lost_is_found_and_made_once(sandbox: RunningSandbox, effect: str) -> None:
    booking = requested()
    sandbox.fault(effect, method="POST", path=f"/v1/payment_intents/{booking.payment.provider_id}/capture", times=3)
    with pytest.raises(Indeterminate):
        decide_request.accept(booking_code=booking.code, actor=host(booking), now=now())
    sandbox.clear_faults()
    assert fresh(booking).status == "requested"
    # The yes was said: until the answer is known nobody takes it back.
    with pytest.raises(Conflict, match="being taken"):
        decide_request.decline(booking_code=booking.code, reason="No", actor=host(booking), now=now())
    with pytest.raises(Conflict, match="being taken"):
        cancel_booking.preview(booking_code=booking.code, actor=guest(booking), now=now())
    for person in (host(booking), guest(booking)):
        assert payments.available_actions(booking=fresh(booking), actor=person, now=now()) == ()
    assert decide_request.expire_unanswered(now=now() + timedelta(days=2)) == 0
    assert decide_request.sweep(now=now() + timedelta(minutes=2)) == 1
    assert fresh(booking).status == "confirmed"
    assert [row.amount_captured for row in sandbox.client().v1.charges.list().data] == [booking.charge_total]


def test_a_capture_that_is_never_carried_out_is_withdrawn_and_the_host_says_yes_anew(sandbox: RunningSandbox) -> None:
    booking = requested()
    path = f"/v1/payment_intents/{booking.payment.provider_id}/capture"
    sandbox.fault("error_500_before_commit", method="POST", path=path, times=1)
    with pytest.raises(Indeterminate):
        decide_request.accept(booking_code=booking.code, actor=host(booking), now=now())
    assert decide_request.sweep(now=now() + timedelta(minutes=2)) == 0
    assert decide_request.sweep(now=now() + timedelta(minutes=11)) == 0
    sandbox.advance(660)
    assert decide_request.accept(booking_code=booking.code, actor=host(booking), now=now()).status == "confirmed"
    assert [row.amount_captured for row in sandbox.client().v1.charges.list().data] == [booking.charge_total]


def test_a_capture_that_the_provider_refuses_is_withdrawn_like_one_never_carried_out(
    sandbox: RunningSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    booking = requested()

    def refused(**_: Any) -> None:
        raise ProviderError(message="this account may not capture now")

    with monkeypatch.context() as patched:
        patched.setattr(decide_request.submit, "capture", refused)
        with pytest.raises(ProviderError):
            decide_request.accept(booking_code=booking.code, actor=host(booking), now=now())
        assert decide_request.sweep(now=now() + timedelta(minutes=2)) == 0
        assert Payment.objects.get(booking=booking).capture_asked_at is not None  # not at the first refusal
        assert decide_request.sweep(now=now() + timedelta(minutes=11)) == 0
    sandbox.advance(660)
    assert decide_request.accept(booking_code=booking.code, actor=host(booking), now=now()).status == "confirmed"


def test_a_release_whose_answer_was_lost_is_asked_for_again(sandbox: RunningSandbox) -> None:
    booking = requested()
    decide_request.decline(booking_code=booking.code, reason="No", actor=host(booking), now=now())
    sandbox.fault(
        "reset_after_commit", method="POST", path=f"/v1/payment_intents/{booking.payment.provider_id}/cancel", times=3
    )
    with pytest.raises(Indeterminate):
        decide_request.release(payment_code=booking.payment.code, actor=decide_request.ACTOR, now=now())
    sandbox.clear_faults()
    release_all()
    nothing_was_moved(booking, sandbox)


def test_money_reserved_after_the_time_to_pay_is_let_go(sandbox: RunningSandbox) -> None:
    at = now()
    booking = factories.booking(factories.listing(now=at, instant_book=False), now=at)
    payment = pay(
        booking_code=booking.code, payment_method="pm_card_threeDSecure2Required", actor=guest(booking), now=now()
    )
    sandbox.advance(3600)
    assert keep_time.expire_holds(now=now()) == 1
    sandbox.complete_challenge(payment.provider_id)
    events.poll(now=now())
    events.apply_due(now=now())
    release_all()
    assert fresh(booking).status == "expired"
    nothing_was_moved(booking, sandbox)


@pytest.mark.parametrize("rival", ["decline", "expire", "cancel"])
def test_a_yes_and_its_rival_at_once_end_in_one_of_the_two(sandbox: RunningSandbox, rival: str) -> None:
    booking = requested()
    bob, alice, at = host(booking), guest(booking), now()
    shown = cancel_booking.preview(booking_code=booking.code, actor=alice, now=at)
    rivals = {
        "decline": lambda: decide_request.decline(booking_code=booking.code, reason="No", actor=bob, now=at),
        "expire": lambda: decide_request.expire_unanswered(now=at + timedelta(hours=25)),
        "cancel": lambda: cancel_booking.confirm(
            booking_code=booking.code, token=shown.token, reason="", actor=alice, now=at
        ),
    }
    race([lambda: decide_request.accept(booking_code=booking.code, actor=bob, now=at), rivals[rival]])
    release_all()
    ended = fresh(booking)
    if ended.status == "confirmed":
        assert Payment.objects.get(booking=booking).status == "captured" and ended.hold.active
    else:
        assert ended.status == {"decline": "declined", "expire": "expired", "cancel": "cancelled"}[rival]
        nothing_was_moved(booking, sandbox)
    assert not Refund.objects.exists()
