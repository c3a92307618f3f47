"""Money in and money back."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

from backoffice.core.money import Money
from backoffice.payments.policies.seen import SeenPayment, SeenRefund, SeenSetup


class MoneyIn(Protocol):
    def pay(
        self,
        *,
        amount: Money,
        payment_method: str,
        reference: str,
        group: str,
        key: str,
        return_url: str,
        capture: bool = True,
        customer_id: str = "",
        off_session: bool = False,
    ) -> SeenPayment:
        """Create a payment and try it with this card. A decline is an answer (`requires_payment` with `error_code`).

        With `capture` False the amount is only authorised. The card is kept for later charges, under a customer that bears
        our reference unless `customer_id` names one. `off_session`: the guest is away and cannot prove who they are."""
        ...

    def try_again(
        self, *, payment_id: str, payment_method: str, key: str, return_url: str, off_session: bool = False
    ) -> SeenPayment:
        """Try an existing payment with another card, or with the same one again."""
        ...

    def save_card(self, *, payment_method: str, reference: str, group: str, key: str, return_url: str) -> SeenSetup:
        """Make a card ready to be charged later while the guest is away; the bank may ask the guest now."""
        ...

    def card_setup(self, *, setup_id: str) -> SeenSetup:
        """The present state of a card being made ready."""
        ...

    def find_setup(self, *, reference: str, since: datetime) -> SeenSetup | None:
        """The last attempt to make a card ready that carries our code, among those made since then."""
        ...

    def capture(self, *, payment_id: str, key: str, amount: Money | None = None) -> SeenPayment:
        """Take an authorised payment: all of it, or `amount` of it, once; the rest is let go."""
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
        """Cancel a payment that has not been captured; what was authorised is let go."""
        ...

    def refund(self, *, charge_id: str, amount: Money, reference: str, key: str) -> SeenRefund:
        """Send money back to the card it came from."""
        ...

    def refund_state(self, *, refund_id: str) -> SeenRefund:
        """The refund's present state."""
        ...
