"""Comparing the ledger with the provider and the bank, and working the breaks that this finds."""

from backoffice.reconciliation.operations.breaks import (
    accept,
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
    stage,
    write,
)

__all__ = [
    "CHUNK",
    "accept",
    "begin",
    "classify",
    "decide_write_off",
    "discard",
    "fail",
    "finish",
    "interrupt",
    "is_staged",
    "note",
    "propose_write_off",
    "proposed_write_off",
    "resolve",
    "stage",
    "take",
    "write",
]
