"""The stories of the console in a real browser."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from django.urls import reverse

from backoffice.bookings.models import Booking
from backoffice.payments.models import Refund
from tests.browser.conftest import Staff
from tests.console.world import World, addresses, paid, refund

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]
Seat = Callable[..., Staff]


def page_of(booking: Booking) -> str:
    return reverse("admin:bookings_booking_change", args=[booking.code])


def refunds_of(booking: Booking) -> list[Refund]:
    return list(Refund.objects.filter(payment__booking=booking).order_by("id"))


def test_signing_in_leads_to_today(desk: World, seat: Seat) -> None:
    staff = seat("finance")
    assert staff.page.url.endswith("/console/")
    assert staff.page.inner_text("h1 >> nth=-1") == "Hello, Finance"
    assert staff.page.inner_text("text=Refunds to approve >> xpath=..").split("\n")[1] == "1"


def test_a_wrong_password_is_answered_in_words(desk: World, seat: Seat) -> None:
    staff = seat("finance")
    staff.page.context.clear_cookies()
    staff.sign_in(desk.staff["finance"].email, "wrong")
    assert "do not open the console" in staff.page.inner_text("body")


def test_the_booking_page_explains_its_money(desk: World, seat: Seat) -> None:
    staff, booking = seat("finance"), paid()
    page = staff.open(page_of(booking))
    assert booking.code in page.inner_text(".sd-head h1")
    assert "Confirmed" in page.inner_text(".sd-head h1")
    held = page.locator(".sd-figures details", has_text="Held for the host")
    held.locator("summary").click()
    assert "capture" in held.inner_text() and f"2100 {booking.code}" in held.inner_text()
    total = f"{booking.host_price - booking.host_fee}"
    assert held.locator(".sd-sum").inner_text().replace(",", "").replace(".", "").count(total) == 1
    assert "Comes back" in page.inner_text("#if-cancelled")
    held.locator("a", has_text="capture").click()
    page.wait_for_url("**/console/ledger/journal/*/")
    assert "Sum EUR" in page.inner_text("body")


def test_three_fast_clicks_refund_once(desk: World, seat: Seat) -> None:
    staff, booking = seat("support_l2"), paid()
    page = staff.open(page_of(booking))
    staff.dialog("refund")
    page.fill("[name=amount]", "60.00")
    page.locator("[name=amount]").dispatch_event("change")
    page.wait_for_selector("#dialog-submit:has-text('Refund 60.00 EUR')")
    page.fill("#dialog [name=reason]", "No hot water")
    page.evaluate("for (let click = 0; click < 3; click++) document.getElementById('dialog-submit').click()")
    # Each answer leads anew to the booking's page, which may show the message only to an answer that was left: what must
    # hold is that the page has the refund, and one.
    page.wait_for_selector("a:has-text('RF-')")
    page.wait_for_load_state("networkidle")
    (made,) = refunds_of(booking)
    assert (made.amount, made.status) == (6_000, "approved")
    page = staff.open(page_of(booking))
    assert re.findall(r"RF-\w+", page.inner_text("table:has-text('RF-')")) == [made.code]


def test_the_numbers_follow_the_amount(desk: World, seat: Seat) -> None:
    staff, booking = seat("support_l1"), paid()
    page = staff.open(page_of(booking))
    staff.dialog("refund")
    assert "over your limit" in page.inner_text("#dialog-preview")
    assert page.inner_text("#dialog-submit") == "Ask for approval"
    page.fill("[name=amount]", "20")
    page.locator("[name=amount]").dispatch_event("change")
    page.wait_for_selector("#dialog-submit:has-text('Refund 20.00 EUR')")
    assert "over your limit" not in page.inner_text("#dialog-preview")
    page.fill("[name=amount]", "a lot")
    page.locator("[name=amount]").dispatch_event("change")
    page.wait_for_selector("#dialog-preview:has-text('write a number')")
    assert refunds_of(booking) == []


def test_numbers_that_changed_meanwhile_are_shown_before_anything_is_done(desk: World, seat: Seat) -> None:
    staff, booking = seat("finance"), paid()
    page = staff.open(page_of(booking))
    staff.dialog("refund")
    page.fill("#dialog [name=reason]", "Too slow")
    refund(booking, 3_000, desk.staff["support_l2"])
    page.click("#dialog-submit")
    page.wait_for_selector("#dialog [role=alert]:has-text('changed since you opened it')")
    assert len(refunds_of(booking)) == 1
    assert page.input_value("#dialog [name=reason]") == "Too slow"
    page.fill("[name=amount]", "10")
    page.locator("[name=amount]").dispatch_event("change")
    page.wait_for_selector("#dialog-submit:has-text('Refund 10.00 EUR')")
    page.click("#dialog-submit")
    page.wait_for_selector("text=is on its way to the guest")
    assert [made.amount for made in refunds_of(booking)] == [3_000, 1_000]


def test_over_the_limit_another_person_says_yes(desk: World, seat: Seat) -> None:
    maker, lead, booking = seat("support_l1"), seat("team_lead"), paid()
    page = maker.open(page_of(booking))
    maker.dialog("refund")
    page.fill("[name=amount]", "250")
    page.locator("[name=amount]").dispatch_event("change")
    page.wait_for_selector("#dialog-preview:has-text('250.00')")
    page.fill("#dialog [name=reason]", "Two nights without water")
    page.click("#dialog-submit")
    page.wait_for_selector("text=waits for a second person")
    (made,) = refunds_of(booking)
    own = maker.open(reverse("admin:payments_refund_change", args=[made.code]))
    assert own.locator("a[data-dialog=approve]").count() == 0
    assert own.locator("a[data-dialog=take_back]").count() == 1

    theirs = lead.open(reverse("admin:payments_refund_change", args=[made.code]))
    assert "never whoever asked for it" in theirs.inner_text(".sd-alert")
    lead.dialog("approve")
    theirs.click("#dialog-submit")
    theirs.wait_for_selector("text=is approved and on its way")
    made.refresh_from_db()
    assert (made.status, made.approved_by) == ("approved", desk.staff["team_lead"])


def test_a_dialog_is_used_by_keyboard_alone(desk: World, seat: Seat) -> None:
    staff, guest = seat("trust_safety"), desk.booking.guest
    page = staff.open(reverse("admin:people_user_change", args=[guest.code]))
    page.focus("a[data-dialog=suspend]")
    page.keyboard.press("Enter")
    page.wait_for_selector("#dialog", state="visible")
    page.wait_for_function("document.activeElement.name === 'reason'")
    page.keyboard.press("Escape")
    page.wait_for_selector("#dialog", state="hidden")
    assert page.evaluate("document.activeElement.dataset.dialog") == "suspend"
    page.keyboard.press("Enter")
    page.wait_for_function("document.activeElement.name === 'reason'")
    page.keyboard.type("Three stolen cards")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.wait_for_selector("text=is suspended.")
    guest.refresh_from_db()
    assert guest.status == "suspended"


@pytest.mark.parametrize(
    ("width", "scheme"),
    [
        (390, "dark"),
        pytest.param(1440, "light", marks=pytest.mark.long),
        pytest.param(1440, "dark", marks=pytest.mark.long),
        pytest.param(390, "light", marks=pytest.mark.long),
    ],
)
def test_no_page_complains_or_scrolls_sideways(desk: World, seat: Seat, width: int, scheme: str) -> None:
    staff = seat("finance", width=width, scheme=scheme)
    held = {address.path for address in addresses(desk) if address.kind in {"list", "page", "export"}}
    for path in ["/console/", *sorted(held)]:
        page = staff.page
        answer = page.goto(staff.base + path)
        assert answer is not None
        page.wait_for_load_state("networkidle")
        if answer.status == 403:  # what finance may not export
            staff.complaints.clear()
            continue
        assert answer.status == 200, path
        wide = page.evaluate(
            "[...document.querySelectorAll('body *')].filter(each => each.getBoundingClientRect().right > innerWidth + 1)"
            ".map(each => each.outerHTML.slice(0, 120))"
        )
        scrolls = page.evaluate("document.documentElement.scrollWidth > innerWidth + 1")
        assert not scrolls, f"{path} scrolls sideways: {wide[:3]}"
        assert staff.complaints == [], path
