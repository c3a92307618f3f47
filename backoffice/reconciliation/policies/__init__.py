"""What a break is called, what to do about it, what may be given up, and which line of the bank is which payout."""

from backoffice.reconciliation.policies.breaks import (
    ADVICE,
    BANK_GRACE_BUSINESS_DAYS,
    FX_BAND_BASIS_POINTS,
    IMPORT_GRACE,
    RULES,
    STATUS_GRACE,
    Advice,
    advice,
    age_bucket,
    business_days_after,
    command,
    identity,
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
from backoffice.reconciliation.policies.write_offs import ROUNDING_CAP, WriteOff, write_off

__all__ = [
    "ADVICE",
    "BANK_GRACE_BUSINESS_DAYS",
    "CONFIDENCE",
    "FX_BAND_BASIS_POINTS",
    "IMPORT_GRACE",
    "ROUNDING_CAP",
    "RULES",
    "STATUS_GRACE",
    "Advice",
    "OpenLine",
    "OpenPayout",
    "Pairing",
    "SeenStatementLine",
    "WriteOff",
    "advice",
    "age_bucket",
    "business_days_after",
    "command",
    "identity",
    "name",
    "pair",
    "write_off",
]
