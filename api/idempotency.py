"""One request, one effect, however often it is sent: the Idempotency-Key header.

The same key gives the same answer for 24 hours, refusals included; the key with another body is 422; while the first is
being worked on, 409. What failed on our side (5xx) is not kept, so that the repeat does the work."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final

from django.db import transaction
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.utils.encoders import JSONEncoder

from api.endpoint import Endpoint
from api.errors import CONTENT_TYPE, problem
from backoffice.core import operations
from backoffice.core.errors import Invalid, StaydeskError

HEADER: Final = "Idempotency-Key"
REPLAYED: Final = "Idempotent-Replayed"


def once(view: Endpoint, request: Request, work: Callable[[], Response], *, one_transaction: bool) -> Response:
    """Answer `request` with `work()`, or with what it answered before.

    `one_transaction`: the work and the memory of its answer commit together, so that a process killed in between leaves
    neither. Work that calls the provider cannot run inside a transaction; its operation is repeatable by itself.
    Raises Invalid without a usable key, KeyReused, InFlight."""
    record = operations.claim_key(
        scope=f"api:{view.person_id}", key=_key(request), request_hash=_hash(request), now=view.now
    )
    if record.state == "done":
        return _again(record.status or 200, record.body)
    together: AbstractContextManager[Any] = transaction.atomic() if one_transaction else nullcontext()
    try:
        with together:
            response = work()
            operations.answer_key(record_id=record.pk, status=response.status_code, body=_stored(response))
    except StaydeskError as error:
        response = problem(error, {"request": request, "view": view})
        if response.status_code >= 500:
            operations.release_key(record_id=record.pk)
        else:
            operations.answer_key(record_id=record.pk, status=response.status_code, body=_stored(response))
    except BaseException:
        operations.release_key(record_id=record.pk)
        raise
    return response


def _stored(response: Response) -> str:
    """The answer as text, so that its repeat has every key in the same place."""
    return json.dumps(response.data, cls=JSONEncoder)


def _again(status: int, body: Any) -> Response:
    content_type = CONTENT_TYPE if status >= 400 else None
    return Response(json.loads(body), status=status, content_type=content_type, headers={REPLAYED: "true"})


def _key(request: Request) -> str:
    key = request.headers.get(HEADER, "")
    if not (1 <= len(key) <= 255 and all("!" <= character <= "~" for character in key)):
        raise Invalid(
            f"{HEADER}: send this header with a value of your own for the request, 1 to 255 visible ASCII characters.",
            field=HEADER,
        )
    return key


def _hash(request: Request) -> str:
    said = json.dumps([request.method, request.path, request.data], sort_keys=True)
    return hashlib.sha256(said.encode()).hexdigest()
