"""Blocks cover what is settled, whatever the order of commits; anchors follow, whatever dies in between."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import pytest
from django.db import connection, transaction
from pytest_django import Settings

from backoffice.audit import operations, policies, queries
from backoffice.audit.models import AuditBlock
from backoffice.core.errors import Conflict, UpstreamUnavailable
from tests.audit.conftest import NOON, ROOMS, Write, seal_all
from tests.falsified import as_superuser

pytestmark = pytest.mark.django_db(transaction=True, available_apps=ROOMS)


@contextmanager
def uncommitted_entry(write: Write) -> Iterator[list[int]]:
    """An entry of another session that commits when the block ends."""
    written: list[int] = []
    begun, may_commit = threading.Event(), threading.Event()

    def session() -> None:
        with transaction.atomic():
            written.append(write("BK-LATE"))
            begun.set()
            may_commit.wait(60)
        connection.close()

    thread = threading.Thread(target=session)
    thread.start()
    try:
        assert begun.wait(60)
        yield written
    finally:
        may_commit.set()
        thread.join()


def test_an_entry_that_commits_late_is_sealed_later_and_nothing_is_missed(write: Write) -> None:
    with uncommitted_entry(write) as late:
        after = write()
        operations.seal(now=NOON)
        assert after not in sealed_seqs(), "an entry newer than a running transaction was sealed"
        assert queries.verify().ok
    seal_all()

    assert sealed_seqs() == sorted([*late, after])
    assert queries.verify().first_bad is None


def test_a_late_entry_with_an_early_number_is_not_taken_for_an_inserted_one(write: Write) -> None:
    write()
    with uncommitted_entry(write) as late:
        pass
    after = write()
    # The sealer's horizon splits by transaction, not by number: force the late number into a later block.
    with uncommitted_entry(write):
        seal_all_but_running(after)
    seal_all()

    assert late[0] in sealed_seqs()
    assert queries.verify().first_bad is None


def seal_all_but_running(seq: int) -> None:
    while seq not in sealed_seqs():
        operations.seal(now=NOON)


def test_gaps_left_by_rolled_back_acts_do_not_matter(write: Write) -> None:
    kept = [write()]
    for _ in range(3):
        with transaction.atomic():
            write()
            transaction.set_rollback(True)
        kept.append(write())
    assert seal_all() == 4

    assert sealed_seqs() == kept
    assert kept[-1] - kept[0] == 6
    assert queries.verify().ok


def test_each_entry_is_sealed_once_and_blocks_follow_each_other(write: Write) -> None:
    for _ in range(3):
        write()
        write()
        assert seal_all() == 2
    assert operations.seal(now=NOON) == 0

    blocks = list(AuditBlock.objects.order_by("index"))
    assert [block.index for block in blocks] == list(range(1, len(blocks) + 1))
    assert bytes(blocks[0].prev_root) == policies.GENESIS
    assert all(bytes(b.prev_root) == bytes(a.root) for a, b in pairwise(blocks))


def test_a_large_backlog_becomes_several_blocks(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policies, "BLOCK_SIZE", 3)
    monkeypatch.setattr(policies, "ANCHORS_PER_FILE", 2)
    with transaction.atomic():
        written = [write() for _ in range(8)]
    assert seal_all() == 8

    assert [block.seqs for block in AuditBlock.objects.order_by("index")] == [written[:3], written[3:6], written[6:]]
    found = queries.verify()
    assert (found.ok, found.checked, found.blocks, found.anchors_compared) == (True, 8, 3, 3)


def test_of_two_sealers_one_has_nothing_to_do(write: Write) -> None:
    write()
    other = connection.copy()
    try:
        with other.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_lock(%s, %s)", operations._SEALER_LOCK)
        assert operations.seal(now=NOON) == 0
    finally:
        other.close()
    assert seal_all() == 1


def test_sealing_inside_a_transaction_is_refused() -> None:
    with pytest.raises(RuntimeError, match="durable"), transaction.atomic():
        operations.seal(now=NOON)


def test_the_backlog_tells_how_far_sealing_is_behind(write: Write) -> None:
    assert queries.backlog() == queries.Backlog(0, None, 0, None)
    write()
    assert queries.backlog() == queries.Backlog(1, NOON, 0, None)
    seal_all()
    assert queries.backlog() == queries.Backlog(0, None, 1, NOON)


def test_anchors_are_lines_outside_the_database(write: Write, anchors: Path) -> None:
    first, second = write(), write()
    seal_all()
    block = AuditBlock.objects.latest("index")

    (file,) = anchors.glob("*.txt")
    line = f"{block.index} {bytes(block.root).hex()} {policies.instant(block.sealed_at)} {second} {second} 1\n"
    if block.count == 2:
        line = f"1 {bytes(block.root).hex()} 2026-07-10T12:00:00.000000Z {first} {second} 2\n"
    assert file.read_text().endswith(line)


@pytest.mark.parametrize("left", ["nothing", "fewer lines", "half a line"])
def test_anchors_that_a_crash_left_behind_catch_up(write: Write, anchors: Path, left: str) -> None:
    for _ in range(3):
        write()
        seal_all()
    (file,) = anchors.glob("*.txt")
    whole = file.read_text()
    lines = whole.splitlines(keepends=True)
    file.write_text({"nothing": "", "fewer lines": lines[0], "half a line": lines[0] + lines[1][:30]}[left])
    behind = queries.verify()
    assert (behind.ok, behind.unanchored) == (True, len(lines) - (left != "nothing"))

    operations.seal(now=NOON)
    assert file.read_text() == whole
    assert queries.verify().unanchored == 0


def test_a_block_whose_anchor_cannot_be_written_is_anchored_by_the_next_run(
    write: Write, settings: Settings, tmp_path: Path
) -> None:
    write()
    seal_all()
    good = settings.AUDIT_ANCHORS
    (tmp_path / "file").write_text("")
    settings.AUDIT_ANCHORS = tmp_path / "file" / "anchors"
    write()
    with pytest.raises(UpstreamUnavailable, match="cannot be written"):
        seal_all()
    settings.AUDIT_ANCHORS = good
    operations.seal(now=NOON)

    found = queries.verify()
    assert (found.ok, found.checked, found.unanchored) == (True, 2, 0)


@pytest.mark.parametrize(
    "cut",
    [
        "DELETE FROM audit_block WHERE index = (SELECT max(index) FROM audit_block)",
        "UPDATE audit_block SET root = sha256('') WHERE index = (SELECT max(index) FROM audit_block)",
    ],
)
def test_a_log_that_was_cut_is_not_sealed_over(write: Write, cut: str) -> None:
    for _ in range(2):
        write()
        seal_all()
    as_superuser(cut)
    write()
    with pytest.raises(Conflict, match="ops audit verify"):
        operations.seal(now=NOON)
    assert not queries.verify().ok


def test_a_database_restored_from_a_dump_says_so_instead_of_sealing_nothing_for_ever(write: Write) -> None:
    write()
    seal_all()
    as_superuser("UPDATE audit_block SET snapshot_xmin = '9000000000000000000'")
    with pytest.raises(Conflict, match="restored from a dump"):
        operations.seal(now=NOON)


def sealed_seqs() -> list[int]:
    return sorted(seq for block in AuditBlock.objects.all() for seq in block.seqs)


def test_a_transaction_of_another_database_does_not_hold_sealing_back(write: Write) -> None:
    elsewhere = connection.copy()
    elsewhere.settings_dict["NAME"] = "postgres"
    try:
        with elsewhere.cursor() as cursor:
            cursor.execute("BEGIN; SELECT pg_current_xact_id()")
            write()
            assert operations.seal(now=NOON) == 1
            cursor.execute("ROLLBACK")
    finally:
        elsewhere.close()
