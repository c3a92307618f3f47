"""A refund that a person asked for is still open when the stay is cancelled, and then comes to nothing: what the cancellation
gives the guest is not less for it, and nothing of that is the host's."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from fractions import Fraction
from typing import Any

import pytest
from django.db.models import Sum

from backoffice.bookings.models import Booking
from backoffice.core.errors import OverLimit
from backoffice.ledger import queries as ledger
from backoffice.payments import operations as payments
from backoffice.payments import queries as payment_queries
from backoffice.payments.models import Refund
from backoffice.payouts import queries as payouts
from backoffice.payouts.models import Payout
from backoffice.people.models import User
from backoffice.reporting.queries import health
from backoffice.workflows import cancel_booking, collect_charges, refund_booking
from tests import factories
from tests.racing import race
from tests.stripe_sandbox.server import RunningSandbox
from tests.workflows.steps import ROOMS, asked_back, now
from tests.workflows.test_chargebacks import answered, clean, finance, hear, stands
from tests.workflows.test_instalments import due, guest, long_stay, until
from tests.workflows.test_late_refunds import WORKER, disputed, net, refused, reported, sent, told
from tests.workflows.test_release_payouts import released, stay, until_due

pytestmark = pytest.mark.django_db(
    transaction=True, available_apps=[*ROOMS, "backoffice.payouts", "backoffice.reporting"]
)


def asked_for(booking: Booking, amount: int, **terms: Any) -> Refund:
    """More than a member of support may refund alone: it waits for a second person."""
    person = User.objects.filter(roles__role="support_l1").first() or factories.staff("support_l1", now=now())
    refund = asked_back(booking, amount, by=person, **terms)
    assert refund.status == "requested"
    return refund


def cancelled(booking: Booking, by: str) -> cancel_booking.CancellationPreview:
    actor = guest(booking) if by == "guest" else factories.acting(booking.host, now=now())
    shown = cancel_booking.preview(booking_code=booking.code, actor=actor, now=now())
    cancel_booking.confirm(booking_code=booking.code, token=shown.token, reason="Plans.", actor=actor, now=now())
    return shown


def fresh(refund: Refund) -> Refund:
    return Refund.objects.get(pk=refund.pk)


def send_all() -> None:
    for refund in Refund.objects.filter(status="approved").order_by("id"):
        sent(refund)


def approved(refund: Refund) -> None:
    refund_booking.approve(refund_code=refund.code, version=fresh(refund).version, actor=finance(), now=now())


def planned(booking: Booking) -> int:
    """What of a stay is planned for its host."""
    return sum(row.held for row in Payout.objects.filter(booking=booking, status="scheduled"))


def rejected(refund: Refund, _: object = None) -> None:
    refund_booking.reject(
        refund_code=refund.code, version=refund.version, reason="The policy gives it.", actor=finance(), now=now()
    )


def withdrawn(refund: Refund, _: object) -> None:
    maker = factories.acting(refund.requested_by, now=now())
    refund_booking.cancel(refund_code=refund.code, version=refund.version, actor=maker, now=now())


def not_sent(refund: Refund, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second person says yes, the provider no; two workers hear of it."""
    refund_booking.approve(refund_code=refund.code, version=refund.version, actor=finance(), now=now())
    refused(refund, monkeypatch)
    payments.refuse_refund(refund_code=refund.code, failure="No.", charged_back=False, actor=WORKER, now=now())


ENDS = [rejected, withdrawn, not_sent]


@pytest.mark.parametrize("borne_by", ["host", "platform"])
@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("by", ["guest", "host"])
def test_the_cancellation_gives_the_same_once_it_came_to_nothing(
    sandbox: RunningSandbox, monkeypatch: pytest.MonkeyPatch, by: str, end: Callable[..., None], borne_by: str
) -> None:
    plain = stay(sandbox)
    booking = stay(sandbox, host=plain.host)
    until(sandbox, booking.check_in_at - timedelta(days=3))
    given = cancelled(plain, by).refund
    asked = asked_for(booking, booking.charge_total - 2_000, bearer=borne_by)
    shown = cancelled(booking, by)
    assert shown.refund.amount <= 2_000 and shown.refund + shown.refund_asked == given
    assert planned(plain) == planned(booking), "none of it is planned for the host while somebody decides"
    asked.refresh_from_db()
    end(asked, monkeypatch)
    send_all()
    assert net(sandbox, booking.payment.charge_id) == net(sandbox, plain.payment.charge_id)
    until_due(sandbox, plain) if by == "guest" else hear(sandbox)
    released()
    rows = [Payout.objects.filter(booking=each, status="transferred").values_list("held") for each in (plain, booking)]
    assert list(rows[0]) == list(rows[1]) and len(rows[0]) == (by == "guest")
    assert payouts.unscheduled() == [] and health.bookings_explained().ok
    hear(sandbox)
    clean()


@pytest.mark.parametrize("round_", range(3))
@pytest.mark.parametrize("by", ["guest", "host"])
def test_whichever_is_first_when_both_happen_at_once_the_guest_gets_the_same(
    sandbox: RunningSandbox, by: str, round_: int
) -> None:
    plain, booking = stay(sandbox), stay(sandbox)
    until(sandbox, booking.check_in_at - timedelta(days=3))
    given = cancelled(plain, by).refund
    asked = asked_for(booking, booking.charge_total - 2_000)
    race([lambda: rejected(fresh(asked)), lambda: cancelled(booking, by)])
    if Booking.objects.get(pk=booking.pk).status != "cancelled":  # what they were shown was no longer so
        cancelled(booking, by)
    assert fresh(asked).status == "rejected"
    send_all()
    assert net(sandbox, booking.payment.charge_id) == plain.charge_total - given.amount
    assert payouts.unscheduled() == [] and health.bookings_explained().ok
    hear(sandbox)
    clean()


@pytest.mark.parametrize("by", ["guest", "host"])
def test_once_it_went_out_it_is_not_given_again(sandbox: RunningSandbox, by: str) -> None:
    booking = stay(sandbox)
    until(sandbox, booking.check_in_at - timedelta(days=3))
    asked = asked_for(booking, booking.charge_total - 2_000)
    shown = cancelled(booking, by)
    approved(asked)
    send_all()
    hear(sandbox)
    assert net(sandbox, booking.payment.charge_id) == booking.charge_total - asked.amount - shown.refund.amount
    assert not Refund.objects.filter(status="approved") and payouts.unscheduled() == []
    clean()


@pytest.mark.parametrize("borne_by", ["host", "platform"])
def test_of_two_requests_each_gives_what_the_other_did_not(sandbox: RunningSandbox, borne_by: str) -> None:
    plain, booking = stay(sandbox), stay(sandbox)
    until(sandbox, booking.check_in_at - timedelta(days=3))
    given = cancelled(plain, "guest").refund
    first = asked_for(booking, booking.charge_total - 20_000)
    second = asked_for(booking, 19_000, bearer=borne_by)
    cancelled(booking, "guest")
    rejected(fresh(first))
    rejected(fresh(second))
    send_all()
    assert net(sandbox, booking.payment.charge_id) == plain.charge_total - given.amount
    assert (
        Refund.objects.filter(payment__booking=booking, by_rule=True).aggregate(all=Sum("amount"))["all"]
        == given.amount
    )
    hear(sandbox)
    clean()


@pytest.mark.parametrize("outcome", ["won", "lost"])
@pytest.mark.parametrize("by", ["guest", "host"])
def test_where_a_chargeback_stopped_it_the_share_of_the_guest_waits(
    sandbox: RunningSandbox, by: str, outcome: str
) -> None:
    plain, booking = stay(sandbox), stay(sandbox)
    until(sandbox, booking.check_in_at - timedelta(days=3))
    given, charge_id = cancelled(plain, by).refund, booking.payment.charge_id
    asked_for(booking, booking.charge_total - 2_000)
    cancelled(booking, by)  # its own refund waits at our side when the guest goes to their bank
    chargeback = disputed(sandbox, charge_id)
    waiting = Refund.objects.filter(payment__booking=booking, status="requested")
    assert {row.waits_for for row in waiting} == {"chargeback"} and sum(row.amount for row in waiting) == given.amount
    assert told("refund_stopped") == 0 and planned(plain) == planned(booking)
    answered(sandbox, chargeback, "winning_evidence" if outcome == "won" else "losing_evidence")
    send_all()
    hear(sandbox)
    assert net(sandbox, charge_id) == (booking.charge_total - given.amount if outcome == "won" else 0)
    assert not waiting.all().exists() and health.bookings_explained().ok
    clean()


@pytest.mark.parametrize("by", ["guest", "host"])
def test_of_a_long_stay_each_charge_gives_what_was_asked_of_it(sandbox: RunningSandbox, by: str) -> None:
    booking, plain = long_stay(nights=60), long_stay(nights=60)
    until(sandbox, due(booking)[0].due_at)
    collect_charges.collect_due(now=now())
    given = cancelled(plain, by).refund
    send_all()
    paid_in = booking.payment.amount + due(booking)[0].amount
    asked = asked_for(booking, paid_in - 1_000)
    assert len(payment_queries.asked_together(refund=asked)) == 2
    shown = cancelled(booking, by)
    assert shown.refund + shown.refund_asked == given
    rejected(fresh(asked))
    send_all()
    hear(sandbox)
    charges = [booking.payment.charge_id, due(booking)[0].charge_id]
    assert sum(net(sandbox, charge) for charge in charges) == paid_in - given.amount
    assert payouts.unscheduled() == [] and health.bookings_explained().ok
    clean()


def test_what_is_asked_for_after_the_cancellation_is_no_part_of_it(sandbox: RunningSandbox) -> None:
    booking = stay(sandbox)
    until(sandbox, booking.check_in_at - timedelta(days=3))
    before = asked_for(booking, booking.charge_total - 5_000)
    cancelled(booking, "guest")
    assert "rejected or taken back, it goes back by rule" in payment_queries.after_no(refund=fresh(before))
    rejected(before)
    (instead,) = payment_queries.given_instead(refund=before)
    send_all()
    later = asked_for(booking, 15_000)
    assert payment_queries.after_no(refund=fresh(later)) == ""
    by_rule = [(row.pk, row.amount) for row in Refund.objects.filter(by_rule=True).order_by("id")]
    assert (instead.pk, instead.amount) in by_rule
    rejected(later)
    assert [(row.pk, row.amount) for row in Refund.objects.filter(by_rule=True).order_by("id")] == by_rule


@pytest.mark.parametrize("currency", ["JPY", "USD"])
def test_it_is_the_same_in_the_currency_of_the_guest(sandbox: RunningSandbox, currency: str) -> None:
    plain, booking = stay(sandbox, currency=currency), stay(sandbox, currency=currency)
    until(sandbox, booking.check_in_at - timedelta(days=3))
    given = cancelled(plain, "guest").refund
    asked = asked_for(booking, booking.charge_total - given.amount // 3 // 10 * 10)
    cancelled(booking, "guest")
    rejected(fresh(asked))
    send_all()
    assert abs(net(sandbox, booking.payment.charge_id) - net(sandbox, plain.payment.charge_id)) <= 1  # two roundings
    hear(sandbox)
    clean()


def test_a_limit_is_not_passed_by_taking_one_s_own_request_back(sandbox: RunningSandbox) -> None:
    booking = stay(sandbox)
    asked = asked_for(booking, booking.charge_total - 2_000)
    maker = factories.acting(asked.requested_by, now=now())
    shown = cancel_booking.preview(booking_code=booking.code, actor=maker, now=now())
    assert shown.refund.amount == 2_000 and shown.refund_asked.amount == asked.amount
    with pytest.raises(OverLimit, match="a colleague with a higher limit"):
        cancel_booking.confirm(booking_code=booking.code, token=shown.token, reason="Ill.", actor=maker, now=now())


# What we had given the guest before ------------------------------------------------------------------------------------


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("by", ["guest", "host"])
def test_what_the_guest_had_from_us_already_comes_back_to_us_and_is_not_the_host_s(
    sandbox: RunningSandbox, by: str, when: str
) -> None:
    plain = stay(sandbox)
    booking = stay(sandbox, host=plain.host)
    until(sandbox, booking.check_in_at - timedelta(days=3))
    asked = asked_for(booking, booking.charge_total - 2_000, bearer="platform")
    if when == "before":
        approved(asked)
        send_all()
    given, shown = cancelled(plain, by).refund, cancelled(booking, by)
    assert shown.refund.amount == 2_000
    ours = given.amount - 2_000  # what the guest would have got from the host
    if when == "before":
        assert (shown.recouped.amount, shown.refund_asked.amount) == (ours, 0)
    else:
        assert (shown.recouped.amount, shown.refund_asked.amount) == (0, ours)
        assert planned(plain) == planned(booking)
        approved(asked)
    send_all()
    assert planned(plain) == planned(booking) and net(sandbox, booking.payment.charge_id) == 0
    assert stands("5210", asked.code) == asked.amount - ours
    until_due(sandbox, plain) if by == "guest" else hear(sandbox)
    released()
    assert [stands(account, booking.code) for account in ("2100", "2110", "2111")] == [0, 0, 0]
    taxes = [-row.amount for row in ledger.subject_sums(codes=["2300", "2310"], subjects=[booking.code])]
    assert taxes == [-row.amount for row in ledger.subject_sums(codes=["2300", "2310"], subjects=[plain.code])]
    assert payouts.unscheduled() == [] and health.bookings_explained().ok
    assert all(tie.holds for tie in reported(booking))
    hear(sandbox)
    clean()


@pytest.mark.parametrize("currency", ["JPY", "USD"])
@pytest.mark.parametrize("by", ["guest", "host"])
def test_of_a_charge_in_the_currency_of_the_guest_too(sandbox: RunningSandbox, by: str, currency: str) -> None:
    booking = stay(sandbox, currency=currency)
    until(sandbox, booking.check_in_at - timedelta(days=3))
    asked = asked_for(booking, booking.charge_total // 10 * 9, bearer="platform")
    approved(asked)
    send_all()
    settled = payment_queries.settlement_currency(payment=booking.payment)
    cost = stands("5210", asked.code, settled)
    shown = cancelled(booking, by)
    send_all()
    assert net(sandbox, booking.payment.charge_id) == 0
    left = Fraction(cost * (fresh(asked).platform_share - shown.recouped.amount), fresh(asked).platform_share)
    assert shown.recouped.amount > 0 < cost and abs(stands("5210", asked.code, settled) - left) <= 1
    assert settled == "EUR" or stands("5210", asked.code) == 0, "in the currency in which it cost us"
    assert planned(booking) == (0 if by == "host" else -stands("2100", booking.code))
    assert payouts.unscheduled() == [] and health.bookings_explained().ok
    hear(sandbox)
    clean()
