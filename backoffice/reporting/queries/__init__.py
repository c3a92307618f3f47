"""Read-only views over everything: money by period and place, receipts and statements, and the health of the desk."""

from __future__ import annotations

from backoffice.reporting.queries.hosts import (
    EarningsRow,
    HostAccountStatement,
    HostLine,
    HostStatement,
    balances,
    earnings,
    statement,
)
from backoffice.reporting.queries.money import GMV, GROUPS, By, GmvRow, Tie, gmv, ties
from backoffice.reporting.queries.receipts import Receipt, ReceiptCharge, ReceiptRefund, receipt, refunds_of

__all__ = [
    "GMV",
    "GROUPS",
    "By",
    "EarningsRow",
    "GmvRow",
    "HostAccountStatement",
    "HostLine",
    "HostStatement",
    "Receipt",
    "ReceiptCharge",
    "ReceiptRefund",
    "Tie",
    "balances",
    "earnings",
    "gmv",
    "receipt",
    "refunds_of",
    "statement",
    "ties",
]
