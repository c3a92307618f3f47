"""What a request says of itself before anybody is asked: its id and where it came from."""

from __future__ import annotations

import re
import uuid
from typing import Final

from django.http import HttpRequest
from rest_framework.request import Request

_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")


def request_id_of(request: HttpRequest | Request) -> str:
    """The client's X-Request-Id when it is short and plain, else one of ours."""
    given = str(request.META.get("HTTP_X_REQUEST_ID", ""))
    return given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex


def address_of(request: HttpRequest | Request, proxies: int) -> str:
    """The client's address: the connection's, or what the outermost of our `proxies` wrote down."""
    forwarded = str(request.META.get("HTTP_X_FORWARDED_FOR", ""))
    if proxies and forwarded:
        hops = [hop.strip() for hop in forwarded.split(",")]
        return hops[-min(proxies, len(hops))][:64]
    return str(request.META.get("REMOTE_ADDR", ""))[:64]
