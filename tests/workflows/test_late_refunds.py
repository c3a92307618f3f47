"""Money that is the guest's by rule, captured too late or paid for a stay that its host cancelled, while a chargeback is open:
given back by itself once nothing holds it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from backoffice.bookings.models import Booking
from backoffice.core.errors import Conflict, Indeterminate, ProviderError
from backoffice.core.money import Money
from backoffice.ledger import queries as ledger
from backoffice.notifications.models import OutboxMessage
from backoffice.payments import operations as payments
from backoffice.payments import queries as payment_queries
from backoffice.payments.gateway import submit as submitting
from backoffice.payments.gateway.stripe import StripeGateway, gateway
from backoffice.payments.models import BalanceTransaction, Chargeback, ExtraCharge, Payment, Refund
from backoffice.payouts import queries as payouts
from backoffice.payouts.models import Payout
from backoffice.reporting import queries as reporting
from backoffice.reporting.queries import health
from backoffice.reporting.queries import money as reporting_money
from backoffice.workflows import (
    cancel_booking,
    collect_charges,
    import_balance_transactions,
    keep_time,
    refund_booking,
    work_chargebacks,
)
from backoffice.workflows.pay_booking import pay
from tests import factories
from tests.console import world
from tests.racing import race
from tests.stripe_sandbox.server import RunningSandbox
from tests.workflows.steps import ROOMS, asked_back, now, paid
from tests.workflows.test_chargebacks import again, answered, clean, decide, finance, hear, stage, stands, submit
from tests.workflows.test_damage import approve, ask, stayed
from tests.workflows.test_instalments import cancel, due, guest, long_stay, until
from tests.workflows.test_release_payouts import released, stay, until_due

pytestmark = pytest.mark.django_db(
    transaction=True, available_apps=[*ROOMS, "backoffice.payouts", "backoffice.reporting"]
)
WORKER = collect_charges.ACTOR
LOST_AFTER = collect_charges.LOST_AFTER


def disputed(sandbox: RunningSandbox, charge_id: str | None) -> Chargeback:
    """The guest goes to their bank about a charge; only the dispute is heard of, and its money imported."""
    made = sandbox.control("POST", "/_sim/disputes", {"charge": charge_id})
    sandbox.advance(60)
    row = work_chargebacks.take_over(dispute_id=str(made["id"]), actor=WORKER, now=now())
    import_balance_transactions.run(now=now())
    return row


def unheard(sandbox: RunningSandbox, **options: Any) -> tuple[Booking, ExtraCharge, str]:
    """A stay that its guest ended while its second month was being charged, and the charge that we have not heard of."""
    booking = long_stay(nights=60, **options)
    (row,) = due(booking)
    until(sandbox, row.due_at)
    before = {each.id for each in sandbox.client().v1.charges.list().data}
    sandbox.fault("reset_after_commit", method="POST", path="/v1/payment_intents", times=3)
    collect_charges.collect_due(now=now())
    sandbox.clear_faults()
    assert not cancel(booking, guest(booking)).refund
    (made,) = {each.id for each in sandbox.client().v1.charges.list().data} - before
    return booking, row, made


def heard(charge: ExtraCharge) -> Refund:
    """The lost answer is asked for, twice and twice at once: recorded once, given back once."""
    at = now() + LOST_AFTER
    race([lambda: collect_charges.resolve_unanswered(now=at)] * 2)
    collect_charges.resolve_unanswered(now=at)
    charge.refresh_from_db()
    assert charge.status == "captured"
    return Refund.objects.get(charge=charge)


def latest(charge: ExtraCharge | None = None) -> Refund:
    found = Refund.objects.filter(cause="late_capture", charge=charge).order_by("id").last()
    assert found is not None
    return found


def sent(refund: Refund) -> Refund:
    refund_booking.send(refund_code=refund.code, actor=WORKER, now=now())
    refund.refresh_from_db()
    assert refund.status == "succeeded"
    return refund


def net(sandbox: RunningSandbox, charge_id: str | None) -> int:
    """What the guest is still out of pocket for a charge: not refunded, and not taken back by their bank."""
    charge = sandbox.client().v1.charges.retrieve(charge_id or "")
    rows = sandbox.client().v1.disputes.list({"charge": charge.id}).data
    return charge.amount - charge.amount_refunded - sum(row.amount for row in rows if row.status == "lost")


def reported(booking: Booking) -> list[reporting_money.Tie]:
    """The money report of all days beside the ledger."""
    days = {"since": now().date() - timedelta(days=400), "until": now().date() + timedelta(days=400)}
    return reporting_money.ties(rows=reporting_money.gmv(by="month", **days), **days)


def told(topic: str) -> int:
    return OutboxMessage.objects.filter(topic=topic, channel="email").count()


def test_it_is_recorded_at_once_and_waits_where_everybody_can_see_why(sandbox: RunningSandbox) -> None:
    booking, charge, _ = unheard(sandbox)
    chargeback = disputed(sandbox, booking.payment.charge_id)
    held = -stands("2100", booking.code)
    refund = heard(charge)
    assert (refund.status, refund.waits_for, refund.amount) == ("requested", "chargeback", charge.amount)
    assert -stands("2100", booking.code) == held + charge.held and stands("2400", refund.code) == 0
    wait = payment_queries.why_refund_waits(refund=refund)
    assert wait is not None and wait.chargebacks == (chargeback.code,) and wait.until == chargeback.due_by
    assert chargeback.code in wait.sentence and f"{chargeback.due_by:%d %b %Y}" in wait.sentence
    assert told("refund_waits") == 1 and told("refund_stopped") == 0

    # It is the guest's: nobody decides it, nothing sends it, and nothing of it is planned for the host or earned by them.
    asked: dict[str, Any] = {"refund_code": refund.code, "version": refund.version, "actor": finance(), "now": now()}
    with pytest.raises(Conflict, match="by rule"):
        payments.approve_refund(**asked)
    with pytest.raises(Conflict, match="by rule"):
        payments.reject_refund(reason="x", **asked)
    keep_time.resolve_indeterminate(now=now() + LOST_AFTER)
    assert refund_booking.send(refund_code=refund.code, actor=WORKER, now=now()) is None
    assert sum(row.held for row in payouts.payouts_of_booking(booking_id=booking.pk)) == held
    assert payment_queries.held_parts(booking=booking).held.amount == held
    assert payouts.unscheduled() == []
    (month,) = reporting.earnings(host_id=booking.host_id, since=booking.check_in, until=booking.check_out)
    assert month.net.amount == held
    (shown,) = reporting.refunds_of(booking_code=booking.code, actor=guest(booking))
    assert shown.story.state == "waiting" and f"{chargeback.due_by:%d %b %Y}" in shown.story.sentence
    assert health.bookings_explained().ok
    clean()


@pytest.mark.parametrize("outcome", ["won", "lost"])
def test_the_chargeback_of_another_charge_returns_nothing_of_this_one(sandbox: RunningSandbox, outcome: str) -> None:
    booking, charge, charge_id = unheard(sandbox)
    chargeback = disputed(sandbox, booking.payment.charge_id)
    refund = heard(charge)
    answered(sandbox, chargeback, "winning_evidence" if outcome == "won" else "losing_evidence")
    refund.refresh_from_db()
    assert (refund.status, refund.waits_for) == ("approved", "") and stands("2400", refund.code) == -charge.amount
    sent(refund)
    hear(sandbox)
    assert net(sandbox, charge_id) == 0 and Refund.objects.count() == 1
    # Of the first month nothing has been released: lost, all of it has gone back to the guest.
    kept = {"won": booking.payment.held, "lost": 0}[outcome]
    assert (-stands("2100", booking.code), stands("5200", chargeback.provider_id)) == (kept, 0)
    assert health.bookings_explained().ok
    clean()


@pytest.mark.parametrize("first", ["chargeback", "charge"])
@pytest.mark.parametrize("outcome", ["won", "lost"])
def test_lost_itself_the_guest_has_it_and_is_not_paid_twice(sandbox: RunningSandbox, outcome: str, first: str) -> None:
    booking, charge, charge_id = unheard(sandbox)
    words = "winning_evidence" if outcome == "won" else "losing_evidence"
    chargeback = disputed(sandbox, charge_id)
    assert chargeback.payment is None  # nobody knows yet whose charge it is
    if first == "charge":
        refund = heard(charge)
        assert (refund.status, refund.waits_for) == ("requested", "chargeback")
        chargeback = answered(sandbox, again(chargeback), words)
    else:
        submit(stage(chargeback, uncategorized_text=words))
        sandbox.advance(3600)
        work_chargebacks.take_over(dispute_id=chargeback.provider_id, actor=WORKER, now=now())
        import_balance_transactions.run(now=now())
        work_chargebacks.follow_money(sources=[chargeback.provider_id], actor=WORKER, now=now())
        refund = heard(charge)
        chargeback = again(chargeback)
        assert chargeback.payment is not None
    refund.refresh_from_db()
    assert refund.status == ("approved" if outcome == "won" else "cancelled")
    if outcome == "won":
        sent(refund)
    assert told("refund_stopped") == (1 if outcome == "lost" else 0)
    hear(sandbox)
    assert net(sandbox, charge_id) == 0
    # What was held of it has gone back to the guest either way; it is no loss of ours, and never the host's.
    assert (-stands("2100", booking.code), stands("5200", chargeback.provider_id)) == (booking.payment.held, 0)
    assert health.bookings_explained().ok
    clean()


def test_a_warning_of_a_charge_that_we_had_not_heard_of_is_told_once_it_is_known_whose_it_is(
    sandbox: RunningSandbox,
) -> None:
    finance()
    booking, charge, charge_id = unheard(sandbox)
    made = sandbox.control("POST", "/_sim/early_fraud_warnings", {"charge": charge_id})
    warning = work_chargebacks.take_over_warning(warning_id=str(made["id"]), actor=WORKER, now=now())
    assert warning.payment is None and told("fraud_warning") == 0
    heard(charge)
    warning.refresh_from_db()
    assert warning.payment == booking.payment and told("fraud_warning") == 1
    work_chargebacks.take_over_warning(warning_id=str(made["id"]), actor=WORKER, now=now())
    assert told("fraud_warning") == 1


def test_what_a_later_instalment_gave_back_leaves_an_earlier_charge_its_own(sandbox: RunningSandbox) -> None:
    """The second month has gone back: all that is held is the first month's, and a loss of it takes that."""
    booking, charge, _ = unheard(sandbox)
    sent(heard(charge))
    chargeback = disputed(sandbox, booking.payment.charge_id)
    answered(sandbox, chargeback, "losing_evidence")
    assert (stands("2100", booking.code), stands("5200", chargeback.provider_id)) == (0, 0)
    assert sum(row.held for row in payouts.payouts_of_booking(booking_id=booking.pk)) == 0
    clean()


def test_an_appeal_that_brings_it_back_gives_it_back(sandbox: RunningSandbox) -> None:
    booking, charge, charge_id = unheard(sandbox)
    chargeback = disputed(sandbox, charge_id)
    heard(charge)
    answered(sandbox, again(chargeback), "losing_evidence")
    decide(sandbox, chargeback.provider_id, status="appeal_under_review")
    hear(sandbox)
    assert [row.status for row in Refund.objects.order_by("id")] == ["cancelled", "requested"]
    decide(sandbox, chargeback.provider_id, status="won")
    hear(sandbox)
    sent(latest(charge))
    hear(sandbox)
    assert net(sandbox, charge_id) == 0 and stands("2100", booking.code) == -booking.payment.held
    clean()


def test_one_that_was_not_sent_yet_waits_and_is_not_given_up(sandbox: RunningSandbox) -> None:
    booking, charge, charge_id = unheard(sandbox)
    refund = heard(charge)
    assert refund.status == "approved"
    chargeback = disputed(sandbox, booking.payment.charge_id)
    refund.refresh_from_db()
    assert refund.status == "cancelled" and stands("2400", refund.code) == 0
    waiting = latest(charge)
    assert (waiting.status, waiting.waits_for, waiting.amount) == ("requested", "chargeback", charge.amount)
    assert (told("refund_waits"), told("refund_stopped")) == (1, 0)
    answered(sandbox, chargeback, "losing_evidence")
    sent(latest(charge))
    hear(sandbox)
    assert net(sandbox, charge_id) == 0 and Refund.objects.count() == 2
    clean()


def test_one_that_the_provider_refused_before_we_heard_of_the_chargeback_waits(sandbox: RunningSandbox) -> None:
    _, charge, charge_id = unheard(sandbox)
    refund = heard(charge)
    made = sandbox.control("POST", "/_sim/disputes", {"charge": charge_id})
    with pytest.raises(ProviderError, match="charged back"):
        refund_booking.send(refund_code=refund.code, actor=WORKER, now=now())
    refund.refresh_from_db()
    assert (refund.status, refund.unclaimed) == ("failed", False)
    work_chargebacks.take_over(dispute_id=str(made["id"]), actor=WORKER, now=now())
    waiting = latest(charge)
    assert (waiting.status, waiting.waits_for) == ("requested", "chargeback")
    hear(sandbox)
    answered(sandbox, Chargeback.objects.get(), "winning_evidence")
    sent(latest(charge))
    assert net(sandbox, charge_id) == 0


@pytest.mark.parametrize("over", [False, True])
def test_one_that_was_being_sent_when_the_network_took_the_charge_goes_again(
    sandbox: RunningSandbox, over: bool
) -> None:
    _, charge, charge_id = unheard(sandbox)
    refund = heard(charge)
    if over:  # won before we heard that there was one
        made = sandbox.control("POST", "/_sim/disputes", {"charge": charge_id})
        with pytest.raises(ProviderError, match="charged back"):
            refund_booking.send(refund_code=refund.code, actor=WORKER, now=now())
        decide(sandbox, str(made["id"]), status="won")
        hear(sandbox)
    else:
        payments.claim_refund(refund_code=refund.code, now=now())
        chargeback = disputed(sandbox, charge_id)
        assert latest(charge) == refund  # its answer is waited for
        payments.refuse_refund(
            refund_code=refund.code, failure="charged back", charged_back=True, actor=WORKER, now=now()
        )
        assert latest(charge).waits_for == "chargeback"
        answered(sandbox, chargeback, "winning_evidence")
    sent(latest(charge))
    hear(sandbox)
    assert net(sandbox, charge_id) == 0 and Refund.objects.count() == 2
    clean()


# Refused for another reason --------------------------------------------------------------------------------------------


def refused(refund: Refund, monkeypatch: pytest.MonkeyPatch) -> Refund:
    """The provider does not send it, and says why."""

    def refuse(*_: object, **__: object) -> None:
        raise ProviderError(message="This card takes no refunds.", provider_code="charge_not_refundable")

    with monkeypatch.context() as there:
        there.setattr(StripeGateway, "refund", refuse)
        with pytest.raises(ProviderError):
            refund_booking.send(refund_code=refund.code, actor=WORKER, now=now())
    refund.refresh_from_db()
    return refund


def another_way(refund: Refund) -> Refund:
    return payments.request_repayment(
        refund_code=refund.code, version=refund.version, reason="To her account.", actor=finance(), now=now()
    )


@pytest.mark.parametrize("currency", ["EUR", "JPY"])
def test_one_that_the_provider_refuses_stands_aside_and_is_paid_another_way(
    sandbox: RunningSandbox, monkeypatch: pytest.MonkeyPatch, currency: str
) -> None:
    maker, second = finance(), factories.acting(factories.staff("finance", name="Fatima", now=now()), now=now())
    booking, charge, charge_id = unheard(sandbox, currency=currency)
    refund = refused(heard(charge), monkeypatch)
    assert (refund.status, refund.unclaimed, refund.amount) == ("failed", True, charge.amount)
    assert stands("2410", refund.code, currency) == -charge.amount and stands("2400", refund.code, currency) == 0
    assert (told("refund_failed"), told("refund_stands_aside")) == (1, 2)
    # None of it is the host's, and nobody refunds it to that card again.
    assert (
        -stands("2100", booking.code) == booking.payment.held == payment_queries.held_parts(booking=booking).held.amount
    )
    assert sum(row.held for row in payouts.payouts_of_booking(booking_id=booking.pk)) == booking.payment.held
    assert payouts.unscheduled() == [] and payment_queries.refunds_to_send(older_than=now(), limit=9) == []
    assert not payment_queries.left_of(payment=booking.payment, charge=charge).charged
    (said,) = payment_queries.refunds_aside(refunds=[refund]).values()
    assert "provider refused" in said and "ops refunds repay" in said
    (shown,) = reporting.refunds_of(booking_code=booking.code, actor=guest(booking))
    assert shown.story.state == "returned" and "could not be sent to your card; write to us" in shown.story.sentence
    with pytest.raises(Conflict, match="import its movements"):
        another_way(refund)
    hear(sandbox)
    clean()

    asked = another_way(refund)
    brought = BalanceTransaction.objects.get(source_id=charge_id, reporting_category="charge")
    assert (asked.amount, asked.currency) == (brought.amount, "EUR") and asked.requested_by_id == maker.id
    assert payment_queries.refunds_aside(refunds=[refund]) == {}
    payments.approve_refund(refund_code=asked.code, version=asked.version, actor=second, now=now())
    owed = Money(asked.amount, "EUR")
    payments.settle_repayment(refund_code=asked.code, bank="main", line="BL-1", amount=owed, actor=WORKER, now=now())
    for code, key in (("2410", refund.code), ("2400", refund.code), ("2400", asked.code), ("3900", charge_id)):
        assert list(ledger.balances(code=code, key=key, open_only=True)) == []
    assert -stands("2100", booking.code) == booking.payment.held and stands("1010", "main") == -asked.amount
    (shown, _) = reporting.refunds_of(booking_code=booking.code, actor=guest(booking))
    assert shown.story.state == "sent" and "another way" in shown.story.sentence
    assert health.bookings_explained().ok and all(tie.holds for tie in reported(booking))
    clean()


@pytest.mark.parametrize("asked_for", [False, True])
@pytest.mark.parametrize("outcome", ["won", "lost"])
def test_refused_and_then_charged_back_it_waits_like_the_others(
    sandbox: RunningSandbox, monkeypatch: pytest.MonkeyPatch, outcome: str, asked_for: bool
) -> None:
    booking, charge, charge_id = unheard(sandbox)
    refund = refused(heard(charge), monkeypatch)
    hear(sandbox)
    asked = another_way(refund) if asked_for else None
    chargeback = disputed(sandbox, charge_id)
    refund.refresh_from_db()
    assert not refund.unclaimed and stands("2410", refund.code) == 0
    assert -stands("2100", booking.code) == booking.payment.held + charge.held
    waiting = latest(charge)
    assert (waiting.status, waiting.waits_for, waiting.amount) == ("requested", "chargeback", charge.amount)
    if asked is not None:
        asked.refresh_from_db()
        assert asked.status == "cancelled"
    with pytest.raises(Conflict):
        another_way(refund)
    answered(sandbox, again(chargeback), "winning_evidence" if outcome == "won" else "losing_evidence")
    waiting.refresh_from_db()
    assert waiting.status == ("approved" if outcome == "won" else "cancelled")
    if outcome == "won":
        sent(waiting)
    hear(sandbox)
    assert net(sandbox, charge_id) == 0
    assert (-stands("2100", booking.code), stands("5200", chargeback.provider_id)) == (booking.payment.held, 0)
    assert health.bookings_explained().ok and all(tie.holds for tie in reported(booking))
    clean()


def test_what_was_paid_another_way_stays_so_when_the_guest_asks_their_bank_too(
    sandbox: RunningSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    second = factories.acting(factories.staff("finance", name="Fatima", now=now()), now=now())
    booking, charge, charge_id = unheard(sandbox)
    refund = refused(heard(charge), monkeypatch)
    hear(sandbox)
    maker = factories.acting(factories.staff("finance", name="Farid", now=now()), now=now())
    asked = payments.request_repayment(
        refund_code=refund.code, version=refund.version, reason="To her account.", actor=maker, now=now()
    )
    payments.approve_refund(refund_code=asked.code, version=asked.version, actor=second, now=now())
    disputed(sandbox, charge_id)
    for row, status in ((refund, "failed"), (asked, "approved")):
        row.refresh_from_db()
        assert row.status == status
    assert refund.unclaimed and Refund.objects.count() == 2 and -stands("2100", booking.code) == booking.payment.held


def test_what_a_person_gave_back_by_hand_is_not_given_again() -> None:
    booking = world.paid()
    refund = world.late(booking)
    payments.claim_refund(refund_code=refund.code, now=now())
    payments.fail_refund(refund_code=refund.code, failure="refused", at_provider=False, actor=WORKER, now=now())
    by_hand = world.refund(booking, refund.amount, factories.staff("finance", now=now()))
    assert by_hand.charge == refund.charge
    Refund.objects.filter(pk=by_hand.pk).update(status="succeeded")
    world.chargeback(booking)
    assert list(Refund.objects.order_by("id").values_list("status", flat=True)) == ["failed", "succeeded"]


def test_news_of_the_end_at_one_moment_sends_it_once(sandbox: RunningSandbox) -> None:
    booking, charge, _ = unheard(sandbox)
    chargeback = disputed(sandbox, booking.payment.charge_id)
    refund = heard(charge)
    decide(sandbox, chargeback.provider_id, status="won")
    at = now()
    race([lambda: work_chargebacks.take_over(dispute_id=chargeback.provider_id, actor=WORKER, now=at)] * 3)
    assert OutboxMessage.objects.filter(topic="workflows.send_refund").count() <= 1
    assert stands("2400", refund.code) == -charge.amount
    tries: list[Callable[[], Any]] = [lambda: refund_booking.send(refund_code=refund.code, actor=WORKER, now=at)] * 3
    race(tries)
    refund.refresh_from_db()
    assert refund.status == "succeeded" and len(sandbox.client().v1.refunds.list().data) == 1


def test_a_job_that_asks_how_it_stands_sends_it_too(sandbox: RunningSandbox) -> None:
    booking, charge, _ = unheard(sandbox)
    chargeback = disputed(sandbox, booking.payment.charge_id)
    refund = heard(charge)
    decide(sandbox, chargeback.provider_id, status="won")
    sandbox.advance(2 * 3600)
    work_chargebacks.run(now=now())
    keep_time.resolve_indeterminate(now=now() + LOST_AFTER)
    refund.refresh_from_db()
    assert refund.status == "succeeded"


@pytest.mark.parametrize("outcome", ["won", "lost", "lost before we heard of the payment"])
def test_a_payment_after_its_nights_were_gone(sandbox: RunningSandbox, outcome: str) -> None:
    home = factories.listing(now=now())
    first, second = (factories.person(name, now=now()) for name in ("Alice", "Charlie"))
    booking = factories.booking(home, first, now=now())
    sandbox.fault("reset_after_commit", method="POST", path="/v1/payment_intents", times=3)
    with pytest.raises(Indeterminate):
        pay(booking_code=booking.code, payment_method="pm_card_visa", actor=guest(booking), now=now())
    sandbox.clear_faults()
    sandbox.advance(40 * 60)
    keep_time.expire_holds(now=now())
    factories.booking(home, second, now=now())
    (made,) = sandbox.client().v1.charges.list().data
    chargeback = disputed(sandbox, made.id)
    words = "winning_evidence" if outcome == "won" else "losing_evidence"
    if outcome.endswith("payment"):
        decide(sandbox, chargeback.provider_id, status="lost")
        work_chargebacks.take_over(dispute_id=chargeback.provider_id, actor=WORKER, now=now())
        assert stands("5200", chargeback.provider_id) == chargeback.amount  # of a charge that is none of ours
    keep_time.resolve_indeterminate(now=now() + LOST_AFTER)
    payment = Payment.objects.get(booking=booking)
    assert payment.status == "captured"
    refund = latest()
    if not outcome.endswith("payment"):
        assert (refund.status, refund.waits_for) == ("requested", "chargeback") and told("late_capture_refunded") == 0
        answered(sandbox, again(chargeback), words)
        refund.refresh_from_db()
    if outcome == "won":
        sent(refund)
    else:
        assert refund.status == "cancelled" and told("refund_stopped") == 1
    hear(sandbox)
    assert net(sandbox, made.id) == 0
    assert (stands("2100", booking.code), stands("5200", chargeback.provider_id)) == (0, 0)
    assert health.bookings_explained().ok
    clean()


@pytest.mark.parametrize("disputed_charge", ["the stay", "the damage"])
@pytest.mark.parametrize("currency", ["EUR", "USD"])
def test_damage_that_was_asked_for_no_more(sandbox: RunningSandbox, disputed_charge: str, currency: str) -> None:
    booking = stayed(sandbox, currency=currency)
    charge = approve(ask(booking))
    sandbox.advance(24 * 3600 + 60)
    payments.claim_charge(charge_code=charge.code, actor=WORKER, now=now())
    seen = submitting.charge(
        charge=payment_queries.extra_charge(code=charge.code), gateway=gateway(), return_url="https://desk.example"
    )
    payments.refuse_charge(charge_code=charge.code, error="refused", refused=True, actor=WORKER, now=now())
    charge.refresh_from_db()
    payments.cancel_damage(
        charge_code=charge.code, version=charge.version, reason="It was old.", actor=finance(), now=now()
    )
    own = disputed_charge == "the damage"
    chargeback = disputed(sandbox, seen.charge_id if own else booking.payment.charge_id)
    held = stands("2100", booking.code)
    collect_charges.settle(seen=seen, actor=WORKER, now=now())
    refund = latest(charge)
    assert (refund.status, refund.waits_for) == ("requested", "chargeback")
    reporting.receipt(booking_code=booking.code, actor=guest(booking), now=now())
    answered(sandbox, again(chargeback), "losing_evidence")
    refund.refresh_from_db()
    assert refund.status == ("cancelled" if own else "approved")
    if not own:
        sent(refund)
    hear(sandbox)
    assert net(sandbox, seen.charge_id) == 0
    assert (stands("2100", booking.code), stands("5200", chargeback.provider_id)) == (held if own else 0, 0)
    assert health.bookings_explained().ok
    clean()


# What a host's cancellation owes ---------------------------------------------------------------------------------------


def by_host(booking: Booking) -> cancel_booking.CancellationPreview:
    """The host cancels; what goes back is approved and not sent yet."""
    host = factories.acting(booking.host, now=now())
    shown = cancel_booking.preview(booking_code=booking.code, actor=host, now=now())
    cancel_booking.confirm(booking_code=booking.code, token=shown.token, reason="Sold.", actor=host, now=now())
    return shown


@pytest.mark.parametrize("first", ["cancelled", "charged back"])
@pytest.mark.parametrize("outcome", ["won", "lost"])
def test_what_a_host_s_cancellation_owes_waits_and_goes_by_itself(
    sandbox: RunningSandbox, outcome: str, first: str
) -> None:
    booking = paid(check_in=(now() + timedelta(days=20)).date())
    charge_id = booking.payment.charge_id
    if first == "cancelled":
        assert by_host(booking).refund.amount == booking.charge_total
        chargeback = disputed(sandbox, charge_id)
        assert Refund.objects.order_by("id")[0].status == "cancelled"
    else:
        chargeback = disputed(sandbox, charge_id)
        shown = by_host(booking)
        assert (shown.refund.amount, shown.refund_later.amount) == (0, booking.charge_total)
    (waiting,) = Refund.objects.exclude(status="cancelled")
    assert (waiting.status, waiting.waits_for, waiting.amount) == ("requested", "chargeback", booking.charge_total)
    assert (waiting.cause, waiting.parts) == ("host_cancellation", booking.payment.parts)
    assert (told("refund_waits"), told("refund_stopped")) == (1, 0)
    with pytest.raises(Conflict, match="by rule"):
        payments.approve_refund(refund_code=waiting.code, version=waiting.version, actor=finance(), now=now())
    # None of it is planned for a host who cancelled.
    assert sum(row.held for row in payouts.payouts_of_booking(booking_id=booking.pk)) == 0
    assert payouts.unscheduled() == [] and health.bookings_explained().ok
    answered(sandbox, chargeback, "winning_evidence" if outcome == "won" else "losing_evidence")
    waiting.refresh_from_db()
    assert waiting.status == ("approved" if outcome == "won" else "cancelled")
    if outcome == "won":
        sent(waiting)
    hear(sandbox)
    assert net(sandbox, charge_id) == 0 and payouts.unscheduled() == []
    assert (stands("2100", booking.code), stands("5200", chargeback.provider_id)) == (0, 0)
    assert sum(row.held for row in payouts.payouts_of_booking(booking_id=booking.pk)) == 0
    assert health.bookings_explained().ok
    clean()


def test_of_a_long_stay_that_its_host_cancels_each_charge_waits_for_its_own(sandbox: RunningSandbox) -> None:
    booking = long_stay(nights=60)
    (row,) = due(booking)
    until(sandbox, row.due_at)
    collect_charges.collect_due(now=now())
    row.refresh_from_db()
    chargeback = disputed(sandbox, booking.payment.charge_id)
    by_host(booking)
    waiting = {each.charge: each for each in Refund.objects.filter(status="requested", waits_for="chargeback")}
    assert {one and one.number: each.amount for one, each in waiting.items()} == {
        None: booking.payment.amount,
        2: row.amount,
    }
    answered(sandbox, chargeback, "losing_evidence")
    assert {each.charge: each.status for each in Refund.objects.all()} == {None: "cancelled", row: "approved"}
    sent(Refund.objects.get(charge=row))
    hear(sandbox)
    assert [net(sandbox, each) for each in (booking.payment.charge_id, row.charge_id)] == [0, 0]
    assert (stands("2100", booking.code), stands("5200", chargeback.provider_id)) == (0, 0)
    assert health.bookings_explained().ok
    clean()


def test_what_a_host_s_cancellation_owes_is_not_the_host_s_where_the_provider_refuses_it(
    sandbox: RunningSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    booking = paid(check_in=(now() + timedelta(days=20)).date())
    by_host(booking)
    refund = refused(Refund.objects.get(), monkeypatch)
    assert refund.unclaimed and stands("2410", refund.code) == -refund.amount and stands("2100", booking.code) == 0
    assert payouts.unscheduled() == []
    assert sum(row.held for row in payouts.payouts_of_booking(booking_id=booking.pk)) == 0
    hear(sandbox)
    assert another_way(refund).amount == refund.amount
    assert health.bookings_explained().ok
    clean()


@pytest.mark.parametrize("part", ["a part of it", "all of it"])
@pytest.mark.parametrize("then", ["sent", "refused again"])
def test_what_a_person_asked_for_is_the_guest_s_once_the_host_cancels(
    sandbox: RunningSandbox, monkeypatch: pytest.MonkeyPatch, part: str, then: str
) -> None:
    booking = paid(check_in=(now() + timedelta(days=20)).date())
    asked = asked_back(booking, 5_000 if part == "a part of it" else booking.charge_total)
    if asked.status == "requested":
        refund_booking.approve(refund_code=asked.code, version=asked.version, reason="Yes", actor=finance(), now=now())
    by_host(booking)
    for rest in Refund.objects.filter(by_rule=True):
        sent(rest)
    asked = refused(asked, monkeypatch)
    assert (asked.status, asked.unclaimed) == ("failed", False)
    again = Refund.objects.get(by_rule=True, status="approved")
    assert again.amount == asked.amount and stands("2100", booking.code) == 0
    heard = {"failure": "refused", "charged_back": False, "actor": WORKER, "now": now()}
    payments.refuse_refund(refund_code=asked.code, **heard)  # a second worker had asked as well
    assert Refund.objects.filter(by_rule=True, status="approved").get() == again
    if then == "sent":
        sent(again)
        hear(sandbox)
        assert net(sandbox, booking.payment.charge_id) == 0
        payments.refuse_refund(refund_code=asked.code, **heard)
        assert net(sandbox, booking.payment.charge_id) == 0 and not Refund.objects.filter(status="approved").exists()
    else:
        again = refused(again, monkeypatch)
        assert again.unclaimed and stands("2410", again.code) == -again.amount
        hear(sandbox)
        assert another_way(again).amount == again.amount
    assert payouts.unscheduled() == []
    assert sum(row.held for row in payouts.payouts_of_booking(booking_id=booking.pk)) == 0
    assert health.bookings_explained().ok
    clean()


# What the policy gives a guest who cancels -----------------------------------------------------------------------------


def by_guest(booking: Booking, *, by: Any = None) -> Refund:
    """The guest cancels, or staff for them; what the policy gives is approved and not sent yet."""
    who = by or guest(booking)
    shown = cancel_booking.preview(booking_code=booking.code, actor=who, now=now())
    cancel_booking.confirm(booking_code=booking.code, token=shown.token, reason="Ill.", actor=who, now=now())
    (refund,) = Refund.objects.filter(payment__booking=booking)
    assert 0 < refund.amount == shown.refund.amount < booking.charge_total, "a part of it"
    return refund


@pytest.mark.parametrize("by", ["the guest", "staff"])
def test_what_the_policy_gives_is_never_the_host_s_where_the_provider_refuses_it(
    sandbox: RunningSandbox, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    booking = stay(sandbox)
    until(sandbox, booking.check_in_at - timedelta(days=3))
    kept = booking.payment.held
    refund = by_guest(booking, by=finance() if by == "staff" else None)
    kept -= refund.held
    refund = refused(refund, monkeypatch)
    assert refund.by_rule and refund.unclaimed and stands("2410", refund.code) == -refund.amount
    assert (told("refund_failed"), told("refund_stands_aside")) == (1, 1 if by == "staff" else 0)
    (said,) = payment_queries.refunds_aside(refunds=[refund]).values()
    assert "ops refunds repay" in said
    (shown,) = reporting.refunds_of(booking_code=booking.code, actor=guest(booking))
    assert shown.story.state == "returned" and "write to us" in shown.story.sentence
    until_due(sandbox, booking)
    assert released() == {"transferred": 1}
    (payout,) = Payout.objects.filter(booking=booking)
    assert payout.transfer_amount == kept, "the host is paid what the policy keeps, and no more"
    assert stands("2410", refund.code) == -refund.amount and stands("2100", booking.code) == 0
    assert another_way(refund).amount == refund.amount
    hear(sandbox)
    assert health.bookings_explained().ok and all(tie.holds for tie in reported(booking))
    clean()


@pytest.mark.parametrize("outcome", ["won", "lost"])
@pytest.mark.parametrize("how", ["not sent yet", "being sent", "refused before we heard", "stood aside"])
def test_what_the_policy_gives_goes_again_with_its_own_parts_once_nothing_holds_it(
    sandbox: RunningSandbox, monkeypatch: pytest.MonkeyPatch, how: str, outcome: str
) -> None:
    booking = stay(sandbox)
    until(sandbox, booking.check_in_at - timedelta(days=3))
    refund, charge_id = by_guest(booking), booking.payment.charge_id
    amount, parts = refund.amount, refund.parts
    if how == "refused before we heard":
        sandbox.control("POST", "/_sim/disputes", {"charge": charge_id})
        with pytest.raises(ProviderError, match="charged back"):
            refund_booking.send(refund_code=refund.code, actor=WORKER, now=now())
        hear(sandbox)
        chargeback = Chargeback.objects.get()
    elif how == "being sent":
        payments.claim_refund(refund_code=refund.code, now=now())
        chargeback = disputed(sandbox, charge_id)
        payments.lose_sight_of_refund(refund_code=refund.code, now=now())
        with pytest.raises(ProviderError, match="charged back"):
            refund_booking.send(refund_code=refund.code, actor=WORKER, now=now())
    else:
        if how == "stood aside":
            refund = refused(refund, monkeypatch)
        chargeback = disputed(sandbox, charge_id)
    waiting = Refund.objects.latest("id")
    assert (waiting.status, waiting.waits_for, waiting.by_rule) == ("requested", "chargeback", True)
    assert (waiting.amount, waiting.parts, waiting.cause) == (amount, parts, "guest_cancellation")
    assert told("refund_waits") == 1 and stands("2410", refund.code) == stands("2400", refund.code) == 0
    kept = booking.payment.held - waiting.held
    assert sum(row.held for row in Payout.objects.filter(booking=booking, status="scheduled")) == kept
    assert health.bookings_explained().ok
    answered(sandbox, chargeback, "winning_evidence" if outcome == "won" else "losing_evidence")
    waiting.refresh_from_db()
    assert waiting.status == ("approved" if outcome == "won" else "cancelled")
    if outcome == "won":
        sent(waiting)
    hear(sandbox)
    assert net(sandbox, charge_id) == (booking.charge_total - amount if outcome == "won" else 0)
    until(sandbox, booking.check_in_at + timedelta(days=1))
    released()
    paid_out = sum(row.transfer_amount for row in Payout.objects.filter(booking=booking, status="transferred"))
    assert paid_out == (kept if outcome == "won" else 0)
    hear(sandbox)
    assert health.bookings_explained().ok and all(tie.holds for tie in reported(booking))
    clean()


@pytest.mark.parametrize("outcome", ["won", "lost"])
def test_what_the_policy_gives_who_went_to_their_bank_first_waits_for_the_end_of_that(
    sandbox: RunningSandbox, outcome: str
) -> None:
    booking = stay(sandbox)
    plain = stay(sandbox, host=booking.host)
    until(sandbox, booking.check_in_at - timedelta(days=3))
    given, charge_id = sent(by_guest(plain)), booking.payment.charge_id
    chargeback = disputed(sandbox, charge_id)
    shown = cancel_booking.preview(booking_code=booking.code, actor=guest(booking), now=now())
    assert (shown.refund.amount, shown.refund_later.amount, shown.refund_asked.amount) == (0, given.amount, 0)
    cancel_booking.confirm(booking_code=booking.code, token=shown.token, reason="", actor=guest(booking), now=now())
    (waiting,) = Refund.objects.filter(payment__booking=booking)
    assert (waiting.status, waiting.waits_for, waiting.by_rule) == ("requested", "chargeback", True)
    assert (waiting.cause, waiting.parts) == ("guest_cancellation", given.parts)
    kept = [
        sum(row.held for row in Payout.objects.filter(booking=each, status="scheduled")) for each in (plain, booking)
    ]
    assert kept[0] == kept[1] > 0 and health.bookings_explained().ok
    answered(sandbox, chargeback, "winning_evidence" if outcome == "won" else "losing_evidence")
    waiting.refresh_from_db()
    assert waiting.status == ("approved" if outcome == "won" else "cancelled")
    if outcome == "won":
        sent(waiting)
    hear(sandbox)
    assert net(sandbox, charge_id) == (booking.charge_total - given.amount if outcome == "won" else 0)
    until(sandbox, booking.check_in_at + timedelta(days=1))
    import_balance_transactions.run(now=now())
    released()
    paid_out = sum(row.transfer_amount for row in Payout.objects.filter(booking=booking, status="transferred"))
    assert paid_out == (kept[0] if outcome == "won" else 0)
    hear(sandbox)
    assert health.bookings_explained().ok and all(tie.holds for tie in reported(booking))
    clean()


def test_of_a_long_stay_too_the_policy_gives_the_same_while_a_chargeback_is_open(sandbox: RunningSandbox) -> None:
    booking, plain = long_stay(nights=60), long_stay(nights=60)
    until(sandbox, due(booking)[0].due_at)
    collect_charges.collect_due(now=now())
    disputed(sandbox, booking.payment.charge_id)
    shown, without = (
        cancel_booking.preview(booking_code=each.code, actor=guest(each), now=now()) for each in (booking, plain)
    )
    assert (shown.refund.amount, shown.refund_later, shown.host_keeps) == (0, without.refund, without.host_keeps)
    assert shown.refund_later and shown.host_keeps and [give.charge for give in shown.later] == [due(booking)[0]]


def test_what_a_person_gave_of_it_meanwhile_is_not_given_again(sandbox: RunningSandbox) -> None:
    booking = stay(sandbox)
    until(sandbox, booking.check_in_at - timedelta(days=3))
    refund = by_guest(booking)
    payments.claim_refund(refund_code=refund.code, now=now())
    payments.refuse_refund(refund_code=refund.code, failure="charged back", charged_back=True, actor=WORKER, now=now())
    by_hand = sent(asked_back(booking, 5_000))
    chargeback = disputed(sandbox, booking.payment.charge_id)
    waiting = Refund.objects.latest("id")
    assert (waiting.waits_for, waiting.amount) == ("chargeback", refund.amount - 5_000)
    assert sum(waiting.parts.values()) == waiting.amount
    answered(sandbox, chargeback, "winning_evidence")
    sent(Refund.objects.get(pk=waiting.pk))
    assert by_hand.amount + waiting.amount == refund.amount


# What a person asks for is never by rule -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "cause"),
    [("late-capture:", "late_capture"), ("late-charge:", "late_capture"), ("cancel:", "host_cancellation")],
)
def test_what_a_person_asks_for_is_not_owed_by_rule_whatever_its_key(
    sandbox: RunningSandbox, monkeypatch: pytest.MonkeyPatch, key: str, cause: str
) -> None:
    booking = paid(check_in=(now() + timedelta(days=20)).date())
    asked = refused(asked_back(booking, 5_000, idempotency_key=f"{key}{booking.code}", cause=cause), monkeypatch)
    assert (asked.status, asked.unclaimed) == ("failed", False) and stands("2410", asked.code) == 0
    assert -stands("2100", booking.code) == booking.payment.held, "they may ask again"
    other = asked_back(booking, 5_000, idempotency_key=f"{key}{booking.code}:2", cause=cause)
    disputed(sandbox, booking.payment.charge_id)
    other.refresh_from_db()
    assert other.status == "cancelled" and not payment_queries.owed_by_rule(payment=booking.payment).exists()
    assert told("refund_waits") == 0


def test_a_key_that_a_person_took_is_not_that_of_a_cancellation(sandbox: RunningSandbox) -> None:
    booking = paid(check_in=(now() + timedelta(days=20)).date())
    lena = factories.staff("support_l1", name="Lena", now=now())
    squatting: dict[str, Any] = {"idempotency_key": f"cancel:{booking.code}", "cause": "host_cancellation"}
    asked = asked_back(booking, booking.charge_total, by=lena, **squatting)
    refund_booking.reject(refund_code=asked.code, version=asked.version, reason="No", actor=finance(), now=now())
    assert by_host(booking).refund.amount == booking.charge_total
    owed = Refund.objects.get(by_rule=True)
    assert (owed.status, owed.amount) == ("approved", booking.charge_total)
    repeated = asked_back(booking, booking.charge_total, by=lena, **squatting, version=1)
    assert repeated == asked, "the same key again is the same request, whatever a rule did meanwhile"
