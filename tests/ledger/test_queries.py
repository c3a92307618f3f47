from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.db import connection, transaction

from backoffice.core.money import Money
from backoffice.ledger import operations, queries
from backoffice.ledger.models import Account, Balance, Journal
from backoffice.ledger.policies import Line
from backoffice.ledger.queries import StatementLine, SubjectSum, TrialRow, Turnover

from .conftest import NOON, ROBOT, Post, capture

HOUR = timedelta(hours=1)
EUR = "EUR"

pytestmark = pytest.mark.django_db


def settle(charge: str = "ch_1", amount: int = 500_00, fee: int = 7_75) -> list[Line]:
    """The provider's balance transaction of a charge."""
    return [
        Line("1100", "stripe", amount - fee, EUR),
        Line("5100", "", fee, EUR),
        Line("1150", charge, -amount, EUR),
    ]


class TestConcerning:
    def test_every_way_of_naming_counts_and_each_journal_stands_once(self, post: Post) -> None:
        post("1", capture("ch_1", "BK-1", 5))
        post("2", capture("ch_2", "BK-2", 5))
        post("3", settle("ch_1", 5, 1))
        post("4", capture("ch_3", "BK-3", 5))

        def keys(*names: str, limit: int = 10) -> list[str]:
            return [journal.idempotency_key for journal in queries.concerning(*names, limit=limit)]

        assert keys("ch_1") == ["1", "3"]
        assert keys("ch_2", "ch_1", "") == ["1", "2", "3"]
        assert keys("BK-1", "BK-3") == ["1", "2", "3", "4"]  # all of them are about the first
        assert keys("ch_1", "ch_2", limit=2) == ["2", "3"]
        assert keys("") == keys() == keys("ch_9") == []

    def test_nothing_is_walked_but_indexes(self, post: Post) -> None:
        for number in range(60):
            post(f"{number}", capture(f"ch_{number}", f"BK-{number}", 5))
        with connection.cursor() as cursor:
            # What is there now, not what the statistics say that an earlier test has left.
            cursor.execute("ANALYZE ledger_account, ledger_journal, ledger_line")
            cursor.execute("SET LOCAL enable_seqscan = off")
            cursor.execute("EXPLAIN " + queries._CONCERNING, [["a"], ["a"], ["a"], 5])
            plan = "\n".join(row for (row,) in cursor.fetchall())
        for index in ("ledger_journal_subject", "ledger_journal_reference", "ledger_account_key"):
            assert f"{index} " in plan, plan
        assert "Seq Scan" not in plan


class TestBalances:
    def test_an_account_that_nobody_posted_to_is_at_zero(self) -> None:
        assert queries.balance(account="1100", key="stripe", currency=EUR) == 0

    def test_currencies_and_keys_are_apart(self, post: Post) -> None:
        post("1", capture("ch_1", "BK-1", 5))
        post("2", capture("ch_2", "BK-1", 7))
        post("3", [Line("1150", "ch_1", 11, "JPY"), Line("2100", "BK-1", -11, "JPY")])
        assert queries.balance(account="1150", key="ch_1", currency=EUR) == 5
        assert queries.balance(account="2100", key="BK-1", currency=EUR) == -12
        assert queries.balance(account="1150", key="ch_1", currency="JPY") == 11

    def test_what_stands_under_a_key_is_money_per_currency(self, post: Post) -> None:
        post("1", capture("ch_1", "BK-1", 5))
        post("2", [Line("1150", "ch_1", 11, "JPY"), Line("2100", "BK-1", -11, "JPY")])
        post("3", [Line("1150", "ch_1", -5, EUR), Line("1310", "7", 5, EUR)])
        assert queries.standing(account="1150", key="ch_1") == [Money(11, "JPY")]
        assert queries.standing(account="2100", key="BK-1") == [Money(-5, EUR), Money(-11, "JPY")]
        assert queries.standing(account="2100", key="BK-2") == []

    def test_slots_are_summed(self, post: Post) -> None:
        post("1", [*capture(amount=5), *settle(amount=5, fee=1)])
        as_superuser(
            "INSERT INTO ledger_balance (account_id, slot, balance, version, journal_id) "
            "SELECT account_id, (slot + 1) % 16, 3, 1, journal_id FROM ledger_balance "
            "WHERE account_id = (SELECT id FROM ledger_account WHERE code = '1100')"
        )
        assert queries.balance(account="1100", key="stripe", currency=EUR) == 4 + 3
        assert queries.balances(code="1100").get().amount == 4 + 3
        assert queries.standing(account="1100", key="stripe") == [Money(4 + 3, EUR)]

    def test_lists_in_the_order_of_the_chart(self, post: Post) -> None:
        post("1", capture("ch_2", "BK-2"))
        post("2", capture("ch_1", "BK-1"))
        post("3", settle("ch_1"))
        listed = [(account.code, account.key, account.amount) for account in queries.balances()]
        assert listed == [
            ("1100", "stripe", 492_25),
            ("1150", "ch_1", 0),
            ("1150", "ch_2", 500_00),
            ("2100", "BK-1", -500_00),
            ("2100", "BK-2", -500_00),
            ("5100", "", 7_75),
        ]
        assert [account.key for account in queries.balances(code="1150")] == ["ch_1", "ch_2"]
        assert [account.key for account in queries.balances(code="1150", open_only=True)] == ["ch_2"]
        assert [account.code for account in queries.balances(key="BK-1")] == ["2100"]

    def test_the_rows_say_what_they_are(self, post: Post) -> None:
        posted = post("1", capture())
        assert posted is not None
        assert str(Account.objects.get(code="2100")) == "2100 BK-1 EUR"
        assert str(Journal.objects.get()) == f"journal {posted.journal_id} capture BK-1"
        assert [str(line) for line in queries.lines_of(posted.journal_id)] == ["Dr 500.00 EUR", "Cr 500.00 EUR"]
        assert str(Balance.objects.get(account__code="2100")) == "2100 BK-1 EUR: -500.00 EUR"


def test_a_trial_balance_is_by_code_and_currency(post: Post) -> None:
    post("1", capture("ch_1", "BK-1"), at=NOON)
    post("2", capture("ch_2", "BK-2"), at=NOON + HOUR)
    post("3", [Line("1150", "ch_3", 9, "JPY"), Line("2100", "BK-3", -9, "JPY")], at=NOON + HOUR)
    assert queries.trial_balance() == [
        TrialRow("1150", "Clearing: charge", "asset", "EUR", 1000_00, 0),
        TrialRow("1150", "Clearing: charge", "asset", "JPY", 9, 0),
        TrialRow("2100", "Guest funds held", "liability", "EUR", 0, 1000_00),
        TrialRow("2100", "Guest funds held", "liability", "JPY", 0, 9),
    ]
    assert [(row.code, row.debit, row.credit) for row in queries.trial_balance(as_of=NOON + HOUR)] == [
        ("1150", 500_00, 0),
        ("2100", 0, 500_00),
    ]
    assert queries.trial_balance(as_of=NOON) == []


def test_a_statement_runs_from_opening_to_closing(post: Post) -> None:
    post("1", capture(amount=5), at=NOON)
    second = post("2", capture(amount=7), at=NOON + 2 * HOUR)
    early = post("3", capture(amount=11), at=NOON + HOUR)  # told later, happened earlier
    post("4", capture(amount=13), at=NOON + 3 * HOUR)
    assert second is not None and early is not None

    def held(since: int, until: int) -> queries.Statement:
        return queries.statement(
            account="2100", key="BK-1", currency=EUR, since=NOON + since * HOUR, until=NOON + until * HOUR
        )

    statement = held(1, 3)
    assert (statement.opening, statement.closing) == (-5, -23)
    ids = [line.pk for posted in (early, second) for line in queries.lines_of(posted.journal_id)[1:]]
    assert statement.lines == [
        StatementLine(ids[0], early.journal_id, "capture", "BK-1", "", "", NOON + HOUR, -11, -16),
        StatementLine(ids[1], second.journal_id, "capture", "BK-1", "", "", NOON + 2 * HOUR, -7, -23),
    ]
    assert held(0, 1).closing == held(1, 2).opening == -5
    assert held(4, 9) == queries.Statement(opening=-36, lines=[], closing=-36)


def test_a_trace_tells_the_path_of_the_money(post: Post, django_assert_num_queries: Callable[..., object]) -> None:
    post("1", capture())
    post("2", settle())
    post("3", capture("ch_9", "BK-9"), subject="BK-9")
    with django_assert_num_queries(2):
        trace = queries.trace("BK-1")
        told = [(journal.idempotency_key, [line.account.code for line in journal.lines.all()]) for journal in trace]
    assert told == [("1", ["1150", "2100"]), ("2", ["1100", "5100", "1150"])]
    assert [journal.idempotency_key for journal in queries.journals()] == ["3", "2", "1"]


def test_turnover_counts_both_sides_in_a_period(post: Post) -> None:
    post("1", capture(), at=NOON)
    post("2", [Line("2100", "BK-1", 200_00, EUR), Line("4100", "", -200_00, EUR)], at=NOON + HOUR)
    post("3", capture("ch_2", "BK-2"), at=NOON + 2 * HOUR)
    assert queries.turnover(since=NOON, until=NOON + 2 * HOUR, codes=["2100", "4100", "5100"]) == [
        Turnover("2100", EUR, 200_00, 500_00),
        Turnover("4100", EUR, 0, 200_00),
    ]


def test_subject_sums_explain_what_is_left_of_each(post: Post) -> None:
    post("1", capture("ch_1", "BK-1"), subject="BK-1")
    post("2", [Line("2100", "BK-1", 500_00, EUR), Line("2400", "RF-1", -500_00, EUR)], subject="BK-1")
    post("3", capture("ch_2", "BK-2", 7), subject="BK-2")
    post("4", settle("ch_2", 7, 1), subject="")
    everything = [SubjectSum("BK-1", "1150", EUR, 500_00), SubjectSum("BK-1", "2100", EUR, 0)]
    others = [SubjectSum("BK-2", "1150", EUR, 7), SubjectSum("BK-2", "2100", EUR, -7)]
    assert list(queries.subject_sums(codes=["1150", "2100"])) == everything + others
    assert list(queries.subject_sums(codes=["1150", "2100"], subjects=["BK-2"])) == others
    assert list(queries.subject_sums(codes=["1150"], subjects=[])) == []


class TestClearing:
    def test_stands_since_it_was_last_at_zero(self, post: Post) -> None:
        post("1", capture(), at=NOON)
        post("2", settle(), at=NOON + HOUR)
        post("3", capture(amount=5), at=NOON + 2 * HOUR)
        post("4", capture(amount=2), at=NOON + 3 * HOUR)
        (standing,) = queries.clearing_open(now=NOON + 3 * HOUR)
        assert (standing.account, standing.key, standing.amount, standing.currency) == ("1150", "ch_1", 7, EUR)
        assert (standing.since, standing.due) == (NOON + 2 * HOUR, NOON + 3 * HOUR)
        assert str(standing) == "1150 ch_1: 0.07 EUR since 2026-07-10 14:00 UTC"

    def test_what_cleared_does_not_stand(self, post: Post) -> None:
        post("1", capture())
        post("2", settle())
        assert queries.clearing_open(now=NOON + HOUR) == []

    def test_oldest_first_and_only_as_old_as_asked(self, post: Post) -> None:
        post("1", capture("ch_2", "BK-2"), at=NOON + HOUR)
        post("2", [Line("2100", "BK-2", 5, EUR), Line("2400", "RF-1", -5, EUR)], at=NOON)
        now = NOON + 2 * HOUR
        assert [item.key for item in queries.clearing_open(now=now)] == ["RF-1", "ch_2"]
        assert [item.key for item in queries.clearing_open(now=now, older_than=2 * HOUR)] == ["RF-1"]
        assert queries.clearing_open(now=now, older_than=2 * HOUR + timedelta(seconds=1)) == []
        asked = Account.objects.filter(key="ch_2").values_list("id", flat=True)
        assert [item.key for item in queries.clearing_open(now=now, accounts=list(asked))] == ["ch_2"]
        assert queries.clearing_open(now=now, accounts=[]) == []


def as_superuser(sql: str) -> None:
    """What no trigger stops: the owner of the database sets them aside for a moment."""
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL session_replication_role = replica")
        cursor.execute(sql)
        cursor.execute("SET LOCAL session_replication_role = DEFAULT")


def failing(*, after: timedelta = timedelta(0)) -> dict[str, str]:
    return {finding.check: finding.detail for finding in queries.check(now=NOON + after) if not finding.ok}


@pytest.fixture
def books(post: Post) -> dict[str, int]:
    """A capture, its settlement, and a second capture that was reversed; returns the journals by key."""
    posted = {key: post(key, lines) for key, lines in {"1": capture(), "2": settle(), "3": capture("ch_2")}.items()}
    ids = {key: value.journal_id for key, value in posted.items() if value is not None}
    ids["4"] = operations.reverse(journal_id=ids["3"], key="4", reason="x", actor=ROBOT, now=NOON).journal_id
    return ids


class TestCheck:
    @pytest.mark.usefixtures("books")
    def test_says_what_it_proved(self) -> None:
        assert [(finding.check, finding.ok, finding.detail) for finding in queries.check(now=NOON)] == [
            ("guards", True, "8 triggers present and enabled"),
            ("chart", True, "33 accounts as in fixtures/chart_of_accounts.json"),
            ("journals_balance", True, "4 journals sum to zero in every currency"),
            ("journals_have_lines", True, "9 lines, two or more in every journal"),
            ("content_as_posted", True, "4 journals have the content they were posted with"),
            ("balances_equal_sums", True, "5 kept balances equal the sums of their lines"),
            ("bounded_accounts", True, "1 bounded accounts are covered"),
            ("reversals_exact", True, "1 reversals are exact negatives"),
            ("clearing", True, "0 clearing balances open, none overdue"),
        ]

    def test_an_empty_ledger_is_in_order(self) -> None:
        assert failing() == {}

    def test_names_the_first_journal_that_does_not_balance(self, books: dict[str, int]) -> None:
        as_superuser(
            f"UPDATE ledger_line SET amount = amount + 1 WHERE journal_id IN ({books['2']}, {books['3']})"
            " AND account_id IN (SELECT id FROM ledger_account WHERE code = '1150')"
        )
        found = {finding.check: finding for finding in queries.check(now=NOON)}
        assert found["journals_balance"].offender == f"journal {books['2']}: 1 EUR"
        assert found["journals_balance"].detail == (
            f"journal {books['2']}: 1 EUR does not sum to zero in every currency (and 1 more)"
        )
        assert {check for check, finding in found.items() if not finding.ok} == {
            "journals_balance",
            "content_as_posted",
            "balances_equal_sums",
            "reversals_exact",
        }

    def test_finds_an_amount_altered_on_both_sides(self, books: dict[str, int]) -> None:
        as_superuser(f"UPDATE ledger_line SET amount = amount * 2 WHERE journal_id = {books['1']}")
        assert failing() == {
            "content_as_posted": f"journal {books['1']} (1) is not what was posted under its key",
            "balances_equal_sums": "account 1150 ch_1: kept 0 EUR in 2 lines, sum 50000 in 2"
            " keeps a balance that is not the sum of its lines (and 1 more)",
        }

    def test_finds_a_subject_altered(self, books: dict[str, int]) -> None:
        as_superuser(f"UPDATE ledger_journal SET subject = 'BK-2' WHERE id = {books['1']}")
        assert failing() == {"content_as_posted": f"journal {books['1']} (1) is not what was posted under its key"}

    def test_finds_lines_removed(self, books: dict[str, int]) -> None:
        as_superuser(f"DELETE FROM ledger_line WHERE journal_id = {books['1']}")
        assert failing()["journals_have_lines"] == f"journal {books['1']} has fewer than two lines"
        assert "content_as_posted" in failing()

    def test_finds_lines_doubled_that_cancel_out(self, books: dict[str, int]) -> None:
        as_superuser(
            "INSERT INTO ledger_line (journal_id, account_id, amount, currency) SELECT journal_id, account_id,"
            f" amount * sign, currency FROM ledger_line, (VALUES (1), (-1)) s (sign) WHERE journal_id = {books['1']}"
        )
        assert set(failing()) == {"content_as_posted", "balances_equal_sums"}

    @pytest.mark.usefixtures("books")
    def test_finds_a_kept_balance_that_was_altered(self) -> None:
        as_superuser(
            "UPDATE ledger_balance SET balance = balance - 1 FROM ledger_account WHERE id = account_id AND key = 'BK-1'"
        )
        assert failing() == {
            "balances_equal_sums": "account 2100 BK-1: kept -50001 EUR in 3 lines, sum -50000 in 3"
            " keeps a balance that is not the sum of its lines"
        }

    @pytest.mark.usefixtures("books")
    def test_finds_a_kept_balance_that_was_removed(self) -> None:
        as_superuser("DELETE FROM ledger_balance USING ledger_account WHERE id = account_id AND key = 'stripe'")
        assert set(failing()) == {"balances_equal_sums"}

    def test_finds_a_reversal_that_is_not_exact(self, books: dict[str, int]) -> None:
        as_superuser(f"UPDATE ledger_line SET amount = amount * 2 WHERE journal_id = {books['4']}")
        assert failing()["reversals_exact"] == (
            f"journal {books['4']} reverses {books['3']} is not the exact negative of what it reverses"
        )

    @pytest.mark.usefixtures("books")
    def test_finds_a_bounded_account_overdrawn(self) -> None:
        as_superuser(
            "UPDATE ledger_line SET amount = 7 WHERE amount < 0 AND account_id = "
            "(SELECT id FROM ledger_account WHERE key = 'BK-1')"
        )
        assert failing()["bounded_accounts"] == "account 2100 BK-1: 50014 EUR gave more than it was given"

    def test_finds_what_has_not_cleared_in_time(self, post: Post) -> None:
        post("1", capture())
        post("2", capture("ch_0", "BK-0"))
        assert failing(after=HOUR - timedelta(seconds=1)) == {}
        assert failing(after=HOUR) == {
            "clearing": "1150 ch_0: 500.00 EUR since 2026-07-10 12:00 UTC has not cleared in time (and 1 more)"
        }

    @pytest.mark.parametrize(
        "table_and_trigger", [(table, trigger) for table, names in queries.GUARDS.items() for trigger in names]
    )
    def test_finds_a_guard_that_is_disabled_or_gone(self, table_and_trigger: tuple[str, str]) -> None:
        table, trigger = table_and_trigger
        for sql in (f"ALTER TABLE {table} DISABLE TRIGGER {trigger}", f"DROP TRIGGER {trigger} ON {table}"):
            with connection.cursor() as cursor:
                cursor.execute(sql)
            assert queries.guards().detail == f"trigger {trigger} is missing or disabled"
            assert queries.guards().offender == f"trigger {trigger}"

    def test_finds_a_chart_that_is_not_the_files(self) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT replace(pg_get_viewdef('ledger_chart'), 'Guest receivable', 'Slush fund')")
            (definition,) = cursor.fetchone()
            cursor.execute(f"CREATE OR REPLACE VIEW ledger_chart AS {definition}")
        assert failing() == {"chart": "account 1300 is not as in fixtures/chart_of_accounts.json"}
        with transaction.atomic():
            operations.install_chart()
        assert failing() == {}
