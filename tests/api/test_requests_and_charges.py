"""Requests, saved cards and instalments through the door."""

from __future__ import annotations

from typing import Any

import pytest

from backoffice.core import clock
from backoffice.payments.models import ExtraCharge
from backoffice.workflows import collect_charges
from tests.api.conftest import Person, book, make_home, parse
from tests.stripe_sandbox.server import RunningSandbox

pytestmark = pytest.mark.django_db(transaction=True)


def pay(guest: Person, code: str, card: str = "pm_card_visa", key: str = "") -> Any:
    return guest.pay_or_book(f"bookings/{code}/pay", {"payment_method": card}, **({"key": key} if key else {}))


def test_a_request_is_answered_at_the_door(
    sandbox: RunningSandbox, alice: Person, bob: Person, charlie: Person
) -> None:
    home = make_home(bob, instant_book=False)
    code = book(alice, home)["code"]
    asked = pay(alice, code)
    assert (asked.status, asked.body["payment"]["status"]) == (200, "authorised"), asked.body
    assert (asked.body["booking"]["status"], asked.body["booking"]["pending_reason"]) == ("pending", "awaiting_host")
    assert asked.body["booking"]["money"]["charged"]["amount"] == 0
    seen = bob.get(f"bookings/{code}").body
    assert seen["available_actions"] == ["accept", "decline"] and seen["pay_until"]
    assert charlie.pay_or_book(f"bookings/{code}/accept", {}).status == 404
    said = bob.pay_or_book(f"bookings/{code}/accept", {}, key="yes-1")
    assert (said.status, said.body["status"]) == (200, "confirmed"), said.body
    assert bob.pay_or_book(f"bookings/{code}/accept", {}, key="yes-1").raw == said.raw
    again = bob.pay_or_book(f"bookings/{code}/accept", {}, key="yes-2")  # the first answer may never have reached them
    assert (again.status, again.body["status"]) == (200, "confirmed")
    assert bob.pay_or_book(f"bookings/{code}/decline", {"reason": "No"}).code == "illegal_transition"
    assert said.body["money"]["charged"] == asked.body["booking"]["charge_total"]


def test_a_request_is_declined_with_a_reason(sandbox: RunningSandbox, alice: Person, bob: Person) -> None:
    code = book(alice, make_home(bob, instant_book=False))["code"]
    pay(alice, code)
    assert bob.pay_or_book(f"bookings/{code}/decline", {}).body["field"] == "reason"
    said = bob.pay_or_book(f"bookings/{code}/decline", {"reason": "My sister comes."})
    assert (said.status, said.body["status"], said.body["available_actions"]) == (200, "declined", [])
    assert alice.get(f"bookings/{code}").body["status"] == "declined"


def test_a_stay_far_ahead_says_when_it_is_charged(sandbox: RunningSandbox, alice: Person, home: str) -> None:
    code = book(alice, home, first=200)["code"]
    saved = pay(alice, code)
    assert saved.status == 200 and saved.body["booking"]["status"] == "confirmed", saved.body
    assert saved.body["payment"]["status"] == "requires_payment"
    charged_at = parse(saved.body["payment"]["charge_at"])
    assert 100 < (charged_at - clock.now()).days < 115
    again = pay(alice, code, key="again")
    assert again.status == 409 and "charged to the saved card on" in again.body["detail"]


def test_a_guest_sees_the_instalments_and_pays_one(
    sandbox: RunningSandbox, alice: Person, bob: Person, charlie: Person
) -> None:
    home = make_home(bob, maximum_nights=365)
    made = book(alice, home, first=5, nights=45)
    paid = pay(alice, made["code"])
    assert paid.status == 200, paid.body
    path = f"bookings/{made['code']}/charges"
    (row,) = alice.get(path).body["charges"]
    assert (row["kind"], row["status"], row["reason"]) == ("instalment", "scheduled", "payment 2 of 2")
    both = paid.body["payment"]["amount"]["amount"] + row["amount"]["amount"]
    assert both == made["charge_total"]["amount"] and paid.body["payment"]["amount"]["amount"] < both
    assert bob.get(path).body["charges"] == [row] and charlie.get(path).status == 404
    assert bob.pay_or_book(f"charges/{row['code']}/pay", {"payment_method": "pm_card_visa"}).status == 404
    declined = alice.pay_or_book(f"charges/{row['code']}/pay", {"payment_method": "pm_card_chargeDeclined"})
    assert (declined.status, declined.code) == (402, "payment_declined")
    assert alice.get(path).body["charges"][0]["last_error"]
    assert not bob.get(path).body["charges"][0]["last_error"]  # between the guest and their bank
    done = alice.pay_or_book(f"charges/{row['code']}/pay", {})  # the card that was kept, before its day
    assert (done.status, done.body["status"]) == (200, "captured"), done.body
    assert collect_charges.collect_due(now=parse(row["due_at"])) == 0
    assert ExtraCharge.objects.get().tries == 2
    assert alice.get(f"bookings/{made['code']}").body["money"]["charged"] == made["charge_total"]
