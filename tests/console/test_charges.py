"""Damage through the console: asked for by one, decided by another, shown to everybody who may."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from backoffice.bookings.models import Booking
from backoffice.console import cells
from backoffice.payments.models import ExtraCharge
from tests import factories
from tests.console.test_dialogs import messages_of
from tests.console.world import World, damage, now, paid, staying

pytestmark = pytest.mark.django_db


def act(client: Client, name: str, row: Any, **typed: Any) -> Any:
    place = "bookings_booking" if name == "damage" else "payments_extracharge"
    path = reverse(f"admin:{place}_{name}", args=[row.code])
    row.refresh_from_db()
    return client.post(path, {"key": uuid.uuid4().hex, "version": row.version, "seen": "", **typed})


def test_one_asks_and_another_approves(world: World) -> None:
    booking = staying(paid())
    response = act(world.client("support_l2"), "damage", booking, amount="250.00", reason="The door is broken")
    assert response.status_code == 302
    charge = ExtraCharge.objects.get(booking=booking)
    assert (charge.amount, charge.currency, charge.status) == (25_000, "EUR", "requested")
    page = world.client("auditor").get(reverse("admin:payments_extracharge_change", args=[charge.code]))
    assert "waits for a second person" in page.content.decode()
    assert act(world.client("support_l2"), "approve", charge).status_code == 403
    assert act(world.client("team_lead"), "approve", charge).status_code == 302
    charge.refresh_from_db()
    assert charge.status == "scheduled" and charge.approved_by == world.staff["team_lead"]


def test_a_second_click_asks_once(world: World) -> None:
    booking = staying(paid())
    client, key = world.client("finance"), uuid.uuid4().hex
    for _ in range(3):
        response = act(client, "damage", booking, amount="80.00", reason="A lamp is broken", key=key)
        assert response.status_code == 302
        assert ExtraCharge.objects.get(booking=booking).code in messages_of(client, response)
    other = act(client, "damage", booking, amount="81.00", reason="A lamp is broken", key=key)
    assert other.status_code == 409 and "use a new key" in other.context["error"]
    assert ExtraCharge.objects.get(booking=booking).amount == 8_000
    assert act(client, "damage", booking, amount="80.00", reason="A lamp is broken").status_code == 302
    assert ExtraCharge.objects.filter(booking=booking).count() == 2


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({}, ""),
        ({"check_out_at": now() - timedelta(days=15)}, "14 days after check-out"),
        ({"home": "JPY"}, "cannot be charged in JPY"),
        ({"status": "confirmed"}, "once a paid stay has begun"),
        ({"own": True}, "your own"),
    ],
    ids=["in time", "too late", "another settlement", "not begun", "one's own"],
)
def test_damage_is_offered_where_it_can_be_asked_for(world: World, changes: dict[str, Any], why: str) -> None:
    abroad = {"city": "Osaka", "country": "JP", "time_zone": "Asia/Tokyo", "currency": changes.get("home")}
    home = factories.listing(now=now(), **(abroad if "home" in changes else {}))
    own = {"guest_id": world.staff["support_l2"].pk}
    booking = staying(paid(home=home))
    facts = own if "own" in changes else {name: value for name, value in changes.items() if name != "home"}
    Booking.objects.filter(pk=booking.pk).update(**facts, check_in_at=now() - timedelta(days=30))
    client = world.client("support_l2")
    shown = client.get(cells.address_of(booking)).context["buttons"]
    assert ("damage" in [button["name"] for button in shown]) is not bool(why)
    opened = client.get(reverse("admin:bookings_booking_damage", args=[booking.code]))
    assert why in opened.context["error"] and bool(why) == bool(opened.context["error"])


@pytest.mark.parametrize(("amount", "offered"), [(300_000, True), (300_001, False)])
def test_the_house_is_asked_to_cover_what_it_covers(world: World, amount: int, offered: bool) -> None:
    charge = damage(paid(), world.staff["support_l2"], amount)
    ExtraCharge.objects.filter(pk=charge.pk).update(status="failed", pay_by=now())
    shown = world.client("finance").get(cells.address_of(charge)).context["buttons"]
    assert ("cover" in [button["name"] for button in shown]) is offered


def test_who_asked_is_offered_no_decision(world: World) -> None:
    charge = damage(paid(), world.staff["team_lead"])
    client = world.client("team_lead")
    page = client.get(reverse("admin:payments_extracharge_change", args=[charge.code])).content.decode()
    assert "/approve/" not in page
    assert act(client, "approve", charge).status_code == 403
    assert act(world.client("finance"), "reject", charge, reason="Too old a claim").status_code == 302
    charge.refresh_from_db()
    assert charge.status == "cancelled"


def test_a_mistake_is_said_where_it_was_made(world: World) -> None:
    booking = staying(paid())
    refused = act(world.client("support_l2"), "damage", booking, amount="0.10", reason="A scratch")
    assert refused.status_code == 409 and "at least" in refused.content.decode()
    stale = damage(paid(), world.staff["support_l2"])
    path = reverse("admin:payments_extracharge_approve", args=[stale.code])
    late = world.client("finance").post(path, {"key": "k", "version": stale.version + 1, "seen": ""})
    assert late.status_code == 409 and "has changed" in late.content.decode()
