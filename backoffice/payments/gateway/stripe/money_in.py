"""Money in and money back: payment intents and refunds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any, Final, cast

from backoffice.core.errors import ProviderError
from backoffice.core.money import Money
from backoffice.payments.gateway.stripe.calls import Calls, CardDeclined, call, id_of, instant, read, word_of
from backoffice.payments.policies.seen import (
    PaymentStatus,
    RefundStatus,
    SeenPayment,
    SeenRefund,
    SeenSetup,
    SetupStatus,
)

_PAYMENT: Final[Mapping[str, PaymentStatus]] = {
    "requires_payment_method": "requires_payment",
    "requires_confirmation": "requires_payment",
    "requires_action": "requires_action",
    "processing": "processing",
    "requires_capture": "authorised",
    "succeeded": "captured",
    "canceled": "cancelled",
}
_SETUP: Final[Mapping[str, SetupStatus]] = {
    "requires_payment_method": "requires_payment",
    "requires_confirmation": "requires_payment",
    "requires_action": "requires_action",
    "processing": "processing",
    "succeeded": "saved",
    "canceled": "cancelled",
}
_REFUND: Final[Mapping[str, RefundStatus]] = {
    "pending": "pending",
    "requires_action": "requires_action",
    "succeeded": "succeeded",
    "failed": "failed",
    "canceled": "cancelled",
}


class MoneyIn(Calls):
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
        customer = customer_id or self._customer(reference, group, key)
        params: dict[str, Any] = {
            "amount": amount.amount,
            "currency": amount.currency.lower(),
            "customer": customer,
            "payment_method": payment_method,
            "confirm": True,
            "automatic_payment_methods": {"enabled": True},
            "return_url": return_url,
            "metadata": {"payment": reference, "booking": group},
            "transfer_group": group,
            "description": f"Stay {group}",
            "expand": ["latest_charge"],
        }
        if not capture:
            params["capture_method"] = "manual"
        if off_session:
            params["off_session"] = True
        else:
            params["setup_future_usage"] = "off_session"
        return self._attempt(
            lambda: self._client.v1.payment_intents.create(cast(Any, params), {"idempotency_key": key})
        )

    def try_again(
        self, *, payment_id: str, payment_method: str, key: str, return_url: str, off_session: bool = False
    ) -> SeenPayment:
        params: dict[str, Any] = {
            "payment_method": payment_method,
            "return_url": return_url,
            "expand": ["latest_charge"],
        }
        if off_session:
            params["off_session"] = True
        return self._attempt(
            lambda: self._client.v1.payment_intents.confirm(payment_id, cast(Any, params), {"idempotency_key": key})
        )

    def save_card(self, *, payment_method: str, reference: str, group: str, key: str, return_url: str) -> SeenSetup:
        customer = self._customer(reference, group, key)
        try:
            made = call(
                lambda: self._client.v1.setup_intents.create(
                    {
                        "customer": customer,
                        "payment_method": payment_method,
                        "confirm": True,
                        "usage": "off_session",
                        "automatic_payment_methods": {"enabled": True},
                        "return_url": return_url,
                        "metadata": {"payment": reference, "booking": group},
                        "description": f"Card for stay {group}",
                    },
                    {"idempotency_key": key},
                )
            )
        except CardDeclined as declined:
            return replace(_setup(declined.intent), error_code=declined.code, error_message=declined.message)
        except ProviderError:
            # A declined card leaves its set-up behind with the reason, whether the answer shows it or not.
            rows = self.pages(self._client.v1.setup_intents.list, {"customer": customer, "limit": 1})
            left = next((_setup(row) for row in rows), None)
            if left is None or not left.error_code:
                raise
            return left
        return _setup(made.to_dict())

    def card_setup(self, *, setup_id: str) -> SeenSetup:
        return _setup(read(lambda: self._client.v1.setup_intents.retrieve(setup_id)).to_dict())

    def find_setup(self, *, reference: str, since: datetime) -> SeenSetup | None:
        params: dict[str, Any] = {"created": {"gte": int(since.timestamp())}, "limit": 100}
        for row in self.pages(self._client.v1.setup_intents.list, params):
            if (row.get("metadata") or {}).get("payment") == reference:
                return _setup(row)
        return None

    def capture(self, *, payment_id: str, key: str, amount: Money | None = None) -> SeenPayment:
        params: dict[str, Any] = {"expand": ["latest_charge"]}
        if amount is not None:
            params["amount_to_capture"] = amount.amount
        return _payment(
            call(
                lambda: self._client.v1.payment_intents.capture(payment_id, cast(Any, params), {"idempotency_key": key})
            ).to_dict()
        )

    def payment(self, *, payment_id: str) -> SeenPayment:
        return _payment(
            read(lambda: self._client.v1.payment_intents.retrieve(payment_id, {"expand": ["latest_charge"]})).to_dict()
        )

    def find_payment(self, *, reference: str, since: datetime) -> SeenPayment | None:
        params: dict[str, Any] = {"created": {"gte": int(since.timestamp())}, "limit": 100}
        for row in self.pages(self._client.v1.payment_intents.list, params):
            if row["metadata"].get("payment") == reference:
                return _payment(row)
        return None

    def find_refund(self, *, charge_id: str, reference: str) -> SeenRefund | None:
        for row in self.pages(self._client.v1.refunds.list, {"charge": charge_id, "limit": 100}):
            if row["metadata"].get("refund") == reference:
                return _refund(row)
        return None

    def cancel_payment(self, *, payment_id: str, key: str) -> SeenPayment:
        return _payment(
            call(lambda: self._client.v1.payment_intents.cancel(payment_id, {}, {"idempotency_key": key})).to_dict()
        )

    def refund(self, *, charge_id: str, amount: Money, reference: str, key: str) -> SeenRefund:
        made = call(
            lambda: self._client.v1.refunds.create(
                {"charge": charge_id, "amount": amount.amount, "metadata": {"refund": reference}},
                {"idempotency_key": key},
            )
        )
        return _refund(made.to_dict())

    def refund_state(self, *, refund_id: str) -> SeenRefund:
        return _refund(read(lambda: self._client.v1.refunds.retrieve(refund_id)).to_dict())

    def _customer(self, reference: str, group: str, key: str) -> str:
        """Whose card it is, for later charges: one a try, without personal data. Its key follows the try's, so that the
        try repeated finds it again and another try is not met by a failure saved under this one's."""
        made = call(
            lambda: self._client.v1.customers.create(
                {"metadata": {"payment": reference, "booking": group}, "description": f"Stay {group}"},
                {"idempotency_key": f"{key}:customer"},
            )
        )
        return made.id

    def _attempt(self, ask: Callable[[], Any]) -> SeenPayment:
        try:
            return _payment(call(ask).to_dict())
        except CardDeclined as declined:
            return replace(
                _payment(declined.intent), charge_id="", error_code=declined.code, error_message=declined.message
            )


def _payment(row: Mapping[str, Any]) -> SeenPayment:
    error = row.get("last_payment_error") or {}
    action = row.get("next_action") or {}
    charge = row.get("latest_charge")
    currency = row["currency"].upper()
    status = word_of(row, _PAYMENT)
    return SeenPayment(
        id=row["id"],
        status=status,
        amount=Money(row["amount"], currency),
        reference=(row.get("metadata") or {}).get("payment", ""),
        # A declined attempt leaves a charge too; only that of a payment that holds money is kept.
        charge_id=id_of(charge) if status in {"captured", "authorised"} else "",
        error_code=error.get("decline_code") or error.get("code") or "",
        error_message=error.get("message") or "",
        next_action_url=(action.get("redirect_to_url") or {}).get("url") or "",
        taken=Money(row.get("amount_received") or 0, currency),
        capture_before=_capture_before(charge),
        customer_id=id_of(row.get("customer")),
        payment_method=id_of(row.get("payment_method")),
    )


def _capture_before(charge: Any) -> datetime | None:
    """Until when an authorisation can be captured; only an expanded charge of one says so."""
    if not isinstance(charge, Mapping):
        return None
    card = (charge.get("payment_method_details") or {}).get("card") or {}
    return instant(card["capture_before"]) if card.get("capture_before") else None


def _setup(row: Mapping[str, Any]) -> SeenSetup:
    error = row.get("last_setup_error") or {}
    action = row.get("next_action") or {}
    return SeenSetup(
        id=row["id"],
        status=word_of(row, _SETUP),
        reference=(row.get("metadata") or {}).get("payment", ""),
        customer_id=id_of(row.get("customer")),
        payment_method=id_of(row.get("payment_method")),
        error_code=error.get("decline_code") or error.get("code") or "",
        error_message=error.get("message") or "",
        next_action_url=(action.get("redirect_to_url") or {}).get("url") or "",
    )


def _refund(row: Mapping[str, Any]) -> SeenRefund:
    return SeenRefund(
        id=row["id"],
        status=word_of(row, _REFUND),
        amount=Money(row["amount"], row["currency"].upper()),
        charge_id=id_of(row.get("charge")),
        reference=(row.get("metadata") or {}).get("refund", ""),
        failure_reason=row.get("failure_reason") or "",
    )
