"""The platform answers for the debts of connected accounts: what is held back of its balance while one is below zero."""

from __future__ import annotations

from . import balance
from .context import Context, deferred
from .errors import Json

# After so long below zero Stripe fills an account up from what was held for it.
PATIENCE_SECONDS = 180 * 86_400


@deferred("review_reserve")
def review(ctx: Context, currency: str) -> None:
    """Hold back as much of the platform's balance as this account's available balance is below zero, no more, no less."""
    if not _platform_is_liable(ctx):
        return
    owed, held = max(0, -balance.available(ctx, currency)), _held(ctx, currency)
    if owed == held:
        return
    private: Json = {"for": ctx.account}
    if not held:
        private["opened"] = ctx.now
        ctx.defer("collect_debt", currency, at=ctx.now + PATIENCE_SECONDS)
    platform = ctx.platform
    reserve = platform.add("reserve_transaction", {
        "id": ctx.tx.new_id("rsvt_"),
        "object": "reserve_transaction",
        "amount": held - owed,
        "currency": currency,
        "description": f"Connect reserve for account {ctx.account}",
    }, private)  # fmt: skip
    balance.post(
        platform, amount=held - owed, currency=currency, type="reserve_transaction", category=balance.RESERVED,
        source=reserve.id, description=reserve.doc["description"],
    )  # fmt: skip


@deferred("collect_debt")
def _collect(ctx: Context, currency: str) -> None:
    """Fill up an account that has been below zero all the time; what was held for it is free again, and spent on it."""
    opened = ctx.tx.value(
        "SELECT max(private ->> '$.opened') FROM objects WHERE kind = 'reserve_transaction' AND private ->> '$.for' = ? "
        "AND doc ->> '$.currency' = ?",
        ctx.account,
        currency,
    )
    owed = _held(ctx, currency)
    if not owed or opened + PATIENCE_SECONDS > ctx.now:
        return
    platform = ctx.platform
    collected = platform.add("connect_collection_transfer", {
        "id": ctx.tx.new_id("cct_"),
        "object": "connect_collection_transfer",
        "amount": owed,
        "currency": currency,
        "destination": ctx.account,
        "livemode": False,
    })  # fmt: skip
    for side, amount in ((platform, -owed), (ctx, owed)):
        balance.post(
            side, amount=amount, currency=currency, type="connect_collection_transfer",
            category="connect_collection_transfer", source=collected.id,
        )  # fmt: skip


def _platform_is_liable(ctx: Context) -> bool:
    owner = ctx.tx.find("account", ctx.account, account=ctx.settings.platform)
    return owner is not None and owner.doc["controller"]["losses"]["payments"] == "application"


def _held(ctx: Context, currency: str) -> int:
    """What is held of the platform's balance for this account."""
    return -int(
        ctx.tx.value(
            "SELECT coalesce(sum(doc ->> '$.amount'), 0) FROM objects WHERE kind = 'reserve_transaction' "
            "AND private ->> '$.for' = ? AND doc ->> '$.currency' = ?",
            ctx.account,
            currency,
        )
    )
