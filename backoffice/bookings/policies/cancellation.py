"""What comes back when a stay is cancelled: facts and `now` in, a frozen decision with its trace out.

The rules are those of the house ("Cancellation by the guest"). Order: override → grace → tier → lines. The moment that
divides two windows belongs to the earlier one, the guest's: cancelled exactly 24 hours before check-in is still "until
24 h before", cancelled exactly at check-in is still before it, and a night counts as stayed once its check-in instant
has passed, not at it. Hours are elapsed UTC hours; days are the check-in wall-clock time so many calendar days earlier.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from fractions import Fraction
from typing import Any, Final

from backoffice.bookings.policies.pricing import PriceBreakdown, TaxLine, percent_of
from backoffice.core.errors import Invalid
from backoffice.core.money import Money
from backoffice.core.stays import Stay, instant
from backoffice.rulebook.policies import CancellationRules, CancellationTier, Keep, Notice, Policy, Window

OVERRIDES: Final = ("host_cancel", "reservation_issue", "major_event", "staff_decision")
# These give everything back; the other two may give back a share (what part of the stay was affected).
_WHOLE: Final = ("host_cancel", "major_event")


@dataclass(frozen=True, slots=True, kw_only=True)
class Override:
    """A ground that goes before every tier. `basis` names it in words; `share` of every line comes back."""

    kind: str
    basis: str
    share: Fraction = Fraction(1)

    def __post_init__(self) -> None:
        if self.kind not in OVERRIDES:
            raise Invalid(f"override: {self.kind!r} is not known; use one of {', '.join(OVERRIDES)}", field="override")
        if not self.basis.strip():
            raise Invalid("basis: an override names its ground; write a sentence", field="basis")
        if not 0 <= self.share <= 1 or (self.kind in _WHOLE and self.share != 1):
            allowed = "everything" if self.kind in _WHOLE else "a share from 0 to 1"
            raise Invalid(f"share: {self.kind} gives back {allowed}; correct it", field="share")


@dataclass(frozen=True, slots=True, kw_only=True)
class CancellationFacts:
    """What a cancellation depends on. `nights` are the discounted prices of the nights in calendar order, extra guests
    included; every amount is in the listing's currency.

    `prior_fee_refunds` counts guest fees given back by the fee rule in the months it looks back on; `overlapping` says
    that this guest has another stay on some of these nights."""

    policy: Policy[CancellationRules]
    tier: str
    stay: Stay
    check_in_time: time
    time_zone: str
    nights: tuple[Money, ...]
    cleaning: Money
    guest_fee: Money
    taxes: tuple[TaxLine, ...]
    confirmed_at: datetime
    prior_fee_refunds: int = 0
    overlapping: bool = False
    override: Override | None = None

    def __post_init__(self) -> None:
        if len(self.nights) != self.stay.nights:
            raise ValueError(f"{len(self.nights)} prices for {self.stay.nights} nights")
        if any(amount.amount < 0 for amount in (*self.nights, self.cleaning, self.guest_fee)):
            raise ValueError("what was paid is not below zero")

    @classmethod
    def of_price(
        cls,
        *,
        price: PriceBreakdown,
        policy: Policy[CancellationRules],
        tier: str,
        stay: Stay,
        check_in_time: time,
        time_zone: str,
        confirmed_at: datetime,
        prior_fee_refunds: int = 0,
        overlapping: bool = False,
        override: Override | None = None,
    ) -> CancellationFacts:
        """The facts of a booking whose price was frozen."""
        return cls(
            policy=policy,
            tier=tier,
            stay=stay,
            check_in_time=check_in_time,
            time_zone=time_zone,
            nights=tuple(night.net for night in price.nights),
            cleaning=price.cleaning,
            guest_fee=price.guest_fee,
            taxes=price.taxes,
            confirmed_at=confirmed_at,
            prior_fee_refunds=prior_fee_refunds,
            overlapping=overlapping,
            override=override,
        )

    @property
    def currency(self) -> str:
        return self.nights[0].currency

    @property
    def check_in_at(self) -> datetime:
        return instant(self.stay.check_in, self.check_in_time, self.time_zone)

    def notice_at(self, notice: Notice) -> datetime:
        return notice.before(day=self.stay.check_in, at=self.check_in_time, zone=self.time_zone)

    def nights_stayed(self, now: datetime) -> int:
        """How many nights had begun: their check-in instant, each at the wall clock, has passed."""
        return sum(instant(night, self.check_in_time, self.time_zone) < now for night in self.stay.dates())


@dataclass(frozen=True, slots=True, kw_only=True)
class LineOutcome:
    """One line of what was paid, and its two parts: refund + kept = paid. Taxes carry `place` and `code`."""

    kind: str
    paid: Money
    refund: Money
    code: str = ""
    place: str = ""

    @property
    def kept(self) -> Money:
        return self.paid - self.refund

    def as_dict(self) -> dict[str, Any]:
        named = {name: value for name, value in (("code", self.code), ("place", self.place)) if value}
        return {"kind": self.kind, **named, **_json(paid=self.paid, refund=self.refund, kept=self.kept)}


@dataclass(frozen=True, slots=True, kw_only=True)
class CancellationDecision:
    """What comes back line by line, who keeps what, and why. `rule` names what decided: `override:…`, `grace`,
    `tier:…` or `long_stay`. `trace` lists the rules asked, each with its inputs and outputs, ready to be stored."""

    rule: str
    basis: str
    policy: str
    decided_at: datetime
    nights_stayed: int
    lines: tuple[LineOutcome, ...]
    trace: tuple[dict[str, Any], ...]

    def line(self, kind: str) -> LineOutcome:
        """The line of that kind: nights, cleaning or guest_fee; for taxes use `sum_of`."""
        return next(line for line in self.lines if line.kind == kind)

    def sum_of(self, kind: str) -> Money:
        """What comes back of the lines of a kind (occupancy_tax may have several)."""
        return Money.sum((line.refund for line in self.lines if line.kind == kind), self.currency)

    @property
    def currency(self) -> str:
        return self.lines[0].paid.currency

    @property
    def paid(self) -> Money:
        return Money.sum((line.paid for line in self.lines), self.currency)

    @property
    def refund(self) -> Money:
        """Everything that comes back to the guest, taxes and fee included."""
        return Money.sum((line.refund for line in self.lines), self.currency)

    @property
    def host_price_refund(self) -> Money:
        """What comes back of the host price: nights and cleaning."""
        return self.line("nights").refund + self.line("cleaning").refund

    @property
    def host_keeps(self) -> Money:
        """What remains of the host price, before the host fee."""
        return self.line("nights").kept + self.line("cleaning").kept

    @property
    def guest_fee_refunded(self) -> bool:
        """Whether the fee rule gave the guest fee back; such refunds are counted against its yearly maximum."""
        return not self.rule.startswith(("override", "grace")) and bool(self.line("guest_fee").refund)

    def as_dict(self) -> dict[str, Any]:
        """JSON for the booking: the decision with its trace, as it was made."""
        return {
            "rule": self.rule,
            "basis": self.basis,
            "policy": self.policy,
            "decided_at": self.decided_at.isoformat(),
            "nights_stayed": self.nights_stayed,
            **_json(paid=self.paid, refund=self.refund, host_keeps=self.host_keeps),
            "guest_fee_refunded": self.guest_fee_refunded,
            "lines": [line.as_dict() for line in self.lines],
            "trace": list(self.trace),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Deadline:
    """Until `until` (inclusive), cancelling keeps `keep` of the nights; None: from check-in on."""

    until: datetime | None
    keep: Keep


def decide_cancellation(*, facts: CancellationFacts, now: datetime) -> CancellationDecision:
    """Decide what comes back when this stay is cancelled `now`.

    Raises Invalid when the tier is unknown, or when `now` lies before the confirmation."""
    if now < facts.confirmed_at:
        raise Invalid("now: the booking was not confirmed yet; cancel it after its confirmation", field="now")
    now = now.astimezone(UTC)
    trace: list[dict[str, Any]] = [_asked(facts, now)]
    outcome = _override(facts, trace) or _grace(facts, now, trace) or _by_tier(facts, now, trace)
    lines = _lines(facts, outcome, now, trace)
    _note(trace, "total", {}, _json(refund=Money.sum((line.refund for line in lines), facts.currency)))
    return CancellationDecision(
        rule=outcome.rule,
        basis=outcome.basis,
        policy=facts.policy.label,
        decided_at=now,
        nights_stayed=facts.nights_stayed(now),
        lines=lines,
        trace=tuple(trace),
    )


def cancellation_deadlines(*, facts: CancellationFacts) -> tuple[Deadline, ...]:
    """When the terms get worse, for showing beside a price: the windows as instants, then what holds after check-in."""
    windows, after = _terms(facts)
    return (
        *(Deadline(until=_window_end(facts, window), keep=window.keep) for window in windows),
        Deadline(until=None, keep=after),
    )


def no_show_window(*, stay: Stay, time_zone: str, check_out_time: time, hours_after: int) -> tuple[datetime, datetime]:
    """The instants between which a no-show may be marked: from the midnight that ends the check-in day, since a guest
    may still arrive until then, to `hours_after` hours after check-out."""
    opens = instant(stay.check_in + timedelta(days=1), time(0), time_zone)
    return opens, instant(stay.check_out, check_out_time, time_zone) + timedelta(hours=hours_after)


# The rules, in order: each answers or passes (None), and writes down what it saw ------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Outcome:
    """What a rule says of the nights, and whether it settles every other line by itself (`share` of it)."""

    rule: str
    basis: str
    nights_refund: Money
    share: Fraction | None = None


def _override(facts: CancellationFacts, trace: list[dict[str, Any]]) -> _Outcome | None:
    given = facts.override
    if given is None:
        _note(trace, "override", {}, {"applies": False})
        return None
    booked = Money.sum(facts.nights, facts.currency)
    outputs = {"applies": True, "share": str(given.share)}
    _note(trace, "override", {"kind": given.kind, "basis": given.basis}, outputs)
    return _Outcome(
        rule=f"override:{given.kind}", basis=given.basis, nights_refund=booked.share(given.share), share=given.share
    )


def _grace(facts: CancellationFacts, now: datetime, trace: list[dict[str, Any]]) -> _Outcome | None:
    rule = facts.policy.rules.grace
    ends = facts.confirmed_at + timedelta(hours=rule.hours)
    in_time = facts.confirmed_at <= facts.notice_at(rule.min_notice)
    applies = facts.stay.nights <= rule.max_nights and in_time and now <= ends
    inputs = {
        "nights": facts.stay.nights,
        "max_nights": rule.max_nights,
        "confirmed_at": _utc(facts.confirmed_at),
        "confirm_by": _utc(facts.notice_at(rule.min_notice)),
        "ends_at": _utc(ends),
    }
    _note(trace, "grace", inputs, {"applies": applies})
    if not applies:
        return None
    basis = f"cancelled within {rule.hours} hours of confirmation, confirmed {rule.min_notice} or more before check-in"
    booked = Money.sum(facts.nights, facts.currency)
    return _Outcome(rule="grace", basis=basis, nights_refund=booked, share=Fraction(1))


def _by_tier(facts: CancellationFacts, now: datetime, trace: list[dict[str, Any]]) -> _Outcome:
    stayed = facts.nights_stayed(now)
    windows, after = _terms(facts)
    window = next((window for window in windows if now <= _window_end(facts, window)), None)
    keep = after if window is None else window.keep
    refund = _refund_of_nights(facts.nights, stayed, keep)
    rule = "long_stay" if _is_long(facts) else f"tier:{facts.tier}"
    end = None if window is None else _window_end(facts, window).astimezone(UTC)
    until = "after check-in" if end is None else f"until {end:%d %b %Y %H:%M} UTC"
    inputs = {
        "tier": _tier(facts).code,
        "window": "after check-in" if end is None else f"until {_utc(end)}",
        "nights_stayed": stayed,
        "keep_nights": keep.nights,
        "keep_rest_percent": keep.rest_percent,
    }
    booked = Money.sum(facts.nights, facts.currency)
    _note(trace, rule, inputs, _json(booked=booked, refund=refund, kept=booked - refund))
    return _Outcome(rule=rule, basis=f"{_tier(facts).label} policy, {until}", nights_refund=refund)


def _refund_of_nights(nights: tuple[Money, ...], stayed: int, keep: Keep) -> Money:
    """Kept: the nights stayed, the next ones whole, then a per cent of the rest; a half cent goes to the guest."""
    whole = min(stayed + keep.nights, len(nights))
    rest = Money.sum(nights[whole:], nights[0].currency)
    return percent_of(rest, 100 - keep.rest_percent)


def _is_long(facts: CancellationFacts) -> bool:
    return facts.stay.nights >= facts.policy.rules.long_stay.min_nights


def _tier(facts: CancellationFacts) -> CancellationTier:
    rules = facts.policy.rules
    return rules.tier(rules.long_stay.before_tier if _is_long(facts) else facts.tier)


def _terms(facts: CancellationFacts) -> tuple[tuple[Window, ...], Keep]:
    tier = _tier(facts)
    after = facts.policy.rules.long_stay.after_check_in if _is_long(facts) else tier.after_check_in
    return tier.before_check_in, after


def _window_end(facts: CancellationFacts, window: Window) -> datetime:
    return facts.check_in_at if window.notice is None else facts.notice_at(window.notice)


# The lines ----------------------------------------------------------------------------------------------------------


def _lines(
    facts: CancellationFacts, outcome: _Outcome, now: datetime, trace: list[dict[str, Any]]
) -> tuple[LineOutcome, ...]:
    booked = Money.sum(facts.nights, facts.currency)
    before_check_in = now <= facts.check_in_at
    if outcome.share is not None:
        cleaning, guest_fee = facts.cleaning.share(outcome.share), facts.guest_fee.share(outcome.share)
        _note(trace, "lines", {"share": str(outcome.share)}, _json(cleaning=cleaning, guest_fee=guest_fee))
    else:
        cleaning = facts.cleaning if before_check_in else Money.zero(facts.currency)
        _note(trace, "cleaning", {"before_check_in": before_check_in}, _json(refund=cleaning))
        guest_fee = _guest_fee(facts, now, trace)
    service = (
        LineOutcome(kind="nights", paid=booked, refund=outcome.nights_refund),
        LineOutcome(kind="cleaning", paid=facts.cleaning, refund=cleaning),
        LineOutcome(kind="guest_fee", paid=facts.guest_fee, refund=guest_fee),
    )
    untaxed = Fraction(before_check_in) if outcome.share is None else outcome.share
    return (*service, *(_tax(tax, service, untaxed, trace) for tax in facts.taxes))


def _guest_fee(facts: CancellationFacts, now: datetime, trace: list[dict[str, Any]]) -> Money:
    """Back when cancelled within the first hours and before check-in (afterwards the service has been rendered), not
    more often than allowed, never for overlapping stays."""
    rule = facts.policy.rules.guest_fee
    ends = min(facts.confirmed_at + timedelta(hours=rule.hours), facts.check_in_at)
    applies = now <= ends and facts.prior_fee_refunds < rule.max_refunds and not facts.overlapping
    refund = facts.guest_fee if applies else Money.zero(facts.currency)
    inputs = {
        "ends_at": _utc(ends),
        "prior_refunds": facts.prior_fee_refunds,
        "max_refunds": rule.max_refunds,
        "overlapping": facts.overlapping,
    }
    _note(trace, "guest_fee", inputs, _json(refund=refund))
    return refund


def _tax(tax: TaxLine, service: tuple[LineOutcome, ...], untaxed: Fraction, trace: list[dict[str, Any]]) -> LineOutcome:
    """Pro rata to the refunded part of the lines it was computed from, a half cent to the guest; `untaxed` is the part
    that comes back where those lines cost nothing (a tax per night on a free stay)."""
    taxed = [line for line in service if line.kind in {_line_of(kind) for kind in tax.base}]
    paid = sum(line.paid.amount for line in taxed)
    refunded = sum(line.refund.amount for line in taxed)
    refund = tax.amount.share(Fraction(refunded, paid) if paid else untaxed)
    inputs = {"code": tax.code, "place": tax.place, "taxable_paid": paid, "taxable_refunded": refunded}
    _note(trace, tax.kind, inputs, _json(refund=refund))
    return LineOutcome(kind=tax.kind, paid=tax.amount, refund=refund, code=tax.code, place=tax.place)


def _line_of(price_kind: str) -> str:
    """Discounts and extra guests are part of the nights."""
    return price_kind if price_kind in ("cleaning", "guest_fee") else "nights"


# The trace ----------------------------------------------------------------------------------------------------------


def _asked(facts: CancellationFacts, now: datetime) -> dict[str, Any]:
    return {
        "rule": "facts",
        "inputs": {
            "policy": facts.policy.label,
            "tier": facts.tier,
            "now": _utc(now),
            "check_in_at": _utc(facts.check_in_at),
            "time_zone": facts.time_zone,
            "confirmed_at": _utc(facts.confirmed_at),
            "nights": [night.amount for night in facts.nights],
            "currency": facts.currency,
        },
        "outputs": {"nights_stayed": facts.nights_stayed(now)},
    }


def _note(trace: list[dict[str, Any]], rule: str, inputs: dict[str, Any], outputs: dict[str, Any]) -> None:
    trace.append({"rule": rule, "inputs": inputs, "outputs": outputs})


def _json(**amounts: Money) -> dict[str, Any]:
    return {name: {"amount": amount.amount, "currency": amount.currency} for name, amount in amounts.items()}


def _utc(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat()
