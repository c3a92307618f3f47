"""Comparing the ledger with the provider and the bank, and working the breaks that this finds."""

from backoffice.reconciliation.operations.breaks import (
    accept,
    decide_matches,
    decide_write_off,
    note,
    propose_write_off,
    proposed_write_off,
    resolve,
    take,
)
from backoffice.reconciliation.operations.runs import (
    CHUNK,
    begin,
    classify,
    discard,
    fail,
    finish,
    interrupt,
    is_staged,
    leave_out_balance,
    stage,
    sum_up,
    write,
)
from backoffice.reconciliation.operations.statements import bring_back_less, hold_open_still, import_lines, match_lines

__all__ = [
    "CHUNK",
    "accept",
    "begin",
    "bring_back_less",
    "classify",
    "decide_matches",
    "decide_write_off",
    "discard",
    "fail",
    "finish",
    "hold_open_still",
    "import_lines",
    "interrupt",
    "is_staged",
    "leave_out_balance",
    "match_lines",
    "note",
    "propose_write_off",
    "proposed_write_off",
    "resolve",
    "stage",
    "sum_up",
    "take",
    "write",
]
