"""The life of a break and the classes it can have (DOMAIN.md, "Ledger, postings, reconciliation")."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from backoffice.core.states import StateTable

BREAK: Final = StateTable(
    kind="break",
    statuses=(
        "expected",
        "open",
        "investigating",
        "proposed",
        "approved",
        "resolved",
        "written_off",
        "accepted",
        "self_healed",
        "reopened",
    ),
    steps={
        "ripen": {"expected": "open"},
        "take": {"open": "investigating", "reopened": "investigating", "expected": "investigating"},
        "resolve": {"open": "resolved", "investigating": "resolved", "reopened": "resolved"},
        "accept": {"open": "accepted", "investigating": "accepted", "reopened": "accepted"},
        "propose": {
            "open": "proposed",
            "investigating": "proposed",
            "reopened": "proposed",
            "accepted": "proposed",
        },
        "reject": {"proposed": "investigating"},
        # One act: the second yes posts the write-off in its own transaction, so that nothing is ever kept as approved only.
        "approve": {"proposed": "approved"},
        "write_off": {"approved": "written_off"},
        # The second yes to posting a movement anew: the next run sees whether both sides are equal now.
        "post_anew": {"approved": "investigating"},
        "heal": {
            "expected": "self_healed",
            "open": "self_healed",
            "investigating": "self_healed",
            "proposed": "self_healed",
            "reopened": "self_healed",
            "accepted": "self_healed",
        },
        "reopen": {
            "self_healed": "reopened",
            "resolved": "reopened",
            "written_off": "reopened",
            "accepted": "reopened",  # the date until which it was accepted has passed
        },
    },
)
OPEN: Final = ("expected", "open", "investigating", "proposed", "approved", "reopened", "accepted")
# What a finding is: an expected break is only young, an accepted one is known until its date.
FINDINGS: Final = ("open", "investigating", "proposed", "approved", "reopened")

# Why there was a difference, as whoever resolved it says.
CAUSES: Final = ("timing", "provider_error", "our_error", "bank_charge", "exchange_rate", "fraud", "other")

# What is compared with what. In order: where two legs see one fact, the first of them has the break.
LEGS: Final = ("balance", "line", "payout", "booking", "host", "bank", "clearing", "status")
# Comparing in a window says nothing about what lies outside it.
WINDOWED: Final = ("line", "payout")
SCOPES: Final[Mapping[str, tuple[str, ...]]] = {
    "stripe": ("balance", "line", "bank", "clearing"),
    "payouts": ("payout", "booking", "host"),
    "bank": ("bank",),
    "state": ("balance", "bank", "clearing", "status"),
    "all": LEGS,
}
RUN_STATUSES: Final = ("running", "interrupted", "succeeded", "failed")

# In order of precedence: where several hold, the first names the break and the others are its flags.
CLASSES: Final = (
    "unexplained_difference",
    "currency_mismatch",
    "duplicate_internal",
    "duplicate_external",
    "missing_internal",
    "missing_external",
    "amount_mismatch",
    "over_refund",
    "host_overpaid",
    "payout_sum_mismatch",
    "bank_missing",
    "bank_amount_mismatch",
    "bank_unidentified",
    "payout_returned",
    "status_mismatch",
    "fee_mismatch",
    "fx_mismatch",
    "uncleared_balance",
    "unknown_type",
    "late",
)

MATCH: Final = StateTable(
    kind="bank match",
    statuses=("proposed", "confirmed", "rejected"),
    steps={
        "confirm": {"proposed": "confirmed"},
        "reject": {"proposed": "rejected"},
        # By a run: what the line itself names outweighs a no to what only added up.
        "find": {"proposed": "confirmed", "rejected": "confirmed"},
    },
)
