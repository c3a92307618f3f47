"""`ops ledger`: prove the books, and read them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import click

from ops_cli.bootstrap import reads
from ops_cli.output import Column, Exit, Failed, Result, money, progress, renders
from ops_cli.times import INSTANT, at

if TYPE_CHECKING:
    from backoffice.core.actor import Actor

CHECK: Final = (Column("check"), Column("ok"), Column("detail"))
BALANCES: Final = (Column("account"), Column("name"), Column("key"), Column("balance", money="currency"))
TRIAL: Final = (
    Column("account"),
    Column("name"),
    Column("kind"),
    Column("debit", money="currency"),
    Column("credit", money="currency"),
)
STATEMENT: Final = (
    Column("effective_at", "At"),
    Column("journal", right=True),
    Column("kind"),
    Column("subject"),
    Column("reference"),
    Column("amount", money="currency"),
    Column("balance", money="currency"),
)
TRACE: Final = (
    Column("effective_at", "At"),
    Column("journal", right=True),
    Column("kind"),
    Column("account"),
    Column("name"),
    Column("key"),
    Column("amount", money="currency"),
)


@click.group(short_help="Prove the books, and read them.")
def ledger() -> None:
    """Prove the books, and read them. Amounts are signed, debit positive.

    \b
    Example:
      ops ledger check
      ops ledger trace BK-7QF3K2
      ops ledger journal 4711
    """


@ledger.command(short_help="Prove that the books still add up.")
@renders("ledger.check", CHECK)
@reads
def check(actor: Actor) -> Result:
    """Recompute everything from the lines: journals balance and are as posted, kept balances equal their sums, every
    booking's money is explained, clearing accounts are zero or young. Names the first offender of each check.

    Exit code 0 when all hold, 3 otherwise.

    \b
    Example:
      ops ledger check
      ops ledger check --format json | jq '.data[] | select(.ok | not)'
    """
    from backoffice.core import clock
    from backoffice.reporting.queries import health

    actor.must("ledger.view")
    with progress("proving the ledger") as advance:
        findings = health.ledger_check(now=clock.now())
        advance()
    failed = [finding.check for finding in findings if not finding.ok]
    return Result(
        rows=[
            {
                "check": finding.check,
                "ok": finding.ok,
                "detail": finding.detail,
                "offender": finding.offender or None,
            }
            for finding in findings
        ],
        summary={"sound": not failed, "failed": failed},
        exit_code=Exit.FINDINGS if failed else Exit.DONE,
    )


@ledger.command(short_help="List what stands on the accounts.")
@click.option("--code", "account", help="Only this account of the chart (2100).")
@click.option("--key", help="Only this key (a booking's code, a provider's id).")
@click.option("--open", "open_only", is_flag=True, help="Leave out what stands at zero.")
@renders("ledger.balances", BALANCES)
@reads
def balances(actor: Actor, account: str | None, key: str | None, open_only: bool) -> Result:
    """List the balance of every account and key.

    \b
    Example:
      ops ledger balances --code 1150 --open
      ops ledger balances --key BK-7QF3K2 --format json
    """
    from backoffice.ledger import queries

    actor.must("ledger.view")
    if account is not None and account not in queries.chart():
        raise Failed(f"--code: the chart has no account {account}; see `ops ledger trial-balance`", Exit.USAGE)
    found = queries.balances(code=account, key=key, open_only=open_only)
    return Result(rows=map(_balance, found.iterator(chunk_size=2000)))


def _balance(account: Any) -> dict[str, Any]:
    from backoffice.ledger import queries

    return {
        "account": account.code,
        "name": queries.chart()[account.code].name,
        "key": account.key,
        "balance": account.amount,
        "currency": account.currency,
    }


@ledger.command("trial-balance", short_help="Sum every account; debits equal credits.")
@click.option("--as-of", type=INSTANT, help="As it stood then.  [default: now]")
@renders("ledger.trial-balance", TRIAL)
@reads
def trial_balance(actor: Actor, as_of: datetime | timedelta | None) -> Result:
    """Sum every account over all its keys, by currency; what stands at zero is left out. Debits equal credits, or the exit
    code is 3.

    \b
    Example:
      ops ledger trial-balance
      ops ledger trial-balance --as-of 2026-11-01 --format csv
    """
    from backoffice.core import clock
    from backoffice.ledger import queries

    actor.must("ledger.view")
    rows = queries.trial_balance(as_of=at(as_of, now=clock.now()))
    totals: dict[str, dict[str, int]] = {}
    for row in rows:
        total = totals.setdefault(row.currency, {"debit": 0, "credit": 0})
        total["debit"] += row.debit
        total["credit"] += row.credit
    balanced = all(total["debit"] == total["credit"] for total in totals.values())
    return Result(
        rows=[
            {
                "account": row.code,
                "name": row.name,
                "kind": row.kind,
                "debit": row.debit or None,
                "credit": row.credit or None,
                "currency": row.currency,
            }
            for row in rows
            if row.debit or row.credit
        ],
        summary={
            "balanced": balanced,
            "totals": {
                currency: {side: money(amount, currency) for side, amount in sides.items()}
                for currency, sides in totals.items()
            },
        },
        exit_code=Exit.DONE if balanced else Exit.FINDINGS,
    )


@ledger.command(short_help="List one account's movements with its balance after each.")
@click.argument("account")
@click.argument("key", default="")
@click.option("--currency", required=True, help="An account has one balance per currency.")
@click.option("--since", type=INSTANT, default="30d", show_default=True, help="From this instant, or so long ago.")
@click.option("--until", type=INSTANT, help="Up to but not including it.  [default: now]")
@renders("ledger.statement", STATEMENT)
@reads
def statement(
    actor: Actor,
    account: str,
    key: str,
    currency: str,
    since: datetime | timedelta,
    until: datetime | timedelta | None,
) -> Result:
    """List what moved ACCOUNT under KEY, with its balance after each movement.

    \b
    Example:
      ops ledger statement 2100 BK-7QF3K2 --currency EUR
      ops ledger statement 1100 --currency EUR --since 2026-10-01 --until 2026-11-01
    """
    from backoffice.core import clock
    from backoffice.ledger import queries

    actor.must("ledger.view")
    now, currency = clock.now(), currency.upper()
    if account not in queries.chart():
        raise Failed(f"ACCOUNT: the chart has no account {account}; see `ops ledger trial-balance`", Exit.USAGE)
    first, end = at(since, now=now), at(until, now=now) or now
    assert first is not None  # it has a default
    found = queries.statement(account=account, key=key, currency=currency, since=first, until=end)
    return Result(
        rows=[
            {
                "effective_at": line.effective_at,
                "journal": line.journal_id,
                "kind": line.kind,
                "subject": line.subject,
                "reference": line.reference,
                "memo": line.memo,
                "amount": line.amount,
                "balance": line.balance,
                "currency": currency,
            }
            for line in found.lines
        ],
        summary={
            "account": account,
            "key": key,
            "currency": currency,
            "since": first,
            "until": end,
            "opening": money(found.opening, currency),
            "closing": money(found.closing, currency),
        },
    )


@ledger.command(short_help="Follow money from journal to journal.")
@click.argument("subject")
@click.option(
    "--limit", type=click.IntRange(1, 100_000), default=1000, show_default=True, help="The latest so many journals."
)
@renders("ledger.trace", TRACE)
@reads
def trace(actor: Actor, subject: str, limit: int) -> Result:
    """Follow the money of SUBJECT: a booking, a refund, a payout, a host, or a provider's id. Every journal that is about it,
    names it, or moves an account under it, line by line, first to last.

    \b
    Example:
      ops ledger trace BK-7QF3K2
      ops ledger trace ch_3Q0pQw2eZvKYlo2C
    """
    from backoffice.ledger import queries

    actor.must("ledger.view")
    # Codes of ours are capitals and a provider's ids are not: what was typed in small letters may be either.
    journals = queries.concerning(subject, limit=limit) or queries.concerning(subject.upper(), limit=limit)
    if not journals:
        raise Failed(f"nothing was ever posted about {subject}")
    return Result(rows=list(_lines(journals)), summary={"journals": len(journals), "about": subject})


@ledger.command(short_help="Show one journal whole.")
@click.argument("number", type=click.IntRange(1, 2**63 - 1))
@renders("ledger.journal", TRACE)
@reads
def journal(actor: Actor, number: int) -> Result:
    """Show journal NUMBER: its lines, who posted it under which key, and what it reverses or is reversed by.

    \b
    Example:
      ops ledger journal 4711
    """
    from backoffice.ledger import queries

    actor.must("ledger.view")
    found = queries.journal(number=number)
    undone = found.reversals.values_list("pk", flat=True).first()
    return Result(
        rows=list(_lines([found])),
        summary={
            "journal": found.pk,
            "kind": found.kind,
            "key": found.idempotency_key,
            "subject": found.subject or None,
            "reference": found.reference or None,
            "memo": found.memo or None,
            "effective_at": found.effective_at,
            "recorded_at": found.recorded_at,
            "reverses": found.reverses_id,
            "reversed_by": undone,
        },
    )


def _lines(journals: list[Any]) -> Iterator[dict[str, Any]]:
    from backoffice.ledger import queries

    chart = queries.chart()
    for journal in journals:
        for line in journal.lines.all():
            yield {
                "effective_at": journal.effective_at,
                "journal": journal.pk,
                "kind": journal.kind,
                "reference": journal.reference,
                "account": line.account.code,
                "name": chart[line.account.code].name,
                "key": line.account.key,
                "amount": line.amount,
                "currency": line.currency,
            }
