"""What Staydesk needs of a payment provider, in Staydesk's words. A second provider is one more module like `stripe`.

Every method that changes something takes our idempotency key: calling again with the same key has no second effect.
Methods raise ProviderError (the answer is no, nothing happened), Indeterminate (it may have happened; the same key will
tell) or UpstreamUnavailable (it did not happen; repeat it).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, Protocol

from backoffice.core.money import Money

PaymentStatus = Literal["requires_payment", "requires_action", "processing", "authorised", "captured", "cancelled"]
RefundStatus = Literal["pending", "requires_action", "succeeded", "failed", "cancelled"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenPayment:
    """A payment as the provider has it now. `reference` is our payment's code; `error_code` the last decline."""

    id: str
    status: PaymentStatus
    amount: Money
    reference: str = ""
    charge_id: str = ""
    error_code: str = ""
    error_message: str = ""
    next_action_url: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenRefund:
    """A refund as the provider has it now. `reference` is our refund's code."""

    id: str
    status: RefundStatus
    amount: Money
    charge_id: str = ""
    reference: str = ""
    failure_reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenBalanceTransaction:
    """One movement of our balance there; `amount`, `fee` and `net` are of one currency, net = amount - fee.

    `source_reference` is our code from the source's metadata, where it has one."""

    id: str
    type: str
    reporting_category: str
    source_id: str
    source_reference: str
    amount: Money
    fee: Money
    net: Money
    created: datetime
    available_on: datetime
    exchange_rate: str = ""
    fee_details: tuple[Mapping[str, Any], ...] = field(default_factory=tuple)
    payout_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenEvent:
    """A webhook or a polled event. `payload` is what came, byte for byte."""

    id: str
    type: str
    object_id: str
    account: str
    created: datetime
    livemode: bool
    payload: bytes


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
