"""Hosts' accounts at the provider, and what leaves for a bank: theirs, and ours."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Protocol

from backoffice.core.money import Money
from backoffice.payments.policies.seen_accounts import SeenAccount, SeenBankPayout, SeenBankPayoutLine


class Accounts(Protocol):
    def open_account(self, *, country: str, email: str, reference: str, key: str) -> SeenAccount:
        """Make an account that may receive transfers and pays out by itself; the host has yet to tell who they are."""
        ...

    def account(self, *, account_id: str) -> SeenAccount:
        """The account's present state."""
        ...

    def find_account(self, *, reference: str, since: datetime) -> SeenAccount | None:
        """The account that carries our code, among those made since then; None: our call was never carried out."""
        ...

    def onboarding_link(self, *, account_id: str, return_url: str) -> str:
        """Where the host tells the provider what it asks; good once and for minutes."""
        ...

    def pay_out(self, *, amount: Money, reference: str, key: str) -> SeenBankPayout:
        """Send this much of our own balance to our bank."""
        ...

    def bank_payout(self, *, payout_id: str, account: str = "") -> SeenBankPayout:
        """The present state of a payout of a host's account, or of our own."""
        ...

    def find_bank_payout(self, *, reference: str, since: datetime) -> SeenBankPayout | None:
        """The payout of our own that carries our code; None: our call was never carried out."""
        ...

    def bank_payouts(self, *, account: str = "", since: datetime) -> Iterator[SeenBankPayout]:
        """Every payout of an account created since then, newest first."""
        ...

    def bank_payouts_sent_back(self, *, account: str = "") -> Iterator[SeenBankPayout]:
        """Every payout of an account that a bank refused or sent back, however long ago it was made."""
        ...

    def bank_payout_lines(self, *, payout_id: str, account: str) -> Iterator[SeenBankPayoutLine]:
        """What an itemised payout is made of; its own movement is not among it."""
        ...

    def available(self) -> Mapping[str, Money]:
        """Currency -> what could leave our balance for a bank now."""
        ...
