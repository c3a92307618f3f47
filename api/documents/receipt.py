"""A guest's receipt on paper."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from fractions import Fraction

from api.documents.paper import Paper
from backoffice.core.money import Money
from backoffice.core.words import counted
from backoffice.reporting.queries import Receipt, ReceiptRefund

CHARGED = {"stay": "Stay", "instalment": "Instalment of the stay", "damage": "Damage"}


def receipt_pdf(receipt: Receipt) -> bytes:
    """The receipt as it stands now."""
    paper = Paper(title=f"Receipt {receipt.number}", subject=f"Booking {receipt.booking}")
    paper.facts(
        [
            ("Booking", receipt.booking),
            ("Guest", receipt.guest),
            ("Home", f"{receipt.listing}, {receipt.place}"),
            ("Host", receipt.host),
            (
                "Stay",
                f"{receipt.check_in} to {receipt.check_out}, {counted(receipt.nights, 'night')}, "
                f"{counted(receipt.guests, 'guest')}",
            ),
            ("Issued", f"{receipt.issued_at:%Y-%m-%d %H:%M} UTC"),
        ]
    )
    _price(paper, receipt)
    _charges(paper, receipt)
    if receipt.refunds:
        _refunds(paper, receipt)
    paper.heading("In all")
    paper.facts(
        [
            ("Charged", receipt.charged.format()),
            ("Refunded", receipt.refunded.format()),
            *([("Refunds under way", receipt.refunds_pending.format())] if receipt.refunds_pending else []),
            ("Paid", receipt.paid.format()),
        ]
    )
    return paper.pdf(foot=f"Receipt {receipt.number} for booking {receipt.booking}")


def _price(paper: Paper, receipt: Receipt) -> None:
    foreign = receipt.total.currency != receipt.charge_total.currency
    own, charged = receipt.total.currency, receipt.charge_total.currency

    def row(what: str, amount: Money, taken: Money) -> list[str]:
        return [what, amount.format(), *([taken.format()] if foreign else [])]

    rows = [row(f"{line.label}", line.amount, line.charged) for line in receipt.lines]
    rows.append(row("Price of the stay", receipt.total, receipt.charge_total))
    paper.heading("What it cost")
    paper.table(
        headings=["", own, *([charged] if foreign else [])],
        rows=rows,
        widths=[None, 90, *([90] if foreign else [])],
        numbers=2 if foreign else 1,
        bold=[len(rows) - 1],
    )
    if foreign:
        rate = receipt.rate
        paper.text(
            f"Converted at 1 {rate.base} = {_six_decimals(rate.value)} {rate.quote}, the {rate.source} rate of {rate.on}, "
            "fixed when you booked.",
            style="grey",
        )


def _six_decimals(rate: Fraction) -> str:
    return f"{Decimal(rate.numerator) / Decimal(rate.denominator):.6f}"


def _charges(paper: Paper, receipt: Receipt) -> None:
    paper.heading("What was charged")
    paper.table(
        headings=["Date (UTC)", "What", "Reference", "Amount"],
        rows=[
            [f"{charge.at:%Y-%m-%d}", CHARGED.get(charge.what, charge.what), charge.code, charge.amount.format()]
            for charge in receipt.charges
        ],
        widths=[70, None, 100, 90],
        numbers=1,
    )


def _refunds(paper: Paper, receipt: Receipt) -> None:
    paper.heading("What went back")
    paper.table(
        headings=["Date (UTC)", "What became of it", "Reference", "Amount"],
        rows=[
            [f"{row.sent_at or row.asked_at:%Y-%m-%d}", _story(row), row.code, row.amount.format()]
            for row in receipt.refunds
        ],
        widths=[70, None, 100, 90],
        numbers=1,
    )


def _story(refund: ReceiptRefund) -> str:
    story = refund.story
    expected = f" Expected {_span(story.arrives_from, story.arrives_by)}." if story.arrives_from else ""
    return story.sentence + expected


def _span(first: date | None, last: date | None) -> str:
    return f"between {first} and {last}"
