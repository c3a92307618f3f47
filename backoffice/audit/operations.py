"""Writing the log: `record` inside the act's own transaction, `seal` apart from it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django.conf import settings
from django.core.serializers.json import DjangoJSONEncoder
from django.db import connection

from backoffice.audit import policies
from backoffice.core.actor import Actor
from backoffice.core.errors import Invalid

# The transaction's id is taken before the sequence number (a target list is evaluated from the left), so an entry whose
# transaction began after a snapshot has a higher number than all that the snapshot saw; verification relies on it.
_INSERT = """
WITH taken AS MATERIALIZED (
    SELECT pg_current_xact_id() AS created_xid, nextval('audit_entry_seq_seq') AS seq,
           %s::timestamptz AS at, %s AS actor_kind, %s::bigint AS actor_id, %s AS actor_name, %s AS verb,
           %s AS object_kind, %s AS object_id, %s::jsonb AS before, %s::jsonb AS after, %s AS reason, %s AS request_id,
           %s AS address, %s AS case_ref, %s AS approval_ref
), written AS MATERIALIZED (
    SELECT *, convert_to(jsonb_build_array(
        seq, to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), actor_kind, actor_id, actor_name, verb,
        object_kind, object_id, before, after, reason, request_id, address, case_ref, approval_ref, created_xid::text
    )::text, 'UTF8') AS canonical FROM taken
)
INSERT INTO audit_entry (created_xid, seq, at, actor_kind, actor_id, actor_name, verb, object_kind, object_id, before,
                         after, reason, request_id, address, case_ref, approval_ref, canonical, leaf)
SELECT *, sha256('\\x00'::bytea || canonical) FROM written
RETURNING seq
"""


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


def _digest(value: str) -> str:
    return policies.digest(value, key=settings.AUDIT_KEY)


def _json(facts: Mapping[str, Any] | None) -> str | None:
    return None if facts is None else json.dumps(facts, cls=DjangoJSONEncoder, allow_nan=False)
