"""Settings are read from the environment; a bad value is one clear line, a missing secret in production refuses to start."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from backoffice.settings import BASE_DIR
from tests.house import settings_docs

SOUND = {
    "DEBUG": "0",
    "SECRET_KEY": "x" * 50,
    "DATABASE_URL": "postgresql://desk@127.0.0.1:5432/desk",
    "STRIPE_API_KEY": "sk_live_1",
    "PATH": os.environ["PATH"],
}


def load(**environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "import backoffice.settings"],
        cwd=BASE_DIR,
        env={**SOUND, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_sound_production_environment_loads() -> None:
    done = load()
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("environment", "names"),
    [
        ({"DEBUG": "maybe"}, "DEBUG"),
        ({"SECRET_KEY": ""}, "SECRET_KEY"),
        ({"SECRET_KEY": "short"}, "SECRET_KEY"),
        ({"DATABASE_URL": "mysql://x"}, "DATABASE_URL"),
        ({"DATABASE_URL": "postgresql://desk@127.0.0.1"}, "DATABASE_URL"),
        ({"REDIS_URL": "memcached://x"}, "REDIS_URL"),
        ({"SITE_URL": "desk.example.org"}, "SITE_URL"),
        ({"STRIPE_READ_SECONDS": "soon"}, "STRIPE_READ_SECONDS"),
        ({"STRIPE_API_BASE": "http://127.0.0.1:1"}, "STRIPE_API_BASE"),
        ({"STRIPE_API_BASE": "http://127.0.0.1:1", "DEBUG": "1"}, "STRIPE_API_KEY"),
        ({"EMAIL": "pigeon"}, "EMAIL"),
    ],
)
def test_a_bad_value_is_one_line_that_names_the_variable(environment: dict[str, str], names: str) -> None:
    done = load(**environment)
    assert done.returncode == 2
    assert done.stderr.startswith("staydesk: ") and names in done.stderr and done.stderr.count("\n") == 1


def test_a_secret_is_never_printed() -> None:
    done = load(DATABASE_URL="mysql://desk:hunter2@db/desk")
    assert "hunter2" not in done.stderr + done.stdout


def test_the_documented_table_is_that_of_the_code() -> None:
    path = BASE_DIR / "docs" / "settings.md"
    assert path.read_text(encoding="utf-8") == settings_docs.render(), "run: python -m tests.house.settings_docs"
