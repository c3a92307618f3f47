"""Stays further ahead than funds may be held: the card is saved, charged when its day comes, again when that failed, and
given up on the last date."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from backoffice.bookings import queries as booking_queries
from backoffice.bookings.models import Booking
from backoffice.core.errors import Conflict, Indeterminate, PaymentDeclined
from backoffice.ledger import queries as ledger
from backoffice.notifications.models import OutboxMessage
from backoffice.payments import queries as payments
from backoffice.payments.gateway import submit
from backoffice.payments.models import ExtraCharge, Payment, PaymentAttempt, Refund
from backoffice.payouts.models import Payout
from backoffice.reconciliation.provider import reconcile
from backoffice.workflows import apply_provider_event as events
from backoffice.workflows import (
    cancel_booking,
    charge_later,
    collect_charges,
    decide_request,
    import_balance_transactions,
    keep_time,
    mark_no_show,
    refund_booking,
)
from backoffice.workflows.pay_booking import pay
from tests import factories
from tests.racing import race
from tests.stripe_sandbox.server import RunningSandbox
from tests.workflows.steps import now

pytestmark = pytest.mark.django_db(transaction=True)

DAY = 86_400
DECLINED_LATER = "pm_card_chargeCustomerFail"  # can be saved, and is declined when it is charged
ASKS_ALWAYS = "pm_card_authenticationRequired"


def far(*, card: str = "pm_card_visa", sandbox: RunningSandbox | None = None, **options: Any) -> Booking:
    """A booking of a stay in 200 days whose card was saved."""
    at = now()
    home = factories.listing(now=at, instant_book=options.pop("instant_book", True))
    booking = factories.booking(home, check_in=(at + timedelta(days=200)).date(), now=at, **options)
    payment = pay(booking_code=booking.code, payment_method=card, actor=guest(booking), now=now())
    if payment.status == "requires_action" and sandbox is not None:
        sandbox.complete_challenge(payment.setup_id)
        hear()
    return fresh(booking)


def hear() -> None:
    events.poll(now=now())
    events.apply_due(now=now())


def fresh(booking: Booking) -> Booking:
    return booking_queries.booking(code=booking.code)


def guest(booking: Booking) -> Any:
    return factories.acting(booking.guest, now=now())


def may(booking: Booking) -> tuple[str, ...]:
    """What the guest is offered."""
    return payments.available_actions(booking=fresh(booking), actor=guest(booking), now=now())


def told(topic: str) -> int:
    return OutboxMessage.objects.filter(topic=topic).count()


def until(sandbox: RunningSandbox, at: datetime | None) -> None:
    """The clocks of desk and provider move on to an instant, and a minute."""
    assert at is not None
    sandbox.advance((at - now()).total_seconds() + 60)


def charges(sandbox: RunningSandbox) -> list[tuple[int, bool]]:
    return [(row.amount, row.paid) for row in sandbox.client().v1.charges.list().data]


def explained(sandbox: RunningSandbox) -> None:
    sandbox.advance(60)
    import_balance_transactions.run(now=now())
    assert reconcile(scope="stripe", since=None, until=None, actor=charge_later.ACTOR, now=now()).findings == []
    assert [finding for finding in ledger.check(now=now()) if not finding.ok] == []


def test_the_card_is_saved_and_the_stay_stands_without_a_charge(sandbox: RunningSandbox) -> None:
    booking = far()
    payment = booking.payment
    assert (booking.status, payment.status) == ("confirmed", "requires_payment")
    assert payment.saved_method.startswith("pm_") and payment.customer_id.startswith("cus_")
    # Held from the charge to the release, a day after check-in: 90 days.
    assert payment.charge_at == booking.check_in_at + timedelta(hours=24) - timedelta(days=90) == payment.next_try_at
    assert charges(sandbox) == [] and told("card_saved") == 1 and booking.hold.expires_at is None
    assert may(booking) == ("cancel",)
    with pytest.raises(Conflict, match="charged to the saved card on"):
        pay(booking_code=booking.code, payment_method="pm_card_visa", actor=guest(booking), now=now())
    assert charge_later.charge_due(now=now()) == 0


@pytest.mark.parametrize(("ahead", "saved"), [(88, False), (91, True)])
def test_what_can_be_held_is_charged_at_once(sandbox: RunningSandbox, ahead: int, saved: bool) -> None:
    at = now()
    booking = factories.booking(check_in=(at + timedelta(days=ahead)).date(), now=at)
    pay(booking_code=booking.code, payment_method="pm_card_visa", actor=guest(booking), now=at)
    release = booking.check_in_at + timedelta(hours=24)
    assert (release - at > timedelta(days=90)) is saved, "the case is at the edge"
    assert (fresh(booking).payment.charge_at is not None) is saved


def test_its_day_comes_and_the_card_is_charged_once(sandbox: RunningSandbox) -> None:
    booking = far()
    until(sandbox, booking.payment.charge_at)
    assert charge_later.charge_due(now=now()) == 1 and charge_later.charge_due(now=now()) == 0
    payment = Payment.objects.get(booking=booking)
    assert payment.status == "captured" and payment.next_try_at is None
    assert fresh(booking).status == "confirmed" and told("payment_received") == 1
    assert charges(sandbox) == [(booking.charge_total, True)]
    assert ledger.balance(account="2100", key=booking.code, currency="EUR") == -(booking.host_price - booking.host_fee)
    explained(sandbox)


def test_two_jobs_at_once_charge_once(sandbox: RunningSandbox) -> None:
    booking = far()
    until(sandbox, booking.payment.charge_at)
    code, at = booking.payment.code, now()
    race([lambda: charge_later.charge(payment_code=code, actor=charge_later.ACTOR, now=at)] * 4)
    assert charges(sandbox) == [(booking.charge_total, True)] and booking.payment.attempts.count() == 2


def test_the_bank_asks_when_the_card_is_saved(sandbox: RunningSandbox) -> None:
    booking = far(card="pm_card_authenticationRequiredOnSetup")
    assert (booking.status, booking.payment.status) == ("awaiting_payment", "requires_action")
    assert booking.payment.next_action_url
    sandbox.complete_challenge(booking.payment.setup_id)
    hear()
    assert fresh(booking).status == "confirmed"
    until(sandbox, fresh(booking).payment.charge_at)
    assert charge_later.charge_due(now=now()) == 1
    assert fresh(booking).payment.status == "captured"  # the card was set up: its bank does not ask again


def test_a_card_whose_set_up_fails_is_declined_and_another_is_saved(sandbox: RunningSandbox) -> None:
    at = now()
    booking = factories.booking(check_in=(at + timedelta(days=200)).date(), now=at)
    with pytest.raises(PaymentDeclined):
        pay(booking_code=booking.code, payment_method="pm_card_chargeDeclined", actor=guest(booking), now=now())
    payment = pay(
        booking_code=booking.code, payment_method="pm_card_authenticationRequired", actor=guest(booking), now=now()
    )
    sandbox.complete_challenge(payment.setup_id, "fail")
    hear()
    assert fresh(booking).payment.status == "requires_payment" and fresh(booking).status == "awaiting_payment"
    pay(booking_code=booking.code, payment_method="pm_card_visa", actor=guest(booking), now=now())
    assert fresh(booking).status == "confirmed"


def test_a_declined_charge_is_tried_again_by_its_plan_and_given_up_on_the_last_date(sandbox: RunningSandbox) -> None:
    booking = far(card=DECLINED_LATER)
    until(sandbox, booking.payment.charge_at)
    began = now()
    assert charge_later.charge_due(now=now()) == 1
    payment = Payment.objects.get(booking=booking)
    assert payment.pay_by == pytest.approx(began + timedelta(days=7), abs=timedelta(minutes=2))
    assert told("charge_failed") == 1 and told("payment_failed") == 0
    tried = []
    while payment.next_try_at is not None:
        tried.append(round((payment.next_try_at - began) / timedelta(days=1)))
        assert charge_later.give_up_unpaid(now=now()) == 0
        until(sandbox, payment.next_try_at)
        assert charge_later.charge_due(now=now()) == 1
        payment.refresh_from_db()
    assert tried == [1, 3, 5] and told("charge_failed") == 4
    assert payment.attempts.filter(off_session=True, status="declined").count() == 4
    until(sandbox, payment.pay_by)
    assert charge_later.charge_due(now=now()) == 0
    assert charge_later.give_up_unpaid(now=now()) == 1 and charge_later.give_up_unpaid(now=now()) == 0
    ended = fresh(booking)
    assert (ended.status, ended.cancelled_by, ended.hold.active) == ("cancelled", "system", False)
    assert told("booking_unpaid") == 2  # guest and host
    decide_request.release(payment_code=payment.code, actor=charge_later.ACTOR, now=now())
    assert all(not taken for _, taken in charges(sandbox))
    explained(sandbox)


def test_meanwhile_the_guest_pays_with_another_card(sandbox: RunningSandbox) -> None:
    booking = far(card=DECLINED_LATER)
    until(sandbox, booking.payment.charge_at)
    charge_later.charge_due(now=now())
    with pytest.raises(PaymentDeclined):
        pay(booking_code=booking.code, payment_method="", actor=guest(booking), now=now())  # the saved one again
    payment = pay(booking_code=booking.code, payment_method="pm_card_visa", actor=guest(booking), now=now())
    assert payment.status == "captured" and payment.next_try_at is None
    sandbox.advance(9 * DAY)
    assert charge_later.charge_due(now=now()) == 0 and charge_later.give_up_unpaid(now=now()) == 0
    assert fresh(booking).status == "confirmed"
    assert [taken for _, taken in charges(sandbox)].count(True) == 1
    explained(sandbox)


def test_a_bank_that_wants_to_see_the_guest_is_not_asked_again_without(sandbox: RunningSandbox) -> None:
    booking = far(card=ASKS_ALWAYS, sandbox=sandbox)
    until(sandbox, booking.payment.charge_at)
    charge_later.charge_due(now=now())
    payment = Payment.objects.get(booking=booking)
    assert payment.next_try_at is None and payment.pay_by is not None and told("charge_failed") == 1
    assert may(booking) == ("pay", "cancel")
    asked = pay(booking_code=booking.code, payment_method="", actor=guest(booking), now=now())
    assert asked.status == "requires_action" and asked.next_action_url
    sandbox.complete_challenge(asked.provider_id)
    hear()
    assert fresh(booking).payment.status == "captured" and may(booking) == ("cancel",)
    explained(sandbox)


def test_cancelling_before_the_charge_costs_nothing(sandbox: RunningSandbox) -> None:
    booking = far()
    shown = cancel_booking.preview(booking_code=booking.code, actor=guest(booking), now=now())
    assert not shown.refund and not shown.host_keeps
    cancel_booking.confirm(booking_code=booking.code, token=shown.token, reason="", actor=guest(booking), now=now())
    until(sandbox, booking.payment.charge_at)
    assert charge_later.charge_due(now=now()) == 0
    assert fresh(booking).status == "cancelled" and charges(sandbox) == []


def test_a_host_who_cancels_before_the_charge_owes_the_penalty_all_the_same(sandbox: RunningSandbox) -> None:
    booking = far()
    bob = factories.acting(booking.host, now=now())
    shown = cancel_booking.preview(booking_code=booking.code, actor=bob, now=now())
    assert shown.penalty and not shown.refund
    cancel_booking.confirm(booking_code=booking.code, token=shown.token, reason="Sold", actor=bob, now=now())
    assert ledger.balance(account="1310", key=booking.host.code, currency="EUR") == shown.penalty.amount


@pytest.mark.parametrize("effect", ["reset_after_commit", "error_500_after_commit"])
@pytest.mark.parametrize("what", ["setup_intents", "customers"])
def test_a_card_whose_answer_was_lost_is_found(sandbox: RunningSandbox, what: str, effect: str) -> None:
    at = now()
    booking = factories.booking(check_in=(at + timedelta(days=200)).date(), now=at)
    sandbox.fault(effect, method="POST", path=f"/v1/{what}", times=3)
    with pytest.raises(Indeterminate):
        pay(booking_code=booking.code, payment_method="pm_card_visa", actor=guest(booking), now=now())
    sandbox.clear_faults()
    keep_time.resolve_indeterminate(now=now() + timedelta(minutes=2))
    if effect == "error_500_after_commit" and what == "customers":
        # The provider answers that key with the failure it saved: the try is given up, and the next has a key of its own.
        keep_time.resolve_indeterminate(now=now() + timedelta(minutes=11))
        pay(booking_code=booking.code, payment_method="pm_card_visa", actor=guest(booking), now=now())
    assert fresh(booking).status == "confirmed"
    assert len(sandbox.client().v1.setup_intents.list().data) == 1


@pytest.mark.parametrize("effect", ["reset_after_commit", "error_500_after_commit", "timeout_after_commit"])
def test_a_charge_whose_answer_was_lost_is_found_and_made_once(sandbox: RunningSandbox, effect: str) -> None:
    booking = far()
    until(sandbox, booking.payment.charge_at)
    sandbox.fault(effect, method="POST", path="/v1/payment_intents", times=3)
    assert charge_later.charge_due(now=now()) == 0
    sandbox.clear_faults()
    assert PaymentAttempt.objects.latest("id").status == "indeterminate"
    assert charge_later.charge_due(now=now()) == 0  # not while it is unknown
    assert charge_later.give_up_unpaid(now=now() + timedelta(days=9)) == 0
    keep_time.resolve_indeterminate(now=now() + timedelta(minutes=2))
    assert fresh(booking).payment.status == "captured"
    assert charges(sandbox) == [(booking.charge_total, True)]


def test_a_second_try_whose_answer_was_lost_is_not_taken_for_the_first(impatient: RunningSandbox) -> None:
    booking = far(card=DECLINED_LATER)
    until(impatient, booking.payment.charge_at)
    charge_later.charge_due(now=now())
    payment = Payment.objects.get(booking=booking)
    until(impatient, payment.next_try_at)
    path = f"/v1/payment_intents/{payment.provider_id}/confirm"
    impatient.fault("timeout_before_commit", seconds=1.5, method="POST", path=path, times=3)
    assert charge_later.charge_due(now=now()) == 0
    impatient.clear_faults()
    keep_time.resolve_indeterminate(now=now() + timedelta(minutes=2))
    payment.refresh_from_db()
    assert payment.status == "requires_payment" and payment.next_try_at is not None
    assert len(charges(impatient)) == 2


def test_a_card_that_the_provider_no_longer_has_is_a_failed_charge_like_any_other(sandbox: RunningSandbox) -> None:
    booking = far()
    sandbox.client().v1.payment_methods.detach(booking.payment.saved_method)
    until(sandbox, booking.payment.charge_at)
    assert charge_later.charge_due(now=now()) == 0  # refused before there is a charge
    payment = Payment.objects.get(booking=booking)
    assert (payment.status, told("charge_failed")) == ("requires_payment", 1) and payment.pay_by is not None
    assert payment.next_try_at is not None and payment.next_try_at > now() + timedelta(hours=23)
    until(sandbox, payment.pay_by)
    assert charge_later.give_up_unpaid(now=now()) == 1


def test_a_payment_that_is_closed_at_the_provider_ends_its_stay_and_both_are_told(sandbox: RunningSandbox) -> None:
    """No card can be charged for it any more: without a word the stay would stand for ever, unpaid."""
    booking = far(card=DECLINED_LATER)
    until(sandbox, booking.payment.charge_at)
    charge_later.charge_due(now=now())
    payment = Payment.objects.get(booking=booking)
    sandbox.client().v1.payment_intents.cancel(payment.provider_id or "")
    hear()
    ended = fresh(booking)
    assert (ended.status, ended.cancelled_by, ended.hold.active) == ("cancelled", "system", False)
    assert ended.payment.status == "cancelled" and told("booking_unpaid") == 2
    assert charge_later.charge_due(now=now() + timedelta(days=9)) == 0
    assert not Payout.objects.filter(booking=booking).exclude(status="void").exists()
    hear()
    assert told("booking_unpaid") == 2
    explained(sandbox)


def test_a_provider_that_has_no_time_is_asked_again_and_nobody_is_told(sandbox: RunningSandbox) -> None:
    booking = far()
    until(sandbox, booking.payment.charge_at)
    sandbox.fault("error_429", method="POST", path="/v1/payment_intents", times=1)
    assert charge_later.charge_due(now=now()) == 0 and told("charge_failed") == 0
    assert charge_later.charge_due(now=now()) == 1
    assert fresh(booking).payment.status == "captured"


def test_a_request_far_ahead_saves_the_card_and_the_yes_confirms_it(sandbox: RunningSandbox) -> None:
    booking = far(instant_book=False)
    assert (booking.status, booking.payment.status) == ("requested", "requires_payment")
    bob = factories.acting(booking.host, now=now())
    accepted = decide_request.accept(booking_code=booking.code, actor=bob, now=now())
    assert accepted.status == "confirmed" and told("card_saved") == 1
    until(sandbox, booking.payment.charge_at)
    assert charge_later.charge_due(now=now()) == 1
    assert fresh(booking).payment.status == "captured"
    explained(sandbox)


def test_a_request_far_ahead_that_is_declined_is_never_charged(sandbox: RunningSandbox) -> None:
    booking = far(instant_book=False)
    bob = factories.acting(booking.host, now=now())
    decide_request.decline(booking_code=booking.code, reason="No", actor=bob, now=now())
    until(sandbox, booking.payment.charge_at)
    assert charge_later.charge_due(now=now()) == 0 and charges(sandbox) == []
    assert Payment.objects.get(booking=booking).next_try_at is None


@pytest.mark.parametrize("answered", [False, True])
def test_a_page_of_the_bank_opened_on_the_day_does_not_keep_the_card_from_being_charged(
    sandbox: RunningSandbox, answered: bool
) -> None:
    booking = far()
    until(sandbox, booking.payment.charge_at)
    asked = pay(
        booking_code=booking.code,
        payment_method="pm_card_threeDSecure2Required",
        actor=guest(booking),
        now=now(),
    )
    assert asked.status == "requires_action"
    assert charge_later.charge_due(now=now() + timedelta(hours=5)) == 0  # the guest may still be at it
    if answered:
        sandbox.complete_challenge(asked.provider_id)
    sandbox.advance(6 * 3600 + 60)
    assert charge_later.charge_due(now=now()) == (0 if answered else 1)
    payment = Payment.objects.get(booking=booking)
    assert (payment.status, told("charge_failed")) == ("captured", 0)
    assert [taken for _, taken in charges(sandbox)].count(True) == 1
    explained(sandbox)


def test_pages_opened_again_and_again_do_not_put_off_a_stay_for_ever(sandbox: RunningSandbox) -> None:
    booking = far()
    until(sandbox, booking.payment.charge_at)
    began = now()
    while fresh(booking).status == "confirmed" and now() < began + timedelta(days=9):
        pay(
            booking_code=booking.code,
            payment_method="pm_card_threeDSecure2Required",
            actor=guest(booking),
            now=now(),
        )
        sandbox.advance(36 * 3600 if now() > began + timedelta(days=1) else 5 * 3600)
        if now() < began + timedelta(days=1):
            assert charge_later.charge_due(now=now()) == 0
        charge_later.give_up_unpaid(now=now())
    assert (fresh(booking).status, fresh(booking).cancelled_by) == ("cancelled", "system")
    assert all(not taken for _, taken in charges(sandbox))


def test_a_charge_that_comes_after_the_stay_was_had_is_not_given_back(sandbox: RunningSandbox) -> None:
    booking = far()
    until(sandbox, booking.payment.charge_at)
    asked = pay(
        booking_code=booking.code,
        payment_method="pm_card_threeDSecure2Required",
        actor=guest(booking),
        now=now(),
    )
    until(sandbox, booking.check_out_at)  # everything stood still
    keep_time.complete_stays(now=now())
    sandbox.complete_challenge(asked.provider_id)
    hear()
    assert fresh(booking).status == "completed" and fresh(booking).payment.status == "captured"
    assert not Refund.objects.exists()


@pytest.mark.parametrize("how", ["declined", "refused"])
def test_a_charge_that_fails_after_the_stay_was_cancelled_plans_and_tells_nothing(
    sandbox: RunningSandbox, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    booking = far(card=DECLINED_LATER)
    if how == "refused":
        sandbox.client().v1.payment_methods.detach(booking.payment.saved_method)
    until(sandbox, booking.payment.charge_at)
    alice, call = guest(booking), submit._attempt

    def cancelled_meanwhile(*given: Any) -> Any:
        shown = cancel_booking.preview(booking_code=booking.code, actor=alice, now=now())
        cancel_booking.confirm(booking_code=booking.code, token=shown.token, reason="", actor=alice, now=now())
        return call(*given)

    monkeypatch.setattr(submit, "_attempt", cancelled_meanwhile)
    charge_later.charge_due(now=now())
    payment = Payment.objects.get(booking=booking)
    assert (payment.status, payment.next_try_at, payment.pay_by) == ("requires_payment", None, None)
    assert payment.last_error and told("charge_failed") == told("payment_failed") == 0


def test_the_guest_cancels_while_the_card_is_being_charged(sandbox: RunningSandbox) -> None:
    booking = far()
    until(sandbox, booking.payment.charge_at)
    alice, at, code = guest(booking), now(), booking.payment.code
    shown = cancel_booking.preview(booking_code=booking.code, actor=alice, now=at)
    race(
        [
            lambda: charge_later.charge(payment_code=code, actor=charge_later.ACTOR, now=at),
            lambda: cancel_booking.confirm(
                booking_code=booking.code, token=shown.token, reason="", actor=alice, now=at
            ),
        ]
    )
    ended, payment = fresh(booking), Payment.objects.get(booking=booking)
    refunded = sum(row.amount for row in payment.refunds.all())
    taken = booking.charge_total if payment.status == "captured" else 0
    assert (ended.status, taken - refunded) in {("cancelled", 0), ("confirmed", booking.charge_total)}


# Still unpaid when the stay is over: the runs stood still for very long ------------------------------------------------


def stayed_unpaid(sandbox: RunningSandbox, *, nights: int = 3, card: str = DECLINED_LATER) -> Booking:
    """The card was tried for the first time a day before check-out, and the stay is over."""
    booking = far(card=card, nights=nights)
    until(sandbox, booking.check_out_at - timedelta(days=1))
    charge_later.charge_due(now=now())
    until(sandbox, booking.check_out_at)
    keep_time.complete_stays(now=now())
    booking = fresh(booking)
    assert (booking.status, booking.payment.status) == ("completed", "requires_payment")
    assert booking.payment.pay_by > now()
    return booking


def planned(booking: Booking) -> int:
    return sum(row.held for row in Payout.objects.filter(booking=booking).exclude(status="void"))


def test_what_is_unpaid_when_the_stay_is_over_is_tried_until_its_last_date_and_then_given_up(
    sandbox: RunningSandbox,
) -> None:
    factories.staff("finance", now=now())
    booking = stayed_unpaid(sandbox)
    payment = booking.payment
    assert planned(booking) == booking.host_price - booking.host_fee and may(booking) == ("pay",)
    while payment.next_try_at is not None:
        until(sandbox, payment.next_try_at)
        assert collect_charges.run(now=now()) == 1
        payment.refresh_from_db()
    until(sandbox, payment.pay_by)
    assert collect_charges.run(now=now()) == 1 and collect_charges.run(now=now()) == 0
    payment.refresh_from_db()
    assert (payment.status, payment.next_try_at) == ("cancelled", None) and told("charge_failed") == 4
    assert "Not paid by" in payment.last_error and "not asked for any more" in payment.last_error
    assert (fresh(booking).status, planned(booking), may(booking)) == ("completed", 0, ())
    assert (told("stay_unpaid"), told("stay_unpaid_staff"), told("booking_unpaid")) == (2, 1, 0)
    with pytest.raises(Conflict, match="not waiting for payment"):
        pay(booking_code=booking.code, payment_method="pm_card_visa", actor=guest(booking), now=now())
    assert all(not taken for _, taken in charges(sandbox))
    explained(sandbox)


@pytest.mark.parametrize("in_time", [True, False])
def test_who_pays_after_the_stay_pays_it_and_who_pays_what_was_given_up_has_it_back(
    sandbox: RunningSandbox, in_time: bool
) -> None:
    booking = stayed_unpaid(sandbox)
    asked = pay(
        booking_code=booking.code, payment_method="pm_card_threeDSecure2Required", actor=guest(booking), now=now()
    )
    assert asked.status == "requires_action"
    if not in_time:
        until(sandbox, booking.payment.pay_by)
        assert charge_later.give_up_unpaid(now=now()) == 1
    sandbox.complete_challenge(asked.provider_id)
    hear()
    assert fresh(booking).payment.status == "captured"
    if in_time:
        assert not Refund.objects.exists() and planned(booking) == booking.host_price - booking.host_fee
    else:
        back = Refund.objects.get()
        assert (back.amount, back.reason) == (booking.charge_total, "paid after it had been given up")
        assert back.by_rule and planned(booking) == 0 and told("late_capture_refunded") == 1
        refund_booking.send(refund_code=back.code, actor=charge_later.ACTOR, now=now())
    held = booking.host_price - booking.host_fee if in_time else 0
    assert ledger.balance(account="2100", key=booking.code, currency="EUR") == -held
    explained(sandbox)


def test_a_card_that_was_never_tried_before_the_stay_was_over_is_charged(sandbox: RunningSandbox) -> None:
    booking = far()
    until(sandbox, booking.check_out_at)
    keep_time.complete_stays(now=now())
    assert collect_charges.run(now=now()) == 1
    assert fresh(booking).payment.status == "captured" and fresh(booking).status == "completed"
    explained(sandbox)


def test_one_that_the_provider_closed_after_the_stay_is_given_up_at_once(sandbox: RunningSandbox) -> None:
    booking = stayed_unpaid(sandbox)
    sandbox.client().v1.payment_intents.cancel(booking.payment.provider_id or "")
    hear()
    assert (fresh(booking).status, fresh(booking).payment.status, planned(booking)) == ("completed", "cancelled", 0)
    assert "not asked for any more" in fresh(booking).payment.last_error and told("stay_unpaid") == 2
    assert collect_charges.run(now=now() + timedelta(days=9)) == 0


def test_a_long_stay_that_was_never_paid_is_given_up_with_its_instalments(sandbox: RunningSandbox) -> None:
    booking = stayed_unpaid(sandbox, nights=35)
    assert ExtraCharge.objects.filter(booking=booking, status="scheduled").exists()
    until(sandbox, booking.payment.pay_by)
    collect_charges.run(now=now())
    assert set(ExtraCharge.objects.values_list("status", flat=True)) == {"cancelled"}
    assert planned(booking) == 0 and payments.parts_to_come(booking=booking).held.amount == 0


def test_nothing_is_to_come_for_the_host_of_a_stay_that_nobody_came_to_nor_paid(sandbox: RunningSandbox) -> None:
    booking = stayed_unpaid(sandbox)
    lead = factories.acting(factories.staff("team_lead", now=now()), now=now())
    mark_no_show.mark(booking_code=booking.code, reason="Nobody came", actor=lead, now=now())
    assert planned(booking) == 0
    assert collect_charges.run(now=now() + timedelta(days=9)) == 0
