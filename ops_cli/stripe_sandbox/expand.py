"""``expand[]``: ids in a response replaced by the objects they name, up to four levels."""

from __future__ import annotations

from collections.abc import Iterable

from . import balance
from .context import Context
from .errors import ApiError, Json
from .paging import newest

DEEPEST = 4
# What may be expanded, by kind of object and field: the kind that the id names.
EXPANDABLE: dict[str, dict[str, str]] = {
    "payment_intent": {
        "application": "application", "customer": "customer", "latest_charge": "charge", "on_behalf_of": "account",
        "payment_method": "payment_method", "review": "review",
    },
    "charge": {
        "application": "application", "application_fee": "application_fee",
        "balance_transaction": "balance_transaction", "customer": "customer",
        "failure_balance_transaction": "balance_transaction", "on_behalf_of": "account",
        "payment_intent": "payment_intent", "refunds": "refunds", "review": "review", "source_transfer": "transfer",
        "transfer": "transfer",
    },
    "refund": {
        "balance_transaction": "balance_transaction", "charge": "charge", "customer": "customer",
        "failure_balance_transaction": "balance_transaction", "payment_intent": "payment_intent",
        "payment_method": "payment_method", "source_transfer_reversal": "transfer_reversal",
        "transfer_reversal": "transfer_reversal",
    },
    "balance_transaction": {"source": "any"},
    "payment_method": {"customer": "customer"},
    "customer": {"default_source": "card"},
    "capability": {"account": "account"},
    "setup_intent": {"application": "application", "customer": "customer", "latest_attempt": "setup_attempt",
                     "mandate": "mandate", "on_behalf_of": "account", "payment_method": "payment_method",
                     "single_use_mandate": "mandate"},
    "dispute": {"charge": "charge", "payment_intent": "payment_intent"},
    "radar.early_fraud_warning": {"charge": "charge", "payment_intent": "payment_intent"},
    "transfer": {"balance_transaction": "balance_transaction", "destination": "account",
                 "destination_payment": "charge", "source_transaction": "charge"},
    "transfer_reversal": {"balance_transaction": "balance_transaction", "destination_payment_refund": "refund",
                          "source_refund": "refund", "transfer": "transfer"},
    "payout": {"application_fee": "application_fee", "balance_transaction": "balance_transaction",
               "destination": "bank_account", "failure_balance_transaction": "balance_transaction",
               "original_payout": "payout", "reversed_by": "payout"},
    "bank_account": {"account": "account", "customer": "customer"},
    "connect_collection_transfer": {"destination": "account"},
}  # fmt: skip


def expand(ctx: Context, body: Json, paths: Iterable[str]) -> Json:
    """Replace what ``paths`` name inside ``body``, in place; ApiError 400 for a path that cannot be expanded."""
    for path in paths:
        parts = path.split(".")
        if len(parts) - (parts[0] == "data") > DEEPEST:
            raise ApiError(
                400,
                f"You cannot expand more than {DEEPEST} levels of a property. Property: {path}",
                code="property_expansion_max_depth",
                param="expand",
            )
        if body.get("object") == "list":
            _into_list(ctx, body, parts, path)
        else:
            _into(ctx, body, parts, path)
    return body


def _into_list(ctx: Context, listing: Json, parts: list[str], path: str) -> None:
    if parts[0] != "data" or len(parts) == 1:
        raise _refused(path, f"You may want to try expanding 'data.{path}' instead.")
    for item in listing["data"]:
        _into(ctx, item, parts[1:], path)


def _into(ctx: Context, item: Json, parts: list[str], path: str) -> None:
    name, deeper = parts[0], parts[1:]
    kind = EXPANDABLE.get(str(item.get("object")), {}).get(name)
    if kind is None and not (deeper and isinstance(item.get(name), dict)):
        raise _refused(path)
    if kind == "refunds" and name not in item:
        item[name] = refunds_of(ctx, item["id"])
    value = item.get(name)
    if isinstance(value, str):
        value = item[name] = _found(ctx, value) or value
    if deeper and isinstance(value, dict):
        if value.get("object") == "list":
            _into_list(ctx, value, deeper, path)
        else:
            _into(ctx, value, deeper, path)


def _found(ctx: Context, id: str) -> Json | None:
    table = "balance_transactions" if id.startswith("txn_") else "objects"
    owner = ctx.tx.value(f"SELECT account FROM {table} WHERE id = ?", id)  # noqa: S608 - one of two names
    # The platform sees what its own objects name in connected accounts; these never see anything of the platform.
    if owner is None or (owner != ctx.account and not ctx.on_platform):
        return None
    if table == "balance_transactions":
        return balance.find(ctx.within(owner), id)
    record = ctx.tx.find(ctx.tx.value("SELECT kind FROM objects WHERE id = ?", id), id, account=owner)
    return record.doc if record else None


def refunds_of(ctx: Context, charge: str) -> Json:
    """The list of refunds inside a charge: the ten newest."""
    found, more = newest(ctx, "refund", "doc ->> '$.charge' = ?", charge, limit=10)
    return {"object": "list", "data": found, "has_more": more, "url": f"/v1/charges/{charge}/refunds"}


def _refused(path: str, hint: str = "") -> ApiError:
    return ApiError(400, f"This property cannot be expanded ({path}). {hint}".strip(), param="expand")
