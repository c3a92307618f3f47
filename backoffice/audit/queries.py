"""Reading the log, and proving that it is what was written."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final

from django.conf import settings
from django.db import connection, transaction
from django.db.models import Q, QuerySet

from backoffice.audit import policies
from backoffice.audit.models import AuditBlock, AuditEntry
from backoffice.audit.policies import Anchor

# The canonical bytes of a row (policies.py), in SQL: `record` hashes them, `verify` computes them from the columns.
CANONICAL: Final = """convert_to(json_build_array(
        seq, to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), actor_kind, actor_id, actor_name, verb,
        object_kind, object_id, before, after, reason, request_id, address, case_ref, approval_ref, created_xid::text
    )::text, 'UTF8')"""

_ROWS: Final = f"""
SELECT seq, canonical, leaf, created_xid::text, canonical = {CANONICAL} AS same
FROM audit_entry WHERE seq BETWEEN %s AND %s AND (%s OR seq = ANY(%s))
"""  # noqa: S608  # the one part that is put in is our own constant
_BOTH: Final = f"SELECT canonical, {CANONICAL} FROM audit_entry WHERE seq = %s"  # noqa: S608
_INSERTED: Final = """
SELECT seq FROM audit_entry AS entry
WHERE created_xid >= %s::xid8 AND created_xid < %s::xid8 AND NOT EXISTS (
    SELECT FROM (SELECT unnest(seqs) AS seq FROM audit_block WHERE index >= %s) AS sealed WHERE sealed.seq = entry.seq)
ORDER BY seq
"""


def entries(
    *,
    kind: str = "",
    id: int | str = "",
    actor_id: int | None = None,
    verb: str = "",
    address: str = "",
    since: datetime | None = None,
    until: datetime | None = None,
) -> QuerySet[AuditEntry]:
    """Entries, newest first. `address` finds staff's addresses as written and guests' by their digest."""
    found = AuditEntry.objects.defer("canonical", "leaf").order_by("-seq")
    if kind:
        found = found.filter(object_kind=kind)
    if id != "":
        found = found.filter(object_id=str(id))
    if actor_id is not None:
        found = found.filter(actor_id=actor_id)
    if verb:
        found = found.filter(verb=verb)
    if address:
        digest = policies.digest(address, key=settings.AUDIT_KEY)
        found = found.filter(Q(address=address) | Q(address=f"digest:{digest}"))
    if since is not None:
        found = found.filter(at__gte=since)
    if until is not None:
        found = found.filter(at__lt=until)
    return found


@dataclass(frozen=True, slots=True)
class Backlog:
    """How far sealing is behind: entries without a block, the oldest of them, and the last block."""

    unsealed: int
    oldest_at: datetime | None
    last_block: int
    last_sealed_at: datetime | None


def backlog() -> Backlog:
    """What waits to be sealed. Should be no older than a minute."""
    last = AuditBlock.objects.order_by("-index").only("index", "xmin", "sealed_at").first()
    waiting = AuditEntry.objects.filter(created_xid__gte=last.xmin if last else "0")
    oldest = waiting.order_by("at").values_list("at", flat=True).first()
    return Backlog(waiting.count(), oldest, last.index if last else 0, last.sealed_at if last else None)


def database_identity() -> str:
    """Names this database among all: the cluster's identifier and the database's own number in it."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT system_identifier, (SELECT oid FROM pg_database WHERE datname = current_database())"
            " FROM pg_control_system()"
        )
        cluster, database = cursor.fetchone()
    return f"{cluster}-{database}"


def anchors_of_blocks(*, after: int) -> Iterator[Anchor]:
    """The anchors that the blocks after index `after` should have."""
    for block in AuditBlock.objects.filter(index__gt=after).defer("leaves").order_by("index").iterator(chunk_size=100):
        yield _anchor_of(block)


def _anchor_of(block: AuditBlock) -> Anchor:
    first, last = (block.seqs[0], block.seqs[-1]) if block.seqs else (0, 0)
    root = bytes(block.root).hex()
    return Anchor(block.index, root, policies.instant(block.sealed_at), first, last, block.count)


def _anchor_files(database: str, since: int) -> list[Path]:
    oldest = policies.anchor_file(database=database, index=since)
    found = Path(settings.AUDIT_ANCHORS).glob(f"{database}-*.txt")
    return sorted(path for path in found if path.name >= oldest)


def last_anchor(*, database: str) -> Anchor | None:
    """The newest anchor on file; a line that a crash cut short does not count. Raises ValueError for a broken file."""
    for path in reversed(_anchor_files(database, 0)):
        whole = path.read_text().rpartition("\n")[0]
        if whole:
            return Anchor.read(whole.rpartition("\n")[2])
    return None


@dataclass(frozen=True, slots=True)
class Verification:
    """What `verify` found. `first_bad` is the lowest sequence number concerned, with what is wrong there."""

    ok: bool
    checked: int
    blocks: int
    first_bad: tuple[int, str] | None
    bad: int
    unsealed: int
    anchors_compared: int
    unanchored: int
    head: str


@dataclass(slots=True)
class _Findings:
    first: tuple[int, str] | None = None
    count: int = 0

    def add(self, seq: int, what: str) -> None:
        self.count += 1
        if self.first is None or seq < self.first[0]:
            self.first = (seq, what)


@dataclass(slots=True)
class _Chain:
    """The state of one walk along the blocks."""

    previous: bytes
    index: int  # of the block before
    high: int = 0  # the highest sequence number sealed so far
    xmaxes: list[int] = field(default_factory=list)
    highs: list[int] = field(default_factory=list)
    checked: int = 0
    blocks: int = 0

    def is_backdated(self, seq: int, xid: int) -> bool:
        """Whether the entry took a number below one that was sealed before its transaction had begun."""
        if seq > self.high:
            return False
        earlier = bisect_right(self.xmaxes, xid)
        return earlier > 0 and seq <= self.highs[earlier - 1]


def verify(*, since: datetime | None = None) -> Verification:
    """Prove the log: columns against canonical bytes, bytes against leaves, leaves against blocks, blocks against each
    other and against the anchors outside the database; and that nothing is missing or was slipped in.

    `since` starts at the first block sealed at or after it, trusting the root before. Entries not sealed yet are only
    compared with their own bytes. Memory does not grow with the log, but for its anchors."""
    with transaction.atomic():  # a server-side cursor lives in a transaction
        return _verify(since)


def _verify(since: datetime | None) -> Verification:
    database = database_identity()
    before = AuditBlock.objects.filter(sealed_at__lt=since).order_by("-index").first() if since else None
    chain = _Chain(previous=bytes(before.root) if before else policies.GENESIS, index=before.index if before else 0)
    findings = _Findings()
    # Read before the blocks: one that is sealed meanwhile then lacks an anchor, which is not a finding.
    anchors = dict(_read_anchors(database, chain.index, findings))
    known = len(anchors)
    last: AuditBlock | None = before
    for group in _groups(AuditBlock.objects.filter(index__gt=chain.index).order_by("index")):
        rows = _rows([seq for block in group for seq in block.seqs])
        for block in group:
            _check_rows(block, rows, chain, findings)
            _check_block(block, chain, anchors, findings)
            last = block
    for anchor in sorted(anchors.values(), key=lambda anchor: anchor.index):
        findings.add(anchor.first, f"block {anchor.index} is missing, with entries {anchor.first} to {anchor.last}")
    _check_inserted(before, last, findings)
    unsealed = _check_unsealed(last, chain, findings)
    return Verification(
        ok=findings.count == 0,
        checked=chain.checked,
        blocks=chain.blocks,
        first_bad=findings.first,
        bad=findings.count,
        unsealed=unsealed,
        anchors_compared=known - len(anchors),
        unanchored=chain.blocks - (known - len(anchors)),
        head=chain.previous.hex(),
    )


def _read_anchors(database: str, after: int, findings: _Findings) -> Iterator[tuple[int, Anchor]]:
    expected = None
    for path in _anchor_files(database, after):
        for number, line in enumerate(path.read_text(errors="replace").splitlines(keepends=True), start=1):
            if not line.endswith("\n"):
                continue  # cut short by a crash; the block is in the database and will be anchored again
            try:
                anchor = Anchor.read(line.rstrip("\n"))
            except ValueError:
                findings.add(0, f"line {number} of {path.name} is not an anchor")
                continue
            if expected is not None and anchor.index != expected:
                findings.add(anchor.first, f"{path.name} lacks the anchor of block {expected}")
            expected = anchor.index + 1
            if anchor.index > after:
                yield anchor.index, anchor


def _groups(blocks: QuerySet[AuditBlock]) -> Iterator[list[AuditBlock]]:
    """Blocks in order, together until they hold enough entries to be worth one statement."""
    group: list[AuditBlock] = []
    size = 0
    for block in blocks.iterator(chunk_size=20):
        group.append(block)
        size += len(block.seqs)
        if size >= policies.BLOCK_SIZE:
            yield group
            group, size = [], 0
    if group:
        yield group


_Row = tuple[bytes, bytes, int, bool]


def _rows(seqs: list[int]) -> dict[int, _Row]:
    if not seqs:
        return {}
    first, last = min(seqs), max(seqs)
    dense = last - first < 2 * len(seqs)  # then a range is read in half the time of a list
    with connection.cursor() as cursor:
        cursor.execute(_ROWS, [first, last, dense, [] if dense else seqs])
        return {seq: (canonical, leaf, int(xid), same) for seq, canonical, leaf, xid, same in cursor.fetchall()}


def _check_rows(block: AuditBlock, rows: dict[int, _Row], chain: _Chain, findings: _Findings) -> None:
    sealed = bytes(block.leaves)
    size = policies.LEAF_SIZE
    for position, seq in enumerate(block.seqs):
        chain.checked += 1
        row = rows.get(seq)
        if row is None:
            findings.add(seq, "the entry is missing")
        elif what := _wrong_with(seq, row):
            findings.add(seq, what)
        elif row[1] != sealed[position * size : position * size + size]:
            findings.add(seq, f"the entry was rewritten after block {block.index} sealed it")
        elif chain.is_backdated(seq, row[2]):
            findings.add(seq, "the entry was inserted among sealed ones")


def _wrong_with(seq: int, row: _Row) -> str:
    canonical, leaf, _, same = row
    if not same and not _same_value(seq):
        return "the columns are not what was hashed"
    return "" if policies.leaf(canonical) == leaf else "the leaf is not the hash of the stored bytes"


def _same_value(seq: int) -> bool:
    """Compare as JSON values: another version of PostgreSQL may write the same value in other bytes."""
    with connection.cursor() as cursor:
        cursor.execute(_BOTH, [seq])
        stored, columns = cursor.fetchone()
    try:
        return bool(json.loads(stored) == json.loads(columns))
    except ValueError:
        return False


def _check_block(block: AuditBlock, chain: _Chain, anchors: dict[int, Anchor], findings: _Findings) -> None:
    expected = chain.index + 1
    anchor = anchors.pop(block.index, None)
    first = block.seqs[0] if block.seqs else chain.high
    if block.index != expected:
        if expected not in anchors:  # where it is anchored, the anchor names its entries
            findings.add(chain.high + 1, f"blocks {expected} to {block.index - 1} are missing")
    elif bytes(block.prev_root) != chain.previous:
        findings.add(first, f"block {block.index} does not follow block {chain.index}")
    if bytes(block.root) != _root_of(block) or len(block.leaves) != len(block.seqs) * policies.LEAF_SIZE:
        findings.add(first, f"block {block.index} was altered")
    if anchor is not None and anchor != _anchor_of(block):
        findings.add(first, f"block {block.index} is not what its anchor says")
    chain.index, chain.previous = block.index, bytes(block.root)
    chain.high = max(chain.high, *block.seqs, 0)
    chain.xmaxes.append(int(block.xmax))
    chain.highs.append(chain.high)
    chain.blocks += 1


def _root_of(block: AuditBlock) -> bytes:
    header = policies.header(
        index=block.index, count=block.count, xmin=block.xmin, xmax=block.xmax, sealed_at=block.sealed_at
    )
    return policies.root(previous=bytes(block.prev_root), leaves=bytes(block.leaves), header=header)


def _check_inserted(before: AuditBlock | None, last: AuditBlock | None, findings: _Findings) -> None:
    """What claims a transaction that had ended when its time was sealed, and is in no block, came later."""
    if last is None:
        return
    with connection.cursor() as cursor:
        cursor.execute(_INSERTED, [before.xmin if before else "0", last.xmin, before.index if before else 0])
        for (seq,) in cursor.fetchall():
            findings.add(seq, "the entry was inserted after its time was sealed")


def _check_unsealed(last: AuditBlock | None, chain: _Chain, findings: _Findings) -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT seq FROM audit_entry WHERE created_xid >= %s::xid8", [last.xmin if last else "0"])
        waiting = [seq for (seq,) in cursor.fetchall()]
    for start in range(0, len(waiting), policies.BLOCK_SIZE):
        for seq, row in _rows(waiting[start : start + policies.BLOCK_SIZE]).items():
            if what := _wrong_with(seq, row):
                findings.add(seq, what)
            elif chain.is_backdated(seq, row[2]):
                findings.add(seq, "the entry was inserted among sealed ones")
    return len(waiting)
