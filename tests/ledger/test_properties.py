"""Whatever is posted, the books balance: random facts against a model of a few lines."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import pytest
from django.db import transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backoffice.core.errors import Conflict, KeyReused, Overdrawn, Unbalanced
from backoffice.ledger import operations, queries
from backoffice.ledger.policies import Line

from .conftest import NOON, ROBOT, Post

Account = tuple[str, str, str]

ACCOUNTS = st.tuples(
    st.sampled_from(["1100", "1150", "2100", "2200", "2400", "4100"]),
    st.sampled_from(["a", "b"]),
    st.sampled_from(["EUR", "JPY", "KWD"]),
)
BOUNDED = {"2100", "2200"}


@dataclass(frozen=True)
class Fact:
    """One attempt: a key of few, so that keys repeat; lines; the account that takes the rest in each currency."""

    key: int
    lines: tuple[tuple[Account, int], ...]
    rest: str
    cents_lost: int
    reverses: int | None

    def legs(self) -> list[Line]:
        legs = [Line(*account[:2], amount, account[2]) for account, amount in self.lines]
        sums: Counter[str] = Counter()
        for leg in legs:
            sums[leg.currency] += leg.amount
        legs += [Line(self.rest, "a", -amount, currency) for currency, amount in sums.items()]
        if self.cents_lost:
            legs.append(Line("5900", "", self.cents_lost, "EUR"))
        return legs


FACTS = st.builds(
    Fact,
    key=st.integers(0, 12),
    lines=st.lists(st.tuples(ACCOUNTS, st.integers(-1000, 1000)), max_size=4).map(tuple),
    rest=st.sampled_from(["1150", "2100", "4100", "9900"]),
    cents_lost=st.sampled_from([0, 0, 0, 0, 1]),
    reverses=st.none() | st.integers(0, 12),
)


class Model:
    """The books as they must be, kept without a database."""

    def __init__(self) -> None:
        self.books: Counter[Account] = Counter()
        self.lines: Counter[Account] = Counter()
        self.facts: dict[str, list[Line]] = {}
        self.reversed: set[str] = set()

    def refusal(self, legs: list[Line]) -> type[Exception] | None:
        sums: Counter[str] = Counter()
        after = self.books.copy()
        for leg in legs:
            sums[leg.currency] += leg.amount
            after[leg.account, leg.key, leg.currency] += leg.amount
        touched = {(leg.account, leg.key, leg.currency) for leg in legs if leg.account in BOUNDED}
        if any(after[account] > 0 for account in touched):
            return Overdrawn
        return Unbalanced if any(sums.values()) or len(legs) == 1 else None

    def post(self, key: str, legs: list[Line]) -> None:
        self.facts[key] = legs
        for leg in legs:
            self.books[leg.account, leg.key, leg.currency] += leg.amount
            self.lines[leg.account, leg.key, leg.currency] += 1


@pytest.mark.django_db
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(facts=st.lists(FACTS, max_size=12))
def test_the_books_are_as_the_model_says(post: Post, facts: list[Fact]) -> None:
    with transaction.atomic():
        model, journals = Model(), dict[str, int]()
        for fact in facts:
            key = f"fact:{fact.key}"
            if fact.reverses is not None:
                reverse(model, journals, f"fact:{fact.reverses}")
            legs = [leg for leg in fact.legs() if leg.amount]
            same = model.facts.get(key)
            if not legs:
                assert post(key, legs) is None
            elif same is not None:
                if Counter(same) == Counter(legs):
                    again = post(key, legs)
                    assert again is not None and again.journal_id == journals[key] and not again.created
                else:
                    with pytest.raises(KeyReused):
                        post(key, legs)
            elif refusal := model.refusal(legs):
                with pytest.raises(refusal), transaction.atomic():
                    post(key, legs)
            else:
                posted = post(key, legs)
                assert posted is not None and posted.created
                journals[key] = posted.journal_id
                model.post(key, legs)
        compare(model)
        transaction.set_rollback(True)


def reverse(model: Model, journals: dict[str, int], key: str) -> None:
    if key not in journals:
        return
    legs = [-leg for leg in model.facts[key]]

    def ask(own_key: str) -> operations.Posted:
        with transaction.atomic():
            return operations.reverse(journal_id=journals[key], key=own_key, reason="x", actor=ROBOT, now=NOON)

    if key in model.reversed:
        assert not ask(f"reverse:{key}").created
        with pytest.raises(Conflict):
            ask(f"again:{key}")
    elif model.refusal(legs):
        with pytest.raises(Overdrawn):
            ask(f"reverse:{key}")
    else:
        assert ask(f"reverse:{key}").created
        model.reversed.add(key)
        model.post(f"reverse:{key}", legs)


def compare(model: Model) -> None:
    kept = {(account.code, account.key, account.currency): account.amount for account in queries.balances()}
    assert kept == {account: model.books[account] for account in model.lines}
    totals: Counter[str] = Counter()
    for row in queries.trial_balance():
        totals[row.currency] += row.debit - row.credit
    assert not any(totals.values())
    assert all(finding.ok for finding in queries.check(now=NOON))
