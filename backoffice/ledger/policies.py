"""What a posting is made of, and what the chart of accounts says about each account. Facts in, frozen answers out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, Literal, cast, get_args

from backoffice.core.errors import Invalid
from backoffice.core.money import Money

Kind = Literal["asset", "liability", "equity", "income", "expense", "memo"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)


@dataclass(frozen=True, slots=True)
class Line:
    """One leg of a journal: signed minor units, debit positive, on the account `account` for the dimension `key`.

    `account` is a code of the chart ("2100"); `key` says whose or which (a booking code, a provider's id), "" where the
    account has no dimension. A zero amount is allowed here and dropped when posted."""

    account: str
    key: str
    amount: int
    currency: str

    @classmethod
    def of(cls, account: str, key: str, money: Money) -> Line:
        """A line of `money`; negate the money to credit the account."""
        return cls(account, key, money.amount, money.currency)

    @property
    def money(self) -> Money:
        return Money(self.amount, self.currency)

    def __neg__(self) -> Line:
        return Line(self.account, self.key, -self.amount, self.currency)


@dataclass(frozen=True, slots=True)
class ChartAccount:
    """What the chart says about one code.

    `dimension` names what the key is ("booking", "ch_", ""). `clears_within` is how long a balance may stand under one
    key before it is a finding; None for accounts that need not clear. A `bounded` account is never debited beyond what
    was credited to it (invariant I9): nobody is paid what was not collected for them. The balance of an account that
    every booking moves is kept in several `slots`, one per connection, so that they do not wait for one another."""

    code: str
    name: str
    kind: Kind
    dimension: str
    clears_within: timedelta | None
    bounded: bool
    slots: int = 1
    note: str = ""

    @property
    def normal_sign(self) -> int:
        """1 where a debit increases what the account measures, -1 where a credit does."""
        return 1 if self.kind in ("asset", "expense", "memo") else -1


def parse_chart(document: Mapping[str, Any]) -> dict[str, ChartAccount]:
    """Read the chart (fixtures/chart_of_accounts.json) by code, in its order. Raises Invalid naming the bad field."""
    chart: dict[str, ChartAccount] = {}
    for index, row in enumerate(document["accounts"]):
        account = _chart_account(row, f"accounts[{index}]")
        if account.code in chart:
            raise Invalid(f"accounts[{index}].code {account.code} is there twice.", field=f"accounts[{index}].code")
        chart[account.code] = account
    return chart


def _chart_account(row: Mapping[str, Any], where: str) -> ChartAccount:
    code, kind, hours = row.get("code", ""), row.get("kind", ""), row.get("clears_within_hours")
    bounded, slots = bool(row.get("bounded", False)), row.get("slots", 1)
    if not (isinstance(code, str) and len(code) == 4 and code.isdigit()):
        raise Invalid(f"{where}.code must be four digits.", field=f"{where}.code")
    if not row.get("name"):
        raise Invalid(f"{where}.name is missing.", field=f"{where}.name")
    if kind not in KINDS:
        raise Invalid(f"{where}.kind must be one of {', '.join(KINDS)}.", field=f"{where}.kind")
    if hours is not None and not (isinstance(hours, int) and hours > 0):
        raise Invalid(f"{where}.clears_within_hours must be whole hours.", field=f"{where}.clears_within_hours")
    if not (isinstance(slots, int) and 1 <= slots <= 64):
        raise Invalid(f"{where}.slots must be 1 to 64.", field=f"{where}.slots")
    if bounded and slots > 1:
        raise Invalid(f"{where}.slots must be 1: a bound is checked on one row.", field=f"{where}.slots")
    return ChartAccount(
        code=code,
        name=row["name"],
        kind=cast(Kind, kind),
        dimension=row.get("key", ""),
        clears_within=None if hours is None else timedelta(hours=hours),
        bounded=bounded,
        slots=slots,
        note=row.get("note", ""),
    )
