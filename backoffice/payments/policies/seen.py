"""What the provider shows of its objects, in our words: facts that operations record and posting rules read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from backoffice.core.money import Money

PaymentStatus = Literal["requires_payment", "requires_action", "processing", "authorised", "captured", "cancelled"]
SetupStatus = Literal["requires_payment", "requires_action", "processing", "saved", "cancelled"]
RefundStatus = Literal["pending", "requires_action", "succeeded", "failed", "cancelled"]
# What an event may be about; "" for what says nothing to us.
About = Literal["payment", "setup", "refund", "transfer", "bank_payout", "account", "dispute", "fraud_warning", ""]


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenPayment:
    """A payment as the provider has it now. `reference` is the code of our payment or extra charge; `error_code` the last
    decline. `taken` is what was captured; an authorisation not captured by `capture_before` is let go there.
    `customer_id` and `payment_method` name the card that it was made with, where it was kept for later charges."""

    id: str
    status: PaymentStatus
    amount: Money
    reference: str = ""
    charge_id: str = ""
    error_code: str = ""
    error_message: str = ""
    next_action_url: str = ""
    taken: Money | None = None
    capture_before: datetime | None = None
    customer_id: str = ""
    payment_method: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenSetup:
    """A card being made ready for later charges, as the provider has it now; no money moves. `reference` is our payment's
    code."""

    id: str
    status: SetupStatus
    reference: str = ""
    customer_id: str = ""
    payment_method: str = ""
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
class SeenTransfer:
    """A transfer to a host's account as the provider has it now. `reference` is our payout's code, `group` the booking's,
    `reversed_amount` what of it has been taken back."""

    id: str
    amount: Money
    reversed_amount: Money
    account: str
    reference: str = ""
    charge_id: str = ""
    group: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenReversal:
    """Money that was taken back from a host's account. `reference` is our clawback's code."""

    id: str
    amount: Money
    transfer_id: str
    reference: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenBalanceTransaction:
    """One movement of our balance there; `amount`, `fee` and `net` are of one currency, net = amount - fee.

    `source_reference` is our code from the source's metadata, where it has one; `presented` the source's own amount in its
    own currency, which differs where the provider converted. `disputed_charge` is the charge that a dispute is of,
    `network` the card network that carried a charge; `booking`, `host` and `account` are whose transfer it was."""

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
    presented: Money | None = None
    exchange_rate: str = ""
    fee_details: tuple[Mapping[str, Any], ...] = field(default_factory=tuple)
    payout_id: str = ""
    disputed_charge: str = ""
    network: str = ""
    booking: str = ""
    host: str = ""
    account: str = ""


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
