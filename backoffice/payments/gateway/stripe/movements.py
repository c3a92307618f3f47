"""What moved our balance, what happened, and the webhooks that say so."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from backoffice.core import clock
from backoffice.core.errors import Invalid
from backoffice.core.money import Money
from backoffice.payments.gateway.stripe.calls import Calls, id_of, instant, read
from backoffice.payments.policies.seen import About, SeenBalanceTransaction, SeenEvent

# Stripe signs with its clock; five minutes either way is its own default tolerance for the past. Its SDK accepts any
# future instant, we do not.
TOLERANCE: Final = timedelta(minutes=5)
# How the types of events begin.
_ABOUT: Final[Mapping[str, About]] = {
    "payment_intent.": "payment",
    "setup_intent.": "setup",
    "refund.": "refund",
    "transfer.": "transfer",
    "payout.": "bank_payout",
    "account.": "account",
    "charge.dispute.": "dispute",
    "radar.early_fraud_warning.": "fraud_warning",
}


class Movements(Calls):
    _secrets: list[str]

    def balance_transactions(
        self, *, since: datetime, until: datetime | None = None
    ) -> Iterator[SeenBalanceTransaction]:
        created: dict[str, int] = {"gte": int(since.timestamp())}
        if until is not None:
            created["lt"] = int(until.timestamp())
        params: dict[str, Any] = {"created": created, "limit": 100, "expand": ["data.source"]}
        for row in self.pages(self._client.v1.balance_transactions.list, params):
            yield _balance_transaction(row)

    def balance_transaction(self, *, transaction_id: str) -> SeenBalanceTransaction:
        found = read(
            lambda: self._client.v1.balance_transactions.retrieve(transaction_id, params={"expand": ["source"]})
        )
        return _balance_transaction(found.to_dict())

    def balance(self) -> Mapping[str, Money]:
        seen = read(self._client.v1.balance.retrieve).to_dict()
        totals: dict[str, Money] = {}
        for row in (*seen["available"], *seen["pending"]):
            currency = row["currency"].upper()
            totals[currency] = totals.get(currency, Money.zero(currency)) + Money(row["amount"], currency)
        return totals

    def events(self, *, since: datetime) -> Iterator[SeenEvent]:
        params: dict[str, Any] = {"created": {"gte": int(since.timestamp())}, "limit": 100}
        for row in self.pages(self._client.v1.events.list, params):
            yield _event(row, json.dumps(row, separators=(",", ":")).encode())

    def about(self, *, event_type: str) -> About:
        return next((about for prefix, about in _ABOUT.items() if event_type.startswith(prefix)), "")

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


def _balance_transaction(row: Mapping[str, Any]) -> SeenBalanceTransaction:
    currency = row["currency"].upper()
    source = row.get("source")
    metadata = (source.get("metadata") or {}) if isinstance(source, Mapping) else {}
    payout = source["id"] if isinstance(source, Mapping) and source.get("object") == "payout" else ""
    return SeenBalanceTransaction(
        id=row["id"],
        type=row["type"],
        reporting_category=row["reporting_category"],
        source_id=_source(row["reporting_category"], source),
        source_reference=_reference(row["reporting_category"], metadata),
        amount=Money(row["amount"], currency),
        fee=Money(row["fee"], currency),
        net=Money(row["net"], currency),
        presented=_presented(row["reporting_category"], source),
        created=instant(row["created"]),
        available_on=instant(row["available_on"]),
        exchange_rate=str(row["exchange_rate"]) if row.get("exchange_rate") else "",
        fee_details=tuple(row.get("fee_details") or ()),
        payout_id=payout,
        disputed_charge=_disputed_charge(source),
        network=_network(source),
        booking=metadata.get("booking") or "",
        host=metadata.get("host") or "",
        account=metadata.get("account") or "",
    )


def _reference(category: str, metadata: Mapping[str, str]) -> str:
    """Our code of what moved: a reversal carries the code of its payout too."""
    names = ("clawback", "payout") if category == "transfer_reversal" else ("refund", "payment", "payout")
    return next((metadata[name] for name in names if metadata.get(name)), "")


def _disputed_charge(source: Any) -> str:
    return id_of(source["charge"]) if isinstance(source, Mapping) and source.get("object") == "dispute" else ""


def _network(source: Any) -> str:
    """The card network that carried a charge."""
    if not isinstance(source, Mapping) or source.get("object") != "charge":
        return ""
    card = (source.get("payment_method_details") or {}).get("card") or {}
    return str(card.get("network") or card.get("brand") or "")


def _source(category: str, source: Any) -> str:
    """The object it came from. What was reserved and not taken is the charge's own, though a refund carries it."""
    if category == "partial_capture_reversal" and isinstance(source, Mapping) and source.get("object") == "refund":
        return id_of(source["charge"])
    return id_of(source)


def _presented(category: str, source: Any) -> Money | None:
    """What a charge or refund was for, in the currency the guest saw; of a partial capture, what was not captured."""
    if not isinstance(source, Mapping) or source.get("object") not in {"charge", "refund"}:
        return None
    amount = source["amount"]
    if category == "partial_capture_reversal" and source["object"] == "charge":
        amount -= source["amount_captured"]
    return Money(amount, source["currency"].upper())


def _event(row: Mapping[str, Any], payload: bytes) -> SeenEvent:
    return SeenEvent(
        id=row["id"],
        type=row["type"],
        object_id=str(row["data"]["object"].get("id") or ""),
        account=row.get("account") or "",
        created=instant(row["created"]),
        livemode=bool(row["livemode"]),
        payload=payload,
    )


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
