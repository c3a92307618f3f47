"""The provider as the world outside sees it: what it has carried out, and what issuers do. It may be down at any moment."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final

import requests

from ops_cli.chaos.people import PATIENCE, PAUSE, GaveUp
from ops_cli.output import Exit, Failed
from ops_cli.simulator import Simulator

PAGE: Final = 100


class Provider:
    """One sandbox, asked until it answers."""

    def __init__(self, base: str, key: str) -> None:
        self._base, self._key = base, key
        self._simulator = Simulator(base)

    def listed(self, kind: str, **query: str) -> Iterator[dict[str, Any]]:
        """Every object of a kind ("charges", "refunds" …), newest first."""
        page = self._page(kind, query)
        yield from page["data"]
        while page["has_more"]:
            page = self._page(kind, {**query, "starting_after": page["data"][-1]["id"]})
            yield from page["data"]

    def _page(self, kind: str, query: Mapping[str, str]) -> dict[str, Any]:
        session = requests.Session()
        session.trust_env = False  # it is on this machine
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                answer = session.get(
                    f"{self._base}/v1/{kind}", params={**query, "limit": str(PAGE)}, auth=(self._key, ""), timeout=30
                )
                if answer.ok:
                    page: dict[str, Any] = answer.json()
                    return page
                said = answer.text
            except requests.RequestException as error:
                said = str(error)
            if time.monotonic() > deadline:
                raise GaveUp(f"the provider's {kind}: {said}")
            time.sleep(PAUSE)

    def control(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """One of its own controls, asked until it answers; only for what does no harm twice. Raises Failed when refused."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                return self._simulator.call(method, path, body)
            except Failed as failure:
                if failure.code != Exit.UPSTREAM or time.monotonic() > deadline:
                    raise
                time.sleep(PAUSE)

    def now(self) -> datetime:
        """Its virtual time, which is the desk's."""
        return datetime.fromtimestamp(float(self.control("GET", "clock")["now"]), UTC)

    def charge_of(self, booking: str) -> str | None:
        """The charge that was paid for a booking."""
        return next((row["id"] for row in self.listed("charges", transfer_group=booking) if row["paid"]), None)

    def dispute(self, charge: str, *, reason: str) -> str:
        """The issuer disputes a charge, once; the dispute's id."""
        while not (known := next(self.listed("disputes", charge=charge), None)):
            try:
                return str(self._simulator.call("POST", "disputes", {"charge": charge, "reason": reason})["id"])
            except Failed as failure:
                if failure.code != Exit.UPSTREAM:
                    raise
                time.sleep(PAUSE)  # it may have done it before it went
        return str(known["id"])
