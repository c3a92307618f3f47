"""What every test of the house shares."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest
from django.db.backends.postgresql.operations import DatabaseOperations

from tests.desk import back_office, desk  # noqa: F401 — fixtures of every story that needs real processes
from tests.provider import sandbox, sandbox_process  # noqa: F401 — fixtures of every room that needs the provider


@pytest.fixture(autouse=True, scope="session")
def _append_only_tables_are_emptied_between_tests() -> Iterator[None]:
    """Tests that commit are followed by Django's flush, and the append-only tables refuse its TRUNCATE.

    So the flush, and nothing else, runs as a replica, for which triggers do not fire. Only a superuser can do that: it
    is no way round the guards for the application's role (docs/decisions/0001-sign-convention.md)."""
    flush = DatabaseOperations.execute_sql_flush

    def flush_as_replica(self: DatabaseOperations, sql_list: Sequence[str]) -> None:
        with self.connection.cursor() as cursor:
            cursor.execute("SET session_replication_role = replica")
        try:
            flush(self, sql_list)
        finally:
            with self.connection.cursor() as cursor:
                cursor.execute("SET session_replication_role = DEFAULT")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DatabaseOperations, "execute_sql_flush", flush_as_replica)
        yield
