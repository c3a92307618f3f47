"""Who stands at the console's door: the actor of a request, the instant it is answered, and where it came from."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import cast

from django.conf import settings
from django.http import HttpRequest

from backoffice.core import clock
from backoffice.core.actor import Actor
from backoffice.people import queries as people
from backoffice.people.models import User

_KEPT = "_staydesk_desk"


@dataclass(frozen=True, slots=True)
class Desk:
    """What every page and dialog is given: who asks, when, and the request itself."""

    actor: Actor
    now: datetime
    request: HttpRequest


def desk_of(request: HttpRequest) -> Desk:
    """The desk of a signed-in request; grants and clock are read once. Raises Suspended."""
    kept: Desk | None = getattr(request, _KEPT, None)
    if kept is None:
        now = clock.now()
        actor = people.actor_for(
            user=cast(User, request.user), now=now, request_id=_request_id(request), address=_address(request)
        )
        kept = Desk(actor=actor, now=now, request=request)
        setattr(request, _KEPT, kept)
    return kept


def may(request: HttpRequest, verb: str) -> bool:
    """Whether the signed-in person holds `verb`; false for everybody else."""
    user = request.user
    if not (user.is_authenticated and user.is_active and user.is_staff):
        return False
    return desk_of(request).actor.may(verb)


def _request_id(request: HttpRequest) -> str:
    given = request.headers.get("X-Request-ID", "")
    return given if given.isascii() and given.isprintable() and 0 < len(given) <= 64 else uuid.uuid4().hex


def _address(request: HttpRequest) -> str:
    """The client's address: the last one that our own proxies vouch for, never what a client claims."""
    proxies = settings.REST_FRAMEWORK["NUM_PROXIES"]
    chain = [part.strip() for part in request.headers.get("X-Forwarded-For", "").split(",") if part.strip()]
    if proxies and len(chain) >= proxies:
        return str(chain[-proxies])[:45]
    return str(request.META.get("REMOTE_ADDR", ""))[:45]
