"""Which processes run for a desk: by their command, environment or working directory."""

from __future__ import annotations

from pathlib import Path

import psutil


def of(home: Path) -> list[str]:
    """What still runs for the desk (or the test runs) of that home, each with what it was recognised by.

    Redis hides its command and environment behind a title of its own; it is known by where it works."""
    found = []
    for process in psutil.process_iter():
        try:
            facts = [" ".join(process.cmdline()), process.environ().get("STAYDESK_HOME", ""), process.cwd()]
            is_alive = process.status() != psutil.STATUS_ZOMBIE
        except psutil.Error:
            continue
        if is_alive and any(str(home) in fact for fact in facts):
            found.append(" | ".join(facts))
    return found
