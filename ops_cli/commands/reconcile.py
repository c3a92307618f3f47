"""`ops reconcile`: compare the ledger with the provider's own records and the bank's, line by line and in sum."""

from __future__ import annotations

import functools
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from ops_cli.bootstrap import acts
from ops_cli.output import Column, Exit, Result, dry_run, money, progress, renders
from ops_cli.times import INSTANT, age, at

if TYPE_CHECKING:
    from backoffice.core.actor import Actor
    from backoffice.reconciliation.provider import Reconciliation
    from backoffice.reconciliation.queries import Difference

COLUMNS: Final = (
    Column("code", "Break"),
    Column("class"),
    Column("severity"),
    Column("difference", money="currency"),
    Column("at_risk_eur", "At risk (EUR)", money="EUR"),
    Column("subject"),
    Column("key"),
    Column("age"),
    Column("status"),
    Column("action"),
)
_FILE: Final = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.group(short_help="Compare the ledger with the provider and the bank, line by line.")
def reconcile() -> None:
    """Compare the ledger with the provider's own records and the bank's; every difference is a named break.

    \b
    Example:
      ops reconcile all
      ops reconcile stripe --since 30d --dry-run
      ops reconcile bank --file statement.xml
    """


def _windowed(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that every scope has; --resume goes without any other, as the run was begun with its own."""

    @functools.wraps(command)
    def checked(*args: Any, **given: Any) -> Any:
        asked = {"--file": "path", "--since": "since", "--until": "until", "--dry-run": "dry_run"}
        beside = [option for option, name in asked.items() if given.get(name)] + ["--file"] * bool(given.get("files"))
        if given["resume"] and beside:
            raise click.UsageError(f"--resume goes on with a run as it was begun; leave out {', '.join(beside)}.")
        return command(*args, **given)

    with_options: Callable[..., Any] = checked
    for option in (
        dry_run,
        click.option("--resume", is_flag=True, help="Go on with the last run of this scope where it was cut off."),
        click.option("--until", type=INSTANT, help="Up to but not including it.  [default: now]"),
        click.option("--since", type=INSTANT, help="From this instant, or so long ago (30d).  [default: 400 days ago]"),
    ):
        with_options = option(with_options)
    return with_options


@reconcile.command(short_help="Compare the ledger with Stripe's balance transactions.")
@click.option(
    "--file", "files", type=_FILE, multiple=True, help="Stripe's report as CSV instead of its API; repeatable."
)
@_windowed
@renders("reconcile.stripe", COLUMNS)
@acts
def stripe(actor: Actor, /, files: tuple[Path, ...], **options: Any) -> Result:
    """Import the provider's newest movements, compare all of them with the ledger, and keep each difference as a break.

    With --file, the movements come from the provider's reports: itemised balance change from activity, and itemised payouts
    beside it if payouts are to be compared too. The window is the days that they cover, unless said.

    Exit code 0 when every movement matches, 3 with findings (differences that are merely young are shown, and are
    none), 5 while another run is under way, 7 when the provider does not answer. Running it again finds the same; a run
    that was broken off goes on with --resume.

    \b
    Example:
      ops reconcile stripe
      ops reconcile stripe --since 2026-10-01 --until 2026-11-01 --format json
      ops reconcile stripe --file activity.csv --file payouts.csv
      ops reconcile stripe --dry-run
    """
    from backoffice.reconciliation.parsers import provider_report
    from backoffice.reconciliation.provider import Report

    if not files:
        return _run("stripe", actor, **options)
    reports = provider_report.movements(files)
    left_out, window = reports.left_out, reports.window()
    options["since"] = options["since"] or window.since
    options["until"] = options["until"] or window.until
    return _run("stripe", actor, report=Report(rows=reports.rows(), left_out=left_out), **options)


@reconcile.command(short_help="Compare payouts with their lines, and what hosts and guests got with what was theirs.")
@_windowed
@renders("reconcile.payouts", COLUMNS)
@acts
def payouts(actor: Actor, /, **options: Any) -> Result:
    """Compare every payout to a bank with its lines and with the provider's list, and find payouts that came back, hosts
    who were sent more than became theirs, and guests who got back more than they paid.

    \b
    Example:
      ops reconcile payouts --format json
    """
    return _run("payouts", actor, **options)


@reconcile.command(short_help="Compare payouts with the bank's statement.")
@click.option("--file", "path", type=_FILE, help="A statement: camt.053 (XML), or CSV.")
@click.option("--map", "columns", default="", help="CSV: which column is what, as amount=Betrag,booked_on=Datum,…")
@click.option("--account", default="", help="CSV: the account, where no column says it.")
@click.option("--currency", default="", help="CSV: the currency, where no column says it.")
@click.option("--date-format", default="%Y-%m-%d", show_default=True, help="CSV: how days are written.")
@click.option("--decimal", type=click.Choice([".", ","]), default=".", show_default=True, help="CSV: the decimal sign.")
@click.option("--delimiter", default=",", show_default=True, help="CSV: what parts the columns.")
@_windowed
@renders("reconcile.bank", COLUMNS)
@acts
def bank(actor: Actor, /, path: Path | None, **options: Any) -> Result:
    """Keep the statement's lines, find the payout of each, and name what is missing, short or unknown.

    A line that is there already is not kept again. What only adds up is proposed, for a person to confirm
    (`ops breaks confirm`); a line without a payout waits in suspense (9900).

    \b
    Example:
      ops reconcile bank --file statement.xml
      ops reconcile bank --file november.csv --map booked_on=Date,amount=Amount,text=Details --account BE68 --currency EUR
    """
    layout = {
        name: options.pop(name) for name in ("columns", "account", "currency", "date_format", "decimal", "delimiter")
    }
    return _run("bank", actor, statement=_statement(path, layout) if path else (), **options)


@reconcile.command(short_help="Find money that has not come to its end in time, and balances that differ.")
@_windowed
@renders("reconcile.state", COLUMNS)
@acts
def state(actor: Actor, /, **options: Any) -> Result:
    """Find clearing accounts past their time, a mirror that is not the provider's balance, and objects whose end the
    provider knows and we do not. What is left of the difference when all breaks are counted is itself the worst.

    \b
    Example:
      ops reconcile state
    """
    return _run("state", actor, **options)


@reconcile.command("all", short_help="Compare everything.")
@_windowed
@renders("reconcile.all", COLUMNS)
@acts
def everything(actor: Actor, /, **options: Any) -> Result:
    """Compare everything from one snapshot: movements, payouts, the bank, and what stands where it should not.

    \b
    Example:
      ops reconcile all --format json
    """
    return _run("all", actor, **options)


def _run(
    scope: str,
    actor: Actor,
    *,
    since: datetime | timedelta | None,
    until: datetime | timedelta | None,
    dry_run: bool,
    resume: bool,
    **given: Any,
) -> Result:
    from backoffice.core import clock
    from backoffice.reconciliation import provider

    now = clock.now()
    with progress("comparing") as advance:
        if resume:
            outcome = provider.resume(scope=scope, actor=actor, now=now)
        else:
            outcome = provider.reconcile(
                scope=scope,
                since=at(since, now=now),
                until=at(until, now=now),
                actor=actor,
                now=now,
                dry_run=dry_run,
                **given,
            )
        advance()
    return _result(outcome, dry_run, now)


def _result(outcome: Reconciliation, dry_run: bool, now: datetime) -> Result:
    from backoffice.reconciliation import queries

    kept = {} if dry_run else queries.breaks_of(differences=outcome.differences)
    findings_first = sorted(outcome.differences, key=lambda difference: difference.cls == "late")
    run = outcome.run
    return Result(
        rows=[_row(difference, kept.get(difference.identity), now) for difference in findings_first],
        summary={
            "lines": run.lines,
            "matched": run.matched,
            "findings": outcome.found,
            "young": outcome.young,
            "shown": len(outcome.differences),
            "classes": run.counts,
            "since": run.since,
            "until": run.until,
            "run": None if dry_run else run.pk,
            "source": run.source,
            "rules": run.rules,
            "version": run.version,
            "reason": run.reason or None,
            "ticket": run.ticket or None,
            "explained": {
                currency: {name: money(amount, currency) for name, amount in figures.items()}
                for currency, figures in run.explained.items()
            },
            "input_digest": run.input_digest,
            "digest": run.output_digest,
            "dry_run": dry_run,
            "note": run.note or None,
        },
        exit_code=Exit.FINDINGS if outcome.found else Exit.DONE,
    )


def _row(difference: Difference, kept: Any, now: datetime) -> dict[str, Any]:
    from backoffice.reconciliation import policies

    what = policies.advice(cls=difference.cls, leg=difference.leg)
    code = kept.code if kept is not None else ""
    return {
        "code": code or None,
        "class": difference.cls,
        "flags": list(difference.flags),
        "severity": what.severity,
        "difference": difference.difference,
        "currency": difference.currency,
        "at_risk": difference.at_risk,
        "at_risk_eur": kept.at_risk_eur if kept is not None else None,
        "leg": difference.leg,
        "key": difference.key,
        "subject": difference.subject or None,
        "occurred_at": difference.occurred_at,
        "age": age(now - difference.occurred_at),
        "status": kept.status if kept is not None else "not kept",
        "action": what.action,
        "command": policies.command(
            cls=difference.cls,
            leg=difference.leg,
            code=code,
            key=difference.key,
            fact=difference.fact,
            subject=difference.subject,
            occurred_at=difference.occurred_at,
        ),
        "detail": dict(difference.detail),
    }


def _statement(path: Path, layout: dict[str, str]) -> Any:
    from backoffice.core.errors import Invalid
    from backoffice.reconciliation.parsers import bank_csv, camt053

    content = path.read_bytes()
    if content.lstrip(b"\xef\xbb\xbf \r\n\t").startswith(b"<"):
        return camt053.read(content)
    pairs = [pair.partition("=") for pair in layout.pop("columns").split(",") if pair]
    if any(not (name and column) for name, _, column in pairs):
        raise Invalid("map: write field=column, as in amount=Betrag,booked_on=Datum.", field="map")
    columns = {name.strip(): column for name, _, column in pairs}
    asked: dict[str, Any] = {**layout, **({"columns": columns} if columns else {})}
    return bank_csv.read(content, layout=bank_csv.ColumnMap(**asked))
