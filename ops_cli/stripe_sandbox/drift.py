"""Falsified balance transactions: what a reconciliation that works must find."""

from __future__ import annotations

from typing import Any

from . import balance
from .context import Context
from .errors import ApiError, Json, missing_resource

KINDS = ("altered", "missing", "extra")


def make(ctx: Context, *, kind: Any, id: str | None, delta: Any) -> Json:
    """Alter, remove or insert one balance transaction (the newest unless named) behind everybody's back.

    ``delta`` is in minor units: added to an altered row's amount, the amount of an extra one. Returns the row before
    and after; no event tells of it.
    """
    if kind not in KINDS:
        raise ApiError(400, f"kind must be one of {', '.join(KINDS)}.", param="kind")
    if isinstance(delta, bool) or not isinstance(delta, int) or delta == 0:
        raise ApiError(400, "amount_delta must be a whole number of minor units other than 0.", param="amount_delta")
    chosen = id or ctx.tx.value("SELECT id FROM balance_transactions WHERE account = ? ORDER BY seq DESC", ctx.account)
    before = balance.find(ctx, chosen) if chosen else None
    if before is None and (id is not None or kind != "extra"):
        raise missing_resource("balance transaction", id or "any", param="balance_transaction")
    if kind == "missing":
        ctx.tx.run("DELETE FROM balance_transactions WHERE id = ?", chosen)
        return {"kind": kind, "balance_transaction": chosen, "before": before, "after": None}
    if kind == "altered":
        ctx.tx.run("UPDATE balance_transactions SET amount = amount + ?1, net = net + ?1 WHERE id = ?2", delta, chosen)
        return {"kind": kind, "balance_transaction": chosen, "before": before, "after": balance.find(ctx, str(chosen))}
    currency = before["currency"] if before else ctx.settings.tariff.native[0]
    extra = balance.post(
        ctx,
        amount=delta,
        currency=currency,
        type="charge" if delta > 0 else "refund",
        category="charge" if delta > 0 else "refund",
        source=ctx.tx.new_id("ch_" if delta > 0 else "re_"),
        description="drift",
    )
    return {"kind": kind, "balance_transaction": extra, "before": None, "after": balance.find(ctx, extra)}
