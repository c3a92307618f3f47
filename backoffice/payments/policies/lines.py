"""A refund by line: which of the price's lines give something back, and what that is in the parts of the captured money.

The lines are the nights (after discounts, extra guests included), the cleaning, the guest fee and the two taxes, in the
listing's currency. What comes back of nights and cleaning is borne by the host's share and the host fee in proportion, as
in a cancellation. Taxes that are not named come back pro rata to the refunded lines they were computed from.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fractions import Fraction
from typing import Final

from backoffice.bookings.policies import PriceBreakdown
from backoffice.core.errors import Invalid, RefundTooLarge
from backoffice.core.money import Money
from backoffice.payments.policies.parts import Parts

LINE_NAMES: Final = ("nights", "cleaning", "guest_fee", "vat", "occupancy_tax")
_TAXES: Final = ("vat", "occupancy_tax")


def line_limits(*, price: PriceBreakdown, remaining: Parts, earlier: Iterable[Mapping[str, int]]) -> dict[str, Money]:
    """The most that each line can still give back: its price less what earlier refunds took from it by name (`earlier`,
    minor units by line), and never more than is left of the parts that pay for it."""
    left = {**_whole(price)}
    for refund in earlier:
        for name, amount in refund.items():
            left[name] -= Money(amount, remaining.currency)
    host = remaining.held + remaining.host_fee
    funds = {
        "nights": host,
        "cleaning": host,
        "guest_fee": remaining.guest_fee,
        "vat": remaining.vat,
        "occupancy_tax": remaining.occupancy_tax,
    }
    zero = Money.zero(remaining.currency)
    return {name: max(min(left[name], funds[name]), zero) for name in LINE_NAMES}


def with_taxes(*, price: PriceBreakdown, lines: Mapping[str, Money], limits: Mapping[str, Money]) -> dict[str, Money]:
    """The lines with the taxes that follow them: each that is not named comes back pro rata to the refunded part of the
    lines it was computed from, a half cent to the guest, never above what is left of it."""
    whole, currency = _whole(price), price.total.currency
    zero = Money.zero(currency)
    found = dict(lines)
    for kind in _TAXES:
        if kind in lines:
            continue
        due = zero
        for tax in price.taxes:
            taxed = sorted({_line_of(name) for name in tax.base}) if tax.kind == kind else []
            paid = Money.sum((whole[name] for name in taxed), currency)
            back = Money.sum((lines.get(name, zero) for name in taxed), currency)
            if paid:
                due += tax.amount.share(Fraction(back.amount, paid.amount))
        found[kind] = min(due, limits[kind])
    return {name: amount for name, amount in found.items() if amount}


def parts_of_lines(*, remaining: Parts, lines: Mapping[str, Money], limits: Mapping[str, Money]) -> Parts:
    """What a refund of these lines takes from the parts that are left.

    Raises Invalid for an unknown line or an amount below zero, RefundTooLarge naming the line that has less."""
    currency = remaining.currency
    for name, amount in lines.items():
        if name not in LINE_NAMES:
            raise Invalid(f"lines: {name} is none of {', '.join(LINE_NAMES)}.", field="lines")
        if amount.currency != currency or amount.amount < 0:
            raise Invalid(f"lines.{name}: write zero or more, in {currency}.", field=f"lines.{name}")
        if amount > limits[name]:
            raise RefundTooLarge(maximum=f"{limits[name]} ({name.replace('_', ' ')})", amount=str(amount), line=name)
    zero = Money.zero(currency)
    host = lines.get("nights", zero) + lines.get("cleaning", zero)
    most = remaining.held + remaining.host_fee
    if host > most:
        raise RefundTooLarge(maximum=f"{most} (nights and cleaning)", amount=str(host))
    held, host_fee = host.allocate([remaining.held.amount, remaining.host_fee.amount])
    return Parts(held=held, host_fee=host_fee, **{name: lines.get(name, zero) for name in ("guest_fee", *_TAXES)})


def _whole(price: PriceBreakdown) -> dict[str, Money]:
    return {
        "nights": price.host_price - price.cleaning,
        "cleaning": price.cleaning,
        "guest_fee": price.guest_fee,
        "vat": price.vat,
        "occupancy_tax": price.occupancy_tax,
    }


def _line_of(price_kind: str) -> str:
    """Discounts and extra guests are part of the nights."""
    return price_kind if price_kind in ("cleaning", "guest_fee") else "nights"
