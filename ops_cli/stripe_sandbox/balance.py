"""Balance transactions and the balances they add up to."""

from __future__ import annotations

import json
from typing import Any

from .clock import settlement_day
from .context import Context, deferred
from .errors import Json
from .events import emit
from .money import convert
from .settings import PAYOUT_SPEED, SLOWEST

_DAY = 86400
RESERVED = "connect_reserved_funds"


def post(
    ctx: Context,
    *,
    amount: int,
    currency: str,
    type: str,
    category: str,
    source: str,
    fee: int = 0,
    fee_description: str = "Stripe processing fees",
    description: str | None = None,
    available_on: int | None = None,
    exchange_rate: float | None = None,
    payout: str | None = None,
) -> str:
    """Write one balance transaction (signed minor units of the settlement currency); its id."""
    id = ctx.tx.new_id("txn_")
    fees = (
        [
            {
                "amount": fee,
                "application": None,
                "currency": currency,
                "description": fee_description,
                "type": "stripe_fee",
            }
        ]
        if fee
        else []
    )
    ctx.tx.run(
        "INSERT INTO balance_transactions (id, account, created, available_on, currency, amount, fee, net, type, "
        "reporting_category, source, description, exchange_rate, fee_details, payout) "
        "VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
        id,
        ctx.account,
        ctx.time,
        ctx.time if available_on is None else available_on,
        currency,
        amount,
        fee,
        amount - fee,
        type,
        category,
        source,
        description,
        exchange_rate,
        json.dumps(fees),
        payout,
    )
    if available_on is not None and available_on > ctx.now:
        ctx.defer("balance_available", str(available_on), at=available_on)
    if not ctx.on_platform:
        ctx.defer("review_reserve", currency, at=max(available_on or 0, ctx.now))
        if amount > 0:
            schedule_payout(ctx, currency, at=(available_on or 0) - 1)
    return id


def schedule_payout(ctx: Context, currency: str, *, at: float) -> None:
    """Have the account's payout schedule looked at when the first day after both ``at`` and now begins."""
    due = (max(at, ctx.now) // _DAY + 1) * _DAY
    if not ctx.tx.value(
        "SELECT 1 FROM deferred WHERE kind = 'automatic_payout' AND subject = ? AND account = ? AND due_at = ?",
        currency,
        ctx.account,
        due,
    ):
        ctx.defer("automatic_payout", currency, at=due)


def available(ctx: Context, currency: str) -> int:
    """What can be paid out or transferred now, minor units of ``currency``."""
    return int(
        ctx.tx.value(
            "SELECT coalesce(sum(net), 0) FROM balance_transactions WHERE account = ? AND currency = ? "
            "AND available_on <= ?",
            ctx.account,
            currency,
            ctx.now,
        )
    )


def settled(ctx: Context, amount: int, currency: str) -> tuple[int, str, float | None]:
    """``amount`` in the currency it settles in at today's rate: minor units, currency, rate if converted."""
    target = ctx.settings.tariff.settlement(currency)
    if target == currency:
        return amount, currency, None
    rate = ctx.rates.between(currency, target, ctx.now)
    return convert(amount, currency, target, rate), target, round(float(rate), 8)


def availability(ctx: Context) -> int:
    """When money charged now becomes available, epoch seconds: by the account's country."""
    days, business_days = PAYOUT_SPEED.get(ctx.settings.country, SLOWEST)
    return settlement_day(ctx.now, days=days, business_days=business_days)


def show(ctx: Context, row: Any) -> Json:
    """A balance transaction as its response; whether it is available depends on the clock alone."""
    return {
        "id": row["id"],
        "object": "balance_transaction",
        "amount": row["amount"],
        "available_on": row["available_on"],
        "balance_type": "payments",
        "created": row["created"],
        "currency": row["currency"],
        "description": row["description"],
        "exchange_rate": row["exchange_rate"],
        "fee": row["fee"],
        "fee_details": json.loads(row["fee_details"]),
        "net": row["net"],
        "reporting_category": row["reporting_category"],
        "source": row["source"],
        "status": "available" if row["available_on"] <= ctx.now else "pending",
        "type": row["type"],
    }


def find(ctx: Context, id: str) -> Json | None:
    """A balance transaction of this account."""
    rows = ctx.tx.rows("SELECT * FROM balance_transactions WHERE id = ? AND account = ?", id, ctx.account)
    return show(ctx, rows[0]) if rows else None


def balance(ctx: Context) -> Json:
    """The balance object: sums of net, apart for available and pending, by currency, and what of it is held back."""
    sums = ctx.tx.rows(
        "SELECT currency, sum(CASE WHEN available_on <= ? THEN net ELSE 0 END) AS available, "
        "sum(CASE WHEN available_on > ? THEN net ELSE 0 END) AS pending, "
        "sum(CASE WHEN reporting_category = ? THEN -net ELSE 0 END) AS reserved "
        "FROM balance_transactions WHERE account = ? GROUP BY currency ORDER BY currency",
        ctx.now,
        ctx.now,
        RESERVED,
        ctx.account,
    )
    found = {row["currency"]: row for row in sums}
    home = ctx.settings.tariff.native[0]
    currencies = sorted({home, *found})

    def amounts(part: str) -> list[Json]:
        return [_amount(found[currency][part] if currency in found else 0, currency) for currency in currencies]

    return {
        "object": "balance",
        "available": amounts("available"),
        "connect_reserved": amounts("reserved"),
        "livemode": False,
        "pending": amounts("pending"),
    }


def _amount(amount: int, currency: str) -> Json:
    return {"amount": amount, "currency": currency, "source_types": {"card": amount}}


@deferred("balance_available")
def _announce(ctx: Context, due: str) -> None:
    """Tell once per account and day that pending money has become available."""
    ctx.tx.run(
        "DELETE FROM deferred WHERE kind = 'balance_available' AND subject = ? AND account = ?", due, ctx.account
    )
    emit(ctx, "balance.available", balance(ctx))
