"""Writing the log: `record` inside the act's own transaction, `seal` apart from it."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.serializers.json import DjangoJSONEncoder
from django.db import connection, transaction

from backoffice.audit import policies, queries
from backoffice.audit.models import AuditBlock, AuditEntry
from backoffice.audit.queries import CANONICAL
from backoffice.core.actor import Actor
from backoffice.core.errors import Conflict, Invalid, UpstreamUnavailable

# The transaction's id is taken before the sequence number (a target list is evaluated from the left), so an entry whose
# transaction began after a snapshot has a higher number than all that the snapshot saw; verification relies on it.
_INSERT = f"""
WITH taken AS MATERIALIZED (
    SELECT pg_current_xact_id() AS created_xid, nextval('audit_entry_seq_seq') AS seq,
           %s::timestamptz AS at, %s AS actor_kind, %s::bigint AS actor_id, %s AS actor_name, %s AS verb,
           %s AS object_kind, %s AS object_id, %s::jsonb AS before, %s::jsonb AS after, %s AS reason, %s AS request_id,
           %s AS address, %s AS case_ref, %s AS approval_ref
), written AS MATERIALIZED (
    SELECT *, {CANONICAL} AS canonical FROM taken
)
INSERT INTO audit_entry (created_xid, seq, at, actor_kind, actor_id, actor_name, verb, object_kind, object_id, before,
                         after, reason, request_id, address, case_ref, approval_ref, canonical, leaf)
SELECT *, sha256('\\x00'::bytea || canonical) FROM written
RETURNING seq
"""  # noqa: S608  # the one part that is put in is our own constant

# The oldest transaction that may still write here, and the first that has not begun. One that is seen to belong to
# another database of the cluster cannot write here; one of which nothing is seen is taken for ours.
_HORIZON = """
WITH taken AS MATERIALIZED (SELECT pg_current_snapshot() AS snapshot),
running AS (SELECT pg_snapshot_xip(snapshot) AS xid FROM taken),
ours AS (SELECT min(xid) AS oldest FROM running WHERE NOT EXISTS (
    SELECT FROM pg_stat_activity WHERE backend_xid = running.xid::xid AND datname <> current_database()))
SELECT coalesce(oldest, pg_snapshot_xmax(snapshot))::text, pg_snapshot_xmax(snapshot)::text FROM taken, ours
"""

_SEALER_LOCK = (0x61756474, 1)  # "audt"


def record(
    *,
    actor: Actor,
    verb: str,
    kind: str,
    id: int | str,
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
    now: datetime,
    reason: str = "",
) -> int:
    """Write one entry in the caller's transaction and return its sequence number; one statement.

    `kind` and `id` name what was acted on; `before` and `after` hold the fields that changed (amounts in minor units).
    `reason` defaults to the actor's. Raises Invalid when a raw personal field would enter the log (see `personal`): an
    error of the calling code."""
    for field, facts in (("before", before), ("after", after)):
        if facts is not None:
            policies.check_facts(facts, field=field)
    if not (verb and kind and str(id)):
        raise Invalid("An audit entry names its verb, kind and id.", field="verb")
    is_person = actor.kind in {"guest", "host"}
    address = actor.address
    with connection.cursor() as cursor:
        cursor.execute(
            _INSERT,
            [
                now,
                actor.kind,
                actor.id,
                "" if is_person else actor.name,
                verb,
                kind,
                str(id),
                _json(before),
                _json(after),
                reason or actor.reason,
                actor.request_id,
                f"digest:{_digest(address)}" if is_person and address else address,
                actor.case,
                actor.approval,
            ],
        )
        seq: int = cursor.fetchone()[0]
    return seq


def personal(value: object) -> dict[str, object]:
    """What the log keeps of a personal field: that it changed, and a digest that only the desk's key can check.

    An erased value stays erased; two equal values can still be seen to be equal."""
    return {"changed": True, "digest": _digest(str(value))}


def seal(*, now: datetime) -> int:
    """Seal every entry that is older than all running transactions, anchor the new roots, return how many were sealed.

    Runs outside any transaction. A second sealer at the same moment returns 0. Anchors are written once their blocks
    are committed: a crash in between leaves the file behind, and the next call catches up.

    Raises Conflict when the anchors know of blocks that the database does not have (or has otherwise): the log was cut
    or restored, and sealing on would bury it. Raises UpstreamUnavailable when the anchors cannot be written; what was
    sealed stays sealed."""
    database = queries.database_identity()
    with transaction.atomic(durable=True):
        if not _sealing_alone():
            return 0
        _refuse_a_fork(database)
        sealed = sum(block.count for block in _new_blocks(now))
    try:
        _append_anchors(database)
    except OSError as error:
        raise UpstreamUnavailable(
            f"The audit anchors in {settings.AUDIT_ANCHORS} cannot be written ({error.strerror}); "
            "the blocks are sealed and will be anchored by the next run.",
            part="audit anchors",
        ) from None
    return sealed


def _sealing_alone() -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s, %s)", _SEALER_LOCK)
        return bool(cursor.fetchone()[0])


def _refuse_a_fork(database: str) -> None:
    anchored = queries.last_anchor(database=database)
    if anchored is None:
        return
    block = AuditBlock.objects.filter(index=anchored.index).first()
    if block is None or bytes(block.root).hex() != anchored.root:
        raise Conflict(
            f"The audit log does not hold block {anchored.index} as it was anchored; run `ops audit verify`. "
            "Nothing is sealed until it does, or until the anchors are moved away.",
            block=anchored.index,
        )


def _new_blocks(now: datetime) -> Iterator[AuditBlock]:
    last = AuditBlock.objects.order_by("-index").first()
    with connection.cursor() as cursor:
        cursor.execute(_HORIZON)
        xmin, xmax = cursor.fetchone()
    if last is not None and int(last.xmin) > int(xmax):
        raise Conflict(
            f"This database counts transactions from {xmax}, but block {last.index} was sealed at {last.xmin}: it was "
            "restored from a dump. Move its counter past the sealed one (pg_resetwal --next-transaction-id).",
            block=last.index,
        )
    entries = AuditEntry.objects.filter(created_xid__gte=last.xmin if last else "0", created_xid__lt=xmin)
    rows = entries.order_by("seq").values_list("seq", "leaf").iterator(chunk_size=policies.BLOCK_SIZE)
    while batch := list(islice(rows, policies.BLOCK_SIZE)):
        last = _seal_block(last, batch, xmin=xmin, xmax=xmax, now=now)
        yield last


def _seal_block(
    last: AuditBlock | None, batch: list[tuple[int, bytes | memoryview]], *, xmin: str, xmax: str, now: datetime
) -> AuditBlock:
    index = last.index + 1 if last else 1
    previous = bytes(last.root) if last else policies.GENESIS
    leaves = b"".join(bytes(leaf) for _, leaf in batch)
    header = policies.header(index=index, count=len(batch), xmin=xmin, xmax=xmax, sealed_at=now)
    return AuditBlock.objects.create(
        index=index,
        prev_root=previous,
        root=policies.root(previous=previous, leaves=leaves, header=header),
        seqs=[seq for seq, _ in batch],
        leaves=leaves,
        count=len(batch),
        xmin=xmin,
        xmax=xmax,
        sealed_at=now,
    )


def _append_anchors(database: str) -> None:
    """Write the anchors of all blocks that have none yet. The file lock makes two sealers write each once."""
    directory = Path(settings.AUDIT_ANCHORS)
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / f"{database}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        anchored = queries.last_anchor(database=database)
        for anchor in queries.anchors_of_blocks(after=anchored.index if anchored else 0):
            _append(directory / policies.anchor_file(database=database, index=anchor.index), anchor.line())


def _append(path: Path, line: str) -> None:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o640)
    with os.fdopen(descriptor, "r+b") as file:
        whole = file.read().rfind(b"\n") + 1  # a crash may have left half a line
        file.seek(whole)
        file.truncate()
        file.write(line.encode())
        file.flush()
        os.fsync(file.fileno())


def _digest(value: str) -> str:
    return policies.digest(value, key=settings.AUDIT_KEY)


def _json(facts: Mapping[str, Any] | None) -> str | None:
    return None if facts is None else json.dumps(facts, cls=DjangoJSONEncoder, allow_nan=False)
