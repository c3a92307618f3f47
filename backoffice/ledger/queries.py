"""Questions to the ledger: balances, statements, traces, and the proof that it still adds up.

Amounts are signed minor units, debit positive. A check recomputes from the lines; it never trusts what was kept."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from typing import Any, Final

from django.conf import settings
from django.db import connection
from django.db.models import BigIntegerField, OuterRef, Prefetch, QuerySet, Subquery, Sum
from django.db.models.functions import Coalesce

from backoffice.core.errors import NotFound
from backoffice.core.money import Money
from backoffice.ledger.models import Account, Balance, Journal, JournalLine
from backoffice.ledger.policies import ChartAccount, parse_chart

# Table -> the triggers that guard it (migration 0002). `ops doctor` and `check` ask whether each is there and enabled.
GUARDS: Final[dict[str, tuple[str, ...]]] = {
    "ledger_account": ("ledger_account_append_only", "ledger_account_of_chart"),
    "ledger_journal": ("ledger_journal_append_only", "ledger_journal_balanced"),
    "ledger_line": ("ledger_line_append_only", "ledger_line_moves_balance", "ledger_line_sealed"),
    "ledger_balance": ("ledger_balance_kept",),
}


@dataclass(frozen=True, slots=True)
class TrialRow:
    """One code in one currency, over all its keys. One of `debit` and `credit` is zero; both are positive."""

    code: str
    name: str
    kind: str
    currency: str
    debit: int
    credit: int


@dataclass(frozen=True, slots=True)
class StatementLine:
    """One movement of an account, and its balance after it."""

    line_id: int
    journal_id: int
    kind: str
    subject: str
    reference: str
    memo: str
    effective_at: datetime
    amount: int
    balance: int


@dataclass(frozen=True, slots=True)
class Statement:
    """An account over a period: opening balance + lines = closing balance."""

    opening: int
    lines: list[StatementLine]
    closing: int


@dataclass(frozen=True, slots=True)
class OpenClearing:
    """Money that stands on a clearing account under one key, since when, and since when that has been too long."""

    account: str
    key: str
    amount: int
    currency: str
    since: datetime
    due: datetime

    def __str__(self) -> str:
        return f"{self.account} {self.key}: {Money(self.amount, self.currency)} since {self.since:%Y-%m-%d %H:%M} UTC"


@dataclass(frozen=True, slots=True)
class Turnover:
    """What went through a code in one currency during a period: both sums positive."""

    code: str
    currency: str
    debits: int
    credits: int


@dataclass(frozen=True, slots=True)
class SubjectSum:
    """The sum of one subject's lines on one code."""

    subject: str
    code: str
    currency: str
    amount: int


@dataclass(frozen=True, slots=True)
class Finding:
    """The outcome of one check; `offender` names the first row that fails it."""

    check: str
    ok: bool
    detail: str
    offender: str = ""


@cache
def chart() -> dict[str, ChartAccount]:
    """The chart of accounts by code, from fixtures/chart_of_accounts.json."""
    path = settings.BASE_DIR / "fixtures" / "chart_of_accounts.json"
    return parse_chart(json.loads(path.read_text(encoding="utf-8")))


def balance(*, account: str, key: str, currency: str) -> int:
    """The kept balance of one account; zero where nothing was ever posted."""
    kept = Balance.objects.filter(account__code=account, account__key=key, account__currency=currency)
    total: int | None = kept.aggregate(total=Sum("balance"))["total"]
    return total or 0


def balances(*, code: str | None = None, key: str | None = None, open_only: bool = False) -> QuerySet[Account]:
    """Accounts annotated with their kept `amount`, of one code or key if given, in the order of the chart.

    `open_only` leaves out what stands at zero."""
    kept = Balance.objects.filter(account=OuterRef("pk")).order_by().values("account").values(total=Sum("balance"))
    found = Account.objects.annotate(amount=Coalesce(Subquery(kept), 0, output_field=BigIntegerField()))
    if code is not None:
        found = found.filter(code=code)
    if key is not None:
        found = found.filter(key=key)
    if open_only:
        found = found.exclude(amount=0)
    return found.order_by("code", "key", "currency")


def standing(*, account: str, key: str) -> list[Money]:
    """What stands on one account under one key, one amount per currency, zeros left out."""
    kept = Balance.objects.filter(account__code=account, account__key=key).values("account__currency")
    totals = kept.annotate(total=Sum("balance")).order_by("account__currency").values_list("account__currency", "total")
    return [Money(total, currency) for currency, total in totals if total]


def journals() -> QuerySet[Journal]:
    """Journals with their lines and accounts, latest first."""
    lines = JournalLine.objects.select_related("account").order_by("id")
    return Journal.objects.prefetch_related(Prefetch("lines", queryset=lines)).order_by("-id")


def lines_of(journal_id: int) -> list[JournalLine]:
    """The lines of one journal with their accounts, as they were posted."""
    return list(JournalLine.objects.filter(journal_id=journal_id).select_related("account").order_by("id"))


def trace(subject: str) -> list[Journal]:
    """The money's path: every journal about `subject` (a booking's code), first to last, with its lines."""
    return list(journals().filter(subject=subject).order_by("id"))


def concerning(*names: str, limit: int = 1000) -> list[Journal]:
    """Every journal that has to do with any of `names`, first to last: it is about it (a booking's code), says it as its
    reference (a provider's id, a payout's code), or moves an account under that key. At most the `limit` latest."""
    wanted = [name for name in names if name]
    ids = _rows(_CONCERNING, wanted, wanted, wanted, limit)
    return list(journals().filter(id__in=[number for (number,) in ids]).order_by("id"))


# Three walks of an index each: asked in one condition, it would be a walk of the whole book.
_CONCERNING: Final = """
SELECT id FROM ledger_journal WHERE subject = ANY(%s) AND subject <> ''
UNION SELECT id FROM ledger_journal WHERE reference = ANY(%s) AND reference <> ''
UNION SELECT line.journal_id FROM ledger_account account JOIN ledger_line line ON line.account_id = account.id
      WHERE account.key = ANY(%s) AND account.key <> ''
ORDER BY id DESC LIMIT %s
"""


def journal(*, number: int) -> Journal:
    """One journal with its lines. Raises NotFound."""
    found = journals().filter(id=number).first()
    if found is None:
        raise NotFound(kind="journal")
    return found


def trial_balance(*, as_of: datetime | None = None) -> list[TrialRow]:
    """Every code and currency that ever moved: kept balances, or with `as_of` the lines effective before that instant.

    Debits equal credits in every currency."""
    if as_of is None:
        rows = _rows(
            """
            SELECT account.code, account.currency, sum(kept.balance)::bigint
            FROM ledger_balance kept JOIN ledger_account account ON account.id = kept.account_id
            GROUP BY account.code, account.currency ORDER BY account.code, account.currency
            """
        )
    else:
        rows = _rows(
            """
            SELECT account.code, account.currency, sum(line.amount)::bigint
            FROM ledger_line line
            JOIN ledger_journal journal ON journal.id = line.journal_id
            JOIN ledger_account account ON account.id = line.account_id
            WHERE journal.effective_at < %s
            GROUP BY account.code, account.currency ORDER BY account.code, account.currency
            """,
            as_of,
        )
    return [
        TrialRow(code, chart()[code].name, chart()[code].kind, currency, max(amount, 0), max(-amount, 0))
        for code, currency, amount in rows
    ]


def statement(*, account: str, key: str, currency: str, since: datetime, until: datetime) -> Statement:
    """The account's movements effective in [since, until), with the balance after each."""
    which = (account, key, currency)
    lines_before = """
        FROM ledger_line line
        JOIN ledger_journal journal ON journal.id = line.journal_id
        JOIN ledger_account account ON account.id = line.account_id
        WHERE (account.code, account.key, account.currency) = (%s, %s, %s)
    """
    ((opening,),) = _rows(
        f"SELECT coalesce(sum(line.amount), 0)::bigint {lines_before} AND journal.effective_at < %s", *which, since
    )
    rows = _rows(
        f"""
        SELECT line.id, journal.id, journal.kind, journal.subject, journal.reference, journal.memo,
               journal.effective_at, line.amount,
               %s + sum(line.amount) OVER (ORDER BY journal.effective_at, line.id)::bigint
        {lines_before} AND journal.effective_at >= %s AND journal.effective_at < %s
        ORDER BY journal.effective_at, line.id
        """,
        opening,
        *which,
        since,
        until,
    )
    lines = [StatementLine(*row) for row in rows]
    return Statement(opening=opening, lines=lines, closing=lines[-1].balance if lines else opening)


def turnover(*, since: datetime, until: datetime, codes: Collection[str]) -> list[Turnover]:
    """Debits and credits of `codes` effective in [since, until), by code and currency; reports tie totals to it."""
    return [
        Turnover(*row)
        for row in _rows(
            """
            SELECT account.code, account.currency,
                   coalesce(sum(line.amount) FILTER (WHERE line.amount > 0), 0)::bigint,
                   coalesce(-sum(line.amount) FILTER (WHERE line.amount < 0), 0)::bigint
            FROM ledger_line line
            JOIN ledger_journal journal ON journal.id = line.journal_id
            JOIN ledger_account account ON account.id = line.account_id
            WHERE account.code = ANY(%s) AND journal.effective_at >= %s AND journal.effective_at < %s
            GROUP BY account.code, account.currency ORDER BY account.code, account.currency
            """,
            list(codes),
            since,
            until,
        )
    ]


def subject_sums(*, codes: Collection[str], subjects: Collection[str] | None = None) -> Iterator[SubjectSum]:
    """What each subject's journals left on each of `codes`, zero sums too, by subject; all subjects when none is given.

    Rooms that know what a subject is explain its money from this."""
    rows = _rows(
        """
        SELECT journal.subject, account.code, account.currency, sum(line.amount)::bigint
        FROM ledger_line line
        JOIN ledger_journal journal ON journal.id = line.journal_id
        JOIN ledger_account account ON account.id = line.account_id
        WHERE account.code = ANY(%s) AND journal.subject <> '' AND (%s::text[] IS NULL OR journal.subject = ANY(%s))
        GROUP BY journal.subject, account.code, account.currency
        ORDER BY journal.subject, account.code, account.currency
        """,
        list(codes),
        None if subjects is None else list(subjects),
        [] if subjects is None else list(subjects),
    )
    return (SubjectSum(*row) for row in rows)


def clearing_open(
    *, now: datetime, older_than: timedelta | None = None, accounts: Collection[int] | None = None
) -> list[OpenClearing]:
    """Clearing accounts that are not zero, oldest first: what did not happen, happened twice, or differs.

    A balance stands since the journal recorded first after the account was last at zero. `older_than` leaves out
    what is younger at `now`; `accounts` (ids) asks of these alone."""
    clearing = {code: account.clears_within for code, account in chart().items() if account.clears_within is not None}
    rows = _rows(
        """
        WITH open AS (
            SELECT account.id, account.code, account.key, account.currency, sum(kept.balance)::bigint AS balance
            FROM ledger_account account JOIN ledger_balance kept ON kept.account_id = account.id
            WHERE account.code = ANY(%s) AND (%s::bigint[] IS NULL OR account.id = ANY(%s))
            GROUP BY account.id HAVING sum(kept.balance) <> 0
        ), running AS (
            SELECT line.account_id, line.id, journal.recorded_at,
                   sum(line.amount) OVER (PARTITION BY line.account_id ORDER BY line.id) AS balance
            FROM ledger_line line
            JOIN open ON open.id = line.account_id
            JOIN ledger_journal journal ON journal.id = line.journal_id
        ), last_zero AS (
            SELECT account_id, max(id) AS id FROM running WHERE balance = 0 GROUP BY account_id
        )
        SELECT open.code, open.key, open.balance, open.currency, min(running.recorded_at) AS since
        FROM open
        JOIN running ON running.account_id = open.id
        LEFT JOIN last_zero ON last_zero.account_id = open.id
        WHERE running.id > coalesce(last_zero.id, 0)
        GROUP BY open.code, open.key, open.balance, open.currency
        ORDER BY since, open.code, open.key, open.currency
        """,
        list(clearing),
        None if accounts is None else list(accounts),
        [] if accounts is None else list(accounts),
    )
    found = [
        OpenClearing(code, key, amount, currency, since, due=since + clearing[code])
        for code, key, amount, currency, since in rows
    ]
    return [item for item in found if older_than is None or now - item.since >= older_than]


def guards() -> Finding:
    """Whether every trigger that guards the ledger is present and enabled; cheap enough for `ops doctor`."""
    enabled = {
        (table, trigger)
        for table, trigger in _rows(
            """
            SELECT tgrelid::regclass::text, tgname FROM pg_trigger
            WHERE NOT tgisinternal AND tgenabled IN ('O', 'A') AND tgrelid = ANY(%s::regclass[])
            """,
            list(GUARDS),
        )
    }
    missing = [name for table, names in GUARDS.items() for name in names if (table, name) not in enabled]
    if missing:
        return _failed("guards", f"trigger {missing[0]}", "is missing or disabled", len(missing))
    return Finding(check="guards", ok=True, detail=f"{sum(map(len, GUARDS.values()))} triggers present and enabled")


def check(*, now: datetime) -> list[Finding]:
    """Prove the ledger from its lines: one finding per check, in a fixed order. Reads everything, writes nothing."""
    return [run(now) for run in _CHECKS]


def _guards(now: datetime) -> Finding:
    return guards()


def _chart_is_current(now: datetime) -> Finding:
    kept = {
        code: tuple(rest)
        for code, *rest in _rows("SELECT code, name, kind, dimension, clears_within, bounded, slots FROM ledger_chart")
    }
    wanted = {code: (a.name, a.kind, a.dimension, a.clears_within, a.bounded, a.slots) for code, a in chart().items()}
    differing = sorted(code for code in kept.keys() | wanted.keys() if kept.get(code) != wanted.get(code))
    if differing:
        return _failed(
            "chart", f"account {differing[0]}", "is not as in fixtures/chart_of_accounts.json", len(differing)
        )
    return Finding(check="chart", ok=True, detail=f"{len(wanted)} accounts as in fixtures/chart_of_accounts.json")


def _journals_balance(now: datetime) -> Finding:
    return _first_of(
        "journals_balance",
        "does not sum to zero in every currency",
        "SELECT count(*) FROM ledger_journal",
        "journals sum to zero in every currency",
        """
        SELECT format('journal %s: %s %s', journal_id, sum(amount), currency) FROM ledger_line
        GROUP BY journal_id, currency HAVING sum(amount) <> 0 ORDER BY journal_id, currency
        """,
    )


def _journals_have_lines(now: datetime) -> Finding:
    return _first_of(
        "journals_have_lines",
        "has fewer than two lines",
        "SELECT count(*) FROM ledger_line",
        "lines, two or more in every journal",
        """
        SELECT format('journal %s', journal.id) FROM ledger_journal journal
        WHERE (SELECT count(*) FROM ledger_line WHERE journal_id = journal.id) < 2 ORDER BY journal.id
        """,
    )


def _content_is_as_posted(now: datetime) -> Finding:
    """A journal that was altered so that it still balances no longer has the hash it was posted with."""
    return _first_of(
        "content_as_posted",
        "is not what was posted under its key",
        "SELECT count(*) FROM ledger_journal",
        "journals have the content they were posted with",
        """
        SELECT format('journal %s (%s)', journal.id, journal.idempotency_key) FROM ledger_journal journal
        JOIN LATERAL (
            SELECT array_agg(account.code::text) AS codes, array_agg(account.key) AS keys,
                   array_agg(line.amount) AS amounts, array_agg(line.currency::text) AS currencies
            FROM ledger_line line JOIN ledger_account account ON account.id = line.account_id
            WHERE line.journal_id = journal.id
        ) held ON true
        WHERE request_hash <> ledger_content_hash(kind, subject, reference, reverses_id,
                                                  codes, keys, amounts, currencies)
        ORDER BY journal.id
        """,
    )


def _balances_equal_sums(now: datetime) -> Finding:
    return _first_of(
        "balances_equal_sums",
        "keeps a balance that is not the sum of its lines",
        "SELECT count(*) FROM ledger_account",
        "kept balances equal the sums of their lines",
        """
        SELECT format('account %s %s: kept %s %s in %s lines, sum %s in %s', account.code, account.key,
                      coalesce(kept.amount, 0), account.currency, coalesce(kept.lines, 0),
                      coalesce(total.amount, 0), coalesce(total.lines, 0))
        FROM ledger_account account
        LEFT JOIN (
            SELECT account_id, sum(balance) AS amount, sum(version) AS lines FROM ledger_balance GROUP BY account_id
        ) kept ON kept.account_id = account.id
        LEFT JOIN (
            SELECT account_id, sum(amount) AS amount, count(*) AS lines FROM ledger_line GROUP BY account_id
        ) total ON total.account_id = account.id
        WHERE coalesce(kept.amount, 0) <> coalesce(total.amount, 0)
           OR coalesce(kept.lines, 0) <> coalesce(total.lines, 0)
        ORDER BY account.id
        """,
    )


def _bounded_accounts_are_covered(now: datetime) -> Finding:
    return _first_of(
        "bounded_accounts",
        "gave more than it was given",
        "SELECT count(*) FROM ledger_account JOIN ledger_chart USING (code) WHERE bounded",
        "bounded accounts are covered",
        """
        SELECT format('account %s %s: %s %s', account.code, account.key, sum(line.amount), account.currency)
        FROM ledger_line line
        JOIN ledger_account account ON account.id = line.account_id
        JOIN ledger_chart chart ON chart.code = account.code AND chart.bounded
        GROUP BY account.id HAVING sum(line.amount) > 0 ORDER BY account.id
        """,
    )


def _reversals_are_exact(now: datetime) -> Finding:
    return _first_of(
        "reversals_exact",
        "is not the exact negative of what it reverses",
        "SELECT count(*) FROM ledger_journal WHERE reverses_id IS NOT NULL",
        "reversals are exact negatives",
        """
        SELECT format('journal %s reverses %s', id, reverses_id) FROM ledger_journal
        WHERE reverses_id IS NOT NULL AND NOT ledger_is_negative(id, reverses_id) ORDER BY id
        """,
    )


def _clearing_is_young(now: datetime) -> Finding:
    standing = clearing_open(now=now)
    overdue = sorted(
        (item for item in standing if item.due <= now), key=lambda item: (item.due, item.account, item.key)
    )
    if overdue:
        return _failed("clearing", str(overdue[0]), "has not cleared in time", len(overdue))
    return Finding(check="clearing", ok=True, detail=f"{len(standing):,} clearing balances open, none overdue")


_CHECKS: Final[tuple[Callable[[datetime], Finding], ...]] = (
    _guards,
    _chart_is_current,
    _journals_balance,
    _journals_have_lines,
    _content_is_as_posted,
    _balances_equal_sums,
    _bounded_accounts_are_covered,
    _reversals_are_exact,
    _clearing_is_young,
)


def _first_of(check: str, fault: str, count: str, counted: str, offenders: str) -> Finding:
    """A finding from a query that yields one sentence per offender, the first one first."""
    found = _rows(f"SELECT *, count(*) OVER () FROM ({offenders}) found LIMIT 1")  # noqa: S608 constants of this file
    if found:
        ((first, failing),) = found
        return _failed(check, first, fault, failing)
    ((total,),) = _rows(count)
    return Finding(check=check, ok=True, detail=f"{total:,} {counted}")


def _failed(check: str, first: str, fault: str, failing: int) -> Finding:
    others = f" (and {failing - 1:,} more)" if failing > 1 else ""
    return Finding(check=check, ok=False, detail=f"{first} {fault}{others}", offender=first)


def _rows(sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters or None)
        return list(cursor.fetchall())
