"""What every endpoint of the API shares: one reading of the clock, a request id, the actor, strict JSON."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any, Final, NoReturn

from django.http import HttpRequest
from rest_framework.exceptions import NotFound, ParseError
from rest_framework.parsers import BaseParser
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from api.arrival import address_of, request_id_of
from api.errors import TooLarge, TooManyRequests
from api.schema import DeskSchema
from backoffice.core import clock
from backoffice.core.actor import Actor

MAX_BODY: Final = 1_000_000


class StrictJSONParser(BaseParser):
    """JSON in UTF-8 of at most 1 MB; whatever else arrives is the client's 4xx, never our 5xx."""

    media_type = "application/json"

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Any = None) -> Any:
        if parser_context and int(parser_context["request"].META.get("CONTENT_LENGTH") or 0) > MAX_BODY:
            raise TooLarge
        body = stream.read(MAX_BODY + 1)
        if len(body) > MAX_BODY:
            raise TooLarge
        try:
            parsed = json.loads(body.decode("utf-8"), parse_constant=_no_constant)
            if b"\\ud" in body.lower():  # half of a character, which no database and no answer can hold
                json.dumps(parsed, ensure_ascii=False).encode("utf-8")
        except RecursionError:
            raise ParseError("The JSON is nested too deeply.") from None
        except ValueError as error:
            raise ParseError(f"The body is not JSON in UTF-8: {_plain(error)}") from None
        return parsed


def _plain(error: ValueError) -> str:
    return error.reason if isinstance(error, UnicodeDecodeError | UnicodeEncodeError) else str(error)


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


class Endpoint(APIView):
    """Base of all endpoints. `self.now`, `self.request_id` and `self.actor` are set before a handler runs."""

    parser_classes = [StrictJSONParser]
    schema = DeskSchema()
    now: datetime
    request_id: str = ""

    def initialize_request(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Request:
        self.request_id = request_id_of(request)
        request.META["HTTP_X_REQUEST_ID"] = self.request_id
        return super().initialize_request(request, *args, **kwargs)

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        self.now = clock.now()
        super().initial(request, *args, **kwargs)

    @property
    def actor(self) -> Actor:
        """Who asks: the signed-in person, or a guest without id and grants."""
        if isinstance(self.request.auth, Actor):
            return self.request.auth
        address = address_of(self.request, self.settings.NUM_PROXIES or 0)
        return Actor(kind="guest", id=None, name="anonymous", request_id=self.request_id, address=address)

    @property
    def person_id(self) -> int:
        """The signed-in person; only for endpoints that require one."""
        assert self.actor.id is not None
        return self.actor.id

    def throttled(self, request: Request, wait: float | None) -> NoReturn:
        raise TooManyRequests(max(1, round(wait or 1)))

    def finalize_response(self, request: Request, response: Response, *args: Any, **kwargs: Any) -> Response:
        response = super().finalize_response(request, response, *args, **kwargs)
        response["X-Request-Id"] = self.request_id
        return response


class Nowhere(Endpoint):
    """Every address under /api/v1/ that is none: a problem document, not a page."""

    permission_classes = [AllowAny]
    authentication_classes = []
    schema = None  # type: ignore[assignment]

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        raise NotFound
