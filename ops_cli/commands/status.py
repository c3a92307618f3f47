"""`ops status`: the address, version and health of each part."""

from __future__ import annotations

from typing import Any

import click

from ops_cli.bootstrap import django
from ops_cli.output import Column, Exit, Result, note, renders
from ops_cli.parts import supervisor
from ops_cli.parts.desk import Desk
from ops_cli.parts.part import Health, Part
from ops_cli.parts.plan import REPLACED_BY, make

COLUMNS = (
    Column("part"),
    Column("state"),
    Column("address"),
    Column("version"),
    Column("pid", "PID", right=True),
    Column("uptime_seconds", "Uptime (s)", right=True),
    Column("detail"),
)


@click.command(short_help="Show the address, version and health of each part.")
@renders("status", COLUMNS)
def status() -> Result:
    """Ask each part of the desk how it is. Exit code 0 when all are well, 3 otherwise.

    A part is healthy, unwell (it runs but does not answer well), stopped, or external (given by environment).

    \b
    Example:
      ops status
      ops status --format json | jq '.data[] | select(.state != "healthy")'
    """
    desk = Desk.load()
    plan = make(desk, given=desk.given, choose_ports=False)
    rows = [_row(part) for part in plan.parts]
    rows += [_external(name, plan.environment) for name in plan.external]
    boss = supervisor.running(desk)
    well = boss is not None and all(row["state"] in {"healthy", "external"} for row in rows)
    stopped = _stopped(rows)
    summary: dict[str, Any] = {
        "running": boss is not None,
        "healthy": well,
        "supervisor_pid": boss.pid if boss else None,
        "console": f"{plan.environment['SITE_URL']}/console/",
        "api": f"{plan.environment['SITE_URL']}/api/v1/",
        "state_directory": str(desk.home),
        "stopped": stopped,
    }
    warnings = [f"{scope} are stopped: {reason}" for scope, reason in stopped.items()]
    return Result(rows=rows, summary=summary, warnings=warnings, exit_code=Exit.DONE if well else Exit.FINDINGS)


def _stopped(rows: list[dict[str, Any]]) -> dict[str, str]:
    """Kill switches that are on, with their reasons; none are known while the database is away."""
    if not any(row["part"] == "postgres" and row["state"] in {"healthy", "external"} for row in rows):
        return {}
    try:
        django()
        from backoffice.jobs import queries

        return {row.scope: row.reason for row in queries.stops()}
    except Exception as error:  # the parts are what was asked about; `ops doctor` says what is wrong with the rest
        note(f"what is stopped cannot be told: {' '.join(str(error).split())[:200]}")
        return {}


def _row(part: Part) -> dict[str, Any]:
    record = part.record()
    alive = record is not None and record.is_alive
    health = _ask(part) if alive else Health(ok=False, detail="not running")
    return {
        "part": part.name,
        "state": "healthy" if health.ok else "unwell" if alive else "stopped",
        "address": part.address or None,
        "version": health.version or None,
        "pid": record.pid if alive and record else None,
        "uptime_seconds": record.uptime if alive and record else None,
        "detail": health.detail or None,
    }


def _ask(part: Part) -> Health:
    """Ask twice before calling it unwell: a busy machine may let one short question pass."""
    health = part.check()
    return health if health.ok else part.check()


def _external(name: str, environment: dict[str, str]) -> dict[str, Any]:
    settings = " or ".join(setting for setting in REPLACED_BY[name] if environment.get(setting))
    return {
        "part": name,
        "state": "external",
        "address": None,
        "version": None,
        "pid": None,
        "uptime_seconds": None,
        "detail": f"given by {settings}",
    }
