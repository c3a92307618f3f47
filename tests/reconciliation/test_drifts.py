"""Twenty rows falsified behind everybody's back, at the provider and here: twenty breaks, no more."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

import pytest

from backoffice.payments.models import BalanceTransaction, Refund
from backoffice.reconciliation import queries
from backoffice.reconciliation.models import Break
from backoffice.reconciliation.provider import reconcile
from backoffice.workflows import refund_booking
from tests import factories
from tests.falsified import as_superuser
from tests.stripe_sandbox.server import RunningSandbox
from tests.workflows.steps import now, paid
from tests.workflows.test_pay_and_refund import FINANCE, refund

pytestmark = pytest.mark.django_db(transaction=True)


def everything():
    return reconcile(scope="all", since=None, until=None, actor=FINANCE, now=now())


def test_twenty_seeded_drifts_are_twenty_breaks(sandbox: RunningSandbox) -> None:
    home = factories.listing(now=now())
    first = now().date() + timedelta(days=30)
    bookings = [paid(home=home, check_in=first + timedelta(days=2 * number), nights=1) for number in range(15)]
    sandbox.advance(60)
    staff = factories.staff("finance", now=now())
    for number, booking in enumerate(bookings[:2]):
        booking.refresh_from_db()
        asked = refund(booking, 1_000, key=f"k{number}", staff=staff)
        refund_booking.send(refund_code=asked.code, actor=FINANCE, now=now())
    sandbox.advance(3 * 3600)
    outcome = everything()
    assert outcome.differences == [] and outcome.run.lines == outcome.run.matched == 17
    charges = list(BalanceTransaction.objects.filter(reporting_category="charge").order_by("id"))
    ids = iter(charges)
    ours = [next(ids) for _ in range(8)]
    mirror = "account_id IN (SELECT id FROM ledger_account WHERE code = '1100')"
    succeeded, raised = Refund.objects.order_by("id")
    as_superuser(
        *(f"DELETE FROM ledger_line WHERE journal_id = {row.journal_id} AND {mirror}" for row in ours[0:2]),
        *(
            f"UPDATE ledger_line SET amount = amount + 7 WHERE journal_id = {row.journal_id} AND {mirror}"
            for row in ours[2:4]
        ),
        *(
            f"UPDATE payments_balancetransaction SET amount = amount + 9, net = net + 9 WHERE id = {row.id}"
            for row in ours[4:6]
        ),
        f"UPDATE payments_balancetransaction SET fee = fee + 1, net = net - 1 WHERE id = {ours[6].id}",
        f"DELETE FROM payments_balancetransaction WHERE id = {ours[7].id}",
        f"UPDATE payments_refund SET status = 'submitted' WHERE id = {succeeded.id}",
        f"UPDATE payments_refund SET amount = 100000 WHERE id = {raised.id}",
    )
    for delta in (1, -1, 250, -30_000):
        sandbox.drift(kind="altered", balance_transaction=next(ids).provider_id, amount_delta=delta)
    for _ in range(3):
        sandbox.drift(kind="missing", balance_transaction=next(ids).provider_id)
    for delta in (500, 40, -60):
        sandbox.drift(kind="extra", amount_delta=delta)
    sandbox.advance(25 * 3600)
    found = everything()
    assert Counter(difference.cls for difference in found.findings) == {
        "amount_mismatch": 8,
        "missing_internal": 6,
        "missing_external": 3,
        "fee_mismatch": 1,
        "status_mismatch": 1,
        "over_refund": 1,
    }
    assert len(found.differences) == len(found.findings) == 20 == Break.objects.count()
    assert all(figures["unexplained"] == 0 for figures in found.run.explained.values())
    again = everything()
    assert again.run.output_digest == found.run.output_digest and Break.objects.count() == 20
    assert queries.open_breaks().count() == 20
