from __future__ import annotations

import hashlib
import hmac
import time
from datetime import timedelta

import pytest

from backoffice.bookings import queries as booking_queries
from backoffice.core.actor import system
from backoffice.core.errors import (
    Conflict,
    Indeterminate,
    Invalid,
    KeyReused,
    NotAllowed,
    NotFound,
    PaymentDeclined,
    RefundTooLarge,
    StaleVersion,
)
from backoffice.core.money import Money
from backoffice.ledger import queries as ledger
from backoffice.payments import queries as payments
from backoffice.payments.models import PaymentAttempt, Refund
from backoffice.reconciliation.provider import reconcile
from backoffice.workflows import (
    apply_provider_event,
    cancel_booking,
    import_balance_transactions,
    keep_time,
    refund_booking,
)
from backoffice.workflows.pay_booking import pay
from tests import factories
from tests.stripe_sandbox.server import RunningSandbox
from tests.workflows import steps
from tests.workflows.steps import now

pytestmark = pytest.mark.django_db(transaction=True)
FINANCE = system("finance")


def paid(sandbox, **options):
    """A booking paid with a good card; the provider has settled it (its balance transaction comes a little later)."""
    booking = steps.paid(**options)
    sandbox.advance(60)
    return booking


def refund(booking, amount: int, *, key="k1", staff=None, version=None, bearer="host"):
    version = version if version is not None else booking.payment.version  # as this page shows it
    return steps.asked_back(booking, amount, by=staff, idempotency_key=key, version=version, bearer=bearer)


def test_a_paid_booking_is_confirmed_posted_and_reconciles(sandbox: RunningSandbox) -> None:
    booking = paid(sandbox)
    assert booking.status == "confirmed" and booking.hold.expires_at is None
    assert import_balance_transactions.run(now=now()) == 1
    outcome = reconcile(scope="stripe", since=None, until=None, actor=FINANCE, now=now())
    assert outcome.differences == [] and outcome.run.lines == outcome.run.matched == 1
    assert [finding for finding in ledger.check(now=now()) if not finding.ok] == []
    assert ledger.balance(account="2100", key=booking.code, currency="EUR") == -(booking.host_price - booking.host_fee)


def test_a_refund_goes_back_to_the_card_and_reconciles(sandbox: RunningSandbox) -> None:
    booking = paid(sandbox)
    asked = refund(booking, 5_000)
    assert asked.status == "approved"
    sent = refund_booking.send(refund_code=asked.code, actor=FINANCE, now=now())
    assert sent is not None and sent.status == "succeeded"
    outcome = reconcile(scope="stripe", since=None, until=None, actor=FINANCE, now=now())
    assert outcome.differences == [] and outcome.run.lines == 2
    money = payments.money_of(booking=booking)
    assert money.refunded == Money(5_000, "EUR") and money.refundable == money.charged - money.refunded


def test_a_refund_by_line_takes_its_taxes_along_and_the_preview_is_what_happens(sandbox: RunningSandbox) -> None:
    booking = paid(sandbox)
    staff = factories.acting(factories.staff("finance", now=now()), now=now())
    most = payments.line_limits(payment=booking.payment)
    terms = {"booking_code": booking.code, "cause": "service_issue", "bearer": "host", "actor": staff}
    lines = {"nights": most["nights"] - Money(1, "EUR"), "guest_fee": most["guest_fee"]}
    shown = refund_booking.preview(amount=None, lines=lines, now=now(), **terms)
    assert shown.amount == shown.host + shown.platform + shown.tax == Money.sum(shown.lines.values(), "EUR")
    asked = refund_booking.request(
        amount=shown.amount,
        lines=lines,
        reason="No hot water",
        idempotency_key="by-line",
        version=shown.payment_version,
        now=now(),
        **terms,
    )
    assert asked.lines == {name: money.amount for name, money in shown.lines.items()}
    booking.payment.refresh_from_db()
    assert payments.line_limits(payment=booking.payment)["nights"] == Money(1, "EUR")
    with pytest.raises(RefundTooLarge, match="nights"):
        refund_booking.preview(amount=None, lines=lines, now=now(), **terms)
    with pytest.raises(Invalid, match="come to"):
        refund_booking.request(
            amount=Money(5, "EUR"),
            lines={"nights": Money(1, "EUR")},
            reason="No hot water",
            idempotency_key="other",
            version=booking.payment.version,
            now=now(),
            **terms,
        )


def test_the_same_refund_key_refunds_once_and_another_amount_under_it_is_refused(sandbox: RunningSandbox) -> None:
    booking = paid(sandbox)
    staff = factories.staff("finance", now=now())
    first = refund(booking, 1_000, staff=staff)
    assert refund(booking, 1_000, staff=staff).code == first.code
    with pytest.raises(KeyReused):
        refund(booking, 2_000, staff=staff)
    assert Refund.objects.count() == 1


def test_a_refund_made_on_a_stale_page_is_refused(sandbox: RunningSandbox) -> None:
    booking = paid(sandbox)
    shown = booking.payment.version
    refund(booking, 1_000, version=shown)
    with pytest.raises(StaleVersion):
        refund(booking, 1_000, key="k2", version=shown)


def test_no_more_is_refunded_than_was_captured_pending_refunds_counted(sandbox: RunningSandbox) -> None:
    booking = paid(sandbox)
    refund(booking, booking.charge_total - 100)
    booking.payment.refresh_from_db()
    with pytest.raises(RefundTooLarge):
        refund(booking, 101, key="k2")


def test_over_the_limit_a_refund_waits_for_a_second_person_who_is_not_its_maker(sandbox: RunningSandbox) -> None:
    booking = paid(sandbox)
    junior, lead = factories.staff("support_l1", now=now()), factories.staff("team_lead", now=now())
    waiting = refund(booking, 15_000, staff=junior)
    assert waiting.status == "requested" and ledger.balance(account="2400", key=waiting.code, currency="EUR") == 0
    with pytest.raises(NotAllowed):
        refund_booking.approve(
            refund_code=waiting.code, version=waiting.version, actor=factories.acting(junior, now=now()), now=now()
        )
    approved = refund_booking.approve(
        refund_code=waiting.code, version=waiting.version, actor=factories.acting(lead, now=now()), now=now()
    )
    assert approved.status == "approved"


def test_a_declined_card_leaves_the_booking_waiting_and_another_card_pays_it(sandbox: RunningSandbox) -> None:
    guest = factories.person("Alice", now=now())
    booking = factories.booking(guest=guest, now=now())
    alice = factories.acting(guest, now=now())
    with pytest.raises(PaymentDeclined) as declined:
        pay(booking_code=booking.code, payment_method="pm_card_visa_chargeDeclined", actor=alice, now=now())
    assert declined.value.facts["decline_code"] == "generic_decline"
    payment = pay(booking_code=booking.code, payment_method="pm_card_visa", actor=alice, now=now())
    assert payment.status == "captured" and payment.attempts.count() == 2


def test_whoever_tries_a_card_that_is_reported_stolen_is_told_no_more_than_that_it_was_declined(
    sandbox: RunningSandbox,
) -> None:
    guest = factories.person("Alice", now=now())
    booking = factories.booking(guest=guest, now=now())
    with pytest.raises(PaymentDeclined) as declined:
        pay(
            booking_code=booking.code,
            payment_method="pm_card_visa_chargeDeclinedStolenCard",
            actor=factories.acting(guest, now=now()),
            now=now(),
        )
    assert declined.value.facts["decline_code"] == "declined" and "stolen" not in str(declined.value)
    assert booking.payment.attempts.get().error_code == "stolen_card", "staff see what it was"


def test_nobody_pays_for_anothers_booking(sandbox: RunningSandbox) -> None:
    booking = factories.booking(now=now())
    with pytest.raises(NotFound):
        pay(
            booking_code=booking.code,
            payment_method="pm_card_visa",
            actor=factories.acting(factories.person("Charlie", now=now()), now=now()),
            now=now(),
        )


@pytest.mark.parametrize("taken", [False, True], ids=["still free", "taken"])
def test_money_that_arrives_after_the_hold_ran_out_takes_the_nights_again_or_goes_back(
    sandbox: RunningSandbox, taken: bool
) -> None:
    home = factories.listing(now=now())
    first, second = (factories.person(name, now=now()) for name in ("Alice", "Charlie"))
    booking = factories.booking(home, first, now=now())
    sandbox.fault("reset_after_commit", method="POST", path="/v1/payment_intents", times=3)
    with pytest.raises(Indeterminate):
        pay(
            booking_code=booking.code,
            payment_method="pm_card_visa",
            actor=factories.acting(first, now=now()),
            now=now(),
        )
    later = now() + timedelta(minutes=40)
    assert keep_time.expire_holds(now=later) == 1
    if taken:
        factories.booking(home, second, now=later)
    apply_provider_event.poll(now=now() + timedelta(minutes=1))
    apply_provider_event.apply_due(now=later)
    sandbox.advance(60)
    booking = booking_queries.booking(code=booking.code)
    if not taken:
        assert (booking.status, booking.hold.active, booking.hold.expires_at) == ("confirmed", True, None)
        assert not Refund.objects.exists()
        return
    assert booking.status == "expired"
    returned = Refund.objects.get()
    assert returned.cause == "late_capture" and returned.amount == booking.charge_total
    refund_booking.send(refund_code=returned.code, actor=FINANCE, now=later)
    assert reconcile(scope="stripe", since=None, until=None, actor=FINANCE, now=now()).findings == []


def test_a_host_cancels_and_the_guest_gets_everything_back(sandbox: RunningSandbox) -> None:
    booking = paid(sandbox)
    bob = factories.acting(booking.host, now=now())
    shown = cancel_booking.preview(booking_code=booking.code, actor=bob, now=now())
    assert shown.refund == Money(booking.charge_total, "EUR") and shown.penalty is not None
    cancelled = cancel_booking.confirm(
        booking_code=booking.code, token=shown.token, reason="Burst pipe", actor=bob, now=now()
    )
    assert cancelled.status == "cancelled" and cancelled.cancelled_by == "host"
    assert cancelled.cancellation["trace"]
    assert ledger.balance(account="1310", key=booking.host.code, currency="EUR") == shown.penalty.amount
    refund_booking.send(refund_code=Refund.objects.get().code, actor=FINANCE, now=now())
    outcome = reconcile(scope="stripe", since=None, until=None, actor=FINANCE, now=now())
    assert outcome.differences == []
    assert ledger.balance(account="2100", key=booking.code, currency="EUR") == 0


def test_a_cancellation_token_is_void_once_the_terms_changed(sandbox: RunningSandbox) -> None:
    booking = paid(sandbox)
    alice = factories.acting(booking.guest, now=now())
    shown = cancel_booking.preview(booking_code=booking.code, actor=alice, now=now())
    refund(booking, 1_000)
    with pytest.raises(StaleVersion):
        cancel_booking.confirm(booking_code=booking.code, token=shown.token, reason="", actor=alice, now=now())
    assert booking_queries.booking(code=booking.code).status == "confirmed"


def test_an_unpaid_booking_is_cancelled_without_money(sandbox: RunningSandbox) -> None:
    guest = factories.person("Alice", now=now())
    booking = factories.booking(guest=guest, now=now())
    alice = factories.acting(guest, now=now())
    shown = cancel_booking.preview(booking_code=booking.code, actor=alice, now=now())
    assert not shown.refund
    assert (
        cancel_booking.confirm(booking_code=booking.code, token=shown.token, reason="", actor=alice, now=now()).status
        == "cancelled"
    )
    with pytest.raises(Conflict):
        pay(booking_code=booking.code, payment_method="pm_card_visa", actor=alice, now=now())


def test_a_guest_who_pays_in_yen_for_a_home_in_euros_leaves_no_position(sandbox: RunningSandbox) -> None:
    booking = paid(sandbox, currency="JPY")
    import_balance_transactions.run(now=now())
    charge = booking.payment.charge_id
    assert [str(kept) for kept in ledger.balances(code="3900", key=charge, open_only=True)] == []
    assert reconcile(scope="stripe", since=None, until=None, actor=FINANCE, now=now()).differences == []


def test_drift_at_the_provider_is_one_break_with_its_class_and_amount(sandbox: RunningSandbox) -> None:
    booking = paid(sandbox)
    assert reconcile(scope="stripe", since=None, until=None, actor=FINANCE, now=now()).differences == []
    sandbox.drift(amount_delta=-1)
    outcome = reconcile(scope="stripe", since=None, until=None, actor=FINANCE, now=now())
    assert [(found.cls, found.difference, found.currency, found.subject) for found in outcome.findings] == [
        ("amount_mismatch", -1, "EUR", booking.code)
    ]
    again = reconcile(scope="stripe", since=None, until=None, actor=FINANCE, now=now())
    assert again.run.output_digest == outcome.run.output_digest


@pytest.mark.parametrize("effect", ["error_500_after_commit", "timeout_after_commit", "reset_after_commit"])
def test_a_payment_the_provider_made_but_did_not_confirm_is_found(impatient: RunningSandbox, effect: str) -> None:
    guest = factories.person("Alice", now=now())
    booking = factories.booking(guest=guest, now=now())
    impatient.fault(effect, method="POST", path="/v1/payment_intents", times=3, seconds=1.5)
    with pytest.raises(Indeterminate):
        pay(
            booking_code=booking.code,
            payment_method="pm_card_visa",
            actor=factories.acting(guest, now=now()),
            now=now(),
        )
    impatient.clear_faults()
    assert PaymentAttempt.objects.get().status == "indeterminate"
    assert booking_queries.booking(code=booking.code).status == "awaiting_payment"
    assert keep_time.resolve_indeterminate(now=now() + timedelta(minutes=2)) >= 1
    assert booking_queries.booking(code=booking.code).status == "confirmed"
    assert len(impatient.client().v1.charges.list().data) == 1


def test_a_try_that_was_never_carried_out_is_given_up_and_another_pays(sandbox: RunningSandbox) -> None:
    guest = factories.person("Alice", now=now())
    booking = factories.booking(guest=guest, now=now())
    alice = factories.acting(guest, now=now())
    sandbox.fault("error_500_before_commit", method="POST", path="/v1/payment_intents", times=1)
    with pytest.raises(Indeterminate):
        pay(booking_code=booking.code, payment_method="pm_card_visa", actor=alice, now=now())
    keep_time.resolve_indeterminate(now=now() + timedelta(minutes=11))
    assert PaymentAttempt.objects.get().status == "declined"
    pay(booking_code=booking.code, payment_method="pm_card_visa", actor=alice, now=now())
    assert booking_queries.booking(code=booking.code).status == "confirmed"
    assert len(sandbox.client().v1.charges.list().data) == 1


@pytest.mark.parametrize("effect", ["error_500_after_commit", "timeout_after_commit", "reset_after_commit"])
def test_a_refund_the_provider_made_but_did_not_confirm_is_found_and_made_once(
    impatient: RunningSandbox, effect: str
) -> None:
    booking = paid(impatient)
    asked = refund(booking, 5_000)
    impatient.fault(effect, method="POST", path="/v1/refunds", times=3, seconds=1.5)
    with pytest.raises(Indeterminate):
        refund_booking.send(refund_code=asked.code, actor=FINANCE, now=now())
    asked.refresh_from_db()
    assert asked.status == "indeterminate"
    impatient.clear_faults()
    keep_time.resolve_indeterminate(now=now() + timedelta(minutes=2))
    asked.refresh_from_db()
    assert asked.status == "succeeded"
    assert len(impatient.client().v1.refunds.list().data) == 1


def test_webhooks_are_accepted_after_the_desks_clock_was_moved_on(sandbox: RunningSandbox) -> None:
    sandbox.advance(86_400)
    stamp, payload = int(time.time()), b'{"object": "event"}'
    signature = hmac.new(sandbox.webhook_secret.encode(), b"%d." % stamp + payload, hashlib.sha256).hexdigest()
    with pytest.raises(Invalid, match="payload"):  # the signature was good; the event is not one
        apply_provider_event.receive(payload=payload, signature=f"t={stamp},v1={signature}", now=now())
