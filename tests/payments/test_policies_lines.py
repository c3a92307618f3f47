"""Refunds by line: what each line may give, the taxes that follow it, and the parts it is taken from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backoffice.bookings.policies import PriceBreakdown, TaxLine
from backoffice.core.errors import Invalid, RefundTooLarge
from backoffice.core.money import Money
from backoffice.payments.policies import LINE_NAMES, Parts, line_limits, parts_of_lines, with_taxes
from backoffice.rulebook.policies import ExchangeRate
from tests.factories import NOW


def eur(amount: int) -> Money:
    return Money(amount, "EUR")


def tax(kind: str, base: tuple[str, ...], amount: int) -> TaxLine:
    return TaxLine(kind=kind, code=kind, label=kind, place="BE", base=base, amount=eur(amount))


def price(nights: int = 36_000, cleaning: int = 6_000, fee: int = 5_000, occupancy: int = 1_950) -> PriceBreakdown:
    """Worked posting A: 420.00 of host price, 50.00 fee, 10.50 VAT on it, 19.50 occupancy tax on the nights: 500.00."""
    vat = fee * 21 // 100
    host = nights + cleaning
    taxes = (
        TaxLine(
            kind="occupancy_tax",
            code="city",
            label="City tax",
            place="BE",
            base=("nights", "discount"),
            amount=eur(occupancy),
        ),
        TaxLine(kind="vat", code="vat", label="VAT", place="BE", base=("guest_fee",), amount=eur(vat)),
    )
    total = host + fee + vat + occupancy
    return PriceBreakdown(
        nights=(),
        lines=(),
        taxes=taxes,
        cleaning=eur(cleaning),
        host_price=eur(host),
        host_fee=eur(host * 3 // 100),
        guest_fee=eur(fee),
        vat=eur(vat),
        occupancy_tax=eur(occupancy),
        total=eur(total),
        charge_total=eur(total),
        rate=ExchangeRate.same(currency="EUR", on=NOW.date()),
        fee_plan="split",
        policies=(),
    )


def captured(of: PriceBreakdown) -> Parts:
    return Parts(
        held=of.host_net, host_fee=of.host_fee, guest_fee=of.guest_fee, vat=of.vat, occupancy_tax=of.occupancy_tax
    )


def refund(
    of: PriceBreakdown, remaining: Parts, lines: dict[str, Money], earlier: Iterable[Mapping[str, int]] = ()
) -> tuple[dict[str, Money], Parts]:
    limits = line_limits(price=of, remaining=remaining, earlier=earlier)
    taken = with_taxes(price=of, lines=lines, limits=limits)
    return taken, parts_of_lines(remaining=remaining, lines=taken, limits=limits)


def test_the_cleaning_comes_back_from_host_and_host_fee_and_no_tax_was_on_it() -> None:
    taken, parts = refund(price(), captured(price()), {"cleaning": eur(6_000)})
    assert taken == {"cleaning": eur(6_000)}
    assert parts.as_dict() == {"held": 5_820, "host_fee": 180, "guest_fee": 0, "vat": 0, "occupancy_tax": 0}


def test_half_the_nights_bring_half_their_tax() -> None:
    taken, parts = refund(price(), captured(price()), {"nights": eur(18_000)})
    assert taken == {"nights": eur(18_000), "occupancy_tax": eur(975)}
    assert parts.as_dict() == {"held": 17_460, "host_fee": 540, "guest_fee": 0, "vat": 0, "occupancy_tax": 975}


def test_the_fee_brings_its_vat_unless_the_vat_is_named() -> None:
    taken, parts = refund(price(), captured(price()), {"guest_fee": eur(5_000)})
    assert taken == {"guest_fee": eur(5_000), "vat": eur(1_050)} and parts.total == eur(6_050)
    taken, parts = refund(price(), captured(price()), {"guest_fee": eur(5_000), "vat": eur(0)})
    assert taken == {"guest_fee": eur(5_000)} and parts.total == eur(5_000)


def test_every_line_gives_back_everything() -> None:
    whole = captured(price())
    everything = {"nights": eur(36_000), "cleaning": eur(6_000), "guest_fee": eur(5_000)}
    assert refund(price(), whole, everything)[1] == whole


@pytest.mark.parametrize(
    ("lines", "earlier", "line"),
    [
        ({"cleaning": eur(6_001)}, (), "cleaning"),
        ({"cleaning": eur(1)}, ({"cleaning": 6_000},), "cleaning"),
        ({"nights": eur(30_001)}, ({"nights": 4_000}, {"nights": 2_000}), "nights"),
        ({"guest_fee": eur(5_001)}, (), "guest_fee"),
        ({"occupancy_tax": eur(1_951)}, (), "occupancy_tax"),
    ],
)
def test_a_line_gives_no_more_than_it_has(
    lines: dict[str, Money], earlier: tuple[dict[str, int], ...], line: str
) -> None:
    whole = captured(price())
    limits = line_limits(price=price(), remaining=whole, earlier=earlier)
    with pytest.raises(RefundTooLarge) as refused:
        parts_of_lines(remaining=whole, lines=lines, limits=limits)
    assert refused.value.facts["line"] == line


@pytest.mark.parametrize("lines", [{"minibar": eur(1)}, {"nights": eur(-1)}, {"nights": Money(1, "USD")}])
def test_what_is_no_line_or_no_amount_is_refused_by_name(lines: dict[str, Money]) -> None:
    whole = captured(price())
    limits = line_limits(price=price(), remaining=whole, earlier=())
    with pytest.raises(Invalid):
        parts_of_lines(remaining=whole, lines=lines, limits=limits)


@given(
    st.integers(0, 500_000),
    st.integers(0, 50_000),
    st.integers(0, 90_000),
    st.integers(0, 30_000),
    st.lists(st.dictionaries(st.sampled_from(LINE_NAMES), st.fractions(0, 1), max_size=3), max_size=6),
)
def test_whatever_the_order_and_number_no_line_and_no_part_goes_below_zero(
    nights: int, cleaning: int, fee: int, occupancy: int, asked: list[dict[str, object]]
) -> None:
    of = price(nights, cleaning, fee, occupancy)
    remaining = captured(of)
    earlier: list[dict[str, int]] = []
    for shares in asked:
        limits = line_limits(price=of, remaining=remaining, earlier=earlier)
        lines = {name: limits[name].share(share) for name, share in shares.items()}  # type: ignore[arg-type]
        if lines.get("nights", eur(0)) + lines.get("cleaning", eur(0)) > remaining.held + remaining.host_fee:
            continue
        taken, parts = refund(of, remaining, lines, earlier)
        assert parts.total == Money.sum(taken.values(), "EUR")
        assert parts.held + parts.host_fee == lines.get("nights", eur(0)) + lines.get("cleaning", eur(0))
        after = remaining.minus(parts)
        assert after + parts == remaining
        remaining = after
        earlier.append({name: money.amount for name, money in taken.items()})
    for name in LINE_NAMES:
        assert sum(refund.get(name, 0) for refund in earlier) <= {
            "nights": nights, "cleaning": cleaning, "guest_fee": fee, "vat": fee * 21 // 100, "occupancy_tax": occupancy
        }[name]  # fmt: skip
