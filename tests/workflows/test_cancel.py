"""Cancelling a stay through its two steps: what is shown is what happens, to the cent, or it does not happen."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from backoffice.audit.models import AuditEntry
from backoffice.bookings import queries as booking_queries
from backoffice.bookings.models import Booking
from backoffice.core.actor import system
from backoffice.core.errors import IllegalTransition, Invalid, NotAllowed, NotFound, OverLimit, Refused, StaleVersion
from backoffice.ledger import queries as ledger
from backoffice.ledger.models import Journal
from backoffice.listings.models import CalendarHold
from backoffice.notifications.models import OutboxMessage
from backoffice.payments import queries as payment_queries
from backoffice.payments.models import Payment, Refund
from backoffice.people.models import User
from backoffice.reconciliation.provider import reconcile
from backoffice.workflows import cancel_booking, keep_time, refund_booking
from tests import factories
from tests.racing import race
from tests.stripe_sandbox.server import RunningSandbox
from tests.workflows.steps import ROOMS, now, paid, unpaid

pytestmark = pytest.mark.django_db(transaction=True, available_apps=ROOMS)


def in_days(days: int) -> dict[str, Any]:
    return {"check_in": (now() + timedelta(days=days)).date()}


def preview(booking: Booking, by: User, **how: Any) -> cancel_booking.CancellationPreview:
    return cancel_booking.preview(booking_code=booking.code, actor=factories.acting(by), now=now(), **how)


def confirm(booking: Booking, by: User, token: str, *, reason: str = "Plans changed") -> Booking:
    return cancel_booking.confirm(
        booking_code=booking.code, token=token, reason=reason, actor=factories.acting(by), now=now()
    )


def cancel(booking: Booking, by: User, **how: Any) -> Booking:
    return confirm(booking, by, preview(booking, by, **how).token)


@pytest.mark.parametrize("tier", ["flexible", "moderate", "limited", "firm", "strict", "non-refundable"])
@pytest.mark.parametrize("side", ["guest", "host"])
@pytest.mark.parametrize("currency", ["EUR", "USD"])
def test_what_was_shown_is_what_happens_in_every_tier(
    sandbox: RunningSandbox, tier: str, side: str, currency: str
) -> None:
    booking = paid(home=factories.listing(cancellation_tier=tier, now=now()), currency=currency, **in_days(3))
    person = getattr(booking, side)
    shown = preview(booking, person)
    cancelled = confirm(booking, person, shown.token)
    assert (cancelled.status, cancelled.cancelled_by) == ("cancelled", side)
    assert cancelled.cancellation["trace"] and cancelled.cancellation_version == booking.cancellation_version
    refund = Refund.objects.filter(payment__booking=booking).first()
    assert (refund.amount if refund else 0) == shown.refund.amount
    if side == "host":
        assert shown.refund.amount == booking.charge_total and shown.penalty is not None
        assert ledger.balance(account="1310", key=booking.host.code, currency="EUR") == shown.penalty.amount
    else:
        assert shown.penalty is None and not Journal.objects.filter(kind="penalty").exists()
    left = payment_queries.refund_limits(payment=Payment.objects.get()).parts
    assert ledger.balance(account="2100", key=booking.code, currency="EUR") == -left.held.amount
    if refund is not None:
        refund_booking.send(refund_code=refund.code, actor=system("worker"), now=now())
    sandbox.advance(60)
    assert reconcile(scope="stripe", since=None, until=None, actor=system("worker"), now=now()).findings == []
    told = OutboxMessage.objects.filter(topic="booking_cancelled", channel="email").values_list(
        "recipient_id", flat=True
    )
    assert sorted(told) == sorted([booking.guest_id, booking.host_id])


def test_the_guests_nights_are_free_again_and_the_hosts_stay_blocked(sandbox: RunningSandbox) -> None:
    first, second = paid(), paid()
    cancel(first, first.guest)
    factories.booking(first.listing, factories.person("Charlie"), check_in=first.check_in, now=now())
    cancel(second, second.host)
    block = CalendarHold.objects.get(listing=second.listing, active=True)
    assert block.kind == "block" and second.code in block.cause


def test_a_cancellation_is_done_once_however_often_it_is_confirmed(sandbox: RunningSandbox) -> None:
    booking = paid(**in_days(3))
    token = preview(booking, booking.guest).token
    outcomes = race([partial(confirm, booking, booking.guest, token)] * 4)
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["Booking", *["IllegalTransition"] * 3]
    assert Refund.objects.count() == 1 and AuditEntry.objects.filter(verb="bookings.cancel").count() == 1


def test_guest_and_host_cancelling_at_once_cancel_once(sandbox: RunningSandbox) -> None:
    booking = paid(**in_days(3))
    tokens = {side: preview(booking, getattr(booking, side)).token for side in ("guest", "host")}
    outcomes = race([partial(confirm, booking, getattr(booking, side), token) for side, token in tokens.items()])
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["Booking", "IllegalTransition"], outcomes
    cancelled = booking_queries.booking(code=booking.code)
    assert Refund.objects.count() == 1
    assert Journal.objects.filter(kind="penalty").exists() is (cancelled.cancelled_by == "host")


def test_a_token_is_for_one_booking_one_side_and_a_quarter_of_an_hour(sandbox: RunningSandbox) -> None:
    booking, other = paid(**in_days(9)), paid(**in_days(9))
    shown = preview(booking, booking.guest)
    with pytest.raises(Invalid, match="another booking"):
        confirm(other, other.guest, shown.token)
    with pytest.raises(Invalid, match="other side"):
        confirm(booking, booking.host, shown.token)
    for broken in ("", "x", shown.token[:-1], shown.token + "x"):
        with pytest.raises(Invalid) as refused:
            confirm(booking, booking.guest, broken)
        assert refused.value.facts["field"] == "token"
    sandbox.advance(15 * 60 + 2)
    with pytest.raises(StaleVersion, match="expired"):
        confirm(booking, booking.guest, shown.token)
    assert booking_queries.booking(code=booking.code).status == "confirmed"


def test_terms_that_worsened_by_time_are_shown_again(sandbox: RunningSandbox) -> None:
    booking = paid(home=factories.listing(cancellation_tier="flexible", now=now()), **in_days(5))
    at = booking.check_in_at - timedelta(hours=24, minutes=5)
    sandbox.set_clock(at.timestamp())
    shown = preview(booking, booking.guest)
    sandbox.advance(6 * 60)
    with pytest.raises(StaleVersion):
        confirm(booking, booking.guest, shown.token)
    assert preview(booking, booking.guest).refund < shown.refund


def test_an_unpaid_booking_is_given_up_without_money_and_becoming_paid_changes_the_terms(
    sandbox: RunningSandbox,
) -> None:
    booking = unpaid()
    shown = preview(booking, booking.guest)
    assert not shown.refund and not shown.host_keeps and shown.decision is None
    from backoffice.workflows.pay_booking import pay

    pay(
        booking_code=booking.code,
        payment_method="pm_card_visa",
        actor=factories.acting(booking.guest),
        now=now(),
    )
    with pytest.raises(StaleVersion):
        confirm(booking, booking.guest, shown.token)
    assert booking_queries.booking(code=booking.code).status == "confirmed"


@pytest.mark.parametrize("status", ["completed", "cancelled", "expired", "declined", "no_show"])
def test_what_is_over_is_not_cancelled(sandbox: RunningSandbox, status: str) -> None:
    booking = paid()
    Booking.objects.filter(id=booking.id).update(status=status)
    with pytest.raises(IllegalTransition):
        preview(booking, booking.guest)


def test_a_guest_who_leaves_early_pays_for_the_nights_stayed(sandbox: RunningSandbox) -> None:
    booking = paid(home=factories.listing(cancellation_tier="flexible", cleaning_fee=0, now=now()), nights=5)
    sandbox.set_clock((booking.check_in_at + timedelta(days=2, hours=-1)).timestamp())
    keep_time.complete_stays(now=now())
    shown = preview(booking, booking.guest)
    assert shown.host_keeps.amount == 3 * 10_000  # two nights stayed, and one more
    assert cancel(booking, booking.guest).status == "cancelled"


# Who ----------------------------------------------------------------------------------------------------------------


def test_a_stranger_sees_no_booking_to_cancel(sandbox: RunningSandbox) -> None:
    booking = paid()
    charlie = factories.person("Charlie", is_host=True)
    with pytest.raises(NotFound):
        preview(booking, charlie)
    with pytest.raises(NotFound):
        confirm(booking, charlie, preview(booking, booking.guest).token)


def test_guests_are_themselves_whatever_they_say(sandbox: RunningSandbox) -> None:
    booking = paid(**in_days(2))
    assert preview(booking, booking.guest, on_behalf_of="host").by == "guest"
    assert preview(booking, booking.host, on_behalf_of="guest").by == "host"


def test_a_host_gives_a_reason_a_guest_need_not(sandbox: RunningSandbox) -> None:
    booking = paid()
    with pytest.raises(Refused):
        confirm(booking, booking.host, preview(booking, booking.host).token, reason=" ")
    assert confirm(booking, booking.guest, preview(booking, booking.guest).token, reason="").cancelled_by == "guest"


@pytest.mark.parametrize(
    ("role", "outcome"),
    [
        ("support_l1", OverLimit),
        ("support_l2", "cancelled"),
        ("team_lead", "cancelled"),
        ("finance", "cancelled"),
        ("trust_safety", NotAllowed),
        ("auditor", NotAllowed),
        ("on_call", NotAllowed),
        ("admin", NotAllowed),
    ],
)
def test_which_staff_cancel_a_stay_that_gives_back_390_euros(
    sandbox: RunningSandbox, role: str, outcome: str | type[Exception]
) -> None:
    booking = paid()
    mara = factories.staff(role)
    if isinstance(outcome, str):
        done = cancel(booking, mara, on_behalf_of="host")
        assert (done.status, done.cancelled_by) == (outcome, "staff")
        assert AuditEntry.objects.get(verb="bookings.cancel").reason == "Plans changed"
    else:
        with pytest.raises(outcome):
            cancel(booking, mara, on_behalf_of="host")
        assert booking_queries.booking(code=booking.code).status == "confirmed" and not Refund.objects.exists()


def test_what_staff_give_back_by_cancelling_counts_into_their_day(sandbox: RunningSandbox) -> None:
    mara = factories.staff("support_l2")
    for _ in range(2):
        cancel(paid(), mara)
    used = payment_queries.refunded_today(person_id=mara.id, currency="EUR", now=now())
    assert used == sum(Refund.objects.values_list("amount", flat=True)) > 0


def test_staff_say_for_whom_in_words_we_know(sandbox: RunningSandbox) -> None:
    booking = paid()
    with pytest.raises(Invalid, match="on_behalf_of"):
        preview(booking, factories.staff("team_lead"), on_behalf_of="nobody")
    assert preview(booking, factories.staff("team_lead")).by == "guest"


def test_doors_get_json_with_whole_minor_units(sandbox: RunningSandbox) -> None:
    import json

    booking = paid(**in_days(3))
    shown = preview(booking, booking.guest).as_dict()
    assert json.loads(json.dumps(shown)) == shown
    assert shown["refund"]["amount"] == sum(part["amount"] for part in shown["parts"].values())
