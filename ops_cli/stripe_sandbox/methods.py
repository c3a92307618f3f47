"""Payment methods as payments use them: from a test token to a card that is spent, or kept with a customer."""

from __future__ import annotations

from .cards import Card, by_token, is_token
from .context import Context
from .errors import ApiError, Json, missing_resource
from .events import emit
from .params import ADDRESS, Field, Group, Text
from .shapes import complete
from .store import Record, token

BILLING: dict[str, Field] = {
    "address": Group(fields=ADDRESS, clearable=True),
    "email": Text(clearable=True),
    "name": Text(clearable=True),
    "phone": Text(clearable=True),
    "tax_id": Text(),
}


def resolve(ctx: Context, id: str, *, status: int = 400) -> Record:
    """The stored method, or a new one for a test token; ApiError ``resource_missing`` with ``status`` otherwise."""
    if is_token(id):
        return make(ctx, id)
    record = ctx.tx.find("payment_method", id, account=ctx.account)
    if record is None:
        error = missing_resource("PaymentMethod", id, param="payment_method")
        error.status = status
        raise error
    return record


def card_of(method: Record) -> Card:
    """How the issuer of this card behaves."""
    return by_token(method.private["token"])


def attach(ctx: Context, method: Record, customer: str) -> Record:
    """Give a method to a customer; ApiError when it was used up, is another's, or the issuer declines the check."""
    if method.doc["customer"] == customer:
        return method
    if method.doc["customer"] is not None:
        raise ApiError(400, "The payment method you provided has already been attached to a customer.")
    refuse_spent(method)
    card = card_of(method)
    if card.decline and card.authentication == "none" and card.last4 != "0341":
        raise ApiError(
            402, card.decline.message, type="card_error", code=card.decline.code, decline_code=card.decline.decline_code
        )
    return hand_over(ctx, method, customer)


def hand_over(ctx: Context, method: Record, customer: str) -> Record:
    """Attach without asking the issuer: what a payment with ``setup_future_usage`` has proved already."""
    method.doc["customer"] = customer
    ctx.tx.save(method)
    emit(ctx, "payment_method.attached", method.doc)
    return method


def refuse_spent(method: Record) -> None:
    """ApiError 400 for a method that was used once without a customer, or detached."""
    if method.private.get("spent"):
        raise ApiError(
            400,
            "The provided PaymentMethod was previously used with a PaymentIntent without Customer attachment, shared "
            "with a connected account without Customer attachment, or was detached from a Customer. It may not be "
            "used again. To use a PaymentMethod multiple times, you must attach it to a Customer first.",
            param="payment_method",
        )


def billing_details(given: Json | None = None) -> Json:
    """Billing details with every key a response shows."""
    given = given or {}
    details = {name: given.get(name) for name in BILLING}
    details["address"] = complete("address", given.get("address") or {})
    return details


def make(ctx: Context, test_token: str) -> Record:
    """A new method for the card behind a test token."""
    card = by_token(test_token)
    return ctx.add(
        "payment_method",
        {
            "id": ctx.tx.new_id("pm_"),
            "object": "payment_method",
            "allow_redisplay": "unspecified",
            "billing_details": billing_details(),
            "card": {
                "brand": card.brand,
                "checks": {"address_line1_check": None, "address_postal_code_check": None, "cvc_check": None},
                "country": card.country,
                "display_brand": card.brand,
                "exp_month": 12,
                "exp_year": 2034,
                "fingerprint": token("fingerprint", card.brand, card.last4, length=16),
                "funding": card.funding,
                "generated_from": None,
                "last4": card.last4,
                "networks": {"available": [card.brand], "preferred": None},
                "regulated_status": "unregulated",
                "three_d_secure_usage": {"supported": True},
                "wallet": None,
            },
            "created": ctx.time,
            "customer": None,
            "customer_account": None,
            "livemode": False,
            "metadata": {},
            "type": "card",
        },
        {"token": test_token},
    )
