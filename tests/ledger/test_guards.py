"""The database's own refusals, by trying to get past each with plain SQL; and that it is that very guard which refuses."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from django.db import IntegrityError, ProgrammingError, connection, transaction

from backoffice.ledger import queries
from backoffice.ledger.policies import Line

from .conftest import Post, capture

JOURNAL = """
    INSERT INTO ledger_journal (idempotency_key, request_hash, kind, subject, reference, memo, actor, effective_at,
                                recorded_at, reverses_id)
    VALUES ({key}, '', 'raw', '', '', '', 'raw', now(), now(), {reverses});
"""
# The journal that the attack has just made, and the one that was posted properly before.
OURS = "(SELECT max(id) FROM ledger_journal)"
POSTED = "(SELECT min(id) FROM ledger_journal)"


def journal(key: str = "'raw'", reverses: str = "NULL") -> str:
    return JOURNAL.format(key=key, reverses=reverses)


def account(code: str, key: str = "", currency: str = "EUR") -> str:
    return (
        f"(SELECT id FROM ledger_account WHERE code = '{code}' AND currency = '{currency}'"
        f" AND key = '{key or {'1150': 'ch_1', '2100': 'BK-1'}[code]}')"
    )


def lines(of: str, *legs: tuple[str, int, str]) -> str:
    values = ", ".join(f"({of}, {account}, {amount}, '{currency}')" for account, amount, currency in legs)
    return f"INSERT INTO ledger_line (journal_id, account_id, amount, currency) VALUES {values};"


def dollars(amount: int) -> tuple[str, int, str]:
    return (account("2100", "BK-1", "USD"), amount, "USD")


CLEARING, HELD = account("1150"), account("2100")
OPEN_DOLLARS = "INSERT INTO ledger_account (code, key, currency) VALUES ('2100', 'BK-1', 'USD');"


@dataclass(frozen=True)
class Attack:
    """SQL that must be refused by the guard named `by`; without it (and without `also`) the same SQL is accepted."""

    what: str
    sql: str
    by: str
    also: tuple[str, ...] = ()


ATTACKS = [
    Attack(
        "I1 a journal that does not sum to zero",
        journal() + lines(OURS, (CLEARING, 500, "EUR"), (HELD, -400, "EUR")),
        "ledger_journal_balanced",
    ),
    Attack(
        "I1 a journal that sums to zero across currencies only",
        OPEN_DOLLARS + journal() + lines(OURS, (CLEARING, 500, "EUR"), dollars(-500)),
        "ledger_journal_balanced",
    ),
    Attack("I2 a journal without lines", journal(), "ledger_journal_balanced"),
    Attack("I2 a journal of one line", journal() + lines(OURS, (HELD, -5, "EUR")), "ledger_journal_balanced"),
    Attack(
        "I3 lines added to a journal that was posted",
        lines(POSTED, (CLEARING, 500, "EUR"), (HELD, -500, "EUR")),
        "ledger_line_sealed",
    ),
    Attack(
        "I3 one more line after the journal was found balanced in the same transaction",
        journal()
        + lines(OURS, (CLEARING, 500, "EUR"), (HELD, -500, "EUR"))
        + "SET CONSTRAINTS ALL IMMEDIATE; SET CONSTRAINTS ALL DEFERRED;"
        + lines(OURS, (HELD, -100, "EUR")),
        "ledger_line_sealed",
    ),
    Attack(
        "I4 a line of zero",
        journal() + lines(OURS, (CLEARING, 0, "EUR"), (CLEARING, 5, "EUR"), (HELD, -5, "EUR")),
        "ledger_line_not_zero",
    ),
    Attack(
        "I4 a line in another currency than its account",
        journal() + lines(OURS, (CLEARING, 5, "USD"), (HELD, -5, "USD")),
        "ledger_line_account_fk",
    ),
    Attack(
        "a line on an account that does not exist",
        journal() + lines(OURS, ("-1", 5, "EUR"), (HELD, -5, "EUR")),
        "ledger_line_account_fk",
        ("ledger_line_moves_balance",),
    ),
    Attack(
        "a line of a journal that does not exist",
        lines("-1", (CLEARING, 5, "EUR"), (HELD, -5, "EUR")),
        "ledger_line_journal_fk",
    ),
    Attack("I5 a line changed", "UPDATE ledger_line SET amount = amount * 2", "ledger_line_append_only"),
    Attack("I5 a line removed", "DELETE FROM ledger_line", "ledger_line_append_only"),
    Attack("I5 all lines removed", "TRUNCATE ledger_line", "ledger_line_append_only"),
    Attack("I5 a journal changed", "UPDATE ledger_journal SET memo = 'else'", "ledger_journal_append_only"),
    Attack(
        "I5 a journal removed", "DELETE FROM ledger_journal", "ledger_journal_append_only", ("ledger_line_journal_fk",)
    ),
    Attack(
        "I5 all journals removed",
        "TRUNCATE ledger_journal CASCADE",
        "ledger_journal_append_only",
        ("ledger_line_append_only",),
    ),
    Attack("I5 an account renamed", "UPDATE ledger_account SET key = 'mine'", "ledger_account_append_only"),
    Attack(
        "I5 an account removed",
        "DELETE FROM ledger_account",
        "ledger_account_append_only",
        ("ledger_line_account_fk", "ledger_balance_account_fk"),
    ),
    Attack(
        "I5 all accounts removed",
        "TRUNCATE ledger_account CASCADE",
        "ledger_account_append_only",
        ("ledger_line_append_only", "ledger_balance_kept"),
    ),
    Attack(
        "I6 a second journal for one fact",
        journal(key="'capture:1'") + lines(OURS, (CLEARING, 5, "EUR"), (HELD, -5, "EUR")),
        "ledger_journal_key_once",
    ),
    Attack(
        "I6 a journal without a key",
        journal(key="''") + lines(OURS, (CLEARING, 5, "EUR"), (HELD, -5, "EUR")),
        "ledger_journal_has_key",
    ),
    Attack(
        "I7 a reversal that is not the exact negative",
        journal(reverses=POSTED) + lines(OURS, (CLEARING, -400_00, "EUR"), (HELD, 400_00, "EUR")),
        "ledger_journal_balanced",
    ),
    Attack(
        "I7 a reversal that splits a line",
        journal(reverses=POSTED)
        + lines(OURS, (CLEARING, -500_00, "EUR"), (HELD, 400_00, "EUR"), (HELD, 100_00, "EUR")),
        "ledger_journal_balanced",
    ),
    Attack(
        "I7 a second reversal",
        journal(reverses=POSTED)
        + lines(OURS, (CLEARING, -500_00, "EUR"), (HELD, 500_00, "EUR"))
        + journal(key="'raw2'", reverses=POSTED),
        "ledger_journal_reversed_once",
        ("ledger_journal_balanced",),
    ),
    Attack("a reversal of nothing", journal(reverses="-1"), "ledger_journal_reverses_fk", ("ledger_journal_balanced",)),
    Attack(
        "I9 more paid out of a booking than was collected for it",
        journal() + lines(OURS, (CLEARING, -500_01, "EUR"), (HELD, 500_01, "EUR")),
        "ledger_balance_bounded",
        ("ledger_line_moves_balance",),
    ),
    Attack("I10 a balance changed", "UPDATE ledger_balance SET balance = 0", "ledger_balance_kept"),
    Attack(
        "I10 a balance invented",
        f"INSERT INTO ledger_balance (account_id, slot, balance, version, journal_id) VALUES ({HELD}, 7, 1, 1, {POSTED})",
        "ledger_balance_kept",
    ),
    Attack("I10 a balance removed", "DELETE FROM ledger_balance", "ledger_balance_kept"),
    Attack("I10 all balances removed", "TRUNCATE ledger_balance", "ledger_balance_kept"),
    Attack(
        "an account outside the chart",
        "INSERT INTO ledger_account (code, key, currency) VALUES ('6666', '', 'EUR')",
        "ledger_account_of_chart",
    ),
    Attack(
        "an account in no currency",
        "INSERT INTO ledger_account (code, key, currency) VALUES ('1010', '', 'eur')",
        "ledger_account_currency_code",
    ),
]


def run(sql: str) -> None:
    """Run an attack as far as a commit would take it."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(sql)
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")


def refused_by(sql: str) -> str:
    with pytest.raises(IntegrityError) as refusal:
        run(sql)
    return str(refusal.value.__cause__.diag.constraint_name)  # type: ignore[union-attr]


def drop(guard: str) -> None:
    """Remove a trigger or a constraint by its name, wherever it is."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT format('DROP TRIGGER %%I ON %%s', tgname, tgrelid::regclass) FROM pg_trigger
            WHERE tgname = %s AND NOT tgisinternal
            UNION ALL
            SELECT format('ALTER TABLE %%s DROP CONSTRAINT %%I', conrelid::regclass, conname) FROM pg_constraint
            WHERE conname = %s AND contype <> 't'
            """,
            [guard, guard],
        )
        ((statement,),) = cursor.fetchall()
        cursor.execute(statement)


@pytest.fixture
def posted(db: None, post: Post) -> None:
    post("capture:1", capture())


@pytest.mark.usefixtures("posted")
@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.what)
def test_the_database_refuses(attack: Attack) -> None:
    assert refused_by(attack.sql) == attack.by


@pytest.mark.usefixtures("posted")
@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.what)
def test_without_its_guard_the_same_write_is_accepted(attack: Attack) -> None:
    dropping = "ledger_line_moves_balance" if attack.by == "ledger_balance_bounded" else attack.by
    for guard in {dropping, *attack.also}:
        drop(guard)
    run(attack.sql)


def test_every_trigger_is_attacked() -> None:
    attacked = {attack.by for attack in ATTACKS} | {guard for attack in ATTACKS for guard in attack.also}
    assert {trigger for triggers in queries.GUARDS.values() for trigger in triggers} <= attacked


@pytest.mark.usefixtures("posted")
def test_the_guards_named_are_the_guards_there_are() -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT tgrelid::regclass::text, tgname FROM pg_trigger WHERE NOT tgisinternal AND tgname LIKE 'ledger%'"
        )
        there = set(cursor.fetchall())
    assert there == {(table, trigger) for table, triggers in queries.GUARDS.items() for trigger in triggers}


@pytest.mark.usefixtures("posted")
def test_a_temporary_table_of_the_same_name_deceives_nobody() -> None:
    deceit = f"""
        CREATE TEMP TABLE ledger_line AS SELECT {OURS} AS journal_id, 'EUR' AS currency, amount, account_id
            FROM (VALUES (5, 1), (-5, 2)) AS fake (amount, account_id);
    """
    unbalanced = lines(OURS, (CLEARING, 500, "EUR"), (HELD, -400, "EUR")).replace("INTO ledger", "INTO public.ledger")
    assert refused_by(journal() + deceit + unbalanced) == "ledger_journal_balanced"
    with connection.cursor() as cursor:
        cursor.execute("ALTER FUNCTION ledger_journal_balanced() RESET search_path")
    run(journal() + deceit + unbalanced)


@pytest.mark.django_db(transaction=True)
def test_an_unbalanced_journal_does_not_survive_its_commit() -> None:
    with pytest.raises(IntegrityError, match="has 0 lines"), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(journal())
    assert not queries.journals().exists()


@pytest.mark.django_db(transaction=True)
def test_no_line_is_added_after_the_transaction_even_as_the_first_of_its_statement(post: Post) -> None:
    with transaction.atomic():
        post("capture:1", capture())
    sql = lines(POSTED, (CLEARING, 5, "EUR"), (HELD, -5, "EUR"))
    with pytest.raises(IntegrityError, match="after its transaction"):
        run(sql)


@pytest.mark.django_db(transaction=True)
def test_lines_may_be_written_in_a_later_savepoint_of_the_same_transaction(post: Post) -> None:
    with transaction.atomic(), transaction.atomic():
        with transaction.atomic():
            post("capture:1", capture())
        post("capture:2", [Line("1150", "ch_2", 5, "EUR"), Line("2100", "BK-2", -5, "EUR")])
    assert queries.journals().count() == 2


@pytest.mark.usefixtures("posted")
def test_the_desk_can_run_as_a_role_that_may_only_insert(post: Post) -> None:
    """The two roles of ADR 1: the application's can post, and can neither write a balance nor touch what is written."""
    role = f"ledger_desk_{connection.connection.info.backend_pid}"  # roles are the cluster's: other tests run beside us
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            CREATE ROLE {role};
            GRANT SELECT, INSERT ON ledger_journal, ledger_line, ledger_account TO {role};
            GRANT SELECT ON ledger_balance, ledger_chart TO {role};
            ALTER FUNCTION ledger_line_moves_balance() SECURITY DEFINER;
            SET LOCAL ROLE {role};
            """
        )
        post("capture:2", capture("ch_2", "BK-2"))
        assert queries.balance(account="2100", key="BK-2", currency="EUR") == -500_00
        for forbidden in (
            "UPDATE ledger_line SET amount = 1",
            "DELETE FROM ledger_journal",
            "UPDATE ledger_balance SET balance = 1",
            "ALTER TABLE ledger_line DISABLE TRIGGER ALL",
            "SET session_replication_role = replica",
        ):
            with pytest.raises(ProgrammingError, match=r"permission denied|must be owner"), transaction.atomic():
                cursor.execute(forbidden)
        cursor.execute("RESET ROLE")
