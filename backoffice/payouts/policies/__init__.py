"""Decisions about money out: when it is due, whether it may be sent, what comes back and how."""

from backoffice.payouts.policies.accounts import AccountFacts, Waiting, waiting
from backoffice.payouts.policies.bank_payouts import Sweep, SweepFacts
from backoffice.payouts.policies.clawbacks import AGES, OpenDebt, Proposal, Reversible

__all__ = [
    "AGES",
    "AccountFacts",
    "OpenDebt",
    "Proposal",
    "Reversible",
    "Sweep",
    "SweepFacts",
    "Waiting",
    "waiting",
]
