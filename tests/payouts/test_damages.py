"""Damage money goes to the host as a payout of its own: once, of its own charge, less what the host owes."""

from __future__ import annotations

from datetime import timedelta

import pytest

from backoffice.bookings.models import Booking
from backoffice.core.errors import Conflict
from backoffice.core.money import Money
from backoffice.ledger import queries as ledger
from backoffice.notifications.models import Notification
from backoffice.payments import operations as payments
from backoffice.payments.models import ExtraCharge
from backoffice.payouts import operations, queries
from backoffice.payouts.models import Payout
from backoffice.reporting.queries import health
from backoffice.workflows import keep_time
from tests import factories
from tests.factories import SYSTEM
from tests.payouts.stays import charged, host, paid_stay, release_all, settled
from tests.workflows.hosts import owes

pytestmark = pytest.mark.django_db
DAY = timedelta(days=1)


def balance(account: str, key: str, currency: str = "EUR") -> int:
    return ledger.balance(account=account, key=key, currency=currency)


def damaged(booking: Booking, amount: int, *, settle: bool = True) -> ExtraCharge:
    """The guest paid for damage two days after they left, having been asked by two of us."""
    at = booking.check_out_at + 2 * DAY
    keep_time.complete_stays(now=at)
    asked = payments.request_damage(
        booking_code=booking.code,
        amount=Money(amount, booking.charge_currency),
        reason="Broken window",
        actor=factories.acting(factories.staff("support_l2")),
        now=at,
    )
    lead = factories.acting(factories.staff("finance"))
    payments.approve_damage(charge_code=asked.code, version=asked.version, actor=lead, now=at)
    charge = charged(asked, now=at)
    if settle:
        settled(f"ch_{asked.code}", charge, at)
    return charge


def stay() -> Booking:
    booking = paid_stay(of=host())
    release_all(now=booking.check_in_at + 25 * timedelta(hours=1))
    return Booking.objects.select_related("host", "guest", "listing").get(pk=booking.pk)


def test_it_is_paid_once_from_its_own_charge_and_explained() -> None:
    booking = stay()
    charge = damaged(booking, 15_000)
    at = charge.released_at
    assert at is not None and queries.damages_to_pay() == [charge.code]
    first = operations.pay_damage(charge_code=charge.code, actor=SYSTEM, now=at)
    second = operations.pay_damage(charge_code=charge.code, actor=SYSTEM, now=at)
    assert first is not None and second == first and queries.damages_to_pay() == []
    assert (first.share, first.sent) == (Money(15_000, "EUR"), None)
    planned = {one.payout: one for one in queries.plan(now=at)}
    assert planned[first.code].amount == Money(15_000, "EUR") and planned[first.code].waits is None
    (payout,) = release_all(now=at)
    assert (payout.status, payout.transfer_amount, payout.source_charge) == ("transferred", 15_000, charge.charge_id)
    assert (payout.share, payout.sent) == (Money(15_000, "EUR"),) * 2
    assert balance("2200", booking.host.code) == 0 and balance("2210", payout.code) == -15_000
    said = queries.explain(code=payout.code, now=at)
    assert said.adds_up and [line.label for line in said.lines] == ["Damage, paid for you"]
    assert said.amount == Money(15_000, "EUR")
    assert health.payouts_explained().ok and health.bookings_explained().ok
    assert queries.unscheduled() == []


def test_what_the_host_owes_is_kept_from_it() -> None:
    booking = stay()
    charge = damaged(booking, 15_000)
    at = charge.released_at
    assert at is not None
    owes(booking.host, Money(4_000, "EUR"), at=at)
    operations.pay_damage(charge_code=charge.code, actor=SYSTEM, now=at)
    (payout,) = release_all(now=at)
    assert (payout.netted, payout.transfer_amount) == (4_000, 11_000)
    assert (payout.share, payout.sent) == (Money(15_000, "EUR"), Money(11_000, "EUR"))
    assert balance("1310", booking.host.code) == balance("2200", booking.host.code) == 0
    assert queries.explain(code=payout.code, now=at).adds_up and health.payouts_explained().ok


def test_it_waits_until_the_provider_has_settled_it() -> None:
    booking = stay()
    charge = damaged(booking, 15_000, settle=False)
    at = charge.released_at
    assert at is not None
    operations.pay_damage(charge_code=charge.code, actor=SYSTEM, now=at)
    (payout,) = release_all(now=at)
    assert payout.status == "releasable" and "has not settled" in payout.waits_for
    settled(charge.charge_id or "", charge, at)
    assert [row.status for row in release_all(now=at)] == ["transferred"]


def test_it_takes_nothing_from_the_nights_of_a_stay_that_are_still_held() -> None:
    booking = paid_stay(of=host())
    charge = damaged(booking, 15_000)
    at = charge.released_at
    assert at is not None
    operations.pay_damage(charge_code=charge.code, actor=SYSTEM, now=at)
    sent = {row.weight == 0: row.transfer_amount for row in release_all(now=at)}
    assert sent == {True: 15_000, False: booking.host_price - booking.host_fee}
    assert balance("2200", booking.host.code) == balance("2100", booking.code) == 0


def test_a_hold_of_everything_keeps_it_and_one_that_was_refused_and_every_view_says_so() -> None:
    booking = stay()
    charge = damaged(booking, 15_000)
    at = charge.released_at
    assert at is not None
    made = operations.pay_damage(charge_code=charge.code, actor=SYSTEM, now=at)
    assert made is not None
    for again in (at, at + 2 * DAY):  # before it is sent, and once it was refused
        held = operations.place_hold(
            booking_code=booking.code, amount=None, cause="dispute", reason="x", hours=9, owner_id=None, actor=SYSTEM,
            now=again,
        )  # fmt: skip
        with pytest.raises(Conflict, match="leave the amount out"):
            operations.place_hold(
                booking_code=booking.code, amount=Money(5_000, "EUR"), cause="dispute", reason="x", hours=9,
                owner_id=None, actor=SYSTEM, now=again,
            )  # fmt: skip
        (planned,), said = queries.plan(now=again), queries.explain(code=made.code, now=again)
        assert planned.waits == said.waits and said.waits is not None and said.waits.until == held.expires_at
        assert "€150.00" in Notification.objects.filter(topic="payout_held").latest("id").body
        assert operations.release(payout_code=made.code, actor=SYSTEM, now=again).waits == said.waits
        operations.lift_hold(hold_code=held.code, reason="x", version=held.version, actor=SYSTEM, now=again)
        assert operations.release(payout_code=made.code, actor=SYSTEM, now=again).claimed
        tries = Payout.objects.get(pk=made.pk).tries
        operations.fail_transfer(payout_code=made.code, failure="no", tries=tries, actor=SYSTEM, now=again)


def test_a_refused_one_is_sent_again_from_the_same_charge() -> None:
    booking = stay()
    charge = damaged(booking, 15_000)
    at = charge.released_at
    assert at is not None
    made = operations.pay_damage(charge_code=charge.code, actor=SYSTEM, now=at)
    assert made is not None
    operations.release(payout_code=made.code, actor=SYSTEM, now=at)
    refused = operations.fail_transfer(payout_code=made.code, failure="no", tries=1, actor=SYSTEM, now=at)
    assert (refused.status, refused.share, refused.sent) == ("failed", Money(15_000, "EUR"), None)
    (payout,) = release_all(now=at + 2 * DAY)
    assert (payout.status, payout.tries, payout.source_charge) == ("transferred", 2, charge.charge_id)
    assert Payout.objects.filter(booking=booking, weight=0).count() == 1
