"""Refunds: money back to the guest, at once, later, or not after all."""

from __future__ import annotations

from . import balance, disputing, fraud_warnings
from .context import Context, deferred
from .errors import ApiError, Json
from .events import changes, emit
from .money import shown
from .store import Record


def new_refund(
    ctx: Context,
    charge: Record,
    *,
    amount: int,
    reason: str | None,
    destination: str,
    metadata: dict[str, str] | None = None,
    status: str = "succeeded",
) -> Record:
    """Store a refund of ``charge`` (minor units of its currency); moves no money by itself."""
    doc: Json = {
        "id": ctx.tx.new_id("re_"),
        "object": "refund",
        "amount": amount,
        "balance_transaction": None,
        "charge": charge.id,
        "created": ctx.time,
        "currency": charge.doc["currency"],
        "customer": charge.doc["customer"],
        "customer_account": None,
        "destination_details": {"type": "card", "card": _destination(destination)},
        "metadata": metadata or {},
        "payment_intent": charge.doc["payment_intent"],
        "payment_method": charge.doc["payment_method"],
        "reason": reason,
        "receipt_number": None,
        "source_transfer_reversal": None,
        "status": status,
        "transfer_reversal": None,
    }
    if status == "pending":
        doc["pending_reason"] = "processing"
    return ctx.add("refund", doc)


def refund(ctx: Context, charge: Record, *, amount: int | None, reason: str | None, metadata: dict[str, str]) -> Record:
    """Pay back ``amount`` (all that is left by default). ApiError 400 for more than is left, or a disputed charge."""
    doc = charge.doc
    left = doc["amount"] - doc["amount_refunded"]
    if not doc["paid"] or not doc["captured"]:
        raise ApiError(400, f"Charge {charge.id} has not been captured, so there is nothing to refund.", param="charge")
    disputes = ctx.tx.rows("SELECT doc ->> '$.id' AS id, doc ->> '$.is_charge_refundable' AS refundable FROM objects "
                           "WHERE kind = 'dispute' AND doc ->> '$.charge' = ?", charge.id)  # fmt: skip
    if any(not row["refundable"] for row in disputes):
        raise ApiError(
            400,
            f"Charge {charge.id} has been charged back; cannot issue a refund.",
            code="charge_disputed",
            param="charge",
        )
    if left == 0:
        raise ApiError(
            400, f"Charge {charge.id} has already been refunded.", code="charge_already_refunded", param="charge"
        )
    back = left if amount is None else amount
    if back > left:
        raise ApiError(
            400,
            f"Refund amount ({shown(back, doc['currency'])}) is greater than "
            + (
                f"unrefunded amount on charge ({shown(left, doc['currency'])})"
                if doc["amount_refunded"]
                else f"charge amount ({shown(left, doc['currency'])})"
            ),
            param="amount",
        )
    outcome = charge.private.get("refund", "succeeds")
    record = new_refund(
        ctx,
        charge,
        amount=back,
        reason=reason,
        destination="refund",
        metadata=metadata,
        status="pending" if outcome == "pending" else "succeeded",
    )
    record.doc["balance_transaction"] = _pay(
        ctx,
        record,
        -back,
        type="refund",
        category="refund",
        description="REFUND FOR CHARGE" + (f" ({doc['description']})" if doc["description"] else ""),
    )
    ctx.tx.save(record)
    _add_to_charge(ctx, charge, back)
    if outcome != "succeeds":
        ctx.defer(
            "finish_refund" if outcome == "pending" else "fail_refund",
            record.id,
            at=ctx.now + ctx.settings.refund_seconds,
        )
    emit(ctx, "refund.created", record.doc)
    emit(ctx, "charge.refunded", charge.doc)
    if charge.doc["refunded"]:
        fraud_warnings.settle(ctx, charge.id)
        _close_inquiries(ctx, charge)
    return record


def _close_inquiries(ctx: Context, charge: Record) -> None:
    """Who has got the money back asks no more."""
    for row in ctx.tx.rows(
        "SELECT id FROM objects WHERE kind = 'dispute' AND doc ->> '$.charge' = ? AND doc ->> '$.status' IN "
        "('warning_needs_response', 'warning_under_review')",
        charge.id,
    ):
        disputing.end(ctx, ctx.load("dispute", row["id"]), "warning_closed")


@deferred("finish_refund")
def _finish(ctx: Context, refund_id: str) -> None:
    record = ctx.load("refund", refund_id)
    before = dict(record.doc)
    record.doc["status"] = "succeeded"
    record.doc.pop("pending_reason", None)
    ctx.tx.save(record)
    emit(ctx, "refund.updated", record.doc, {**changes(before, record.doc), "pending_reason": "processing"})


@deferred("fail_refund")
def _fail(ctx: Context, refund_id: str) -> None:
    """The bank could not credit the card: the money comes back and the charge counts as less refunded."""
    record = ctx.load("refund", refund_id)
    before = dict(record.doc)
    back = _pay(
        ctx,
        record,
        record.doc["amount"],
        type="refund_failure",
        category="refund_failure",
        description="REFUND FAILURE",
    )
    record.doc.update(status="failed", failure_balance_transaction=back, failure_reason="expired_or_canceled_card")
    ctx.tx.save(record)
    _add_to_charge(ctx, ctx.load("charge", record.doc["charge"]), -record.doc["amount"])
    emit(ctx, "refund.updated", record.doc, changes(before, record.doc))
    emit(ctx, "refund.failed", record.doc)


def _pay(ctx: Context, refund: Record, amount: int, *, type: str, category: str, description: str) -> str:
    """Money out (negative) or back in, at the rate of the day: a refund can cost more than its charge brought."""
    settled, currency, rate = balance.settled(ctx, amount, refund.doc["currency"])
    return balance.post(
        ctx,
        amount=settled,
        currency=currency,
        type=type,
        category=category,
        source=refund.id,
        description=description,
        exchange_rate=rate,
    )


def _add_to_charge(ctx: Context, charge: Record, amount: int) -> None:
    total = charge.doc["amount_refunded"] + amount
    charge.doc.update(amount_refunded=total, refunded=total == charge.doc["amount"])
    ctx.tx.save(charge)


def _destination(kind: str) -> Json:
    if kind == "reversal":
        return {"type": "reversal"}
    return {"reference_status": "pending", "reference_type": "acquirer_reference_number", "type": kind}
