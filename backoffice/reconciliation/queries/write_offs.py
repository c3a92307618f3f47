"""Questions about what was given up."""

from __future__ import annotations

from django.db.models import Sum
from django.db.models.functions import Abs

from backoffice.core.money import Money
from backoffice.ledger.models import JournalLine
from backoffice.reconciliation.policies import BAD_DEBT, ROUNDING, rounding_key


def rounded(*, run: int) -> list[Money]:
    """What was rounded away (5900) under a run, one amount per currency, whichever way each went."""
    lines = JournalLine.objects.filter(account__code=ROUNDING, account__key=rounding_key(run=run))
    totals = lines.values("currency").annotate(total=Sum(Abs("amount"))).order_by("currency")
    return [Money(int(row["total"]), row["currency"]) for row in totals]


def given_up(*, account: str, key: str, currency: str) -> Money:
    """What of all that stood under a key was given up as bad debt (5220) and has not gone back there since."""
    here = JournalLine.objects.filter(
        account__code=account, account__key=key, account__currency=currency, journal__kind="write_off"
    )
    lines = JournalLine.objects.filter(journal__in=here.values("journal"), account__code=BAD_DEBT, currency=currency)
    return Money(int(lines.aggregate(total=Sum("amount"))["total"] or 0), currency)
