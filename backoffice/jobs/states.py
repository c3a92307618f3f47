"""A run of a job: begins running and ends once."""

from __future__ import annotations

from typing import Final

from backoffice.core.states import StateTable

RUN: Final = StateTable(
    kind="job run",
    statuses=("running", "succeeded", "failed", "interrupted", "skipped"),
    steps={
        "succeed": {"running": "succeeded"},
        "fail": {"running": "failed"},
        "interrupt": {"running": "interrupted"},
        "skip": {"running": "skipped"},
    },
)

# What a kill switch can stop.
STOP_SCOPES: Final = ("payouts", "refunds", "bookings")
