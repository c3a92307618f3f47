"""Lists: newest first, cursors by id, ``has_more``."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from .context import Context
from .errors import Json, missing_resource
from .params import Values

_COMPARISONS = {"eq": "=", "gt": ">", "gte": ">=", "lt": "<", "lte": "<="}


class Query:
    """A list over one table in construction: conditions are added, then a page is read."""

    def __init__(self, ctx: Context, table: str, columns: str) -> None:
        self._ctx = ctx
        self._table = table
        self._columns = columns
        self._where = ["account = ?"]
        self._args: list[object] = [ctx.account]

    def where(self, condition: str, *args: object) -> Query:
        """Add a condition, written with ``?`` for its values."""
        self._where.append(condition)
        self._args += args
        return self

    def created(self, params: Values) -> Query:
        """Add the ``created`` filter of the request, if any."""
        return self.range(params, "created", "created")

    def range(self, params: Values, name: str, expression: str) -> Query:
        """Add the filter of the request on a time, if any."""
        for comparison, bound in (params.get(name) or {}).items():
            self.where(f"{expression} {_COMPARISONS[comparison]} ?", bound)
        return self

    def equal(self, params: Values, **columns: str) -> Query:
        """For each ``parameter=expression``: filter by equality where the request has that parameter."""
        for name, expression in columns.items():
            if params.get(name) is not None:
                self.where(f"{expression} = ?", params[name])
        return self

    def page(self, params: Values, url: str, show: Callable[[Any], Json]) -> Json:
        """The page the request asks for, as a list object."""
        limit = params.get("limit", 10)
        backwards = "ending_before" in params
        cursor = params.get("ending_before") or params.get("starting_after")
        if cursor:
            position = self._ctx.tx.value(f"SELECT seq FROM {self._table} WHERE id = ?", cursor)  # noqa: S608
            if position is None:
                raise missing_resource("object", cursor, param="ending_before" if backwards else "starting_after")
            self.where("seq > ?" if backwards else "seq < ?", position)
        order = "ASC" if backwards else "DESC"
        rows = self._ctx.tx.rows(
            f"SELECT {self._columns} FROM {self._table} "  # noqa: S608 - text of this package, values are bound
            f"WHERE {' AND '.join(self._where)} ORDER BY seq {order} LIMIT ?",
            *self._args,
            limit + 1,
        )
        shown = [show(row) for row in rows[:limit]]
        if backwards:
            shown.reverse()
        return {"object": "list", "url": url, "has_more": len(rows) > limit, "data": shown}


def objects(ctx: Context, kind: str) -> Query:
    """A list of stored objects of one kind."""
    return Query(ctx, "objects", "doc").where("kind = ? AND NOT deleted", kind)


def show_document(row: Any) -> Json:
    """A stored object as its response."""
    doc: Json = json.loads(row["doc"])
    return doc


def newest(ctx: Context, kind: str, condition: str, *args: object, limit: int) -> tuple[list[Json], bool]:
    """The newest objects that meet a condition, and whether there are more."""
    page = objects(ctx, kind).where(condition, *args).page({"limit": limit}, "", show_document)
    return page["data"], page["has_more"]
