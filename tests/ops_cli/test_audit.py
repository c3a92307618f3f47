"""`ops audit`: the log proved, read and sealed; and what a shell does is in it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from backoffice.audit.models import AuditEntry
from backoffice.people import operations as people
from ops_cli.output import Exit
from tests import factories
from tests.ops_cli.conftest import Answered

pytestmark = pytest.mark.django_db(transaction=True)
Ops = Callable[..., Answered]


@pytest.fixture(autouse=True)
def _anchors(settings: Any, tmp_path: Path) -> None:
    settings.AUDIT_ANCHORS = tmp_path / "anchors"


@pytest.fixture
def three(ops: Ops) -> list[int]:
    """Three acts in the log."""
    people_of = [factories.person(name) for name in ("Alice", "Bob", "Charlie")]
    for person in people_of:
        people.suspend(person_id=person.pk, reason="fraud", actor=factories.SYSTEM, now=factories.NOW)
    return list(AuditEntry.objects.order_by("seq").values_list("seq", flat=True))


def tamper(sql: str, *parameters: object) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET session_replication_role = replica")
        cursor.execute(sql, parameters)
        cursor.execute("SET session_replication_role = DEFAULT")


def test_a_log_as_it_was_written_is_exit_code_0(ops: Ops, three: list[int]) -> None:
    waiting = ops("audit", "seal", "--dry-run")
    assert waiting.summary == {"would_seal": 3, "dry_run": True}
    assert ops("audit", "seal").summary["sealed"] == 3
    found = ops("audit", "verify")
    assert (found.code, found.rows) == (Exit.DONE, [])
    assert (found.summary["intact"], found.summary["entries"], found.summary["anchors_compared"]) == (True, 3, 1)


@pytest.mark.parametrize(
    ("sql", "finding"),
    [
        ("UPDATE audit_entry SET reason = 'none' WHERE seq = %s", "the columns are not what was hashed"),
        ("DELETE FROM audit_entry WHERE seq = %s", "the entry is missing"),
    ],
)
def test_a_tampered_entry_is_named_with_exit_code_3(ops: Ops, three: list[int], sql: str, finding: str) -> None:
    ops("audit", "seal")
    tamper(sql, three[1])
    found = ops("audit", "verify")
    assert found.code == Exit.FINDINGS and found.rows == [{"seq": three[1], "finding": finding}]


def test_blocks_without_an_anchor_are_warned_of(ops: Ops, three: list[int], settings: Any, tmp_path: Path) -> None:
    ops("audit", "seal")
    settings.AUDIT_ANCHORS = tmp_path / "lost"
    found = ops("audit", "verify")
    assert found.code == Exit.DONE and "1 blocks have no anchor" in found.envelope["warnings"][0]


def test_entries_are_found_by_object_verb_person_and_time(ops: Ops, three: list[int]) -> None:
    bob = AuditEntry.objects.get(seq=three[1])
    (row,) = ops("audit", "list", "--kind", "person", "--id", bob.object_id).rows
    assert (row["seq"], row["verb"], row["reason"]) == (three[1], "people.suspend", "fraud")
    assert (row["before"], row["after"]) == ({"status": "active"}, {"status": "suspended"})
    assert len(ops("audit", "list", "--verb", "people.suspend", "--limit", "2").rows) == 2
    assert ops("audit", "list", "--until", "2026-01-01").rows == []
    assert ops("audit", "list", "--by", factories.staff("auditor").code).rows == []


def test_the_first_admin_is_made_once(ops: Ops, monkeypatch: pytest.MonkeyPatch) -> None:
    import io
    import sys

    command = ("people", "bootstrap-admin", "--email", "Ada@example.org", "--name", "Ada Lovelace", "--password-stdin")
    monkeypatch.setattr(sys, "stdin", io.StringIO("correct horse battery\n"))
    made = ops(*command)
    assert (made.code, made.summary["email"], made.summary["role"]) == (Exit.DONE, "ada@example.org", "admin")
    entry = AuditEntry.objects.get(verb="people.grant_role")
    assert (entry.actor_kind, entry.object_id) == ("cli", made.summary["person"]) and entry.actor_name
    monkeypatch.setattr(sys, "stdin", io.StringIO("another good password\n"))
    again = ops(*command)
    assert again.code == Exit.REFUSED and "There is an admin already" in again.said


@pytest.mark.parametrize(
    ("options", "code", "says"),
    [((), Exit.REFUSED, "--password-stdin"), (("--password-stdin",), Exit.USAGE, "too short")],
)
def test_a_password_is_asked_for_or_read_and_must_be_good(
    ops: Ops, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], code: Exit, says: str
) -> None:
    import io
    import sys

    monkeypatch.setattr(sys, "stdin", io.StringIO("short\n"))
    found = ops("people", "bootstrap-admin", "--email", "ada@example.org", "--name", "Ada", *options)
    assert found.code == code and says in found.said
