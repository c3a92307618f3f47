"""The shapes of the rules: what a version of each policy says, as frozen values. No number lives here."""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Final, Generic, TypeVar

from backoffice.core.errors import Invalid
from backoffice.core.money import Money
from backoffice.core.stays import instant
from backoffice.core.words import counted

Rules = TypeVar("Rules", covariant=True)

PRICE_KINDS: Final = ("nights", "discount", "cleaning", "extra_guests", "guest_fee")
TAX_METHODS: Final = ("percent", "per_night", "per_person_night")


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy(Generic[Rules]):
    """One version of one policy. What used it keeps `label`, so that the numbers can be found again."""

    kind: str
    version: int
    effective_from: date
    source: str
    rules: Rules

    @property
    def label(self) -> str:
        return f"{self.kind}@{self.version}"


def in_force(*, policies: Iterable[Policy[Rules]], on: date) -> Policy[Rules]:
    """The version that rules on that day: the latest to have taken effect; of two from one day, the higher version.

    Raises Invalid when none had taken effect yet."""
    candidates = [policy for policy in policies if policy.effective_from <= on]
    if not candidates:
        raise Invalid(
            f"policy: no version is in force on {on.isoformat()}; load one that takes effect earlier", field="policy"
        )
    return max(candidates, key=lambda policy: (policy.effective_from, policy.version))


# Cancellation --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """How long before check-in. Hours are elapsed UTC hours; days are the check-in wall-clock time that many calendar
    days earlier. Exactly one of the two is set."""

    hours: int | None = None
    days: int | None = None

    def __post_init__(self) -> None:
        if (self.hours is None) == (self.days is None):
            raise ValueError("a notice is in hours or in days, not both or neither")

    def before(self, *, day: date, at: time, zone: str) -> datetime:
        """The UTC instant that lies this notice before the wall-clock time `at` of `day` in `zone`."""
        if self.days is not None:
            return instant(day - timedelta(days=self.days), at, zone)
        return instant(day, at, zone) - timedelta(hours=self.hours or 0)

    @property
    def nominal_hours(self) -> int:
        """For ordering notices only: here a day counts 24 hours, whatever the clocks do."""
        return self.hours if self.hours is not None else 24 * (self.days or 0)

    def __str__(self) -> str:
        return counted(self.hours, "hour") if self.hours is not None else counted(self.days or 0, "day")


@dataclass(frozen=True, slots=True, kw_only=True)
class Keep:
    """What the host keeps of the nights not stayed: the next `nights` whole, then `rest_percent` of the remainder."""

    nights: int
    rest_percent: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Up to and including `notice` before check-in (None: up to check-in itself) the host keeps `keep`."""

    notice: Notice | None
    keep: Keep


@dataclass(frozen=True, slots=True, kw_only=True)
class CancellationTier:
    """One tier: its windows before check-in, earliest first, and what is kept of the unstayed nights afterwards."""

    code: str
    label: str
    new_listings: bool
    before_check_in: tuple[Window, ...]
    after_check_in: Keep


@dataclass(frozen=True, slots=True, kw_only=True)
class GraceRule:
    """Full refund within `hours` of confirmation, if confirmed `min_notice` or more before check-in, for stays of at
    most `max_nights`."""

    hours: int
    min_notice: Notice
    max_nights: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestFeeRule:
    """The guest fee comes back within `hours` of confirmation, `max_refunds` times in `months`, never for overlapping
    stays."""

    hours: int
    max_refunds: int
    months: int

    def looks_back_to(self, *, now: datetime) -> datetime:
        """Refunds since this instant count: the same day and time `months` calendar months ago, the last day of that
        month where it has no such day."""
        year, month = divmod(now.year * 12 + now.month - 1 - self.months, 12)
        day = min(now.day, monthrange(year, month + 1)[1])
        return now.replace(year=year, month=month + 1, day=day)


@dataclass(frozen=True, slots=True, kw_only=True)
class LongStayRule:
    """From `min_nights` on: before check-in the tier `before_tier` rules, afterwards `after_check_in`."""

    min_nights: int
    before_tier: str
    after_check_in: Keep


@dataclass(frozen=True, slots=True, kw_only=True)
class CancellationRules:
    """Everything that decides a guest's cancellation."""

    tiers: tuple[CancellationTier, ...]
    grace: GraceRule
    guest_fee: GuestFeeRule
    long_stay: LongStayRule

    def tier(self, code: str) -> CancellationTier:
        """The tier of that code. Raises Invalid naming the known ones."""
        for tier in self.tiers:
            if tier.code == code:
                return tier
        known = ", ".join(tier.code for tier in self.tiers)
        raise Invalid(f"cancellation tier: {code!r} is not known; use one of {known}", field="tier")


@dataclass(frozen=True, slots=True, kw_only=True)
class PenaltyBand:
    """`percent` of the host price when the host cancels with this notice or more (None: with any)."""

    notice: Notice | None
    percent: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HostPenaltyRules:
    """What a host who cancels owes, floor and cap in one currency (converted at the cancellation date's rate)."""

    bands: tuple[PenaltyBand, ...]
    not_as_promised_percent: int
    floor: Money
    cap: Money


# Fees and taxes ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class FeePlan:
    """Platform fees as shares of the host price. `guest_fee_cap` caps the guest fee in the currencies it names."""

    code: str
    label: str
    host_percent: Decimal
    guest_percent: Decimal
    guest_fee_cap: tuple[Money, ...] = ()

    def cap_in(self, currency: str) -> Money | None:
        return next((cap for cap in self.guest_fee_cap if cap.currency == currency), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class FeeRules:
    """The fee plans and the one that a new listing gets."""

    plans: tuple[FeePlan, ...]
    default: str

    def plan(self, code: str) -> FeePlan:
        """The plan of that code. Raises Invalid naming the known ones."""
        for plan in self.plans:
            if plan.code == code:
                return plan
        known = ", ".join(plan.code for plan in self.plans)
        raise Invalid(f"fee plan: {code!r} is not known; use one of {known}", field="fee_plan")


@dataclass(frozen=True, slots=True, kw_only=True)
class TaxRule:
    """One occupancy tax. `percent` is of the sum of the `base` lines; `amount` is per night or per person and night.

    `base` also says which refunded lines bring the tax back. Amounts are in the jurisdiction's currency."""

    code: str
    label: str
    method: str
    base: tuple[str, ...]
    percent: Decimal = Decimal(0)
    amount: Money | None = None
    max_nights: int | None = None
    exempt_from_nights: int | None = None
    cap_per_person_night: Money | None = None
    cap_per_stay: Money | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Jurisdiction:
    """Where occupancy is taxed, and under which names of places listings fall there."""

    code: str
    label: str
    country: str
    currency: str
    cities: tuple[str, ...]
    taxes: tuple[TaxRule, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CommissionVat:
    """Value-added tax on our commission (the guest fee), by country of the home."""

    country: str
    label: str
    percent: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class TaxRules:
    """Every jurisdiction we collect for, and value-added tax on commission."""

    jurisdictions: tuple[Jurisdiction, ...]
    commission_vat: tuple[CommissionVat, ...]

    def jurisdiction(self, code: str) -> Jurisdiction:
        """The jurisdiction of that code. Raises Invalid naming the known ones."""
        for jurisdiction in self.jurisdictions:
            if jurisdiction.code == code:
                return jurisdiction
        known = ", ".join(jurisdiction.code for jurisdiction in self.jurisdictions)
        raise Invalid(f"jurisdiction: {code!r} is not known; use one of {known}", field="jurisdiction")

    def of_place(self, *, city: str, country: str) -> tuple[Jurisdiction, ...]:
        """The jurisdictions a home in that city falls under; none is an answer (nothing is collected there)."""
        name = city.strip().casefold()
        return tuple(
            jurisdiction
            for jurisdiction in self.jurisdictions
            if jurisdiction.country == country and name in {known.casefold() for known in jurisdiction.cities}
        )

    def vat_in(self, country: str) -> CommissionVat | None:
        return next((vat for vat in self.commission_vat if vat.country == country), None)


# Timings, settlement, limits -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class TimingRules:
    """How long offers, holds and releases last."""

    quote_minutes: int
    hold_minutes: int
    hold_extensions: int
    hold_extension_minutes: int
    check_in_time: time
    check_out_time: time
    release_hours_after_check_in: int
    no_show_hours_after_check_out: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ChargebackRules:
    """When we want to have answered a chargeback, and how many of them a card network bears.

    `internal_deadline_percent` is of the time from its opening to the provider's deadline; `ratio_threshold_percent` of
    chargebacks against charges in a month is the network's; we warn at `ratio_warning_percent` of that."""

    internal_deadline_percent: Decimal
    ratio_threshold_percent: Decimal
    ratio_warning_percent: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class ReconciliationRules:
    """From when on a difference between two books is one, and what of it may be given up as rounding.

    A movement younger than `import_minutes` may not have been imported yet, and news of a status may be `status_minutes`
    late. A settlement further than `fx_band_basis_points` from what the quote promised is not explained by a few days of the
    market. The bank may book a payout from `bank_early_days` before its day of arrival until `bank_business_days` after it.
    Up to `rounding_per_item` is rounding, and no more than `rounding_per_run` of it in all under one run."""

    import_minutes: int
    status_minutes: int
    fx_band_basis_points: int
    bank_early_days: int
    bank_business_days: int
    rounding_per_item: Money
    rounding_per_run: Money

    @property
    def import_grace(self) -> timedelta:
        return timedelta(minutes=self.import_minutes)

    @property
    def status_grace(self) -> timedelta:
        return timedelta(minutes=self.status_minutes)


@dataclass(frozen=True, slots=True, kw_only=True)
class SettlementRules:
    """Which charge currencies the provider settles as they are; it converts anything else to `fallback`."""

    native: tuple[str, ...]
    fallback: str

    def currency_for(self, charged: str) -> str:
        return charged if charged in self.native else self.fallback


@dataclass(frozen=True, slots=True, kw_only=True)
class PayoutRules:
    """When hosts are paid, besides the day after check-in that the timings name.

    Stays of `instalments_from` nights and more are paid `instalment_nights` at a time. A host's first payouts wait until
    `new_host_days` after their first confirmed booking. A transfer that was refused is tried again after `retry_hours`. Less
    than the minimum of its currency waits, but no longer than `minimum_wait_days`."""

    instalments_from: int
    instalment_nights: int
    new_host_days: int
    retry_hours: int
    minimum_wait_days: int
    minimums: tuple[Money, ...]

    def minimum(self, currency: str) -> Money:
        """The least amount that is sent at once; without an entry, any."""
        return next((least for least in self.minimums if least.currency == currency), Money(1, currency))


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryRules:
    """How what a host owes comes back, how long new bank details rest, and from how much on our earnings are swept.

    Netting against the next payouts has `netting_days`; then earlier transfers are reversed (by the job itself when
    `reverse_automatically`), and one that was refused is tried again after `retry_days`."""

    bank_cool_down_hours: int
    netting_days: int
    retry_days: int
    reverse_automatically: bool
    sweep_minimums: tuple[Money, ...]

    def sweep_minimum(self, currency: str) -> Money:
        """The least amount a sweep is made for; without an entry, any."""
        return next((least for least in self.sweep_minimums if least.currency == currency), Money(1, currency))


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectionRules:
    """How money comes in: when a host must answer, how long funds may be held, how a failed charge is tried again, how a
    long stay is paid, what may be asked for damage, and what can be charged at all.

    A failed charge is tried again `retry_days` after the first try; `pay_by_days` after it the booking is given up. Stays
    of `instalments_from` nights and more are paid `instalment_nights` at a time (None: in one)."""

    host_answer_hours: int
    capture_margin_hours: int
    hold_days: int
    retry_days: tuple[int, ...]
    pay_by_days: int
    instalments_from: int | None
    instalment_nights: int
    damage_request_days: int
    damage_answer_hours: int
    cover_limits: tuple[Money, ...]
    least_charges: tuple[Money, ...]
    most_digits: int

    def cover_limit(self, currency: str) -> Money:
        """The most of one damage that the house bears for a guest who does not pay; without an entry, nothing."""
        return next((most for most in self.cover_limits if most.currency == currency), Money.zero(currency))

    def check_chargeable(self, *, amount: Money, settled: Money, field: str) -> None:
        """Raise Invalid naming `field` for an amount that the provider would refuse: below its least in the currency that it
        settles (`settled`: the amount in that currency, about), between two steps of its currency, or too long."""
        if amount.amount <= 0:
            raise Invalid(f"{field}: write an amount above zero.", field=field)
        if settled < (least := self.least_charge(settled.currency)):
            raise Invalid(
                f"{field}: {amount} is less than a card can be charged (at least {least}); choose a longer stay or another "
                "currency.",
                field=field,
            )
        if amount.amount % amount.step:
            raise Invalid(
                f"{field}: cards are charged in {amount.currency} in steps of {Money(amount.step, amount.currency)}, and "
                f"{amount} is none; choose another currency, or ask the host for round prices.",
                field=field,
            )
        if len(str(amount.amount)) > (12 if amount.currency == "IDR" else self.most_digits):
            raise Invalid(
                f"{field}: {amount} is more than one card payment may be; choose a shorter stay or another currency.",
                field=field,
            )

    def least_charge(self, settled_in: str) -> Money:
        """The least the provider charges, in the currency it settles."""
        return next((least for least in self.least_charges if least.currency == settled_in), Money(1, settled_in))


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleLimit:
    """What a role may do without a second person. None is "no limit"; zero is "not at all"."""

    role: str
    refund_per_action: Money | None
    refund_per_day: Money | None
    four_eyes_above: Money | None
    payout_hold_hours: int | None
    goodwill: Money


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleLimitRules:
    """The first limits of each role, in one currency."""

    currency: str
    roles: tuple[RoleLimit, ...]

    def of(self, role: str) -> RoleLimit:
        """The limits of that role. Raises Invalid naming the known ones."""
        for limit in self.roles:
            if limit.role == role:
                return limit
        raise Invalid(
            f"role: {role!r} has no limits; use one of {', '.join(limit.role for limit in self.roles)}", field="role"
        )
