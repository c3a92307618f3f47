"""A superuser alters the log in every way there is; verification names the row."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
from django.db import connection, transaction

from backoffice.audit import policies, queries
from backoffice.audit.models import AuditBlock
from backoffice.audit.operations import _INSERT
from backoffice.audit.queries import CANONICAL
from tests.audit.conftest import NOON, ROOMS, Write, seal_all
from tests.falsified import as_superuser

pytestmark = pytest.mark.django_db(transaction=True, available_apps=ROOMS)

# What a careful forger does after changing columns: makes the row agree with itself.
REHASH = (
    f"UPDATE audit_entry SET canonical = {CANONICAL} WHERE seq = {{0}}",
    "UPDATE audit_entry SET leaf = sha256('\\x00'::bytea || canonical) WHERE seq = {0}",
)


@dataclass(frozen=True)
class Log:
    """Three blocks of two entries, each after a number that was rolled back, and one entry that is not sealed."""

    seqs: tuple[int, ...]
    gap: int
    waiting: int

    @property
    def middle(self) -> int:
        return self.seqs[2]


@pytest.fixture
def log(write: Write) -> Log:
    seqs: list[int] = []
    for round_ in range(3):
        with transaction.atomic():
            seqs += [write(f"BK-{round_}"), write(f"BK-{round_}")]
        with transaction.atomic():
            write()
            transaction.set_rollback(True)
        seal_all(NOON + timedelta(minutes=round_))
    assert AuditBlock.objects.count() == 3
    return Log(tuple(seqs), gap=seqs[3] + 1, waiting=write())


def assert_found(seq: int, what: str) -> None:
    found = queries.verify()
    assert not found.ok
    assert found.first_bad is not None
    assert found.first_bad[0] == seq, found
    assert what in found.first_bad[1]


def test_an_unaltered_log_is_proven(log: Log) -> None:
    found = queries.verify()
    assert found == queries.Verification(
        ok=True,
        checked=6,
        blocks=3,
        first_bad=None,
        bad=0,
        unsealed=1,
        anchors_compared=3,
        unanchored=0,
        head=bytes(AuditBlock.objects.get(index=3).root).hex(),
    )


def test_an_empty_log_is_proven() -> None:
    assert queries.verify().ok


COLUMNS = {
    "at": "at + interval '1 microsecond'",
    "actor_kind": "'system'",
    "actor_id": "8",
    "actor_name": "'Otto'",
    "verb": "'bookings.confirm'",
    "object_kind": "'refund'",
    "object_id": "'BK-9'",
    "before": "NULL",
    "after": "jsonb_set(after, '{refund}', '68001')",
    "reason": "reason || ' '",
    "request_id": "''",
    "address": "'10.0.0.8'",
    "case_ref": "'CS-2'",
    "approval_ref": "'AP-2'",
    "created_xid": "(created_xid::text::bigint - 1)::text::xid8",
}


@pytest.mark.parametrize("column", COLUMNS)
def test_an_altered_column_is_found(log: Log, column: str) -> None:
    as_superuser(f"UPDATE audit_entry SET {column} = {COLUMNS[column]} WHERE seq = {log.middle}")
    assert_found(log.middle, "columns are not what was hashed")


def test_every_column_is_in_the_hash() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT attname FROM pg_attribute WHERE attrelid = 'audit_entry'::regclass AND attnum > 0")
        columns = {name for (name,) in cursor.fetchall()}
    assert columns - {"seq", "canonical", "leaf"} == set(COLUMNS)


@pytest.mark.parametrize(
    ("canonical", "what"),
    [
        ("canonical || '\\x20'::bytea", "leaf is not the hash"),  # the same value in other bytes
        (
            "convert_to(replace(convert_from(canonical, 'UTF8'), '68000', '1'), 'UTF8')",
            "columns are not what was hashed",
        ),
        ("'\\xff00'::bytea", "columns are not what was hashed"),
        ("''::bytea", "columns are not what was hashed"),
    ],
)
def test_altered_bytes_are_found(log: Log, canonical: str, what: str) -> None:
    as_superuser(f"UPDATE audit_entry SET canonical = {canonical} WHERE seq = {log.middle}")
    assert_found(log.middle, what)


def test_an_altered_leaf_is_found(log: Log) -> None:
    as_superuser(f"UPDATE audit_entry SET leaf = sha256(leaf) WHERE seq = {log.middle}")
    assert_found(log.middle, "leaf is not the hash")


def test_a_row_rewritten_to_agree_with_itself_is_found(log: Log) -> None:
    forge = f"UPDATE audit_entry SET after = '{{\"refund\": 1}}' WHERE seq = {log.middle}"
    as_superuser(forge, *(statement.format(log.middle) for statement in REHASH))
    assert_found(log.middle, "rewritten after block 2 sealed it")


@pytest.mark.parametrize("position", range(6))
def test_a_deleted_row_is_found(log: Log, position: int) -> None:
    as_superuser(f"DELETE FROM audit_entry WHERE seq = {log.seqs[position]}")
    assert_found(log.seqs[position], "missing")


def test_a_row_inserted_with_a_sealed_time_is_found(log: Log) -> None:
    as_superuser(
        "INSERT INTO audit_entry SELECT (jsonb_populate_record(entry, jsonb_build_object('seq', "
        f"{log.gap}, 'object_id', 'BK-FORGED'))).* FROM audit_entry AS entry WHERE seq = {log.seqs[3]}",
        *(statement.format(log.gap) for statement in REHASH),
    )
    assert_found(log.gap, "inserted after its time was sealed")


@pytest.mark.parametrize("sealed", [False, True])
def test_a_row_inserted_under_a_free_number_is_found_before_and_after_it_is_sealed(log: Log, sealed: bool) -> None:
    forged = [NOON, "staff", 7, "Ines", "bookings.cancel", "booking", "BK-FORGED", None, None, "", "", "", "", ""]
    with connection.cursor() as cursor:
        cursor.execute(_INSERT.replace("nextval('audit_entry_seq_seq')", f"{log.gap}::bigint"), forged)
    if sealed:
        seal_all()
    assert_found(log.gap, "inserted among sealed ones")


def test_swapped_rows_are_found(log: Log) -> None:
    one, two = log.seqs[2], log.seqs[4]
    as_superuser(
        f"UPDATE audit_entry SET seq = -1 WHERE seq = {one}",
        f"UPDATE audit_entry SET seq = {one} WHERE seq = {two}",
        f"UPDATE audit_entry SET seq = {two} WHERE seq = -1",
    )
    assert_found(one, "columns are not what was hashed")


@pytest.mark.parametrize("kept", [0, 1, 2])
def test_a_truncated_tail_is_found_through_the_anchor(log: Log, kept: int) -> None:
    as_superuser(
        f"DELETE FROM audit_entry WHERE seq >= {log.seqs[kept * 2]}", f"DELETE FROM audit_block WHERE index > {kept}"
    )
    first = kept + 1
    assert_found(log.seqs[kept * 2], f"block {first} is missing, with entries {log.seqs[kept * 2]} to")


def test_an_emptied_database_is_found_through_the_anchor(log: Log) -> None:
    as_superuser("TRUNCATE audit_entry, audit_block")
    assert_found(log.seqs[0], "block 1 is missing")


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ("root = sha256(root)", "was altered"),
        ("prev_root = sha256(root)", "does not follow block 1"),
        ("count = count + 1", "was altered"),
        ("sealed_at = sealed_at - interval '1 day'", "was altered"),
        ("snapshot_xmin = (snapshot_xmin::text::bigint - 1)::text::xid8", "was altered"),
        ("snapshot_xmax = (snapshot_xmax::text::bigint + 1)::text::xid8", "was altered"),
        ("leaves = sha256('') || sha256('')", "rewritten after block 2 sealed it"),
        ("leaves = substr(leaves, 1, 32)", "was altered"),
    ],
)
def test_a_changed_block_is_found(log: Log, change: str, what: str) -> None:
    as_superuser(f"UPDATE audit_block SET {change} WHERE index = 2")
    found = queries.verify()
    assert not found.ok
    assert found.first_bad is not None
    assert found.first_bad[0] in log.seqs[2:4]
    assert what in found.first_bad[1]


@pytest.mark.parametrize("seqs", ["ARRAY[seqs[2]]", "ARRAY[seqs[2], seqs[1]]", "ARRAY[seqs[1], seqs[2] + 2]", "'{}'"])
def test_a_changed_list_of_entries_is_found(log: Log, seqs: str) -> None:
    as_superuser(f"UPDATE audit_block SET seqs = {seqs} WHERE index = 2")
    found = queries.verify()
    assert not found.ok
    assert found.first_bad is not None
    assert log.seqs[1] <= found.first_bad[0] <= log.seqs[3]


def test_a_removed_block_is_found(log: Log) -> None:
    as_superuser("DELETE FROM audit_block WHERE index = 2")
    assert_found(log.seqs[2], "block 2 is missing")


def test_a_removed_block_is_found_without_anchors_too(log: Log, anchors: Path) -> None:
    for file in anchors.iterdir():
        file.unlink()
    as_superuser("DELETE FROM audit_block WHERE index = 2")
    assert_found(log.seqs[1] + 1, "blocks 2 to 2 are missing")


def test_a_chain_rebuilt_over_a_forged_row_is_found_through_the_anchor(log: Log) -> None:
    forge = f"UPDATE audit_entry SET reason = 'forged' WHERE seq = {log.middle}"
    as_superuser(forge, *(statement.format(log.middle) for statement in REHASH))
    rebuild_chain()
    assert_found(log.middle, "block 2 is not what its anchor says")


def rebuild_chain() -> None:
    previous = policies.GENESIS
    for block in AuditBlock.objects.order_by("index"):
        with connection.cursor() as cursor:
            cursor.execute("SELECT leaf FROM audit_entry WHERE seq = ANY(%s) ORDER BY seq", [block.seqs])
            leaves = b"".join(leaf for (leaf,) in cursor.fetchall())
        header = policies.header(
            index=block.index, count=block.count, xmin=block.xmin, xmax=block.xmax, sealed_at=block.sealed_at
        )
        root = policies.root(previous=previous, leaves=leaves, header=header)
        as_superuser(
            f"UPDATE audit_block SET root = '\\x{root.hex()}', prev_root = '\\x{previous.hex()}',"
            f" leaves = '\\x{leaves.hex()}' WHERE index = {block.index}"
        )
        previous = root


@pytest.mark.parametrize(
    ("line", "what"),
    [
        (lambda line: line.replace(line.split()[1], "0" * 64), "block 2 is not what its anchor says"),
        (lambda line: line.replace("12:01", "11:01"), "block 2 is not what its anchor says"),
        (lambda line: "", "lacks the anchor of block 2"),
    ],
)
def test_a_changed_anchor_is_found(log: Log, anchors: Path, line, what: str) -> None:  # type: ignore[no-untyped-def]
    (file,) = anchors.glob("*.txt")
    lines = file.read_text().splitlines(keepends=True)
    file.write_text(lines[0] + line(lines[1]) + lines[2])
    found = queries.verify()
    assert not found.ok
    assert found.first_bad is not None
    assert what in found.first_bad[1]


def test_a_line_that_is_no_anchor_is_found(log: Log, anchors: Path) -> None:
    (file,) = anchors.glob("*.txt")
    file.write_text("# trust me\n" + file.read_text())
    assert_found(0, f"line 1 of {file.name} is not an anchor")


def test_an_unsealed_row_must_agree_with_its_own_bytes(log: Log) -> None:
    as_superuser(f"UPDATE audit_entry SET reason = 'forged' WHERE seq = {log.waiting}")
    assert_found(log.waiting, "columns are not what was hashed")


def test_the_first_of_several_is_named_and_all_are_counted(log: Log) -> None:
    as_superuser(f"DELETE FROM audit_entry WHERE seq IN ({log.seqs[4]}, {log.seqs[1]}, {log.seqs[3]})")
    found = queries.verify()
    assert found.first_bad == (log.seqs[1], "the entry is missing")
    assert found.bad == 3


def test_since_starts_at_the_first_block_sealed_by_then(log: Log) -> None:
    as_superuser(f"DELETE FROM audit_entry WHERE seq = {log.seqs[0]}")

    assert not queries.verify().ok
    later = queries.verify(since=NOON + timedelta(minutes=1))
    assert (later.ok, later.blocks, later.checked, later.anchors_compared) == (True, 2, 4, 2)


@pytest.mark.parametrize("position", [2, 5])
def test_since_still_finds_what_lies_after_it(log: Log, position: int) -> None:
    as_superuser(f"UPDATE audit_entry SET reason = 'forged' WHERE seq = {log.seqs[position]}")
    found = queries.verify(since=NOON + timedelta(minutes=1))
    assert found.first_bad == (log.seqs[position], "the columns are not what was hashed")
