"""Payouts: made by hand, read, annotated, cancelled. Automatic ones are made by the schedule."""

from __future__ import annotations

from ops_cli.stripe_sandbox import payouts
from ops_cli.stripe_sandbox.context import Context
from ops_cli.stripe_sandbox.errors import ApiError, Json, not_implemented
from ops_cli.stripe_sandbox.events import changes, emit
from ops_cli.stripe_sandbox.money import WHOLE_UNITS_ONLY, read_currency
from ops_cli.stripe_sandbox.paging import objects, show_document
from ops_cli.stripe_sandbox.params import (
    Choice,
    Integer,
    Metadata,
    NotSimulated,
    Text,
    TimeRange,
    Values,
    listing,
    merged,
)
from ops_cli.stripe_sandbox.registry import operation

# Payouts made by hand in these currencies are in whole hundreds of the minor unit.
_HUNDREDS = WHOLE_UNITS_ONLY | {"huf", "twd"}


@operation(
    "POST",
    "/v1/payouts",
    {
        "amount": Integer(required=True, least=1),
        "currency": Text(required=True),
        "description": Text(),
        "destination": Text(),
        "metadata": Metadata(clearable=False),
        "method": Choice(of=("instant", "standard")),
        "payout_method": NotSimulated(),
        "source_type": Choice(of=("bank_account", "card", "fpx")),
        "statement_descriptor": Text(longest=22),
    },
)
def create_payout(ctx: Context, params: Values) -> Json:
    """Send available money to the bank."""
    if params.get("method") == "instant":
        raise not_implemented("An instant payout")
    currency = read_currency(params["currency"])
    if currency in _HUNDREDS and params["amount"] % 100:
        raise ApiError(400, f"Invalid amount: payouts in {currency.upper()} must be divisible by 100.", param="amount")
    return payouts.create(
        ctx,
        amount=params["amount"],
        currency=currency,
        destination=params.get("destination"),
        description=params.get("description"),
        metadata=merged({}, params.get("metadata") or {}),
        statement_descriptor=params.get("statement_descriptor"),
    ).doc


@operation(
    "GET",
    "/v1/payouts",
    listing(arrival_date=TimeRange(), created=TimeRange(), destination=Text(), status=Text()),
)
def list_payouts(ctx: Context, params: Values) -> Json:
    """Payouts, newest first."""
    query = objects(ctx, "payout").created(params).range(params, "arrival_date", "doc ->> '$.arrival_date'")
    query.equal(params, destination="doc ->> '$.destination'", status="doc ->> '$.status'")
    return query.page(params, "/v1/payouts", show_document)


@operation("GET", "/v1/payouts/{payout}")
def retrieve_payout(ctx: Context, params: Values, payout: str) -> Json:
    """One payout."""
    return ctx.load("payout", payout).doc


@operation("POST", "/v1/payouts/{payout}", {"metadata": Metadata()})
def update_payout(ctx: Context, params: Values, payout: str) -> Json:
    """Change the metadata."""
    record = ctx.load("payout", payout)
    before = dict(record.doc)
    if "metadata" in params:
        record.doc["metadata"] = merged(record.doc["metadata"], params["metadata"])
    ctx.tx.save(record)
    emit(ctx, "payout.updated", record.doc, changes(before, record.doc))
    return record.doc


@operation("POST", "/v1/payouts/{payout}/cancel")
def cancel_payout(ctx: Context, params: Values, payout: str) -> Json:
    """Call back a payout that has not left yet."""
    return payouts.cancel(ctx, ctx.load("payout", payout)).doc
