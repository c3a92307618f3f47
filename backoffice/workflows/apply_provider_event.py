"""A webhook or a polled event is a hint: ask the provider for the object's present state and take that over.

Order and repetition of events therefore do not matter (DESIGN.md, "Inbox")."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from functools import partial
from itertools import islice
from typing import Final

from backoffice.core.actor import Actor, system
from backoffice.core.enqueue import enqueue_after_commit
from backoffice.core.errors import StaydeskError
from backoffice.jobs import operations as jobs
from backoffice.jobs import queries as jobs_queries
from backoffice.payments import operations as payments
from backoffice.payments import queries as payment_queries
from backoffice.payments.gateway.stripe import gateway
from backoffice.payments.models import WebhookEvent
from backoffice.payments.policies.seen import About, SeenEvent
from backoffice.payouts import operations as payouts
from backoffice.payouts import queries as payout_queries
from backoffice.workflows import claw_back, collect_charges, follow_bank_payouts, refund_booking, work_chargebacks
from backoffice.workflows.settle_payment import settle, settle_setup

log = logging.getLogger(__name__)

ACTOR: Final = system("provider events")
POLLED: Final = "provider.events"
# Events a webhook may have missed are looked for this far back, from where the poll last looked: a desk that was down
# for a day finds that day's. The provider keeps them 30 days.
LOOK_BACK: Final = timedelta(hours=2)
PAGE: Final = 100


def receive(*, payload: bytes, signature: str, now: datetime) -> WebhookEvent | None:
    """Store a webhook that the provider signed; None when we have it already. Raises Invalid for a bad signature."""
    event = gateway().read_webhook(payload=payload, signature=signature, now=now)
    stored = payments.receive_event(event=event, origin="webhook", now=now)
    if stored is not None:
        enqueue_after_commit("workflows.apply_provider_event", webhook_id=stored.id)
    return stored


def apply(*, webhook_id: int, now: datetime) -> str:
    """Apply one stored event; returns the action taken: apply, ignore, fail, or "" when another worker has it.

    One of an account that is none of our hosts', or that is no longer connected, is ignored, the reason beside it."""
    row = payments.claim_event(webhook_id=webhook_id, now=now)
    if row is None:
        return ""
    action, error = "ignore", ""
    handler = _handler(gateway().about(event_type=row.type), account=row.account)
    if handler is not None and row.account and not payout_queries.is_account_known(provider_id=row.account):
        # Somebody else's, beside ours at the provider. What we sent there, if anything, is a movement of our own balance.
        handler, error = (
            None,
            f"{row.account} is none of our hosts' accounts; what happens there moves no money of ours",
        )
    if handler is not None:
        try:
            action = "apply" if handler(row.object_id, ACTOR, now) else "ignore"
        except StaydeskError as failure:
            # Of a host's account that is no longer connected to ours no later try can ask.
            gone = bool(row.account) and failure.facts.get("missing") == "account"
            action, error = "ignore" if gone else "fail", f"{failure.code}: {failure}"
        except Exception as failure:  # an event must never be lost: it is kept, retried, then shown to a person
            log.exception("event %s could not be applied", row.event_id)
            action, error = "fail", f"{type(failure).__name__}: {failure}"
    payments.finish_event(webhook_id=row.id, action=action, error=error, now=now)
    return action


def apply_due(*, now: datetime) -> int:
    """Apply every event that waits; returns how many were taken."""
    return sum(1 for webhook_id in payment_queries.events_due(now=now) if apply(webhook_id=webhook_id, now=now))


def poll(*, now: datetime) -> int:
    """Store events that no webhook brought; returns how many were missing."""
    polled = jobs_queries.cursor(name=POLLED)
    last = datetime.fromisoformat(polled["polled_at"]) if polled else now
    missing, found = 0, gateway().events(since=min(last, now) - LOOK_BACK)
    while page := list(islice(found, PAGE)):
        unknown = payment_queries.unknown_events(
            ids=(event.id for event in page)
        )  # most are known: one question for all
        missing += sum(_store(event, now) for event in page if event.id in unknown)
    jobs.set_cursor(name=POLLED, value={"polled_at": now.isoformat()}, now=now)
    return missing


def _store(event: SeenEvent, now: datetime) -> bool:
    stored = payments.receive_event(event=event, origin="poll", now=now)  # a webhook may bring it at this moment
    if stored is not None:
        enqueue_after_commit("workflows.apply_provider_event", webhook_id=stored.id)
    return stored is not None


def _payment(object_id: str, actor: Actor, now: datetime) -> bool:
    seen = gateway().payment(payment_id=object_id)
    if settle(seen=seen, actor=actor, now=now) is not None:
        return True
    return collect_charges.settle(seen=seen, actor=actor, now=now) is not None


def _setup(object_id: str, actor: Actor, now: datetime) -> bool:
    return settle_setup(seen=gateway().card_setup(setup_id=object_id), actor=actor, now=now) is not None


def _refund(object_id: str, actor: Actor, now: datetime) -> bool:
    seen = gateway().refund_state(refund_id=object_id)
    refund = payment_queries.refund_seen(provider_id=seen.id, reference=seen.reference)
    if refund is None:
        return False
    refund_booking.record(refund_code=refund.code, seen=seen, actor=actor, now=now)
    return True


def _transfer(object_id: str, actor: Actor, now: datetime) -> bool:
    """Sent, or taken back: either may be the answer that one of ours still waits for."""
    seen = gateway().transfer_state(transfer_id=object_id)
    waiting = payout_queries.payouts().filter(code=seen.reference, status="in_transfer").first()
    if waiting is not None:
        # By the key of its last try: what the provider tells of may be an earlier one, which failed after it was made.
        found = gateway().find_transfer(group=waiting.booking.code, key=payout_queries.transfer_key(payout=waiting))
        if found is not None:
            payouts.record_transfer(payout_code=waiting.code, seen=found, actor=actor, now=now)
            return True
    return claw_back.hear_of_transfer(transfer_id=object_id, actor=actor, now=now)


def _own_bank_payout(object_id: str, actor: Actor, now: datetime) -> bool:
    return _bank_payout("", object_id, actor, now)


def _bank_payout(account: str, object_id: str, actor: Actor, now: datetime) -> bool:
    follow_bank_payouts.take_over(payout_id=object_id, account=account, actor=actor, now=now)
    return True


def _account(account: str, object_id: str, actor: Actor, now: datetime) -> bool:
    """Of the account itself or of its bank accounts: either way the account is what we keep."""
    return payouts.record_account(seen=gateway().account(account_id=account), actor=actor, now=now) is not None


def _dispute(object_id: str, actor: Actor, now: datetime) -> bool:
    work_chargebacks.take_over(dispute_id=object_id, actor=actor, now=now)
    return True


def _fraud_warning(object_id: str, actor: Actor, now: datetime) -> bool:
    work_chargebacks.take_over_warning(warning_id=object_id, actor=actor, now=now)
    return True


_HANDLERS: Final[Mapping[About, Callable[[str, Actor, datetime], bool]]] = {
    "payment": _payment,
    "setup": _setup,
    "refund": _refund,
    "transfer": _transfer,
    "bank_payout": _own_bank_payout,
    "dispute": _dispute,
    "fraud_warning": _fraud_warning,
}


# Events of hosts' accounts: what happens to their charges and refunds there is the other side of our transfers.
_OF_ACCOUNTS: Final[Mapping[About, Callable[[str, str, Actor, datetime], bool]]] = {
    "account": _account,
    "bank_payout": _bank_payout,
}


def _handler(about: About, *, account: str) -> Callable[[str, Actor, datetime], bool] | None:
    if account:
        found = _OF_ACCOUNTS.get(about)
        return partial(found, account) if found is not None else None
    return _HANDLERS.get(about)
