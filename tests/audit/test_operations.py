"""What an entry holds, what it refuses to hold, and that it cannot be changed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import pytest
from django.conf import settings
from django.db import Error, connection, transaction
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis
from hypothesis import strategies as st
from pytest_django import DjangoAssertNumQueries

from backoffice.audit import operations, policies, queries
from backoffice.audit.models import AuditEntry
from backoffice.core.actor import Actor, system
from backoffice.core.errors import Invalid
from tests.audit.conftest import NOON, ROOMS, STAFF, Write, seal_all


@pytest.mark.django_db
def test_an_entry_says_who_did_what_when_from_where_and_why(write: Write) -> None:
    entry = AuditEntry.objects.get(seq=write())

    assert (entry.actor_kind, entry.actor_id, entry.actor_name, entry.address) == ("staff", 7, "Ines", "10.0.0.7")
    assert (entry.verb, entry.object_kind, entry.object_id, entry.at) == ("bookings.cancel", "booking", "BK-1", NOON)
    assert (entry.before, entry.after) == ({"status": "confirmed"}, {"status": "cancelled", "refund": 68000})
    assert (entry.reason, entry.request_id, entry.case_ref, entry.approval_ref) == ("asked to", "req-1", "CS-1", "AP-1")


@pytest.mark.django_db
def test_the_actors_reason_is_kept_when_none_is_given(write: Write) -> None:
    seq = write(actor=STAFF.because("the guest was ill"), reason="")

    assert AuditEntry.objects.get(seq=seq).reason == "the guest was ill"


@pytest.mark.django_db
def test_writing_is_one_statement(write: Write, django_assert_num_queries: DjangoAssertNumQueries) -> None:
    with django_assert_num_queries(1):
        write()


@pytest.mark.django_db
def test_the_hashed_bytes_are_the_documented_array_with_the_sequence_number(write: Write) -> None:
    entry = AuditEntry.objects.get(seq=write())

    assert json.loads(bytes(entry.canonical)) == [
        entry.seq,
        "2026-07-10T12:00:00.000000Z",
        "staff",
        7,
        "Ines",
        "bookings.cancel",
        "booking",
        "BK-1",
        {"status": "confirmed"},
        {"status": "cancelled", "refund": 68000},
        "asked to",
        "req-1",
        "10.0.0.7",
        "CS-1",
        "AP-1",
        entry.created_xid,
    ]
    assert bytes(entry.leaf) == hashlib.sha256(b"\x00" + bytes(entry.canonical)).digest()


@pytest.mark.django_db(transaction=True, available_apps=ROOMS)
def test_an_entry_lives_and_dies_with_the_act(write: Write) -> None:
    with transaction.atomic():
        write()
        transaction.set_rollback(True)
    assert not AuditEntry.objects.exists()


_TEXT = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=30)
_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**18), 10**18)
    | st.floats(allow_nan=False, allow_infinity=False)
    | _TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXT, inner, max_size=3),
    max_leaves=6,
)
_FACTS = st.none() | st.dictionaries(_TEXT.filter(lambda name: name.lower() not in policies.PERSONAL_FIELDS), _JSON)


@pytest.mark.django_db(transaction=True, available_apps=ROOMS)
@hypothesis(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(before=_FACTS, after=_FACTS, reason=_TEXT)
def test_whatever_is_written_verifies(
    write: Write, before: Mapping[str, Any] | None, after: Mapping[str, Any] | None, reason: str
) -> None:
    try:
        write(before=before, after=after, reason=reason)
    except Invalid:  # a personal field deeper inside
        return
    assert queries.verify().first_bad is None


@pytest.mark.django_db
@pytest.mark.parametrize("name", sorted(policies.PERSONAL_FIELDS))
@pytest.mark.parametrize(
    ("facts", "path"),
    [
        (lambda name: {"before": {name: "Ada Lovelace"}}, "before.{}"),
        (lambda name: {"after": {name.upper(): 44}}, "after.{}"),
        (lambda name: {"after": {"guest": {name: ["Ada"]}}}, "after.guest.{}"),
        (lambda name: {"after": {"guests": [{"code": "P-1"}, {name: "Ada"}]}}, "after.guests.{}"),
    ],
)
def test_a_raw_personal_field_is_refused_wherever_it_hides(write: Write, name: str, facts: Any, path: str) -> None:
    with pytest.raises(Invalid) as refused:
        write(**facts(name))
    assert refused.value.facts["field"].lower() == path.format(name)
    assert "audit.personal" in str(refused.value)
    assert not AuditEntry.objects.exists()


@pytest.mark.django_db
def test_of_a_personal_field_the_log_keeps_that_it_changed_and_a_keyed_digest(write: Write) -> None:
    seq = write(before={"name": operations.personal("Ada")}, after={"name": operations.personal("Ada Lovelace")})
    entry = AuditEntry.objects.get(seq=seq)

    assert entry.before != entry.after
    assert entry.before == {"name": operations.personal("Ada")}
    assert b"Ada" not in bytes(entry.canonical)
    assert operations.personal("Ada")["digest"] != policies.digest("Ada", key=settings.AUDIT_KEY + "another")


@pytest.mark.django_db
@pytest.mark.parametrize("kind", ["guest", "host"])
def test_guests_and_hosts_are_known_by_id_alone(write: Write, kind: Any) -> None:
    person = Actor(kind=kind, id=12, name="Ada Lovelace", address="203.0.113.9")
    entry = AuditEntry.objects.get(seq=write(actor=person))

    assert (entry.actor_id, entry.actor_name) == (12, "")
    assert b"Ada" not in bytes(entry.canonical)
    assert b"203.0.113.9" not in bytes(entry.canonical)


@pytest.mark.django_db
def test_an_address_finds_both_staff_and_the_guests_whose_digest_it_has(write: Write) -> None:
    guest = Actor(kind="guest", id=12, name="Ada", address="10.0.0.7")
    both = [write(), write(actor=guest)]
    write(actor=Actor(kind="guest", id=13, name="Eve", address="10.0.0.8"))

    assert [entry.seq for entry in queries.entries(address="10.0.0.7")] == both[::-1]


@pytest.mark.django_db
def test_entries_are_found_by_object_actor_verb_and_time_newest_first(write: Write) -> None:
    first, second = write("BK-1"), write("BK-1", verb="bookings.confirm")
    write("BK-2", actor=system("beat"))

    assert [entry.seq for entry in queries.entries(kind="booking", id="BK-1")] == [second, first]
    assert [entry.seq for entry in queries.entries(verb="bookings.confirm", actor_id=7, since=NOON)] == [second]
    assert not queries.entries(until=NOON)


@pytest.mark.django_db
def test_an_entry_without_verb_kind_or_id_is_refused(write: Write) -> None:
    with pytest.raises(Invalid):
        write(verb="")
    with pytest.raises(Invalid):
        write("")


@pytest.mark.django_db(transaction=True, available_apps=ROOMS)
@pytest.mark.parametrize("table", ["audit_entry", "audit_block"])
@pytest.mark.parametrize("statement", ["UPDATE {} SET {} = {}", "DELETE FROM {}", "TRUNCATE {}"])
def test_the_database_refuses_to_change_or_remove_what_is_written(write: Write, table: str, statement: str) -> None:
    write()
    seal_all()
    column = {"audit_entry": "seq", "audit_block": "index"}[table]
    with pytest.raises(Error, match="append-only"), connection.cursor() as cursor:
        cursor.execute(statement.format(table, column, column))
