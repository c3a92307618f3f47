"""The console's lists: newest first, paged by key, so that the last page costs what the first does."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from django.contrib.admin.options import IncorrectLookupParameters
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from unfold.paginator import InfinitePaginator
from unfold.views import ChangeList

from backoffice.console.door import Desk, desk_of

# Where in the list one stands: rows older than a key, newer than one, or the oldest there are.
PAGING: Final = ("before", "after", "oldest")
# Which of a list's views is looked at.
VIEW: Final = "view"


@dataclass(frozen=True)
class Search:
    """What is searched when a term looks like `shape`: one indexed column, whole or by its beginning.

    One column per term, because an OR over several tables cannot use any of their indexes."""

    lookup: str
    shape: str = ""
    case: Callable[[str], str] = str

    def fits(self, term: str) -> bool:
        return re.search(self.shape, term, re.IGNORECASE) is not None


@dataclass(frozen=True)
class View:
    """A list as somebody works it: the rows that `where` leaves, under a name of their own.

    With `soonest`, a column without gaps, the rows stand in its order instead of newest first."""

    name: str
    label: str
    where: Callable[[QuerySet[Any], Desk], QuerySet[Any]]
    soonest: str = ""


class KeysetPaginator(InfinitePaginator):
    """Never counts; `NewestFirst` finds the page by key."""

    template_name = "console/pagination.html"


class NewestFirst(ChangeList):
    """Rows in descending key order, or in a view's own; `?before=KEY` and `?after=KEY` page through them, `?oldest=1` is
    the last page. A list with views opens with its first, unless a filter or a search asks for something else."""

    def get_queryset(self, request: HttpRequest, exclude_parameters: Any = None) -> QuerySet[Any]:
        self.standing = {name: request.GET[name] for name in PAGING if request.GET.get(name)}
        for name in (*PAGING, VIEW):
            self.params.pop(name, None)
            self.filter_params.pop(name, None)
        self.view = self._view(request)
        if any("\x00" in value for values in self.filter_params.values() for value in values):
            raise IncorrectLookupParameters("a filter holds a NUL character")
        rows: QuerySet[Any] = super().get_queryset(request, exclude_parameters)
        return self.view.where(rows, desk_of(request)) if self.view else rows

    def _view(self, request: HttpRequest) -> View | None:
        views: tuple[View, ...] = self.model_admin.views
        asked = request.GET.get(VIEW, "")
        if asked:
            return next((each for each in views if each.name == asked), None)
        return views[0] if views and not self.filter_params and not request.GET.get("q") else None

    def get_results(self, request: HttpRequest) -> None:
        size = self.list_per_page
        backwards = "after" in self.standing or "oldest" in self.standing
        found = list(self._standing_rows(backwards)[: size + 1])
        more = len(found) > size
        found = found[:size]
        if backwards:
            found.reverse()
        self.model_admin.prepare(found, desk_of(request))
        self.result_list = found
        self.has_older = more if not backwards else "oldest" not in self.standing
        self.has_newer = more if backwards else "before" in self.standing
        self.paginator = self.model_admin.get_paginator(request, self.queryset, size)
        self.result_count = self.full_result_count = len(found)
        self.show_full_result_count = self.can_show_all = self.multi_page = self.show_admin_actions = False

    def _standing_rows(self, backwards: bool) -> QuerySet[Any]:
        column = self.view.soonest if self.view else ""
        ascending = bool(column) != backwards
        order = [column, "pk"] if column else ["pk"]
        rows: QuerySet[Any] = self.queryset.order_by(*order if ascending else [f"-{each}" for each in order])
        name = next((each for each in ("after", "before") if each in self.standing), "")
        if not name:
            return rows
        beyond = "gt" if ascending else "lt"
        if not column:
            return rows.filter(**{f"pk__{beyond}": self._key(self.standing[name], name)})
        at, _, key = self.standing[name].partition("~")
        tie = Q(**{column: self._instant(at, name), f"pk__{beyond}": self._key(key, name)})
        return rows.filter(Q(**{f"{column}__{beyond}": self._instant(at, name)}) | tie)

    def _instant(self, text: str, name: str) -> datetime:
        try:
            at = datetime.fromisoformat(text)
        except ValueError:
            raise IncorrectLookupParameters(f"{name}: not an instant") from None
        if at.tzinfo is None:
            raise IncorrectLookupParameters(f"{name}: an instant without its zone")
        return at

    def _key(self, text: str, name: str) -> int:
        if not (text.isascii() and text.isdigit() and len(text) < 19):
            raise IncorrectLookupParameters(f"{name}: not a key")
        return int(text)

    def _place(self, row: Any) -> str:
        """Where a row stands in the order, as an address says it."""
        column = self.view.soonest if self.view else ""
        return f"{getattr(row, column).isoformat()}~{row.pk}" if column else str(row.pk)

    def _query(self, **place: str) -> str:
        view = {VIEW: self.view.name} if self.view else {}
        return str(self.get_query_string({**view, **place}))

    @property
    def tabs(self) -> list[tuple[str, str, bool]]:
        """The views of this list: label, address, whether it is the one looked at."""
        views: tuple[View, ...] = self.model_admin.views
        return [(each.label, f"?{VIEW}={each.name}", each is self.view) for each in views]

    @property
    def order_words(self) -> tuple[str, str, str, str]:
        """What the ends of the list and the ways there are called."""
        if self.view and self.view.soonest:
            return "Soonest", "Sooner", "Later", "Latest"
        return "Newest", "Newer", "Older", "Oldest"

    @property
    def newest_query(self) -> str:
        return self._query()

    @property
    def oldest_query(self) -> str:
        return self._query(oldest="1")

    @property
    def older_query(self) -> str:
        return self._query(before=self._place(self.result_list[-1])) if self.result_list else ""

    @property
    def newer_query(self) -> str:
        return self._query(after=self._place(self.result_list[0])) if self.result_list else ""

    def url_for_result(self, result: Any) -> str:
        from backoffice.console import cells

        return cells.address_of(result)


def search(rows: QuerySet[Any], term: str, searches: tuple[Search, ...]) -> QuerySet[Any]:
    """The rows that `term` means by the first search whose shape it has; none when it has no such shape."""
    term = term.strip()
    for each in searches:
        if each.fits(term):
            return rows.filter(**{each.lookup: each.case(term)})
    return rows.none()
