"""Words beside numbers."""

from __future__ import annotations


def counted(number: int, what: str) -> str:
    """A number of things whose name takes an s: 1 night, 2 nights."""
    return f"{number} {what}" + ("" if number == 1 else "s")
