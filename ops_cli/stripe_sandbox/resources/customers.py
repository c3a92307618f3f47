"""Customers: the little of them that payments need."""

from __future__ import annotations

from ops_cli.stripe_sandbox.context import Context
from ops_cli.stripe_sandbox.errors import Json
from ops_cli.stripe_sandbox.events import changes, emit
from ops_cli.stripe_sandbox.methods import attach, resolve
from ops_cli.stripe_sandbox.paging import objects, show_document
from ops_cli.stripe_sandbox.params import (
    ADDRESS,
    SHIPPING,
    Choice,
    Field,
    Group,
    ListOf,
    Metadata,
    NotSimulated,
    Text,
    TimeRange,
    Values,
    listing,
    merged,
)
from ops_cli.stripe_sandbox.registry import operation
from ops_cli.stripe_sandbox.shapes import complete, load_customer
from ops_cli.stripe_sandbox.store import Record

_FIELDS: dict[str, Field] = {
    "address": Group(fields=ADDRESS, clearable=True),
    "business_name": Text(longest=150, clearable=True),
    "description": Text(clearable=True),
    "email": Text(longest=512, clearable=True),
    "individual_name": Text(longest=150, clearable=True),
    "metadata": Metadata(),
    "name": Text(longest=256, clearable=True),
    "phone": Text(longest=20, clearable=True),
    "preferred_locales": ListOf(item=Text()),
    "shipping": Group(fields={name: SHIPPING[name] for name in ("address", "name", "phone")}, clearable=True),
    "tax_exempt": Choice(of=("exempt", "none", "reverse"), clearable=True),
}
_SOURCES = {
    name: NotSimulated()
    for name in ("bank_account", "card", "default_alipay_account", "default_bank_account", "default_card")
}


@operation("POST", "/v1/customers", {**_FIELDS, "payment_method": Text()})
def create_customer(ctx: Context, params: Values) -> Json:
    """A new customer, with a payment method attached if one is named."""
    record = ctx.add(
        "customer",
        {
            "id": ctx.tx.new_id("cus_"),
            "object": "customer",
            "address": None,
            "balance": 0,
            "created": ctx.time,
            "currency": None,
            "customer_account": None,
            "default_source": None,
            "delinquent": False,
            "description": None,
            "email": None,
            "livemode": False,
            "metadata": {},
            "name": None,
            "phone": None,
            "preferred_locales": [],
            "shipping": None,
            "tax_exempt": "none",
        },
    )
    _apply(record, params)
    ctx.tx.save(record)
    emit(ctx, "customer.created", record.doc)
    if "payment_method" in params:
        attach(ctx, resolve(ctx, params["payment_method"]), record.id)
    return record.doc


@operation("GET", "/v1/customers", listing(created=TimeRange(), email=Text(longest=512), test_clock=NotSimulated()))
def list_customers(ctx: Context, params: Values) -> Json:
    """Customers, newest first."""
    query = objects(ctx, "customer").created(params).equal(params, email="doc ->> '$.email'")
    return query.page(params, "/v1/customers", show_document)


@operation("GET", "/v1/customers/{customer}")
def retrieve_customer(ctx: Context, params: Values, customer: str) -> Json:
    """One customer; a deleted one answers as deleted."""
    if ctx.tx.value(
        "SELECT 1 FROM objects WHERE id = ? AND kind = 'customer' AND deleted AND account = ?", customer, ctx.account
    ):
        return _deleted(customer)
    return load_customer(ctx, customer, param="id").doc


@operation("POST", "/v1/customers/{customer}", {**_FIELDS, **_SOURCES})
def update_customer(ctx: Context, params: Values, customer: str) -> Json:
    """Change what is given."""
    record = load_customer(ctx, customer, param="id")
    before = dict(record.doc)
    _apply(record, params)
    ctx.tx.save(record)
    emit(ctx, "customer.updated", record.doc, changes(before, record.doc))
    return record.doc


@operation("DELETE", "/v1/customers/{customer}", expandable=False)
def delete_customer(ctx: Context, params: Values, customer: str) -> Json:
    """Delete for good."""
    record = load_customer(ctx, customer, param="id")
    ctx.tx.delete(record)
    emit(ctx, "customer.deleted", record.doc)
    return _deleted(record.id)


def _apply(record: Record, params: Values) -> None:
    for name, value in params.items():
        if name == "metadata":
            record.doc["metadata"] = merged(record.doc["metadata"], value)
        elif name == "tax_exempt":
            record.doc["tax_exempt"] = value or "none"
        elif name in ("business_name", "individual_name") and value is None:
            record.doc.pop(name, None)
        elif name in _FIELDS:
            record.doc[name] = complete(name, value)


def _deleted(id: str) -> Json:
    return {"id": id, "object": "customer", "deleted": True}
