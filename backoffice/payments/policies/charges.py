"""When and how a stay is paid: at once, after the host's yes, later from a saved card, in instalments; what becomes of a
charge that failed; what may be asked for damage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from backoffice.bookings.policies import PriceBreakdown
from backoffice.core.errors import Conflict, Invalid
from backoffice.core.money import Money
from backoffice.payments.policies.parts import Parts, captured_parts, instalments
from backoffice.payments.policies.postings import release_due_at
from backoffice.rulebook.policies import CollectionRules, TimingRules

# How long a page of their bank is left to the guest who was sent there, before the saved card is tried instead of it.
PAGE_STAYS_OPEN: Final = timedelta(hours=6)
# What a bank answers that wants to see the guest before it pays from a saved card.
GUEST_MUST_ACT: Final = "authentication_required"
# Whoever tries a card that is not theirs is not to learn what its bank knows (https://docs.stripe.com/declines/codes).
_NOT_TOLD: Final = frozenset({"fraudulent", "lost_card", "merchant_blacklist", "stolen_card"})


def told_to_guest(*, decline_code: str) -> str:
    """Why a card was declined, as its guest is told: the provider's word, or no more than that it was."""
    return "declined" if not decline_code or decline_code in _NOT_TOLD else decline_code


@dataclass(frozen=True, slots=True, kw_only=True)
class Instalment:
    """One payment of a stay. `amount` is in the currency that is charged, the parts are in the listing's."""

    number: int
    amount: Money
    parts: Parts
    due_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectionPlan:
    """How a stay is paid. The first instalment is the payment of the booking; `charge_at` says that it is charged to a
    saved card then, `ask_host` that nothing is charged before the host says yes (and what is not charged later is reserved
    meanwhile)."""

    ask_host: bool
    charge_at: datetime | None
    first: Instalment
    later: tuple[Instalment, ...]


def collection_plan(
    *,
    price: PriceBreakdown,
    check_in_at: datetime,
    instant_book: bool,
    rules: CollectionRules,
    timings: TimingRules,
    now: datetime,
) -> CollectionPlan:
    """How a stay that is paid for now is collected.

    Funds may be held `hold_days` from the charge to the release (a day after check-in): what is further ahead is charged
    that many days before the release. A later instalment is charged `pay_by_days` before its nights begin, so that a
    failed one is settled, or the rest of the stay given up, before they do."""
    due = _instalments(price, check_in_at, rules, now)
    latest = release_due_at(check_in_at=check_in_at, timings=timings) - timedelta(days=rules.hold_days)
    far = latest > now
    return CollectionPlan(
        ask_host=not instant_book,
        charge_at=latest if far else None,
        first=due[0],
        later=due[1:],
    )


def _instalments(
    price: PriceBreakdown, check_in_at: datetime, rules: CollectionRules, now: datetime
) -> tuple[Instalment, ...]:
    parts = captured_parts(price=price)
    nights = price.nights
    if rules.instalments_from is None or len(nights) < rules.instalments_from:
        return (Instalment(number=1, amount=price.charge_total, parts=parts, due_at=now),)
    size = rules.instalment_nights
    weights = [
        sum((night.price - night.discount + night.extra_guests).amount for night in nights[first : first + size])
        for first in range(0, len(nights), size)
    ]
    shares = instalments(parts=parts, weights=weights) if any(weights) else (parts,)
    charged = _charged(price.charge_total, [share.total for share in shares])
    ahead = timedelta(days=rules.pay_by_days)
    return tuple(
        Instalment(
            number=index + 1,
            amount=amount,
            parts=share,
            due_at=check_in_at + timedelta(days=size * index) - ahead if index else now,
        )
        for index, (share, amount) in enumerate(zip(shares, charged, strict=True))
    )


def _charged(total: Money, shares: Sequence[Money]) -> list[Money]:
    """The instalments in the currency that is charged: their own amounts, or the whole divided like them."""
    if total.currency == shares[0].currency:
        return list(shares)
    return total.allocate([share.amount for share in shares])


# A charge that failed -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class AfterFailure:
    """What follows a failed charge of a saved card: the next try by itself (None: the guest must act), and the last
    date."""

    next_try_at: datetime | None
    pay_by: datetime


def after_failure(*, pay_by: datetime | None, must_act: bool, rules: CollectionRules, now: datetime) -> AfterFailure:
    """When a charge that has just failed is tried again, and until when it can be paid. The plan runs from the first
    failure, which set `pay_by`; a bank that wants to ask the guest (`must_act`) would refuse every further try, so there
    is none."""
    plan = timedelta(days=rules.pay_by_days)
    last = pay_by or now + plan
    tries = (last - plan + timedelta(days=days) for days in rules.retry_days)
    following = next((at for at in tries if now < at < last), None)
    return AfterFailure(next_try_at=None if must_act else following, pay_by=last)


@dataclass(frozen=True, slots=True, kw_only=True)
class AfterAsking:
    """What follows when a guest was sent to a page of their bank: the next try of the saved card (None: the guest must
    act), and the last date, once there is one."""

    next_try_at: datetime | None
    pay_by: datetime | None


def after_asking(
    *, planned: datetime | None, due_at: datetime, pay_by: datetime | None, rules: CollectionRules, now: datetime
) -> AfterAsking:
    """When a saved card is tried again whose guest has just been sent to a page of their bank: as `planned`, but not while
    they may still be at it. From the day it is due the first page sets the last date, as a failed charge does: pages opened
    again and again put off what is due until then and no longer."""
    last = now + timedelta(days=rules.pay_by_days) if pay_by is None and due_at <= now else pay_by
    if planned is None:
        return AfterAsking(next_try_at=None, pay_by=last)
    following = max(planned, now + PAGE_STAYS_OPEN)
    return AfterAsking(next_try_at=following if last is None else min(following, last), pay_by=last)


# Requests and damage --------------------------------------------------------------------------------------------------


def answer_by(
    *, check_in_at: datetime, capture_before: datetime | None, rules: CollectionRules, now: datetime
) -> datetime:
    """Until when a host may answer a request: some hours, never past check-in, and early enough that what was reserved can
    still be taken."""
    limits = [now + timedelta(hours=rules.host_answer_hours), check_in_at]
    if capture_before is not None:
        limits.append(capture_before - timedelta(hours=rules.capture_margin_hours))
    return min(limits)


def check_damage_window(
    *, check_in_at: datetime, check_out_at: datetime, rules: CollectionRules, now: datetime
) -> None:
    """Raise Conflict unless damage may be asked for now: from check-in to some days after check-out."""
    until = check_out_at + timedelta(days=rules.damage_request_days)
    if not check_in_at <= now <= until:
        raise Conflict(
            f"Damage is asked for between check-in and {rules.damage_request_days} days after check-out "
            f"({check_in_at:%Y-%m-%d} to {until:%Y-%m-%d})."
        )


def check_damage_amount(*, amount: Money) -> None:
    """Raise Invalid unless it is an amount that can be asked for."""
    if amount.amount <= 0:
        raise Invalid("amount: write what the damage costs, above zero.", field="amount")


def check_cover(*, amount: Money, rules: CollectionRules) -> None:
    """Raise Conflict when the house does not bear that much of one damage."""
    most = rules.cover_limit(amount.currency)
    if amount > most:
        raise Conflict(
            f"At most {most} of one damage is covered; this one is {amount}. Try the guest's card again, or cancel it."
        )
