"""Pages by cursor: each begins after the last row of the one before, so nothing is skipped or repeated while rows come
and go, and the last page costs what the first does."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from rest_framework.pagination import BasePagination
from rest_framework.request import Request
from rest_framework.response import Response

from backoffice.core.errors import Invalid

if TYPE_CHECKING:
    from rest_framework.views import APIView

DEFAULT_LIMIT: Final = 20
MAX_LIMIT: Final = 100
_MAX_BIGINT: Final = 2**63 - 1


def encode_cursor(position: Sequence[int | str]) -> str:
    """An opaque cursor for a position."""
    return base64.urlsafe_b64encode(json.dumps(list(position), separators=(",", ":")).encode()).decode().rstrip("=")


def decode_cursor(text: str) -> list[int | str]:
    """The position in a cursor of ours. Raises Invalid naming `cursor`."""
    try:
        position = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except (ValueError, binascii.Error, RecursionError):
        raise _bad_cursor() from None
    if not isinstance(position, list) or not 0 < len(position) <= 8:
        raise _bad_cursor()
    for part in position:
        if isinstance(part, bool) or not isinstance(part, int | str) or len(str(part)) > 120:
            raise _bad_cursor()
        if isinstance(part, int) and not -_MAX_BIGINT <= part <= _MAX_BIGINT:
            raise _bad_cursor()
    return position


def _bad_cursor() -> Invalid:
    return Invalid("cursor: is not one that this list gave out; begin without it.", field="cursor")


def read_limit(request: Request) -> int:
    """`limit` from the query, 1 to 100. Raises Invalid naming it."""
    text = request.query_params.get("limit", str(DEFAULT_LIMIT))
    if not (text.isascii() and text.isdigit() and len(text) <= 3 and 1 <= int(text) <= MAX_LIMIT):
        raise Invalid(f"limit: write a whole number from 1 to {MAX_LIMIT}.", field="limit")
    return int(text)


def page_of(request: Request, results: Any, position: Sequence[int | str] | None) -> Response:
    """One page; `next` is the address of the following one, or null on the last."""
    following = None
    if position is not None:
        others = [part for part in request.META["QUERY_STRING"].split("&") if part and not part.startswith("cursor=")]
        query = "&".join([*others, f"cursor={encode_cursor(position)}"])
        following = f"{request.build_absolute_uri(request.path)}?{query}"
    return Response({"results": results, "next": following})


class CursorPages(BasePagination):
    """Pages of a queryset that is ordered by `-id`."""

    def paginate_queryset(self, queryset: Any, request: Request, view: APIView | None = None) -> list[Any]:
        self._request = request
        limit = read_limit(request)
        if cursor := request.query_params.get("cursor", ""):
            position = decode_cursor(cursor)
            if len(position) != 1 or not isinstance(position[0], int):
                raise _bad_cursor()
            queryset = queryset.filter(id__lt=position[0])
        rows = list(queryset[: limit + 1])
        self._position = (rows[limit - 1].id,) if len(rows) > limit else None
        return rows[:limit]

    def get_paginated_response(self, data: Any) -> Response:
        return page_of(self._request, data, self._position)

    def get_paginated_response_schema(self, schema: dict[str, Any]) -> dict[str, Any]:
        return {
            "type": "object",
            "required": ["results", "next"],
            "properties": {
                "results": schema,
                "next": {"type": ["string", "null"], "format": "uri", "description": "the following page"},
            },
        }
