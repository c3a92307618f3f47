"""Disputes: an issuer asks (inquiry) or takes the money back (chargeback); evidence is staged, then submitted once.

``needs_response → under_review → won | lost``; an inquiry has the same with ``warning_`` before it, ends as
``warning_closed`` or becomes a chargeback. Magic words in ``evidence.uncategorized_text`` decide how it ends.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from . import balance, fraud_warnings
from .context import Context, deferred
from .errors import ApiError, Json
from .events import changes, emit
from .store import Record

Kind = Literal["inquiry", "chargeback"]
INQUIRY_DAYS, DECISION_DAYS = 120, 75
FILE_FIELDS = (
    "cancellation_policy", "customer_communication", "customer_signature", "duplicate_charge_documentation", "receipt",
    "refund_policy", "service_documentation", "shipping_documentation", "uncategorized_file",
)  # fmt: skip
TEXT_FIELDS = (
    "access_activity_log", "billing_address", "cancellation_policy_disclosure", "cancellation_rebuttal",
    "customer_email_address", "customer_name", "customer_purchase_ip", "duplicate_charge_explanation",
    "duplicate_charge_id", "product_description", "refund_policy_disclosure", "refund_refusal_explanation",
    "service_date", "shipping_address", "shipping_carrier", "shipping_date", "shipping_tracking_number",
    "uncategorized_text",
)  # fmt: skip
MOST_TEXT, MOST_BYTES, MOST_PAGES = 150_000, 4_750_002, 50
REASONS = (
    "bank_cannot_process", "check_returned", "credit_not_processed", "customer_initiated", "debit_not_authorized",
    "duplicate", "fraudulent", "general", "incorrect_account_details", "insufficient_funds", "noncompliant",
    "product_not_received", "product_unacceptable", "subscription_canceled", "unrecognized",
)  # fmt: skip
_NETWORK_CODES = {"fraudulent": "10.4", "product_not_received": "13.1", "credit_not_processed": "13.6",
                  "duplicate": "12.6.1", "product_unacceptable": "13.3"}  # fmt: skip
_ANSWERABLE = ("needs_response", "warning_needs_response")
_OPEN = (*_ANSWERABLE, "under_review", "warning_under_review")
_MAGIC = {"winning_evidence": "won", "losing_evidence": "lost", "escalate_inquiry_evidence": "escalate"}


@dataclass(frozen=True)
class Plan:
    """What the issuer behind a test card will do once it has been charged."""

    kind: Kind = "chargeback"
    reason: str = "fraudulent"
    times: int = 1


PLANS = {
    "fraudulent": Plan(),
    "not_received": Plan(reason="product_not_received"),
    "inquiry": Plan(kind="inquiry"),
    "several": Plan(times=2),
}


@deferred("open_disputes")
def _open_planned(ctx: Context, charge_id: str) -> None:
    charge = ctx.load("charge", charge_id)
    plan = PLANS[charge.private["dispute"]]
    share = charge.doc["amount"] // plan.times
    for _ in range(plan.times):
        if charge.doc["refunded"]:  # by the very request that settled it
            return
        start(ctx, charge, kind=plan.kind, reason=plan.reason, amount=share)


def start(ctx: Context, charge: Record, *, kind: Kind, reason: str, amount: int | None = None) -> Record:
    """Open a dispute of ``amount``, by default what has neither been refunded nor disputed (minor units of the charge): an
    issuer gives no cardholder more than they paid."""
    doc = charge.doc
    disputed = min(doc["amount"] - doc["amount_refunded"] - _disputed(ctx, charge), amount or doc["amount"])
    if not doc["captured"] or disputed < 1:
        raise ApiError(400, f"There is nothing to dispute in {charge.id}.", param="charge")
    if reason not in REASONS:
        raise ApiError(400, f"reason must be one of {', '.join(REASONS)}.", param="reason")
    brand = doc["payment_method_details"]["card"]["brand"]
    record = ctx.add("dispute", {
        "id": ctx.tx.new_id("du_"),
        "object": "dispute",
        "amount": disputed,
        "balance_transactions": [],
        "charge": charge.id,
        "created": ctx.time,
        "currency": doc["currency"],
        "enhanced_eligibility_types": [],
        "evidence": {**dict.fromkeys((*TEXT_FIELDS, *FILE_FIELDS)), "enhanced_evidence": {}},
        "evidence_details": {"due_by": None, "enhanced_eligibility": {}, "has_evidence": False, "past_due": False,
                             "submission_count": 0, "submission_method": "not_submitted"},
        "is_charge_refundable": kind == "inquiry",
        "livemode": False,
        "metadata": {},
        "payment_intent": doc["payment_intent"],
        "payment_method_details": {
            "type": "card",
            "card": {"brand": brand, "case_type": kind, "network": brand,
                     "network_reason_code": _NETWORK_CODES.get(reason) if brand == "visa" else None},
        },
        "reason": reason,
        "status": "warning_needs_response" if kind == "inquiry" else "needs_response",
    }, {"withdrawn": False, "countered": 0})  # fmt: skip
    _set_deadline(ctx, record)
    if kind == "inquiry":
        ctx.defer("inquiry_ends", record.id, at=ctx.now + INQUIRY_DAYS * 86400)
    charge.doc["disputed"] = True
    ctx.tx.save(charge)
    fraud_warnings.settle(ctx, charge.id)
    if kind == "chargeback":
        _take(ctx, record)
    ctx.tx.save(record)
    emit(ctx, "charge.dispute.created", record.doc)
    if kind == "chargeback":
        emit(ctx, "charge.dispute.funds_withdrawn", record.doc)
    return record


def _disputed(ctx: Context, charge: Record) -> int:
    """What other disputes of a charge have taken, or ask about."""
    found = ctx.tx.value(
        "SELECT sum(doc ->> '$.amount') FROM objects WHERE kind = 'dispute' AND doc ->> '$.charge' = ? "
        "AND doc ->> '$.status' NOT IN ('won', 'warning_closed')",
        charge.id,
    )
    return int(found or 0)


def stage(ctx: Context, record: Record, evidence: Json, *, submit: bool) -> Record:
    """Add to the evidence; with ``submit`` it goes to the issuer, once and for all. ApiError 400 when it is too late
    or too much."""
    doc = record.doc
    if doc["status"] not in _ANSWERABLE:
        raise ApiError(
            400,
            f"This dispute is already {'closed' if doc['status'] not in _OPEN else 'under review'}, so its evidence "
            "cannot be changed.",
            param="evidence",
        )
    before = {**doc, "evidence": dict(doc["evidence"]), "evidence_details": dict(doc["evidence_details"])}
    doc["evidence"].update(evidence)
    _check_size(ctx, doc["evidence"])
    details = doc["evidence_details"]
    details["has_evidence"] = any(doc["evidence"][name] for name in (*TEXT_FIELDS, *FILE_FIELDS))
    if submit:
        inquiry = doc["status"] == "warning_needs_response"
        details.update(submission_count=1, submission_method="manual")
        doc["status"] = "warning_under_review" if inquiry else "under_review"
        if not inquiry:
            record.private["countered"] = _counter_fee(ctx, record, returned=False)
        ctx.defer("dispute_decided", record.id, at=ctx.now + _decision_seconds(ctx, doc))
    ctx.tx.save(record)
    emit(ctx, "charge.dispute.updated", doc, changes(before, doc))
    return record


def close(ctx: Context, record: Record) -> Record:
    """Accept it: irrevocably lost (an inquiry is merely closed)."""
    if record.doc["status"] not in _ANSWERABLE:
        raise ApiError(400, f"This dispute is already {record.doc['status']} and cannot be closed.", param="dispute")
    return end(ctx, record, "warning_closed" if record.doc["status"].startswith("warning_") else "lost")


def end(ctx: Context, record: Record, status: str) -> Record:
    """The last word: won (the money comes back), lost or closed."""
    doc = record.doc
    details = doc["evidence_details"]
    details.setdefault("submission_method", "not_submitted")
    doc["status"] = status
    if status == "won" and record.private["withdrawn"]:  # an appeal may have brought it back before
        give_back(ctx, record)
    ctx.tx.save(record)
    emit(ctx, "charge.dispute.closed", doc)
    return record


def give_back(ctx: Context, record: Record) -> None:
    """The money of a won dispute returns, with the fee for having answered it; the first fee never does."""
    amount, currency, rate = balance.settled(ctx, record.doc["amount"], record.doc["currency"])
    _attach(ctx, record, balance.post(
        ctx, amount=amount, currency=currency, type="adjustment", category="dispute_reversal", source=record.id,
        description=f"Chargeback reversal for {record.doc['charge']}", exchange_rate=rate,
    ))  # fmt: skip
    record.private["withdrawn"] = False
    record.doc["is_charge_refundable"] = True
    if record.private["countered"]:
        _counter_fee(ctx, record, returned=True)
    ctx.tx.save(record)
    emit(ctx, "charge.dispute.funds_reinstated", record.doc)


def withdraw(ctx: Context, record: Record) -> None:
    """The issuer takes the money: an inquiry that became a chargeback, or an appeal that went against us."""
    _take(ctx, record)
    ctx.tx.save(record)
    emit(ctx, "charge.dispute.funds_withdrawn", record.doc)


def escalate(ctx: Context, record: Record) -> Record:
    """An inquiry becomes a chargeback: the money goes, and there is a new chance to answer."""
    before = {**record.doc, "payment_method_details": dict(record.doc["payment_method_details"])}
    card = {**record.doc["payment_method_details"]["card"], "case_type": "chargeback"}
    record.doc["payment_method_details"] = {"type": "card", "card": card}
    record.doc.update(status="needs_response", is_charge_refundable=False)
    record.doc["evidence_details"].update(submission_count=0, submission_method="not_submitted")
    _set_deadline(ctx, record)
    _take(ctx, record)
    ctx.tx.save(record)
    emit(ctx, "charge.dispute.updated", record.doc, changes(before, record.doc))
    emit(ctx, "charge.dispute.funds_withdrawn", record.doc)
    return record


@deferred("dispute_due")
def _due(ctx: Context, subject: str) -> None:
    id, due_by = subject.split("@")
    record = ctx.load("dispute", id)
    details = record.doc["evidence_details"]
    if record.doc["status"] not in _ANSWERABLE or details["due_by"] != int(due_by):
        return
    details["past_due"] = True
    if record.doc["status"] == "needs_response":
        end(ctx, record, "lost")
    else:
        ctx.tx.save(record)
        emit(ctx, "charge.dispute.updated", record.doc)


@deferred("dispute_decided")
def _decide(ctx: Context, id: str) -> None:
    record = ctx.load("dispute", id)
    verdict = _MAGIC.get(str(record.doc["evidence"]["uncategorized_text"]).strip())
    if record.doc["status"] == "under_review":
        end(ctx, record, "won" if verdict == "won" else "lost")
    elif record.doc["status"] == "warning_under_review":
        if verdict == "escalate":
            escalate(ctx, record)
        else:
            end(ctx, record, "warning_closed")


@deferred("inquiry_ends")
def _forget(ctx: Context, id: str) -> None:
    record = ctx.load("dispute", id)
    if record.doc["status"] in ("warning_needs_response", "warning_under_review"):
        end(ctx, record, "warning_closed")


def _take(ctx: Context, record: Record) -> None:
    amount, currency, rate = balance.settled(ctx, record.doc["amount"], record.doc["currency"])
    _attach(ctx, record, balance.post(
        ctx, amount=-amount, currency=currency, type="adjustment", category="dispute", source=record.id,
        fee=ctx.settings.tariff.dispute_fee(currency).received, fee_description="Dispute fee",
        description=f"Chargeback withdrawal for {record.doc['charge']}", exchange_rate=rate,
    ))  # fmt: skip
    record.private["withdrawn"] = True


def _counter_fee(ctx: Context, record: Record, *, returned: bool) -> int:
    _, currency, _ = balance.settled(ctx, record.doc["amount"], record.doc["currency"])
    fee = record.private["countered"] if returned else ctx.settings.tariff.dispute_fee(currency).countered
    if fee:
        balance.post(
            ctx, amount=fee if returned else -fee, currency=currency, type="stripe_fee", category="fee",
            source=record.id, description="Dispute countered fee" + (" returned" if returned else ""),
        )  # fmt: skip
    return int(fee)


def _attach(ctx: Context, record: Record, transaction: str) -> None:
    record.doc["balance_transactions"] = [*record.doc["balance_transactions"], balance.find(ctx, transaction)]


def _set_deadline(ctx: Context, record: Record) -> None:
    """The last second of a day, as Stripe sets it."""
    due_by = (int(ctx.now + ctx.settings.dispute_days * 86400) // 86400 + 1) * 86400 - 1
    record.doc["evidence_details"].update(due_by=due_by, past_due=False)
    ctx.defer("dispute_due", f"{record.id}@{due_by}", at=due_by)


def _decision_seconds(ctx: Context, doc: Json) -> float:
    """Magic words are answered at once; otherwise issuers take their time."""
    magic = str(doc["evidence"]["uncategorized_text"]).strip() in _MAGIC
    return ctx.settings.async_seconds if magic else DECISION_DAYS * 86400


def _check_size(ctx: Context, evidence: Json) -> None:
    if sum(len(evidence[name] or "") for name in TEXT_FIELDS) > MOST_TEXT:
        raise ApiError(400, f"Evidence text can have up to {MOST_TEXT} characters combined.", param="evidence")
    total = 0
    for name in FILE_FIELDS:
        if not evidence[name]:
            continue
        file = ctx.tx.find("file", evidence[name], account=ctx.account)
        if file is None or file.doc["purpose"] != "dispute_evidence":
            raise ApiError(
                400, f"No such file upload for dispute evidence: '{evidence[name]}'", code="resource_missing",
                param=f"evidence[{name}]",
            )  # fmt: skip
        total += file.doc["size"]
        if pages(ctx.tx.blob(file.id)) > MOST_PAGES:
            raise ApiError(
                400, f"Evidence documents can have up to {MOST_PAGES} pages.",
                code="dispute_evidence_page_limit_exceeded", param=f"evidence[{name}]",
            )  # fmt: skip
    if total > MOST_BYTES:
        raise ApiError(400, "The combined size of all evidence files must not exceed 4.5 MB.", param="evidence")


def pages(content: bytes) -> int:
    """How many pages a PDF has; 1 for a picture."""
    return len(re.findall(rb"/Type\s*/Page\b(?!s)", content)) or 1
