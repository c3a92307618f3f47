from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import transaction

from backoffice.bookings import queries as booking_queries
from backoffice.core.actor import system
from backoffice.core.errors import Invalid
from backoffice.core.money import Money
from backoffice.payments import operations as payments
from backoffice.reporting import queries as reporting
from backoffice.workflows import collect_charges, import_balance_transactions, refund_booking
from tests import factories
from tests.payments.test_repayments import came_back, repay
from tests.workflows.steps import paid as stay_paid
from tests.workflows.test_instalments import due, long_stay, until
from tests.workflows.test_pay_and_refund import now, paid, refund


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("by", reporting.GROUPS)
def test_gmv_ties_to_the_ledger_in_every_currency(sandbox, by: str) -> None:
    first = paid(sandbox)
    paid(sandbox, home=factories.listing(city="Singapore", country="SG", currency="SGD", now=now()))
    sent = refund(first, 5_000)
    refund_booking.send(refund_code=sent.code, actor=system("tests"), now=now())
    today = now().date()
    period = {"since": today - timedelta(days=1), "until": today + timedelta(days=2)}
    rows = reporting.gmv(**period, by=by)
    assert {(row.currency, row.bookings, row.refunded) for row in rows} == {("EUR", 1, 5_000), ("SGD", 1, 0)}
    assert sum(row.charged for row in rows if row.currency == "EUR") == first.charge_total
    ties = reporting.ties(**period, rows=rows)
    assert ties and all(tie.holds for tie in ties)
    assert Money(rows[0].net, rows[0].currency)


@pytest.mark.django_db(transaction=True)
def test_gmv_counts_instalments_and_a_refund_that_was_repaid_or_stopped_for_what_it_is(sandbox) -> None:
    farid, fatima = (factories.staff("finance", name=name, now=now()) for name in ("Farid", "Fatima"))
    stay = stay_paid(payment_method="pm_card_refundFail")
    (returned,) = came_back(sandbox, stay, farid, 4_000)
    import_balance_transactions.run(now=now())
    asked = repay(returned, farid)
    payments.approve_refund(refund_code=asked.code, version=asked.version, actor=factories.acting(fatima), now=now())
    with transaction.atomic():
        payments.stop_refund(
            refund=refund(booking_queries.booking(code=stay.code), 1_000, key="stopped"),
            actor=system("tests").because("a chargeback has taken it"),
            now=now(),
        )
    long = long_stay(nights=35)
    until(sandbox, due(long)[0].due_at)
    assert collect_charges.collect_due(now=now()) == 1
    period = {"since": now().date() - timedelta(days=90), "until": now().date() + timedelta(days=2)}
    rows = reporting.gmv(**period, by="city")
    assert (sum(row.charged for row in rows), sum(row.refunded for row in rows)) == (
        stay.charge_total + long.charge_total,
        4_000,
    )
    assert all(tie.holds for tie in reporting.ties(**period, rows=rows))


@pytest.mark.django_db
def test_a_period_that_ends_before_it_begins_is_refused() -> None:
    today = factories.NOW.date()
    with pytest.raises(Invalid, match="until"):
        reporting.gmv(since=today, until=today, by="month")
    with pytest.raises(Invalid, match="by"):
        reporting.gmv(since=today, until=today + timedelta(days=1), by="moon")
