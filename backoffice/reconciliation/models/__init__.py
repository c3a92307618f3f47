"""Runs and what they compare, the bank's statements, and the breaks that were found."""

from backoffice.reconciliation.models.breaks import Break, BreakEvent, new_break_code
from backoffice.reconciliation.models.runs import Match, ProviderLine, ProviderState, Run, StagedDifference
from backoffice.reconciliation.models.statements import BankMatch, StatementLine, new_statement_line_code

__all__ = [
    "BankMatch",
    "Break",
    "BreakEvent",
    "Match",
    "ProviderLine",
    "ProviderState",
    "Run",
    "StagedDifference",
    "StatementLine",
    "new_break_code",
    "new_statement_line_code",
]
