"""What a host owes and the next payouts did not bring back is taken from what was sent: the reversal of a transfer."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from backoffice.core.actor import Actor, system
from backoffice.core.errors import Indeterminate, ProviderError, StaydeskError, UpstreamUnavailable
from backoffice.core.money import Money
from backoffice.jobs import operations as jobs
from backoffice.jobs import queries as jobs_queries
from backoffice.payments.gateway.stripe import gateway
from backoffice.payments.gateway.submit import outside_transaction
from backoffice.payments.policies.seen import SeenReversal
from backoffice.payouts import operations as payouts
from backoffice.payouts import queries as payout_queries
from backoffice.payouts.models import Clawback, Payout
from backoffice.payouts.policies.clawbacks import Proposal, overdue, propose
from backoffice.rulebook import queries as rulebook

log = logging.getLogger(__name__)

ACTOR: Final = system("clawbacks")
# A call to the provider takes at most its read time-out; what is older than this has been lost.
LOST_AFTER: Final = timedelta(seconds=60)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovery:
    """What a host owes longer than netting was given, and which transfers would bring it back."""

    host_code: str
    host_name: str
    owed: Money
    overdue: Money
    proposals: tuple[Proposal, ...]


def request(*, payout_code: str, amount: Money, reason: str, version: int, actor: Actor, now: datetime) -> Clawback:
    """Ask `amount` back from a payout that was sent; it is carried out after the commit (`send`).

    Raises Stopped, and what `request_clawback` raises."""
    jobs_queries.assert_not_stopped(scope="payouts")
    return payouts.request_clawback(
        payout_code=payout_code, amount=amount, reason=reason, version=version, actor=actor, now=now
    )


def retry(*, clawback_code: str, version: int, actor: Actor, now: datetime) -> Clawback:
    """Ask again for what the provider refused. Raises Stopped, StaleVersion, Conflict."""
    jobs_queries.assert_not_stopped(scope="payouts")
    return payouts.retry_clawback(clawback_code=clawback_code, version=version, actor=actor, now=now)


def send(*, clawback_code: str, actor: Actor, now: datetime) -> Clawback | None:
    """Have the provider carry out a clawback and take over its answer; None when somebody else is at it or it is done.

    One whose answer was lost is looked for first: the provider may have saved a failure under the key while the reversal
    was made all the same. While payouts are stopped a new one waits (raises Stopped). Raises Indeterminate when it is not
    known yet, ProviderError when it is refused: the host owes it as before."""
    clawback = payout_queries.clawback(code=clawback_code)
    if clawback.status == "requested":
        jobs_queries.assert_not_stopped(scope="payouts")
    if clawback.status == "indeterminate":
        found = _found(clawback, actor, now)
        if found is not None:
            return found
    claimed = payouts.claim_clawback(clawback_code=clawback_code, now=now)
    if claimed is None:
        return None
    try:
        seen = _reverse(claimed)
    except (Indeterminate, UpstreamUnavailable):
        payouts.lose_sight_of_clawback(clawback_code=clawback_code, now=now)
        raise
    except ProviderError as error:
        payouts.fail_clawback(
            clawback_code=clawback_code, failure=error.words, tries=claimed.tries, actor=actor, now=now
        )
        raise
    return payouts.record_clawback(
        clawback_code=clawback_code, provider_id=seen.id, amount=seen.amount, actor=actor, now=now
    )


def ask(*, clawback_code: str, actor: Actor, now: datetime) -> Clawback | None:
    """Find out what became of a clawback whose process died or whose answer was lost."""
    payouts.lose_sight_of_clawback(clawback_code=clawback_code, now=now)
    return send(clawback_code=clawback_code, actor=actor, now=now)


def hear_of_transfer(*, transfer_id: str, actor: Actor, now: datetime) -> bool:
    """The provider says that a transfer was reversed; whether it was one of ours that had not been answered yet."""
    heard = False
    for code in payout_queries.clawbacks_of_transfer(transfer_id=transfer_id):
        heard = _found(payout_queries.clawback(code=code), actor, now) is not None or heard
    return heard


def recoveries(*, now: datetime) -> list[Recovery]:
    """What every host owes longer than netting was given, and the reversals that the rules propose for it."""
    rules = rulebook.recovery(on=now.date()).rules
    found = []
    for debt in payout_queries.receivables(now=now):
        late = overdue(debts=debt.debts, currency=debt.amount.currency, rules=rules, now=now)
        if late:
            transfers = payout_queries.reversible(host_id=debt.host_id, currency=debt.amount.currency)
            found.append(
                Recovery(
                    host_code=debt.host_code,
                    host_name=debt.host_name,
                    owed=debt.amount,
                    overdue=late,
                    proposals=propose(owed=late, transfers=transfers, rules=rules, now=now),
                )
            )
    return found


def run(*, now: datetime, actor: Actor = ACTOR, dry_run: bool = False) -> dict[str, int]:
    """The daily job: ask back by rule what netting has not brought, and settle what was not answered. Where the rules
    leave it to a person, and in a dry run, nothing is asked for; the proposals are counted all the same."""
    counts = {"proposed": 0, "requested": 0, "refused": 0, "settled": 0}
    counts["settled"] = 0 if dry_run else resolve(now=now)
    automatic = rulebook.recovery(on=now.date()).rules.reverse_automatically
    for recovery in recoveries(now=now):
        for proposal in recovery.proposals:
            counts["proposed"] += 1
            if automatic and not dry_run:
                counts[_carry_out(proposal, recovery, actor, now)] += 1
    return counts


def resolve(*, now: datetime, older_than: timedelta = LOST_AFTER) -> int:
    """Send what was asked for and never sent, and find out about what was not answered; returns how many were settled."""
    done = 0
    for code in jobs.turn(ask=partial(payout_queries.clawbacks_to_send, older_than=now - older_than), now=now):
        try:
            done += ask(clawback_code=code, actor=ACTOR, now=now) is not None
        except StaydeskError as error:  # one that cannot be settled now must not keep the others waiting
            log.info("clawback %s is still unsettled: %s", code, error)
    return done


# Private --------------------------------------------------------------------------------------------------------------


def _carry_out(proposal: Proposal, recovery: Recovery, actor: Actor, now: datetime) -> str:
    days = rulebook.recovery(on=now.date()).rules.netting_days
    taken = f"{proposal.amount} of {recovery.host_code} from {proposal.payout}"
    try:
        clawback = request(
            payout_code=proposal.payout,
            amount=proposal.amount,
            reason=f"Owed for more than {days} days, and no payout was due to keep it from.",
            version=Payout.objects.get(code=proposal.payout).version,
            actor=actor,
            now=now,
        )
    except StaydeskError as error:
        log.info("%s was not asked back: %s", taken, error)
        return "refused"
    try:
        send(clawback_code=clawback.code, actor=actor, now=now)
    except ProviderError as error:
        log.info("%s was not taken back: %s", taken, error)
        return "refused"
    except StaydeskError as error:  # not answered yet, or stopped: it is under way all the same
        log.info("%s is asked back and not settled yet: %s", taken, error)
    return "requested"


def _reverse(claimed: Clawback) -> SeenReversal:
    outside_transaction()
    payout = claimed.payout
    account = payout_queries.account_of(host_id=payout.host_id)
    if payout.transfer_id is None or account is None or account.provider_id is None:
        raise ProviderError(message="The transfer came back by itself: there is nothing to reverse.")
    return gateway().reverse_transfer(
        transfer_id=payout.transfer_id,
        amount=Money(claimed.amount, claimed.currency),
        account=account.provider_id,
        group=payout.booking.code,
        payout=payout.code,
        reference=claimed.code,
        host=payout.host.code,
        key=payout_queries.clawback_key(clawback=claimed),
    )


def _found(clawback: Clawback, actor: Actor, now: datetime) -> Clawback | None:
    """The clawback, recorded, where the provider has it."""
    transfer_id = clawback.payout.transfer_id
    seen = gateway().find_reversal(transfer_id=transfer_id, reference=clawback.code) if transfer_id else None
    if seen is None:
        return None
    return payouts.record_clawback(
        clawback_code=clawback.code, provider_id=seen.id, amount=seen.amount, actor=actor, now=now
    )
