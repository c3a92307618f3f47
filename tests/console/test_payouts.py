"""Payouts in the console: each explains its number to the cent, and what may be done about it is done once."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from django.core.cache import cache
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from backoffice.bookings.models import Booking
from backoffice.console import cells, navigation
from backoffice.console.page import Figures, Page
from backoffice.core.money import Money
from backoffice.ledger import operations as postings
from backoffice.ledger import queries as ledger
from backoffice.payments import policies
from backoffice.payouts import operations as payouts
from backoffice.payouts import queries
from backoffice.payouts.models import Clawback, Payout, PayoutHold
from backoffice.workflows import release_payouts
from tests import factories
from tests.console.test_dialogs import answers, messages_of
from tests.console.test_pages import text_of
from tests.console.world import (
    World,
    bank_payout,
    clawback,
    hold,
    host_account,
    movement,
    now,
    paid,
    payout,
    sent,
    stopped,
    write_off,
)

LIST = "/console/payouts/payout/"


def page(client: Client, row: Any) -> Page:
    response = client.get(cells.address_of(row))
    assert response.status_code == 200
    shown: Page = response.context["page"]
    return shown


def figures(client: Client, row: Any) -> dict[str, Any]:
    (panel,) = (panel for panel in page(client, row).panels if isinstance(panel, Figures))
    return {str(figure.label): figure for figure in panel.figures}


def buttons(client: Client, row: Any) -> set[str]:
    return {button["name"] for button in client.get(cells.address_of(row)).context["buttons"]}


def minor(shown: Any) -> int:
    """An amount on the screen in minor units of a currency with two decimals."""
    digits = re.sub(r"<abbr>.*?</abbr>|<[^>]+>|[,.\s]", "", str(shown))
    return -int(digits[1:]) if digits.startswith("−") else int(digits)


@pytest.fixture
def released(db: None) -> Payout:
    """A payout that was released and claimed for its transfer; the provider has not answered."""
    booking = past(paid())
    movement(booking)
    host_account(booking)
    (row,) = payouts.schedule(booking=booking, now=now())
    payouts.release(payout_code=row.code, actor=release_payouts.ACTOR, now=now())
    return queries.payout(code=row.code)


def past(booking: Booking) -> Booking:
    """The same stay, a hundred days ago: whatever it owes is due."""
    Payout.objects.filter(booking=booking).delete()
    Booking.objects.filter(pk=booking.pk).update(
        check_in_at=now() - timedelta(days=100),
        check_out_at=now() - timedelta(days=97),
        confirmed_at=now() - timedelta(days=120),
    )
    booking.refresh_from_db()
    return booking


# What a page explains -------------------------------------------------------------------------------------------------


def test_a_released_payout_adds_up_to_the_cent_and_each_line_to_its_postings(released: Payout) -> None:
    client = seated("finance")
    shown = figures(client, released)
    price, fee = shown["Price of the stay, paid by the guest"], shown["Host fee"]
    assert minor(price.amount) + minor(fee.amount) == minor(shown["Host’s share"].amount) == released.held
    assert minor(shown["Sent to the host"].amount) == released.transfer_amount == released.held
    for label in ("Price of the stay, paid by the guest", "Host fee", "Sent to the host"):
        figure = shown[label]
        assert figure.postings, label
        assert figure.together == figure.amount, label


def test_who_may_not_see_the_ledger_sees_the_same_numbers_without_its_postings(released: Payout) -> None:
    agent, finance = seated("support_l1"), seated("finance")
    mine, theirs = figures(agent, released), figures(finance, released)
    assert {label: str(each.amount) for label, each in mine.items()} == {
        label: str(each.amount) for label, each in theirs.items()
    }
    content = agent.get(cells.address_of(released)).content.decode()
    assert "/console/ledger/" not in content and "/console/audit/" not in content


def test_a_payout_leads_to_everything_it_is_made_of(released: Payout) -> None:
    response = seated("finance").get(cells.address_of(released))
    content, text = response.content.decode(), text_of(response)
    for address in (
        cells.address_of(released.booking),
        cells.address_of(released.booking.payment),
        cells.address_of(released.host),
        *(cells.address_of(journal) for journal in ledger.journals().filter(reference=released.code)),
    ):
        assert f'href="{address}"' in content, address
    assert f"find/?q={released.source_charge}" in content
    for words in ("2100 Guest funds held", "2210 Clearing: transfer", f"Transfer of {released.code} asked for"):
        assert words in text, words


def test_what_waits_says_why_and_until_when(db: None) -> None:
    booking = past(paid())
    movement(booking)
    (row,) = payouts.schedule(booking=booking, now=now())
    client = seated("support_l1")
    assert "Payouts are not set up yet" in text_of(client.get(cells.address_of(row)))
    host_account(booking)
    kept = hold(booking, factories.staff("support_l2", now=now()), amount=None)
    shown = text_of(client.get(cells.address_of(row)))
    assert "It is held back" in shown and f"Until {cells.when(kept.expires_at)}." in shown


def test_a_transfer_that_was_refused_says_so_and_the_list_puts_it_forward(db: None) -> None:
    booking = paid()
    refused = payout(
        booking, status="failed", failure="The account was closed", transfer_amount=1, transfer_currency="EUR"
    )
    quiet = sent(paid())
    client = seated("auditor")
    rows = client.get(f"{LIST}?view=attention").context["cl"].result_list
    assert [row.code for row in rows] == [refused.code]
    assert "The account was closed" in text_of(client.get(LIST))
    assert quiet.code in text_of(client.get(LIST))


def test_the_next_due_stand_in_their_order_page_by_page(db: None) -> None:
    booking, at = paid(), now()
    Payout.objects.all().delete()
    made = [payout(booking, number=n, due_at=at + timedelta(days=n * 7 % 31, hours=n)) for n in range(1, 31)]
    expected = [row.code for row in sorted(made, key=lambda row: (row.due_at, row.pk))]
    client, seen, query = seated("auditor"), [], "?view=due"
    for _ in range(3):
        response = client.get(LIST + query)
        seen += [row.code for row in response.context["cl"].result_list]
        if not response.context["cl"].has_older:
            break
        query = response.context["cl"].older_query
    assert seen == expected
    last = client.get(f"{LIST}?view=due&oldest=1").context["cl"]
    assert [row.code for row in last.result_list] == expected[-25:] and last.has_newer
    first = client.get(LIST + last.newer_query).context["cl"]
    assert [row.code for row in first.result_list] == expected[:5]


@pytest.mark.parametrize(
    "query", ["view=due&before=x", "view=due&before=2026-01-01~1", "view=due&after=~", "view=nope"]
)
def test_nonsense_in_the_address_of_an_ordered_list_is_no_failure(db: None, query: str) -> None:
    payout(paid())
    response = seated("auditor").get(f"{LIST}?{query}", follow=True)
    assert response.status_code == 200 and b"Something broke" not in response.content


def test_the_plan_says_what_the_next_run_would_do(db: None) -> None:
    booking = past(paid())
    movement(booking)
    (row,) = payouts.schedule(booking=booking, now=now())
    path = reverse("admin:payouts_payout_plan")
    client = seated("auditor")
    assert "Payouts are not set up yet" in text_of(client.get(path))
    host_account(booking)
    shown = text_of(client.get(path))
    assert row.code in shown and "Sent" in shown and "not set up" not in shown


# What may be done -----------------------------------------------------------------------------------------------------


def test_money_is_held_for_as_long_as_the_role_may(world: World) -> None:
    client = world.client("support_l1")
    row = Payout.objects.filter(booking=world.booking).order_by("id")[0]
    PayoutHold.objects.all().delete()
    path = reverse("admin:payouts_payout_hold", args=[row.code])
    assert "up to 72 hours (3 days)" in text_of(client.get(path))
    too_long = client.post(path, answers(client, path, seen="", amount="10.00", hours="100", reason="No heating"))
    assert too_long.status_code == 403 and "72 hours" in too_long.context["error"]
    assert not PayoutHold.objects.exists()
    response = client.post(path, answers(client, path, seen="", amount="10.00", hours="48", reason="No heating"))
    assert response.status_code == 302
    made = PayoutHold.objects.get()
    assert (made.amount, made.cause, made.owner) == (1_000, "dispute", world.staff["support_l1"])
    assert made.expires_at - made.placed_at == timedelta(hours=48)
    assert made.code in messages_of(client, response)


def test_three_clicks_place_one_hold_and_each_says_which(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "add", lambda *args, **options: False)  # Redis is away: it is no part of the promise
    client = world.client("support_l2")
    PayoutHold.objects.all().delete()
    path = reverse("admin:bookings_booking_hold", args=[world.booking.code])
    typed = answers(client, path, seen="", amount="10.00", reason="No heating")
    for _ in range(3):
        response = client.post(path, typed)
        assert response.status_code == 302
        assert PayoutHold.objects.get().code in messages_of(client, response)


def test_a_hold_that_was_refused_may_be_sent_again(world: World) -> None:
    client = world.client("support_l2")
    PayoutHold.objects.all().delete()
    path = reverse("admin:bookings_booking_hold", args=[world.booking.code])
    typed = answers(client, path, seen="", amount="ten", reason="No heating")
    refused = client.post(path, typed)
    assert refused.status_code == 409 and "write a number such as" in refused.context["error"]
    assert client.post(path, {**typed, "amount": "10.00"}).status_code == 302
    assert PayoutHold.objects.count() == 1


def test_what_was_sent_cannot_be_held_and_the_remedy_is_named(released: Payout) -> None:
    client = seated("finance")
    assert "hold" not in buttons(client, released)
    opened = client.get(reverse("admin:payouts_payout_hold", args=[released.code]))
    assert "A clawback is the way now" in opened.context["error"]


@pytest.mark.parametrize(("role", "may"), [("finance", True), ("support_l1", False), ("auditor", False)])
def test_only_what_is_due_and_can_be_sent_offers_a_release(db: None, role: str, may: bool) -> None:
    booking = past(paid())
    (row,) = payouts.schedule(booking=booking, now=now())
    client = seated(role)
    assert "release" not in buttons(client, row)  # not settled, no account
    movement(booking)
    host_account(booking)
    assert ("release" in buttons(client, row)) is may
    stopped("payouts")
    assert "release" not in buttons(client, row)


def test_a_release_shows_what_it_sends_before_it_does(db: None) -> None:
    booking = past(paid())
    movement(booking)
    host_account(booking)
    (row,) = payouts.schedule(booking=booking, now=now())
    client = seated("finance")
    shown = dict(client.get(reverse("admin:payouts_payout_release", args=[row.code])).context["money"])
    assert minor(shown["Released for the host"]) == row.held


def test_damage_money_that_was_not_sent_yet_has_a_page_and_is_released_from_it(db: None) -> None:
    booking = past(paid())
    movement(booking)
    host_account(booking)
    row = payout(
        booking, status="releasable", weight=0, held=0, host_fee=0, guest_fee=0, due_at=now(), policy="damage XC-1",
        transfer_amount=8_000, transfer_currency="EUR",
    )  # fmt: skip
    client = seated("finance")
    assert "release" in buttons(client, row)
    shown = dict(client.get(reverse("admin:payouts_payout_release", args=[row.code])).context["money"])
    assert minor(shown["Released for the host"]) == 8_000


def test_a_stale_release_shows_the_new_numbers(db: None) -> None:
    booking = past(paid())
    movement(booking)
    host_account(booking)
    (row,) = payouts.schedule(booking=booking, now=now())
    client = seated("finance")
    path = reverse("admin:payouts_payout_release", args=[row.code])
    typed = answers(client, path)
    Payout.objects.filter(pk=row.pk).update(version=row.version + 1)
    response = client.post(path, typed)
    assert response.status_code == 409
    row.refresh_from_db()
    assert row.released_at is None


def test_money_is_taken_back_up_to_what_is_owed_and_left(db: None) -> None:
    row = sent(paid())
    owe(row, 4_000)
    client = seated("finance")
    path = reverse("admin:payouts_payout_claw_back", args=[row.code])
    opened = client.get(path)
    assert opened.context["form"].initial["amount"] == "40.00"
    shown = dict(opened.context["money"])
    assert minor(shown["Left of this transfer"]) == row.transfer_amount - 4_000
    assert minor(shown["Still owed afterwards"]) == 0
    too_much = client.post(path, answers(client, path, amount="40.01", seen="40.01", reason="Owed"))
    assert too_much.status_code == 409 and "The host owes 40.00 EUR" in too_much.context["error"]
    response = client.post(path, answers(client, path, amount="15.00", seen="15.00", reason="Owed"))
    assert response.status_code == 302, response.context["error"]
    made = Clawback.objects.get()
    assert (made.amount, made.status, made.requested_by is not None) == (1_500, "requested", True)
    assert queries.owed(host_code=row.host.code, currency="EUR") == Money(2_500, "EUR")
    again = client.post(path, answers(client, path, amount="15.00", seen="15.00", reason="Owed"))
    assert again.status_code == 409 and Clawback.objects.count() == 1


def test_who_owes_nothing_is_not_asked(db: None) -> None:
    row = sent(paid())
    client = seated("finance")
    assert "claw_back" not in buttons(client, row)
    opened = client.get(reverse("admin:payouts_payout_claw_back", args=[row.code]))
    assert "The host owes nothing" in opened.context["error"]


def test_a_refused_clawback_is_asked_for_again_while_it_is_owed(db: None) -> None:
    row, staff = sent(paid()), factories.staff("finance", now=now())
    claw = clawback(row, staff, amount=1_000)
    client = seated("finance")
    assert "retry" not in buttons(client, claw)
    owe(row, 1_000)
    assert "retry" in buttons(client, claw)
    shown = text_of(client.get(cells.address_of(claw)))
    assert "The provider refused: The account holds too little." in shown


# Where else it shows --------------------------------------------------------------------------------------------------


def test_booking_and_payment_show_the_payout_and_the_holds(world: World) -> None:
    row = Payout.objects.filter(booking=world.booking).order_by("id")[0]
    client = world.client("support_l1")
    for thing in (world.booking, world.booking.payment):
        content = client.get(cells.address_of(thing)).content.decode()
        assert f'href="{cells.address_of(row)}"' in content
    placed = world.rows[PayoutHold]
    assert cells.address_of(placed) in client.get(cells.address_of(world.booking)).content.decode()


def test_a_payments_parts_and_what_became_of_them_are_their_postings(released: Payout) -> None:
    payment = released.booking.payment
    shown = {
        str(figure.label): figure
        for panel in page(seated("finance"), payment).panels
        if isinstance(panel, Figures)
        for figure in panel.figures
    }
    for label in ("Charged", "Host’s share", "Host fee", "Guest fee"):
        assert shown[label].postings and shown[label].together == shown[label].amount, label
    assert minor(shown["Still held for the host"].amount) == 0
    assert minor(shown["Released to the host"].amount) == minor(shown["Sent to the host"].amount) == released.held


def test_find_goes_to_payouts_and_what_belongs_to_them(world: World) -> None:
    client, find = world.client("auditor"), reverse("admin:find")
    claw = world.rows[Clawback]
    assert isinstance(claw, Clawback)
    for term, target in ((claw.payout.transfer_id, claw.payout), (claw.payout.code, claw.payout), (claw.code, claw)):
        assert client.get(find, {"q": term})["Location"] == cells.address_of(target)


def seated(role: str) -> Client:
    client = Client()
    client.force_login(factories.staff(role, now=now()))
    return client


def owe(row: Payout, amount: int) -> None:
    """A debt of the payout's host, as a refund after the release leaves one."""
    at = now()
    postings.post(
        key=f"penalty:{row.booking.code}",
        kind="penalty",
        lines=policies.penalised(host=row.host.code, amount=Money(amount, row.transfer_currency)),
        subject=row.booking.code,
        reference="",
        effective_at=at,
        actor=release_payouts.ACTOR,
        now=at,
    )


def test_the_lists_of_money_out_cost_the_same_whatever_the_rows(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(navigation, "waiting", dict)  # counted anew after seconds, which a busy machine outlasts
    client = world.client("finance")
    lists = [
        "/console/payouts/payout/",
        "/console/payouts/payout/?view=attention",
        "/console/payouts/payouthold/",
        "/console/payouts/hostaccount/",
        "/console/payouts/clawback/",
        "/console/payouts/writeoff/",
        "/console/payouts/bankpayout/",
    ]
    client.get(reverse("admin:index"))

    def cost() -> dict[str, int]:
        found = {}
        for path in lists:
            with CaptureQueriesContext(connection) as statements:
                assert client.get(path).status_code == 200
            found[path] = sum("core_clockoffset" not in each["sql"] for each in statements)
        return found

    before = cost()
    for _ in range(3):
        row, staff = sent(paid()), world.staff["finance"]
        payout(row.booking, due_at=now() - timedelta(days=1), waits_for="It is held back.")
        hold(row.booking, staff)
        host_account(row.booking)
        clawback(row, staff)
        bank_payout(row, row.transfer_amount)
        write_off(row.host, staff)
    assert cost() == before
    assert max(before.values()) <= 15
