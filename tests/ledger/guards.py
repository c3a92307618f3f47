"""The database guards of everything that is money: what there are, by the catalogue, and how to attack and drop one.

guards.txt says which there are: one that is gone fails a test. `GUARDS=write ./ops test tests/ledger/test_every_guard.py`
writes it anew."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import combinations, product
from pathlib import Path
from typing import Any, Final

from django.apps import apps
from django.contrib.postgres.fields import ArrayField
from django.db import DatabaseError, connection, models, transaction
from django.utils import timezone

WRITTEN: Final = Path(__file__).with_name("guards.txt")
WRITING: Final = "GUARDS"
ROOMS: Final = ("ledger", "payments", "payouts", "audit", "reconciliation", "bookings")
BESIDES: Final = ("listings_calendarhold", "jobs_stop", "core_idempotencyrecord")
KINDS: Final = {
    "c": "check",
    "u": "unique",
    "p": "primary key",
    "x": "exclusion",
    "f": "foreign key",
    "i": "unique index",
    "t": "trigger",
}
_CATALOGUE: Final = """
WITH money AS (
    SELECT oid, relname::text AS name FROM pg_class
    WHERE relkind = 'r' AND (relname ~ %(rooms)s OR relname = ANY (%(besides)s))
)
SELECT money.name, kind, guard, said, columns FROM money CROSS JOIN LATERAL (
    SELECT contype::text, conname::text, pg_get_constraintdef(oid),
           ARRAY (SELECT attname::text FROM pg_attribute WHERE attrelid = conrelid AND attnum = ANY (conkey))
    FROM pg_constraint WHERE conrelid = money.oid AND contype IN ('c', 'u', 'p', 'x', 'f')
    UNION ALL
    SELECT 'i', index.relname::text, pg_get_indexdef(index.oid),
           ARRAY (SELECT attname::text FROM pg_attribute WHERE attrelid = money.oid AND attnum = ANY (indkey::int2[]))
    FROM pg_index JOIN pg_class index ON index.oid = indexrelid
    WHERE indrelid = money.oid AND indisunique
          AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid AND contype IN ('u', 'p', 'x'))
    UNION ALL
    SELECT 't', tgname::text, pg_get_triggerdef(oid), '{}' FROM pg_trigger WHERE tgrelid = money.oid AND NOT tgisinternal
) AS guards (kind, guard, said, columns)
ORDER BY 1, 2, 3
"""


@dataclass(frozen=True, slots=True)
class Guard:
    """One constraint, unique index or trigger, as the catalogue tells it."""

    table: str
    kind: str
    name: str
    said: str
    columns: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.table}: {KINDS[self.kind]} {self.name}"

    @property
    def dropping(self) -> str:
        if self.kind == "t":
            return f'DROP TRIGGER "{self.name}" ON "{self.table}"'
        if self.kind == "i":
            return f'DROP INDEX "{self.name}"'
        return f'ALTER TABLE "{self.table}" DROP CONSTRAINT "{self.name}" CASCADE'


def there_are() -> list[Guard]:
    """Every guard of the money tables in this database."""
    rooms = f"^({'|'.join(ROOMS)})_"
    with connection.cursor() as cursor:
        cursor.execute(_CATALOGUE, {"rooms": rooms, "besides": list(BESIDES)})
        return [
            Guard(table, kind, name, said, tuple(columns)) for table, kind, name, said, columns in cursor.fetchall()
        ]


# A world with a row in every table ------------------------------------------------------------------------------------

# What a row of a table needs besides the first choice, the first row of what it points to, and one of everything.
ROWS: Final[dict[str, dict[str, Any]]] = {
    "payments_balancetransaction": {"net": 0},
    "payouts_payouthold": {"expires_at": datetime(2100, 1, 1, tzinfo=UTC)},
}


def fill() -> None:
    """Give every money table that has none a row, pointing at what is there."""
    for label in (*ROOMS, "jobs", "core"):
        for model in apps.get_app_config(label).get_models():
            if model._meta.db_table in {guard.table for guard in there_are()} and model._meta.managed:
                _row_of(model)


def _row_of(model: type[models.Model]) -> Any:
    found = model._default_manager.order_by("pk").first()
    if found is not None:
        return found
    row = model()
    for field in model._meta.concrete_fields:
        given = ROWS.get(model._meta.db_table, {})
        if field.name in given:
            setattr(row, field.name, given[field.name])
        elif not (isinstance(field, models.AutoField) or (field.null and not _is_key(field)) or field.has_default()):
            setattr(row, field.name, _value_for(field))
    row.save(force_insert=True)
    return row


def _is_key(field: Any) -> bool:
    """What makes a repeated request one: may be absent, and must be there for its guard to be attacked."""
    return bool(field.name == "request_key")


def _value_for(field: Any) -> Any:
    if isinstance(field, models.ForeignKey):
        return _row_of(field.related_model)
    if field.choices:
        return field.choices[0][0]
    if isinstance(field, models.DateTimeField):
        return timezone.now()
    if isinstance(field, models.DateField):
        return timezone.now().date()
    if isinstance(field, models.IntegerField):
        return 1
    if field.db_type(connection) == "xid8":
        return "1"
    if isinstance(field, models.BinaryField):
        return b"x"
    if isinstance(field, models.JSONField):
        return {}
    if isinstance(field, ArrayField):
        return [1]
    if isinstance(field, models.CharField) and field.max_length == 3:
        return "EUR"
    return next(iter(_words_of(field.model._meta.db_table, field.column)), "x")


def _words_of(table: str, column: str) -> list[str]:
    """The words that a check leaves a column to choose from."""
    checks = [guard for guard in there_are() if guard.table == table and guard.kind == "c"]
    return [word for guard in checks if guard.columns == (column,) for word in re.findall(r"'([^']+)'::", guard.said)]


NAMELESS: Final = "?"
MOST_BEHIND: Final = 12

# Attacking ------------------------------------------------------------------------------------------------------------


@contextmanager
def undone() -> Iterator[None]:
    """Whatever happens inside has not happened."""
    with transaction.atomic():
        yield
        transaction.set_rollback(True)


def run(sql: str) -> None:
    """Carry out a statement as far as a commit would."""
    with connection.cursor() as cursor:
        cursor.execute(sql)
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")


def refusal(sql: str, *, without: tuple[str, ...] = ()) -> str | None:
    """Which guard refuses `sql` once the statements `without` were carried out; None when it is accepted, NAMELESS when
    what refused does not say its name (a trigger's exception, a value of the wrong kind)."""
    try:
        with undone():
            for dropping in without:
                run(dropping)
            run(sql)
    except DatabaseError as error:
        diagnosis = getattr(error.__cause__, "diag", None)
        return (diagnosis.constraint_name if diagnosis else None) or NAMELESS
    return None


def is_attacked(guard: Guard, sql: str, *, beside: dict[str, Guard]) -> bool:
    """Whether `sql` is refused by this very guard and accepted without it. Others that would refuse it as well (a primary
    key under a unique pair, a stricter check) are out of the way both times; the table's own triggers always."""
    behind: list[str] = []
    if guard.kind != "t":
        behind.append(f'ALTER TABLE "{guard.table}" DISABLE TRIGGER USER')
    for _ in range(MOST_BEHIND):
        first = refusal(sql, without=tuple(behind))
        if first == guard.name or (guard.kind == "t" and first == NAMELESS):
            second = refusal(sql, without=(*behind, guard.dropping))
            if second is None:
                return True
        else:
            second = first
        if second not in beside or second == guard.name:
            return False
        behind.append(beside[second].dropping)
    return False


def attacks(guard: Guard) -> Iterator[str]:
    """Statements that may be what this guard is there to refuse, the simplest first."""
    if guard.kind == "c":
        yield from _changes_of(guard)
    elif guard.kind == "f":
        yield from _changes(guard.table, {column: ["-1"] for column in guard.columns})
    elif guard.kind in {"u", "p", "i", "x"}:
        yield from _copies(guard)
    else:
        yield from (
            f'UPDATE "{guard.table}" SET {_first_column(guard.table)} = {_first_column(guard.table)}',
            f'DELETE FROM "{guard.table}"',
            f'TRUNCATE "{guard.table}" CASCADE',
        )


def _columns(table: str) -> dict[str, tuple[str, bool, bool]]:
    """Column -> type, whether it may be empty, whether the database fills it."""
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT attname, format_type(atttypid, NULL), NOT attnotnull, attidentity <> '' OR attgenerated <> ''
               FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum""",
            [table],
        )
        return {name: (kind, nullable, filled) for name, kind, nullable, filled in cursor.fetchall()}


def _first_column(table: str) -> str:
    return next(f'"{name}"' for name, (_, _, filled) in _columns(table).items() if not filled)


def _changes_of(guard: Guard) -> Iterator[str]:
    """Changes of the columns that a check speaks of: to what it names, to nothing, beyond every bound, to each other."""
    columns = _columns(guard.table)
    named = [f"'{word}'" for word in re.findall(r"'([^']*)'::", guard.said)]
    values: dict[str, list[str]] = {}
    for column in guard.columns:
        kind, nullable, _ = columns[column]
        values[column] = ["NULL"] if nullable else []
        if kind.startswith(("character", "text")):
            values[column] += ["'nonsense'", "''", *named]
        elif kind in {"bigint", "integer", "smallint", "numeric"}:
            values[column] += ["-1", "0", "30000"]
        elif kind.startswith("timestamp") or kind == "date":
            values[column] += ["'2000-01-01'", "'2200-01-01'"]
        elif kind == "boolean":
            values[column] += ["true", "false"]
        elif kind == "daterange":
            values[column] += ["'empty'"]
        values[column] += [f'"{other}"' for other in guard.columns if other != column and columns[other][0] == kind]
        if column.endswith("_id"):
            values[column] += [f"(SELECT min(id) FROM {_points_at(guard.table, column)})"]
    yield from _changes(guard.table, values)


def _points_at(table: str, column: str) -> str:
    with connection.cursor() as cursor:
        cursor.execute(
            """SELECT confrelid::regclass::text FROM pg_constraint
               JOIN pg_attribute ON attrelid = conrelid AND attnum = conkey[1]
               WHERE contype = 'f' AND conrelid = %s::regclass AND attname = %s""",
            [table, column],
        )
        found = cursor.fetchone()
    return str(found[0]) if found else table


def _changes(table: str, values: dict[str, list[str]]) -> Iterator[str]:
    for size in range(1, min(len(values), 3) + 1):
        for chosen in combinations(values, size):
            for given in product(*(values[column] for column in chosen)):
                what = ", ".join(f'"{column}" = {value}' for column, value in zip(chosen, given, strict=True))
                yield f'UPDATE "{table}" SET {what}'


def _copies(guard: Guard) -> Iterator[str]:
    """The first row once more, made to fall under the guard first where it guards some rows only."""
    names = ", ".join(f'"{name}"' for name in _columns(guard.table))
    for before in ("", *_made_to_fall_under(guard)):
        yield (
            f'{before} INSERT INTO "{guard.table}" ({names}) OVERRIDING SYSTEM VALUE '
            f'SELECT {names} FROM "{guard.table}" ORDER BY 1 LIMIT 1'
        )


def _made_to_fall_under(guard: Guard) -> Iterator[str]:
    """A partial index guards some rows only: change the first one so that it is among them."""
    condition = guard.said.partition(" WHERE ")[2]
    words = re.findall(r"'([^']*)'::", condition)
    columns = [column for column in _columns(guard.table) if re.search(rf"\b{column}\b", condition)]
    for column in columns:
        for word in words:
            yield f'UPDATE "{guard.table}" SET "{column}" = \'{word}\';'
    for column in guard.columns:
        if column.endswith("_id"):
            yield f'UPDATE "{guard.table}" SET "{column}" = (SELECT min(id) FROM {_points_at(guard.table, column)});'
