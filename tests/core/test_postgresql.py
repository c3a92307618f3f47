"""A developer's desk keeps no list of its statements, and whoever asks for one still gets it."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext


def ask() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")


@pytest.mark.django_db
def test_with_debug_on_no_statement_is_kept(settings: Any) -> None:
    settings.DEBUG = True
    connection.queries_log.clear()
    ask()
    assert list(connection.queries_log) == []


@pytest.mark.django_db
def test_who_asks_for_the_statements_gets_them(settings: Any) -> None:
    settings.DEBUG = True
    with CaptureQueriesContext(connection) as kept:
        ask()
    assert [each["sql"] for each in kept] == ["SELECT 1"]
