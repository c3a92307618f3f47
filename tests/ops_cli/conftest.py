"""Commands as they are typed: their answer in JSON, what they said beside it, and their exit code."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from ops_cli.main import main
from tests import factories


@dataclass(frozen=True)
class Answered:
    """What a command left: exit code, envelope (empty when it failed), stderr."""

    code: int
    envelope: dict[str, Any]
    said: str

    @property
    def rows(self) -> list[dict[str, Any]]:
        return list(self.envelope["data"])

    @property
    def summary(self) -> dict[str, Any]:
        return dict(self.envelope["summary"])


@pytest.fixture
def ops(capsys: pytest.CaptureFixture[str]) -> Callable[..., Answered]:
    """Run `ops … --format json` in this process, on the test's database."""

    def run(*arguments: str) -> Answered:
        capsys.readouterr()
        code = main([*arguments, "--format", "json"])
        out, said = capsys.readouterr()
        return Answered(code, json.loads(out) if out else {}, said)

    return run


@pytest.fixture
def ops_as(ops: Callable[..., Answered], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Answered]:
    """Run a command signed in as somebody, by the password on standard input."""

    def run(user: Any, *arguments: str, password: str = factories.PASSWORD) -> Answered:
        monkeypatch.setattr("sys.stdin", io.StringIO(f"{password}\n"))
        return ops(*arguments, "--as", user.email, "--password-stdin")

    return run
