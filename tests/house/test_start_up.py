"""The console's pages belong to web alone: what else the desk starts does without them, and Django's checks still see them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.desk import ROOT, database_url

# What the settings and Django's list of applications name; every page would bring a hundred modules more.
NAMED_IN_SETTINGS = {"backoffice.console", "backoffice.console.apps", "backoffice.console.unfold"}
# Say what was loaded and end there, without asking the broker for anything.
TELL = """
import os, sys
def tell(**_):
    loaded = [name for name in sys.modules if name.split(".")[:2] == ["backoffice", "console"]]
    print(*loaded, file=sys.__stdout__, flush=True)  # celery takes the other for its log
    os._exit(0)
"""
CELERY = (
    TELL
    + """
from celery import signals
from celery.bin.celery import main
signals.worker_init.connect(tell)
signals.beat_init.connect(tell)
sys.argv[1:1] = ["--app", "backoffice.celery:app", "--quiet"]
main()
"""
)
OPS = (
    TELL
    + """
from ops_cli.main import main
sys.stdout = sys.stderr
if code := main(sys.argv[1:]):
    sys.exit(code)
tell()
"""
)
WEB = (
    TELL
    + """
from backoffice.wsgi import application
from django.urls import reverse
reverse("admin:index")
tell()
"""
)
FAULTY_SETTINGS = """
from backoffice.settings import *
INSTALLED_APPS = [*INSTALLED_APPS, "faulty"]
"""
FAULTY_PAGE = """
from django.contrib import admin
from django.contrib.contenttypes.models import ContentType
from backoffice.console.base import StaffAdmin

@admin.register(ContentType)
class KindPage(StaffAdmin):
    verb, singular, plural, key = "console.view", "kind", "kinds", "pk"
    list_select_related = ()
    list_display = ("no_such_column",)
"""


def run(program: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *program],
        cwd=ROOT,
        env={**os.environ, "DATABASE_URL": database_url(), **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def console_modules(program: str, *arguments: str) -> set[str]:
    done = run(["-c", program, *arguments])
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


@pytest.mark.parametrize("arguments", [("worker", "--concurrency", "1"), ("beat", "--pidfile", "")])
def test_worker_and_beat_load_no_page_of_the_console(arguments: tuple[str, ...], tmp_path: Path) -> None:
    schedule = ("--schedule", str(tmp_path / "schedule")) if arguments[0] == "beat" else ()
    assert console_modules(CELERY, *arguments, *schedule) == NAMED_IN_SETTINGS


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("arguments", [("ledger", "balances"), ("payouts", "list"), ("breaks", "list")])
def test_ops_loads_no_page_of_the_console(arguments: tuple[str, ...]) -> None:
    assert console_modules(OPS, *arguments) == NAMED_IN_SETTINGS


def test_web_loads_them_all() -> None:
    pages = {
        f"backoffice.console.admin.{path.stem}"
        for path in (ROOT / "backoffice" / "console" / "admin").glob("*.py")
        if path.stem != "__init__"
    }
    assert pages and pages <= console_modules(WEB)


@pytest.mark.parametrize("options", [(), ("--tag", "admin")])
def test_a_fault_in_a_page_is_still_found_by_the_checks(options: tuple[str, ...], tmp_path: Path) -> None:
    """With `--tag admin` nothing but that check itself can have loaded the page."""
    (tmp_path / "faulty").mkdir()
    (tmp_path / "faulty" / "__init__.py").touch()
    (tmp_path / "faulty" / "admin.py").write_text(FAULTY_PAGE, encoding="utf-8")
    (tmp_path / "faulty_settings.py").write_text(FAULTY_SETTINGS, encoding="utf-8")
    environment = {"PYTHONPATH": str(tmp_path), "DJANGO_SETTINGS_MODULE": "faulty_settings"}
    done = run(["manage.py", "check", *options], **environment)
    assert done.returncode == 1 and "KindPage" in done.stderr and "admin.E108" in done.stderr, done.stderr
