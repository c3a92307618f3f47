"""What a stay costs: facts in, a frozen breakdown out (the house's "Price, fees, taxes").

Nights − length-of-stay discount + extra guests + cleaning = host price; guest fee and host fee are shares of it; taxes
by jurisdiction and value-added tax on the guest fee are lines of their own. Everything is in the listing's currency,
whole minor units; what the guest is charged is converted line by line at a frozen rate.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import date
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from typing import Any, Final

from backoffice.core.errors import Invalid
from backoffice.core.money import Money
from backoffice.core.stays import Stay
from backoffice.core.words import counted
from backoffice.rulebook.policies import CommissionVat, ExchangeRate, FeePlan, Jurisdiction, TaxRule

WEEK: Final = 7
MONTH: Final = 28


@dataclass(frozen=True, slots=True, kw_only=True)
class PricingFacts:
    """What a price depends on. `nightly` holds the price of each night, overrides applied, in the stay's order.

    Amounts are in one currency, that of the listing; `extra_guest` is per night and guest above `included_guests`;
    discounts are whole per cents from 7 and from 28 nights. `rate` converts the listing's currency to the charge's."""

    stay: Stay
    nightly: tuple[Money, ...]
    guests: int
    plan: FeePlan
    rate: ExchangeRate
    cleaning: Money
    extra_guest: Money
    included_guests: int = 1
    week_discount: int = 0
    month_discount: int = 0
    jurisdictions: tuple[Jurisdiction, ...] = ()
    vat: CommissionVat | None = None
    policies: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(self.nightly) != self.stay.nights:
            raise ValueError(f"{len(self.nightly)} prices for {self.stay.nights} nights")
        if self.guests < 1:
            raise Invalid("guests: at least one person stays; write 1 or more", field="guests")
        if any(price.amount < 0 for price in (*self.nightly, self.cleaning, self.extra_guest)):
            raise Invalid("price: an amount is below zero; write zero or more", field="price")
        if not 0 <= self.week_discount <= 100 or not 0 <= self.month_discount <= 100:
            raise Invalid("discount: write whole per cents from 0 to 100", field="discount")
        if self.rate.base != self.currency:
            raise ValueError(f"the rate converts {self.rate.base}, the listing is in {self.currency}")

    @property
    def currency(self) -> str:
        return self.nightly[0].currency


@dataclass(frozen=True, slots=True, kw_only=True)
class NightPrice:
    """One night: its price, its part of the discount, its extra guests. `net` is what a cancellation looks at."""

    night: date
    price: Money
    discount: Money
    extra_guests: Money

    @property
    def net(self) -> Money:
        return self.price - self.discount + self.extra_guests


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceLine:
    """One line the guest sees. `amount` = `quantity` × `unit`; `charged` is the same in the charge's currency."""

    kind: str
    label: str
    quantity: int
    unit: Money
    amount: Money
    charged: Money
    taxable: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class TaxLine:
    """One tax that was charged. `kind` is occupancy_tax or vat; `place` the jurisdiction's code, or vat's country.

    `base` names the lines it was computed from: when they are refunded, so is it, pro rata."""

    kind: str
    code: str
    label: str
    place: str
    base: tuple[str, ...]
    amount: Money


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceBreakdown:
    """The promise: total = host_price + guest_fee + vat + occupancy_tax, and the lines add up to it.

    The host receives host_price − host_fee. `charge_total` is the sum of the lines' `charged` amounts."""

    nights: tuple[NightPrice, ...]
    lines: tuple[PriceLine, ...]
    taxes: tuple[TaxLine, ...]
    cleaning: Money
    host_price: Money
    host_fee: Money
    guest_fee: Money
    vat: Money
    occupancy_tax: Money
    total: Money
    charge_total: Money
    rate: ExchangeRate
    fee_plan: str
    policies: tuple[str, ...]

    @property
    def host_net(self) -> Money:
        return self.host_price - self.host_fee

    def as_dict(self) -> dict[str, Any]:
        """JSON for the quote and the booking that froze it; `from_dict` reads it back, equal."""
        stored = asdict(self)
        stored["rate"] = self.rate.as_dict()
        return {name: _plain(value) for name, value in stored.items()}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> PriceBreakdown:
        amounts = ("cleaning", "host_price", "host_fee", "guest_fee", "vat", "occupancy_tax", "total", "charge_total")
        return cls(
            nights=tuple(
                NightPrice(
                    night=date.fromisoformat(night["night"]),
                    **{name: Money(**night[name]) for name in ("price", "discount", "extra_guests")},
                )
                for night in stored["nights"]
            ),
            lines=tuple(
                PriceLine(**{**line, **{name: Money(**line[name]) for name in ("unit", "amount", "charged")}})
                for line in stored["lines"]
            ),
            taxes=tuple(
                TaxLine(**{**tax, "base": tuple(tax["base"]), "amount": Money(**tax["amount"])})
                for tax in stored["taxes"]
            ),
            **{name: Money(**stored[name]) for name in amounts},
            rate=ExchangeRate.from_dict(stored["rate"]),
            fee_plan=stored["fee_plan"],
            policies=tuple(stored["policies"]),
        )


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value.isoformat() if isinstance(value, date) else value


def percent_of(amount: Money, percent: Decimal | int) -> Money:
    """`percent` per cent of an amount, rounded once, half away from zero."""
    return amount.share(_hundredths(percent))


@lru_cache(maxsize=256)
def _hundredths(percent: Decimal | int) -> Fraction:
    """There are few percentages and making a fraction costs more than using one."""
    return Fraction(percent) / 100


def gross_up(*, net: Money, host_percent: Decimal) -> Money:
    """The lowest host price that leaves `net` after the host fee: to net 97.00 at 15.5 % charge 114.79, not 114.00.

    Raises Invalid when the fee is the whole price."""
    if not 0 <= host_percent < 100:
        raise Invalid("host_percent: must be from 0 to below 100", field="host_percent")
    price = net.share(Fraction(100) / (100 - Fraction(host_percent)), rounding="down")
    while price - percent_of(price, host_percent) < net:
        price += Money(1, net.currency)
    while price.amount > 0 and (less := price - Money(1, net.currency)) - percent_of(less, host_percent) >= net:
        price = less
    return price


def price_stay(*, facts: PricingFacts) -> PriceBreakdown:
    """Price a stay. Raises Invalid when a jurisdiction taxes in another currency than the listing's."""
    sums = _add_up(facts)
    lines = _lines(facts, sums)
    return PriceBreakdown(
        nights=_nights(facts, sums),
        lines=lines,
        taxes=sums.taxes,
        cleaning=facts.cleaning,
        host_price=sums.host_price,
        host_fee=percent_of(sums.host_price, facts.plan.host_percent),
        guest_fee=sums.by_kind["guest_fee"],
        vat=_sum_of("vat", sums.taxes, facts.currency),
        occupancy_tax=_sum_of("occupancy_tax", sums.taxes, facts.currency),
        total=sums.total,
        charge_total=facts.rate.convert(sums.total),
        rate=facts.rate,
        fee_plan=facts.plan.code,
        policies=facts.policies,
    )


@dataclass(frozen=True, slots=True)
class _Sums:
    """What a stay comes to, by kind of line; the lines only spell it out."""

    by_kind: Mapping[str, Money]
    host_price: Money
    taxes: tuple[TaxLine, ...]
    total: Money


def _add_up(facts: PricingFacts) -> _Sums:
    nights = Money.sum(facts.nightly, facts.currency)
    by_kind = {
        "nights": nights,
        "discount": -percent_of(nights, _discount_percent(facts)),
        "extra_guests": facts.extra_guest * (_extra_guests(facts) * facts.stay.nights),
        "cleaning": facts.cleaning,
    }
    host_price = Money.sum(by_kind.values(), facts.currency)
    by_kind["guest_fee"] = _guest_fee(facts.plan, host_price)
    taxes = _taxes(facts, by_kind)
    total = Money.sum((*by_kind.values(), *(tax.amount for tax in taxes)), facts.currency)
    return _Sums(by_kind=by_kind, host_price=host_price, taxes=taxes, total=total)


@dataclass(frozen=True, slots=True)
class _Drawn:
    """A line before it is converted."""

    kind: str
    label: str
    quantity: int
    unit: Money

    @property
    def amount(self) -> Money:
        return self.unit * self.quantity


def _discount_percent(facts: PricingFacts) -> int:
    """The discount of the longest length reached; a month without its own discount has the week's."""
    if facts.stay.nights >= MONTH and facts.month_discount:
        return facts.month_discount
    return facts.week_discount if facts.stay.nights >= WEEK else 0


def _extra_guests(facts: PricingFacts) -> int:
    return max(facts.guests - facts.included_guests, 0)


def _nights(facts: PricingFacts, sums: _Sums) -> tuple[NightPrice, ...]:
    """The discount is rounded once for the stay and shared among the nights, so that both add up to the cent."""
    shares = (-sums.by_kind["discount"]).allocate([price.amount for price in facts.nightly])
    extra = facts.extra_guest * _extra_guests(facts)
    return tuple(
        NightPrice(night=night, price=price, discount=share, extra_guests=extra)
        for night, price, share in zip(facts.stay.dates(), facts.nightly, shares, strict=True)
    )


def _lines(facts: PricingFacts, sums: _Sums) -> tuple[PriceLine, ...]:
    """The nights and every other line that comes to something, converted so that they add up in both currencies."""
    drawn = [line for line in _drawn(facts, sums) if line.unit or line.kind == "nights"]
    taxed = {kind for tax in sums.taxes for kind in tax.base}
    amounts = [line.amount for line in drawn]
    return tuple(
        PriceLine(
            kind=line.kind,
            label=line.label,
            quantity=line.quantity,
            unit=line.unit,
            amount=amount,
            charged=charged,
            taxable=line.kind in taxed,
        )
        for line, amount, charged in zip(drawn, amounts, facts.rate.convert_lines(amounts), strict=True)
    )


def _drawn(facts: PricingFacts, sums: _Sums) -> Iterator[_Drawn]:
    """The lines in the order a guest reads them."""
    for price, count in Counter(facts.nightly).items():
        yield _Drawn("nights", counted(count, "night"), count, price)
    discount = f"Length-of-stay discount, {_discount_percent(facts)} %"
    yield _Drawn("discount", discount, 1, sums.by_kind["discount"])
    if extra := _extra_guests(facts):
        yield _Drawn("extra_guests", counted(extra, "extra guest"), extra * facts.stay.nights, facts.extra_guest)
    yield _Drawn("cleaning", "Cleaning", 1, facts.cleaning)
    yield _Drawn("guest_fee", "Service fee", 1, sums.by_kind["guest_fee"])
    for tax in sums.taxes:
        yield _Drawn(tax.kind, tax.label, 1, tax.amount)


def _guest_fee(plan: FeePlan, host_price: Money) -> Money:
    fee = percent_of(host_price, plan.guest_percent)
    cap = plan.cap_in(host_price.currency)
    return fee if cap is None else min(fee, cap)


def _taxes(facts: PricingFacts, by_kind: Mapping[str, Money]) -> tuple[TaxLine, ...]:
    """Every tax that comes to something, occupancy first, value-added tax on the guest fee last."""
    taxes = [
        TaxLine(
            kind="occupancy_tax",
            code=rule.code,
            label=rule.label,
            place=place.code,
            base=rule.base,
            amount=_occupancy_tax(facts, place, rule, by_kind),
        )
        for place in facts.jurisdictions
        for rule in place.taxes
    ]
    if facts.vat is not None:
        taxes.append(
            TaxLine(
                kind="vat",
                code="vat",
                label=f"{facts.vat.label} on the service fee",
                place=facts.vat.country,
                base=("guest_fee",),
                amount=percent_of(by_kind["guest_fee"], facts.vat.percent),
            )
        )
    return tuple(tax for tax in taxes if tax.amount)


def _occupancy_tax(facts: PricingFacts, place: Jurisdiction, rule: TaxRule, by_kind: Mapping[str, Money]) -> Money:
    nights = facts.stay.nights
    if rule.exempt_from_nights is not None and nights >= rule.exempt_from_nights:
        return Money.zero(facts.currency)
    amounts = (rule.amount, rule.cap_per_person_night, rule.cap_per_stay)
    if place.currency != facts.currency and any(amount is not None for amount in amounts):
        raise Invalid(
            f"currency: {place.label} taxes in {place.currency}; price the listing in {place.currency}",
            field="currency",
        )
    counted = nights if rule.max_nights is None else min(nights, rule.max_nights)
    if rule.method == "percent":
        base = Money.sum((amount for kind, amount in by_kind.items() if kind in rule.base), facts.currency)
        due = percent_of(base, rule.percent)
    else:
        assert rule.amount is not None  # the document's reader requires it
        due = rule.amount * (counted * facts.guests if rule.method == "per_person_night" else counted)
    if rule.cap_per_person_night is not None:
        due = min(due, rule.cap_per_person_night * (counted * facts.guests))
    return due if rule.cap_per_stay is None else min(due, rule.cap_per_stay)


def _sum_of(kind: str, taxes: Iterable[TaxLine], currency: str) -> Money:
    return Money.sum((tax.amount for tax in taxes if tax.kind == kind), currency)
