"""The life of an account."""

from __future__ import annotations

from typing import Final

from backoffice.core.states import StateTable

ACCOUNT: Final = StateTable(
    kind="account",
    statuses=("active", "suspended", "closed"),
    steps={
        "suspend": {"active": "suspended"},
        "reinstate": {"suspended": "active"},
        "close": {"active": "closed"},
    },
)

ROLES: Final = (
    "support_l1",
    "support_l2",
    "team_lead",
    "finance",
    "trust_safety",
    "auditor",
    "on_call",
    "admin",
)
