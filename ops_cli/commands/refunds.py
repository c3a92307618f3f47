"""`ops refunds`: money back to guests, previewed, asked for and decided."""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import click

from ops_cli.bootstrap import decides, decides_in_person, reads
from ops_cli.output import Column, Exit, Failed, Result, dry_run, renders
from ops_cli.times import age
from ops_cli.words import OneOf

if TYPE_CHECKING:
    from backoffice.core.actor import Actor
    from backoffice.core.money import Money
    from backoffice.payments.queries import RefundWait

LIST: Final = (
    Column("code", "Refund"),
    Column("booking"),
    Column("status"),
    Column("amount", money="currency"),
    Column("cause"),
    Column("bearer"),
    Column("requested_by", "Asked by"),
    Column("approved_by", "Decided by"),
    Column("age"),
    Column("waits"),
    Column("failure"),
)
FACTS: Final = (Column("fact"), Column("value"))
PREVIEW: Final = (Column("who"), Column("amount"), Column("what"))
CAUSES: Final = (
    "guest_cancellation",
    "host_cancellation",
    "staff_cancellation",
    "late_capture",
    "service_issue",
    "goodwill",
    "duplicate",
)


@click.group(short_help="Show and ask for money back to guests, and decide it.")
def refunds() -> None:
    """Show, preview and ask for refunds, and decide those that wait for a second person.

    \b
    Example:
      ops refunds list --status requested
      ops refunds preview BK-7QF3K2 --amount 50.00
      ops refunds request BK-7QF3K2 --amount 50.00 --cause service_issue --reason "no hot water" --as sam@example.org
      ops refunds approve RF-4KXH7RTZ --reason "photos agree" --as lea@example.org
    """


@refunds.command("list", short_help="List refunds, newest first.")
@click.option(
    "--status",
    type=OneOf("backoffice.payments.states:REFUND.statuses"),
    help="Only this status (requested, approved, submitted, indeterminate, succeeded, failed, …).",
)
@click.option("--booking", help="Only refunds of this booking (BK-…).")
@click.option("--open", "open_only", is_flag=True, help="Only those that have not ended.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="At most so many.")
@renders("refunds.list", LIST)
@reads
def list_refunds(actor: Actor, status: str | None, booking: str | None, open_only: bool, limit: int) -> Result:
    """List refunds, newest first. One that waits says for what: a second person, the end of a chargeback or of a stop, or,
    where it did not reach its guest, to be paid another way.

    \b
    Example:
      ops refunds list --status requested
      ops refunds list --booking BK-7QF3K2 --format json
    """
    from backoffice.core import clock
    from backoffice.payments import queries

    actor.must("refunds.view")
    found = queries.refunds()
    if status:
        found = found.filter(status=status)
    if booking:
        found = found.filter(payment__booking__code=booking.upper())
    if open_only:
        found = found.filter(status__in=["requested", "approved", "submitted", "indeterminate"])
    now = clock.now()
    shown = list(found[:limit])
    waits, kept = queries.refund_waits(refunds=shown), _kept(shown)
    rows = [_row(one, now, waits.get(one.pk), kept.get(one.pk)) for one in shown]
    return Result(rows=rows, summary={"in_all": found.count()})


@refunds.command(short_help="Show one refund whole.")
@click.argument("code")
@renders("refunds.show", FACTS)
@reads
def show(actor: Actor, code: str) -> Result:
    """Show one refund: what it is made of, who asked and who decided, and what the provider made of it.

    \b
    Example:
      ops refunds show RF-4KXH7RTZ
    """
    from backoffice.core import clock
    from backoffice.core.money import Money
    from backoffice.payments import queries

    actor.must("refunds.view")
    found = queries.refund(code=code.upper())
    own = found.payment.booking.currency
    wait = queries.why_refund_waits(refund=found)
    facts: dict[str, Any] = {
        **_row(found, clock.now(), wait, _kept([found]).get(found.pk)),
        "waits_until": wait.until if wait is not None else None,
        "amount": str(Money(found.amount, found.currency)),
        "parts": {part: str(Money(amount, own)) for part, amount in found.parts.items() if amount},
        "borne_by_us": str(Money(found.platform_share, own)),
        "lines": found.lines,
        "method": found.method,
        "instalment": found.charge.code if found.charge is not None else None,
        "asked_with": [one.code for one in queries.asked_together(refund=found) if one.pk != found.pk],
        "repays": found.repays.code if found.repays is not None else None,
        "by_rule": found.by_rule,
        "reason": found.reason,
        "provider_id": found.provider_id,
        "requested_at": found.requested_at,
        "approved_at": found.approved_at,
        "submitted_at": found.submitted_at,
        "settled_at": found.settled_at,
        "unclaimed": found.unclaimed,
        "version": found.version,
    }
    facts.pop("currency")
    return Result(rows=[{"fact": fact, "value": value} for fact, value in facts.items()])


_amount = click.option(
    "--amount", help="In major units of the currency that was charged (50.00).  [default: all that is left]"
)
_lines = click.option(
    "--line",
    "lines",
    multiple=True,
    help="A line instead of an amount, in the home's currency: nights=100.00, cleaning=20.00, guest_fee=14.00; its taxes "
    "follow. May be repeated.",
)
_cause = click.option("--cause", type=click.Choice(CAUSES), default="service_issue", show_default=True, help="Why.")
_bearer = click.option(
    "--bearer", type=click.Choice(["host", "platform"]), default="host", show_default=True, help="Who bears it."
)


@refunds.command(short_help="Show what a refund would mean for everybody.")
@click.argument("booking")
@_amount
@_lines
@_cause
@_bearer
@renders("refunds.preview", PREVIEW)
@reads
def preview(actor: Actor, booking: str, amount: str | None, lines: tuple[str, ...], cause: str, bearer: str) -> Result:
    """Show what refunding BOOKING would mean for guest, host, platform and tax office. Changes nothing.

    \b
    Example:
      ops refunds preview BK-7QF3K2 --amount 50.00
      ops refunds preview BK-7QF3K2 --line nights=100.00 --line cleaning=20.00
    """
    return _previewed(_looking(actor), booking, amount, lines, cause, bearer)


@refunds.command(short_help="Ask for a refund.")
@click.argument("booking")
@_amount
@_lines
@_cause
@_bearer
@click.option("--key", default="", help="The same key again is the same refund.  [default: made of the request]")
@dry_run
@renders("refunds.request", LIST)
@decides
def request(
    actor: Actor,
    booking: str,
    amount: str | None,
    lines: tuple[str, ...],
    cause: str,
    bearer: str,
    key: str,
    dry_run: bool,
) -> Result:
    """Refund BOOKING. Within the limits of who signs in (--as) it is approved and sent; over them, and always with
    --approval alone, it waits for a second person.

    Sent once only: the same request again, on the same day, finds the first. Exit code 6 without --reason, or when nobody
    says who decides.

    \b
    Example:
      ops refunds request BK-7QF3K2 --amount 50.00 --cause service_issue --reason "no hot water" --as sam@example.org
      ops refunds request BK-7QF3K2 --dry-run
    """
    from backoffice.core import clock
    from backoffice.workflows import refund_booking

    if dry_run:
        return _previewed(actor, booking, amount, lines, cause, bearer)
    now, wanted, named = clock.now(), _money(booking, amount), _of_lines(booking, amount, lines)
    what = " ".join([str(wanted or ""), *(f"{name}={money}" for name, money in sorted((named or {}).items()))])
    asked: dict[str, Any] = {
        "booking_code": booking.upper(),
        "lines": named,
        "cause": cause,
        "bearer": bearer,
        "actor": actor,
    }
    key = f"ops:{key or _key(actor, booking, what, cause, bearer, now)}"
    made = refund_booking.asked_before(amount=wanted, idempotency_key=key, **asked)
    if made is None:
        shown = refund_booking.preview(amount=wanted, now=now, **asked)
        made = refund_booking.request(
            amount=shown.amount,
            reason=actor.reason,
            idempotency_key=key,
            version=shown.payment_version,
            now=now,
            **asked,
        )
    return Result(rows=_rows(made.code, now), summary={"waits_for_second_person": made.status == "requested"})


@refunds.command(short_help="Say yes to a refund that waits.")
@click.argument("code")
@renders("refunds.approve", LIST)
@decides_in_person
def approve(actor: Actor, code: str) -> Result:
    """Say yes, as a second person, to refund CODE; it is sent at once, with what was asked for together with it. Never
    one's own, and only with --as: a second person is somebody whom the desk knows.

    \b
    Example:
      ops refunds approve RF-4KXH7RTZ --reason "photos agree" --as lea@example.org
    """
    from backoffice.core import clock
    from backoffice.payments import queries
    from backoffice.workflows import refund_booking

    now, found = clock.now(), queries.refund(code=code.upper())
    done = refund_booking.approve(refund_code=found.code, version=found.version, actor=actor, now=now)
    return Result(rows=_rows(done.code, now))


@refunds.command(short_help="Say no to a refund that waits.")
@click.argument("code")
@renders("refunds.reject", LIST)
@decides_in_person
def reject(actor: Actor, code: str) -> Result:
    """Say no, as a second person, to refund CODE; the amount can be asked for again. Only with --as.

    \b
    Example:
      ops refunds reject RF-4KXH7RTZ --reason "the guest had left already" --as lea@example.org
    """
    from backoffice.core import clock
    from backoffice.payments import queries
    from backoffice.workflows import refund_booking

    now, found = clock.now(), queries.refund(code=code.upper())
    done = refund_booking.reject(
        refund_code=found.code, reason=actor.reason, version=found.version, actor=actor, now=now
    )
    return Result(rows=_rows(done.code, now))


@refunds.command(short_help="Take back a refund that waits.")
@click.argument("code")
@renders("refunds.cancel", LIST)
@decides_in_person
def cancel(actor: Actor, code: str) -> Result:
    """Take back refund CODE, which you asked for and nobody has decided yet, with what was asked for together with it. Only
    with --as.

    \b
    Example:
      ops refunds cancel RF-4KXH7RTZ --reason "asked for the wrong stay" --as sam@example.org
    """
    from backoffice.core import clock
    from backoffice.payments import queries
    from backoffice.workflows import refund_booking

    now, found = clock.now(), queries.refund(code=code.upper())
    done = refund_booking.cancel(refund_code=found.code, version=found.version, actor=actor, now=now)
    return Result(rows=_rows(done.code, now))


@refunds.command(short_help="Pay a refund that did not reach its guest another way.")
@click.argument("code")
@renders("refunds.repay", LIST)
@decides_in_person
def repay(actor: Actor, code: str) -> Result:
    """Ask for refund CODE, which the guest's bank sent back, or which is theirs by rule and was refused by the provider, to be
    paid from our own account. Another of finance says yes (ops refunds approve), then it is sent at the bank and noted (ops
    refunds sent). Only with --as: finance alone may.

    The amount is what the provider gave back of it, or what its charge had brought; either must have been imported. Where the
    money is to go is kept with the bank, not here.

    \b
    Example:
      ops refunds repay RF-4KXH7RTZ --reason "her new account, by letter" --as fay@example.org
    """
    from backoffice.core import clock
    from backoffice.payments import operations, queries

    now, found = clock.now(), queries.refund(code=code.upper())
    made = operations.request_repayment(
        refund_code=found.code, version=found.version, reason=actor.reason, actor=actor, now=now
    )
    return Result(rows=[_row(_again(made.code), now)], summary={"repays": found.code, "waits_for_second_person": True})


@refunds.command(short_help="Note that the bank was told to pay a refund.")
@click.argument("code")
@click.option("--reference", required=True, help="The bank's reference of the transfer, which its statement will name.")
@renders("refunds.sent", LIST)
@decides_in_person
def sent(actor: Actor, code: str, reference: str) -> Result:
    """Note that CODE, an approved refund paid another way, was sent at the bank. The statement's line settles it.

    \b
    Example:
      ops refunds sent RF-9QMX2TBA --reference E2E-2026-0077 --reason "sent today" --as fay@example.org
    """
    from backoffice.core import clock
    from backoffice.payments import operations, queries

    now, found = clock.now(), queries.refund(code=code.upper())
    done = operations.note_repayment(
        refund_code=found.code, reference=reference, version=found.version, actor=actor, now=now
    )
    return Result(rows=[_row(_again(done.code), now)])


@refunds.command(short_help="Record that the bank did not pay a refund.")
@click.argument("code")
@renders("refunds.returned", LIST)
@decides_in_person
def returned(actor: Actor, code: str) -> Result:
    """Record that the bank refused CODE, an approved refund paid another way, or sent it back: what was posted is reversed
    and the refund that it pays can be asked for another way again (ops refunds repay), by two people.

    What had left our account is asked for again once the bank's statement shows it back.

    \b
    Example:
      ops refunds returned RF-9QMX2TBA --reason "the bank says: no such account" --as fay@example.org
    """
    from backoffice.core import clock
    from backoffice.payments import operations, queries

    now, found = clock.now(), queries.refund(code=code.upper())
    done = operations.return_repayment(
        refund_code=found.code, version=found.version, reason=actor.reason, actor=actor, now=now
    )
    return Result(rows=[_row(_again(done.code), now)], summary={"repays": done.repays.code if done.repays else None})


@refunds.command("came-back", short_help="Say which line of the bank brings a refund back less a fee.")
@click.argument("code")
@click.option("--line", required=True, help="The line of the bank's statement (BL-…), which waits in suspense.")
@renders("refunds.came_back", LIST)
@decides_in_person
def came_back(actor: Actor, code: str, line: str) -> Result:
    """Say that a line of the bank's statement is CODE, a refund paid another way that the bank sent back (ops refunds
    returned), less what a bank has kept of it. What comes back whole is found by itself.

    The guest can be paid all of it anew at once (ops refunds repay, of the refund that it pays). What was kept stands under
    CODE as a break, for two of finance to write off (ops breaks write-off).

    \b
    Example:
      ops refunds came-back RF-9QMX2TBA --line BL-7KXH4RTZ --reason "the bank kept 0.50" --as fay@example.org
    """
    from backoffice.core import clock
    from backoffice.payments import queries
    from backoffice.reconciliation import operations

    now, found = clock.now(), queries.refund(code=code.upper())
    done = operations.bring_back_less(
        line_code=line.upper(), refund_code=found.code, reason=actor.reason, actor=actor, now=now
    )
    return Result(rows=[_row(_again(done.code), now)], summary={"repays": done.repays.code if done.repays else None})


def _looking(actor: Actor) -> Actor:
    """The engineer, for whom nothing is asked but what would be."""
    from dataclasses import replace

    from backoffice.people.policies import lent_grants

    actor.must("refunds.view")
    return replace(actor, grants=lent_grants())


def _previewed(
    actor: Actor, booking: str, amount: str | None, lines: tuple[str, ...], cause: str, bearer: str
) -> Result:
    from backoffice.core import clock
    from backoffice.workflows import refund_booking

    shown = refund_booking.preview(
        booking_code=booking.upper(),
        amount=_money(booking, amount),
        lines=_of_lines(booking, amount, lines),
        cause=cause,
        bearer=bearer,
        actor=actor,
        now=clock.now(),
    )
    rows = [
        ("guest", shown.guest, "receives"),
        ("host", shown.host, "gives up"),
        ("platform", shown.platform - shown.borne, "gives up of its fees"),
        ("tax office", shown.tax, "gets less"),
    ]
    if shown.borne:
        rows.append(("platform", shown.borne, "bears besides"))
    if shown.released is not None:
        of_it = (
            ("host", shown.released.host, "of it will owe, since it was released"),
            ("platform", shown.released.platform, "of it, as it was settled"),
            ("tax office", shown.released.tax, "of it, as it was settled"),
        )
        rows += [row for row in of_it if row[1]]
    return Result(
        rows=[{"who": who, "amount": _shown(money), "what": what} for who, money, what in rows],
        summary={
            "most": _shown(shown.maximum),
            "worth": _shown(shown.worth),
            "needs_second_person": shown.needs_second_person,
            "parts": {part: _shown(money) for part, money in shown.parts.items()},
            "lines": {name: _shown(money) for name, money in shown.lines.items()},
            "charges": [_shown(give.amount) for give in shown.gives],
            "dry_run": True,
        },
        columns=PREVIEW,
    )


def _shown(amount: Money) -> dict[str, int | str]:
    from ops_cli.output import money

    return money(amount.amount, amount.currency)


def _money(booking: str, amount: str | None) -> Money | None:
    from backoffice.bookings import queries

    if amount is None:
        return None
    return _parsed(amount, queries.booking(code=booking.upper()).charge_currency, "--amount")


def _of_lines(booking: str, amount: str | None, lines: tuple[str, ...]) -> dict[str, Money] | None:
    """The lines that were named, in the home's currency."""
    from backoffice.bookings import queries

    if lines and amount is not None:
        raise click.UsageError("write an --amount or --line, not both")
    if not lines:
        return None
    currency = queries.booking(code=booking.upper()).currency
    named = dict(line.partition("=")[::2] for line in lines)
    return {name.strip(): _parsed(text, currency, "--line") for name, text in named.items()}


def _parsed(text: str, currency: str, option: str) -> Money:
    from decimal import InvalidOperation

    from backoffice.core.money import Money

    try:
        return Money.parse(text, currency)
    except (ValueError, InvalidOperation):
        raise Failed(f"{option}: write an amount in {currency} such as 50.00, not {text!r}", Exit.USAGE) from None


def _key(actor: Actor, booking: str, what: str, cause: str, bearer: str, now: datetime) -> str:
    """Typing the same twice in a day is one refund; who means another gives it a key of its own."""
    said = (actor.name, booking.upper(), what, cause, bearer, actor.reason, now.date().isoformat())
    return hashlib.sha256("\x1f".join(said).encode()).hexdigest()[:40]


def _rows(code: str, now: datetime) -> list[dict[str, Any]]:
    """A refund, what was asked for with it (a stay paid in instalments gives back through each charge, decided as one), and what
    goes back by rule instead where it came to nothing."""
    from backoffice.payments import queries

    asked = _again(code)
    together = [*queries.asked_together(refund=asked), *queries.given_instead(refund=asked)]
    kept = _kept(together)
    return [_row(one, now, kept=kept.get(one.pk)) for one in together]


def _again(code: str) -> Any:
    from backoffice.payments import queries

    return queries.refund(code=code)


def _kept(refunds: list[Any]) -> dict[int, str]:
    """Of refunds that did not reach their guest what is to be done, of those that are not sent why, and of those of a stay that
    was cancelled since what a no would mean, by id."""
    from backoffice.payments import queries

    stopped = queries.refunds_stopped(refunds=refunds)
    said = {key: f"All refunds are stopped for now: {reason}" for key, reason in stopped.items()}
    said |= {each.pk: no for each in refunds if (no := queries.after_no(refund=each))}
    return {**said, **queries.refunds_aside(refunds=refunds)}


def _row(refund: Any, now: datetime, wait: RefundWait | None = None, kept: str | None = None) -> dict[str, Any]:
    """One line; `wait` says why one waits that is owed by rule, which nobody decides, `kept` what `_kept` says of it."""
    second = "It waits for a second person." if refund.status == "requested" else None
    said = [text for text in (wait.sentence if wait is not None else second, kept) if text]
    return {
        "code": refund.code,
        "booking": refund.payment.booking.code,
        "status": refund.status,
        "amount": refund.amount,
        "currency": refund.currency,
        "cause": refund.cause,
        "bearer": refund.bearer,
        "requested_by": refund.requested_by.code if refund.requested_by else None,
        "approved_by": refund.approved_by.code if refund.approved_by else None,
        "age": age(now - refund.requested_at),
        "waits": " ".join(said) or None,
        "failure": refund.failure_reason or None,
    }
