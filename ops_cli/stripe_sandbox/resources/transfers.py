"""Transfers to connected accounts and their reversals."""

from __future__ import annotations

from ops_cli.stripe_sandbox import transferring
from ops_cli.stripe_sandbox.context import Context
from ops_cli.stripe_sandbox.errors import ApiError, Json
from ops_cli.stripe_sandbox.events import changes, emit
from ops_cli.stripe_sandbox.money import read_currency
from ops_cli.stripe_sandbox.paging import objects, show_document
from ops_cli.stripe_sandbox.params import Boolean, Choice, Integer, Metadata, Text, TimeRange, Values, listing, merged
from ops_cli.stripe_sandbox.registry import operation
from ops_cli.stripe_sandbox.store import Record


@operation(
    "POST",
    "/v1/transfers",
    {
        "amount": Integer(),
        "currency": Text(required=True),
        "description": Text(),
        "destination": Text(required=True),
        "metadata": Metadata(clearable=False),
        "source_transaction": Text(),
        "source_type": Choice(of=("bank_account", "card", "fpx")),
        "transfer_group": Text(),
    },
)
def create_transfer(ctx: Context, params: Values) -> Json:
    """Money to a connected account: of one charge, or of the available balance."""
    if not ctx.on_platform:
        raise ApiError(400, "Only the platform can make transfers.", param="destination")
    return transferring.transfer(
        ctx,
        amount=params.get("amount"),
        currency=read_currency(params["currency"]),
        destination=params["destination"],
        source=params.get("source_transaction"),
        group=params.get("transfer_group"),
        description=params.get("description"),
        metadata=merged({}, params.get("metadata") or {}),
    ).doc


@operation("GET", "/v1/transfers", listing(created=TimeRange(), destination=Text(), transfer_group=Text()))
def list_transfers(ctx: Context, params: Values) -> Json:
    """Transfers, newest first."""
    query = objects(ctx, "transfer").created(params)
    query.equal(params, destination="doc ->> '$.destination'", transfer_group="doc ->> '$.transfer_group'")
    return query.page(params, "/v1/transfers", show_document)


@operation("GET", "/v1/transfers/{transfer}")
def retrieve_transfer(ctx: Context, params: Values, transfer: str) -> Json:
    """One transfer with its ten newest reversals."""
    return ctx.load("transfer", transfer).doc


@operation("POST", "/v1/transfers/{transfer}", {"description": Text(), "metadata": Metadata()})
def update_transfer(ctx: Context, params: Values, transfer: str) -> Json:
    """Annotate a transfer; amounts never change here."""
    record = ctx.load("transfer", transfer)
    return _annotate(ctx, record, params, "transfer.updated")


@operation("GET", "/v1/transfers/{id}/reversals", listing())
def list_reversals(ctx: Context, params: Values, id: str) -> Json:
    """The reversals of a transfer, newest first."""
    ctx.load("transfer", id)
    query = objects(ctx, "transfer_reversal").where("doc ->> '$.transfer' = ?", id)
    return query.page(params, f"/v1/transfers/{id}/reversals", show_document)


@operation(
    "POST",
    "/v1/transfers/{id}/reversals",
    {"amount": Integer(least=1), "description": Text(), "metadata": Metadata(), "refund_application_fee": Boolean()},
)
def create_reversal(ctx: Context, params: Values, id: str) -> Json:
    """Take back part or all of a transfer."""
    return transferring.reverse(
        ctx,
        ctx.load("transfer", id),
        amount=params.get("amount"),
        description=params.get("description"),
        metadata=merged({}, params.get("metadata") or {}),
    ).doc


@operation("GET", "/v1/transfers/{transfer}/reversals/{id}")
def retrieve_reversal(ctx: Context, params: Values, transfer: str, id: str) -> Json:
    """One reversal."""
    return _reversal(ctx, transfer, id).doc


@operation("POST", "/v1/transfers/{transfer}/reversals/{id}", {"metadata": Metadata()})
def update_reversal(ctx: Context, params: Values, transfer: str, id: str) -> Json:
    """Change the metadata."""
    return _annotate(ctx, _reversal(ctx, transfer, id), params, None)


def _reversal(ctx: Context, transfer: str, id: str) -> Record:
    ctx.load("transfer", transfer)
    return ctx.load("transfer_reversal", id, noun="transfer reversal")


def _annotate(ctx: Context, record: Record, params: Values, event: str | None) -> Json:
    before = dict(record.doc)
    if "metadata" in params:
        record.doc["metadata"] = merged(record.doc["metadata"], params["metadata"])
    if "description" in params:
        record.doc["description"] = params["description"]
    ctx.tx.save(record)
    if event is not None:
        emit(ctx, event, record.doc, changes(before, record.doc))
    return record.doc
