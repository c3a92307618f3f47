"""How a command gets at the house: the desk's environment, Django set up once, and the person at the keyboard."""

from __future__ import annotations

import functools
import getpass
import os
import socket
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

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


def decides(command: Callable[Concatenate[Actor, P], R]) -> Callable[..., R]:
    """Set Django up and call the command with whoever decides about money first: a member of staff who signs in with
    --as, within their own limits, or the engineer with the --approval of a second person. Both say the --reason.

    Raises Refused when a reason, or either of the two, is missing; a `dry_run` needs neither."""

    @click.option("--reason", default="", help="Why; kept in the audit log.")
    @click.option("--as", "email", default="", help="Sign in as staff with this address; the password is asked for.")
    @click.option("--password-stdin", is_flag=True, help="Read the password of --as from standard input.")
    @click.option("--approval", default="", help="Without --as: the id of a second person's yes; kept as well.")
    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        django()
        given: dict[str, Any] = {name: kwargs.pop(name) for name in ("reason", "email", "password_stdin", "approval")}
        actor = _decider(**given, only_looks=bool(kwargs.get("dry_run")))
        return command(actor, *args, **kwargs)

    return run


def decides_in_person(command: Callable[Concatenate[Actor, P], R]) -> Callable[..., R]:
    """Set Django up and call the command with the member of staff who signs in with --as first: what is decided here asks
    who decides, not only that somebody has. Raises Refused without a reason or a sign-in."""

    @click.option("--reason", default="", help="Why; kept in the audit log.")
    @click.option("--as", "email", default="", help="Sign in as staff with this address; the password is asked for.")
    @click.option("--password-stdin", is_flag=True, help="Read the password of --as from standard input.")
    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        from backoffice.core.errors import Refused

        django()
        reason, email, from_stdin = (kwargs.pop(name) for name in ("reason", "email", "password_stdin"))
        if not str(reason).strip():
            raise Refused(missing="a reason (--reason)")
        if not email:
            raise Refused(missing="somebody whom the desk knows (--as)")
        return command(signed_in(email=str(email), from_stdin=bool(from_stdin), reason=str(reason)), *args, **kwargs)

    return run


def _decider(*, reason: str, email: str, password_stdin: bool, approval: str, only_looks: bool) -> Actor:
    from backoffice.core.errors import Refused
    from backoffice.people.policies import lent_grants

    if not (reason.strip() or only_looks):
        raise Refused(missing="a reason (--reason)")
    if email:
        return signed_in(email=email, from_stdin=password_stdin, reason=reason, approval=approval)
    if not (approval.strip() or only_looks):
        raise Refused(missing="who decides: your own sign-in (--as), or a second person's yes (--approval)")
    return cli_actor(grants=lent_grants(), reason=reason, approval=approval)


def signed_in(*, email: str, from_stdin: bool, reason: str, approval: str = "") -> Actor:
    """The member of staff with this address, who proves it by password. Raises NotSignedIn, Suspended."""
    from django.contrib.auth import authenticate

    from backoffice.core import clock
    from backoffice.core.errors import NotSignedIn
    from backoffice.people import queries

    user = authenticate(None, username=email.strip().lower(), password=_password(from_stdin))
    if user is None or not queries.roles_of(person_id=user.pk):
        raise NotSignedIn("No member of staff has this address and password; nothing was done.")
    person = queries.person(person_id=user.pk)
    actor = queries.actor_for(user=person, now=clock.now(), address=socket.gethostname())
    return replace(actor, reason=reason, approval=approval)


def _password(from_stdin: bool) -> str:
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    if not sys.stdin.isatty():
        raise Failed("there is no terminal to ask for the password: write it to --password-stdin", Exit.REFUSED)
    return str(click.prompt("Password", hide_input=True, err=True))


def reads(command: Callable[Concatenate[Actor, P], R]) -> Callable[P, R]:
    """Set Django up and call the command with the engineer first."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        django()
        return command(cli_actor(), *args, **kwargs)

    return run
