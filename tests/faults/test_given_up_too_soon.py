"""A call that died before it was sent is repeated much later, and the answer to the repeat is lost as well: the provider has
carried it out this time. Whoever gives it up without looking once more lets the guest pay twice (found by `ops chaos`)."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
import stripe

from backoffice.bookings import queries as bookings
from backoffice.core.actor import system
from backoffice.core.errors import Conflict, Indeterminate, StaydeskError
from backoffice.payments import operations as payments
from backoffice.payments.gateway import stripe as provider
from backoffice.payments.models import ExtraCharge, Payment, PaymentAttempt
from backoffice.reconciliation.provider import reconcile
from backoffice.workflows import apply_provider_event as events
from backoffice.workflows import collect_charges, import_balance_transactions, keep_time, refund_booking
from backoffice.workflows.pay_booking import GIVE_UP_AFTER, pay
from tests import factories
from tests.provider import DeskClient
from tests.stripe_sandbox.server import RunningSandbox
from tests.workflows.steps import ROOMS, asked_back, claimed_try, now, paid, unpaid
from tests.workflows.test_instalments import due, long_stay, taken, until

pytestmark = pytest.mark.django_db(transaction=True, available_apps=ROOMS)
CARRIED_OUT = ("error_500_after_commit", "reset_after_commit", "timeout_after_commit")
NOT_CARRIED_OUT = ("error_500_before_commit", "timeout_before_commit", "error_429", "lock_timeout")


@pytest.mark.parametrize("mishap", [*CARRIED_OUT, *NOT_CARRIED_OUT])
def test_a_late_repeat_whose_answer_is_lost_too_never_makes_the_guest_pay_twice(
    sandbox: RunningSandbox, mishap: str
) -> None:
    booking = unpaid(check_in=(now() + timedelta(days=10)).date())
    claimed_try(booking)  # and the process died
    sandbox.advance(GIVE_UP_AFTER.total_seconds() + 60)
    sandbox.fault(mishap, method="POST", path="/v1/payment_intents", times=1, seconds=0)
    keep_time.resolve_indeterminate(now=now())
    with suppress(StaydeskError):  # the guest does not wait for it
        pay(
            booking_code=booking.code,
            payment_method="pm_card_mastercard",
            actor=factories.acting(booking.guest, now=now()),
            now=now(),
        )
    sandbox.clear_faults()
    for seconds in (90, 86_400, 3_600):
        sandbox.advance(seconds)
        keep_time.resolve_indeterminate(now=now())
        events.poll(now=now())
        events.apply_due(now=now())
        import_balance_transactions.run(now=now())
    paid = [row for row in sandbox.client().v1.charges.list({"limit": 100}).data if row.paid]
    assert len(paid) == 1
    assert Payment.objects.get(booking=booking).charge_id == paid[0].id
    assert bookings.booking(code=booking.code).status == "confirmed"
    assert reconcile(scope="stripe", since=None, until=None, actor=system("tests"), now=now()).findings == []


@pytest.mark.parametrize("lost", ["reset_after_commit", "error_500_after_commit"])
def test_a_provider_without_time_for_the_repeat_says_nothing_of_what_was_sent_before(
    sandbox: RunningSandbox, lost: str
) -> None:
    """The SDK repeats what was not answered; the repeat is turned away. The first had been carried out."""
    booking = unpaid(check_in=(now() + timedelta(days=10)).date())
    guest = factories.acting(booking.guest, now=now())
    for effect in (lost, "error_429"):
        sandbox.fault(effect, method="POST", path="/v1/payment_intents", times=1)
    with pytest.raises(Indeterminate):
        pay(booking_code=booking.code, payment_method="pm_card_visa", actor=guest, now=now())
    with pytest.raises(Conflict):  # the first try is under way, for all that is known
        pay(booking_code=booking.code, payment_method="pm_card_mastercard", actor=guest, now=now())
    sandbox.advance(90)
    keep_time.resolve_indeterminate(now=now())
    assert bookings.booking(code=booking.code).status == "confirmed"
    assert len(sandbox.client().v1.charges.list().data) == 1


def test_a_try_that_was_sent_is_not_over_when_there_is_no_time_for_the_next(sandbox: RunningSandbox) -> None:
    booking = unpaid(check_in=(now() + timedelta(days=10)).date())
    attempt = claimed_try(booking)  # it was sent; nobody knows what became of it
    sandbox.advance(90)
    sandbox.fault("error_429", method="POST", path="/v1/payment_intents", times=1)
    keep_time.resolve_indeterminate(now=now())
    assert PaymentAttempt.objects.get(id=attempt.id).status == "indeterminate"
    sandbox.advance(90)
    keep_time.resolve_indeterminate(now=now())
    assert bookings.booking(code=booking.code).status == "confirmed"


# Charges beside the payment --------------------------------------------------------------------------------------------


def day_of_an_instalment(sandbox: RunningSandbox) -> ExtraCharge:
    """A long stay whose second month is to be charged now."""
    (charge,) = due(long_stay(nights=60))
    until(sandbox, charge.due_at)
    return charge


def captured_once(sandbox: RunningSandbox, charge: ExtraCharge) -> None:
    """Asked for again, as the runs do for a day: the guest has paid each month once, and all of it is explained."""
    for seconds in (90, 86_400):
        sandbox.advance(seconds)
        collect_charges.run(now=now())
        events.poll(now=now())
        events.apply_due(now=now())
        import_balance_transactions.run(now=now())
    charge.refresh_from_db()
    assert charge.status == "captured"
    assert taken(sandbox) == sorted([charge.amount, charge.booking.payment.amount])
    assert reconcile(scope="stripe", since=None, until=None, actor=system("tests"), now=now()).findings == []


def test_nor_does_it_of_an_instalment(sandbox: RunningSandbox) -> None:
    charge = day_of_an_instalment(sandbox)
    guest = factories.acting(charge.booking.guest, now=now())
    for effect in ("reset_after_commit", "error_429"):
        sandbox.fault(effect, method="POST", path="/v1/payment_intents", times=1)
    with pytest.raises(Indeterminate):
        collect_charges.charge(charge_code=charge.code, actor=collect_charges.ACTOR, now=now())
    charge.refresh_from_db()
    assert (charge.status, charge.tries) == ("indeterminate", 1)
    with pytest.raises(Conflict, match="being paid at this moment"):
        collect_charges.pay(charge_code=charge.code, payment_method="pm_card_mastercard", actor=guest, now=now())
    captured_once(sandbox, charge)


def test_an_instalment_that_was_sent_is_not_over_when_there_is_no_time_for_the_next(sandbox: RunningSandbox) -> None:
    charge = day_of_an_instalment(sandbox)
    # It was sent; nobody knows what became of it.
    payments.claim_charge(charge_code=charge.code, actor=collect_charges.ACTOR, now=now())
    sandbox.advance(90)
    sandbox.fault("error_429", method="POST", path="/v1/payment_intents", times=1)
    collect_charges.resolve_unanswered(now=now())
    charge.refresh_from_db()
    assert (charge.status, charge.tries) == ("indeterminate", 1)
    captured_once(sandbox, charge)
    assert charge.tries == 1, "it was the same try, under the same key"


# A repeat whose key may have been forgotten ---------------------------------------------------------------------------


def test_what_was_sent_a_day_ago_is_looked_for_and_not_sent_again(
    sandbox: RunningSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The machine sleeps between two sendings of the SDK, until the provider has forgotten the key: the guest would have been
    refunded twice."""
    booking = paid()
    asked = asked_back(booking, 1_000)
    send = DeskClient.request

    def sleeps(client: DeskClient, *arguments: Any, **options: Any) -> Any:
        try:
            return send(client, *arguments, **options)
        except stripe.APIConnectionError:
            sandbox.advance(26 * 3_600)
            raise

    monkeypatch.setattr(DeskClient, "request", sleeps)
    provider.gateway.cache_clear()
    sandbox.fault("reset_after_commit", method="POST", path="/v1/refunds", times=1)
    with pytest.raises(Indeterminate):
        refund_booking.send(refund_code=asked.code, actor=system("worker"), now=now())
    sandbox.advance(90)
    keep_time.resolve_indeterminate(now=now())
    asked.refresh_from_db()
    assert asked.status == "succeeded"
    assert [row.id for row in sandbox.client().v1.refunds.list().data] == [asked.provider_id]
