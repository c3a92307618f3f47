"""The balance and the balance transactions."""

from __future__ import annotations

from ops_cli.stripe_sandbox.balance import balance, find, show
from ops_cli.stripe_sandbox.context import Context
from ops_cli.stripe_sandbox.errors import Json, missing_resource
from ops_cli.stripe_sandbox.paging import Query
from ops_cli.stripe_sandbox.params import Text, TimeRange, Values, listing
from ops_cli.stripe_sandbox.registry import operation


@operation("GET", "/v1/balance")
def retrieve_balance(ctx: Context, params: Values) -> Json:
    """The balance now."""
    return balance(ctx)


@operation(
    "GET",
    "/v1/balance_transactions",
    listing(
        created=TimeRange(),
        currency=Text(),
        payout=Text(),
        source=Text(),
        type=Text(),
    ),
)
def list_transactions(ctx: Context, params: Values) -> Json:
    """Balance transactions, newest first; ``payout`` finds those of an automatic payout."""
    query = Query(ctx, "balance_transactions", "*").created(params)
    query.equal(params, currency="currency", payout="payout", source="source", type="type")
    return query.page(params, "/v1/balance_transactions", lambda row: show(ctx, row))


@operation("GET", "/v1/balance_transactions/{id}")
def retrieve_transaction(ctx: Context, params: Values, id: str) -> Json:
    """One balance transaction."""
    found = find(ctx, id)
    if found is None:
        raise missing_resource("balance transaction", id)
    return found
