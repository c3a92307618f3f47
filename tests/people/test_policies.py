"""Who may do what: the table of verb and role walked cell by cell, the limits, and whose second yes counts."""

from __future__ import annotations

import pytest

from backoffice.core.errors import NotAllowed, OverLimit
from backoffice.core.money import Money
from backoffice.people import policies
from backoffice.people.policies import GUEST_VERBS, HOST_VERBS, STAFF_VERBS, may_approve, own_grants, staff_grants
from backoffice.people.states import ROLES

LIMITS = {
    "support_l1": {"per_action": {"EUR": 10_000}, "per_day": {"EUR": 50_000}},
    "support_l2": {"per_action": {"EUR": 50_000}, "per_day": {"EUR": 250_000}},
    "finance": {"per_action": {"EUR": 200_000}},
}
# What DOMAIN.md says of each role, told once more by hand: a slip in the table does not repeat itself here.
MONEY = {
    "support_l1": {"bookings.cancel", "refunds.request", "refunds.cancel"},
    "support_l2": {"bookings.cancel", "refunds.request", "refunds.cancel"},
    "team_lead": {"bookings.cancel", "refunds.request", "refunds.cancel", "refunds.approve"},
    "finance": {"bookings.cancel", "refunds.request", "refunds.cancel", "refunds.approve", "refunds.repay"},
    "trust_safety": set(),
    "auditor": set(),
    "on_call": set(),
    "admin": set(),
}
MOVES_MONEY = {"bookings.cancel", "refunds.request", "refunds.cancel", "refunds.approve", "refunds.repay"}


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("verb", sorted(STAFF_VERBS))
def test_a_role_holds_the_verbs_of_the_table_and_no_other(verb: str, role: str) -> None:
    assert (verb in staff_grants(roles=[role], refund_limits=LIMITS)) is (role in STAFF_VERBS[verb])


@pytest.mark.parametrize("role", ROLES)
def test_who_moves_money(role: str) -> None:
    assert set(staff_grants(roles=[role], refund_limits=LIMITS)) & MOVES_MONEY == MONEY[role]


def test_nobody_who_only_reads_can_write() -> None:
    writing = {verb for verb in STAFF_VERBS if not verb.endswith((".view", ".export", ".verify"))}
    assert not set(staff_grants(roles=["auditor"], refund_limits=LIMITS)) & writing


def test_only_an_admin_grants_roles_and_an_admin_refunds_nothing() -> None:
    holders = {role for role in ROLES if "people.grant_role" in staff_grants(roles=[role], refund_limits=LIMITS)}
    assert holders == {"admin"}


def test_staff_hold_nothing_of_guests_and_guests_nothing_of_staff() -> None:
    everything = set(staff_grants(roles=ROLES, refund_limits=LIMITS))
    own = set(own_grants(is_host=True))
    assert not everything & {"bookings.create", "bookings.pay", "listings.create", "listings.edit"}
    assert own & everything <= {"bookings.cancel", "bookings.view", "payouts.view"}
    assert all(grant.scope == "own" for grant in own_grants(is_host=True).values())


def test_a_guest_lists_nothing() -> None:
    assert set(own_grants(is_host=False)) == set(GUEST_VERBS)
    assert set(own_grants(is_host=True)) == {*GUEST_VERBS, *HOST_VERBS}


def test_no_role_no_grants() -> None:
    assert staff_grants(roles=[], refund_limits=LIMITS) == {}


@pytest.mark.parametrize(
    ("roles", "per_act", "per_day"),
    [
        (["support_l1"], {"EUR": 10_000}, {"EUR": 50_000}),
        (["support_l1", "support_l2"], {"EUR": 50_000}, {"EUR": 250_000}),
        (["support_l1", "auditor"], {"EUR": 10_000}, {"EUR": 50_000}),
        (["support_l1", "finance"], {"EUR": 200_000}, None),
    ],
)
def test_the_widest_limit_of_several_roles_holds(roles: list[str], per_act: object, per_day: object) -> None:
    grant = staff_grants(roles=roles, refund_limits=LIMITS)["refunds.request"]
    assert (grant.limit, grant.daily) == (per_act, per_day)


def test_the_shell_reads_and_runs_jobs_and_moves_no_money() -> None:
    held = set(policies.cli_grants())
    assert "people.bootstrap" in held and "jobs.run" in held
    assert not held & MOVES_MONEY and not held & {"people.suspend", "people.grant_role", "listings.moderate"}


@pytest.mark.parametrize(
    ("maker", "approver", "may"),
    [
        (["support_l1"], ["team_lead"], True),
        (["support_l2"], ["team_lead"], True),
        (["team_lead"], ["team_lead"], False),
        (["finance"], ["team_lead"], False),
        (["team_lead"], ["finance"], True),
        (["finance"], ["finance"], True),
        (["support_l1"], ["support_l2"], False),
        (["support_l1"], ["admin"], False),
        (["support_l1"], ["trust_safety", "auditor"], False),
        # A person who acts with the limits of the higher role is approved by who may approve that role.
        (["support_l1", "team_lead"], ["team_lead"], False),
        (["support_l1", "team_lead"], ["finance"], True),
        (["support_l1", "auditor"], ["team_lead"], True),
        (["support_l1"], ["team_lead", "auditor"], True),
        ([], ["team_lead"], True),
        ([], ["support_l2"], False),
    ],
)
def test_whose_second_yes_counts(maker: list[str], approver: list[str], may: bool) -> None:
    assert may_approve(approver_roles=approver, maker_roles=maker, same_person=False) is may
    assert may_approve(approver_roles=approver, maker_roles=maker, same_person=True) is False


def test_the_grants_are_the_arithmetic_of_the_actor() -> None:
    from backoffice.core.actor import Actor

    actor = Actor(kind="staff", id=1, name="Mara", grants=staff_grants(roles=["support_l1"], refund_limits=LIMITS))
    assert actor.within("refunds.request", amount=Money(10_000, "EUR"), used_today=40_000)
    with pytest.raises(OverLimit):
        actor.must("refunds.request", amount=Money(10_001, "EUR"))
    with pytest.raises(OverLimit):
        actor.must("refunds.request", amount=Money(10_000, "EUR"), used_today=40_001)
    with pytest.raises(NotAllowed):
        actor.must("people.suspend")
