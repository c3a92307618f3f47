"""`ops people`: the first admin of a desk."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from ops_cli.bootstrap import acts
from ops_cli.output import Exit, Failed, Result, renders

if TYPE_CHECKING:
    from backoffice.core.actor import Actor


@click.group(short_help="Make the first admin.")
def people() -> None:
    """Make the first admin; every other role is granted in the console.

    \b
    Example:
      ops people bootstrap-admin --email ada@example.org --name "Ada Lovelace"
    """


@people.command("bootstrap-admin", short_help="Make the first admin, while there is none.")
@click.option("--email", required=True, help="The address to sign in with.")
@click.option("--name", required=True, help="The person's name.")
@click.option("--password-stdin", is_flag=True, help="Read the password from standard input instead of asking.")
@renders("people.bootstrap-admin")
@acts
def bootstrap_admin(actor: Actor, email: str, name: str, password_stdin: bool) -> Result:
    """Make the first admin of a desk. Works only while there is none (exit code 6 afterwards).

    \b
    Example:
      ops people bootstrap-admin --email ada@example.org --name "Ada Lovelace"
      pass show staydesk/ada | ops people bootstrap-admin --email ada@example.org --name "Ada" --password-stdin
    """
    from backoffice.core import clock
    from backoffice.people import operations

    user = operations.bootstrap_admin(
        email=email, password=_password(password_stdin), name=name, actor=actor, now=clock.now()
    )
    return Result(summary={"person": user.code, "email": user.email, "role": "admin"})


def _password(from_stdin: bool) -> str:
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    if not sys.stdin.isatty():
        raise Failed("there is no terminal to ask for the password: write it to --password-stdin", Exit.REFUSED)
    return str(click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True))
