"""Many who post at once, each with a connection of its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from django.db import connection, transaction

from backoffice.core.errors import Conflict, Overdrawn
from backoffice.ledger import operations, queries
from backoffice.ledger.models import Balance, Journal
from backoffice.ledger.policies import Line

from .conftest import NOON, ROBOT, Post, capture

CLIENTS = 8

pytestmark = pytest.mark.django_db(transaction=True)


def at_once(what: Callable[[int], str], clients: int = CLIENTS) -> Counter[str]:
    """Run `what` for each client at the same moment; returns how often each outcome came."""
    start = Barrier(clients)

    def client(number: int) -> str:
        try:
            start.wait(timeout=30)
            return what(number)
        finally:
            connection.close()

    with ThreadPoolExecutor(clients) as pool:
        return Counter(pool.map(client, range(clients)))


def everything_adds_up() -> bool:
    return all(finding.ok for finding in queries.check(now=NOON))


def test_the_same_accounts_in_any_order_neither_deadlock_nor_lose_a_cent(post: Post) -> None:
    rounds = 20

    def work(number: int) -> str:
        for turn in range(rounds):
            lines = [
                Line("1100", "stripe", 7, "EUR"),
                Line("1310", "1", -3, "EUR"),
                Line("5210", "claim", -4, "EUR"),
            ]
            with transaction.atomic():
                post(f"{number}:{turn}", lines if number % 2 else lines[::-1])
        return "done"

    assert at_once(work) == {"done": CLIENTS}
    assert queries.balance(account="1100", key="stripe", currency="EUR") == 7 * rounds * CLIENTS
    assert queries.balance(account="5210", key="claim", currency="EUR") == -4 * rounds * CLIENTS
    assert Balance.objects.get(account__code="1310").version == rounds * CLIENTS
    assert Balance.objects.filter(account__code="1100").count() > 1  # each connection moved a slot of its own
    assert everything_adds_up()


def test_one_fact_told_by_many_at_once_is_posted_once(post: Post) -> None:
    def work(number: int) -> str:
        with transaction.atomic():
            posted = post("capture:1", capture())
        assert posted is not None
        return "created" if posted.created else "found"

    assert at_once(work) == {"created": 1, "found": CLIENTS - 1}
    assert queries.balance(account="1150", key="ch_1", currency="EUR") == 500_00


def test_every_reversal_asked_twice_happens_once(post: Post) -> None:
    journals = []
    for number in range(CLIENTS):
        with transaction.atomic():
            posted = post(f"capture:{number}", capture(f"ch_{number}", f"BK-{number}"), subject=f"BK-{number}")
        assert posted is not None
        journals.append(posted.journal_id)

    def twice(same_key: bool) -> Callable[[int], str]:
        def work(number: int) -> str:
            key = f"reverse:{number // 2}" if same_key else f"reverse:client-{number}"
            try:
                with transaction.atomic():
                    journal_id = journals[number // 2]
                    posted = operations.reverse(journal_id=journal_id, key=key, reason="x", actor=ROBOT, now=NOON)
            except Conflict:
                return "refused"
            return "created" if posted.created else "found"

        return work

    assert at_once(twice(same_key=True)) == {"created": CLIENTS // 2, "found": CLIENTS // 2}
    assert at_once(twice(same_key=False)) == {"refused": CLIENTS}
    assert everything_adds_up()


def test_two_reversals_of_one_journal_under_different_keys(post: Post) -> None:
    for number in range(5):
        with transaction.atomic():
            original = post(f"capture:{number}", capture(f"ch_{number}", f"BK-{number}"))
        assert original is not None
        journal_id = original.journal_id

        def work(client: int, journal_id: int = journal_id) -> str:
            try:
                with transaction.atomic():
                    operations.reverse(
                        journal_id=journal_id, key=f"reverse:{journal_id}:{client}", reason="x", actor=ROBOT, now=NOON
                    )
            except Conflict:
                return "refused"
            return "reversed"

        assert at_once(work) == {"reversed": 1, "refused": CLIENTS - 1}
    assert Journal.objects.filter(reverses__isnull=False).count() == 5
    assert everything_adds_up()


def test_a_bounded_account_is_not_overdrawn_by_many_at_once(post: Post) -> None:
    with transaction.atomic():
        post(
            "release",
            [Line("2100", "BK-1", 0, "EUR"), Line("1100", "stripe", 500, "EUR"), Line("2200", "7", -500, "EUR")],
        )

    def work(number: int) -> str:
        try:
            with transaction.atomic():
                post(f"transfer:{number}", [Line("2200", "7", 100, "EUR"), Line("2210", f"tr_{number}", -100, "EUR")])
        except Overdrawn:
            return "overdrawn"
        return "paid"

    assert at_once(work) == {"paid": 5, "overdrawn": CLIENTS - 5}
    assert queries.balance(account="2200", key="7", currency="EUR") == 0
    assert everything_adds_up()


def test_new_accounts_opened_by_many_at_once_are_opened_once(post: Post) -> None:
    codes = ["1150", "2400", "5210", "9900"]

    def work(number: int) -> str:
        order = codes[number % 4 :] + codes[: number % 4]
        with transaction.atomic():
            post(
                f"capture:{number}",
                [Line(code, "same", amount, "EUR") for code, amount in zip(order, (1, 2, 3, -6), strict=True)],
            )
        return "done"

    assert at_once(work) == {"done": CLIENTS}
    assert [account.code for account in queries.balances()] == codes
    assert everything_adds_up()
