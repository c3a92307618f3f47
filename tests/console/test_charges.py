"""Damage through the console: asked for by one, decided by another, shown to everybody who may."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from backoffice.payments.models import ExtraCharge
from tests.console.world import World, damage, paid, staying

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
        act(client, "damage", booking, amount="80.00", reason="A lamp is broken", key=key)
    assert ExtraCharge.objects.filter(booking=booking).count() == 1


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
