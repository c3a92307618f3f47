"""Working a break: taken, noted, resolved, accepted for a while; by two people written off, or its movement posted anew."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime

from django.db import transaction

from backoffice.audit import operations as audit
from backoffice.core.actor import Actor
from backoffice.core.errors import Conflict, Invalid, NotAllowed, NotFound, Refused, StaleVersion
from backoffice.core.money import Money
from backoffice.ledger import operations as ledger
from backoffice.ledger import queries as ledger_queries
from backoffice.payments import operations as payments
from backoffice.payments.policies import Anew
from backoffice.payments.policies.postings import BANK_PAYOUT
from backoffice.payments.policies.seen import SeenBalanceTransaction
from backoffice.people import queries as people
from backoffice.reconciliation import policies, queries
from backoffice.reconciliation.models import BankMatch, Break, Match, Run
from backoffice.reconciliation.operations import statements
from backoffice.reconciliation.operations.writing import event, in_currency
from backoffice.reconciliation.states import BREAK, CAUSES, OPEN
from backoffice.rulebook import queries as rulebook


def take(*, code: str, owner_id: int, actor: Actor, now: datetime, version: int | None = None) -> Break:
    """Give a break an owner, who investigates it."""
    actor.must("breaks.work")
    owner = people.person(person_id=owner_id)
    if not owner.is_staff:
        raise Invalid("owner: must be a member of staff.", field="owner")
    with transaction.atomic():
        found = _locked(code, version)
        before = {"status": found.status, "owner": found.owner_id}
        found.owner = owner
        if BREAK.allows(found.status, "take"):
            found.status = BREAK.after(found.status, "take")
        return _keep(found, "take", before, {"status": found.status, "owner": owner.id}, actor, now)


def note(*, code: str, text: str, actor: Actor, now: datetime, version: int | None = None) -> Break:
    """Add a note to a break; earlier notes stay."""
    actor.must("breaks.work")
    if not text.strip():
        raise Invalid("text: write what you found.", field="text")
    with transaction.atomic():
        found = _locked(code, version)
        found.notes = f"{found.notes}{now:%Y-%m-%d %H:%M} {actor.name}: {text.strip()}\n"
        return _keep(found, "note", {}, {"note": "added"}, actor, now)


def resolve(
    *, code: str, cause: str, reason: str, actor: Actor, now: datetime, ticket: str = "", version: int | None = None
) -> Break:
    """Say that a break is explained and put right: its cause is one of `CAUSES`, its `ticket` where that is told at length,
    the actor's case unless said. It reopens by itself if a later run still finds it, and has no cause then until somebody says
    one again.

    Raises Refused without a reason, for an engineer at a shell also without an approval, Invalid for another cause."""
    _decides(actor, reason)
    if cause not in CAUSES:
        raise Invalid(f"cause: write one of {', '.join(CAUSES)}.", field="cause")
    ticket = ticket.strip() or actor.case
    if len(ticket) > 80:
        raise Invalid("ticket: at most 80 characters.", field="ticket")
    with transaction.atomic():
        found = _locked(code, version)
        before = {"status": found.status}
        found.status = BREAK.after(found.status, "resolve")
        found.closed_at, found.cause, found.ticket = now, cause, ticket
        after = {"status": found.status, "cause": cause, "ticket": ticket}
        return _keep(found, "resolve", before, after, actor.because(reason), now)


def accept(
    *, code: str, until: datetime, reason: str, actor: Actor, now: datetime, version: int | None = None
) -> Break:
    """Live with a break until a date: it is no finding till then, unless it changes. Raises Refused as `resolve` does,
    Invalid for a date that is past or more than a quarter away."""
    _decides(actor, reason)
    if not now < until:
        raise Invalid("until: must be a day to come.", field="until")
    if (until - now).days > 92:
        raise Invalid(
            "until: at most three months ahead; what stays longer is written off or put right.", field="until"
        )
    with transaction.atomic():
        found = _locked(code, version)
        before = {"status": found.status}
        found.status = BREAK.after(found.status, "accept")
        found.accepted_until = until
        after = {"status": found.status, "until": until.isoformat()}
        return _keep(found, "accept", before, after, actor.because(reason), now)


def decide_matches(
    *,
    code: str,
    match_ids: Collection[int],
    confirm: bool,
    reason: str,
    actor: Actor,
    now: datetime,
    version: int | None = None,
) -> list[BankMatch]:
    """A person's word on the proposed matches of a break, on all of them or on none: a yes posts each line against its
    payout; the next run closes the break.

    Raises Refused as `resolve` does, StaleVersion when the break or a proposal is no longer what was shown, IllegalTransition
    for a proposal that has been decided, Conflict for one that is not of this break, or one side of which has been found
    elsewhere meanwhile."""
    _decides(actor, reason)
    actor = actor.because(reason)
    with transaction.atomic():
        matches = statements.claimed(match_ids)
        found = _locked(code, version)
        for match in matches:
            statements.decide(match, confirm=confirm, actor=actor, now=now)
        if not matches or any(found.detail.get("key") not in _sides(match) for match in matches):
            raise Conflict("That is not what is proposed for this break; look at it again.")
        act = "confirm_match" if confirm else "reject_match"
        _keep(found, act, {}, {"matches": [match.pk for match in matches]}, actor, now)
    return matches


def say_line(
    *, code: str, line_code: str, reason: str, actor: Actor, now: datetime, version: int | None = None
) -> BankMatch:
    """A person's word that a line of the bank is the payout of this break, or its return, though the amounts differ and the
    line does not name it: a bank has kept a fee of it, say. What is left over stays a break, for two people to write off.

    Raises Refused as `resolve` does, StaleVersion, NotFound for a line that nobody knows, IllegalTransition when it is that
    payout already, Conflict for a break that is not of a payout of ours to the bank, or a line that cannot be it."""
    _decides(actor, reason)
    actor = actor.because(reason)
    with transaction.atomic():
        seen = queries.break_by_code(code=code)
        payout = check_line_can_be_said(found=seen, actor=actor)
        match = statements.say(payout=payout, line_code=line_code, actor=actor, now=now)
        found = _locked(code, version)
        _keep(found, "confirm_match", {}, {"matches": [match.pk]}, actor, now)
    return match


def check_line_can_be_said(*, found: Break, actor: Actor) -> str:
    """The provider's id of the payout that a break is about; raises unless the actor may say which line of the bank it is.
    The console's button asks it too."""
    actor.must("breaks.work")
    payout = queries.payout_of_break(found=found)
    if not payout or found.status not in OPEN:
        raise Conflict("Only of an open break about a payout of ours to the bank can a line be said.")
    if not ledger_queries.balance(account=BANK_PAYOUT, key=payout, currency=found.currency):
        raise Conflict("Nothing of this payout is on its way any more; the next run closes the break.")
    return payout


def proposed_write_off(*, found: Break, now: datetime) -> policies.WriteOff:
    """What writing a break off would post, by what stands on its account now. Raises Refused where nothing may be."""
    under = {"account": str(found.detail.get("account", "")), "key": str(found.detail.get("key", ""))}
    standing = ledger_queries.balance(**under, currency=found.currency)
    amount = Money(standing, found.currency)
    rules = rulebook.reconciliation(on=now.date()).rules
    cap = rules.rounding_per_item.currency
    rounded = [in_currency(money=money, currency=cap, now=now) for money in queries.rounded(run=found.last_seen_id)]
    return policies.write_off(
        leg=found.leg,
        detail={**found.detail, "standing": standing},
        currency=found.currency,
        subject=found.subject,
        run=found.last_seen_id,
        capped=in_currency(money=amount, currency=cap, now=now),
        rounded=Money.sum((money for money in rounded if money is not None), cap),
        given_up=queries.given_up(**under, currency=found.currency),
        rules=rules,
    )


def propose_write_off(*, code: str, reason: str, actor: Actor, now: datetime, version: int | None = None) -> Break:
    """Propose to give up what stands under a break; a second finance person decides.

    Raises Refused without a reason and for what is not ours to give up, NotAllowed for somebody whom the desk does not
    know: who proposed it could not be told from who agrees."""
    _proposes(actor, reason, what="propose a write-off")
    with transaction.atomic():
        found = _locked(code, version)
        status = BREAK.after(found.status, "propose")
        proposal = proposed_write_off(found=found, now=now)
        kept = {"kind": policies.WRITE_OFF, **proposal.as_dict(), "reason": reason.strip()}
        after = {"status": status, "amount": proposal.amount.amount, "contra": proposal.contra}
        return _proposed(found, "propose", kept, after, actor.because(reason), now)


def decide_write_off(*, code: str, approve: bool, reason: str, version: int, actor: Actor, now: datetime) -> Break:
    """The second person's word on a proposed write-off. A yes posts it: rounding to 5900, a loss to 5220.

    Raises NotAllowed for the person who proposed it, Refused without a reason, StaleVersion when the break has changed,
    Refused when something else stands there now than was proposed."""
    _decides_in_person(actor, reason, what="decide a write-off")
    with transaction.atomic():
        _hold_still(code)
        found = _locked(code, version)
        _must_be(found, policies.WRITE_OFF)
        before = {"status": found.status}
        if not approve:
            return _rejected(found, "reject", actor.because(reason), now)
        approved = _agreed(found, actor, what="approve a write-off")
        # Two roundings of one run at once: the second sees what the first took of the run's cap.
        Run.objects.select_for_update(no_key=True).get(pk=found.last_seen_id)
        proposal = policies.WriteOff.from_dict(found.proposal or {})
        present = proposed_write_off(found=found, now=now)
        if (present.amount, present.contra) != (proposal.amount, proposal.contra):
            raise _no_longer(proposal)
        posted = ledger.post(
            key=f"break:{found.code}:{found.version}",
            kind="write_off",
            lines=proposal.lines(),
            subject=found.subject,
            reference=found.fact,
            memo=str((found.proposal or {}).get("reason", "")),
            effective_at=now,
            actor=actor,
            now=now,
        )
        # What would have healed it may have been posted since we looked. Our lines hold the account now: whoever comes after
        # us waits, and what came before us is seen.
        if _standing(proposal):
            raise _no_longer(proposal)
        found.status = BREAK.after(approved, "write_off")
        found.decided_by_id, found.decided_at, found.closed_at = actor.id, now, now
        found.journal_id = posted.journal_id if posted is not None else None
        after = {"status": found.status, "amount": proposal.amount.amount, "journal": found.journal_id}
        return _keep(found, "write_off", before, after, actor.because(reason), now)


def proposed_anew(*, found: Break, shown: SeenBalanceTransaction | None) -> Anew:
    """What posting the movement of a break anew would reverse and post; `shown` is the movement as the provider has it now.

    Raises Refused for a break of which nothing can be posted anew, Conflict when both sides say the same by now."""
    return payments.plan_anew(row=_movement(found, shown))


def propose_anew(
    *,
    code: str,
    shown: SeenBalanceTransaction | None,
    reason: str,
    actor: Actor,
    now: datetime,
    version: int | None = None,
) -> Break:
    """Propose to reverse what our books say of a break's movement and to post what the provider shows of it (`shown`); a second
    finance person decides.

    Raises Refused without a reason and as `proposed_anew` does, NotAllowed for somebody whom the desk does not know."""
    _proposes(actor, reason, what="propose to post anew")
    with transaction.atomic():
        found = _locked(code, version)
        status = BREAK.after(found.status, "propose")
        told = proposed_anew(found=found, shown=shown).as_dict()
        kept = {"kind": policies.POST_ANEW, **told, "reason": reason.strip()}
        after = {"status": status, "movement": told["movement"], "journals": told["journals"]}
        return _proposed(found, "propose_anew", kept, after, actor.because(reason), now)


def decide_anew(
    *,
    code: str,
    approve: bool,
    shown: SeenBalanceTransaction | None,
    reason: str,
    version: int,
    actor: Actor,
    now: datetime,
) -> Break:
    """The second person's word on posting a movement anew. A yes reverses and posts in one transaction; the next run closes
    the break. `shown` is the movement as the provider has it now.

    Raises NotAllowed for the person who proposed it, Refused without a reason, StaleVersion when the break has changed,
    Refused when the provider or the books say something else now than was proposed, Conflict when nothing differs."""
    _decides_in_person(actor, reason, what="decide on posting anew")
    with transaction.atomic():
        found = _locked(code, version)
        _must_be(found, policies.POST_ANEW)
        before = {"status": found.status}
        if not approve:
            return _rejected(found, "reject_anew", actor.because(reason), now)
        approved = _agreed(found, actor, what="approve a posting")
        told = dict(found.proposal or {})
        why = str(told.pop("reason", ""))
        told.pop("kind", None)
        posted = payments.post_anew(row=_movement(found, shown), proposed=told, reason=why, actor=actor, now=now)
        # That it was found equal is of another journal; the next run looks at it anew.
        Match.objects.filter(movement_id=posted.pk).delete()
        found.status, found.proposal = BREAK.after(approved, "post_anew"), None
        found.decided_by_id, found.decided_at = actor.id, now
        after = {"status": found.status, "journal": posted.journal_id, "reversed": told["journals"]}
        return _keep(found, "post_anew", before, after, actor.because(reason), now)


# Private --------------------------------------------------------------------------------------------------------------


def _decides(actor: Actor, reason: str) -> None:
    """Who closes a break or says what a line is decides about money: with a reason, and an engineer at a shell, whose word
    alone decides nothing, with a second person's approval."""
    actor.must("breaks.work")
    _must_say_why(reason, actor)
    if actor.kind == "cli" and not actor.approval:
        raise Refused(missing="a second person's approval (--approval)")


def _proposes(actor: Actor, reason: str, *, what: str) -> None:
    actor.must("breaks.work")
    _must_say_why(reason, actor)
    if actor.id is None:
        raise NotAllowed(verb=f"{what} without being a person")


def _decides_in_person(actor: Actor, reason: str, *, what: str) -> None:
    actor.must("breaks.write_off")
    _must_say_why(reason, actor)
    if actor.id is None:
        raise NotAllowed(verb=f"{what} without being a person")


def _movement(found: Break, shown: SeenBalanceTransaction | None) -> SeenBalanceTransaction:
    """What of a break can be posted anew."""
    if not policies.may_be_posted_anew(leg=found.leg, cls=found.cls, flags=found.flags):
        raise Refused(
            "Only a movement of the provider that our books tell wrongly can be posted anew.",
            missing="a movement to post anew",
        )
    if shown is None:
        raise Refused(
            f"The provider does not show {found.key}; there is nothing to post. Ask the provider where it is.",
            missing="a movement to post anew",
        )
    return shown


def _must_be(found: Break, kind: str) -> None:
    """Each decision is of its own kind of proposal."""
    proposed = policies.kind_of(found.proposal)
    if found.status == "proposed" and proposed != kind:
        door = "ops breaks post-anew" if proposed == policies.POST_ANEW else "ops breaks write-off"
        raise Conflict(f"Something else is proposed for this break; decide that: {door} {found.code}")


def _proposed(
    found: Break, act: str, proposal: dict[str, object], after: Mapping[str, object], actor: Actor, now: datetime
) -> Break:
    before = {"status": found.status}
    found.status, found.proposal = BREAK.after(found.status, "propose"), proposal
    found.proposed_by_id, found.proposed_by_name, found.proposed_at = actor.id, actor.name, now
    found.decided_by = found.decided_at = None
    return _keep(found, act, before, after, actor, now)


def _rejected(found: Break, act: str, actor: Actor, now: datetime) -> Break:
    before = {"status": found.status}
    found.status, found.proposal = BREAK.after(found.status, "reject"), None
    return _keep(found, act, before, {"status": found.status}, actor, now)


def _agreed(found: Break, actor: Actor, *, what: str) -> str:
    """The status after a second person's yes; raises NotAllowed for the first."""
    approved = BREAK.after(found.status, "approve")
    if found.proposed_by_id == actor.id:
        raise NotAllowed(verb=f"{what} that you proposed yourself")
    return approved


def _hold_still(code: str) -> None:
    # Somebody may be saying which payout it is that is given up here: one after the other, so that it is not both.
    proposal = Break.objects.filter(code=code).values_list("proposal", flat=True).first()
    if proposal and policies.kind_of(proposal) == policies.WRITE_OFF:
        statements.hold_still(account=proposal["account"], key=proposal["key"])


def _standing(proposal: policies.WriteOff) -> int:
    return ledger_queries.balance(account=proposal.account, key=proposal.key, currency=proposal.amount.currency)


def _no_longer(proposal: policies.WriteOff) -> Refused:
    return Refused(
        f"{proposal.amount} to {proposal.contra} was proposed and that is no longer what stands there or where it may "
        "go; reject it and look again.",
        missing="a proposal for what stands there now",
    )


def _sides(match: BankMatch) -> tuple[str, str]:
    """The keys under which both sides of a match stand: of the line in suspense, of the payout on its way."""
    return f"bank:{match.line.code}", match.bank_payout.provider_id or ""


def _must_say_why(reason: str, actor: Actor) -> None:
    if not reason.strip():
        raise Refused(missing="a reason (--reason)" if actor.kind == "cli" else "a reason")


def _locked(code: str, version: int | None) -> Break:
    # Two colleagues on one break, or one beside a run that sees it again: one after the other.
    found = Break.objects.select_for_update().filter(code=code).first()
    if found is None:
        raise NotFound(kind="break")
    if version is not None and found.version != version:
        raise StaleVersion(kind="break")
    return found


def _keep(
    found: Break, act: str, before: Mapping[str, object], after: Mapping[str, object], actor: Actor, now: datetime
) -> Break:
    found.version += 1
    found.save()
    event(found, act, now, who=actor.name, why=actor.reason).save()
    audit.record(actor=actor, verb=f"breaks.{act}", kind="break", id=found.code, before=before, after=after, now=now)
    return found
