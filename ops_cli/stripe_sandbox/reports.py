"""Report runs: balance transactions as CSV, in Stripe's columns. Amounts are decimals in major units here."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from .context import Context, deferred
from .errors import ApiError, Json
from .events import emit
from .filing import Upload, store
from .money import decimals
from .store import Record

_DAY, _LAG = 86400, 43200
DATA_FROM = 1577836800  # 2020-01-01; Stripe has data from the account's first day
_METADATA = re.compile(r"(payment|refund|transfer)_metadata\[[^\[\]]+\]")
Values = dict[str, Any]


def _block(prefix: str) -> list[str]:
    return [f"{prefix}_{part}" for part in ("line1", "line2", "city", "state", "postal_code", "country")]


_ADDRESSES = [*_block("customer_shipping_address"), *_block("customer_address"), *_block("shipping_address"),
              *_block("card_address")]  # fmt: skip
_AMOUNTS = ["currency", "gross", "fee", "net", "reporting_category", "source_id", "description",
            "customer_facing_amount", "customer_facing_currency", "regulatory_tag"]  # fmt: skip
_CUSTOMER = ["customer_id", "customer_email", "customer_name", "customer_description", *_ADDRESSES]
_CARD = ["payment_method_type", "is_link", "card_brand", "card_funding", "card_country", "statement_descriptor",
         "dispute_reason", "connected_account_id", "connected_account_name", "connected_account_country",
         "connected_account_direct_charge_id"]  # fmt: skip
_ACTIVITY = [
    "balance_transaction_id", "created_utc", "created", "available_on_utc", "available_on", *_AMOUNTS,
    "automatic_payout_id", "automatic_payout_effective_at_utc", "automatic_payout_effective_at", *_CUSTOMER,
    "charge_id", "payment_intent_id", "charge_created_utc", "charge_created", "invoice_id", "invoice_number",
    "subscription_id", *_CARD,
]  # fmt: skip
_RECONCILIATION = [
    "automatic_payout_id", "automatic_payout_effective_at", "balance_transaction_id", "created_utc", "created",
    "available_on_utc", "available_on", *_AMOUNTS, "automatic_payout_effective_at_utc", *_CUSTOMER, "charge_id",
    "payment_intent_id", "charge_created_utc", "charge_created", "invoice_id", "invoice_number", "subscription_id",
    "order_id", *_CARD, "destination_payment_id",
]  # fmt: skip
_PAYOUTS = [
    "payout_id", "effective_at_utc", "effective_at", "currency", "gross", "fee", "net", "reporting_category",
    "balance_transaction_id", "description", "payout_expected_arrival_date", "payout_status", "payout_reversed_at_utc",
    "payout_reversed_at", "payout_type", "payout_description", "payout_destination_id", "regulatory_tag",
]  # fmt: skip
_SUMMARY = ["reporting_category", "currency", "count", "gross", "fee", "net"]
_DEFAULT = ["balance_transaction_id", "created", "available_on", "currency", "gross", "fee", "net",
            "reporting_category", "description"]  # fmt: skip
_BANK = "('payout', 'payout_reversal')"


@dataclass(frozen=True)
class ReportType:
    """One kind of report: its columns, and the rows it consists of."""

    id: str
    name: str
    columns: list[str]
    default: list[str]
    rows: Callable[[Context, Json], Iterable[Values]]

    @property
    def version(self) -> int:
        """The number at the end of the id."""
        return int(self.id.rpartition(".")[2])

    def knows(self, column: str) -> bool:
        """Whether ``column`` can be asked for."""
        return column in self.columns or ("customer_id" in self.columns and bool(_METADATA.fullmatch(column)))


def available_end(ctx: Context) -> int:
    """Until when there is data: the last midnight (UTC) that is at least twelve hours ago."""
    return int((ctx.now - _LAG) // _DAY * _DAY)


def start(ctx: Context, kind: ReportType, parameters: Json) -> Record:
    """A report run; the CSV is there a while later."""
    record = ctx.add("reporting.report_run", {
        "id": ctx.tx.new_id("frr_"),
        "object": "reporting.report_run",
        "created": ctx.time,
        "error": None,
        "livemode": False,
        "parameters": parameters,
        "report_type": kind.id,
        "result": None,
        "status": "pending",
        "succeeded_at": None,
    })  # fmt: skip
    ctx.defer("finish_report", record.id, at=ctx.now + ctx.settings.report_seconds)
    return record


@deferred("finish_report")
def _finish(ctx: Context, id: str) -> None:
    record = ctx.load("reporting.report_run", id)
    kind = TYPES[record.doc["report_type"]]
    columns = record.doc["parameters"].get("columns") or kind.default
    text = io.StringIO()
    writer = csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\n")
    writer.writerow(columns)
    for values in kind.rows(ctx, record.doc["parameters"]):
        writer.writerow(["" if values.get(column) is None else values[column] for column in columns])
    file = store(ctx, Upload(f"{id}.csv", text.getvalue().encode()), "finance_report_run")
    record.doc.update(status="succeeded", succeeded_at=ctx.time, result=file.doc)
    ctx.tx.save(record)
    emit(ctx, "reporting.report_run.succeeded", record.doc)


def check(ctx: Context, kind: ReportType, parameters: Json) -> None:
    """ApiError 400 for an interval without data or a column the report does not have."""
    by_payout = kind.id.startswith("payout_reconciliation") and "payout" in parameters
    for name in ("interval_start", "interval_end"):
        if name not in parameters and not by_payout:
            raise ApiError(400, f"Missing required param: parameters[{name}].", code="parameter_missing",
                           param=f"parameters[{name}]")  # fmt: skip
    begin, end = parameters.get("interval_start", DATA_FROM), parameters.get("interval_end", available_end(ctx))
    if not DATA_FROM <= begin < end <= available_end(ctx):
        raise ApiError(
            400,
            f"The interval must lie between data_available_start ({DATA_FROM}) and data_available_end "
            f"({available_end(ctx)}), and start before it ends.",
            param="parameters[interval_end]",
        )
    for column in parameters.get("columns") or []:
        if not kind.knows(column):
            raise ApiError(400, f"The report {kind.id} has no column {column}.", param="parameters[columns]")


def _transactions(ctx: Context, parameters: Json, condition: str, *args: object) -> list[Any]:
    where, given = [condition, "account = ?"], [*args, ctx.account]
    for name in ("currency", "reporting_category"):
        if name in parameters:
            where.append(f"{name} = ?")
            given.append(parameters[name])
    return ctx.tx.rows(
        f"SELECT * FROM balance_transactions WHERE {' AND '.join(where)} ORDER BY seq",  # noqa: S608 - bound values
        *given,
    )


def _activity(ctx: Context, parameters: Json) -> Iterator[Values]:
    for row in _transactions(ctx, parameters, f"created >= ? AND created < ? AND reporting_category NOT IN {_BANK}",
                             parameters["interval_start"], parameters["interval_end"]):  # fmt: skip
        yield _item(ctx, row, parameters)


def _reconciliation(ctx: Context, parameters: Json) -> Iterator[Values]:
    """What automatic payouts that took effect in the interval (or one payout) are made of."""
    for row in _transactions(ctx, parameters, f"payout IS NOT NULL AND reporting_category NOT IN {_BANK}"):
        payout = ctx.load("payout", row["payout"]).doc
        wanted = row["payout"] == parameters.get("payout", row["payout"])
        begin, end = parameters.get("interval_start", 0), parameters.get("interval_end", ctx.now)
        if wanted and begin <= payout["created"] < end:
            yield _item(ctx, row, parameters)


def _payouts(ctx: Context, parameters: Json) -> Iterator[Values]:
    local = _clock(parameters)
    for row in _transactions(ctx, parameters, f"created >= ? AND created < ? AND reporting_category IN {_BANK}",
                             parameters["interval_start"], parameters["interval_end"]):  # fmt: skip
        payout = ctx.load("payout", row["source"]).doc
        reversed_at = row["created"] if row["reporting_category"] == "payout_reversal" else None
        yield {
            **_money(row),
            "payout_id": payout["id"],
            "effective_at_utc": _utc(row["created"]),
            "effective_at": local(row["created"]),
            "balance_transaction_id": row["id"],
            "description": row["description"],
            "payout_expected_arrival_date": _utc(payout["arrival_date"]),
            "payout_status": payout["status"],
            "payout_reversed_at_utc": reversed_at and _utc(reversed_at),
            "payout_reversed_at": reversed_at and local(reversed_at),
            "payout_type": payout["type"],
            "payout_description": payout["description"],
            "payout_destination_id": payout["destination"],
        }


def _summary(ctx: Context, parameters: Json) -> Iterator[Values]:
    rows = ctx.tx.rows(
        "SELECT reporting_category, currency, count(*) AS count, sum(amount) AS amount, sum(fee) AS fee, "
        "sum(net) AS net FROM balance_transactions WHERE account = ? AND created >= ? AND created < ? "
        "AND reporting_category NOT IN ('payout', 'payout_reversal') GROUP BY reporting_category, currency ORDER BY 1, 2",
        ctx.account,
        parameters["interval_start"],
        parameters["interval_end"],
    )
    yield from map(_money, rows)


def _balance_summary(ctx: Context, parameters: Json) -> Iterator[Values]:
    """Where each currency's balance began, what activity and payouts did to it, where it ended."""
    begin, end = parameters["interval_start"], parameters["interval_end"]
    steps = (
        ("starting_balance", "Starting balance", "created < ?", (begin,)),
        ("activity", "Account activity", f"created >= ? AND created < ? AND reporting_category NOT IN {_BANK}",
         (begin, end)),
        ("payouts", "Less payouts", f"created >= ? AND created < ? AND reporting_category IN {_BANK}", (begin, end)),
        ("ending_balance", "Ending balance", "created < ?", (end,)),
    )  # fmt: skip
    currencies = [row[0] for row in ctx.tx.rows(
        "SELECT DISTINCT currency FROM balance_transactions WHERE account = ? AND created < ? ORDER BY 1",
        ctx.account, end)]  # fmt: skip
    for currency in currencies:
        for category, description, condition, bounds in steps:
            sql = "SELECT coalesce(sum(net), 0) FROM balance_transactions WHERE account = ? AND currency = ? AND "
            net = ctx.tx.value(sql + condition, ctx.account, currency, *bounds)
            yield {"category": category, "description": description, "net_amount": _major(net, currency),
                   "currency": currency}  # fmt: skip


def _item(ctx: Context, row: Any, parameters: Json) -> Values:
    local = _clock(parameters)
    values: Values = {
        **_money(row),
        "balance_transaction_id": row["id"],
        "created_utc": _utc(row["created"]),
        "created": local(row["created"]),
        "available_on_utc": _utc(row["available_on"]),
        "available_on": local(row["available_on"]),
        "source_id": row["source"],
        "description": row["description"],
    }
    if row["payout"]:
        effective = ctx.load("payout", row["payout"]).doc["created"]
        values.update(
            automatic_payout_id=row["payout"],
            automatic_payout_effective_at_utc=_utc(effective),
            automatic_payout_effective_at=local(effective),
        )
    source = ctx.tx.rows("SELECT kind, doc FROM objects WHERE id = ?", row["source"])
    if source:
        values.update(_about_source(ctx, source[0]["kind"], json.loads(source[0]["doc"]), local))
    return values


def _about_source(ctx: Context, kind: str, doc: Json, local: Callable[[int], str]) -> Values:
    values: Values = {}
    charge: Json | None = doc if kind == "charge" else None
    if kind in ("refund", "dispute"):
        charge = ctx.load("charge", doc["charge"]).doc
        values["customer_facing_amount"] = _major(-doc["amount"], doc["currency"])
        values["customer_facing_currency"] = doc["currency"]
    if kind == "refund":
        values.update({f"refund_metadata[{key}]": value for key, value in doc["metadata"].items()})
    if kind == "dispute":
        values["dispute_reason"] = doc["reason"]
    if kind == "transfer":
        values.update(connected_account_id=doc["destination"], destination_payment_id=doc["destination_payment"])
        values.update({f"transfer_metadata[{key}]": value for key, value in doc["metadata"].items()})
    if charge is not None:
        values = {**_about_charge(charge, local), **values}
        customer = ctx.tx.find("customer", charge["customer"] or "", account=ctx.account)
        if customer is not None:
            values.update(customer_id=customer.id, customer_email=customer.doc["email"],
                          customer_name=customer.doc["name"], customer_description=customer.doc["description"])  # fmt: skip
    return values


def _about_charge(charge: Json, local: Callable[[int], str]) -> Values:
    card = (charge["payment_method_details"] or {}).get("card") or {}
    return {
        "charge_id": charge["id"],
        "payment_intent_id": charge["payment_intent"],
        "charge_created_utc": _utc(charge["created"]),
        "charge_created": local(charge["created"]),
        "customer_facing_amount": _major(charge["amount"], charge["currency"]),
        "customer_facing_currency": charge["currency"],
        "payment_method_type": (charge["payment_method_details"] or {}).get("type"),
        "is_link": "false",
        "card_brand": card.get("brand"),
        "card_funding": card.get("funding"),
        "card_country": card.get("country"),
        "statement_descriptor": charge["calculated_statement_descriptor"],
        **{f"payment_metadata[{key}]": value for key, value in charge["metadata"].items()},
    }


def _money(row: Any) -> Values:
    values: Values = {name: _major(row["amount" if name == "gross" else name], row["currency"])
                      for name in ("gross", "fee", "net")}  # fmt: skip
    if "count" in row.keys():  # noqa: SIM118 - a row of SQLite iterates over its values
        values["count"] = row["count"]
    return {**values, "currency": row["currency"], "reporting_category": row["reporting_category"]}


def _major(amount: int, currency: str) -> str:
    places = decimals(currency)
    whole, part = divmod(abs(amount), 10**places)
    return ("-" if amount < 0 else "") + (f"{whole}.{part:0{places}d}" if places else str(whole))


def _utc(at: int) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _clock(parameters: Json) -> Callable[[int], str]:
    zone = ZoneInfo(parameters.get("timezone") or "Etc/UTC")
    return lambda at: datetime.fromtimestamp(at, zone).strftime("%Y-%m-%d %H:%M:%S")


TYPES = {
    kind.id: kind
    for kind in (
        ReportType("balance_change_from_activity.itemized.3", "Itemized balance change from activity", _ACTIVITY,
                   _DEFAULT, _activity),
        ReportType("balance_change_from_activity.itemized.6", "Itemized balance change from activity",
                   [name for name in _ACTIVITY if name not in ("created", "available_on", "charge_created")]
                   + ["trace_id", "trace_id_status"],
                   [{"created": "created_utc", "available_on": "available_on_utc"}.get(name, name)
                    for name in _DEFAULT], _activity),
        ReportType("balance_change_from_activity.summary.1", "Balance change from activity", _SUMMARY, _SUMMARY,
                   _summary),
        ReportType("balance.summary.1", "Balance summary", ["category", "description", "net_amount", "currency"],
                   ["category", "description", "net_amount", "currency"], _balance_summary),
        ReportType("payout_reconciliation.itemized.5", "Itemized payout reconciliation", _RECONCILIATION,
                   ["automatic_payout_id", "automatic_payout_effective_at", *_DEFAULT], _reconciliation),
        ReportType("payouts.itemized.3", "Itemized payouts", _PAYOUTS,
                   ["payout_id", "effective_at", "currency", "gross", "fee", "net", "reporting_category",
                    "balance_transaction_id", "payout_expected_arrival_date", "payout_status"], _payouts),
    )
}  # fmt: skip
