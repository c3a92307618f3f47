"""What happens to chargebacks: the provider's present state taken over, their money followed, a loss posted once, evidence
staged, and the one answer claimed before the provider is called elsewhere.

Whoever changes a chargeback of ours holds its booking's and its payment's lock first, as for a refund.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Literal

from django.db import transaction

from backoffice.audit import operations as audit
from backoffice.bookings import operations as bookings
from backoffice.core.actor import Actor
from backoffice.core.errors import Conflict, Invalid, NotFound, Refused, StaleVersion
from backoffice.core.money import Money
from backoffice.ledger import operations as ledger
from backoffice.ledger import queries as ledger_queries
from backoffice.ledger.models import Journal
from backoffice.notifications import operations as notifications
from backoffice.payments import policies, queries
from backoffice.payments.models import Chargeback, EvidenceFile, FraudWarning, Payment, Refund
from backoffice.payments.operations.attempts import lock_payment, touch
from backoffice.payments.operations.one_refund import tell_guest
from backoffice.payments.operations.owed import follow_owed, give_as_cancelled
from backoffice.payments.operations.recoup import recoup
from backoffice.payments.operations.refunds import hold_again, stop_refund
from backoffice.payments.policies import chargebacks as rules
from backoffice.payments.policies import evidence as evidence_rules
from backoffice.payments.policies.chargebacks import SeenDispute, SeenFraudWarning
from backoffice.payments.queries.chargebacks import LOSS
from backoffice.payments.states import LOSS_BEARERS
from backoffice.people import queries as people
from backoffice.people.models import User
from backoffice.rulebook import queries as rulebook

News = Literal["opened", "escalated", "moved", "closed", ""]
Answer = Literal["submit", "accept"]


# What the provider shows ---------------------------------------------------------------------------------------------


def record_dispute(*, seen: SeenDispute, actor: Actor, now: datetime) -> tuple[Chargeback, News]:
    """Take over what the provider shows of a dispute, `now` being when it was asked; returns the row and what is news.

    One row for one dispute, also when an inquiry becomes a chargeback; a status nobody knows is kept. A charge that is not
    ours has no payment. An answer older than the last one changes nothing."""
    with transaction.atomic():
        # Its events arrive together and in any order: they queue up behind the payment, or behind the row itself.
        payment = _lock_payment(seen.charge_id, seen.payment_id)
        row = Chargeback.objects.select_for_update(of=("self",)).filter(provider_id=seen.id).first()
        if row is not None and now < row.seen_at:
            return row, ""
        if row is None:
            row, fresh = Chargeback.objects.get_or_create(
                provider_id=seen.id, defaults=_first_facts(seen, payment, now)
            )
            news: News = "opened" if fresh else ""
        else:
            news = ""
        row.payment = payment or row.payment
        news = _take_over(row, seen, now) or news
        _follow_money(row)
        row.save()
        if news:
            _record_news(row, seen, news, actor, now)
        held = False
        if rules.blocks_refunds(kind=row.kind, status=row.status) and payment is not None:
            held = _stop_refunds(row, payment, actor, now)
        _settle(row, actor, now, held=held)
        if payment is not None:
            follow_owed(payment=payment, actor=actor, now=now)
    return row, news


def follow_chargeback_money(*, provider_id: str, actor: Actor, now: datetime) -> Chargeback | None:
    """Take over what the imported movements of a dispute add up to, and post what follows from it, and from what stands aside
    for the guest of a charge that was lost; None when there is no such chargeback yet (its own event will bring both)."""
    with transaction.atomic():
        row = _lock(provider_id=provider_id)
        if row is None:
            return None
        _follow_money(row)
        row.save(update_fields=["withdrawn", "reinstated", "fee", "settlement_currency"])
        _settle(row, actor, now)
    return row


def follow_recorded_charge(*, payment: Payment, charge_id: str, actor: Actor, now: datetime) -> bool:
    """A charge was recorded whose chargeback, or an issuer's warning of it, may be here already, as of a charge that is none of
    ours, its capture having been heard of so late: it is known whose it is. Lost already, what is held of the charge from now
    on has gone back to the guest, so that the loss is drawn anew; returns whether it was. The caller has locked booking and
    payment."""
    with transaction.atomic():
        rows = list(Chargeback.objects.select_for_update(of=("self",)).filter(charge_id=charge_id).order_by("id"))
        for warning in FraudWarning.objects.filter(charge_id=charge_id, payment=None).order_by("id"):
            warning.payment = payment
            warning.save(update_fields=["payment"])
            _tell_of_warning(warning, payment, actor, now)
        lost = [row for row in rows if row.loss_posted_at is not None]
        for row in rows:
            row.payment = payment
            row.save(update_fields=["payment"])
        for row in lost:
            _reverse_loss(row, "its charge was recorded only now", actor, now)
            _settle(row, actor, now)
    return bool(lost)


def record_warning(*, seen: SeenFraudWarning, actor: Actor, now: datetime) -> FraudWarning:
    """Keep an issuer's early fraud warning and tell finance, once; a refund is theirs to decide."""
    with transaction.atomic():
        payment = queries.payment_of_charge(charge_id=seen.charge_id, provider_id=seen.payment_id)
        facts = {"charge_id": seen.charge_id, "kind": seen.kind, "actionable": seen.actionable, "seen_at": now}
        known = FraudWarning.objects.filter(provider_id=seen.id, payment__isnull=False).exists()
        row, _ = FraudWarning.objects.update_or_create(
            provider_id=seen.id,
            defaults={**facts, "payment": payment},
        )
        if not known and payment is not None:
            _tell_of_warning(row, payment, actor, now)
    return row


# Evidence ------------------------------------------------------------------------------------------------------------


def save_evidence(
    *, code: str, evidence: Mapping[str, str], version: int | None, actor: Actor, now: datetime
) -> Chargeback:
    """Keep evidence in words, field by field; an empty text takes a field back, what is not named stays. The provider is
    given it afterwards, unsubmitted.

    Raises Invalid for a field it does not know or too much text, Conflict once it has been answered, StaleVersion."""
    actor.must("chargebacks.work")
    with transaction.atomic():
        row = _lock_open(code, version, actor, now)  # two people writing at once: the second sees the first one's words
        row.evidence = _with_words(row, evidence)
        _changed(row, "stage", actor, now, ["evidence"], after={"fields": ", ".join(sorted(evidence))})
    return row


def check_evidence(*, code: str, evidence: Mapping[str, str], actor: Actor, now: datetime) -> dict[str, str]:
    """What the evidence of a chargeback would be once this is kept; nothing is. Raises what `save_evidence` raises."""
    actor.must("chargebacks.work")
    return _with_words(_read_open(code, actor, now), evidence)


def note_evidence_staged(*, code: str, version: int, now: datetime) -> None:
    """The provider has what was written down at `version`; what was written since is still to be given."""
    Chargeback.objects.filter(code=code, version=version).update(staged_at=now)


def check_evidence_file(*, code: str, field: str, name: str, content: bytes, actor: Actor, now: datetime) -> str:
    """Whether a file may be sent as evidence; returns its SHA-256. Raises Invalid with the remedy, Conflict once it has
    been answered."""
    actor.must("chargebacks.work")
    row = _read_open(code, actor, now)
    others = sum(each.size for each in _files_in_use(row) if each.field != field)
    evidence_rules.check_file(field=field, name=name, content=content, others=others)
    return evidence_rules.digest(content)


def keep_evidence_file(
    *, code: str, field: str, name: str, digest: str, size: int, provider_id: str, actor: Actor, now: datetime
) -> Chargeback:
    """A file is at the provider: it is the evidence of its field from now on. Keeping the same one again changes nothing."""
    actor.must("chargebacks.work")
    with transaction.atomic():
        row = _lock_open(code, None, actor, now)
        if row.evidence.get(field) == provider_id:
            return row
        EvidenceFile.objects.get_or_create(
            provider_id=provider_id,
            defaults={
                "chargeback": row,
                "field": field,
                "name": name[:200],
                "digest": digest,
                "size": size,
                "uploaded_by_id": actor.id,
                "uploaded_at": now,
            },
        )
        row.evidence = {**row.evidence, field: provider_id}
        after = {"field": field, "file": provider_id, "sha256": digest, "bytes": size}
        _changed(row, "upload", actor, now, ["evidence"], after=after)
    return row


# The one answer ------------------------------------------------------------------------------------------------------


def claim_answer(
    *, code: str, answer: Answer, version: int, actor: Actor, now: datetime, reason: str = ""
) -> Chargeback:
    """Claim the one answer to a chargeback: to submit its evidence, or to accept it as lost. The provider is called after
    the commit; the claim is what keeps a second person out, and a dispute takes one answer.

    Raises NotAllowed, Conflict when it has been answered, is decided or its deadline has passed, Refused without evidence
    (submit) or a reason (accept), StaleVersion."""
    actor.must("chargebacks.submit")
    if answer == "accept" and not reason.strip():
        raise Refused(missing="a reason")
    with transaction.atomic():
        row = _lock_open(code, version, actor, now)  # two people at once: the second finds it answered
        if answer == "submit":
            if not row.evidence:
                raise Refused(missing="evidence: write some, or begin with the draft")
            row.submitted_at, row.submitted_by_id = now, _person(actor)
            fields = ["submitted_at", "submitted_by"]
        else:
            row.accepted_at = now
            fields = ["accepted_at"]
        _changed(row, answer, actor.because(reason or actor.reason), now, fields)
    return row


def withdraw_chargeback_claim(*, code: str, answer: Answer, refusal: str, actor: Actor, now: datetime) -> None:
    """The provider refused the answer itself: nothing was handed in, and a person may answer again."""
    with transaction.atomic():
        row = _lock(code=code)
        if row is None:
            raise NotFound(kind="chargeback")
        if answer == "submit":
            row.submitted_at, row.submitted_by_id = None, None
            fields = ["submitted_at", "submitted_by"]
        else:
            row.accepted_at = None
            fields = ["accepted_at"]
        _changed(row, f"{answer}_refused", actor.because(refusal[:300]), now, fields)


# Work on it ----------------------------------------------------------------------------------------------------------


def own_chargeback(*, code: str, owner_id: int, version: int, actor: Actor, now: datetime) -> Chargeback:
    """Give a chargeback to somebody who may work on it."""
    actor.must("chargebacks.work")
    with transaction.atomic():
        row = _locked(code, version)
        owner = people.person(person_id=owner_id)
        if not people.actor_for(user=owner, now=now).may("chargebacks.work"):
            raise Invalid(f"owner: {owner.name} may not work on chargebacks; choose somebody who may.", field="owner")
        row.owner = owner
        _changed(row, "own", actor, now, ["owner"], after={"owner": owner.code})
    return row


def note_on_chargeback(*, code: str, text: str, actor: Actor, now: datetime) -> Chargeback:
    """Add a note; earlier ones stay. Name no guest or host: notes outlive an erasure."""
    actor.must("chargebacks.work")
    if not text.strip():
        raise Invalid("text: write the note.", field="text")
    with transaction.atomic():
        row = _locked(code, None)
        line = f"{now:%Y-%m-%d %H:%M} {actor.name}: {text.strip()}"
        row.notes = f"{row.notes}\n{line}".strip()
        _changed(row, "note", actor, now, ["notes"], after={"note": text.strip()})
    return row


def bear_loss(*, code: str, bearer: str, reason: str, version: int, actor: Actor, now: datetime) -> Chargeback:
    """Decide who bears what had been released to the host when a chargeback is lost: us, unless a person says the host.

    What is still held goes back to the guest either way. Decided after the loss, the posting is reversed and made anew.
    Raises Refused without a reason, Conflict for one that is none of our bookings', or whose loss is appealed now."""
    actor.must("chargebacks.submit")
    if bearer not in LOSS_BEARERS:
        raise Invalid(f"bearer: write one of {', '.join(LOSS_BEARERS)}.", field="bearer")
    if not reason.strip():
        raise Refused(missing="a reason")
    with transaction.atomic():
        row = _locked(code, version)
        if row.payment is None:
            raise Conflict("This charge belongs to none of our bookings; no host can bear it.")
        bookings.not_for_oneself(booking=row.payment.booking, actor=actor)
        if row.loss_bearer == bearer:
            return row
        if rules.is_appealed(status=row.status, loss_posted=row.loss_posted_at is not None):
            raise Conflict(
                f"{row.code} was lost and is in appeal ({row.status.replace('_', ' ')}): who bears the loss is decided once the "
                "appeal is over."
            )
        before = row.loss_bearer
        row.loss_bearer = bearer
        told = actor.because(reason)
        _changed(row, "bear", told, now, ["loss_bearer"], before={"bearer": before}, after={"bearer": bearer})
        if row.loss_posted_at is not None:
            _reverse_loss(row, f"borne by the {bearer}: {reason}", told, now)
            _settle(row, told, now)
    return row


def remind_of_chargeback(*, code: str, actor: Actor, now: datetime) -> None:
    """Our own deadline has passed unanswered: tell its owner and finance, once for each deadline, and what to do."""
    with transaction.atomic():
        row = _locked(code, None)
        if row.reminded_at is not None:  # by a run at the same moment
            return
        row.reminded_at = now
        row.save(update_fields=["reminded_at"])
        _tell(row, "appeal_due" if row.status in rules.APPEALABLE else "chargeback_due", now)


# Private: taking over ------------------------------------------------------------------------------------------------


def _lock_payment(charge_id: str, payment_id: str) -> Payment | None:
    found = queries.payment_of_charge(charge_id=charge_id, provider_id=payment_id)
    if found is None:
        return None
    return lock_payment(booking=bookings.lock(code=found.booking.code))


def _lock(*, code: str = "", provider_id: str = "") -> Chargeback | None:
    """Lock booking, payment and chargeback, in the house's order."""
    found = Chargeback.objects.filter(**({"code": code} if code else {"provider_id": provider_id})).first()
    if found is None:
        return None
    payment = _lock_payment(found.charge_id, "")
    row = Chargeback.objects.select_for_update(of=("self",)).get(pk=found.pk)
    if payment is not None:
        row.payment = payment
    return row


def _locked(code: str, version: int | None) -> Chargeback:
    row = _lock(code=code)
    if row is None:
        raise NotFound(kind="chargeback")
    if version is not None and row.version != version:
        raise StaleVersion(kind="chargeback")
    return row


def _lock_open(code: str, version: int | None, actor: Actor, now: datetime) -> Chargeback:
    row = _locked(code, version)
    if row.payment is not None:
        bookings.not_for_oneself(booking=row.payment.booking, actor=actor)
    _check_open(row, now)
    return row


def _read_open(code: str, actor: Actor, now: datetime) -> Chargeback:
    """One that can be answered now, unlocked: for what is looked at before anything is sent or written."""
    row = queries.chargeback(code=code)
    if row.payment is not None:
        bookings.not_for_oneself(booking=row.payment.booking, actor=actor)
    _check_open(row, now)
    return row


def _check_open(row: Chargeback, now: datetime) -> None:
    """Raises Conflict, saying why, unless it can be answered now."""
    if row.status in rules.APPEALABLE:
        raise Conflict(f"{row.code} is in appeal; answer it on the provider’s own pages, which alone take an appeal.")
    if row.submitted_at is not None:
        raise Conflict(
            f"The evidence for {row.code} was submitted already; it goes to the issuer once and cannot be changed."
        )
    if row.accepted_at is not None:
        raise Conflict(f"{row.code} was accepted already; there is no way back.")
    if row.status not in rules.ANSWERABLE:
        raise Conflict(f"{row.code} is {row.status.replace('_', ' ')}; it cannot be answered now.")
    if row.due_by is not None and now > row.due_by:
        raise Conflict(
            f"The provider took evidence for {row.code} until {row.due_by:%d %b %Y %H:%M} UTC; it is too late."
        )


def _person(actor: Actor) -> int:
    if actor.id is None:
        raise Refused(missing="a person: evidence is submitted by somebody with a name")
    return actor.id


def _first_facts(seen: SeenDispute, payment: Payment | None, now: datetime) -> dict[str, Any]:
    return {
        "payment": payment,
        "charge_id": seen.charge_id,
        "kind": seen.kind,
        "status": seen.status[:60],
        "amount": seen.amount.amount,
        "currency": seen.amount.currency,
        "opened_at": seen.opened,
        "due_by": seen.due_by,
        "internal_due_at": _internal_deadline(seen.opened, seen.due_by),
        "seen_at": now,
    }


def _take_over(row: Chargeback, seen: SeenDispute, now: datetime) -> News:
    """The present state onto the row; what of it is news for people."""
    before, was = row.status, row.kind
    escalated = was == "inquiry" and seen.kind == "chargeback"
    if seen.due_by is not None and seen.due_by != row.due_by:
        # A new round begins when the provider sets another deadline: an inquiry that became a chargeback, an appeal.
        row.internal_due_at = _internal_deadline(now, seen.due_by)
        row.due_by, row.reminded_at = seen.due_by, None
    elif seen.status in rules.APPEALABLE and (before != seen.status or row.internal_due_at is None):
        row.internal_due_at, row.reminded_at = now, None  # an appeal without a date of its own: answer it at once
    row.kind = "chargeback" if was == "chargeback" else seen.kind
    row.status = seen.status[:60]
    row.amount, row.currency = seen.amount.amount, seen.amount.currency
    row.reason, row.network_reason = seen.reason[:60], seen.network_reason[:40]
    row.network = seen.network[:40]
    row.page = seen.page
    row.seen_at = now
    if escalated and row.status in rules.ANSWERABLE:
        row.submitted_at = row.submitted_by = row.accepted_at = None  # the answer was to the inquiry
    if rules.is_open(row.status):
        row.closed_at = None
    elif row.closed_at is None:
        row.closed_at = now
    if escalated:
        return "escalated"
    if before == row.status:
        return ""
    return "moved" if rules.is_open(row.status) else "closed"


def _internal_deadline(opened: datetime, due_by: datetime | None) -> datetime | None:
    if due_by is None:
        return None
    return rules.internal_deadline(opened=opened, due_by=due_by, rules=rulebook.chargebacks(on=opened.date()).rules)


def _record_news(row: Chargeback, seen: SeenDispute, news: News, actor: Actor, now: datetime) -> None:
    row.version += 1
    row.save(update_fields=["version"])
    verb = {"opened": "open", "escalated": "escalate", "moved": "move", "closed": "close"}[news]
    audit.record(
        actor=actor,
        verb=f"chargebacks.{verb}",
        kind="chargeback",
        id=row.code,
        after={
            "status": row.status,
            "kind": row.kind,
            "amount": row.amount,
            "currency": row.currency,
            "booking": row.payment.booking.code if row.payment is not None else "",
            "provider_id": row.provider_id,
        },
        now=now,
    )
    if row.payment is not None:
        touch(payment=row.payment)  # what a page shows of this money is no longer the present
    if not rules.is_open(row.status):
        _tell(row, "chargeback_closed", now)
    elif row.status in rules.APPEALABLE:
        _tell(row, "appeal_opened", now)
    elif news in {"opened", "escalated"}:
        _tell(row, "chargeback_opened", now, dedupe=f"chargeback-opened:{row.code}:{row.kind}")


def _stop_refunds(row: Chargeback, payment: Payment, actor: Actor, now: datetime) -> bool:
    """Refunds that wait or were not sent yet are taken back: the network has taken the money already, the provider would
    refuse them, and the guest would be told that their card did. What is owed by rule waits for the end instead. Returns whether
    something of this very charge is held again that stood aside."""
    waiting = Refund.objects.filter(payment=payment, status__in=["requested", "approved"], repays=None)
    ended = not rules.is_open(row.status)
    if ended:  # lost: what was taken is the money of this charge alone
        own = row.charge_id == payment.charge_id
        waiting = waiting.filter(charge=None) if own else waiting.filter(charge__charge_id=row.charge_id)
    else:
        waiting = waiting.filter(waits_for="")
    why = actor.because(f"chargeback {row.code} has taken this money")
    for refund in waiting.order_by("id"):
        if stop_refund(refund=refund, actor=why, now=now, tell=False):
            again = give_as_cancelled(refund=refund, actor=why, now=now)  # which tells the guest itself
            if again is None and (ended or not refund.by_rule):
                tell_guest(refund=refund, topic="refund_stopped", now=now)
    recoup(payment=payment, actor=why, now=now)
    return _not_another_way(row, payment, why, now)


def _not_another_way(row: Chargeback, payment: Payment, why: Actor, now: datetime) -> bool:
    """What stands aside for the guest is not paid another way while the network may give it to them, or has: what was asked
    for and not agreed to is taken back (unless for what the loss left), and what the provider never sent is held again. Returns
    whether any is held again of the very charge of this chargeback."""
    held = set()
    for refund in Refund.objects.filter(payment=payment, status="failed", unclaimed=True).order_by("id"):
        charge_id = queries.charge_of(refund=refund)
        if queries.is_disputed(payment=payment, charge_id=charge_id):
            asked = refund.repayments.filter(status="requested")
            for each in asked.exclude(requested_at__gt=row.loss_posted_at) if row.loss_posted_at else asked:
                stop_refund(refund=each, actor=why, now=now)
            if hold_again(refund=refund, actor=why, now=now):
                held.add(charge_id)
    return row.charge_id in held


# Private: money ------------------------------------------------------------------------------------------------------


def _follow_money(row: Chargeback) -> None:
    moved = queries.money_moved(provider_id=row.provider_id)
    row.withdrawn, row.reinstated, row.fee = moved.withdrawn, moved.reinstated, moved.fee
    row.settlement_currency = moved.currency


def _settle(row: Chargeback, actor: Actor, now: datetime, *, held: bool = False) -> None:
    """Post what the outcome makes of what stands on 1320, whoever brought which half of the news first.

    Lost: all that still stands is a loss, unless it stood aside for the guest; drawn anew where that came back after it, or is
    `held` again. Won, or given back after all: a loss that was posted is reversed exactly, and what a moved rate has left is
    realised. Money that has not moved yet is waited for."""
    left = _left(row)
    if row.loss_posted_at is not None and (row.status == "won" or left.amount < 0):
        _reverse_loss(row, f"given back: {row.status.replace('_', ' ')}", actor, now)
        left = _left(row)
    elif row.loss_posted_at is not None and row.status == "lost" and (held or _stands_aside_since(row, actor, now)):
        _reverse_loss(row, "what stands aside for the guest since is theirs by the network", actor, now)
        left = _left(row)
    if row.status == "lost" and left.amount > 0 and row.loss_posted_at is None:
        _post_loss(row, left, actor, now)
    elif row.status == "won" and left and row.reinstated and left.currency != row.currency:
        _post(row, f"dispute-rate:{row.provider_id}:{row.reinstated}", "fx", rules.rate_moved(
            dispute=row.provider_id, left=left), actor, now)  # fmt: skip


def _stands_aside_since(row: Chargeback, actor: Actor, now: datetime) -> bool:
    """Whether something of the charge stands aside, or is held again now, that a loss which was posted did not find."""
    if row.payment is None:
        return False
    why = actor.because(f"chargeback {row.code} has taken this money")
    return _not_another_way(row, row.payment, why, now) or queries.is_to_be_drawn_anew(chargeback=row)


def _left(row: Chargeback) -> Money:
    found = ledger_queries.standing(account="1320", key=row.provider_id)
    return found[0] if found else Money.zero(row.settlement_currency or row.currency)


def _post_loss(row: Chargeback, left: Money, actor: Actor, now: datetime) -> None:
    number = sum(1 for _ in _losses(row)) + 1  # an appeal that was won and lost again is a loss anew
    key = f"{LOSS}:{row.provider_id}:{number}"
    if row.payment is None:
        _post(row, key, LOSS, rules.lost_by_nobody_of_ours(dispute=row.provider_id, amount=left), actor, now)
    else:
        shares = rules.loss_shares(standing=queries.standing_of(chargeback=row, lost=left))
        lines = rules.lost(
            dispute=row.provider_id,
            charge=row.charge_id,
            shares=shares,
            bearer="host" if row.loss_bearer == "host" else "platform",
            keys=queries.posting_keys(booking=row.payment.booking),
        )
        _post(row, key, LOSS, lines, actor, now)
        positions = ledger_queries.standing(account="3900", key=row.charge_id)
        _post(row, f"fx:{key}", "fx", policies.fx_realised(charge=row.charge_id, positions=positions), actor, now)
    row.loss_posted_at = now
    _changed(row, "post_loss", actor, now, ["loss_posted_at"], after={"amount": left.amount, "currency": left.currency})


def _reverse_loss(row: Chargeback, reason: str, actor: Actor, now: datetime) -> None:
    *_, journal = _losses(row)
    ledger.reverse(
        journal_id=journal.pk, key=f"{journal.idempotency_key}:reversed", reason=reason, actor=actor, now=now
    )
    row.loss_posted_at = None
    _changed(row, "reverse_loss", actor, now, ["loss_posted_at"], after={"journal": journal.pk})


def _losses(row: Chargeback) -> Iterator[Journal]:
    yield from Journal.objects.filter(reference=row.provider_id, kind=LOSS).order_by("id")


def _post(row: Chargeback, key: str, kind: str, lines: policies.Lines, actor: Actor, now: datetime) -> None:
    ledger.post(
        key=key,
        kind=kind,
        lines=lines,
        subject=row.payment.booking.code if row.payment is not None else "",
        reference=row.provider_id,
        effective_at=now,
        actor=actor,
        now=now,
    )


# Private: saying -----------------------------------------------------------------------------------------------------


def _with_words(row: Chargeback, evidence: Mapping[str, str]) -> dict[str, str]:
    kept = {**row.evidence, **evidence_rules.check_words(evidence)}
    found = {field: text for field, text in kept.items() if text}
    evidence_rules.check_length(found)
    return found


def _files_in_use(row: Chargeback) -> list[EvidenceFile]:
    return list(EvidenceFile.objects.filter(chargeback=row, provider_id__in=row.evidence.values()))


def _changed(
    row: Chargeback,
    act: str,
    actor: Actor,
    now: datetime,
    fields: list[str],
    *,
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
) -> None:
    row.version += 1
    row.save(update_fields=["version", *fields])
    audit.record(
        actor=actor,
        verb=f"chargebacks.{act}",
        kind="chargeback",
        id=row.code,
        before=before,
        after=after or {"status": row.status},
        now=now,
    )


def _tell(row: Chargeback, topic: str, now: datetime, dedupe: str = "") -> None:
    booking = row.payment.booking.code if row.payment is not None else "that is none of ours"
    remedy = queries.remedy_of(chargeback=row)
    for person in _who_is_told(row):
        notifications.tell(
            topic=topic,
            recipient_id=person.pk,
            address=person.email,
            context={
                "name": person.first_name,
                "chargeback": row.code,
                "kind": row.kind.capitalize(),
                "status": row.status.replace("_", " "),
                "amount": Money(row.amount, row.currency).format(),
                "booking": booking,
                "reason": row.reason.replace("_", " ") or "none given",
                "due_by": _instant(row.due_by),
                "internal_due": _instant(row.internal_due_at),
                "link": remedy.link if remedy is not None else "",
            },
            dedupe_key=f"{dedupe}:{person.pk}" if dedupe else "",
            now=now,
        )


def _tell_of_warning(row: FraudWarning, payment: Payment, actor: Actor, now: datetime) -> None:
    audit.record(
        actor=actor,
        verb="payments.fraud_warning",
        kind="payment",
        id=payment.code,
        after={"warning": row.provider_id, "kind": row.kind},
        now=now,
    )
    for person in _finance():
        notifications.tell(
            topic="fraud_warning",
            recipient_id=person.pk,
            address=person.email,
            context={
                "name": person.first_name,
                "payment": payment.code,
                "booking": payment.booking.code,
                "amount": Money(payment.amount, payment.currency).format(),
                "reason": row.kind.replace("_", " "),
            },
            dedupe_key=f"fraud-warning:{row.provider_id}:{person.pk}",
            now=now,
        )


def _who_is_told(row: Chargeback) -> list[User]:
    told = {person.pk: person for person in _finance()}
    if row.owner is not None:
        told[row.owner.pk] = row.owner
    return [told[key] for key in sorted(told)]


def _finance() -> list[User]:
    return list(people.staff().filter(roles__role="finance", status="active").order_by("id"))


def _instant(value: datetime | None) -> str:
    return f"{value:%d %b %Y %H:%M} UTC" if value is not None else "no deadline"
