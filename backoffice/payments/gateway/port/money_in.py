"""Money in and money back."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

from backoffice.core.money import Money
from backoffice.payments.policies.seen import SeenPayment, SeenRefund


class MoneyIn(Protocol):
    def pay(
        self, *, amount: Money, payment_method: str, reference: str, group: str, key: str, return_url: str
    ) -> SeenPayment:
        """Create a payment and try it with this card. A decline is an answer (`requires_payment` with `error_code`)."""
        ...

    def try_again(self, *, payment_id: str, payment_method: str, key: str, return_url: str) -> SeenPayment:
        """Try an existing payment with another card."""
        ...

    def payment(self, *, payment_id: str) -> SeenPayment:
        """The payment's present state."""
        ...

    def find_payment(self, *, reference: str, since: datetime) -> SeenPayment | None:
        """The payment that carries our code, among those made since then; None: our call was never carried out."""
        ...

    def find_refund(self, *, charge_id: str, reference: str) -> SeenRefund | None:
        """The refund of a charge that carries our code; None: our call was never carried out."""
        ...

    def cancel_payment(self, *, payment_id: str, key: str) -> SeenPayment:
        """Cancel a payment that has not been captured."""
        ...

    def refund(self, *, charge_id: str, amount: Money, reference: str, key: str) -> SeenRefund:
        """Send money back to the card it came from."""
        ...

    def refund_state(self, *, refund_id: str) -> SeenRefund:
        """The refund's present state."""
        ...
