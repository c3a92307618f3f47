"""How a command gets at the house: the desk's environment, Django set up once, and the person at the keyboard."""

from __future__ import annotations

import functools
import getpass
import os
import socket
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar

import click

from ops_cli.output import Exit, Failed
from ops_cli.parts.desk import Desk

if TYPE_CHECKING:
    from backoffice.core.actor import Actor, Grant

P = ParamSpec("P")
R = TypeVar("R")


class NotStarted(Failed):
    """There is no desk here to talk to yet."""

    def __init__(self) -> None:
        super().__init__(
            "no desk was started here yet: run `ops up`, or set DATABASE_URL and the rest by environment", Exit.UPSTREAM
        )


def environment() -> None:
    """Take over the settings of the running or last desk, but for those that the environment gives."""
    desk = Desk.load()
    if not desk.known and not os.environ.get("DATABASE_URL"):
        raise NotStarted
    for name, value in desk.environment.items():
        if not os.environ.get(name):
            os.environ[name] = value
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "backoffice.settings")


def django() -> None:
    """Set Django up on the desk's environment. Takes about a second, so that only commands that ask for it pay."""
    import django as framework
    from django.apps import apps

    if apps.ready:
        return
    environment()
    framework.setup()


def needs_django(command: Callable[P, R]) -> Callable[P, R]:
    """Set Django up before the command runs. Its imports from `backoffice` belong inside the function."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        django()
        return command(*args, **kwargs)

    return run


def cli_actor(*, grants: Mapping[str, Grant] | None = None, reason: str = "", approval: str = "") -> Actor:
    """The engineer at the keyboard: kind cli, named after the account of the operating system, from this host.

    Without `grants`, what the table of the house lets an engineer at a shell do."""
    from backoffice.core.actor import Actor
    from backoffice.people.policies import cli_grants

    return Actor(
        kind="cli",
        id=None,
        name=getpass.getuser(),
        grants=cli_grants() if grants is None else grants,
        address=socket.gethostname(),
        reason=reason,
        approval=approval,
    )


def acts(command: Callable[Concatenate[Actor, P], R]) -> Callable[..., R]:
    """Set Django up and call the command with the engineer first, who may say why and who agreed."""

    @click.option("--reason", default="", help="Why; kept in the audit log.")
    @click.option("--approval", default="", help="The id of a second person's yes, where one is needed; kept as well.")
    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        django()
        reason, approval = str(kwargs.pop("reason")), str(kwargs.pop("approval"))
        return command(cli_actor(reason=reason, approval=approval), *args, **kwargs)

    return run


def reads(command: Callable[Concatenate[Actor, P], R]) -> Callable[P, R]:
    """Set Django up and call the command with the engineer first."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        django()
        return command(cli_actor(), *args, **kwargs)

    return run
