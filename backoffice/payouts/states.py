"""The lives of payouts, holds, clawbacks, write-offs, bank payouts and hosts' accounts (DOMAIN.md, statuses).

`void` is ours besides: a cancelled stay of which nothing is left has no payout, and says so."""

from __future__ import annotations

from typing import Final

from backoffice.core.states import StateTable

PAYOUT: Final = StateTable(
    kind="payout",
    statuses=(
        "scheduled",
        "held",
        "releasable",
        "in_transfer",
        "transferred",
        "paid",
        "failed",
        "reversed",
        "netted",
        "void",
    ),
    steps={
        "hold": {"scheduled": "held", "releasable": "held"},
        # A hold that ends before the money is due: it waits for its day again.
        "lift": {"held": "scheduled"},
        "ripen": {"scheduled": "releasable", "held": "releasable"},
        "send": {"releasable": "in_transfer", "failed": "in_transfer"},
        "transfer": {"in_transfer": "transferred"},
        "pay": {"transferred": "paid"},
        "return_from_bank": {"paid": "transferred"},
        "fail": {"in_transfer": "failed", "transferred": "failed", "paid": "failed"},
        "reverse": {"transferred": "reversed", "paid": "reversed"},
        "net": {"releasable": "netted", "failed": "netted"},
        "void": {"scheduled": "void", "held": "void", "releasable": "void"},
    },
)
# What has not yet become payable to the host (still guest funds held).
UNRELEASED: Final = ("scheduled", "held", "releasable")
# What has left for the host, whatever their bank does with it.
SENT: Final = ("transferred", "paid")

HOLD: Final = StateTable(
    kind="payout hold",
    statuses=("active", "lifted", "expired"),
    steps={"lift": {"active": "lifted"}, "expire": {"active": "expired"}},
)
HOLD_CAUSES: Final = ("dispute", "suspicion", "bank_details", "service_issue", "other")

CLAWBACK: Final = StateTable(
    kind="clawback",
    statuses=("requested", "submitted", "indeterminate", "succeeded", "failed"),
    steps={
        "submit": {"requested": "submitted", "indeterminate": "submitted", "failed": "submitted"},
        "lose_sight": {"submitted": "indeterminate"},
        "succeed": {"submitted": "succeeded", "indeterminate": "succeeded"},
        "fail": {"submitted": "failed", "indeterminate": "failed"},
    },
)

WRITE_OFF: Final = StateTable(
    kind="write-off",
    statuses=("proposed", "approved", "rejected"),
    steps={"approve": {"proposed": "approved"}, "reject": {"proposed": "rejected"}},
)

# The provider's own words for a bank payout; one we asked for begins before it has any.
BANK_PAYOUT: Final = StateTable(
    kind="bank payout",
    statuses=("requested", "indeterminate", "pending", "in_transit", "paid", "failed", "canceled"),
    steps={
        "lose_sight": {"requested": "indeterminate"},
        "wait": {"requested": "pending", "indeterminate": "pending"},
        "travel": {"requested": "in_transit", "indeterminate": "in_transit", "pending": "in_transit"},
        "pay": {
            "requested": "paid",
            "indeterminate": "paid",
            "pending": "paid",
            "in_transit": "paid",
        },
        # `paid` is not final: a bank may send it back for five business days.
        "fail": {
            "requested": "failed",
            "indeterminate": "failed",
            "pending": "failed",
            "in_transit": "failed",
            "paid": "failed",
        },
        "cancel": {"requested": "canceled", "indeterminate": "canceled", "pending": "canceled"},
    },
)

ACCOUNT: Final = StateTable(
    kind="host account",
    statuses=("onboarding", "enabled", "restricted"),
    steps={
        "enable": {"onboarding": "enabled", "restricted": "enabled"},
        "restrict": {"enabled": "restricted", "onboarding": "restricted"},
    },
)
