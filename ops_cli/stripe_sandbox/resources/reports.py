"""Report types and report runs."""

from __future__ import annotations

from dataclasses import dataclass
from zoneinfo import available_timezones

from ops_cli.stripe_sandbox import reports
from ops_cli.stripe_sandbox.context import Context
from ops_cli.stripe_sandbox.errors import ApiError, Json, missing_resource
from ops_cli.stripe_sandbox.forms import Raw
from ops_cli.stripe_sandbox.paging import objects, show_document
from ops_cli.stripe_sandbox.params import Field, Group, Integer, ListOf, NotSimulated, Text, TimeRange, Values, listing
from ops_cli.stripe_sandbox.registry import operation


@dataclass(frozen=True, kw_only=True)
class Timezone(Field):
    """A name of the tz database."""

    def parse(self, raw: Raw, name: str) -> str:
        if not isinstance(raw, str) or raw not in available_timezones():
            raise ApiError(400, f"Invalid timezone: {raw}", param=name)
        return raw


@operation("GET", "/v1/reporting/report_types")
def list_types(ctx: Context, params: Values) -> Json:
    """The reports there are."""
    data = [_shown(ctx, kind) for kind in reports.TYPES.values()]
    return {"object": "list", "url": "/v1/reporting/report_types", "has_more": False, "data": data}


@operation("GET", "/v1/reporting/report_types/{report_type}")
def retrieve_type(ctx: Context, params: Values, report_type: str) -> Json:
    """One kind of report, and until when there is data for it."""
    return _shown(ctx, _type(report_type))


@operation(
    "POST",
    "/v1/reporting/report_runs",
    {
        "parameters": Group(fields={
            "columns": ListOf(item=Text()),
            "connected_account": NotSimulated(),
            "currency": Text(),
            "interval_end": Integer(),
            "interval_start": Integer(),
            "payout": Text(),
            "reporting_category": Text(),
            "timezone": Timezone(),
        }),
        "report_type": Text(required=True),
    },
)  # fmt: skip
def create_run(ctx: Context, params: Values) -> Json:
    """Have a report made."""
    kind = _type(params["report_type"])
    given = params.get("parameters", {})
    reports.check(ctx, kind, given)
    return reports.start(ctx, kind, given).doc


@operation("GET", "/v1/reporting/report_runs", listing(created=TimeRange()))
def list_runs(ctx: Context, params: Values) -> Json:
    """Report runs, newest first."""
    query = objects(ctx, "reporting.report_run").created(params)
    return query.page(params, "/v1/reporting/report_runs", show_document)


@operation("GET", "/v1/reporting/report_runs/{report_run}")
def retrieve_run(ctx: Context, params: Values, report_run: str) -> Json:
    """One report run; when it has succeeded, ``result.url`` has the CSV."""
    return ctx.load("reporting.report_run", report_run, noun="report run").doc


def _type(id: str) -> reports.ReportType:
    if id not in reports.TYPES:
        raise missing_resource("report type", id, param="report_type")
    return reports.TYPES[id]


def _shown(ctx: Context, kind: reports.ReportType) -> Json:
    return {
        "id": kind.id,
        "object": "reporting.report_type",
        "data_available_end": reports.available_end(ctx),
        "data_available_start": reports.DATA_FROM,
        "default_columns": kind.default,
        "livemode": False,
        "name": kind.name,
        "updated": reports.available_end(ctx),
        "version": kind.version,
    }
