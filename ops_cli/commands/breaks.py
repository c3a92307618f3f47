"""`ops breaks`: the differences that reconciliation found, and the work on them."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import click

from ops_cli.bootstrap import acts, decides, decides_in_person, reads
from ops_cli.output import Column, Exit, Result, renders
from ops_cli.times import INSTANT, age, at
from ops_cli.words import OneOf

if TYPE_CHECKING:
    from backoffice.core.actor import Actor

LIST: Final = (
    Column("code", "Break"),
    Column("class"),
    Column("severity"),
    Column("difference", money="currency"),
    Column("at_risk_eur", "At risk (EUR)", money="EUR"),
    Column("subject"),
    Column("key"),
    Column("age"),
    Column("status"),
    Column("owner"),
    Column("action"),
)
CAUSES: Final = ("timing", "provider_error", "our_error", "bank_charge", "exchange_rate", "fraud", "other")
MATCHES: Final = (
    Column("line", "Bank line"),
    Column("payout"),
    Column("amount", money="currency"),
    Column("method"),
    Column("status"),
)
FACTS: Final = (Column("fact"), Column("value"))


@click.group(short_help="List and work the breaks that reconciliation found.")
def breaks() -> None:
    """List and work the differences that reconciliation found.

    \b
    Example:
      ops breaks list
      ops breaks show BR-7QF3K2
      ops breaks resolve BR-7QF3K2 --cause our_error --reason "Booked the fee by journal 4711" --approval AP-4QDR7H
      ops breaks write-off BR-7QF3K2 --reason "The provider lost it" --as finance@example.org
    """


@breaks.command("list", short_help="List breaks, newest first.")
@click.option(
    "--status",
    type=OneOf("backoffice.reconciliation.states:BREAK.statuses"),
    help="Only this status (open, investigating, resolved, …).",
)
@click.option(
    "--class",
    "cls",
    type=OneOf("backoffice.reconciliation.states:CLASSES"),
    help="Only this class (amount_mismatch, missing_internal, …).",
)
@click.option("--currency", help="Only this currency.")
@click.option(
    "--all", "closed_too", is_flag=True, help="Closed and merely young ones too; by default what needs somebody."
)
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="At most so many.")
@renders("breaks.list", LIST)
@reads
def list_breaks(
    actor: Actor, status: str | None, cls: str | None, currency: str | None, closed_too: bool, limit: int
) -> Result:
    """List breaks, newest first: what needs somebody, unless --all or --status says otherwise.

    Exit code 3 when one of those shown is a finding that nobody has closed; one that is merely young is none.

    \b
    Example:
      ops breaks list
      ops breaks list --class amount_mismatch --currency EUR --all --format csv
    """
    from backoffice.core import clock
    from backoffice.reconciliation import queries
    from backoffice.reconciliation.states import FINDINGS

    actor.must("breaks.view")
    wanted = {"status": status, "cls": cls, "currency": currency.upper() if currency else None}
    found = queries.breaks().filter(**{name: value for name, value in wanted.items() if value})
    if not (closed_too or status):
        found = found.filter(status__in=FINDINGS)
    shown = list(found[:limit])
    now = clock.now()
    return Result(
        rows=[_row(one, now) for one in shown],
        summary={"shown": len(shown), "in_all": found.count()},
        exit_code=Exit.FINDINGS if any(one.status in FINDINGS for one in shown) else Exit.DONE,
    )


@breaks.command(short_help="Show one break whole.")
@click.argument("code")
@renders("breaks.show", FACTS)
@reads
def show(actor: Actor, code: str) -> Result:
    """Show one break: both sides, what to do first, and what was noted.

    \b
    Example:
      ops breaks show BR-7QF3K2
    """
    from backoffice.core.money import Money
    from backoffice.reconciliation import policies, queries

    actor.must("breaks.view")
    found = queries.break_by_code(code=code.upper())
    what = policies.advice(cls=found.cls, leg=found.leg)
    facts: dict[str, Any] = {
        "code": found.code,
        "class": found.cls,
        "flags": found.flags,
        "severity": what.severity,
        "difference": str(Money(found.difference, found.currency)),
        "at_risk": str(Money(found.at_risk, found.currency)),
        "at_risk_eur": None if found.at_risk_eur is None else str(Money(found.at_risk_eur, "EUR")),
        "status": found.status,
        "subject": found.subject,
        "leg": found.leg,
        "key": found.key,
        "owner": found.owner.name if found.owner else "",
        "occurred_at": found.occurred_at,
        "opened_at": found.opened_at,
        "closed_at": found.closed_at,
        "cause": found.cause or None,
        "ticket": found.ticket or None,
        "last_seen_in_run": found.last_seen_id,
        "detail": found.detail,
        "accepted_until": found.accepted_until,
        "proposal": found.proposal,
        "proposed_by": found.proposed_by_name,
        "journal": found.journal_id,
        "history": [
            {
                "at": step.at,
                "what": step.what,
                "status": step.status,
                "class": step.cls,
                "run": step.run_id,
                "by": step.who,
                "why": step.why or None,
                "cause": step.cause or None,
                "ticket": step.ticket or None,
            }
            for step in queries.history(found=found)
        ],
        "postings": [
            {"journal": journal.pk, "kind": journal.kind, "at": journal.effective_at, "subject": journal.subject}
            for journal in queries.journals_behind(found=found)
        ],
        "do_first": what.action,
        "command": policies.command(
            cls=found.cls,
            leg=found.leg,
            code=found.code,
            key=found.key,
            fact=found.fact,
            subject=found.subject,
            occurred_at=found.occurred_at,
        ),
        "notes": found.notes.strip(),
    }
    return Result(rows=[{"fact": fact, "value": value} for fact, value in facts.items()])


@breaks.command(short_help="Give a break an owner.")
@click.argument("code")
@click.option("--to", "person", required=True, help="The code of a member of staff (PN-…).")
@renders("breaks.assign", LIST)
@acts
def assign(actor: Actor, code: str, person: str) -> Result:
    """Give a break an owner, who investigates it.

    \b
    Example:
      ops breaks assign BR-7QF3K2 --to PN-4KXH7RTZ
    """
    from backoffice.core import clock
    from backoffice.people import queries as people
    from backoffice.reconciliation import operations

    now = clock.now()
    owner = people.person_by_code(code=person.upper())
    return Result(
        rows=[_row(operations.take(code=code.upper(), owner_id=owner.pk, actor=actor, now=now), now)],
    )


@breaks.command(short_help="Add a note to a break.")
@click.argument("code")
@click.argument("text")
@renders("breaks.note", LIST)
@acts
def note(actor: Actor, code: str, text: str) -> Result:
    """Add TEXT to a break's notes; earlier notes stay. Name no guest or host: notes outlive an erasure.

    \b
    Example:
      ops breaks note BR-7QF3K2 "The provider shows a fee of 0.25 more; asked them (ticket 8812)"
    """
    from backoffice.core import clock
    from backoffice.reconciliation import operations

    now = clock.now()
    return Result(rows=[_row(operations.note(code=code.upper(), text=text, actor=actor, now=now), now)])


@breaks.command(short_help="Say that a break is explained and put right.")
@click.argument("code")
@click.option("--cause", type=click.Choice(CAUSES), required=True, help="Why there was one.")
@click.option("--ticket", default="", help="Where that is told at length.")
@renders("breaks.resolve", LIST)
@acts
def resolve(actor: Actor, code: str, cause: str, ticket: str) -> Result:
    """Close a break that is explained and put right; it reopens by itself if a later run still finds it.

    Refused (exit code 6) without --reason, and at a shell without the --approval of a second person.

    \b
    Example:
      ops breaks resolve BR-7QF3K2 --cause our_error --reason "Booked the fee by journal 4711" --approval AP-4QDR7H
    """
    from backoffice.core import clock
    from backoffice.reconciliation import operations

    now = clock.now()
    found = operations.resolve(code=code.upper(), cause=cause, ticket=ticket, reason=actor.reason, actor=actor, now=now)
    return Result(rows=[_row(found, now)])


@breaks.command(short_help="Live with a break until a date.")
@click.argument("code")
@click.option("--until", type=INSTANT, required=True, help="The day from which it is a finding again.")
@renders("breaks.accept", LIST)
@decides
def accept(actor: Actor, code: str, until: datetime | timedelta) -> Result:
    """Accept a break until a date, at most three months ahead: it is no finding till then, unless it changes.

    Refused (exit code 6) without --reason, and without a sign-in or the --approval of a second person.

    \b
    Example:
      ops breaks accept BR-7QF3K2 --until 2026-12-01 --reason "The provider corrects it this month" --approval AP-4QDR7H
    """
    from backoffice.core import clock
    from backoffice.reconciliation import operations

    now = clock.now()
    day = at(until, now=now)
    assert day is not None  # the option is required
    found = operations.accept(code=code.upper(), until=day, reason=actor.reason, actor=actor, now=now)
    return Result(rows=[_row(found, now)])


@breaks.command("write-off", short_help="Give up what stands under a break; takes two people.")
@click.argument("code")
@click.option("--approve", "answer", flag_value="approve", help="Say the second yes to what somebody else proposed.")
@click.option("--reject", "answer", flag_value="reject", help="Say no to what was proposed.")
@renders("breaks.write-off", LIST)
@decides_in_person
def write_off(actor: Actor, code: str, answer: str | None) -> Result:
    """Propose to write off what stands on a clearing account; another finance person says --approve or --reject.

    Up to 1.00 EUR, and 10.00 EUR in all of one run, goes to rounding (5900); beyond, what we are short of goes to bad debt
    (5220), and a surplus is refused: it belongs to somebody. Exit code 6 without --reason or --as, 4 when it is not yours to
    decide.

    \b
    Example:
      ops breaks write-off BR-7QF3K2 --reason "The provider lost it" --as mia@example.org
      ops breaks write-off BR-7QF3K2 --approve --reason "Agreed" --as chad@example.org
    """
    from backoffice.core import clock
    from backoffice.reconciliation import operations, queries

    now, code = clock.now(), code.upper()
    if answer is None:
        found = operations.propose_write_off(code=code, reason=actor.reason, actor=actor, now=now)
        warnings = [
            f"Nothing is posted yet: another finance person decides, with ops breaks write-off {code} --approve."
        ]
        return Result(rows=[_row(found, now)], warnings=warnings)
    found = operations.decide_write_off(
        code=code,
        approve=answer == "approve",
        reason=actor.reason,
        version=queries.break_by_code(code=code).version,
        actor=actor,
        now=now,
    )
    return Result(rows=[_row(found, now)], summary={"journal": found.journal_id})


@breaks.command("post-anew", short_help="Make the books say what the provider shows of a movement; takes two people.")
@click.argument("code")
@click.option("--approve", "answer", flag_value="approve", help="Say the second yes to what somebody else proposed.")
@click.option("--reject", "answer", flag_value="reject", help="Say no to what was proposed.")
@renders("breaks.post-anew", LIST)
@decides_in_person
def post_anew(actor: Actor, code: str, answer: str | None) -> Result:
    """Propose to post a movement of the provider anew; another finance person says --approve or --reject.

    What stands in the books of the movement is reversed exactly and what the provider shows of it now is posted, as its import
    would have; one that was never imported is imported. The next run closes the break. Exit code 6 without --reason or --as,
    and when the provider or the books say something else than was proposed; 4 when it is not yours to decide.

    \b
    Example:
      ops breaks post-anew BR-7QF3K2 --reason "The fee was kept wrongly" --as mia@example.org
      ops breaks post-anew BR-7QF3K2 --approve --reason "Agreed" --as chad@example.org
    """
    from backoffice.core import clock
    from backoffice.reconciliation import provider, queries

    now, code = clock.now(), code.upper()
    if answer is None:
        found = provider.propose_anew(code=code, reason=actor.reason, actor=actor, now=now)
        told = found.proposal or {}
        warnings = [
            f"Nothing is posted yet: another finance person decides, with ops breaks post-anew {code} --approve."
        ]
        summary = {"reverses": told.get("journals"), "posts": told.get("lines")}
        return Result(rows=[_row(found, now)], summary=summary, warnings=warnings)
    found = provider.decide_anew(
        code=code,
        approve=answer == "approve",
        reason=actor.reason,
        version=queries.break_by_code(code=code).version,
        actor=actor,
        now=now,
    )
    return Result(rows=[_row(found, now)])


@breaks.command(short_help="Confirm which payout a line of the bank is, as proposed.")
@click.argument("code")
@click.option("--reject", is_flag=True, help="Say that it is not; it is not proposed again.")
@click.option("--line", help="Say that this line of the bank (BL-…) is the payout of the break, whatever its amount.")
@renders("breaks.confirm", MATCHES)
@decides
def confirm(actor: Actor, code: str, reject: bool, line: str | None) -> Result:
    """Confirm (or reject) what reconciliation proposes for a break of the bank: lines that add up to a payout, or a line
    that is the sum of several. Confirmed, they are posted against each other.

    Where a bank has kept something of a payout of ours, or of one that it sent back, nothing adds up and nothing is proposed:
    --line says which line it is. What is left over stays a break, for two of finance to write off (ops breaks write-off).

    \b
    Example:
      ops breaks confirm BR-7QF3K2 --reason "Two parts of one payout, says the bank" --approval AP-4QDR7H
      ops breaks confirm BR-7QF3K2 --line BL-7KXH4RTZ --reason "The bank kept 2.00" --approval AP-4QDR7H
    """
    from backoffice.core import clock
    from backoffice.core.errors import NotFound
    from backoffice.reconciliation import operations, queries

    now, code = clock.now(), code.upper()
    found = queries.break_by_code(code=code)
    decided: dict[str, Any] = {
        "code": code,
        "version": found.version,
        "reason": actor.reason,
        "actor": actor,
        "now": now,
    }
    if line is not None:
        if reject:
            raise click.UsageError("--line says which line it is; --reject that what is proposed is not.")
        done = [operations.say_line(line_code=line.upper(), **decided)]
    else:
        proposed = [match.pk for match in queries.proposals_of(found=found)]
        if not proposed:
            raise NotFound(kind="proposal for this break")
        done = operations.decide_matches(match_ids=proposed, confirm=not reject, **decided)
    rows = [
        {
            "line": match.line.code,
            "payout": match.bank_payout.code,
            "amount": match.amount,
            "currency": match.line.currency,
            "method": match.method,
            "status": match.status,
        }
        for match in done
    ]
    return Result(rows=rows)


def _row(found: Any, now: Any) -> dict[str, Any]:
    from backoffice.reconciliation.policies import advice

    return {
        "code": found.code,
        "class": found.cls,
        "flags": found.flags,
        "severity": advice(cls=found.cls, leg=found.leg).severity,
        "difference": found.difference,
        "currency": found.currency,
        "at_risk": found.at_risk,
        "at_risk_eur": found.at_risk_eur,
        "subject": found.subject or None,
        "key": found.key,
        "age": age(now - found.occurred_at),
        "occurred_at": found.occurred_at,
        "status": found.status,
        "owner": found.owner.code if found.owner else None,
        "action": advice(cls=found.cls, leg=found.leg).action,
    }
