"""`ops down`: stop what `ops up` started, and nothing else."""

from __future__ import annotations

import signal

import click

from ops_cli.output import Exit, Failed, note
from ops_cli.parts import processes, supervisor
from ops_cli.parts.desk import Desk
from ops_cli.parts.processes import Record
from ops_cli.parts.reporting import Person

# The graces of all parts together, and a little.
PATIENCE_SECONDS = 120


@click.command(short_help="Stop what `ops up` started, and nothing else.")
def down() -> int:
    """Stop the desk: its parts in reverse order, each given time to finish what it is doing.

    Processes are recognised by pid and birth, so that one that merely got the same pid is left alone. Data stays.

    \b
    Example:
      ops down
    """
    desk = Desk.load()
    record = supervisor.running(desk)
    with Person().closing() as person:
        if record is not None:
            person.begin("stopping the desk")
            _end_supervisor(record)
        left = [one for one in supervisor.recorded(desk) if one.is_alive]
        for part in supervisor.recorded(desk):
            if part in left:
                person.begin(f"stopping {part.name}")
            supervisor.end(part, desk)
        if record is not None or left:
            person.end("the desk is stopped")
        else:
            note("the desk is not running")
    Record.forget(desk.run, supervisor.NAME)
    return Exit.DONE


def _end_supervisor(record: Record) -> None:
    """It stops its parts itself, in order. One that does not is killed, and we stop the parts."""
    try:
        processes.stop(record, by=signal.SIGTERM, grace=PATIENCE_SECONDS)
    except PermissionError:
        raise Failed(f"the desk (pid {record.pid}) belongs to another user: stop it as that user") from None
