"""Cut power, killed workers, lost answers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def two_of_three_are_long(stories: Iterable[str]) -> list[Any]:
    """Each story is cut at every commit and call, which takes its time: a third of them always run, all with `--long`."""
    return [
        pytest.param(story, marks=pytest.mark.long) if number % 3 else story for number, story in enumerate(stories)
    ]
