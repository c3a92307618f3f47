"""Nothing that was told or enqueued is lost, whatever dies; nothing is sent for a change that was rolled back."""

from __future__ import annotations

import os
import signal
import smtplib
import subprocess
import sys
import threading
import time
from datetime import timedelta

import pytest
from django.conf import settings
from django.db import Error, IntegrityError, connection, transaction
from pytest_django import DjangoAssertNumQueries

from backoffice.audit.models import AuditEntry
from backoffice.core.actor import Actor, Grant
from backoffice.core.errors import IllegalTransition, Invalid, NotAllowed, NotFound
from backoffice.notifications import operations, policies, queries, tasks
from backoffice.notifications.models import Notification, OutboxMessage
from tests.notifications.conftest import ADA, NOON, ROOMS, Broker, MailServer, Tell

pytestmark = pytest.mark.django_db(transaction=True, available_apps=ROOMS)

ENGINEER = Actor(kind="staff", id=1, name="Mara", grants={"jobs.run": Grant()})


class TestTelling:
    def test_a_person_is_told_by_e_mail_and_in_the_application(self, broker: Broker, tell: Tell) -> None:
        message = tell()
        assert (message.channel, message.status, message.address) == ("email", "pending", "ada@example.org")
        assert message.body.startswith("Hello Ada,")
        notice = queries.notices(recipient_id=7).get()
        assert (notice.topic, notice.title, notice.created_at) == ("welcome", message.subject, NOON)
        assert broker.tasks() == [("notifications.deliver", {"ids": [message.pk]})]

    def test_it_is_one_statement(self, broker: Broker, django_assert_num_queries: DjangoAssertNumQueries) -> None:
        with transaction.atomic(), django_assert_num_queries(1):
            operations.tell(**ADA, now=NOON)

    def test_without_an_address_there_is_only_the_notice(self, broker: Broker, tell: Tell) -> None:
        message = tell(address="")
        assert (message.channel, message.status, message.sent_at) == ("in_app", "sent", NOON)
        assert queries.unread(recipient_id=7) == 1
        assert broker.tasks() == []

    def test_without_a_recipient_there_is_only_the_e_mail(self, broker: Broker, tell: Tell) -> None:
        tell(recipient_id=None)
        assert not Notification.objects.exists()

    def test_what_is_rolled_back_was_never_told(self, broker: Broker) -> None:
        with transaction.atomic():
            operations.tell(**ADA, now=NOON)
            operations.enqueue(task="x.y", kwargs={}, now=NOON)
            transaction.set_rollback(True)
        assert not OutboxMessage.objects.exists()
        assert not Notification.objects.exists()
        assert broker.tasks() == []

    def test_a_key_is_told_once(self, broker: Broker, tell: Tell) -> None:
        tell(dedupe_key="welcome:7")
        assert operations.tell(**ADA, now=NOON, dedupe_key="welcome:7") is None
        assert tell(dedupe_key="welcome:8")
        assert tell()
        assert tell()
        assert OutboxMessage.objects.count() == Notification.objects.count() == 4

    def test_a_missing_field_is_refused_before_anything_is_written(self) -> None:
        with pytest.raises(Invalid, match="also needs"):
            operations.tell(topic="hold_expired", recipient_id=7, address="", context={}, now=NOON)
        assert not OutboxMessage.objects.exists()


class TestDelivery:
    def test_a_message_is_sent_once(self, broker: Broker, tell: Tell, mail: MailServer) -> None:
        message = tell()
        assert operations.deliver(message_id=message.pk, now=NOON)
        assert not operations.deliver(message_id=message.pk, now=NOON + timedelta(days=1))

        (sent,) = mail.received
        assert (sent.to, sent.subject, sent.body) == (["ada@example.org"], message.subject, message.body)
        assert sent.message()["Message-ID"] == f"<outbox-{message.pk}@127.0.0.1>"
        message.refresh_from_db()
        assert (message.status, message.sent_at, message.attempts) == ("sent", NOON, 1)

    def test_it_is_sent_outside_any_transaction(self, broker: Broker, tell: Tell, mail: MailServer) -> None:
        message = tell()
        seen = []
        mail.on_receive = lambda: seen.append(connection.in_atomic_block)
        operations.deliver(message_id=message.pk, now=NOON)
        assert seen == [False]

    def test_of_two_deliverers_at_once_one_sends(self, broker: Broker, tell: Tell, mail: MailServer) -> None:
        message = tell()
        start, mail.on_receive = threading.Barrier(8), lambda: time.sleep(0.2)
        results = []

        def deliverer() -> None:
            start.wait()
            results.append(operations.deliver(message_id=message.pk, now=NOON))
            connection.close()

        threads = [threading.Thread(target=deliverer) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(results) == [False] * 7 + [True]
        assert len(mail.received) == 1

    def test_the_clock_of_another_process_may_be_a_little_behind(
        self, broker: Broker, tell: Tell, mail: MailServer
    ) -> None:
        assert operations.deliver(message_id=tell().pk, now=NOON - timedelta(seconds=1))

    def test_a_server_that_refuses_is_asked_eight_times_and_then_the_message_is_dead(
        self, broker: Broker, tell: Tell, mail: MailServer
    ) -> None:
        message, now = tell(), NOON
        mail.answer = smtplib.SMTPServerDisconnected("try\nlater")
        for attempt in range(1, 9):
            assert not operations.deliver(message_id=message.pk, now=now)
            message.refresh_from_db()
            assert (message.attempts, message.error) == (attempt, "SMTPServerDisconnected: try later")
            assert not operations.deliver(message_id=message.pk, now=message.next_attempt_at - timedelta(seconds=1))
            assert message.status == ("dead" if attempt == 8 else "failed")
            now = message.next_attempt_at
        assert now == NOON + timedelta(minutes=127)
        assert queries.backlog(now=now).dead == 1
        mail.answer = None
        assert operations.deliver_due(now=now + timedelta(days=1)) == {"sent": 0, "not_sent": 0}

    def test_a_server_that_comes_back_gets_the_message(self, broker: Broker, tell: Tell, mail: MailServer) -> None:
        message = tell()
        mail.answer = ConnectionRefusedError("nobody listens")
        operations.deliver(message_id=message.pk, now=NOON)
        mail.answer = None
        assert operations.deliver_due(now=NOON + timedelta(seconds=59)) == {"sent": 0, "not_sent": 0}
        assert operations.deliver_due(now=NOON + timedelta(seconds=60)) == {"sent": 1, "not_sent": 0}
        message.refresh_from_db()
        assert (message.status, message.error) == ("sent", "")

    def test_one_bad_message_does_not_hold_up_the_others(self, broker: Broker, tell: Tell, mail: MailServer) -> None:
        tell(address="not an address\n")
        tell()
        assert operations.deliver_due(now=NOON + timedelta(minutes=1)) == {"sent": 1, "not_sent": 1}

    def test_a_deliverer_that_dies_while_sending_loses_its_claim_after_a_minute(
        self, broker: Broker, tell: Tell, mail: MailServer
    ) -> None:
        message = tell()
        assert operations._claim(message.pk, NOON) is not None  # and then no word

        assert not operations.deliver(message_id=message.pk, now=NOON + policies.LEASE - timedelta(seconds=1))
        assert operations.deliver(message_id=message.pk, now=NOON + policies.LEASE)
        assert len(mail.received) == 1

    def test_one_that_wakes_up_after_its_claim_lapsed_changes_nothing(
        self, broker: Broker, tell: Tell, mail: MailServer
    ) -> None:
        message = tell()
        slow = operations._claim(message.pk, NOON)
        assert slow is not None
        operations.deliver(message_id=message.pk, now=NOON + policies.LEASE)
        operations._note_failure(slow, TimeoutError(), NOON + policies.LEASE)
        message.refresh_from_db()
        assert message.status == "sent"


class TestTasks:
    def test_a_task_is_handed_to_the_workers_once(self, broker: Broker) -> None:
        message_id = operations.enqueue(task="workflows.send_refund", kwargs={"refund_code": "RF-1"}, now=NOON)
        assert message_id is not None
        assert operations.deliver(message_id=message_id, now=NOON)
        assert not operations.deliver(message_id=message_id, now=NOON)
        assert broker.tasks()[1:] == [("workflows.send_refund", {"refund_code": "RF-1"})]
        assert operations.enqueue(task="x.y", kwargs={}, now=NOON, dedupe_key="k") is not None
        assert operations.enqueue(task="x.y", kwargs={}, now=NOON, dedupe_key="k") is None

    def test_a_broker_that_is_away_loses_nothing_and_holds_nobody_up(self, broker: Broker) -> None:
        broker.go_away()
        began = time.monotonic()
        message_id = operations.enqueue(task="x.y", kwargs={"n": 1}, now=NOON)
        assert message_id is not None
        now = NOON
        for _ in range(policies.MOST_ATTEMPTS + 2):
            now += policies.TASK_PAUSE
            assert operations.deliver_due(now=now) == {"sent": 0, "not_sent": 1}
        assert time.monotonic() - began < 10
        assert OutboxMessage.objects.get().status == "failed"

        broker.come_back()
        assert operations.deliver_due(now=now + policies.TASK_PAUSE) == {"sent": 1, "not_sent": 0}
        assert broker.tasks() == [("x.y", {"n": 1})]

    def test_kill_9_between_commit_and_enqueue_loses_nothing_and_doubles_nothing(
        self, broker: Broker, mail: MailServer
    ) -> None:
        code = f"""
import django; django.setup()
import os, signal
from datetime import datetime
from django.conf import settings
settings.DATABASES["default"]["NAME"] = {connection.settings_dict["NAME"]!r}
from django.db import transaction
from backoffice.notifications import operations
now = datetime.fromisoformat({NOON.isoformat()!r})
with transaction.atomic():
    transaction.on_commit(lambda: os.kill(os.getpid(), signal.SIGKILL))
    operations.tell(**{ADA!r}, now=now)
    operations.enqueue(task="x.y", kwargs={{"n": 1}}, now=now)
"""
        died = subprocess.run([sys.executable, "-c", code], cwd=settings.BASE_DIR, env=dict(os.environ), check=False)
        assert died.returncode == -signal.SIGKILL
        assert broker.tasks() == []
        assert queries.backlog(now=NOON).pending == 2
        hint_may_come = NOON + policies.HINT_LOST_AFTER - timedelta(seconds=1)
        assert operations.deliver_due(now=hint_may_come) == {"sent": 0, "not_sent": 0}

        for _ in range(3):
            operations.deliver_due(now=NOON + policies.HINT_LOST_AFTER)
        assert broker.tasks() == [("x.y", {"n": 1})]
        assert len(mail.received) == 1

    def test_the_sweep_runs_as_a_job_that_is_on_record_only_when_it_sent_something(
        self, broker: Broker, tell: Tell, mail: MailServer
    ) -> None:
        from backoffice.jobs.queries import runs

        tasks.sweep_outbox()
        assert not runs().exists()
        tell()  # at NOON, long ago
        tasks.sweep_outbox()
        assert runs().get().counts == {"sent": 1, "not_sent": 0}

    def test_the_hints_task_delivers(self, broker: Broker, tell: Tell, mail: MailServer) -> None:
        messages = [tell(), tell()]
        tasks.deliver(ids=[message.pk for message in messages])
        assert len(mail.received) == 2


class TestRetry:
    def test_a_dead_message_gets_another_chance_and_the_log_says_who_gave_it(
        self, broker: Broker, tell: Tell, mail: MailServer
    ) -> None:
        message = tell()
        OutboxMessage.objects.update(status="dead", attempts=8, error="x")
        operations.retry(message_id=message.pk, actor=ENGINEER, now=NOON)
        entry = AuditEntry.objects.get()
        assert (entry.verb, entry.actor_id, entry.object_id) == ("notifications.retry", 1, str(message.pk))
        assert operations.deliver(message_id=message.pk, now=NOON)
        with pytest.raises(IllegalTransition):
            operations.retry(message_id=message.pk, actor=ENGINEER, now=NOON)

    def test_it_needs_the_grant_and_a_message(self, broker: Broker, tell: Tell) -> None:
        with pytest.raises(NotAllowed):
            operations.retry(message_id=tell().pk, actor=Actor(kind="staff", id=2, name="x"), now=NOON)
        with pytest.raises(NotFound):
            operations.retry(message_id=0, actor=ENGINEER, now=NOON)


class TestReading:
    def test_a_person_reads_only_what_is_theirs(self, broker: Broker, tell: Tell) -> None:
        for recipient in (7, 7, 8):
            tell(recipient_id=recipient)
        first = queries.notices(recipient_id=7).last()
        assert first is not None
        assert operations.mark_read(recipient_id=8, ids=[first.pk], now=NOON) == 0
        assert operations.mark_read(recipient_id=7, ids=[first.pk], now=NOON) == 1
        assert (queries.unread(recipient_id=7), queries.unread(recipient_id=8)) == (1, 1)
        assert operations.mark_read(recipient_id=7, now=NOON) == 1
        assert operations.mark_read(recipient_id=7, now=NOON) == 0

    def test_the_backlog_counts_what_waits_and_how_long(self, broker: Broker, tell: Tell, mail: MailServer) -> None:
        assert queries.backlog(now=NOON) == queries.Backlog(0, 0, 0, None)
        tell()
        mail.answer = TimeoutError()
        operations.deliver(message_id=tell(now=NOON + timedelta(minutes=1)).pk, now=NOON)
        assert queries.backlog(now=NOON + timedelta(minutes=2)) == queries.Backlog(1, 1, 0, timedelta(minutes=2))
        assert queries.messages(status="failed", channel="email", recipient_id=7).count() == 1


@pytest.mark.parametrize(
    ("column", "value", "constraint"),
    [
        ("status", "lost", "outbox_status"),
        ("channel", "pigeon", "outbox_channel"),
        ("status", "sent", "outbox_sent_at"),
    ],
)
def test_the_database_knows_the_table_too(broker: Broker, tell: Tell, column: str, value: str, constraint: str) -> None:
    tell()
    with pytest.raises(IntegrityError, match=constraint), transaction.atomic():
        OutboxMessage.objects.update(**{column: value})


def test_the_outbox_refuses_the_same_key_twice(broker: Broker, tell: Tell) -> None:
    tell(dedupe_key="a")
    tell(dedupe_key="b")
    with pytest.raises(Error, match="outbox_once"), transaction.atomic():
        OutboxMessage.objects.update(dedupe_key="a")
