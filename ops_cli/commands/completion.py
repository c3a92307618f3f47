"""`ops completion`: the script that makes a shell complete commands and options."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

SHELLS = ("bash", "zsh", "fish")


@click.command(short_help="Print the shell completion script.")
@click.argument("shell", type=click.Choice(SHELLS))
def completion(shell: str) -> None:
    """Print the completion script for SHELL, to be sourced by it.

    \b
    Example:
      eval "$(./ops completion bash)"
      ./ops completion fish > ~/.config/fish/completions/ops.fish
    """
    from ops_cli.main import ops

    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(ops, {}, "ops", "_OPS_COMPLETE").source())
