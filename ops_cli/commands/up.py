"""`ops up`: start the desk, in the foreground or detached, and say where it is."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import click

from ops_cli.output import Exit, Failed, note
from ops_cli.parts import processes, supervisor
from ops_cli.parts.desk import ROOT, Desk, read_json
from ops_cli.parts.part import python
from ops_cli.parts.plan import make
from ops_cli.parts.reporting import Person
from ops_cli.parts.supervisor import AlreadyRunning, Supervisor

START_SECONDS = 600
STOP_SECONDS = 60


@click.command(short_help="Start the desk and everything it needs.")
@click.option("--detach", is_flag=True, help="Return when the desk answers; it runs on in the background.")
@click.option("--no-demo", is_flag=True, help="Leave an empty database empty.")
@click.option(
    "--port", type=click.IntRange(1, 65535), help="Port of the web part (refused when in use). [default: 8000]"
)
def up(detach: bool, no_demo: bool, port: int | None) -> int:
    """Start database, Redis, payment sandbox, web, worker and beat; migrate; load the demo into an empty desk.

    Settings by environment replace parts (docs/settings.md): with DATABASE_URL there is no embedded PostgreSQL, with
    REDIS_URL no Redis, with STRIPE_API_KEY or STRIPE_API_BASE no sandbox. State lies in .staydesk/. Ctrl-C stops what
    was started.

    \b
    Example:
      ops up
      ops up --detach --port 8080
      DATABASE_URL=postgresql://me@db/desk ops up --no-demo
    """
    desk = Desk.load()
    if supervisor.running(desk) is not None:
        return _say_where(desk)
    start = _detached if detach else _foreground
    return start(desk, no_demo=no_demo, port=port)


def _foreground(desk: Desk, *, no_demo: bool, port: int | None) -> int:
    with Person().closing() as person:
        one = Supervisor(desk, person, web_port=port, with_demo=not no_demo)
        try:
            code = supervisor.run(one, on_ready=lambda: show(desk, hint="Ctrl-C stops it"))
        except AlreadyRunning:
            return _say_where(desk)
        if one.failure:
            raise Failed(one.failure)
        return code


def _detached(desk: Desk, *, no_demo: bool, port: int | None) -> int:
    """Start a supervisor in a session of its own and follow its start."""
    desk.logs.mkdir(parents=True, exist_ok=True)
    options = [*(["--no-demo"] if no_demo else []), *(["--port", str(port)] if port else [])]
    with (desk.logs / "supervisor.log").open("ab") as log:
        process = subprocess.Popen(
            python("-m", "ops_cli.parts.supervisor", *options),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            cwd=ROOT,
            start_new_session=True,
        )
    try:
        last = _follow(process)
    except KeyboardInterrupt:
        process.send_signal(signal.SIGINT)
        process.wait()
        raise
    if "ready" in last:
        show(Desk.load(desk.home), hint="`ops down` stops it")
        return Exit.DONE
    if last.get("code") == Exit.LOCKED:
        return _say_where(desk)
    with suppress(subprocess.TimeoutExpired):  # it stops what it had started; nothing of it is left when we return
        process.wait(timeout=STOP_SECONDS)
    reason = last.get("failed") or f"the desk ended while it was starting (log: {desk.logs / 'supervisor.log'})"
    raise Failed(str(reason), Exit(last.get("code") or Exit.FAILURE))


def _follow(process: subprocess.Popen[str]) -> dict[str, Any]:
    """Show what the starting desk tells; return its last word: ready, failed, or nothing."""
    assert process.stdout is not None
    with Person().closing() as person:
        for line in process.stdout:
            fact = json.loads(line)
            if "begin" in fact:
                person.begin(fact["begin"])
            elif "end" in fact:
                person.end(fact["end"])
            elif "warn" in fact:
                person.warn(fact["warn"])
            else:
                return dict(fact)
    return {}


def _say_where(desk: Desk) -> int:
    """A second `up`: wait for the first if it is still starting, then say where the desk is."""
    if supervisor.state(desk) == "starting":
        note("the desk is being started by another `ops up`; waiting for it")
        processes.wait_until(lambda: supervisor.state(desk) != "starting", seconds=START_SECONDS, every=0.2)
    record = supervisor.running(desk)
    if record is None:
        raise Failed(f"the other `ops up` did not succeed (logs: {desk.logs}); run `ops up` again")
    desk = Desk.load(desk.home)
    unwell = processes.wait_until(lambda: not _unwell(desk), seconds=60, every=0.5)
    note(f"the desk is already running (pid {record.pid}, for {record.uptime} s)")
    show(desk, hint="`ops down` stops it")
    if not unwell:
        raise Failed(f"these parts do not answer: {', '.join(_unwell(desk))}; see `ops status`")
    return Exit.DONE


def _unwell(desk: Desk) -> list[str]:
    plan = make(desk, given=desk.given, choose_ports=False)
    return [part.name for part in plan.parts if not part.check().ok]


def show(desk: Desk, *, hint: str) -> None:
    """Print where the desk is and who may sign in, on stdout."""
    site = desk.environment.get("SITE_URL", "")
    places = {
        "Console": f"{site}/console/",
        "API": f"{site}/api/v1/",
        "API documentation": f"{site}/api/v1/docs/",
    }
    if "sandbox" in desk.ports and desk.environment.get("STRIPE_API_BASE", "").endswith(f":{desk.ports['sandbox']}"):
        places["Payment sandbox"] = f"{desk.environment['STRIPE_API_BASE']}/_sim/"
    places["State and logs"] = _short(desk.home)
    logins = read_json(desk.home / "demo.json").get("logins", [])
    if sys.stdout.isatty():
        _show_panel(places, logins, hint)
        return
    for name, value in places.items():
        click.echo(f"{name}: {value}")
    for login in logins:
        click.echo(f"Login {login.get('role', '')}: {login.get('email', '')} / {login.get('password', '')}")
    click.echo(f"Running: {hint}.")


def _short(path: Path) -> str:
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


def _show_panel(places: Mapping[str, str], logins: list[dict[str, str]], hint: str) -> None:
    from rich.console import Console, Group
    from rich.panel import Panel
    from rich.table import Table
    from rich.text import Text

    where = Table.grid(padding=(0, 2))
    for name, value in places.items():
        where.add_row(Text(name, style="dim"), Text(value, style=f"bold link {value}" if "://" in value else ""))
    blocks: list[Table | Text] = [where]
    if logins:
        who = Table(box=None, padding=(0, 2, 0, 0), title="Staff logins of the demo", title_justify="left")
        for heading in ("Role", "E-mail", "Password"):
            who.add_column(heading, style="bold" if heading == "E-mail" else "")
        for login in logins:
            who.add_row(*(Text(str(login.get(key, ""))) for key in ("role", "email", "password")))
        blocks += [Text(), who]
    Console().print(
        Panel(Group(*blocks), title="Staydesk is running", subtitle=hint, border_style="green", expand=False)
    )
