"""Writes docs/commands.md from the commands themselves: `python -m tests.ops_cli.commands_docs`."""

from __future__ import annotations

import re
from collections.abc import Iterator

import click

from backoffice.settings import BASE_DIR
from ops_cli import main

PATH = BASE_DIR / "docs" / "commands.md"
INTRODUCTION = """# Commands

`./ops` from the project's directory. `ops COMMAND --help` prints what stands here. Answers go to stdout, everything else to
stderr; `--format json` prints one envelope `{"schema", "data", "summary", "warnings"}` with amounts in minor units,
`--format csv` the rows alone. Commands that write take `--dry-run` where that can be told; those that touch money take
`--reason` and `--approval`, which the audit log keeps. Times are written as 2026-03-01, 2026-03-01T12:00Z or, for so long
ago, 90m, 6h, 7d, 2w.

| exit code | means |
|---|---|
| 0 | done, nothing found |
| 1 | failure |
| 2 | wrong usage |
| 3 | done, with findings: breaks, failed checks, a broken chain |
| 4 | not signed in or not allowed |
| 5 | locked: the same job is running |
| 6 | refused: a confirmation, reason or approval is missing |
| 7 | a part or the provider is not available; safe to repeat |
| 8 | partly done, resumable |
| 130, 143 | interrupted after a clean checkpoint |
"""


def render() -> str:
    return INTRODUCTION + "".join(_sections())


def commands(group: click.Group, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command below a group, in the order in which the help lists them."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield (*path, name), command
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))


def _sections() -> Iterator[str]:
    for path, command in commands(main.ops, ("ops",)):
        text, _, example = (command.help or "").partition("\b")
        prose = "\n\n".join(_joined(paragraph) for paragraph in text.strip().split("\n\n"))
        heading = "##" if len(path) == 2 else "###"
        yield f"\n{heading} {' '.join(path)}\n\n"
        if not isinstance(command, click.Group):
            yield f"`{_usage(path, command)}`\n\n"
        yield f"{prose}\n"
        if example and not isinstance(command, click.Group):
            lines = [line.strip() for line in example.strip().splitlines()[1:]]
            yield "\n```\n" + "\n".join(lines) + "\n```\n"
        yield from _options(command)


def _usage(path: tuple[str, ...], command: click.Command) -> str:
    return " ".join([*path, *command.collect_usage_pieces(click.Context(command))])


def _options(command: click.Command) -> Iterator[str]:
    records = [
        record
        for parameter in command.params
        if isinstance(parameter, click.Option)
        and (record := parameter.get_help_record(click.Context(command))) is not None
    ]
    if records:
        yield "\n| option | |\n|---|---|\n"
        for written, meaning in records:
            yield f"| `{_cell(written)}` | {_cell(meaning)} |\n"


def _joined(paragraph: str) -> str:
    return re.sub(r"\s+", " ", paragraph).strip()


def _cell(text: str) -> str:
    return _joined(text).replace("|", "\\|")


if __name__ == "__main__":
    PATH.write_text(render(), encoding="utf-8")
