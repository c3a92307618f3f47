"""Tries, captures and refunds against the sandbox: what a guest, a member of staff and the provider can do to them."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from backoffice.audit.models import AuditEntry
from backoffice.bookings import queries as booking_queries
from backoffice.bookings.models import Booking
from backoffice.core.actor import system
from backoffice.core.errors import (
    Conflict,
    IllegalTransition,
    Indeterminate,
    Invalid,
    KeyReused,
    NotAllowed,
    NotFound,
    OverLimit,
    PaymentDeclined,
    ProviderError,
    RefundTooLarge,
    Refused,
    StaleVersion,
    UpstreamUnavailable,
)
from backoffice.core.money import Money
from backoffice.ledger import queries as ledger
from backoffice.ledger.models import Journal
from backoffice.notifications.models import OutboxMessage
from backoffice.payments import operations as payments
from backoffice.payments import queries
from backoffice.payments.models import Payment, PaymentAttempt, Refund
from backoffice.people.models import StaffRole, User
from backoffice.reconciliation.provider import reconcile
from backoffice.workflows import apply_provider_event as events
from backoffice.workflows import cancel_booking, import_balance_transactions, keep_time, refund_booking
from backoffice.workflows.pay_booking import pay
from tests import factories
from tests.payouts.stays import paid_stay
from tests.racing import race
from tests.stripe_sandbox.server import RunningSandbox
from tests.workflows.steps import ROOMS, claimed_try, now, paid, paid_unnoticed, unpaid

pytestmark = pytest.mark.django_db(transaction=True, available_apps=ROOMS)
WORKER = system("worker")
# No provider is asked what may be refunded, and by whom, and nothing has to be committed for it.
by_itself = pytest.mark.django_db


def pay_with(booking: Booking, card: str = "pm_card_visa") -> Payment:
    return pay(booking_code=booking.code, payment_method=card, actor=factories.acting(booking.guest), now=now())


def ask(booking: Booking, cents: int, by: User, **changes: Any) -> Refund:
    """A member of staff asks for a refund on what the page shows now."""
    payment = Payment.objects.get(booking=booking)
    return refund_booking.request(
        **{
            "booking_code": booking.code,
            "amount": Money(cents, payment.currency),
            "cause": "service_issue",
            "bearer": "host",
            "reason": "No hot water",
            "idempotency_key": f"key-{Refund.objects.count()}",
            "version": payment.version,
            "actor": factories.acting(by),
            "now": now(),
            **changes,
        }
    )


def send(refund: Refund) -> Refund | None:
    return refund_booking.send(refund_code=refund.code, actor=WORKER, now=now())


def clean(*, breaks: int = 0) -> None:
    """Everything the provider has is in the ledger, and both agree to the cent."""
    found = reconcile(scope="stripe", since=None, until=None, actor=WORKER, now=now()).findings
    assert len(found) == breaks, found
    assert [finding for finding in ledger.check(now=now()) if not finding.ok] == []


# Tries ---------------------------------------------------------------------------------------------------------------


def test_a_bank_that_wants_to_see_the_guest_holds_the_nights_once_more_and_then_confirms(
    sandbox: RunningSandbox,
) -> None:
    booking = unpaid()
    first_end = booking.hold.expires_at
    sandbox.advance(600)
    payment = pay_with(booking, "pm_card_authenticationRequired")
    assert payment.status == "requires_action" and payment.next_action_url
    booking.hold.refresh_from_db()
    extended = booking.hold.expires_at
    assert extended is not None and first_end is not None and extended > first_end and booking.hold.extended
    sandbox.advance(300)
    events.poll(now=now())
    events.apply_due(now=now())
    booking.hold.refresh_from_db()
    assert booking.hold.expires_at == extended  # once
    assert payment.provider_id is not None
    sandbox.complete_challenge(payment.provider_id)
    events.poll(now=now())
    events.apply_due(now=now())
    payment.refresh_from_db()
    assert payment.status == "captured" and payment.next_action_url == ""
    assert booking_queries.booking(code=booking.code).status == "confirmed"
    assert list(payment.attempts.values_list("status", flat=True)) == ["succeeded"]


def test_a_guest_who_fails_the_banks_question_may_try_another_card(sandbox: RunningSandbox) -> None:
    booking = unpaid()
    payment = pay_with(booking, "pm_card_authenticationRequired")
    assert payment.provider_id is not None
    sandbox.complete_challenge(payment.provider_id, "fail")
    events.poll(now=now())
    events.apply_due(now=now())
    payment.refresh_from_db()
    assert payment.status == "requires_payment" and payment.last_error
    assert pay_with(booking).status == "captured"
    assert list(payment.attempts.order_by("number").values_list("status", flat=True)) == ["declined", "succeeded"]
    assert OutboxMessage.objects.filter(topic="payment_failed", channel="email").count() == 1
    assert Journal.objects.filter(kind="capture").count() == 1


def test_a_guest_who_leaves_the_banks_page_may_begin_again_with_another_card(sandbox: RunningSandbox) -> None:
    booking = unpaid()
    pay_with(booking, "pm_card_authenticationRequired")
    assert pay_with(booking).status == "captured"
    attempts = PaymentAttempt.objects.order_by("number").values_list("status", "error_code")
    assert list(attempts) == [("declined", "abandoned"), ("succeeded", "")]
    assert len([charge for charge in sandbox.client().v1.charges.list().data if charge.paid]) == 1


def test_while_a_try_is_under_way_another_is_refused(sandbox: RunningSandbox) -> None:
    booking = unpaid()
    claimed_try(booking)
    with pytest.raises(Conflict, match="under way"):
        pay_with(booking)
    assert PaymentAttempt.objects.count() == 1


@pytest.mark.parametrize("card", ["", "   ", "x" * 121])
def test_what_is_no_token_is_refused_before_anything_is_written(sandbox: RunningSandbox, card: str) -> None:
    with pytest.raises(Invalid) as refused:
        pay_with(unpaid(), card)
    assert refused.value.facts["field"] == "payment_method" and not Payment.objects.exists()


def test_a_token_the_provider_does_not_know_ends_the_try_and_not_the_booking(sandbox: RunningSandbox) -> None:
    booking = unpaid()
    with pytest.raises(ProviderError):
        pay_with(booking, "pm_card_that_is_none")
    assert PaymentAttempt.objects.get().status == "declined"
    assert pay_with(booking).status == "captured"


def test_a_provider_that_is_too_busy_ends_the_try_and_not_the_booking(sandbox: RunningSandbox) -> None:
    booking = unpaid()
    sandbox.fault("error_429", method="POST", path="/v1/payment_intents", times=3)
    with pytest.raises(UpstreamUnavailable):
        pay_with(booking)
    sandbox.clear_faults()
    assert pay_with(booking).status == "captured"


def test_after_the_hold_ran_out_nothing_is_charged_even_before_the_job_noticed(sandbox: RunningSandbox) -> None:
    booking = unpaid()
    sandbox.advance(15 * 60)
    with pytest.raises(Conflict, match="not waiting"):
        pay_with(booking)
    assert sandbox.client().v1.payment_intents.list().data == []


def test_a_paid_booking_is_not_paid_again(sandbox: RunningSandbox) -> None:
    booking = paid()
    with pytest.raises(Conflict):
        pay_with(booking)
    assert len(sandbox.client().v1.charges.list().data) == 1


@pytest.mark.parametrize("who", ["host", "stranger", "staff"])
def test_only_the_guest_pays(sandbox: RunningSandbox, who: str) -> None:
    booking = unpaid()
    other = {"host": lambda: booking.host, "stranger": lambda: factories.person("Charlie"), "staff": _finance}[who]()
    with pytest.raises((NotFound, NotAllowed)):
        pay(booking_code=booking.code, payment_method="pm_card_visa", actor=factories.acting(other), now=now())
    assert not Payment.objects.exists()


def test_a_try_of_a_booking_that_was_cancelled_meanwhile_is_not_sent_by_the_sweep(sandbox: RunningSandbox) -> None:
    """The process died before its call; the guest has given the booking up. Nobody is charged to be refunded."""
    booking = unpaid()
    claimed_try(booking)
    alice = factories.acting(booking.guest)
    shown = cancel_booking.preview(booking_code=booking.code, actor=alice, now=now())
    cancel_booking.confirm(booking_code=booking.code, token=shown.token, reason="", actor=alice, now=now())
    keep_time.resolve_indeterminate(now=now() + timedelta(minutes=2))
    assert sandbox.client().v1.payment_intents.list().data == []
    assert PaymentAttempt.objects.get().status == "declined"


def test_money_for_a_booking_that_was_cancelled_while_it_was_paid_goes_back(sandbox: RunningSandbox) -> None:
    booking = unpaid()
    paid_unnoticed(booking)
    alice = factories.acting(booking.guest)
    shown = cancel_booking.preview(booking_code=booking.code, actor=alice, now=now())
    cancel_booking.confirm(booking_code=booking.code, token=shown.token, reason="", actor=alice, now=now())
    keep_time.resolve_indeterminate(now=now() + timedelta(minutes=2))
    refund = Refund.objects.get()
    assert (refund.cause, refund.amount) == ("late_capture", booking.charge_total)
    send(refund)
    sandbox.advance(60)
    clean()
    assert booking_queries.booking(code=booking.code).status == "cancelled"


def test_a_payment_of_another_amount_is_not_taken_for_ours(sandbox: RunningSandbox) -> None:
    booking = unpaid()
    attempt = claimed_try(booking)
    stranger = sandbox.client().v1.payment_intents.create(
        {
            "amount": booking.charge_total - 1,
            "currency": "eur",
            "payment_method": "pm_card_visa",
            "confirm": True,
            "automatic_payment_methods": {"enabled": True, "allow_redirects": "never"},
            "metadata": {"payment": attempt.payment.code},
        }
    )
    events.poll(now=now())
    events.apply_due(now=now())
    assert Payment.objects.get().status == "processing" and stranger.status == "succeeded"
    assert booking_queries.booking(code=booking.code).status == "awaiting_payment"
    assert not Journal.objects.exists()


def test_sp_a_booking_is_confirmed_by_the_providers_word_alone(sandbox: RunningSandbox) -> None:
    """SvetlaPost/StayFlow_Backend books a row "paid" with no provider. Here the only road to confirmed is a capture."""
    booking = unpaid()
    sandbox.fault("error_500_before_commit", method="POST", path="/v1/payment_intents", times=3)
    with pytest.raises(Indeterminate):
        pay_with(booking)
    assert booking_queries.booking(code=booking.code).status == "awaiting_payment"
    assert not Journal.objects.exists()


def test_an_fx_charge_leaves_no_position_whichever_news_comes_first(sandbox: RunningSandbox) -> None:
    """The movement may be imported before the capture is known."""
    booking = unpaid(currency="JPY")
    charge = paid_unnoticed(booking).charge_id
    sandbox.advance(60)
    assert import_balance_transactions.run(now=now()) == 1
    keep_time.resolve_indeterminate(now=now() + timedelta(minutes=2))
    assert booking_queries.booking(code=booking.code).status == "confirmed"
    assert ledger.standing(account="3900", key=charge) == []
    clean()


# Refunds -------------------------------------------------------------------------------------------------------------


def test_mm_refunded_means_that_money_moved(sandbox: RunningSandbox) -> None:
    """Mohammed2372/Booking-Engine-API sets is_refunded=True and calls nobody."""
    booking = paid()
    refund = ask(booking, 4_000, _finance())
    assert queries.money_of(booking=booking).refunded == Money(0, "EUR")
    send(refund)
    made = sandbox.client().v1.refunds.list().data
    assert [(row.amount, row.metadata["refund"]) for row in made] == [(4_000, refund.code)]
    assert queries.money_of(booking=booking).refunded == Money(4_000, "EUR")


def test_a_refund_that_is_pending_at_the_bank_counts_and_then_succeeds(sandbox: RunningSandbox) -> None:
    booking = paid(payment_method="pm_card_pendingRefund")
    refund = ask(booking, 4_000, _finance())
    send(refund)
    refund.refresh_from_db()
    assert refund.status == "submitted" and refund.provider_id
    money = queries.money_of(booking=booking)
    assert (money.refunded.amount, money.refunds_pending.amount) == (0, 4_000)
    assert money.refundable == money.charged - Money(4_000, "EUR")
    sandbox.advance(30 * 86_400)
    keep_time.resolve_indeterminate(now=now())
    refund.refresh_from_db()
    assert refund.status == "succeeded"
    clean()


def test_a_refund_that_the_bank_sends_back_stands_aside_for_the_guest_and_is_not_made_twice(
    sandbox: RunningSandbox,
) -> None:
    booking = paid(payment_method="pm_card_refundFail")
    refund = ask(booking, 4_000, _finance())
    send(refund)
    refund.refresh_from_db()
    assert refund.status == "succeeded"
    events.poll(now=now())
    sandbox.advance(30 * 86_400)
    events.poll(now=now())
    events.apply_due(now=now())
    refund.refresh_from_db()
    assert refund.status == "failed" and refund.unclaimed and refund.failure_reason
    sandbox.advance(60)
    clean()
    assert ledger.balance(account="2410", key=refund.code, currency="EUR") == -4_000
    assert ledger.balance(account="2400", key=refund.code, currency="EUR") == 0
    assert queries.refund_limits(payment=refund.payment).charged.amount == booking.charge_total - 4_000
    assert OutboxMessage.objects.filter(topic="refund_failed", channel="email").count() == 1


def test_a_refund_the_provider_refuses_is_reversed_exactly(sandbox: RunningSandbox) -> None:
    booking = paid()
    before = {str(account): account.amount for account in ledger.balances(open_only=True)}
    refund = ask(booking, 4_000, _finance())
    charge = Payment.objects.get().charge_id
    assert charge is not None
    sandbox.client().v1.refunds.create({"charge": charge})  # somebody has refunded everything in Stripe's dashboard
    with pytest.raises(ProviderError):
        send(refund)
    refund.refresh_from_db()
    assert refund.status == "failed" and not refund.unclaimed
    posted = Journal.objects.get(idempotency_key=f"refund:{refund.code}")
    assert Journal.objects.get(idempotency_key=f"refund-refused:{refund.code}").reverses_id == posted.id
    assert {str(account): account.amount for account in ledger.balances(open_only=True)} == before
    assert queries.refund_limits(payment=refund.payment).charged.amount == booking.charge_total


def test_a_refund_that_failed_at_once_under_its_key_is_sent_when_the_provider_forgets_the_failure(
    sandbox: RunningSandbox,
) -> None:
    """Stripe repeats a saved 500 for as long as it keeps the key. Never a second key: that could be a second refund."""
    booking = paid()
    refund = ask(booking, 4_000, _finance())
    sandbox.fault("error_500_before_commit", method="POST", path="/v1/refunds", times=3)
    with pytest.raises(Indeterminate):
        send(refund)
    for _ in range(3):
        sandbox.advance(120)
        keep_time.resolve_indeterminate(now=now())
    refund.refresh_from_db()
    assert refund.status == "indeterminate"
    sandbox.advance(25 * 3600)
    keep_time.resolve_indeterminate(now=now())
    refund.refresh_from_db()
    assert refund.status == "succeeded" and len(sandbox.client().v1.refunds.list().data) == 1
    clean()


def test_a_refund_we_bear_takes_nothing_from_the_host(sandbox: RunningSandbox) -> None:
    booking = paid()
    held = ledger.balance(account="2100", key=booking.code, currency="EUR")
    refund = ask(booking, 4_000, _finance(), cause="goodwill", bearer="platform")
    send(refund)
    assert ledger.balance(account="2100", key=booking.code, currency="EUR") == held
    assert ledger.balance(account="5210", key=refund.code, currency="EUR") == 4_000
    sandbox.advance(60)
    clean()


@pytest.mark.parametrize("currency", ["EUR", "USD", "JPY"])
def test_what_we_bore_is_not_taken_from_the_host_when_the_rest_goes_back(
    sandbox: RunningSandbox, currency: str
) -> None:
    booking = paid(currency=currency)
    finance = _finance()
    first = ask(booking, booking.charge_total * 2 // 5, finance, cause="goodwill", bearer="platform")
    rest = queries.refund_limits(payment=first.payment).charged.amount
    second = ask(booking, rest, finance)
    given = sum(second.parts.values())
    assert abs(given - booking.total * 3 / 5) <= 2, (
        "the host and we give up what goes back now, not what we paid before"
    )
    assert first.platform_share + given == pytest.approx(booking.total, abs=2)
    for refund in (first, second):
        send(refund)
    sandbox.advance(60)
    clean()


@pytest.mark.parametrize("currency", ["EUR", "USD", "JPY"])
def test_a_cancellation_after_goodwill_takes_no_more_than_goes_back(sandbox: RunningSandbox, currency: str) -> None:
    booking = paid(currency=currency)
    ask(booking, booking.charge_total * 2 // 5, _finance(), cause="goodwill", bearer="platform")
    alice = factories.acting(booking.guest)
    shown = cancel_booking.preview(booking_code=booking.code, actor=alice, now=now())
    cancel_booking.confirm(booking_code=booking.code, token=shown.token, reason="", actor=alice, now=now())
    refund = Refund.objects.get(cause="guest_cancellation")
    assert refund.amount == booking.charge_total - booking.charge_total * 2 // 5
    assert abs(sum(refund.parts.values()) - booking.total * 3 / 5) <= 2


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"amount": Money(0, "EUR")}, Invalid),
        ({"amount": Money(-1, "EUR")}, Invalid),
        ({"amount": Money(100, "USD")}, Invalid),
        ({"amount": Money(10**9, "EUR")}, RefundTooLarge),
        ({"cause": "because"}, Invalid),
        ({"bearer": "guest"}, Invalid),
        ({"reason": "  "}, Refused),
        ({"version": 0}, StaleVersion),
        ({"booking_code": "BK-NONE"}, NotFound),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else value.__name__,
)
@by_itself
def test_a_refund_that_cannot_be_is_refused_and_leaves_nothing(changes: dict[str, Any], error: type[Exception]) -> None:
    booking = _stay()
    with pytest.raises(error):
        ask(booking, 1_000, _finance(), **changes)
    assert not Refund.objects.exists() and not Journal.objects.filter(kind="refund").exists()


def test_an_unpaid_booking_has_nothing_to_refund(sandbox: RunningSandbox) -> None:
    booking = unpaid()
    with pytest.raises(PaymentDeclined):
        pay_with(booking, "pm_card_visa_chargeDeclined")
    with pytest.raises(Conflict, match="nothing to refund"):
        ask(booking, 1_000, _finance())


@by_itself
def test_a_key_is_good_for_one_booking() -> None:
    first, second = _stay(), _stay()
    ask(first, 1_000, finance := _finance(), idempotency_key="same")
    with pytest.raises(KeyReused):
        ask(second, 1_000, finance, idempotency_key="same")


# Limits and the second person ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("role", "amount", "status"),
    [
        ("support_l1", 10_000, "approved"),
        ("support_l1", 10_001, "requested"),
        ("support_l2", 35_000, "approved"),
        ("team_lead", 35_000, "approved"),
        ("finance", 35_000, "approved"),
    ],
)
@by_itself
def test_the_limit_per_act(role: str, amount: int, status: str) -> None:
    assert ask(_stay(), amount, factories.staff(role)).status == status


@by_itself
def test_finance_needs_four_eyes_above_its_threshold() -> None:
    finance, other = _finance(), _finance()
    assert ask(_dear(), 200_000, finance).status == "approved"
    big = ask(_dear(), 200_001, finance)
    assert big.status == "requested"
    with pytest.raises(NotAllowed):
        _approve(big, finance)
    with pytest.raises(NotAllowed):
        _approve(big, factories.staff("team_lead"))
    assert _approve(big, other).status == "approved"


@pytest.mark.parametrize("role", ["trust_safety", "auditor", "on_call", "admin"])
@by_itself
def test_roles_without_the_verb_refund_nothing(role: str) -> None:
    with pytest.raises(NotAllowed):
        ask(_stay(), 1, factories.staff(role))


def test_the_limit_per_day_counts_what_waits_and_begins_anew_at_midnight(sandbox: RunningSandbox) -> None:
    home = factories.listing(nightly_price=20_000, now=now())
    junior = factories.staff("support_l1")
    at = now().replace(hour=22, minute=0) + timedelta(days=1)
    sandbox.set_clock(at.timestamp())
    booking = paid(home=home)
    statuses = [ask(booking, 10_000, junior).status for _ in range(6)]
    assert statuses == ["approved"] * 5 + ["requested"]
    sandbox.advance(3 * 3600)
    assert ask(booking, 10_000, junior).status == "approved"


def test_two_refunds_at_once_on_two_bookings_stay_within_one_persons_day(sandbox: RunningSandbox) -> None:
    bookings = [paid() for _ in range(6)]
    junior = factories.staff("support_l1")
    outcomes = race([partial(ask, booking, 10_000, junior, idempotency_key=booking.code) for booking in bookings])
    assert sorted(refund.status for refund in outcomes) == ["approved"] * 5 + ["requested"]


@pytest.mark.parametrize(
    ("maker", "approver", "may"),
    [
        ("support_l1", "team_lead", True),
        ("support_l2", "team_lead", True),
        ("support_l1", "finance", True),
        ("team_lead", "finance", True),
        ("team_lead", "team_lead", False),
        ("finance", "team_lead", False),
        ("finance", "finance", True),
        ("support_l1", "support_l2", False),
        ("support_l1", "trust_safety", False),
        ("support_l1", "admin", False),
        ("support_l1", "auditor", False),
    ],
)
@by_itself
def test_who_says_the_second_yes(maker: str, approver: str, may: bool) -> None:
    waiting = ask(_dear(), 60_000 if maker.startswith("support") else 200_001, factories.staff(maker))
    assert waiting.status == "requested"
    second = factories.staff(approver)
    if may:
        assert _approve(waiting, second).status == "approved"
    else:
        with pytest.raises((NotAllowed, OverLimit)):
            _approve(waiting, second)
        assert Refund.objects.get().status == "requested" and not Journal.objects.filter(kind="refund").exists()


@by_itself
def test_a_lead_approves_up_to_a_leads_own_limit() -> None:
    lead, junior = factories.staff("team_lead"), factories.staff("support_l1")
    with pytest.raises(OverLimit):
        _approve(ask(_dear(), 200_001, junior), lead)
    assert _approve(ask(_dear(), 200_000, junior), lead).status == "approved"


@pytest.mark.parametrize("side", ["guest", "host"])
@by_itself
def test_nobody_refunds_or_approves_their_own_stay(side: str) -> None:
    """A member of staff may also be a guest or host; DOMAIN.md: never for oneself."""
    booking = _stay()
    mine = _made_staff(getattr(booking, side), "finance")
    with pytest.raises(NotAllowed):
        ask(booking, 1_000, mine)
    waiting = ask(booking, 20_000, factories.staff("support_l1"))
    with pytest.raises(NotAllowed):
        _approve(waiting, mine)
    with pytest.raises(NotAllowed):
        cancel_booking.preview(booking_code=booking.code, actor=factories.acting(mine), now=now(), on_behalf_of="host")


@by_itself
def test_a_refund_is_decided_once() -> None:
    waiting = ask(_stay(), 15_000, factories.staff("support_l1"))
    lead = factories.staff("team_lead")
    rejected = refund_booking.reject(
        refund_code=waiting.code,
        reason="The guest withdrew",
        version=waiting.version,
        actor=factories.acting(lead),
        now=now(),
    )
    assert rejected.status == "rejected"
    with pytest.raises(IllegalTransition):
        _approve(rejected, lead)
    assert queries.refund_limits(payment=rejected.payment).charged.amount == rejected.payment.amount
    entry = AuditEntry.objects.get(verb="refunds.reject")
    assert (entry.actor_id, entry.reason) == (lead.id, "The guest withdrew")


def test_two_approvers_at_once_post_it_once(sandbox: RunningSandbox) -> None:
    waiting = ask(paid(), 15_000, factories.staff("support_l1"))
    outcomes = race([partial(_approve, waiting, factories.staff("team_lead")) for _ in range(4)])
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["Refund", *["StaleVersion"] * 3], outcomes
    assert Journal.objects.filter(kind="refund").count() == 1


@by_itself
def test_only_its_maker_takes_back_a_refund_and_only_while_it_waits() -> None:
    junior = factories.staff("support_l1")
    waiting = ask(_stay(), 15_000, junior)
    take_back = partial(payments.cancel_refund, refund_code=waiting.code, version=waiting.version, now=now())
    with pytest.raises(NotAllowed):
        take_back(actor=factories.acting(factories.staff("support_l1")))
    assert take_back(actor=factories.acting(junior)).status == "cancelled"
    sent = ask(_stay(), 1_000, junior)
    with pytest.raises(Conflict, match="on its way"):
        payments.cancel_refund(refund_code=sent.code, version=sent.version, actor=factories.acting(junior), now=now())


def test_a_page_shown_before_the_guest_cancelled_is_stale(sandbox: RunningSandbox) -> None:
    booking = paid(check_in=(now() + timedelta(days=3)).date())
    shown = Payment.objects.get().version
    alice = factories.acting(booking.guest)
    terms = cancel_booking.preview(booking_code=booking.code, actor=alice, now=now())
    cancel_booking.confirm(booking_code=booking.code, token=terms.token, reason="", actor=alice, now=now())
    assert 0 < Refund.objects.get().amount < booking.charge_total
    with pytest.raises(StaleVersion):
        ask(booking, 1_000, _finance(), version=shown)


def _approve(refund: Refund, by: User) -> Refund:
    return refund_booking.approve(
        refund_code=refund.code, version=refund.version, actor=factories.acting(by), now=now()
    )


def _stay(**options: Any) -> Booking:
    """A stay that was paid, as the desk has it."""
    return paid_stay(now=now(), **options)


def _dear() -> Booking:
    """A paid stay of about three thousand euros."""
    return _stay(home=factories.listing(nightly_price=90_000, now=now()))


def _finance() -> User:
    return factories.staff("finance", now=now())


def _made_staff(user: User, role: str) -> User:
    user.is_staff = True
    user.save()
    StaffRole.objects.create(user=user, role=role, granted_at=now())
    return user
