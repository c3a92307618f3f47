"""Every guard the database keeps over money is attacked: refused by that very guard, and accepted once it is dropped.

The attacks are made from the catalogue. A guard for which none can be made needs one written by hand in test_guards.py,
as the ledger's triggers have; until then the test fails by its name."""

from __future__ import annotations

import os

import pytest
from django.db import connection

from tests import factories
from tests.ledger import guards
from tests.ledger.conftest import NOON, Post, capture
from tests.ledger.guards import Guard
from tests.ledger.test_guards import ATTACKS

# The ledger's own triggers are attacked one by one in test_guards.py.
ELSEWHERE = {attack.by for attack in ATTACKS} | {guard for attack in ATTACKS for guard in attack.also}


@pytest.fixture
def world(db: None, post: Post) -> None:
    """A row in every table, checked as far as a commit would, so that guards can be dropped under them."""
    factories.booking(now=NOON)
    post("capture:1", capture())
    guards.fill()
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        cursor.execute("SET CONSTRAINTS ALL DEFERRED")


def unattacked(guard: Guard, beside: dict[str, Guard]) -> bool:
    return not any(guards.is_attacked(guard, sql, beside=beside) for sql in guards.attacks(guard))


@pytest.mark.usefixtures("world")
def test_every_guard_refuses_and_nothing_else_does_in_its_place() -> None:
    there = guards.there_are()
    beside = {guard.name: guard for guard in there if guard.kind != "t"}
    missing = [str(guard) for guard in there if guard.name not in ELSEWHERE and unattacked(guard, beside)]
    assert not missing, "no attack on\n" + "\n".join(missing)


@pytest.mark.usefixtures("world")
def test_what_is_no_attack_is_not_taken_for_one() -> None:
    """A harmless statement, and the attack of another guard."""
    there = {guard.name: guard for guard in guards.there_are()}
    positive, status = there["refund_positive"], there["refund_status"]
    for guard in (positive, status):
        assert not guards.is_attacked(guard, "UPDATE payments_refund SET reason = 'other'", beside=there)
    wrong_status = "UPDATE payments_refund SET status = 'nonsense'"
    assert guards.is_attacked(status, wrong_status, beside=there)
    assert not guards.is_attacked(positive, wrong_status, beside=there)


@pytest.mark.django_db
def test_no_guard_has_gone() -> None:
    """One that was written down and is not there was dropped; a new one is to be written down, so that it cannot go
    unnoticed: `GUARDS=write ./ops test tests/ledger/test_every_guard.py`."""
    there = [str(guard) for guard in guards.there_are()]
    if os.environ.get(guards.WRITING) == "write":
        guards.WRITTEN.write_text("".join(f"{line}\n" for line in there), encoding="utf-8")
    written = guards.WRITTEN.read_text(encoding="utf-8").splitlines()
    assert sorted(set(written) - set(there)) == [], "dropped"
    assert sorted(set(there) - set(written)) == [], "new: write them down"
