"""Who acts: a frozen fact handed from the door inward. Permission is arithmetic on its grants; no thread-local user."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from backoffice.core.errors import NotAllowed, OverLimit
from backoffice.core.money import Money

Kind = Literal["guest", "host", "staff", "system", "cli"]


@dataclass(frozen=True, slots=True)
class Grant:
    """One verb that the actor may do.

    `limit` and `daily` map currency -> minor units per act and per day; None: no limit. `scope` is "own" (only what is
    the actor's; the operation checks whose it is) or "any"."""

    scope: Literal["own", "any"] = "any"
    limit: Mapping[str, int] | None = None
    daily: Mapping[str, int] | None = None


@dataclass(frozen=True, slots=True)
class Actor:
    """The person or process that acts, from where, and why."""

    kind: Kind
    id: int | None
    name: str
    grants: Mapping[str, Grant] = field(default_factory=dict)
    request_id: str = ""
    address: str = ""
    reason: str = ""
    case: str = ""
    approval: str = ""

    def may(self, verb: str) -> bool:
        """Whether the actor holds the verb at all; menus and buttons ask this."""
        return self.kind == "system" or verb in self.grants

    def within(self, verb: str, *, amount: Money, used_today: int = 0) -> bool:
        """Whether `amount` is within the actor's limits for `verb`, `used_today` minor units being spent already."""
        try:
            self.must(verb, amount=amount, used_today=used_today)
        except NotAllowed:
            return False
        return True

    def must(self, verb: str, *, amount: Money | None = None, used_today: int = 0) -> Grant:
        """Return the grant for `verb`. Raises NotAllowed without one, OverLimit above its per-act or per-day limit."""
        if self.kind == "system":
            return Grant()
        grant = self.grants.get(verb)
        if grant is None:
            raise NotAllowed(verb=verb)
        if amount is None:
            return grant
        for limits, used, per in ((grant.limit, 0, "act"), (grant.daily, used_today, "day")):
            if limits is None:
                continue
            limit = limits.get(amount.currency, 0)
            if used + amount.amount > limit:
                raise OverLimit(verb=verb, amount=str(amount), limit=f"{Money(limit, amount.currency)} per {per}")
        return grant

    def because(self, reason: str) -> Actor:
        """The same actor with the reason for this act."""
        return replace(self, reason=reason)


def system(name: str) -> Actor:
    """A process of ours that acts by rule: beat, the webhook inbox, the importer."""
    return Actor(kind="system", id=None, name=name)
