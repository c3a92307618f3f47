from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from backoffice.core.actor import Actor
from backoffice.core.errors import Conflict, Invalid, KeyReused, NotFound, Overdrawn, Refused, StaydeskError, Unbalanced
from backoffice.ledger import operations, queries
from backoffice.ledger.models import Journal
from backoffice.ledger.policies import Line

from .conftest import NOON, ROBOT, Post, capture

ANN = Actor(kind="staff", id=12, name="Ann")


@pytest.mark.django_db
class TestPost:
    def test_writes_the_fact_as_it_was_told(self, post: Post) -> None:
        posted = operations.post(
            key="capture:1",
            kind="capture",
            lines=capture(),
            subject="BK-1",
            reference="ch_1",
            memo="paid by card",
            effective_at=NOON,
            actor=ANN,
            now=NOON + timedelta(minutes=3),
        )
        assert posted is not None and posted.created
        journal = Journal.objects.get(pk=posted.journal_id)
        assert (journal.idempotency_key, journal.kind, journal.subject) == ("capture:1", "capture", "BK-1")
        assert (journal.reference, journal.memo, journal.actor) == ("ch_1", "paid by card", "staff:12")
        assert (journal.effective_at, journal.recorded_at) == (NOON, NOON + timedelta(minutes=3))
        assert journal.reverses_id is None
        assert [(str(line.account), line.amount) for line in queries.lines_of(journal.pk)] == [
            ("1150 ch_1 EUR", 500_00),
            ("2100 BK-1 EUR", -500_00),
        ]

    def test_takes_one_statement(self, post: Post) -> None:
        with CaptureQueriesContext(
            connection,
        ) as statements:
            post("capture:1", capture())
        assert len(statements) == 1

    def test_a_process_is_named_where_a_person_has_a_number(self, post: Post) -> None:
        post("capture:1", capture())
        assert Journal.objects.get().actor == "system:tests"

    def test_the_same_fact_told_again_is_the_same_journal(self, post: Post) -> None:
        first = post("capture:1", capture())
        again = post("capture:1", list(reversed(capture())), at=NOON + timedelta(days=1), actor=ANN)
        assert first is not None and again == operations.Posted(first.journal_id, created=False)
        assert queries.balance(account="1150", key="ch_1", currency="EUR") == 500_00

    @pytest.mark.parametrize(
        ("lines", "subject"),
        [
            (capture(amount=500_01), "BK-1"),
            (capture(charge="ch_2"), "BK-1"),
            (capture(), "BK-2"),
            ([*capture(), Line("1150", "ch_1", 1, "EUR"), Line("1150", "ch_1", -1, "EUR")], "BK-1"),
        ],
        ids=["amount", "account", "subject", "more lines"],
    )
    def test_a_key_stands_for_one_fact(self, post: Post, lines: list[Line], subject: str) -> None:
        post("capture:1", capture())
        with pytest.raises(KeyReused, match="capture:1 was used for a different fact"):
            post("capture:1", lines, subject=subject)
        assert Journal.objects.count() == 1  # and the transaction can go on

    def test_drops_lines_of_zero(self, post: Post) -> None:
        posted = post("capture:1", [*capture(), Line("2110", "BK-1", 0, "EUR")])
        assert posted is not None and len(queries.lines_of(posted.journal_id)) == 2

    @pytest.mark.parametrize("lines", [[], [Line("1150", "ch_1", 0, "EUR"), Line("2100", "BK-1", 0, "EUR")]])
    def test_posts_nothing_for_nothing(self, post: Post, lines: list[Line]) -> None:
        assert post("capture:1", lines) is None
        assert not Journal.objects.exists()

    def test_two_currencies_balance_each_by_itself(self, post: Post) -> None:
        post(
            "capture:1",
            [
                Line("1150", "ch_1", 540_00, "USD"),
                Line("3900", "ch_1", -540_00, "USD"),
                Line("3900", "ch_1", 500_00, "EUR"),
                Line("2100", "BK-1", -500_00, "EUR"),
            ],
        )
        assert queries.balance(account="3900", key="ch_1", currency="USD") == -540_00
        assert queries.balance(account="3900", key="ch_1", currency="EUR") == 500_00

    def test_one_account_may_be_on_several_lines(self, post: Post) -> None:
        post(
            "capture:1",
            [
                Line("1150", "ch_1", 3, "EUR"),
                Line("2300", "SG:2026-07", -1, "EUR"),
                Line("2300", "SG:2026-07", -1, "EUR"),
                Line("2300", "SG:2026-07", -1, "EUR"),
            ],
        )
        assert queries.balance(account="2300", key="SG:2026-07", currency="EUR") == -3

    @pytest.mark.parametrize(
        ("lines", "error", "sentence"),
        [
            (
                [Line("1150", "ch_1", 500, "EUR"), Line("2100", "BK-1", -400, "EUR")],
                Unbalanced,
                r"Journal \d+ \(capture:1\) does not sum to zero: 100 EUR in minor units\.",
            ),
            (
                [Line("1150", "ch_1", 500, "EUR"), Line("2100", "BK-1", -500, "USD")],
                Unbalanced,
                "500 EUR, -500 USD in minor units",
            ),
            ([Line("1150", "ch_1", 500, "EUR")], Unbalanced, "has 1 lines"),
            (
                [Line("1155", "ch_1", 500, "EUR"), Line("2100", "BK-1", -500, "EUR")],
                Invalid,
                r"Account 1155 is not in the chart of accounts\.",
            ),
            (
                [Line("2100", "BK-1", 12_00, "EUR"), Line("2400", "re_1", -12_00, "EUR")],
                Overdrawn,
                r"Guest funds held \(2100\) of BK-1 holds 10\.00 EUR; 12\.00 EUR cannot be taken from it\.",
            ),
        ],
        ids=["unbalanced", "across currencies", "one line", "unknown account", "overdrawn"],
    )
    def test_the_databases_refusal_is_an_answer(
        self, post: Post, lines: list[Line], error: type[StaydeskError], sentence: str
    ) -> None:
        post("capture:0", capture(amount=10_00))
        with pytest.raises(error, match=sentence), transaction.atomic():
            post("capture:1", lines)
        assert Journal.objects.count() == 1

    def test_what_the_database_refuses_for_another_reason_is_raised_as_it_is(self, post: Post) -> None:
        with pytest.raises(Exception, match="ledger_account_currency_code"), transaction.atomic():
            post("capture:1", [Line("1150", "", 5, "eur"), Line("2100", "", -5, "eur")])

    def test_a_key_is_asked_for(self, post: Post) -> None:
        with pytest.raises(Invalid, match="key is empty"):
            post("", capture())

    def test_an_overdrawn_account_says_what_it_holds(self, post: Post) -> None:
        with pytest.raises(Overdrawn) as refusal, transaction.atomic():
            post("refund:1", [Line("2200", "7", 1, "JPY"), Line("2210", "tr_1", -1, "JPY")])
        assert refusal.value.facts == {"account": "Host payable (2200)", "key": "7", "held": "0 JPY", "asked": "1 JPY"}

    def test_a_bounded_account_may_be_emptied(self, post: Post) -> None:
        post("capture:1", capture())
        post("refund:1", [Line("2100", "BK-1", 500_00, "EUR"), Line("2400", "re_1", -500_00, "EUR")])
        assert queries.balance(account="2100", key="BK-1", currency="EUR") == 0


@pytest.mark.django_db(transaction=True)
def test_a_journal_is_posted_in_the_transaction_of_what_it_records(post: Post) -> None:
    with pytest.raises(transaction.TransactionManagementError, match="in the transaction of the change"):
        post("capture:1", capture())


@pytest.mark.django_db(transaction=True)
def test_a_journal_goes_with_its_transaction(post: Post) -> None:
    with transaction.atomic():
        post("capture:1", capture())
        transaction.set_rollback(True)
    assert not Journal.objects.exists()
    assert not queries.balances().exists()


@pytest.mark.django_db
class TestReverse:
    def test_posts_the_exact_negative(self, post: Post) -> None:
        original = post("capture:1", [*capture(), Line("2110", "BK-1", -5, "EUR"), Line("2110", "BK-1", 5, "EUR")])
        assert original is not None
        reversal = operations.reverse(
            journal_id=original.journal_id, key="reverse:1", reason="wrong booking", actor=ANN, now=NOON
        )
        journal = Journal.objects.get(pk=reversal.journal_id)
        assert (journal.reverses_id, journal.kind, journal.subject) == (original.journal_id, "reversal", "BK-1")
        assert (journal.memo, journal.actor) == ("wrong booking", "staff:12")
        assert {account.amount for account in queries.balances()} == {0}
        assert [-line.amount for line in queries.lines_of(reversal.journal_id)] == [
            line.amount for line in queries.lines_of(original.journal_id)
        ]

    def test_asked_again_with_its_key_it_is_the_same_reversal(self, post: Post) -> None:
        original = post("capture:1", capture())
        assert original is not None
        first, second = (
            operations.reverse(journal_id=original.journal_id, key="reverse:1", reason="x", actor=ROBOT, now=NOON)
            for _ in range(2)
        )
        assert (first.created, second.created) == (True, False)
        assert first.journal_id == second.journal_id

    def test_a_journal_is_reversed_once(self, post: Post) -> None:
        original = post("capture:1", capture())
        assert original is not None
        operations.reverse(journal_id=original.journal_id, key="reverse:1", reason="x", actor=ROBOT, now=NOON)
        with pytest.raises(Conflict, match="has been reversed already"):
            operations.reverse(journal_id=original.journal_id, key="reverse:2", reason="x", actor=ROBOT, now=NOON)
        assert Journal.objects.count() == 2

    def test_a_reversal_can_itself_be_reversed(self, post: Post) -> None:
        original = post("capture:1", capture())
        assert original is not None
        back = operations.reverse(journal_id=original.journal_id, key="r1", reason="x", actor=ROBOT, now=NOON)
        operations.reverse(journal_id=back.journal_id, key="r2", reason="was right", actor=ROBOT, now=NOON)
        assert queries.balance(account="2100", key="BK-1", currency="EUR") == -500_00

    def test_what_was_passed_on_is_not_taken_back(self, post: Post) -> None:
        original = post("capture:1", capture())
        assert original is not None
        post("release:1", [Line("2100", "BK-1", 500_00, "EUR"), Line("2200", "7", -500_00, "EUR")])
        with pytest.raises(Overdrawn), transaction.atomic():
            operations.reverse(journal_id=original.journal_id, key="r1", reason="x", actor=ROBOT, now=NOON)

    def test_needs_a_journal_and_a_reason(self, post: Post) -> None:
        posted = post("capture:1", capture())
        assert posted is not None
        with pytest.raises(NotFound, match="No such journal"):
            operations.reverse(journal_id=posted.journal_id + 1, key="r1", reason="x", actor=ROBOT, now=NOON)
        with pytest.raises(Refused, match="a reason is missing"):
            operations.reverse(journal_id=posted.journal_id, key="r1", reason=" ", actor=ROBOT, now=NOON)


@pytest.mark.django_db
def test_a_post_costs_the_same_however_large_the_ledger_has_grown_since_the_connection_was_opened(post: Post) -> None:
    """PostgreSQL plans the statements of `ledger_post` once per connection, when the tables may still be small."""

    def rows_scanned() -> int:
        with connection.cursor() as cursor:
            cursor.execute("SELECT sum(seq_tup_read) FROM pg_stat_xact_user_tables WHERE relname LIKE 'ledger%'")
            return int(cursor.fetchone()[0])

    with connection.cursor() as cursor:  # the statistics say: nothing in them
        cursor.execute("ANALYZE ledger_account, ledger_balance, ledger_journal, ledger_line")
    before = rows_scanned()
    for number in range(60):
        fee = [Line("5100", "", 1, "EUR"), Line("4100", "", -1, "EUR")]
        post(f"capture:{number}", [*capture(f"ch_{number}", f"BK-{number}"), *fee])
    assert rows_scanned() == before
