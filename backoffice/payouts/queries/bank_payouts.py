"""Questions about what leaves for banks: hosts' payouts and their lines, our sweeps and what is ours to sweep."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final

from django.db import connection
from django.db.models import Exists, F, OuterRef, Q, QuerySet, Sum

from backoffice.core.errors import NotFound
from backoffice.core.money import Money
from backoffice.ledger import queries as ledger
from backoffice.payments.policies.seen_accounts import SeenBankPayout
from backoffice.payouts.models import BankPayout, BankPayoutLine, HostAccount, Payout
from backoffice.payouts.policies.bank_payouts import KEPT, SweepFacts

CONNECTED_BALANCE: Final = "1800"
_OUR_MONEY: Final = frozenset({"1010", "1100"})
# A bank may send money back for five business days after it was paid: so long each payout is asked about by itself. Holidays
# may make them more; what comes back later is told by the daily look at what an account's banks have sent back.
MAY_RETURN: Final = timedelta(days=8)

# Ours, asked for by us (a payout that somebody made at the provider has no reason), and not refused.
SWEEPS: Final = Q(account="") & ~Q(reason="") & ~(Q(status="failed") & Q(provider_id__isnull=True))

_KEPT: Final = """
SELECT code, sum(-balance)::bigint AS amount
FROM (
    SELECT account.code, sum(kept.balance) AS balance
    FROM ledger_account account JOIN ledger_balance kept ON kept.account_id = account.id
    WHERE account.currency = %(currency)s AND account.code = ANY(%(codes)s)
    GROUP BY account.id HAVING sum(kept.balance) < 0
) held
GROUP BY code ORDER BY code
"""

# Movements of our balance that no sweep has carried yet. A sweep's own movement is its amount, not one of its lines.
UNSWEPT: Final = """
FROM payments_balancetransaction moved
WHERE moved.currency = %(currency)s
  AND NOT EXISTS (
      SELECT 1 FROM payouts_bankpayoutline line JOIN payouts_bankpayout sweep ON sweep.id = line.bank_payout_id
      WHERE line.provider_id = moved.provider_id AND sweep.account = '' AND sweep.reason <> ''
        AND NOT (sweep.status = 'failed' AND sweep.provider_id IS NULL))
  AND NOT EXISTS (
      SELECT 1 FROM payouts_bankpayout sweep
      WHERE moved.reporting_category = 'payout' AND sweep.provider_id = moved.source_id AND sweep.account = ''
        AND sweep.reason <> '')
"""

# Movements and what is kept of them in one statement, which is one snapshot: a transfer that is imported between two would
# be missed by the first and be owed no more by the second, and what it carries would be ours. `moved` is a query, or a
# statement that writes, giving the net of each movement.
MOVED_AND_KEPT: Final = f"""
WITH moved AS ({{moved}}), kept AS ({_KEPT})
SELECT coalesce((SELECT sum(net) FROM moved), 0)::bigint, (SELECT count(*) FROM moved),
       (SELECT coalesce(jsonb_object_agg(code, amount), '{{{{}}}}') FROM kept)
"""  # noqa: S608 constants alone


def bank_payouts() -> QuerySet[BankPayout]:
    """Every payout to a bank, ours and hosts', newest first."""
    return BankPayout.objects.select_related("host", "requested_by").order_by("-id")


def bank_payout(*, code: str) -> BankPayout:
    """One of them with its lines. Raises NotFound."""
    found = bank_payouts().prefetch_related("lines", "payouts").filter(code=code).first()
    if found is None:
        raise NotFound(kind="bank payout")
    return found


def sweeps() -> QuerySet[BankPayout]:
    """Our own, newest first; those that the provider refused are not among them."""
    return bank_payouts().filter(SWEEPS)


def sweep_key(*, sweep: BankPayout) -> str:
    return f"sweep:{sweep.code}"


# What is ours to sweep --------------------------------------------------------------------------------------------------


def kept(*, currency: str) -> dict[str, Money]:
    """What of our balance at the provider is not ours, by ledger account: every credit balance, key by key, outside
    income, expenses and memos. That is what is held for hosts (2100, 2120), fees not earned yet (2110, 2111), what is
    payable or on its way (2200, 2210, 2400, 2410), taxes (2300, 2310), unidentified money (9900), what was settled for
    promises in another currency (3900), and money that came in before we know of it (a clearing account in credit).

    What others owe us is no money yet: a debit under one key never covers a credit under another."""
    with connection.cursor() as cursor:
        cursor.execute(_KEPT, {"currency": currency, "codes": kept_codes()})
        return {code: Money(amount, currency) for code, amount in cursor.fetchall()}


def kept_codes() -> list[str]:
    """The ledger accounts whose credit balances are kept (see `kept`)."""
    return [
        code
        for code, account in ledger.chart().items()
        if account.kind in {"asset", "liability", "equity"} and code not in _OUR_MONEY
    ]


def left_by_last_sweep(*, currency: str, before: int | None = None) -> tuple[str, Money]:
    """Code of the last sweep of a currency (of those before that id) and what it left at the provider; "" and zero
    before the first."""
    rows = sweeps().filter(currency=currency)
    last = (rows.filter(id__lt=before) if before is not None else rows).first()
    if last is None:
        return "", Money.zero(currency)
    stayed = last.lines.filter(reporting_category=KEPT).aggregate(total=Sum("net"))["total"] or 0
    return last.code, Money(-stayed, currency)


def sweep_facts(*, currency: str, available: Money) -> SweepFacts:
    """All that a sweep of a currency is decided on."""
    _, left = left_by_last_sweep(currency=currency)
    with connection.cursor() as cursor:
        cursor.execute(
            MOVED_AND_KEPT.format(moved=f"SELECT moved.net {UNSWEPT}"), {"currency": currency, "codes": kept_codes()}
        )
        return facts_of(cursor.fetchone(), left=left, available=available)


def facts_of(row: tuple[int, int, str], *, left: Money, available: Money) -> SweepFacts:
    """The facts that a row of MOVED_AND_KEPT holds."""
    moved, movements, found = row
    currency = left.currency
    return SweepFacts(
        left=left,
        moved=Money(moved, currency),
        movements=movements,
        kept={code: Money(amount, currency) for code, amount in sorted(json.loads(found).items())},
        available=available,
    )


def sweep_currencies() -> list[str]:
    """Currencies in which we have a balance at the provider."""
    return sorted({account.currency for account in ledger.balances(code="1100", open_only=True)})


def sweeps_to_settle(*, older_than: datetime, currency: str | None = None) -> list[str]:
    """Sweeps whose process died or whose answer was lost."""
    rows = BankPayout.objects.filter(account="", status__in=["requested", "indeterminate"], created_at__lt=older_than)
    rows = rows.filter(currency=currency) if currency else rows
    return list(rows.order_by("id").values_list("code", flat=True))


# What is to be followed -------------------------------------------------------------------------------------------------


def accounts_to_follow(*, now: datetime, every: timedelta, limit: int = 200) -> list[HostAccount]:
    """Hosts' accounts that hold money of theirs by our book, or whose payouts to the bank are not at their end, and those
    that were ever paid out, when their payouts were not asked for since `every`; who was looked at the longest ago comes
    first, so that each has its turn."""
    holding = [row.key for row in ledger.balances(code=CONNECTED_BALANCE, open_only=True)]
    moving = _unsettled(now).exclude(account="").values("account")
    stale = Q(followed_at__isnull=True) | Q(followed_at__lte=now - every)
    paid_out = Exists(BankPayout.objects.filter(account=OuterRef("provider_id"), status="paid"))
    found = HostAccount.objects.filter(
        Q(provider_id__in=holding) | Q(provider_id__in=moving) | stale & Q(paid_out), provider_id__isnull=False
    )
    return list(found.select_related("host").order_by(F("looked_at").asc(nulls_first=True), "id")[:limit])


def is_bank_payout_news(*, seen: SeenBankPayout) -> bool:
    """Whether what the provider shows of a payout is more than we know of it, or not carried out on our payouts yet: one of
    them was told of after it, or still stands on an earlier payout that this one sends on."""
    row = BankPayout.objects.filter(provider_id=seen.id, account=seen.account).first()
    if row is None or (row.status, row.arrival_on) != (seen.status, seen.arrival_on):
        return True
    if (seen.trace[:120] or row.trace) != row.trace:
        return True
    if not (seen.account and seen.automatic and seen.itemised):
        return False
    lines = list(row.lines.values_list("transfer_id", "source_id"))
    waiting = Q(transfer_id__in=[transfer for transfer, _ in lines if transfer], bank_payout__isnull=True)
    sent_on = Q(bank_payout__provider_id__in=[source for _, source in lines if source]) & ~Q(bank_payout=row)
    return not lines or Payout.objects.filter(waiting | sent_on).exists()


def not_known_to_have_failed(*, ids: Iterable[str]) -> list[str]:
    """Which of these payouts we know and take for anything but failed."""
    rows = BankPayout.objects.filter(provider_id__in=list(ids)).exclude(status="failed").order_by("id")
    return [str(provider_id) for provider_id in rows.values_list("provider_id", flat=True)]


def payouts_to_ask_about(*, account: str, now: datetime) -> list[str]:
    """Payouts of an account (or our own, "") that we know and that may still change."""
    rows = _unsettled(now).filter(account=account, provider_id__isnull=False)
    return [row for row in rows.order_by("id").values_list("provider_id", flat=True) if row]


def _unsettled(now: datetime) -> QuerySet[BankPayout]:
    lines = BankPayoutLine.objects.filter(bank_payout=OuterRef("pk"))
    moving = Q(status__in=["pending", "in_transit"])
    may_return = Q(status="paid", paid_at__gt=now - MAY_RETURN)
    uncounted = Q(status="paid", automatic=True, counted=False)
    return BankPayout.objects.annotate(counted=Exists(lines)).filter(moving | may_return | uncounted)
