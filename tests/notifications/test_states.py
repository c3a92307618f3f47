from __future__ import annotations

import pytest

from backoffice.core.errors import IllegalTransition
from backoffice.notifications.states import OUTBOX

STEPS = {
    ("pending", "send"): "sent",
    ("failed", "send"): "sent",
    ("pending", "fail"): "failed",
    ("failed", "fail"): "failed",
    ("pending", "give_up"): "dead",
    ("failed", "give_up"): "dead",
    ("dead", "retry"): "pending",
}


@pytest.mark.parametrize("status", OUTBOX.statuses)
@pytest.mark.parametrize("action", OUTBOX.actions)
def test_every_status_and_action(status: str, action: str) -> None:
    if (status, action) in STEPS:
        assert OUTBOX.after(status, action) == STEPS[status, action]
    else:
        with pytest.raises(IllegalTransition):
            OUTBOX.after(status, action)
