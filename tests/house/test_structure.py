"""The house keeps its shape: imports and foreign keys point down, rooms hold the files they may."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from django.apps import apps
from django.db.models import ForeignKey

from tests.conftest import LONGEST
from tests.house.floors import FLOORS

ROOT = Path(__file__).resolve().parents[2]
FILES = {"states", "policies", "models", "queries", "operations", "tasks", "apps", "__init__"}
# Licensed extras: the gateway and the parsers (DESIGN.md), and reconciliation's call to the provider (decision 6).
EXTRAS = {"payments": {"gateway"}, "reconciliation": {"provider", "parsers"}}
TOP = set(
    (
        ".ci .dockerignore .github .gitignore CHANGELOG.md CONTRIBUTING.md Dockerfile LICENSE README.md api backoffice deploy "
        "docker-compose.yml docs fixtures manage.py ops ops_cli pyproject.toml requirements tests"
    ).split()
)


def test_the_import_contracts_hold() -> None:
    done = subprocess.run(
        [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_foreign_keys_point_down_or_stay_in_the_room() -> None:
    upward = []
    for model in apps.get_models():
        floor = FLOORS.get(model._meta.app_label)
        if floor is None:
            continue
        for field in model._meta.get_fields():
            if isinstance(field, ForeignKey):
                target = field.related_model._meta.app_label
                if target != model._meta.app_label and FLOORS[target] >= floor:
                    upward.append(f"{model._meta.label}.{field.name} -> {target}")
    assert upward == []


def test_every_room_has_a_floor_and_only_the_files_it_may() -> None:
    rooms = {path.name for path in (ROOT / "backoffice").iterdir() if path.is_dir() and not path.name.startswith("__")}
    assert rooms == set(FLOORS)
    strangers = []
    for room in rooms - {"core", "console", "workflows"}:
        for path in (ROOT / "backoffice" / room).iterdir():
            if path.name in {"__pycache__", "migrations", "templates"}:
                continue
            if path.stem not in FILES | EXTRAS.get(room, set()):
                strangers.append(f"{room}/{path.name}")
    assert strangers == []


def test_the_top_level_is_the_one_we_agreed_on() -> None:
    listed = subprocess.run(
        ["git", "ls-files"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert {name.split("/")[0] for name in listed.stdout.splitlines()} <= TOP


def test_the_tests_that_begin_first_are_there() -> None:
    assert [path for path in LONGEST if not (ROOT / path).is_file()] == []


def test_the_sandbox_imports_nothing_of_ours() -> None:
    guilty = [
        f"{path.name}: {line.strip()}"
        for path in (ROOT / "ops_cli" / "stripe_sandbox").rglob("*.py")
        for line in path.read_text(encoding="utf-8").splitlines()
        if line.strip().startswith(("import ", "from "))
        and any(name in line for name in ("backoffice", "django", "from api", "ops_cli.parts", "ops_cli.output"))
    ]
    assert guilty == []
