"""Paper: one sheet of style for every document.

Its typeface has Latin, Greek, Cyrillic, Hebrew and Arabic letters. Chinese, Japanese and Korean ones are set in the typefaces
that most PDF readers have for them, by name. What no typeface has is shown as a sign that says so, never left out."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from functools import cache
from io import BytesIO
from itertools import groupby
from typing import Any, Final
from xml.sax.saxutils import escape

from arabic_reshaper import reshape
from bidi import get_display
from django.conf import settings

MARGIN: Final = 51.0  # 18 mm, in points
PADDING: Final = 6.0
SMALL: Final = 8.0
LEADING: Final = 10.5
GREY: Final = "#5f6368"
LINE: Final = "#c9ccd1"
REGULAR: Final = "DejaVuSans"
BOLD: Final = "DejaVuSans-Bold"
KOREAN: Final = "HYSMyeongJo-Medium"
JAPANESE: Final = "HeiseiMin-W3"
CHINESE: Final = "STSong-Light"
UNKNOWN: Final = "\N{REPLACEMENT CHARACTER}"


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
        cells = [[_paragraph(name, "grey"), _paragraph(value)] for name, value in rows]
        self._flow.append(_table(cells, _widths((120, None))))

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
        from reportlab.lib.colors import HexColor

        _register()
        wide = _widths(widths)
        heavy = {number + 1 for number in bold}
        first = len(wide) - numbers
        style: list[tuple[Any, ...]] = [
            ("LINEBELOW", (0, 0), (-1, -1), 0.4, HexColor(LINE)),
            ("FONT", (0, 0), (-1, -1), REGULAR, SMALL, LEADING),
            ("TEXTCOLOR", (0, 0), (-1, 0), HexColor(GREY)),
            ("ALIGN", (first, 0), (-1, -1), "RIGHT"),
            *(("FONT", (0, number), (-1, number), BOLD, SMALL, LEADING) for number in heavy),
        ]
        cells = [
            [_cell(text, wide[column], bold=number in heavy, right=column >= first) for column, text in enumerate(row)]
            for number, row in enumerate([headings, *rows])
        ]
        self._flow.append(_table(cells, wide, style, heading=True))

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
    from reportlab.pdfbase.cidfonts import UnicodeCIDFont
    from reportlab.pdfbase.ttfonts import TTFont

    for name in (KOREAN, JAPANESE, CHINESE):
        pdfmetrics.registerFont(UnicodeCIDFont(name))
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
        "small": ParagraphStyle("small", fontName=REGULAR, fontSize=SMALL, leading=LEADING),
        "bold": ParagraphStyle("bold", fontName=BOLD, fontSize=SMALL, leading=LEADING),
        "grey": ParagraphStyle("grey", fontName=REGULAR, fontSize=7.5, leading=LEADING, textColor=GREY),
    }
    for name in ("small", "bold"):
        made[f"{name}-right"] = ParagraphStyle(f"{name}-right", parent=made[name], alignment=TA_RIGHT)
    return made


def _paragraph(words: str, style: str = "body") -> Any:
    from reportlab.platypus import Paragraph

    styled = _styles()[style]
    marked = (
        escape(run) if face == REGULAR else f'<font name="{face}">{escape(run)}</font>'
        for face, run in _runs(_printable(words))
    )
    return Paragraph("".join(marked), styled)


def _printable(words: str) -> str:
    """Composed letters in the order in which they are seen, those that no typeface has as the sign for that; what controls or
    does not print has no place on paper."""
    plain = "".join(sign for sign in unicodedata.normalize("NFC", words) if sign.isprintable())
    if plain.isascii():
        return plain
    if any(unicodedata.bidirectional(sign) in {"R", "AL"} for sign in plain):
        plain = str(get_display(reshape(plain), base_dir="L"))
    return "".join(sign if _face(sign) else UNKNOWN for sign in plain)


def _runs(words: str) -> list[tuple[str, str]]:
    """Printable words in pieces that are set in one typeface each. Beside Japanese letters the signs are Japanese too."""
    if words.isascii():
        return [(REGULAR, words)]
    runs = [(face, "".join(signs)) for face, signs in groupby(words, key=_face)]
    if not any(face == JAPANESE for face, _ in runs):
        return runs
    return [(JAPANESE if face == CHINESE else face, run) for face, run in runs]


@cache
def _face(sign: str) -> str:
    """The typeface that has a sign; empty where none has. Those for other scripts have the letters of the first plane."""
    from reportlab.pdfbase.pdfmetrics import getFont

    _register()
    if ord(sign) in getFont(REGULAR).face.charToGlyph:
        return REGULAR
    script = unicodedata.name(sign, "").split(" ")[0]
    if ord(sign) > 0xFFFF:
        return ""
    return {
        "HANGUL": KOREAN,
        "HIRAGANA": JAPANESE,
        "KATAKANA": JAPANESE,
        "KATAKANA-HIRAGANA": JAPANESE,
        "CJK": CHINESE,
        "IDEOGRAPHIC": CHINESE,
        "FULLWIDTH": CHINESE,
    }.get(script, "")


def _cell(words: str, width: float, *, bold: bool, right: bool) -> Any:
    """The words themselves where they fit on one line in one typeface, which is ten times quicker to set; else a paragraph
    that wraps."""
    from reportlab.pdfbase.pdfmetrics import stringWidth

    plain = _printable(words)
    own = all(face == REGULAR for face, _ in _runs(plain))
    if own and stringWidth(plain, BOLD if bold else REGULAR, SMALL) <= width - PADDING:
        return plain
    return _paragraph(words, ("bold" if bold else "small") + ("-right" if right else ""))


def _widths(widths: Sequence[float | None]) -> list[float]:
    """Widths in points; what is left of the page is shared by those that are None."""
    from reportlab.lib.pagesizes import A4

    taken = sum(width for width in widths if width is not None)
    rest = (A4[0] - 2 * MARGIN - 12 - taken) / max(1, sum(width is None for width in widths))
    return [rest if width is None else width for width in widths]


def _table(
    rows: Sequence[Sequence[Any]],
    widths: Sequence[float],
    style: Sequence[tuple[Any, ...]] = (),
    *,
    heading: bool = False,
) -> Any:
    from reportlab.platypus import Table

    common = [
        ("VALIGN", (0, 0), (-1, -1), "TOP"),
        ("LEFTPADDING", (0, 0), (-1, -1), 0),
        ("RIGHTPADDING", (0, 0), (-1, -1), PADDING),
        ("TOPPADDING", (0, 0), (-1, -1), 2),
        ("BOTTOMPADDING", (0, 0), (-1, -1), 2),
    ]
    return Table(
        [list(row) for row in rows],
        colWidths=list(widths),
        repeatRows=1 if heading else 0,
        style=[*common, *style],
        hAlign="LEFT",
    )
