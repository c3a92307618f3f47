"""Paper: one sheet of style for every document, in a typeface that has Latin, Greek and Cyrillic letters."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from functools import cache
from io import BytesIO
from typing import Any, Final
from xml.sax.saxutils import escape

from django.conf import settings

MARGIN: Final = 51.0  # 18 mm, in points
GREY: Final = "#5f6368"
LINE: Final = "#c9ccd1"
REGULAR: Final = "DejaVuSans"
BOLD: Final = "DejaVuSans-Bold"


class Paper:
    """A document in the making, from top to bottom. Text is text: nothing in it is taken for markup."""

    def __init__(self, *, title: str, subject: str) -> None:
        self._title, self._subject = title, subject
        self._flow: list[Any] = [_paragraph(title, "title")]

    def text(self, words: str, *, style: str = "body") -> None:
        """A paragraph."""
        self._flow.append(_paragraph(words, style))

    def heading(self, words: str) -> None:
        """What the following is about."""
        self._flow.append(_paragraph(words, "heading"))

    def facts(self, rows: Sequence[tuple[str, str]]) -> None:
        """Names and values, two columns."""
        self._flow.append(_table([[_paragraph(name, "grey"), _paragraph(value)] for name, value in rows], (120, None)))

    def table(
        self,
        *,
        headings: Sequence[str],
        rows: Sequence[Sequence[str]],
        widths: Sequence[float | None],
        numbers: int,
        bold: Sequence[int] = (),
    ) -> None:
        """Rows under headings that are repeated on every page; the last `numbers` columns are amounts, rows `bold` sums."""

        def cells(row: Sequence[str], *, style: str) -> list[Any]:
            first = len(row) - numbers
            return [_paragraph(text, f"{style}-right" if at >= first else style) for at, text in enumerate(row)]

        body = [cells(row, style="bold" if number in bold else "small") for number, row in enumerate(rows)]
        self._flow.append(_table([cells(headings, style="grey"), *body], widths, lined=True))

    def pdf(self, *, foot: str) -> bytes:
        """The finished document; `foot` stands on every page beside its number."""
        from reportlab.lib.pagesizes import A4
        from reportlab.platypus import SimpleDocTemplate

        _register()
        held = BytesIO()
        template = SimpleDocTemplate(
            held,
            pagesize=A4,
            leftMargin=MARGIN,
            rightMargin=MARGIN,
            topMargin=MARGIN,
            bottomMargin=MARGIN,
            title=self._title,
            subject=self._subject,
            author="Staydesk",
            creator="Staydesk",
            invariant=1,  # the same facts are the same bytes
            pageCompression=1,
        )

        def draw_foot(canvas: Any, page: Any) -> None:
            canvas.setFont(REGULAR, 7)
            canvas.setFillColor(GREY)
            canvas.drawString(MARGIN, MARGIN / 2, foot)
            canvas.drawRightString(A4[0] - MARGIN, MARGIN / 2, f"Page {page.page}")

        template.build(self._flow, onFirstPage=draw_foot, onLaterPages=draw_foot)
        return held.getvalue()


@cache
def _register() -> None:
    from reportlab.pdfbase import pdfmetrics
    from reportlab.pdfbase.ttfonts import TTFont

    fonts = settings.BASE_DIR / "fixtures" / "fonts"
    for name in (REGULAR, BOLD):
        pdfmetrics.registerFont(TTFont(name, str(fonts / f"{name}.ttf")))


@cache
def _styles() -> dict[str, Any]:
    from reportlab.lib.enums import TA_RIGHT
    from reportlab.lib.styles import ParagraphStyle

    _register()
    made = {
        "title": ParagraphStyle("title", fontName=BOLD, fontSize=16, leading=20, spaceAfter=10),
        "heading": ParagraphStyle("heading", fontName=BOLD, fontSize=10, leading=13, spaceBefore=12, spaceAfter=4),
        "body": ParagraphStyle("body", fontName=REGULAR, fontSize=9, leading=12, spaceAfter=4),
        "small": ParagraphStyle("small", fontName=REGULAR, fontSize=8, leading=10.5),
        "bold": ParagraphStyle("bold", fontName=BOLD, fontSize=8, leading=10.5),
        "grey": ParagraphStyle("grey", fontName=REGULAR, fontSize=7.5, leading=10.5, textColor=GREY),
    }
    for name in ("small", "bold", "grey"):
        made[f"{name}-right"] = ParagraphStyle(f"{name}-right", parent=made[name], alignment=TA_RIGHT)
    return made


def _paragraph(words: str, style: str = "body") -> Any:
    from reportlab.platypus import Paragraph

    # Composed letters, as the typeface has them; what controls or does not print has no place on paper.
    plain = "".join(sign for sign in unicodedata.normalize("NFC", words) if sign.isprintable())
    return Paragraph(escape(plain), _styles()[style])


def _table(rows: Sequence[Sequence[Any]], widths: Sequence[float | None], *, lined: bool = False) -> Any:
    from reportlab.lib.colors import HexColor
    from reportlab.lib.pagesizes import A4
    from reportlab.platypus import Table

    taken = sum(width for width in widths if width is not None)
    rest = (A4[0] - 2 * MARGIN - 12 - taken) / max(1, sum(width is None for width in widths))
    style: list[tuple[Any, ...]] = [
        ("VALIGN", (0, 0), (-1, -1), "TOP"),
        ("LEFTPADDING", (0, 0), (-1, -1), 0),
        ("TOPPADDING", (0, 0), (-1, -1), 2),
        ("BOTTOMPADDING", (0, 0), (-1, -1), 2),
    ]
    if lined:
        style.append(("LINEBELOW", (0, 0), (-1, -1), 0.4, HexColor(LINE)))
    return Table(
        [list(row) for row in rows],
        colWidths=[rest if width is None else width for width in widths],
        repeatRows=1 if lined else 0,
        style=style,
        hAlign="LEFT",
    )
