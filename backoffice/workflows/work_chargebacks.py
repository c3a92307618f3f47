"""Chargebacks from the first news to the last: taken over from the provider, their money followed, answered once.

The provider is called between two transactions: what a person decided is written down first. An answer whose call was lost
is looked for at the dispute itself and given again only where it has none, under a new key (decision 12)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from django.db import transaction

from backoffice.core.actor import Actor, system
from backoffice.core.errors import Indeterminate, ProviderError
from backoffice.jobs import operations as jobs
from backoffice.jobs import queries as jobs_queries
from backoffice.payments import operations as payments
from backoffice.payments import queries as payment_queries
from backoffice.payments.gateway.stripe import gateway
from backoffice.payments.models import Chargeback, FraudWarning
from backoffice.payments.operations.chargebacks import Answer
from backoffice.payments.policies.chargebacks import ANSWERABLE, SeenDispute
from backoffice.payments.policies.evidence import FIELDS
from backoffice.payouts import operations as payouts

ACTOR: Final = system("chargebacks")
POLLED: Final = "provider.disputes"
# Disputes that no event told of are looked for this far back, from where the last look was.
LOOK_BACK: Final = timedelta(hours=2)
BEGINNING: Final = timedelta(days=400)
# An open one is asked about again when no event has come for this long; issuers take weeks.
ASK_AGAIN: Final = timedelta(hours=1)
LOST_AFTER: Final = timedelta(seconds=60)


# What the provider says ----------------------------------------------------------------------------------------------


def take_over(*, dispute_id: str, actor: Actor, now: datetime) -> Chargeback:
    """Ask the provider how a dispute stands and take that over; whoever asks first brings the news, once."""
    return _record(gateway().dispute(dispute_id=dispute_id), actor, now)


def take_over_warning(*, warning_id: str, actor: Actor, now: datetime) -> FraudWarning:
    """Take over an issuer's early fraud warning. A refund is offered to finance, never made by itself."""
    return payments.record_warning(seen=gateway().fraud_warning(warning_id=warning_id), actor=actor, now=now)


def follow_money(*, sources: Iterable[str], actor: Actor, now: datetime) -> int:
    """Post what newly imported movements of these disputes mean for their outcome; returns how many were known here."""
    return sum(_follow(source, actor, now) is not None for source in dict.fromkeys(sources))


# Answering it --------------------------------------------------------------------------------------------------------


def draft(*, code: str, actor: Actor) -> dict[str, str]:
    """A first draft of the evidence from what the desk knows, field by field; nothing is kept or sent. Empty for a charge
    that is none of ours."""
    actor.must("chargebacks.work")
    return payment_queries.evidence_draft(chargeback=payment_queries.chargeback(code=code))


def stage(*, code: str, evidence: Mapping[str, str], version: int | None, actor: Actor, now: datetime) -> Chargeback:
    """Keep evidence and lay it beside the dispute at the provider, unsubmitted; an empty text takes a field back.

    When the provider does not answer (UpstreamUnavailable) it is kept here, and goes out with the submission at the
    latest."""
    row = payments.save_evidence(code=code, evidence=evidence, version=version, actor=actor, now=now)
    return _give(row, actor, now)


def upload(*, code: str, field: str, name: str, content: bytes, actor: Actor, now: datetime) -> Chargeback:
    """Send a file to the provider and make it the evidence of its field. The same file for the same field is one file,
    however often it is sent; only where the provider keeps answering with a failure of its own is it sent anew."""
    digest = payments.check_evidence_file(code=code, field=field, name=name, content=content, actor=actor, now=now)
    file_id = _uploaded(name, content, key=f"evidence-file:{code}:{field}:{digest}", now=now)
    row = payments.keep_evidence_file(
        code=code,
        field=field,
        name=name,
        digest=digest,
        size=len(content),
        provider_id=file_id,
        actor=actor,
        now=now,
    )
    return _give(row, actor, now)


def submit(*, code: str, version: int, actor: Actor, now: datetime) -> Chargeback:
    """Hand the evidence to the issuer: once, by a person who may, before the deadline. Whoever else does it at the same
    moment is refused. When the answer is lost the dispute is asked how it stands, and answered again only where it has none."""
    row = payments.claim_answer(code=code, answer="submit", version=version, actor=actor, now=now)
    return _answer(row, "submit", actor, now)


def accept(*, code: str, version: int, reason: str, actor: Actor, now: datetime) -> Chargeback:
    """Give the money up: the dispute is closed at the provider as lost, and there is no way back."""
    row = payments.claim_answer(code=code, answer="accept", version=version, reason=reason, actor=actor, now=now)
    return _answer(row, "accept", actor, now)


# By itself -----------------------------------------------------------------------------------------------------------


def run(*, now: datetime) -> int:
    """Send again what was lost, remind, follow the money, ask about those that are open, find disputes that no event told
    of; returns how many of these were done. What has a deadline comes first, and nothing keeps what comes after it from
    being done. Running it twice does no harm."""
    settled = [
        *jobs.each(
            jobs.turn(ask=partial(payment_queries.unanswered_claims, older_than=now - LOST_AFTER), now=now),
            lambda code: answer_again(code=code, actor=ACTOR, now=now),
        ),
        *jobs.each(_to_follow(now), lambda source: _follow(source, ACTOR, now)),
        *jobs.each(
            jobs.turn(ask=partial(payment_queries.chargebacks_to_ask_about, older_than=now - ASK_AGAIN), now=now),
            lambda dispute_id: take_over(dispute_id=dispute_id, actor=ACTOR, now=now),
        ),
    ]
    jobs.each(
        payment_queries.chargebacks_to_remind(now=now),
        lambda row: payments.remind_of_chargeback(code=row.code, actor=ACTOR, now=now),
    )
    return sum(row is not None for row in settled) + sum(jobs.each([POLLED], lambda _: _poll(now)))


def answer_again(*, code: str, actor: Actor, now: datetime) -> Chargeback:
    """An answer that a person gave has not been heard to arrive: ask how it stands, and give it again if it did not.

    Then under a new key: a failure that the provider saved under the first would be answered for a day, and the dispute
    itself shows that nothing was handed in; it would refuse a second answer."""
    row = payment_queries.chargeback(code=code)
    seen = gateway().dispute(dispute_id=row.provider_id)
    row = _record(seen, actor, now)
    if _was_answered(seen):
        return row
    given: Answer | None = "submit" if row.submitted_at else "accept" if row.accepted_at else None
    return row if given is None else _answer(row, given, actor, now, again=f":{now.timestamp()}")


# Private -------------------------------------------------------------------------------------------------------------


def _record(seen: SeenDispute, actor: Actor, now: datetime) -> Chargeback:
    with transaction.atomic():
        row, _ = payments.record_dispute(seen=seen, actor=actor, now=now)
        _plan_anew(row, now)
    return row


def _follow(source: str, actor: Actor, now: datetime) -> Chargeback | None:
    with transaction.atomic():
        row = payments.follow_chargeback_money(provider_id=source, actor=actor, now=now)
        if row is not None:
            _plan_anew(row, now)
    return row


def _to_follow(now: datetime) -> list[str]:
    unsettled = jobs.turn(ask=partial(payment_queries.unsettled_chargebacks), now=now)
    unnoticed = payment_queries.chargebacks_moved_unnoticed(now=now)
    return list(dict.fromkeys([*unsettled, *unnoticed, *payment_queries.losses_to_draw_anew()]))


def _plan_anew(row: Chargeback, now: datetime) -> None:
    """What a lost chargeback took of a stay is no longer to be released, what an appeal brought back is again; the booking
    is locked since the chargeback was."""
    if row.payment is not None:
        payouts.schedule(booking=row.payment.booking, now=now)


def _give(row: Chargeback, actor: Actor, now: datetime) -> Chargeback:
    seen = gateway().stage_evidence(
        dispute_id=row.provider_id,
        evidence=_whole(row),
        key=f"evidence:{row.code}:{row.version}",
    )
    payments.note_evidence_staged(code=row.code, version=row.version, now=now)
    return _record(seen, actor, now)


def _uploaded(name: str, content: bytes, *, key: str, now: datetime) -> str:
    try:
        return gateway().upload_evidence(name=name, content=content, key=key)
    except Indeterminate as lost:
        if not lost.facts.get("answered", False):
            raise
        # The failure is saved under the key for a day, and a deadline runs. A file more there that nobody names does no harm.
        return gateway().upload_evidence(name=name, content=content, key=f"{key}:{now.timestamp()}")


def _whole(row: Chargeback) -> dict[str, str]:
    """All of the evidence as it now is, fields that were taken back too: the provider keeps what it is not told of."""
    return {field: row.evidence.get(field, "") for field in FIELDS}


def _was_answered(seen: SeenDispute) -> bool:
    return seen.status not in ANSWERABLE or seen.submissions > 0


def _answer(row: Chargeback, answer: Answer, actor: Actor, now: datetime, again: str = "") -> Chargeback:
    claimed_at = row.submitted_at if answer == "submit" else row.accepted_at
    assert claimed_at is not None  # it was claimed before
    # A claim that was refused is followed by another, which is another answer.
    key = f"{answer}:{row.code}:{claimed_at.timestamp()}{again}"
    try:
        if answer == "submit":
            seen = gateway().submit_evidence(dispute_id=row.provider_id, evidence=_whole(row), key=key)
        else:
            seen = gateway().accept_dispute(dispute_id=row.provider_id, key=key)
    except ProviderError as error:
        seen = gateway().dispute(dispute_id=row.provider_id)
        if _was_answered(seen):  # by a call of ours whose answer was lost, or decided in the meantime
            return _record(seen, actor, now)
        payments.withdraw_chargeback_claim(code=row.code, answer=answer, refusal=error.words, actor=actor, now=now)
        raise
    return _record(seen, actor, now)


def _poll(now: datetime) -> int:
    polled = jobs_queries.cursor(name=POLLED)
    last = datetime.fromisoformat(polled["polled_at"]) if polled else now - BEGINNING
    found = [
        seen
        for seen in gateway().disputes(since=min(last, now) - LOOK_BACK)
        if payment_queries.is_news(dispute_id=seen.id, status=seen.status)
    ]
    taken = jobs.each(found, lambda seen: _record(seen, ACTOR, now))
    if len(taken) == len(found):  # else what could not be taken over is looked for again, however long that takes
        jobs.set_cursor(name=POLLED, value={"polled_at": now.isoformat()}, now=now)
    return len(taken)
