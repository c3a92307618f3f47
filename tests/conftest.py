"""What every test of the house shares."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any
from uuid import uuid4

import pytest
from django.conf import settings as django_settings
from django.core.management.commands import flush as django_flush
from django.db import connection
from django.db.backends.postgresql.operations import DatabaseOperations

from backoffice.core.collector import settle_in
from tests import racing
from tests.desk import back_office, desk  # noqa: F401 — fixtures of every story that needs real processes
from tests.provider import impatient, sandbox, sandbox_process  # noqa: F401 — fixtures of every room that needs the provider

# The files that take longest, in the order in which they begin: none of them is left for the end, when a process that has one
# would be alone with it. Those that bring up desks of their own stand between those that do not.
LONGEST = (
    "tests/ops_cli/test_chaos.py",
    "tests/console/test_house_rules.py",
    "tests/workflows/test_chargebacks.py",
    "tests/browser/test_console.py",
    "tests/invariants/test_money_life.py",
    "tests/ops_cli/test_up.py",
    "tests/faults/test_crash_points_of_chargebacks.py",
    "tests/workflows/test_late_refunds.py",
    "tests/ops_cli/test_test.py",
    "tests/faults/test_crash_points.py",
    "tests/workflows/test_import_inside_airbnb_real.py",
    "tests/ops_cli/test_launcher.py",
    "tests/bookings/test_races.py",
    "tests/faults/test_crash_points_money_in.py",
    "tests/journeys/test_journey.py",
    "tests/stripe_sandbox/test_conservation.py",
    "tests/faults/test_crash_points_without_the_provider.py",
    "tests/faults/test_worker_killed.py",
    "tests/workflows/test_import_inside_airbnb_memory.py",
    "tests/journeys/test_host_is_paid.py",
    "tests/payouts/test_money_of_hosts.py",
    "tests/ops_cli/test_seed.py",
    "tests/faults/test_crash_points_of_payouts.py",
)
WRITTEN_BY_DJANGO = {"django_content_type", "auth_permission"}

# What a test calls is on this machine. Said so, as `ops up` says it to its parts (ops_cli/parts/plan.py): else each request
# to the sandbox looks through all variables of the environment for a proxy: a twentieth of a walk of money.
os.environ["NO_PROXY"] = ",".join(filter(None, [os.environ.get("NO_PROXY", ""), "127.0.0.1", "localhost"]))

# Test processes share one Redis; what one of them caches (badges, sessions) is not the other's.
django_settings.CACHES["default"]["KEY_PREFIX"] = f"desk-{os.environ.get('PYTEST_XDIST_WORKER', 'alone')}-{os.getpid()}"


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    place = {path: number for number, path in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.nodeid.partition("::")[0], len(place)))


def pytest_collection_finish() -> None:
    settle_in()


@pytest.fixture(autouse=True)
def _anchors_of_its_own(settings: Any, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The roots of a log that is emptied after the test would accuse the next one."""
    settings.AUDIT_ANCHORS = tmp_path_factory.getbasetemp() / "anchors" / uuid4().hex


@pytest.fixture(autouse=True)
def _races_are_over() -> Iterator[None]:
    yield
    racing.go_home()


@pytest.fixture(autouse=True, scope="session")
def _append_only_tables_are_emptied_between_tests() -> Iterator[None]:
    """Tests that commit are followed by Django's flush, and the append-only tables refuse to be emptied.

    So the flush, and nothing else, runs as a replica, for which triggers do not fire. Only a superuser can do that: it
    is no way round the guards for the application's role (docs/decisions/0001-sign-convention.md). It deletes, since
    PostgreSQL takes ten times as long to truncate fifty tables of a few rows: each gets new files. What Django writes
    after every migration of its own accord, content types and permissions, is left where it is: to write it anew took
    most of the time between two tests."""
    flush, truncate = DatabaseOperations.execute_sql_flush, DatabaseOperations.sql_flush

    def delete(
        self: DatabaseOperations,
        style: Any,
        tables: Sequence[str],
        *,
        reset_sequences: bool = False,
        allow_cascade: bool = False,
    ) -> list[str]:
        if reset_sequences or not tables:
            return truncate(self, style, tables, reset_sequences=reset_sequences, allow_cascade=allow_cascade)
        emptied = _with_those_that_point_at(tuple(tables)) if allow_cascade else tables
        return [
            "; ".join(f"DELETE FROM {self.quote_name(table)}" for table in emptied if table not in WRITTEN_BY_DJANGO)
        ]

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
        patch.setattr(DatabaseOperations, "sql_flush", delete)
        patch.setattr(django_flush, "emit_post_migrate_signal", lambda *_, **__: None)
        yield


@cache
def _with_those_that_point_at(tables: tuple[str, ...]) -> tuple[str, ...]:
    """The tables and all that hold a foreign key to them, however far: what TRUNCATE … CASCADE would empty."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            WITH RECURSIVE emptied (id) AS (
                SELECT oid FROM pg_class WHERE relname = ANY(%s) AND relkind = 'r'
                UNION SELECT conrelid FROM pg_constraint JOIN emptied ON confrelid = emptied.id WHERE contype = 'f'
            ) SELECT relname FROM pg_class JOIN emptied ON emptied.id = pg_class.oid
            """,
            [list(tables)],
        )
        return tuple(name for (name,) in cursor.fetchall())
