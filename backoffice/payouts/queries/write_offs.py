"""Questions about what was given up, or is about to be."""

from __future__ import annotations

from django.db.models import QuerySet

from backoffice.core.errors import NotFound
from backoffice.payouts.models import WriteOff


def write_offs() -> QuerySet[WriteOff]:
    """Every write-off, newest first."""
    return WriteOff.objects.select_related("host", "proposed_by", "decided_by").order_by("-id")


def write_off(*, code: str) -> WriteOff:
    """One write-off. Raises NotFound."""
    found = write_offs().filter(code=code).first()
    if found is None:
        raise NotFound(kind="write-off")
    return found
