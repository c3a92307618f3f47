"""A provider's test environment, as the contract's tests use it."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, TypeVar

import pytest

from backoffice.core.money import Money
from backoffice.payments.gateway.port import Gateway
from backoffice.payments.policies.seen import SeenBalanceTransaction, SeenPayment

T = TypeVar("T")
BACK = "https://desk.example/back"
_LOOKS = 20
_STEPS = 12


@dataclass(frozen=True, kw_only=True)
class Cards:
    """Cards that behave as they are called. `at_once`: the money is available at once; `wary`: paid for only while the guest
    is there to prove who they are; `suspected`: the issuer warns of fraud."""

    good: str
    declined: str
    challenged: str
    wary: str
    at_once: str
    disputed: str
    inquired: str
    suspected: str
    slow_refund: str
    failing_refund: str


@dataclass(frozen=True, kw_only=True)
class Bench:
    """`settle` gives the provider a moment, `pass_time` lets days go by there (None where only waiting does).

    `sign` makes the header that the provider would send with a payload at an instant, by the secret of that number. `host`
    opens an account that may receive, or names one that was opened before; None where there is none, since only a person
    can tell the provider who they are. `send_back` is what a bank does to a payout to it, `report` the provider's own file of
    the movements in a window, `lose_answer` and `turn_away` what may happen to the next call: None where that cannot be had.
    `winning` and `losing` are the words in evidence that decide a dispute, `warned` the type of the event that tells of a
    warning."""

    gateway: Gateway
    cards: Cards
    settle: Callable[[], None]
    now: Callable[[], datetime]
    sign: Callable[[bytes, datetime, int], str]
    event: Callable[[], bytes]
    winning: str
    losing: str
    warned: str
    pass_time: Callable[[timedelta], None] | None = None
    host: Callable[[], str] | None = None
    send_back: Callable[[str], None] | None = None
    report: Callable[[datetime, datetime], bytes] | None = None
    lose_answer: Callable[[], None] | None = None
    turn_away: Callable[[], None] | None = None
    native: str = "EUR"
    run: str = field(default_factory=lambda: secrets.token_hex(6))
    since: datetime = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "since", self.now() - timedelta(hours=1))

    def code(self, kind: str, number: int = 1) -> str:
        """A code of ours that no other run has used."""
        return f"{kind}-{self.run}-{number}"

    def money(self, amount: int) -> Money:
        return Money(amount, self.native)

    def pay(self, card: str = "", *, amount: int = 10_000, number: int = 1, **options: Any) -> SeenPayment:
        return self.gateway.pay(
            amount=self.money(amount),
            payment_method=card or self.cards.good,
            reference=self.code("PY", number),
            group=self.code("BK"),
            key=self.code("key", number),
            return_url=BACK,
            **options,
        )

    def charge(self, card: str = "", *, amount: int = 10_000, number: int = 1) -> str:
        """A charge that the provider has settled."""
        charge = self.pay(card, amount=amount, number=number).charge_id
        self.movement(category="charge", source=charge)
        return charge

    def movements(self, source: str) -> Iterator[SeenBalanceTransaction]:
        return (row for row in self.gateway.balance_transactions(since=self.since) if row.source_id == source)

    def movement(self, *, category: str, source: str) -> SeenBalanceTransaction:
        """The movement of one of our objects, once the provider lists it."""

        def listed() -> SeenBalanceTransaction | None:
            return next((row for row in self.movements(source) if row.reporting_category == category), None)

        return self.soon(f"a movement ({category}) of {source}", listed)

    def ready_host(self) -> str:
        """An account that may receive; skips where there is none."""
        if self.host is None:
            pytest.skip(
                "awaits an account whose owner has told everything: only a person can, on the provider's own page"
            )
        return self.host()

    def soon(self, what: str, look: Callable[[], T | None]) -> T:
        """What `look` finds, which a provider has within a minute."""
        found = self._looked(look)
        assert found is not None, f"the provider has not got {what}"
        return found

    def later(self, what: str, look: Callable[[], T | None], *, within: timedelta) -> T:
        """What `look` finds within so long. Where days cannot be made to go by and it is not there within a minute, the test
        is skipped, saying what it awaits."""
        if self.pass_time is None:
            found = self._looked(look) if within < timedelta(days=1) else look()
            if found is None:
                pytest.skip(f"awaits {what}, which takes up to {within} at this provider")
            return found
        for _ in range(_STEPS):
            found = look()
            if found is not None:
                return found
            self.pass_time(within / _STEPS)
        found = look()
        assert found is not None, f"the provider has not got {what} after {within}"
        return found

    def _looked(self, look: Callable[[], T | None]) -> T | None:
        for _ in range(_LOOKS):
            found = look()
            if found is not None:
                return found
            self.settle()
        return None


def need(means: T | None, what: str) -> T:
    """What a test environment has for this; skips where it has nothing."""
    if means is None:
        pytest.skip(f"awaits {what}, which cannot be made to happen at this provider")
    return means
