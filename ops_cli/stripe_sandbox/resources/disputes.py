"""Disputes and early fraud warnings: read, answered, accepted."""

from __future__ import annotations

from ops_cli.stripe_sandbox import disputing
from ops_cli.stripe_sandbox.context import Context
from ops_cli.stripe_sandbox.errors import Json
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

_EVIDENCE: dict[str, Field] = {
    **{name: Text(longest=20000, clearable=True) for name in disputing.TEXT_FIELDS},
    **{name: Text(clearable=True) for name in disputing.FILE_FIELDS},
    "appeal": NotSimulated(),
    "enhanced_evidence": NotSimulated(),
}


@operation("GET", "/v1/disputes", listing(charge=Text(), created=TimeRange(), payment_intent=Text()))
def list_disputes(ctx: Context, params: Values) -> Json:
    """Disputes and inquiries, newest first."""
    query = objects(ctx, "dispute").created(params)
    query.equal(params, charge="doc ->> '$.charge'", payment_intent="doc ->> '$.payment_intent'")
    return query.page(params, "/v1/disputes", show_document)


@operation("GET", "/v1/disputes/{dispute}")
def retrieve_dispute(ctx: Context, params: Values, dispute: str) -> Json:
    """One dispute."""
    return ctx.load("dispute", dispute).doc


@operation(
    "POST",
    "/v1/disputes/{dispute}",
    {
        "evidence": Group(fields=_EVIDENCE),
        "intended_submission_method": Choice(of=("manual", "prefer_manual", "prefer_smart_disputes", "smart_disputes")),
        "metadata": Metadata(),
        "submit": Boolean(),
    },
)
def update_dispute(ctx: Context, params: Values, dispute: str) -> Json:
    """Evidence is **submitted unless** ``submit=false``; metadata alone submits nothing."""
    record = ctx.load("dispute", dispute)
    if "metadata" in params:
        record.doc["metadata"] = merged(record.doc["metadata"], params["metadata"])
        ctx.tx.save(record)
    if "intended_submission_method" in params:
        record.doc["intended_submission_method"] = params["intended_submission_method"]
        ctx.tx.save(record)
    if "evidence" in params or params.get("submit"):
        disputing.stage(ctx, record, params.get("evidence", {}), submit=params.get("submit", True))
    return record.doc


@operation("POST", "/v1/disputes/{dispute}/close")
def close_dispute(ctx: Context, params: Values, dispute: str) -> Json:
    """Accept the dispute as lost; there is no way back."""
    return disputing.close(ctx, ctx.load("dispute", dispute)).doc


@operation("GET", "/v1/radar/early_fraud_warnings", listing(charge=Text(), created=TimeRange(), payment_intent=Text()))
def list_warnings(ctx: Context, params: Values) -> Json:
    """Early fraud warnings, newest first."""
    query = objects(ctx, "radar.early_fraud_warning").created(params)
    query.equal(params, charge="doc ->> '$.charge'", payment_intent="doc ->> '$.payment_intent'")
    return query.page(params, "/v1/radar/early_fraud_warnings", show_document)


@operation("GET", "/v1/radar/early_fraud_warnings/{early_fraud_warning}")
def retrieve_warning(ctx: Context, params: Values, early_fraud_warning: str) -> Json:
    """One early fraud warning."""
    return ctx.load("radar.early_fraud_warning", early_fraud_warning, noun="early fraud warning").doc
