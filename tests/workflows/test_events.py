"""Webhooks and polled events: signed or refused, applied once in whatever order, retried, given up, replayed."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from backoffice.audit.models import AuditEntry
from backoffice.bookings import queries as booking_queries
from backoffice.core.actor import Actor
from backoffice.core.errors import Invalid, NotAllowed, NotFound, PaymentDeclined, UpstreamUnavailable
from backoffice.ledger.models import Journal
from backoffice.notifications.models import OutboxMessage
from backoffice.payments import operations as payments
from backoffice.payments.gateway import stripe as provider
from backoffice.payments.models import PaymentAttempt, WebhookEvent
from backoffice.payments.operations.inbox import FIRST_RETRY, MOST_TRIES
from backoffice.payments.policies.seen import SeenEvent
from backoffice.payouts.models import HostAccount
from backoffice.reconciliation.provider import reconcile
from backoffice.workflows import apply_provider_event as events
from backoffice.workflows import keep_time
from backoffice.workflows.pay_booking import pay
from tests import factories
from tests.stripe_sandbox.server import RunningSandbox
from tests.workflows.steps import ROOMS, claimed_try, now, paid_unnoticed, unpaid

pytestmark = pytest.mark.django_db(transaction=True, available_apps=ROOMS)


def event(number: int = 1, *, kind: str = "payment_intent.succeeded", about: str = "pi_1") -> dict[str, object]:
    return {
        "object": "event",
        "id": f"evt_{number}",
        "type": kind,
        "created": int(time.time()),
        "livemode": False,
        "data": {"object": {"id": about}},
    }


def signed(sandbox: RunningSandbox, payload: bytes, *, at: datetime | None = None, secret: str = "") -> str:
    """The header as Stripe writes it; its stamp is the wall clock's, whatever the desk's clock says."""
    stamp = int(at.timestamp()) if at else int(time.time())
    key = (secret or sandbox.webhook_secret).encode()
    return f"t={stamp},v1={hmac.new(key, b'%d.' % stamp + payload, hashlib.sha256).hexdigest()}"


def receive(sandbox: RunningSandbox, body: dict[str, object], **how: object) -> WebhookEvent | None:
    payload = json.dumps(body).encode()
    return events.receive(payload=payload, signature=signed(sandbox, payload, **how), now=now())  # type: ignore[arg-type]


def stored(kind: str = "payment_intent.succeeded", about: str = "pi_1", *, number: int = 1) -> WebhookEvent:
    """An event in the inbox, as a webhook brought it."""
    row = payments.receive_event(
        event=SeenEvent(
            id=f"evt_{number}", type=kind, object_id=about, account="", created=now(), livemode=False, payload=b"{}"
        ),
        origin="webhook",
        now=now(),
    )
    assert row is not None
    return row


# The inbox -----------------------------------------------------------------------------------------------------------


def test_a_signed_event_is_stored_byte_for_byte_and_once(sandbox: RunningSandbox) -> None:
    first = receive(sandbox, event())
    assert first is not None and json.loads(bytes(first.payload)) == event() | {
        "created": int(first.created.timestamp())
    }
    assert (first.status, first.object_id, first.origin) == ("received", "pi_1", "webhook")
    assert receive(sandbox, event()) is None
    assert WebhookEvent.objects.count() == 1


@pytest.mark.parametrize("late", [timedelta(minutes=6), timedelta(minutes=-6)], ids=["future", "past"])
def test_a_signature_from_too_far_off_is_refused_on_both_sides(sandbox: RunningSandbox, late: timedelta) -> None:
    with pytest.raises(Invalid, match="too far") as refused:
        receive(sandbox, event(), at=datetime.now(UTC) + late)
    assert refused.value.facts["field"] == "signature" and not WebhookEvent.objects.exists()


def test_while_a_secret_is_rotated_both_are_accepted_and_then_only_the_new_one(
    sandbox: RunningSandbox, settings: pytest.FixtureRequest
) -> None:
    settings.STRIPE_WEBHOOK_SECRETS = ["whsec_new", "whsec_old"]
    provider.gateway.cache_clear()
    assert receive(sandbox, event(1), secret="whsec_old") and receive(sandbox, event(2), secret="whsec_new")
    settings.STRIPE_WEBHOOK_SECRETS = ["whsec_new"]
    provider.gateway.cache_clear()
    with pytest.raises(Invalid, match="does not match"):
        receive(sandbox, event(3), secret="whsec_old")


def test_events_of_hosts_accounts_are_signed_with_a_secret_of_their_own_and_name_the_account(
    sandbox: RunningSandbox, settings: pytest.FixtureRequest
) -> None:
    settings.STRIPE_CONNECT_WEBHOOK_SECRETS = ["whsec_hosts_new", "whsec_hosts_old"]
    provider.gateway.cache_clear()
    for number, secret in enumerate(("whsec_hosts_new", "whsec_hosts_old"), start=1):
        seen = receive(sandbox, event(number) | {"account": "acct_1", "type": "account.updated"}, secret=secret)
        assert seen is not None and (seen.account, seen.status) == ("acct_1", "received")
    own = receive(sandbox, event(3))
    assert own is not None and own.account == ""
    settings.STRIPE_CONNECT_WEBHOOK_SECRETS = []
    provider.gateway.cache_clear()
    with pytest.raises(Invalid, match="does not match"):
        receive(sandbox, event(4), secret="whsec_hosts_new")


def test_a_header_with_the_signatures_of_two_secrets_is_good_when_one_matches(sandbox: RunningSandbox) -> None:
    payload = json.dumps(event()).encode()
    header = signed(sandbox, payload) + ",v1=" + "0" * 64
    assert events.receive(payload=payload, signature=header, now=now()) is not None


def test_one_changed_byte_breaks_the_signature(sandbox: RunningSandbox) -> None:
    payload = json.dumps(event()).encode()
    with pytest.raises(Invalid, match="does not match"):
        events.receive(payload=payload.replace(b"pi_1", b"pi_2"), signature=signed(sandbox, payload), now=now())


# Applying ------------------------------------------------------------------------------------------------------------


def test_ad_an_event_whose_processing_failed_is_not_lost_but_retried_until_it_is_applied(
    sandbox: RunningSandbox,
) -> None:
    """Adil1122/airbnb-clone-backend stores the row first and acknowledges every retry of it: after one failure the event
    is gone for good."""
    booking = unpaid()
    paid = paid_unnoticed(booking)
    row = stored(about=paid.id)
    sandbox.fault("reset_after_commit", method="GET", path=f"/v1/payment_intents/{paid.id}", times=3)
    at = now()
    assert events.apply(webhook_id=row.id, now=at) == "fail"
    row.refresh_from_db()
    assert row.status == "failed" and "did not answer" in row.error and row.next_attempt_at == at + FIRST_RETRY
    assert events.apply_due(now=at + FIRST_RETRY - timedelta(seconds=1)) == 0
    assert events.apply_due(now=at + FIRST_RETRY) == 1
    row.refresh_from_db()
    assert row.status == "applied" and row.attempts == 2
    assert booking_queries.booking(code=booking.code).status == "confirmed"


def test_an_event_that_can_never_be_applied_is_given_up_shown_and_can_be_replayed(sandbox: RunningSandbox) -> None:
    row = stored(about="pi_unknown_at_the_provider")
    at = now()
    waits = []
    for _ in range(MOST_TRIES):
        row.refresh_from_db()
        waits.append(row.next_attempt_at - at)
        at = row.next_attempt_at
        assert events.apply(webhook_id=row.id, now=at) == "fail"
    row.refresh_from_db()
    assert row.status == "dead" and row.attempts == MOST_TRIES and row.error
    assert waits[1:] == [FIRST_RETRY * 2**n for n in range(MOST_TRIES - 1)]
    assert events.apply_due(now=at + timedelta(days=30)) == 0
    replayed = payments.replay_webhook(event_id=row.event_id, actor=_finance(), now=at)
    assert (replayed.status, replayed.attempts) == ("received", 0)
    hint = OutboxMessage.objects.get(topic="workflows.apply_provider_event")
    assert hint.payload == {"webhook_id": row.id}
    assert events.apply_due(now=at) == 1
    assert AuditEntry.objects.filter(verb="webhooks.replay", object_id=row.event_id).count() == 1


@pytest.mark.parametrize("kind", ["payout.paid", "account.updated"])
def test_an_event_of_an_account_that_is_no_longer_connected_ends_with_its_reason(
    sandbox: RunningSandbox, kind: str
) -> None:
    row = stored(kind, "po_1")
    WebhookEvent.objects.filter(pk=row.pk).update(account="acct_gone")
    HostAccount.objects.create(
        host=factories.person("Bob", is_host=True, now=now()), provider_id="acct_gone", created_at=now()
    )
    assert events.apply(webhook_id=row.id, now=now()) == "ignore"
    row.refresh_from_db()
    assert row.status == "ignored" and "does not have access to account" in row.error


def test_replaying_an_applied_event_changes_nothing(sandbox: RunningSandbox) -> None:
    booking = unpaid()
    pay(booking_code=booking.code, payment_method="pm_card_visa", actor=factories.acting(booking.guest), now=now())
    journals, version = Journal.objects.count(), booking_queries.booking(code=booking.code).version
    events.poll(now=now())
    events.apply_due(now=now())
    row = WebhookEvent.objects.get(type="payment_intent.succeeded")
    assert row.status == "applied"
    payments.replay_webhook(event_id=row.event_id, actor=_finance(), now=now())
    assert events.apply(webhook_id=row.id, now=now()) == "apply"
    assert Journal.objects.count() == journals and booking_queries.booking(code=booking.code).version == version


def test_only_who_may_replays(sandbox: RunningSandbox) -> None:
    row = stored()
    with pytest.raises(NotAllowed):
        payments.replay_webhook(
            event_id=row.event_id, actor=factories.acting(factories.staff("support_l1", now=now())), now=now()
        )
    with pytest.raises(NotFound):
        payments.replay_webhook(event_id="evt_none", actor=_finance(), now=now())


@pytest.mark.parametrize("kind", ["customer.created", "charge.refunded", "a.type.of.tomorrow"])
def test_what_we_do_not_use_is_kept_and_ignored(sandbox: RunningSandbox, kind: str) -> None:
    row = stored(kind, "x_1")
    assert events.apply(webhook_id=row.id, now=now()) == "ignore"
    row.refresh_from_db()
    assert row.status == "ignored"


def test_a_payment_that_is_not_ours_is_ignored(sandbox: RunningSandbox) -> None:
    other = sandbox.client().v1.payment_intents.create({"amount": 500, "currency": "eur"})
    assert events.apply(webhook_id=stored(about=other.id).id, now=now()) == "ignore"


def test_two_workers_do_not_apply_one_event_at_the_same_time(sandbox: RunningSandbox) -> None:
    row = stored("customer.created", "x_1")
    assert payments.claim_event(webhook_id=row.id, now=now()) is not None
    assert events.apply(webhook_id=row.id, now=now()) == ""


def test_a_failure_that_is_late_does_not_undo_a_success(sandbox: RunningSandbox) -> None:
    row = stored("customer.created", "x_1")
    payments.finish_event(webhook_id=row.id, action="apply", now=now())
    payments.finish_event(webhook_id=row.id, action="fail", error="slow worker", now=now())
    row.refresh_from_db()
    assert (row.status, row.error) == ("applied", "")


# What was missed -----------------------------------------------------------------------------------------------------


def test_events_that_no_webhook_brought_are_found_by_the_poll_once(sandbox: RunningSandbox) -> None:
    booking = unpaid()
    pay(booking_code=booking.code, payment_method="pm_card_visa", actor=factories.acting(booking.guest), now=now())
    assert events.poll(now=now()) > 1
    with CaptureQueriesContext(connection) as asked:
        assert events.poll(now=now()) == 0
    assert sum('"payments_webhookevent"' in query["sql"] for query in asked) == 1, (
        "one question, however many are known"
    )
    assert set(WebhookEvent.objects.values_list("origin", flat=True)) == {"poll"}


def test_after_a_long_outage_the_poll_goes_back_to_where_it_last_looked(sandbox: RunningSandbox) -> None:
    events.poll(now=now())
    booking = unpaid()
    paid_unnoticed(booking)
    sandbox.advance(9 * 3600)  # the desk was down, and every webhook of that time is lost
    assert events.poll(now=now()) > 0
    events.apply_due(now=now())
    assert booking_queries.booking(code=booking.code).status == "confirmed"


# Stale news ----------------------------------------------------------------------------------------------------------


def test_the_late_event_of_a_decline_does_not_end_the_try_that_followed(sandbox: RunningSandbox) -> None:
    """The card was declined and another is being tried: for a moment the provider still shows the decline."""
    booking = unpaid()
    alice = factories.acting(booking.guest)
    with pytest.raises(PaymentDeclined):
        pay(booking_code=booking.code, payment_method="pm_card_visa_chargeDeclined", actor=alice, now=now())
    second = claimed_try(booking)
    events.poll(now=now())
    events.apply_due(now=now())
    keep_time.resolve_indeterminate(now=now() + timedelta(seconds=50))
    second.refresh_from_db()
    assert second.status == "submitted"
    assert OutboxMessage.objects.filter(topic="payment_failed", channel="email").count() == 1


def test_a_second_try_that_died_before_its_call_is_carried_out_by_the_sweep_once(sandbox: RunningSandbox) -> None:
    booking = unpaid()
    alice = factories.acting(booking.guest)
    with pytest.raises(PaymentDeclined):
        pay(booking_code=booking.code, payment_method="pm_card_visa_chargeDeclined", actor=alice, now=now())
    second = claimed_try(booking)
    keep_time.resolve_indeterminate(now=now() + keep_time.LOST_AFTER + timedelta(seconds=10))
    second.refresh_from_db()
    assert second.status == "succeeded" and booking_queries.booking(code=booking.code).status == "confirmed"
    assert list(PaymentAttempt.objects.order_by("number").values_list("status", flat=True)) == ["declined", "succeeded"]
    assert OutboxMessage.objects.filter(topic="payment_failed", channel="email").count() == 1
    assert len([charge for charge in sandbox.client().v1.charges.list().data if charge.paid]) == 1


def test_an_unreachable_provider_leaves_the_poll_to_the_next_tick(sandbox: RunningSandbox) -> None:
    sandbox.fault("reset_after_commit", method="GET", path="/v1/events", times=3)
    with pytest.raises(UpstreamUnavailable):
        events.poll(now=now())
    assert events.poll(now=now()) == 0


def _finance() -> Actor:
    return factories.acting(factories.staff("finance", now=now()))


def test_a_payment_of_which_nobody_told_us_is_a_break_until_the_poll_has_brought_it(sandbox: RunningSandbox) -> None:
    """Webhook and poll have both failed: the provider's movement has no event of ours to clear."""
    events.poll(now=now())
    booking = unpaid()
    paid_unnoticed(booking)
    sandbox.advance(9 * 3600)
    found = reconcile(scope="stripe", since=None, until=None, actor=_finance(), now=now())
    (charge,) = sandbox.client().v1.charges.list().data
    (seen,) = found.differences
    assert seen.cls == "missing_internal" and charge.id in seen.key
    assert events.poll(now=now()) > 0
    events.apply_due(now=now())
    assert booking_queries.booking(code=booking.code).status == "confirmed"
    assert reconcile(scope="stripe", since=None, until=None, actor=_finance(), now=now()).differences == []
