"""The test cards, by their tokens: what the issuer behind each of them does.

Source of the list: Stripe's testing page. Raw card numbers are refused, as Stripe refuses them by default.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .errors import ApiError, missing_resource

Authentication = Literal["none", "always", "until_set_up", "only_on_session"]
RefundOutcome = Literal["succeeds", "pending", "fails"]
DisputePlan = Literal["fraudulent", "not_received", "inquiry", "several"]


@dataclass(frozen=True)
class Decline:
    """A refusal by the issuer, as it appears in the error and on the failed charge."""

    code: str
    message: str
    decline_code: str | None = None
    network_code: str | None = None
    advice: str | None = None


@dataclass(frozen=True)
class Card:
    """One test card."""

    last4: str
    brand: str = "visa"
    country: str = "US"
    funding: str = "credit"
    decline: Decline | None = None
    authentication: Authentication = "none"
    refund: RefundOutcome = "succeeds"
    bypass_pending: bool = False
    risk: str = "normal"
    blocked: bool = False
    dispute: DisputePlan | None = None
    fraud_warning: bool = False


def _declined(
    decline_code: str,
    message: str = "Your card was declined.",
    *,
    network_code: str = "05",
    advice: str = "try_again_later",
) -> Decline:
    return Decline("card_declined", message, decline_code, network_code, advice)


GENERIC = _declined("generic_decline", network_code="01")
INSUFFICIENT_FUNDS = _declined("insufficient_funds", "Your card has insufficient funds.", network_code="51")
FRAUDULENT = _declined("fraudulent", advice="do_not_try_again")
AUTHENTICATION_REQUIRED = Decline(
    "authentication_required", "Your card was declined. This transaction requires authentication.",
    "authentication_required",
)  # fmt: skip
PROCESSING_ERROR = Decline(
    "processing_error", "An error occurred while processing your card. Try again in a little bit.", "processing_error"
)

CARDS: dict[str, Card] = {
    "pm_card_visa": Card("4242"),
    "pm_card_visa_debit": Card("5556", funding="debit"),
    "pm_card_mastercard": Card("4444", brand="mastercard"),
    "pm_card_mastercard_debit": Card("8210", brand="mastercard", funding="debit"),
    "pm_card_amex": Card("8431", brand="amex"),
    "pm_card_discover": Card("9424", brand="discover"),
    "pm_card_us": Card("4242"),
    "pm_card_de": Card("0003", country="DE"),
    "pm_card_fr": Card("0003", country="FR"),
    "pm_card_gb": Card("0000", country="GB"),
    "pm_card_sg": Card("0003", country="SG"),
    "pm_card_jp": Card("0003", country="JP"),
    "pm_card_visa_chargeDeclined": Card("0002", decline=GENERIC),
    "pm_card_chargeDeclined": Card("0002", decline=GENERIC),
    "pm_card_visa_chargeDeclinedInsufficientFunds": Card("9995", decline=INSUFFICIENT_FUNDS),
    "pm_card_chargeDeclinedInsufficientFunds": Card("9995", decline=INSUFFICIENT_FUNDS),
    "pm_card_visa_chargeDeclinedLostCard": Card("9987", decline=_declined("lost_card", advice="do_not_try_again")),
    "pm_card_visa_chargeDeclinedStolenCard": Card("9979", decline=_declined("stolen_card", advice="do_not_try_again")),
    "pm_card_visa_chargeDeclinedVelocityLimitExceeded": Card(
        "6975",
        decline=_declined(
            "card_velocity_exceeded",
            "Your card has been declined for making repeated attempts too frequently or exceeding its amount limit.",
        ),
    ),
    "pm_card_chargeDeclinedExpiredCard": Card(
        "0069", decline=Decline("expired_card", "Your card has expired.", "expired_card", "54", "do_not_try_again")
    ),
    "pm_card_chargeDeclinedIncorrectCvc": Card(
        "0127", decline=Decline("incorrect_cvc", "Your card's security code is incorrect.", "incorrect_cvc", "82")
    ),
    "pm_card_chargeDeclinedProcessingError": Card("0119", decline=PROCESSING_ERROR),
    "pm_card_chargeCustomerFail": Card("0341", decline=GENERIC),
    "pm_card_chargeDeclinedFraudulent": Card("0019", decline=FRAUDULENT, risk="highest", blocked=True),
    "pm_card_radarBlock": Card("0019", decline=FRAUDULENT, risk="highest", blocked=True),
    "pm_card_riskLevelHighest": Card("4954", decline=FRAUDULENT, risk="highest", blocked=True),
    "pm_card_riskLevelElevated": Card("9235", risk="elevated"),
    "pm_card_authenticationRequired": Card("3184", authentication="always"),
    "pm_card_authenticationRequiredOnSetup": Card("3155", authentication="until_set_up"),
    "pm_card_authenticationRequiredSetupForOffSession": Card("0446", authentication="only_on_session"),
    "pm_card_threeDSecure2Required": Card("3220", authentication="always"),
    "pm_card_threeDSecureRequired": Card("3220", authentication="always"),
    "pm_card_threeDSecureRequiredChargeDeclined": Card("1629", authentication="always", decline=GENERIC),
    "pm_card_threeDSecureRequiredProcessingError": Card("1280", authentication="always", decline=PROCESSING_ERROR),
    "pm_card_authenticationRequiredChargeDeclinedInsufficientFunds": Card(
        "3178", authentication="always", decline=INSUFFICIENT_FUNDS
    ),
    "pm_card_pendingRefund": Card("7726", refund="pending"),
    "pm_card_refundFail": Card("5126", refund="fails"),
    "pm_card_createDispute": Card("0259", dispute="fraudulent"),
    "pm_card_createDisputeProductNotReceived": Card("2685", dispute="not_received"),
    "pm_card_createDisputeInquiry": Card("1976", dispute="inquiry"),
    "pm_card_createMultipleDisputes": Card("0079", dispute="several"),
    "pm_card_createIssuerFraudRecord": Card("5423", fraud_warning=True),
    "pm_card_bypassPending": Card("0077", bypass_pending=True),
    "pm_card_bypassPendingInternational": Card("0278", bypass_pending=True, country="GB"),
}


def by_token(token: str) -> Card:
    """The card behind a test token; ApiError 404 for an unknown one."""
    name = token.replace("tok_", "pm_card_", 1) if token.startswith("tok_") else token
    if name not in CARDS:
        raise missing_resource("PaymentMethod", token, param="payment_method")
    return CARDS[name]


def is_token(id: str) -> bool:
    """Whether an id is a test token rather than a stored PaymentMethod."""
    return id in CARDS


def refuse_number() -> ApiError:
    """What Stripe answers to a raw card number."""
    return ApiError(
        402,
        "Sending credit card numbers directly to the Stripe API is generally unsafe. We suggest you use test tokens "
        "that map to the test card you are using, see https://stripe.com/docs/testing.",
    )
