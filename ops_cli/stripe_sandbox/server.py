"""The process: a threaded HTTP server on loopback around one sandbox, with a clean end."""

from __future__ import annotations

import fcntl
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType

from werkzeug.serving import WSGIRequestHandler, make_server

from .app import Sandbox
from .clock import Mode
from .resources.webhook_endpoints import create
from .settings import Settings
from .store import Store


class InUseError(Exception):
    """The database file or the port belongs to another process."""


class _Quiet(WSGIRequestHandler):
    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Say nothing about requests that were answered."""


def serve(
    *,
    host: str,
    port: int,
    path: Path,
    settings: Settings,
    clock: Mode,
    webhook: tuple[str, str] | None = None,
    connect_webhook: tuple[str, str] | None = None,
) -> None:
    """Run until SIGTERM or SIGINT. Raises InUseError when file or port is taken.

    ``webhook`` is the address and signing secret of an endpoint that wants every event of the platform,
    ``connect_webhook`` of one that wants every event of the connected accounts.
    """
    with _sole_owner(path):
        try:
            listener = socket.create_server((host, port), backlog=128)
        except OSError as error:
            raise InUseError(f"port {port} on {host} cannot be used: {error.strerror}") from error
        server = make_server(host, 0, _not_ready, threaded=True, request_handler=_Quiet, fd=listener.fileno())
        base_url = f"http://{host}:{server.port}"
        store = Store(path, seed=settings.seed)
        sandbox = Sandbox(store, replace(settings, base_url=base_url), clock)
        for given, connect in ((webhook, False), (connect_webhook, True)):
            if given is not None:
                _endpoint(sandbox, *given, connect=connect)
        server.app = sandbox

        def end(signum: int, frame: FrameType | None) -> None:
            threading.Thread(target=server.shutdown, daemon=True).start()

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, end)
        sandbox.deliveries.start()
        print(f"ready {base_url}", flush=True)
        try:
            server.serve_forever(poll_interval=0.05)
        finally:
            server.server_close()
            listener.close()
            sandbox.deliveries.stop()
            store.close()


def _endpoint(sandbox: Sandbox, url: str, secret: str, *, connect: bool) -> None:
    """Make, or bring up to date, the endpoint given on the command line."""
    with sandbox.store.transaction() as tx:
        ctx = sandbox.context(tx)
        tx.run(
            "UPDATE objects SET deleted = 1 WHERE kind = 'webhook_endpoint' AND private ->> '$.from_start' "
            "AND doc ->> '$.url' <> ? AND coalesce(private ->> '$.connect', 0) = ?",
            url,
            int(connect),
        )
        id = tx.value(
            "SELECT id FROM objects WHERE kind = 'webhook_endpoint' AND NOT deleted AND private ->> '$.from_start' "
            "AND coalesce(private ->> '$.connect', 0) = ?",
            int(connect),
        )
        record = (
            ctx.load("webhook_endpoint", id)
            if id
            else create(
                ctx,
                url=url,
                enabled_events=["*"],
                secret=secret,
                description="given at the start",
                connect=connect,
            )
        )
        record.private = {"secret": secret, "from_start": True, "connect": connect}
        tx.save(record)


@contextmanager
def _sole_owner(path: Path) -> Iterator[None]:
    """Hold a lock beside the file: two servers on one file would each believe to be the only writer."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with Path(f"{path}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise InUseError(f"{path} is in use by another sandbox") from error
        yield


def _not_ready(environ: object, start_response: object) -> list[bytes]:
    raise ConnectionAbortedError("not ready")
