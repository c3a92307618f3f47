"""What Staydesk needs of a payment provider, in Staydesk's words. A second provider is one more module like `stripe`.

Every method that changes something takes our idempotency key: calling again with the same key has no second effect.
Methods raise ProviderError (the answer is no, nothing happened), Indeterminate (it may have happened; the same key will
tell) or UpstreamUnavailable (it did not happen; repeat it).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Protocol

from backoffice.core.money import Money
from backoffice.payments.policies.seen import SeenBalanceTransaction, SeenEvent, SeenPayment, SeenRefund


class Gateway(Protocol):
    name: str

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

    def balance_transactions(
        self, *, since: datetime, until: datetime | None = None
    ) -> Iterator[SeenBalanceTransaction]:
        """Every movement created in [since, until), newest first, page by page."""
        ...

    def balance(self) -> Mapping[str, Money]:
        """Currency -> what the provider holds for us, pending and available together."""
        ...

    def events(self, *, since: datetime) -> Iterator[SeenEvent]:
        """Events created since then, newest first."""
        ...

    def read_webhook(self, *, payload: bytes, signature: str, now: datetime) -> SeenEvent:
        """Check the signature and read the event. Raises Invalid (field `signature` or `payload`)."""
        ...

    def ping(self) -> str:
        """Ask something harmless; returns the provider's API version."""
        ...
