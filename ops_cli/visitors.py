"""Who comes to the desk's doors over HTTP: an application that speaks to the API, and a browser in the console."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any, Final
from urllib.parse import urljoin

import requests

TIMEOUT_SECONDS: Final = 30.0


class Turned(Exception):
    """A door did not do what was asked; the message says which and why. `status` when it answered at all."""

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


def _session() -> requests.Session:
    session = requests.Session()
    session.trust_env = False  # the desk is on this machine or its own network: no proxy stands between
    return session


class Application:
    """A guest's or host's application: JSON, with a bearer token once somebody has signed in."""

    def __init__(self, site: str) -> None:
        self._site = site.rstrip("/")
        self._session = _session()

    def register(self, *, name: str, email: str, password: str, is_host: bool) -> dict[str, Any]:
        """Make an account and stay signed in."""
        answer = self.post("auth/register", email=email, password=password, name=name, is_host=is_host)
        self._session.headers["Authorization"] = f"Bearer {answer['access']}"
        return answer

    def get(self, path: str, **query: Any) -> dict[str, Any]:
        return self._ask("GET", path, params=query)

    def post(self, path: str, /, **body: Any) -> dict[str, Any]:
        """Post JSON; every post carries an idempotency key of its own, which those that need none ignore."""
        return self._ask("POST", path, json=body, headers={"Idempotency-Key": uuid.uuid4().hex})

    def _ask(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        try:
            answer = self._session.request(method, f"{self._site}/api/v1/{path}", timeout=TIMEOUT_SECONDS, **options)
            body: dict[str, Any] = answer.json()
        except (requests.RequestException, ValueError) as error:
            raise Turned(f"{method} {path}: {error}") from None
        if not answer.ok:
            said = body.get("detail") or body.get("title") or body
            words = f"{method} {path} answered {answer.status_code}: {said} {body.get('errors', '')}".rstrip()
            raise Turned(words, status=answer.status_code)
        return body


class Browser:
    """A person in the console: cookies, forms with their CSRF tokens, and no JavaScript."""

    def __init__(self, site: str) -> None:
        self._site = site.rstrip("/")
        self._session = _session()

    def sign_in(self, *, email: str, password: str) -> None:
        """Fill in the login form."""
        page = self._open("/console/login/")
        landed = self._submit(page, page.form_with("password"), {"username": email, "password": password})
        if landed.has_form_with("password"):
            raise Turned(f"the console did not let {email} in: {landed.alert or 'wrong password?'}")

    def decide(self, address: str, **answers: str) -> str:
        """Open a dialog of the console, see the preview for `answers`, and confirm it; returns where that led.

        What is confirmed is what the server showed: its version, key and preview go back as they came."""
        page = self._open(address)
        if answers:
            page = self._submit(page, page.form_with("key"), {**answers, "preview": "1"})
        landed = self._submit(page, page.form_with("key"), answers)
        if landed.has_form_with("key"):
            raise Turned(f"the dialog {address} was not done: {landed.alert or 'it was shown again'}")
        return landed.address

    def answer_bank(self, address: str, *, outcome: str = "succeed") -> None:
        """Do what the guest does on the bank's page: complete the authentication ("fail": do not), and stay there."""
        page = self._open(address)
        form = page.form_with("client_secret")
        self._request(
            "POST", urljoin(page.address, form.action), data={**form.fields, "outcome": outcome}, follow=False
        )

    def _open(self, address: str) -> Page:
        return self._request("GET", urljoin(f"{self._site}/", address))

    def _submit(self, page: Page, form: Form, answers: Mapping[str, str]) -> Page:
        return self._request(
            "POST", urljoin(page.address, form.action), data={**form.fields, **answers}, came_from=page
        )

    def _request(
        self,
        method: str,
        address: str,
        *,
        data: Mapping[str, str] | None = None,
        follow: bool = True,
        came_from: Page | None = None,
    ) -> Page:
        headers = {"Referer": came_from.address} if came_from else {}
        try:
            answer = self._session.request(
                method, address, data=data, headers=headers, timeout=TIMEOUT_SECONDS, allow_redirects=follow
            )
        except requests.RequestException as error:
            raise Turned(f"{method} {address}: {error}") from None
        page = Page.read(answer.url, answer.text)
        # A dialog that is shown again says why in its own words.
        if not answer.ok and not page.has_form_with("key"):
            words = f"{method} {address} answered {answer.status_code}: {page.alert or answer.reason}"
            raise Turned(words, status=answer.status_code)
        return page


@dataclass(slots=True)
class Form:
    """A form of a page: where it goes, and what it holds."""

    action: str = ""
    fields: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Page:
    """What a person would see of a page: its forms, and what it warns of."""

    address: str
    forms: Sequence[Form]
    alert: str

    @classmethod
    def read(cls, address: str, text: str) -> Page:
        reader = _Reader()
        reader.feed(text)
        return cls(address, reader.forms, " ".join(" ".join(reader.alerts).split()))

    def has_form_with(self, name: str) -> bool:
        return any(name in form.fields for form in self.forms)

    def form_with(self, name: str) -> Form:
        """The form that has a field of this name. Raises Turned."""
        for form in self.forms:
            if name in form.fields:
                return form
        raise Turned(f"{self.address} has no form with {name}: {self.alert or 'is it another page?'}")


class _Reader(HTMLParser):
    """Collects the forms with the values they begin with, and the text of alerts."""

    _EMPTY: Final = frozenset({"input", "img", "br", "hr", "meta", "link", "wbr"})

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.forms: list[Form] = []
        self.alerts: list[str] = []
        self._form: Form | None = None
        self._select = ""
        self._textarea = ""
        self._alert_depth = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if self._alert_depth and tag not in self._EMPTY:
            self._alert_depth += 1
        elif given.get("role") == "alert" or "errorlist" in given.get("class", "").split():
            self._alert_depth = 1
        if tag == "form":
            self._form = Form(given.get("action", ""))
            self.forms.append(self._form)
        elif self._form is not None:
            self._take(tag, given, self._form)

    def _take(self, tag: str, given: Mapping[str, str], form: Form) -> None:
        name = given.get("name", "")
        if tag == "input" and name and given.get("type") not in {"submit", "button", "image"}:
            if given.get("type") not in {"checkbox", "radio"} or "checked" in given:
                form.fields[name] = given.get("value", "")
        elif tag == "select" and name:
            self._select = name
        elif tag == "option" and self._select and ("selected" in given or self._select not in form.fields):
            form.fields[self._select] = given.get("value", "")
        elif tag == "textarea" and name:
            self._textarea = name
            form.fields[name] = ""

    def handle_endtag(self, tag: str) -> None:
        if self._alert_depth:
            self._alert_depth -= 1
        if tag == "form":
            self._form = None
        elif tag == "select":
            self._select = ""
        elif tag == "textarea":
            self._textarea = ""

    def handle_data(self, data: str) -> None:
        if self._alert_depth:
            self.alerts.append(data)
        if self._textarea and self._form is not None:
            # A browser leaves out the line break that begins a textarea.
            self._form.fields[self._textarea] += data.removeprefix("\n")
