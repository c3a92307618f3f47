"""What a host paid for a debt that is none after all is paid back: once, less what we had given up, however many look."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import transaction

from backoffice.core import clock
from backoffice.core.errors import Conflict
from backoffice.core.money import Money
from backoffice.ledger import operations as ledger_operations
from backoffice.ledger import queries as ledger
from backoffice.ledger.policies import Line
from backoffice.notifications.models import Notification
from backoffice.payouts import operations, queries
from backoffice.payouts.models import Payout
from backoffice.payouts.policies.credits import paid_back
from backoffice.reporting.queries import health
from backoffice.reporting.queries.health import Trial
from tests.factories import NOW, SYSTEM
from tests.payouts.stays import host, paid_stay, release_all
from tests.racing import race

HOUR = timedelta(hours=1)


def eur(amount: int) -> Money:
    return Money(amount, "EUR")


@pytest.mark.parametrize(
    ("amount", "given_up", "lines"),
    [
        (40_740, 0, ["1310 H1 40740", "2200 H1 -40740"]),
        (40_740, 10_000, ["1310 H1 40740", "5220 H1 -10000", "2200 H1 -30740"]),
        (40_740, 50_000, ["1310 H1 40740", "5220 H1 -40740"]),
    ],
)
def test_what_was_given_up_comes_back_to_us_first(amount: int, given_up: int, lines: list[str]) -> None:
    found = paid_back(host="H1", amount=eur(amount), given_up=eur(given_up))
    assert [f"{line.account} {line.key} {line.amount}" for line in found] == lines


def post(kind: str, subject: str, *lines: tuple[str, str, int]) -> None:
    with transaction.atomic():
        ledger_operations.post(
            key=f"{kind}:{subject}:{lines!r}",
            kind=kind,
            lines=[Line(account, key, amount, "EUR") for account, key, amount in lines],
            subject=subject,
            effective_at=NOW,
            actor=SYSTEM,
            now=NOW,
        )


def in_credit(amount: int) -> Payout:
    """A stay whose host was paid, and then had a debt of it taken back that they had paid meanwhile; its payout."""
    booking = paid_stay(of=host())
    (payout,) = release_all(now=booking.check_in_at + 25 * HOUR)
    post("reversal", booking.code, ("1310", booking.host.code, -amount), ("5200", "du_1", amount))
    return payout


@pytest.mark.django_db
def test_it_is_planned_once_told_explained_and_sent() -> None:
    stay = in_credit(4_000)
    code, at = stay.host.code, stay.due_at + HOUR
    doctor = health.CHECKS["credits"]
    assert doctor(Trial(now=NOW + HOUR / 2, full=False)).ok
    found = doctor(Trial(now=NOW + 2 * HOUR, full=False))
    assert not found.ok and f"40.00 EUR to host {code}" in found.detail
    assert [(one.host_code, one.amount) for one in queries.credits_to_pay()] == [(code, eur(4_000))]
    made = operations.pay_credit(host_code=code, currency="EUR", actor=SYSTEM, now=at)
    assert made is not None and made.booking_id == stay.booking_id
    assert operations.pay_credit(host_code=code, currency="EUR", actor=SYSTEM, now=at) is None
    assert queries.credits_to_pay() == [] and doctor(Trial(now=NOW + 2 * HOUR, full=False)).ok
    assert eur(4_000).format() in Notification.objects.get(topic="payout_owed_back", recipient_id=stay.host_id).title
    assert queries.explain(code=made.code, now=at).adds_up
    (sent,) = release_all(now=at)
    assert (sent.code, sent.status, sent.transfer_amount, sent.source_charge) == (made.code, "transferred", 4_000, "")
    assert ledger.balance(account="2200", key=code, currency="EUR") == 0
    explained = queries.explain(code=made.code, now=at)
    assert explained.adds_up and explained.share == eur(4_000)
    assert [finding for finding in health.ledger_check(now=at) if not finding.ok] == []


@pytest.mark.django_db
def test_what_was_written_off_is_not_paid_to_who_never_paid_it() -> None:
    stay = in_credit(4_000)
    code = stay.host.code
    post("write_off", code, ("5220", code, 4_000), ("1310", code, -4_000))
    post("penalty", code, ("1310", code, 4_000), ("4200", "", -4_000))
    assert operations.pay_credit(host_code=code, currency="EUR", actor=SYSTEM, now=NOW) is None
    assert [ledger.balance(account=one, key=code, currency="EUR") for one in ("1310", "5220", "2200")] == [0, 0, 0]
    assert not Payout.objects.filter(weight=0).exists()


@pytest.mark.django_db
def test_what_belongs_to_no_stay_is_left_to_a_person() -> None:
    bob = host()
    post("manual", "", ("1310", bob.code, -500), ("5200", "du_1", 500))
    with pytest.raises(Conflict, match="no stay of theirs"):
        operations.pay_credit(host_code=bob.code, currency="EUR", actor=SYSTEM, now=NOW)


@pytest.mark.django_db(transaction=True)
def test_two_runs_at_once_plan_it_once() -> None:
    code = in_credit(4_000).host.code
    at = clock.now()
    outcomes = race([lambda: operations.pay_credit(host_code=code, currency="EUR", actor=SYSTEM, now=at)] * 3)
    assert sum(isinstance(one, Payout) for one in outcomes) == 1, outcomes
    assert ledger.balance(account="2200", key=code, currency="EUR") == -4_000
