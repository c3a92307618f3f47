"""The power is cut before and after every commit and every call to the provider, one after the other. What is left is
picked up by the sweeps, or the person tries again; either way it ends as if nothing had happened."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar

import pytest
from django.db import connection
from django.db.backends.postgresql.base import DatabaseWrapper

from backoffice.bookings import queries as booking_queries
from backoffice.bookings.models import Booking
from backoffice.core.actor import system
from backoffice.core.errors import NightsTaken, PaymentDeclined
from backoffice.core.money import Money
from backoffice.ledger import queries as ledger
from backoffice.notifications.models import OutboxMessage
from backoffice.payments import operations as payments
from backoffice.payments.gateway.stripe import StripeGateway, gateway
from backoffice.payments.models import Payment, Refund
from backoffice.people.models import User
from backoffice.reconciliation.provider import reconcile
from backoffice.workflows import apply_provider_event as events
from backoffice.workflows import cancel_booking, import_balance_transactions, keep_time, refund_booking
from backoffice.workflows.pay_booking import pay
from tests import factories
from tests.faults import two_of_three_are_long
from tests.stripe_sandbox.server import RunningSandbox
from tests.workflows.steps import ROOMS, now, paid, paid_unnoticed, unpaid

pytestmark = pytest.mark.django_db(transaction=True, available_apps=ROOMS)
WORKER = system("worker")
CALLS = ("pay", "try_again", "refund")
WRITES = ("INSERT", "UPDATE", "DELETE")
T = TypeVar("T")


class PowerCut(BaseException):
    """The process is gone: no `except Exception` of ours sees it."""


@dataclass
class Power:
    """Counts the moments at which a process can die, and cuts the power at one of them."""

    cut_at: int = -1
    moments: list[str] = field(default_factory=list)
    off: bool = False

    def moment(self, name: str, *, lost: Callable[[], Any] = lambda: None) -> None:
        self.moments.append(name)
        if len(self.moments) - 1 == self.cut_at:
            self.off = True
            lost()
            connection.run_on_commit = []  # hints to the workers die with the process
            raise PowerCut(name)


@contextmanager
def powered(power: Power) -> Iterator[None]:
    """Every commit of this connection, every write that is its own commit, and every call that changes something at the
    provider is a pair of moments. Once the power is off nothing more is written: what still runs is our clearing up, which a
    process that was killed never comes to."""
    commit, rollback = DatabaseWrapper._commit, DatabaseWrapper._rollback

    def committing(self: DatabaseWrapper) -> None:
        power.moment("before a commit", lost=lambda: rollback(self))
        commit(self)
        power.moment("after a commit")

    def writing(execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any) -> Any:
        if power.off:
            raise PowerCut(sql)
        if connection.in_atomic_block or not sql.lstrip().startswith(WRITES):
            return execute(sql, params, many, context)
        power.moment("before a write")
        done = execute(sql, params, many, context)
        power.moment("after a write")
        return done

    def calling(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def called(self: StripeGateway, **facts: Any) -> Any:
            power.moment(f"before {name}")
            seen = call(self, **facts)
            power.moment(f"after {name}")
            return seen

        return called

    with pytest.MonkeyPatch.context() as patch, connection.execute_wrapper(writing):
        patch.setattr(DatabaseWrapper, "_commit", committing)
        for name in CALLS:
            patch.setattr(StripeGateway, name, calling(name, getattr(StripeGateway, name)))
        yield


def cut_everywhere(
    *,
    begin: Callable[[], T],
    act: Callable[[T], object],
    recover: Callable[[], None],
    end: Callable[[T], dict[str, Any]],
    again: Callable[[T], object] | None = None,
) -> list[str]:
    """Let a story run through, then once more for each moment of it with the power cut there; after the jobs, the person who
    tries again (`again`, else the same act) and the jobs once more it must end alike. The moments."""
    uncut = Power()
    subject = begin()
    with powered(uncut):
        act(subject)
    recover()
    wanted = end(subject)
    for number, moment in enumerate(uncut.moments):
        subject = begin()
        with powered(Power(cut_at=number)), pytest.raises(PowerCut):
            act(subject)
        recover()
        (again or act)(subject)
        recover()
        assert end(subject) == wanted, f"cut {moment} (moment {number + 1} of {len(uncut.moments)})"
    return uncut.moments


def recover(sandbox: RunningSandbox) -> None:
    """What beat does in the minutes after a restart."""
    sandbox.advance(90)
    keep_time.expire_holds(now=now())
    events.poll(now=now())
    events.apply_due(now=now())
    keep_time.resolve_indeterminate(now=now())
    import_balance_transactions.run(now=now())


def end_of(booking: Booking, sandbox: RunningSandbox) -> dict[str, Any]:
    """All that must not depend on when the power was cut: statuses, money on both sides, and what people were told."""
    booking = booking_queries.booking(code=booking.code)
    payment = Payment.objects.filter(booking=booking).first()
    charges = [row for row in sandbox.client().v1.charges.list({"limit": 100}).data if _about(row, payment)]
    people = [booking.guest_id, booking.host_id]
    told = OutboxMessage.objects.filter(channel="email", recipient_id__in=people).values_list("topic", flat=True)
    sums = ledger.subject_sums(codes=list(ledger.chart()), subjects=[booking.code])
    return {
        "booking": (booking.status, booking.cancelled_by, booking.hold.active, booking.hold.expires_at is None),
        "payment": payment and payment.status,
        "refunds": sorted((row.status, row.amount, row.cause) for row in Refund.objects.filter(payment=payment)),
        "charged": [row.amount for row in charges if row.paid],
        "refunded": sum(row.amount_refunded for row in charges),
        "ledger": {(row.code, row.currency): row.amount for row in sums if row.amount},
        "told": Counter(topic for topic in told if topic != "welcome"),
    }


def _about(charge: Any, payment: Payment | None) -> bool:
    return payment is not None and charge.to_dict()["metadata"].get("payment") == payment.code


# The stories: each is begun on a fresh booking, and can be begun again by the person who saw it fail -----------------


def _fresh(sandbox: RunningSandbox) -> Booking:
    return unpaid(check_in=(now() + timedelta(days=10)).date())


def _fresh_paid(sandbox: RunningSandbox) -> Booking:
    booking = paid(check_in=(now() + timedelta(days=3)).date())
    events.poll(now=now())
    events.apply_due(now=now())
    return booking


def _pay(booking: Booking) -> None:
    if booking_queries.booking(code=booking.code).status == "awaiting_payment":
        pay(booking_code=booking.code, payment_method="pm_card_visa", actor=factories.acting(booking.guest), now=now())


def _declined_before(sandbox: RunningSandbox) -> Booking:
    booking = _fresh(sandbox)
    with pytest.raises(PaymentDeclined):
        pay(
            booking_code=booking.code,
            payment_method="pm_card_visa_chargeDeclined",
            actor=factories.acting(booking.guest),
            now=now(),
        )
    return booking


def _finance() -> User:
    """The same colleague however often they try."""
    return User.objects.filter(roles__role="finance").first() or factories.staff("finance", now=now())


def _refund(booking: Booking) -> None:
    finance = factories.acting(_finance())
    payment = Payment.objects.get(booking=booking)
    refund = refund_booking.request(
        booking_code=booking.code,
        amount=Money(5_000, "EUR"),
        cause="service_issue",
        bearer="host",
        reason="No hot water",
        idempotency_key=f"dialog-{booking.code}",
        version=payment.version,
        actor=finance,
        now=now(),
    )
    refund_booking.send(refund_code=refund.code, actor=WORKER, now=now())


def _cancel(booking: Booking, by: str) -> None:
    if booking_queries.booking(code=booking.code).status == "confirmed":
        actor = factories.acting(getattr(booking, by))
        shown = cancel_booking.preview(booking_code=booking.code, actor=actor, now=now())
        cancel_booking.confirm(
            booking_code=booking.code, token=shown.token, reason="Plans changed", actor=actor, now=now()
        )
    for refund in Refund.objects.filter(payment__booking=booking, status="approved"):
        refund_booking.send(refund_code=refund.code, actor=WORKER, now=now())


def _cancel_as_guest(booking: Booking) -> None:
    _cancel(booking, "guest")


def _cancel_as_host(booking: Booking) -> None:
    _cancel(booking, "host")


def _known_to_the_provider_alone(sandbox: RunningSandbox) -> Booking:
    booking = _fresh(sandbox)
    paid_unnoticed(booking)
    return booking


def _confirmed_at_the_bank(sandbox: RunningSandbox) -> Booking:
    """The guest's bank asked, and was answered; the guest never came back to say so."""
    booking = _fresh(sandbox)
    paid_unnoticed(booking, payment_method="pm_card_threeDSecure2Required")
    keep_time.resolve_indeterminate(now=now() + timedelta(seconds=90))
    payment = Payment.objects.get(booking=booking)
    assert payment.status == "requires_action"
    sandbox.complete_challenge(payment.provider_id or "")
    return booking


def _too_late(sandbox: RunningSandbox) -> Booking:
    """Paid, unnoticed; the hold ran out and somebody else has the nights."""
    booking = _known_to_the_provider_alone(sandbox)
    later = now() + timedelta(minutes=40)
    keep_time.expire_holds(now=later)
    factories.booking(booking.listing, factories.person("Charlie"), check_in=booking.check_in, now=later)
    return booking


def _hear_of_it(booking: Booking) -> None:
    """The provider's webhook, once more when nobody answered it."""
    payment = Payment.objects.get(booking=booking)
    news = next(
        event
        for event in gateway().events(since=now() - timedelta(hours=1))
        if event.type == "payment_intent.succeeded" and payment.code.encode() in event.payload
    )
    payments.receive_event(event=news, origin="webhook", now=now())
    events.apply_due(now=now())
    for refund in Refund.objects.filter(payment__booking=booking, status="approved"):
        refund_booking.send(refund_code=refund.code, actor=WORKER, now=now())


STORIES: dict[str, tuple[Callable[[RunningSandbox], Booking], Callable[[Booking], None]]] = {
    "a guest pays": (_fresh, _pay),
    "a guest pays with the second card": (_declined_before, _pay),
    "staff refunds": (_fresh_paid, _refund),
    "the guest cancels": (_fresh_paid, _cancel_as_guest),
    "the host cancels": (_fresh_paid, _cancel_as_host),
    "a webhook brings the capture": (_known_to_the_provider_alone, _hear_of_it),
    "a capture comes too late": (_too_late, _hear_of_it),
    "a webhook brings the bank's yes": (_confirmed_at_the_bank, _hear_of_it),
}


@pytest.mark.parametrize("story", two_of_three_are_long(STORIES))
def test_wherever_the_power_is_cut_it_ends_as_if_nothing_had_happened(sandbox: RunningSandbox, story: str) -> None:
    _finance()  # somebody to refund
    begin, act = STORIES[story]
    moments = cut_everywhere(
        begin=lambda: begin(sandbox),
        act=act,
        recover=lambda: recover(sandbox),
        end=lambda booking: end_of(booking, sandbox),
    )
    assert len(moments) >= 4, moments
    outcome = reconcile(scope="stripe", since=None, until=None, actor=WORKER, now=now())
    assert outcome.findings == []
    assert [finding for finding in ledger.check(now=now()) if not finding.ok] == []


def test_the_nights_of_a_booking_that_was_cut_off_are_free_or_held_never_both(sandbox: RunningSandbox) -> None:
    home, uncut = factories.listing(now=now()), Power()
    with powered(uncut):
        factories.booking(home, check_in=(now() + timedelta(days=200)).date(), now=now())
    for number in range(len(uncut.moments)):
        check_in = (now() + timedelta(days=10 + 5 * number)).date()
        with powered(Power(cut_at=number)), pytest.raises(PowerCut):
            factories.booking(home, check_in=check_in, now=now())
        booked = Booking.objects.filter(listing=home, check_in=check_in).count()
        try:
            factories.booking(home, check_in=check_in, now=now())
            again = 1
        except NightsTaken:
            again = 0
        assert booked + again == 1
