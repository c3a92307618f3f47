"""What turns bytes that are a document already into the body of an answer."""

from __future__ import annotations

import json
from typing import Any

from rest_framework.renderers import BaseRenderer, JSONRenderer
from rest_framework.response import Response
from rest_framework.utils.encoders import JSONEncoder


class _Document(BaseRenderer):
    """Documents pass as they are; an error stays the problem document that it is everywhere."""

    charset = None
    render_style = "binary"

    def render(self, data: Any, accepted_media_type: str | None = None, renderer_context: Any = None) -> bytes:
        return data if isinstance(data, bytes) else json.dumps(data, cls=JSONEncoder).encode()


class Problem(JSONRenderer):
    """For whoever asks a document's address for JSON: errors are JSON, and the document is what it is."""

    def render(self, data: Any, accepted_media_type: str | None = None, renderer_context: Any = None) -> Any:
        return data if isinstance(data, bytes) else super().render(data, accepted_media_type, renderer_context)


def attached(document: bytes, name: str, content_type: str) -> Response:
    """An answer that a browser saves under `name` and nobody else keeps."""
    headers = {"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "private, no-store"}
    return Response(document, content_type=content_type, headers=headers)


class Pdf(_Document):
    media_type = "application/pdf"
    format = "pdf"


class Csv(_Document):
    media_type = "text/csv"
    format = "csv"
