"""Debts are given up by two people of finance, never for more than is owed."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import IntegrityError, transaction

from backoffice.audit.models import AuditEntry
from backoffice.core.errors import (
    Conflict,
    IllegalTransition,
    Invalid,
    NotAllowed,
    NotFound,
    Refused,
    StaleVersion,
)
from backoffice.core.money import Money
from backoffice.ledger import queries as ledger
from backoffice.payouts import operations, queries
from backoffice.payouts.models import WriteOff
from backoffice.people.models import User
from tests import factories
from tests.factories import NOW, SYSTEM
from tests.racing import race
from tests.workflows.hosts import owes
from tests.workflows.steps import ROOMS

pytestmark = pytest.mark.django_db(transaction=True, available_apps=ROOMS)


@pytest.fixture
def host() -> User:
    host = factories.person("Bob", is_host=True)
    owes(host, Money(8_000, "EUR"), at=NOW)
    return host


@pytest.fixture
def finance() -> User:
    return factories.staff("finance")


def proposed(host: User, finance: User, amount: int = 8_000, currency: str = "EUR") -> WriteOff:
    return operations.propose_write_off(
        host_code=host.code,
        amount=Money(amount, currency),
        reason="They left the platform",
        actor=factories.acting(finance),
        now=NOW,
    )


def decided(row: WriteOff, by: User, *, approve: bool = True, **terms: Any) -> WriteOff:
    return operations.decide_write_off(
        **{
            "code": row.code,
            "approve": approve,
            "reason": "Checked",
            "version": row.version,
            "actor": factories.acting(by),
            "now": NOW,
            **terms,
        }
    )


def owed(host: User) -> int:
    return queries.owed(host_code=host.code, currency="EUR").amount


def test_a_second_person_says_yes_and_it_is_a_loss(host: User, finance: User) -> None:
    row = proposed(host, finance, 5_000)
    assert row.status == "proposed" and owed(host) == 8_000
    [debt] = queries.receivables(now=NOW)
    assert debt.proposed == row.code
    other = factories.staff("finance")
    done = decided(row, other)
    assert (done.status, done.decided_by_id, owed(host)) == ("approved", other.id, 3_000)
    assert ledger.balance(account="5220", key=host.code, currency="EUR") == 5_000
    verbs = AuditEntry.objects.filter(object_kind="write_off").order_by("seq").values_list("verb", "actor_id")
    assert list(verbs) == [("payouts.write_off.propose", finance.id), ("payouts.write_off.approve", other.id)]
    with pytest.raises(IllegalTransition):
        decided(done, other)


def test_or_no_and_it_stays_owed(host: User, finance: User) -> None:
    done = decided(proposed(host, finance), factories.staff("finance"), approve=False)
    assert (done.status, owed(host)) == ("rejected", 8_000)
    assert proposed(host, finance).status == "proposed", "another can be proposed after it"


def test_never_by_its_maker_nor_by_who_may_not(host: User, finance: User) -> None:
    row = proposed(host, finance)
    for person in (finance, factories.staff("team_lead"), factories.staff("auditor")):
        with pytest.raises(NotAllowed):
            decided(row, person)
    with pytest.raises(NotAllowed):
        decided(row, finance, actor=SYSTEM)
    with pytest.raises(NotAllowed):
        proposed(host, factories.staff("support_l2"))
    with pytest.raises(NotAllowed):
        operations.propose_write_off(host_code=host.code, amount=Money(1, "EUR"), reason="x", actor=SYSTEM, now=NOW)
    assert owed(host) == 8_000


def test_the_database_wants_two_people_too(host: User, finance: User) -> None:
    row = proposed(host, finance)
    with pytest.raises(IntegrityError, match="write_off_by_two"), transaction.atomic():
        WriteOff.objects.filter(id=row.id).update(status="approved", decided_by=finance)


def test_what_is_wrong_with_it_is_said(host: User, finance: User) -> None:
    with pytest.raises(Conflict, match=r"owes 80\.00 EUR; 80\.01 EUR"):
        proposed(host, finance, 8_001)
    with pytest.raises(Conflict, match=r"owes 0\.00 USD"):
        proposed(host, finance, 1, "USD")
    with pytest.raises(Invalid, match="above zero"):
        proposed(host, finance, 0)
    with pytest.raises(NotFound):
        operations.propose_write_off(
            host_code="PN-NOBODY", amount=Money(1, "EUR"), reason="x", actor=factories.acting(finance), now=NOW
        )
    with pytest.raises(Refused):
        operations.propose_write_off(
            host_code=host.code, amount=Money(1, "EUR"), reason=" ", actor=factories.acting(finance), now=NOW
        )
    row = proposed(host, finance)
    with pytest.raises(Conflict, match="waits for a second person"):
        proposed(host, finance, 1)
    other = factories.staff("finance")
    with pytest.raises(StaleVersion):
        decided(row, other, version=row.version + 1)
    with pytest.raises(Refused):
        decided(row, other, reason="")


def test_what_came_back_meanwhile_is_not_given_up(host: User, finance: User) -> None:
    row = proposed(host, finance)
    owes(host, Money(-3_000, "EUR"), at=NOW)  # netted since
    with pytest.raises(Conflict, match=r"owes 50\.00 EUR"):
        decided(row, factories.staff("finance"))
    row.refresh_from_db()
    assert (row.status, owed(host)) == ("proposed", 5_000)


def test_two_at_once_propose_and_decide_it_once(host: User, finance: User) -> None:
    other = factories.staff("finance")
    made = race([lambda: proposed(host, finance), lambda: proposed(host, other)])
    rows = [one for one in made if isinstance(one, WriteOff)]
    assert len(rows) == 1 and any(isinstance(one, Conflict) for one in made), made
    third, fourth = factories.staff("finance"), factories.staff("finance")
    outcomes = race([lambda: decided(rows[0], third), lambda: decided(rows[0], fourth)])
    assert sum(isinstance(one, WriteOff) for one in outcomes) == 1, outcomes
    assert sum(isinstance(one, StaleVersion) for one in outcomes) == 1, outcomes
    assert owed(host) == 0
