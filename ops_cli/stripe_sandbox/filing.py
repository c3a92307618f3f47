"""Files as stored: the object the API shows, and its bytes beside it."""

from __future__ import annotations

from dataclasses import dataclass

from .context import Context
from .store import Record

_SIGNATURES = ((b"%PDF-", "pdf"), (b"\xff\xd8\xff", "jpg"), (b"\x89PNG\r\n", "png"))


@dataclass(frozen=True)
class Upload:
    """What came in one part of a multipart request, or what a report wrote."""

    filename: str
    content: bytes

    @property
    def type(self) -> str | None:
        """The kind of file by its first bytes, not by its name; its ending where those say nothing."""
        for signature, kind in _SIGNATURES:
            if self.content.startswith(signature):
                return kind
        ending = self.filename.rpartition(".")[2].lower()
        return None if ending in ("", "pdf", "jpg", "png", self.filename.lower()) else ending


def store(ctx: Context, upload: Upload, purpose: str) -> Record:
    """Keep a file of this account."""
    id = ctx.tx.new_id("file_")
    record = ctx.add("file", {
        "id": id,
        "object": "file",
        "created": ctx.time,
        "expires_at": None,
        "filename": upload.filename,
        "links": {"object": "list", "data": [], "has_more": False, "url": f"/v1/file_links?file={id}"},
        "purpose": purpose,
        "size": len(upload.content),
        "title": None,
        "type": upload.type,
        "url": f"{ctx.settings.base_url}/v1/files/{id}/contents",
    })  # fmt: skip
    ctx.tx.set_blob(id, upload.content)
    return record
