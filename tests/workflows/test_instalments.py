"""Long stays are paid by the month: the first nights with the booking, the rest from the saved card before their nights."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from backoffice.bookings import queries as booking_queries
from backoffice.bookings.models import Booking
from backoffice.core.errors import Conflict, NotFound, PaymentDeclined
from backoffice.ledger import queries as ledger
from backoffice.notifications.models import OutboxMessage
from backoffice.payments import operations
from backoffice.payments import queries as payments
from backoffice.payments.models import PARTS, ExtraCharge, Refund
from backoffice.payouts import queries as payouts
from backoffice.payouts.models import Payout
from backoffice.reconciliation.provider import reconcile
from backoffice.workflows import apply_provider_event as events
from backoffice.workflows import (
    cancel_booking,
    charge_later,
    collect_charges,
    import_balance_transactions,
    keep_time,
    mark_no_show,
    refund_booking,
)
from backoffice.workflows.pay_booking import pay
from tests import factories
from tests.payouts.stays import paid_stay
from tests.racing import race
from tests.stripe_sandbox.server import RunningSandbox
from tests.workflows.steps import now

pytestmark = pytest.mark.django_db(transaction=True)
WORKER = collect_charges.ACTOR


def long_stay(*, nights: int = 70, ahead: int = 10, card: str = "pm_card_visa", **options: Any) -> Booking:
    """A paid booking of a long stay that begins in some days."""
    at = now()
    home = factories.listing(now=at, maximum_nights=365, month_discount=10)
    check_in = (at + timedelta(days=ahead)).date()
    booking = factories.booking(home, check_in=check_in, nights=nights, now=at, **options)
    pay(booking_code=booking.code, payment_method=card, actor=guest(booking), now=now())
    return fresh(booking)


def fresh(booking: Booking) -> Booking:
    return booking_queries.booking(code=booking.code)


def guest(booking: Booking) -> Any:
    return factories.acting(booking.guest, now=now())


def due(booking: Booking) -> list[ExtraCharge]:
    return list(ExtraCharge.objects.filter(booking=booking).order_by("number"))


def told(topic: str) -> int:
    return OutboxMessage.objects.filter(topic=topic).count()


def until(sandbox: RunningSandbox, at: datetime | None) -> None:
    assert at is not None
    sandbox.advance(max((at - now()).total_seconds(), 0) + 60)
    keep_time.complete_stays(now=now())


def taken(sandbox: RunningSandbox) -> list[int]:
    rows = sandbox.client().v1.charges.list({"limit": 100}).data
    return sorted(row.amount - row.amount_refunded for row in rows if row.paid)


def explained(sandbox: RunningSandbox) -> None:
    sandbox.advance(60)
    import_balance_transactions.run(now=now())
    assert reconcile(scope="stripe", since=None, until=None, actor=WORKER, now=now()).findings == []
    assert [finding for finding in ledger.check(now=now()) if not finding.ok] == []


def use_another_card(booking: Booking, card: str) -> None:
    """The card that was kept is replaced by one with another bank behind it, set up like the first."""
    from backoffice.payments.gateway.stripe import gateway

    made = gateway().save_card(
        payment_method=card,
        reference="test",
        group=booking.code,
        key=f"test-{booking.code}",
        return_url="https://x.test",
    )
    payment = booking.payment
    payment.customer_id, payment.saved_method = made.customer_id, made.payment_method
    payment.save(update_fields=["customer_id", "saved_method"])


def test_the_first_nights_are_paid_with_the_booking_and_the_rest_is_planned(sandbox: RunningSandbox) -> None:
    booking = long_stay()
    first, rest = booking.payment, due(booking)
    assert [row.number for row in rest] == [2, 3] and {row.status for row in rest} == {"scheduled"}
    assert first.amount + sum(row.amount for row in rest) == booking.charge_total == booking.total
    for part in PARTS:
        whole = {"held": booking.host_price - booking.host_fee}.get(part) or getattr(booking, part)
        assert getattr(first, part) + sum(getattr(row, part) for row in rest) == whole
    assert [row.due_at for row in rest] == [booking.check_in_at + timedelta(days=30 * number - 7) for number in (1, 2)]
    assert taken(sandbox) == [first.amount]
    explained(sandbox)


@pytest.mark.parametrize(("nights", "later"), [(27, 0), (28, 0), (30, 0), (31, 1), (60, 1), (61, 2)])
@pytest.mark.django_db
def test_how_many_instalments_a_stay_has(nights: int, later: int) -> None:
    assert len(due(paid_stay(nights=nights))) == later


def test_each_is_charged_before_its_nights_once_and_posted_under_its_own_charge(sandbox: RunningSandbox) -> None:
    booking = long_stay()
    for row in due(booking):
        until(sandbox, row.due_at)
        assert collect_charges.collect_due(now=now()) == 1 and collect_charges.collect_due(now=now()) == 0
    rows = due(booking)
    assert {row.status for row in rows} == {"captured"} and len({row.charge_id for row in rows}) == 2
    assert sum(taken(sandbox)) == booking.charge_total and told("charge_received") == 2
    money = payments.money_of(booking=booking)
    assert money.charged.amount == booking.charge_total == money.refundable.amount
    assert ledger.balance(account="2100", key=booking.code, currency="EUR") == -(booking.host_price - booking.host_fee)
    explained(sandbox)


def test_two_jobs_at_once_charge_once(sandbox: RunningSandbox) -> None:
    booking = long_stay()
    row = due(booking)[0]
    until(sandbox, row.due_at)
    at = now()
    race([lambda: collect_charges.charge(charge_code=row.code, actor=WORKER, now=at)] * 4)
    assert len(taken(sandbox)) == 2 and due(booking)[0].tries == 1


def test_a_declined_instalment_is_tried_again_and_then_the_stay_ends(sandbox: RunningSandbox) -> None:
    booking = long_stay()
    use_another_card(booking, "pm_card_chargeCustomerFail")
    row = due(booking)[0]
    until(sandbox, row.due_at)
    tried = 0
    while row.status != "cancelled":
        tried += collect_charges.collect_due(now=now())
        row.refresh_from_db()
        until(sandbox, row.next_try_at or row.pay_by)
        collect_charges.give_up_unpaid(now=now())
        row.refresh_from_db()
    assert tried == 4 and told("charge_failed") == 4 and told("booking_unpaid") == 2
    ended = fresh(booking)
    assert (ended.status, ended.cancelled_by, ended.hold.active) == ("cancelled", "system", False)
    assert {one.status for one in due(booking)} == {"cancelled"}
    assert row.pay_by <= booking.check_in_at + timedelta(days=30, hours=1)  # its nights have not begun
    assert taken(sandbox) == [booking.payment.amount]
    explained(sandbox)


def test_the_guest_pays_a_declined_instalment_with_another_card(sandbox: RunningSandbox) -> None:
    booking = long_stay()
    use_another_card(booking, "pm_card_chargeCustomerFail")
    row = due(booking)[0]
    until(sandbox, row.due_at)
    collect_charges.collect_due(now=now())
    stranger = factories.acting(factories.person("Dora", now=now()), now=now())
    with pytest.raises(NotFound):
        collect_charges.pay(charge_code=row.code, payment_method="pm_card_visa", actor=stranger, now=now())
    with pytest.raises(PaymentDeclined):
        collect_charges.pay(
            charge_code=row.code, payment_method="pm_card_chargeDeclined", actor=guest(booking), now=now()
        )
    asked = collect_charges.pay(
        charge_code=row.code, payment_method="pm_card_threeDSecure2Required", actor=guest(booking), now=now()
    )
    assert asked.status == "requires_action" and asked.next_action_url
    sandbox.complete_challenge(asked.provider_id)
    events.poll(now=now())
    events.apply_due(now=now())
    row.refresh_from_db()
    assert row.status == "captured"
    with pytest.raises(Conflict, match="nothing to pay"):
        collect_charges.pay(charge_code=row.code, payment_method="pm_card_visa", actor=guest(booking), now=now())
    explained(sandbox)


@pytest.mark.parametrize("effect", ["reset_after_commit", "error_500_after_commit"])
def test_an_instalment_whose_answer_was_lost_is_found_and_charged_once(sandbox: RunningSandbox, effect: str) -> None:
    booking = long_stay()
    row = due(booking)[0]
    until(sandbox, row.due_at)
    sandbox.fault(effect, method="POST", path="/v1/payment_intents", times=3)
    assert collect_charges.collect_due(now=now()) == 0
    sandbox.clear_faults()
    row.refresh_from_db()
    assert row.status == "indeterminate"
    assert collect_charges.collect_due(now=now()) == 0  # not while it is unknown
    assert collect_charges.resolve_unanswered(now=now() + timedelta(minutes=2)) == 1
    row.refresh_from_db()
    assert row.status == "captured" and len(taken(sandbox)) == 2


def test_one_that_was_never_carried_out_is_charged_by_the_next_try(sandbox: RunningSandbox) -> None:
    booking = long_stay()
    row = due(booking)[0]
    until(sandbox, row.due_at)
    sandbox.fault("error_500_before_commit", method="POST", path="/v1/payment_intents", times=1)
    collect_charges.collect_due(now=now())
    collect_charges.resolve_unanswered(now=now() + timedelta(minutes=2))
    collect_charges.resolve_unanswered(now=now() + timedelta(minutes=11))
    row.refresh_from_db()
    assert row.status == "failed" and row.next_try_at is not None
    until(sandbox, row.next_try_at)
    assert collect_charges.collect_due(now=now()) == 1
    row.refresh_from_db()
    assert row.status == "captured" and len(taken(sandbox)) == 2


def test_a_provider_that_has_no_time_is_asked_again_and_nobody_is_told(sandbox: RunningSandbox) -> None:
    booking = long_stay()
    row = due(booking)[0]
    until(sandbox, row.due_at)
    sandbox.fault("error_429", method="POST", path="/v1/payment_intents", times=1)
    assert collect_charges.collect_due(now=now()) == 0 and told("charge_failed") == 0
    row.refresh_from_db()
    assert row.status == "failed" and row.pay_by is None
    until(sandbox, row.next_try_at)
    assert collect_charges.collect_due(now=now()) == 1 and len(taken(sandbox)) == 2


def cancel(booking: Booking, who: Any) -> cancel_booking.CancellationPreview:
    shown = cancel_booking.preview(booking_code=booking.code, actor=who, now=now())
    cancel_booking.confirm(booking_code=booking.code, token=shown.token, reason="x", actor=who, now=now())
    for refund in Refund.objects.filter(payment__booking=booking, status="approved"):
        refund_booking.send(refund_code=refund.code, actor=WORKER, now=now())
    return shown


def test_a_guest_who_cancels_in_time_gets_all_that_was_paid_and_owes_nothing_more(sandbox: RunningSandbox) -> None:
    booking = long_stay(ahead=60)
    shown = cancel(booking, guest(booking))
    assert shown.refund.amount == booking.payment.amount and not shown.host_keeps
    assert taken(sandbox) == [0] and {row.status for row in due(booking)} == {"cancelled"}
    until(sandbox, due(booking)[0].due_at)
    assert collect_charges.collect_due(now=now()) == 0
    explained(sandbox)


def test_what_the_host_keeps_comes_from_what_was_paid(sandbox: RunningSandbox) -> None:
    """Firm, 10 days before: half of all nights is kept. Of 70 nights 30 were paid: all of the host's share stays."""
    booking = long_stay(ahead=10)
    paid = booking.payment.held + booking.payment.host_fee
    shown = cancel(booking, guest(booking))
    assert shown.parts.held.amount == 0 and shown.host_keeps.amount == paid
    explained(sandbox)


def test_a_host_who_cancels_gives_back_every_instalment_through_its_own_charge(sandbox: RunningSandbox) -> None:
    booking = long_stay()
    until(sandbox, due(booking)[0].due_at)
    collect_charges.collect_due(now=now())
    sandbox.advance(60)
    shown = cancel(booking, factories.acting(booking.host, now=now()))
    both = booking.payment.amount + due(booking)[0].amount
    assert shown.refund.amount == both and len(shown.gives) == 2
    assert sorted(Refund.objects.values_list("charge__number", flat=True), key=str) == [2, None]
    assert set(Refund.objects.values_list("status", flat=True)) == {"succeeded"}
    assert taken(sandbox) == [0, 0]
    money = payments.money_of(booking=booking)
    assert money.refunded.amount == both == money.charged.amount and not money.refundable
    assert ledger.balance(account="2100", key=booking.code, currency="EUR") == 0
    explained(sandbox)


def test_an_instalment_charged_while_the_stay_was_ending_goes_back(sandbox: RunningSandbox) -> None:
    booking = long_stay()
    row = due(booking)[0]
    until(sandbox, row.due_at)
    sandbox.fault("reset_after_commit", method="POST", path="/v1/payment_intents", times=3)
    collect_charges.collect_due(now=now())
    sandbox.clear_faults()
    cancel(booking, factories.acting(booking.host, now=now()))
    collect_charges.resolve_unanswered(now=now() + timedelta(minutes=2))
    back = Refund.objects.get(charge=row)
    assert (back.cause, back.amount, back.status) == ("late_capture", row.amount, "approved")
    refund_booking.send(refund_code=back.code, actor=WORKER, now=now())
    assert taken(sandbox) == [0, 0]
    explained(sandbox)


def test_a_page_of_their_bank_is_not_waited_for_once_the_stay_has_ended(sandbox: RunningSandbox) -> None:
    """The guest was paying ahead while they cancelled: nothing more is to come for the host, and paid all the same it goes
    back."""
    booking = long_stay(nights=60)
    (row,) = due(booking)
    until(sandbox, row.due_at - timedelta(days=1))
    operations.claim_charge(
        charge_code=row.code, payment_method="pm_card_threeDSecure2Required", off_session=False, actor=guest(booking),
        now=now(),
    )  # fmt: skip
    cancel(booking, guest(booking))
    assert payments.parts_to_come(booking=booking).held.amount == row.held
    collect_charges.resolve_unanswered(now=now() + timedelta(minutes=2))
    row.refresh_from_db()
    assert (row.status, row.next_try_at) == ("cancelled", None)
    assert payments.parts_to_come(booking=booking).held.amount == 0
    planned = Payout.objects.filter(booking=booking).exclude(status="void")
    assert sum(each.held for each in planned) == booking.payment.held
    assert collect_charges.run(now=now()) == 0


@pytest.mark.parametrize(
    ("card", "effect"),
    [("pm_card_visa", "error_500_before_commit"), ("pm_card_chargeCustomerFail", "error_500_after_commit")],
    ids=["never carried out", "declined"],
)
def test_an_instalment_that_fails_after_its_stay_ended_is_owed_by_nobody(
    sandbox: RunningSandbox, card: str, effect: str
) -> None:
    booking = long_stay()
    use_another_card(booking, card)
    row = due(booking)[0]
    until(sandbox, row.due_at)
    sandbox.fault(effect, method="POST", path="/v1/payment_intents", times=1)
    collect_charges.collect_due(now=now())
    cancel(booking, guest(booking))
    (kept,) = payouts.payouts().filter(booking=booking, status="scheduled")
    assert payouts.share_of(payout=kept, now=now()).waits is not None  # the answer may bring money yet
    collect_charges.run(now=now() + timedelta(minutes=2))
    row.refresh_from_db()
    assert (row.status, row.pay_by, row.next_try_at, told("charge_failed")) == ("cancelled", None, None, 0)
    kept.refresh_from_db()
    share = payouts.share_of(payout=kept, now=now())
    assert share.waits is None and share.released.held.amount == kept.held > 0
    assert taken(sandbox)[-1] == booking.payment.amount
    explained(sandbox)


@pytest.mark.parametrize("under_way", [False, True])
def test_of_a_long_stay_that_nobody_came_to_the_host_keeps_what_was_paid_and_waits_for_nothing(
    sandbox: RunningSandbox, under_way: bool
) -> None:
    booking = long_stay()
    row, last = due(booking)
    sandbox.advance((booking.check_in_at - now()).total_seconds() + 86_400)
    keep_time.complete_stays(now=now())
    if under_way:
        until(sandbox, row.due_at)
        sandbox.fault("error_500_after_commit", method="POST", path="/v1/payment_intents", times=1)
        collect_charges.collect_due(now=now())
    junior = factories.acting(factories.staff("support_l1", now=now()), now=now())
    mark_no_show.mark(booking_code=booking.code, reason="The host waited.", actor=junior, now=now())
    until(sandbox, last.due_at)
    collect_charges.run(now=now())
    paid = booking.payment.held + (row.held if under_way else 0)
    assert [one.status for one in due(booking)] == ["captured" if under_way else "cancelled", "cancelled"]
    assert not Refund.objects.exists() and len(taken(sandbox)) == (2 if under_way else 1)
    planned = list(payouts.payouts_of_booking(booking_id=booking.pk))
    assert sum(one.held for one in planned) == paid
    assert {payouts.share_of(payout=one, now=now()).waits for one in planned} == {None}
    explained(sandbox)


def test_a_long_stay_far_ahead_saves_the_card_and_is_charged_by_the_month(sandbox: RunningSandbox) -> None:
    booking = long_stay(ahead=200, nights=45)
    assert booking.status == "confirmed" and taken(sandbox) == []
    until(sandbox, booking.payment.charge_at)
    assert charge_later.charge_due(now=now()) == 1
    until(sandbox, due(booking)[0].due_at)
    assert collect_charges.collect_due(now=now()) == 1
    assert sum(taken(sandbox)) == booking.charge_total
    explained(sandbox)


def test_no_instalment_is_paid_before_the_payment_of_its_booking(sandbox: RunningSandbox) -> None:
    """What cancelling gives back is counted from that payment: money beside it would be given back by nobody."""
    booking = long_stay(ahead=200, nights=45)
    row = due(booking)[0]
    with pytest.raises(Conflict, match="first payment of this stay comes first"):
        collect_charges.pay(charge_code=row.code, payment_method="pm_card_visa", actor=guest(booking), now=now())
    assert taken(sandbox) == [] and due(booking)[0].status == "scheduled"


def test_a_card_that_fails_before_the_day_begins_no_plan_to_end_the_stay(sandbox: RunningSandbox) -> None:
    booking = long_stay()
    row = due(booking)[0]
    with pytest.raises(PaymentDeclined):
        collect_charges.pay(
            charge_code=row.code, payment_method="pm_card_chargeDeclined", actor=guest(booking), now=now()
        )
    row.refresh_from_db()
    assert (row.status, row.pay_by, row.next_try_at, told("charge_failed")) == ("failed", None, row.due_at, 0)
    assert row.last_error
    sandbox.advance(9 * 86_400)
    assert collect_charges.run(now=now()) == 0 and fresh(booking).status == "confirmed"
    until(sandbox, row.due_at)
    assert collect_charges.run(now=now()) == 1
    row.refresh_from_db()
    assert row.status == "captured"


def test_a_page_of_the_bank_that_nobody_answers_does_not_keep_an_instalment_open_for_ever(
    sandbox: RunningSandbox,
) -> None:
    booking = long_stay()
    row = due(booking)[0]
    asked = collect_charges.pay(
        charge_code=row.code, payment_method="pm_card_threeDSecure2Required", actor=guest(booking), now=now()
    )
    assert (asked.status, asked.next_try_at) == ("requires_action", row.due_at)
    until(sandbox, row.due_at)
    assert collect_charges.run(now=now()) == 1
    row.refresh_from_db()
    assert row.status == "captured" and len(taken(sandbox)) == 2
    explained(sandbox)


def test_a_page_that_was_answered_unheard_is_heard_before_the_card_is_tried_again(sandbox: RunningSandbox) -> None:
    booking = long_stay()
    row = due(booking)[0]
    until(sandbox, row.due_at)
    asked = collect_charges.pay(
        charge_code=row.code, payment_method="pm_card_threeDSecure2Required", actor=guest(booking), now=now()
    )
    assert collect_charges.run(now=now() + timedelta(hours=5)) == 0  # the guest may still be at it
    sandbox.complete_challenge(asked.provider_id)
    sandbox.advance(6 * 3600 + 60)
    collect_charges.run(now=now())
    row.refresh_from_db()
    assert (row.status, row.tries, told("charge_failed")) == ("captured", 1, 0)


def unpaid_at_check_out(sandbox: RunningSandbox) -> tuple[Booking, ExtraCharge]:
    """The runs stood still until the day before check-out, and then the card failed: the last date is after the stay."""
    booking = long_stay(nights=31)
    use_another_card(booking, "pm_card_chargeCustomerFail")
    (row,) = due(booking)
    until(sandbox, booking.check_out_at - timedelta(days=1))
    collect_charges.run(now=now())
    until(sandbox, booking.check_out_at)
    row.refresh_from_db()
    assert row.status == "failed" and row.pay_by > booking.check_out_at and fresh(booking).status == "completed"
    return fresh(booking), row


def test_what_is_unpaid_when_the_stay_is_over_is_collected_until_its_last_date_and_then_given_up(
    sandbox: RunningSandbox,
) -> None:
    booking, row = unpaid_at_check_out(sandbox)
    planned = payouts.payouts_of_booking(booking_id=booking.pk)
    assert sum(one.held for one in planned) == booking.payment.held + row.held
    while row.status == "failed":
        until(sandbox, row.next_try_at or row.pay_by)
        assert collect_charges.run(now=now()) == 1
        row.refresh_from_db()
    assert (row.status, row.tries, row.next_try_at) == ("cancelled", 4, None) and now() > row.pay_by
    assert "Not paid by" in row.last_error and "not asked for any more" in row.last_error
    assert (told("charge_failed"), told("instalment_unpaid"), told("booking_unpaid")) == (4, 2, 0)
    assert fresh(booking).status == "completed" and payments.parts_to_come(booking=booking).held.amount == 0
    planned = payouts.payouts_of_booking(booking_id=booking.pk)
    assert sum(one.held for one in planned) == booking.payment.held
    assert {payouts.share_of(payout=one, now=now()).waits for one in planned} == {None}
    assert collect_charges.run(now=now()) == 0 and taken(sandbox) == [booking.payment.amount]
    with pytest.raises(Conflict, match="nothing to pay"):
        collect_charges.pay(charge_code=row.code, payment_method="pm_card_visa", actor=guest(booking), now=now())
    explained(sandbox)


@pytest.mark.parametrize("in_time", [True, False])
def test_who_pays_after_the_stay_pays_it_and_who_pays_what_was_given_up_has_it_back(
    sandbox: RunningSandbox, in_time: bool
) -> None:
    booking, row = unpaid_at_check_out(sandbox)
    asked = collect_charges.pay(
        charge_code=row.code, payment_method="pm_card_threeDSecure2Required", actor=guest(booking), now=now()
    )
    if not in_time:
        until(sandbox, row.pay_by)
        collect_charges.give_up_unpaid(now=now())
    sandbox.complete_challenge(asked.provider_id)
    events.poll(now=now())
    events.apply_due(now=now())
    row.refresh_from_db()
    assert row.status == "captured" and Refund.objects.filter(charge=row).count() == (0 if in_time else 1)
    if not in_time:
        back = Refund.objects.get(charge=row)
        assert back.reason == "paid after it had been given up"
        refund_booking.send(refund_code=back.code, actor=WORKER, now=now())
    assert taken(sandbox) == sorted([booking.payment.amount, row.amount if in_time else 0])
    explained(sandbox)


def test_charges_that_nobody_wants_do_not_stand_before_the_others(sandbox: RunningSandbox) -> None:
    dead, alive = long_stay(), long_stay()
    until(sandbox, due(alive)[0].due_at)
    Booking.objects.filter(pk=dead.pk).update(status="cancelled")
    codes = payments.charges_due(now=now(), limit=1)
    assert codes == [due(alive)[0].code]


def test_instalments_in_another_currency_add_up_and_leave_no_position(sandbox: RunningSandbox) -> None:
    booking = long_stay(nights=45, currency="JPY")
    row = due(booking)[0]
    assert row.currency == "JPY" and booking.payment.amount + row.amount == booking.charge_total
    until(sandbox, row.due_at)
    collect_charges.collect_due(now=now())
    explained(sandbox)
    row.refresh_from_db()
    for charge in (booking.payment.charge_id, row.charge_id):
        assert list(ledger.balances(code="3900", key=charge, open_only=True)) == []
