"""A message on its way out."""

from __future__ import annotations

from typing import Final

from backoffice.core.states import StateTable

OUTBOX: Final = StateTable(
    kind="message",
    statuses=("pending", "failed", "sent", "dead"),
    steps={
        "send": {"pending": "sent", "failed": "sent"},
        "fail": {"pending": "failed", "failed": "failed"},
        "give_up": {"pending": "dead", "failed": "dead"},
        "retry": {"dead": "pending"},
    },
)
WAITING: Final = ("pending", "failed")
CHANNELS: Final = ("email", "in_app", "task")
