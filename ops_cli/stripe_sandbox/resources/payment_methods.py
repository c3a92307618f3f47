"""Payment methods: cards made from test tokens, single-use until attached to a customer."""

from __future__ import annotations

from ops_cli.stripe_sandbox.cards import refuse_number
from ops_cli.stripe_sandbox.context import Context
from ops_cli.stripe_sandbox.errors import ApiError, Json, not_implemented
from ops_cli.stripe_sandbox.events import changes, emit
from ops_cli.stripe_sandbox.methods import BILLING, attach, billing_details, make, resolve
from ops_cli.stripe_sandbox.paging import objects, show_document
from ops_cli.stripe_sandbox.params import (
    Choice,
    Field,
    Group,
    Integer,
    Metadata,
    NotSimulated,
    Text,
    Values,
    listing,
    merged,
)
from ops_cli.stripe_sandbox.registry import operation
from ops_cli.stripe_sandbox.shapes import load_customer
from ops_cli.stripe_sandbox.store import Record

ALLOW_REDISPLAY = Choice(of=("always", "limited", "unspecified"))
_CARD: dict[str, Field] = {
    "cvc": Text(), "exp_month": Integer(), "exp_year": Integer(), "networks": NotSimulated(), "number": Text(),
    "token": Text(),
}  # fmt: skip
_LISTING = {"allow_redisplay": ALLOW_REDISPLAY, "type": Text()}


@operation(
    "POST",
    "/v1/payment_methods",
    {
        "allow_redisplay": ALLOW_REDISPLAY,
        "billing_details": Group(fields=BILLING),
        "card": Group(fields=_CARD),
        "customer": NotSimulated(),
        "link": NotSimulated(),
        "metadata": Metadata(),
        "payment_method": NotSimulated(),
        "sepa_debit": NotSimulated(),
        "type": Text(),
    },
)
def create_payment_method(ctx: Context, params: Values) -> Json:
    """A card from a token (``card[token]=tok_visa``); raw numbers are refused."""
    if "type" not in params:
        raise ApiError(400, "Missing required param: type.", code="parameter_missing", param="type")
    if params["type"] != "card":
        raise not_implemented(f"The payment method type {params['type']}")
    card = params.get("card", {})
    if "number" in card:
        raise refuse_number()
    if "token" not in card:
        raise ApiError(400, "Missing required param: card.", code="parameter_missing", param="card")
    record = make(ctx, card["token"])
    _apply(record, params)
    return ctx.tx.save(record).doc


@operation("GET", "/v1/payment_methods", listing(customer=Text(), customer_account=NotSimulated(), **_LISTING))
def list_payment_methods(ctx: Context, params: Values) -> Json:
    """Payment methods, newest first; those of a customer when one is named."""
    return _list(ctx, params, params.get("customer"), "/v1/payment_methods")


@operation("GET", "/v1/customers/{customer}/payment_methods", listing(**_LISTING))
def list_of_customer(ctx: Context, params: Values, customer: str) -> Json:
    """The payment methods of one customer."""
    load_customer(ctx, customer, param="id")
    return _list(ctx, params, customer, f"/v1/customers/{customer}/payment_methods")


@operation("GET", "/v1/payment_methods/{payment_method}")
def retrieve_payment_method(ctx: Context, params: Values, payment_method: str) -> Json:
    """One payment method; a test token gives a new one, as at Stripe."""
    return resolve(ctx, payment_method, status=404).doc


@operation(
    "POST",
    "/v1/payment_methods/{payment_method}",
    {
        "allow_redisplay": ALLOW_REDISPLAY,
        "billing_details": Group(fields=BILLING),
        "card": Group(fields={"exp_month": Integer(), "exp_year": Integer(), "networks": NotSimulated()}),
        "metadata": Metadata(),
        "payto": NotSimulated(),
        "us_bank_account": NotSimulated(),
    },
)
def update_payment_method(ctx: Context, params: Values, payment_method: str) -> Json:
    """Change billing details, expiry or metadata; the method must belong to a customer."""
    record = resolve(ctx, payment_method, status=404)
    if record.doc["customer"] is None:
        raise ApiError(400, "You must save this PaymentMethod to a customer before you can update it.")
    before = dict(record.doc)
    _apply(record, params)
    record.doc["card"] = {**record.doc["card"], **params.get("card", {})}
    ctx.tx.save(record)
    emit(ctx, "payment_method.updated", record.doc, changes(before, record.doc))
    return record.doc


@operation(
    "POST", "/v1/payment_methods/{payment_method}/attach", {"customer": Text(), "customer_account": NotSimulated()}
)
def attach_payment_method(ctx: Context, params: Values, payment_method: str) -> Json:
    """Give the method to a customer; afterwards it can be used again and again."""
    if "customer" not in params:
        raise ApiError(400, "Missing required param: customer.", code="parameter_missing", param="customer")
    customer = load_customer(ctx, params["customer"])
    return attach(ctx, resolve(ctx, payment_method, status=404), customer.id).doc


@operation("POST", "/v1/payment_methods/{payment_method}/detach")
def detach_payment_method(ctx: Context, params: Values, payment_method: str) -> Json:
    """Take the method from its customer; it can never be used again."""
    record = resolve(ctx, payment_method, status=404)
    if record.doc["customer"] is None:
        raise ApiError(
            400, "The payment method you provided is not attached to a customer so detachment is impossible."
        )
    before = dict(record.doc)
    record.doc["customer"] = None
    record.private["spent"] = True
    ctx.tx.save(record)
    emit(ctx, "payment_method.detached", record.doc, changes(before, record.doc))
    return record.doc


def _apply(record: Record, params: Values) -> None:
    if "metadata" in params:
        record.doc["metadata"] = merged(record.doc["metadata"], params["metadata"])
    if "allow_redisplay" in params:
        record.doc["allow_redisplay"] = params["allow_redisplay"]
    if "billing_details" in params:
        record.doc["billing_details"] = billing_details({**record.doc["billing_details"], **params["billing_details"]})


def _list(ctx: Context, params: Values, customer: str | None, url: str) -> Json:
    query = objects(ctx, "payment_method")
    if customer is not None:
        query.where("doc ->> '$.customer' = ?", customer)
    query.equal(params, type="doc ->> '$.type'", allow_redisplay="doc ->> '$.allow_redisplay'")
    return query.page(params, url, show_document)
