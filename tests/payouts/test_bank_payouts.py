"""What of our balance may leave, as arithmetic; and the books a sweep is decided on."""

from __future__ import annotations

import pytest
from django.db import transaction
from hypothesis import given
from hypothesis import strategies as st

from backoffice.core.money import Money
from backoffice.ledger import operations as ledger
from backoffice.ledger import queries as ledger_queries
from backoffice.ledger.policies import Line
from backoffice.payouts import queries
from backoffice.payouts.policies.bank_payouts import SweepFacts, earned, sweep
from tests.factories import NOW, SYSTEM


def facts(left: int, moved: int, kept: dict[str, int], available: int, currency: str = "EUR") -> SweepFacts:
    return SweepFacts(
        left=Money(left, currency),
        moved=Money(moved, currency),
        movements=1,
        kept={code: Money(amount, currency) for code, amount in kept.items()},
        available=Money(available, currency),
    )


@pytest.mark.parametrize(
    ("given_", "amount", "stays"),
    [
        # Worked posting A: 492.25 in, 407.40 out; taxes stay for their offices, the fees less the provider's are ours.
        (facts(0, 8_485, {"2300": 1_950, "2310": 1_050}, 8_485), 5_485, {"2300": 1_950, "2310": 1_050}),
        (facts(0, 8_485, {"2300": 3_000}, 1_000), 1_000, {"2300": 3_000, "earned": 4_485}),
        (facts(3_000, 0, {"2300": 3_000}, 3_000), 0, {"2300": 3_000}),
        (facts(0, 100, {"2100": 900}, 5_000), 0, {"2100": 900, "earned": -800}),
        (facts(500, 500, {}, 700), 700, {"earned": 300}),
        (facts(0, 1_000, {}, -50), 0, {"earned": 1_000}),
        (facts(0, 1_055, {}, 5_000, "HUF"), 1_000, {"earned": 55}),
        (facts(0, 1_055, {}, 5_000, "JPY"), 1_055, {}),
    ],
)
def test_what_leaves_and_what_stays_for_whom(given_: SweepFacts, amount: int, stays: dict[str, int]) -> None:
    decided = sweep(facts=given_)
    assert (decided.amount.amount, {code: kept.amount for code, kept in decided.stays.items()}) == (amount, stays)


@given(
    st.integers(-(10**6), 10**6),
    st.integers(-(10**6), 10**6),
    st.dictionaries(st.sampled_from(["2100", "2200", "2300", "2400"]), st.integers(0, 10**6)),
    st.integers(-(10**6), 10**6),
    st.sampled_from(["EUR", "HUF"]),
)
def test_amount_and_stays_are_the_balance_and_nothing_owed_ever_leaves(
    left: int, moved: int, kept: dict[str, int], available: int, currency: str
) -> None:
    given_ = facts(left, moved, kept, available, currency)
    decided = sweep(facts=given_)
    assert decided.amount + Money.sum(decided.stays.values(), currency) == given_.balance
    assert 0 <= decided.amount.amount <= max(0, min(earned(facts=given_).amount, available))


def post(*lines: tuple[str, str, int], currency: str = "EUR") -> None:
    with transaction.atomic():
        ledger.post(
            key=f"t:{lines!r}:{currency}",
            kind="test",
            lines=[Line(account, key, amount, currency) for account, key, amount in lines],
            subject="",
            effective_at=NOW,
            actor=SYSTEM,
            now=NOW,
        )


@pytest.mark.django_db
def test_every_credit_outside_income_and_memos_is_somebody_elses_and_no_debit_covers_another() -> None:
    liabilities = [
        code for code, account in ledger_queries.chart().items() if account.kind == "liability" and code != "9900"
    ]
    assert liabilities == ["2100", "2110", "2111", "2120", "2200", "2210", "2300", "2310", "2400", "2410"]
    for number, code in enumerate(liabilities, start=1):
        post(("1100", "stripe", number), (code, "one", -number))
    post(("1100", "stripe", 50), ("9900", "txn_x", -50))  # nobody knows whose it is
    post(("1100", "stripe", 60), ("1150", "ch_x", -60))  # in, and not captured by our book yet
    post(("1100", "stripe", 70), ("3900", "ch_y", -70))  # settled for a promise in another currency
    post(("1310", "host", 1_000), ("4200", "", -1_000))  # owed to us: no money
    post(("1100", "stripe", 80), ("1310", "other", -80))
    post(("1100", "stripe", 90), ("4110", "", -90))  # ours
    post(("1800", "acct", 5), ("2800", "acct", -5))
    post(("1100", "stripe", 7), ("2100", "two", -7), currency="USD")
    kept = queries.kept(currency="EUR")
    assert {code: money.amount for code, money in kept.items()} == {
        **{code: number for number, code in enumerate(liabilities, start=1)},
        "9900": 50, "1150": 60, "3900": 70, "1310": 80,
    }  # fmt: skip
    assert queries.kept(currency="USD") == {"2100": Money(7, "USD")} and queries.kept(currency="GBP") == {}
