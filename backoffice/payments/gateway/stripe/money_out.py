"""Money out: transfers to connected accounts, and their reversals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from backoffice.core.money import Money
from backoffice.payments.gateway.stripe.calls import Calls, call, id_of, read
from backoffice.payments.policies.seen import SeenReversal, SeenTransfer


class MoneyOut(Calls):
    def transfer(
        self, *, amount: Money, account: str, charge_id: str, group: str, reference: str, host: str, key: str
    ) -> SeenTransfer:
        params: dict[str, Any] = {
            "amount": amount.amount,
            "currency": amount.currency.lower(),
            "destination": account,
            "transfer_group": group,
            # The account is repeated for its movements, which do not name it; the key tells one try from the next.
            "metadata": {"payout": reference, "host": host, "booking": group, "account": account, "key": key},
        }
        if charge_id:
            params["source_transaction"] = charge_id
        return _transfer(
            # The SDK wants its own TypedDict, which a dict built step by step is not.
            call(lambda: self._client.v1.transfers.create(params, {"idempotency_key": key})).to_dict()  # type: ignore[arg-type]
        )

    def transfer_state(self, *, transfer_id: str) -> SeenTransfer:
        return _transfer(read(lambda: self._client.v1.transfers.retrieve(transfer_id)).to_dict())

    def find_transfer(self, *, group: str, key: str) -> SeenTransfer | None:
        for row in self.pages(self._client.v1.transfers.list, {"transfer_group": group, "limit": 100}):
            if row["metadata"].get("key") == key:
                return _transfer(row)
        return None

    def reverse_transfer(
        self,
        *,
        transfer_id: str,
        amount: Money,
        account: str,
        group: str,
        payout: str,
        reference: str,
        host: str,
        key: str,
    ) -> SeenReversal:
        metadata = {"clawback": reference, "payout": payout, "host": host, "booking": group, "account": account}
        made = call(
            lambda: self._client.v1.transfers.reversals.create(
                transfer_id, {"amount": amount.amount, "metadata": metadata}, {"idempotency_key": key}
            )
        )
        return _reversal(made.to_dict())

    def find_reversal(self, *, transfer_id: str, reference: str) -> SeenReversal | None:
        def listing(params: Any) -> Any:
            return self._client.v1.transfers.reversals.list(transfer_id, params)

        for row in self.pages(listing, {"limit": 100}):
            if row["metadata"].get("clawback") == reference:
                return _reversal(row)
        return None


def _transfer(row: Mapping[str, Any]) -> SeenTransfer:
    currency = row["currency"].upper()
    return SeenTransfer(
        id=row["id"],
        amount=Money(row["amount"], currency),
        reversed_amount=Money(row["amount_reversed"], currency),
        account=id_of(row.get("destination")),
        reference=(row.get("metadata") or {}).get("payout", ""),
        charge_id=id_of(row.get("source_transaction")),
        group=row.get("transfer_group") or "",
    )


def _reversal(row: Mapping[str, Any]) -> SeenReversal:
    return SeenReversal(
        id=row["id"],
        amount=Money(row["amount"], row["currency"].upper()),
        transfer_id=id_of(row.get("transfer")),
        reference=(row.get("metadata") or {}).get("clawback", ""),
    )
