"""SetupIntents: parameters and operations; what they do to cards is in ``setups``."""

from __future__ import annotations

from ops_cli.stripe_sandbox import setups
from ops_cli.stripe_sandbox.context import Context
from ops_cli.stripe_sandbox.errors import ApiError, Json
from ops_cli.stripe_sandbox.intents import use_method
from ops_cli.stripe_sandbox.paging import objects, show_document
from ops_cli.stripe_sandbox.params import (
    Boolean,
    Choice,
    Field,
    Group,
    Metadata,
    NotSimulated,
    Text,
    TimeRange,
    Values,
    listing,
    merged,
)
from ops_cli.stripe_sandbox.registry import operation
from ops_cli.stripe_sandbox.shapes import load_customer
from ops_cli.stripe_sandbox.store import Record


def _refused(names: str) -> dict[str, Field]:
    return {name: NotSimulated() for name in names.split()}


_CONFIRM: dict[str, Field] = {
    "payment_method": Text(),
    "return_url": Text(),
    "use_stripe_sdk": Boolean(),
    **_refused(
        "allowed_payment_method_types confirmation_token mandate_data payment_method_data payment_method_options"
    ),
}
_UPDATE: dict[str, Field] = {
    "customer": Text(),
    "description": Text(longest=1000),
    "metadata": Metadata(),
    "payment_method": Text(),
    **_refused(
        "allowed_payment_method_types attach_to_self customer_account excluded_payment_method_types flow_directions "
        "payment_method_configuration payment_method_data payment_method_options"
    ),
}


@operation(
    "POST",
    "/v1/setup_intents",
    {
        **_UPDATE,
        **_CONFIRM,
        "automatic_payment_methods": Group(
            fields={"allow_redirects": Choice(of=("always", "never")), "enabled": Boolean(required=True)}
        ),
        "confirm": Boolean(),
        "usage": Choice(of=("off_session", "on_session")),
        **_refused("on_behalf_of single_use"),
    },
)
def create_setup(ctx: Context, params: Values) -> Json:
    """A new intent, confirmed at once when asked."""
    if "return_url" in params and not params.get("confirm"):
        raise ApiError(
            400,
            "The parameter `return_url` cannot be passed when creating a SetupIntent unless `confirm` is set to true.",
            param="return_url",
        )
    fields: Json = {name: params[name] for name in ("description", "usage") if name in params}
    if "automatic_payment_methods" in params:
        fields["automatic_payment_methods"] = {"allow_redirects": "always", **params["automatic_payment_methods"]}
    fields["customer"] = load_customer(ctx, params["customer"]).id if "customer" in params else None
    if "payment_method" in params:
        fields["payment_method"] = use_method(ctx, params["payment_method"], fields["customer"]).id
    fields["metadata"] = merged({}, params.get("metadata") or {})
    intent = setups.create(ctx, fields)
    return _confirm(ctx, intent, params).doc if params.get("confirm") else intent.doc


@operation(
    "GET",
    "/v1/setup_intents",
    listing(
        attach_to_self=NotSimulated(),
        created=TimeRange(),
        customer=Text(),
        customer_account=NotSimulated(),
        payment_method=Text(),
    ),
)
def list_setups(ctx: Context, params: Values) -> Json:
    """Intents, newest first."""
    query = objects(ctx, "setup_intent").created(params)
    query.equal(params, customer="doc ->> '$.customer'", payment_method="doc ->> '$.payment_method'")
    return query.page(params, "/v1/setup_intents", show_document)


@operation("GET", "/v1/setup_intents/{intent}", {"client_secret": Text()})
def retrieve_setup(ctx: Context, params: Values, intent: str) -> Json:
    """One intent."""
    record = _load(ctx, intent)
    if params.get("client_secret", record.doc["client_secret"]) != record.doc["client_secret"]:
        raise ApiError(
            400,
            "The client_secret provided does not match the client_secret associated with the SetupIntent.",
            code="setup_intent_invalid_parameter",
            param="client_secret",
        )
    return record.doc


@operation("POST", "/v1/setup_intents/{intent}", _UPDATE)
def update_setup(ctx: Context, params: Values, intent: str) -> Json:
    """Change an intent that has not succeeded; metadata and description always."""
    record = _load(ctx, intent)
    doc = record.doc
    if {"customer", "payment_method"} & set(params) and doc["status"] not in setups.CONFIRMABLE:
        raise setups.unexpected_state(
            record, f"You cannot update this SetupIntent because it has a status of {doc['status']}."
        )
    if "customer" in params:
        doc["customer"] = load_customer(ctx, params["customer"]).id
    if "payment_method" in params:
        doc["payment_method"] = use_method(ctx, params["payment_method"], doc["customer"]).id
        doc.update(status="requires_confirmation", next_action=None)
    if "metadata" in params:
        doc["metadata"] = merged(doc["metadata"], params["metadata"])
    doc["description"] = params.get("description", doc["description"])
    return ctx.tx.save(record).doc


@operation("POST", "/v1/setup_intents/{intent}/confirm", _CONFIRM)
def confirm_setup(ctx: Context, params: Values, intent: str) -> Json:
    """Ask the issuer."""
    record = _load(ctx, intent)
    if "payment_method" in params and record.doc["status"] in setups.CONFIRMABLE:
        record.doc["payment_method"] = use_method(ctx, params["payment_method"], record.doc["customer"]).id
    return _confirm(ctx, record, params).doc


@operation(
    "POST",
    "/v1/setup_intents/{intent}/cancel",
    {"cancellation_reason": Choice(of=("abandoned", "duplicate", "requested_by_customer"))},
)
def cancel_setup(ctx: Context, params: Values, intent: str) -> Json:
    """Give up an intent that has not succeeded."""
    return setups.cancel(ctx, _load(ctx, intent), params.get("cancellation_reason")).doc


def _load(ctx: Context, id: str) -> Record:
    return ctx.load("setup_intent", id, param="intent")


def _confirm(ctx: Context, record: Record, params: Values) -> Record:
    return setups.confirm(
        ctx, record, return_url=params.get("return_url"), use_sdk=params.get("use_stripe_sdk", False)
    )  # fmt: skip
