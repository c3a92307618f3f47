"""Paying hosts: what is due is released, claimed and sent, each payout on its own. Killed at any point, run twice or beside
itself, each is paid once: the claim decides, the provider's key would too, and what was lost is looked for."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from django.db import connection, transaction

from backoffice.bookings import operations as bookings
from backoffice.core.actor import Actor, system
from backoffice.core.errors import Conflict, Indeterminate, ProviderError, StaydeskError, Stopped, UpstreamUnavailable
from backoffice.core.money import Money
from backoffice.jobs import operations as jobs
from backoffice.jobs import queries as jobs_queries
from backoffice.payments import queries as payment_queries
from backoffice.payments.gateway.stripe import gateway
from backoffice.payments.policies.seen import SeenTransfer
from backoffice.payouts import operations as payouts
from backoffice.payouts import queries
from backoffice.payouts.models import Payout
from backoffice.payouts.operations.release import Released
from backoffice.payouts.policies import Waiting

log = logging.getLogger(__name__)

ACTOR: Final = system("payouts")
# A provider that keeps answering a call with the failure it saved under the key never carried it out.
GIVE_UP_AFTER: Final = timedelta(minutes=10)
# A provider that does not answer so many in a row is away: the next run goes on.
AWAY_AFTER: Final = 3
# When stays without a plan, and transfers that came back late, were last looked for, and how often they are.
LOOKED: Final = "payouts.unscheduled"
STAYS_AT_A_TIME: Final = 500
LOOK_EVERY: Final = timedelta(minutes=15)


def run(*, now: datetime, actor: Actor, limit: int | None = None, dry_run: bool = False) -> dict[str, int]:
    """Do what is due: holds that ran out end, stays without a plan get one, lost answers are looked for, and payouts that
    are due are released and sent, at most `limit`. Returns how many of each; one that cannot be keeps nobody waiting.

    With `dry_run` nothing is changed: the counts say what would be. `queries.plan` names each."""
    actor.must("payouts.release")
    if dry_run:
        return _forecast(now, limit)
    done: Counter[str] = Counter()
    expired = jobs.each(
        jobs.turn(ask=partial(queries.holds_expired, now=now), now=now),
        lambda code: payouts.expire_hold(hold_code=code, actor=actor, now=now),
    )
    done["holds_expired"] += sum(map(bool, expired))
    looking = _is_time_to_look(now)
    if looking:
        _plan_what_has_none(done, now)
    damages = jobs.each(
        jobs.turn(ask=partial(queries.damages_to_pay), now=now),
        lambda code: payouts.pay_damage(charge_code=code, actor=actor, now=now),
    )
    done["scheduled"] += sum(map(bool, damages))
    owed_back = jobs.each(
        queries.credits_to_pay(),
        lambda one: payouts.pay_credit(host_code=one.host_code, currency=one.amount.currency, actor=actor, now=now),
    )
    done["scheduled"] += sum(map(bool, owed_back))
    come_back = jobs.each(
        queries.transfers_come_back(now=now, ever=looking),
        lambda found: payouts.note_transfer_failure(
            payout_code=found[0], transfer_id=found[1], failure="The transfer came back.", actor=actor, now=now
        ),
    )
    done["come_back"] += sum(map(bool, come_back))
    if not queries.stop_of_payouts():
        _each(
            jobs.turn(ask=partial(queries.transfers_lost, now=now), now=now),
            lambda code: find_lost(payout_code=code, actor=actor, now=now),
            done,
        )
    _each(queries.to_release(now=now, limit=limit), lambda code: _release(code, actor, now), done)
    return dict(+done)


def release_one(*, payout_code: str, actor: Actor, now: datetime) -> Payout:
    """A person has one payout sent now that is due, or one sent again that was refused. Raises Conflict saying why it waits,
    Stopped, ProviderError (it was refused again), Indeterminate (its answer follows by itself)."""
    released = payouts.release(payout_code=payout_code, actor=actor, now=now, available=_available(payout_code))
    if released.waits is not None:
        raise _refusal(released.payout, released.waits)
    return _sent(released, actor, now)


def find_lost(*, payout_code: str, actor: Actor, now: datetime) -> Payout:
    """Find out what became of a transfer whose answer never came: it is looked for by its key, and only where the provider
    has nothing of it asked for again, with the same key."""
    payout = queries.payout(code=payout_code)
    if payout.status != "in_transfer":
        return payout
    found = gateway().find_transfer(group=payout.booking.code, key=queries.transfer_key(payout=payout))
    if found is not None:
        return payouts.record_transfer(payout_code=payout_code, seen=found, actor=actor, now=now)
    try:
        return _send(payout, actor, now)
    except Indeterminate as lost:
        # Only a failure that the provider keeps answering with: where no answer came, this very call may have been carried
        # out, and another key would pay a second time.
        saved = lost.facts.get("answered", False)
        if not saved or payout.submitted_at is None or now - payout.submitted_at <= GIVE_UP_AFTER:
            raise
        found = gateway().find_transfer(group=payout.booking.code, key=queries.transfer_key(payout=payout))
        if found is not None:
            return payouts.record_transfer(payout_code=payout_code, seen=found, actor=actor, now=now)
        return payouts.fail_transfer(
            payout_code=payout_code,
            failure="The transfer was never carried out.",
            tries=payout.tries,
            actor=actor,
            now=now,
        )


# Private --------------------------------------------------------------------------------------------------------------


def _release(payout_code: str, actor: Actor, now: datetime) -> Payout:
    released = payouts.release(payout_code=payout_code, actor=actor, now=now, available=_available(payout_code))
    return _sent(released, actor, now)


def _available(payout_code: str) -> Mapping[str, Money] | None:
    """What the provider holds available for us, where a payout draws on that: a try that must fail is not made."""
    return gateway().available() if queries.draws_on_balance(payout=queries.payout(code=payout_code)) else None


def _sent(released: Released, actor: Actor, now: datetime) -> Payout:
    # What another run has claimed is that run's to send.
    return _send(released.payout, actor, now) if released.claimed else released.payout


def _refusal(payout: Payout, waits: Waiting) -> Conflict | Stopped:
    stopped = queries.stop_of_payouts()
    if stopped:
        return Stopped(scope="Payouts", reason=stopped)
    return Conflict(_not_sent(payout.code, waits.sentence, waits.until), waits_for=waits.sentence)


def _not_sent(code: str, why: str, until: datetime | None) -> str:
    return f"{code} is not sent. {why}" + (f" It waits until {until:%Y-%m-%d %H:%M} UTC." if until is not None else "")


def _send(payout: Payout, actor: Actor, now: datetime) -> Payout:
    if connection.in_atomic_block:
        raise RuntimeError("the provider is never called inside a transaction")
    try:
        seen = _call(payout)
    except (Indeterminate, UpstreamUnavailable):
        raise  # it stays in_transfer: the next run looks for it
    except ProviderError as refusal:
        failed = payouts.fail_transfer(
            payout_code=payout.code, failure=refusal.words, tries=payout.tries, actor=actor, now=now
        )
        if not failed.waits_for:
            raise
        raise ProviderError(_not_sent(failed.code, failed.waits_for, failed.waits_until), **refusal.facts) from refusal
    return payouts.record_transfer(payout_code=payout.code, seen=seen, actor=actor, now=now)


def _call(payout: Payout) -> SeenTransfer:
    account = queries.account_of(host_id=payout.host_id)
    if account is None or account.provider_id is None:
        raise ProviderError(message="The host has no account.")
    return gateway().transfer(
        amount=Money(payout.transfer_amount, payout.transfer_currency),
        account=account.provider_id,
        charge_id=payout.source_charge,
        group=payout.booking.code,
        reference=payout.code,
        host=payout.host.code,
        key=queries.transfer_key(payout=payout),
    )


def _plan_what_has_none(done: Counter[str], now: datetime) -> None:
    """Give stays that hold money without a plan one."""
    without = jobs.turn(ask=partial(queries.unscheduled), now=now, size=STAYS_AT_A_TIME)
    done["scheduled"] += sum(map(bool, jobs.each(without, lambda code: _schedule(code, now))))
    jobs.set_cursor(name=LOOKED, value={"at": now.isoformat()}, now=now)


def _is_time_to_look(now: datetime) -> bool:
    """Whether to look through every stay and host now, which is not done in every run."""
    looked = jobs_queries.cursor(name=LOOKED)
    return not looked or now - datetime.fromisoformat(looked["at"]) >= LOOK_EVERY


def _schedule(booking_code: str, now: datetime) -> list[Payout]:
    with transaction.atomic():
        booking = bookings.lock(code=booking_code)  # it may be cancelled at this moment
        payment = payment_queries.payment_of(booking=booking)
        if payment is None or booking.status not in queries.OWED_TO_HOSTS:
            return []
        return payouts.schedule(booking=booking, now=now)


def _each(codes: list[str], act: Callable[[str], Payout], done: Counter[str]) -> None:
    """Act on each; what is refused or lost is counted, and a provider that is away ends the run."""
    away = 0
    for code in codes:
        try:
            payout = act(code)
            done["waiting" if payout.status in _WAITING else payout.status] += 1
            away = 0
        except UpstreamUnavailable as lost:
            log.info("payout %s: %s", code, lost)
            done["lost"] += 1
            away += 1
            if away >= AWAY_AFTER:
                return
        except ProviderError as refused:
            log.warning("payout %s was refused: %s", code, refused)
            done["failed"] += 1
        except StaydeskError as error:
            log.info("payout %s is left for the next run: %s", code, error)
            done["left"] += 1


_WAITING: Final = frozenset({"scheduled", "held", "releasable", "failed"})


def _forecast(now: datetime, limit: int | None) -> dict[str, int]:
    planned = queries.plan(now=now, limit=limit)
    sends = sum(1 for one in planned if one.sends)
    return {"release": sends, "waiting": len(planned) - sends, "scheduled": len(queries.unscheduled())}
