"""The payment sandbox's own controls, over HTTP: what `ops sandbox` and the demo journey do to it."""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from ops_cli.output import Exit, Failed

STRIPE: Final = "https://api.stripe.com"


class Simulator:
    """One running sandbox."""

    def __init__(self, base: str, *, timeout: float = 30.0) -> None:
        self._base = base.rstrip("/")
        self._timeout = timeout

    @classmethod
    def of_desk(cls) -> Simulator:
        """The one that the desk's environment names. Raises Failed (refused) where payments are Stripe's."""
        base = os.environ.get("STRIPE_API_BASE") or STRIPE
        if base.rstrip("/") == STRIPE:
            raise Failed("this desk's payments go to Stripe: there is no sandbox to work on", Exit.REFUSED)
        return cls(base)

    def call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Ask for `/_sim/<path>`. Raises Failed: refused by the sandbox (usage), or not there (upstream)."""
        request = urllib.request.Request(  # noqa: S310  the address is the desk's own setting, checked there
            f"{self._base}/_sim/{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with direct.open(request, timeout=self._timeout) as answer:
                found: dict[str, Any] = json.load(answer)
        except urllib.error.HTTPError as error:
            raise Failed(f"the payment sandbox refused: {_said(error)}", Exit.USAGE) from None
        except (OSError, ValueError) as error:
            reason = getattr(error, "reason", error)
            raise Failed(
                f"the payment sandbox at {self._base} did not answer ({reason}); `ops up` starts it", Exit.UPSTREAM
            ) from None
        return found

    def now(self) -> datetime:
        """The sandbox's virtual time."""
        return datetime.fromtimestamp(float(self.call("GET", "clock")["now"]), UTC)

    def advance(self, seconds: float) -> dict[str, Any]:
        """Move its clock forward and do what falls due on the way."""
        return self.call("POST", "clock", {"advance": seconds})


def _said(error: urllib.error.HTTPError) -> str:
    text = error.read(2000).decode(errors="replace")
    try:
        return str(json.loads(text)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return f"{error.code} {error.reason}"
