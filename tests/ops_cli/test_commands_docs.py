"""docs/commands.md is what the commands say of themselves."""

from __future__ import annotations

from ops_cli import main
from tests.ops_cli import commands_docs


def test_the_documented_commands_are_those_of_the_code() -> None:
    written = commands_docs.PATH.read_text(encoding="utf-8")
    assert written == commands_docs.render(), "run: python -m tests.ops_cli.commands_docs"


def test_every_command_has_its_section() -> None:
    text = commands_docs.render()
    for path, _ in commands_docs.commands(main.ops, ("ops",)):
        assert f"# {' '.join(path)}\n" in text
