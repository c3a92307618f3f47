"""Python's garbage collector, in a process that is made to stay."""

from __future__ import annotations

import gc

# New objects between two looks for cycles. The default of 700 looks several times in every request, and finds next to nothing:
# what a request leaves behind is freed by its reference counts.
OBJECTS = 50_000


def settle_in() -> None:
    """Say once, when everything is loaded: it stays until the end, so that no later look walks over it again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(OBJECTS, 20, 100)
