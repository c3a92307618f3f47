"""SetupIntents: a card made ready for later, so that it can be charged while the guest is away.

``requires_payment_method → requires_confirmation → requires_action → succeeded``; the card then belongs to the customer
and counts as set up, which spares it most challenges when it is charged off session.
"""

from __future__ import annotations

from .cards import Card
from .context import Context
from .errors import ApiError, Json
from .events import emit
from .intents import AUTHENTICATION_FAILED, next_action, use_method
from .methods import card_of, hand_over, resolve
from .store import Record, token

CONFIRMABLE = ("requires_payment_method", "requires_confirmation", "requires_action")


def create(ctx: Context, fields: Json) -> Record:
    """A new intent with ``fields`` over the defaults of a fresh one."""
    id = ctx.tx.new_id("seti_")
    doc: Json = {
        "id": id,
        "object": "setup_intent",
        "application": None,
        "automatic_payment_methods": {"allow_redirects": "always", "enabled": True},
        "cancellation_reason": None,
        "client_secret": f"{id}_secret_{token(ctx.settings.seed, id, length=25)}",
        "created": ctx.time,
        "customer": None,
        "customer_account": None,
        "description": None,
        "excluded_payment_method_types": None,
        "flow_directions": None,
        "last_setup_error": None,
        "latest_attempt": None,
        "livemode": False,
        "mandate": None,
        "metadata": {},
        "next_action": None,
        "on_behalf_of": None,
        "payment_method": None,
        "payment_method_options": {"card": {"mandate_options": None, "network": None,
                                            "request_three_d_secure": "automatic"}},
        "payment_method_types": ["card"],
        "single_use_mandate": None,
        "status": "requires_payment_method",
        "usage": "off_session",
        **fields,
    }  # fmt: skip
    if doc["payment_method"] is not None:
        doc["status"] = "requires_confirmation"
    record = ctx.add("setup_intent", doc)
    emit(ctx, "setup_intent.created", doc)
    return record


def confirm(ctx: Context, intent: Record, *, return_url: str | None, use_sdk: bool) -> Record:
    """Ask the issuer. ApiError 402 when it declines (what that left behind is kept), 400 when the status forbids it."""
    doc = intent.doc
    if doc["status"] not in CONFIRMABLE:
        raise unexpected_state(
            intent, f"You cannot confirm this SetupIntent because it has a status of {doc['status']}."
        )
    if doc["payment_method"] is None:
        raise unexpected_state(intent, "You cannot confirm this SetupIntent because it's missing a payment method.")
    automatic = doc["automatic_payment_methods"]
    if automatic["enabled"] and automatic["allow_redirects"] == "always" and not return_url:
        raise ApiError(
            400,
            "This SetupIntent is configured to accept payment methods enabled in your Dashboard. Because some of these "
            "payment methods might redirect your customer off of your page, you must provide a `return_url`.",
        )
    method = use_method(ctx, doc["payment_method"], doc["customer"])
    card = card_of(method)
    doc.update(last_setup_error=None, next_action=None, latest_attempt=ctx.tx.new_id("setatt_"))
    if card.authentication != "none":
        doc.update(status="requires_action", next_action=next_action(ctx, intent, return_url, use_sdk))
        ctx.tx.save(intent)
        emit(ctx, "setup_intent.requires_action", doc)
        return intent
    return _finish(ctx, intent, method, card)


def authenticate(ctx: Context, intent: Record, *, success: bool) -> Record:
    """The guest has finished the challenge. ApiError 402 with what it left behind kept when it failed."""
    if intent.doc["status"] != "requires_action":
        raise unexpected_state(
            intent, f"This SetupIntent has a status of {intent.doc['status']}: no challenge is open."
        )
    method = resolve(ctx, intent.doc["payment_method"])
    intent.doc["next_action"] = None
    if not success:
        raise _failed(ctx, intent, ApiError(
            402, AUTHENTICATION_FAILED.replace("PaymentIntent", "SetupIntent"),
            code="setup_intent_authentication_failure", payment_method=method.doc, keep_writes=True,
        ))  # fmt: skip
    return _finish(ctx, intent, method, card_of(method))


def cancel(ctx: Context, intent: Record, reason: str | None) -> Record:
    """Give up an intent that has not succeeded."""
    if intent.doc["status"] not in CONFIRMABLE:
        raise unexpected_state(
            intent, f"You cannot cancel this SetupIntent because it has a status of {intent.doc['status']}."
        )
    intent.doc.update(status="canceled", cancellation_reason=reason, next_action=None)
    ctx.tx.save(intent)
    emit(ctx, "setup_intent.canceled", intent.doc)
    return intent


def unexpected_state(intent: Record, message: str) -> ApiError:
    """400 ``setup_intent_unexpected_state``."""
    return ApiError(400, message, code="setup_intent_unexpected_state")


def _finish(ctx: Context, intent: Record, method: Record, card: Card) -> Record:
    doc = intent.doc
    if card.decline is not None and card.last4 != "0341":  # that one is taken now and declined when it is charged
        raise _failed(ctx, intent, ApiError(
            402, card.decline.message, type="card_error", code=card.decline.code,
            decline_code=card.decline.decline_code, payment_method=method.doc, keep_writes=True,
        ))  # fmt: skip
    method.private["set_up"] = doc["usage"] == "off_session"
    ctx.tx.save(method)
    if doc["customer"] and method.doc["customer"] is None:
        hand_over(ctx, method, doc["customer"])
    doc.update(status="succeeded", payment_method=method.id)
    ctx.tx.save(intent)
    emit(ctx, "setup_intent.succeeded", doc)
    return intent


def _failed(ctx: Context, intent: Record, error: ApiError) -> ApiError:
    intent.doc.update(
        status="requires_payment_method", payment_method=None, next_action=None, last_setup_error=dict(error.error)
    )
    ctx.tx.save(intent)
    emit(ctx, "setup_intent.setup_failed", intent.doc)
    return error
