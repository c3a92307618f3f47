"""What each class of break means for the one who works it, and which of several names it."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Final

from backoffice.reconciliation.states import CLASSES

AGES: Final = (("0–1", 2), ("2–3", 4), ("4–7", 8), ("8–30", 31))
# Of a movement of the provider: what our books say of it is wrong, or they say nothing.
ANEW: Final = frozenset(
    {"currency_mismatch", "duplicate_internal", "missing_internal", "amount_mismatch", "fee_mismatch"}
)
# The beginning of a fact's name, ours or the provider's -> the type of the provider's events about it.
_EVENTS: Final = (
    ("RF-", "refund."),
    ("re_", "refund."),
    ("PY-", "payment_intent."),
    ("pi_", "payment_intent."),
    ("ch_", "payment_intent."),
    ("po_", "payout."),
    ("PO-", "transfer."),
    ("tr_", "transfer."),
    ("dp_", "charge.dispute."),
    ("du_", "charge.dispute."),
)


@dataclass(frozen=True, slots=True)
class Advice:
    """How bad it is, what to do first, and the command that helps. `{code}`, `{key}` and `{subject}` stand for the break's,
    `{events}` for the type of the provider's events about it, `{day}` for the day from which they may have come; `…` is for
    whoever types it."""

    severity: str
    action: str
    command: str


_POST_ANEW: Final = "ops breaks post-anew {code} --reason … --as …"
_REPLAY: Final = "ops webhooks replay --type {events} --since {day} --reason …"
ADVICE: Final[Mapping[str, Advice]] = {
    "unexplained_difference": Advice(
        "critical",
        "Stop payouts and page finance: money is unexplained.",
        "ops stop payouts --reason …",
    ),
    "currency_mismatch": Advice(
        "critical",
        "Our books have the movement in another currency: two of finance post it anew.",
        _POST_ANEW,
    ),
    "duplicate_internal": Advice(
        "critical", "It was posted more than once: two of finance post it anew, once.", _POST_ANEW
    ),
    "duplicate_external": Advice(
        "critical",
        "Find out what the second movement is of: a second charge is refunded from its booking, "
        "of anything else ask the provider.",
        "ops ledger trace {subject}",
    ),
    "missing_internal": Advice(
        "high",
        "Every run imports what is new; what is not in the books still, or was reversed there, two of finance post anew.",
        _POST_ANEW,
    ),
    "missing_external": Advice(
        "high",
        "Have the provider asked again by replaying its events: what failed there is then taken back here. Of the rest ask the "
        "provider where it is.",
        _REPLAY,
    ),
    "amount_mismatch": Advice(
        "high", "Our books have another amount of the movement: two of finance post it anew.", _POST_ANEW
    ),
    "over_refund": Advice(
        "high", "Refund nothing more of this booking; find out who got too much.", "ops ledger trace {subject}"
    ),
    "host_overpaid": Advice(
        "high", "Take the excess back: by reversal, or from the next payout.", "ops payouts explain {key}"
    ),
    "payout_sum_mismatch": Advice(
        "high",
        "Fetch the payout's lines again; page finance if the next run still finds it.",
        "ops jobs run workflows.follow_bank_payouts",
    ),
    "bank_missing": Advice(
        "high",
        "Ask the provider with the trace id where it is; never close it unseen.",
        "ops reconcile bank --file statement.xml",
    ),
    "bank_amount_mismatch": Advice(
        "high",
        "Look for a charge of the bank; write off what it kept.",
        "ops breaks write-off {code} --reason … --as …",
    ),
    "bank_unidentified": Advice(
        "medium",
        "Find out whose it is within five business days; confirm the proposal if it fits.",
        "ops breaks confirm {code} --reason …",
    ),
    "payout_returned": Advice("high", "Ask for a new bank account, then pay out again.", "ops ledger trace {subject}"),
    "status_mismatch": Advice(
        "medium",
        "Have the provider asked again by replaying its events.",
        _REPLAY,
    ),
    "fee_mismatch": Advice(
        "medium", "Our books have another fee of the movement: two of finance post it anew.", _POST_ANEW
    ),
    "fx_mismatch": Advice(
        "medium",
        "Compare what was promised with what was settled; the difference is gain or loss by itself. Ask the "
        "provider about its rate.",
        "ops ledger trace {subject}",
    ),
    "uncleared_balance": Advice(
        "medium", "Trace the key: something has not come to its end in time.", "ops ledger trace {subject}"
    ),
    "unknown_type": Advice(
        "high",
        "Ask the provider what it is and have a rule for its category written; the money waits in suspense (9900).",
        "ops ledger trace {subject}",
    ),
    "late": Advice("info", "Wait: it is within the time the provider takes.", "ops reconcile all"),
}


# Where it is no movement of the provider that differs but what stands under a key: nothing there can be posted anew.
_ELSEWHERE: Final[Mapping[str, Advice]] = {
    "currency_mismatch": Advice(
        "critical",
        "Have the payout fetched again; page finance if the next run still finds it.",
        "ops jobs run workflows.follow_bank_payouts",
    ),
    "duplicate_internal": Advice(
        "critical",
        "Trace the key: something was asked for twice. What does not come two of finance write off.",
        "ops ledger trace {subject}",
    ),
    "missing_internal": Advice(
        "high", "Have the provider asked again by replaying its events: our side is missing.", _REPLAY
    ),
    "amount_mismatch": Advice(
        "high",
        "Trace both sides; what stands on a clearing account for good two of finance write off.",
        "ops ledger trace {subject}",
    ),
}


def advice(*, cls: str, leg: str) -> Advice:
    """The advice for a class, as the leg that found it."""
    return ADVICE[cls] if leg == "line" else _ELSEWHERE.get(cls, ADVICE[cls])


def may_be_posted_anew(*, leg: str, cls: str, flags: Collection[str]) -> bool:
    """Whether a break is one of a movement that our books tell wrongly: posted anew, they say what the provider shows."""
    return leg == "line" and not ANEW.isdisjoint({cls, *flags})


def command(*, cls: str, leg: str, code: str, key: str, fact: str, subject: str, occurred_at: datetime) -> str:
    """The command that helps with this very break, as a shell takes it."""
    about = fact or key
    values = {
        "code": code or "BR-…",
        "key": shlex.quote(key),
        "subject": shlex.quote(subject or about),
        "events": next((type for prefix, type in _EVENTS if about.startswith(prefix)), "charge."),
        "day": f"{occurred_at:%Y-%m-%d}",
    }
    return advice(cls=cls, leg=leg).command.format_map(values)


def identity(*, leg: str, key: str, currency: str) -> str:
    """What makes a break the same break tomorrow: leg, match key and currency (one key may stand in two of them), not the
    class, which may change as facts arrive. A movement of the provider has one key whatever currency either side says."""
    return hashlib.sha256(f"{leg}|{key}|{currency if leg != 'line' else ''}".encode()).hexdigest()


def name(hits: Collection[str]) -> tuple[str, tuple[str, ...]]:
    """The class of a break and its flags: of all that hold, the first in the order of precedence names it.

    Raises ValueError when nothing holds, or something that is no class."""
    first, *others = sorted(set(hits), key=CLASSES.index)
    return first, tuple(others)


def age_bucket(*, days: int) -> str:
    """Where an age in whole days belongs: 0–1, 2–3, 4–7, 8–30, over 30 (ledger.md, 5.3)."""
    return next((label for label, end in AGES if days < end), "over 30")


def bank_days(*, business_days: int) -> list[int]:
    """How many days so many weekdays last, from a Monday to from a Sunday."""
    week = [date(2026, 6, 1) + timedelta(days=day) for day in range(7)]  # begins on a Monday, as any would
    return [(business_days_after(day=day, days=business_days) - day).days for day in week]


def business_days_after(*, day: date, days: int) -> date:
    """The day so many weekdays later; banks do not book at week-ends (holidays are not known here)."""
    while days:
        day += timedelta(days=1)
        days -= day.weekday() < 5
    return day
