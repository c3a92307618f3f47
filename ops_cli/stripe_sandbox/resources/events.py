"""Reading events: for 30 days, by type, by whether they were delivered."""

from __future__ import annotations

from ops_cli.stripe_sandbox.context import Context
from ops_cli.stripe_sandbox.errors import ApiError, Json, missing_resource
from ops_cli.stripe_sandbox.events import show
from ops_cli.stripe_sandbox.paging import Query
from ops_cli.stripe_sandbox.params import Boolean, ListOf, Text, TimeRange, Values, listing
from ops_cli.stripe_sandbox.registry import operation

READABLE_SECONDS = 30 * 86400
_UNDELIVERED = "EXISTS (SELECT 1 FROM deliveries d WHERE d.event = events.id AND d.state <> 'succeeded')"


@operation(
    "GET",
    "/v1/events",
    listing(
        created=TimeRange(),
        delivery_success=Boolean(),
        type=Text(),
        types=ListOf(item=Text(), longest=20),
    ),
)
def list_events(ctx: Context, params: Values) -> Json:
    """Events of the last 30 days, newest first. ``type`` may end in ``*``."""
    if "type" in params and "types" in params:
        raise ApiError(
            400,
            "You may only specify one of these parameters: type, types.",
            code="parameters_exclusive",
            param="types",
        )
    query = Query(ctx, "events", "*").created(params).where("created >= ?", ctx.time - READABLE_SECONDS)
    patterns = [params["type"]] if "type" in params else params.get("types", [])
    if patterns:
        query.where("(" + " OR ".join(["type GLOB ?"] * len(patterns)) + ")", *patterns)
    if "delivery_success" in params:
        query.where(f"NOT {_UNDELIVERED}" if params["delivery_success"] else _UNDELIVERED)
    return query.page(params, "/v1/events", lambda row: show(ctx, row))


@operation("GET", "/v1/events/{id}")
def retrieve_event(ctx: Context, params: Values, id: str) -> Json:
    """One event of the last 30 days."""
    rows = ctx.tx.rows(
        "SELECT * FROM events WHERE id = ? AND account = ? AND created >= ?",
        id,
        ctx.account,
        ctx.time - READABLE_SECONDS,
    )
    if not rows:
        raise missing_resource("event", id)
    return show(ctx, rows[0])
