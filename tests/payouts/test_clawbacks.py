"""What the rules say about taking money back: how old a debt is, when netting had its chance, which transfers come first."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest
from django.db import transaction
from hypothesis import given, settings
from hypothesis import strategies as st

from backoffice.core.actor import Actor
from backoffice.core.errors import Conflict, Invalid, NotAllowed, StaydeskError
from backoffice.core.money import Money
from backoffice.ledger import queries as ledger
from backoffice.payouts import operations, queries
from backoffice.payouts.models import Clawback, Payout, WriteOff
from backoffice.payouts.policies.clawbacks import (
    AGES,
    OpenDebt,
    Reversible,
    age_of,
    by_age,
    check_clawback,
    overdue,
    propose,
)
from backoffice.rulebook.policies import RecoveryRules
from tests import factories
from tests.factories import NOW, SYSTEM
from tests.workflows.hosts import owes

RULES = RecoveryRules(
    bank_cool_down_hours=72, netting_days=14, retry_days=7, reverse_automatically=True, sweep_minimums=()
)
DAY = timedelta(days=1)


def eur(amount: int) -> Money:
    return Money(amount, "EUR")


@pytest.mark.parametrize(
    ("days", "age"),
    [
        (0, "0-1"),
        (1, "0-1"),
        (2, "2-3"),
        (3, "2-3"),
        (4, "4-7"),
        (7, "4-7"),
        (8, "8-30"),
        (30, "8-30"),
        (31, "over 30"),
    ],
)
def test_whole_days_decide_the_age(days: int, age: str) -> None:
    assert age_of(since=NOW - days * DAY, now=NOW) == age
    assert age_of(since=NOW - days * DAY - timedelta(hours=23, minutes=59), now=NOW) == age


@given(st.lists(st.tuples(st.integers(1, 10**6), st.integers(0, 100))))
def test_ages_sum_to_what_is_owed_and_what_is_late_is_part_of_it(rows: list[tuple[int, int]]) -> None:
    debts = [OpenDebt(amount=eur(amount), since=NOW - days * DAY, journal_id=1) for amount, days in rows]
    ages = by_age(debts=debts, currency="EUR", now=NOW)
    assert list(ages) == list(AGES) and Money.sum(ages.values(), "EUR").amount == sum(amount for amount, _ in rows)
    late = overdue(debts=debts, currency="EUR", rules=RULES, now=NOW)
    assert late.amount == sum(amount for amount, days in rows if days >= 14)


def transfer(
    code: str, days: int, left: int, *, currency: str = "EUR", busy: bool = False, refused: int | None = None
) -> Reversible:
    return Reversible(
        payout=code,
        sent_at=NOW - days * DAY,
        left=Money(left, currency),
        under_way=busy,
        refused_at=NOW - refused * DAY if refused is not None else None,
    )


@pytest.mark.parametrize(
    ("owed", "transfers", "wanted"),
    [
        (500, [transfer("PO-A", 5, 300), transfer("PO-B", 1, 400)], [("PO-B", 400), ("PO-A", 100)]),
        (500, [transfer("PO-A", 5, 900)], [("PO-A", 500)]),
        (500, [transfer("PO-A", 5, 900, busy=True), transfer("PO-B", 9, 100)], [("PO-B", 100)]),
        (500, [transfer("PO-A", 5, 900, refused=6), transfer("PO-B", 9, 100)], [("PO-B", 100)]),
        (500, [transfer("PO-A", 5, 900, refused=7)], [("PO-A", 500)]),
        (500, [transfer("PO-A", 5, 900, currency="USD")], []),
        (0, [transfer("PO-A", 5, 900)], []),
        (500, [], []),
    ],
)
def test_the_newest_come_first_and_who_is_asked_already_rests(
    owed: int, transfers: list[Reversible], wanted: list[tuple[str, int]]
) -> None:
    proposals = propose(owed=eur(owed), transfers=transfers, rules=RULES, now=NOW)
    assert [(one.payout, one.amount.amount) for one in proposals] == wanted


@given(
    st.integers(0, 10**6),
    st.lists(st.tuples(st.integers(0, 60), st.integers(0, 10**6), st.booleans()), max_size=20),
)
def test_never_more_than_is_owed_nor_than_is_left_of_each(owed: int, rows: list[tuple[int, int, bool]]) -> None:
    transfers = [transfer(f"PO-{n}", days, left, busy=busy) for n, (days, left, busy) in enumerate(rows)]
    proposals = propose(owed=eur(owed), transfers=transfers, rules=RULES, now=NOW)
    left = {one.payout: one.left.amount for one in transfers if not one.under_way}
    assert all(0 < one.amount.amount <= left[one.payout] for one in proposals)
    assert len({one.payout for one in proposals}) == len(proposals)
    assert sum(one.amount.amount for one in proposals) == min(owed, sum(left.values()))


@pytest.mark.parametrize(
    ("amount", "owed", "left", "error"),
    [
        (eur(100), eur(100), eur(100), None),
        (eur(101), eur(200), eur(100), Conflict),
        (eur(101), eur(100), eur(200), Conflict),
        (eur(0), eur(100), eur(100), Invalid),
        (Money(100, "USD"), eur(100), eur(100), Invalid),
    ],
)
def test_what_may_be_taken_back(amount: Money, owed: Money, left: Money, error: type[Exception] | None) -> None:
    if error is None:
        check_clawback(amount=amount, owed=owed, left=left)
    else:
        with pytest.raises(error):
            check_clawback(amount=amount, owed=owed, left=left)


# What a host owes, whatever happens to it ------------------------------------------------------------------------------

ACTS = st.lists(
    st.tuples(
        st.sampled_from(["owe", "net", "ask", "refuse", "succeed", "again", "write off", "give up", "keep"]),
        st.integers(1, 5_000),
    ),
    max_size=25,
)


class Rollback(Exception):
    """Each story begins on the same books."""


def try_to(act: Callable[[], object]) -> bool:
    """Whether it was done; refused by another name than these it is a fault, a narrower one too."""
    try:
        with transaction.atomic():
            act()
    except StaydeskError as refused:
        if type(refused) not in {Conflict, Invalid}:
            raise
        return False
    return True


class Story:
    """One host with three payouts that were sent, and everything that can happen to what they owe."""

    def __init__(self) -> None:
        self.host = factories.person("Bob", is_host=True)
        self.staff = [factories.acting(factories.staff("finance")) for _ in range(2)]
        booking = factories.booking(factories.listing(self.host))
        for number in (1, 2, 3):
            Payout.objects.create(
                booking=booking, host=self.host, number=number, status="transferred", held=3_000, host_fee=0, guest_fee=0,
                currency="EUR", due_at=NOW, policy="payouts@1", transfer_amount=3_000, transfer_currency="EUR",
                transfer_id=f"tr_{number}", transferred_at=NOW, created_at=NOW,
            )  # fmt: skip
        self.number = 0

    @property
    def owed(self) -> int:
        return queries.owed(host_code=self.host.code, currency="EUR").amount

    def step(self, act: str, amount: int) -> None:
        self.number += 1
        at = NOW + self.number * DAY
        clawback = Clawback.objects.filter(status="submitted").first() if act in {"refuse", "succeed"} else None
        proposed = WriteOff.objects.filter(status="proposed").first()
        first, second = self.staff
        if act == "owe":
            owes(self.host, eur(amount), at=at)
        elif act == "net":  # what a release would take of it
            owes(self.host, eur(-min(amount, self.owed)), at=at)
        elif act == "ask":
            payout = Payout.objects.order_by("reversed_amount", "id")[0]
            asked = try_to(
                lambda: operations.request_clawback(
                    payout_code=payout.code,
                    amount=eur(amount),
                    reason="Owed",
                    version=payout.version,
                    actor=first,
                    now=at,
                )
            )
            if asked:
                operations.claim_clawback(clawback_code=Clawback.objects.latest("id").code, now=at)
        elif act == "again":
            failed = Clawback.objects.filter(status="failed").first()
            if failed is not None and try_to(
                lambda: operations.retry_clawback(
                    clawback_code=failed.code, version=failed.version, actor=second, now=at
                )
            ):
                operations.claim_clawback(clawback_code=failed.code, now=at)
        elif clawback is not None and act == "refuse":
            operations.fail_clawback(
                clawback_code=clawback.code, failure="insufficient", tries=clawback.tries, actor=SYSTEM, now=at
            )
        elif clawback is not None:
            operations.record_clawback(
                clawback_code=clawback.code, provider_id=f"trr_{self.number}", amount=eur(clawback.amount),
                actor=SYSTEM, now=at,
            )  # fmt: skip
        elif act == "write off":
            try_to(
                lambda: operations.propose_write_off(
                    host_code=self.host.code, amount=eur(amount), reason="Gone", actor=first, now=at
                )
            )
        elif proposed is not None and act in {"give up", "keep"}:
            try_to(
                lambda: operations.decide_write_off(
                    code=proposed.code, approve=act == "give up", reason="Checked", version=proposed.version,
                    actor=second, now=at,
                )
            )  # fmt: skip

    def check(self) -> None:
        at = NOW + self.number * DAY
        found = queries.receivables(now=at)
        assert self.owed >= 0 and sum(one.amount.amount for one in found) == self.owed
        for one in found:
            assert Money.sum(one.ages.values(), "EUR") == one.amount and all(
                debt.amount.amount > 0 for debt in one.debts
            )
        asking = sum(Clawback.objects.filter(status__in=["requested", "submitted"]).values_list("amount", flat=True))
        assert sum(one.coming_back.amount for one in found) == (asking if found else 0)
        standing = {row.key: row.amount for row in ledger.balances(code="1170", open_only=True)}
        for row in Clawback.objects.all():
            # What was taken back stands on the clearing account until the provider's own movement releases it.
            wanted = row.amount if row.status in {"submitted", "succeeded"} else 0
            assert standing.get(row.code, 0) == wanted, row.status
        for payout in Payout.objects.all():
            back = sum(payout.clawbacks.filter(status="succeeded").values_list("amount", flat=True))
            assert payout.reversed_amount == back <= payout.transfer_amount
            assert (payout.status == "reversed") is (back == payout.transfer_amount)


@pytest.mark.django_db
@settings(max_examples=25, deadline=None)
@given(ACTS)
def test_what_is_owed_is_never_taken_twice_nor_below_nothing(acts: list[tuple[str, int]]) -> None:
    with contextlib.suppress(Rollback), transaction.atomic():
        story = Story()
        for act, amount in [("owe", 4_000), *acts]:
            story.step(act, amount)
            story.check()
        raise Rollback


@pytest.mark.django_db
def test_a_second_try_is_checked_as_the_first_was_and_old_news_does_not_end_it() -> None:
    story = Story()
    story.step("owe", 4_000)
    story.step("ask", 1_000)
    story.step("refuse", 0)
    clawback, (finance, _) = Clawback.objects.get(), story.staff

    def again(actor: Actor) -> Clawback:
        return operations.retry_clawback(
            clawback_code=clawback.code, version=clawback.version, actor=actor, now=NOW + 9 * DAY
        )

    with pytest.raises(NotAllowed, match="your own"):
        again(replace(finance, id=story.host.pk))
    Payout.objects.filter(pk=clawback.payout_id).update(status="failed")
    with pytest.raises(Conflict, match="Nothing of payout"):
        again(finance)
    Payout.objects.filter(pk=clawback.payout_id).update(status="transferred")
    again(finance)
    operations.fail_clawback(clawback_code=clawback.code, failure="late", tries=1, actor=SYSTEM, now=NOW + 9 * DAY)
    clawback.refresh_from_db()
    assert (clawback.status, clawback.tries, story.owed) == ("indeterminate", 2, 3_000)
    Payout.objects.filter(number=3).update(status="reversed", reversed_amount=3_000)
    found = {one.payout: one.under_way for one in queries.reversible(host_id=story.host.pk, currency="EUR")}
    assert len(found) == 2 and [code for code, busy in found.items() if busy] == [clawback.payout.code]
