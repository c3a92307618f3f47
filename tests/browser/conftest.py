"""A real Chromium on a running console. Without one every test here is skipped, and says so."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, sync_playwright
from pytest_django.live_server_helper import LiveServer

from backoffice.console import dashboard
from tests.console.world import World, build
from tests.factories import PASSWORD

CHROMIUM = os.environ.get("STAYDESK_CHROMIUM") or next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None
)
ARGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    *os.environ.get("STAYDESK_CHROMIUM_ARGS", "").split(),
]


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("NO BROWSER TESTED: there is no Chromium on the PATH; set STAYDESK_CHROMIUM to one")
    with pytest.MonkeyPatch.context() as patch:
        # Playwright keeps a loop running in this thread; the tests' own queries are in no hurry for it.
        patch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "true")
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGS)
            yield browser
            browser.close()


@pytest.fixture
def desk(transactional_db: None, settings: pytest.FixtureRequest) -> World:
    settings.SESSION_COOKIE_SECURE = settings.CSRF_COOKIE_SECURE = settings.SECURE_SSL_REDIRECT = False
    dashboard.forget()
    return build()


class Staff:
    """One member of staff at one browser window. What the browser complains about fails the test."""

    def __init__(self, page: Page, base: str) -> None:
        self.page, self.base = page, base
        self.complaints: list[str] = []
        page.set_default_timeout(20_000)
        page.on("console", lambda message: self.complaints.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def sign_in(self, email: str, password: str = PASSWORD) -> Staff:
        self.page.goto(f"{self.base}/console/")
        self.page.fill("[name=username]", email)
        self.page.fill("[name=password]", password)
        self.page.click("[type=submit]")
        self.page.wait_for_load_state("networkidle")
        return self

    def open(self, path: str) -> Page:
        self.page.goto(self.base + path)
        self.page.wait_for_load_state("networkidle")
        return self.page

    def dialog(self, name: str) -> None:
        """Click the button of a dialog and wait until it stands."""
        self.page.click(f"a[data-dialog={name}]")
        self.page.wait_for_selector("#dialog", state="visible")


@pytest.fixture
def seat(chromium: Browser, live_server: LiveServer, desk: World) -> Iterator[object]:
    """Seats somebody of a role at a window of their own."""
    seated: list[Staff] = []

    def sit(role: str, *, width: int = 1280, scheme: str = "light") -> Staff:
        context = chromium.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        staff = Staff(context.new_page(), live_server.url).sign_in(desk.staff[role].email)
        seated.append(staff)
        return staff

    yield sit
    complaints = [complaint for staff in seated for complaint in staff.complaints]
    for staff in seated:
        staff.page.context.close()
    assert complaints == []
