"""Holds in the console: what ends first stands first, and who may end it earlier."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.urls import reverse

from backoffice.audit.models import AuditEntry
from backoffice.console import cells
from backoffice.console.page import Figures
from backoffice.payouts.models import Payout, PayoutHold
from tests.console.test_dialogs import answers
from tests.console.test_pages import text_of
from tests.console.test_payouts import minor
from tests.console.world import World, hold, now, payout

LIST = "/console/payouts/payouthold/"


@pytest.fixture
def row(world: World) -> PayoutHold:
    found = world.rows[PayoutHold]
    assert isinstance(found, PayoutHold)
    return found


def buttons(world: World, role: str, row: PayoutHold) -> set[str]:
    return {button["name"] for button in world.client(role).get(cells.address_of(row)).context["buttons"]}


def test_the_list_opens_with_what_ends_first_and_keeps_what_has_ended_apart(world: World, row: PayoutHold) -> None:
    staff = world.staff["support_l2"]
    later = hold(world.booking, staff, expires_at=now() + timedelta(days=9))
    sooner = hold(world.booking, staff, expires_at=now() + timedelta(hours=1))
    over = hold(world.booking, staff, status="lifted", ended_at=now(), ended_reason="Settled")
    client = world.client("auditor")
    opened = client.get(LIST).context["cl"]
    assert [each.code for each in opened.result_list] == [sooner.code, row.code, later.code]
    assert opened.order_words[0] == "Soonest"
    everything = client.get(f"{LIST}?view=all").context["cl"].result_list
    assert [each.code for each in everything] == [over.code, sooner.code, later.code, row.code]
    of_booking = client.get(f"{LIST}?booking__code={world.booking.code}").context["cl"].result_list
    assert {each.code for each in of_booking} == {each.code for each in everything}


def test_a_page_says_who_why_and_until_when(world: World, row: PayoutHold) -> None:
    shown = text_of(world.client("support_l1").get(cells.address_of(row)))
    for words in ("There was no heating".lower(), world.booking.code, world.staff["support_l2"].name, "50.00 EUR"):
        assert words in shown.lower() if words.islower() else words in shown, words


def test_a_page_explains_what_is_held_and_what_the_holds_keep_of_it(world: World, row: PayoutHold) -> None:
    other = hold(world.booking, world.staff["support_l2"], amount=2_000)
    aside = payout(world.booking, status="held", remainder_of=world.rows[Payout], held=5_000)
    panels = world.client("auditor").get(cells.address_of(row)).context["page"].panels
    (panel,) = (panel for panel in panels if isinstance(panel, Figures))
    held, own, theirs, left, set_aside = panel.figures
    assert held.together == held.amount and held.postings
    assert minor(own.amount) == -5_000 and (minor(theirs.amount), theirs.href) == (-2_000, cells.address_of(other))
    assert minor(left.amount) == minor(held.amount) - 7_000
    assert (minor(set_aside.amount), set_aside.href) == (5_000, cells.address_of(aside))


def test_what_ran_out_says_that_the_sweep_ends_it(world: World) -> None:
    placed = now() - timedelta(days=4)
    late = hold(world.booking, world.staff["support_l2"], placed_at=placed, expires_at=placed + timedelta(days=3))
    assert "the next sweep ends it" in text_of(world.client("auditor").get(cells.address_of(late)))


def test_it_is_lifted_with_a_reason_that_is_kept(world: World, row: PayoutHold) -> None:
    client = world.client("support_l2")
    path = reverse("admin:payouts_payouthold_lift", args=[row.code])
    assert client.post(path, answers(client, path, reason=" ")).status_code == 422
    assert client.post(path, answers(client, path, reason="The host has shown photos")).status_code == 302
    row.refresh_from_db()
    assert (row.status, row.ended_by, row.ended_reason) == (
        "lifted",
        world.staff["support_l2"],
        "The host has shown photos",
    )
    assert AuditEntry.objects.get(verb="payouts.hold.lift", object_id=row.code).reason == "The host has shown photos"
    again = client.get(path)
    assert "it was lifted" in again.context["error"]
    assert f"Hold {row.code} lifted" in text_of(world.client("auditor").get(cells.address_of(row)))


def test_it_is_extended_within_the_limit_of_the_role(world: World, row: PayoutHold) -> None:
    client = world.client("support_l2")
    path = reverse("admin:payouts_payouthold_extend", args=[row.code])
    too_long = client.post(path, answers(client, path, hours="400", reason="Waiting for the host"))
    assert too_long.status_code == 403 and "336 hours" in too_long.context["error"]
    assert client.post(path, answers(client, path, hours="200", reason="Waiting for the host")).status_code == 302
    row.refresh_from_db()
    assert row.expires_at > now() + timedelta(hours=199)


def test_a_hold_that_moved_on_meanwhile_is_shown_again(world: World, row: PayoutHold) -> None:
    client = world.client("support_l2")
    path = reverse("admin:payouts_payouthold_extend", args=[row.code])
    typed = answers(client, path, hours="10", reason="Waiting for the host")
    PayoutHold.objects.filter(pk=row.pk).update(version=row.version + 1)
    response = client.post(path, typed)
    assert response.status_code == 409 and "changed since you opened it" in response.context["error"]


@pytest.mark.parametrize(
    ("role", "offered"),
    [
        ("support_l2", {"lift", "extend"}),
        ("finance", {"lift", "extend"}),
        ("team_lead", {"lift", "extend"}),
        ("support_l1", set()),
        ("auditor", set()),
        ("on_call", set()),
    ],
)
def test_a_long_hold_is_ended_by_who_could_have_placed_it(world: World, role: str, offered: set[str]) -> None:
    """Support L1 holds for 72 hours; a colleague's fortnight is not theirs to end, nor by extending it to less."""
    long = hold(world.booking, world.staff["support_l2"], expires_at=now() + timedelta(days=10))
    assert buttons(world, role, long) == offered
