"""A Chromium for the browser tests: one on the PATH, else the one that an npm package ships and needs nothing else."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

NAMES: Final = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PACKAGE: Final = "@sparticuz/chromium@153.0.0"
# Root may not use the sandbox of the browser; containers have a small /dev/shm.
SYSTEM_ARGS: Final = ("--no-sandbox", "--disable-dev-shm-usage")
# Not --single-process, which the package recommends: closing one window would end the browser.
PACKAGE_ARGS: Final = ("--headless=shell", "--no-sandbox", "--no-zygote")
_UNPACK: Final = """
import chromium from '@sparticuz/chromium';
console.log(await chromium.executablePath());
"""


@dataclass(frozen=True, slots=True)
class Chromium:
    """A browser that starts, and the arguments that it needs here."""

    program: Path
    args: tuple[str, ...]


def find(cache: Path) -> Chromium | None:
    """The browser to test with; fetched into `cache` when there is none on the PATH but npm. None: no way to one."""
    for name in NAMES:
        found = shutil.which(name)
        if found and _starts(Path(found)):
            return Chromium(Path(found), SYSTEM_ARGS)
    fetched = cache / "run-chromium"
    if not (fetched.exists() and _starts(fetched)) and not _fetch(cache, fetched):
        return None
    return Chromium(fetched, PACKAGE_ARGS)


def _fetch(cache: Path, launcher: Path) -> bool:
    """Install the npm package without its scripts, let it unpack itself, and write a launcher for what it unpacked."""
    npm, node = shutil.which("npm"), shutil.which("node")
    if npm is None or node is None:
        return False
    unpacked = cache / "unpacked"
    unpacked.mkdir(parents=True, exist_ok=True)
    (cache / "package.json").write_text('{"private": true}\n', encoding="utf-8")
    (cache / "unpack.mjs").write_text(_UNPACK, encoding="utf-8")
    # On its home ground the package also unpacks the system libraries that a bare machine lacks.
    home_ground = {**os.environ, "TMPDIR": str(unpacked), "AWS_EXECUTION_ENV": "AWS_Lambda_nodejs22.x"}
    options = ["--silent", "--no-audit", "--no-fund", "--ignore-scripts"]
    try:
        subprocess.run([npm, "install", *options, PACKAGE], cwd=cache, check=True, capture_output=True, timeout=600)
        subprocess.run([node, "unpack.mjs"], cwd=cache, env=home_ground, check=True, capture_output=True, timeout=120)
    except (subprocess.SubprocessError, OSError):
        return False
    program = unpacked / "chromium"
    libraries = unpacked / "al2023" / "lib"
    for preference in ("", f"LD_LIBRARY_PATH='{libraries}' "):
        launcher.write_text(f"#!/bin/sh\n{preference}exec '{program}' \"$@\"\n", encoding="utf-8")
        launcher.chmod(0o755)
        if _starts(launcher):
            return True
    return False


def _starts(program: Path) -> bool:
    try:
        return subprocess.run([program, "--version"], capture_output=True, check=False, timeout=60).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False
