"""Early fraud warnings: the issuer suspects fraud before there is a dispute. Refunding may avoid one."""

from __future__ import annotations

from .context import Context, deferred
from .events import changes, emit
from .store import Record


def warn(ctx: Context, charge: Record, fraud_type: str = "made_with_stolen_card") -> Record:
    """A warning about ``charge``; it can be acted on until the charge is refunded in full or disputed."""
    record = ctx.add("radar.early_fraud_warning", {
        "id": ctx.tx.new_id("issfr_"),
        "object": "radar.early_fraud_warning",
        "actionable": not charge.doc["refunded"] and not charge.doc["disputed"],
        "charge": charge.id,
        "created": ctx.time,
        "fraud_type": fraud_type,
        "livemode": False,
        "payment_intent": charge.doc["payment_intent"],
    })  # fmt: skip
    emit(ctx, "radar.early_fraud_warning.created", record.doc)
    return record


def settle(ctx: Context, charge: str) -> None:
    """The charge has been refunded in full or disputed: its warnings are past acting on."""
    for row in ctx.tx.rows(
        "SELECT id FROM objects WHERE kind = 'radar.early_fraud_warning' AND doc ->> '$.charge' = ? "
        "AND doc ->> '$.actionable'",
        charge,
    ):
        record = ctx.load("radar.early_fraud_warning", row["id"])
        before = dict(record.doc)
        record.doc["actionable"] = False
        ctx.tx.save(record)
        emit(ctx, "radar.early_fraud_warning.updated", record.doc, changes(before, record.doc))


@deferred("warn_of_fraud")
def _warn(ctx: Context, charge_id: str) -> None:
    warn(ctx, ctx.load("charge", charge_id))
