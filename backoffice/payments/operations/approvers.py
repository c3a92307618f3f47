"""Whose second yes counts for money (DOMAIN.md "Roles and first limits"): one rule for refunds and for damage."""

from __future__ import annotations

from typing import Final

from backoffice.core.actor import Actor
from backoffice.core.errors import NotAllowed, OverLimit
from backoffice.core.money import Money
from backoffice.people import policies as people_policies
from backoffice.people import queries as people

# A lead approves up to what a lead may refund; finance approves any amount: its limit is only its four-eyes threshold.
_ANY_AMOUNT: Final = "finance"


def check_approver(*, what: str, verb: str, amount: Money, maker_id: int | None, actor: Actor) -> None:
    """Raise NotAllowed unless the actor may decide `what` (a refund, a charge) that the maker asked for: never the maker,
    and only whom their role may; OverLimit above what they may decide."""
    if maker_id is not None and maker_id == actor.id:
        raise NotAllowed(f"You asked for this {what} yourself: another person must decide it.")
    roles = people.roles_of(person_id=actor.id) if actor.id is not None else ()
    allowed = people_policies.may_approve(
        approver_roles=roles,
        maker_roles=people.roles_of(person_id=maker_id) if maker_id is not None else (),
        same_person=False,
    )
    if not allowed:
        raise NotAllowed(f"You may not decide this {what}: it needs another person with the authority for its maker.")
    grant = actor.grants.get("refunds.request")
    limit = grant.limit.get(amount.currency, 0) if grant and grant.limit is not None else None
    if _ANY_AMOUNT not in roles and limit is not None and amount.amount > limit:
        raise OverLimit(verb=verb, amount=str(amount), limit=str(Money(limit, amount.currency)))
