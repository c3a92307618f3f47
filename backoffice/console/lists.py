"""The console's lists: newest first, paged by key, so that the last page costs what the first does."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from django.contrib.admin.options import IncorrectLookupParameters
from django.db.models import QuerySet
from django.http import HttpRequest
from unfold.paginator import InfinitePaginator
from unfold.views import ChangeList

from backoffice.console.door import desk_of

# Where in the list one stands: rows older than a key, newer than one, or the oldest there are.
PAGING: Final = ("before", "after", "oldest")


@dataclass(frozen=True)
class Search:
    """What is searched when a term looks like `shape`: one indexed column, whole or by its beginning.

    One column per term, because an OR over several tables cannot use any of their indexes."""

    lookup: str
    shape: str = ""
    case: Callable[[str], str] = str

    def fits(self, term: str) -> bool:
        return re.search(self.shape, term, re.IGNORECASE) is not None


class KeysetPaginator(InfinitePaginator):
    """Never counts; `NewestFirst` finds the page by key."""

    template_name = "console/pagination.html"


class NewestFirst(ChangeList):
    """Rows in descending key order; `?before=KEY` and `?after=KEY` page through them, `?oldest=1` is the last page."""

    def get_queryset(self, request: HttpRequest, exclude_parameters: Any = None) -> QuerySet[Any]:
        self.standing = {name: request.GET[name] for name in PAGING if request.GET.get(name)}
        for name in PAGING:
            self.params.pop(name, None)
            self.filter_params.pop(name, None)
        if any("\x00" in value for values in self.filter_params.values() for value in values):
            raise IncorrectLookupParameters("a filter holds a NUL character")
        rows: QuerySet[Any] = super().get_queryset(request, exclude_parameters)
        return rows

    def get_results(self, request: HttpRequest) -> None:
        size = self.list_per_page
        backwards = "after" in self.standing or "oldest" in self.standing
        rows = self.queryset.order_by("pk" if backwards else "-pk")
        if "after" in self.standing:
            rows = rows.filter(pk__gt=self._key("after"))
        elif "before" in self.standing:
            rows = rows.filter(pk__lt=self._key("before"))
        found = list(rows[: size + 1])
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

    def _key(self, name: str) -> int:
        text = self.standing[name]
        if not (text.isascii() and text.isdigit() and len(text) < 19):
            raise IncorrectLookupParameters(f"{name}: not a key")
        return int(text)

    @property
    def newest_query(self) -> str:
        return str(self.get_query_string())

    @property
    def oldest_query(self) -> str:
        return str(self.get_query_string({"oldest": "1"}))

    @property
    def older_query(self) -> str:
        return str(self.get_query_string({"before": self.result_list[-1].pk})) if self.result_list else ""

    @property
    def newer_query(self) -> str:
        return str(self.get_query_string({"after": self.result_list[0].pk})) if self.result_list else ""

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
