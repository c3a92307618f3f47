"""The desk's health as its database tells it: what is well, what is not, and the command that puts it right."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import connection, transaction
from django.db.migrations.recorder import MigrationRecorder

from backoffice.audit import operations as audit
from backoffice.core import clock
from backoffice.jobs import operations as jobs
from backoffice.jobs import queries as job_queries
from backoffice.jobs.models import LastSuccess
from backoffice.ledger import operations as ledger
from backoffice.ledger.policies import Line
from backoffice.notifications import operations as notifications
from backoffice.notifications.models import OutboxMessage
from backoffice.payments.models import Chargeback, Payment, Refund, WebhookEvent
from backoffice.reporting.queries import health
from backoffice.reporting.queries.health import Check, Trial
from backoffice.workflows import refund_booking
from tests.falsified import as_superuser
from tests.workflows.test_pay_and_refund import FINANCE, now, paid, refund


def asked(name: str, *, after: timedelta = timedelta(0), full: bool = False) -> Check:
    """What a check says, asked so long after the present."""
    return health.CHECKS[name](Trial(now=clock.now() + after, full=full))


@pytest.mark.django_db
@pytest.mark.parametrize("name", sorted(set(health.CHECKS) - {"worker", "beat"}))
def test_a_new_desk_is_well(name: str, settings: Any, tmp_path: Path) -> None:
    settings.AUDIT_ANCHORS = tmp_path
    MigrationRecorder(connection).migration_qs.update(applied=clock.now())
    found = asked(name)
    assert (found.name, found.ok) == (name, True), found.detail


@pytest.mark.django_db
def test_the_extensions_asked_for_are_those_that_are_there() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT extname FROM pg_extension WHERE extname <> 'plpgsql'")
        assert {name for (name,) in cursor.fetchall()} == set(health.EXTENSIONS)


@pytest.mark.django_db
def test_the_guards_asked_for_are_all_those_of_the_log() -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT tgrelid::regclass::text, tgname FROM pg_trigger"
            " WHERE NOT tgisinternal AND tgrelid::regclass::text LIKE 'audit\\_%'"
        )
        present = set(cursor.fetchall())
    assert present == {(table, name) for table, names in health.AUDIT_GUARDS.items() for name in names}


@pytest.mark.django_db
@pytest.mark.parametrize(("after", "ok"), [(timedelta(seconds=30), True), (timedelta(minutes=5), False)])
@pytest.mark.parametrize("part", ["worker", "beat"])
def test_a_part_is_alive_while_it_is_heard_of(part: str, after: timedelta, ok: bool) -> None:
    jobs.beat(parts=(part,), now=clock.now())
    assert asked(part, after=after).ok is ok
    other = {"worker": "beat", "beat": "worker"}[part]
    assert asked(other) == Check(other, False, "never heard of", "ops up")


@pytest.mark.django_db
def test_a_job_that_never_ran_is_late_only_once_the_desk_is_old_enough_for_it() -> None:
    MigrationRecorder(connection).migration_qs.update(applied=clock.now())
    assert asked("jobs", after=timedelta(seconds=20)).ok
    late = asked("jobs", after=timedelta(minutes=2))
    assert not late.ok and late.fix == "ops jobs run notifications.sweep_outbox"
    for name in job_queries.schedule():
        LastSuccess.objects.create(name=name, at=clock.now())
    assert asked("jobs").ok
    LastSuccess.objects.filter(name="workflows.expire_holds").update(at=clock.now() - timedelta(minutes=10))
    late = asked("jobs")
    assert (late.ok, late.detail) == (False, "workflows.expire_holds is late: last done 10 min ago")


# What waits -----------------------------------------------------------------------------------------------------------


def event(**fields: Any) -> None:
    at = clock.now()
    facts = {"event_id": "evt_1", "type": "x", "created": at, "received_at": at, "next_attempt_at": at, "payload": b""}
    WebhookEvent.objects.create(**{**facts, **fields})


def message(**fields: Any) -> None:
    sent = notifications.enqueue(task="workflows.send_refund", kwargs={}, now=clock.now())
    OutboxMessage.objects.filter(pk=sent).update(**fields)


@pytest.mark.django_db
@pytest.mark.parametrize(("name", "wait"), [("webhooks", event), ("outbox", message)])
def test_what_waits_is_well_for_a_minute_and_what_was_given_up_is_not(name: str, wait: Callable[..., None]) -> None:
    wait(status={"webhooks": "received", "outbox": "pending"}[name])
    assert asked(name).ok
    stuck = asked(name, after=timedelta(minutes=5))
    assert not stuck.ok and stuck.fix.startswith("ops jobs run ") and "5 min" in stuck.detail


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("name", "wait", "fix"),
    [("webhooks", event, "ops webhooks replay --status dead"), ("outbox", message, "ops outbox retry --all")],
)
def test_what_was_given_up_is_never_well(name: str, wait: Callable[..., None], fix: str) -> None:
    wait(status="dead")
    found = asked(name)
    assert not found.ok and "1 given up" in found.detail and fix in found.fix


@pytest.mark.django_db(transaction=True)
def test_a_log_that_is_not_sealed_or_was_altered_is_not_well(settings: Any, tmp_path: Path) -> None:
    settings.AUDIT_ANCHORS = tmp_path
    at = clock.now()
    audit.record(actor=FINANCE, verb="tests.act", kind="thing", id=1, now=at)
    assert asked("sealing").ok
    assert asked("sealing", after=timedelta(minutes=5)).fix == "ops audit seal"
    audit.seal(now=at)
    assert asked("sealing", after=timedelta(minutes=5)).ok
    # A desk whose clock was moved far ahead still proves its newest day.
    assert asked("audit", after=timedelta(days=30)).detail.startswith("1 entries in 1 blocks")
    as_superuser("UPDATE audit_entry SET verb = 'tests.other'")
    for full in (False, True):
        found = asked("audit", full=full)
        assert not found.ok and "the columns are not what was hashed" in found.detail


@pytest.mark.django_db
def test_clocks_that_differ_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    present = time.time
    monkeypatch.setattr(health.time, "time", lambda: present() + 60)
    found = asked("clock")
    assert not found.ok and "60.0 s from ours" in found.detail


@pytest.mark.django_db
def test_a_production_desk_whose_clock_was_moved_is_found(settings: Any) -> None:
    settings.VIRTUAL_CLOCK = False
    clock.install_offset(lambda: timedelta(hours=3))
    try:
        assert "runs 3 h ahead" in asked("clock").detail and not asked("clock").ok
    finally:
        clock.install_offset(None)


@pytest.mark.django_db
def test_a_chargeback_past_our_own_deadline_is_not_well() -> None:
    at = clock.now()
    due = {"due_by": at + timedelta(days=10), "internal_due_at": at + timedelta(days=6)}
    Chargeback.objects.create(
        provider_id="du_1", charge_id="ch_1", kind="chargeback", status="needs_response", amount=10_000, currency="EUR",
        opened_at=at, seen_at=at, **due,
    )  # fmt: skip
    assert asked("chargebacks", after=timedelta(days=5)).ok
    late = asked("chargebacks", after=timedelta(days=7))
    assert not late.ok and late.fix == "ops chargebacks deadlines" and "1 of them past our deadline" in late.detail


# Every booking's money is explained -----------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_money_is_explained_through_refunds_cancellations_and_refusals(sandbox) -> None:
    booking = paid(sandbox)
    foreign = paid(sandbox, currency="JPY")
    sent = refund(booking, 5_000)
    assert health.bookings_explained().ok, "approved, not sent yet"
    refund_booking.send(refund_code=sent.code, actor=FINANCE, now=now())
    refund(foreign, 1_000, key="k2")
    found = health.bookings_explained()
    assert (found.ok, found.detail) == (True, "the money of 2 bookings is explained")


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("part", ["held", "host_fee", "guest_fee", "vat", "occupancy_tax", "amount"])
def test_a_part_that_differs_from_its_postings_names_the_booking(sandbox, part: str) -> None:
    booking = paid(sandbox)
    Payment.objects.filter(booking=booking).update(**{part: getattr(Payment.objects.get(), part) + 1})
    found = health.bookings_explained()
    assert (found.ok, found.offender) == (False, f"booking {booking.code}")
    assert not asked("ledger").ok and asked("ledger").fix == "ops ledger check"


@pytest.mark.django_db(transaction=True)
def test_a_refund_without_postings_and_postings_without_a_refund_are_found(sandbox) -> None:
    booking = paid(sandbox)
    asked_for = refund(booking, 5_000)
    Refund.objects.filter(pk=asked_for.pk).update(approved_at=None)
    assert health.bookings_explained().offender == f"booking {booking.code}"
    Refund.objects.filter(pk=asked_for.pk).update(approved_at=now())
    assert health.bookings_explained().ok
    with transaction.atomic():
        ledger.post(
            key="capture:ch_made_up",
            kind="capture",
            lines=[Line("1150", "ch_made_up", 100, "EUR"), Line("2100", "BK-NONE22", -100, "EUR")],
            subject="BK-NONE22",
            reference="ch_made_up",
            effective_at=now(),
            actor=FINANCE,
            now=now(),
        )
    assert health.bookings_explained().offender == "booking BK-NONE22"
