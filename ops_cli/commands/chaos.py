"""`ops chaos`: break a desk of its own while bookings are made, and prove that no money was lost or doubled."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from types import FrameType
from typing import Final, NoReturn

import click

from ops_cli import bootstrap
from ops_cli.output import Column, Exit, Result, note, progress, renders
from ops_cli.parts import processes
from ops_cli.parts.plan import SETTINGS

CHECKS: Final = (
    Column("check"),
    Column("ok"),
    Column("looked_at", right=True),
    Column("wrong", right=True),
    Column("detail"),
)


@click.command(short_help="Kill a desk's parts while bookings are made; prove the books.")
@click.option("--bookings", type=click.IntRange(1, 10_000), default=300, show_default=True, help="How many stories.")
@click.option("--seed", type=int, default=7, show_default=True, help="Another number plans another storm.")
@click.option("--keep", is_flag=True, help="Leave the stopped desk with its data and logs behind.")
@renders("chaos.run", CHECKS)
def chaos(bookings: int, seed: int, keep: bool) -> Result:
    """Start a desk of its own in a temporary directory and let guests, hosts, staff and issuers book, pay, cancel, refund
    and charge back through its doors, while web, worker, sandbox and Redis are killed with -9, the provider loses answers
    after it has acted, webhooks get lost, and the clock jumps. When it is quiet again, everything that was answered must
    be there, the provider must have done each of it once, the books must match to the cent, and the log must be whole.

    A running desk is neither used nor disturbed. The same seed plans the same stories; what is hit by which blow differs.
    Exit code 0 when all holds, 3 with findings, 1 when the desk did not come up or come back.

    \b
    Example:
      ops chaos --bookings 300 --seed 7
      ops chaos --bookings 30 --keep --format json
    """
    from ops_cli.chaos.desk import throwaway_desk

    signal.signal(signal.SIGTERM, _end)  # what was started is stopped, however this ends
    with throwaway_desk(keep=keep) as desk:
        if keep:
            note(f"the desk is kept in {desk.home}")
        _belong_to(desk.environment)
        from ops_cli.chaos.run import run

        with progress("chaos", total=bookings) as advance:
            outcome = run(desk, bookings=bookings, seed=seed, progress=advance)
    return Result(
        rows=[check.row() for check in outcome.checks],
        summary={
            "ok": outcome.ok,
            "seed": seed,
            "stories": bookings,
            "counts": outcome.counts,
            "kills": outcome.kills,
            "faults": outcome.faults,
            "clock_moves": outcome.clock_moves,
            "seconds": outcome.seconds,
        },
        exit_code=Exit.DONE if outcome.ok else Exit.FINDINGS,
    )


def _end(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(Exit.TERMINATED)


def _belong_to(environment: Mapping[str, str]) -> None:
    """From here on this process reads the desk of the chaos, whatever desk it was called beside."""
    for name in SETTINGS:
        os.environ.pop(name, None)
    os.environ.pop(processes.MARK, None)
    os.environ.update(environment)
    bootstrap.django()
