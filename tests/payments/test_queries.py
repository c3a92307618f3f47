"""What the sweeps look for, and a booking's money at a glance."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from backoffice.bookings.models import Booking
from backoffice.core.errors import NotFound
from backoffice.core.money import Money
from backoffice.payments import queries
from backoffice.payments.models import BalanceTransaction, ExtraCharge, Payment, PaymentAttempt, Refund, WebhookEvent
from tests import factories
from tests.factories import NOW

pytestmark = pytest.mark.django_db


def payment(*, status: str = "captured", created_at: datetime = NOW, **fields: Any) -> Payment:
    booking = factories.booking()
    if status == "captured":
        Booking.objects.filter(id=booking.id).update(status="confirmed")
        fields = {"charge_id": f"ch_{booking.code}", "captured_at": NOW, **fields}
    return Payment.objects.create(
        booking=booking,
        status=status,
        amount=booking.charge_total,
        currency=booking.charge_currency,
        held=booking.host_price - booking.host_fee,
        host_fee=booking.host_fee,
        guest_fee=booking.guest_fee,
        vat=booking.vat,
        occupancy_tax=booking.occupancy_tax,
        provider_id=f"pi_{booking.code}",
        created_at=created_at,
        **fields,
    )


def refund(of: Payment, amount: int, status: str, **fields: Any) -> Refund:
    parts = {"held": amount, "host_fee": 0, "guest_fee": 0, "vat": 0, "occupancy_tax": 0}
    return Refund.objects.create(
        payment=of,
        status=status,
        amount=amount,
        currency=of.currency,
        cause="goodwill",
        idempotency_key=f"k{Refund.objects.count()}",
        request_hash="",
        **{**parts, "requested_at": NOW, **fields},
    )


def money(of: Payment) -> queries.MoneyTable:
    return queries.money_of(booking=Booking.objects.get(id=of.booking_id))


# Money at a glance ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "fields", "refunded", "pending", "left"),
    [
        ("requested", {}, 0, 1_000, 1_000),
        ("approved", {}, 0, 1_000, 1_000),
        ("submitted", {}, 0, 1_000, 1_000),
        ("indeterminate", {}, 0, 1_000, 1_000),
        ("succeeded", {}, 1_000, 0, 1_000),
        ("rejected", {}, 0, 0, 0),
        ("cancelled", {}, 0, 0, 0),
        ("failed", {}, 0, 0, 0),
        ("failed", {"unclaimed": True}, 0, 1_000, 1_000),
    ],
)
def test_a_refund_in_each_status_in_the_table(
    status: str, fields: dict[str, Any], refunded: int, pending: int, left: int
) -> None:
    paid = payment()
    refund(paid, 1_000, status, **fields)
    table = money(paid)
    assert (table.refunded.amount, table.refunds_pending.amount) == (refunded, pending)
    assert table.refundable.amount == paid.amount - left
    assert table.charged == table.refunded + table.refunds_pending + table.refundable
    assert table.parts_left["held"].amount == paid.held - left


def test_a_line_that_came_back_is_not_refunded_once_more() -> None:
    paid = payment()
    before = queries.line_limits(payment=paid)["nights"]
    returned = refund(paid, 1_000, "failed", unclaimed=True, lines={"nights": 1_000})
    assert queries.line_limits(payment=paid)["nights"] == before - Money(1_000, before.currency)
    refund(paid, 1_000, "requested", held=0, method="other", repays=returned, lines={"nights": 1_000})
    assert queries.line_limits(payment=paid)["nights"] == before - Money(1_000, before.currency)


@pytest.mark.parametrize("status", ["requires_payment", "requires_action", "processing", "failed", "cancelled"])
def test_what_was_not_captured_is_nothing(status: str) -> None:
    table = money(payment(status=status))
    assert not any([table.charged, table.refundable, *table.parts.values(), *table.parts_left.values()])


def test_an_unpaid_booking_has_no_money() -> None:
    assert queries.money_of(booking=factories.booking()).charged == Money(0, "EUR")


def test_what_we_bear_leaves_the_parts_and_takes_from_the_charge() -> None:
    paid = payment()
    refund(paid, 1_000, "succeeded", held=0, platform_share=1_000, bearer="platform")
    limits = queries.refund_limits(payment=paid)
    assert limits.total.amount == limits.of_parts.amount == paid.amount
    assert limits.charged.amount == paid.amount - 1_000


# Limits of a day -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "counted"),
    [
        ({"status": "approved"}, True),
        ({"status": "requested"}, True),
        ({"status": "succeeded"}, True),
        ({"status": "rejected"}, False),
        ({"status": "cancelled"}, False),
        ({"status": "failed"}, False),
        ({"status": "approved", "requested_at": NOW.replace(hour=0)}, True),
        ({"status": "approved", "requested_at": NOW.replace(hour=0) - timedelta(seconds=1)}, False),
        ({"status": "approved", "currency": "USD"}, False),
    ],
    ids=str,
)
def test_what_counts_into_a_persons_day(fields: dict[str, Any], counted: bool) -> None:
    mara = factories.staff("support_l1")
    made = refund(payment(), 700, "approved", requested_by=mara)
    Refund.objects.filter(id=made.id).update(**fields)
    refund(payment(), 500, "approved", requested_by=factories.staff("support_l1"))
    today = queries.refunded_today(person_id=mara.id, currency="EUR", now=NOW)
    assert today == (700 if counted else 0)


# What the sweeps look for --------------------------------------------------------------------------------------------


def test_the_payments_of_today_come_before_pages_that_nobody_answered() -> None:
    """Or a hundred abandoned ones would keep the sweep busy for ever."""
    old = payment(status="requires_action", created_at=NOW - timedelta(days=2))
    first, second = (payment(status="requires_action", created_at=NOW - timedelta(minutes=5)) for _ in range(2))
    young = payment(status="requires_action", created_at=NOW)
    captured = payment(created_at=NOW - timedelta(minutes=5))
    asked = queries.waiting_for_provider(older_than=NOW - timedelta(minutes=1))
    assert asked == [second.id, first.id]
    assert not {old.id, young.id, captured.id} & set(asked)
    assert queries.waiting_for_provider(older_than=NOW - timedelta(minutes=1), limit=1) == [second.id]


@pytest.mark.parametrize("status", ["submitted", "indeterminate", "requires_action", "succeeded", "declined"])
def test_only_tries_of_unknown_outcome_are_asked_about(status: str) -> None:
    attempt = PaymentAttempt.objects.create(
        payment=payment(status="processing"),
        number=1,
        idempotency_key="k",
        payment_method="pm",
        status=status,
        created_at=NOW,
    )
    found = queries.unsettled_attempts(older_than=NOW + timedelta(seconds=1))
    assert found == ([attempt.id] if status in {"submitted", "indeterminate"} else [])
    assert queries.unsettled_attempts(older_than=NOW) == []


@pytest.mark.parametrize(
    ("status", "sent", "asked"),
    [
        ("requested", False, False),
        ("approved", True, False),
        ("indeterminate", True, False),
        ("submitted", False, True),
        ("succeeded", False, False),
        ("failed", False, False),
    ],
)
def test_which_refunds_are_sent_and_asked_about(status: str, sent: bool, asked: bool) -> None:
    made = refund(payment(), 1, status, submitted_at=NOW)
    later = NOW + timedelta(minutes=2)
    assert queries.refunds_to_send(older_than=later) == ([made.code] if sent else [])
    assert queries.refunds_to_ask_about(older_than=later) == ([made.code] if asked else [])
    assert queries.refunds_to_send(older_than=NOW) == queries.refunds_to_ask_about(older_than=NOW) == []


def test_the_inbox_says_how_much_waits_and_since_when() -> None:
    assert queries.inbox_backlog(now=NOW) == (0, timedelta(0), 0)
    for number, (status, minutes) in enumerate([("received", 5), ("failed", 9), ("applied", 60), ("dead", 99)]):
        WebhookEvent.objects.create(
            event_id=f"evt_{number}",
            type="x",
            created=NOW,
            payload=b"",
            status=status,
            received_at=NOW - timedelta(minutes=minutes),
            next_attempt_at=NOW,
        )
    assert queries.inbox_backlog(now=NOW) == (2, timedelta(minutes=9), 1)


def test_what_is_known_of_the_provider_is_found_by_its_id_then_by_our_code() -> None:
    mine, other = payment(), payment()
    assert queries.payment_seen(provider_id=mine.provider_id or "", reference=other.code) == mine
    assert queries.payment_seen(provider_id="pi_new", reference=other.code) == other
    assert queries.payment_seen(provider_id="", reference="") is None
    made = refund(mine, 1, "submitted", provider_id="re_1")
    assert queries.refund_seen(provider_id="re_1", reference="") == made
    assert queries.refund_seen(provider_id="re_2", reference=made.code) == made
    assert queries.refund_seen(provider_id="", reference="") is None
    with pytest.raises(NotFound):
        queries.refund(code="RF-NONE")


def test_movements_that_are_new_are_told_from_those_that_are_known() -> None:
    BalanceTransaction.objects.create(
        provider_id="txn_1",
        type="charge",
        reporting_category="charge",
        amount=1,
        fee=0,
        net=1,
        currency="EUR",
        created=NOW,
        available_on=NOW,
        imported_at=NOW,
    )
    assert queries.unknown_transactions(ids=["txn_1", "txn_2"]) == {"txn_2"}
    assert queries.unknown_transactions(ids=[]) == set()


def test_captures_of_a_period_are_half_open_by_utc_days() -> None:
    paid = payment()
    day = date(NOW.year, NOW.month, NOW.day)
    assert list(queries.captured_between(since=day, until=day + timedelta(days=1))) == [paid]
    assert not queries.captured_between(since=day + timedelta(days=1), until=day + timedelta(days=2))
    assert not queries.captured_between(since=day - timedelta(days=1), until=day)


@pytest.mark.parametrize(
    ("ask", "index"),
    [
        (lambda: queries.charges_due(now=NOW), "extra_charge_due"),
        (lambda: queries.charges_unanswered(older_than=NOW), "extra_charge_unanswered"),
        (lambda: queries.charges_unpaid(now=NOW), "extra_charge_unpaid"),
    ],
    ids=["due", "unanswered", "unpaid"],
)
def test_the_few_charges_that_the_job_looks_for_are_not_looked_for_among_all(ask: Any, index: str) -> None:
    booking = payment().booking
    ExtraCharge.objects.bulk_create(
        ExtraCharge(
            booking=booking, kind="instalment", number=number, status="cancelled", amount=1, due_at=NOW, created_at=NOW
        )
        for number in range(1, 2_001)
    )
    with connection.cursor() as sql:
        sql.execute("ANALYZE payments_extracharge, bookings_booking")  # not what an earlier test left of them
        with CaptureQueriesContext(connection) as asked:
            ask()
        sql.execute("EXPLAIN " + asked[-1]["sql"])
        plan = "\n".join(line for (line,) in sql.fetchall())
        assert index in plan, plan
