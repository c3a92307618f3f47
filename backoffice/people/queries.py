"""Questions about people."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from django.db.models import QuerySet

from backoffice.core.actor import Actor, Grant
from backoffice.core.errors import NotFound, Suspended
from backoffice.people import policies
from backoffice.people.models import StaffRole, User
from backoffice.rulebook import queries as rulebook


def people() -> QuerySet[User]:
    """Everyone, newest first."""
    return User.objects.order_by("-id")


def person(*, person_id: int) -> User:
    """One person. Raises NotFound."""
    found = User.objects.filter(id=person_id).first()
    if found is None:
        raise NotFound(kind="person")
    return found


def person_by_code(*, code: str) -> User:
    """One person by public code. Raises NotFound."""
    found = User.objects.filter(code=code).first()
    if found is None:
        raise NotFound(kind="person")
    return found


def staff() -> QuerySet[User]:
    """Everyone who may open the console, with their roles."""
    return User.objects.filter(is_staff=True).prefetch_related("roles").order_by("-id")


def roles_of(*, person_id: int) -> tuple[str, ...]:
    """The staff roles a person holds, in a fixed order."""
    return tuple(StaffRole.objects.filter(user_id=person_id).order_by("role").values_list("role", flat=True))


def any_admin() -> bool:
    """Whether the desk has its first admin."""
    return StaffRole.objects.filter(role="admin").exists()


def grants_for(*, user: User, now: datetime) -> Mapping[str, Grant]:
    """What this person may do: the staff grants of their roles, or those over what is their own."""
    if user.is_staff:
        limits = rulebook.refund_limits(on=now.date())
        return policies.staff_grants(roles=roles_of(person_id=user.id), refund_limits=limits)
    return policies.own_grants(is_host=user.is_host)


def actor_for(*, user: User, now: datetime, request_id: str = "", address: str = "") -> Actor:
    """The actor a door hands inward for a signed-in person. Raises Suspended."""
    if user.status != "active":
        raise Suspended()
    return Actor(
        kind="staff" if user.is_staff else "host" if user.is_host else "guest",
        id=user.id,
        name=user.name,
        grants=grants_for(user=user, now=now),
        request_id=request_id,
        address=address,
    )


def cli_actor(*, name: str, reason: str = "", approval: str = "") -> Actor:
    """The actor of a person at the desk's own shell."""
    return Actor(kind="cli", id=None, name=name, grants=policies.cli_grants(), reason=reason, approval=approval)
