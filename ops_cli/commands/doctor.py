"""`ops doctor`: check every part of the desk, and print the command that puts right what is wrong."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from ops_cli.bootstrap import needs_django
from ops_cli.output import Column, Exit, Result, progress, renders

if TYPE_CHECKING:
    from backoffice.reporting.queries.health import Check, Trial

COLUMNS: Final = (Column("check"), Column("ok"), Column("detail"), Column("fix"))
# In the order in which a person would look: what the others stand on comes first.
NAMES: Final = (
    "database",
    "extensions",
    "migrations",
    "guards",
    "redis",
    "web",
    "worker",
    "beat",
    "jobs",
    "stops",
    "provider",
    "storage",
    "clock",
    "webhooks",
    "outbox",
    "sealing",
    "audit",
    "ledger",
    "chargebacks",
    "credits",
    "quality",
)
# A part that does not answer within this is away; the doctor must not hang with its patient.
PATIENCE_SECONDS: Final = 3.0
LEAST_FREE_BYTES: Final = 500_000_000
# What these say comes from elsewhere than the database.
_WITHOUT_DATABASE: Final = frozenset({"redis", "web", "provider", "storage"})


@click.command(short_help="Check every part; print what fixes what is wrong.")
@click.option("--check", "only", multiple=True, type=click.Choice(NAMES), help="Only this check; may be repeated.")
@click.option("--full", is_flag=True, help="Prove the whole audit log, not only the last day.")
@renders("doctor", COLUMNS)
@needs_django
def doctor(only: tuple[str, ...], full: bool) -> Result:
    """Ask the database, Redis, web, worker, beat, provider and storage how they are; prove ledger and audit log.

    Changes nothing. A part that is down fails its own row. Exit code 0 when all is well, 3 otherwise.

    \b
    Example:
      ops doctor
      ops doctor --check ledger --check audit --full
      ops doctor --format json | jq -r '.data[] | select(.ok | not) | .fix'
    """
    names = [name for name in NAMES if not only or name in only]
    with progress("examining", total=len(names)) as advance:
        rows = []
        for name, found in _examine(names, full=full):
            rows.append({"check": name, "ok": found.ok, "detail": found.detail, "fix": "" if found.ok else found.fix})
            advance(description=name)
    failed = [str(row["check"]) for row in rows if not row["ok"]]
    return Result(
        rows=rows,
        summary={"healthy": not failed, "checks": len(rows), "failed": failed},
        exit_code=Exit.FINDINGS if failed else Exit.DONE,
    )


def _examine(names: list[str], *, full: bool) -> Iterator[tuple[str, Check]]:
    """Each check's answer; one that cannot be made is a failed one."""
    from backoffice.core import clock
    from backoffice.reporting.queries import health

    os.environ.setdefault("PGCONNECT_TIMEOUT", str(int(PATIENCE_SECONDS)))
    checks: dict[str, Callable[[Trial], Check]] = {**health.CHECKS, **_PARTS}
    there = _safely(lambda: health.database(health.Trial(now=clock.now())), "database")
    trial = health.Trial(now=clock.now(), full=full)
    for name in names:
        if name == "database":
            yield name, there
        elif not there.detail.startswith("PostgreSQL") and name not in _WITHOUT_DATABASE:
            yield name, health.Check(name, False, "cannot be told without the database", "ops up")
        else:
            yield name, _safely(lambda check=checks[name]: check(trial), name)  # type: ignore[misc]


def _safely(check: Callable[[], Check], name: str) -> Check:
    from backoffice.reporting.queries.health import Check

    try:
        return check()
    except Exception as error:  # whatever a broken part raises is the answer to how it is
        line = " ".join(str(error).split())[:200] or type(error).__name__
        return Check(name, False, line, _REMEDIES.get(name, "ops doctor --check database"))


def _redis(trial: Trial) -> Check:
    """Redis answers, and is new enough."""
    import redis
    from django.conf import settings

    from backoffice.reporting.queries.health import Check

    client = redis.Redis.from_url(
        settings.REDIS_URL, socket_timeout=PATIENCE_SECONDS, socket_connect_timeout=PATIENCE_SECONDS
    )
    try:
        facts: Mapping[str, Any] = client.info()
    finally:
        client.close()
    version = str(facts["redis_version"])
    waiting = client.llen("celery")
    ok = tuple(int(part) for part in version.split(".")[:2]) >= (6, 2)
    return Check("redis", ok, f"Redis {version}, {waiting} hints waiting", "use Redis 6.2 or newer")


def _web(trial: Trial) -> Check:
    """The web part answers and finds what it needs."""
    from django.conf import settings

    from backoffice.reporting.queries.health import Check
    from ops_cli.parts.programs import ask

    health = ask(f"{settings.SITE_URL}/readyz", headers={"X-Forwarded-Proto": "https"}, timeout=PATIENCE_SECONDS)
    return Check("web", health.ok, settings.SITE_URL if health.ok else health.detail, "ops up")


def _worker(trial: Trial) -> Check:
    """A worker is alive: it was heard of, or answers a ping (then it is beat that is silent)."""
    from celery import current_app

    from backoffice.reporting.queries import health

    heard = health.worker(trial)
    if heard.ok:
        return heard
    with current_app.connection_for_write(connect_timeout=PATIENCE_SECONDS) as connection:
        replies = current_app.control.ping(timeout=1.0, limit=1, connection=connection)
    if replies:
        return health.Check("worker", True, f"{', '.join(replies[0])} answers, though beat sends it nothing")
    return heard


def _provider(trial: Trial) -> Check:
    """The provider takes our key and answers; its clock, when it is the sandbox, is ours."""
    from django.conf import settings

    from backoffice.core.errors import UpstreamUnavailable
    from backoffice.payments.gateway.stripe import StripeGateway
    from backoffice.reporting.queries.health import MOST_SKEW, Check

    gateway = StripeGateway(
        api_key=settings.STRIPE_API_KEY,
        base=settings.STRIPE_API_BASE,
        secrets=[],  # it is only asked, and hears nothing
        read_seconds=PATIENCE_SECONDS,
    )
    try:
        version = gateway.ping()
    except UpstreamUnavailable:
        return Check("provider", False, f"{settings.STRIPE_API_BASE} did not answer", _REMEDIES["provider"])
    mode = "live" if settings.STRIPE_API_KEY.startswith(("sk_live_", "rk_live_")) else "test"
    said = f"{settings.STRIPE_API_BASE} takes our {mode} key, version {version}"
    if not settings.STRIPE_WEBHOOK_SECRETS:
        fix = "set STRIPE_WEBHOOK_SECRET to the endpoint's signing secret: without it no webhook is believed"
        return Check("provider", False, "no webhook secret is set", fix)
    if not settings.STRIPE_CONNECT_WEBHOOK_SECRETS:
        fix = "set STRIPE_CONNECT_WEBHOOK_SECRET: without it nothing is heard of hosts' accounts and their bank payouts"
        return Check("provider", False, "no webhook secret is set for connected accounts", fix)
    if settings.SANDBOXED:
        from ops_cli.simulator import Simulator

        ahead = Simulator(settings.STRIPE_API_BASE).now() - trial.now
        if abs(ahead) > MOST_SKEW:
            fix = "ops sandbox clock advance 0"
            return Check("provider", False, f"its clock is {ahead.total_seconds():.0f} s from the desk's", fix)
    return Check("provider", True, said)


def _storage(trial: Trial) -> Check:
    """The desk's directory and the anchors of the audit log can be written, and the disk is not full."""
    from django.conf import settings

    from backoffice.reporting.queries.health import Check

    for place in (settings.HOME, settings.AUDIT_ANCHORS):
        if (refusal := _unwritable(place)) is not None:
            return Check("storage", False, f"{place}: {refusal}", f"mkdir -p {place} && chown -R $(id -un) {place}")
    free = shutil.disk_usage(_standing(settings.HOME)).free
    fix = f"free space on the disk of {settings.HOME}: du -xh {settings.HOME} | sort -h | tail"
    return Check("storage", free >= LEAST_FREE_BYTES, f"{settings.HOME}, {free / 1e9:.1f} GB free", fix)


def _unwritable(place: Path) -> str | None:
    """Why nothing can be written there; None when it can."""
    try:
        with tempfile.TemporaryFile(dir=_standing(place)) as file:
            file.write(b"ops doctor")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return error.strerror or str(error)
    return None


def _standing(place: Path) -> Path:
    """The place, or what stands of the way to it: one that is not there yet is made when it is needed."""
    while not place.exists():
        place = place.parent
    return place


_PARTS: Final[Mapping[str, Callable[[Trial], Check]]] = {
    "redis": _redis,
    "web": _web,
    "worker": _worker,
    "provider": _provider,
    "storage": _storage,
}
_REMEDIES: Final = {
    **dict.fromkeys(("database", "redis", "web", "worker", "beat"), "ops up"),
    "provider": "ops up, or set STRIPE_API_KEY and STRIPE_API_BASE to a pair that belongs together",
}
