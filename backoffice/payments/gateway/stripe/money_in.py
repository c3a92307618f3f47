"""Money in and money back: payment intents and refunds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from backoffice.core.money import Money
from backoffice.payments.gateway.stripe.calls import Calls, CardDeclined, call, id_of, read
from backoffice.payments.policies.seen import PaymentStatus, RefundStatus, SeenPayment, SeenRefund

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


class MoneyIn(Calls):
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
        return _payment(read(lambda: self._client.v1.payment_intents.retrieve(payment_id)).to_dict())

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
    status = _PAYMENT[row["status"]]
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
    )


def _refund(row: Mapping[str, Any]) -> SeenRefund:
    return SeenRefund(
        id=row["id"],
        status=_REFUND[row["status"]],
        amount=Money(row["amount"], row["currency"].upper()),
        charge_id=id_of(row.get("charge")),
        reference=(row.get("metadata") or {}).get("refund", ""),
        failure_reason=row.get("failure_reason") or "",
    )
