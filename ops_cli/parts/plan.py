"""Which parts a desk runs itself, and the environment they are given. What the environment names is not embedded."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from ops_cli.parts import ports
from ops_cli.parts.desk import Desk
from ops_cli.parts.part import Part, PartFailed
from ops_cli.parts.postgres import Postgres
from ops_cli.parts.programs import Beat, Sandbox, Web, Worker
from ops_cli.parts.redis import Redis

# The settings of the house (backoffice/settings.py, docs/settings.md; a test compares). Read there, passed on here.
SETTINGS: Final = (
    "DEBUG",
    "SECRET_KEY",
    "ALLOWED_HOSTS",
    "SITE_URL",
    "STAYDESK_HOME",
    "DATABASE_URL",
    "REDIS_URL",
    "STRIPE_API_KEY",
    "STRIPE_API_BASE",
    "STRIPE_WEBHOOK_SECRET",
    "STRIPE_CONNECT_WEBHOOK_SECRET",
    "STRIPE_READ_SECONDS",
    "EMAIL",
    "EMAIL_FROM",
    "EMAIL_HOST",
    "EMAIL_PORT",
    "AUDIT_ANCHORS",
    "AUDIT_KEY",
    "CSRF_TRUSTED_ORIGINS",
    "API_RATE",
    "API_ANONYMOUS_RATE",
    "API_LOGIN_RATE",
    "PROXIES",
    "HTTPS",
    "LOG_LEVEL",
)
# Which setting replaces which part.
REPLACED_BY: Final = {
    "postgres": ("DATABASE_URL",),
    "redis": ("REDIS_URL",),
    "sandbox": ("STRIPE_API_KEY", "STRIPE_API_BASE"),
}


@dataclass(slots=True)
class Plan:
    """The parts in the order in which they start, and what replaces the others."""

    desk: Desk
    parts: list[Part]
    environment: dict[str, str]
    external: dict[str, str] = field(default_factory=dict)
    moved: dict[str, tuple[int, int]] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        return [part.name for part in self.parts]

    def part(self, name: str) -> Part | None:
        return next((part for part in self.parts if part.name == name), None)


def given_settings() -> dict[str, str]:
    """The settings that this process's environment gives; an empty value counts as none."""
    return {name: os.environ[name] for name in SETTINGS if os.environ.get(name)}


def make(desk: Desk, *, given: Mapping[str, str], web_port: int | None = None, choose_ports: bool = True) -> Plan:
    """Decide on parts, ports and environment.

    `web_port` was asked for explicitly: PartFailed when it is in use. Other ports in use are replaced and named in
    `moved` as (wanted, taken instead). `choose_ports` false only describes the desk as it was last started."""
    external = {
        part: next(given[name] for name in names if given.get(name))
        for part, names in REPLACED_BY.items()
        if any(given.get(name) for name in names)
    }
    plan = Plan(desk=desk, parts=[], environment={}, external=external)
    if choose_ports:
        _choose_ports(plan, web_port)
    _embed(plan, given)
    return plan


def _choose_ports(plan: Plan, web_port: int | None) -> None:
    desk = plan.desk
    if web_port is not None and not ports.is_free(web_port):
        raise PartFailed(f"port {web_port} is in use by another program: name another with --port, or leave it out")
    chosen: dict[str, int] = {} if web_port is None else {"web": web_port}
    for name in ports.USUAL:
        if name in plan.external or name in chosen:
            continue
        last = desk.ports.get(name)
        port = ports.choose(name, last=last, taken=set(chosen.values()))
        chosen[name] = port
        if port != (wanted := last or ports.USUAL[name]):
            plan.moved[name] = (wanted, port)
    desk.ports = desk.ports | chosen


def _embed(plan: Plan, given: Mapping[str, str]) -> None:
    desk, environment, parts = plan.desk, plan.environment, plan.parts
    web = Web(desk=desk, environment=environment)
    if "postgres" not in plan.external:
        postgres = Postgres(desk=desk, environment=environment, data=desk.home / "pg")
        parts.append(postgres)
        environment["DATABASE_URL"] = postgres.url
    if "redis" not in plan.external:
        redis = Redis(desk=desk, environment=environment, data=desk.home / "redis")
        parts.append(redis)
        environment["REDIS_URL"] = redis.url
    if "sandbox" not in plan.external:
        sandbox = Sandbox(desk=desk, environment=environment, webhook_url=f"{web.address}/webhooks/stripe")
        parts.append(sandbox)
        environment["STRIPE_API_BASE"] = sandbox.address
        environment["STRIPE_API_KEY"] = desk.secret("STRIPE_API_KEY", prefix="sk_test_", length=18)
        for secret in ("STRIPE_WEBHOOK_SECRET", "STRIPE_CONNECT_WEBHOOK_SECRET"):
            environment[secret] = desk.secret(secret, prefix="whsec_", length=24)
    parts += [web, Worker(desk=desk, environment=environment), Beat(desk=desk, environment=environment)]
    environment |= {"SITE_URL": web.address, "DEBUG": "1", "STAYDESK_HOME": str(desk.home)}
    environment |= given
    if "SECRET_KEY" not in given and _is_on(environment["DEBUG"]):
        # A production desk brings its own, so that it never depends on a file that was made by the way.
        environment["SECRET_KEY"] = desk.secret("SECRET_KEY")
    environment["NO_PROXY"] = ",".join(filter(None, [os.environ.get("NO_PROXY", ""), "127.0.0.1", "localhost"]))


def _is_on(flag: str) -> bool:
    return flag.strip().lower() in {"1", "true", "yes", "on"}
