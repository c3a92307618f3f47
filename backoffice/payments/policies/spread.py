"""A refund over several charges: a stay that was paid in instalments gives back through each charge what that one took.

The charges come in the order in which they give, the last one that was paid first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from backoffice.core.errors import RefundTooLarge
from backoffice.core.money import Money
from backoffice.payments.policies.lines import LINE_NAMES
from backoffice.payments.policies.parts import Parts, RefundLimits, pro_rata


@dataclass(frozen=True, slots=True, kw_only=True)
class Portion:
    """What one charge gives back: `amount` in its currency, made of `parts` in the listing's."""

    amount: Money
    parts: Parts


def most_of(limits: Sequence[RefundLimits]) -> RefundLimits:
    """The most that several charges of one currency can still give back together; there is at least one."""
    first, *others = limits
    parts, charged, of_parts = first.parts, first.charged, first.of_parts
    for other in others:
        parts, charged, of_parts = parts + other.parts, charged + other.charged, of_parts + other.of_parts
    return RefundLimits(parts=parts, charged=charged, of_parts=of_parts)


def spread_parts(*, limits: Sequence[RefundLimits], parts: Parts) -> tuple[Portion, ...]:
    """What each charge gives of `parts`: of each part as much as it has left of it, then the next. Where an earlier refund
    that we bore left less of a charge than of its parts, that much less comes back."""
    found, left = [], parts
    for limit in limits:
        taken = left.within(limit.parts)
        left = left.minus(taken)
        found.append(_portion(limit, taken))
    return tuple(found)


def spread_amount(*, limits: Sequence[RefundLimits], amount: Money, borne_by_us: bool) -> tuple[Portion, ...]:
    """What each charge gives of an amount in their currency: pro rata from what is left of its parts, or of none of them
    where we bear it. Raises RefundTooLarge when there is not that much."""
    found, left = [], amount
    for limit in limits:
        taken = min(left, limit.charged)
        left -= taken
        parts = Parts.none(limit.parts.currency)
        if taken and not borne_by_us:
            parts = pro_rata(remaining=limit.parts, amount=limit.from_charge(amount=taken))
        found.append(Portion(amount=taken, parts=parts))
    if left:
        raise RefundTooLarge(maximum=str(amount - left), amount=str(amount))
    return tuple(found)


def spread_lines(*, lines: Mapping[str, Money], portions: Sequence[Portion]) -> tuple[dict[str, Money], ...]:
    """The lines of a refund as each charge gives them back: nights before cleaning, fee and taxes by their part; in
    proportion to the amounts where we bear it."""
    if not any(portion.parts.total for portion in portions):
        weights = [portion.amount.amount for portion in portions]
        shares = {name: amount.allocate(weights) for name, amount in lines.items()}
        return tuple(_named({name: share[index] for name, share in shares.items()}) for index in range(len(portions)))
    found, left = [], dict(lines)
    for portion in portions:
        of_host = portion.parts.held + portion.parts.host_fee
        given: dict[str, Money] = {}
        for name in (name for name in LINE_NAMES if name in left):
            have = of_host if name in ("nights", "cleaning") else getattr(portion.parts, name)
            given[name] = min(left[name], have)
            left[name] -= given[name]
            if name in ("nights", "cleaning"):
                of_host -= given[name]
        found.append(_named(given))
    return tuple(found)


def _portion(limits: RefundLimits, parts: Parts) -> Portion:
    amount = limits.in_charge(amount=parts.total)
    if amount > limits.charged:
        amount = limits.charged
        parts = pro_rata(remaining=parts, amount=min(limits.from_charge(amount=amount), parts.total))
    return Portion(amount=amount, parts=parts)


def _named(lines: Mapping[str, Money]) -> dict[str, Money]:
    return {name: amount for name, amount in lines.items() if amount}
