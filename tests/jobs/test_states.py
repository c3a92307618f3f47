from __future__ import annotations

import pytest

from backoffice.core.errors import IllegalTransition
from backoffice.jobs.states import RUN

ENDS = {"succeed": "succeeded", "fail": "failed", "interrupt": "interrupted", "skip": "skipped"}


@pytest.mark.parametrize("status", RUN.statuses)
@pytest.mark.parametrize("action", RUN.actions)
def test_a_run_ends_once(status: str, action: str) -> None:
    if status == "running":
        assert RUN.after(status, action) == ENDS[action]
    else:
        with pytest.raises(IllegalTransition):
            RUN.after(status, action)
