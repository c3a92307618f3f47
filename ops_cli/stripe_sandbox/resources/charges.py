"""Charges are made by PaymentIntents; here they are read and annotated."""

from __future__ import annotations

from ops_cli.stripe_sandbox.context import Context
from ops_cli.stripe_sandbox.errors import Json
from ops_cli.stripe_sandbox.events import changes, emit
from ops_cli.stripe_sandbox.paging import objects, show_document
from ops_cli.stripe_sandbox.params import SHIPPING, Choice, Group, Metadata, Text, TimeRange, Values, listing, merged
from ops_cli.stripe_sandbox.registry import operation
from ops_cli.stripe_sandbox.shapes import complete, load_customer


@operation(
    "GET",
    "/v1/charges",
    listing(
        created=TimeRange(),
        customer=Text(),
        payment_intent=Text(),
        transfer_group=Text(),
    ),
)
def list_charges(ctx: Context, params: Values) -> Json:
    """Charges, newest first; failed attempts are among them."""
    query = objects(ctx, "charge").created(params)
    query.equal(params, **{name: f"doc ->> '$.{name}'" for name in ("customer", "payment_intent", "transfer_group")})
    return query.page(params, "/v1/charges", show_document)


@operation("GET", "/v1/charges/{charge}")
def retrieve_charge(ctx: Context, params: Values, charge: str) -> Json:
    """One charge."""
    return ctx.load("charge", charge).doc


@operation(
    "POST",
    "/v1/charges/{charge}",
    {
        "customer": Text(),
        "description": Text(longest=40000, clearable=True),
        "fraud_details": Group(
            fields={"user_report": Choice(of=("fraudulent", "safe"), clearable=True, required=True)}
        ),
        "metadata": Metadata(),
        "receipt_email": Text(),
        "shipping": Group(fields=SHIPPING),
        "transfer_group": Text(),
    },
)
def update_charge(ctx: Context, params: Values, charge: str) -> Json:
    """Annotate a charge; amounts never change here."""
    record = ctx.load("charge", charge)
    before = dict(record.doc)
    if "customer" in params:
        record.doc["customer"] = load_customer(ctx, params["customer"]).id
    if "metadata" in params:
        record.doc["metadata"] = merged(record.doc["metadata"], params["metadata"])
    if "fraud_details" in params:
        report = params["fraud_details"]["user_report"]
        record.doc["fraud_details"] = {"user_report": report} if report else {}
    for name in ("description", "receipt_email", "shipping", "transfer_group"):
        if name in params:
            record.doc[name] = complete(name, params[name])
    ctx.tx.save(record)
    emit(ctx, "charge.updated", record.doc, changes(before, record.doc))
    return record.doc
