"""What a captured amount is made of, and how much of it can still go back.

Five parts, in the listing's currency: the host's share held, the host fee, the guest fee, value-added tax on it, and
occupancy tax. A refund is made of the same parts; what remains is what was captured less every refund that counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import date
from fractions import Fraction

from backoffice.bookings.policies import CancellationDecision, PriceBreakdown
from backoffice.core.errors import Invalid, RefundTooLarge
from backoffice.core.money import Money
from backoffice.payments.states import REFUND_COUNTS
from backoffice.rulebook.policies import ExchangeRate


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """Amounts of one currency, none below zero."""

    held: Money
    host_fee: Money
    guest_fee: Money
    vat: Money
    occupancy_tax: Money

    def __post_init__(self) -> None:
        if any(amount.amount < 0 for amount in self.amounts):
            raise ValueError(f"a part is below zero: {self}")
        Money.sum(self.amounts, self.currency)

    @classmethod
    def of(cls, *, currency: str, amounts: Mapping[str, int]) -> Parts:
        """From minor units by name, as payments and refunds keep them; a name that is absent is zero."""
        return cls(**{name: Money(amounts.get(name, 0), currency) for name in PART_NAMES})

    @classmethod
    def none(cls, currency: str) -> Parts:
        return cls.of(currency=currency, amounts={})

    @classmethod
    def from_amounts(cls, amounts: Sequence[Money]) -> Parts:
        """From five amounts in the order of the names."""
        return cls(**dict(zip(PART_NAMES, amounts, strict=True)))

    @property
    def amounts(self) -> tuple[Money, ...]:
        return (self.held, self.host_fee, self.guest_fee, self.vat, self.occupancy_tax)

    @property
    def currency(self) -> str:
        return self.held.currency

    @property
    def total(self) -> Money:
        return Money.sum(self.amounts, self.currency)

    def as_dict(self) -> dict[str, int]:
        """Minor units by name, as payments and refunds keep them."""
        return {name: amount.amount for name, amount in zip(PART_NAMES, self.amounts, strict=True)}

    def __add__(self, other: Parts) -> Parts:
        return Parts.from_amounts([mine + theirs for mine, theirs in zip(self.amounts, other.amounts, strict=True)])

    def within(self, other: Parts) -> Parts:
        """The lesser of each part: what can be taken of this from that."""
        return Parts.from_amounts([min(mine, theirs) for mine, theirs in zip(self.amounts, other.amounts, strict=True)])

    def minus(self, other: Parts) -> Parts:
        """What is left of each part, never below zero (over-refunding is a break, found by reconciliation)."""
        return Parts.from_amounts(
            [
                max(mine - theirs, Money.zero(self.currency))
                for mine, theirs in zip(self.amounts, other.amounts, strict=True)
            ]
        )


PART_NAMES = tuple(field.name for field in fields(Parts))


@dataclass(frozen=True, slots=True, kw_only=True)
class PostingKeys:
    """Under which keys a booking's money stands: its code, its host, and the tax periods it falls into."""

    booking: str
    host: str
    vat: str
    occupancy_tax: str


def posting_keys(*, booking: str, host: str, country: str, jurisdiction: str, check_in: date) -> PostingKeys:
    """The keys of a booking. Taxes belong to the month of check-in: "BE:2026-07", "BE-ANTWERP:2026-07"."""
    month = f"{check_in:%Y-%m}"
    return PostingKeys(
        booking=booking, host=host, vat=f"{country}:{month}", occupancy_tax=f"{jurisdiction or country}:{month}"
    )


def captured_parts(*, price: PriceBreakdown) -> Parts:
    """What the price of a booking is made of; the parts add up to its total."""
    return Parts(
        held=price.host_net,
        host_fee=price.host_fee,
        guest_fee=price.guest_fee,
        vat=price.vat,
        occupancy_tax=price.occupancy_tax,
    )


def pro_rata(*, remaining: Parts, amount: Money) -> Parts:
    """An amount taken from the remaining parts in proportion, by largest remainder; no part gives more than it has.

    Raises RefundTooLarge when there is not that much."""
    if amount > remaining.total:
        raise RefundTooLarge(maximum=str(remaining.total), amount=str(amount))
    return Parts.from_amounts(amount.allocate([part.amount for part in remaining.amounts]))


def parts_of_cancellation(*, remaining: Parts, decision: CancellationDecision) -> Parts:
    """What a cancellation gives back, part by part. What comes back of the host price is borne by the host's share and
    the host fee in proportion; no part gives more than remains after earlier refunds."""
    host_price = min(decision.host_price_refund, remaining.held + remaining.host_fee)
    held, host_fee = host_price.allocate([remaining.held.amount, remaining.host_fee.amount])
    return Parts(
        held=held,
        host_fee=host_fee,
        guest_fee=min(decision.sum_of("guest_fee"), remaining.guest_fee),
        vat=min(decision.sum_of("vat"), remaining.vat),
        occupancy_tax=min(decision.sum_of("occupancy_tax"), remaining.occupancy_tax),
    )


def instalments(*, parts: Parts, weights: Sequence[int]) -> tuple[Parts, ...]:
    """Split the parts for a release in several steps (long stays: weigh by the price of each step's nights). Every part
    adds up over the steps to the cent."""
    shares = [part.allocate(weights) for part in parts.amounts]
    return tuple(Parts.from_amounts(step) for step in zip(*shares, strict=True))


@dataclass(frozen=True, slots=True, kw_only=True)
class RefundOrigin:
    """Where a refund is taken from: `held` is still with us (listing's currency); `released` has become the host's and ours
    and, with our own `share`, is in the currency it was released in. `of_released` is what these two are of the refund's
    amount, in the currency of the charge."""

    held: Parts
    released: Parts
    share: Money
    of_released: Money


def refund_origin(
    *, amount: Money, parts: Parts, held: Parts, share: Money, settled: str, rate: ExchangeRate | None
) -> RefundOrigin:
    """First from what is still held, part by part; the rest from what was released.

    `share` is what we bear ourselves (listing's currency). Where the charge was `settled` in another currency than the
    listing's, `rate` is what the release converted at: the host gives back what they got. A charge of the settlement currency
    itself gives the very amount."""
    from_held = Parts.from_amounts([min(want, there) for want, there in zip(parts.amounts, held.amounts, strict=True)])
    rest = parts.minus(from_held)
    ours = [*rest.amounts, share]
    own = Money.sum(ours, parts.currency)
    if settled == parts.currency or not own:
        # Of one currency nothing stands between; taxes are owed to the same office either way.
        nothing = Money.zero(amount.currency)
        return RefundOrigin(held=from_held, released=rest, share=share, of_released=nothing)
    _, of_released = amount.allocate([from_held.total.amount, own.amount])
    if amount.currency == settled or rate is None:
        amounts = of_released.allocate([one.amount for one in ours])
    else:
        amounts = list(rate.convert_lines(ours))
    return RefundOrigin(
        held=from_held, released=Parts.from_amounts(amounts[:-1]), share=amounts[-1], of_released=of_released
    )


# How much can still go back ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class RefundTaken:
    """A refund that exists. `charged` is its amount in the currency of the charge.

    `unclaimed` says that it did not reach the guest (their bank sent it back, or the provider refused what is theirs by
    rule): the money stands aside for them (2410) and must not be refunded a second time from the booking's parts. `ours`
    says that we bore it, on top of the parts."""

    status: str
    parts: Parts
    charged: Money
    unclaimed: bool = False
    ours: bool = False

    @property
    def counts(self) -> bool:
        return self.unclaimed or self.status in REFUND_COUNTS


@dataclass(frozen=True, slots=True, kw_only=True)
class RefundLimits:
    """The most that can still go back: per part in the listing's currency, and in the currency of the charge.

    `of_parts` is what the parts that are left were charged as; it is more than `charged` once we bore a refund ourselves,
    since that took from the charge and from no part."""

    parts: Parts
    charged: Money
    of_parts: Money

    @property
    def total(self) -> Money:
        return self.parts.total

    def check(self, *, amount: Money) -> None:
        """Raises RefundTooLarge unless `amount` (listing's currency) is within the limit, Invalid unless above zero."""
        if amount.amount <= 0:
            raise Invalid("amount: a refund is above zero; write what the guest gets back", field="amount")
        if amount > self.total:
            raise RefundTooLarge(maximum=str(self.total), amount=str(amount))

    def in_charge(self, *, amount: Money) -> Money:
        """A refund of `amount` (listing's currency) in the currency of the charge, at the rate of the charge itself:
        refunding all that remains gives back all that remains, to the cent."""
        if not self.total:
            return Money.zero(self.charged.currency)
        return self.of_parts.share(Fraction(amount.amount, self.total.amount))

    def from_charge(self, *, amount: Money) -> Money:
        """What an amount in the currency of the charge takes from the parts that are left, in the listing's currency."""
        if not self.of_parts:
            return Money.zero(self.total.currency)
        return min(self.total.share(Fraction(amount.amount, self.of_parts.amount)), self.total)


def still_owed(*, amount: Money, parts: Parts, given: Money, left: RefundLimits) -> tuple[Money, Parts]:
    """What is still owed of a refund of this `amount` (currency of the charge) that did not go out, where `given` of it went
    back otherwise since: never more than is `left` of the charge, and made of its own `parts` as long as these are there."""
    rest = min(max(amount - given, Money.zero(amount.currency)), left.charged)
    if rest == amount and parts.within(left.parts) == parts:
        return amount, parts
    return rest, pro_rata(remaining=left.parts, amount=left.from_charge(amount=rest))


def refund_limits(
    *, captured: Parts, charged: Money, refunds: Iterable[RefundTaken], disputed: bool = False
) -> RefundLimits:
    """Captured less every refund that succeeded, is under way or indeterminate. Nothing while a chargeback is open: the
    card network already holds that money."""
    zero = Money.zero(charged.currency)
    if disputed:
        return RefundLimits(parts=Parts.none(captured.currency), charged=zero, of_parts=zero)
    remaining, left, of_parts = captured, charged, charged
    for refund in refunds:
        if refund.counts:
            remaining, left = remaining.minus(refund.parts), left - refund.charged
            of_parts = of_parts if refund.ours else of_parts - refund.charged
    return RefundLimits(parts=remaining, charged=max(left, zero), of_parts=max(of_parts, zero))
