from __future__ import annotations

from datetime import timedelta

import pytest

from backoffice.core.actor import system
from backoffice.core.errors import Invalid
from backoffice.core.money import Money
from backoffice.reporting import queries as reporting
from backoffice.workflows import refund_booking
from tests import factories
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


@pytest.mark.django_db
def test_a_period_that_ends_before_it_begins_is_refused() -> None:
    today = factories.NOW.date()
    with pytest.raises(Invalid, match="until"):
        reporting.gmv(since=today, until=today, by="month")
    with pytest.raises(Invalid, match="by"):
        reporting.gmv(since=today, until=today + timedelta(days=1), by="moon")
