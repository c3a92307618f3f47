"""The door of the CLI: quick help, one line for every failure, an exit code that a script can rely on."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import click
import pytest

from backoffice.core import errors
from ops_cli import bootstrap, main
from ops_cli.output import Exit, Failed
from ops_cli.parts.desk import Desk

ROOT = Path(__file__).parent.parent.parent
# What answers with something other than rows.
NO_ROWS = {"up", "down", "test", "completion"}


def leaves(command: click.Command, path: tuple[str, ...]) -> Iterator[tuple[str, click.Command]]:
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            assert child is not None
            yield from leaves(child, (*path, name))
    else:
        yield " ".join(path), command


LEAVES = list(leaves(main.ops, ()))


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ops_cli.main", *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_help_takes_less_than_a_third_of_a_second_of_work() -> None:
    def work() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert run("--help").returncode == 0
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return (after.ru_utime - before.ru_utime) + (after.ru_stime - before.ru_stime)

    assert min(work() for _ in range(5)) < 0.3


@pytest.mark.parametrize("arguments", [["--help"], ["status", "--help"], ["nonsense"]])
def test_help_and_mistakes_do_not_boot_django(arguments: list[str]) -> None:
    code = (
        "import sys\n"
        "from ops_cli.main import main\n"
        f"main({arguments!r})\n"
        "sys.exit('django' in sys.modules or 'rich' in sys.modules)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize("name", list(main.COMMANDS))
def test_the_line_in_the_help_is_the_commands_own(name: str) -> None:
    command = main.LazyGroup().get_command(click.Context(main.ops), name)
    assert command is not None
    assert command.name == name
    assert command.get_short_help_str(limit=200) == main.COMMANDS[name].help


@pytest.mark.parametrize(("path", "command"), LEAVES, ids=[path for path, _ in LEAVES])
def test_every_command_explains_itself_with_an_example(path: str, command: click.Command) -> None:
    context = click.Context(command, info_name=f"ops {path}")
    text = command.get_help(context)
    assert "Example:" in text, "every --help shows an example"
    assert f"ops {path}" in text.split("Example:")[1], "and the example is of this command"
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{parameter.opts[0]} says what it does"


@pytest.mark.parametrize(("path", "command"), LEAVES, ids=[path for path, _ in LEAVES])
def test_every_command_that_answers_takes_a_format(path: str, command: click.Command) -> None:
    formats = [parameter for parameter in command.params if "--format" in parameter.opts]
    assert bool(formats) != (path in NO_ROWS)


@pytest.mark.parametrize(("typed", "meant"), [("stauts", "status"), ("dwon", "down"), ("completions", "completion")])
def test_an_unknown_command_suggests_the_one_that_was_meant(
    typed: str, meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main([typed]) == Exit.USAGE
    said = capsys.readouterr().err
    assert "Did you mean" in said and f"'{meant}'" in said


def raiser(error: BaseException) -> Callable[[], None]:
    @click.command()
    def fail() -> None:
        raise error

    return fail


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Callable[[BaseException], int]:
    """Run `ops fail`, a command that raises the given error, and return its exit code."""

    def invoke(error: BaseException) -> int:
        module = ModuleType("failing_command")
        module.fail = raiser(error)  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "failing_command", module)
        monkeypatch.setitem(main.COMMANDS, "fail", main.Entry("failing_command:fail", "Fail."))
        return main.main(["fail"])

    return invoke


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (errors.NotSignedIn(), Exit.NOT_ALLOWED, "ops: Sign in first."),
        (errors.NotAllowed(verb="refund"), Exit.NOT_ALLOWED, "ops: You may not refund."),
        (errors.OverLimit(amount="1", limit="0", verb="x"), Exit.NOT_ALLOWED, "ops: 1 is over your limit of 0"),
        (errors.Locked(job="seal", since="03:00", holder="a"), Exit.LOCKED, "ops: seal is already running since 03:00"),
        (errors.Refused(missing="a reason"), Exit.REFUSED, "ops: Refused: a reason is missing."),
        (errors.UpstreamUnavailable(part="Stripe"), Exit.UPSTREAM, "ops: Stripe did not answer"),
        (errors.Invalid(field="--from"), Exit.USAGE, "ops: --from is not valid."),
        (errors.NotFound(kind="booking"), Exit.FAILURE, "ops: No such booking."),
        (Failed("no way", Exit.PARTIAL), Exit.PARTIAL, "ops: no way"),
        (click.ClickException("plain"), Exit.FAILURE, "ops: plain"),
        (KeyboardInterrupt(), Exit.INTERRUPTED, "ops: interrupted"),
        (FileNotFoundError(2, "No such file", "x.csv"), Exit.FAILURE, "ops: x.csv: No such file"),
        (ZeroDivisionError("by zero"), Exit.FAILURE, "ops: internal error: ZeroDivisionError: by zero"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_an_error_is_one_line_and_its_exit_code(
    failing: Callable[[BaseException], int],
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    code: Exit,
    sentence: str,
) -> None:
    assert failing(error) == code
    said = capsys.readouterr()
    assert said.out == ""
    line = said.err.strip()  # click moves to a new line after ^C
    assert line.startswith(sentence)
    assert len(line.splitlines()) == 1


def test_a_database_that_is_down_is_upstream_and_names_the_remedy(
    failing: Callable[[BaseException], int], capsys: pytest.CaptureFixture[str]
) -> None:
    from django.db import OperationalError

    assert failing(OperationalError("connection refused\nIs the server running?")) == Exit.UPSTREAM
    assert capsys.readouterr().err == (
        "ops: the database did not answer (connection refused); `ops up` starts it, `ops status` shows the parts\n"
    )


def test_a_traceback_is_shown_only_on_request(
    failing: Callable[[BaseException], int], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(ZeroDivisionError("by zero"))
    assert "Traceback" not in capsys.readouterr().err
    monkeypatch.setenv("OPS_DEBUG", "1")
    failing(ZeroDivisionError("by zero"))
    assert "Traceback" in capsys.readouterr().err


def test_a_reader_that_leaves_early_is_no_error() -> None:
    shell = f"'{sys.executable}' -m ops_cli.main --help | head -1; echo ${{PIPESTATUS[0]}}"
    said = subprocess.run(["bash", "-c", shell], cwd=ROOT, capture_output=True, text=True, check=False)
    assert said.stderr == ""
    assert said.stdout.splitlines()[-1] == "0"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_printed_for_each_shell(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["completion", shell]) == Exit.DONE
    assert "_OPS_COMPLETE" in capsys.readouterr().out


def test_completion_completes_commands() -> None:
    said = run(_OPS_COMPLETE="bash_complete", COMP_WORDS="ops st", COMP_CWORD="1").stdout
    assert "plain,status" in said


def test_a_command_takes_the_desks_settings_but_for_those_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = Desk(home=tmp_path, id="d", environment={"DATABASE_URL": "postgresql://a/desk", "REDIS_URL": "redis://desk"})
    desk.save()
    assert desk.file.stat().st_mode & 0o777 == 0o600, "it holds secrets"
    monkeypatch.setenv("STAYDESK_HOME", str(tmp_path))
    monkeypatch.setenv("REDIS_URL", "redis://mine")
    monkeypatch.setenv("DATABASE_URL", "")
    bootstrap.environment()
    assert os.environ["DATABASE_URL"] == "postgresql://a/desk"
    assert os.environ["REDIS_URL"] == "redis://mine"


def test_without_a_desk_a_command_says_how_to_get_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STAYDESK_HOME", str(tmp_path))
    monkeypatch.delenv("DATABASE_URL", raising=False)
    with pytest.raises(bootstrap.NotStarted, match="run `ops up`") as caught:
        bootstrap.environment()
    assert caught.value.code == Exit.UPSTREAM


def test_the_actor_of_a_shell_is_the_account_with_the_grants_of_an_engineer() -> None:
    actor = bootstrap.cli_actor(reason="drill")
    assert (actor.kind, actor.id, actor.reason) == ("cli", None, "drill")
    assert actor.name
    assert actor.may("jobs.run")
    assert not actor.may("refunds.request")
