"""The power is cut before and after every commit and every call to the provider, in the other ways to pay: a request that
is accepted, declined or runs out, a card that is saved, charged while the guest is away, an instalment, damage."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from backoffice.bookings import queries as booking_queries
from backoffice.bookings.models import Booking
from backoffice.core.actor import system
from backoffice.core.errors import Conflict, IllegalTransition
from backoffice.core.money import Money
from backoffice.ledger import queries as ledger
from backoffice.notifications.models import OutboxMessage
from backoffice.payments import operations as payments
from backoffice.payments.models import ExtraCharge, Payment, Refund
from backoffice.people.models import User
from backoffice.reconciliation.provider import reconcile
from backoffice.workflows import apply_provider_event as events
from backoffice.workflows import charge_later, collect_charges, decide_request, import_balance_transactions, keep_time
from backoffice.workflows.pay_booking import pay
from tests import factories
from tests.faults import test_crash_points as crash
from tests.faults import two_of_three_are_long
from tests.stripe_sandbox.server import RunningSandbox
from tests.workflows.steps import ROOMS, now
from tests.workflows.test_instalments import use_another_card

pytestmark = pytest.mark.django_db(transaction=True, available_apps=ROOMS)
WORKER = system("worker")


@pytest.fixture(autouse=True)
def _calls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crash, "CALLS", ("pay", "try_again", "save_card", "capture", "cancel_payment", "refund"))


def recover(sandbox: RunningSandbox) -> None:
    """What beat does in the minutes after a restart; the clock stands where the story needs it."""
    sandbox.advance(90)
    keep_time.expire_holds(now=now())
    events.poll(now=now())
    events.apply_due(now=now())
    keep_time.resolve_indeterminate(now=now())
    decide_request.sweep(now=now())
    collect_charges.resolve_unanswered(now=now())
    import_balance_transactions.run(now=now())


def end_of(booking: Booking, sandbox: RunningSandbox) -> dict[str, Any]:
    """All that must not depend on when the power was cut."""
    booking = booking_queries.booking(code=booking.code)
    payment = Payment.objects.filter(booking=booking).first()
    extra = list(ExtraCharge.objects.filter(booking=booking).order_by("kind", "number"))
    ours = {payment.code if payment else "", *(row.code for row in extra)}
    there = [
        row
        for row in sandbox.client().v1.payment_intents.list({"limit": 100}).data
        if row.to_dict()["metadata"].get("payment") in ours
    ]
    people = [booking.guest_id, booking.host_id]
    told = OutboxMessage.objects.filter(channel="email", recipient_id__in=people).values_list("topic", flat=True)
    sums = ledger.subject_sums(codes=list(ledger.chart()), subjects=[booking.code])
    return {
        "booking": (booking.status, booking.hold.active, booking.hold.expires_at is None),
        "payment": payment and (payment.status, bool(payment.saved_method), payment.next_try_at is None),
        "extra": [(row.kind, row.number, row.status, row.tries) for row in extra],
        "refunds": Refund.objects.filter(payment=payment).count(),
        "there": sorted((row.status, row.amount_received) for row in there),
        "ledger": {(row.code, row.currency): row.amount for row in sums if row.amount},
        "told": Counter(topic for topic in told if topic != "welcome"),
    }


# The stories: each is begun on a fresh booking, and can be begun again ------------------------------------------------


def _asked(*, ahead: int) -> Booking:
    at = now()
    home = factories.listing(now=at, instant_book=False)
    return factories.booking(home, check_in=(at + timedelta(days=ahead)).date(), now=at)


def _unpaid_request(sandbox: RunningSandbox) -> Booking:
    return _asked(ahead=10)


def _request(sandbox: RunningSandbox) -> Booking:
    booking = _unpaid_request(sandbox)
    _pay(booking)
    return booking


def _unpaid_far(sandbox: RunningSandbox) -> Booking:
    return factories.booking(check_in=(now() + timedelta(days=200)).date(), now=now())


def _far_on_its_day(sandbox: RunningSandbox) -> Booking:
    booking = _unpaid_far(sandbox)
    _pay(booking)
    sandbox.advance((Payment.objects.get(booking=booking).charge_at - now()).total_seconds() + 60)  # type: ignore[operator]
    return booking


def _far_and_refused(sandbox: RunningSandbox) -> Booking:
    """A card that could be saved and is declined on its day."""
    booking = _unpaid_far(sandbox)
    _pay(booking, "pm_card_chargeCustomerFail")
    sandbox.advance((Payment.objects.get(booking=booking).charge_at - now()).total_seconds() + 60)  # type: ignore[operator]
    return booking


def _saved_and_refused(sandbox: RunningSandbox) -> Booking:
    """And on every day until the last."""
    booking = _far_and_refused(sandbox)
    charge_later.charge_due(now=now())
    sandbox.advance((Payment.objects.get(booking=booking).pay_by - now()).total_seconds() + 60)  # type: ignore[operator]
    return booking


def _long_on_its_day(sandbox: RunningSandbox) -> Booking:
    at = now()
    home = factories.listing(now=at, maximum_nights=365)
    booking = factories.booking(home, check_in=(at + timedelta(days=2)).date(), nights=45, now=at)
    _pay(booking)
    sandbox.advance((ExtraCharge.objects.get(booking=booking).due_at - now()).total_seconds() + 60)
    keep_time.complete_stays(now=now())
    events.poll(now=now())
    events.apply_due(now=now())
    import_balance_transactions.run(now=now())
    return booking


def _long_and_refused(sandbox: RunningSandbox) -> Booking:
    """The card of a long stay is refused on the day of its second month, and it is the last day now."""
    booking = _long_on_its_day(sandbox)
    use_another_card(booking, "pm_card_chargeCustomerFail")
    collect_charges.collect_due(now=now())
    sandbox.advance((ExtraCharge.objects.get(booking=booking).pay_by - now()).total_seconds() + 60)
    return booking


def _damaged(sandbox: RunningSandbox) -> Booking:
    at = now()
    booking = factories.booking(check_in=(at + timedelta(days=1)).date(), now=at)
    _pay(booking)
    sandbox.advance((booking.check_in_at - now()).total_seconds() + 60)
    keep_time.complete_stays(now=now())
    charge = payments.request_damage(
        booking_code=booking.code,
        amount=Money(9_000, "EUR"),
        reason="The window is broken.",
        actor=_staff("support_l2"),
        now=now(),
    )
    payments.approve_damage(charge_code=charge.code, version=charge.version, actor=_staff("finance"), now=now())
    sandbox.advance(24 * 3600 + 60)
    return booking


def _staff(role: str) -> Any:
    """The same colleague however often they try."""
    return factories.acting(User.objects.filter(roles__role=role).first() or factories.staff(role, now=now()))


def _pay(booking: Booking, card: str = "pm_card_visa") -> None:
    if booking_queries.booking(code=booking.code).status == "awaiting_payment":
        pay(booking_code=booking.code, payment_method=card, actor=factories.acting(booking.guest), now=now())


def _accept(booking: Booking) -> None:
    decide_request.accept(booking_code=booking.code, actor=factories.acting(booking.host), now=now())


def _decline(booking: Booking) -> None:
    with contextlib.suppress(IllegalTransition):
        decide_request.decline(
            booking_code=booking.code, reason="My sister comes.", actor=factories.acting(booking.host), now=now()
        )
    decide_request.release(payment_code=Payment.objects.get(booking=booking).code, actor=WORKER, now=now())


def _run_out(booking: Booking) -> None:
    decide_request.expire_unanswered(now=now() + timedelta(hours=25))
    decide_request.release(payment_code=Payment.objects.get(booking=booking).code, actor=WORKER, now=now())


def _charge_card(booking: Booking) -> None:
    charge_later.charge_due(now=now())


def _give_up_card(booking: Booking) -> None:
    charge_later.give_up_unpaid(now=now())


def _hold_runs_out(booking: Booking) -> None:
    keep_time.expire_holds(now=now() + timedelta(hours=1))


def _collect(booking: Booking) -> None:
    collect_charges.collect_due(now=now())


def _refused_again(booking: Booking) -> None:
    """The last try is refused, and the stay ends."""
    collect_charges.run(now=now())


def _pay_instalment(booking: Booking) -> None:
    with contextlib.suppress(Conflict):  # it was paid before the power went
        collect_charges.pay(
            charge_code=ExtraCharge.objects.get(booking=booking).code,
            payment_method="pm_card_mastercard",
            actor=factories.acting(booking.guest),
            now=now(),
        )


STORIES: dict[str, tuple[Callable[[RunningSandbox], Booking], Callable[[Booking], None]]] = {
    "money is reserved for a request": (_unpaid_request, _pay),
    "the host says yes": (_request, _accept),
    "the host says no": (_request, _decline),
    "nobody answers": (_request, _run_out),
    "a card is saved": (_unpaid_far, _pay),
    "the saved card is charged": (_far_on_its_day, _charge_card),
    "a saved card is given up": (_saved_and_refused, _give_up_card),
    "the saved card is refused": (_far_and_refused, _charge_card),
    "an instalment is charged": (_long_on_its_day, _collect),
    "damage is charged": (_damaged, _collect),
    "an instalment is refused to the last": (_long_and_refused, _refused_again),
    "the guest pays an instalment": (_long_on_its_day, _pay_instalment),
    "nobody pays in time": (_unpaid_far, _hold_runs_out),
}


WITHOUT_A_CALL = {"a saved card is given up", "nobody pays in time"}


@pytest.mark.parametrize("story", two_of_three_are_long(STORIES))
def test_wherever_the_power_is_cut_it_ends_as_if_nothing_had_happened(sandbox: RunningSandbox, story: str) -> None:
    begin, act = STORIES[story]
    moments = crash.cut_everywhere(
        begin=lambda: begin(sandbox),
        act=act,
        recover=lambda: recover(sandbox),
        end=lambda booking: end_of(booking, sandbox),
    )
    asks = any(moment.startswith("before ") and "commit" not in moment for moment in moments)
    assert asks != (story in WITHOUT_A_CALL) and len(moments) >= (4 if asks else 2), moments
    outcome = reconcile(scope="stripe", since=None, until=None, actor=WORKER, now=now())
    assert outcome.findings == []
    assert [finding for finding in ledger.check(now=now()) if not finding.ok] == []
