"""Read-only views over everything: money by period and place, and the health of the desk."""

from __future__ import annotations

from backoffice.reporting.queries.money import GMV, GROUPS, By, GmvRow, Tie, gmv, ties

__all__ = ["GMV", "GROUPS", "By", "GmvRow", "Tie", "gmv", "ties"]
