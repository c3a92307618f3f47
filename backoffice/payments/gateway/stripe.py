"""Stripe, through its official SDK. Facts about its behaviour: https://docs.stripe.com/api, version of the SDK's pin."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from typing import Any, Final, TypeVar

import stripe as sdk
from django.conf import settings

from backoffice.core import clock
from backoffice.core.errors import Indeterminate, Invalid, ProviderError, StaydeskError, UpstreamUnavailable
from backoffice.core.money import Money
from backoffice.payments.policies.seen import (
    PaymentStatus,
    RefundStatus,
    SeenBalanceTransaction,
    SeenEvent,
    SeenPayment,
    SeenRefund,
)

# Stripe signs with its clock; five minutes either way is its own default tolerance for the past. Its SDK accepts any
# future instant, we do not.
TOLERANCE: Final = timedelta(minutes=5)
CONNECT_SECONDS: Final = 3
RETRIES: Final = 2

_PAYMENT: Final[Mapping[str, PaymentStatus]] = {
    "requires_payment_method": "requires_payment",
    "requires_confirmation": "requires_payment",
    "requires_action": "requires_action",
    "processing": "processing",
    "requires_capture": "authorised",
    "succeeded": "captured",
    "canceled": "cancelled",
}
_REFUND: Final[Mapping[str, RefundStatus]] = {
    "pending": "pending",
    "requires_action": "requires_action",
    "succeeded": "succeeded",
    "failed": "failed",
    "canceled": "cancelled",
}
T = TypeVar("T")


class StripeGateway:
    name = "stripe"

    def __init__(self, *, api_key: str, base: str, secrets: list[str], read_seconds: float) -> None:
        sdk.enable_telemetry = False
        self._client = sdk.StripeClient(
            api_key,
            base_addresses={"api": base, "files": base, "connect": base, "meter_events": base},
            max_network_retries=RETRIES,
            http_client=sdk.RequestsClient(timeout=(CONNECT_SECONDS, read_seconds)),
        )
        self._secrets = secrets

    def pay(
        self, *, amount: Money, payment_method: str, reference: str, group: str, key: str, return_url: str
    ) -> SeenPayment:
        return self._attempt(
            lambda: self._client.v1.payment_intents.create(
                {
                    "amount": amount.amount,
                    "currency": amount.currency.lower(),
                    "payment_method": payment_method,
                    "confirm": True,
                    "automatic_payment_methods": {"enabled": True},
                    "return_url": return_url,
                    "metadata": {"payment": reference, "booking": group},
                    "transfer_group": group,
                    "description": f"Stay {group}",
                },
                {"idempotency_key": key},
            )
        )

    def try_again(self, *, payment_id: str, payment_method: str, key: str, return_url: str) -> SeenPayment:
        return self._attempt(
            lambda: self._client.v1.payment_intents.confirm(
                payment_id,
                {"payment_method": payment_method, "return_url": return_url},
                {"idempotency_key": key},
            )
        )

    def payment(self, *, payment_id: str) -> SeenPayment:
        return _payment(_read(lambda: self._client.v1.payment_intents.retrieve(payment_id)).to_dict())

    def find_payment(self, *, reference: str, since: datetime) -> SeenPayment | None:
        params: dict[str, Any] = {"created": {"gte": int(since.timestamp())}, "limit": 100}
        for row in self._pages(self._client.v1.payment_intents.list, params):
            if row["metadata"].get("payment") == reference:
                return _payment(row)
        return None

    def find_refund(self, *, charge_id: str, reference: str) -> SeenRefund | None:
        for row in self._pages(self._client.v1.refunds.list, {"charge": charge_id, "limit": 100}):
            if row["metadata"].get("refund") == reference:
                return _refund(row)
        return None

    def cancel_payment(self, *, payment_id: str, key: str) -> SeenPayment:
        return _payment(
            _call(lambda: self._client.v1.payment_intents.cancel(payment_id, {}, {"idempotency_key": key})).to_dict()
        )

    def refund(self, *, charge_id: str, amount: Money, reference: str, key: str) -> SeenRefund:
        made = _call(
            lambda: self._client.v1.refunds.create(
                {"charge": charge_id, "amount": amount.amount, "metadata": {"refund": reference}},
                {"idempotency_key": key},
            )
        )
        return _refund(made.to_dict())

    def refund_state(self, *, refund_id: str) -> SeenRefund:
        return _refund(_read(lambda: self._client.v1.refunds.retrieve(refund_id)).to_dict())

    def balance_transactions(
        self, *, since: datetime, until: datetime | None = None
    ) -> Iterator[SeenBalanceTransaction]:
        created: dict[str, int] = {"gte": int(since.timestamp())}
        if until is not None:
            created["lt"] = int(until.timestamp())
        params: dict[str, Any] = {"created": created, "limit": 100, "expand": ["data.source"]}
        for row in self._pages(self._client.v1.balance_transactions.list, params):
            yield _balance_transaction(row)

    def balance(self) -> Mapping[str, Money]:
        seen = _read(self._client.v1.balance.retrieve).to_dict()
        totals: dict[str, Money] = {}
        for row in (*seen["available"], *seen["pending"]):
            currency = row["currency"].upper()
            totals[currency] = totals.get(currency, Money.zero(currency)) + Money(row["amount"], currency)
        return totals

    def events(self, *, since: datetime) -> Iterator[SeenEvent]:
        params: dict[str, Any] = {"created": {"gte": int(since.timestamp())}, "limit": 100}
        for row in self._pages(self._client.v1.events.list, params):
            yield _event(row, json.dumps(row, separators=(",", ":")).encode())

    def read_webhook(self, *, payload: bytes, signature: str, now: datetime) -> SeenEvent:
        # The provider stamps its signatures with the wall clock, also for a desk whose own clock was moved on.
        _check_signature(payload, signature, self._secrets, now - clock.offset())
        try:
            row = json.loads(payload)
            if row["object"] != "event":
                raise KeyError("object")
            return _event(row, payload)
        except (ValueError, KeyError, TypeError):
            raise Invalid("payload: this is not an event of the provider.", field="payload") from None

    def ping(self) -> str:
        _read(self._client.v1.balance.retrieve)
        return str(sdk.api_version)

    def _pages(self, listing: Callable[[Any], Any], params: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """Every row of a list, newest first, asking for the next page when the last one is used up."""
        while True:
            page = _read(partial(listing, params)).to_dict()
            yield from page["data"]
            if not page["has_more"]:
                return
            params = {**params, "starting_after": page["data"][-1]["id"]}

    def _attempt(self, call: Callable[[], Any]) -> SeenPayment:
        try:
            return _payment(_call(call).to_dict())
        except _Declined as declined:
            return declined.seen


class _Declined(Exception):
    """A card was declined: an answer about a payment that exists, not a failure of the call."""

    def __init__(self, seen: SeenPayment) -> None:
        self.seen = seen
        super().__init__(seen.error_code)


def _call(call: Callable[[], T]) -> T:
    """Make one SDK call and translate what it raises into the port's three answers."""
    try:
        return call()
    except sdk.CardError as error:
        intent = getattr(error.error, "payment_intent", None)
        if intent is None:
            raise ProviderError(
                message=error.user_message or "the card was declined", provider_code=error.code
            ) from None
        seen = _payment(intent.to_dict())
        code = getattr(error.error, "decline_code", None) or error.code or "declined"
        raise _Declined(
            SeenPayment(
                id=seen.id,
                status=seen.status,
                amount=seen.amount,
                reference=seen.reference,
                charge_id="",
                error_code=code,
                error_message=error.user_message or "",
            )
        ) from None
    except sdk.RateLimitError:
        raise UpstreamUnavailable(part="The payment provider") from None
    except sdk.APIConnectionError:
        # A refused connection and a lost answer look alike from here; the same key makes the repeat harmless.
        raise Indeterminate() from None
    except sdk.StripeError as error:
        raise _translated(error) from None


def _read(call: Callable[[], T]) -> T:
    """Make a call that changes nothing: an answer that is lost is simply asked for again."""
    try:
        return _call(call)
    except Indeterminate:
        raise UpstreamUnavailable(part="The payment provider") from None


def _translated(error: sdk.StripeError) -> StaydeskError:
    status = error.http_status or 0
    if status >= 500 or status == 409:
        return Indeterminate()
    detail = error.error.message if error.error is not None else str(error)
    code = error.error.code if error.error is not None else None
    return ProviderError(message=detail or "no reason given", provider_code=code)


def _payment(row: Mapping[str, Any]) -> SeenPayment:
    error = row.get("last_payment_error") or {}
    action = row.get("next_action") or {}
    charge = row.get("latest_charge")
    currency = row["currency"].upper()
    status = _PAYMENT[row["status"]]
    return SeenPayment(
        id=row["id"],
        status=status,
        amount=Money(row["amount"], currency),
        reference=(row.get("metadata") or {}).get("payment", ""),
        # A declined attempt leaves a charge too; only that of a payment that holds money is kept.
        charge_id=_id(charge) if status in {"captured", "authorised"} else "",
        error_code=error.get("decline_code") or error.get("code") or "",
        error_message=error.get("message") or "",
        next_action_url=(action.get("redirect_to_url") or {}).get("url") or "",
    )


def _refund(row: Mapping[str, Any]) -> SeenRefund:
    return SeenRefund(
        id=row["id"],
        status=_REFUND[row["status"]],
        amount=Money(row["amount"], row["currency"].upper()),
        charge_id=_id(row.get("charge")),
        reference=(row.get("metadata") or {}).get("refund", ""),
        failure_reason=row.get("failure_reason") or "",
    )


def _balance_transaction(row: Mapping[str, Any]) -> SeenBalanceTransaction:
    currency = row["currency"].upper()
    source = row.get("source")
    metadata = (source.get("metadata") or {}) if isinstance(source, Mapping) else {}
    payout = source["id"] if isinstance(source, Mapping) and source.get("object") == "payout" else ""
    return SeenBalanceTransaction(
        id=row["id"],
        type=row["type"],
        reporting_category=row["reporting_category"],
        source_id=_id(source),
        source_reference=metadata.get("refund") or metadata.get("payment") or "",
        amount=Money(row["amount"], currency),
        fee=Money(row["fee"], currency),
        net=Money(row["net"], currency),
        presented=_presented(row["reporting_category"], source),
        created=_instant(row["created"]),
        available_on=_instant(row["available_on"]),
        exchange_rate=str(row["exchange_rate"]) if row.get("exchange_rate") else "",
        fee_details=tuple(row.get("fee_details") or ()),
        payout_id=payout,
    )


def _presented(category: str, source: Any) -> Money | None:
    """What a charge or refund was for, in the currency the guest saw; of a partial capture, what was not captured."""
    if not isinstance(source, Mapping) or source.get("object") not in {"charge", "refund"}:
        return None
    amount = source["amount"]
    if category == "partial_capture_reversal":
        amount -= source["amount_captured"]
    return Money(amount, source["currency"].upper())


def _event(row: Mapping[str, Any], payload: bytes) -> SeenEvent:
    return SeenEvent(
        id=row["id"],
        type=row["type"],
        object_id=str(row["data"]["object"].get("id") or ""),
        account=row.get("account") or "",
        created=_instant(row["created"]),
        livemode=bool(row["livemode"]),
        payload=payload,
    )


def _id(value: Any) -> str:
    """An id, whether the provider expanded the object or not."""
    if value is None:
        return ""
    return str(value["id"]) if isinstance(value, Mapping) else str(value)


def _instant(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _check_signature(payload: bytes, header: str, secrets: list[str], now: datetime) -> None:
    """`t=…,v1=…[,v1=…]`: HMAC-SHA256 of "t.payload" by any of our secrets (two while one is being rotated), with `t`
    within the tolerance on both sides of our clock."""
    pairs = [part.partition("=") for part in header.split(",")]
    stamps = [value for name, _, value in pairs if name.strip() == "t"]
    given = [value for name, _, value in pairs if name.strip() == "v1"]
    if not stamps or not stamps[0].isdigit() or not given:
        raise Invalid("signature: the Stripe-Signature header is missing or malformed.", field="signature")
    signed = f"{stamps[0]}.".encode() + payload
    expected = [hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest() for secret in secrets]
    if not any(hmac.compare_digest(want.encode(), got.encode()) for want in expected for got in given):
        raise Invalid("signature: it does not match any of our secrets.", field="signature")
    if abs(now.timestamp() - int(stamps[0])) > TOLERANCE.total_seconds():
        raise Invalid("signature: its time is too far from ours.", field="signature")


@cache
def gateway() -> StripeGateway:
    """The configured provider; one client a process."""
    return StripeGateway(
        api_key=settings.STRIPE_API_KEY,
        base=settings.STRIPE_API_BASE,
        secrets=settings.STRIPE_WEBHOOK_SECRETS,
        read_seconds=settings.STRIPE_READ_SECONDS,
    )
