"""What each class of break means for the one who works it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

# A movement of the provider younger than this may simply not have been imported yet.
IMPORT_GRACE: Final = timedelta(minutes=15)


@dataclass(frozen=True, slots=True)
class Advice:
    """How bad it is, and what to do first."""

    severity: str
    action: str


ADVICE: Final[Mapping[str, Advice]] = {
    "unexplained_difference": Advice(
        "critical", "Stop payouts in this currency and page finance: money is unexplained."
    ),
    "currency_mismatch": Advice("critical", "Fix the mapping; reverse the journal and post it anew."),
    "duplicate_internal": Advice("critical", "Reverse the later journal."),
    "duplicate_external": Advice("critical", "Check the idempotency key of the second movement; refund it."),
    "missing_internal": Advice("high", "Replay the webhook, or import balance transactions: ops reconcile stripe."),
    "missing_external": Advice("high", "Ask the provider for the object; if it failed, reverse our expectation."),
    "amount_mismatch": Advice("high", "Compare with the provider's object; post a correcting journal."),
    "fee_mismatch": Advice("medium", "Book the real fee."),
    "status_mismatch": Advice("medium", "Refresh the object from the provider."),
    "fx_mismatch": Advice("medium", "Compare the rates on quote and movement; realise the difference."),
    "uncleared_balance": Advice("medium", "Trace the key: ops ledger trace."),
    "unknown_type": Advice("high", "Add a posting rule for this category; the money waits in suspense (9900)."),
    "late": Advice("info", "Wait: it is within the time the provider takes."),
}


def advice(cls: str) -> Advice:
    """The advice for a class; classes of legs that come later have the general one."""
    return ADVICE.get(cls, Advice("high", "Compare both sides and find the missing fact."))


def identity(*, leg: str, key: str, currency: str) -> str:
    """What makes a break the same break tomorrow: leg, match key and currency (one key may stand in two of them), not the
    class, which may change as facts arrive. A movement of the provider has one key whatever currency either side says."""
    return hashlib.sha256(f"{leg}|{key}|{currency if leg != 'line' else ''}".encode()).hexdigest()
