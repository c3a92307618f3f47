"""Who may do what: the one table of verb and role, and the limits of DOMAIN.md "Roles and first limits".

Menus, buttons, views, the API and the CLI all ask the grants that come from here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from backoffice.core.actor import Grant
from backoffice.people.states import ROLES

READING: Final = (
    "people.view",
    "listings.view",
    "bookings.view",
    "payments.view",
    "refunds.view",
    "payouts.view",
    "chargebacks.view",
    "webhooks.view",
    "jobs.view",
)
_ALL: Final = frozenset(ROLES)
_MONEY_READERS: Final = frozenset({"team_lead", "finance", "auditor", "on_call", "admin"})
_SUPPORT: Final = frozenset({"support_l1", "support_l2", "team_lead"})

# verb -> the staff roles that hold it. A verb that is not here does not exist for staff.
STAFF_VERBS: Final[Mapping[str, frozenset[str]]] = {
    **dict.fromkeys(READING, _ALL),
    "people.suspend": frozenset({"team_lead", "trust_safety"}),
    "people.reinstate": frozenset({"team_lead", "trust_safety"}),
    "people.grant_role": frozenset({"admin"}),
    "people.export": frozenset({"team_lead", "finance", "auditor"}),
    "listings.moderate": frozenset({"support_l2", "team_lead", "trust_safety"}),
    "listings.export": _ALL - {"support_l1"},
    "bookings.cancel": _SUPPORT | {"finance"},
    "bookings.export": _ALL - {"support_l1"},
    "bookings.mark_no_show": _SUPPORT,
    "refunds.request": _SUPPORT | {"finance"},
    "refunds.approve": frozenset({"team_lead", "finance"}),
    "refunds.cancel": _SUPPORT | {"finance"},
    "refunds.repay": frozenset({"finance"}),
    "refunds.export": frozenset({"team_lead", "finance", "auditor"}),
    "payments.export": frozenset({"team_lead", "finance", "auditor"}),
    "charges.request": frozenset({"support_l2", "team_lead", "finance"}),
    "charges.approve": frozenset({"team_lead", "finance"}),
    "payouts.hold": _SUPPORT | {"finance", "trust_safety"},
    "payouts.release": frozenset({"finance"}),
    "payouts.claw_back": frozenset({"finance"}),
    "payouts.write_off": frozenset({"finance"}),
    "payouts.sweep": frozenset({"finance"}),
    "payouts.approve_bank": frozenset({"finance"}),
    "payouts.export": frozenset({"team_lead", "finance", "auditor"}),
    "chargebacks.work": frozenset({"support_l2", "team_lead", "finance"}),
    "chargebacks.submit": frozenset({"team_lead", "finance"}),
    "chargebacks.export": frozenset({"team_lead", "finance", "auditor"}),
    "stops.switch": frozenset({"team_lead", "finance", "on_call"}),
    "ledger.view": _MONEY_READERS,
    "ledger.export": frozenset({"finance", "auditor"}),
    "audit.view": frozenset({"team_lead", "trust_safety", "finance", "auditor", "admin"}),
    "audit.verify": frozenset({"auditor", "on_call", "admin"}),
    "audit.export": frozenset({"auditor"}),
    "webhooks.replay": frozenset({"finance", "on_call"}),
    "jobs.run": frozenset({"on_call", "finance"}),
    "breaks.view": _MONEY_READERS,
    "breaks.work": frozenset({"finance"}),
    "breaks.write_off": frozenset({"finance"}),
    "breaks.export": frozenset({"finance", "auditor"}),
    "reconciliation.run": frozenset({"finance", "on_call"}),
    "reports.view": _MONEY_READERS,
}

# What an engineer at a shell may carry out once a second person has said yes to it (their approval's id is recorded).
LENT_VERBS: Final = (
    "payouts.release",
    "payouts.claw_back",
    "payouts.sweep",
    "refunds.request",
)

GUEST_VERBS: Final = (
    "bookings.quote",
    "bookings.create",
    "bookings.pay",
    "bookings.cancel",
    "bookings.view",
    "people.edit",
    "people.become_host",
)
HOST_VERBS: Final = (
    "listings.create",
    "listings.edit",
    "listings.block",
    "bookings.view",
    "bookings.cancel",
    "bookings.decide",
    "payouts.view",
    "payouts.onboard",
    "people.edit",
)

# An on-call engineer at a shell: jobs, checks and dry runs; breaks are worked where they are found, and whoever holds
# the shell may read the log. What decides about money asks for an approval id (DOMAIN.md, roles).
CLI_VERBS: Final = frozenset(verb for verb, roles in STAFF_VERBS.items() if "on_call" in roles) | {
    "people.bootstrap",
    "breaks.work",
    "audit.view",
}

# Whose refunds each approver may decide; nobody decides their own (DOMAIN.md "Approvers").
APPROVES: Final[Mapping[str, frozenset[str]]] = {
    "team_lead": frozenset({"support_l1", "support_l2"}),
    "finance": frozenset({"support_l1", "support_l2", "team_lead", "finance"}),
}

Limits = Mapping[str, Mapping[str, Mapping[str, int]]]


def _widest(limits: Iterable[Mapping[str, int] | None]) -> Mapping[str, int] | None:
    """The most generous of several limits per currency; None (no limit) wins."""
    merged: dict[str, int] = {}
    for limit in limits:
        if limit is None:
            return None
        for currency, amount in limit.items():
            merged[currency] = max(amount, merged.get(currency, 0))
    return merged


def staff_grants(*, roles: Iterable[str], refund_limits: Limits) -> dict[str, Grant]:
    """The grants of a staff person with `roles`.

    `refund_limits` maps role -> {"per_action" | "per_day": {currency: minor units}}; a role that is absent there but
    holds a refund verb has no limit of its own (finance; four eyes still apply above its threshold)."""
    held = set(roles)
    grants = {verb: Grant() for verb, may in STAFF_VERBS.items() if may & held}
    paying = sorted(STAFF_VERBS["refunds.request"] & held)
    if paying:
        rows = [refund_limits.get(role, {}) for role in paying]
        grants["refunds.request"] = Grant(
            limit=_widest(row.get("per_action") for row in rows), daily=_widest(row.get("per_day") for row in rows)
        )
    return grants


def own_grants(*, is_host: bool) -> dict[str, Grant]:
    """The grants of a guest, and of a host who is also one; all of them only over what is theirs."""
    verbs = (*GUEST_VERBS, *(HOST_VERBS if is_host else ()))
    return {verb: Grant(scope="own") for verb in verbs}


def cli_grants() -> dict[str, Grant]:
    """The grants of a person at the shell of the desk."""
    return {verb: Grant() for verb in CLI_VERBS}


def lent_grants() -> dict[str, Grant]:
    """The grants of a person at the shell to whom a second person has lent theirs for one act.

    A refund is only asked for: with a limit of nothing it waits for somebody who is known to decide it."""
    return {**cli_grants(), **{verb: Grant() for verb in LENT_VERBS}, "refunds.request": Grant(limit={})}


def may_approve(*, approver_roles: Iterable[str], maker_roles: Iterable[str], same_person: bool) -> bool:
    """Whether one person may say the second yes to what another began."""
    if same_person:
        return False
    decided = frozenset().union(*(APPROVES.get(role, frozenset()) for role in approver_roles))
    # Who holds several roles acts with the widest limit of them, and is approved by who may approve each of those.
    made_as = set(maker_roles) & STAFF_VERBS["refunds.request"]
    return bool(decided) and made_as <= decided
