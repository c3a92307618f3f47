"""The table of operations: method and path, the parameters they accept, the function that answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from .errors import Json
from .params import EXPAND, Field

Handler = Callable[..., Json]


@dataclass(frozen=True)
class Operation:
    """One operation of the API."""

    method: str
    path: str
    fields: Mapping[str, Field]
    handle: Handler


OPERATIONS: dict[tuple[str, str], Operation] = {}


def operation(
    method: str, path: str, fields: Mapping[str, Field] | None = None, *, expandable: bool = True
) -> Callable[[Handler], Handler]:
    """Register ``handler(ctx, params, **path_parts)`` for a path such as ``/v1/refunds/{refund}``."""

    def register(handler: Handler) -> Handler:
        table: dict[str, Any] = dict(fields or {})
        if expandable:
            table["expand"] = EXPAND
        OPERATIONS[method, path] = Operation(method, path, table, handler)
        return handler

    return register


# Operations of the API that Stripe answers and this sandbox does not yet: 501, never an invented answer.
NOT_SIMULATED: frozenset[tuple[str, str]] = frozenset(
    tuple(line.split())  # type: ignore[misc]
    for line in """
GET /v1/balance_settings
POST /v1/balance_settings
GET /v1/file_links
POST /v1/file_links
GET /v1/file_links/{link}
POST /v1/file_links/{link}
GET /v1/payment_intents/search
POST /v1/payouts/{payout}/reverse
GET /v1/reviews
GET /v1/reviews/{review}
POST /v1/reviews/{review}/approve
GET /v1/topups
POST /v1/topups
GET /v1/topups/{topup}
POST /v1/topups/{topup}
POST /v1/topups/{topup}/cancel
""".strip().splitlines()
)
# Two more, which the part of Stripe's schema at hand leaves out and which would be taken for the id of an object. Whatever
# else is asked under /v1/ or /v2/ has no route, and answers 501 for that.
SEARCHES: frozenset[tuple[str, str]] = frozenset({("GET", "/v1/charges/search"), ("GET", "/v1/customers/search")})
