"""The total of many stays at once: the same rules as `pricing.price_stay`, prepared once for all homes of one place, length
and party, then a few whole-number steps a home.

A page of search shows twenty totals, and spelling each out took longer than finding the homes. A property test holds this
equal to `price_stay`, to the minor unit, for every rule that the rulebook can express."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from backoffice.bookings.policies.pricing import MONTH, WEEK, _hundredths
from backoffice.core.errors import Invalid
from backoffice.core.money import charge_step
from backoffice.rulebook.policies import CommissionVat, FeePlan, Jurisdiction, TaxRule

_HOST_LINES: Final = ("nights", "discount", "extra_guests", "cleaning", "guest_fee")


@dataclass(frozen=True, slots=True)
class HomeTerms:
    """What one home adds: minor units of the totals' currency. `nights` is the sum of the nights' own prices."""

    nights: int
    cleaning: int
    extra_guest: int
    included_guests: int
    week_discount: int
    month_discount: int


_Amounts = tuple[int, int, int, int, int]
_Tax = Callable[[_Amounts], int]


class StayTotals:
    """Totals of stays of `nights` nights for `guests` guests in one place and currency.

    Raises Invalid, as `price_stay` does, when the place taxes in another currency."""

    def __init__(
        self,
        *,
        nights: int,
        guests: int,
        currency: str,
        plan: FeePlan,
        jurisdictions: tuple[Jurisdiction, ...],
        vat: CommissionVat | None,
    ) -> None:
        self._nights = nights
        self._guests = guests
        self._step = charge_step(currency)
        self._fee = _Percent(plan.guest_percent, self._step)
        cap = plan.cap_in(currency)
        self._fee_cap = None if cap is None else cap.amount
        self._vat = _Percent(vat.percent if vat is not None else 0, self._step)
        self._taxes = [
            _tax(rule, place, nights=nights, guests=guests, currency=currency)
            for place in jurisdictions
            for rule in place.taxes
            if rule.exempt_from_nights is None or nights < rule.exempt_from_nights
        ]

    def total(self, home: HomeTerms) -> int:
        """All that the guest pays, in minor units."""
        discount = -_Percent(self._discount(home), self._step).of(home.nights)
        extra = home.extra_guest * max(self._guests - home.included_guests, 0) * self._nights
        host_price = home.nights + discount + extra + home.cleaning
        fee = self._fee.of(host_price)
        if self._fee_cap is not None:
            fee = min(fee, self._fee_cap)
        amounts = (home.nights, discount, extra, home.cleaning, fee)
        return host_price + fee + sum(tax(amounts) for tax in self._taxes) + self._vat.of(fee)

    def _discount(self, home: HomeTerms) -> int:
        if self._nights >= MONTH and home.month_discount:
            return home.month_discount
        return home.week_discount if self._nights >= WEEK else 0


class _Percent:
    """A share that rounds as `Money.share` does: half away from zero."""

    __slots__ = ("_above", "_below", "_step")

    def __init__(self, percent: Decimal | int, step: int) -> None:
        share = _hundredths(percent)
        self._above, self._below, self._step = share.numerator, share.denominator, step

    def of(self, amount: int) -> int:
        step = 1 if amount % self._step else self._step
        whole, below = abs(amount) * self._above, self._below * step
        rounded = (2 * whole + below) // (2 * below) * step
        return rounded if amount >= 0 else -rounded


def _tax(rule: TaxRule, place: Jurisdiction, *, nights: int, guests: int, currency: str) -> _Tax:
    own = (rule.amount, rule.cap_per_person_night, rule.cap_per_stay)
    if place.currency != currency and any(amount is not None for amount in own):
        raise Invalid(f"currency: {place.label} taxes in {place.currency}", field="currency")
    counted = nights if rule.max_nights is None else min(nights, rule.max_nights)
    caps = []
    if rule.cap_per_person_night is not None:
        caps.append(rule.cap_per_person_night.amount * counted * guests)
    if rule.cap_per_stay is not None:
        caps.append(rule.cap_per_stay.amount)
    if rule.method == "percent":
        taxed = [index for index, kind in enumerate(_HOST_LINES) if kind in rule.base]
        percent = _Percent(rule.percent, charge_step(currency))
        cap = min(caps, default=None)

        def due_of(amounts: _Amounts) -> int:
            due = percent.of(sum([amounts[index] for index in taxed]))
            return due if cap is None else min(due, cap)

        return due_of
    assert rule.amount is not None  # the document's reader requires it
    times = counted * guests if rule.method == "per_person_night" else counted
    due = min([rule.amount.amount * times, *caps])
    return lambda amounts: due
