"""Lines of a bank statement as facts, and which payout a line is."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from itertools import combinations
from typing import Final, Literal, TypeVar

from backoffice.core.money import Money
from backoffice.reconciliation.policies.breaks import business_days_after
from backoffice.rulebook.policies import ReconciliationRules

Row = TypeVar("Row", "OpenLine", "OpenPayout")
Method = Literal["trace", "descriptor", "many_lines", "many_payouts", "amount"]
# `person`: somebody's word, where nothing else says that they are one.
CONFIDENCE: Final[dict[str, int]] = {
    "person": 100,
    "trace": 100,
    "descriptor": 95,
    "amount": 60,
    "many_lines": 50,
    "many_payouts": 50,
}
LONGEST: Final = {"account": 60, "reference": 120}
LARGEST: Final = 10**15  # minor units
# The provider's name on a bank statement; with the amount, the currency and the day it names the payout.
DESCRIPTOR: Final = "STRIPE"
# Sums are tried over at most so many rows of one window: more would fit by chance, and a person sees less.
MOST_IN_A_SUM: Final = 4
MOST_TRIED: Final = 14


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenStatementLine:
    """One booked entry of a statement. `amount` is signed as the bank signs it.

    Raises ValueError for an account or a reference that is longer than any bank's, and for an amount that is no amount of
    money any more."""

    account: str
    reference: str
    amount: Money
    booked_on: date
    value_on: date
    trace: str = ""
    text: str = ""
    returned: bool = False

    def __post_init__(self) -> None:
        for name, most in LONGEST.items():
            if len(getattr(self, name)) > most:
                raise ValueError(f"{name}: longer than {most} characters")
        if abs(self.amount.amount) > LARGEST:
            raise ValueError(f"amount: {self.amount} is too large")

    def digest(self, *, nth: int = 0) -> str:
        """Of its content: two entries that differ in anything are two, and so are two of one file that are alike: `nth`
        counts those before it."""
        facts = [self.amount.amount, self.amount.currency, self.booked_on, self.value_on, self.trace, self.text]
        again = [nth] if nth else []
        return hashlib.sha256(json.dumps([*facts, self.returned, *again], default=str).encode()).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenLine:
    """A line that no payout has been found for."""

    id: int
    amount: Money
    booked_on: date
    trace: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenPayout:
    """A payout with what is still missing of it at the bank; after its return, what the bank must take back (below 0)."""

    id: int
    open: Money
    arrival_on: date
    names: tuple[str, ...]
    returned: bool = False

    def may_be_booked(self, *, on: date, rules: ReconciliationRules) -> bool:
        """Whether the bank may book it on that day. A return may come weeks later (five business days and more)."""
        first = self.arrival_on - timedelta(days=rules.bank_early_days)
        days = rules.bank_business_days * (10 if self.returned else 1)
        return first <= on <= business_days_after(day=self.arrival_on, days=days)


MayBe = Callable[[OpenLine, OpenPayout], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairing:
    """That a line is a payout, or a part of it. Not `certain`: a person has to say so."""

    line: int
    payout: int
    amount: Money
    method: Method
    certain: bool


def pair(
    *,
    lines: Sequence[OpenLine],
    payouts: Sequence[OpenPayout],
    rules: ReconciliationRules,
    refused: Collection[tuple[int, int]] = (),
) -> list[Pairing]:
    """Which line is which payout; the same for any order of the rows.

    A trace or the payout's own name in the line makes them one, whatever the amount (the rest stays standing, and may be
    another line's). The provider's name with the amount, currency and day does so when only one payout fits. All else is
    proposed: the amount alone, several lines that add up to a payout, one line that is the sum of several payouts.
    `refused` are the pairs (line, payout) that a person has rejected: only a name makes them one all the same."""
    lines = sorted(lines, key=lambda line: (line.booked_on, line.id))
    payouts = sorted(payouts, key=lambda payout: (payout.arrival_on, payout.id))
    no = frozenset(refused)

    def may_be(line: OpenLine, payout: OpenPayout) -> bool:
        in_window = payout.may_be_booked(on=line.booked_on, rules=rules)
        return in_window and _same_direction(line.amount, payout.open) and (line.id, payout.id) not in no

    found = _by_name(lines, payouts)
    found += _by_amount(*_left(lines, payouts, found), may_be)
    found += _by_sum(*_left(lines, payouts, found), may_be)
    return found


def _left(
    lines: Sequence[OpenLine], payouts: Sequence[OpenPayout], found: Iterable[Pairing]
) -> tuple[list[OpenLine], list[OpenPayout]]:
    """What is left of both sides: of a payout whatever of it is still missing."""
    used = {pairing.line for pairing in found}
    rest = _rest(payouts, found)
    left = [
        replace(one, open=rest[one.id], returned=rest[one.id].amount < 0) if rest[one.id] != one.open else one
        for one in payouts
        if rest[one.id]
    ]
    return [line for line in lines if line.id not in used], left


def _rest(payouts: Sequence[OpenPayout], found: Iterable[Pairing]) -> dict[int, Money]:
    rest = {payout.id: payout.open for payout in payouts}
    for pairing in found:
        rest[pairing.payout] -= pairing.amount
    return rest


def _by_name(lines: Sequence[OpenLine], payouts: Sequence[OpenPayout]) -> list[Pairing]:
    """By name, as often as something is found: a line that was too much leaves a payout open the other way, and an earlier
    line may be what corrects it. Whoever looks again at what is left finds nothing more."""
    found: list[Pairing] = []
    while more := _named(*_left(lines, payouts, found)):
        found += more
    return found


def _named(lines: Sequence[OpenLine], payouts: Sequence[OpenPayout]) -> list[Pairing]:
    found: list[Pairing] = []
    rest = {payout.id: payout.open for payout in payouts}
    for line in lines:
        words = _words(line)
        for payout in payouts:
            named = any(name and name.upper() in words for name in payout.names)
            if named and _same_direction(line.amount, rest[payout.id]):
                found.append(Pairing(line=line.id, payout=payout.id, amount=line.amount, method="trace", certain=True))
                rest[payout.id] -= line.amount
                break
    return found


def _by_amount(lines: Sequence[OpenLine], payouts: Sequence[OpenPayout], may_be: MayBe) -> list[Pairing]:
    found: list[Pairing] = []
    for line in lines:
        fits = [one for one in payouts if one.open == line.amount and may_be(line, one)]
        twins = [other for other in lines if other.amount == line.amount and any(may_be(other, one) for one in fits)]
        if not fits:
            continue
        certain = DESCRIPTOR in _words(line) and len(fits) == len(twins) == 1
        free = [one for one in fits if one.id not in {pairing.payout for pairing in found}]
        if free:
            method: Method = "descriptor" if certain else "amount"
            found.append(Pairing(line=line.id, payout=free[0].id, amount=line.amount, method=method, certain=certain))
    return found


def _by_sum(lines: Sequence[OpenLine], payouts: Sequence[OpenPayout], may_be: MayBe) -> list[Pairing]:
    found: list[Pairing] = []
    used: set[int] = set()
    for payout in payouts:
        near = [line for line in lines if line.id not in used and may_be(line, payout)]
        chosen = _adding_up(near, payout.open)
        for line in chosen:
            found.append(
                Pairing(line=line.id, payout=payout.id, amount=line.amount, method="many_lines", certain=False)
            )
            used.add(line.id)
    paid = {pairing.payout for pairing in found}
    for line in (line for line in lines if line.id not in used):
        fits = [one for one in payouts if one.id not in paid and may_be(line, one)]
        for payout in _adding_up(fits, line.amount):
            found.append(
                Pairing(line=line.id, payout=payout.id, amount=payout.open, method="many_payouts", certain=False)
            )
            paid.add(payout.id)
    return found


def _adding_up(rows: Sequence[Row], total: Money) -> tuple[Row, ...]:
    """The smallest set of two or more rows that adds up to `total`; none when no set, or more than one of a size, does."""
    tried = rows[:MOST_TRIED]
    for size in range(2, MOST_IN_A_SUM + 1):
        fits = [some for some in combinations(tried, size) if _sum(some) == total.amount]
        if fits:
            return fits[0] if len(fits) == 1 else ()
    return ()


def _sum(rows: Iterable[OpenLine | OpenPayout]) -> int:
    return sum((row.amount if isinstance(row, OpenLine) else row.open).amount for row in rows)


def _same_direction(one: Money, other: Money) -> bool:
    return one.currency == other.currency and one.amount * other.amount > 0


def _words(line: OpenLine) -> str:
    return re.sub(r"\s+", " ", f"{line.trace} {line.text}").upper()
