"""Releasing what is due: guest funds become the host's, less what the host owes, and a transfer is claimed in the same
transaction. The provider is called after the commit, elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import transaction

from backoffice.bookings import operations as bookings
from backoffice.bookings.models import Booking
from backoffice.core.actor import Actor
from backoffice.core.errors import Conflict, NotFound
from backoffice.core.money import Money
from backoffice.ledger import operations as ledger
from backoffice.ledger import queries as ledger_queries
from backoffice.ledger.policies import Line
from backoffice.payments import operations as payments
from backoffice.payments import policies as money
from backoffice.payments import queries as payment_queries
from backoffice.payments.models import Payment
from backoffice.payouts import queries
from backoffice.payouts.models import HostAccount, Payout
from backoffice.payouts.operations.schedule import move, next_number, note, schedule
from backoffice.payouts.policies.accounts import Waiting
from backoffice.payouts.policies.release import HELD, Share, nettable, source_of, split_weight, too_little
from backoffice.payouts.states import PAYOUT, UNRELEASED
from backoffice.rulebook import queries as rulebook
from backoffice.rulebook.policies import ExchangeRate


@dataclass(frozen=True, slots=True)
class Released:
    """A payout after a release. `claimed`: this call claimed its transfer, so the caller is the one who sends it. `waits`:
    why it stays."""

    payout: Payout
    claimed: bool
    waits: Waiting | None = None


def release(*, payout_code: str, actor: Actor, now: datetime, available: Mapping[str, Money] | None = None) -> Released:
    """Release a payout that is due, or send again one that was refused; the caller then sends what it has claimed.

    What cannot be sent stays and says why (`waits_for`, `waits_until`). Repeating it changes nothing. Part of it may be held
    back: that becomes a payout of its own. All taken for what the host owes: `netted`; nothing left for the host: `void`.
    `available` is what the provider holds so for us, by currency, asked just before for a payout that draws on no charge
    (`queries.draws_on_balance`): one that is more waits for funds. Raises NotFound, NotAllowed."""
    actor.must("payouts.release")
    waits: Waiting | None = None
    with transaction.atomic():
        # Two runs at once, a refund, a cancellation, a hold: each waits here and sees what the one before left.
        payout, payment, rows = _lock(payout_code)
        bookings.not_for_oneself(booking=payout.booking, actor=actor)
        if payout.status not in UNRELEASED and payout.status != "failed":
            return Released(payout, claimed=False)
        waits = queries.waits(payout=payout, now=now, available=available)
        if waits is None and payout.status == "failed":
            _send(payout, Money(payout.transfer_amount, payout.transfer_currency), actor, now)
        elif waits is None and payout.weight == 0:
            _release_payable(payout, actor, now)
        elif waits is None:
            waits = _release(payout, payment, rows, actor, now)
        if waits is not None:
            _wait(payout, waits, actor, now)
    return Released(payout, claimed=payout.status == "in_transfer", waits=waits)


# Private --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Payable:
    """What a release makes payable to the host, the lines that say so, and the rate where it had to convert."""

    amount: Money
    lines: tuple[Line, ...]
    rate: ExchangeRate | None


def _lock(payout_code: str) -> tuple[Payout, Payment | None, list[Payout]]:
    """Lock the booking, its payment, its payouts and its host's account, in the house's order. Raises NotFound."""
    booking_code = Payout.objects.filter(code=payout_code).values_list("booking__code", flat=True).first()
    if booking_code is None:
        raise NotFound(kind="payout")
    booking = bookings.lock(code=booking_code)
    is_begun = payment_queries.payment_of(booking=booking) is not None
    payment = payments.lock_payment(booking=booking) if is_begun else None
    rows = list(Payout.objects.select_for_update(of=("self",)).filter(booking=booking).order_by("id"))
    # Two payouts of one host at once: what the host owes is taken from one of them.
    HostAccount.objects.select_for_update().filter(host_id=booking.host_id).first()
    for row in rows:
        row.booking, row.host = booking, booking.host
    payout = next(row for row in rows if row.code == payout_code)
    return payout, payment, [row for row in rows if row.status in UNRELEASED and row.weight]


def _release(
    payout: Payout, payment: Payment | None, rows: list[Payout], actor: Actor, now: datetime
) -> Waiting | None:
    """Release the share of this payout that is not held back; says why where nothing could be."""
    share = queries.share_of(payout=payout, now=now, unreleased=rows)
    if share.waits is not None and not share.released.held:
        if share.held_back and PAYOUT.allows(payout.status, "hold"):
            move(payout, "hold", actor, now)
        return share.waits
    payable = _payable(payout.booking, payment, share.released, now)
    owed = queries.owed(host_code=payout.host.code, currency=payable.amount.currency)
    taken = nettable(payable=payable.amount, owed=owed)
    left = payable.amount - taken
    rules = rulebook.payouts(on=now.date()).rules
    small = too_little(amount=left, due_at=payout.due_at, rules=rules, now=now) if left else None
    if small is not None:
        return small
    if share.waits is not None:
        _set_aside(payout, rows, share, actor, now)
    if PAYOUT.allows(payout.status, "ripen"):
        move(payout, "ripen", actor, now)
    payout.held, payout.host_fee = share.released.held.amount, share.released.host_fee.amount
    payout.guest_fee = share.released.guest_fee.amount
    payout.netted, payout.released_at = taken.amount, now
    payout.transfer_amount, payout.transfer_currency = left.amount, left.currency
    payout.rate = payable.rate.as_dict() if payable.rate is not None else None
    payout.waits_for, payout.waits_until = "", None
    payout.save(update_fields=_RELEASED)
    _post(payout, payable, taken, actor, now)
    if left:
        _claim(payout, left, actor, now)
    else:
        move(payout, "net" if taken else "void", actor, now, netted=taken.amount)
    schedule(booking=payout.booking, now=now, actor=actor)
    return None


def _release_payable(payout: Payout, actor: Actor, now: datetime) -> None:
    """Damage money is payable already: less what the host owes it is sent, in the currency it was settled in."""
    amount = Money(payout.transfer_amount, payout.transfer_currency)
    settled = payment_queries.settled_of(charge=payout.source_charge)
    if settled is not None and settled.currency != amount.currency:
        amount = _converted(payout, amount, settled.currency, actor, now)
    if PAYOUT.allows(payout.status, "ripen"):
        move(payout, "ripen", actor, now)
    _send(payout, amount, actor, now)


def _send(payout: Payout, amount: Money, actor: Actor, now: datetime) -> None:
    """Send what is payable already, less what the host owes by now."""
    taken = nettable(payable=amount, owed=queries.owed(host_code=payout.host.code, currency=amount.currency))
    left = amount - taken
    payout.netted += taken.amount
    payout.transfer_amount, payout.transfer_currency = left.amount, left.currency
    payout.waits_for, payout.waits_until = "", None
    payout.save(update_fields=["netted", "transfer_amount", "transfer_currency", "rate", "waits_for", "waits_until"])
    _net(payout, taken, actor, now)
    if left:
        _claim(payout, left, actor, now)
    else:
        move(payout, "net", actor, now, netted=taken.amount)


def _converted(payout: Payout, amount: Money, settled: str, actor: Actor, now: datetime) -> Money:
    """What is payable, in the currency its charge was settled in, at that day's rate; the charge's position is closed."""
    rate = rulebook.rate(base=amount.currency, quote=settled, on=now.date())
    payout.rate = rate.as_dict()
    given = rate.convert(amount)
    facts: dict[str, Any] = {
        "subject": payout.booking.code,
        "reference": payout.code,
        "effective_at": now,
        "actor": actor,
        "now": now,
    }
    ledger.post(
        key=f"conversion:{payout.code}",
        kind="conversion",
        lines=money.payable_converted(host=payout.host.code, charge=payout.source_charge, amount=amount, given=given),
        **facts,
    )
    positions = ledger_queries.standing(account="3900", key=payout.source_charge)
    ledger.post(
        key=f"fx:{payout.code}:{payout.source_charge}",
        kind="fx",
        lines=money.fx_realised(charge=payout.source_charge, positions=positions),
        **facts,
    )
    return given


_RELEASED = [
    *("held", "host_fee", "guest_fee", "netted", "released_at", "transfer_amount", "transfer_currency", "rate"),
    *("waits_for", "waits_until"),
]


def _payable(booking: Booking, payment: Payment | None, parts: money.Parts, now: datetime) -> _Payable:
    """The release as lines. Where the charge was settled in another currency than the listing's, what was promised is
    converted at that day's rate, charge by charge, as far as each charge's position is open."""
    keys = payment_queries.posting_keys(booking=booking)
    settled = payment_queries.settlement_currency(payment=payment) if payment is not None else parts.currency
    if settled == parts.currency:
        return _Payable(parts.held, money.released(parts=parts, keys=keys), None)
    rate = rulebook.rate(base=parts.currency, quote=settled, on=now.date())
    lines: list[Line] = []
    for charge, slice_ in _by_charge(booking, parts):
        lines += money.released_converted(charge=charge, parts=slice_, keys=keys, rate=rate)
    amount = -sum(line.amount for line in lines if line.account == "2200")
    return _Payable(Money(amount, settled), tuple(lines), rate)


def _by_charge(booking: Booking, parts: money.Parts) -> list[tuple[str, money.Parts]]:
    """The parts over the booking's charges, the first first, by what each still has to give in the listing's currency."""
    slices: list[tuple[str, money.Parts]] = []
    left = parts
    sources = payment_queries.sources(booking=booking)
    for number, source in enumerate(sources, start=1):
        position = ledger_queries.balance(account="3900", key=source.charge, currency=parts.currency)
        wanted = min(left.total, Money(max(position, 0), parts.currency))
        slice_ = left if number == len(sources) else money.pro_rata(remaining=left, amount=wanted)
        if slice_.total:
            slices.append((source.charge, slice_))
        left = left.minus(slice_)
    return slices


def _post(payout: Payout, payable: _Payable, taken: Money, actor: Actor, now: datetime) -> None:
    code, booking = payout.code, payout.booking
    ledger.post(
        key=f"release:{code}", kind="release", lines=payable.lines, subject=booking.code, reference=code,
        effective_at=now, actor=actor, now=now,
    )  # fmt: skip
    if payable.rate is not None:
        for source in payment_queries.sources(booking=booking):
            ledger.post(
                key=f"fx:{code}:{source.charge}",
                kind="fx",
                lines=money.fx_realised(
                    charge=source.charge, positions=ledger_queries.standing(account="3900", key=source.charge)
                ),
                subject=booking.code,
                reference=code,
                effective_at=now,
                actor=actor,
                now=now,
            )
    _net(payout, taken, actor, now)


def _net(payout: Payout, taken: Money, actor: Actor, now: datetime) -> None:
    """Keep what the host owes from what is payable."""
    if not taken:
        return
    code, booking = payout.code, payout.booking
    again = f":{payout.tries}" if payout.tries else ""  # what is sent again is netted again
    ledger.post(
        key=f"netting:{code}{again}", kind="netting", lines=money.netted(host=payout.host.code, amount=taken),
        subject=booking.code, reference=code, effective_at=now, actor=actor, now=now,
    )  # fmt: skip
    # A clawback or a write-off at the same moment: the posting locked the debt's row, so this reads what is left after both.
    if queries.owed(host_code=payout.host.code, currency=taken.currency).amount < 0:
        raise Conflict("What the host owes was taken elsewhere at this moment; the payout is released at the next run.")


def _claim(payout: Payout, amount: Money, actor: Actor, now: datetime) -> None:
    """Ask for the transfer: what is payable leaves for the clearing account, under a key of this try."""
    payout.tries += 1
    payout.submitted_at, payout.failed_at, payout.failure = now, None, ""
    payout.waits_for, payout.waits_until = "", None
    if payout.weight:  # damage money comes of its own charge
        payout.source_charge = source_of(amount=amount, left=queries.charges_left(booking=payout.booking))
    move(
        payout, "send", actor, now, amount=amount.amount, currency=amount.currency, netted=payout.netted,
        fields=["tries", "submitted_at", "failed_at", "failure", "waits_for", "waits_until", "source_charge"],
    )  # fmt: skip
    ledger.post(
        key=queries.transfer_key(payout=payout),
        kind="transfer",
        lines=money.transfer_requested(host=payout.host.code, transfer=payout.code, amount=amount),
        subject=payout.booking.code,
        reference=payout.code,
        effective_at=now,
        actor=actor,
        now=now,
    )


def _set_aside(payout: Payout, rows: list[Payout], share: Share, actor: Actor, now: datetime) -> None:
    """What a hold keeps of a payout becomes a payout of its own, released when the hold ends."""
    assert share.waits is not None
    mine = share.released.held + share.kept.held
    payout.weight, rest = split_weight(weight=payout.weight, share=mine, kept=share.kept.held)
    payout.save(update_fields=["weight"])
    kept = Payout.objects.create(
        booking=payout.booking,
        host=payout.host,
        number=next_number(payout.booking),
        remainder_of=payout,
        status="held",
        weight=rest,
        held=share.kept.held.amount,
        host_fee=share.kept.host_fee.amount,
        guest_fee=share.kept.guest_fee.amount,
        currency=payout.currency,
        due_at=payout.due_at,
        policy=payout.policy,
        waits_for=HELD,  # all of it
        waits_until=share.waits.until,
        created_at=now,
    )
    note(kept, "set_aside", actor, now, after={"status": "held", "of": payout.code, "held": kept.held})


def _wait(payout: Payout, waits: Waiting, actor: Actor, now: datetime) -> None:
    """Say why it waits; only news is written, so that a run every minute leaves no trace of nothing."""
    shown = (waits.sentence[:200], waits.until)
    if now < payout.due_at or (payout.waits_for, payout.waits_until) == shown:
        return
    payout.waits_for, payout.waits_until = shown
    payout.version += 1
    payout.save(update_fields=["waits_for", "waits_until", "version"])
