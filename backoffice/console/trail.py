"""What stands behind an amount: the ledger's postings, the provider's movements of our balance, and its webhooks."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Final

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from backoffice.console import cells
from backoffice.console.page import Column, Figure, Posting, Row, Table
from backoffice.core.money import Money
from backoffice.ledger import queries as ledger
from backoffice.ledger.models import Account, Journal, JournalLine
from backoffice.payments.models import BalanceTransaction, WebhookEvent

_MOST: Final = 40


# The ledger -----------------------------------------------------------------------------------------------------------


def name_of(code: str) -> str:
    """An account's name in the chart."""
    known = ledger.chart().get(code)
    return known.name if known else "not in the chart"


def account(row: Account) -> SafeString:
    """An account by its code and name, leading to its statement."""
    return cells.link(row, f"{row.code} {name_of(row.code)}")


def kind_of(journal: Journal) -> str:
    """What a journal tells, in words; what the provider's own record tells says so."""
    kind = journal.kind.removeprefix("bt.")
    words = cells.words(kind).replace(".", " ")
    return words if kind == journal.kind else f"{words}, by the provider"


def _named(name: str) -> SafeString | str:
    return cells.lead(name) if name else ""


def debit(line: JournalLine) -> SafeString:
    return cells.money(line.amount, line.currency) if line.amount > 0 else cells.NONE


def credit(line: JournalLine) -> SafeString:
    return cells.money(-line.amount, line.currency) if line.amount < 0 else cells.NONE


def side(amount: int, currency: str) -> SafeString:
    """A balance with the side it stands on."""
    shown = cells.money(abs(amount), currency)
    return format_html('{} <span class="sd-side-word">{}</span>', shown, "Dr" if amount > 0 else "Cr" if amount else "")


def journals_about(names: Collection[str]) -> list[Journal]:
    """The latest journals that have to do with any of `names`, first to last. Names are of things with a life of their own
    (a payout, a refund), never of a person."""
    return ledger.concerning(*names, limit=2 * _MOST)


def postings(journals: Iterable[Journal], *codes: str, key: str | None = None, credited: bool = False) -> list[Posting]:
    """The lines of `journals` on some accounts (under one key, if given). `credited` counts what was credited as more."""
    return [
        Posting(journal, line, -line.money if credited else line.money)
        for journal in journals
        for line in journal.lines.all()
        if line.account.code in codes and key in (None, line.account.key)
    ]


def of_event(journals: Iterable[Journal], key: str) -> list[Journal]:
    """The journal of one event of ours, by its key; the movements that clear it later are other journals."""
    return [journal for journal in journals if journal.idempotency_key == key]


def asked(journals: Sequence[Journal], code: str) -> list[Posting]:
    """What our own events credited to an account, less what was taken back of them by reversal. The provider's movements
    that clear it are not counted: what was asked for stays asked for when it is carried out."""
    made = {
        journal.pk
        for journal in journals
        if journal.reverses_id is None
        and not journal.kind.startswith("bt.")
        and any(line.account.code == code and line.amount < 0 for line in journal.lines.all())
    }
    return [
        posting
        for posting in postings(journals, code, credited=True)
        if posting.journal.reverses_id in made or (posting.journal.pk in made and posting.line.amount < 0)
    ]


def figure(
    label: str,
    found: Sequence[Posting],
    *,
    words: str = "",
    strong: bool = False,
    currency: str = "",
    open: bool = True,
) -> Figure:
    """A figure that is the sum of its postings, one amount per currency; `open` says whether the reader may see them."""
    sums: dict[str, int] = {}
    for posting in found:
        sums[posting.money.currency] = sums.get(posting.money.currency, 0) + posting.money.amount
    amounts = [Money(amount, of) for of, amount in sums.items() if amount] or [Money.zero(next(iter(sums), currency))]
    shown = format_html_join(" ", "{}", ((cells.of(amount),) for amount in amounts))
    return Figure(label, shown, words, strong, found if open else None)


def journals_table(
    journals: Sequence[Journal], *, title: str = "Postings", note: str = "", more: str = "", empty: str = ""
) -> Table:
    """Every posting of some journals, first to last: each journal and each account leads to its page."""
    rows = []
    for journal in journals:
        for index, line in enumerate(journal.lines.all()):
            first = index == 0
            rows.append(
                Row(
                    (
                        cells.instant(journal.effective_at) if first else "",
                        cells.two(cells.link(journal, kind_of(journal)), _named(journal.reference)) if first else "",
                        cells.two(account(line.account), _named(line.account.key)),
                        debit(line),
                        credit(line),
                    ),
                    quiet=not first,
                )
            )
    return Table(
        title=title,
        note=note or "Each journal leads to its lines, each account to its statement, each id to what it names.",
        columns=(
            Column("When"),
            Column("Journal"),
            Column("Account"),
            Column("Debit", "money"),
            Column("Credit", "money"),
        ),
        rows=rows,
        empty=empty or "Nothing has been posted yet.",
        more=more,
    )


# The provider ---------------------------------------------------------------------------------------------------------


def sources_of(journals: Iterable[Journal]) -> list[str]:
    """The provider's objects whose movements some journals post: a transfer that was refused, too, which its payout no
    longer names."""
    posted = [journal.pk for journal in journals if journal.kind.startswith("bt.")]
    found = BalanceTransaction.objects.filter(journal_id__in=posted) if posted else BalanceTransaction.objects.none()
    return list(found.order_by("id").values_list("source_id", flat=True))


def movements_of(sources: Collection[str]) -> list[BalanceTransaction]:
    """The provider's movements that came from any of its objects, newest first."""
    wanted = [each for each in sources if each]
    return list(BalanceTransaction.objects.filter(source_id__in=wanted).order_by("-id")[:_MOST]) if wanted else []


def movements_table(sources: Collection[str], *, title: str = "Balance transactions") -> Table:
    """What the provider says has moved for some of its objects."""
    return Table(
        title=title,
        note="What the provider says has moved; each is posted to the ledger once.",
        columns=(
            Column("Movement"),
            Column("Kind"),
            Column("From"),
            Column("Amount", "money"),
            Column("Fee", "money"),
            Column("Net", "money"),
        ),
        rows=[
            Row(
                (
                    # Given as its text, the id may be broken: six columns stand beside the facts of a page.
                    cells.two(cells.link(each, each.provider_id), cells.instant(each.created)),
                    cells.words(each.reporting_category),
                    cells.lead(each.source_id),
                    cells.money(each.amount, each.currency),
                    cells.money(each.fee, each.currency),
                    cells.money(each.net, each.currency),
                )
            )
            for each in movements_of(sources)
        ],
        empty="The provider has not reported a movement yet.",
    )


def webhooks_table(objects: Collection[str]) -> Table:
    """What the provider has told us about some of its objects."""
    wanted = [each for each in objects if each]
    found = WebhookEvent.objects.filter(object_id__in=wanted).defer("payload").order_by("-id")[:_MOST]
    return Table(
        title="Webhooks",
        columns=(Column("Event"), Column("About"), Column("Status"), Column("Received")),
        rows=[
            Row(
                (
                    cells.two(cells.link(each, each.type), cells.code(each.event_id)),
                    cells.lead(each.object_id),
                    cells.status(each.status),
                    cells.instant(each.received_at),
                )
            )
            for each in (found if wanted else ())
        ],
        empty="The provider has not told us anything about it.",
    )
