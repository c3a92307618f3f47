"""The journeys that run by themselves. Each loads by id, makes one call and is done; running one twice does no harm."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from celery import shared_task

from backoffice.core import clock
from backoffice.core.actor import system
from backoffice.core.errors import Locked, ProviderError, Stopped, UpstreamUnavailable
from backoffice.jobs import operations as jobs
from backoffice.workflows import apply_provider_event as events
from backoffice.workflows import (
    claw_back,
    collect_charges,
    decide_request,
    follow_bank_payouts,
    keep_time,
    refund_booking,
    release_payouts,
    sweep_earnings,
    work_chargebacks,
)
from backoffice.workflows import import_balance_transactions as transactions

ACTOR = system("worker")


@shared_task(name="workflows.apply_provider_event")
def apply_provider_event(*, webhook_id: int, **_: Any) -> None:
    events.apply(webhook_id=webhook_id, now=clock.now())


@shared_task(name="workflows.send_refund")
def send_refund(*, refund_code: str, **_: Any) -> None:
    with suppress(UpstreamUnavailable, Stopped):  # the sweep asks again with the same key
        refund_booking.send(refund_code=refund_code, actor=ACTOR, now=clock.now())


@shared_task(name="workflows.apply_pending_events")
def apply_pending_events(**_: Any) -> None:
    with_job("workflows.apply_pending_events", lambda now: events.apply_due(now=now))


@shared_task(name="workflows.poll_missed_events")
def poll_missed_events(**_: Any) -> None:
    with_job("workflows.poll_missed_events", lambda now: events.poll(now=now))


@shared_task(name="workflows.import_balance_transactions")
def import_balance_transactions(**_: Any) -> None:
    with_job("workflows.import_balance_transactions", lambda now: transactions.run(now=now))


@shared_task(name="workflows.expire_holds")
def expire_holds(**_: Any) -> None:
    with_job("workflows.expire_holds", lambda now: keep_time.expire_holds(now=now))


@shared_task(name="workflows.complete_stays")
def complete_stays(**_: Any) -> None:
    with_job("workflows.complete_stays", lambda now: keep_time.complete_stays(now=now))


@shared_task(name="workflows.release_authorisation")
def release_authorisation(*, payment_code: str, **_: Any) -> None:
    with suppress(UpstreamUnavailable):  # the sweep asks again with the same key
        decide_request.release(payment_code=payment_code, actor=ACTOR, now=clock.now())


@shared_task(name="workflows.answer_requests")
def answer_requests(**_: Any) -> None:
    with_job("workflows.answer_requests", lambda now: decide_request.run(now=now))


@shared_task(name="workflows.charge_saved_cards")
def charge_saved_cards(**_: Any) -> None:
    with_job("workflows.charge_saved_cards", lambda now: collect_charges.run(now=now))


@shared_task(name="workflows.resolve_indeterminate")
def resolve_indeterminate(**_: Any) -> None:
    with_job("workflows.resolve_indeterminate", lambda now: keep_time.resolve_indeterminate(now=now))


@shared_task(name="workflows.release_payouts")
def pay_hosts(**_: Any) -> None:
    def act(now: Any) -> int:
        counts = release_payouts.run(now=now, actor=release_payouts.ACTOR)
        return sum(number for outcome, number in counts.items() if outcome != "waiting")

    with_job("workflows.release_payouts", act)


@shared_task(name="workflows.follow_chargebacks")
def follow_chargebacks(**_: Any) -> None:
    with_job("workflows.follow_chargebacks", lambda now: work_chargebacks.run(now=now))


@shared_task(name="workflows.send_clawback")
def send_clawback(*, clawback_code: str, **_: Any) -> None:
    # A refusal is on record; what was lost is asked for again.
    with suppress(UpstreamUnavailable, Stopped, ProviderError):
        claw_back.send(clawback_code=clawback_code, actor=ACTOR, now=clock.now())


@shared_task(name="workflows.claw_back")
def take_back(**_: Any) -> None:
    with_job("workflows.claw_back", lambda now: claw_back.run(now=now)["requested"])


@shared_task(name="workflows.follow_bank_payouts")
def follow_payouts_to_banks(**_: Any) -> None:
    with_job("workflows.follow_bank_payouts", lambda now: follow_bank_payouts.run(now=now))


@shared_task(name="workflows.sweep_earnings")
def sweep_what_is_earned(**_: Any) -> None:
    with_job("workflows.sweep_earnings", lambda now: sweep_earnings.run(now=now)["swept"])


def with_job(name: str, act: Any) -> None:
    """Run a sweep as a recorded job; one that is running already, or a provider that is away, waits for the next tick."""
    now = clock.now()
    with suppress(Locked, UpstreamUnavailable), jobs.running(name=name, actor=ACTOR, now=now, quiet=True) as run:
        run.count(done=act(now))
