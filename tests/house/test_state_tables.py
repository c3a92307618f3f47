"""Every status × every action of every table, the database's copy of each, and their diagrams in docs/states.md."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.db import IntegrityError, connection, transaction

from backoffice.bookings.states import BOOKING
from backoffice.core.errors import IllegalTransition
from backoffice.core.states import StateTable
from backoffice.listings.states import LISTING
from backoffice.payments.states import ATTEMPT, CHARGE, PAYMENT, REFUND, WEBHOOK
from backoffice.people.states import ACCOUNT
from backoffice.reconciliation.states import BREAK, MATCH
from tests.house import state_docs

TABLES: dict[str, tuple[StateTable, str]] = {
    "account": (ACCOUNT, "people_user"),
    "listing": (LISTING, "listings_listing"),
    "booking": (BOOKING, "bookings_booking"),
    "payment": (PAYMENT, "payments_payment"),
    "attempt": (ATTEMPT, "payments_paymentattempt"),
    "charge": (CHARGE, "payments_extracharge"),
    "refund": (REFUND, "payments_refund"),
    "webhook": (WEBHOOK, "payments_webhookevent"),
    "break": (BREAK, "reconciliation_break"),
    "bank match": (MATCH, "reconciliation_bankmatch"),
}
WALK = [
    (table, status, action) for table, _ in TABLES.values() for status in table.statuses for action in table.actions
]


@pytest.mark.parametrize(("table", "status", "action"), WALK, ids=lambda part: getattr(part, "kind", part))
def test_an_action_leads_where_the_table_says_or_is_refused(table: StateTable, status: str, action: str) -> None:
    if table.allows(status, action):
        assert table.after(status, action) in table.statuses
        assert action in table.available(status)
    else:
        with pytest.raises(IllegalTransition, match=table.kind):
            table.after(status, action)
        assert action not in table.available(status)


@pytest.mark.parametrize("table", [table for table, _ in TABLES.values()], ids=lambda table: table.kind)
def test_every_status_can_be_reached(table: StateTable) -> None:
    reached = {table.initial}
    while (
        more := {after for moves in table.steps.values() for before, after in moves.items() if before in reached}
        - reached
    ):
        reached |= more
    # What later rooms do (four eyes over breaks) is in the table already, so that the database need not change for it.
    assert set(table.statuses) - reached <= {"proposed", "approved", "written_off", "closed", "requested", "declined"}


@pytest.mark.django_db
@pytest.mark.parametrize(("table", "name"), TABLES.values(), ids=lambda part: getattr(part, "kind", part))
def test_the_database_refuses_any_other_status(table: StateTable, name: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = %s::regclass AND contype = 'c'",
            [name],
        )
        checks = [row[0] for row in cursor.fetchall()]
    mine = [check for check in checks if "status" in check and all(f"'{status}'" in check for status in table.statuses)]
    assert len(mine) == 1
    assert mine[0].count("::character varying") >= len(table.statuses)


@pytest.mark.django_db
def test_a_made_up_status_is_refused_by_the_database_itself() -> None:
    with pytest.raises(IntegrityError, match="account_status"), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO people_user (password, code, email, name, is_host, is_staff, status, currency, created_at, version) "
            "VALUES ('', 'PN-1', 'a@example.org', 'A', false, false, 'imagined', 'EUR', now(), 1)"
        )


def test_the_diagrams_in_the_docs_are_those_of_the_code() -> None:
    path = Path(__file__).resolve().parents[2] / "docs" / "states.md"
    assert path.read_text(encoding="utf-8") == state_docs.render(), "run: python -m tests.house.state_docs"
