from __future__ import annotations

from django.db.backends.postgresql import base


class DatabaseWrapper(base.DatabaseWrapper):
    """With DEBUG, Django writes every statement out a second time and keeps the last nine thousand of each connection: on the
    desk that `ops up` starts this took time in every request, and nobody read them. `CaptureQueriesContext` still does."""

    @property
    def queries_logged(self) -> bool:
        return self.force_debug_cursor
