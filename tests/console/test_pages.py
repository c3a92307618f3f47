from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from django.contrib import admin
from django.test import Client
from django.urls import reverse

from backoffice.audit import operations as audit
from backoffice.audit.models import AuditEntry
from backoffice.bookings.models import Booking
from backoffice.console import cells, dashboard, filters, lists, story, trail
from backoffice.console.admin.bookings import BookingAdmin, figures
from backoffice.core.actor import system
from backoffice.core.errors import Conflict
from backoffice.core.money import Money
from backoffice.ledger import queries as ledger
from backoffice.ledger.models import Account, Journal
from backoffice.payments import queries as money
from backoffice.payments.models import Refund, WebhookEvent
from backoffice.payouts.models import WriteOff
from backoffice.people.models import User
from tests import factories
from tests.console.world import World, now, paid, refund

FINANCE_INDEX = "admin:index"


def page_of(thing: Any) -> str:
    return cells.address_of(thing)


def text_of(response: Any) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", response.content.decode()))


# The booking page -----------------------------------------------------------------------------------------------------


def test_every_figure_of_the_money_table_is_the_sum_of_its_postings(db: None) -> None:
    booking, staff = paid(), factories.staff("finance", now=now())
    refund(booking, 5_000, staff)
    shown = {figure.label: figure for figure in figures(booking, ledger.trace(booking.code))}
    table = money.money_of(booking=booking)
    for label, amount in (
        ("Charged", table.charged),
        ("Refunds pending", table.refunds_pending),
        ("Held for the host", table.parts_left["held"]),
        ("Host fee", table.parts_left["host_fee"]),
        ("Guest fee", table.parts_left["guest_fee"]),
        ("VAT on fees", table.parts_left["vat"]),
        ("Occupancy tax", table.parts_left["occupancy_tax"]),
    ):
        assert shown[label].amount == cells.of(amount), label
        assert amount.amount > 0, f"{label}: the example shows nothing"
        assert shown[label].together == cells.of(amount), label
    assert shown["Can still be refunded"].amount == cells.of(table.charged - table.refunds_pending)


def test_a_booking_page_tells_stay_people_money_terms_and_story(world: World) -> None:
    response = world.client("finance").get(page_of(world.booking))
    shown = text_of(response)
    booking = world.booking
    for words in (
        booking.code,
        "Confirmed",
        booking.guest.name,
        booking.host.email,
        booking.listing.title,
        "If cancelled now",
        "Guest receives",
        f"Booking {booking.code} confirmed, awaiting payment → confirmed",
        "Attempt 1: succeeded",
        "waits for a second person",
        "Postings",
    ):
        assert words in shown, words
    happenings = next(panel for panel in response.context["page"].panels if panel.title == "Timeline").happenings
    kinds = {happening.kind for happening in happenings}
    assert {"bookings", "payments", "refunds", "messages"} <= kinds
    instants = [happening.at for happening in happenings]
    assert instants == sorted(instants, reverse=True)


def test_who_may_not_see_the_ledger_sees_the_money_without_its_postings(world: World) -> None:
    shown = world.client("support_l1").get(page_of(world.booking))
    assert "Held for the host" in text_of(shown)
    assert "/console/ledger/" not in shown.content.decode()
    assert "/console/audit/" not in shown.content.decode()


def test_every_reader_sees_what_cancelling_would_mean(world: World) -> None:
    for role in ("auditor", "on_call", "support_l1"):
        assert "Comes back" in text_of(world.client(role).get(page_of(world.booking))), role


def test_a_booking_that_cannot_be_cancelled_says_so(world: World) -> None:
    Booking.objects.filter(pk=world.booking.pk).update(status="completed")
    response = world.client("finance").get(page_of(world.booking))
    assert "A booking that is completed cannot cancel" in text_of(response)
    assert "cancel" not in [button["name"] for button in response.context["buttons"]]


def test_an_unpaid_booking_shows_until_when_its_nights_are_held(world: World) -> None:
    booking = factories.booking(now=now())
    response = world.client("finance").get(page_of(booking))
    assert f"held until {booking.hold.expires_at:%H:%M} UTC" in text_of(response)
    assert [button["name"] for button in response.context["buttons"]] == ["cancel"]


# Other pages ----------------------------------------------------------------------------------------------------------


def test_an_audit_entry_reads_before_and_after_without_personal_values(world: World) -> None:
    seq = audit.record(
        actor=system("tests"),
        verb="people.edit",
        kind="person",
        id=world.booking.guest.code,
        before={"name": audit.personal("Alice"), "currency": "EUR"},
        after={"name": audit.personal("Alicia"), "currency": "USD"},
        now=now(),
    )
    response = world.client("auditor").get(reverse("admin:audit_auditentry_change", args=[seq]))
    shown = text_of(response)
    assert "personal, not kept" in shown and "Alicia" not in shown
    changes = {change.name: (change.before, change.after) for change in story.changes(AuditEntry.objects.get(seq=seq))}
    assert changes["currency"] == ("EUR", "USD")
    assert page_of(world.booking.guest) in response.content.decode()


def test_an_account_is_explained_by_the_postings_behind_it(world: World) -> None:
    account = Account.objects.get(code="2100", key=world.booking.code)
    response = world.client("auditor").get(page_of(account))
    (statement,) = response.context["page"].panels
    closing, *lines, opening = statement.rows
    assert len(lines) == 2  # the capture, and what the refund took
    balances = [row.cells[-1] for row in (closing, *lines)]
    assert "Cr" in balances[0] and balances[0] == balances[1]
    assert opening.cells[-1] == trail.side(0, "EUR")
    posted = sum(line.amount for line in account.lines.all())
    assert str(cells.money(abs(posted), "EUR")) in str(balances[0])
    assert page_of(Journal.objects.order_by("id")[0]) in response.content.decode()


def test_a_journal_shows_its_lines_and_that_they_balance(world: World) -> None:
    journal = Journal.objects.get(kind="capture", subject=world.booking.code)
    table = world.client("finance").get(page_of(journal)).context["page"].panels[0]
    assert len(table.rows) == journal.lines.count() + 1
    total = table.rows[-1]
    assert total.strong and total.cells[2] == total.cells[3] == cells.money(world.booking.charge_total, "EUR")


def test_a_refund_that_waits_says_who_may_decide(world: World) -> None:
    shown = text_of(world.client("auditor").get(page_of(world.waiting)))
    assert "a team lead or somebody in finance, never whoever asked for it" in shown
    lead = refund(paid(nights=20), 210_000, world.staff["team_lead"])
    assert "waits for a second person: somebody in finance, never" in text_of(
        world.client("auditor").get(page_of(lead))
    )


def test_a_webhooks_bytes_are_shown_as_text(world: World) -> None:
    shown = world.client("on_call").get(page_of(world.webhook)).content.decode()
    assert "&lt;b&gt;" in shown and "<b>&" not in shown


@pytest.mark.parametrize("model", admin.site._registry, ids=lambda model: model.__name__)
def test_every_page_has_words_for_its_emptiness_and_its_search(model: Any) -> None:
    page = admin.site._registry[model]
    assert page.empty_words.endswith(".") and page.search_help_text
    assert isinstance(page.searches[-1], lists.Search)
    for each in page.list_filter:
        assert not isinstance(each, tuple) or each[1] in {filters.Choices, filters.Days, filters.Kinds}


# Values ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("amount", "currency", "shown"),
    [
        (125_000, "EUR", "1,250.00 EUR"),
        (-1, "EUR", "−0.01 EUR"),
        (0, "USD", "0.00 USD"),
        (1_500, "JPY", "1,500 JPY"),
        (1_234, "KWD", "1.234 KWD"),
    ],
)
def test_amounts_are_read_with_their_currency(amount: int, currency: str, shown: str) -> None:
    assert re.sub(r"<[^>]+>", "", cells.money(amount, currency)) == shown


def test_values_are_escaped() -> None:
    evil = "<script>"
    for cell in (cells.code(evil), cells.status(evil), cells.two(evil, evil), cells.role(evil)):
        assert evil not in str(cell) or not hasattr(cell, "__html__")


# Today ----------------------------------------------------------------------------------------------------------------


def test_todays_figures_are_those_of_the_lists_behind_them(world: World) -> None:
    client = world.client("finance")
    at = now()
    staying = paid(check_in=at.date() + timedelta(days=1))
    Booking.objects.filter(pk=staying.pk).update(check_in=at.date(), check_out=at.date() + timedelta(days=2))
    dashboard.forget()
    groups = client.get(reverse(FINANCE_INDEX)).context["groups"]
    seen = {figure.label: figure for _, group in groups for figure in group}
    assert set(seen) >= {
        "Bookings today",
        "Staying tonight",
        "Refunds to approve",
        "Failed webhooks",
        "Breaks",
        "Outbox",
    }
    for label, figure in seen.items():
        behind = client.get(figure.href)
        assert behind.status_code == 200, label
        if "cl" not in behind.context or not figure.value.isdigit():
            continue  # an overview of the whole, or a share: both have their own tests
        assert f"{len(behind.context['cl'].result_list)}" == figure.value, label
    assert seen["Staying tonight"].value == "1"
    assert seen["Refunds to approve"].value == "1" and seen["Refunds to approve"].tone == "warning"
    assert seen["Failed webhooks"].tone == "danger"


def test_gmv_is_what_was_confirmed_in_each_currency(world: World) -> None:
    albany = factories.listing(city="Albany", country="US", time_zone="America/New_York", currency="USD", now=now())
    dollars = paid(home=albany)
    dashboard.forget()
    response = world.client("finance").get(reverse(FINANCE_INDEX))
    shown = {str(amount): words for amount, words, _ in response.context["gmv"]}
    expected = Money.sum(
        (Money(each.total, "EUR") for each in Booking.objects.filter(confirmed_at__isnull=False, currency="EUR")), "EUR"
    )
    assert str(cells.of(expected)) in shown
    assert str(cells.money(dollars.total, "USD")) in shown


def test_badges_count_what_waits(world: World) -> None:
    shown = world.client("finance").get(reverse(FINANCE_INDEX)).context["sidebar_navigation"]
    badges = {item["title"]: item.get("badge") for group in shown for item in group["items"]}
    assert (badges["Refunds"], badges["Webhook inbox"], badges["Breaks"], badges["Bookings"]) == ("1", "1", "1", None)
    WebhookEvent.objects.update(status="applied")
    Refund.objects.update(status="cancelled")
    WriteOff.objects.update(status="rejected", decided_by=world.staff["admin"])
    assert world.client("finance").get(reverse(FINANCE_INDEX)).context["sidebar_navigation"] == shown  # kept a while
    dashboard.forget()
    shown = world.client("finance").get(reverse(FINANCE_INDEX)).context["sidebar_navigation"]
    after = {item["title"]: item.get("badge") for group in shown for item in group["items"]}
    assert {title for title in badges if badges[title] != after[title]} == {"Refunds", "Webhook inbox", "Write-offs"}
    assert after["Breaks"] == "1" and after["Refunds"] is None


def test_an_empty_desk_says_what_to_do(db: None, client: Client) -> None:
    client.force_login(factories.staff("finance", now=now()))
    shown = text_of(client.get(reverse(FINANCE_INDEX)))
    assert "An empty desk" in shown and "ops seed inside-airbnb" in shown


def test_staff_without_a_role_are_told_so(world: World) -> None:
    shown = world.client("nobody").get(reverse(FINANCE_INDEX))
    assert "No role yet" in text_of(shown)
    assert not any(group for _, group in shown.context["groups"])


def test_today_costs_the_same_whatever_the_rows(world: World, django_assert_max_num_queries: Any) -> None:
    client = world.client("finance")
    with django_assert_max_num_queries(47):
        client.get(reverse(FINANCE_INDEX))
    with django_assert_max_num_queries(9):  # counted once in half a minute for everybody
        client.get(reverse(FINANCE_INDEX))


# When things go wrong -------------------------------------------------------------------------------------------------


def test_an_accident_is_a_page_not_a_traceback(world: World, monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(BookingAdmin, "page", fail)
    response = world.client("finance").get(page_of(world.booking))
    assert response.status_code == 500
    assert "Something broke" in text_of(response)
    assert "secret detail" not in response.content.decode() and "Traceback" not in response.content.decode()
    assert "secret detail" in caplog.text  # the log has it


def test_an_accident_in_a_template_is_caught_too(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BookingAdmin, "page_template", "console/no-such-template.html")
    assert world.client("finance").get(page_of(world.booking)).status_code == 500


def test_a_domain_error_is_a_message(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise Conflict("Not while the moon is full.")

    monkeypatch.setattr(BookingAdmin, "page", refuse)
    response = world.client("finance").get(page_of(world.booking), follow=True)
    assert response.status_code == 200
    assert "Not while the moon is full." in text_of(response)


def test_a_request_is_followed_by_its_id_into_the_log(world: World) -> None:
    client, guest = world.client("trust_safety"), world.booking.guest
    path = reverse("admin:people_user_suspend", args=[guest.code])
    sent = {"key": "k", "version": guest.version, "reason": "Three stolen cards", "seen": ""}
    client.post(path, sent, headers={"X-Request-ID": "call-42"}, REMOTE_ADDR="203.0.113.9")
    entry = AuditEntry.objects.get(verb="people.suspend")
    assert (entry.request_id, entry.address) == ("call-42", "203.0.113.9")


def test_a_forged_client_address_is_not_believed(world: World) -> None:
    client, guest = world.client("trust_safety"), world.booking.guest
    path = reverse("admin:people_user_suspend", args=[guest.code])
    sent = {"key": "k", "version": guest.version, "reason": "Three stolen cards", "seen": ""}
    headers = {"X-Forwarded-For": "198.51.100.1", "X-Request-ID": "x" * 500}
    client.post(path, sent, headers=headers, REMOTE_ADDR="203.0.113.9")
    entry = AuditEntry.objects.get(verb="people.suspend")
    assert entry.address == "203.0.113.9" and len(entry.request_id) == 32


def test_signing_in_takes_an_address_in_any_case_and_leads_where_one_was_going(world: World) -> None:
    client = Client()
    wanted = page_of(world.booking)
    login = client.get(wanted)["Location"]
    credentials = {"username": world.staff["finance"].email.upper(), "password": factories.PASSWORD}
    assert client.post(login, credentials)["Location"] == wanted
    assert Client().post(reverse("admin:login"), credentials)["Location"] == reverse("admin:index")


def test_guests_hosts_and_suspended_staff_cannot_sign_in(world: World) -> None:
    User.objects.filter(pk=world.staff["admin"].pk).update(status="suspended")
    for person in (world.booking.guest, world.booking.host, world.staff["admin"]):
        response = Client().post(reverse("admin:login"), {"username": person.email, "password": factories.PASSWORD})
        assert response.status_code == 200 and "do not open the console" in text_of(response)
