"""A refund that came back is paid another way: by two people, once, settled by the line of our bank's statement."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from django.db import transaction

from backoffice.audit.models import AuditEntry
from backoffice.bookings.models import Booking
from backoffice.core.actor import system
from backoffice.core.errors import Conflict, IllegalTransition, Invalid, NotAllowed, NotFound, Refused, StaleVersion
from backoffice.core.money import Money
from backoffice.ledger import operations as ledger_operations
from backoffice.ledger import queries as ledger
from backoffice.ledger.policies import Line
from backoffice.notifications.models import Notification
from backoffice.payments import operations as payments
from backoffice.payments import queries
from backoffice.payments.models import Refund
from backoffice.people.models import User
from backoffice.reporting.queries import health
from backoffice.workflows import apply_provider_event as events
from backoffice.workflows import import_balance_transactions, keep_time, refund_booking
from tests import factories
from tests.racing import race
from tests.stripe_sandbox.server import RunningSandbox
from tests.workflows.steps import ROOMS, asked_back, now, paid

pytestmark = pytest.mark.django_db(transaction=True, available_apps=ROOMS)
WORKER = system("worker")


@pytest.fixture
def farid() -> User:
    return factories.staff("finance", name="Farid", now=now())


@pytest.fixture
def fatima() -> User:
    return factories.staff("finance", name="Fatima", now=now())


@pytest.fixture
def returned(sandbox: RunningSandbox, farid: User) -> Refund:
    """40.00 went to a card that was closed meanwhile, and came back."""
    (refund,) = came_back(sandbox, paid(payment_method="pm_card_refundFail"), farid, 4_000)
    return refund


def came_back(sandbox: RunningSandbox, booking: Booking, by: User, *amounts: int) -> list[Refund]:
    """Refunds of a stay that its guest's bank sends back."""
    refunds = [asked_back(booking, amount, by=by) for amount in amounts]
    for refund in refunds:
        refund_booking.send(refund_code=refund.code, actor=WORKER, now=now())
    events.poll(now=now())
    sandbox.advance(30 * 86_400)
    events.poll(now=now())
    events.apply_due(now=now())
    for refund in refunds:
        refund.refresh_from_db()
        assert refund.unclaimed
    return refunds


def repay(refund: Refund, by: User) -> Refund:
    return payments.request_repayment(
        refund_code=refund.code,
        version=refund.version,
        reason="Her new account, by letter",
        actor=factories.acting(by),
        now=now(),
    )


def test_two_people_the_bank_and_its_statement_bring_the_money_to_the_guest(
    sandbox: RunningSandbox, returned: Refund, farid: User, fatima: User
) -> None:
    booking = Booking.objects.get()
    with pytest.raises(Conflict, match="import its movements"):
        repay(returned, farid)
    import_balance_transactions.run(now=now())
    asked = repay(returned, farid)
    assert (asked.status, asked.method, asked.amount, asked.currency) == ("requested", "other", 4_000, "EUR")
    with pytest.raises(NotAllowed):
        payments.approve_refund(refund_code=asked.code, version=asked.version, actor=factories.acting(farid), now=now())
    approved = payments.approve_refund(
        refund_code=asked.code, version=asked.version, actor=factories.acting(fatima), now=now()
    )
    assert ledger.balance(account="2410", key=returned.code, currency="EUR") == 0
    assert ledger.balance(account="2400", key=asked.code, currency="EUR") == -4_000
    sandbox.advance(3_600)
    keep_time.resolve_indeterminate(now=now())  # nothing of it is ever sent to a card
    assert len(sandbox.client().v1.refunds.list().data) == 1
    noted = payments.note_repayment(
        refund_code=asked.code, reference="E2E-77", version=approved.version, actor=factories.acting(farid), now=now()
    )
    assert noted.status == "submitted"
    settle = partial(
        payments.settle_repayment, refund_code=asked.code, bank="main", line="CAMT-1", actor=WORKER, now=now()
    )
    with pytest.raises(Conflict, match=r"39\.99"):
        settle(amount=Money(3_999, "EUR"))
    assert settle(amount=Money(4_000, "EUR")).status == settle(amount=Money(4_000, "EUR")).status == "succeeded"
    assert ledger.balance(account="2400", key=asked.code, currency="EUR") == 0
    assert ledger.balance(account="1010", key="main", currency="EUR") == -4_000
    money = queries.money_of(booking=booking)
    assert money.refunded == Money(4_000, "EUR") and not money.refunds_pending
    assert money.refundable == money.charged - money.refunded
    verbs = list(AuditEntry.objects.filter(object_id=asked.code).order_by("seq").values_list("verb", flat=True))
    assert verbs == ["refunds.repay", "refunds.approve", "refunds.submit", "refunds.succeed"]


def test_what_came_back_is_repaid_once_whoever_asks(returned: Refund, farid: User, fatima: User) -> None:
    import_balance_transactions.run(now=now())
    outcomes = race([partial(repay, returned, farid), partial(repay, returned, fatima)])
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["Conflict", "Refund"]
    first = Refund.objects.get(method="other")
    other = fatima if first.requested_by_id == farid.id else farid
    payments.reject_refund(
        refund_code=first.code, version=first.version, reason="Wrong name", actor=factories.acting(other), now=now()
    )
    returned.refresh_from_db()
    assert repay(returned, farid).code != first.code, "after a no it may be asked for again"


def test_only_what_came_back_is_paid_another_way(returned: Refund, farid: User) -> None:
    import_balance_transactions.run(now=now())
    lena = factories.staff("support_l1", name="Lena", now=now())
    with pytest.raises(NotAllowed):
        repay(returned, lena)
    with pytest.raises(Refused, match="reason"):
        payments.request_repayment(
            refund_code=returned.code, version=returned.version, reason=" ", actor=factories.acting(farid), now=now()
        )
    with pytest.raises(NotFound):
        payments.note_repayment(
            refund_code=returned.code, reference="X", version=1, actor=factories.acting(farid), now=now()
        )
    asked = repay(returned, farid)
    with pytest.raises(Invalid, match="reference"):
        payments.note_repayment(
            refund_code=asked.code, reference="", version=asked.version, actor=factories.acting(farid), now=now()
        )
    Refund.objects.filter(pk=returned.pk).update(status="succeeded", unclaimed=False)
    with pytest.raises(Conflict, match="sent back"):
        repay(returned, farid)


def test_two_refunds_that_came_back_are_each_repaid_their_own(
    sandbox: RunningSandbox, farid: User, fatima: User
) -> None:
    booking = paid(payment_method="pm_card_refundFail")
    larger, smaller = came_back(sandbox, booking, farid, 4_000, 1_500)
    import_balance_transactions.run(now=now())
    asked = [repay(larger, farid), repay(smaller, farid)]
    assert [each.amount for each in asked] == [4_000, 1_500], "neither takes what stands aside for the other"
    for each in asked:
        payments.approve_refund(refund_code=each.code, version=each.version, actor=factories.acting(fatima), now=now())
    assert [ledger.balance(account="2400", key=each.code, currency="EUR") for each in asked] == [-4_000, -1_500]
    assert ledger.balance(account="2410", key=larger.code, currency="EUR") == 0
    assert ledger.balance(account="2410", key=smaller.code, currency="EUR") == 0


def test_the_second_yes_pays_no_more_than_stands_aside_then(returned: Refund, farid: User, fatima: User) -> None:
    import_balance_transactions.run(now=now())
    asked = repay(returned, farid)
    with transaction.atomic():  # finance took it otherwise meanwhile
        lines = (Line.of("2410", returned.code, Money(1_000, "EUR")), Line.of("1010", "main", Money(-1_000, "EUR")))
        ledger_operations.post(
            key="by-hand", kind="manual", subject="", lines=lines, effective_at=now(), actor=WORKER, now=now()
        )
    with pytest.raises(Conflict, match=r"30\.00"):
        payments.approve_refund(
            refund_code=asked.code, version=asked.version, actor=factories.acting(fatima), now=now()
        )
    assert Refund.objects.get(pk=asked.pk).status == "requested"


def approved_for(refund: Refund, asking: User, deciding: User) -> Refund:
    """The refund that came back is to be paid another way; two people agree."""
    asked = repay(Refund.objects.get(pk=refund.pk), asking)
    return payments.approve_refund(
        refund_code=asked.code, version=asked.version, actor=factories.acting(deciding), now=now()
    )


def sent_at_the_bank(refund: Refund, by: User, reference: str = "E2E-77") -> Refund:
    return payments.note_repayment(
        refund_code=refund.code, reference=reference, version=refund.version, actor=factories.acting(by), now=now()
    )


def not_paid(refund: Refund, by: User, reason: str = "No such account") -> Refund:
    return payments.return_repayment(
        refund_code=refund.code, reason=reason, version=refund.version, actor=factories.acting(by), now=now()
    )


def standing(returned: Refund, repayment: Refund) -> tuple[int, int]:
    """What stands aside for the guest, and what is on its way to them by this repayment."""
    return (
        -ledger.balance(account="2410", key=returned.code, currency="EUR"),
        -ledger.balance(account="2400", key=repayment.code, currency="EUR"),
    )


def explained() -> bool:
    return all(finding.ok for finding in health.ledger_check(now=now()))


@pytest.mark.parametrize(("noted", "status"), [(False, "cancelled"), (True, "failed")])
def test_what_our_bank_refuses_stands_aside_again_and_is_asked_for_anew(
    returned: Refund, farid: User, fatima: User, noted: bool, status: str
) -> None:
    import_balance_transactions.run(now=now())
    first = approved_for(returned, farid, fatima)
    assert standing(returned, first) == (0, 4_000) and explained()
    if noted:
        first = sent_at_the_bank(first, farid)
    told = Notification.objects.filter(topic="refund_failed").count()
    back = not_paid(first, farid)
    assert (back.status, back.failure_reason) == (status, "No such account")
    assert standing(returned, first) == (4_000, 0) and explained()
    assert Notification.objects.filter(topic="refund_failed").count() == told + 1
    entry = AuditEntry.objects.filter(object_id=first.code).latest("seq")
    assert (entry.reason, entry.actor_id) == ("No such account", farid.pk)
    money = queries.money_of(booking=Booking.objects.get())
    assert money.refunds_pending == Money(4_000, "EUR") and not money.refunded, "it is owed to the guest as before"
    with pytest.raises(IllegalTransition):
        not_paid(back, farid)
    second = approved_for(returned, farid, fatima)
    sent_at_the_bank(second, farid, reference="E2E-78")
    payments.settle_repayment(
        refund_code=second.code, bank="main", line="BL-2", amount=Money(4_000, "EUR"), actor=WORKER, now=now()
    )
    assert standing(returned, second) == (0, 0) and explained()
    assert ledger.balance(account="1010", key="main", currency="EUR") == -4_000
    assert queries.money_of(booking=Booking.objects.get()).refunded == Money(4_000, "EUR")


def test_what_had_left_our_account_is_asked_for_again_once_it_is_back(
    returned: Refund, farid: User, fatima: User
) -> None:
    import_balance_transactions.run(now=now())
    first = sent_at_the_bank(approved_for(returned, farid, fatima), farid)
    line: dict[str, Any] = {
        "refund_code": first.code,
        "bank": "main",
        "amount": Money(4_000, "EUR"),
        "actor": WORKER,
        "now": now(),
    }
    with pytest.raises(Conflict, match="recorded"):
        payments.bring_back_repayment(line="BL-2", **line)
    assert payments.settle_repayment(line="BL-1", **line).status == "succeeded"
    first.refresh_from_db()
    assert not_paid(first, farid).status == "failed"
    assert standing(returned, first) == (4_000, -4_000) and explained()
    with pytest.raises(Conflict, match="has not shown it back"):
        approved_for(returned, farid, fatima)
    with pytest.raises(Conflict, match=r"39\.99"):
        payments.bring_back_repayment(line="BL-2", **{**line, "amount": Money(3_999, "EUR")})
    for _ in range(2):
        assert payments.bring_back_repayment(line="BL-2", **line).status == "failed"
    assert standing(returned, first) == (4_000, 0) and explained()
    assert ledger.balance(account="1010", key="main", currency="EUR") == 0
    assert approved_for(returned, farid, fatima).status == "approved"


def test_the_second_yes_waits_for_what_the_bank_shows_to_have_left_after_all(
    returned: Refund, farid: User, fatima: User
) -> None:
    import_balance_transactions.run(now=now())
    first = not_paid(sent_at_the_bank(approved_for(returned, farid, fatima), farid), farid)
    asked = repay(Refund.objects.get(pk=returned.pk), farid)
    payments.settle_repayment(
        refund_code=first.code, bank="main", line="BL-1", amount=Money(4_000, "EUR"), actor=WORKER, now=now()
    )
    first.refresh_from_db()
    assert first.status == "failed", "a person said that it came back"
    with pytest.raises(Conflict, match="has not shown it back"):
        payments.approve_refund(
            refund_code=asked.code, version=asked.version, actor=factories.acting(fatima), now=now()
        )


def test_only_finance_says_that_the_bank_refused_and_why(returned: Refund, farid: User, fatima: User) -> None:
    import_balance_transactions.run(now=now())
    first = approved_for(returned, farid, fatima)
    with pytest.raises(NotAllowed):
        not_paid(first, factories.staff("team_lead", name="Lea", now=now()))
    with pytest.raises(Refused, match="reason"):
        not_paid(first, farid, reason=" ")
    with pytest.raises(StaleVersion):
        payments.return_repayment(
            refund_code=first.code, reason="x", version=1, actor=factories.acting(farid), now=now()
        )
    with pytest.raises(NotFound):
        not_paid(returned, farid)
    outcomes = race([partial(not_paid, first, farid), partial(not_paid, first, fatima)])
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["Refund", "StaleVersion"]
    assert standing(returned, first) == (4_000, 0)


def test_before_the_second_yes_whoever_asked_takes_it_back(returned: Refund, farid: User, fatima: User) -> None:
    import_balance_transactions.run(now=now())
    asked = repay(returned, farid)
    with pytest.raises(IllegalTransition):
        not_paid(asked, farid)
    with pytest.raises(NotAllowed):
        payments.cancel_refund(refund_code=asked.code, version=asked.version, actor=factories.acting(fatima), now=now())
    taken = payments.cancel_refund(
        refund_code=asked.code, version=asked.version, actor=factories.acting(farid), now=now()
    )
    assert taken.status == "cancelled" and queries.repayments_given_up() == []
    assert approved_for(returned, farid, fatima).status == "approved"
