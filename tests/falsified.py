"""Rows changed behind everybody's back, as no role of the desk could: what only a check afterwards can notice."""

from __future__ import annotations

from django.db import connection


def as_superuser(*statements: str) -> None:
    """Carry out statements as a replica, for which no trigger fires and no guard of the database stands."""
    with connection.cursor() as cursor:
        cursor.execute("SET session_replication_role = replica")
        try:
            for statement in statements:
                cursor.execute(statement)
        finally:
            cursor.execute("SET session_replication_role = DEFAULT")
