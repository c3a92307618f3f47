"""Loopback ports: the one used last, else the usual one, else a free one. A port in use is never taken from anybody."""

from __future__ import annotations

import errno
import socket
from collections.abc import Collection
from typing import Final

LOOPBACK: Final = "127.0.0.1"
USUAL: Final = {"web": 8000, "postgres": 15432, "redis": 16379, "sandbox": 12111}


def is_free(port: int) -> bool:
    """Whether a server of ours could listen there now. A connection that is merely winding down does not count."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
            probe.listen(1)
        except OSError as error:
            if error.errno not in {errno.EADDRINUSE, errno.EACCES}:
                raise
            return False
    return True


def choose(name: str, *, last: int | None, taken: Collection[int] = ()) -> int:
    """A free port for the part: its last one, its usual one, the next free above it, any."""
    usual = USUAL[name]
    candidates: list[int] = [*([] if last is None else [last]), *range(usual, usual + 50)]
    for port in candidates:
        if port not in taken and is_free(port):
            return port
    return any_free()


def any_free() -> int:
    """A port that the kernel says is free."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port
