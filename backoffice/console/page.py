"""What a record's page is made of. An admin says it in these words; `console/record.html` draws it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar

from django.utils.safestring import SafeString

from backoffice.console import cells
from backoffice.core.money import Money
from backoffice.ledger.models import Journal, JournalLine


@dataclass(frozen=True)
class Fact:
    """A label with its value; without a value there is nothing to say, and the line is left out."""

    label: str
    value: Any

    @property
    def known(self) -> bool:
        return self.value not in (None, "", cells.NONE)


@dataclass(frozen=True)
class Panel:
    """One titled part of a page. `note` says in a sentence what is seen; `more` leads to the whole list."""

    template: ClassVar[str] = "console/panels/text.html"
    title: str
    note: str = ""
    more: str = ""
    more_text: str = "All"


@dataclass(frozen=True)
class Column:
    """`kind` money or number aligns to the right."""

    label: str
    kind: str = ""


@dataclass(frozen=True)
class Row:
    """Cells in the columns' order. `strong` for totals, `href` makes the row lead somewhere."""

    cells: Sequence[Any]
    strong: bool = False
    quiet: bool = False


@dataclass(frozen=True)
class Table(Panel):
    template: ClassVar[str] = "console/panels/table.html"
    columns: Sequence[Column] = ()
    rows: Sequence[Row] = ()
    empty: str = "Nothing here."

    @property
    def lines(self) -> list[tuple[Row, list[tuple[Column, Any]]]]:
        return [(row, list(zip(self.columns, row.cells, strict=True))) for row in self.rows]


@dataclass(frozen=True)
class Facts(Panel):
    template: ClassVar[str] = "console/panels/facts.html"
    facts: Sequence[Fact] = ()


@dataclass(frozen=True)
class Text(Panel):
    """Text as it is, in a fixed-width face when `code`."""

    text: str | SafeString = ""
    code: bool = False


@dataclass(frozen=True)
class Happening:
    """Something that happened, for a timeline: what, by whom, when, and why."""

    at: datetime
    kind: str
    what: str | SafeString
    who: str = ""
    why: str = ""
    icon: str = "circle"
    href: str = ""


@dataclass(frozen=True)
class Timeline(Panel):
    template: ClassVar[str] = "console/panels/timeline.html"
    happenings: Sequence[Happening] = ()
    empty: str = "Nothing has happened yet."


@dataclass(frozen=True)
class Change:
    """One field before and after."""

    name: str
    before: Any
    after: Any


@dataclass(frozen=True)
class Diff(Panel):
    template: ClassVar[str] = "console/panels/diff.html"
    changes: Sequence[Change] = ()
    empty: str = "No field changed."


@dataclass(frozen=True)
class Posting:
    """One line of the ledger that explains a figure, in the figure's own sense: what adds to it is positive."""

    journal: Journal
    line: JournalLine
    money: Money

    @property
    def shown(self) -> SafeString:
        return cells.of(self.money, signed=True)


@dataclass(frozen=True)
class Figure:
    """One line of a money table, with the postings that explain it where the reader may see the ledger; without them,
    `href` leads to what explains it."""

    label: str | SafeString
    amount: SafeString
    words: str | SafeString = ""
    strong: bool = False
    postings: Sequence[Posting] | None = None
    href: str = ""

    @property
    def together(self) -> SafeString | str:
        """The sum of the postings, where they are of one currency."""
        currencies = {posting.money.currency for posting in self.postings or ()}
        if len(currencies) != 1:
            return ""
        return cells.of(Money.sum((posting.money for posting in self.postings or ()), currencies.pop()))


@dataclass(frozen=True)
class Figures(Panel):
    """Amounts that add up, from the top down; each unfolds into what it is made of."""

    template: ClassVar[str] = "console/panels/figures.html"
    figures: Sequence[Figure] = ()


@dataclass(frozen=True)
class Overview:
    """A page about a list as a whole: the admin's method of this name makes it."""

    name: str
    label: str
    icon: str = "table_chart"


@dataclass(frozen=True)
class Page:
    """A record's page: what it is called, how it stands, its facts, its parts."""

    title: str
    subtitle: str | SafeString = ""
    status: str | SafeString = ""
    facts: Sequence[Fact] = ()
    panels: Sequence[Panel] = ()
    warnings: Sequence[str] = field(default_factory=tuple)

    @property
    def says_facts(self) -> bool:
        """Whether any of its facts is known."""
        return any(fact.known for fact in self.facts)
