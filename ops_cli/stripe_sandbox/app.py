"""The WSGI application: who asks, what goes wrong, what is asked, was it asked before; then the handler, once.

authentication → fault rules → form decoding → parameter table → idempotency → handler in one transaction → expansion
→ answer committed together with its events, then sent.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
import socket
import struct
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from werkzeug.exceptions import HTTPException
from werkzeug.routing import Map, Rule
from werkzeug.wrappers import Request, Response

from . import API_VERSION, faults, forms, idempotency, params, reserving, resources
from .clock import Mode
from .context import Context, run_due
from .control import Control
from .errors import ApiError, Json, not_implemented
from .expand import expand
from .filing import Upload
from .limiter import Limiter, too_many
from .registry import NOT_SIMULATED, OPERATIONS, SEARCHES, Operation
from .settings import Settings
from .store import Store, token
from .world import World

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

assert resources.__all__ and reserving.PATIENCE_SECONDS  # importing them registers operations and deferred acts


LONGEST_WAIT = 5.0  # seconds for an event to arrive before the answer
UNHEARD_OF = "unheard_of"
_CONTENTS = re.compile(r"/v1/files/(\w+)/contents")

# Refusals before execution, by the fault rule that asks for them.
_REFUSALS: dict[str | None, Callable[[], ApiError]] = {
    "error_409": lambda: ApiError(
        409,
        "There is currently another in-progress request using this Idempotency Key. Please try again later.",
        code="idempotency_key_in_use",
        retry=True,
    ),
    "error_429": too_many,
    "lock_timeout": lambda: ApiError(
        429,
        "This object cannot be accessed right now because another API request or Stripe process is currently "
        "accessing it. If you see this error intermittently, retry the request.",
        code="lock_timeout",
        retry=True,
    ),
}


@dataclass(frozen=True)
class Answer:
    """What goes back: status, body text, and what the headers say about it. ``sent`` bytes of the body, else all."""

    status: int
    body: str
    replay_of: str | None = None
    retry: bool | None = None
    sent: int | None = None


@dataclass(frozen=True)
class Asked:
    """A request that has passed the parameter table."""

    operation: Operation
    parts: dict[str, str]
    params: params.Values
    path: str
    digest: str


class Sandbox(World):
    """One sandbox with its API."""

    def __init__(self, store: Store, settings: Settings, clock: Mode) -> None:
        super().__init__(store, settings, clock)
        self._in_flight = idempotency.InFlight()
        self._limiter = Limiter(settings.rate_limit)
        self._control = Control(self)
        self._routes = _routes().bind("sandbox")
        self._request_numbers = itertools.count(1)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        request = Request(environ)
        if request.path.startswith("/_sim") or request.path == "/":
            return self._control(request)(environ, start_response)
        request_id = "req_" + token(self.settings.seed, self.boot, next(self._request_numbers), length=14)
        try:
            contents = _CONTENTS.fullmatch(request.path)
            if contents and request.method == "GET":
                return self._contents(request, contents[1])(environ, start_response)
            answer = self._answer(request, request_id)
        except ApiError as error:
            answer = Answer(error.status, _json(error.body()), retry=error.retry)
        if answer.status == 501:
            with self.store.transaction() as tx:
                tx.set_meta("not_simulated", f"{request.method} {request.path}: {answer.body}")
        return _response(answer, request_id, request)(environ, start_response)

    def _answer(self, request: Request, request_id: str) -> Answer:
        account = self._authenticate(request)
        key = idempotency.read_key(request.headers.get("Idempotency-Key"), request.method)
        with self.store.transaction() as tx:
            fault = faults.for_request(tx, request.method, request.path)
        effect = fault.effect if fault else None
        pause = fault.seconds if fault else 0.0
        if effect == "timeout_before_commit":
            time.sleep(pause)
            _hang_up(request)
        if effect in _REFUSALS:
            raise _REFUSALS[effect]()
        self._limiter.take()
        asked = self._read(request)
        with self._in_flight.claim(account, key):
            if effect == "slow":
                time.sleep(pause)
            answer = self._execute(asked, account, request_id, key, effect)
        self.deliveries.wake()
        if effect == "webhook_before_answer":
            self.deliveries.flush(pause or LONGEST_WAIT)
        if effect == "truncated_body":
            return replace(answer, sent=len(answer.body.encode()) // 2)
        if effect == "extra_field":
            return replace(answer, body=_json({**json.loads(answer.body), UNHEARD_OF: {"since": "tomorrow"}}))
        if effect == "timeout_after_commit":
            time.sleep(pause)
            _hang_up(request)
        if effect == "reset_after_commit":
            _hang_up(request, reset=True)
        return answer

    def _contents(self, request: Request, id: str) -> Response:
        """The bytes of a file; the key is needed for these too."""
        account = self._authenticate(request)
        with self.store.transaction() as tx:
            ctx = self.context(tx, account=account)
            file = ctx.load("file", id, noun="file upload", param="file")
            content = tx.blob(file.id)
        kind = {"csv": "text/csv", "pdf": "application/pdf", "png": "image/png", "jpg": "image/jpeg"}
        return Response(content, content_type=kind.get(file.doc["type"] or "", "application/octet-stream"))

    def _execute(self, asked: Asked, account: str, request_id: str, key: str | None, effect: str | None) -> Answer:
        method, path = asked.operation.method, asked.path
        with self.store.transaction() as tx:
            run_due(self.context(tx))
            ctx = self.context(tx, account=account, request_id=request_id, idempotency_key=key)
            saved = idempotency.recall(ctx, method, path, asked.digest)
            if saved is not None:
                return Answer(saved.status, saved.body, saved.request_id, retry=False if saved.status >= 500 else None)
            answer = _unexpected() if effect == "error_500_before_commit" else self._handle(ctx, asked)
            if effect == "error_500_after_commit":
                answer = _unexpected()
            idempotency.keep(ctx, method, path, asked.digest, answer.status, answer.body)
        return answer

    def _handle(self, ctx: Context, asked: Asked) -> Answer:
        """Run the handler; a refusal undoes what it wrote, unless the refusal itself says that it stays."""
        given = dict(asked.params)
        paths = given.pop("expand", [])
        try:
            with self.store.attempt():
                try:
                    body = asked.operation.handle(ctx, given, **asked.parts)
                except ApiError as error:
                    if not error.keep_writes:
                        raise
                    return Answer(error.status, _json(error.body()), retry=error.retry)
                return Answer(200, _json(expand(ctx, json.loads(json.dumps(body)), paths)))
        except ApiError as error:
            return Answer(error.status, _json(error.body()), retry=error.retry)
        except Exception:
            traceback.print_exc(file=sys.stderr)
            return _unexpected()

    def _authenticate(self, request: Request) -> str:
        """The account the request acts for; ApiError 401 or 403."""
        auth = request.authorization
        given = (auth.token if auth.type == "bearer" else auth.username) if auth else None
        if not given:
            raise ApiError(
                401,
                "You did not provide an API key. You need to provide your API key in the Authorization "
                "header, using Bearer auth (e.g. 'Authorization: Bearer YOUR_SECRET_KEY').",
            )
        if given.startswith("pk_"):
            raise ApiError(
                401,
                "This API call cannot be made with a publishable API key. Please use a secret API key.",
                code="secret_key_required",
            )
        if not given.startswith(("sk_test_", "rk_test_")):
            raise ApiError(
                401,
                f"Invalid API Key provided: {given[:8]}{'*' * 8}{given[-4:]}. The sandbox takes test "
                "keys (sk_test_…) only.",
            )
        account = request.headers.get("Stripe-Account") or self.settings.platform
        if not self._connected(account):
            raise ApiError(
                403,
                f"The provided key '{given[:8]}{'*' * 8}{given[-4:]}' does not have access to account "
                f"'{account}' (or that account does not exist). Application access may have been revoked.",
                code="account_invalid",
            )
        version = request.headers.get("Stripe-Version", API_VERSION)
        if version != API_VERSION:
            raise ApiError(400, f"Invalid Stripe API version: {version}. This sandbox speaks {API_VERSION} only.")
        return account

    def _connected(self, account: str) -> bool:
        if account == self.settings.platform:
            return True
        with self.store.transaction() as tx:
            return tx.find("account", account, account=self.settings.platform) is not None

    def _read(self, request: Request) -> Asked:
        """The operation and its parameters; ApiError 404, 400 or 501."""
        try:
            target, parts = self._routes.match(request.path, method=request.method)
        except HTTPException as error:
            raise _unrecognized(request) from error
        if target not in OPERATIONS:
            raise not_implemented(" ".join(target))
        wanted = "multipart/form-data" if target == ("POST", "/v1/files") else "application/x-www-form-urlencoded"
        if request.method == "POST" and request.content_length and request.mimetype != wanted:
            raise ApiError(
                400, f"Invalid request: send parameters as {wanted}, not as {request.mimetype or 'nothing'}."
            )
        uploads = {
            name: Upload(part.filename or name, part.read()) for name, part in request.files.items(multi=True)
        }  # fmt: skip
        pairs = [*request.args.items(multi=True), *request.form.items(multi=True)]
        pairs += [(name, hashlib.sha256(upload.content).hexdigest()) for name, upload in uploads.items()]
        values = {**params.read(OPERATIONS[target].fields, forms.decode(pairs)), **uploads}
        return Asked(OPERATIONS[target], dict(parts), values, request.path, idempotency.digest(pairs))


def _routes() -> Map:
    return Map(
        [
            Rule(_pattern(path), methods=[method], endpoint=(method, path))
            for method, path in {*OPERATIONS, *NOT_SIMULATED, *SEARCHES}
        ],
        strict_slashes=False,
    )


def _pattern(path: str) -> str:
    return path.replace("{", "<").replace("}", ">")


def _unrecognized(request: Request) -> ApiError:
    """What is asked for is Stripe's, as far as one can tell; or nobody's."""
    if request.path.startswith(("/v1/", "/v2/")):
        return not_implemented(f"{request.method} {request.path}")
    return ApiError(
        404,
        f"Unrecognized request URL ({request.method}: {request.path}). Please see "
        "https://stripe.com/docs or we can help at https://support.stripe.com/.",
    )


def _unexpected() -> Answer:
    error = ApiError(500, "An unknown error occurred", type="api_error")
    return Answer(500, _json(error.body()), retry=False)


def _json(body: Json) -> str:
    return json.dumps(body, indent=2, ensure_ascii=False) + "\n"


def _response(answer: Answer, request_id: str, request: Request) -> Response:
    response = Response(answer.body, status=answer.status, content_type="application/json")
    if answer.sent is not None:  # the length still announces all of it
        length = len(response.data)
        response.set_data(response.data[: answer.sent])
        response.headers["Content-Length"] = str(length)
    response.headers["Request-Id"] = request_id
    response.headers["Stripe-Version"] = API_VERSION
    response.headers["Cache-Control"] = "no-cache, no-store"
    key = request.headers.get("Idempotency-Key")
    if key and request.method == "POST":
        response.headers["Idempotency-Key"] = key
    if answer.replay_of is not None:
        response.headers["Idempotent-Replayed"] = "true"
        response.headers["Original-Request"] = answer.replay_of
    if answer.retry is not None:
        response.headers["Stripe-Should-Retry"] = "true" if answer.retry else "false"
    return response


def _hang_up(request: Request, *, reset: bool = False) -> None:
    """Drop the connection without an answer: closed, or reset so that the peer sees ECONNRESET."""
    connection: socket.socket | None = request.environ.get("werkzeug.socket")
    if connection is not None and reset:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        os.close(connection.detach())
    elif connection is not None:
        connection.shutdown(socket.SHUT_RDWR)
    raise ConnectionAbortedError("dropped by a fault rule")
