"""Transfers: money of the platform to a connected account, and back again by reversals."""

from __future__ import annotations

from fractions import Fraction

from . import accounts, balance
from .charging import settle_now
from .context import Context
from .errors import ApiError, Json, missing_resource
from .events import changes, emit
from .money import convert, half_up, shown
from .store import Record

INSUFFICIENT = (
    "You have insufficient available funds in your Stripe account. Try adding funds directly to your available balance "
    "by creating Charges using the 4000000000000077 test card. See: https://stripe.com/docs/testing#available-balance"
)


def transfer(
    ctx: Context,
    *,
    amount: int | None,
    currency: str,
    destination: str,
    source: str | None,
    group: str | None,
    description: str | None,
    metadata: dict[str, str],
) -> Record:
    """Move ``amount`` (minor units) to a connected account.

    With ``source`` (a charge) it never lacks funds, becomes available when the charge does, and all transfers of one
    charge together cannot exceed it. Without, it draws on the available balance. ApiError 400 otherwise.
    """
    host = _destination(ctx, destination)
    charge = _source(ctx, source, currency) if source is not None else None
    limit = _left_of(ctx, charge) if charge is not None else None
    moved = limit if amount is None and limit is not None else amount
    if moved is None:
        raise ApiError(400, "Missing required param: amount.", code="parameter_missing", param="amount")
    if moved < 1:
        raise ApiError(400, "This value must be greater than or equal to 1.", code="parameter_invalid_integer",
                       param="amount")  # fmt: skip
    if limit is not None and moved > limit:
        raise _exceeds(str(source), moved, limit, currency)
    if charge is None and moved > balance.available(ctx, currency):
        raise ApiError(400, INSUFFICIENT, code="balance_insufficient")
    available_on = ctx.time if charge is None else max(ctx.time, _available_on(ctx, charge))
    if charge is not None:
        group = group or charge.doc["transfer_group"] or f"group_{charge.doc['payment_intent']}"
        charge.doc["transfer_group"] = charge.doc["transfer_group"] or group
        ctx.tx.save(charge)
    id = ctx.tx.new_id("tr_")
    record = ctx.add("transfer", {
        "id": id,
        "object": "transfer",
        "amount": moved,
        "amount_reversed": 0,
        "balance_transaction": None,
        "created": ctx.time,
        "currency": currency,
        "description": description,
        "destination": host.id,
        "destination_payment": None,
        "livemode": False,
        "metadata": metadata,
        "reversals": {"object": "list", "data": [], "has_more": False, "url": f"/v1/transfers/{id}/reversals"},
        "reversed": False,
        "source_transaction": source,
        "source_type": "card",
        "transfer_group": group,
    })  # fmt: skip
    record.doc["balance_transaction"] = balance.post(
        ctx, amount=-moved, currency=currency, type="transfer", category="transfer", source=id,
        description=description, available_on=available_on,
    )  # fmt: skip
    record.doc["destination_payment"] = _receive(ctx.within(host.id), host, record, available_on).id
    ctx.tx.save(record)
    emit(ctx, "transfer.created", record.doc)
    return record


def reverse(
    ctx: Context, record: Record, *, amount: int | None, description: str | None, metadata: dict[str, str]
) -> Record:
    """Take ``amount`` back (all that is left by default). ApiError 400 for more than is left, or than the host has."""
    doc = record.doc
    left = doc["amount"] - doc["amount_reversed"]
    if left == 0:
        raise ApiError(400, f"The transfer {record.id} is already fully reversed.", param="id")
    back = left if amount is None else amount
    if back > left:
        raise ApiError(
            400,
            f"The amount requested ({shown(back, doc['currency'])}) is larger than the unreversed amount "
            f"({shown(left, doc['currency'])}) of the transfer.",
            param="amount",
        )
    host = ctx.within(doc["destination"])
    payment = host.load("charge", doc["destination_payment"])
    received, currency = payment.private["received"], payment.private["currency"]
    share = half_up(Fraction(back * received, doc["amount"]))
    if share > balance.available(host, currency):
        raise ApiError(
            400,
            f"The transfer {record.id} cannot be reversed: the available balance of account {host.account} is "
            "insufficient to cover the reversal.",
            code="balance_insufficient",
        )
    reversal = ctx.add("transfer_reversal", {
        "id": ctx.tx.new_id("trr_"),
        "object": "transfer_reversal",
        "amount": back,
        "balance_transaction": None,
        "created": ctx.time,
        "currency": doc["currency"],
        "destination_payment_refund": None,
        "metadata": metadata,
        "source_refund": None,
        "transfer": record.id,
    })  # fmt: skip
    reversal.doc["balance_transaction"] = balance.post(
        ctx, amount=back, currency=doc["currency"], type="transfer_refund", category="transfer_reversal",
        source=reversal.id, description=description,
    )  # fmt: skip
    reversal.doc["destination_payment_refund"] = _give_back(host, payment, reversal, share, currency)
    ctx.tx.save(reversal)
    doc["amount_reversed"] += back
    doc["reversed"] = doc["amount_reversed"] == doc["amount"]
    doc["reversals"]["data"] = [reversal.doc, *doc["reversals"]["data"]][:10]
    ctx.tx.save(record)
    emit(ctx, "transfer.reversed", doc)
    return reversal


def _destination(ctx: Context, id: str) -> Record:
    host = ctx.tx.find("account", id, account=ctx.settings.platform)
    if host is None:
        error = missing_resource("destination", id, param="destination")
        error.status = 400
        raise error
    if host.doc["capabilities"].get("transfers") != "active":
        raise ApiError(
            400,
            "Your destination account needs to have at least one of the following capabilities enabled: transfers, "
            "crypto_transfers, legacy_payments",
            code="insufficient_capabilities_for_transfer",
        )
    return host


def _source(ctx: Context, id: str, currency: str) -> Record:
    charge = ctx.tx.find("charge", id, account=ctx.account)
    if charge is None:
        raise missing_resource("charge", id, param="source_transaction")
    if not charge.doc["captured"]:
        raise ApiError(
            400, f"The charge {id} has not been captured; it cannot be the source of a transfer.",
            param="source_transaction",
        )  # fmt: skip
    settle_now(ctx, charge)
    settled_in = (balance.find(ctx, charge.doc["balance_transaction"]) or {}).get("currency", currency)
    if settled_in != currency:
        raise ApiError(
            400,
            f"The currency of source_transaction's balance transaction ({settled_in}) must be the same as the transfer "
            f"currency ({currency})",
            param="currency",
        )
    return charge


def _left_of(ctx: Context, charge: Record) -> int:
    """What of a charge's settled amount no transfer has taken yet; what was reversed can be taken again."""
    settled = balance.find(ctx, charge.doc["balance_transaction"]) or {"amount": 0}
    uncaptured = ctx.tx.value(
        "SELECT coalesce(sum(amount), 0) FROM balance_transactions WHERE reporting_category = "
        "'partial_capture_reversal' AND source IN (SELECT id FROM objects WHERE kind = 'refund' "
        "AND doc ->> '$.charge' = ?)",
        charge.id,
    )
    taken = ctx.tx.value(
        "SELECT coalesce(sum(doc ->> '$.amount' - doc ->> '$.amount_reversed'), 0) FROM objects "
        "WHERE kind = 'transfer' AND doc ->> '$.source_transaction' = ?",
        charge.id,
    )
    return int(settled["amount"] + uncaptured - taken)


def _exceeds(source: str, moved: int, left: int, currency: str) -> ApiError:
    return ApiError(
        400,
        f"Transfers using this transaction as a source must not exceed the source amount: {shown(moved, currency)} was "
        f"asked for, {shown(left, currency)} of {source} is left.",
        param="amount",
    )


def _available_on(ctx: Context, charge: Record) -> int:
    return int((balance.find(ctx, charge.doc["balance_transaction"]) or {"available_on": ctx.time})["available_on"])


def _receive(host: Context, owner: Record, transfer: Record, available_on: int) -> Record:
    """The payment (``py_``) that arrives on the connected account, in a currency that account holds."""
    doc = transfer.doc
    amount, currency, rate = doc["amount"], doc["currency"], None
    if currency not in accounts.holds(host, owner):
        target = owner.doc["default_currency"]
        exact = host.rates.between(currency, target, host.now)
        amount, rate, currency = convert(amount, currency, target, exact), round(float(exact), 8), target
    payment = host.add("charge", _payment(host, transfer), {"received": amount, "currency": currency})
    payment.doc["balance_transaction"] = balance.post(
        host, amount=amount, currency=currency, type="payment", category="charge", source=payment.id,
        description=doc["description"], available_on=available_on, exchange_rate=rate,
    )  # fmt: skip
    host.tx.save(payment)
    emit(host, "payment.created", payment.doc)
    return payment


def _give_back(host: Context, payment: Record, reversal: Record, amount: int, currency: str) -> str:
    id = host.tx.new_id("pyr_")
    refund = host.add("refund", {
        "id": id, "object": "refund", "amount": reversal.doc["amount"], "balance_transaction": None,
        "charge": payment.id, "created": host.time, "currency": reversal.doc["currency"], "metadata": {},
        "payment_intent": None, "reason": None, "receipt_number": None, "source_transfer_reversal": reversal.id,
        "status": "succeeded", "transfer_reversal": None,
    })  # fmt: skip
    refund.doc["balance_transaction"] = balance.post(
        host, amount=-amount, currency=currency, type="payment_refund", category="refund", source=id,
        description="REFUND FOR PAYMENT",
    )  # fmt: skip
    host.tx.save(refund)
    before = dict(payment.doc)
    total = payment.doc["amount_refunded"] + reversal.doc["amount"]
    payment.doc.update(amount_refunded=total, refunded=total == payment.doc["amount"])
    host.tx.save(payment)
    emit(host, "charge.refunded", payment.doc, changes(before, payment.doc))
    return id


def _payment(host: Context, transfer: Record) -> Json:
    doc = transfer.doc
    blank = dict.fromkeys((
        "application", "application_fee", "application_fee_amount", "balance_transaction",
        "calculated_statement_descriptor", "customer", "failure_balance_transaction", "failure_code",
        "failure_message", "on_behalf_of", "outcome", "payment_intent", "payment_method", "receipt_email",
        "receipt_number", "receipt_url", "review", "shipping", "statement_descriptor", "statement_descriptor_suffix",
        "transfer_data",
    ))  # fmt: skip
    return {
        "id": host.tx.new_id("py_"),
        "object": "charge",
        **blank,
        "amount": doc["amount"],
        "amount_captured": doc["amount"],
        "amount_refunded": 0,
        "billing_details": {"address": dict.fromkeys(("city", "country", "line1", "line2", "postal_code", "state")),
                            "email": None, "name": None, "phone": None, "tax_id": None},
        "captured": True,
        "created": host.time,
        "currency": doc["currency"],
        "description": doc["description"],
        "disputed": False,
        "fraud_details": {},
        "livemode": False,
        "metadata": {},
        "paid": True,
        "payment_method_details": {"type": "stripe_account"},
        "radar_options": {},
        "refunded": False,
        "source_transfer": transfer.id,
        "status": "succeeded",
        "transfer_group": doc["transfer_group"],
    }  # fmt: skip
