"""Staff give money back of a stay that was paid in instalments: through each charge its own, asked for and decided once."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from backoffice.bookings.models import Booking
from backoffice.core.errors import OverLimit, RefundTooLarge, StaleVersion
from backoffice.core.money import Money
from backoffice.payments import queries as payments
from backoffice.payments.models import Refund
from backoffice.workflows import collect_charges, refund_booking
from tests import factories
from tests.racing import race
from tests.stripe_sandbox.server import RunningSandbox
from tests.workflows.steps import ROOMS, now
from tests.workflows.test_instalments import WORKER, due, explained, fresh, long_stay, taken, until

pytestmark = pytest.mark.django_db(transaction=True, available_apps=ROOMS)


@pytest.fixture
def booking(sandbox: RunningSandbox) -> Booking:
    """35 nights: 30 were paid with the booking, five a week before they begin."""
    made = long_stay(nights=35)
    until(sandbox, due(made)[0].due_at)
    assert collect_charges.collect_due(now=now()) == 1
    sandbox.advance(60)
    return fresh(made)


def staff(role: str) -> Any:
    return factories.acting(factories.staff(role, now=now()), now=now())


def ask(booking: Booking, by: Any, amount: Money | None, key: str = "k", **more: Any) -> Refund:
    how = {"booking_code": booking.code, "cause": "service_issue", "bearer": "host", "actor": by, "now": now(), **more}
    shown = refund_booking.preview(amount=amount, **how)
    return refund_booking.request(
        amount=shown.amount, reason="Noise", idempotency_key=key, version=shown.payment_version, **how
    )


def send_all() -> None:
    for refund in Refund.objects.filter(status="approved").order_by("id"):
        refund_booking.send(refund_code=refund.code, actor=WORKER, now=now())


def test_one_request_over_two_charges_is_one_decision(sandbox: RunningSandbox, booking: Booking) -> None:
    (later,), senior, lead, finance = due(booking), staff("support_l2"), staff("team_lead"), staff("finance")
    amount = Money(later.amount + 180_000, "EUR")
    assert later.amount < 200_000 < amount.amount, "each is within a lead's limit, both are not"
    first = ask(booking, senior, amount)
    (second,) = first.rest.all()
    assert (first.charge_id, first.amount) == (later.id, later.amount)
    assert (second.charge_id, second.amount) == (None, 180_000)
    assert first.status == second.status == "requested"
    for each in (first, second):
        with pytest.raises(OverLimit):
            refund_booking.approve(refund_code=each.code, version=each.version, actor=lead, now=now())
    refund_booking.approve(refund_code=second.code, version=second.version, actor=finance, now=now())
    assert set(Refund.objects.values_list("status", "approved_by")) == {("approved", finance.id)}
    send_all()
    assert taken(sandbox) == [0, booking.payment.amount - 180_000]
    money = payments.money_of(booking=booking)
    assert (money.refunded, money.refundable) == (amount, money.charged - amount)
    explained(sandbox)
    with pytest.raises(RefundTooLarge):
        ask(booking, senior, money.refundable + Money(1, "EUR"), "more")


def test_all_that_is_shown_can_be_asked_for_and_once_only(sandbox: RunningSandbox, booking: Booking) -> None:
    shown = payments.money_of(booking=booking).refundable
    assert shown.amount == booking.charge_total
    version = payments.payment_of(booking=booking).version
    one = partial(
        refund_booking.request, booking_code=booking.code, amount=shown, cause="service_issue", bearer="host",
        reason="Fire", version=version, now=now(),
    )  # fmt: skip
    outcomes = race([partial(one, idempotency_key=f"k{n}", actor=staff("finance")) for n in range(2)])
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["Refund", "StaleVersion"], outcomes
    assert not payments.money_of(booking=booking).refundable
    first = Refund.objects.get(part_of=None)
    again = one(idempotency_key=first.idempotency_key, actor=factories.acting(first.requested_by, now=now()))
    assert again.pk == first.pk and Refund.objects.count() == 2
    refund_booking.reject(refund_code=first.code, version=first.version, reason="No", actor=staff("finance"), now=now())
    assert set(Refund.objects.values_list("status", flat=True)) == {"rejected"}
    assert payments.money_of(booking=booking).refundable == shown


def test_lines_of_the_whole_stay_are_given_back_by_the_charges_that_took_them(
    sandbox: RunningSandbox, booking: Booking
) -> None:
    payment = payments.payment_of(booking=booking)
    before = payments.line_limits(payment=payment)
    assert before["nights"].amount > booking.payment.held + booking.payment.host_fee, "more than the first charge took"
    lines = {name: before[name] for name in ("nights", "cleaning", "guest_fee")}
    refund = ask(booking, staff("finance"), None, lines=lines)
    rows = payments.asked_together(refund=refund)
    assert len(rows) == 2
    for name, amount in lines.items():
        assert sum(row.lines.get(name, 0) for row in rows) == amount.amount
    left = payments.line_limits(payment=payment)
    assert not left["nights"] and not left["cleaning"] and not left["guest_fee"]


def test_what_we_bear_of_two_charges_is_the_whole_of_it(sandbox: RunningSandbox, booking: Booking) -> None:
    refund = ask(booking, staff("finance"), None, bearer="platform")
    rows = payments.asked_together(refund=refund)
    assert [row.platform_share for row in rows] == [row.amount for row in rows] and len(rows) == 2
    with pytest.raises(StaleVersion):
        refund_booking.approve(refund_code=refund.code, version=99, actor=staff("finance"), now=now())
