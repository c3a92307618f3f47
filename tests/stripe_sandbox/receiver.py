"""A webhook receiver on loopback that keeps what it was sent."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Received:
    """One delivery as it arrived."""

    signature: str
    body: bytes

    @property
    def event(self) -> dict[str, Any]:
        """The event inside."""
        return dict(json.loads(self.body))


@dataclass
class Receiver:
    """What arrived, and how it is answered: ``status`` for every delivery, or a function of the event."""

    url: str = ""
    status: int | Callable[[dict[str, Any]], int] = 200
    delay: float = 0.0
    received: list[Received] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def clear(self) -> None:
        """Forget what arrived and answer 200 again, at once."""
        with self.lock:
            self.received.clear()
        self.status, self.delay = 200, 0.0

    def types(self) -> list[str]:
        """The types of what arrived, in order."""
        with self.lock:
            return [item.event["type"] for item in self.received]

    def wait_for(self, count: int, timeout: float = 10) -> list[Received]:
        """The first ``count`` deliveries; AssertionError when they do not come."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            with self.lock:
                if len(self.received) >= count:
                    return list(self.received)
            time.sleep(0.01)
        raise AssertionError(f"{count} deliveries expected, {len(self.received)} came: {self.types()}")


@contextmanager
def run_receiver() -> Iterator[Receiver]:
    """A receiver on a free port for the length of the block."""
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers["Content-Length"])
            body = self.rfile.read(length)
            if len(body) < length:  # the sender was killed in the middle
                self.close_connection = True
                return
            item = Received(self.headers["Stripe-Signature"], body)
            with receiver.lock:
                receiver.received.append(item)
            time.sleep(receiver.delay)
            status = receiver.status if isinstance(receiver.status, int) else receiver.status(item.event)
            self.send_response(status)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        request_queue_size = 128  # many deliveries arrive at the same moment

    server = Server(("127.0.0.1", 0), Handler)
    receiver.url = f"http://127.0.0.1:{server.server_port}/webhooks"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
