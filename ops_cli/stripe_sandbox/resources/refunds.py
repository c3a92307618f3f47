"""Refunds: by charge or by PaymentIntent."""

from __future__ import annotations

from ops_cli.stripe_sandbox import refunding
from ops_cli.stripe_sandbox.charging import settle_now
from ops_cli.stripe_sandbox.context import Context
from ops_cli.stripe_sandbox.errors import ApiError, Json, missing_resource
from ops_cli.stripe_sandbox.events import changes, emit
from ops_cli.stripe_sandbox.paging import objects, show_document
from ops_cli.stripe_sandbox.params import (
    Boolean,
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
from ops_cli.stripe_sandbox.store import Record


@operation(
    "POST",
    "/v1/refunds",
    {
        "amount": Integer(least=1),
        "charge": Text(),
        "currency": NotSimulated(),
        "customer": NotSimulated(),
        "instructions_email": Text(),
        "metadata": Metadata(),
        "origin": NotSimulated(),
        "payment_intent": Text(),
        "reason": Choice(of=("duplicate", "fraudulent", "requested_by_customer")),
        "refund_application_fee": Boolean(),
        "reverse_transfer": Boolean(),
    },
)
def create_refund(ctx: Context, params: Values) -> Json:
    """Pay back part or all of a charge. Transfers made from it are not touched."""
    for flag in ("refund_application_fee", "reverse_transfer"):
        if params.get(flag):
            raise ApiError(
                400, f"The charge has no application fee or transfer, so `{flag}` cannot be used.", param=flag
            )
    charge = _charge(ctx, params)
    settle_now(ctx, charge)
    return refunding.refund(
        ctx,
        charge,
        amount=params.get("amount"),
        reason=params.get("reason"),
        metadata=merged({}, params.get("metadata") or {}),
    ).doc


@operation("GET", "/v1/refunds", listing(charge=Text(), created=TimeRange(), payment_intent=Text()))
def list_refunds(ctx: Context, params: Values) -> Json:
    """Refunds, newest first."""
    query = objects(ctx, "refund").created(params)
    query.equal(params, charge="doc ->> '$.charge'", payment_intent="doc ->> '$.payment_intent'")
    return query.page(params, "/v1/refunds", show_document)


@operation("GET", "/v1/refunds/{refund}")
def retrieve_refund(ctx: Context, params: Values, refund: str) -> Json:
    """One refund."""
    return ctx.load("refund", refund).doc


@operation("POST", "/v1/refunds/{refund}", {"metadata": Metadata()})
def update_refund(ctx: Context, params: Values, refund: str) -> Json:
    """Change the metadata; nothing else can change."""
    record = ctx.load("refund", refund)
    before = dict(record.doc)
    if "metadata" in params:
        record.doc["metadata"] = merged(record.doc["metadata"], params["metadata"])
    ctx.tx.save(record)
    emit(ctx, "refund.updated", record.doc, changes(before, record.doc))
    return record.doc


@operation("POST", "/v1/refunds/{refund}/cancel")
def cancel_refund(ctx: Context, params: Values, refund: str) -> Json:
    """Only a refund that waits for the guest's bank details can be cancelled; card refunds never do."""
    record = ctx.load("refund", refund)
    raise ApiError(
        400,
        f"This refund cannot be canceled because it has a status of {record.doc['status']}. Only "
        "refunds with a status of requires_action can be canceled.",
        code="refund_not_cancelable",
    )


def _charge(ctx: Context, params: Values) -> Record:
    given = [name for name in ("charge", "payment_intent") if name in params]
    if not given:
        raise ApiError(
            400,
            "One of the following params should be provided for this request: payment_intent or charge.",
            code="parameter_missing",
        )
    if "charge" in params:
        charge = ctx.load("charge", params["charge"], param="charge")
        if params.get("payment_intent", charge.doc["payment_intent"]) != charge.doc["payment_intent"]:
            raise ApiError(400, "The charge does not belong to the PaymentIntent you provided.", param="charge")
        return charge
    intent = ctx.tx.find("payment_intent", params["payment_intent"], account=ctx.account)
    if intent is None:
        raise missing_resource("payment_intent", params["payment_intent"], param="payment_intent")
    if intent.doc["status"] != "succeeded":
        raise ApiError(
            400,
            f"This PaymentIntent ({intent.id}) does not have a successful charge to refund.",
            code="payment_intent_unexpected_state",
            param="payment_intent",
        )
    return ctx.load("charge", intent.doc["latest_charge"])
