"""Charges beside the payment of a booking: instalments of long stays, and damage. Claimed here and recorded here; the
provider is called in between, elsewhere.

Whoever changes a charge holds its booking's lock first."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from django.db import transaction
from django.db.models import Max

from backoffice.audit import operations as audit
from backoffice.bookings import operations as bookings
from backoffice.bookings.models import Booking
from backoffice.core.actor import Actor
from backoffice.core.errors import Conflict, Invalid, KeyReused, NotFound, Refused, StaleVersion
from backoffice.core.money import Money
from backoffice.ledger import operations as ledger
from backoffice.ledger import queries as ledger_queries
from backoffice.notifications import operations as notifications
from backoffice.payments import policies, queries
from backoffice.payments.models import ExtraCharge, Payment
from backoffice.payments.operations.approvers import check_approver
from backoffice.payments.policies import charges as rules
from backoffice.payments.policies.seen import SeenPayment
from backoffice.payments.states import CHARGE
from backoffice.people.models import User
from backoffice.rulebook import queries as rulebook

# When a call that was never carried out is made again.
ANOTHER_CALL: Final = timedelta(minutes=10)
# A charge in one of these is with the provider: its answer decides, whatever we want meanwhile.
UNDER_WAY: Final = ("submitted", "indeterminate")


def schedule_instalments(*, payment: Payment, actor: Actor, now: datetime) -> list[ExtraCharge]:
    """The booking of a payment that the caller has locked stands: plan what is due besides it, once."""
    booking = payment.booking
    plan = queries.later_instalments(payment=payment)
    planned = []
    for part in plan:
        row, fresh = ExtraCharge.objects.get_or_create(
            booking=booking,
            kind="instalment",
            number=part.number,
            defaults={
                "status": "scheduled",
                "amount": part.amount.amount,
                "currency": part.amount.currency,
                **part.parts.as_dict(),
                "due_at": part.due_at,
                "next_try_at": part.due_at,
                "reason": f"payment {part.number} of {len(plan) + 1}",
                "created_at": now,
            },
        )
        if fresh:
            _audit(row, "schedule", actor, now, after={"amount": row.amount, "currency": row.currency})
        planned.append(row)
    return planned


# Damage ---------------------------------------------------------------------------------------------------------------


def request_damage(
    *, booking_code: str, amount: Money, reason: str, actor: Actor, now: datetime, key: str | None = None
) -> ExtraCharge:
    """Ask a guest for the cost of damage, in the home's currency; a second person decides. Nothing is posted yet.

    The same `key` with the same content returns the first charge; with other content it raises KeyReused. Raises Refused
    without a reason, Conflict when it is too late or no card was kept, Invalid for the amount."""
    actor.must("charges.request")
    if not reason.strip():
        raise Refused(missing="a reason")
    with transaction.atomic():
        booking = bookings.lock(code=booking_code)  # two claims at once: each gets its own number, one key one charge
        earlier = ExtraCharge.objects.filter(request_key=key).first() if key else None
        if earlier is not None:
            return _same_damage(earlier, booking, amount, reason, key or "")
        check_damage(booking=booking, actor=actor, now=now)
        _check_damage_amount(booking, amount, now)
        last = ExtraCharge.objects.filter(booking=booking, kind="damage").aggregate(last=Max("number"))["last"] or 0
        charge = ExtraCharge.objects.create(
            booking=booking,
            kind="damage",
            number=last + 1,
            amount=amount.amount,
            currency=amount.currency,
            due_at=now,
            reason=reason.strip(),
            requested_by_id=actor.id,
            request_key=key or None,
            created_at=now,
        )
        _audit(
            charge, "request", actor.because(reason), now, after={"amount": amount.amount, "currency": amount.currency}
        )
    return charge


def check_damage(*, booking: Booking, actor: Actor, now: datetime) -> None:
    """Raise unless the actor may ask for damage of this booking now, whatever it costs; the console's button asks it too.
    Raises NotAllowed for one's own stay, Conflict naming what is missing."""
    actor.must("charges.request")
    bookings.not_for_oneself(booking=booking, actor=actor)
    payment = queries.payment_of(booking=booking)
    if booking.status not in {"checked_in", "completed"} or payment is None or payment.status != "captured":
        raise Conflict("Damage can be asked for once a paid stay has begun.")
    if not payment.saved_method:
        raise Conflict("No card of this guest was kept; settle the damage another way.")
    settled_in = rulebook.settlement(on=now.date()).rules.currency_for(booking.currency)
    if settled_in != booking.currency:
        raise Conflict(
            f"Damage cannot be charged in {booking.currency}, which the provider turns into {settled_in}; settle it "
            "another way."
        )
    rules.check_damage_window(
        check_in_at=booking.check_in_at,
        check_out_at=booking.check_out_at,
        rules=rulebook.collection(on=now.date()).rules,
        now=now,
    )


def check_cover(*, charge: ExtraCharge, actor: Actor) -> None:
    """Raise unless the actor may decide that the house bears this damage; the console's button asks it too."""
    check_second_person(charge=charge, actor=actor)
    _only_damage(charge)
    CHARGE.after(charge.status, "cover")
    rules.check_cover(amount=_money(charge), rules=rulebook.collection(on=charge.created_at.date()).rules)
    if charge.pay_by is None:  # a card of the guest's own failed ahead of the day, or a call was never carried out
        raise Conflict("The kept card has not been tried yet; cover the damage when it could not be charged.")


def check_second_person(*, charge: ExtraCharge, actor: Actor) -> None:
    """Raise unless the actor may decide this charge: never who asked for it, never over one's own stay, and only whose role
    may and up to their limit, as for a refund."""
    actor.must("charges.approve")
    bookings.not_for_oneself(booking=charge.booking, actor=actor)
    check_approver(
        what="charge", verb="charges.approve", amount=_money(charge), maker_id=charge.requested_by_id, actor=actor
    )


def approve_damage(*, charge_code: str, version: int, actor: Actor, now: datetime) -> ExtraCharge:
    """A second person says yes: the guest owes it, is told, and has some hours to answer before the card is charged."""
    with transaction.atomic():
        charge = _lock(charge_code, version)  # two approvers at once: the second finds it approved
        check_second_person(charge=charge, actor=actor)
        hours = rulebook.collection(on=charge.created_at.date()).rules.damage_answer_hours
        charge.approved_by_id = actor.id
        charge.approved_at = now
        charge.due_at = charge.next_try_at = now + timedelta(hours=hours)
        fields = ["approved_by", "approved_at", "due_at", "next_try_at"]
        _move(charge, "approve", actor=actor, now=now, fields=fields)
        _post(charge, "damage-approved", policies.damage_approved(claim=charge.code, amount=_money(charge)), actor, now)
        _tell(charge, "damage_requested", now, reason=charge.reason, answer_by=_instant(charge.due_at))
    return charge


def reject_damage(*, charge_code: str, version: int, reason: str, actor: Actor, now: datetime) -> ExtraCharge:
    """A second person says no, and why: the guest is asked for nothing."""
    if not reason.strip():
        raise Refused(missing="a reason")
    with transaction.atomic():
        charge = _lock(charge_code, version)
        check_second_person(charge=charge, actor=actor)
        return _move(charge, "reject", actor=actor.because(reason), now=now)


def cancel_damage(*, charge_code: str, version: int, reason: str, actor: Actor, now: datetime) -> ExtraCharge:
    """What was approved is not asked for any more (the guest answered, the host agreed): the debt is reversed."""
    actor.must("charges.approve")
    if not reason.strip():
        raise Refused(missing="a reason")
    with transaction.atomic():
        charge = _lock(charge_code, version)  # the card may be being charged: then its answer decides
        bookings.not_for_oneself(booking=charge.booking, actor=actor)
        _only_damage(charge)
        if charge.status == "requested":
            raise Conflict("Nobody has approved this charge yet; reject it instead.")
        charge.next_try_at = None
        _move(charge, "cancel", actor=actor.because(reason), now=now, fields=["next_try_at"])
        posted = ledger_queries.journals().get(idempotency_key=f"damage-approved:{charge.code}")
        ledger.reverse(journal_id=posted.id, key=f"damage-cancelled:{charge.code}", reason=reason, actor=actor, now=now)
        _tell(charge, "damage_rejected", now, reason=reason.strip())
    return charge


def cover_damage(*, charge_code: str, version: int, reason: str, actor: Actor, now: datetime) -> ExtraCharge:
    """The guest did not pay: a person decides that the house bears it, up to its limit, and the host is paid.

    Raises Conflict above the limit, IllegalTransition before a try has failed."""
    actor.must("charges.approve")
    if not reason.strip():
        raise Refused(missing="a reason")
    with transaction.atomic():
        charge = _lock(charge_code, version)
        check_cover(charge=charge, actor=actor)
        charge.covered_by_id, charge.covered_at, charge.next_try_at = actor.id, now, None
        fields = ["covered_by", "covered_at", "next_try_at"]
        _move(charge, "cover", actor=actor.because(reason), now=now, fields=fields)
        _post(charge, "damage-covered", policies.damage_covered(claim=charge.code, amount=_money(charge)), actor, now)
        _release_damage(charge, actor, now)
    return charge


# Charging -------------------------------------------------------------------------------------------------------------


def claim_charge(
    *, charge_code: str, actor: Actor, now: datetime, payment_method: str = "", off_session: bool = True
) -> ExtraCharge | None:
    """Claim one try to charge: the saved card while the guest is away (None when it is not due, or somebody else has it),
    or any card with the guest present. The provider is called after the commit.

    Raises NotFound for another's charge, Conflict when there is nothing to pay or a try is under way."""
    with transaction.atomic():
        charge = _lock(charge_code, None)  # two workers with one hint, the guest and the job: one claims
        if off_session and not (
            CHARGE.allows(charge.status, "submit")
            and charge.status not in UNDER_WAY
            and charge.next_try_at is not None
            and charge.next_try_at <= now
            and queries.is_wanted(charge=charge)
            and charge.booking.payment.status == "captured"
        ):
            return None
        if not off_session:
            _check_pays(charge, actor)
        charge.tries += 1
        charge.payment_method = payment_method.strip() or charge.booking.payment.saved_method
        if not charge.payment_method or len(charge.payment_method) > 120:
            raise Invalid("payment_method: send the provider's token for a card, such as pm_….", field="payment_method")
        charge.off_session = off_session
        charge.submitted_at = now
        if off_session:
            charge.next_try_at = None
        fields = ["tries", "payment_method", "off_session", "submitted_at", "next_try_at"]
        return _move(charge, "submit", actor=actor, now=now, fields=fields)


def lose_sight_of_charge(*, charge_code: str, now: datetime) -> None:
    """The provider's answer was lost; the same key, an event or the sweep will tell."""
    with transaction.atomic():
        charge = ExtraCharge.objects.select_for_update().get(code=charge_code)
        if CHARGE.allows(charge.status, "lose_sight"):
            charge.status = CHARGE.after(charge.status, "lose_sight")
            charge.save(update_fields=["status"])


def record_charge(*, charge_code: str, seen: SeenPayment, actor: Actor, now: datetime) -> str:
    """Take over what the provider shows of a charge; repeating old news changes nothing. Returns what is news: captured,
    late (captured although it was cancelled or covered meanwhile: the caller gives it back), asked, failed, lapsed (failed
    or asked, and its stay has ended), or ""."""
    with transaction.atomic():
        charge = _lock(charge_code, None)
        if charge.provider_id is None:
            charge.provider_id = seen.id
            charge.save(update_fields=["provider_id"])
        if charge.provider_id != seen.id or seen.amount != _money(charge):
            raise Conflict(f"The provider's payment {seen.id} is not that of {charge.code}.", seen=seen.id)
        if seen.status == "captured":
            return _captured(charge, seen, actor, now)
        if seen.status == "requires_action" and not queries.is_wanted(charge=charge):
            # A page of the guest's bank, for a stay that ended meanwhile: nobody waits for it. Paid all the same, it goes back.
            return _lapsed(charge, "", actor, now) if CHARGE.allows(charge.status, "lapse") else ""
        if seen.status == "requires_action" and CHARGE.allows(charge.status, "ask_guest"):
            return _asked(charge, seen, actor, now)
        if seen.status in {"requires_payment", "cancelled"} and CHARGE.allows(charge.status, "fail"):
            return _failed(charge, seen.error_message or seen.error_code or "not paid", seen.error_code, actor, now)
    return ""


def refuse_charge(*, charge_code: str, error: str, actor: Actor, now: datetime, refused: bool = False) -> str:
    """The call itself came to nothing: the try is over. Where the provider `refused` it, the plan of a failed charge runs;
    one that was never carried out is made again in a while, and nobody is told. Returns failed, lapsed (its stay has ended
    meanwhile) or "" (the try was over already)."""
    with transaction.atomic():
        charge = _lock(charge_code, None)
        if charge.status not in UNDER_WAY:
            return ""
        if refused or not charge.off_session or not queries.is_wanted(charge=charge):
            return _failed(charge, error, "", actor, now)
        charge.last_error = error[:300]
        charge.next_try_at = now + ANOTHER_CALL
        _move(charge, "fail", actor=actor, now=now, fields=["last_error", "next_try_at"])
        return "failed"


def lock_charge(*, charge_code: str) -> ExtraCharge:
    """Lock a charge whose booking the caller has locked. Raises NotFound."""
    return _lock(charge_code, None)


def give_up_instalment(*, charge: ExtraCharge, actor: Actor, now: datetime) -> None:
    """The last date of an instalment has passed, which the caller has locked with its booking, and the stay is over: there is
    nothing left to end for it. It is not asked for any more, its page says why, and guest and host are told."""
    assert charge.pay_by is not None  # it is past
    by = _instant(charge.pay_by)
    charge.last_error = f"Not paid by {by}. The stay was over by then, and it is not asked for any more."
    charge.next_try_at, charge.next_action_url = None, ""
    fields = ["last_error", "next_try_at", "next_action_url"]
    _move(charge, "lapse", actor=actor.because("not paid in time"), now=now, fields=fields)
    for person in (charge.booking.guest, charge.booking.host):
        _tell(charge, "instalment_unpaid", now, to=person, pay_by=by)


def cancel_instalments(*, booking: Booking, actor: Actor, now: datetime) -> None:
    """A booking that the caller has locked has ended: what was still to be charged is not. A charge that is with the
    provider at this moment is given back when it comes (after a no-show it is kept)."""
    for charge in ExtraCharge.objects.select_for_update().filter(booking=booking, kind="instalment").order_by("id"):
        if charge.status in UNDER_WAY or not CHARGE.allows(charge.status, "lapse"):
            continue
        charge.next_try_at = None
        charge.next_action_url = ""
        charge.booking = booking
        _move(charge, "lapse", actor=actor, now=now, fields=["next_try_at", "next_action_url"])


# Private --------------------------------------------------------------------------------------------------------------


def _check_damage_amount(booking: Booking, amount: Money, now: datetime) -> None:
    if amount.currency != booking.currency:
        raise Invalid(f"amount: damage is asked for in the home's currency, {booking.currency}.", field="amount")
    rules.check_damage_amount(amount=amount)
    rulebook.check_chargeable(amount=amount, on=now.date(), field="amount")


def _same_damage(earlier: ExtraCharge, booking: Booking, amount: Money, reason: str, key: str) -> ExtraCharge:
    """What was asked for with this key before, if it is the same that is asked for again."""
    if (earlier.booking_id, _money(earlier), earlier.reason) != (booking.pk, amount, reason.strip()):
        raise KeyReused(key=key)
    return earlier


def _check_pays(charge: ExtraCharge, actor: Actor) -> None:
    actor.must("bookings.pay")
    if actor.kind in {"guest", "host"} and actor.id != charge.booking.guest_id:
        raise NotFound(kind="charge")
    if charge.status in UNDER_WAY:
        raise Conflict("This charge is being paid at this moment; wait for its outcome.")
    if charge.status == "requested" or not CHARGE.allows(charge.status, "submit"):
        raise Conflict(f"There is nothing to pay: this charge is {charge.status.replace('_', ' ')}.")
    if charge.kind == "instalment" and charge.booking.payment.status != "captured":
        # What a stay gives back is counted from its payment: paid out of turn, an instalment would belong to nothing.
        raise Conflict("The first payment of this stay comes first.")


def _asked(charge: ExtraCharge, seen: SeenPayment, actor: Actor, now: datetime) -> str:
    """A page that is never answered stays open for ever: what was planned before it goes on after some hours. Damage has
    nobody but that next try to close it; an instalment whose bank wants to see the guest has its last date."""
    unplanned = charge.due_at if charge.pay_by is None or charge.kind == "damage" else None
    follows = rules.after_asking(
        planned=charge.next_try_at or unplanned,
        due_at=charge.due_at,
        pay_by=charge.pay_by,
        rules=rulebook.collection(on=charge.created_at.date()).rules,
        now=now,
    )
    charge.next_action_url = seen.next_action_url
    charge.next_try_at, charge.pay_by = follows.next_try_at, follows.pay_by
    _move(charge, "ask_guest", actor=actor, now=now, fields=["next_action_url", "next_try_at", "pay_by"])
    return "asked"


def _captured(charge: ExtraCharge, seen: SeenPayment, actor: Actor, now: datetime) -> str:
    if not CHARGE.allows(charge.status, "capture"):
        return ""
    # What was under way while a stay became a no-show is its host's like all that was paid for it.
    ended = not queries.is_wanted(charge=charge) and charge.booking.status != "no_show"
    late = charge.status in {"cancelled", "covered"} or ended
    charge.charge_id = seen.charge_id
    charge.captured_at = now
    charge.next_try_at = None
    charge.last_error = charge.next_action_url = ""
    if late and charge.kind == "damage":
        charge.held = charge.amount  # nobody is owed it: the booking holds it for the guest until it has gone back
    fields = ["charge_id", "captured_at", "next_try_at", "last_error", "next_action_url", "held"]
    _move(charge, "capture", actor=actor, now=now, fields=fields)
    if charge.kind == "damage" and not late:
        _post_damage(charge, seen.charge_id, actor, now)
    else:
        _post_own(charge, seen.charge_id, actor, now)
    what = f"{charge.reason}" if charge.kind == "instalment" else f"damage, {charge.reason}"
    _tell(charge, "charge_received", now, what=what)
    return "late" if late else "captured"


def _post_own(charge: ExtraCharge, charge_id: str, actor: Actor, now: datetime) -> None:
    """It is the booking's own money, by its parts."""
    lines = policies.captured(
        charge=charge_id,
        charged=_money(charge),
        parts=queries.parts_of_charge(charge=charge),
        keys=queries.posting_keys(booking=charge.booking),
    )
    ledger.post(
        key=f"capture:{charge_id}",
        kind="capture",
        lines=lines,
        subject=charge.booking.code,
        reference=charge_id,
        effective_at=now,
        actor=actor,
        now=now,
    )
    # Where the provider's movement was imported before this news, it could not close the charge's position.
    ledger.post(
        key=f"fx:{charge_id}",
        kind="fx",
        lines=policies.fx_realised(charge=charge_id, positions=ledger_queries.standing(account="3900", key=charge_id)),
        subject=charge.booking.code,
        reference=charge_id,
        effective_at=now,
        actor=actor,
        now=now,
    )


def _post_damage(charge: ExtraCharge, charge_id: str, actor: Actor, now: datetime) -> None:
    if charge.approved_at is None:
        raise Conflict(f"{charge.code} was paid without having been approved.")
    lines = policies.damage_captured(claim=charge.code, charge=charge_id, amount=_money(charge))
    _post(charge, "damage-captured", lines, actor, now)
    _release_damage(charge, actor, now)


def _release_damage(charge: ExtraCharge, actor: Actor, now: datetime) -> None:
    """Paid or borne by the house, it becomes payable to the host."""
    lines = policies.damage_released(claim=charge.code, host=charge.booking.host.code, amount=_money(charge))
    _post(charge, "damage-released", lines, actor, now)
    charge.released_at = now
    charge.save(update_fields=["released_at"])


def _failed(charge: ExtraCharge, error: str, code: str, actor: Actor, now: datetime) -> str:
    if not queries.is_wanted(charge=charge):
        return _lapsed(charge, error, actor, now)
    if not charge.off_session and charge.pay_by is None:
        return _not_paid_ahead(charge, error, actor, now)
    follows = rules.after_failure(
        pay_by=charge.pay_by,
        must_act=code == rules.GUEST_MUST_ACT,
        rules=rulebook.collection(on=charge.created_at.date()).rules,
        now=now,
    )
    charge.last_error = error[:300]
    charge.next_action_url = ""
    charge.next_try_at, charge.pay_by = follows.next_try_at, follows.pay_by
    fields = ["last_error", "next_action_url", "next_try_at", "pay_by"]
    _move(charge, "fail", actor=actor, now=now, fields=fields)
    otherwise = "we will write to you about what follows"
    if charge.kind == "instalment":
        over = charge.booking.status == "completed"
        otherwise = "your host is not paid for these nights" if over else "your stay ends with the nights that are paid"
    _tell(
        charge,
        "charge_failed",
        now,
        reason=charge.last_error,
        pay_by=_instant(follows.pay_by),
        otherwise=otherwise,
    )
    return "failed"


def _lapsed(charge: ExtraCharge, error: str, actor: Actor, now: datetime) -> str:
    """The stay ended while its instalment was with the provider, and nothing came of that: nobody owes it any more."""
    charge.last_error = error[:300]
    charge.next_action_url = ""
    charge.next_try_at = None
    _move(charge, "lapse", actor=actor, now=now, fields=["last_error", "next_action_url", "next_try_at"])
    return "lapsed"


def _not_paid_ahead(charge: ExtraCharge, error: str, actor: Actor, now: datetime) -> str:
    """The guest tried to pay before the saved card was charged: they have seen that it failed, and nothing is late. The
    card is charged on its day as if they had not tried."""
    charge.last_error = error[:300]
    charge.next_action_url = ""
    charge.next_try_at = max(charge.due_at, now)
    _move(charge, "fail", actor=actor, now=now, fields=["last_error", "next_action_url", "next_try_at"])
    return "failed"


def _only_damage(charge: ExtraCharge) -> None:
    if charge.kind != "damage":
        raise Conflict("An instalment belongs to its stay: cancel the booking instead.")


def _lock(charge_code: str, version: int | None) -> ExtraCharge:
    """Lock the booking, then the charge, in the house's order. Raises NotFound, StaleVersion."""
    found = ExtraCharge.objects.select_related("booking").filter(code=charge_code).first()
    if found is None:
        raise NotFound(kind="charge")
    booking = bookings.lock(code=found.booking.code)
    charge = ExtraCharge.objects.select_for_update(of=("self",)).get(id=found.id)
    if version is not None and charge.version != version:
        raise StaleVersion(kind="charge")
    charge.booking = booking
    return charge


def _move(
    charge: ExtraCharge, action: str, *, actor: Actor, now: datetime, fields: list[str] | None = None
) -> ExtraCharge:
    before = charge.status
    charge.status = CHARGE.after(before, action)
    charge.version += 1
    charge.save(update_fields=["status", "version", *(fields or [])])
    _audit(charge, action, actor, now, before={"status": before}, after={"status": charge.status})
    return charge


def _audit(
    charge: ExtraCharge,
    verb: str,
    actor: Actor,
    now: datetime,
    *,
    after: dict[str, object],
    before: dict[str, object] | None = None,
) -> None:
    audit.record(
        actor=actor,
        verb=f"charges.{verb}",
        kind="charge",
        id=charge.code,
        before=before,
        after={**after, "booking": charge.booking.code, "kind": charge.kind},
        now=now,
    )


def _post(charge: ExtraCharge, what: str, lines: policies.Lines, actor: Actor, now: datetime) -> None:
    ledger.post(
        key=f"{what}:{charge.code}",
        kind=what,
        lines=lines,
        subject=charge.booking.code,
        reference=charge.code,
        effective_at=now,
        actor=actor,
        now=now,
    )


def _money(charge: ExtraCharge) -> Money:
    return Money(charge.amount, charge.currency)


def _instant(at: datetime) -> str:
    return at.strftime("%Y-%m-%d %H:%M UTC")


def _tell(charge: ExtraCharge, topic: str, now: datetime, *, to: User | None = None, **facts: str) -> None:
    person = to or charge.booking.guest
    notifications.tell(
        topic=topic,
        recipient_id=person.pk,
        address=person.email,
        context={
            **bookings.facts_to_tell(charge.booking),
            "name": person.first_name,
            "amount": _money(charge).format(),
            **facts,
        },
        now=now,
    )
