"""The `ops` command: parse, call once, print. Commands load when they are called, so that help costs no Django."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Final, NamedTuple

import click

from ops_cli.output import Exit, Failed


class Entry(NamedTuple):
    """Where a command lives, and its line in `ops --help`."""

    target: str
    help: str


# One line for each command: its name -> "module:attribute" and the sentence shown in `ops --help` (checked by a test to
# be the command's own).
COMMANDS: Final[dict[str, Entry]] = {
    "up": Entry("ops_cli.commands.up:up", "Start the desk and everything it needs."),
    "down": Entry("ops_cli.commands.down:down", "Stop what `ops up` started, and nothing else."),
    "status": Entry("ops_cli.commands.status:status", "Show the address, version and health of each part."),
    "test": Entry("ops_cli.commands.test:test", "Run the tests on parts of their own, beside a running desk."),
    "doctor": Entry("ops_cli.commands.doctor:doctor", "Check every part; print what fixes what is wrong."),
    "seed": Entry("ops_cli.commands.seed:seed", "Load a real city's open data, or a demo world."),
    "reconcile": Entry(
        "ops_cli.commands.reconcile:reconcile", "Compare the ledger with the provider and the bank, line by line."
    ),
    "breaks": Entry("ops_cli.commands.breaks:breaks", "List and work the breaks that reconciliation found."),
    "report": Entry("ops_cli.commands.report:report", "Print a report whose totals are tied to the ledger."),
    "ledger": Entry("ops_cli.commands.ledger:ledger", "Prove the books, and read them."),
    "audit": Entry("ops_cli.commands.audit:audit", "Prove the log of who did what, and read it."),
    "jobs": Entry("ops_cli.commands.jobs:jobs", "Show what runs by itself, what ran, and run one now."),
    "outbox": Entry("ops_cli.commands.outbox:outbox", "List what has not gone out, and try it again."),
    "payouts": Entry(
        "ops_cli.commands.payouts:payouts", "Show what hosts are owed and why it waits; send it, keep it, take it back."
    ),
    "refunds": Entry("ops_cli.commands.refunds:refunds", "Show and ask for money back to guests, and decide it."),
    "chargebacks": Entry(
        "ops_cli.commands.chargebacks:chargebacks", "Show chargebacks and their deadlines, and answer them."
    ),
    "stop": Entry("ops_cli.commands.stop:stop", "Stop payouts, refunds or bookings for everybody, with a reason."),
    "resume": Entry("ops_cli.commands.stop:resume", "Let what was stopped go on."),
    "webhooks": Entry("ops_cli.commands.webhooks:webhooks", "List the provider's events, and apply them anew."),
    "sandbox": Entry("ops_cli.commands.sandbox:sandbox", "Work the payment sandbox: its clock, its faults."),
    "people": Entry("ops_cli.commands.people:people", "Make the first admin."),
    "demo": Entry("ops_cli.commands.demo:demo", "Show that the running desk works, end to end."),
    "chaos": Entry("ops_cli.commands.chaos:chaos", "Kill a desk's parts while bookings are made; prove the books."),
    "completion": Entry("ops_cli.commands.completion:completion", "Print the shell completion script."),
}


class LazyGroup(click.Group):
    """A group whose commands are imported when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = COMMANDS.get(cmd_name)
        if entry is None:
            return None
        module, _, attribute = entry.target.partition(":")
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            raise click.exceptions.NoSuchCommand(args[0], possibilities=list(COMMANDS), ctx=ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.help) for name, entry in COMMANDS.items()])


@click.command(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
    epilog="Exit codes: 0 done, 1 failure, 2 usage, 3 findings, 4 not allowed, 5 locked, 6 refused, "
    "7 upstream not available (safe to retry), 8 partial (resumable), 130/143 interrupted.",
)
def ops() -> None:
    """Staydesk: run the desk, look after it, and find out what is wrong.

    \b
    Example:
      ops up                 start everything, print the addresses
      ops doctor             check every part, print what fixes it
    """


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code. No traceback reaches a user unless OPS_DEBUG=1."""
    try:
        outcome = ops.main(args=list(sys.argv[1:] if argv is None else argv), prog_name="ops", standalone_mode=False)
        sys.stdout.flush()
    except BrokenPipeError:
        return _broken_pipe()
    except BaseException as error:
        if os.environ.get("OPS_DEBUG") == "1" and not isinstance(error, click.exceptions.Exit | SystemExit):
            traceback.print_exc()
        return _explain(error)
    # Without standalone mode click returns the code given to `ctx.exit`, and otherwise what the command returned.
    return outcome if isinstance(outcome, int) else Exit.DONE


def _broken_pipe() -> int:
    """`ops … | head` closed our output. Point stdout at nothing, or the interpreter complains once more at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return Exit.DONE


def _explain(error: BaseException) -> int:
    """Print one line for what went wrong and return its exit code."""
    if isinstance(error, click.exceptions.Exit):
        return error.exit_code
    if isinstance(error, SystemExit):
        return _system_exit(error)
    if isinstance(error, KeyboardInterrupt | click.Abort):
        click.echo("ops: interrupted", err=True)
        return Exit.INTERRUPTED
    if isinstance(error, click.UsageError):
        error.show()
        return Exit.USAGE
    if isinstance(error, click.ClickException):
        click.secho(f"ops: {error.format_message()}", fg="red", err=True)
        return error.code if isinstance(error, Failed) else error.exit_code
    code, sentence = _translate(error)
    click.secho(f"ops: {sentence}", fg="red", err=True)
    return code


def _system_exit(error: SystemExit) -> int:
    if error.code is None or isinstance(error.code, int):
        return error.code or Exit.DONE
    click.echo(error.code, err=True)
    return Exit.FAILURE


def _translate(error: BaseException) -> tuple[int, str]:
    """The exit code and the sentence for an error of the domain, of a part that is down, or of ours."""
    if (found := _domain_code(error)) is not None:
        return found, str(error)
    if (sentence := _part_down(error)) is not None:
        return Exit.UPSTREAM, sentence
    if isinstance(error, OSError) and error.filename is not None:
        return Exit.FAILURE, f"{error.filename}: {error.strerror}"
    name = type(error).__name__
    return Exit.FAILURE, f"internal error: {name}: {error} (OPS_DEBUG=1 shows where)"


def _domain_code(error: BaseException) -> int | None:
    from backoffice.core import errors

    if not isinstance(error, errors.StaydeskError):
        return None
    table: tuple[tuple[type[errors.StaydeskError], Exit], ...] = (
        (errors.NotSignedIn, Exit.NOT_ALLOWED),
        (errors.NotAllowed, Exit.NOT_ALLOWED),
        (errors.Locked, Exit.LOCKED),
        (errors.Refused, Exit.REFUSED),
        (errors.UpstreamUnavailable, Exit.UPSTREAM),
        (errors.Invalid, Exit.USAGE),
    )
    return next((code for kind, code in table if isinstance(error, kind)), Exit.FAILURE)


def _part_down(error: BaseException) -> str | None:
    """A sentence when the database or Redis did not answer. Looks only at libraries that the command has imported."""
    for module, name, part in (
        ("django.db.utils", "OperationalError", "the database"),
        ("psycopg", "OperationalError", "the database"),
        ("redis.exceptions", "ConnectionError", "Redis"),
    ):
        kind = getattr(sys.modules.get(module), name, None)
        if isinstance(kind, type) and isinstance(error, kind):
            detail = str(error).strip().splitlines()[:1]
            return f"{part} did not answer ({''.join(detail)}); `ops up` starts it, `ops status` shows the parts"
    return None


if __name__ == "__main__":
    sys.exit(main())
