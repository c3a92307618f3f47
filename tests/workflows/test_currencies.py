"""Currencies with no, three or unused decimals, end to end, and three of them at once."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

from backoffice.bookings import queries as booking_queries
from backoffice.bookings.models import Booking
from backoffice.core.actor import system
from backoffice.core.errors import Invalid
from backoffice.core.money import Money, minor_digits
from backoffice.ledger import queries as ledger
from backoffice.payments.models import BalanceTransaction
from backoffice.reconciliation.provider import reconcile
from backoffice.rulebook import queries as rulebook
from backoffice.workflows import import_balance_transactions, refund_booking
from backoffice.workflows.pay_booking import pay
from tests import factories
from tests.stripe_sandbox.server import RunningSandbox
from tests.workflows.steps import asked_back, now

pytestmark = pytest.mark.django_db(transaction=True)
FINANCE = system("finance")


def paid(home_in: str, nightly: int, charged_in: str | None = None, **options: Any) -> Booking:
    at = now()
    home = factories.listing(
        now=at, city="Nowhere", country="KW", currency=home_in, nightly_price=nightly, cleaning_fee=0, **options
    )
    booking = factories.booking(home, currency=charged_in, now=at)
    pay(
        booking_code=booking.code,
        payment_method="pm_card_visa",
        actor=factories.acting(booking.guest, now=now()),
        now=now(),
    )
    return booking_queries.booking(code=booking.code)


def give_back(booking: Booking, amount: int) -> None:
    refund_booking.send(refund_code=asked_back(booking, amount).code, actor=FINANCE, now=now())


def explained(sandbox: RunningSandbox) -> None:
    sandbox.advance(60)
    import_balance_transactions.run(now=now())
    assert reconcile(scope="stripe", since=None, until=None, actor=FINANCE, now=now()).findings == []
    assert [finding for finding in ledger.check(now=now()) if not finding.ok] == []


def clearing_is_empty(booking: Booking) -> None:
    charge = booking.payment.charge_id
    assert list(ledger.balances(code="1150", key=charge, open_only=True)) == []


@pytest.mark.parametrize(
    ("home_in", "nightly"),
    [("JPY", 12_345), ("KWD", 33_350), ("BHD", 41_010), ("ISK", 2_150_000), ("HUF", 3_999_900), ("UGX", 25_000_000)],
)
def test_a_home_in_its_own_currency_is_paid_and_refunded(sandbox: RunningSandbox, home_in: str, nightly: int) -> None:
    booking = paid(home_in, nightly)
    assert booking.status == "confirmed" and booking.charge_currency == home_in
    charge = sandbox.client().v1.charges.retrieve(booking.payment.charge_id)
    assert (charge.amount, charge.currency) == (booking.charge_total, home_in.lower())
    assert charge.amount % Money(0, home_in).step == 0
    explained(sandbox)
    moved = BalanceTransaction.objects.get(source_id=booking.payment.charge_id)
    assert moved.currency == "EUR"  # not settled natively: converted at the charge, once, decimals and all
    in_major = Fraction(booking.charge_total, 10 ** minor_digits(home_in)) * Fraction(moved.exchange_rate)
    assert abs(Fraction(moved.amount, 100) - in_major) < Fraction(1, 10)
    clearing_is_empty(booking)
    give_back(booking, booking.charge_total // 3 // 100 * 100)
    explained(sandbox)


@pytest.mark.parametrize("charged_in", ["JPY", "ISK", "HUF"])
def test_a_guest_pays_in_another_currency(sandbox: RunningSandbox, charged_in: str) -> None:
    day = now().date()
    per_eur = rulebook.rate(base="EUR", quote=charged_in, on=day).value
    sandbox.control(
        "POST",
        "/_sim/rates",
        {"currency": charged_in.lower(), "date": day.isoformat(), "per_eur": f"{float(per_eur):.6f}"},
    )
    booking = paid("EUR", 12_345, charged_in)
    lines = sum(line["charged"]["amount"] for line in booking.price["lines"])
    assert lines == booking.charge_total and lines % Money(0, charged_in).step == 0
    explained(sandbox)
    charge = booking.payment.charge_id
    assert list(ledger.balances(code="3900", key=charge, open_only=True)) == []  # the home is settled in euros


def test_prices_that_cards_do_not_take_are_refused_with_the_quote(sandbox: RunningSandbox) -> None:
    at = now()
    home = factories.listing(now=at, city="Nowhere", country="KW", currency="KWD", nightly_price=33_355, cleaning_fee=0)
    with pytest.raises(Invalid, match=r"steps of 0\.010 KWD"):
        factories.quote(home, factories.person(now=at), nights=1, now=at)
    cheap = factories.listing(now=at, city="Nowhere", country="KW", nightly_price=20, cleaning_fee=0)
    with pytest.raises(Invalid, match=r"at least 0\.50 EUR"):
        factories.quote(cheap, factories.person(now=at), nights=1, now=at)
    assert sandbox.client().v1.payment_intents.list().data == []


def test_three_currencies_at_once(sandbox: RunningSandbox) -> None:
    """Golden: a home in Singapore dollars, charged in yen, settled in euros. Each currency is its own account, and the
    charge's position says what the house is still to exchange: dollars promised against euros received."""
    booking = paid("SGD", 20_000, "JPY")
    explained(sandbox)
    charge, moved = booking.payment.charge_id, BalanceTransaction.objects.get(source_id=booking.payment.charge_id)
    position = {row.currency: row.amount for row in ledger.balances(code="3900", key=charge, open_only=True)}
    assert position == {"SGD": booking.total, "EUR": -moved.amount}
    held = ledger.balance(account="2100", key=booking.code, currency="SGD")
    assert held == -(booking.host_price - booking.host_fee)
    clearing_is_empty(booking)
    rate = Decimal(Fraction(booking.rate["value"]).numerator) / Decimal(Fraction(booking.rate["value"]).denominator)
    assert booking.charge_total == Money(booking.total, "SGD").convert(rate, "JPY").amount


def test_yen_dinars_and_euros_side_by_side_keep_apart(sandbox: RunningSandbox) -> None:
    stays = [paid("JPY", 20_000), paid("KWD", 40_000), paid("EUR", 10_000)]
    sandbox.advance(timedelta(minutes=2).total_seconds())
    explained(sandbox)
    for booking in stays:
        held = -(booking.host_price - booking.host_fee)
        assert ledger.balance(account="2100", key=booking.code, currency=booking.currency) == held
        clearing_is_empty(booking)
