"""Reading policy documents: JSON in, rules out, and a wrong field named by its path with the remedy.

A document is an object `{policy, version, effective_from, source, rules}`; a path reads `rules.tiers[2].label`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, time
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from backoffice.core.errors import Invalid
from backoffice.core.money import Money, is_currency
from backoffice.rulebook.policies.rules import (
    PRICE_KINDS,
    TAX_METHODS,
    CancellationRules,
    CancellationTier,
    ChargebackRules,
    CollectionRules,
    CommissionVat,
    FeePlan,
    FeeRules,
    GraceRule,
    GuestFeeRule,
    HostPenaltyRules,
    Jurisdiction,
    Keep,
    LongStayRule,
    Notice,
    PayoutRules,
    PenaltyBand,
    Policy,
    ReconciliationRules,
    RecoveryRules,
    RoleLimit,
    RoleLimitRules,
    SettlementRules,
    TaxRule,
    TaxRules,
    TimingRules,
    Window,
)

_CODE = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")
_PLACE_CODE = re.compile(r"[A-Z0-9][A-Z0-9-]{1,39}")
_COUNTRY = re.compile(r"[A-Z]{2}")


@dataclass(frozen=True, slots=True)
class _Field:
    """A value and the path that led to it. Every reader either returns what it promises or raises Invalid."""

    path: str
    value: Any

    def wrong(self, remedy: str) -> Invalid:
        path = self.path or "document"
        return Invalid(f"{path}: {remedy}", field=path)

    def object(self, *required: str, optional: tuple[str, ...] = ()) -> _Fields:
        if not isinstance(self.value, Mapping):
            raise self.wrong("write an object")
        for name in self.value:
            if name not in required and name not in optional:
                allowed = ", ".join((*required, *optional))
                raise _Field(self._at(str(name)), None).wrong(f"unknown field; remove it (allowed: {allowed})")
        for name in required:
            if name not in self.value:
                raise _Field(self._at(name), None).wrong("is missing; add it")
        return _Fields(self)

    def _at(self, name: str) -> str:
        return f"{self.path}.{name}" if self.path else name

    def child(self, name: str) -> _Field:
        return _Field(self._at(name), self.value.get(name))

    def items(self, *, at_least: int = 0) -> list[_Field]:
        if not isinstance(self.value, list) or len(self.value) < at_least:
            raise self.wrong(f"write a list of at least {at_least}" if at_least else "write a list")
        return [_Field(f"{self.path}[{index}]", item) for index, item in enumerate(self.value)]

    def text(self) -> str:
        if not isinstance(self.value, str) or not self.value.strip():
            raise self.wrong("write a text that is not empty")
        return self.value

    def matching(self, pattern: re.Pattern[str], example: str) -> str:
        if not isinstance(self.value, str) or not pattern.fullmatch(self.value):
            raise self.wrong(f"{self.value!r} is not of the form {example}")
        return self.value

    def code(self) -> str:
        return self.matching(_CODE, "non-refundable (lower case, digits, - and _)")

    def choice(self, allowed: Sequence[str]) -> str:
        if self.value not in allowed:
            raise self.wrong(f"{self.value!r} is not known; use one of {', '.join(allowed)}")
        return str(self.value)

    def flag(self) -> bool:
        if not isinstance(self.value, bool):
            raise self.wrong("write true or false")
        return self.value

    def whole(self, *, low: int = 0, high: int = 10**12) -> int:
        if isinstance(self.value, bool) or not isinstance(self.value, int) or not low <= self.value <= high:
            raise self.wrong(f"write a whole number from {low} to {high}")
        return self.value

    def percent(self) -> Decimal:
        """A percentage as text, so that no binary fraction ever meets it."""
        try:
            value = Decimal(self.value) if isinstance(self.value, str) else None
        except InvalidOperation:
            value = None
        if value is None or not value.is_finite() or not 0 <= value < 100:
            raise self.wrong('write a percentage from "0" to below "100" as text, such as "15.5"')
        return value

    def currency(self) -> str:
        if not isinstance(self.value, str) or not is_currency(self.value):
            raise self.wrong("write a three-letter currency code such as EUR")
        return self.value

    def money(self, currency: str) -> Money:
        return Money(self.whole(), currency)

    def day(self) -> date:
        try:
            return date.fromisoformat(self.value)
        except (TypeError, ValueError):
            raise self.wrong("write a date such as 2026-01-01") from None

    def clock(self) -> time:
        try:
            return time.fromisoformat(self.value)
        except (TypeError, ValueError):
            raise self.wrong("write a time of day such as 15:00") from None


@dataclass(frozen=True, slots=True)
class _Fields:
    """The checked fields of an object."""

    of: _Field

    def __getitem__(self, name: str) -> _Field:
        return self.of.child(name)

    def has(self, name: str) -> bool:
        return self.of.value.get(name) is not None


def _unique(fields: list[_Field], codes: Sequence[str], name: str) -> None:
    for index, code in enumerate(codes):
        if code in codes[:index]:
            raise fields[index].child(name).wrong(f"{code!r} is there twice; give each its own")


def _notice(field: _Field) -> Notice:
    names = field.object(optional=("hours", "days"))
    if names.has("hours") == names.has("days"):
        raise field.wrong('write either {"hours": 24} or {"days": 5}')
    if names.has("days"):
        return Notice(days=names["days"].whole(low=1, high=3650))
    return Notice(hours=names["hours"].whole(low=1, high=87_600))


def _optional_notice(fields: _Fields) -> Notice | None:
    return _notice(fields["notice"]) if fields.has("notice") else None


def _shrinking(fields: list[_Field], notices: Sequence[Notice | None]) -> None:
    """Notices run from the longest to none, so that exactly one entry answers for every instant."""
    if notices[-1] is not None:
        raise fields[-1].child("notice").wrong("the last entry covers the rest; remove its notice")
    for index, notice in enumerate(notices[:-1]):
        if notice is None:
            raise fields[index].child("notice").wrong("is missing; only the last entry goes without")
        if index and notice.nominal_hours >= (earlier := notices[index - 1]).nominal_hours:  # type: ignore[union-attr]
            raise fields[index].child("notice").wrong(f"must be shorter than {earlier}, the one before it")


def _keep(field: _Field) -> Keep:
    names = field.object("nights", "rest_percent")
    return Keep(nights=names["nights"].whole(high=366), rest_percent=names["rest_percent"].whole(high=100))


def _tier(field: _Field) -> CancellationTier:
    names = field.object("code", "label", "new_listings", "before_check_in", "after_check_in")
    entries = names["before_check_in"].items(at_least=1)
    windows = []
    for entry in entries:
        window = entry.object("keep", optional=("notice",))
        windows.append(Window(notice=_optional_notice(window), keep=_keep(window["keep"])))
    _shrinking(entries, [window.notice for window in windows])
    for index in range(1, len(windows)):
        before, after = windows[index - 1].keep, windows[index].keep
        if after.nights < before.nights or after.rest_percent < before.rest_percent:
            raise entries[index].child("keep").wrong("keeps less than the window before it; waiting must never pay")
    return CancellationTier(
        code=names["code"].code(),
        label=names["label"].text(),
        new_listings=names["new_listings"].flag(),
        before_check_in=tuple(windows),
        after_check_in=_keep(names["after_check_in"]),
    )


def _cancellation(field: _Field) -> CancellationRules:
    names = field.object("tiers", "grace", "guest_fee", "long_stay")
    entries = names["tiers"].items(at_least=1)
    tiers = tuple(_tier(entry) for entry in entries)
    _unique(entries, [tier.code for tier in tiers], "code")
    grace = names["grace"].object("hours", "min_notice", "max_nights")
    fee = names["guest_fee"].object("hours", "max_refunds", "months")
    long_stay = names["long_stay"].object("min_nights", "before_tier", "after_check_in")
    return CancellationRules(
        tiers=tiers,
        grace=GraceRule(
            hours=grace["hours"].whole(low=1),
            min_notice=_notice(grace["min_notice"]),
            max_nights=grace["max_nights"].whole(low=1),
        ),
        guest_fee=GuestFeeRule(
            hours=fee["hours"].whole(), max_refunds=fee["max_refunds"].whole(), months=fee["months"].whole(low=1)
        ),
        long_stay=LongStayRule(
            min_nights=long_stay["min_nights"].whole(low=2),
            before_tier=long_stay["before_tier"].choice([tier.code for tier in tiers]),
            after_check_in=_keep(long_stay["after_check_in"]),
        ),
    )


def _host_penalty(field: _Field) -> HostPenaltyRules:
    names = field.object("bands", "not_as_promised_percent", "currency", "floor", "cap")
    entries = names["bands"].items(at_least=1)
    bands = []
    for entry in entries:
        band = entry.object("percent", optional=("notice",))
        bands.append(PenaltyBand(notice=_optional_notice(band), percent=band["percent"].whole(high=100)))
    _shrinking(entries, [band.notice for band in bands])
    currency = names["currency"].currency()
    floor, cap = names["floor"].money(currency), names["cap"].money(currency)
    if cap < floor:
        raise names["cap"].wrong("is below the floor; raise it")
    return HostPenaltyRules(
        bands=tuple(bands),
        not_as_promised_percent=names["not_as_promised_percent"].whole(high=100),
        floor=floor,
        cap=cap,
    )


def _fee_plan(field: _Field) -> FeePlan:
    names = field.object("code", "label", "host_percent", "guest_percent", optional=("guest_fee_cap",))
    caps: tuple[Money, ...] = ()
    if names.has("guest_fee_cap"):
        listed = names["guest_fee_cap"]
        if not isinstance(listed.value, Mapping):
            raise listed.wrong('write an object such as {"EUR": 5000}')
        caps = tuple(listed.child(code).money(_Field(listed._at(code), code).currency()) for code in listed.value)
    return FeePlan(
        code=names["code"].code(),
        label=names["label"].text(),
        host_percent=names["host_percent"].percent(),
        guest_percent=names["guest_percent"].percent(),
        guest_fee_cap=caps,
    )


def _fees(field: _Field) -> FeeRules:
    names = field.object("plans", "default")
    entries = names["plans"].items(at_least=1)
    plans = tuple(_fee_plan(entry) for entry in entries)
    _unique(entries, [plan.code for plan in plans], "code")
    return FeeRules(plans=plans, default=names["default"].choice([plan.code for plan in plans]))


def _tax(field: _Field, currency: str) -> TaxRule:
    names = field.object(
        "code",
        "label",
        "method",
        "base",
        optional=("percent", "amount", "max_nights", "exempt_from_nights", "cap_per_person_night", "cap_per_stay"),
    )
    method = names["method"].choice(TAX_METHODS)
    wanted, other = ("percent", "amount") if method == "percent" else ("amount", "percent")
    if not names.has(wanted):
        raise names[wanted].wrong(f"is missing; a tax by {method} needs it")
    if names.has(other):
        raise names[other].wrong(f"a tax by {method} has none; remove it")
    if method == "percent" and names.has("max_nights"):
        raise names["max_nights"].wrong("a tax by percent counts no nights; remove it")

    def optional_whole(name: str) -> int | None:
        return names[name].whole(low=1) if names.has(name) else None

    def optional_money(name: str) -> Money | None:
        return names[name].money(currency) if names.has(name) else None

    return TaxRule(
        code=names["code"].code(),
        label=names["label"].text(),
        method=method,
        base=tuple(line.choice(PRICE_KINDS) for line in names["base"].items(at_least=1)),
        percent=names["percent"].percent() if method == "percent" else Decimal(0),
        amount=optional_money("amount"),
        max_nights=optional_whole("max_nights"),
        exempt_from_nights=optional_whole("exempt_from_nights"),
        cap_per_person_night=optional_money("cap_per_person_night"),
        cap_per_stay=optional_money("cap_per_stay"),
    )


def _jurisdiction(field: _Field) -> Jurisdiction:
    names = field.object("code", "label", "country", "currency", "cities", "taxes")
    currency = names["currency"].currency()
    entries = names["taxes"].items()
    taxes = tuple(_tax(entry, currency) for entry in entries)
    _unique(entries, [tax.code for tax in taxes], "code")
    return Jurisdiction(
        code=names["code"].matching(_PLACE_CODE, "BE-ANTWERP"),
        label=names["label"].text(),
        country=names["country"].matching(_COUNTRY, "BE (ISO 3166)"),
        currency=currency,
        cities=tuple(city.text() for city in names["cities"].items()),
        taxes=taxes,
    )


def _taxes(field: _Field) -> TaxRules:
    names = field.object("jurisdictions", "commission_vat")
    places = names["jurisdictions"].items()
    jurisdictions = tuple(_jurisdiction(place) for place in places)
    _unique(places, [jurisdiction.code for jurisdiction in jurisdictions], "code")
    entries = names["commission_vat"].items()
    vats = []
    for entry in entries:
        vat = entry.object("country", "label", "percent")
        vats.append(
            CommissionVat(
                country=vat["country"].matching(_COUNTRY, "BE (ISO 3166)"),
                label=vat["label"].text(),
                percent=vat["percent"].percent(),
            )
        )
    _unique(entries, [vat.country for vat in vats], "country")
    return TaxRules(jurisdictions=jurisdictions, commission_vat=tuple(vats))


def _timings(field: _Field) -> TimingRules:
    names = field.object(
        "quote_minutes",
        "hold_minutes",
        "hold_extensions",
        "hold_extension_minutes",
        "check_in_time",
        "check_out_time",
        "release_hours_after_check_in",
        "no_show_hours_after_check_out",
    )
    return TimingRules(
        quote_minutes=names["quote_minutes"].whole(low=1, high=1440),
        hold_minutes=names["hold_minutes"].whole(low=1, high=1440),
        hold_extensions=names["hold_extensions"].whole(high=10),
        hold_extension_minutes=names["hold_extension_minutes"].whole(low=1, high=1440),
        check_in_time=names["check_in_time"].clock(),
        check_out_time=names["check_out_time"].clock(),
        release_hours_after_check_in=names["release_hours_after_check_in"].whole(high=8760),
        no_show_hours_after_check_out=names["no_show_hours_after_check_out"].whole(high=8760),
    )


def _chargebacks(field: _Field) -> ChargebackRules:
    names = field.object("internal_deadline_percent", "ratio_threshold_percent", "ratio_warning_percent")
    return ChargebackRules(
        internal_deadline_percent=names["internal_deadline_percent"].percent(),
        ratio_threshold_percent=names["ratio_threshold_percent"].percent(),
        ratio_warning_percent=names["ratio_warning_percent"].percent(),
    )


def _reconciliation(field: _Field) -> ReconciliationRules:
    names = field.object("import_minutes", "status_minutes", "fx_band_basis_points", "bank", "rounding")
    bank = names["bank"].object("early_days", "business_days")
    rounding = names["rounding"].object("currency", "per_item", "per_run")
    currency = rounding["currency"].currency()
    per_item, per_run = rounding["per_item"].money(currency), rounding["per_run"].money(currency)
    if per_run.amount < per_item.amount:
        raise rounding["per_run"].wrong("is below the cap of one item; raise it")
    return ReconciliationRules(
        import_minutes=names["import_minutes"].whole(low=1, high=1440),
        status_minutes=names["status_minutes"].whole(low=1, high=1440),
        fx_band_basis_points=names["fx_band_basis_points"].whole(high=10_000),
        bank_early_days=bank["early_days"].whole(high=5),
        bank_business_days=bank["business_days"].whole(low=1, high=10),
        rounding_per_item=per_item,
        rounding_per_run=per_run,
    )


def _settlement(field: _Field) -> SettlementRules:
    names = field.object("native", "fallback")
    native = tuple(currency.currency() for currency in names["native"].items(at_least=1))
    return SettlementRules(native=native, fallback=names["fallback"].choice(native))


def _recovery(field: _Field) -> RecoveryRules:
    names = field.object(
        "bank_cool_down_hours", "netting_days", "retry_days", "reverse_automatically", "sweep_minimums"
    )
    entries = names["sweep_minimums"].items()
    rows = [entry.object("currency", "amount") for entry in entries]
    _unique(entries, [row["currency"].currency() for row in rows], "currency")
    return RecoveryRules(
        bank_cool_down_hours=names["bank_cool_down_hours"].whole(high=8760),
        netting_days=names["netting_days"].whole(high=365),
        retry_days=names["retry_days"].whole(low=1, high=365),
        reverse_automatically=names["reverse_automatically"].flag(),
        sweep_minimums=tuple(row["amount"].money(row["currency"].currency()) for row in rows),
    )


def _amounts(field: _Field) -> tuple[Money, ...]:
    """Amounts, at most one a currency."""
    entries = field.items()
    rows = [entry.object("currency", "amount") for entry in entries]
    _unique(entries, [row["currency"].currency() for row in rows], "currency")
    return tuple(row["amount"].money(row["currency"].currency()) for row in rows)


def _payouts(field: _Field) -> PayoutRules:
    names = field.object("instalments", "new_host_days", "retry_hours", "minimums")
    instalments = names["instalments"].object("from_nights", "nights")
    minimums = names["minimums"].object("wait_days", "amounts")
    return PayoutRules(
        instalments_from=instalments["from_nights"].whole(low=2, high=366),
        instalment_nights=instalments["nights"].whole(low=1, high=366),
        new_host_days=names["new_host_days"].whole(high=365),
        retry_hours=names["retry_hours"].whole(low=1, high=720),
        minimum_wait_days=minimums["wait_days"].whole(high=365),
        minimums=_amounts(minimums["amounts"]),
    )


def _collection(field: _Field) -> CollectionRules:
    names = field.object(
        "host_answer_hours",
        "capture_margin_hours",
        "hold_days",
        "retry_days",
        "pay_by_days",
        "damage",
        "least_charges",
        "most_digits",
        optional=("instalments",),
    )
    entries = names["retry_days"].items()
    retries = tuple(entry.whole(low=1, high=60) for entry in entries)
    if list(retries) != sorted(set(retries)):
        raise names["retry_days"].wrong("write rising days, each once")
    pay_by = names["pay_by_days"].whole(low=1, high=60)
    if retries and retries[-1] >= pay_by:
        raise names["pay_by_days"].wrong("must lie after the last of retry_days")
    instalments = names["instalments"].object("from_nights", "nights") if names.has("instalments") else None
    damage = names["damage"].object("request_days", "answer_hours", "cover_limits")
    return CollectionRules(
        host_answer_hours=names["host_answer_hours"].whole(low=1, high=168),
        capture_margin_hours=names["capture_margin_hours"].whole(low=1, high=72),
        hold_days=names["hold_days"].whole(low=2, high=730),
        retry_days=retries,
        pay_by_days=pay_by,
        instalments_from=instalments["from_nights"].whole(low=2, high=366) if instalments else None,
        instalment_nights=instalments["nights"].whole(low=1, high=366) if instalments else 0,
        damage_request_days=damage["request_days"].whole(low=1, high=365),
        damage_answer_hours=damage["answer_hours"].whole(high=720),
        cover_limits=_amounts(damage["cover_limits"]),
        least_charges=_amounts(names["least_charges"]),
        most_digits=names["most_digits"].whole(low=4, high=12),
    )


def _role_limit(field: _Field, currency: str) -> RoleLimit:
    names = field.object("role", "refund", "payout_hold", optional=("four_eyes_above", "goodwill"))
    refund: tuple[Money | None, Money | None]
    if names["refund"].value in ("any", "none"):
        refund = (None, None) if names["refund"].value == "any" else (Money.zero(currency), Money.zero(currency))
    else:
        amounts = names["refund"].object("per_action", "per_day")
        refund = (amounts["per_action"].money(currency), amounts["per_day"].money(currency))
        if amounts["per_day"].value < amounts["per_action"].value:
            raise amounts["per_day"].wrong("is below the limit of one action; raise it")
    hold: int | None
    if names["payout_hold"].value in ("any", "none"):
        hold = None if names["payout_hold"].value == "any" else 0
    else:
        hold = names["payout_hold"].object("hours")["hours"].whole(low=1)
    return RoleLimit(
        role=names["role"].code(),
        refund_per_action=refund[0],
        refund_per_day=refund[1],
        four_eyes_above=names["four_eyes_above"].money(currency) if names.has("four_eyes_above") else None,
        payout_hold_hours=hold,
        goodwill=names["goodwill"].money(currency) if names.has("goodwill") else Money.zero(currency),
    )


def _role_limits(field: _Field) -> RoleLimitRules:
    names = field.object("currency", "roles")
    currency = names["currency"].currency()
    entries = names["roles"].items(at_least=1)
    roles = tuple(_role_limit(entry, currency) for entry in entries)
    _unique(entries, [limit.role for limit in roles], "role")
    return RoleLimitRules(currency=currency, roles=roles)


_PARSERS: Final[dict[str, Callable[[_Field], object]]] = {
    "cancellation": _cancellation,
    "host-penalty": _host_penalty,
    "fees": _fees,
    "taxes": _taxes,
    "timings": _timings,
    "reconciliation": _reconciliation,
    "settlement": _settlement,
    "chargebacks": _chargebacks,
    "role-limits": _role_limits,
    "recovery": _recovery,
    "collection": _collection,
    "payouts": _payouts,
}
POLICY_KINDS: Final = tuple(_PARSERS)


def parse_policy(document: object) -> Policy[Any]:
    """Read a policy document. Raises Invalid whose sentence and `field` fact name the first field that is wrong."""
    names = _Field("", document).object("policy", "version", "effective_from", "source", "rules")
    kind = names["policy"].choice(POLICY_KINDS)
    return Policy(
        kind=kind,
        version=names["version"].whole(low=1),
        effective_from=names["effective_from"].day(),
        source=names["source"].text(),
        rules=_PARSERS[kind](names["rules"]),
    )
