"""What an import counts, and the file where the records go that could not be loaded."""

from __future__ import annotations

import csv
import io
import os
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final

# Columns with what real people are called, look like or wrote; their values stay out of the rejects file.
PERSONAL: Final = frozenset(
    (
        "host_name host_about host_url host_thumbnail_url host_picture_url host_location host_neighbourhood "
        "picture_url listing_url reviewer_name comments name description neighborhood_overview summary space "
        "notes transit street"
    ).split()
)
_FORMULA_STARTS: Final = ("=", "+", "-", "@", "\t", "\r")


@dataclass(slots=True)
class Tally:
    """The counts of one kind. read = loaded + rejected + set_aside, in records of the file.

    `set_aside` is understood but not what it seems (an automatic notice is no review); `adjusted` counts records that
    were loaded with one value nulled, capped or guessed; added, updated, unchanged and retired are rows of the desk."""

    kind: str
    read: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    set_aside: Counter[str] = field(default_factory=Counter)
    adjusted: Counter[str] = field(default_factory=Counter)
    added: int = 0
    updated: int = 0
    unchanged: int = 0
    retired: int = 0

    @property
    def loaded(self) -> int:
        return self.read - self.rejected.total() - self.set_aside.total()

    @property
    def changed(self) -> int:
        """Rows of the desk that are not as they were."""
        return self.added + self.updated + self.retired

    def as_row(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "read": self.read,
            "loaded": self.loaded,
            "rejected": self.rejected.total(),
            "set_aside": self.set_aside.total(),
            "added": self.added,
            "updated": self.updated,
            "unchanged": self.unchanged,
            "retired": self.retired,
            "reasons": {
                name: dict(sorted(counted.items()))
                for name, counted in (
                    ("rejected", self.rejected),
                    ("set_aside", self.set_aside),
                    ("adjusted", self.adjusted),
                )
                if counted
            },
        }


class Rejects:
    """The records that were not loaded, one line each: kind, record, id, reason, and the record itself as CSV with the
    personal columns emptied (unless names are kept). Written beside its final place and moved there when complete."""

    def __init__(self, path: Path, *, keep_personal: bool) -> None:
        self.path = path
        self.count = 0
        self._keep_personal = keep_personal
        self._file: IO[str] | None = None
        self._name = ""

    def add(
        self, *, kind: str, record: int, key: str, reason: str, columns: Sequence[str] = (), row: Sequence[str] = ()
    ) -> None:
        writer = csv.writer(self._open())
        writer.writerow([kind, record, _harmless(key), reason, _harmless(self._raw(columns, row))])
        self.count += 1

    def keep(self) -> None:
        """Move the file to its place; with nothing rejected, a file of an earlier run there is removed."""
        if self._file is None:
            self.path.unlink(missing_ok=True)
            return
        self._file.close()
        Path(self._name).replace(self.path)
        self._file = None

    def discard(self) -> None:
        """Leave nothing behind; what was there before stays."""
        if self._file is not None:
            self._file.close()
            Path(self._name).unlink(missing_ok=True)
            self._file = None

    def _open(self) -> IO[str]:
        if self._file is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            handle, self._name = tempfile.mkstemp(dir=self.path.parent, prefix=f".{self.path.name}.")
            self._file = os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace", newline="")
            self._file.write("kind,record,id,reason,raw\r\n")
        return self._file

    def _raw(self, columns: Sequence[str], row: Sequence[str]) -> str:
        if not self._keep_personal:
            # A record with a wrong number of fields cannot be told by column: nothing of it is shown.
            if len(row) != len(columns):
                return ""
            row = ["" if name in PERSONAL else value for name, value in zip(columns, row, strict=True)]
        buffer = io.StringIO()
        csv.writer(buffer, lineterminator="").writerow(row)
        return buffer.getvalue()


def _harmless(text: str) -> str:
    """Text that a spreadsheet would run as a formula gets a leading apostrophe."""
    return "'" + text if text.startswith(_FORMULA_STARTS) else text
