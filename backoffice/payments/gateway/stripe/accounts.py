"""Connected accounts (Express, paid out automatically by the provider), and payouts to banks: theirs and our own."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

from backoffice.core.money import Money
from backoffice.payments.gateway.stripe.calls import Calls, call, id_of, instant, read
from backoffice.payments.policies.seen_accounts import (
    BankPayoutStatus,
    SeenAccount,
    SeenBankPayout,
    SeenBankPayoutLine,
)

# A status that the provider has thought of since is read as "under way": nothing is posted on it.
_STATUS: Final[Mapping[str, BankPayoutStatus]] = {
    "pending": "pending",
    "in_transit": "in_transit",
    "paid": "paid",
    "failed": "failed",
    "canceled": "canceled",
}
_FINGERPRINT_LENGTH: Final = 80


class Accounts(Calls):
    def open_account(self, *, country: str, email: str, reference: str, key: str) -> SeenAccount:
        made = call(
            lambda: self._client.v1.accounts.create(
                {
                    "type": "express",
                    "country": country,
                    "email": email,
                    "capabilities": {"transfers": {"requested": True}},
                    "business_profile": {"product_description": "Short stays in their home"},
                    "metadata": {"host": reference},
                },
                {"idempotency_key": key},
            )
        )
        return _account(made.to_dict())

    def account(self, *, account_id: str) -> SeenAccount:
        return _account(read(lambda: self._client.v1.accounts.retrieve(account_id)).to_dict())

    def find_account(self, *, reference: str, since: datetime) -> SeenAccount | None:
        params: dict[str, Any] = {"created": {"gte": int(since.timestamp())}, "limit": 100}
        for row in self.pages(self._client.v1.accounts.list, params):
            if (row.get("metadata") or {}).get("host") == reference:
                return _account(row)
        return None

    def onboarding_link(self, *, account_id: str, return_url: str) -> str:
        made = read(
            lambda: self._client.v1.account_links.create(
                {
                    "account": account_id,
                    "type": "account_onboarding",
                    "return_url": return_url,
                    "refresh_url": return_url,  # a link that has expired leads back to where another can be asked for
                }
            )
        )
        return str(made.url)

    def pay_out(self, *, amount: Money, reference: str, key: str) -> SeenBankPayout:
        made = call(
            lambda: self._client.v1.payouts.create(
                {
                    "amount": amount.amount,
                    "currency": amount.currency.lower(),
                    "metadata": {"sweep": reference},
                    "description": f"Sweep {reference}",
                },
                {"idempotency_key": key},
            )
        )
        return _bank_payout(made.to_dict(), "")

    def bank_payout(self, *, payout_id: str, account: str = "") -> SeenBankPayout:
        return _bank_payout(
            read(lambda: self._client.v1.payouts.retrieve(payout_id, {}, _as(account))).to_dict(), account
        )

    def find_bank_payout(self, *, reference: str, since: datetime) -> SeenBankPayout | None:
        return next((seen for seen in self.bank_payouts(since=since) if seen.reference == reference), None)

    def bank_payouts(self, *, account: str = "", since: datetime) -> Iterator[SeenBankPayout]:
        return self._payouts(account, {"created": {"gte": int(since.timestamp())}, "limit": 100})

    def bank_payouts_sent_back(self, *, account: str = "") -> Iterator[SeenBankPayout]:
        return self._payouts(account, {"status": "failed", "limit": 100})

    def bank_payout_lines(self, *, payout_id: str, account: str) -> Iterator[SeenBankPayoutLine]:
        params: dict[str, Any] = {"payout": payout_id, "limit": 100, "expand": ["data.source"]}
        listing = partial(_listing, self._client.v1.balance_transactions.list, account)
        for row in self.pages(listing, params):
            if id_of(row.get("source")) != payout_id:
                yield _line(row)

    def available(self) -> Mapping[str, Money]:
        seen = read(self._client.v1.balance.retrieve).to_dict()
        return {row["currency"].upper(): Money(row["amount"], row["currency"].upper()) for row in seen["available"]}

    def _payouts(self, account: str, params: dict[str, Any]) -> Iterator[SeenBankPayout]:
        listing = partial(_listing, self._client.v1.payouts.list, account)
        return (_bank_payout(row, account) for row in self.pages(listing, params))


def _as(account: str) -> Any:
    """Ask in the name of a host's account, or in our own."""
    return {"stripe_account": account} if account else {}


def _listing(listing: Any, account: str, params: Any) -> Any:
    return listing(params, _as(account))


def _account(row: Mapping[str, Any]) -> SeenAccount:
    requirements = row.get("requirements") or {}
    banks = [
        bank for bank in (row.get("external_accounts") or {}).get("data") or () if bank.get("default_for_currency")
    ]
    paid_first = next((bank for bank in banks if bank.get("currency") == row.get("default_currency")), None)
    shown = paid_first or next(iter(banks), None)
    return SeenAccount(
        id=row["id"],
        reference=(row.get("metadata") or {}).get("host", ""),
        can_receive=(row.get("capabilities") or {}).get("transfers") == "active",
        can_pay_out=bool(row.get("payouts_enabled")),
        told_everything=bool(row.get("details_submitted")),
        missing=tuple(requirements.get("currently_due") or ()),
        disabled_reason=requirements.get("disabled_reason") or "",
        bank_fingerprint=_fingerprint(banks),
        bank_hint=f"{shown.get('bank_name') or 'Bank'} ••{shown.get('last4') or ''}" if shown else "",
        country=row.get("country") or "",
    )


def _fingerprint(banks: list[Mapping[str, Any]]) -> str:
    """The same for as long as every currency is paid to the same account."""
    prints = sorted(f"{bank['currency']}:{bank.get('fingerprint') or bank['id']}" for bank in banks)
    text = " ".join(prints)
    return text if len(text) <= _FINGERPRINT_LENGTH else hashlib.sha256(text.encode()).hexdigest()


def _bank_payout(row: Mapping[str, Any], account: str) -> SeenBankPayout:
    trace = row.get("trace_id") or {}
    failure = row.get("failure_message") or row.get("failure_code") or ""
    return SeenBankPayout(
        id=row["id"],
        account=account,
        status=_STATUS.get(row["status"], "pending"),
        amount=Money(row["amount"], row["currency"].upper()),
        automatic=bool(row.get("automatic")),
        itemised=row.get("reconciliation_status") == "completed",
        arrival_on=datetime.fromtimestamp(row["arrival_date"], UTC).date(),
        created=instant(row["created"]),
        reference=(row.get("metadata") or {}).get("sweep", ""),
        trace=trace.get("value") or "" if isinstance(trace, Mapping) else "",
        failure=failure,
    )


def _line(row: Mapping[str, Any]) -> SeenBankPayoutLine:
    source = row.get("source")
    facts: Mapping[str, Any] = source if isinstance(source, Mapping) else {}
    net = Money(row["net"], row["currency"].upper())
    return SeenBankPayoutLine(
        id=row["id"],
        source_id=id_of(source),
        reporting_category=row["reporting_category"],
        net=net,
        presented=_presented(facts, net),
        created=instant(row["created"]),
        transfer_id=id_of(facts.get("source_transfer")),
        returned=facts["id"] if facts.get("object") == "payout" else "",
    )


def _presented(source: Mapping[str, Any], net: Money) -> Money:
    """What arrived by a transfer, or went back by its reversal, in the transfer's own currency."""
    if source.get("object") not in {"charge", "refund"}:
        return net
    amount = Money(source["amount"], source["currency"].upper())
    return amount if net.amount >= 0 else -amount
