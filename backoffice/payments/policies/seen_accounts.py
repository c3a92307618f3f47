"""What the provider shows of hosts' accounts and of payouts to banks, in our words."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from typing import Literal

from backoffice.core.money import Money

BankPayoutStatus = Literal["pending", "in_transit", "paid", "failed", "canceled"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenAccount:
    """A host's account as the provider has it now. `reference` is the host's code; `missing` what is still asked of them.

    `bank_fingerprint` is the same as long as the money goes to the same bank accounts, "" without any; `bank_hint` is
    what a person may be shown of the one that is paid first."""

    id: str
    reference: str
    can_receive: bool
    can_pay_out: bool
    told_everything: bool
    missing: tuple[str, ...] = ()
    disabled_reason: str = ""
    bank_fingerprint: str = ""
    bank_hint: str = ""
    country: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenBankPayout:
    """A payout to a bank, of a host's account or (`account` empty) of our own. `reference` is the code of our sweep.

    `itemised` says that the provider can tell which movements it is made of: automatic ones only, once it has counted."""

    id: str
    account: str
    status: BankPayoutStatus
    amount: Money
    automatic: bool
    itemised: bool
    arrival_on: date
    created: datetime
    reference: str = ""
    trace: str = ""
    failure: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenBankPayoutLine:
    """One movement of a host's balance that a payout to their bank carried.

    `transfer_id` is our transfer that brought it, `returned` the earlier payout that the bank had sent back. `presented` is
    the amount before the provider converted it to the host's currency: what we know it by."""

    id: str
    source_id: str
    reporting_category: str
    net: Money
    presented: Money
    created: datetime
    transfer_id: str = ""
    returned: str = ""
