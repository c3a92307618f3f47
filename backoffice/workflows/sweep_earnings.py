"""The platform's own payouts to its bank: what is earned leaves, what is held for others stays, every cent of it listed."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from backoffice.core.actor import Actor, system
from backoffice.core.errors import (
    Conflict,
    Indeterminate,
    Locked,
    NotFound,
    ProviderError,
    StaydeskError,
    Stopped,
    UpstreamUnavailable,
)
from backoffice.core.money import Money
from backoffice.jobs import operations as jobs
from backoffice.jobs import queries as jobs_queries
from backoffice.payments.gateway.stripe import gateway
from backoffice.payments.gateway.submit import outside_transaction
from backoffice.payouts import operations as payouts
from backoffice.payouts import policies
from backoffice.payouts import queries as payout_queries
from backoffice.payouts.models import BankPayout
from backoffice.payouts.policies.bank_payouts import earned
from backoffice.payouts.policies.bank_payouts import sweep as decide
from backoffice.rulebook import queries as rulebook
from backoffice.workflows import import_balance_transactions

log = logging.getLogger(__name__)

ACTOR: Final = system("sweep")
JOB: Final = "payouts.sweep"
# The provider lists by its own clock, to the second.
_A_MOMENT: Final = timedelta(minutes=5)
# A provider that keeps answering a call with the failure it saved under the key never carried it out.
GIVE_UP_AFTER: Final = timedelta(minutes=10)
# The job looks every hour, so that a tick that was missed costs an hour; it sweeps a currency once a day.
_ONCE_IN: Final = timedelta(hours=20)


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepPreview:
    """What a sweep would send now and why not more: balance - owed = earned; amount is the part of it that is available.

    `owed` says by ledger account what of the balance is not ours; `least` is the smallest sweep that is made."""

    currency: str
    balance: Money
    owed: Mapping[str, Money]
    earned: Money
    available: Money
    amount: Money
    least: Money
    movements: int

    @property
    def worth_it(self) -> bool:
        return self.amount >= self.least


def preview(*, currency: str, actor: Actor, now: datetime) -> SweepPreview:
    """What a sweep of a currency would send now, by what has been imported. Raises UpstreamUnavailable."""
    actor.must("payouts.view")
    facts = payout_queries.sweep_facts(currency=currency, available=_available(currency))
    return _shown(facts, currency, now)


def sweep(*, currency: str, actor: Actor, reason: str, now: datetime, at_least: Money | None = None) -> BankPayout:
    """Send what is earned in a currency to our bank, and write down of what it consists.

    One that was not answered is settled first. Raises Stopped, Locked while another sweep of the currency runs, Conflict
    when there is nothing to sweep, ProviderError when the provider refuses, Indeterminate when its answer was lost: the
    job finds it, with the same key."""
    actor.must("payouts.sweep")
    jobs_queries.assert_not_stopped(scope="payouts")
    # Two people, or a person and the job: one sweep at a time, so that each is decided on what the one before it left.
    with jobs.running(name=JOB, scope=currency, actor=actor, now=now) as run:
        for code in payout_queries.sweeps_to_settle(older_than=now, currency=currency):
            settle(code=code, actor=actor, now=now)
        import_balance_transactions.run(now=now)
        claimed = payouts.claim_sweep(
            currency=currency,
            available=_available(currency),
            least=at_least or Money(1, currency),
            reason=reason,
            actor=actor,
            now=now,
        )
        run.count(sweeps=1)
        return _send(claimed, actor, now)


def settle(*, code: str, actor: Actor, now: datetime) -> BankPayout:
    """Find out what became of a sweep that was not answered: it is looked for by our code, else asked again with the same
    key, and given up where the provider only repeats its failure: what is earned is decided anew, not sent a day later.

    One that was never sent waits while payouts are stopped (raises Stopped). Raises NotFound, ProviderError, Indeterminate."""
    row = payout_queries.bank_payouts().filter(code=code, account="").first()
    if row is None:
        raise NotFound(kind="sweep")
    if row.status not in {"requested", "indeterminate"}:
        return row
    found = _found(row, actor, now)
    if found is not None:
        return found
    if row.status == "requested":  # it was never sent, so that a stop holds it like any other
        jobs_queries.assert_not_stopped(scope="payouts")
    try:
        return _send(row, actor, now)
    except Indeterminate as lost:
        # Only a failure that the provider keeps answering with: where no answer came, this very call may have been carried
        # out, and another key would pay a second time.
        if not lost.facts.get("answered", False) or now - row.created_at <= GIVE_UP_AFTER:
            raise
        return _found(row, actor, now) or payouts.refuse_sweep(
            code=code, failure="The payout was never carried out.", actor=actor, now=now
        )


def resolve(*, now: datetime, older_than: timedelta = timedelta(seconds=60)) -> int:
    """Settle every sweep that was not answered; returns how many were."""
    done = 0
    for code in payout_queries.sweeps_to_settle(older_than=now - older_than):
        try:
            settle(code=code, actor=ACTOR, now=now)
            done += 1
        except StaydeskError as error:
            log.info("sweep %s is still unsettled: %s", code, error)
    return done


def run(*, now: datetime, actor: Actor = ACTOR) -> dict[str, int]:
    """The daily job: sweep every currency in which at least the policy's minimum is earned and available."""
    counts = {"swept": 0, "waiting": 0}
    resolve(now=now)
    import_balance_transactions.run(now=now)
    for currency in payout_queries.sweep_currencies():
        shown = preview(currency=currency, actor=actor, now=now)
        last = payout_queries.sweeps().filter(currency=currency).first()
        if not shown.worth_it or (last is not None and now - last.created_at < _ONCE_IN):
            counts["waiting"] += 1
            continue
        try:
            sweep(currency=currency, actor=actor, reason="Daily sweep", now=now, at_least=shown.least)
            counts["swept"] += 1
        except (
            Conflict,
            Locked,
            ProviderError,
            Stopped,
            UpstreamUnavailable,
        ) as error:  # the other currencies do not wait for this one
            log.warning("the sweep of %s waits: %s", currency, error)
            counts["waiting"] += 1
    return counts


# Private --------------------------------------------------------------------------------------------------------------


def _found(row: BankPayout, actor: Actor, now: datetime) -> BankPayout | None:
    """The sweep, recorded, where the provider has it."""
    seen = gateway().find_bank_payout(reference=row.code, since=row.created_at - _A_MOMENT)
    return payouts.record_bank_payout(seen=seen, actor=actor, now=now) if seen is not None else None


def _send(row: BankPayout, actor: Actor, now: datetime) -> BankPayout:
    """Ask the provider, outside any transaction, and take over its answer."""
    outside_transaction()
    try:
        seen = gateway().pay_out(
            amount=Money(row.amount, row.currency), reference=row.code, key=payout_queries.sweep_key(sweep=row)
        )
    except (Indeterminate, UpstreamUnavailable):
        payouts.lose_sight_of_sweep(code=row.code, now=now)
        raise
    except ProviderError as error:
        payouts.refuse_sweep(code=row.code, failure=error.words, actor=actor, now=now)
        raise
    return payouts.record_bank_payout(seen=seen, actor=actor, now=now)


def _available(currency: str) -> Money:
    return gateway().available().get(currency, Money.zero(currency))


def _shown(facts: policies.SweepFacts, currency: str, now: datetime) -> SweepPreview:
    return SweepPreview(
        currency=currency,
        balance=facts.balance,
        owed=facts.kept,
        earned=earned(facts=facts),
        available=facts.available,
        amount=decide(facts=facts).amount,
        least=rulebook.recovery(on=now.date()).rules.sweep_minimum(currency),
        movements=facts.movements,
    )
