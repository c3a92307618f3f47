"""What several objects share: customers by id, addresses and shipping as responses show them."""

from __future__ import annotations

from .context import Context
from .errors import Json, missing_resource
from .params import ADDRESS
from .store import Record


def load_customer(ctx: Context, id: str, *, param: str = "customer") -> Record:
    """A customer that exists; ApiError 404 (in a path) or 400 (in a parameter), as Stripe does."""
    record = ctx.tx.find("customer", id, account=ctx.account)
    if record is None:
        error = missing_resource("customer", id, param=param)
        error.status = 404 if param == "id" else 400
        raise error
    return record


def complete(name: str, value: Json | str | None) -> Json | str | None:
    """An address or shipping block with every key that a response shows."""
    if not isinstance(value, dict):
        return value
    if name == "shipping":
        shown = {"carrier": None, "name": None, "phone": None, "tracking_number": None, **value}
        return {**shown, "address": complete("address", value.get("address", {}))}
    return {part: value.get(part) for part in ADDRESS}
