"""One sandbox process for the journeys of a test process, emptied between tests."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qsl, urlsplit

import pytest
import stripe

from backoffice.core import clock
from backoffice.payments.gateway import stripe as provider
from tests.stripe_sandbox import contract
from tests.stripe_sandbox.server import RunningSandbox, run_sandbox


@dataclass(frozen=True)
class Refusal:
    """What the desk asked of the provider and was told that it cannot be: the provider's code, parameter and words."""

    method: str
    path: str
    asked: dict[str, str]
    code: str | None
    param: str | None
    message: str


BUSY = {409, 429}  # the same key at work, no time
ANSWERS = {402, *BUSY}  # or a declined card


class DeskClient(contract.JudgedClient):
    """What the desk says to the provider: the sandbox must know all of it. `on_refusal` hears of what the provider refuses, at
    that moment; a declined card is an answer, and one that has no time now says nothing of what it was asked."""

    on_refusal: ClassVar[Callable[[Refusal], None]] = staticmethod(lambda refusal: None)
    here = threading.local()  # what this thread was told last: to leave the provider alone for a while?

    def request(self, method: str, url: str, headers: Any, post_data: Any = None) -> Any:
        self.here.busy = False
        answer = super().request(method, url, headers, post_data)
        self.here.busy = answer[1] in BUSY
        assert answer[1] != 501, f"the sandbox does not simulate {method} {url} {post_data}"
        if 400 <= answer[1] < 500 and answer[1] not in ANSWERS:
            error = json.loads(answer[0])["error"]
            asked = dict(parse_qsl(post_data)) if isinstance(post_data, str) else {}
            DeskClient.on_refusal(
                Refusal(method, urlsplit(url).path, asked, error.get("code"), error.get("param"), error["message"])
            )
        return answer

    def _sleep_time_seconds(self, num_retries: int) -> float:
        """A lost answer is asked for again at once: what the SDK's pause is for, an outage, is not there. They were minutes."""
        pause: float = super()._sleep_time_seconds(num_retries)  # type: ignore[no-untyped-call]  # the SDK says none
        return pause if self.here.busy else 0.01


@pytest.fixture(scope="session")
def sandbox_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSandbox]:
    with run_sandbox(Path(tmp_path_factory.mktemp("sandbox"))) as running:
        yield running


@pytest.fixture
def sandbox(
    sandbox_process: RunningSandbox, settings: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[RunningSandbox]:
    """The provider, empty, with the desk's gateway pointed at it. What the desk asks and is answered is held against the
    provider's own schema, where that is at hand, and so is every event, sent or not, when the test is over."""
    monkeypatch.setattr(stripe, "RequestsClient", DeskClient)
    sandbox_process.control("POST", "/_sim/reset", {"clock": True})  # the next test begins today, whatever ran before
    settings.STRIPE_API_BASE = sandbox_process.base_url
    settings.STRIPE_API_KEY = sandbox_process.api_key
    settings.STRIPE_WEBHOOK_SECRETS = [sandbox_process.webhook_secret]
    settings.STRIPE_CONNECT_WEBHOOK_SECRETS = [sandbox_process.connect_secret]
    settings.STRIPE_READ_SECONDS = 3.0
    provider.gateway.cache_clear()
    # Desk and provider share one clock, as `ops sandbox clock advance` keeps it: tests move the sandbox's.
    clock.install_offset(lambda: timedelta(seconds=sandbox_process.ahead()))
    sandbox_process.on_clock = clock.forget_offset  # what a test moves is moved at once, not half a second later
    yield sandbox_process
    clock.install_offset(None)
    provider.gateway.cache_clear()
    contract.judge_events(sandbox_process)


@pytest.fixture
def impatient(sandbox: RunningSandbox, settings: Any) -> RunningSandbox:
    """The provider, of whose answers the desk waits a second at most: for those who let it fall silent."""
    settings.STRIPE_READ_SECONDS = 1.0
    provider.gateway.cache_clear()
    return sandbox
