"""Whatever is refunded, held, cancelled, refused and released, in whatever order: every cent of a stay is with the guest, with
us, or on its way to the host, and no payout goes twice."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backoffice.core.errors import Conflict, IllegalTransition, Invalid, RefundTooLarge, StaydeskError
from backoffice.core.money import Money
from backoffice.ledger import queries as ledger
from backoffice.payments import queries as payments
from backoffice.payments.models import ExtraCharge, Payment, Refund
from backoffice.payouts import operations, queries
from backoffice.payouts.models import Payout, PayoutHold
from backoffice.reporting.queries import health
from backoffice.workflows import cancel_booking
from tests import factories
from tests.factories import NOW, SYSTEM
from tests.payouts.stays import host, paid_stay, pay_instalments, refund, release_all
from tests.workflows.hosts import owes

pytestmark = pytest.mark.django_db
DAY = timedelta(days=1)

STEPS = st.one_of(
    st.tuples(st.just("refund"), st.integers(1, 60)),
    st.tuples(st.just("hold"), st.one_of(st.none(), st.integers(1, 120))),
    st.tuples(st.just("lift"), st.just(0)),
    st.tuples(st.just("cancel"), st.sampled_from(["guest", "host"])),
    st.tuples(st.just("owe"), st.integers(1, 40_000)),
    st.tuples(st.just("pass"), st.sampled_from([1, 5, 20, 41, 45])),
    st.tuples(st.just("release"), st.just(0)),
    st.tuples(st.just("release"), st.just(0)),
    st.tuples(st.just("refuse"), st.just(0)),
)


# By these very names a step may be refused; anything else is a fault.
REFUSALS: dict[str, tuple[type[StaydeskError], ...]] = {
    "refund": (RefundTooLarge,),
    "hold": (Conflict, Invalid),
    "cancel": (Conflict, IllegalTransition),
}


class Life:
    """One stay of a host, and everything that may happen to its money."""

    def __init__(self, nights: int) -> None:
        self.now = NOW
        self.host = host()
        home = factories.listing(self.host, maximum_nights=120)
        self.booking = paid_stay(home=home, nights=nights, check_in=(NOW + 40 * DAY).date())

    def take(self, step: str, value: Any) -> None:
        try:
            with transaction.atomic():
                getattr(self, f"_{step}")(value)
        except StaydeskError as refused:
            if type(refused) not in REFUSALS.get(step, ()):
                raise

    def _refund(self, percent: int) -> None:
        refund(self.booking, max(self.booking.total * percent // 100, 1), now=self.now)

    def _hold(self, percent: int | None) -> None:
        share = self.booking.host_price - self.booking.host_fee
        operations.place_hold(
            booking_code=self.booking.code,
            amount=None if percent is None else Money(max(share * percent // 100, 1), "EUR"),
            cause="dispute",
            reason="x",
            hours=24 * 30,
            owner_id=None,
            actor=SYSTEM,
            now=self.now,
        )

    def _lift(self, _: int) -> None:
        for hold in PayoutHold.objects.filter(status="active"):
            operations.lift_hold(hold_code=hold.code, reason="x", version=hold.version, actor=SYSTEM, now=self.now)

    def _cancel(self, by: str) -> None:
        actor = factories.acting(getattr(self.booking, by))
        shown = cancel_booking.preview(booking_code=self.booking.code, actor=actor, now=self.now)
        cancel_booking.confirm(
            booking_code=self.booking.code, token=shown.token, reason="Plans", actor=actor, now=self.now
        )

    def _owe(self, amount: int) -> None:
        owes(self.host, Money(amount, "EUR"), at=self.now)

    def _pass(self, days: int) -> None:
        self.now += days * DAY

    def _release(self, _: int) -> None:
        pay_instalments(self.booking, now=self.now)
        release_all(now=self.now)

    def _refuse(self, _: int) -> None:
        """The provider says no to everything that is due."""
        for code in queries.due(now=self.now):
            released = operations.release(payout_code=code, actor=SYSTEM, now=self.now)
            if released.claimed:
                operations.fail_transfer(
                    payout_code=code, failure="no", tries=released.payout.tries, actor=SYSTEM, now=self.now
                )

    # What must hold ---------------------------------------------------------------------------------------------

    def check(self) -> None:
        booking, payment = self.booking, Payment.objects.get(booking=self.booking)
        refunds = list(Refund.objects.filter(payment=payment, approved_at__isnull=False))
        later = list(ExtraCharge.objects.filter(booking=booking, status="captured"))
        released = list(Payout.objects.filter(booking=booking, released_at__isnull=False))
        held = payments.held_parts(booking=booking)
        for part, account in (("held", "1310"), ("guest_fee", "4100"), ("host_fee", "4110")):
            after = self._refunded_from(account)
            back, gone = sum(getattr(row, part) for row in refunds), sum(getattr(row, part) for row in released)
            stands = getattr(held, part).amount
            captured = getattr(payment, part) + sum(getattr(row, part) for row in later)
            assert captured == stands + gone + back - after, part
        for part in ("vat", "occupancy_tax"):
            back = sum(getattr(row, part) for row in refunds)
            captured = getattr(payment, part) + sum(getattr(row, part) for row in later)
            assert captured == getattr(held, part).amount + back, part
        payable = -ledger.balance(account="2200", key=self.host.code, currency="EUR")
        under_way = sum(row.transfer_amount for row in released if row.status in {"in_transfer", "transferred"})
        failed = sum(row.transfer_amount for row in released if row.status == "failed")
        netted = sum(row.netted for row in released)
        assert payable == failed
        assert under_way + failed + netted == sum(row.held for row in released)
        assert ledger.balance(account="1310", key=self.host.code, currency="EUR") >= 0
        assert all(finding.ok for finding in (health.bookings_explained(), health.payouts_explained()))
        for row in Payout.objects.filter(booking=booking):
            said = queries.explain(code=row.code, now=self.now)
            assert said.adds_up, said

    def _refunded_from(self, account: str) -> int:
        journals = [journal for journal in ledger.trace(self.booking.code) if journal.kind == "refund"]
        return sum(line.amount for one in journals for line in one.lines.all() if line.account.code == account)

    def finish(self) -> None:
        """Nobody does anything any more: everything that is left reaches the host."""
        for _ in range(5):
            self.now += 31 * DAY
            self._release(0)
            self.check()
        held = payments.held_parts(booking=self.booking)
        assert not (held.held or held.guest_fee or held.host_fee)
        rows = Payout.objects.filter(booking=self.booking)
        assert {row.status for row in rows} <= {"transferred", "netted", "void"}
        journals = [journal.idempotency_key for journal in ledger.trace(self.booking.code)]
        for row in rows:
            assert journals.count(f"release:{row.code}") <= 1
            tried = sum(key.startswith(f"transfer:{row.code}:") and not key.endswith("refused") for key in journals)
            refused = sum(key.startswith(f"transfer:{row.code}:") and key.endswith("refused") for key in journals)
            assert tried - refused == (1 if row.status == "transferred" else 0)


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(nights=st.sampled_from([1, 3, 27, 65]), steps=st.lists(STEPS, max_size=12))
def test_every_cent_of_a_stay_is_somewhere_and_reaches_the_host_once(nights: int, steps: list[tuple[str, Any]]) -> None:
    with transaction.atomic():
        life = Life(nights)
        life.check()
        for step, value in steps:
            life.take(step, value)
            life.check()
        life.finish()
        with connection.cursor() as cursor:
            cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        transaction.set_rollback(True)


def test_what_a_host_comes_to_owe_is_kept_from_what_is_sent_again() -> None:
    life = Life(3)
    life.take("pass", 45)
    (row,) = Payout.objects.filter(booking=life.booking)
    for owed in (20_000, 1_000, 100_000):
        life.take("refuse", 0)
        life.take("owe", owed)
        life.take("pass", 1)
        life.check()
    life.take("release", 0)
    life.check()
    row.refresh_from_db()
    assert (row.status, row.tries, row.transfer_amount, row.netted) == ("netted", 3, 0, row.held)
    owed_still = ledger.balance(account="1310", key=life.host.code, currency="EUR")
    assert owed_still == 20_000 + 1_000 + 100_000 - row.held


def test_a_refund_of_all_after_a_partial_release_is_owed_in_full() -> None:
    """A walk spelled out: held in part, released in part, refunded whole."""
    life = Life(3)
    share = life.booking.host_price - life.booking.host_fee
    life.take("pass", 41)
    life.take("pass", 1)
    life.take("hold", 50)
    life.take("release", 0)
    life.take("refund", 60)
    life.check()
    refund(life.booking, life.booking.total - life.booking.total * 60 // 100, now=life.now)
    life.check()
    rows = list(Payout.objects.filter(booking=life.booking).order_by("number"))
    assert [row.status for row in rows] == ["transferred", "void"]
    assert ledger.balance(account="1310", key=life.host.code, currency="EUR") == rows[0].transfer_amount < share
    life.finish()
