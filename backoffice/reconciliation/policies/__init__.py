"""What a break is called, what to do about it, what may be given up, and which line of the bank is which payout."""

from backoffice.reconciliation.policies.breaks import (
    ADVICE,
    Advice,
    advice,
    age_bucket,
    bank_days,
    business_days_after,
    command,
    identity,
    may_be_posted_anew,
    name,
)
from backoffice.reconciliation.policies.statements import (
    CONFIDENCE,
    OpenLine,
    OpenPayout,
    Pairing,
    SeenStatementLine,
    pair,
)
from backoffice.reconciliation.policies.write_offs import (
    BAD_DEBT,
    POST_ANEW,
    ROUNDING,
    WRITE_OFF,
    WriteOff,
    kind_of,
    rounding_key,
    write_off,
)

__all__ = [
    "ADVICE",
    "BAD_DEBT",
    "CONFIDENCE",
    "POST_ANEW",
    "ROUNDING",
    "WRITE_OFF",
    "Advice",
    "OpenLine",
    "OpenPayout",
    "Pairing",
    "SeenStatementLine",
    "WriteOff",
    "advice",
    "age_bucket",
    "bank_days",
    "business_days_after",
    "command",
    "identity",
    "kind_of",
    "may_be_posted_anew",
    "name",
    "pair",
    "rounding_key",
    "write_off",
]
