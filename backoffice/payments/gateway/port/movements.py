"""What moved our balance there, what happened, and the webhooks that say so."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Protocol

from backoffice.core.money import Money
from backoffice.payments.policies.seen import About, SeenBalanceTransaction, SeenEvent


class Movements(Protocol):
    def balance_transactions(
        self, *, since: datetime, until: datetime | None = None
    ) -> Iterator[SeenBalanceTransaction]:
        """Every movement created in [since, until), newest first, page by page."""
        ...

    def balance_transaction(self, *, transaction_id: str) -> SeenBalanceTransaction:
        """One movement as it stands there now. Raises ProviderError (`missing`: object) for one that it does not show."""
        ...

    def balance(self) -> Mapping[str, Money]:
        """Currency -> what the provider holds for us, pending and available together."""
        ...

    def events(self, *, since: datetime) -> Iterator[SeenEvent]:
        """Events created since then, newest first."""
        ...

    def about(self, *, event_type: str) -> About:
        """What an event of this type is about, which its `object_id` names."""
        ...

    def read_webhook(self, *, payload: bytes, signature: str, now: datetime) -> SeenEvent:
        """Check the signature and read the event. Raises Invalid (field `signature` or `payload`)."""
        ...
