"""How often one may ask: an allowance kept in Redis, one round trip a request.

When Redis does not answer, ordinary requests go through (the desk works without it) but logins do not: guessing
passwords must never become free."""

from __future__ import annotations

import hashlib
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, Final

import redis
from django.conf import settings
from redis.commands.core import Script
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle

from api.arrival import address_of
from backoffice.core.actor import Actor
from backoffice.core.errors import UpstreamUnavailable

if TYPE_CHECKING:
    from rest_framework.views import APIView

PREFIX: Final = "desk:throttle:"
# Guesses at one account, from wherever they come. The address limit is a setting.
ACCOUNT_RATE: Final = "30/hour"
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@cache
def _redis() -> redis.Redis:
    return redis.Redis.from_url(settings.REDIS_URL, socket_timeout=0.5, socket_connect_timeout=0.5)


# The generic cell rate algorithm (ITU-T I.371): one value a key, the instant at which the allowance is whole again. A full
# allowance may be spent at once and comes back evenly, so there is no window whose edge can be straddled. Redis's own clock
# counts, the same for every web process. Microseconds; returns how long to wait.
_ALLOW: Final = """
local limit, period = tonumber(ARGV[1]), tonumber(ARGV[2])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local full = math.max(tonumber(redis.call('GET', KEYS[1]) or now), now) + period / limit
if full - now > period then
    return math.ceil(full - now - period)
end
redis.call('SET', KEYS[1], string.format('%.0f', full), 'PX', math.ceil((full - now) / 1000))
return 0
"""


def parse_rate(text: str) -> tuple[int, int]:
    """ "300/min" as (300, 60)."""
    count, _, period = text.partition("/")
    return int(count), _SECONDS[period[0]]


def wait_for(*, scope: str, ident: str, rate: str) -> float:
    """Count one request; 0 when it may go on, else the seconds to wait. Raises redis.RedisError."""
    limit, period = parse_rate(rate)
    name = PREFIX + scope + ":" + hashlib.sha256(ident.encode()).hexdigest()[:32]
    waiting = _redis_script()(keys=[name], args=[limit, period * 1_000_000])
    return int(waiting) / 1_000_000


@cache
def _redis_script() -> Script:
    return _redis().register_script(_ALLOW)


class RateThrottle(BaseThrottle):
    """A limit named `scope` in the settings, per `ident` of the request; no ident: not limited by this one."""

    scope: ClassVar[str]
    strict: ClassVar[bool] = False

    def __init__(self) -> None:
        self._wait = 0.0

    def rate(self) -> str:
        rate: str = settings.REST_FRAMEWORK["DEFAULT_THROTTLE_RATES"][self.scope]
        return rate

    def ident(self, request: Request) -> str | None:
        raise NotImplementedError

    def allow_request(self, request: Request, view: APIView) -> bool:
        ident = self.ident(request)
        if ident is None:
            return True
        try:
            self._wait = wait_for(scope=self.scope, ident=ident, rate=self.rate())
        except redis.RedisError:
            if self.strict:
                raise UpstreamUnavailable(part="Redis") from None
            return True
        return self._wait == 0

    def wait(self) -> float:
        return self._wait


class PersonThrottle(RateThrottle):
    """Per signed-in person."""

    scope = "person"

    def ident(self, request: Request) -> str | None:
        return str(request.auth.id) if isinstance(request.auth, Actor) else None


class AddressThrottle(RateThrottle):
    """Per address of those who are not signed in."""

    scope = "address"

    def ident(self, request: Request) -> str | None:
        return None if isinstance(request.auth, Actor) else _address(request)


class LoginThrottle(RateThrottle):
    """Per address, for whatever takes a password."""

    scope = "login"
    strict = True

    def ident(self, request: Request) -> str | None:
        return _address(request)


class AccountThrottle(RateThrottle):
    """Per account that is being tried, known or not, so that many addresses cannot share out the guessing."""

    scope = "account"
    strict = True

    def rate(self) -> str:
        return ACCOUNT_RATE

    def ident(self, request: Request) -> str | None:
        body: Any = request.data
        email = body.get("email") if isinstance(body, dict) else None
        return email.strip().lower()[:254] if isinstance(email, str) else None


def _address(request: Request) -> str:
    return address_of(request, settings.REST_FRAMEWORK["NUM_PROXIES"])
