"""`ops payouts`: what hosts are owed, why it waits, and sending it, keeping it back or taking it back."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import click

from ops_cli.bootstrap import decides, decides_in_person, reads
from ops_cli.output import Column, Exit, Failed, Result, dry_run, money, progress, renders
from ops_cli.times import SPAN, age
from ops_cli.words import OneOf

if TYPE_CHECKING:
    from backoffice.core.actor import Actor
    from backoffice.core.money import Money
    from backoffice.payouts.queries import Explanation

PLAN: Final = (
    Column("payout"),
    Column("booking"),
    Column("host"),
    Column("status"),
    Column("amount", money="currency"),
    Column("due_at", "Due"),
    Column("waits_for", "Waits for"),
    Column("waits_until", "Until"),
    Column("sends"),
)
LIST: Final = (
    Column("code", "Payout"),
    Column("booking"),
    Column("host"),
    Column("status"),
    Column("amount", money="currency"),
    Column("sent", money="sent_currency"),
    Column("due_at", "Due"),
    Column("waits_for", "Waits for"),
    Column("waits_until", "Until"),
    Column("failure"),
)
HOLDS: Final = (
    Column("code", "Hold"),
    Column("booking"),
    Column("status"),
    Column("amount", money="currency"),
    Column("cause"),
    Column("reason"),
    Column("owner"),
    Column("placed_by", "Placed by"),
    Column("expires_at", "Expires"),
)
CLAWBACK: Final = (
    Column("code", "Clawback"),
    Column("payout"),
    Column("host"),
    Column("status"),
    Column("amount", money="currency"),
    Column("failure"),
)
SWEEP: Final = (Column("currency"), Column("what"), Column("amount", money="currency"))
RECEIVABLES: Final = (
    Column("host"),
    Column("owed", money="currency"),
    Column("oldest"),
    Column("age"),
    Column("ages", "By age in days"),
    Column("coming_back", "Coming back", money="currency"),
    Column("write_off", "Write-off"),
)
STEPS: Final = (
    Column("payout"),
    Column("what"),
    Column("amount", money="currency"),
    Column("journal", right=True),
    Column("reference"),
)
POSTINGS: Final = (
    Column("payout"),
    Column("effective_at", "At"),
    Column("journal", right=True),
    Column("kind"),
    Column("account"),
    Column("name"),
    Column("key"),
    Column("amount", money="currency"),
)
FACTS: Final = (Column("fact"), Column("value"))
# The job's own name, so that a run by hand and one by itself know of each other.
RELEASE: Final = "workflows.release_payouts"
CAUSES: Final = ("dispute", "suspicion", "bank_details", "service_issue", "other")


@click.group(short_help="Show what hosts are owed and why it waits; send it, keep it, take it back.")
def payouts() -> None:
    """Show what hosts are owed and why it waits, and send it, keep it back or take it back.

    \b
    Example:
      ops payouts plan
      ops payouts explain PO-7QF3K2XY
      ops payouts hold BK-7QF3K2 --amount 120.00 --cause dispute --for 48h --reason "broken window" --as sam@example.org
    """


@payouts.command(short_help="Show what a run would release now, and what waits for what.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=200, show_default=True, help="At most so many.")
@renders("payouts.plan", PLAN)
@reads
def plan(actor: Actor, limit: int) -> Result:
    """Show what a run of the release would do now: payouts that are due, the longest first, and what keeps them.

    \b
    Example:
      ops payouts plan
      ops payouts plan --format json | jq '.data[] | select(.waits_for != null)'
    """
    from backoffice.core import clock
    from backoffice.payouts import queries

    actor.must("payouts.view")
    now = clock.now()
    planned = queries.plan(now=now, limit=limit)
    rows, ready = [_planned(one) for one in planned], sum(1 for one in planned if one.sends)
    counts = queries.counts(now=now)
    in_all = counts["due"] + counts["failed"]  # a refused one is due until it was sent
    return Result(
        rows=rows,
        summary={"due": in_all, "shown": len(rows), "ready": ready, "waiting": len(rows) - ready},
    )


@payouts.command("list", short_help="List payouts, newest first.")
@click.option(
    "--status",
    type=OneOf("backoffice.payouts.states:PAYOUT.statuses"),
    help="Only this status (scheduled, held, releasable, in_transfer, transferred, paid, failed, …).",
)
@click.option("--host", help="Only payouts of this host (PN-…).")
@click.option("--booking", help="Only payouts of this booking (BK-…).")
@click.option("--waiting", is_flag=True, help="Only those that are due and wait for something.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="At most so many.")
@renders("payouts.list", LIST)
@reads
def list_payouts(
    actor: Actor, status: str | None, host: str | None, booking: str | None, waiting: bool, limit: int
) -> Result:
    """List payouts, newest first. Amounts are the host's share; what was sent is beside it.

    \b
    Example:
      ops payouts list --status failed
      ops payouts list --host PN-4KXH7RTZ --format csv
    """
    from backoffice.payouts import queries

    actor.must("payouts.view")
    wanted = {
        "status": status,
        "host__code": host.upper() if host else None,
        "booking__code": booking.upper() if booking else None,
    }
    found = queries.payouts().filter(**{name: value for name, value in wanted.items() if value})
    if waiting:
        found = found.exclude(waits_for="")
    return Result(rows=[_row(one) for one in found[:limit]], summary={"in_all": found.count()})


@payouts.command(short_help="Show one payout whole.")
@click.argument("code")
@renders("payouts.show", FACTS)
@reads
def show(actor: Actor, code: str) -> Result:
    """Show payout CODE: its parts, its dates, what was sent, kept for a debt or taken back. `explain` says why.

    \b
    Example:
      ops payouts show PO-7QF3K2XY
    """
    from backoffice.core.money import Money
    from backoffice.payouts import queries

    found = queries.payout(code=code.upper(), actor=actor)
    currency = found.transfer_currency or found.currency
    facts: dict[str, Any] = {
        **{name: value for name, value in _row(found).items() if "currency" not in name},
        "amount": str(found.share),
        "host_fee": str(Money(found.host_fee, found.currency)),
        "guest_fee": str(Money(found.guest_fee, found.currency)),
        "number": found.number,
        "remainder_of": found.remainder_of.code if found.remainder_of else None,
        "kept_for_debt": str(Money(found.netted, currency)),
        "sent": str(found.sent or Money.zero(currency)),
        "taken_back": str(Money(found.reversed_amount, currency)),
        "rate": found.rate,
        "charge": found.source_charge,
        "transfer": found.transfer_id,
        "tries": found.tries,
        "bank_payout": found.bank_payout.provider_id if found.bank_payout else None,
        "policy": found.policy,
        "released_at": found.released_at,
        "transferred_at": found.transferred_at,
        "paid_at": found.paid_at,
        "version": found.version,
    }
    return Result(rows=[{"fact": fact, "value": value} for fact, value in facts.items()])


@payouts.command(short_help="Say why a payout is what it is, and why it waits.")
@click.argument("code")
@click.option("--postings", is_flag=True, help="The postings behind it, line by line, instead.")
@renders("payouts.explain")
@reads
def explain(actor: Actor, code: str, postings: bool) -> Result:
    """Say why payout CODE waits and until when, and show the lines that add up to its amount, each with the journal that
    says so; of a booking (BK-…) every payout. Exit code 3 when they do not add up.

    \b
    Example:
      ops payouts explain PO-7QF3K2XY
      ops payouts explain BK-7QF3K2 --postings
    """
    from backoffice.bookings import queries as bookings
    from backoffice.core import clock
    from backoffice.payouts import queries

    actor.must("payouts.view")
    now, code = clock.now(), code.upper()
    if code.startswith("BK-"):
        booking = bookings.booking(code=code, actor=actor)
        found = queries.explain_booking(booking=booking, now=now)
    else:
        found = [queries.explain(code=code, now=now, actor=actor)]
    rows = [row for one in found for row in (_legs(one) if postings else _steps(one))]
    return Result(
        rows=rows,
        columns=POSTINGS if postings else STEPS,
        summary={one.payout: _story(one) for one in found},
        exit_code=Exit.DONE if all(one.adds_up for one in found) else Exit.FINDINGS,
    )


@payouts.command(short_help="Release and send what is due.")
@click.argument("code", required=False)
@click.option("--limit", type=click.IntRange(1, 100_000), help="At most so many in this run.")
@dry_run
@renders("payouts.release")
@decides
def release(actor: Actor, code: str | None, limit: int | None, dry_run: bool) -> Result:
    """Release and send payout CODE, or all that are due, as the job does by itself. Can be killed, repeated, or run beside
    the job: each host is paid once.

    Exit code 5 while the job runs, 6 without a reason or somebody who decides, 8 when some were refused by the provider or
    not answered: the next run goes on with them.

    \b
    Example:
      ops payouts release --dry-run
      ops payouts release PO-7QF3K2XY --reason "host called" --as fay@example.org
      ops payouts release --reason "after the incident" --approval AP-4QDR7H
    """
    from backoffice.core import clock
    from backoffice.jobs import operations as jobs
    from backoffice.payouts import queries
    from backoffice.workflows import release_payouts

    now = clock.now()
    if code and dry_run:
        found = queries.payout(code=code.upper(), actor=actor)
        rows = [_planned(one) for one in queries.plan(now=now, codes=[found.code])]
        if not rows:
            raise Failed(f"{found.code} is {found.status.replace('_', ' ')}: nothing of it is left to send")
        return Result(rows=rows, columns=PLAN, summary={"dry_run": True})
    actor.must("payouts.release")
    if code:
        found = queries.payout(code=code.upper(), actor=actor)
        release_payouts.release_one(payout_code=found.code, actor=actor, now=now)
        return Result(rows=[_row(queries.payout(code=found.code))], columns=LIST)
    if dry_run:
        counts = release_payouts.run(now=now, actor=actor, limit=limit, dry_run=True)
        return Result(summary={**counts, "dry_run": True})
    with progress("releasing") as advance, jobs.running(name=RELEASE, actor=actor, now=now) as running:
        counts = release_payouts.run(now=now, actor=actor, limit=limit)
        running.count(**counts)
        advance()
    unfinished = counts.get("failed", 0) + counts.get("lost", 0)
    return Result(
        summary={**counts, "run": running.id, "dry_run": False}, exit_code=Exit.PARTIAL if unfinished else Exit.DONE
    )


@payouts.command(short_help="Send again what the provider refused.")
@click.argument("code")
@renders("payouts.retry", LIST)
@decides
def retry(actor: Actor, code: str) -> Result:
    """Send payout CODE again, whose transfer was refused; the cause should be gone.

    \b
    Example:
      ops payouts retry PO-7QF3K2XY --reason "the host finished their set-up" --as fay@example.org
    """
    from backoffice.core import clock
    from backoffice.payouts import queries
    from backoffice.workflows import release_payouts

    actor.must("payouts.release")
    found = queries.payout(code=code.upper(), actor=actor)
    if found.status != "failed":
        raise Failed(f"{found.code} is {found.status}: only a payout whose transfer was refused is sent again")
    release_payouts.release_one(payout_code=found.code, actor=actor, now=clock.now())
    return Result(rows=[_row(queries.payout(code=found.code))])


@payouts.command("holds", short_help="List what is kept back.")
@click.option("--all", "ended_too", is_flag=True, help="Those that were lifted or have expired, too.")
@click.option("--booking", help="Only holds of this booking (BK-…).")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="At most so many.")
@renders("payouts.holds", HOLDS)
@reads
def list_holds(actor: Actor, ended_too: bool, booking: str | None, limit: int) -> Result:
    """List what is kept back from hosts, newest first: why, by whom, until when.

    \b
    Example:
      ops payouts holds
      ops payouts holds --booking BK-7QF3K2 --all
    """
    from backoffice.payouts import queries

    actor.must("payouts.view")
    found = queries.holds()
    if not ended_too:
        found = found.filter(status="active")
    if booking:
        found = found.filter(booking__code=booking.upper())
    return Result(rows=[_hold(one) for one in found[:limit]], summary={"in_all": found.count()})


@payouts.command(short_help="Keep an amount of a stay back from its host.")
@click.argument("booking")
@click.option("--amount", help="In major units of the home's currency (120.00).  [default: all of it]")
@click.option("--cause", type=click.Choice(CAUSES), required=True, help="What it is about.")
@click.option("--for", "length", type=SPAN, default="72h", show_default=True, help="For how long.")
@click.option("--owner", help="Whose it is to follow up (PN-…).  [default: whoever signs in]")
@renders("payouts.hold", HOLDS)
@decides_in_person
def hold(actor: Actor, booking: str, amount: str | None, cause: str, length: timedelta, owner: str | None) -> Result:
    """Keep an amount of BOOKING back from release, within the time that one's role may (support 72 h, senior 14 days, lead
    30 days). What has been sent already cannot be kept back: see `ops payouts claw-back`.

    \b
    Example:
      ops payouts hold BK-7QF3K2 --amount 120.00 --cause dispute --for 48h --reason "broken window" --as sam@example.org
    """
    from backoffice.bookings import queries as bookings
    from backoffice.core import clock
    from backoffice.payouts import operations
    from backoffice.people import queries as people

    found = bookings.booking(code=booking.upper(), actor=actor)
    placed = operations.place_hold(
        booking_code=found.code,
        amount=None if amount is None else _amount(amount, found.currency),
        cause=cause,
        reason=actor.reason,
        hours=_hours(length),
        owner_id=people.person_by_code(code=owner.upper()).pk if owner else actor.id,
        actor=actor,
        now=clock.now(),
    )
    return Result(rows=[_hold(_again(placed.code))])


@payouts.command(short_help="Keep it back for longer.")
@click.argument("code")
@click.option("--for", "length", type=SPAN, default="72h", show_default=True, help="For how long from now.")
@renders("payouts.extend", HOLDS)
@decides_in_person
def extend(actor: Actor, code: str, length: timedelta) -> Result:
    """Keep what hold CODE keeps for longer, within the time that one's role may.

    \b
    Example:
      ops payouts extend HD-7QF3K2XY --for 48h --reason "waiting for the photos" --as sam@example.org
    """
    from backoffice.core import clock
    from backoffice.payouts import operations, queries

    found = queries.hold(code=code.upper())
    operations.extend_hold(
        hold_code=found.code,
        hours=_hours(length),
        reason=actor.reason,
        version=found.version,
        actor=actor,
        now=clock.now(),
    )
    return Result(rows=[_hold(_again(found.code))])


@payouts.command(short_help="Let what was kept back go.")
@click.argument("code")
@renders("payouts.lift", HOLDS)
@decides_in_person
def lift(actor: Actor, code: str) -> Result:
    """End hold CODE; what it kept is released by the next run, once it is due.

    \b
    Example:
      ops payouts lift HD-7QF3K2XY --reason "the guest withdrew" --as sam@example.org
    """
    from backoffice.core import clock
    from backoffice.payouts import operations, queries

    found = queries.hold(code=code.upper())
    operations.lift_hold(hold_code=found.code, reason=actor.reason, version=found.version, actor=actor, now=clock.now())
    return Result(rows=[_hold(_again(found.code))])


@payouts.command("claw-back", short_help="Take back what was sent to a host.")
@click.argument("payout")
@click.option("--amount", required=True, help="In major units of the currency that was sent (50.00).")
@renders("payouts.claw-back", CLAWBACK)
@decides
def claw_back(actor: Actor, payout: str, amount: str) -> Result:
    """Ask AMOUNT back from the transfer of PAYOUT. The host must owe it; what the provider refuses, they go on owing.

    \b
    Example:
      ops payouts claw-back PO-7QF3K2XY --amount 50.00 --reason "refund after payout" --as fay@example.org
    """
    from backoffice.core import clock
    from backoffice.payouts import queries
    from backoffice.workflows import claw_back as workflow

    found = queries.payout(code=payout.upper(), actor=actor)
    if not found.transfer_currency:
        raise Failed(f"{found.code} is {found.status}: nothing of it was sent that could be taken back")
    asked = workflow.request(
        payout_code=found.code,
        amount=_amount(amount, found.transfer_currency),
        reason=actor.reason,
        version=found.version,
        actor=actor,
        now=clock.now(),
    )
    row = queries.clawback(code=asked.code)
    return Result(
        rows=[
            {
                "code": row.code,
                "payout": row.payout.code,
                "host": row.host.code,
                "status": row.status,
                "amount": row.amount,
                "currency": row.currency,
                "failure": row.failure or None,
            }
        ]
    )


@payouts.command(short_help="List what hosts owe, by age.")
@click.option("--host", help="Only this host (PN-…).")
@renders("payouts.receivables", RECEIVABLES)
@reads
def receivables(actor: Actor, host: str | None) -> Result:
    """List what hosts owe us, whoever has owed the longest first. Exit code 3 when anybody does.

    \b
    Example:
      ops payouts receivables
      ops payouts receivables --host PN-4KXH7RTZ --format json
    """
    from backoffice.core import clock
    from backoffice.payouts import queries

    actor.must("payouts.view")
    now = clock.now()
    rows = [
        {
            "host": one.host_code,
            "owed": one.amount.amount,
            "currency": one.amount.currency,
            "oldest": one.oldest,
            "age": age(now - one.oldest),
            "ages": {name: str(part) for name, part in one.ages.items() if part},
            "coming_back": one.coming_back.amount,
            "write_off": one.proposed or None,
        }
        for one in queries.receivables(now=now, host_code=host.upper() if host else None)
    ]
    return Result(rows=rows, exit_code=Exit.FINDINGS if rows else Exit.DONE)


@payouts.command(short_help="Send what the platform has earned to its bank.")
@click.argument("currency")
@dry_run
@renders("payouts.sweep", SWEEP)
@decides
def sweep(actor: Actor, currency: str, dry_run: bool) -> Result:
    """Send what is earned in CURRENCY to the platform's bank account: never what is held for others, never more than is
    available. --dry-run shows what of the balance is whose.

    \b
    Example:
      ops payouts sweep EUR --dry-run
      ops payouts sweep EUR --reason "month end" --as fay@example.org
    """
    from backoffice.core import clock
    from backoffice.workflows import sweep_earnings

    now, currency = clock.now(), _currency(currency)
    if not dry_run:
        done = sweep_earnings.sweep(currency=currency, actor=actor, reason=actor.reason, now=now)
        row = {"currency": done.currency, "what": f"{done.code} {done.status}", "amount": done.amount}
        return Result(rows=[row], summary={"bank_payout": done.code, "provider_id": done.provider_id})
    shown = sweep_earnings.preview(currency=currency, actor=actor, now=now)
    lines = [("balance at the provider", shown.balance)]
    lines += [(f"owed to others ({account})", -owed) for account, owed in shown.owed.items()]
    lines += [("earned", shown.earned), ("available now", shown.available), ("would be sent", shown.amount)]
    return Result(
        rows=[{"currency": currency, "what": what, "amount": amount.amount} for what, amount in lines],
        summary={"movements": shown.movements, "least": _shown(shown.least), "dry_run": True},
    )


def _hours(length: timedelta) -> int:
    return max(1, round(length.total_seconds() / 3600))


def _currency(text: str) -> str:
    from backoffice.core.money import is_currency

    code = text.upper()
    if not is_currency(code):
        raise Failed(f"CURRENCY: write three letters such as EUR, not {text!r}", Exit.USAGE)
    return code


def _amount(text: str, currency: str) -> Money:
    from decimal import InvalidOperation

    from backoffice.core.money import Money

    try:
        return Money.parse(text, currency)
    except (ValueError, InvalidOperation):
        raise Failed(f"--amount: write an amount in {currency} such as 50.00, not {text!r}", Exit.USAGE) from None


def _shown(amount: Money) -> dict[str, int | str]:
    return money(amount.amount, amount.currency)


def _again(code: str) -> Any:
    from backoffice.payouts import queries

    return queries.hold(code=code)


def _planned(one: Any) -> dict[str, Any]:
    return {
        "payout": one.payout,
        "booking": one.booking,
        "host": one.host,
        "status": one.status,
        "amount": one.amount.amount,
        "currency": one.amount.currency,
        "due_at": one.due_at,
        "waits_for": one.waits.sentence if one.waits else None,
        "waits_until": one.waits.until if one.waits else None,
        "sends": one.sends,
    }


def _steps(one: Explanation) -> Iterator[dict[str, Any]]:
    for line in one.lines:
        yield _step(one, line.label, line.amount, line.journal_id, line.reference)
    yield _step(one, "= the host's share", one.share)
    if one.settled is not None and one.settled.currency != one.share.currency:
        yield _step(one, "converted", one.settled)
    if one.netted:
        yield _step(one, "kept for what the host owed", -one.netted)
    if one.amount is not None:
        yield _step(one, "= sent" if one.transfer else "= to be sent", one.amount, None, one.transfer)
    if one.reversed:
        yield _step(one, "taken back", -one.reversed)


def _step(
    one: Explanation, what: str, amount: Money, journal: int | None = None, reference: str = ""
) -> dict[str, Any]:
    return {
        "payout": one.payout,
        "what": what,
        "amount": amount.amount,
        "currency": amount.currency,
        "journal": journal,
        "reference": reference or None,
    }


def _legs(one: Explanation) -> Iterator[dict[str, Any]]:
    for posting in one.postings:
        for leg in posting.legs:
            yield {
                "payout": one.payout,
                "effective_at": posting.effective_at,
                "journal": posting.journal_id,
                "kind": posting.kind,
                "reference": posting.reference,
                "account": leg.account,
                "name": leg.name,
                "key": leg.key,
                "amount": leg.amount.amount,
                "currency": leg.amount.currency,
            }


def _story(one: Explanation) -> dict[str, Any]:
    return {
        "status": one.status,
        "booking": one.booking,
        "host": one.host,
        "due_at": one.due_at,
        "waits_for": one.waits.sentence if one.waits else None,
        "waits_until": one.waits.until if one.waits else None,
        "rate": one.rate,
        "policy": one.policy,
        "adds_up": one.adds_up,
    }


def _row(payout: Any) -> dict[str, Any]:
    return {
        "code": payout.code,
        "booking": payout.booking.code,
        "host": payout.host.code,
        "status": payout.status,
        "amount": payout.share.amount,
        "currency": payout.share.currency,
        "sent": payout.sent.amount if payout.sent is not None else None,
        "sent_currency": payout.sent.currency if payout.sent is not None else None,
        "due_at": payout.due_at,
        "waits_for": payout.waits_for or None,
        "waits_until": payout.waits_until,
        "failure": payout.failure or None,
    }


def _hold(hold: Any) -> dict[str, Any]:
    return {
        "code": hold.code,
        "booking": hold.booking.code,
        "status": hold.status,
        "amount": hold.amount,
        "currency": hold.currency,
        "cause": hold.cause,
        "reason": hold.reason,
        "owner": hold.owner.code if hold.owner else None,
        "placed_by": hold.placed_by.code if hold.placed_by else None,
        "placed_at": hold.placed_at,
        "expires_at": hold.expires_at,
        "ended_reason": hold.ended_reason or None,
    }
