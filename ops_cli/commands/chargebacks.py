"""`ops chargebacks`: what card networks took back or ask about, and the answer to it."""

from __future__ import annotations

from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from ops_cli.bootstrap import decides_in_person, reads
from ops_cli.output import Column, Exit, Failed, Result, dry_run, renders
from ops_cli.times import age

if TYPE_CHECKING:
    from backoffice.core.actor import Actor

LIST: Final = (
    Column("code", "Chargeback"),
    Column("kind"),
    Column("status"),
    Column("amount", money="currency"),
    Column("booking"),
    Column("reason"),
    Column("internal_due_at", "Our deadline"),
    Column("due_by", "Provider's"),
    Column("owner"),
)
DEADLINES: Final = (
    Column("code", "Chargeback"),
    Column("urgency"),
    Column("left", "Left to ours"),
    Column("internal_due_at", "Our deadline"),
    Column("due_by", "Provider's"),
    Column("amount", money="currency"),
    Column("booking"),
    Column("owner"),
    Column("remedy", "What to do"),
    Column("link", "Where"),
)
FACTS: Final = (Column("fact"), Column("value"))
EVIDENCE: Final = (Column("field"), Column("text"))
RATIO: Final = (
    Column("network"),
    Column("chargebacks"),
    Column("charges"),
    Column("percent", "Ratio %"),
    Column("threshold", "Threshold %"),
    Column("standing"),
)


@click.group(short_help="Show chargebacks and their deadlines, and answer them.")
def chargebacks() -> None:
    """Show chargebacks and inquiries with their deadlines, stage evidence, and answer them once.

    \b
    Example:
      ops chargebacks deadlines
      ops chargebacks show CB-4KXH7RTZ
      ops chargebacks stage CB-4KXH7RTZ --draft --reason "first draft" --as sam@example.org
      ops chargebacks submit CB-4KXH7RTZ --reason "log and receipt attached" --as lea@example.org
    """


@chargebacks.command("list", short_help="List chargebacks, the most pressing first.")
@click.option(
    "--status", help="Only this status, the provider's own word (needs_response, under_review, won, lost, …)."
)
@click.option("--booking", help="Only those of this booking (BK-…).")
@click.option("--kind", type=click.Choice(["inquiry", "chargeback"]), help="Only inquiries, or only chargebacks.")
@click.option("--open", "open_only", is_flag=True, help="Only those whose outcome is still to come.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="At most so many.")
@renders("chargebacks.list", LIST)
@reads
def list_chargebacks(
    actor: Actor, status: str | None, booking: str | None, kind: str | None, open_only: bool, limit: int
) -> Result:
    """List chargebacks and inquiries: those to be answered by our own deadline, then those with the network, then the past.

    \b
    Example:
      ops chargebacks list --open
      ops chargebacks list --booking BK-7QF3K2 --format json
    """
    from backoffice.payments import queries

    actor.must("chargebacks.view")
    wanted = {
        "status": status,
        "payment__booking__code": booking.upper() if booking else None,
        "kind": kind,
    }
    found = queries.chargebacks().filter(**{name: value for name, value in wanted.items() if value})
    if open_only:
        found = queries.open_only(rows=found)
    return Result(
        rows=[_row(one) for one in queries.by_deadline(rows=found)[:limit]], summary={"in_all": found.count()}
    )


@chargebacks.command(short_help="Show one chargeback whole.")
@click.argument("code")
@renders("chargebacks.show", FACTS)
@reads
def show(actor: Actor, code: str) -> Result:
    """Show one chargeback, by our code or the provider's id: its deadlines, its money, its evidence, and who a loss would
    come from.

    \b
    Example:
      ops chargebacks show CB-4KXH7RTZ
      ops chargebacks show du_1QabcD --format json
    """
    from backoffice.core import clock
    from backoffice.core.money import Money
    from backoffice.payments import queries

    actor.must("chargebacks.view")
    found = _found(code)
    settled = found.settlement_currency or found.currency
    shares = queries.shares_if_lost(chargeback=found)
    facts: dict[str, Any] = {
        **_row(found),
        "amount": str(Money(found.amount, found.currency)),
        "urgency": queries.urgency_of(chargeback=found, now=clock.now()),
        **_remedy(found),
        "provider_id": found.provider_id,
        "charge": found.charge_id,
        "network": found.network,
        "network_reason": found.network_reason,
        "opened_at": found.opened_at,
        "closed_at": found.closed_at,
        "withdrawn": str(Money(found.withdrawn, settled)),
        "reinstated": str(Money(found.reinstated, settled)),
        "fee": str(Money(found.fee, settled)),
        "loss_borne_by": found.loss_bearer,
        "if_lost_out_of_what_is_held": str(shares.held.total) if shares else None,
        "if_lost_out_of_what_was_released": str(shares.released.total) if shares else None,
        "if_lost_out_of_what_stands_aside": str(shares.out_of_aside) if shares else None,
        "if_lost_not_covered": str(shares.uncovered) if shares else None,
        "loss_posted_at": found.loss_posted_at,
        "evidence": sorted(found.evidence),
        "staged_at": found.staged_at,
        "submitted_at": found.submitted_at,
        "submitted_by": found.submitted_by.code if found.submitted_by else None,
        "accepted_at": found.accepted_at,
        "notes": found.notes,
        "version": found.version,
    }
    facts.pop("currency")
    return Result(rows=[{"fact": fact, "value": value} for fact, value in facts.items()])


@chargebacks.command(short_help="List what must be answered, soonest first.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=100, show_default=True, help="At most so many.")
@renders("chargebacks.deadlines", DEADLINES)
@reads
def deadlines(actor: Actor, limit: int) -> Result:
    """List what has to be answered, by our own deadline, with what to do: an appeal is answered on the provider's own pages.

    Exit code 3 when one is past our deadline, or past the provider's.

    \b
    Example:
      ops chargebacks deadlines
      ops chargebacks deadlines --format json
    """
    from backoffice.core import clock
    from backoffice.payments import queries

    actor.must("chargebacks.view")
    now = clock.now()
    rows = [
        {
            **_row(row),
            "urgency": queries.urgency_of(chargeback=row, now=now),
            "left": _left(row, now),
            **_remedy(row),
        }
        for row in queries.deadlines(limit=limit)
    ]
    to_answer, late = queries.chargebacks_waiting(now=now)
    return Result(
        rows=rows,
        summary={"to_answer": to_answer, "late": late},
        exit_code=Exit.FINDINGS if late else Exit.DONE,
    )


@chargebacks.command(short_help="Show chargebacks against charges by card network.")
@click.option("--month", help="The calendar month, such as 2026-11.  [default: this one]")
@renders("chargebacks.ratio", RATIO)
@reads
def ratio(actor: Actor, month: str | None) -> Result:
    """Show the chargebacks of a calendar month (UTC) against its charges, by card network; inquiries do not count.

    Exit code 3 when a network's threshold, or half of it, is reached.

    \b
    Example:
      ops chargebacks ratio
      ops chargebacks ratio --month 2026-10 --format json
    """
    from backoffice.core import clock
    from backoffice.payments import queries

    actor.must("chargebacks.view")
    today = clock.now().date()
    found = queries.chargeback_ratios(month=_month(month, today) if month else today)
    rows = [
        {
            "network": each.network,
            "chargebacks": each.chargebacks,
            "charges": each.charges,
            "percent": each.percent,
            "threshold": each.threshold_percent,
            "standing": each.standing,
        }
        for each in found
    ]
    warned = any(each.standing != "fine" for each in found)
    return Result(rows=rows, exit_code=Exit.FINDINGS if warned else Exit.DONE)


@chargebacks.command(short_help="Keep evidence, unsubmitted.")
@click.argument("code")
@click.option("--draft", is_flag=True, help="Begin with what the desk knows; what --set says goes over it.")
@click.option("--set", "words", multiple=True, metavar="FIELD=TEXT", help="A field in words; empty takes it back.")
@click.option("--file", "files", multiple=True, metavar="FIELD=PATH", help="A PDF, JPEG or PNG for a field.")
@dry_run
@renders("chargebacks.stage", EVIDENCE)
@decides_in_person
def stage(
    actor: Actor, code: str, draft: bool, words: tuple[str, ...], files: tuple[str, ...], dry_run: bool
) -> Result:
    """Keep evidence for CODE and lay it beside the dispute at the provider. Nothing is submitted.

    Prints the evidence as it then stands; with --dry-run as it would stand. Exit code 2 for a field that the provider does
    not know, a file that it would not take, and when nothing is given to keep.

    \b
    Example:
      ops chargebacks stage CB-4KXH7RTZ --draft --dry-run --reason draft --as sam@example.org
      ops chargebacks stage CB-4KXH7RTZ --set service_date="2026-07-10 to 2026-07-13" --reason dates --as sam@example.org
      ops chargebacks stage CB-4KXH7RTZ --file receipt=receipt.pdf --reason receipt --as sam@example.org
    """
    from backoffice.core import clock
    from backoffice.payments import operations
    from backoffice.workflows import work_chargebacks

    actor.must("chargebacks.work")
    if not (draft or words or files):
        raise click.UsageError("say what to keep: --draft, --set FIELD=TEXT or --file FIELD=PATH")
    now, found = clock.now(), _found(code)
    evidence = work_chargebacks.draft(code=found.code, actor=actor) if draft else {}
    evidence |= dict(_pair(each, "--set") for each in words)
    uploads = [_file(each) for each in files]
    if dry_run:
        whole = operations.check_evidence(code=found.code, evidence=evidence, actor=actor, now=now)
        for field, path, content in uploads:
            operations.check_evidence_file(
                code=found.code, field=field, name=path.name, content=content, actor=actor, now=now
            )
            whole[field] = str(path)
        return _evidence(whole, dry_run=True)
    if evidence:
        work_chargebacks.stage(code=found.code, evidence=evidence, version=None, actor=actor, now=now)
    for field, path, content in uploads:
        work_chargebacks.upload(code=found.code, field=field, name=path.name, content=content, actor=actor, now=now)
    return _evidence(_found(found.code).evidence)


@chargebacks.command(short_help="Submit the evidence, once and for all.")
@click.argument("code")
@renders("chargebacks.submit", LIST)
@decides_in_person
def submit(actor: Actor, code: str) -> Result:
    """Hand the staged evidence for CODE to the issuer. It cannot be changed or sent a second time; never after the
    provider's deadline.

    \b
    Example:
      ops chargebacks submit CB-4KXH7RTZ --reason "log and receipt attached" --as lea@example.org
    """
    from backoffice.core import clock
    from backoffice.workflows import work_chargebacks

    found = _found(code)
    done = work_chargebacks.submit(code=found.code, version=found.version, actor=actor, now=clock.now())
    return Result(rows=[_row(_found(done.code))])


@chargebacks.command(short_help="Give a chargeback up.")
@click.argument("code")
@renders("chargebacks.accept", LIST)
@decides_in_person
def accept(actor: Actor, code: str) -> Result:
    """Accept CODE as lost: it is closed at the provider, and there is no way back.

    \b
    Example:
      ops chargebacks accept CB-4KXH7RTZ --reason "the guest is right" --as lea@example.org
    """
    from backoffice.core import clock
    from backoffice.workflows import work_chargebacks

    found = _found(code)
    done = work_chargebacks.accept(
        code=found.code, version=found.version, reason=actor.reason, actor=actor, now=clock.now()
    )
    return Result(rows=[_row(_found(done.code))])


def _found(code: str) -> Any:
    from backoffice.payments import queries

    return queries.chargeback(code=code if code.startswith(("du_", "dp_")) else code.upper())


def _pair(text: str, option: str) -> tuple[str, str]:
    name, mark, value = text.partition("=")
    if not (name and mark):
        raise Failed(f"{option}: write FIELD=…, not {text!r}", Exit.USAGE)
    return name.strip(), value


def _file(text: str) -> tuple[str, Path, bytes]:
    """Read before anything is kept: a path that is wrong leaves all as it was."""
    field, name = _pair(text, "--file")
    try:
        return field, Path(name), Path(name).read_bytes()
    except OSError as error:
        raise Failed(f"--file: {name} cannot be read: {error.strerror}", Exit.USAGE) from None


def _month(text: str, today: date) -> date:
    try:
        month = date.fromisoformat(f"{text}-01")
    except ValueError:
        raise Failed(f"--month: write a month such as 2026-11, not {text!r}", Exit.USAGE) from None
    if month > today:
        raise Failed(f"--month: {text} is still to come; write one up to {today:%Y-%m}", Exit.USAGE)
    return month


def _remedy(row: Any) -> dict[str, Any]:
    from backoffice.payments import queries

    found = queries.remedy_of(chargeback=row)
    return {"remedy": found.sentence if found else None, "link": (found.link or None) if found else None}


def _left(row: Any, now: datetime) -> str:
    if row.internal_due_at is None:
        return ""
    late = now >= row.internal_due_at
    return f"{age(abs(row.internal_due_at - now))} {'late' if late else ''}".strip()


def _evidence(evidence: dict[str, str], **summary: Any) -> Result:
    rows = [{"field": field, "text": text} for field, text in sorted(evidence.items()) if text]
    return Result(rows=rows, summary={"fields": len(rows), **summary})


def _row(row: Any) -> dict[str, Any]:
    return {
        "code": row.code,
        "kind": row.kind,
        "status": row.status,
        "amount": row.amount,
        "currency": row.currency,
        "booking": row.payment.booking.code if row.payment else None,
        "reason": row.reason,
        "internal_due_at": row.internal_due_at,
        "due_by": row.due_by,
        "owner": row.owner.code if row.owner else None,
    }
