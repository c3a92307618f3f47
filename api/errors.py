"""Errors as RFC 9457 problem documents. The one place where a code of `core.errors` becomes an HTTP status.

`docs/errors.md` lists every code; a test compares it with the tree and with this table."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import Any, Final

from django.core.exceptions import PermissionDenied, RequestDataTooBig, SuspiciousOperation
from django.http import Http404
from rest_framework import exceptions, status
from rest_framework.response import Response

from backoffice.core import errors

log = logging.getLogger(__name__)

CONTENT_TYPE: Final = "application/problem+json"

# The nearest ancestor that is named here decides. What is not named is a fault of ours: 500.
STATUSES: Final[Mapping[type[errors.StaydeskError], int]] = {
    errors.Invalid: 422,
    errors.NotFound: 404,
    errors.NotSignedIn: 401,
    errors.NotAllowed: 403,
    errors.Conflict: 409,
    errors.KeyReused: 422,
    errors.Locked: 409,
    errors.Refused: 422,
    errors.Stopped: 503,
    errors.ProviderError: 502,
    errors.PaymentDeclined: 402,
    errors.UnknownPaymentMethod: 422,
    errors.UpstreamUnavailable: 503,
}

# Said by the door itself, before anything of the house is asked: code -> (status, when).
DOOR_CODES: Final[Mapping[str, tuple[int, str]]] = {
    "malformed": (400, "The body is not JSON, or the request cannot be read."),
    "method_not_allowed": (405, "The address exists, but not with this method."),
    "not_acceptable": (406, "The answer is JSON; the request's Accept header excludes it."),
    "payload_too_large": (413, "The body is larger than 1 MB."),
    "unsupported_media_type": (415, "The body is not declared as application/json."),
    "too_many_requests": (429, "Too many requests; Retry-After says in how many seconds to go on."),
    "internal_error": (500, "A fault of ours; it is logged under the request id."),
}

RETRY_AFTER_SECONDS: Final = 2
# A kill switch is thrown and let go by people.
STOPPED_RETRY_AFTER_SECONDS: Final = 60


class TooManyRequests(Exception):
    """A throttle refused; `wait` is in seconds."""

    def __init__(self, wait: int) -> None:
        self.wait = wait
        super().__init__(f"Too many requests; go on in {wait} s.")


class TooLarge(Exception):
    """The body exceeds what the API reads."""


def status_of(error: type[errors.StaydeskError]) -> int:
    """The HTTP status of an error, by its nearest ancestor in the table."""
    return next((STATUSES[kind] for kind in error.__mro__ if kind in STATUSES), 500)


def problem(error: Exception, context: Mapping[str, Any]) -> Response:
    """DRF's exception handler: whatever happened becomes one problem document; nothing shows a traceback."""
    request = context.get("request")
    view = context.get("view")
    request_id = getattr(view, "request_id", "")
    code, http, detail, extra, headers = _read(error, request)
    if http >= status.HTTP_500_INTERNAL_SERVER_ERROR and code not in {
        "upstream_unavailable",
        "indeterminate",
        "stopped",
    }:
        log.error("request %s failed: %s", request_id, code, exc_info=error)
    body = {
        "type": f"urn:staydesk:problem:{code}",
        "title": code.replace("_", " ").capitalize(),
        "status": http,
        "detail": detail,
        "code": code,
        **extra,
        "instance": request.path if request is not None else "",
        "request_id": request_id,
    }
    response = Response(body, status=http, content_type=CONTENT_TYPE, headers=headers)
    response["Cache-Control"] = "no-store"
    return response


_Read = tuple[str, int, str, dict[str, Any], dict[str, str]]


def _read(error: Exception, request: Any) -> _Read:
    """(code, status, detail, extension members, headers) of any exception."""
    if isinstance(error, errors.StaydeskError):
        return _read_ours(error, request)
    if isinstance(error, exceptions.ValidationError):
        found = list(_flatten(error.get_full_details()))
        first = found[0]
        detail = f"{first['field']}: {first['detail']}" if first["field"] else first["detail"]
        return "invalid", 422, detail, {"field": first["field"], "errors": found}, {}
    if isinstance(error, exceptions.NotAuthenticated | exceptions.AuthenticationFailed):
        return "not_signed_in", 401, errors.NotSignedIn.sentence, {}, {"WWW-Authenticate": "Bearer"}
    if isinstance(error, exceptions.PermissionDenied | PermissionDenied):
        return "not_allowed", 403, "You may not do this.", {}, {}
    if isinstance(error, exceptions.NotFound | Http404):
        return "not_found", 404, "There is nothing at this address; /api/v1/schema/ lists what there is.", {}, {}
    if isinstance(error, TooManyRequests):
        return "too_many_requests", 429, str(error), {}, {"Retry-After": str(error.wait)}
    if isinstance(error, TooLarge | RequestDataTooBig):
        return "payload_too_large", 413, DOOR_CODES["payload_too_large"][1], {}, {}
    if isinstance(error, SuspiciousOperation):
        return "malformed", 400, DOOR_CODES["malformed"][1], {}, {}
    if isinstance(error, exceptions.APIException):
        code = {400: "malformed", 405: "method_not_allowed", 406: "not_acceptable", 415: "unsupported_media_type"}.get(
            error.status_code, "internal_error"
        )
        return code, DOOR_CODES[code][0], str(error.detail), {}, {}
    return "internal_error", 500, DOOR_CODES["internal_error"][1], {}, {}


def _read_ours(error: errors.StaydeskError, request: Any) -> _Read:
    http = status_of(type(error))
    headers: dict[str, str] = {}
    if http == status.HTTP_503_SERVICE_UNAVAILABLE or isinstance(error, errors.InFlight):
        stopped = isinstance(error, errors.Stopped)
        headers["Retry-After"] = str(STOPPED_RETRY_AFTER_SECONDS if stopped else RETRY_AFTER_SECONDS)
    if http == status.HTTP_401_UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, errors.StaleVersion) and request is not None and "If-Match" in request.headers:
        http = status.HTTP_412_PRECONDITION_FAILED  # RFC 9110: the precondition was the client's own
    facts = dict(error.facts)
    extra: dict[str, Any] = {}
    if isinstance(error, (errors.Invalid, errors.UnknownPaymentMethod)) and (field := facts.pop("field", "")):
        extra = {"field": field, "errors": [{"field": field, "code": error.code, "detail": str(error)}]}
    if facts:
        extra["facts"] = facts
    return error.code, http, str(error), extra, headers


def _flatten(details: Any, path: str = "") -> Iterator[dict[str, str]]:
    """DRF's nested error details as a flat list; paths are dotted, list items by index."""
    if isinstance(details, Mapping) and "message" in details and "code" in details:
        yield {"field": path, "code": str(details["code"]), "detail": str(details["message"])}
    elif isinstance(details, Mapping):
        for name, inner in details.items():
            here = path if name == "non_field_errors" else f"{path}.{name}" if path else str(name)
            yield from _flatten(inner, here)
    else:
        leaf = all(isinstance(item, Mapping) and "message" in item for item in details)
        for index, inner in enumerate(details):
            yield from _flatten(inner, path if leaf else f"{path}.{index}" if path else str(index))
