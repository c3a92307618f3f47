"""Who is asking: bearer tokens, their rotation, and their end.

Access tokens are short and checked without the database; the person behind them is read on every request, so a suspension
works at once. Refresh tokens are used once: each use issues the next, and a second use of the same one means that somebody
copied it, so all of that person's are revoked (RFC 9700, 4.14.2). Only their ids are stored, never the tokens. Lifetimes
are security, not business: they follow the wall clock, also on a desk whose own clock was moved. ADR: docs/decisions."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, cast

from django.conf import settings
from django.contrib.auth.backends import AllowAllUsersModelBackend
from django.db import transaction
from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request
from rest_framework_simplejwt.exceptions import TokenError
from rest_framework_simplejwt.token_blacklist.models import BlacklistedToken, OutstandingToken
from rest_framework_simplejwt.tokens import AccessToken, RefreshToken, Token, UntypedToken

from api.arrival import address_of, request_id_of
from backoffice.core import clock
from backoffice.core.actor import Actor
from backoffice.core.errors import NotFound, NotSignedIn
from backoffice.people import queries as people

_CLAIM: Final = "user_id"
_BAD_TOKEN: Final = "The access token is not valid or has expired; refresh it or sign in again."  # noqa: S105
_BAD_REFRESH: Final = "The refresh token is not valid, has expired or was revoked; sign in again."


@dataclass(frozen=True, slots=True)
class Tokens:
    """A fresh pair; `expires_in` is the access token's life in seconds."""

    access: str
    refresh: str
    expires_in: int


class BearerAuthentication(BaseAuthentication):
    """`Authorization: Bearer <access token>`; puts the person in `request.user` and the actor in `request.auth`."""

    def authenticate(self, request: Request) -> tuple[Any, Actor] | None:
        scheme, _, raw = request.META.get("HTTP_AUTHORIZATION", "").partition(" ")
        if scheme.lower() != "bearer":
            return None
        try:
            token = AccessToken(cast(Any, raw.strip()))
        except TokenError:
            raise NotSignedIn(_BAD_TOKEN) from None
        return _person_and_actor(token, request)

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"


def _person_and_actor(token: Token, request: Request) -> tuple[Any, Actor]:
    try:
        person = people.person(person_id=int(token[_CLAIM]))
    except (KeyError, TypeError, ValueError, NotFound):
        raise NotSignedIn(_BAD_TOKEN) from None
    actor = people.actor_for(
        user=person,
        now=clock.now(),
        request_id=request_id_of(request),
        address=address_of(request, settings.REST_FRAMEWORK["NUM_PROXIES"]),
    )
    return person, actor


def person_by_password(*, email: str, password: str) -> Any:
    """The person with this e-mail and password. Raises NotSignedIn, taking as long for an unknown address as for a
    wrong password (Django's backend hashes either way)."""
    person = AllowAllUsersModelBackend().authenticate(None, username=email, password=password)
    if person is None:
        raise NotSignedIn("The e-mail address or the password is wrong.")
    return person


def issue(*, person_id: int) -> Tokens:
    """A new pair for a person whose right to it the caller has checked."""
    refresh = RefreshToken()
    refresh[_CLAIM] = str(person_id)
    OutstandingToken.objects.create(
        user_id=person_id,
        jti=refresh["jti"],
        token="",  # the id is enough to revoke it; a copy of this table lets nobody in
        created_at=refresh.current_time,
        expires_at=datetime.fromtimestamp(refresh["exp"], UTC),
    )
    access = refresh.access_token
    return Tokens(access=str(access), refresh=str(refresh), expires_in=int(access.lifetime.total_seconds()))


def rotate(*, raw: str) -> Tokens:
    """Spend a refresh token for the next pair.

    Raises NotSignedIn, and when it was spent before revokes every refresh token of its person; Suspended."""
    outstanding = _outstanding(raw)
    _, first_use = BlacklistedToken.objects.get_or_create(token=outstanding)  # unique: two uses at once, one first
    if not first_use:
        revoke_all(person_id=outstanding.user_id)
        raise NotSignedIn("This refresh token was used before; for safety all sessions were ended, sign in again.")
    people.actor_for(user=people.person(person_id=outstanding.user_id), now=clock.now())
    return issue(person_id=outstanding.user_id)


def revoke(*, raw: str) -> None:
    """End one session. Repeating it changes nothing. Raises NotSignedIn for what is no refresh token of ours."""
    BlacklistedToken.objects.get_or_create(token=_outstanding(raw))


def revoke_all(*, person_id: int) -> None:
    """End every session of a person; access tokens already issued run out within minutes."""
    with transaction.atomic():
        live = OutstandingToken.objects.filter(user_id=person_id, blacklistedtoken__isnull=True)
        BlacklistedToken.objects.bulk_create([BlacklistedToken(token=token) for token in live], ignore_conflicts=True)


def _outstanding(raw: str) -> Any:
    try:
        token = UntypedToken(cast(Any, raw))  # signature and expiry; whether it was spent is the caller's question
    except TokenError:
        raise NotSignedIn(_BAD_REFRESH) from None
    found = None
    if token.get("token_type") == RefreshToken.token_type:
        found = OutstandingToken.objects.filter(jti=token["jti"], user_id__isnull=False).first()
    if found is None:
        raise NotSignedIn(_BAD_REFRESH)
    return found
