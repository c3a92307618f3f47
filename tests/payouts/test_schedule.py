"""What a stay will owe its host is planned as it is confirmed, and drawn anew when what is left changes."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from backoffice.audit.models import AuditEntry
from backoffice.bookings import operations as bookings
from backoffice.bookings.models import Booking
from backoffice.ledger import queries as ledger
from backoffice.payouts import operations, queries
from backoffice.payouts.models import Payout
from backoffice.workflows import cancel_booking
from tests import factories
from tests.factories import NOW
from tests.payouts.stays import host, paid_stay, refund, release_all

pytestmark = pytest.mark.django_db
DAY = timedelta(days=1)


def again(booking: Booking) -> list[Payout]:
    with transaction.atomic():
        return operations.schedule(booking=bookings.lock(code=booking.code), now=NOW)


def cancelled(booking: Booking, *, by: str = "guest", days_before: int) -> None:
    at = booking.check_in_at - days_before * DAY
    actor = factories.acting(getattr(booking, by))
    shown = cancel_booking.preview(booking_code=booking.code, actor=actor, now=at)
    cancel_booking.confirm(booking_code=booking.code, token=shown.token, reason="Plans", actor=actor, now=at)


def test_a_confirmed_stay_has_one_payout_with_the_rules_that_set_its_date() -> None:
    booking = paid_stay()
    payout = Payout.objects.get(booking=booking)
    assert payout.held == booking.host_price - booking.host_fee
    assert (payout.host_fee, payout.guest_fee) == (booking.host_fee, booking.guest_fee)
    assert payout.due_at == booking.check_in_at + DAY
    assert payout.policy == "payouts@1 timings@1"
    assert AuditEntry.objects.filter(verb="payouts.schedule", object_id=payout.code).count() == 1


def test_planning_again_changes_nothing() -> None:
    booking = paid_stay()
    before = Payout.objects.values().get(booking=booking)
    assert [row.code for row in again(booking)] == [before["code"]]
    assert Payout.objects.values().get(booking=booking) == before


def test_the_steps_of_a_long_stay_add_up_to_what_was_promised() -> None:
    bob = host()
    booking = paid_stay(home=factories.listing(bob, maximum_nights=120), nights=65)
    rows = list(Payout.objects.filter(booking=booking).order_by("number"))
    assert [row.due_at for row in rows] == [booking.check_in_at + days * DAY for days in (1, 31, 61)]
    assert sum(row.held for row in rows) == booking.host_price - booking.host_fee
    assert sum(row.guest_fee for row in rows) == booking.guest_fee
    assert rows[0].held > rows[2].held


def test_the_month_of_a_new_host_runs_from_their_first_confirmed_booking() -> None:
    bob = host()
    first = paid_stay(of=bob, check_in=(NOW + 5 * DAY).date())
    second = paid_stay(of=bob, check_in=(NOW + 12 * DAY).date(), now=NOW + 10 * DAY)
    assert first.confirmed_at is not None
    for booking in (first, second):
        assert Payout.objects.get(booking=booking).due_at == first.confirmed_at + 30 * DAY


def test_a_refund_makes_what_is_still_to_come_smaller_by_its_share() -> None:
    bob = host()
    booking = paid_stay(home=factories.listing(bob, maximum_nights=120), nights=60)
    rows = list(Payout.objects.filter(booking=booking).order_by("number"))
    given = refund(booking, 10_000, now=NOW)
    after = list(Payout.objects.filter(booking=booking).order_by("number"))
    held = [row.held - now.held for row, now in zip(rows, after, strict=True)]
    assert sum(held) == given.amount and abs(held[0] - held[1]) <= abs(given.amount) // 2


def test_a_cancelled_stay_pays_what_it_leaves_on_its_day() -> None:
    booking = paid_stay()
    cancelled(booking, days_before=4)
    payout = Payout.objects.get(booking=booking)
    assert payout.status == "scheduled" and 0 < payout.held < booking.host_price - booking.host_fee
    assert payout.due_at == booking.check_in_at + DAY


def test_where_only_our_fee_is_left_it_is_recognised_on_the_day_and_the_payout_is_void() -> None:
    booking = paid_stay()
    cancelled(booking, days_before=10)
    payout = Payout.objects.get(booking=booking)
    assert (payout.status, payout.held) == ("scheduled", 0) and payout.guest_fee == booking.guest_fee
    assert [row.status for row in release_all(now=payout.due_at)] == ["void"]
    assert ledger.balance(account="2110", key=booking.code, currency="EUR") == 0
    assert ledger.balance(account="2200", key=booking.host.code, currency="EUR") == 0


def test_a_long_stay_that_is_cancelled_keeps_one_release() -> None:
    bob = host()
    booking = paid_stay(home=factories.listing(bob, maximum_nights=120), nights=65)
    cancelled(booking, days_before=3)
    rows = list(Payout.objects.filter(booking=booking).order_by("number"))
    (kept,) = (row for row in rows if row.status != "void")
    assert kept.held > 0 and kept.due_at == booking.check_in_at + DAY and len(rows) == 3


def test_a_host_who_cancels_has_nothing_to_come() -> None:
    booking = paid_stay()
    cancelled(booking, by="host", days_before=20)
    assert Payout.objects.get(booking=booking).status == "void"


def test_a_refund_of_everything_leaves_no_payout_and_a_later_run_finds_nothing() -> None:
    booking = paid_stay()
    refund(booking, booking.total, now=NOW)
    assert Payout.objects.get(booking=booking).status == "void"
    assert queries.unscheduled() == [] and release_all(now=booking.check_in_at + 40 * DAY) == []


def test_a_booking_that_was_never_paid_owes_nobody() -> None:
    booking = factories.booking()
    assert again(booking) == [] and not Payout.objects.exists()


def test_stays_that_hold_money_without_a_plan_are_found() -> None:
    booking = paid_stay()
    assert queries.unscheduled() == []
    Payout.objects.all().delete()
    assert queries.unscheduled() == [booking.code]
    (row,) = again(booking)
    assert row.held == booking.host_price - booking.host_fee and queries.unscheduled() == []


@pytest.mark.parametrize("ask", [queries.counts, queries.due, queries.to_release])
def test_what_is_asked_every_minute_passes_over_what_was_sent_long_ago(ask: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")  # where an index can be used, it is
        with CaptureQueriesContext(connection) as asked:
            ask(now=NOW)
        plan = ""
        for query in asked.captured_queries:
            cursor.execute(f"EXPLAIN {query['sql']}")
            plan += " ".join(row[0] for row in cursor.fetchall())
    assert "payout_due" in plan and "payout_refused" in plan and "Seq Scan on payouts_payout" not in plan, plan
