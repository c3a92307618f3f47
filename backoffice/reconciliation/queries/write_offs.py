"""Questions about what was given up."""

from __future__ import annotations

from django.db.models import Sum
from django.db.models.functions import Abs

from backoffice.core.money import Money
from backoffice.ledger.models import JournalLine
from backoffice.reconciliation.policies import ROUNDING, rounding_key


def rounded(*, run: int) -> list[Money]:
    """What was rounded away (5900) under a run, one amount per currency, whichever way each went."""
    lines = JournalLine.objects.filter(account__code=ROUNDING, account__key=rounding_key(run=run))
    totals = lines.values("currency").annotate(total=Sum(Abs("amount"))).order_by("currency")
    return [Money(int(row["total"]), row["currency"]) for row in totals]
