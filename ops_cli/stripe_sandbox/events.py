"""Events: written in the transaction of what they tell, together with one delivery per endpoint that wants them."""

from __future__ import annotations

import json
from typing import Any

from . import API_VERSION, faults
from .context import Context
from .errors import Json
from .faults import Rule

UNHEARD_OF = "unheard_of.happened"
# Not delivered to endpoints that listen to "*"; they have to name them.
_ONLY_WHEN_NAMED = frozenset({"reporting.report_type.updated"})


def emit(ctx: Context, type: str, subject: Json, previous: Json | None = None) -> str:
    """Record an event about ``subject`` as it is now, with the values it had before; the event's id."""
    id, fault = _record(ctx, type, subject, previous)
    if fault is not None and fault.effect == "unknown_event_type":
        _record(ctx, UNHEARD_OF, subject, None)
    return id


def _record(ctx: Context, type: str, subject: Json, previous: Json | None) -> tuple[str, Rule | None]:
    id = ctx.tx.new_id("evt_")
    data: Json = {"object": subject}
    if previous is not None:
        data["previous_attributes"] = previous
    doc = {
        "id": id,
        "object": "event",
        "api_version": API_VERSION,
        "created": ctx.time,
        "data": data,
        "livemode": False,
        "request": {"id": ctx.request_id, "idempotency_key": ctx.idempotency_key},
        "type": type,
    }
    if not ctx.on_platform:
        doc["account"] = ctx.account
    ctx.tx.run(
        "INSERT INTO events (id, account, created, type, doc) VALUES (?, ?, ?, ?, ?)",
        id,
        ctx.account,
        ctx.time,
        type,
        json.dumps(doc),
    )
    return id, _enqueue(ctx, id, type)


def changes(before: Json, after: Json) -> Json:
    """What ``previous_attributes`` shows: the former values of the top-level fields that differ."""
    return {name: before.get(name) for name in after if before.get(name) != after[name]}


def show(ctx: Context, row: Any) -> Json:
    """An event as its response and as the body of its deliveries."""
    doc: Json = json.loads(row["doc"])
    pending = ctx.tx.value(
        "SELECT count(*) FROM deliveries WHERE event = ? AND state IN ('pending', 'held')", doc["id"]
    )
    return {**doc, "pending_webhooks": pending}


def listening(ctx: Context, *, connect: bool) -> list[Any]:
    """The endpoints (``id``, ``doc``) for events of the account itself, or for those of its connected accounts."""
    return ctx.tx.rows(
        "SELECT id, doc FROM objects WHERE kind = 'webhook_endpoint' AND account = ? AND NOT deleted "
        "AND coalesce(private ->> '$.connect', 0) = ? ORDER BY seq",
        ctx.account,
        int(connect),
    )


def _enqueue(ctx: Context, event: str, type: str) -> Rule | None:
    endpoints = listening(ctx.platform, connect=not ctx.on_platform)
    wanting = [row["id"] for row in endpoints if _wants(json.loads(row["doc"]), type)]
    fault = faults.for_event(ctx.tx, type) if wanting else None
    for endpoint in wanting:
        _deliver(ctx, event, endpoint, fault)
    return fault


def _wants(endpoint: Json, type: str) -> bool:
    if endpoint["status"] != "enabled":
        return False
    wanted = endpoint["enabled_events"]
    return type in wanted or ("*" in wanted and type not in _ONLY_WHEN_NAMED)


def _deliver(ctx: Context, event: str, endpoint: str, fault: Rule | None) -> None:
    effect = fault.effect if fault else None
    state = {"drop_webhook": "dropped", "reorder_webhook": "held"}.get(effect or "", "pending")
    due_at = ctx.now + (fault.seconds if fault and effect == "delay_webhook" else 0)
    for _ in range(1 + (fault.copies if fault and effect == "duplicate_webhook" else 0)):
        delivery = ctx.tx.value(
            "INSERT INTO deliveries (event, endpoint, state, due_at, first_at) VALUES (?, ?, ?, ?, ?) RETURNING id",
            event,
            endpoint,
            state,
            due_at,
            due_at,
        )
        if fault and effect in faults.ON_DELIVERIES:
            ctx.tx.run("INSERT INTO disturbed VALUES (?, ?, ?)", delivery, effect, fault.seconds)
    if state != "held":
        # What was held back to arrive out of order goes out once the event after it has been tried.
        ctx.tx.run(
            "UPDATE deliveries SET state = 'pending', after_delivery = ? WHERE endpoint = ? AND state = 'held'",
            delivery,
            endpoint,
        )
