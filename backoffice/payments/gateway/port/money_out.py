"""Money out: what is sent to hosts' accounts and taken back from them."""

from __future__ import annotations

from typing import Protocol

from backoffice.core.money import Money
from backoffice.payments.policies.seen import SeenReversal, SeenTransfer


class MoneyOut(Protocol):
    def transfer(
        self, *, amount: Money, account: str, charge_id: str, group: str, reference: str, host: str, key: str
    ) -> SeenTransfer:
        """Send money to a host's account, drawing on a charge (or on the available balance, when there is none). `group` is
        the booking's code, `reference` our payout's."""
        ...

    def transfer_state(self, *, transfer_id: str) -> SeenTransfer:
        """The transfer's present state."""
        ...

    def find_transfer(self, *, group: str, key: str) -> SeenTransfer | None:
        """The transfer of a booking that was asked for under this key; None: our call was never carried out."""
        ...

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
        """Take back part or all of a transfer from the host's account. `group` is the booking's code, `payout` that of the
        payout, `reference` that of our clawback."""
        ...

    def find_reversal(self, *, transfer_id: str, reference: str) -> SeenReversal | None:
        """The reversal of a transfer that carries our clawback's code; None: our call was never carried out."""
        ...
