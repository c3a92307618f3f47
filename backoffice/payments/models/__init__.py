"""Money in, money back, chargebacks, the provider's movements and its webhooks."""

from backoffice.payments.models.chargebacks import Chargeback, EvidenceFile, FraudWarning, new_chargeback_code
from backoffice.payments.models.money_back import Refund, new_refund_code
from backoffice.payments.models.money_in import (
    PARTS,
    ExtraCharge,
    Payment,
    PaymentAttempt,
    new_charge_code,
    new_payment_code,
)
from backoffice.payments.models.movements import BalanceTransaction, WebhookEvent

__all__ = [
    "PARTS",
    "BalanceTransaction",
    "Chargeback",
    "EvidenceFile",
    "ExtraCharge",
    "FraudWarning",
    "Payment",
    "PaymentAttempt",
    "Refund",
    "WebhookEvent",
    "new_charge_code",
    "new_chargeback_code",
    "new_payment_code",
    "new_refund_code",
]
