"""Fetching the provider's side, and comparing or posting anew: the room's calls outwards, made outside any transaction.

Like `payments/gateway`, this file is an extra beside the six: it calls the provider, which operations never do."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from django.db import OperationalError, connection, transaction

from backoffice.core.actor import Actor, system
from backoffice.core.errors import Conflict, Locked, NotFound, ProviderError, UpstreamUnavailable
from backoffice.core.money import Money
from backoffice.jobs import operations as jobs
from backoffice.payments.gateway.stripe import gateway
from backoffice.payments.policies import Anew
from backoffice.payments.policies.seen import SeenBalanceTransaction
from backoffice.reconciliation import operations, policies, queries
from backoffice.reconciliation.models import Break, Run
from backoffice.reconciliation.policies import SeenStatementLine
from backoffice.reconciliation.queries import Difference
from backoffice.reconciliation.states import SCOPES
from backoffice.workflows import import_balance_transactions, work_chargebacks

ACTOR: Final = system("reconciliation")
# The provider's clock may be a little ahead of ours; its newest movements belong to the run all the same.
AHEAD: Final = timedelta(minutes=5)
BEGINNING: Final = timedelta(days=400)
# The balance is asked before and after the movements: it must not have moved in between. A busy desk gets a few tries.
TRIES: Final = 5
# A dry run looks from one snapshot: what somebody has changed since and the bank's lines would change too it cannot write
# over, and looks anew. So often; what PostgreSQL says then is that a row has changed, or that two wait for each other.
LOOKS: Final = 5
CHANGED_MEANWHILE: Final = frozenset({"40001", "40P01"})
# Whoever reads more differences than this reads the breaks.
SHOWN: Final = 1_000


class _DryRun(Exception):
    """Rolls a run back after it has found what it would write."""


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """What a run compared and found. `differences` are as many of them as anybody reads (`SHOWN`), findings before those that
    are merely young; the run counts them all."""

    run: Run
    differences: list[Difference]

    @property
    def findings(self) -> list[Difference]:
        """Those of `differences` that are not merely young."""
        return [difference for difference in self.differences if difference.cls != "late"]

    @property
    def young(self) -> int:
        """How many are merely young, shown or not."""
        return int(self.run.counts.get("late", 0))

    @property
    def found(self) -> int:
        """How many findings there are, shown or not."""
        return sum(int(count) for count in self.run.counts.values()) - self.young


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The provider's movements from its report instead of its API, with the categories that the report does not carry."""

    rows: Iterable[SeenBalanceTransaction]
    left_out: Sequence[str] = ()


def reconcile(
    *,
    scope: str,
    since: datetime | None,
    until: datetime | None,
    actor: Actor,
    now: datetime,
    dry_run: bool = False,
    report: Report | None = None,
    statement: Iterable[SeenStatementLine] = (),
    chunk: int = operations.CHUNK,
) -> Reconciliation:
    """Compare the legs of a scope (stripe, payouts, bank, state, all) over [since, until).

    With a `report`, the movements are taken from the provider's file instead of its API. The lines of a bank `statement` are
    kept, and lines without a payout matched, before the bank's leg is compared. Raises Locked while a run of a
    scope that shares a leg is under way, and UpstreamUnavailable when the provider does not answer (nothing was written
    then), or when a dry run had no quiet moment."""
    with _alone(scope, actor, now) as handle:
        run = operations.begin(
            scope=scope,
            since=since or now - BEGINNING,
            until=until or now + AHEAD,
            actor=actor,
            now=now,
            source="api" if report is None else "file",
            dry_run=dry_run,
        )
        with _accounted(run, handle):
            if not dry_run:  # kept first: whoever goes on with a run that was cut off has no file any more
                _keep(statement, run, handle, actor)
            _stage(run, handle, report)
            return _compare(run, handle, actor, chunk=chunk, statement=statement)


def resume(*, scope: str, actor: Actor, now: datetime, chunk: int = operations.CHUNK) -> Reconciliation:
    """Go on with the last run of a scope where it was cut off; it ends as if it had not been.

    Raises Conflict when there is nothing to go on with, Locked while one is under way."""
    with _alone(scope, actor, now) as handle:
        run = queries.unfinished(scope=scope)
        if run is None or not operations.is_staged(run=run):
            raise Conflict(f"No run of {scope} was cut off where it could go on; begin one: ops reconcile {scope}")
        with _accounted(run, handle):
            return _compare(run, handle, actor, chunk=chunk)


def keep_up(*, scope: str, now: datetime) -> int:
    """What runs by itself: go on with what was cut off, then compare anew. Returns how many findings there are; none while
    another run has one of the legs, which is as good.

    Raises UpstreamUnavailable when the provider does not answer."""
    try:
        cut = queries.unfinished(scope=scope)
        if cut is not None and operations.is_staged(run=cut):
            resume(scope=scope, actor=ACTOR, now=now)
        return reconcile(scope=scope, since=None, until=None, actor=ACTOR, now=now).found
    except Locked:
        return 0


# Posting a movement anew, by what the provider shows of it now -----------------------------------------------------------


def look_anew(*, found: Break) -> Anew:
    """What posting the movement of a break anew would reverse and post. Raises as `operations.proposed_anew` does, and
    UpstreamUnavailable when the provider does not answer."""
    return operations.proposed_anew(found=found, shown=_shown(found))


def propose_anew(*, code: str, reason: str, actor: Actor, now: datetime, version: int | None = None) -> Break:
    """As `operations.propose_anew`, with the provider asked."""
    actor.must("breaks.work")
    shown = _shown(queries.break_by_code(code=code))
    return operations.propose_anew(code=code, shown=shown, reason=reason, actor=actor, now=now, version=version)


def decide_anew(*, code: str, approve: bool, reason: str, version: int, actor: Actor, now: datetime) -> Break:
    """As `operations.decide_anew`, with the provider asked before a yes; what the movement then means for a chargeback is
    posted as after an import."""
    actor.must("breaks.write_off")
    shown = _shown(queries.break_by_code(code=code)) if approve else None
    found = operations.decide_anew(
        code=code, approve=approve, shown=shown, reason=reason, version=version, actor=actor, now=now
    )
    if shown is not None and shown.disputed_charge:
        work_chargebacks.follow_money(sources=[shown.source_id], actor=actor, now=now)
    return found


# Private --------------------------------------------------------------------------------------------------------------


@contextmanager
def _alone(scope: str, actor: Actor, now: datetime) -> Iterator[jobs.Run]:
    """The scope's lock, on record, and that of each of its legs: two scopes share legs, and two runs of one leg would heal
    each other's breaks and post a bank's line twice. Legs are taken in one order, so of two runs at once one goes on."""
    with ExitStack() as outer:
        legs = ExitStack()
        outer.callback(legs.close)  # that a run failed is said once, by the run
        for leg in sorted(SCOPES.get(scope, ())):
            legs.enter_context(jobs.running(name=f"reconcile.leg.{leg}", actor=actor, now=now, quiet=True))
        yield outer.enter_context(jobs.running(name=f"reconcile.{scope}", actor=actor, now=now))


@contextmanager
def _accounted(run: Run, handle: jobs.Run) -> Iterator[None]:
    """A run that cannot be finished says so: what was staged is kept for going on when somebody broke it off. Of a dry run
    nothing stays but the record of the job."""
    try:
        yield
    except BaseException as error:
        why = f"{type(error).__name__}: {error}"
        if run.dry_run:
            operations.discard(run=run)
        elif isinstance(error, Exception):
            operations.fail(run=run, error=why, now=handle.now())
        else:
            operations.interrupt(run=run, error=why, now=handle.now())
        raise


def _keep(statement: Iterable[SeenStatementLine], run: Run, handle: jobs.Run, actor: Actor) -> None:
    if "bank" in SCOPES[run.scope]:
        operations.import_lines(lines=statement, actor=actor, now=handle.now())


def _compare(
    run: Run, handle: jobs.Run, actor: Actor, *, chunk: int, statement: Iterable[SeenStatementLine] = ()
) -> Reconciliation:
    """From the checkpoint to the end. A dry run compares from one snapshot, writes no break, and begins again where somebody
    has changed what the bank's lines would change.

    Raises UpstreamUnavailable when that happened each time."""
    if not run.dry_run:
        return _steps(run, handle, actor, chunk)
    said = list(statement)
    for _ in range(LOOKS):
        try:
            return _look(run, handle, actor, said)
        except OperationalError as error:
            if getattr(error.__cause__, "sqlstate", "") not in CHANGED_MEANWHILE:
                raise
            run.refresh_from_db()
    raise UpstreamUnavailable(
        f"The books changed each of the {LOOKS} times this dry run looked at them; it has written nothing. Run it again in a "
        "moment, or without --dry-run.",
        part="a quiet moment",
    )


def _look(run: Run, handle: jobs.Run, actor: Actor, statement: Sequence[SeenStatementLine]) -> Reconciliation:
    """What a run would find, of which nothing stays. The bank's lines are kept and matched as ever, to see what then stands,
    and at once taken back: whoever decides a match waits no longer than that."""

    def by_the_bank() -> None:
        operations.hold_open_still()
        _keep(statement, run, handle, actor)
        operations.match_lines(actor=actor, now=handle.now())

    try:
        with transaction.atomic():
            with connection.cursor() as cursor:
                cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            trial = by_the_bank if "bank" in SCOPES[run.scope] else None
            operations.classify(run=run, now=handle.now(), trial=trial)
            differences = queries.shown(run=run, most=SHOWN)
            operations.sum_up(run=run, now=handle.now())
            raise _DryRun
    except _DryRun:
        operations.discard(run=run)
        return _counted(Reconciliation(run, differences), handle)


def _steps(run: Run, handle: jobs.Run, actor: Actor, chunk: int) -> Reconciliation:
    if run.checkpoint["step"] == "staged":
        if "bank" in SCOPES[run.scope]:  # repeating it posts nothing again
            handle.count(**operations.match_lines(actor=actor, now=handle.now()))
        operations.classify(run=run, now=handle.now())
    operations.write(run=run, now=handle.now(), chunk=chunk, tell=handle.progress)
    differences = queries.shown(run=run, most=SHOWN)
    operations.finish(run=run, now=handle.now())
    return _counted(Reconciliation(run, differences), handle)


def _counted(outcome: Reconciliation, handle: jobs.Run) -> Reconciliation:
    handle.count(lines=outcome.run.lines, matched=outcome.run.matched, breaks=outcome.found)
    return outcome


def _stage(run: Run, handle: jobs.Run, report: Report | None) -> None:
    """Fetch what the legs of the run need of the provider. Its balance is that of the moment of the movements, and of what we
    have imported: asked before and after, it must be the same; after some tries on a busy desk it is left out."""
    legs = SCOPES[run.scope]
    provider = gateway()
    states = list(_states(legs, run))
    listing = "line" in legs and report is None
    balance: Mapping[str, Money] | None = None
    for _ in range(TRIES):
        before = provider.balance() if "balance" in legs else None
        balance = None if before is None else _imported(before, run, handle, listing)
        asked = handle.now()
        if listing:
            rows = provider.balance_transactions(since=run.since, until=run.until)
            operations.stage(run=run, rows=rows, states=states, balances=balance, asked=asked)
        moving = before is not None and provider.balance() != before
        if not moving:
            break
    if not listing:
        operations.stage(
            run=run,
            # A file may hold more days than the window: what lies outside it has nothing beside it to be compared with.
            rows=(row for row in report.rows if run.since <= row.created < run.until) if report is not None else (),
            states=states,
            balances=balance,
            asked=asked,
            left_out=report.left_out if report is not None else (),
        )
    if moving:
        operations.leave_out_balance(
            run=run, why=f"The provider's balance moved each of the {TRIES} times it was asked; it was not compared."
        )


def _imported(balance: Mapping[str, Money], run: Run, handle: jobs.Run, listing: bool) -> Mapping[str, Money]:
    """Have what moved it in our books before a balance is compared. A dry run imports nothing: where the movements are not
    listed as well, it takes off the balance what it would have imported."""
    if not run.dry_run:
        handle.count(imported=import_balance_transactions.run(now=handle.now()))
        return balance
    known = dict(balance)
    for row in () if listing else import_balance_transactions.waiting(now=handle.now()):
        known[row.net.currency] = known.get(row.net.currency, Money.zero(row.net.currency)) - row.net
    return known


def _shown(found: Break) -> SeenBalanceTransaction | None:
    """The movement of a break as the provider has it now; none for a break of anything else, or that it does not show."""
    if not policies.may_be_posted_anew(leg=found.leg, cls=found.cls, flags=found.flags):
        return None
    shown: SeenBalanceTransaction | None = _known(lambda: gateway().balance_transaction(transaction_id=found.key))
    return shown


def _states(legs: Sequence[str], run: Run) -> Iterator[Sequence[Any]]:
    """The provider's present view of what we think is under way, and of every payout to our bank in the window."""
    provider = gateway()
    if "status" in legs:
        for payment_id in queries.payments_under_way():
            payment = _known(lambda id=payment_id: provider.payment(payment_id=id))
            if payment is not None:
                yield _state("payment", payment.id, "", payment.status, payment.amount, None)
        for refund_id in queries.refunds_under_way():
            refund = _known(lambda id=refund_id: provider.refund_state(refund_id=id))
            if refund is not None:
                yield _state("refund", refund.id, "", refund.status, refund.amount, None)
    if "payout" in legs:
        for seen in provider.bank_payouts(since=run.since):
            if seen.created < run.until:
                yield _state("bank_payout", seen.id, "", seen.status, seen.amount, seen.created)
        for payout_id, account in queries.host_payouts_under_way():
            payout = _known(lambda id=payout_id, of=account: provider.bank_payout(payout_id=id, account=of))
            if payout is not None:
                yield _state("bank_payout", payout.id, account, payout.status, payout.amount, payout.created)


def _state(kind: str, id: str, account: str, status: str, amount: Money, created: datetime | None) -> Sequence[Any]:
    return (kind, id, account, status, amount.amount, amount.currency, created)


def _known(ask: Any) -> Any:
    """What the provider says of one object; one that it does not know, or whose account has left us, is found by another leg.
    Any other refusal is none of the object's: the run must not pass for one that has looked."""
    try:
        return ask()
    except NotFound:
        return None
    except ProviderError as error:
        if "missing" not in error.facts:
            raise
        return None
