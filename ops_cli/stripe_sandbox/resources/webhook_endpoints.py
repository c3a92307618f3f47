"""Webhook endpoints: where signed events go. The secret is shown once, when the endpoint is made."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from ops_cli.stripe_sandbox import API_VERSION
from ops_cli.stripe_sandbox.context import Context
from ops_cli.stripe_sandbox.errors import ApiError, Json
from ops_cli.stripe_sandbox.paging import objects, show_document
from ops_cli.stripe_sandbox.params import Boolean, ListOf, Metadata, Text, Values, listing, merged
from ops_cli.stripe_sandbox.registry import operation
from ops_cli.stripe_sandbox.store import Record, token

MOST_ENDPOINTS = 16
_EVENT_TYPE = re.compile(r"[a-z0-9_]+(\.[a-z0-9_]+)+")
_FIELDS = {"description": Text(clearable=True), "metadata": Metadata()}


def create(
    ctx: Context,
    *,
    url: str,
    enabled_events: list[str],
    secret: str,
    description: str | None = None,
    metadata: dict[str, str] | None = None,
    api_version: str | None = None,
    connect: bool = False,
) -> Record:
    """Store an endpoint with a given signing secret; with ``connect`` it hears of connected accounts alone."""
    return ctx.add(
        "webhook_endpoint",
        {
            "id": ctx.tx.new_id("we_"),
            "object": "webhook_endpoint",
            "api_version": api_version,
            "application": None,
            "created": ctx.time,
            "description": description,
            "enabled_events": enabled_events,
            "livemode": False,
            "metadata": merged({}, metadata or {}),
            "status": "enabled",
            "url": url,
        },
        {"secret": secret, "connect": connect},
    )


@operation(
    "POST",
    "/v1/webhook_endpoints",
    {
        **_FIELDS,
        "api_version": Text(),
        "connect": Boolean(),
        "enabled_events": ListOf(item=Text(), required=True),
        "url": Text(required=True),
    },
)
def create_endpoint(ctx: Context, params: Values) -> Json:
    """A new endpoint; the answer carries its secret."""
    if params.get("api_version", API_VERSION) != API_VERSION:
        raise ApiError(400, f"This sandbox renders events in version {API_VERSION} only.", param="api_version")
    if len(ctx.tx.rows("SELECT 1 FROM objects WHERE kind = 'webhook_endpoint' AND NOT deleted")) >= MOST_ENDPOINTS:
        raise ApiError(400, f"You have reached the maximum of {MOST_ENDPOINTS} test webhook endpoints.")
    _check_url(params["url"])
    _check_events(params["enabled_events"])
    secret = _new_secret(ctx)
    record = create(
        ctx,
        url=params["url"],
        enabled_events=params["enabled_events"],
        secret=secret,
        description=params.get("description"),
        metadata=params.get("metadata"),
        api_version=params.get("api_version"),
        connect=params.get("connect", False),
    )
    return {**record.doc, "secret": secret}


def roll(ctx: Context, id: str, *, until: float) -> str:
    """Give an endpoint a new secret; until then its deliveries are signed with the old one too."""
    record = _load(ctx, id)
    rolled = {"secret": record.private["secret"], "until": until}
    record.private = {**record.private, "secret": _new_secret(ctx), "rolled": rolled}
    return str(ctx.tx.save(record).private["secret"])


@operation("GET", "/v1/webhook_endpoints", listing())
def list_endpoints(ctx: Context, params: Values) -> Json:
    """Endpoints, newest first."""
    return objects(ctx, "webhook_endpoint").page(params, "/v1/webhook_endpoints", show_document)


@operation("GET", "/v1/webhook_endpoints/{webhook_endpoint}")
def retrieve_endpoint(ctx: Context, params: Values, webhook_endpoint: str) -> Json:
    """One endpoint."""
    return _load(ctx, webhook_endpoint).doc


@operation(
    "POST",
    "/v1/webhook_endpoints/{webhook_endpoint}",
    {
        **_FIELDS,
        "disabled": Boolean(),
        "enabled_events": ListOf(item=Text()),
        "url": Text(),
    },
)
def update_endpoint(ctx: Context, params: Values, webhook_endpoint: str) -> Json:
    """Change address, wanted events, or switch deliveries off and on."""
    record = _load(ctx, webhook_endpoint)
    if "url" in params:
        _check_url(params["url"])
    if "enabled_events" in params:
        _check_events(params["enabled_events"])
    if "metadata" in params:
        record.doc["metadata"] = merged(record.doc["metadata"], params["metadata"])
    if "disabled" in params:
        record.doc["status"] = "disabled" if params["disabled"] else "enabled"
    record.doc.update({name: params[name] for name in ("description", "enabled_events", "url") if name in params})
    return ctx.tx.save(record).doc


@operation("DELETE", "/v1/webhook_endpoints/{webhook_endpoint}", expandable=False)
def delete_endpoint(ctx: Context, params: Values, webhook_endpoint: str) -> Json:
    """Remove an endpoint; what was still to be delivered to it is given up."""
    record = _load(ctx, webhook_endpoint)
    ctx.tx.delete(record)
    ctx.tx.run(
        "UPDATE deliveries SET state = 'failed', last_error = 'endpoint deleted' "
        "WHERE endpoint = ? AND state IN ('pending', 'held')",
        record.id,
    )
    return {"id": record.id, "object": "webhook_endpoint", "deleted": True}


def _new_secret(ctx: Context) -> str:
    return "whsec_" + token(ctx.settings.seed, "whsec", ctx.tx.new_id("whsec_"), length=32)


def _load(ctx: Context, id: str) -> Record:
    return ctx.load("webhook_endpoint", id, noun="webhook endpoint", param="webhook_endpoint")


def _check_url(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ApiError(
            400, "Invalid URL: An explicit scheme (such as https) must be provided.", code="url_invalid", param="url"
        )


def _check_events(types: list[str]) -> None:
    """Types are named in full; the only pattern is a lone ``*``."""
    for type in types:
        if type != "*" and not _EVENT_TYPE.fullmatch(type):
            raise ApiError(400, f"Invalid enabled_events: {type} is not an event type.", param="enabled_events")
