"""What a desk remembers between runs: its ports, its generated secrets, and the environment its parts were given."""

from __future__ import annotations

import json
import os
import secrets
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parent.parent.parent


def home_directory() -> Path:
    """Where the desk keeps its state: `STAYDESK_HOME`, else `.staydesk` in the project."""
    given = os.environ.get("STAYDESK_HOME", "")
    return Path(given).expanduser().resolve() if given else ROOT / ".staydesk"


@dataclass(slots=True)
class Desk:
    """One desk's memory, kept in `desk.json` with mode 0600 since it holds secrets.

    `environment` is what the parts were last started with, `given` the part of it that came from the caller's own."""

    home: Path
    id: str = ""
    ports: dict[str, int] = field(default_factory=dict)
    secrets: dict[str, str] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    given: dict[str, str] = field(default_factory=dict)

    @property
    def file(self) -> Path:
        return self.home / "desk.json"

    @property
    def logs(self) -> Path:
        return self.home / "logs"

    @property
    def run(self) -> Path:
        return self.home / "run"

    @classmethod
    def load(cls, home: Path | None = None) -> Desk:
        """Read the desk of `home`; one without a readable file is new, with an id of its own."""
        desk = cls(home=home or home_directory())
        memory = read_json(desk.file)
        desk.id = str(memory.get("id") or secrets.token_hex(6))
        desk.ports = {str(name): int(port) for name, port in memory.get("ports", {}).items()}
        desk.secrets = _strings(memory.get("secrets", {}))
        desk.places = _strings(memory.get("places", {}))
        desk.environment = _strings(memory.get("environment", {}))
        desk.given = _strings(memory.get("given", {}))
        return desk

    @property
    def known(self) -> bool:
        """Whether this desk was ever started."""
        return bool(self.environment)

    def secret(self, name: str, *, prefix: str = "", length: int = 48) -> str:
        """The generated secret of that name, made at its first use and kept."""
        return self.secrets.setdefault(name, prefix + secrets.token_urlsafe(length))

    def save(self) -> None:
        """Write the file so that a kill leaves the old one or the new one, never half of one."""
        memory = {
            "id": self.id,
            "ports": self.ports,
            "secrets": self.secrets,
            "places": self.places,
            "environment": self.environment,
            "given": self.given,
        }
        write_private(self.file, json.dumps(memory, indent=2) + "\n")


def write_private(path: Path, text: str) -> None:
    """Replace `path` in one step with a file that only its owner reads."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file of ours; empty when it is absent or damaged."""
    try:
        memory = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return memory if isinstance(memory, dict) else {}


def _strings(mapping: Mapping[str, Any]) -> dict[str, str]:
    return {str(key): str(value) for key, value in mapping.items()}
