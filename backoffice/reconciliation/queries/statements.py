"""Questions about the bank's lines and the payouts that they may be."""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta
from typing import Final

from django.db.models import Prefetch, Q, QuerySet

from backoffice.core.money import Money
from backoffice.ledger import queries as ledger
from backoffice.payments.models import Refund
from backoffice.payments.states import REPAYMENT_GIVEN_UP
from backoffice.payouts.models import BankPayout
from backoffice.reconciliation.models import BankMatch, Break, StatementLine
from backoffice.reconciliation.policies import OpenLine, OpenPayout

# Nobody chooses among more: what is further from an amount than so many others is not that amount less a fee.
MOST_OFFERED: Final = 50
_LINE_KEY: Final = "bank:"  # the key of a line in suspense, before its code
# A line's matches with their payouts and who decided them, in one statement each.
WITH_MATCHES: Final = Prefetch(
    "matches", queryset=BankMatch.objects.select_related("bank_payout", "decided_by").order_by("id")
)


def proposals() -> QuerySet[BankMatch]:
    """What adds up and waits for a person's word, newest first."""
    return BankMatch.objects.filter(status="proposed").select_related("line", "bank_payout").order_by("-id")


def proposals_for(*, account: str, key: str) -> QuerySet[BankMatch]:
    """The proposals that would clear a key: of the line in suspense, or of the payout on its way."""
    if account == "9900":
        return proposals().filter(line__code=key.removeprefix(_LINE_KEY))
    return proposals().filter(bank_payout__provider_id=key) if account == "1160" else proposals().none()


def suspended(*, codes: Collection[str] | None = None) -> dict[str, Money]:
    """The codes of lines (of all, or of these) of which something stands in suspense (9900), with what stands, as the bank
    signs it. The ledger says so: what was written off there is no longer open."""
    accounts = ledger.balances(code="9900", open_only=True)
    if codes is not None:
        accounts = accounts.filter(key__in=[f"{_LINE_KEY}{code}" for code in codes])
    return {
        account.key.removeprefix(_LINE_KEY): Money(-account.amount, account.currency)  # type: ignore[attr-defined]  # annotated there
        for account in accounts
        if account.key.startswith(_LINE_KEY)
    }


def line_left(line: StatementLine) -> Money:
    """What of a line is not yet known: all of it before it is posted, then what of it stands in suspense."""
    if line.journal_id is None:
        return Money(line.amount, line.currency)
    key = f"{_LINE_KEY}{line.code}"
    return Money(-ledger.balance(account="9900", key=key, currency=line.currency), line.currency)


def payout_left(payout: BankPayout) -> Money:
    """What of a payout is on its way to the bank (1160); below zero what the bank has yet to take back."""
    key = payout.provider_id or ""
    return Money(ledger.balance(account="1160", key=key, currency=payout.currency), payout.currency)


def open_rows() -> list[StatementLine]:
    """Lines that are not posted yet, or of which something stands in suspense, the first that came first."""
    return list(_open_rows(suspended()).order_by("id"))


def open_lines() -> list[OpenLine]:
    """Lines that are not posted yet, or stand in suspense, with what is still unmatched of them."""
    left = suspended()
    return [
        OpenLine(
            id=row.id,
            amount=Money(row.amount, row.currency) if row.journal_id is None else left[row.code],
            booked_on=row.booked_on,
            trace=row.trace,
            text=row.text,
        )
        for row in _open_rows(left).order_by("booked_on", "id")
    ]


def open_payouts() -> list[OpenPayout]:
    """Payouts of ours that stand on their way to the bank (1160), with what stands; below zero, what a bank that sent one
    back has yet to take."""
    standing = {
        (account.key, account.currency): account.amount  # type: ignore[attr-defined]  # annotated by the query
        for account in ledger.balances(code="1160", open_only=True)
    }
    rows = BankPayout.objects.filter(account="", provider_id__in=[key for key, _ in standing]).order_by("id")
    return [
        OpenPayout(
            id=row.id,
            open=Money(standing[row.provider_id or "", row.currency], row.currency),
            arrival_on=row.arrival_on or row.created_at.date() + timedelta(days=2),
            names=(row.trace, row.provider_id or "", row.code),
            returned=standing[row.provider_id or "", row.currency] < 0,
        )
        for row in rows
        if (row.provider_id, row.currency) in standing
    ]


def is_named(*, line: StatementLine, refund: Refund) -> bool:
    """Whether a line names a refund paid another way: by its code, or by the bank's own reference of it."""
    words = f"{line.reference} {line.trace} {line.text}".upper()
    return any(name and name.upper() in words for name in (refund.code, refund.provider_id))


def lines_back_less(*, refund: Refund, most: int = MOST_OFFERED) -> list[StatementLine]:
    """Lines that may be a refund paid another way that our bank sent back less a fee: money that came in, less than it in its
    currency, and stands in suspense as a whole. Those that name it come first, then whatever is nearest to it."""
    left = suspended()
    rows = StatementLine.objects.filter(code__in=left, currency=refund.currency, amount__gt=0, amount__lt=refund.amount)
    whole = [row for row in rows if left[row.code].amount == row.amount]
    return sorted(whole, key=lambda row: (not is_named(line=row, refund=refund), -row.amount, -row.id))[:most]


def payout_of_break(*, found: Break) -> str:
    """The provider's id of our own payout to the bank that a break is about, by what stands on 1160 or by the payout itself;
    "" for any other break."""
    if found.leg == "payout":
        return "" if found.detail.get("account") else found.key
    return str(found.detail.get("key", "")) if found.detail.get("account") == "1160" else ""


def lines_for_payout(*, payout: BankPayout, most: int = MOST_OFFERED) -> list[tuple[StatementLine, Money]]:
    """Lines in suspense that may be a payout of ours, or its return, with what of each stands there: of its currency, and
    money that went the same way. Whatever is nearest to what is left of the payout comes first."""
    open_ = payout_left(payout)
    left = suspended()
    rows = StatementLine.objects.filter(code__in=left, currency=payout.currency)
    same_way = [(row, left[row.code]) for row in rows if left[row.code].amount * open_.amount > 0]
    return sorted(same_way, key=lambda one: (abs(one[1].amount - open_.amount), -one[0].id))[:most]


def refunds_back_less(*, amount: Money) -> list[Refund]:
    """Refunds paid another way that our bank sent back and of which nothing has come back yet, the oldest first: `amount`,
    which came in, may be what a bank has left of one of them."""
    owed = {
        account.key: account.amount  # type: ignore[attr-defined]  # annotated by the query
        for account in ledger.balances(code="2400", open_only=True)
        if account.currency == amount.currency
    }
    rows = Refund.objects.filter(
        code__in=owed, currency=amount.currency, amount__gt=amount.amount, method="other", status__in=REPAYMENT_GIVEN_UP
    )
    return [row for row in rows.order_by("id") if owed[row.code] == row.amount]


def _open_rows(left: Collection[str]) -> QuerySet[StatementLine]:
    return StatementLine.objects.filter(Q(journal_id=None) | Q(code__in=left))


def refused_pairs() -> set[tuple[int, int]]:
    """Line and payout of proposals that a person has rejected."""
    return set(BankMatch.objects.filter(status="rejected").values_list("line_id", "bank_payout_id"))
