"""The life of a PaymentIntent: from asking for a method to succeeded, cancelled or waiting for capture.

``requires_payment_method → requires_confirmation → requires_action → succeeded | requires_capture``; a failed attempt
leads back to ``requires_payment_method`` and leaves its charge behind.
"""

from __future__ import annotations

from typing import Any

from . import charging
from .cards import AUTHENTICATION_REQUIRED, Card, Decline
from .context import Context, deferred
from .errors import ApiError, Json
from .events import emit
from .methods import card_of, hand_over, refuse_spent, resolve
from .store import Record, token

CONFIRMABLE = ("requires_payment_method", "requires_confirmation", "requires_action")
CANCELABLE = ("requires_payment_method", "requires_capture", "requires_confirmation", "requires_action", "processing")
AUTHENTICATION_FAILED = (
    "The provided PaymentMethod has failed authentication. You can provide payment_method_data or a new PaymentMethod "
    "to attempt to fulfill this PaymentIntent again."
)


def create(ctx: Context, fields: Json) -> Record:
    """A new intent with ``fields`` over the defaults of a fresh one."""
    id = ctx.tx.new_id("pi_")
    doc: Json = {
        "id": id,
        "object": "payment_intent",
        "allowed_payment_method_types": None,
        "amount": 0,
        "amount_capturable": 0,
        "amount_received": 0,
        "application": None,
        "application_fee_amount": None,
        "automatic_payment_methods": {"allow_redirects": "always", "enabled": True},
        "canceled_at": None,
        "cancellation_reason": None,
        "capture_method": "automatic_async",
        "client_secret": f"{id}_secret_{token(ctx.settings.seed, id, length=25)}",
        "confirmation_method": "automatic",
        "created": ctx.time,
        "currency": "",
        "customer": None,
        "customer_account": None,
        "description": None,
        "excluded_payment_method_types": None,
        "last_payment_error": None,
        "latest_charge": None,
        "livemode": False,
        "metadata": {},
        "next_action": None,
        "on_behalf_of": None,
        "payment_method": None,
        "payment_method_options": {"card": {"installments": None, "mandate_options": None, "network": None,
                                            "request_three_d_secure": "automatic"}},
        "payment_method_types": ["card"],
        "payment_record": None,
        "processing": None,
        "receipt_email": None,
        "review": None,
        "setup_future_usage": None,
        "shipping": None,
        "statement_descriptor": None,
        "statement_descriptor_suffix": None,
        "status": "requires_payment_method",
        "transfer_data": None,
        "transfer_group": None,
        **fields,
    }  # fmt: skip
    if doc["payment_method"] is not None:
        doc["status"] = "requires_confirmation"
    record = ctx.add("payment_intent", doc)
    emit(ctx, "payment_intent.created", doc)
    return record


def use_method(ctx: Context, id: str, customer: str | None) -> Record:
    """The payment method an intent may use; ApiError 400 when it is used up or belongs to someone else."""
    method = resolve(ctx, id)
    refuse_spent(method)
    owner = method.doc["customer"]
    if owner is not None and customer is None:
        raise ApiError(
            400,
            f"The PaymentMethod you provided ({method.id}) is attached to a Customer, so its Customer "
            f"({owner}) must be provided too.",
            param="payment_method",
        )
    if owner is not None and owner != customer:
        raise ApiError(
            400,
            f"The customer does not have a payment method with the ID {method.id}. The payment method "
            "must be attached to the customer.",
            param="payment_method",
        )
    return method


def confirm(
    ctx: Context,
    intent: Record,
    *,
    off_session: bool = False,
    return_url: str | None = None,
    fail_on_action: bool = False,
    use_sdk: bool = False,
) -> Record:
    """Attempt the payment. ApiError 402 when it fails (what it left behind is kept), 400 when the status forbids it."""
    doc = intent.doc
    if doc["status"] not in CONFIRMABLE:
        reason = (
            "it has already succeeded after being previously confirmed"
            if doc["status"] == "succeeded"
            else f"it has a status of {doc['status']}"
        )
        raise unexpected_state(intent, f"You cannot confirm this PaymentIntent because {reason}.")
    if doc["payment_method"] is None:
        raise unexpected_state(
            intent,
            "You cannot confirm this PaymentIntent because it's missing a payment method. You can either update the "
            "PaymentIntent with a payment method and then confirm it again, or confirm it again directly with a "
            "payment method or ConfirmationToken.",
        )
    method = resolve(ctx, doc["payment_method"])
    card = card_of(method)
    _refuse_what_cards_cannot(intent, return_url)
    doc.update(last_payment_error=None, next_action=None)
    if _must_authenticate(intent, method, card, off_session):
        if off_session or fail_on_action:
            raise _failed(ctx, intent, method, card, AUTHENTICATION_REQUIRED)
        return _ask_guest(ctx, intent, return_url, use_sdk)
    return _charge(ctx, intent, method, card, authenticated=False)


def authenticate(ctx: Context, intent: Record, *, success: bool) -> Record:
    """The guest has finished the challenge. Declines raise ApiError 402 with what they left behind kept."""
    doc = intent.doc
    if doc["status"] != "requires_action":
        raise unexpected_state(intent, f"This PaymentIntent has a status of {doc['status']}: no challenge is open.")
    method = resolve(ctx, doc["payment_method"])
    doc["next_action"] = None
    if not success:
        error = ApiError(
            402,
            AUTHENTICATION_FAILED,
            code="payment_intent_authentication_failure",
            payment_method=method.doc,
            keep_writes=True,
        )
        _back_to_method(ctx, intent, error)
        raise error
    return _charge(ctx, intent, method, card_of(method), authenticated=True)


def capture(ctx: Context, intent: Record, *, amount: int | None) -> Record:
    """Take an authorised amount, all of it unless told less; the rest is released."""
    doc = intent.doc
    if doc["status"] != "requires_capture":
        raise unexpected_state(
            intent,
            f"This PaymentIntent could not be captured because it has a status of {doc['status']}. Only a "
            "PaymentIntent with one of the following statuses may be captured: requires_capture.",
        )
    taken = doc["amount_capturable"] if amount is None else amount
    if taken > doc["amount_capturable"]:
        raise ApiError(
            400,
            f"The requested capture amount is greater than the amount you can capture for this charge. "
            f"Amount capturable: {doc['amount_capturable']}.",
            code="amount_too_large",
            param="amount_to_capture",
        )
    charge = ctx.load("charge", doc["latest_charge"])
    charging.capture(ctx, charge, taken)
    doc.update(amount_capturable=0, amount_received=taken, status="succeeded")
    ctx.tx.save(intent)
    emit(ctx, "payment_intent.succeeded", doc)
    return intent


def cancel(ctx: Context, intent: Record, reason: str | None, *, event: str = "charge.refunded") -> Record:
    """Give up the intent; an authorisation is released to the guest."""
    doc = intent.doc
    if doc["status"] not in CANCELABLE:
        raise unexpected_state(
            intent,
            f"You cannot cancel this PaymentIntent because it has a status of {doc['status']}. Only a PaymentIntent "
            f"with one of the following statuses may be canceled: {', '.join(CANCELABLE)}.",
        )
    if doc["status"] == "requires_capture":
        charging.release(ctx, ctx.load("charge", doc["latest_charge"]), event=event)
    doc.update(
        status="canceled", canceled_at=ctx.time, cancellation_reason=reason, amount_capturable=0, next_action=None
    )
    ctx.tx.save(intent)
    emit(ctx, "payment_intent.canceled", doc)
    return intent


def unexpected_state(intent: Record, message: str) -> ApiError:
    """400 ``payment_intent_unexpected_state`` with the intent inside."""
    return ApiError(400, message, code="payment_intent_unexpected_state", payment_intent=intent.doc)


@deferred("expire_authorisation")
def _expire(ctx: Context, intent_id: str) -> None:
    intent = ctx.load("payment_intent", intent_id)
    if intent.doc["status"] == "requires_capture":
        cancel(ctx, intent, "expired", event="charge.expired")


def _refuse_what_cards_cannot(intent: Record, return_url: str | None) -> None:
    doc = intent.doc
    automatic = doc["automatic_payment_methods"]
    if automatic and automatic["enabled"] and automatic["allow_redirects"] == "always" and not return_url:
        raise ApiError(
            400,
            "This PaymentIntent is configured to accept payment methods enabled in your Dashboard. Because some of "
            "these payment methods might redirect your customer off of your page, you must provide a `return_url`. If "
            "you don't want to accept redirect-based payment methods, set `automatic_payment_methods[enabled]` to "
            "`true` and `automatic_payment_methods[allow_redirects]` to `never` when creating Setup Intents and "
            "Payment Intents.",
            payment_intent=doc,
        )
    if doc["statement_descriptor"] is not None:
        raise ApiError(
            400,
            "The `statement_descriptor` parameter is not supported for card charges. Use "
            "`statement_descriptor_suffix` instead.",
            param="statement_descriptor",
            payment_intent=doc,
        )
    if "card" not in doc["payment_method_types"]:
        raise ApiError(
            400,
            "The PaymentMethod provided (card) is not allowed for this PaymentIntent.",
            param="payment_method",
            payment_intent=doc,
        )


def _must_authenticate(intent: Record, method: Record, card: Card, off_session: bool) -> bool:
    options = (intent.doc["payment_method_options"] or {}).get("card") or {}
    if options.get("request_three_d_secure") in ("any", "challenge") and not off_session:
        return True
    if card.authentication == "until_set_up":
        return not (off_session and method.private.get("set_up"))
    if card.authentication == "only_on_session":
        return not off_session
    return card.authentication == "always"


def next_action(ctx: Context, intent: Record, return_url: str | None, use_sdk: bool) -> Json:
    """Where the guest proves who they are: the sandbox's page, by redirect or left to the browser library."""
    page = f"{ctx.settings.base_url}/_sim/3ds/{intent.id}?client_secret={intent.doc['client_secret']}"
    if return_url and not use_sdk:
        return {"type": "redirect_to_url", "redirect_to_url": {"return_url": return_url, "url": page}}
    return {"type": "use_stripe_sdk", "use_stripe_sdk": {"type": "three_d_secure_redirect", "stripe_js": page}}


def _ask_guest(ctx: Context, intent: Record, return_url: str | None, use_sdk: bool) -> Record:
    intent.doc.update(status="requires_action", next_action=next_action(ctx, intent, return_url, use_sdk))
    ctx.tx.save(intent)
    emit(ctx, "payment_intent.requires_action", intent.doc)
    return intent


def _charge(ctx: Context, intent: Record, method: Record, card: Card, *, authenticated: bool) -> Record:
    if card.decline is not None:
        raise _failed(ctx, intent, method, card, card.decline, authenticated=authenticated)
    doc = intent.doc
    manual = doc["capture_method"] == "manual"
    charge = charging.charge(ctx, intent, method, card, authenticated=authenticated)
    doc["latest_charge"] = charge.id
    if manual:
        doc.update(status="requires_capture", amount_capturable=doc["amount"])
        ctx.defer("expire_authorisation", intent.id, at=ctx.now + ctx.settings.authorisation_days * 86400)
    else:
        doc.update(status="succeeded", amount_received=doc["amount"])
    ctx.tx.save(intent)
    _after_use(ctx, intent, method)
    emit(ctx, "charge.succeeded", charge.doc)
    emit(ctx, "payment_intent.amount_capturable_updated" if manual else "payment_intent.succeeded", doc)
    return intent


def _after_use(ctx: Context, intent: Record, method: Record) -> None:
    """A method without a customer is spent; one meant for later use is kept with the customer."""
    usage, customer = intent.doc["setup_future_usage"], intent.doc["customer"]
    method.private["set_up"] = method.private.get("set_up") or usage == "off_session"
    if method.doc["customer"] is None:
        if usage and customer:
            hand_over(ctx, method, customer)
        else:
            method.private["spent"] = True
    ctx.tx.save(method)


def _failed(
    ctx: Context, intent: Record, method: Record, card: Card, decline: Decline, *, authenticated: bool = False
) -> ApiError:
    charge = charging.charge(ctx, intent, method, card, decline=decline, authenticated=authenticated)
    intent.doc["latest_charge"] = charge.id
    emit(ctx, "charge.failed", charge.doc)
    facts: dict[str, Any] = {
        "charge": charge.id,
        "decline_code": decline.decline_code,
        "advice_code": decline.advice,
        "network_decline_code": decline.network_code,
        "payment_method": method.doc,
    }
    error = ApiError(402, decline.message, type="card_error", code=decline.code, keep_writes=True, **facts)
    _back_to_method(ctx, intent, error)
    return error


def _back_to_method(ctx: Context, intent: Record, error: ApiError) -> None:
    """Record a failed attempt on the intent and put the intent into the error, as Stripe does."""
    intent.doc.update(
        status="requires_payment_method", payment_method=None, next_action=None, last_payment_error=dict(error.error)
    )
    ctx.tx.save(intent)
    emit(ctx, "payment_intent.payment_failed", intent.doc)
    error.error["payment_intent"] = intent.doc
