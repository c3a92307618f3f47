"""Payment methods: cards made from test tokens, single-use until attached to a customer."""

from __future__ import annotations

from ops_cli.stripe_sandbox.cards import Card, by_token, is_token, refuse_number
from ops_cli.stripe_sandbox.context import Context
from ops_cli.stripe_sandbox.errors import ApiError, Json, missing_resource, not_implemented
from ops_cli.stripe_sandbox.events import changes, emit
from ops_cli.stripe_sandbox.paging import objects, show_document
from ops_cli.stripe_sandbox.params import (
    ADDRESS,
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
from ops_cli.stripe_sandbox.store import Record, token

from .shapes import complete, load_customer

ALLOW_REDISPLAY = Choice(of=("always", "limited", "unspecified"))
BILLING: dict[str, Field] = {
    "address": Group(fields=ADDRESS, clearable=True),
    "email": Text(clearable=True),
    "name": Text(clearable=True),
    "phone": Text(clearable=True),
    "tax_id": Text(),
}
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
    record = _make(ctx, card["token"])
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


def resolve(ctx: Context, id: str, *, status: int = 400) -> Record:
    """The stored method, or a new one for a test token; ApiError ``resource_missing`` with ``status`` otherwise."""
    if is_token(id):
        return _make(ctx, id)
    record = ctx.tx.find("payment_method", id, account=ctx.account)
    if record is None:
        error = missing_resource("PaymentMethod", id, param="payment_method")
        error.status = status
        raise error
    return record


def card_of(method: Record) -> Card:
    """How the issuer of this card behaves."""
    return by_token(method.private["token"])


def attach(ctx: Context, method: Record, customer: str) -> Record:
    """Give a method to a customer; ApiError when it was used up, is another's, or the issuer declines the check."""
    if method.doc["customer"] == customer:
        return method
    if method.doc["customer"] is not None:
        raise ApiError(400, "The payment method you provided has already been attached to a customer.")
    refuse_spent(method)
    card = card_of(method)
    if card.decline and card.authentication == "none" and card.last4 != "0341":
        raise ApiError(
            402, card.decline.message, type="card_error", code=card.decline.code, decline_code=card.decline.decline_code
        )
    return hand_over(ctx, method, customer)


def hand_over(ctx: Context, method: Record, customer: str) -> Record:
    """Attach without asking the issuer: what a payment with ``setup_future_usage`` has proved already."""
    method.doc["customer"] = customer
    ctx.tx.save(method)
    emit(ctx, "payment_method.attached", method.doc)
    return method


def refuse_spent(method: Record) -> None:
    """ApiError 400 for a method that was used once without a customer, or detached."""
    if method.private.get("spent"):
        raise ApiError(
            400,
            "The provided PaymentMethod was previously used with a PaymentIntent without Customer attachment, shared "
            "with a connected account without Customer attachment, or was detached from a Customer. It may not be "
            "used again. To use a PaymentMethod multiple times, you must attach it to a Customer first.",
            param="payment_method",
        )


def billing_details(given: Json | None = None) -> Json:
    """Billing details with every key a response shows."""
    given = given or {}
    details = {name: given.get(name) for name in BILLING}
    details["address"] = complete("address", given.get("address") or {})
    return details


def _make(ctx: Context, test_token: str) -> Record:
    card = by_token(test_token)
    return ctx.add(
        "payment_method",
        {
            "id": ctx.tx.new_id("pm_"),
            "object": "payment_method",
            "allow_redisplay": "unspecified",
            "billing_details": billing_details(),
            "card": {
                "brand": card.brand,
                "checks": {"address_line1_check": None, "address_postal_code_check": None, "cvc_check": None},
                "country": card.country,
                "display_brand": card.brand,
                "exp_month": 12,
                "exp_year": 2034,
                "fingerprint": token("fingerprint", card.brand, card.last4, length=16),
                "funding": card.funding,
                "generated_from": None,
                "last4": card.last4,
                "networks": {"available": [card.brand], "preferred": None},
                "regulated_status": "unregulated",
                "three_d_secure_usage": {"supported": True},
                "wallet": None,
            },
            "created": ctx.time,
            "customer": None,
            "customer_account": None,
            "livemode": False,
            "metadata": {},
            "type": "card",
        },
        {"token": test_token},
    )


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
