"""Charges: the attempt on a card, its capture or release, and the balance transactions it leaves."""

from __future__ import annotations

from . import balance
from .cards import Card, Decline
from .context import Context, deferred
from .errors import Json
from .events import changes, emit
from .money import convert
from .refunding import new_refund
from .store import Record, token

DESCRIPTOR = "STAYDESK"


def charge(
    ctx: Context,
    intent: Record,
    method: Record,
    card: Card,
    *,
    decline: Decline | None = None,
    authenticated: bool = False,
) -> Record:
    """Attempt a card: a succeeded charge (captured unless the intent captures by hand) or a failed one."""
    asked = intent.doc
    captured = decline is None and asked["capture_method"] != "manual"
    id = ctx.tx.new_id("ch_")
    descriptor = DESCRIPTOR + (
        f"* {asked['statement_descriptor_suffix']}" if asked["statement_descriptor_suffix"] else ""
    )
    record = ctx.add("charge", {
        "id": id,
        "object": "charge",
        "amount": asked["amount"],
        "amount_captured": asked["amount"] if captured else 0,
        "amount_refunded": 0,
        "application": None,
        "application_fee": None,
        "application_fee_amount": None,
        "balance_transaction": None,
        "billing_details": method.doc["billing_details"],
        "calculated_statement_descriptor": descriptor[:22],
        "captured": captured,
        "created": ctx.time,
        "currency": asked["currency"],
        "customer": asked["customer"],
        "description": asked["description"],
        "disputed": False,
        "failure_balance_transaction": None,
        "failure_code": decline.code if decline else None,
        "failure_message": decline.message if decline else None,
        "fraud_details": {},
        "livemode": False,
        "metadata": asked["metadata"],
        "on_behalf_of": asked["on_behalf_of"],
        "outcome": _outcome(ctx, id, card, decline),
        "paid": decline is None,
        "payment_intent": intent.id,
        "payment_method": method.id,
        "payment_method_details": {"type": "card", "card": _card_details(ctx, intent, method, card, authenticated)},
        "radar_options": {},
        "receipt_email": asked["receipt_email"],
        "receipt_number": None,
        "receipt_url": None if decline else f"{ctx.settings.base_url}/_sim/objects/{id}",
        "refunded": False,
        "review": None,
        "shipping": asked["shipping"],
        "source_transfer": None,
        "statement_descriptor": asked["statement_descriptor"],
        "statement_descriptor_suffix": asked["statement_descriptor_suffix"],
        "status": "failed" if decline else "succeeded",
        "transfer_data": None,
        "transfer_group": asked["transfer_group"],
    }, {"card": method.private["token"], "bypass_pending": card.bypass_pending, "refund": card.refund,
        "dispute": card.dispute, "fraud_warning": card.fraud_warning})  # fmt: skip
    if captured and asked["capture_method"] == "automatic_async":
        ctx.defer("settle_charge", id, at=ctx.now + ctx.settings.async_seconds)
    elif captured:
        settle(ctx, record)
    return record


def capture(ctx: Context, charge: Record, amount: int) -> None:
    """Take ``amount`` of an authorised charge. Less than all leaves two balance transactions: the full charge and a
    refund of the rest with reporting category ``partial_capture_reversal``."""
    charge.doc.update(captured=True, amount_captured=amount)
    settle(ctx, charge)
    rest = charge.doc["amount"] - amount
    if rest:
        refund = new_refund(ctx, charge, amount=rest, reason=None, destination="reversal")
        gross = ctx.tx.value("SELECT amount FROM balance_transactions WHERE id = ?", charge.doc["balance_transaction"])
        currency = ctx.settings.tariff.settlement(charge.doc["currency"])
        rate = ctx.rates.between(charge.doc["currency"], currency, ctx.now)
        kept = convert(amount, charge.doc["currency"], currency, rate)
        refund.doc["balance_transaction"] = balance.post(
            ctx, amount=kept - gross, currency=currency, type="refund", category="partial_capture_reversal",
            source=refund.id, description="PARTIAL CAPTURE REVERSAL", available_on=_available_on(ctx, charge),
            exchange_rate=None if currency == charge.doc["currency"] else round(float(rate), 8),
        )  # fmt: skip
        ctx.tx.save(refund)
        charge.doc["amount_refunded"] = rest
    ctx.tx.save(charge)
    emit(ctx, "charge.captured", charge.doc)


def release(ctx: Context, charge: Record, *, event: str) -> None:
    """Give an authorised amount back to the guest; no money has moved, so no balance transaction is written."""
    reason = "expired_uncaptured_charge" if event == "charge.expired" else None
    new_refund(ctx, charge, amount=charge.doc["amount"], reason=reason, destination="reversal")
    charge.doc.update(amount_refunded=charge.doc["amount"], refunded=True)
    ctx.tx.save(charge)
    emit(ctx, event, charge.doc)


def settle(ctx: Context, charge: Record) -> None:
    """Write the balance transaction of a captured charge: amount at today's rate, fee by the tariff."""
    doc = charge.doc
    amount, currency, rate = balance.settled(ctx, doc["amount"], doc["currency"])
    taken, _, _ = balance.settled(ctx, doc["amount_captured"], doc["currency"])
    doc["balance_transaction"] = balance.post(
        ctx, amount=amount, currency=currency, type="charge", category="charge", source=charge.id,
        fee=ctx.settings.tariff.fee(taken, currency), description=doc["description"],
        available_on=_available_on(ctx, charge), exchange_rate=rate,
    )  # fmt: skip
    ctx.tx.save(charge)
    if charge.private.get("dispute"):
        ctx.defer("open_disputes", charge.id, at=ctx.now)
    if charge.private.get("fraud_warning"):
        ctx.defer("warn_of_fraud", charge.id, at=ctx.now)


def settle_now(ctx: Context, charge: Record) -> None:
    """Write the balance transaction that ``automatic_async`` still owes, and tell: ``charge.updated``."""
    if charge.doc["captured"] and charge.doc["balance_transaction"] is None:
        before = dict(charge.doc)
        settle(ctx, charge)
        emit(ctx, "charge.updated", charge.doc, changes(before, charge.doc))


@deferred("settle_charge")
def _settle_later(ctx: Context, charge_id: str) -> None:
    settle_now(ctx, ctx.load("charge", charge_id))


def _available_on(ctx: Context, charge: Record) -> int:
    return ctx.time if charge.private.get("bypass_pending") else balance.availability(ctx)


def _outcome(ctx: Context, id: str, card: Card, decline: Decline | None) -> Json:
    score = {"normal": 10, "elevated": 65, "highest": 85}[card.risk] + int(ctx.tx.chance("risk", id) * 10)
    outcome: Json = {
        "advice_code": None,
        "network_advice_code": None,
        "network_decline_code": None,
        "network_status": "approved_by_network",
        "reason": "elevated_risk_level" if card.risk == "elevated" else None,
        "risk_level": card.risk,
        "risk_score": score,
        "seller_message": "Payment complete.",
        "type": "authorized",
    }
    if card.blocked:
        outcome.update(
            network_status="not_sent_to_network",
            reason="highest_risk_level",
            type="blocked",
            seller_message="Stripe blocked this payment as too risky.",
        )
    elif decline is not None:
        outcome.update(
            advice_code=decline.advice, network_decline_code=decline.network_code,
            network_status="declined_by_network", reason=decline.decline_code, type="issuer_declined",
            seller_message=f"The bank returned the decline code `{decline.decline_code}`.",
        )  # fmt: skip
    return outcome


def _card_details(ctx: Context, intent: Record, method: Record, card: Card, authenticated: bool) -> Json:
    shown = method.doc["card"]
    details: Json = {
        "amount_authorized": intent.doc["amount"],
        "authorization_code": None if card.decline else f"{int(ctx.tx.chance('code', intent.id) * 10**6):06d}",
        "brand": card.brand,
        "checks": {"address_line1_check": None, "address_postal_code_check": None, "cvc_check": "pass"},
        "country": card.country,
        "exp_month": shown["exp_month"],
        "exp_year": shown["exp_year"],
        "extended_authorization": {"status": "disabled"},
        "fingerprint": shown["fingerprint"],
        "funding": card.funding,
        "incremental_authorization": {"status": "unavailable"},
        "installments": None,
        "last4": card.last4,
        "mandate": None,
        "multicapture": {"status": "unavailable"},
        "network": card.brand,
        "network_token": {"used": False},
        "network_transaction_id": token("network", intent.id, length=15),
        "overcapture": {"maximum_amount_capturable": intent.doc["amount"], "status": "unavailable"},
        "regulated_status": "unregulated",
        "three_d_secure": _three_d_secure(intent) if authenticated else None,
        "wallet": None,
    }
    if intent.doc["capture_method"] == "manual":
        details["capture_before"] = ctx.time + int(ctx.settings.authorisation_days * 86400)
    return details


def _three_d_secure(intent: Record) -> Json:
    return {
        "authentication_flow": "challenge",
        "electronic_commerce_indicator": "05",
        "exemption_indicator": None,
        "result": "authenticated",
        "result_reason": None,
        "transaction_id": token("3ds", intent.id, length=36).lower(),
        "version": "2.2.0",
    }
