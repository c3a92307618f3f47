"""People who do not give up: whoever gets no answer asks again, with the same key, until somebody answers."""

from __future__ import annotations

import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable
from typing import Any, Final, TypeVar

import requests

from ops_cli.visitors import TIMEOUT_SECONDS, Browser, Page, Turned

T = TypeVar("T")
# Longer than the desk keeps the key of a request that died (90 s), which is the longest that a repeat has to wait.
PATIENCE: Final = 200.0
PAUSE: Final = 0.5
# Whoever was answered that it is not known yet asks less often: every question takes from the desk what it needs to answer.
ANSWERED: Final = 3


class Refusal(Turned):
    """The desk answered, and said no."""

    def __init__(self, what: str, status: int, code: str, detail: str) -> None:
        super().__init__(f"{what} answered {status} {code}: {detail}", status=status)
        self.code = code


class GaveUp(Turned):
    """Nobody answered in all that time."""


class Tally:
    """What happened on the way, counted by many at once, and whether there is still a desk to wait for."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.counts: Counter[str] = Counter()
        self.hopeless = threading.Event()

    def add(self, what: str) -> None:
        with self._lock:
            self.counts[what] += 1


class Visitor:
    """A guest's or host's application: JSON, a bearer token, and patience."""

    def __init__(self, site: str, *, email: str, password: str, tally: Tally) -> None:
        self._site = site.rstrip("/")
        self._login = {"email": email, "password": password}
        self._tally = tally
        self._here = threading.local()  # one person in many stories at once: each has a connection of its own
        self._token = ""

    def get(self, path: str, **query: Any) -> dict[str, Any]:
        return self._insist("GET", path, params=query)

    def post(self, path: str, /, **body: Any) -> dict[str, Any]:
        """Post with a key that stays the same however often it has to be sent. Raises Refusal, GaveUp."""
        return self._insist("POST", path, json=body, headers={"Idempotency-Key": uuid.uuid4().hex})

    def _insist(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        deadline = time.monotonic() + PATIENCE
        while True:
            status, body = self._ask(method, path, **options)
            if 200 <= status < 300:
                return body
            code = str(body.get("code", ""))
            if status == 401:
                self._sign_in(deadline)
            elif 400 <= status < 500 and status != 429 and code != "idempotency_key_in_use":
                raise Refusal(f"{method} {path}", status, code, str(body.get("detail", "")))
            else:
                self._tally.add(f"answered {status}" if status else "no answer")
                if self._tally.hopeless.is_set() or time.monotonic() > deadline:
                    raise GaveUp(f"{method} {path}: {status} {body}")
                time.sleep(PAUSE)

    def _ask(self, method: str, path: str, **options: Any) -> tuple[int, dict[str, Any]]:
        """One try: (0, what went wrong) when there was no whole answer."""
        headers = {**options.pop("headers", {}), **({"Authorization": f"Bearer {self._token}"} if self._token else {})}
        try:
            answer = self._session().request(
                method, f"{self._site}/api/v1/{path}", headers=headers, timeout=TIMEOUT_SECONDS, **options
            )
            return answer.status_code, answer.json()
        except (requests.RequestException, ValueError) as error:
            return 0, {"detail": str(error)}

    def _session(self) -> requests.Session:
        if not hasattr(self._here, "session"):
            self._here.session = requests.Session()
            self._here.session.trust_env = False  # the desk is on this machine: no proxy stands between
        session: requests.Session = self._here.session
        return session

    def _sign_in(self, deadline: float) -> None:
        self._token = ""
        while True:
            status, body = self._ask("POST", "auth/login", json=self._login)
            if status == 200:
                self._token = body["access"]
                return
            if self._tally.hopeless.is_set() or time.monotonic() > deadline:
                raise GaveUp(f"signing in: {status} {body}")
            time.sleep(PAUSE)


class Clerk(Browser):
    """A member of staff in the console who reloads a page that did not come, sends a form again as it was, and signs in
    again when the session has run out: a day may pass in a moment here."""

    def __init__(self, site: str, *, email: str, password: str, tally: Tally) -> None:
        super().__init__(site)
        self._login = {"email": email, "password": password}
        self._tally = tally

    def decide(self, address: str, **answers: str) -> str:
        """As in a browser; signed in first. Once the form was sent nobody begins anew: it may have been done."""
        if self._open(address).has_form_with("password"):
            self.sign_in(**self._login)
        return super().decide(address, **answers)

    def _request(self, *arguments: Any, **options: Any) -> Page:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                return super()._request(*arguments, **options)
            except Turned as turned:
                if turned.status is not None and turned.status < 500:
                    raise
                self._tally.add("no page")
                if self._tally.hopeless.is_set() or time.monotonic() > deadline:
                    raise GaveUp(str(turned)) from None
                time.sleep(PAUSE)


def wait_for(what: str, ask: Callable[[], T], *, seconds: float = PATIENCE) -> T:
    """Ask until the answer is more than nothing. Raises GaveUp."""
    deadline = time.monotonic() + seconds
    while not (answer := ask()):
        if time.monotonic() > deadline:
            raise GaveUp(f"{what} did not come within {seconds:.0f} s")
        time.sleep(ANSWERED * PAUSE)
    return answer
