"""A refund came back from the guest's bank and stands aside for them, and a chargeback takes the very charge: what the card
network has given the guest is not paid to them another way as well, and is nobody's loss."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from backoffice.bookings.models import Booking
from backoffice.core.errors import Conflict
from backoffice.core.money import Money
from backoffice.ledger import queries as ledger
from backoffice.payments import operations as payments
from backoffice.payments import queries as payment_queries
from backoffice.payments.models import Chargeback, Refund
from backoffice.people.models import User
from backoffice.reconciliation.provider import reconcile
from backoffice.reporting import queries as reporting
from backoffice.reporting.queries import health
from backoffice.workflows import collect_charges, refund_booking, work_chargebacks
from tests import factories
from tests.stripe_sandbox.server import RunningSandbox
from tests.workflows.steps import ROOMS, asked_back, now, paid
from tests.workflows.test_chargebacks import ACTOR, again, decide, hear, stands, told
from tests.workflows.test_late_refunds import by_host, refused

pytestmark = pytest.mark.django_db(
    transaction=True, available_apps=[*ROOMS, "backoffice.payouts", "backoffice.reporting"]
)
WORKER = collect_charges.ACTOR
BACK = 4_000


@pytest.fixture
def farid() -> User:
    return factories.staff("finance", name="Farid", now=now())


@pytest.fixture
def fatima() -> User:
    return factories.staff("finance", name="Fatima", now=now())


@pytest.fixture
def booking(sandbox: RunningSandbox) -> Booking:
    """Paid with a card that takes refunds and sends them back."""
    return paid(payment_method="pm_card_refundFail")


@pytest.fixture
def returned(sandbox: RunningSandbox, booking: Booking, farid: User) -> Refund:
    """40.00 of it, back with us."""
    return came_back(sandbox, sent(sandbox, booking, farid))


def sent(sandbox: RunningSandbox, booking: Booking, by: User) -> Refund:
    refund = asked_back(booking, BACK, by=by)
    refund_booking.send(refund_code=refund.code, actor=WORKER, now=now())
    hear(sandbox)
    return refund


def came_back(sandbox: RunningSandbox, refund: Refund) -> Refund:
    sandbox.advance(8 * 86_400)
    hear(sandbox)
    refund.refresh_from_db()
    assert refund.unclaimed and aside(refund) == BACK
    return refund


def aside(refund: Refund) -> int:
    return -stands("2410", refund.code)


def ours(row: Chargeback) -> int:
    return stands("5200", row.provider_id)


def ended(sandbox: RunningSandbox, row: Chargeback, status: str) -> Chargeback:
    decide(sandbox, row.provider_id, status=status)
    hear(sandbox)
    return again(row)


def repay(refund: Refund, by: User) -> Refund:
    refund.refresh_from_db()
    return payments.request_repayment(
        refund_code=refund.code, version=refund.version, reason="Her account", actor=factories.acting(by), now=now()
    )


def agreed(asked: Refund, by: User) -> Refund:
    return payments.approve_refund(refund_code=asked.code, version=asked.version, actor=factories.acting(by), now=now())


def story(booking: Booking) -> Any:
    shown = reporting.refunds_of(booking_code=booking.code, actor=factories.acting(booking.guest, now=now()))
    return shown[0].story


def clean() -> None:
    """Both sides agree, the state of everything too, and every booking's money is explained."""
    for scope in ("stripe", "state"):
        assert reconcile(scope=scope, since=None, until=None, actor=ACTOR, now=now()).findings == []
    assert [finding for finding in health.ledger_check(now=now()) if not finding.ok] == []


def test_lost_it_is_no_longer_the_guest_s_and_no_loss_of_ours(
    sandbox: RunningSandbox, booking: Booking, returned: Refund, farid: User
) -> None:
    row = told(sandbox, booking)
    assert row.amount == booking.charge_total and aside(returned) == BACK
    with pytest.raises(Conflict, match="holds this money"):
        repay(returned, farid)
    (said,) = payment_queries.refunds_aside(refunds=[returned]).values()
    assert row.code in said and "waits" in said
    shares = payment_queries.shares_if_lost(chargeback=row)
    assert shares is not None and (shares.out_of_aside.amount, shares.uncovered.amount) == (BACK, 0)
    clean()
    row = ended(sandbox, row, "lost")
    assert (aside(returned), ours(row), stands("2100", booking.code)) == (0, 0, 0)
    with pytest.raises(Conflict, match="has this money already"):
        repay(returned, farid)
    (said,) = payment_queries.refunds_aside(refunds=[returned]).values()
    assert "gave them the charge" in said and row.code in said and "repay" not in said
    assert payment_queries.given_by_network(refunds=[returned]) == {returned.pk: row.code}
    assert (story(booking).state, "given you this money" in story(booking).sentence) == ("sent", True)
    money = payment_queries.money_of(booking=booking)
    assert not money.refunds_pending and not money.refundable
    clean()
    work_chargebacks.run(now=now())
    row = again(row)
    before = row.version
    work_chargebacks.run(now=now())
    assert again(row).version == before, "it is drawn once"


@pytest.mark.parametrize("home", ["EUR", "JPY"])
def test_where_the_provider_converts_a_rate_that_moved_is_gain_or_loss(
    sandbox: RunningSandbox, farid: User, home: str
) -> None:
    """The charge is in yen, which the provider turns into euros, at the rate of each day."""
    where = {"city": "Kyoto", "country": "JP"} if home == "JPY" else {}
    listing = factories.listing(now=now(), currency=home, nightly_price=10_000, **where)
    booking = paid(home=listing, payment_method="pm_card_refundFail", currency="JPY")
    refund = sent(sandbox, booking, farid)
    sandbox.advance(8 * 86_400)
    hear(sandbox)
    assert (refund.currency, stands("2410", refund.code, "JPY")) == ("JPY", 0) and aside(refund) > 0
    row = ended(sandbox, told(sandbox, booking), "lost")
    assert row.amount == booking.charge_total
    for account, key in (("2410", refund.code), ("1320", row.provider_id), ("3900", row.charge_id)):
        assert ledger.standing(account=account, key=key) == []
    assert (ours(row), stands("2100", booking.code, home)) == (0, 0)
    clean()
    row = ended(sandbox, ended(sandbox, row, "appeal_under_review"), "won")
    assert aside(refund) > 0 and ours(row) == 0
    clean()


def test_given_back_by_an_appeal_it_stands_aside_again(
    sandbox: RunningSandbox, booking: Booking, returned: Refund, farid: User, fatima: User
) -> None:
    row = ended(sandbox, told(sandbox, booking), "lost")
    assert aside(returned) == 0
    ended(sandbox, row, "appeal_under_review")
    with pytest.raises(Conflict):
        repay(returned, farid)
    row = ended(sandbox, row, "won")
    assert (aside(returned), ours(row)) == (BACK, 0) and -stands("2100", booking.code) > 0
    assert story(booking).state == "returned"
    assert agreed(repay(returned, farid), fatima).amount == BACK
    clean()


@pytest.mark.parametrize("kind", ["inquiry", "chargeback"])
def test_one_that_comes_to_nothing_leaves_it_the_guest_s(
    sandbox: RunningSandbox, booking: Booking, returned: Refund, farid: User, fatima: User, kind: str
) -> None:
    row = told(sandbox, booking, kind=kind)
    if kind == "chargeback":
        row = ended(sandbox, row, "won")
    assert aside(returned) == BACK and agreed(repay(returned, farid), fatima).amount == BACK
    if kind == "inquiry":  # it has taken nothing, and a refund is one way to end it
        row = ended(sandbox, row, "warning_closed")
    clean()


def test_a_part_of_it_leaves_the_rest_the_guest_s(
    sandbox: RunningSandbox, booking: Booking, returned: Refund, farid: User, fatima: User
) -> None:
    held = stands("2100", booking.code)
    row = ended(sandbox, told(sandbox, booking, amount=2_500), "lost")
    assert (aside(returned), ours(row), stands("2100", booking.code)) == (BACK - 2_500, 0, held)
    (said,) = payment_queries.refunds_aside(refunds=[returned]).values()
    assert "ops refunds repay" in said
    asked = repay(returned, farid)
    assert asked.amount == BACK - 2_500
    work_chargebacks.take_over(dispute_id=row.provider_id, actor=ACTOR, now=now())
    work_chargebacks.run(now=now())
    asked.refresh_from_db()
    agreed(asked, fatima)
    payments.settle_repayment(
        refund_code=asked.code, bank="main", line="BL-1", amount=Money(1_500, "EUR"), actor=WORKER, now=now()
    )
    assert aside(returned) == 0 and stands("2400", asked.code) == 0
    with pytest.raises(Conflict):
        repay(returned, farid)
    clean()


def test_what_comes_back_only_after_the_loss_is_the_guest_s_beside_what_was_disputed(
    sandbox: RunningSandbox, booking: Booking, farid: User, fatima: User
) -> None:
    """The bank took what had not been refunded; the refund was on its way then."""
    refund = sent(sandbox, booking, farid)
    row = ended(sandbox, told(sandbox, booking), "lost")
    assert row.amount == booking.charge_total - BACK
    came_back(sandbox, refund)
    work_chargebacks.run(now=now())
    assert (aside(refund), ours(row)) == (BACK, 0)
    assert agreed(repay(refund, farid), fatima).amount == BACK
    clean()


def test_what_comes_back_after_all_of_the_charge_was_lost_is_no_loss_of_ours(
    sandbox: RunningSandbox, booking: Booking, farid: User
) -> None:
    """The bank asked about all of it; then it was refunded in part, and then it was taken."""
    row = told(sandbox, booking, kind="inquiry")
    refund = sent(sandbox, booking, farid)
    decide(sandbox, row.provider_id, escalate=True)
    row = ended(sandbox, row, "lost")
    assert (row.kind, row.amount, ours(row)) == ("chargeback", booking.charge_total, BACK), "the guest has it twice"
    came_back(sandbox, refund)
    with pytest.raises(Conflict, match="has this money already"):
        repay(refund, farid)
    work_chargebacks.run(now=now())
    assert (aside(refund), ours(row)) == (0, 0)
    assert story(booking).state == "sent"
    clean()


def test_a_second_dispute_takes_what_the_first_had_left(sandbox: RunningSandbox, booking: Booking, farid: User) -> None:
    refund = sent(sandbox, booking, farid)
    first = ended(sandbox, told(sandbox, booking), "lost")
    came_back(sandbox, refund)
    assert aside(refund) == BACK, "the first was of what had not been refunded"
    second = ended(sandbox, told(sandbox, booking, amount=BACK), "lost")
    assert (aside(refund), ours(first), ours(second), stands("2100", booking.code)) == (0, 0, 0, 0)
    clean()


@pytest.mark.parametrize("end", ["paid", "returned"])
def test_what_two_had_agreed_to_pay_when_the_chargeback_came_is_ours_unless_it_comes_back(
    sandbox: RunningSandbox, booking: Booking, returned: Refund, farid: User, fatima: User, end: str
) -> None:
    asked = agreed(repay(returned, farid), fatima)
    row = told(sandbox, booking)
    asked.refresh_from_db()
    assert asked.status == "approved"
    (said,) = payment_queries.refunds_aside(refunds=[asked, returned]).values()
    assert "Do not send it" in said and row.code in said
    row = ended(sandbox, row, "lost")
    assert (aside(returned), ours(row)) == (0, BACK), "the guest has it twice until it is not paid"
    if end == "paid":
        payments.settle_repayment(
            refund_code=asked.code, bank="main", line="BL-1", amount=Money(BACK, "EUR"), actor=WORKER, now=now()
        )
        work_chargebacks.run(now=now())
        assert (aside(returned), ours(row), stands("2400", asked.code)) == (0, BACK, 0)
        return
    asked.refresh_from_db()
    payments.return_repayment(
        refund_code=asked.code, reason="Not sent", version=asked.version, actor=factories.acting(farid), now=now()
    )
    assert aside(returned) == BACK
    with pytest.raises(Conflict, match="has this money already"):
        repay(returned, farid)
    work_chargebacks.run(now=now())
    assert (aside(returned), ours(row), stands("2400", asked.code)) == (0, 0, 0)
    with pytest.raises(Conflict, match="has this money already"):
        repay(returned, farid)
    clean()


def test_what_was_asked_for_and_not_agreed_to_is_taken_back(
    sandbox: RunningSandbox, booking: Booking, returned: Refund, farid: User
) -> None:
    asked = repay(returned, farid)
    row = told(sandbox, booking)
    asked.refresh_from_db()
    assert asked.status == "cancelled"
    ended(sandbox, row, "lost")
    assert aside(returned) == 0
    clean()


def test_what_the_provider_never_sent_and_our_bank_returned_is_the_network_s_too(
    sandbox: RunningSandbox, monkeypatch: pytest.MonkeyPatch, farid: User, fatima: User
) -> None:
    """Owed by rule, refused, agreed to be paid another way, charged back and lost; then our own bank does not pay it."""
    booking = paid(check_in=(now() + timedelta(days=20)).date())
    by_host(booking)
    refund = refused(Refund.objects.get(), monkeypatch)
    hear(sandbox)
    asked = agreed(repay(refund, farid), fatima)
    row = ended(sandbox, told(sandbox, booking), "lost")
    assert ours(row) == booking.charge_total
    asked.refresh_from_db()
    payments.return_repayment(
        refund_code=asked.code,
        reason="No such account",
        version=asked.version,
        actor=factories.acting(farid),
        now=now(),
    )
    with pytest.raises(Conflict):
        repay(refund, farid)
    work_chargebacks.run(now=now())
    assert (aside(refund), ours(row), stands("2100", booking.code)) == (0, 0, 0)
    assert not Refund.objects.filter(status__in=["requested", "approved"]).exists()
    clean()
