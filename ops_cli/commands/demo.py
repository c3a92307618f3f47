"""`ops demo`: show that the running desk works, end to end."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

import click

from ops_cli.bootstrap import environment
from ops_cli.output import Column, Exit, Failed, Result, progress, renders
from ops_cli.parts.desk import home_directory, read_json
from ops_cli.simulator import Simulator

if TYPE_CHECKING:
    from ops_cli.journey import Login

STEPS: Final = (Column("name", "Step"), Column("ok"), Column("seconds", right=True), Column("detail"))
# Of the demo's staff, who may publish homes and refund.
ROLE: Final = "support_l2"


@click.group(short_help="Show that the running desk works, end to end.")
def demo() -> None:
    """Show that the running desk works, end to end.

    \b
    Example:
      ops demo journey
    """


@demo.command(short_help="Take a booking through every door of the running desk.")
@click.option("--staff-email", help="Who publishes and refunds.  [default: the demo's senior support agent]")
@click.option("--password-stdin", is_flag=True, help="Read that person's password from standard input.")
@renders("demo.journey", STEPS)
def journey(staff_email: str | None, password_stdin: bool) -> Result:
    """A host lists a home and staff publishes it; a guest searches, books and pays; the webhook confirms; staff refunds
    part of it in the console; the host cancels another stay; the books match the provider. Then one cent is falsified
    there, `ops reconcile stripe` names it, and it is undone.

    All over HTTP, through the real API, payment page and console. Leaves a home and two bookings behind; refused where
    payments are real. Exit code 0 when every step was taken, 3 otherwise.

    \b
    Example:
      ops demo journey
      ops demo journey --format json
    """
    environment()
    simulator = Simulator.of_desk()
    staff = _staff(staff_email, password_stdin)
    from ops_cli.journey import Journey

    site = os.environ.get("SITE_URL") or "http://127.0.0.1:8000"
    one = Journey(site=site, simulator=simulator, staff=staff)
    taken = []
    with progress("journey", total=len(one.plan)) as advance:
        for step in one.steps():
            taken.append(step)
            advance(description=step.name)
    done = all(step.ok for step in taken)
    return Result(
        rows=[asdict(step) for step in taken],
        summary={
            "completed": done,
            "steps": f"{sum(step.ok for step in taken)} of {len(one.plan)}",
            "seconds": round(sum(step.seconds for step in taken), 1),
        },
        exit_code=Exit.DONE if done else Exit.FINDINGS,
    )


def _staff(email: str | None, password_stdin: bool) -> Login:
    from ops_cli.journey import Login

    if email is not None:
        if not password_stdin:
            raise click.UsageError("--staff-email needs --password-stdin")
        return Login(email, sys.stdin.readline().rstrip("\r\n"))
    for login in read_json(home_directory() / "demo.json").get("logins", []):
        if login.get("role") == ROLE:
            return Login(login["email"], login["password"])
    raise Failed("no staff login is known here: run `ops seed demo`, or name one by --staff-email", Exit.REFUSED)
