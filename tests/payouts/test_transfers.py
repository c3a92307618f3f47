"""What becomes of a transfer: recorded once, refused, and failed by the provider after it was made."""

from __future__ import annotations

from datetime import timedelta

import pytest

from backoffice.core.errors import Conflict
from backoffice.core.money import Money
from backoffice.ledger import queries as ledger
from backoffice.notifications.models import Notification
from backoffice.payments import operations as payments
from backoffice.payments.policies.seen import SeenBalanceTransaction, SeenTransfer
from backoffice.payouts import operations, queries
from backoffice.payouts.models import BankPayout, Payout
from backoffice.workflows import release_payouts
from tests.factories import NOW, SYSTEM
from tests.payouts.stays import paid_stay, release_all, sent

pytestmark = pytest.mark.django_db
HOUR = timedelta(hours=1)


def claimed() -> Payout:
    booking = paid_stay()
    at = booking.check_in_at + 25 * HOUR
    released = operations.release(payout_code=Payout.objects.get(booking=booking).code, actor=SYSTEM, now=at)
    assert released.claimed
    return released.payout


def movement(payout: Payout, kind: str, amount: int) -> None:
    """What the provider shows of a transfer in our balance."""
    assert payout.submitted_at is not None
    category = "transfer" if kind == "transfer" else "transfer_reversal"
    moved = Money(amount, "EUR")
    payments.import_transactions(
        rows=[
            SeenBalanceTransaction(
                id=f"txn_{kind}_{payout.pk}_{payout.tries}",
                type=kind,
                reporting_category=category,
                source_id=payout.transfer_id or "",
                source_reference=payout.code,
                amount=moved,
                fee=Money.zero("EUR"),
                net=moved,
                created=payout.submitted_at,
                available_on=payout.submitted_at,
                booking=payout.booking.code,
                host=payout.host.code,
                account="acct_1",
            )
        ],
        actor=SYSTEM,
        now=payout.submitted_at,
    )


def balance(account: str, key: str) -> int:
    return ledger.balance(account=account, key=key, currency="EUR")


def test_the_answer_is_taken_over_once() -> None:
    payout = claimed()
    assert payout.submitted_at is not None
    first = sent(payout, now=payout.submitted_at)
    version = first.version
    assert sent(payout, now=payout.submitted_at + HOUR).version == version
    assert Notification.objects.filter(topic="payout_sent", recipient_id=payout.host_id).count() == 1


@pytest.mark.parametrize("amount", [-1, 1])
def test_a_transfer_of_another_amount_is_not_ours(amount: int) -> None:
    payout = claimed()
    seen = SeenTransfer(
        id="tr_1",
        amount=Money(payout.transfer_amount + amount, "EUR"),
        reversed_amount=Money.zero("EUR"),
        account="acct_1",
    )
    assert payout.submitted_at is not None
    with pytest.raises(Conflict, match="tr_1"):
        operations.record_transfer(payout_code=payout.code, seen=seen, actor=SYSTEM, now=payout.submitted_at)


def test_a_refusal_is_taken_back_once_and_old_news_of_it_changes_nothing() -> None:
    payout = claimed()
    assert payout.submitted_at is not None
    for _ in range(2):
        operations.fail_transfer(
            payout_code=payout.code, failure="no such account", tries=1, actor=SYSTEM, now=payout.submitted_at
        )
    assert balance("2210", payout.code) == 0 and balance("2200", payout.host.code) == -payout.transfer_amount
    again = payout.submitted_at + 25 * HOUR
    released = operations.release(payout_code=payout.code, actor=SYSTEM, now=again)
    assert released.claimed and released.payout.tries == 2
    operations.fail_transfer(payout_code=payout.code, failure="late news", tries=1, actor=SYSTEM, now=again)
    assert Payout.objects.get(pk=payout.pk).status == "in_transfer"
    assert sent(released.payout, now=again).status == "transferred"
    assert balance("2200", payout.host.code) == 0 and balance("2210", payout.code) == -payout.transfer_amount


def test_a_transfer_the_provider_fails_afterwards_is_payable_again_and_sent_anew() -> None:
    """Worked posting H, with the memo of the host's balance at the provider."""
    payout = claimed()
    assert payout.submitted_at is not None
    made = sent(payout, now=payout.submitted_at)
    amount = made.transfer_amount
    movement(made, "transfer", -amount)
    assert (balance("2210", made.code), balance("1800", "acct_1"), balance("2800", "acct_1")) == (0, amount, -amount)
    there = BankPayout.objects.create(account="acct_1", provider_id="po_1", amount=1, currency="EUR", created_at=NOW)
    Payout.objects.filter(pk=made.pk).update(status="paid", bank_payout=there, paid_at=NOW)
    movement(made, "transfer_failure", amount)
    assert (balance("2200", made.host.code), balance("1800", "acct_1"), balance("2800", "acct_1")) == (-amount, 0, 0)
    at = payout.submitted_at + 9 * 24 * HOUR  # it rests from then on, however long ago it was sent
    assert queries.transfers_come_back(now=at) == [(made.code, made.transfer_id)]
    weeks_later = payout.submitted_at + 40 * 24 * HOUR  # the provider took its time, or the desk was down
    assert queries.transfers_come_back(now=weeks_later) == []
    assert queries.transfers_come_back(now=weeks_later, ever=True) == [(made.code, made.transfer_id)]
    back = {"payout_code": made.code, "transfer_id": made.transfer_id, "failure": "it came back", "actor": SYSTEM}
    failed = operations.note_transfer_failure(**back, now=at)
    assert (failed.status, failed.transfer_id) == ("failed", None)
    failed.refresh_from_db()
    assert (failed.bank_payout, failed.paid_at) == (None, None), "the next transfer is paid by another"
    assert queries.transfers_come_back(now=at) == queries.transfers_come_back(now=at, ever=True) == []
    assert failed.waits_until == at + 24 * HOUR
    assert [row.status for row in release_all(now=at + 23 * HOUR)] == ["failed"]
    (again,) = release_all(now=at + 24 * HOUR)
    assert (again.status, again.tries) == ("transferred", 2) and again.transfer_id != made.transfer_id
    assert operations.note_transfer_failure(**back, now=at + 24 * HOUR).status == "transferred", (
        "that was the first one"
    )
    assert balance("2200", made.host.code) == 0
    movement(again, "transfer", -amount)
    assert balance("2210", made.code) == 0 and balance("1800", "acct_1") == amount


def test_a_transfer_that_comes_back_weeks_later_is_found_by_the_next_look() -> None:
    payout = claimed()
    assert payout.submitted_at is not None
    made = sent(payout, now=payout.submitted_at)
    movement(made, "transfer", -made.transfer_amount)
    later = payout.submitted_at + 40 * 24 * HOUR  # the provider took its time, or the desk was down
    assert "come_back" not in release_payouts.run(now=later, actor=release_payouts.ACTOR)
    movement(made, "transfer_failure", made.transfer_amount)
    assert release_payouts.run(now=later + HOUR, actor=release_payouts.ACTOR)["come_back"] == 1
    made.refresh_from_db()
    assert (made.status, made.transfer_id) == ("failed", None) and made.waits_for


def test_what_was_taken_back_of_a_transfer_before_it_failed_is_not_sent_again() -> None:
    payout = claimed()
    assert payout.submitted_at is not None
    made = sent(payout, now=payout.submitted_at)
    amount = made.transfer_amount
    movement(made, "transfer", -amount)
    Payout.objects.filter(pk=made.pk).update(reversed_amount=400)
    movement(made, "transfer_failure", amount - 400)
    at = payout.submitted_at + HOUR
    operations.note_transfer_failure(
        payout_code=made.code, transfer_id=made.transfer_id or "", failure="it came back", actor=SYSTEM, now=at
    )
    (again,) = release_all(now=at + 24 * HOUR)
    assert (again.status, again.transfer_amount, again.reversed_amount) == ("transferred", amount - 400, 0)
    assert balance("2200", made.host.code) == 0
